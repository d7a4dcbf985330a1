//! Operators that images in blocks pass through without being laid out anew.

use candle_core::{DType, Tensor};

use super::{Inputs, evaluate_single};
use crate::engine::error::OpError;
use crate::engine::kernels::PoolGeometry;
use crate::engine::kernels::blocked::{
    BLOCK, ChannelAffine, average_pool_blocked, block_channels, concat_blocked,
    global_average_pool_blocked, max_pool_blocked, scale_and_shift_blocked,
};
use crate::engine::value::Value;
use crate::model::{Binary, Op, PadMode, Pool, Variadic};

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
        (Op::Resize(_), Some(Value::Blocked { image, channels })) => {
            resize(op, image, *channels, inputs)
        }
        (Op::Slice, Some(Value::Blocked { image, channels })) => {
            slice(op, image, *channels, inputs)
        }
        (
            Op::Pad {
                mode: PadMode::Constant,
            },
            Some(Value::Blocked { image, channels }),
        ) => pad(image, *channels, inputs),
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
    let affine = ChannelAffine::new([&mean, &factor, &bias]);
    let image = scale_and_shift_blocked(image, &affine)?;
    Ok(Some(Value::Blocked { image, channels }))
}

/// Resamples rows and columns only.
fn resize(
    op: &Op,
    image: &Tensor,
    channels: usize,
    inputs: &[Option<Value>],
) -> Result<Option<Value>, OpError> {
    let plain: candle_core::Result<Vec<Option<Tensor>>> = inputs
        .iter()
        .skip(1)
        .map(|input| input.as_ref().map(Value::plain).transpose())
        .collect();
    let plain = plain?;
    let given = |index: usize| {
        let list: Option<&Tensor> = plain.get(index - 1).and_then(Option::as_ref);
        list.filter(|list| list.elem_count() > 0)
    };
    let (blocks, device) = (image.dim(1)?, image.device());
    let (scales, sizes) = match (given(3), given(2)) {
        (Some(sizes), _) => match sizes.to_vec1::<i64>()?[..] {
            [batch, c, height, width] if c == channels as i64 => {
                let sizes = [batch, blocks as i64, height, width, BLOCK as i64];
                (None, Some(Tensor::new(&sizes, device)?))
            }
            _ => return Ok(None),
        },
        (None, Some(scales)) => match scales.to_vec1::<f32>()?[..] {
            [batch, 1.0, height, width] => {
                let scales = [batch, 1.0, height, width, 1.0];
                (Some(Tensor::new(&scales, device)?), None)
            }
            _ => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    let inputs = [Some(image.clone()), None, scales, sizes];
    Ok(Some(Value::Blocked {
        image: evaluate_single(op, &Inputs(&inputs))?,
        channels,
    }))
}

/// Takes rows and columns only.
fn slice(
    op: &Op,
    image: &Tensor,
    channels: usize,
    inputs: &[Option<Value>],
) -> Result<Option<Value>, OpError> {
    let mut tensors = vec![Some(image.clone())];
    for input in inputs.iter().skip(1) {
        tensors.push(input.as_ref().map(Value::plain).transpose()?);
    }
    let axes = match tensors.get(3) {
        Some(Some(axes)) => axes.to_vec1::<i64>()?,
        _ => return Ok(None),
    };
    // Rows and columns are the same axes of a blocked image, counted from the start.
    let from_start: Option<Vec<i64>> = axes
        .iter()
        .map(|axis| match axis {
            2 | -2 => Some(2),
            3 | -1 => Some(3),
            _ => None,
        })
        .collect();
    let Some(from_start) = from_start else {
        return Ok(None);
    };
    tensors[3] = Some(Tensor::new(&from_start[..], image.device())?);
    Ok(Some(Value::Blocked {
        image: evaluate_single(op, &Inputs(&tensors))?,
        channels,
    }))
}

/// Adds channels of zeros at both ends.
fn pad(
    image: &Tensor,
    channels: usize,
    inputs: &[Option<Value>],
) -> Result<Option<Value>, OpError> {
    let list = |index: usize| inputs.get(index).and_then(Option::as_ref).map(Value::plain);
    let (Some(pads), None) = (list(1).transpose()?, list(3)) else {
        return Ok(None);
    };
    let is_zero = match list(2).transpose()? {
        Some(value) => value.flatten_all()?.to_vec1::<f32>()? == [0.0],
        None => true,
    };
    let [0, before, 0, 0, 0, behind, 0, 0] = pads.to_vec1::<i64>()?[..] else {
        return Ok(None);
    };
    let (Ok(before), Ok(behind), true) =
        (usize::try_from(before), usize::try_from(behind), is_zero)
    else {
        return Ok(None);
    };
    let (batch, _, height, width, _) = image.dims5()?;
    super::elements::checked_elements(&[batch, before.saturating_add(behind), height, width])?;
    let zeros = |count: usize| {
        let shape = (batch, count.div_ceil(BLOCK), height, width, BLOCK);
        Tensor::zeros(shape, DType::F32, image.device())
    };
    let (first, last) = (zeros(before)?, zeros(behind)?);
    let parts = [(&first, before), (image, channels), (&last, behind)];
    let parts: Vec<(&Tensor, usize)> = parts.into_iter().filter(|(_, count)| *count > 0).collect();
    Ok(Some(Value::Blocked {
        image: concat_blocked(&parts)?,
        channels: before + channels + behind,
    }))
}
