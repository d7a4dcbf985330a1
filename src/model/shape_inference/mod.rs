//! Concrete shapes of all values for a given batch size.
//!
//! Integer tensors of at most [`MAX_KNOWN_INTEGERS`] elements are computed as well, because targets
//! of `Reshape`, `Slice`, `Expand` and the like are often derived from the shape of the input.

mod integers;
mod product;
mod rearrange;
mod window;

use candle_core::DType;

use super::graph::{Dim, Graph, Node, NodeId, ValueId};
use super::initializer::Initializer;
use super::op::{Binary, Op};

/// Largest integer tensor whose elements are followed.
const MAX_KNOWN_INTEGERS: usize = 1024;

/// Shapes of the values of one graph.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    by_value: Vec<Option<Vec<usize>>>,
    /// Nodes whose inputs contradict their definition, with the numbers.
    pub problems: Vec<(NodeId, String)>,
}

impl Shapes {
    /// The shape of a value, if it is known.
    pub fn get(&self, id: ValueId) -> Option<&[usize]> {
        self.by_value.get(id.index())?.as_deref()
    }
}

/// Infers the shape of every value when the batch axis has length `batch`.
///
/// A symbolic first axis of a graph input is the batch; an input with another symbolic axis has no
/// shape, and neither has what depends on it.
/// A node whose inputs do not fit together has no shape either and is listed in [`Shapes::problems`].
pub fn infer_shapes(graph: &Graph, batch: usize) -> Shapes {
    let mut known = Known::of_inputs(graph, batch);
    let mut problems = Vec::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        let inputs = Inputs {
            graph,
            node,
            known: &known,
        };
        match output_shapes(&inputs) {
            Ok(shapes) => {
                let integers: Vec<Option<Vec<i64>>> = shapes
                    .iter()
                    .enumerate()
                    .map(|(index, shape)| integers::evaluate(&inputs, index, shape.as_deref()?))
                    .collect();
                for ((output, shape), integers) in node.outputs.iter().zip(shapes).zip(integers) {
                    known.shapes[output.index()] = shape;
                    known.integers[output.index()] = integers;
                }
            }
            Err(Stop::Unknown) => {}
            Err(Stop::Contradiction(message)) => {
                problems.push((id, format!("{}: {message}", node.op.name())));
            }
        }
    }
    Shapes {
        by_value: known.shapes,
        problems,
    }
}

fn declared_shape(graph: &Graph, id: ValueId, batch: usize) -> Option<Vec<usize>> {
    let dims = graph.value(id).shape.as_ref()?;
    dims.iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Fixed(length) => Some(*length),
            Dim::Symbol(_) if axis == 0 => Some(batch),
            Dim::Symbol(_) => None,
        })
        .collect()
}

/// The batch size that the file fixes: the first axis of the first input, if it is not symbolic.
pub fn fixed_batch(graph: &Graph) -> Option<usize> {
    let input = graph.inputs().first()?;
    match graph.value(*input).shape.as_ref()?.first()? {
        Dim::Fixed(length) => Some(*length),
        Dim::Symbol(_) => None,
    }
}

/// The shape of one sample, without the batch axis, when the graph has a single input of known shape.
pub fn input_shape(graph: &Graph) -> Option<Vec<usize>> {
    let [input] = graph.inputs() else {
        return None;
    };
    let shape = declared_shape(graph, *input, 1)?;
    shape.get(1..).map(<[usize]>::to_vec)
}

/// Why the shape of a node is not inferred.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// Something that the shape depends on is not known.
    Unknown,
    /// The inputs do not fit together; the text has the numbers.
    Contradiction(String),
}

type Inferred<T> = Result<T, Stop>;

fn contradiction<T>(message: impl Into<String>) -> Inferred<T> {
    Err(Stop::Contradiction(message.into()))
}

/// What is known so far of each value, indexed by [`ValueId`].
struct Known {
    shapes: Vec<Option<Vec<usize>>>,
    integers: Vec<Option<Vec<i64>>>,
}

impl Known {
    fn of_inputs(graph: &Graph, batch: usize) -> Self {
        let mut shapes = vec![None; graph.values().len()];
        let mut integers = vec![None; graph.values().len()];
        for (id, tensor) in graph.initializers() {
            shapes[id.index()] = Some(tensor.dims().to_vec());
            integers[id.index()] = integer_elements(tensor);
        }
        for id in graph.inputs() {
            shapes[id.index()] = declared_shape(graph, *id, batch);
        }
        Self { shapes, integers }
    }
}

