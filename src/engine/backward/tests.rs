//! Every rule against finite differences.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::*;
use crate::engine::run_options::{Keep, RunOptions};
use crate::engine::slices::with_f32;
use crate::model::{
    Conv, ConvTranspose, Dim, ElementType, GraphBuilder, Metadata, ModelFormat, PadMode, Padding,
    Pool, Resize, Scalar,
};

/// Step of the differences; all functions are smooth within it at the numbers that are tried.
const STEP: f32 = 1e-2;

/// Numbers in `±(0.05..1.05)`, all different, the same in every run.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|at| {
            let place = (at * 7919 + seed * 104_729 + 31) % 9973;
            let size = 0.05 + place as f32 / 9973.0;
            if (place / 3).is_multiple_of(2) {
                size
            } else {
                -size
            }
        })
        .collect()
}

fn tensor(shape: &[usize], seed: usize) -> Tensor {
    Tensor::from_vec(numbers(shape.iter().product(), seed), shape, &Device::Cpu).unwrap()
}

/// An even number of numbers in `±2` that are farther apart, and farther from 0, than a step.
fn apart(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let step = (count * 5 / 8..=count + 1).find(|step| {
        let (mut a, mut b) = (*step, count);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    });
    let step = step.unwrap();
    let number = |at: usize| 4.0 * ((at * step % count) as f32 + 0.5) / count as f32 - 2.0;
    Tensor::from_vec((0..count).map(number).collect(), shape, &Device::Cpu).unwrap()
}

