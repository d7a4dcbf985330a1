//! Gradients of normalisations and softmax.

use candle_core::Tensor;

use super::node::Passed;
use crate::engine::error::OpError;
use crate::engine::slices::with_f32;
use crate::engine::value::Value;
use crate::model::Op;

/// The gradient of input 0.
pub(super) fn normalization(passed: &Passed<'_>) -> Result<Value, OpError> {
    let gradient = passed.gradient()?.plain()?;
    Ok(match passed.node.op {
        Op::BatchNormalization { epsilon } => batch_norm(epsilon, passed, &gradient)?,
        Op::LayerNormalization { axis, epsilon } => layer_norm(axis, epsilon, passed, &gradient)?,
        Op::Softmax { axis, coerce_to_2d } => {
            let y = passed.output()?.plain()?;
            // ∂x = y·(∂y − Σ ∂y·y)
            along(&y, &gradient, axis, coerce_to_2d, |y, g, out| {
                let dot: f64 = y.iter().zip(g).map(|(y, g)| f64::from(y * g)).sum();
                for ((out, y), g) in out.iter_mut().zip(y).zip(g) {
                    *out = y * (g - dot as f32);
                }
            })?
        }
        Op::LogSoftmax { axis, coerce_to_2d } => {
            let y = passed.output()?.plain()?;
            // ∂x = ∂y − softmax·Σ ∂y
            along(&y, &gradient, axis, coerce_to_2d, |y, g, out| {
                let sum: f64 = g.iter().map(|g| f64::from(*g)).sum();
                for ((out, y), g) in out.iter_mut().zip(y).zip(g) {
                    *out = g - y.exp() * sum as f32;
                }
            })?
        }
        _ => return Err(OpError::MissingInput(0)),
    }
    .into())
}

fn index(axis: i64, rank: usize) -> usize {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start).unwrap_or(0).min(rank)
}

/// Calls `f` with every line of two tensors along an axis.
fn along(
    y: &Tensor,
    gradient: &Tensor,
    axis: i64,
    coerce_to_2d: bool,
    f: impl Fn(&[f32], &[f32], &mut [f32]),
) -> Result<Tensor, OpError> {
    let dims = y.dims().to_vec();
    let axis = index(axis, dims.len());
    let (y, g) = if coerce_to_2d {
        (y.clone(), gradient.clone())
    } else {
        (last(y, axis)?, last(gradient, axis)?)
    };
    let length: usize = if coerce_to_2d {
        dims[axis..].iter().product()
    } else {
        dims.get(axis).copied().unwrap_or(1)
    };
    let shape = y.dims().to_vec();
    let x = with_f32(&y, |y| {
        with_f32(&g, |g| {
            let mut x = vec![0.0; y.len()];
            let lines = x.chunks_mut(length.max(1));
            for ((out, y), g) in lines
                .zip(y.chunks(length.max(1)))
                .zip(g.chunks(length.max(1)))
            {
                f(y, g, out);
            }
            Tensor::from_vec(x, shape.as_slice(), gradient.device())
        })
    })?;
    if coerce_to_2d {
        return Ok(x);
    }
    Ok(last(&x, axis)?)
}

/// An axis exchanged with the last one; twice is back again.
fn last(tensor: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    match tensor.rank() {
        0 => Ok(tensor.clone()),
        rank => tensor.transpose(axis, rank - 1)?.contiguous(),
    }
}

fn batch_norm(epsilon: f32, passed: &Passed<'_>, gradient: &Tensor) -> Result<Tensor, OpError> {
    let floats =
        |index| -> Result<Vec<f32>, OpError> { Ok(passed.plain(index)?.flatten_all()?.to_vec1()?) };
    let (scale, variance) = (floats(1)?, floats(4)?);
    let factors: Vec<f32> = scale
        .iter()
        .zip(&variance)
        .map(|(s, v)| s / (v + epsilon).sqrt())
        .collect();
    let pixels: usize = gradient.dims().iter().skip(2).product();
    let (pixels, channels) = (pixels.max(1), factors.len().max(1));
    Ok(with_f32(gradient, |g| {
        let mut x = g.to_vec();
        for (row, values) in x.chunks_mut(pixels).enumerate() {
            for value in values {
                *value *= factors[row % channels];
            }
        }
        Tensor::from_vec(x, gradient.dims(), gradient.device())
    })?)
}

/// With `x̂ = (x − μ)/σ` and `h = ∂y·scale`:  `∂x = (h − mean(h) − x̂·mean(h·x̂)) / σ`.
fn layer_norm(
    axis: i64,
    epsilon: f32,
    passed: &Passed<'_>,
    gradient: &Tensor,
) -> Result<Tensor, OpError> {
    let x = passed.plain(0)?;
    let axis = index(axis, x.rank());
    let shape = &x.dims()[axis..];
    let row: usize = shape.iter().product();
    let scale = passed.plain(1)?.broadcast_as(shape)?.flatten_all()?;
    let scale: Vec<f32> = scale.to_vec1()?;
    Ok(with_f32(&x, |xs| {
        with_f32(gradient, |gs| {
            let mut out = vec![0.0; xs.len()];
            for ((out, x), g) in out
                .chunks_mut(row.max(1))
                .zip(xs.chunks(row.max(1)))
                .zip(gs.chunks(row.max(1)))
            {
                layer_norm_row(x, g, &scale, epsilon, out);
            }
            Tensor::from_vec(out, x.dims(), x.device())
        })
    })?)
}

fn layer_norm_row(x: &[f32], g: &[f32], scale: &[f32], epsilon: f32, out: &mut [f32]) {
    let count = x.len().max(1) as f64;
    let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let squares: f64 = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
    let inverse = 1.0 / (squares / count + f64::from(epsilon)).sqrt();
    let (mut sum, mut dot) = (0.0, 0.0);
    for ((x, g), s) in x.iter().zip(g).zip(scale) {
        let h = f64::from(g * s);
        sum += h;
        dot += h * (f64::from(*x) - mean) * inverse;
    }
    for (((out, x), g), s) in out.iter_mut().zip(x).zip(g).zip(scale) {
        let normal = (f64::from(*x) - mean) * inverse;
        *out = ((f64::from(g * s) - sum / count - normal * dot / count) * inverse) as f32;
    }
}