fn integer_elements(initializer: &Initializer) -> Option<Vec<i64>> {
    if initializer.dtype().is_float() || initializer.elem_count() > MAX_KNOWN_INTEGERS {
        return None;
    }
    let tensor = initializer.tensor().ok()?;
    tensor
        .flatten_all()
        .and_then(|flat| flat.to_dtype(DType::I64))
        .and_then(|flat| flat.to_vec1())
        .ok()
}

/// A node with what is known of its inputs.
struct Inputs<'a> {
    graph: &'a Graph,
    node: &'a Node,
    known: &'a Known,
}

impl<'a> Inputs<'a> {
    fn has(&self, index: usize) -> bool {
        self.node.input(index).is_some()
    }

    fn shape(&self, index: usize) -> Inferred<&'a [usize]> {
        let id = self.node.input(index).ok_or(Stop::Unknown)?;
        let shape = self.known.shapes.get(id.index());
        shape.and_then(Option::as_deref).ok_or(Stop::Unknown)
    }

    /// Shapes of all inputs that are present.
    fn shapes(&self) -> Inferred<Vec<&'a [usize]>> {
        (0..self.node.inputs.len())
            .filter(|index| self.has(*index))
            .map(|index| self.shape(index))
            .collect()
    }

    fn integers(&self, index: usize) -> Inferred<&'a [i64]> {
        let id = self.node.input(index).ok_or(Stop::Unknown)?;
        let integers = self.known.integers.get(id.index());
        integers.and_then(Option::as_deref).ok_or(Stop::Unknown)
    }

    /// Integers of an optional input: `None` if it is absent, an error if it is there but unknown.
    fn optional_integers(&self, index: usize) -> Inferred<Option<&'a [i64]>> {
        if self.has(index) {
            self.integers(index).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Elements of an input that is a constant of floats.
    fn floats(&self, index: usize) -> Inferred<Vec<f32>> {
        self.node
            .input(index)
            .and_then(|id| self.graph.initializers().get(&id))
            .filter(|initializer| initializer.elem_count() <= MAX_KNOWN_INTEGERS)
            .and_then(|initializer| initializer.to_floats().ok())
            .ok_or(Stop::Unknown)
    }
}

/// Shapes of the outputs; outputs without an entry are unknown.
fn output_shapes(inputs: &Inputs<'_>) -> Inferred<Vec<Option<Vec<usize>>>> {
    let outputs = inputs.node.outputs.len();
    let shapes = match &inputs.node.op {
        Op::Split { axis } => rearrange::split(inputs, *axis)?,
        Op::MaxPool(_) | Op::Identity => vec![first_output_shape(inputs)?; outputs],
        _ => vec![first_output_shape(inputs)?],
    };
    for shape in &shapes {
        let elements = shape
            .iter()
            .try_fold(1usize, |product, length| product.checked_mul(*length));
        if elements.is_none_or(|elements| elements > isize::MAX as usize) {
            return contradiction(format!("the result {shape:?} has too many elements"));
        }
    }
    Ok(shapes.into_iter().map(Some).collect())
}

