//! `BatchNormalization`, `LayerNormalization`, `Softmax` and `LogSoftmax`.

use candle_core::{DType, Tensor};

use super::Inputs;
use super::elements::{Elements, axis_index, buffer, fill_rows, tensor};
use super::math;
use crate::engine::error::OpError;

/// Normalises every channel (axis 1) of input 0 with given statistics.
///
/// ```text
/// y = (x − mean) / √(variance + ε) · scale + bias      (ONNX BatchNormalization-15, inference)
/// ```
pub(super) fn batch_normalization(epsilon: f32, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    let x = inputs.required(0)?.contiguous()?;
    let channels = match x.dims() {
        [_, channels, ..] => *channels,
        [_] => 1,
        [] => return Err(OpError::Shape("the input has rank 0".to_owned())),
    };
    let [mean, factor, bias] = affine_of_batch_norm(epsilon, channels, inputs)?;
    let elements = Elements::of(&x)?;
    let source: &[f32] = elements.as_slice()?;
    let pixels: usize = x.dims().iter().skip(2).product();
    let mut out: Vec<f32> = buffer(x.dims())?;
    fill_rows(pixels, pixels, &mut out, |row, values| {
        let c = row % channels;
        let (m, f, b) = (mean[c], factor[c], bias[c]);
        for (value, v) in values.iter_mut().zip(&source[row * pixels..]) {
            *value = (v - m) * f + b;
        }
    });
    tensor(out, x.dims())
}

/// Mean, factor and bias of every channel, from inputs 1 to 4: scale, bias, mean, variance.
pub(super) fn affine_of_batch_norm(
    epsilon: f32,
    channels: usize,
    inputs: &Inputs<'_>,
) -> Result<[Vec<f32>; 3], OpError> {
    let mut parameters: [Vec<f32>; 4] = Default::default();
    for (index, values) in (1..).zip(&mut parameters) {
        *values = inputs.floats(index)?;
        if values.len() != channels {
            return Err(OpError::Shape(format!(
                "input {index} has {} values for {channels} channels",
                values.len()
            )));
        }
    }
    let [scale, bias, mean, variance] = parameters;
    let factor = scale
        .iter()
        .zip(&variance)
        .map(|(s, v)| (f64::from(*s) / (f64::from(*v) + f64::from(epsilon)).sqrt()) as f32)
        .collect();
    Ok([mean, factor, bias])
}

/// Normalises over the axes from `axis` on; also returns the mean and `1/σ` if they are asked for.
///
/// ```text
/// y = (x − mean) / √(variance + ε) · scale + bias      (ONNX LayerNormalization-17)
/// ```
/// Mean and (biased) variance are computed in two passes in `f64`.
pub(super) fn layer_normalization(
    axis: i64,
    epsilon: f32,
    inputs: &Inputs<'_>,
    output_count: usize,
) -> Result<Vec<Tensor>, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    let x = inputs.required(0)?.contiguous()?;
    let axis = axis_index(axis, x.rank())?;
    let row: usize = x.dims()[axis..].iter().product();
    let scale = layer_parameter(inputs, 1, &x.dims()[axis..])?;
    let bias = match inputs.optional(2) {
        Some(_) => layer_parameter(inputs, 2, &x.dims()[axis..])?,
        None => vec![0.0; row],
    };
    let elements = Elements::of(&x)?;
    let source: &[f32] = elements.as_slice()?;
    let statistics = |index: usize| moments(&source[index * row..(index + 1) * row], epsilon);
    let mut out: Vec<f32> = buffer(x.dims())?;
    fill_rows(row, 4 * row, &mut out, |index, values| {
        let (mean, inverse_deviation) = statistics(index);
        let xs = &source[index * row..];
        for (((value, v), s), b) in values.iter_mut().zip(xs).zip(&scale).zip(&bias) {
            *value = ((f64::from(*v) - mean) * inverse_deviation) as f32 * s + b;
        }
    });
    let mut outputs = vec![tensor(out, x.dims())?];
    if output_count > 1 {
        let mut shape = x.dims().to_vec();
        shape[axis..].fill(1);
        let rows = shape.iter().product();
        let (means, deviations) = (0..rows).map(statistics).unzip::<_, _, Vec<_>, Vec<_>>();
        for values in [means, deviations] {
            outputs.push(tensor(values.iter().map(|v| *v as f32).collect(), &shape)?);
        }
        outputs.truncate(output_count);
    }
    Ok(outputs)
}

