//! Gradients of element-wise operators.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use candle_core::Tensor;

use super::node::{Passed, map, summed_to, zip, zip_tensors};
use crate::engine::error::OpError;
use crate::engine::value::Value;
use crate::model::{Binary, Op, Unary, Variadic};

/// The gradient of input 0 of an operator of one argument.
pub(super) fn of_one(passed: &Passed<'_>) -> Result<Value, OpError> {
    let gradient = passed.gradient()?;
    Ok(match &passed.node.op {
        Op::Unary(op) => unary(*op, gradient, passed)?,
        Op::Clip => {
            let bound = |index, default: f32| -> Result<f32, OpError> {
                match passed.optional(index) {
                    Some(value) => Ok(value.plain()?.flatten_all()?.get(0)?.to_scalar()?),
                    None => Ok(default),
                }
            };
            let (min, max) = (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?);
            let inside = |x: f32| min <= x && x <= max;
            zip(
                gradient,
                &passed.input(0)?,
                |g, x| {
                    if inside(x) { g } else { 0.0 }
                },
            )?
        }
        _ => gradient.clone(),
    })
}

/// The slope follows from the output where it can, and else from the input.
fn unary(op: Unary, gradient: &Value, passed: &Passed<'_>) -> Result<Value, OpError> {
    let output = || passed.output();
    Ok(match op {
        Unary::Neg => zip(gradient, gradient, |g, _| -g)?,
        Unary::Relu => zip(gradient, &output()?, |g, y| if y > 0.0 { g } else { 0.0 })?,
        Unary::Sigmoid => zip(gradient, &output()?, |g, y| g * y * (1.0 - y))?,
        Unary::Tanh => zip(gradient, &output()?, |g, y| g * (1.0 - y * y))?,
        Unary::Exp => zip(gradient, &output()?, |g, y| g * y)?,
        Unary::Sqrt => zip(gradient, &output()?, |g, y| g * 0.5 / y)?,
        Unary::Reciprocal => zip(gradient, &output()?, |g, y| -g * y * y)?,
        Unary::LeakyRelu { alpha } => zip(gradient, &passed.input(0)?, |g, x| {
            if x < 0.0 { g * alpha } else { g }
        })?,
        op => zip(gradient, &passed.input(0)?, |g, x| g * slope(op, x))?,
    })
}

/// Derivatives at the input; 0 where the operator is constant in pieces.
fn slope(op: Unary, x: f32) -> f32 {
    match op {
        Unary::Abs => x.signum(),
        Unary::Elu { alpha } => {
            if x < 0.0 {
                alpha * x.exp()
            } else {
                1.0
            }
        }
        Unary::Erf => FRAC_2_SQRT_PI * (-x * x).exp(),
        Unary::Gelu {
            tanh_approximation: false,
        } => {
            // Φ(x) + x·φ(x).
            let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (-0.5 * x * x).exp();
            0.5 * (1.0 + erf(x * FRAC_1_SQRT_2)) + x * density
        }
        Unary::Gelu {
            tanh_approximation: true,
        } => {
            let root = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
            let t = (root * (x + 0.044_715 * x * x * x)).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044_715 * x * x)
        }
        Unary::HardSigmoid { alpha, beta } if (0.0..=1.0).contains(&(alpha * x + beta)) => alpha,
        Unary::HardSwish => {
            if x <= -3.0 {
                0.0
            } else if x >= 3.0 {
                1.0
            } else {
                x / 3.0 + 0.5
            }
        }
        Unary::Log => 1.0 / x,
        Unary::Softplus => 1.0 / (1.0 + (-x).exp()),
        _ => 0.0,
    }
}

/// From the series and the continued fraction that [`Unary::Gelu`] is computed with.
fn erf(x: f32) -> f32 {
    crate::engine::ops::math::erf(x)
}

/// The gradients of both inputs.
pub(super) fn binary(
    op: Binary,
    passed: &Passed<'_>,
    needed: &[bool],
) -> Result<Vec<Option<Value>>, OpError> {
    let gradient = passed.gradient()?;
    let (a, b) = (passed.input(0)?, passed.input(1)?);
    if a.dims() == b.dims() && matches!(op, Binary::Add | Binary::Sub) {
        let second = match op {
            Binary::Add => gradient.clone(),
            _ => zip(gradient, gradient, |g, _| -g)?,
        };
        return Ok(vec![Some(gradient.clone()), Some(second)]);
    }
    let gradient = gradient.plain()?;
    let dims = [a.dims(), b.dims()];
    let shape = gradient.dims();
    let repeated = |value: &Value| -> Result<Tensor, OpError> {
        Ok(value.plain()?.broadcast_as(shape)?.contiguous()?)
    };
    let (a, b) = (repeated(&a)?, repeated(&b)?);
    let times = |factor: &Tensor| zip_tensors(&gradient, factor, |g, f| g * f);
    let first = match op {
        Binary::Add | Binary::Sub => gradient.clone(),
        Binary::Mul => times(&b)?,
        Binary::Div => zip_tensors(&gradient, &b, |g, b| g / b)?,
        Binary::Pow => times(&zip_tensors(&a, &b, |a, b| b * a.powf(b - 1.0))?)?,
        Binary::PRelu => times(&zip_tensors(&a, &b, |a, b| if a < 0.0 { b } else { 1.0 })?)?,
        _ => return Err(no_rule(passed)),
    };
    let mut gradients = vec![Some(Value::from(summed_to(&first, &dims[0])?)), None];
    if needed.get(1) == Some(&true) {
        let second = match op {
            Binary::Add => gradient.clone(),
            Binary::Sub => map(&gradient, |g| -g)?,
            Binary::Mul => times(&a)?,
            Binary::Div => times(&zip_tensors(&a, &b, |a, b| -a / (b * b))?)?,
            _ => return Err(no_rule(passed)),
        };
        gradients[1] = Some(summed_to(&second, &dims[1])?.into());
    }
    Ok(gradients)
}

/// The gradients of all inputs of a sum or a mean.
pub(super) fn variadic(
    op: Variadic,
    passed: &Passed<'_>,
    needed: &[bool],
) -> Result<Vec<Option<Value>>, OpError> {
    let factor = match op {
        Variadic::Sum => 1.0,
        Variadic::Mean => 1.0 / needed.len().max(1) as f32,
        Variadic::Max | Variadic::Min => return Err(no_rule(passed)),
    };
    let gradient = map(&passed.gradient()?.plain()?, |g| g * factor)?;
    (0..needed.len())
        .map(|index| {
            if !needed[index] {
                return Ok(None);
            }
            let dims = passed.input(index)?.dims();
            Ok(Some(summed_to(&gradient, &dims)?.into()))
        })
        .collect()
}

fn no_rule(passed: &Passed<'_>) -> OpError {
    OpError::Unsupported {
        reason: format!(
            "the gradient of {} to this input is not implemented; use the measured sweep instead",
            passed.node.op.name()
        ),
    }
}