fn first_output_shape(inputs: &Inputs<'_>) -> Inferred<Vec<usize>> {
    match &inputs.node.op {
        Op::AveragePool(pool) | Op::MaxPool(pool) => window::pool(inputs, pool),
        Op::Conv(conv) => window::conv(inputs, conv),
        Op::ConvTranspose(transpose) => window::conv_transpose(inputs, transpose),
        Op::GlobalAveragePool | Op::GlobalMaxPool => window::global_pool(inputs),
        Op::Binary(Binary::PRelu)
        | Op::BatchNormalization { .. }
        | Op::Cast { .. }
        | Op::Clip
        | Op::Identity
        | Op::LayerNormalization { .. }
        | Op::LogSoftmax { .. }
        | Op::Lrn { .. }
        | Op::Softmax { .. }
        | Op::Unary(_) => inputs.shape(0).map(<[usize]>::to_vec),
        Op::Binary(_) | Op::Variadic(_) | Op::Where => product::broadcast(&inputs.shapes()?),
        Op::Concat { axis } => rearrange::concat(inputs, *axis),
        Op::ConstantOfShape { .. } => rearrange::lengths(inputs.integers(0)?),
        Op::Einsum { equation } => product::einsum(inputs, equation),
        Op::Expand => {
            let target = rearrange::lengths(inputs.integers(1)?)?;
            product::broadcast(&[inputs.shape(0)?, &target])
        }
        Op::Flatten { axis } => rearrange::flatten(inputs.shape(0)?, *axis),
        Op::Gather { axis } => rearrange::gather(inputs, *axis),
        Op::Gemm {
            trans_a, trans_b, ..
        } => product::gemm(inputs, *trans_a, *trans_b),
        Op::MatMul => product::mat_mul(inputs.shape(0)?, inputs.shape(1)?),
        Op::Pad { .. } => rearrange::pad(inputs),
        Op::Range => integers::range_length(inputs).map(|length| vec![length]),
        Op::Reduce {
            keep_dims,
            noop_with_empty_axes,
            ..
        } => product::reduce(inputs, *keep_dims, *noop_with_empty_axes),
        Op::Reshape { allow_zero } => {
            rearrange::reshape(inputs.shape(0)?, inputs.integers(1)?, *allow_zero)
        }
        Op::Resize(_) => rearrange::resize(inputs),
        Op::Shape { start, end } => {
            let range = rearrange::shape_range(inputs.shape(0)?.len(), *start, *end);
            Ok(vec![range.len()])
        }
        Op::Slice => {
            let slices = rearrange::axis_slices(inputs)?;
            Ok(slices.into_iter().map(|slice| slice.length).collect())
        }
        Op::Squeeze => rearrange::squeeze(inputs.shape(0)?, inputs.optional_integers(1)?),
        Op::Tile => rearrange::tile(inputs.shape(0)?, inputs.integers(1)?),
        Op::Transpose { perm } => rearrange::transpose(inputs.shape(0)?, perm.as_deref()),
        Op::Unsqueeze => rearrange::unsqueeze(inputs.shape(0)?, inputs.integers(1)?),
        Op::Split { .. } | Op::Unsupported { .. } => Err(Stop::Unknown),
    }
}

