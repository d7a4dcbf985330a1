//! Operators that give the numbers of PyTorch on a CPU, bit for bit.

use candle_core::{DType, Tensor};

use super::Inputs;
use super::elements::mapped;
use crate::engine::error::OpError;
use crate::engine::kernels::pytorch::sigmoid;
use crate::model::{Op, Unary};

/// The output of an operator that is computed in a way of its own; `None` for all others.
///
/// # Errors
/// An input is missing.
pub(in crate::engine) fn evaluate(
    op: &Op,
    inputs: &[Option<Tensor>],
) -> Result<Option<Tensor>, OpError> {
    let x = Inputs(inputs).required(0)?;
    match op {
        Op::Unary(Unary::Sigmoid) if x.dtype() == DType::F32 => mapped(x, sigmoid).map(Some),
        _ => Ok(None),
    }
}