/// A parameter that broadcasts to the normalised axes.
fn layer_parameter(
    inputs: &Inputs<'_>,
    index: usize,
    shape: &[usize],
) -> Result<Vec<f32>, OpError> {
    inputs.expect_type(index, DType::F32, "f32")?;
    let parameter = inputs.required(index)?;
    let parameter = parameter.broadcast_as(shape).map_err(|_| {
        OpError::Shape(format!(
            "input {index} has shape {:?}, expected the normalised axes {shape:?}",
            parameter.dims()
        ))
    })?;
    Ok(parameter.flatten_all()?.to_vec1()?)
}

/// Mean and `1 / √(variance + ε)`.
fn moments(values: &[f32], epsilon: f32) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
    (mean, 1.0 / (squares / count + f64::from(epsilon)).sqrt())
}

/// `e^x / Σ e^x` along an axis, or its logarithm.
///
/// `coerce_to_2d` takes all axes from `axis` on as one, as before opset 13.
pub(super) fn softmax(
    axis: i64,
    coerce_to_2d: bool,
    logarithm: bool,
    inputs: &Inputs<'_>,
) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    let x = inputs.required(0)?.contiguous()?;
    if x.rank() == 0 {
        let value: f32 = if logarithm { 0.0 } else { 1.0 };
        return tensor(vec![value], &[]);
    }
    let axis = axis_index(axis, x.rank())?;
    let dims = x.dims();
    let (length, inner) = if coerce_to_2d {
        (dims[axis..].iter().product(), 1)
    } else {
        (dims[axis], dims[axis + 1..].iter().product())
    };
    let elements = Elements::of(&x)?;
    let source: &[f32] = elements.as_slice()?;
    let mut out: Vec<f32> = buffer(dims)?;
    let block = length * inner;
    fill_rows(block, 8 * block, &mut out, |index, values| {
        let xs = &source[index * block..(index + 1) * block];
        if inner == 1 {
            softmax_row(xs, values, logarithm);
        } else {
            softmax_columns(xs, values, inner, logarithm);
        }
    });
    tensor(out, dims)
}

fn softmax_row(xs: &[f32], out: &mut [f32], logarithm: bool) {
    let peak = xs.iter().copied().fold(f32::NEG_INFINITY, math::max);
    for (value, v) in out.iter_mut().zip(xs) {
        *value = math::exp(v - peak);
    }
    let sum: f64 = out.iter().map(|v| f64::from(*v)).sum();
    if logarithm {
        let log_sum = sum.ln() as f32;
        for (value, v) in out.iter_mut().zip(xs) {
            *value = v - peak - log_sum;
        }
    } else {
        let factor = (1.0 / sum) as f32;
        for value in out {
            *value *= factor;
        }
    }
}