/// An axis counted from the front; negative axes count from the end.
fn normalized_axis(axis: i64, rank: usize) -> Inferred<usize> {
    let from_front = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    usize::try_from(from_front)
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or_else(|| {
            Stop::Contradiction(format!("axis {axis} is outside of a tensor of rank {rank}"))
        })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::model::graph::{ElementType, GraphBuilder, Metadata, ModelFormat};
    use crate::model::op::{
        Conv, ConvTranspose, CoordinateTransform, NearestRounding, PadMode, Padding, Pool,
        Reduction, Resize, ResizeMode, Scalar, Unary, Variadic,
    };

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

    /// An input of a node under test.
    enum In<'a> {
        Shape(&'a [usize]),
        Ints(&'a [i64]),
        Floats(&'a [f32]),
        Absent,
    }
    use In::{Absent, Floats, Ints, Shape};

    /// Shape of each output of one node, and the problems.
    #[track_caller]
    fn infer_node(op: Op, inputs: &[In<'_>], outputs: usize) -> (Vec<Option<Vec<usize>>>, Shapes) {
        let mut builder = GraphBuilder::new();
        let ids = inputs
            .iter()
            .enumerate()
            .map(|(index, input)| {
                let name = format!("in{index}");
                match input {
                    Shape(shape) => {
                        let dims = shape.iter().copied().map(Dim::Fixed).collect();
                        Some(builder.input(&name, ElementType::F32, dims))
                    }
                    Ints(data) => {
                        let tensor = Tensor::new(*data, &Device::Cpu).unwrap();
                        Some(builder.initializer(&name, tensor))
                    }
                    Floats(data) => {
                        let tensor = Tensor::new(*data, &Device::Cpu).unwrap();
                        Some(builder.initializer(&name, tensor))
                    }
                    Absent => None,
                }
            })
            .collect();
        let outputs: Vec<ValueId> = (0..outputs)
            .map(|index| builder.value(&format!("out{index}")))
            .collect();
        builder.outputs.clone_from(&outputs);
        builder.nodes.push(Node {
            name: "node".to_owned(),
            op,
            inputs: ids,
            outputs: outputs.clone(),
        });
        let graph = builder.finish(metadata()).unwrap();
        let shapes = infer_shapes(&graph, 1);
        let found = outputs
            .iter()
            .map(|id| shapes.get(*id).map(<[usize]>::to_vec))
            .collect();
        (found, shapes)
    }

    #[track_caller]
    fn check(op: Op, inputs: &[In<'_>], expected: &[usize]) {
        let name = format!("{op:?}");
        let (found, shapes) = infer_node(op, inputs, 1);
        assert_eq!(shapes.problems, [], "{name}");
        assert_eq!(found, [Some(expected.to_vec())], "{name}");
    }

    #[track_caller]
    fn check_problem(op: Op, inputs: &[In<'_>], expected: &str) {
        let name = format!("{op:?}");
        let (found, shapes) = infer_node(op, inputs, 1);
        assert_eq!(found, [None], "{name}");
        let [(_, message)] = shapes.problems.as_slice() else {
            panic!("{name}: {:?}", shapes.problems);
        };
        assert!(message.contains(expected), "{message}");
    }

    fn conv(strides: &[usize], padding: Padding, dilations: &[usize], groups: usize) -> Conv {
        Conv {
            strides: strides.to_vec(),
            padding,
            dilations: dilations.to_vec(),
            groups,
        }
    }

    fn pads(pads: &[usize]) -> Padding {
        Padding::Explicit(pads.to_vec())
    }

    fn pool(kernel: usize, stride: usize, padding: usize, ceil_mode: bool) -> Op {
        Op::MaxPool(Pool {
            kernel: vec![kernel],
            strides: vec![stride],
            padding: pads(&[padding; 2]),
            dilations: Vec::new(),
            ceil_mode,
            count_include_pad: false,
        })
    }

    #[test]
    fn convolutions_and_pooling() {
        let image = || Shape(&[2, 4, 10, 7]);
        let k3 = || Shape(&[8, 4, 3, 3]);
        check(
            Op::Conv(conv(&[], pads(&[]), &[], 1)),
            &[image(), k3()],
            &[2, 8, 8, 5],
        );
        check(
            Op::Conv(conv(&[2, 1], pads(&[1, 0, 1, 2]), &[], 1)),
            &[image(), k3()],
            &[2, 8, 5, 7],
        );
        check(
            Op::Conv(conv(&[], pads(&[]), &[2, 3], 1)),
            &[image(), k3()],
            &[2, 8, 6, 1],
        );
        check(
            Op::Conv(conv(&[3, 2], Padding::SameUpper, &[], 1)),
            &[image(), k3()],
            &[2, 8, 4, 4],
        );
        check(
            Op::Conv(conv(&[], pads(&[]), &[], 4)),
            &[image(), Shape(&[8, 1, 1, 1])],
            &[2, 8, 10, 7],
        );

        let transpose = |conv, extra: &[usize], shape: Option<&[usize]>| {
            Op::ConvTranspose(ConvTranspose {
                conv,
                output_padding: extra.to_vec(),
                output_shape: shape.map(<[usize]>::to_vec),
            })
        };
        let k = || Shape(&[4, 3, 3, 3]);
        check(
            transpose(conv(&[2, 2], pads(&[1; 4]), &[], 2), &[1, 0], None),
            &[image(), k()],
            &[2, 6, 20, 13],
        );
        check(
            transpose(conv(&[2, 2], Padding::SameLower, &[], 1), &[], None),
            &[image(), k()],
            &[2, 3, 20, 14],
        );
        check(
            transpose(conv(&[2, 2], pads(&[]), &[], 1), &[], Some(&[9, 9])),
            &[image(), k()],
            &[2, 3, 9, 9],
        );

        // Lengths of ONNX Runtime for ceil_mode, where the last window must start before the end padding.
        for (length, kernel, stride, padding, ceil_mode, expected) in [
            (7, 2, 2, 0, false, 3),
            (7, 2, 2, 0, true, 4),
            (7, 3, 2, 1, true, 4),
            (4, 2, 3, 1, true, 2),
            (2, 1, 3, 1, true, 1),
            (32, 3, 2, 1, false, 16),
        ] {
            check(
                pool(kernel, stride, padding, ceil_mode),
                &[Shape(&[1, 3, length])],
                &[1, 3, expected],
            );
        }
        check(Op::GlobalAveragePool, &[image()], &[2, 4, 1, 1]);
    }

    #[test]
    fn products_and_elementwise() {
        check(
            Op::MatMul,
            &[Shape(&[2, 1, 3, 4]), Shape(&[5, 4, 6])],
            &[2, 5, 3, 6],
        );
        check(Op::MatMul, &[Shape(&[4]), Shape(&[4, 6])], &[6]);
        check(Op::MatMul, &[Shape(&[4]), Shape(&[4])], &[]);
        let gemm = |trans_a, trans_b| Op::Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a,
            trans_b,
        };
        check(
            gemm(false, true),
            &[Shape(&[2, 4]), Shape(&[6, 4])],
            &[2, 6],
        );
        check(
            gemm(true, false),
            &[Shape(&[4, 2]), Shape(&[4, 6])],
            &[2, 6],
        );
        check(
            Op::Binary(Binary::Add),
            &[Shape(&[2, 1, 4]), Shape(&[3, 1])],
            &[2, 3, 4],
        );
        check(
            Op::Binary(Binary::PRelu),
            &[Shape(&[2, 3, 4]), Shape(&[3, 1])],
            &[2, 3, 4],
        );
        check(
            Op::Binary(Binary::Mul),
            &[Shape(&[0, 3]), Shape(&[1, 3])],
            &[0, 3],
        );
        check(
            Op::Variadic(Variadic::Max),
            &[Shape(&[2, 1]), Shape(&[1, 3]), Shape(&[])],
            &[2, 3],
        );
        check(
            Op::Where,
            &[Shape(&[3]), Shape(&[2, 1]), Shape(&[1, 1])],
            &[2, 3],
        );
        check(Op::Unary(Unary::Relu), &[Shape(&[2, 3])], &[2, 3]);
        let einsum = |equation: &str| Op::Einsum {
            equation: equation.to_owned(),
        };
        check(
            einsum("bhid,bhjd->bhij"),
            &[Shape(&[2, 3, 4, 5]), Shape(&[2, 3, 6, 5])],
            &[2, 3, 4, 6],
        );
        check(
            einsum("...ij,jk->...ik"),
            &[Shape(&[7, 2, 3]), Shape(&[3, 4])],
            &[7, 2, 4],
        );
        check(einsum("ij,jk"), &[Shape(&[2, 3]), Shape(&[3, 4])], &[2, 4]);
        let reduce = |keep_dims, noop| Op::Reduce {
            reduction: Reduction::Mean,
            keep_dims,
            noop_with_empty_axes: noop,
        };
        check(
            reduce(true, false),
            &[Shape(&[2, 3, 4]), Ints(&[-1, 1])],
            &[2, 1, 1],
        );
        check(
            reduce(false, false),
            &[Shape(&[2, 3, 4]), Ints(&[0])],
            &[3, 4],
        );
        check(reduce(false, false), &[Shape(&[2, 3, 4])], &[]);
        check(reduce(false, true), &[Shape(&[2, 3, 4])], &[2, 3, 4]);
    }

    #[test]
    fn rearrangements() {
        let x = || Shape(&[2, 3, 4]);
        let reshape = |allow_zero| Op::Reshape { allow_zero };
        check(reshape(false), &[x(), Ints(&[0, -1])], &[2, 12]);
        check(reshape(false), &[x(), Ints(&[4, 6])], &[4, 6]);
        check(reshape(true), &[Shape(&[0, 3]), Ints(&[3, 0])], &[3, 0]);
        check(Op::Flatten { axis: 0 }, &[x()], &[1, 24]);
        check(Op::Flatten { axis: -1 }, &[x()], &[6, 4]);
        check(Op::Flatten { axis: 3 }, &[x()], &[24, 1]);
        check(Op::Squeeze, &[Shape(&[1, 3, 1]), Ints(&[-1])], &[1, 3]);
        check(Op::Squeeze, &[Shape(&[1, 3, 1])], &[3]);
        check(Op::Unsqueeze, &[Shape(&[3]), Ints(&[0, -1])], &[1, 3, 1]);
        check(Op::Transpose { perm: None }, &[x()], &[4, 3, 2]);
        check(
            Op::Transpose {
                perm: Some(vec![1, 0, 2]),
            },
            &[x()],
            &[3, 2, 4],
        );
        check(Op::Expand, &[Shape(&[3, 1]), Ints(&[2, 1, 4])], &[2, 3, 4]);
        check(Op::Tile, &[x(), Ints(&[1, 2, 3])], &[2, 6, 12]);
        let pad = Op::Pad {
            mode: PadMode::Constant,
        };
        check(pad.clone(), &[x(), Ints(&[0, 1, 2, 0, 0, -1])], &[2, 4, 5]);
        check(pad, &[x(), Ints(&[1, 2]), Absent, Ints(&[-1])], &[2, 3, 7]);
    }

    #[test]
    fn selections() {
        let x = || Shape(&[2, 3, 4]);
        check(
            Op::Slice,
            &[Shape(&[10]), Ints(&[-3]), Ints(&[i64::MAX])],
            &[3],
        );
        check(
            Op::Slice,
            &[
                Shape(&[10]),
                Ints(&[-1]),
                Ints(&[i64::MIN]),
                Ints(&[0]),
                Ints(&[-3]),
            ],
            &[4],
        );
        check(
            Op::Slice,
            &[
                Shape(&[0]),
                Ints(&[-1]),
                Ints(&[i64::MIN]),
                Ints(&[0]),
                Ints(&[-1]),
            ],
            &[0],
        );
        check(
            Op::Slice,
            &[
                x(),
                Ints(&[1, 0]),
                Ints(&[3, 4]),
                Ints(&[1, 2]),
                Ints(&[1, 2]),
            ],
            &[2, 2, 2],
        );
        check(
            Op::Concat { axis: -1 },
            &[Shape(&[2, 3]), Shape(&[2, 5])],
            &[2, 8],
        );
        check(Op::Gather { axis: 1 }, &[x(), Ints(&[0, 2])], &[2, 2, 4]);
        check(
            Op::Shape {
                start: 1,
                end: Some(-1),
            },
            &[Shape(&[2, 3, 4, 5])],
            &[2],
        );
        check(
            Op::ConstantOfShape {
                value: Scalar::F32(0.0),
            },
            &[Ints(&[2, 3])],
            &[2, 3],
        );
        let resize = Op::Resize(Resize {
            mode: ResizeMode::Nearest,
            coordinates: CoordinateTransform::Asymmetric,
            rounding: NearestRounding::Floor,
        });
        check(
            resize.clone(),
            &[Shape(&[1, 3, 5]), Absent, Floats(&[1.0, 1.0, 1.5])],
            &[1, 3, 7],
        );
        check(
            resize,
            &[Shape(&[1, 3, 5]), Absent, Absent, Ints(&[1, 3, 9])],
            &[1, 3, 9],
        );

        let split = |inputs: &[In<'_>], parts| infer_node(Op::Split { axis: 1 }, inputs, parts).0;
        assert_eq!(
            split(&[x(), Ints(&[1, 2])], 2),
            [Some(vec![2, 1, 4]), Some(vec![2, 2, 4])]
        );
        assert_eq!(split(&[x()], 2), [Some(vec![2, 2, 4]), Some(vec![2, 1, 4])]);
        assert_eq!(split(&[x(), Ints(&[2, 2])], 2), [None, None]);
    }

    #[test]
    fn contradictions_name_the_numbers() {
        let no_pads = || conv(&[], pads(&[]), &[], 1);
        let image = || Shape(&[1, 16, 8, 8]);
        check_problem(
            Op::Conv(no_pads()),
            &[image(), Shape(&[8, 3, 3, 3])],
            "16 channels",
        );
        check_problem(
            Op::Conv(no_pads()),
            &[image(), Shape(&[8, 16, 9, 9])],
            "window of 9",
        );
        check_problem(
            Op::Conv(conv(&[0, 1], pads(&[]), &[], 1)),
            &[image(), Shape(&[8, 16, 1, 1])],
            "stride",
        );
        check_problem(
            Op::Conv(conv(&[], pads(&[1]), &[], 1)),
            &[image(), Shape(&[8, 16, 1, 1])],
            "padding",
        );
        check_problem(
            Op::Conv(no_pads()),
            &[Shape(&[3]), Shape(&[8, 16, 1, 1])],
            "[3]",
        );
        check_problem(
            Op::MatMul,
            &[Shape(&[2, 3]), Shape(&[4, 5])],
            "3 and 4 differ",
        );
        check_problem(Op::MatMul, &[Shape(&[]), Shape(&[4, 5])], "scalar");
        check_problem(
            Op::Binary(Binary::Add),
            &[Shape(&[2]), Shape(&[3])],
            "2 against 3",
        );
        check_problem(
            Op::Reshape { allow_zero: false },
            &[Shape(&[2, 3]), Ints(&[4, -1])],
            "[4, -1]",
        );
        check_problem(
            Op::Reshape { allow_zero: false },
            &[Shape(&[2, 3]), Ints(&[-2, 3])],
            "[-2, 3]",
        );
        check_problem(
            Op::Transpose {
                perm: Some(vec![0, 0]),
            },
            &[Shape(&[2, 3])],
            "permutation",
        );
        check_problem(
            Op::Concat { axis: 0 },
            &[Shape(&[2, 3]), Shape(&[2, 4])],
            "[2, 4]",
        );
        check_problem(
            Op::Gather { axis: 5 },
            &[Shape(&[2, 3]), Ints(&[0])],
            "axis 5",
        );
        check_problem(Op::Tile, &[Shape(&[2]), Ints(&[-1])], "length of -1");
        let huge = [i64::MAX, i64::MAX];
        let zeros = Op::ConstantOfShape {
            value: Scalar::I64(0),
        };
        check_problem(zeros, &[Ints(&huge)], "too many elements");
        check_problem(Op::Squeeze, &[Shape(&[2, 3]), Ints(&[0])], "length 1");
    }

    /// `Reshape(x, Concat(Shape(x)[0], 4, -1))` through a chain of integer arithmetic.
    #[test]
    fn targets_computed_from_the_input_shape_resolve() {
        let mut builder = GraphBuilder::new();
        let dims = vec![Dim::Symbol("n".to_owned()), Dim::Fixed(3), Dim::Fixed(32)];
        let x = builder.input("x", ElementType::F32, dims);
        let ints = |data: &[i64]| Tensor::new(data, &Device::Cpu).unwrap();
        let zero = builder.initializer("zero", Tensor::new(0i64, &Device::Cpu).unwrap());
        let axis = builder.initializer("axis", ints(&[0]));
        let rest = builder.initializer("rest", ints(&[2, -1]));
        let two = builder.initializer("two", ints(&[2]));
        let shape = builder.node(
            "shape",
            Op::Shape {
                start: 0,
                end: None,
            },
            &[x],
            "shape",
        );
        let batch = builder.node("batch", Op::Gather { axis: 0 }, &[shape, zero], "batch");
        let batch = builder.node("vector", Op::Unsqueeze, &[batch, axis], "vector");
        let doubled = builder.node("double", Op::Binary(Binary::Mul), &[batch, two], "double");
        let target = builder.node("target", Op::Concat { axis: 0 }, &[doubled, rest], "target");
        let y = builder.node(
            "reshape",
            Op::Reshape { allow_zero: false },
            &[x, target],
            "y",
        );
        let equal = builder.node("equal", Op::Binary(Binary::Equal), &[target, rest], "equal");
        builder.output(y);
        builder.output(equal);
        let graph = builder.finish(metadata()).unwrap();
        let shapes = infer_shapes(&graph, 5);
        assert_eq!(shapes.get(y), Some(&[10, 2, 24][..]));
        assert_eq!(shapes.get(equal), None);
        assert_eq!(shapes.problems.len(), 1, "{:?}", shapes.problems);
        assert_eq!(fixed_batch(&graph), None);
        assert_eq!(input_shape(&graph), Some(vec![3, 32]));
    }

    #[test]
    fn integers_are_moved_and_computed_as_the_engine_would() {
        let known = |op: Op, inputs: &[In<'_>]| -> Option<Vec<usize>> {
            // A ConstantOfShape after the node turns its integers into a shape that can be read.
            let mut builder = GraphBuilder::new();
            let ids: Vec<ValueId> = inputs
                .iter()
                .enumerate()
                .map(|(index, input)| {
                    let Ints(data) = input else {
                        panic!("integers only");
                    };
                    let data = Tensor::new(*data, &Device::Cpu).unwrap();
                    let data = if data.elem_count() == 1 {
                        data.reshape(()).unwrap()
                    } else {
                        data
                    };
                    builder.initializer(&format!("in{index}"), data)
                })
                .collect();
            let out = builder.node("node", op, &ids, "out");
            let zeros = Op::ConstantOfShape {
                value: Scalar::F32(0.0),
            };
            let y = builder.node("zeros", zeros, &[out], "zeros");
            builder.output(y);
            let shapes = infer_shapes(&builder.finish(metadata()).unwrap(), 1);
            shapes.get(y).map(<[usize]>::to_vec)
        };
        assert_eq!(
            known(Op::Range, &[Ints(&[7]), Ints(&[0]), Ints(&[-3])]),
            Some(vec![7, 4, 1])
        );
        assert_eq!(
            known(Op::Range, &[Ints(&[0]), Ints(&[3]), Ints(&[0])]),
            None
        );
        let floored = Op::Binary(Binary::Mod { fmod: false });
        assert_eq!(
            known(floored, &[Ints(&[-7, 7]), Ints(&[3])]),
            Some(vec![2, 1])
        );
        assert_eq!(
            known(Op::Binary(Binary::Div), &[Ints(&[7, 9]), Ints(&[2])]),
            Some(vec![3, 4])
        );
        assert_eq!(
            known(Op::Binary(Binary::Div), &[Ints(&[7, 9]), Ints(&[0])]),
            None
        );
        assert_eq!(
            known(Op::Where, &[Ints(&[1, 0]), Ints(&[5, 6]), Ints(&[7, 8])]),
            Some(vec![5, 8])
        );
        assert_eq!(
            known(Op::Gather { axis: 0 }, &[Ints(&[5, 6, 7]), Ints(&[-1, 0])]),
            Some(vec![7, 5])
        );
        assert_eq!(
            known(Op::Gather { axis: 0 }, &[Ints(&[5, 6, 7]), Ints(&[3, 0])]),
            None
        );
        assert_eq!(
            known(Op::Tile, &[Ints(&[5, 6]), Ints(&[2])]),
            Some(vec![5, 6, 5, 6])
        );
        let float = Op::Cast {
            to: ElementType::F32,
        };
        assert_eq!(known(float, &[Ints(&[5, 6])]), None);
    }

    #[test]
    fn other_symbolic_axes_leave_shapes_unknown() {
        let mut builder = GraphBuilder::new();
        let symbol = |name: &str| Dim::Symbol(name.to_owned());
        let x = builder.input("x", ElementType::F32, vec![symbol("n"), symbol("length")]);
        let y = builder.node("relu", Op::Unary(Unary::Relu), &[x], "y");
        builder.output(y);
        let graph = builder.finish(metadata()).unwrap();
        let shapes = infer_shapes(&graph, 1);
        assert_eq!(shapes.get(y), None);
        assert_eq!(shapes.problems, []);
        assert_eq!(input_shape(&graph), None);
    }

    /// Shapes of all outputs that ONNX Runtime computed for the golden operator models.
    #[test]
    fn inferred_shapes_are_those_of_onnx_runtime() {
        let golden = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let text = std::fs::read_to_string(golden.join("ops.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let shape_of = |tensor: &serde_json::Value| -> Vec<usize> {
            let lengths = tensor["shape"].as_array().unwrap().iter();
            lengths.map(|n| n.as_u64().unwrap() as usize).collect()
        };
        let (mut known, mut unknown) = (0, Vec::new());
        for case in json["cases"].as_array().unwrap() {
            let graph = crate::model::load(&golden.join(case["file"].as_str().unwrap())).unwrap();
            let is_supported = |node: &Node| !matches!(node.op, Op::Unsupported { .. });
            if !graph.nodes().iter().all(is_supported) {
                continue;
            }
            let metadata = graph.metadata().clone();
            let mut builder = graph.into_builder();
            for tensor in case["inputs"].as_array().unwrap() {
                let id = builder.value(tensor["name"].as_str().unwrap());
                let dims = shape_of(tensor).into_iter().map(Dim::Fixed).collect();
                builder.values[id.index()].shape = Some(dims);
            }
            let graph = builder.finish(metadata).unwrap();
            let shapes = infer_shapes(&graph, 1);
            assert_eq!(shapes.problems, [], "{}", case["name"]);
            let outputs = case["outputs"].as_array().unwrap();
            for (id, expected) in graph.outputs().iter().zip(outputs) {
                match shapes.get(*id) {
                    Some(shape) => {
                        assert_eq!(shape, shape_of(expected), "{}", case["name"]);
                        known += 1;
                    }
                    None => unknown.push(case["name"].as_str().unwrap().to_owned()),
                }
            }
        }
        assert!(known > 380, "{known} outputs");
        // Their shapes depend on the elements of an input.
        let of_elements = [
            "constant_of_shape_int64",
            "constant_of_shape_float",
            "range_int64",
            "range_negative_step",
            "range_float",
        ];
        assert_eq!(unknown, of_elements);
    }
}
