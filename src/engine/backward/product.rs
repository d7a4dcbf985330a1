//! Gradients of matrix products of two computed matrices.

use candle_core::Tensor;

use super::node::{Passed, summed_to};
use crate::engine::error::OpError;
use crate::engine::ops;
use crate::engine::value::Value;
use crate::model::Op;

fn product(a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let inputs = [Some(a.contiguous()?), Some(b.contiguous()?)];
    let mut outputs = ops::evaluate(&Op::MatMul, &inputs, 1)?;
    outputs.pop().ok_or(OpError::MissingInput(0))
}

/// `y = a·b`:  `∂a = ∂y·bᵀ`, `∂b = aᵀ·∂y`, summed over repeated leading axes.
pub(super) fn matmul(passed: &Passed<'_>, needed: &[bool]) -> Result<Vec<Option<Value>>, OpError> {
    let gradient = passed.gradient()?.plain()?;
    let (a, b) = (passed.plain(0)?, passed.plain(1)?);
    if a.rank() < 2 || b.rank() < 2 {
        return Err(OpError::Unsupported {
            reason: "the gradient of a product with a vector is not implemented; use the measured sweep instead".to_owned(),
        });
    }
    let mut gradients = vec![None, None];
    if needed[0] {
        let first = product(&gradient, &b.t()?)?;
        gradients[0] = Some(summed_to(&first, a.dims())?.into());
    }
    if needed.get(1) == Some(&true) {
        let second = product(&a.t()?, &gradient)?;
        gradients[1] = Some(summed_to(&second, b.dims())?.into());
    }
    Ok(gradients)
}

/// `y = α·op(a)·op(b) + β·c`.
pub(super) fn gemm(passed: &Passed<'_>, needed: &[bool]) -> Result<Vec<Option<Value>>, OpError> {
    let &Op::Gemm {
        alpha,
        beta,
        trans_a,
        trans_b,
    } = &passed.node.op
    else {
        return Err(OpError::MissingInput(0));
    };
    let gradient = passed.gradient()?.plain()?;
    let oriented = |matrix: Tensor, transposed: bool| -> Result<Tensor, OpError> {
        Ok(if transposed { matrix.t()? } else { matrix })
    };
    let mut gradients = vec![None; needed.len()];
    if needed[0] {
        let b = oriented(passed.plain(1)?, !trans_b)?;
        let first = oriented((product(&gradient, &b)? * f64::from(alpha))?, trans_a)?;
        gradients[0] = Some(first.contiguous()?.into());
    }
    if needed.get(1) == Some(&true) {
        let a = oriented(passed.plain(0)?, !trans_a)?;
        let second = oriented((product(&a, &gradient)? * f64::from(alpha))?, trans_b)?;
        gradients[1] = Some(second.contiguous()?.into());
    }
    if needed.get(2) == Some(&true) {
        let third = (gradient * f64::from(beta))?;
        gradients[2] = Some(summed_to(&third, &passed.input(2)?.dims())?.into());
    }
    Ok(gradients)
}
