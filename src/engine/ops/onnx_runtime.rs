//! Operators that give ONNX Runtime's own numbers, bit for bit, where their order of sums is known.

use candle_core::{DType, Tensor};

use super::Inputs;
use super::convolution::{image, with_rank_of};
use super::elements::{Elements, axis_index, buffer, fill_chunks, tensor};
use crate::engine::error::OpError;
use crate::engine::kernels::onnx_runtime::{
    Right, convolved, error_function, matrix_product, mean, normalized_channel, normalized_rows,
    sigmoid, softmax, transposed_convolved, window_average, windowless_average,
};
use crate::engine::kernels::{ConvGeometry, PoolGeometry};
use crate::model::{Conv, ConvTranspose, Op, Pool, Reduction, Unary};

/// The output of an operator whose sums are followed; `None` for all others.
///
/// `constant` says whether input 1 is a constant of the file that the runtime executes.
///
/// # Errors
/// Inputs that do not fit the operator.
pub(in crate::engine) fn evaluate(
    op: &Op,
    inputs: &[Option<Tensor>],
    constant: bool,
) -> Result<Option<Tensor>, OpError> {
    let inputs = &Inputs(inputs);
    if inputs.required(0)?.dtype() != DType::F32 {
        return Ok(None);
    }
    match op {
        Op::Conv(op) => conv(op, inputs).map(Some),
        Op::ConvTranspose(op) => conv_transpose(op, inputs).map(Some),
        Op::Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b,
        } => gemm(*trans_b, constant, inputs),
        Op::MatMul => matmul(constant, inputs),
        Op::GlobalAveragePool => global_average_pool(inputs).map(Some),
        Op::AveragePool(pool) => average_pool(pool, inputs).map(Some),
        Op::BatchNormalization { epsilon } => batch_normalization(*epsilon, inputs).map(Some),
        Op::Reduce {
            reduction: Reduction::Mean,
            keep_dims,
            ..
        } => reduce_mean(*keep_dims, inputs),
        Op::Unary(Unary::Sigmoid) => logistic(inputs).map(Some),
        Op::Unary(Unary::Erf) => erf(inputs).map(Some),
        Op::Softmax { axis, coerce_to_2d } => softmax_over(*axis, *coerce_to_2d, inputs),
        Op::LayerNormalization { axis, epsilon } => layer_normalization(*axis, *epsilon, inputs),
        _ => Ok(None),
    }
}

/// The elements of a tensor.
fn floats(tensor: &Tensor) -> Result<Vec<f32>, OpError> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

fn bias(inputs: &Inputs<'_>, index: usize) -> Result<Option<Vec<f32>>, OpError> {
    inputs
        .optional(index)
        .map(|_| inputs.floats(index))
        .transpose()
}

fn too_small() -> OpError {
    OpError::Shape("the kernel is larger than the padded input".to_owned())
}

fn conv(op: &Conv, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (x, weight) = (image(inputs, 0)?, image(inputs, 1)?);
    let (from, shape): ([usize; 4], [usize; 4]) = (x.dims4()?.into(), weight.dims4()?.into());
    let [batch, channels, height, width] = from;
    let [outputs, per_group, kernel_height, kernel_width] = shape;
    let kernel = [kernel_height, kernel_width];
    let geometry = ConvGeometry::resolve(op, kernel, [height, width])?;
    let output = geometry.output_size(kernel, [height, width]);
    let output = output.ok_or_else(too_small)?;
    check_channels(channels, per_group * geometry.groups)?;
    let shape_out = [batch, outputs, output[0], output[1]];
    super::elements::checked_elements(&shape_out)?;
    let (values, filters, add) = (floats(&x)?, floats(&weight)?, bias(inputs, 2)?);
    let y = convolved(
        (&values, from),
        (&filters, shape),
        add.as_deref(),
        &geometry,
        output,
    );
    with_rank_of(inputs, tensor(y, &shape_out)?)
}

fn check_channels(found: usize, expected: usize) -> Result<(), OpError> {
    if found == expected {
        return Ok(());
    }
    Err(OpError::Shape(format!(
        "the input has {found} channels, and the weight wants {expected}"
    )))
}