fn integers(values: &[i64]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

fn metadata() -> Metadata {
    Metadata {
        name: "test.onnx".to_owned(),
        format: ModelFormat::Onnx,
        sha256: String::new(),
        producer: None,
        opset: None,
        architecture: None,
    }
}

/// A layer whose output has this shape, and what `rest` makes of that.
fn executor(
    shape: &[usize],
    rest: impl FnOnce(&mut GraphBuilder, ValueId) -> ValueId,
) -> (Executor, Activations) {
    let mut builder = GraphBuilder::new();
    let dims = shape.iter().copied().map(Dim::Fixed).collect();
    let x = builder.input("x", ElementType::F32, dims);
    let layer = if shape.len() == 4 {
        let weight = builder.initializer("w", tensor(&[shape[1], shape[1], 1, 1], 1));
        builder.node("layer", Op::Conv(conv(&[0; 4], 1, 1, 1)), &[x, weight], "z")
    } else {
        let width = shape[shape.len() - 1];
        let weight = builder.initializer("w", tensor(&[width, width], 1));
        builder.node("layer", Op::MatMul, &[x, weight], "z")
    };
    let output = rest(&mut builder, layer);
    builder.output(output);
    let graph = builder.finish(metadata()).unwrap();
    let mut fed = Activations::new();
    fed.insert(x, tensor(shape, 2));
    fed.insert(layer, apart(shape));
    (Executor::new(Arc::new(graph)), fed)
}

fn run(executor: &Executor, fed: &Activations, keep: Keep<'_>) -> Activations {
    let options = RunOptions {
        keep,
        cancel: &CancelToken::default(),
        tap: None,
    };
    let float = executor.prepare_float().unwrap();
    executor.run(&float, fed, options).unwrap()
}

fn flat(value: &Value) -> Vec<f32> {
    with_f32(&value.plain().unwrap(), |values| Ok(values.to_vec())).unwrap()
}

/// Compares the gradient of `Σ v·y` at the layer's output with differences.
#[track_caller]
fn check(name: &str, shape: &[usize], rest: impl FnOnce(&mut GraphBuilder, ValueId) -> ValueId) {
    let (executor, fed) = executor(shape, rest);
    let (layer, output) = (executor.layers()[0].output, executor.graph().outputs()[0]);
    let held = run(&executor, &fed, Keep::Everything);
    let y = held.get(output).unwrap().clone();
    let weights = tensor(&y.dims(), 3);
    let backward = Backward::new(&executor).unwrap();
    let mut found = None;
    let mut see = |id: LayerId, gradient: &Value| {
        if id == LayerId(0) {
            found = Some(flat(gradient));
        }
        Ok(())
    };
    let seeds = vec![(output, Value::from(weights.clone()))];
    backward
        .walk(&held, seeds, &CancelToken::default(), &mut see)
        .unwrap();
    let found = found.unwrap_or_else(|| panic!("{name}: no gradient"));
    let z = held.get(layer).unwrap().plain().unwrap();
    let (values, weights) = (flat(&z.clone().into()), flat(&weights.into()));
    assert_eq!(found.len(), values.len(), "{name}");
    let loss = |at: usize, step: f32| -> f64 {
        let mut moved = values.clone();
        moved[at] += step;
        let mut fed = fed.clone();
        fed.insert(
            layer,
            Tensor::from_vec(moved, z.dims(), &Device::Cpu).unwrap(),
        );
        let held = run(&executor, &fed, Keep::Values(&[output]));
        let y = flat(held.get(output).unwrap());
        y.iter()
            .zip(&weights)
            .map(|(y, v)| f64::from(*y) * f64::from(*v))
            .sum()
    };
    for (at, found) in found.iter().enumerate() {
        let expected = (loss(at, STEP) - loss(at, -STEP)) / f64::from(2.0 * STEP);
        let close = (f64::from(*found) - expected).abs() <= 4e-3 + 5e-3 * expected.abs();
        assert!(close, "{name} at {at}: {found} is not {expected}");
    }
}

fn conv(pads: &[usize], stride: usize, dilation: usize, groups: usize) -> Conv {
    let axes = pads.len() / 2;
    Conv {
        strides: vec![stride; axes],
        padding: Padding::Explicit(pads.to_vec()),
        dilations: vec![dilation; axes],
        groups,
    }
}

fn pool(kernel: usize, stride: usize, pads: &[usize], ceil_mode: bool, count: bool) -> Pool {
    Pool {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        padding: Padding::Explicit(pads.to_vec()),
        dilations: Vec::new(),
        ceil_mode,
        count_include_pad: count,
    }
}

/// An operator of one input.
#[track_caller]
fn check_op(op: Op, shape: &[usize]) {
    let name = format!("{op:?}");
    check(&name, shape, |builder, z| builder.node("op", op, &[z], "y"));
}

/// An operator with constants after its first input.
#[track_caller]
fn check_with(op: Op, shape: &[usize], constants: &[Tensor]) {
    let name = format!("{op:?} {:?}", constants.first().map(Tensor::dims));
    check(&name, shape, |builder, z| {
        let mut inputs = vec![z];
        for (index, constant) in constants.iter().enumerate() {
            inputs.push(builder.initializer(&format!("c{index}"), constant.clone()));
        }
        builder.node("op", op, &inputs, "y")
    });
}

const IMAGE: [usize; 4] = [2, 3, 4, 5];

#[test]
fn functions_of_one_number() {
    for op in [
        Unary::Relu,
        Unary::LeakyRelu { alpha: 0.1 },
        Unary::Elu { alpha: 1.5 },
        Unary::Sigmoid,
        Unary::Tanh,
        Unary::Exp,
        Unary::Erf,
        Unary::Gelu {
            tanh_approximation: false,
        },
        Unary::Gelu {
            tanh_approximation: true,
        },
        Unary::HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        },
        Unary::HardSwish,
        Unary::Softplus,
        Unary::Abs,
        Unary::Neg,
    ] {
        check_op(Op::Unary(op), &[2, 16]);
        check_op(Op::Unary(op), &IMAGE);
    }
    for op in [Unary::Log, Unary::Sqrt, Unary::Reciprocal] {
        check(&format!("{op:?}"), &[2, 4], |builder, z| {
            let positive = builder.node("exp", Op::Unary(Unary::Exp), &[z], "e");
            builder.node("op", Op::Unary(op), &[positive], "y")
        });
    }
    let bound = |value: f32| Tensor::from_slice(&[value], (), &Device::Cpu).unwrap();
    check_with(Op::Clip, &[2, 16], &[bound(-0.5), bound(0.75)]);
}

