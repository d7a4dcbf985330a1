//! Gradients of reductions over axes.

use super::node::{Passed, map, zip_tensors};
use crate::engine::error::OpError;
use crate::engine::value::Value;
use crate::model::{Op, Reduction};

/// The gradient of input 0.
pub(super) fn reduce(passed: &Passed<'_>) -> Result<Value, OpError> {
    let &Op::Reduce {
        reduction,
        noop_with_empty_axes,
        ..
    } = &passed.node.op
    else {
        return Err(OpError::MissingInput(0));
    };
    let x = passed.plain(0)?;
    let listed: Vec<i64> = match passed.optional(1) {
        Some(axes) => axes.plain()?.flatten_all()?.to_vec1()?,
        None => Vec::new(),
    };
    let all = listed.is_empty() && !noop_with_empty_axes;
    let rank = x.rank() as i64;
    let mut kept = x.dims().to_vec();
    let mut length = 1;
    for (axis, size) in (0i64..).zip(&mut kept) {
        if all || listed.contains(&axis) || listed.contains(&(axis - rank)) {
            length *= *size;
            *size = 1;
        }
    }
    let gradient = passed.gradient()?.plain()?.contiguous()?;
    let repeated = gradient
        .reshape(kept.as_slice())?
        .broadcast_as(x.dims())?
        .contiguous()?;
    Ok(match reduction {
        Reduction::Sum => repeated,
        Reduction::Mean => map(&repeated, |g| g / length as f32)?,
        Reduction::SumSquare => zip_tensors(&repeated, &x, |g, x| 2.0 * x * g)?,
        Reduction::L2 => {
            let y = passed.output()?.plain()?.contiguous()?;
            let y = y.reshape(kept.as_slice())?.broadcast_as(x.dims())?;
            let ratio = zip_tensors(
                &x,
                &y.contiguous()?,
                |x, y| if y == 0.0 { 0.0 } else { x / y },
            )?;
            zip_tensors(&repeated, &ratio, |g, r| g * r)?
        }
        Reduction::Max | Reduction::Min | Reduction::Prod => {
            return Err(OpError::Unsupported {
                reason: format!("the gradient of {} is not implemented", reduction.name()),
            });
        }
    }
    .into())
}