fn conv_transpose(op: &ConvTranspose, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (x, weight) = (image(inputs, 0)?, image(inputs, 1)?);
    let (from, shape): ([usize; 4], [usize; 4]) = (x.dims4()?.into(), weight.dims4()?.into());
    let [batch, channels, height, width] = from;
    let [wanted, per_group, kernel_height, kernel_width] = shape;
    let kernel = [kernel_height, kernel_width];
    let (geometry, output_padding) = ConvGeometry::resolve_transposed(op, kernel, [height, width])?;
    let output = geometry.transposed_output_size(kernel, [height, width], output_padding);
    let output = output.ok_or_else(too_small)?;
    check_channels(channels, wanted)?;
    let shape_out = [batch, per_group * geometry.groups, output[0], output[1]];
    super::elements::checked_elements(&shape_out)?;
    let (values, filters, add) = (floats(&x)?, floats(&weight)?, bias(inputs, 2)?);
    let y = transposed_convolved(
        (&values, from),
        (&filters, shape),
        add.as_deref(),
        &geometry,
        output,
    );
    with_rank_of(inputs, tensor(y, &shape_out)?)
}

fn gemm(transposed: bool, constant: bool, inputs: &Inputs<'_>) -> Result<Option<Tensor>, OpError> {
    let (a, b) = (inputs.required(0)?, inputs.required(1)?);
    let (&[rows, depth], &[first, second]) = (a.dims(), b.dims()) else {
        return Ok(None);
    };
    let (inner, columns) = if transposed {
        (second, first)
    } else {
        (first, second)
    };
    let start = bias(inputs, 2)?;
    if inner != depth || start.as_ref().is_some_and(|start| start.len() != columns) {
        return Ok(None);
    }
    let (left, right) = (floats(a)?, floats(b)?);
    let right = Right {
        values: &right,
        columns,
        transposed,
        constant,
    };
    let y = matrix_product(&left, depth, right, start.as_deref());
    Ok(Some(tensor(y, &[rows, columns])?))
}

fn matmul(constant: bool, inputs: &Inputs<'_>) -> Result<Option<Tensor>, OpError> {
    let (a, b) = (inputs.required(0)?, inputs.required(1)?);
    let ([batch @ .., _, depth], [others @ .., inner, columns]) = (a.dims(), b.dims()) else {
        return Ok(None);
    };
    let (&depth, &columns) = (depth, columns);
    // A matrix on the right multiplies all rows at once, and only such a constant is packed; stacks of
    // matrices go in pairs.
    let constant = constant && others.is_empty();
    if *inner != depth || !(others.is_empty() || others == batch) {
        return Ok(None);
    }
    let mut shape = a.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = columns;
    }
    let (left, right) = (floats(a)?, floats(b)?);
    let pairs = others.iter().product::<usize>().max(1);
    let (rows, size) = (left.len() / pairs, depth * columns);
    let mut y = Vec::with_capacity(left.len() / depth.max(1) * columns);
    for pair in 0..pairs {
        let right = Right {
            values: &right[pair * size..(pair + 1) * size],
            columns,
            transposed: false,
            constant,
        };
        let left = &left[pair * rows..(pair + 1) * rows];
        y.extend(matrix_product(left, depth, right, None));
    }
    Ok(Some(tensor(y, &shape)?))
}

fn global_average_pool(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let [batch, channels, spatial @ ..] = x.dims() else {
        return Err(OpError::Shape(format!(
            "expected [N, C, …], got {:?}",
            x.dims()
        )));
    };
    let plane: usize = spatial.iter().product();
    let values = floats(x)?;
    let y = values.chunks_exact(plane.max(1)).map(windowless_average);
    let mut shape = vec![*batch, *channels];
    shape.extend(spatial.iter().map(|_| 1));
    tensor(y.collect(), &shape)
}

fn average_pool(pool: &Pool, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = image(inputs, 0)?;
    let (batch, channels, height, width) = x.dims4()?;
    let geometry = PoolGeometry::resolve(pool, [height, width])?;
    let output = geometry
        .output_size([height, width])
        .ok_or_else(too_small)?;
    let values = floats(&x)?;
    let mut y = buffer::<f32>(&[batch, channels, output[0], output[1]])?;
    let pixels = output[0] * output[1];
    let planes = values.chunks_exact((height * width).max(1));
    for (plane, y) in planes.zip(y.chunks_exact_mut(pixels.max(1))) {
        for (pixel, y) in y.iter_mut().enumerate() {
            let place = [pixel / output[1], pixel % output[1]];
            // Rows and columns of the window that lie in the image.
            let inside = |axis: usize, length: usize| {
                let from =
                    (place[axis] * geometry.strides[axis]) as isize - geometry.pads[axis] as isize;
                let step = geometry.dilations[axis] as isize;
                let places = (0..geometry.kernel[axis] as isize).map(move |i| from + i * step);
                places
                    .filter(move |at| (0..length as isize).contains(at))
                    .map(|at| at as usize)
            };
            let window: Vec<f32> = inside(0, height)
                .flat_map(|row| inside(1, width).map(move |column| row * width + column))
                .map(|at| plane[at])
                .collect();
            let count = if geometry.count_include_pad {
                geometry.kernel[0] * geometry.kernel[1]
            } else {
                window.len()
            };
            *y = window_average(window.into_iter(), count);
        }
    }
    let y = tensor(y, &[batch, channels, output[0], output[1]])?;
    with_rank_of(inputs, y)
}