#[test]
fn functions_of_several_numbers() {
    let positive = |shape: &[usize]| tensor(shape, 4).abs().unwrap();
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
        for shape in [&[2, 3, 4, 5][..], &[3, 1, 1], &[1]] {
            check_with(Op::Binary(op), &IMAGE, &[positive(shape)]);
        }
        // Both sides depend on the layer, one of them repeated.
        check(&format!("{op:?} of both"), &[3, 4], |builder, z| {
            let axes = builder.initializer("axes", integers(&[0]));
            let reduce = Op::Reduce {
                reduction: Reduction::Mean,
                keep_dims: true,
                noop_with_empty_axes: false,
            };
            let mean = builder.node("mean", reduce, &[z, axes], "m");
            let mean = builder.node("exp", Op::Unary(Unary::Exp), &[mean], "e");
            builder.node("op", Op::Binary(op), &[z, mean], "y")
        });
    }
    let slopes = [tensor(&[3, 1, 1], 5)];
    check_with(Op::Binary(Binary::PRelu), &IMAGE, &slopes);
    let square = [Tensor::new(2f32, &Device::Cpu).unwrap()];
    check_with(Op::Binary(Binary::Pow), &[2, 8], &square);
    check_with(Op::Variadic(Variadic::Sum), &[2, 4], &[tensor(&[4], 6)]);
    check_with(Op::Variadic(Variadic::Mean), &[2, 4], &[tensor(&[2, 4], 6)]);
}

#[test]
fn convolutions() {
    let cases = [
        (conv(&[0; 4], 1, 1, 1), [4, 3, 1, 1]),
        (conv(&[1; 4], 1, 1, 1), [4, 3, 3, 3]),
        (conv(&[0, 1, 2, 1], 1, 1, 1), [2, 3, 3, 2]),
        (conv(&[1; 4], 1, 1, 3), [3, 1, 3, 3]),
        (conv(&[2; 4], 1, 2, 1), [2, 3, 3, 3]),
        (conv(&[2; 4], 1, 1, 1), [2, 3, 2, 2]),
        (conv(&[1; 4], 2, 1, 1), [4, 3, 3, 3]),
        (conv(&[0; 4], 2, 1, 1), [4, 3, 1, 1]),
        (conv(&[1; 4], 2, 1, 3), [6, 1, 3, 3]),
    ];
    for (attributes, weight) in cases {
        check_with(Op::Conv(attributes), &IMAGE, &[tensor(&weight, 7)]);
    }
    let same = Conv {
        padding: Padding::SameUpper,
        ..conv(&[0; 4], 2, 1, 1)
    };
    check_with(Op::Conv(same), &IMAGE, &[tensor(&[2, 3, 3, 3], 7)]);
    let uneven = Conv {
        strides: vec![1, 2],
        ..conv(&[0, 2, 1, 3], 1, 1, 1)
    };
    check_with(Op::Conv(uneven), &IMAGE, &[tensor(&[2, 3, 3, 3], 7)]);
    let strided_over_padding = conv(&[1; 4], 2, 1, 1);
    check_with(
        Op::Conv(strided_over_padding),
        &IMAGE,
        &[tensor(&[4, 3, 1, 1], 7)],
    );
    let far = conv(&[1; 4], 3, 1, 1);
    check_with(Op::Conv(far), &IMAGE, &[tensor(&[4, 3, 3, 3], 7)]);
    let row = conv(&[1, 1], 2, 1, 1);
    check_with(Op::Conv(row), &[2, 3, 6], &[tensor(&[4, 3, 3], 7)]);
    for (stride, padding) in [(2, 0), (2, 1), (1, 0)] {
        let op = Op::ConvTranspose(ConvTranspose {
            conv: conv(&[padding; 4], stride, 1, 1),
            output_padding: vec![stride - 1; 2],
            output_shape: None,
        });
        check_with(op, &IMAGE, &[tensor(&[3, 2, 3, 3], 8)]);
    }
}

#[test]
fn matrix_products() {
    check_with(Op::MatMul, &[2, 3, 4], &[tensor(&[4, 5], 9)]);
    check_with(Op::MatMul, &[2, 3, 4], &[tensor(&[2, 4, 5], 9)]);
    check("z·zᵀ", &[2, 3, 4], |builder, z| {
        let transpose = Op::Transpose {
            perm: Some(vec![0, 2, 1]),
        };
        let turned = builder.node("t", transpose, &[z], "t");
        builder.node("op", Op::MatMul, &[z, turned], "y")
    });
    for (trans_b, weight) in [(true, [5, 4]), (false, [4, 5])] {
        let gemm = Op::Gemm {
            alpha: 0.5,
            beta: 2.0,
            trans_a: false,
            trans_b,
        };
        check_with(gemm, &[3, 4], &[tensor(&weight, 9), tensor(&[5], 10)]);
    }
    let einsum = Op::Einsum {
        equation: "bij,kj->bik".to_owned(),
    };
    check_with(einsum, &[2, 3, 4], &[tensor(&[5, 4], 9)]);
}

