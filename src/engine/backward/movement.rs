//! Gradients of operators that move elements without changing them.
//!
//! Run on the places of its input's elements instead of the elements, such an operator tells where each
//! element of the output came from; the gradient goes back there.

use candle_core::{Device, Tensor};

use super::node::Passed;
use crate::engine::error::OpError;
use crate::engine::ops;
use crate::engine::slices::with_f32;
use crate::engine::value::Value;
use crate::model::{Op, PadMode};

/// Integers up to here are exact in `f32`.
const MOST_PLACES: usize = 1 << 24;

/// The gradients of the inputs that are moved.
pub(super) fn movement(
    passed: &Passed<'_>,
    needed: &[bool],
) -> Result<Vec<Option<Value>>, OpError> {
    match &passed.node.op {
        Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze => {
            let dims = passed.input(0)?.dims();
            let gradient = passed.gradient()?.plain()?.contiguous()?;
            Ok(vec![Some(gradient.reshape(dims)?.into())])
        }
        Op::Concat { axis } => concat(*axis, passed),
        Op::Where => {
            let parts = [1, 2].map(|index| {
                if needed.get(index) == Some(&true) {
                    by_places(passed, index).map(Some)
                } else {
                    Ok(None)
                }
            });
            let [first, second] = parts;
            Ok(vec![None, first?, second?])
        }
        Op::Slice
        | Op::Gather { .. }
        | Op::Split { .. }
        | Op::Expand
        | Op::Tile
        | Op::Transpose { .. }
        | Op::Resize(_)
        | Op::Pad { .. } => Ok(vec![Some(by_places(passed, 0)?)]),
        other => Err(OpError::Unsupported {
            reason: format!(
                "the gradient of {} is not implemented; use the measured sweep instead",
                other.name()
            ),
        }),
    }
}

fn concat(axis: i64, passed: &Passed<'_>) -> Result<Vec<Option<Value>>, OpError> {
    let gradient = passed.gradient()?.plain()?;
    let rank = gradient.rank() as i64;
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis })
        .map_err(|_| OpError::Shape(format!("axis {axis} does not exist")))?;
    let mut start = 0;
    (0..passed.node.inputs.len())
        .map(|index| {
            let dims = passed.input(index)?.dims();
            let length = dims.get(axis).copied().unwrap_or(0);
            let part = gradient.narrow(axis, start, length)?.contiguous()?;
            start += length;
            Ok(Some(part.into()))
        })
        .collect()
}

/// Runs the operator on places, counted from 1 so that 0 is what comes from elsewhere.
fn by_places(passed: &Passed<'_>, index: usize) -> Result<Value, OpError> {
    let dims = passed.input(index)?.dims();
    let count: usize = dims.iter().product();
    if count > MOST_PLACES {
        return Err(OpError::TooLarge {
            shape: dims,
            limit: MOST_PLACES,
        });
    }
    let mut inputs = passed.plain_inputs()?;
    let places: Vec<f32> = (1..=count).map(|place| place as f32).collect();
    for (other, input) in inputs.iter_mut().enumerate() {
        let is_moved = other == 0 || matches!(passed.node.op, Op::Where);
        if let (true, Some(tensor)) = (is_moved && other != index, input.as_ref())
            && tensor.dtype() == candle_core::DType::F32
        {
            *input = Some(tensor.zeros_like()?);
        }
    }
    if matches!(
        passed.node.op,
        Op::Pad {
            mode: PadMode::Constant
        }
    ) && let Some(value) = inputs.get_mut(2)
    {
        *value = None;
    }
    inputs[index] = Some(Tensor::from_vec(places, dims.as_slice(), &Device::Cpu)?);
    let outputs = ops::evaluate(&passed.node.op, &inputs, passed.gradients.len())?;
    let mut sums = vec![0.0f32; count + 1];
    for (moved, gradient) in outputs.iter().zip(passed.gradients) {
        let Some(gradient) = gradient else { continue };
        with_f32(moved, |moved| {
            with_f32(&gradient.plain()?, |gradient| {
                for (place, value) in moved.iter().zip(gradient) {
                    if let Some(sum) = sums.get_mut(*place as usize) {
                        *sum += value;
                    }
                }
                Ok(())
            })
        })?;
    }
    sums.remove(0);
    Ok(Tensor::from_vec(sums, dims.as_slice(), &Device::Cpu)?.into())
}