/// The softmax of every column of a block whose rows are `inner` elements long.
fn softmax_columns(xs: &[f32], out: &mut [f32], inner: usize, logarithm: bool) {
    let mut peaks = vec![f32::NEG_INFINITY; inner];
    for row in xs.chunks_exact(inner) {
        for (peak, v) in peaks.iter_mut().zip(row) {
            *peak = math::max(*peak, *v);
        }
    }
    let mut sums = vec![0.0f64; inner];
    for (row, target) in xs.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
        for (((v, value), peak), sum) in row.iter().zip(target).zip(&peaks).zip(&mut sums) {
            *value = math::exp(v - peak);
            *sum += f64::from(*value);
        }
    }
    if logarithm {
        let log_sums: Vec<f32> = sums.iter().map(|sum| sum.ln() as f32).collect();
        for (row, target) in xs.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
            for (((v, value), peak), log_sum) in row.iter().zip(target).zip(&peaks).zip(&log_sums) {
                *value = v - peak - log_sum;
            }
        }
    } else {
        let factors: Vec<f32> = sums.iter().map(|sum| (1.0 / sum) as f32).collect();
        for target in out.chunks_exact_mut(inner) {
            for (value, factor) in target.iter_mut().zip(&factors) {
                *value *= factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::model::Op;

    #[test]
    fn batch_normalization_uses_the_given_statistics() {
        let parameters = [
            f32s(&[2], &[2.0, 1.0]),
            f32s(&[2], &[0.5, -1.0]),
            f32s(&[2], &[1.0, 0.0]),
            f32s(&[2], &[3.0, 0.0]),
        ];
        let op = Op::BatchNormalization { epsilon: 1.0 };
        for shape in [&[1, 2, 2][..], &[2, 2], &[1, 2, 1, 2]] {
            let x = [1.0, 3.0, 5.0, -2.0];
            let expected = if shape == [2, 2] {
                [0.5, 2.0, 4.5, -3.0]
            } else {
                [0.5, 2.5, 4.0, -3.0]
            };
            let mut inputs = vec![f32s(shape, &x)];
            inputs.extend(parameters.clone());
            assert_close(&run(&op, &inputs), &f32s(shape, &expected));
        }
        let mut inputs = vec![f32s(&[1, 3], &[0.0; 3])];
        inputs.extend(parameters);
        assert_eq!(
            fail(&op, &inputs).to_string(),
            "input 1 has 2 values for 3 channels"
        );
    }

    #[test]
    fn layer_normalization_gives_zero_mean_and_unit_variance() {
        let op = Op::LayerNormalization {
            axis: 1,
            epsilon: 0.0,
        };
        // A large offset must not cost precision.
        let x: Vec<f32> = [1., 2., 3., 4., 5., 6.].map(|v| v + 4096.0).to_vec();
        let y = run(
            &op,
            &[
                f32s(&[1, 2, 3], &x),
                f32s(&[2, 3], &[1.0; 6]),
                f32s(&[3], &[1.0; 3]),
            ],
        );
        let deviation = (35.0f32 / 12.0).sqrt();
        let expected: Vec<f32> = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
            .map(|v| v / deviation + 1.0)
            .to_vec();
        assert_close(&y, &f32s(&[1, 2, 3], &expected));
        let error = fail(&op, &[f32s(&[1, 2, 3], &x), f32s(&[2], &[1.0; 2])]);
        assert_eq!(
            error.to_string(),
            "input 1 has shape [2], expected the normalised axes [2, 3]"
        );
    }

    #[test]
    fn layer_normalization_returns_statistics_on_request() {
        let op = Op::LayerNormalization {
            axis: -1,
            epsilon: 0.0,
        };
        let inputs = [
            Some(f32s(&[2, 2], &[1., 3., 0., 8.])),
            Some(f32s(&[2], &[1., 1.])),
        ];
        let outputs = super::super::evaluate(&op, &inputs, 3).expect("evaluates");
        assert_eq!(outputs.len(), 3);
        assert_close(&outputs[1], &f32s(&[2, 1], &[2., 4.]));
        assert_close(&outputs[2], &f32s(&[2, 1], &[1., 0.25]));
    }

    #[test]
    fn softmax_sums_to_one_along_its_axis() {
        let x = f32s(&[2, 2, 2], &[0., 1., 2., 3., -1., 1000., 5., 1000.]);
        let e = |v: f32| v.exp();
        let pair = |a: f32, b: f32| [1.0 / (1.0 + e(b - a)), 1.0 / (1.0 + e(a - b))];
        let cases = [
            (
                -1,
                [pair(0., 1.), pair(2., 3.), [0., 1.], [0., 1.]].concat(),
            ),
            (1, {
                let (p, q) = (pair(0., 2.), pair(-1., 5.));
                vec![p[0], p[0], p[1], p[1], q[0], 0.5, q[1], 0.5]
            }),
            (0, {
                let (p, q) = (pair(0., -1.), pair(2., 5.));
                vec![p[0], 0., q[0], 0., p[1], 1., q[1], 1.]
            }),
        ];
        for (axis, expected) in cases {
            let op = |logarithm: bool| {
                let coerce_to_2d = false;
                if logarithm {
                    Op::LogSoftmax { axis, coerce_to_2d }
                } else {
                    Op::Softmax { axis, coerce_to_2d }
                }
            };
            let y = run(&op(false), std::slice::from_ref(&x));
            assert_close(&y, &f32s(&[2, 2, 2], &expected));
            let log = run(&op(true), std::slice::from_ref(&x));
            assert_close(&log.exp().expect("exp"), &f32s(&[2, 2, 2], &expected));
        }
    }

    #[test]
    fn softmax_before_opset_13_joins_the_last_axes() {
        let op = Op::Softmax {
            axis: 1,
            coerce_to_2d: true,
        };
        let y = run(&op, &[f32s(&[1, 2, 2], &[1., 1., 1., 1.])]);
        assert_close(&y, &f32s(&[1, 2, 2], &[0.25; 4]));
    }

    #[test]
    fn empty_and_scalar_inputs_are_fine() {
        let op = Op::Softmax {
            axis: -1,
            coerce_to_2d: false,
        };
        assert_eq!(run(&op, &[f32s(&[2, 0], &[])]).dims(), [2, 0]);
        assert_close(&run(&op, &[f32s(&[], &[7.0])]), &f32s(&[], &[1.0]));
    }
}