#[test]
fn pools_and_reductions() {
    for (kernel, stride, pads, ceil_mode, count) in [
        (2, 2, [0; 4], false, false),
        (3, 2, [1; 4], false, true),
        (3, 2, [1; 4], true, false),
        (2, 1, [0; 4], false, false),
    ] {
        let attributes = pool(kernel, stride, &pads, ceil_mode, count);
        check_op(Op::MaxPool(attributes.clone()), &IMAGE);
        check_op(Op::AveragePool(attributes), &IMAGE);
    }
    check_op(Op::GlobalAveragePool, &IMAGE);
    check_op(Op::GlobalMaxPool, &IMAGE);
    for reduction in [
        Reduction::Mean,
        Reduction::Sum,
        Reduction::L2,
        Reduction::SumSquare,
    ] {
        for keep_dims in [true, false] {
            let op = Op::Reduce {
                reduction,
                keep_dims,
                noop_with_empty_axes: false,
            };
            check_with(op, &IMAGE, &[integers(&[2, -1])]);
        }
    }
}

#[test]
fn normalisations() {
    for (axis, coerce_to_2d) in [(-1, false), (1, false), (1, true)] {
        check_op(Op::Softmax { axis, coerce_to_2d }, &[2, 3, 4]);
        check_op(Op::LogSoftmax { axis, coerce_to_2d }, &[2, 3, 4]);
    }
    let layer_norm = Op::LayerNormalization {
        axis: -1,
        epsilon: 1e-3,
    };
    check_with(
        layer_norm,
        &[2, 3, 4],
        &[tensor(&[4], 11), tensor(&[4], 12)],
    );
    let parameters: Vec<Tensor> = (13..17)
        .map(|seed| tensor(&[3], seed).abs().unwrap())
        .collect();
    check_with(
        Op::BatchNormalization { epsilon: 1e-3 },
        &IMAGE,
        &parameters,
    );
}

#[test]
fn movements() {
    check_with(
        Op::Reshape { allow_zero: false },
        &[2, 12],
        &[integers(&[2, 3, -1])],
    );
    check_op(Op::Flatten { axis: 1 }, &IMAGE);
    check_op(Op::Transpose { perm: None }, &[2, 3, 4]);
    check_with(Op::Unsqueeze, &[2, 3], &[integers(&[0])]);
    check_with(Op::Squeeze, &[1, 2, 3], &[integers(&[0])]);
    check_with(Op::Concat { axis: 1 }, &IMAGE, &[tensor(&[2, 2, 4, 5], 18)]);
    let slice = [[0], [4], [3], [2]].map(|values| integers(&values));
    check_with(Op::Slice, &IMAGE, &slice);
    for mode in [PadMode::Constant, PadMode::Edge, PadMode::Reflect] {
        let pads = integers(&[0, 0, 1, 2, 0, 0, 1, 1]);
        check_with(Op::Pad { mode }, &IMAGE, &[pads]);
    }
    check_with(Op::Gather { axis: 1 }, &[2, 4], &[integers(&[3, 1, 1])]);
    check_with(Op::Expand, &[1, 3], &[integers(&[4, 3])]);
    check_with(Op::Tile, &[2, 3], &[integers(&[2, 2])]);
    check("Split", &IMAGE, |builder, z| {
        let parts = builder.initializer("parts", integers(&[1, 2]));
        let (a, b) = (builder.value("a"), builder.value("b"));
        builder.nodes.push(Node {
            name: "split".to_owned(),
            op: Op::Split { axis: 1 },
            inputs: vec![Some(z), Some(parts)],
            outputs: vec![a, b],
        });
        builder.node("op", Op::Binary(Binary::Mul), &[a, b], "y")
    });
    check("Where", &[2, 8], |builder, z| {
        let zero = builder.initializer("zero", Tensor::new(0f32, &Device::Cpu).unwrap());
        let above = builder.node("above", Op::Binary(Binary::Greater), &[z, zero], "c");
        let square = builder.node("square", Op::Binary(Binary::Mul), &[z, z], "s");
        builder.node("op", Op::Where, &[above, square, z], "y")
    });
    check("Resize", &IMAGE, |builder, z| {
        let resize = Op::Resize(Resize {
            mode: crate::model::ResizeMode::Nearest,
            coordinates: crate::model::CoordinateTransform::Asymmetric,
            rounding: crate::model::NearestRounding::Floor,
        });
        let scales = builder.initializer(
            "scales",
            Tensor::from_slice(&[1f32, 1.0, 2.0, 2.0], 4, &Device::Cpu).unwrap(),
        );
        let y = builder.value("y");
        builder.nodes.push(Node {
            name: "op".to_owned(),
            op: resize,
            inputs: vec![Some(z), None, Some(scales)],
            outputs: vec![y],
        });
        y
    });
}