fn batch_normalization(epsilon: f32, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let channels = x.dims().get(1).copied().unwrap_or(1);
    let pixels: usize = x.dims().iter().skip(2).product();
    let parameters: Result<Vec<Vec<f32>>, OpError> = (1..5).map(|at| inputs.floats(at)).collect();
    let parameters = parameters?;
    if parameters.iter().any(|list| list.len() != channels) {
        return Err(OpError::Shape(format!(
            "the parameters are not of {channels} channels"
        )));
    }
    let mut y = floats(x)?;
    for (row, values) in y.chunks_exact_mut(pixels.max(1)).enumerate() {
        let own: [f32; 4] = std::array::from_fn(|at| parameters[at][row % channels]);
        normalized_channel(values, own, epsilon);
    }
    tensor(y, x.dims())
}

/// Means over the last axes; the runtime sums others in another way.
fn reduce_mean(keep_dims: bool, inputs: &Inputs<'_>) -> Result<Option<Tensor>, OpError> {
    let x = inputs.required(0)?;
    let Some(listed) = inputs.optional_integers(1)? else {
        return Ok(None);
    };
    let mut reduced = vec![false; x.rank()];
    for axis in listed {
        reduced[axis_index(axis, x.rank())?] = true;
    }
    let kept = reduced.iter().take_while(|reduced| !**reduced).count();
    if kept == x.rank() || reduced[kept..].contains(&false) {
        return Ok(None);
    }
    let (outer, inner) = x.dims().split_at(kept);
    let length: usize = inner.iter().product();
    let values = floats(x)?;
    let rows = values.chunks_exact(length.max(1)).enumerate();
    let y = rows.map(|(row, values)| mean(values, row * length));
    let mut shape = outer.to_vec();
    if keep_dims {
        shape.extend(inner.iter().map(|_| 1));
    }
    Ok(Some(tensor(y.collect(), &shape)?))
}

fn logistic(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?.contiguous()?;
    let elements = Elements::of(&x)?;
    let source: &[f32] = elements.as_slice()?;
    let mut out: Vec<f32> = buffer(x.dims())?;
    fill_chunks(&mut out, |start, chunk| {
        sigmoid(&source[start..start + chunk.len()], chunk);
    });
    tensor(out, x.dims())
}

fn erf(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let mut values = floats(x)?;
    error_function(&mut values);
    tensor(values, x.dims())
}

/// Softmax over the last axis; the runtime transposes others first.
fn softmax_over(
    axis: i64,
    coerce_to_2d: bool,
    inputs: &Inputs<'_>,
) -> Result<Option<Tensor>, OpError> {
    let x = inputs.required(0)?;
    let axis = axis_index(axis, x.rank())?;
    if axis + 1 != x.rank() && !coerce_to_2d {
        return Ok(None);
    }
    let length = x.dims().iter().skip(axis).product();
    let mut values = floats(x)?;
    softmax(&mut values, length);
    tensor(values, x.dims()).map(Some)
}

