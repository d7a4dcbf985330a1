//! Operators that images in blocks pass through without being laid out anew.

use candle_core::{DType, Tensor};

use super::{Inputs, evaluate_single};
use crate::engine::error::OpError;
use crate::engine::kernels::PoolGeometry;
use crate::engine::kernels::blocked::{
    BLOCK, average_pool_blocked, block_channels, concat_blocked, global_average_pool_blocked,
    max_pool_blocked, scale_and_shift_blocked,
};
use crate::engine::value::Value;
use crate::model::{Binary, Op, Pool, Variadic};

/// Evaluates an operator on blocked images; `None` where it needs plain tensors.
pub(super) fn evaluate(op: &Op, inputs: &[Option<Value>]) -> Result<Option<Value>, OpError> {
    let first = inputs.first().and_then(Option::as_ref);
    match (op, first) {
        (Op::Unary(_) | Op::Clip, Some(Value::Blocked { image, channels })) => {
            let mut plain = vec![Some(image.clone())];
            for bound in inputs.iter().skip(1) {
                plain.push(bound.as_ref().map(Value::plain).transpose()?);
            }
            let image = evaluate_single(op, &Inputs(&plain))?;
            Ok(Some(Value::Blocked {
                image,
                channels: *channels,
            }))
        }
        (
            Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::PRelu)
            | Op::Variadic(Variadic::Max | Variadic::Min | Variadic::Sum | Variadic::Mean),
            _,
        ) => broadcast(op, inputs),
        (Op::BatchNormalization { epsilon }, Some(Value::Blocked { image, channels })) => {
            normalize(*epsilon, image, *channels, inputs)
        }
        (Op::MaxPool(pool), Some(Value::Blocked { image, channels })) => {
            let image = max_pool_blocked(image, &geometry(pool, image)?)?;
            Ok(Some(Value::Blocked {
                image,
                channels: *channels,
            }))
        }
        (Op::AveragePool(pool), Some(Value::Blocked { image, channels })) => {
            let image = average_pool_blocked(image, &geometry(pool, image)?)?;
            Ok(Some(Value::Blocked {
                image,
                channels: *channels,
            }))
        }
        (Op::GlobalAveragePool, Some(Value::Blocked { image, channels })) => {
            Ok(Some(global_average_pool_blocked(image, *channels)?.into()))
        }
        (Op::Concat { axis: 1 | -3 }, _) => concat(inputs),
        _ => Ok(None),
    }
}

fn geometry(pool: &Pool, image: &Tensor) -> Result<PoolGeometry, OpError> {
    let (_, _, height, width, _) = image.dims5()?;
    Ok(PoolGeometry::resolve(pool, [height, width])?)
}

/// Joins images along their channels, if one of them is in blocks.
fn concat(inputs: &[Option<Value>]) -> Result<Option<Value>, OpError> {
    let is_blocked = |input: &Option<Value>| matches!(input, Some(Value::Blocked { .. }));
    if !inputs.iter().any(is_blocked) {
        return Ok(None);
    }
    let mut images = Vec::with_capacity(inputs.len());
    for input in inputs.iter().flatten() {
        match input.blocked()? {
            Some(image) => images.push(image),
            None => return Ok(None),
        }
    }
    let parts: Vec<(&Tensor, usize)> = images.iter().map(|(image, c)| (image, *c)).collect();
    let channels = parts.iter().map(|(_, channels)| channels).sum();
    Ok(Some(Value::Blocked {
        image: concat_blocked(&parts)?,
        channels,
    }))
}

/// Element-wise with broadcasting, if an input is a blocked image of the full shape.
fn broadcast(op: &Op, inputs: &[Option<Value>]) -> Result<Option<Value>, OpError> {
    let full = inputs.iter().flatten().find_map(|input| match input {
        Value::Blocked { image, channels } if image.dims()[2..4].iter().any(|len| *len > 1) => {
            Some((*channels, image.dims()))
        }
        _ => None,
    });
    let Some((channels, dims)) = full else {
        return Ok(None);
    };
    let mut tensors = Vec::with_capacity(inputs.len());
    for input in inputs.iter().flatten() {
        match operand(input, channels)? {
            Some(tensor) if fits(tensor.dims(), dims) => tensors.push(Some(tensor)),
            _ => return Ok(None),
        }
    }
    if tensors.len() != inputs.len() {
        return Ok(None);
    }
    Ok(Some(Value::Blocked {
        image: evaluate_single(op, &Inputs(&tensors))?,
        channels,
    }))
}

/// Whether a shape broadcasts to another without making it larger.
fn fits(own: &[usize], full: &[usize]) -> bool {
    own.len() <= full.len()
        && own
            .iter()
            .rev()
            .zip(full.iter().rev())
            .all(|(own, full)| *own == 1 || own == full)
}

/// An operand as it broadcasts to a blocked image of so many channels.
fn operand(value: &Value, channels: usize) -> Result<Option<Tensor>, OpError> {
    let tensor = match value {
        Value::Blocked {
            image,
            channels: own,
        } => return Ok((*own == channels).then(|| image.clone())),
        Value::Plain(tensor) => tensor,
    };
    if tensor.dtype() != DType::F32 {
        return Ok(None);
    }
    if tensor.elem_count() == 1 {
        return Ok(Some(tensor.reshape(())?));
    }
    let image = match *tensor.dims() {
        [c, h, w] => tensor.reshape((1, c, h, w))?,
        [_, _, _, _] => tensor.clone(),
        _ => return Ok(None),
    };
    Ok(match *image.dims() {
        [n, 1, h, w] => Some(image.reshape((n, 1, h, w, 1))?),
        [_, c, _, _] if c == channels => Some(block_channels(&image)?),
        _ => None,
    })
}

/// See [`batch_normalization`](super::normalization::batch_normalization).
fn normalize(
    epsilon: f32,
    image: &Tensor,
    channels: usize,
    inputs: &[Option<Value>],
) -> Result<Option<Value>, OpError> {
    let mut plain = vec![Some(image.clone())];
    for input in inputs.iter().skip(1) {
        plain.push(input.as_ref().map(Value::plain).transpose()?);
    }
    let [mean, factor, bias] =
        super::normalization::affine_of_batch_norm(epsilon, channels, &Inputs(&plain))?;
    let lanes = |values: &[f32]| -> Vec<[f32; BLOCK]> {
        values
            .chunks(BLOCK)
            .map(|chunk| std::array::from_fn(|lane| chunk.get(lane).copied().unwrap_or(0.0)))
            .collect()
    };
    let image = scale_and_shift_blocked(image, &lanes(&mean), &lanes(&factor), &lanes(&bias))?;
    Ok(Some(Value::Blocked { image, channels }))
}