#[test]
fn a_second_walk_gives_the_same_gradients() {
    let (executor, fed) = executor(&IMAGE, |builder, z| {
        let bounds = [[0], [4], [3], [2]].map(|values| integers(&values));
        let mut inputs = vec![z];
        for (index, bound) in bounds.into_iter().enumerate() {
            inputs.push(builder.initializer(&format!("c{index}"), bound));
        }
        builder.node("slice", Op::Slice, &inputs, "y")
    });
    let output = executor.graph().outputs()[0];
    let held = run(&executor, &fed, Keep::Everything);
    let backward = Backward::new(&executor).unwrap();
    let walk = |seed: usize| {
        let mut found = Vec::new();
        let seed = tensor(&held.get(output).unwrap().dims(), seed);
        let mut see = |_: LayerId, gradient: &Value| {
            found = flat(gradient);
            Ok(())
        };
        let seeds = vec![(output, Value::from(seed))];
        let cancel = CancelToken::default();
        backward.walk(&held, seeds, &cancel, &mut see).unwrap();
        found
    };
    let (first, other, again) = (walk(3), walk(4), walk(3));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn gradients_of_two_branches_add() {
    check("residual", &IMAGE, |builder, z| {
        let weight = builder.initializer("w2", tensor(&[3, 3, 3, 3], 19));
        let branch = builder.node("c2", Op::Conv(conv(&[1; 4], 1, 1, 1)), &[z, weight], "b");
        let branch = builder.node("relu", Op::Unary(Unary::Tanh), &[branch], "r");
        builder.node("add", Op::Binary(Binary::Add), &[branch, z], "y")
    });
}

#[test]
fn what_does_not_move_with_its_input_stops_the_walk() {
    let (executor, fed) = executor(&[2, 3], |builder, z| {
        let shape = Op::Shape {
            start: 0,
            end: None,
        };
        let shape = builder.node("shape", shape, &[z], "s");
        let one = Op::ConstantOfShape {
            value: Scalar::F32(1.0),
        };
        let ones = builder.node("ones", one, &[shape], "o");
        let rounded = builder.node("round", Op::Unary(Unary::Round), &[z], "q");
        builder.node("add", Op::Binary(Binary::Add), &[ones, rounded], "y")
    });
    let held = run(&executor, &fed, Keep::Everything);
    let output = executor.graph().outputs()[0];
    let seeds = vec![(output, Value::from(tensor(&[2, 3], 3)))];
    let backward = Backward::new(&executor).unwrap();
    let mut see = |_: LayerId, gradient: &Value| {
        assert!(flat(gradient).iter().all(|g| *g == 0.0));
        Ok(())
    };
    backward
        .walk(&held, seeds, &CancelToken::default(), &mut see)
        .unwrap();
}

#[test]
fn an_operator_without_a_rule_is_named() {
    let (executor, _) = executor(&IMAGE, |builder, z| {
        let lrn = Op::Lrn {
            alpha: 1.0,
            beta: 1.0,
            bias: 1.0,
            size: 3,
        };
        builder.node("norm7", lrn, &[z], "y")
    });
    let error = Backward::new(&executor).unwrap_err().to_string();
    for part in ["LRN", "norm7", "not available"] {
        assert!(error.contains(part), "{error}");
    }
}