/// Normalisation over the last axis.
fn layer_normalization(
    axis: i64,
    epsilon: f32,
    inputs: &Inputs<'_>,
) -> Result<Option<Tensor>, OpError> {
    let x = inputs.required(0)?;
    let (scale, bias) = (inputs.floats(1)?, bias(inputs, 2)?);
    let is_last = axis_index(axis, x.rank())? + 1 == x.rank();
    let fits = |count: usize| x.dims().last() == Some(&count);
    if !is_last || !fits(scale.len()) || bias.as_ref().is_some_and(|bias| !fits(bias.len())) {
        return Ok(None);
    }
    let mut values = floats(x)?;
    normalized_rows(&mut values, &scale, bias.as_deref(), epsilon);
    tensor(values, x.dims()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::Padding;

    fn ramp(shape: &[usize]) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
        f32s(shape, &values)
    }

    /// The sums are those of the ordinary operator, in another order.
    #[track_caller]
    fn check(op: &Op, inputs: &[Tensor]) {
        let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
        let expected = run_optional(op, &inputs);
        for constant in [false, true] {
            let found = evaluate(op, &inputs, constant).expect("evaluates");
            let found = found.expect("is followed");
            assert_eq!(found.dims(), expected.dims());
            let values = |tensor: &Tensor| floats(tensor).expect("f32");
            for (one, other) in values(&found).iter().zip(&values(&expected)) {
                let near = (one - other).abs() <= 1e-5 * (1.0 + other.abs());
                assert!(near, "{one} is not {other}");
            }
        }
    }

    fn attributes(groups: usize, strides: usize, pads: usize) -> Conv {
        Conv {
            strides: vec![strides; 2],
            padding: Padding::Explicit(vec![pads; 4]),
            dilations: Vec::new(),
            groups,
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_ordinary_operators() {
        let image = ramp(&[2, 6, 9, 11]);
        for (groups, strides, pads, kernel) in
            [(1, 1, 1, 3), (6, 2, 1, 3), (3, 1, 0, 1), (1, 3, 2, 5)]
        {
            let op = Op::Conv(attributes(groups, strides, pads));
            let weight = ramp(&[12, 6 / groups, kernel, kernel]);
            check(&op, &[image.clone(), weight, ramp(&[12])]);
        }
        // One filter for each group has a kernel of its own; there are more pixels than it takes at once.
        let op = Op::Conv(attributes(6, 1, 1));
        check(&op, &[image.clone(), ramp(&[6, 1, 3, 3]), ramp(&[6])]);
        for (groups, strides) in [(1, 2), (2, 1), (3, 3)] {
            let op = Op::ConvTranspose(ConvTranspose {
                conv: attributes(groups, strides, 1),
                output_padding: Vec::new(),
                output_shape: None,
            });
            check(
                &op,
                &[image.clone(), ramp(&[6, 2, 3, 3]), ramp(&[2 * groups])],
            );
        }
        for trans_b in [false, true] {
            let op = Op::Gemm {
                alpha: 1.0,
                beta: 1.0,
                trans_a: false,
                trans_b,
            };
            let weight = if trans_b { [70, 30] } else { [30, 70] };
            check(&op, &[ramp(&[5, 30]), ramp(&weight), ramp(&[70])]);
        }
        check(&Op::MatMul, &[ramp(&[2, 5, 30]), ramp(&[30, 7])]);
        check(&Op::MatMul, &[ramp(&[2, 5, 30]), ramp(&[2, 30, 7])]);
        check(&Op::MatMul, &[ramp(&[2, 5, 30]), ramp(&[30, 1])]);
        check(&Op::Unary(Unary::Erf), std::slice::from_ref(&image));
        let softmax = Op::Softmax {
            axis: -1,
            coerce_to_2d: false,
        };
        check(&softmax, std::slice::from_ref(&image));
        let op = Op::LayerNormalization {
            axis: -1,
            epsilon: 1e-5,
        };
        check(&op, &[image.clone(), ramp(&[11]), ramp(&[11])]);
        check(&Op::GlobalAveragePool, std::slice::from_ref(&image));
        check(&Op::Unary(Unary::Sigmoid), std::slice::from_ref(&image));
        let pool = Pool {
            kernel: vec![3, 3],
            strides: vec![2, 2],
            padding: Padding::Explicit(vec![1; 4]),
            dilations: Vec::new(),
            ceil_mode: false,
            count_include_pad: false,
        };
        check(&Op::AveragePool(pool), std::slice::from_ref(&image));
        let mean = Op::Reduce {
            reduction: Reduction::Mean,
            keep_dims: false,
            noop_with_empty_axes: false,
        };
        check(&mean, &[image.clone(), i64s(&[2], &[2, 3])]);
        let normalization = Op::BatchNormalization { epsilon: 1e-3 };
        let ones = f32s(&[6], &[1.5; 6]);
        let parameters = [ones.clone(), ramp(&[6]), ramp(&[6]), ones];
        let inputs: Vec<Tensor> = [image].into_iter().chain(parameters).collect();
        check(&normalization, &inputs);
    }

    #[test]
    fn other_operators_are_left_to_the_engine() {
        let x = [Some(ramp(&[2, 3]))];
        let relu = evaluate(&Op::Unary(Unary::Relu), &x, false).expect("evaluates");
        assert!(relu.is_none());
    }
}
