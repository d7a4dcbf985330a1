//! Operators that give the numbers of `OpenVINO`'s CPU plugin, bit for bit.

use candle_core::{DType, Tensor};

use super::Inputs;
use super::elements::{mapped, tensor};
use crate::engine::error::OpError;
use crate::engine::kernels::openvino::{plane_means, sigmoid};
use crate::model::{Op, Unary};

/// The output of an operator that is computed in a way of its own; `None` for all others.
///
/// # Errors
/// Inputs that do not fit the operator.
pub(in crate::engine) fn evaluate(
    op: &Op,
    inputs: &[Option<Tensor>],
) -> Result<Option<Tensor>, OpError> {
    let inputs = &Inputs(inputs);
    let x = inputs.required(0)?;
    if x.dtype() != DType::F32 {
        return Ok(None);
    }
    match (op, x.dims()) {
        (Op::Unary(Unary::Sigmoid), _) => mapped(x, sigmoid).map(Some),
        (Op::GlobalAveragePool, &[batch, channels, height, width]) => {
            let values = x.flatten_all()?.to_vec1::<f32>()?;
            let means = plane_means(&values, channels, [height, width]);
            tensor(means, &[batch, channels, 1, 1]).map(Some)
        }
        _ => Ok(None),
    }
}
