//! Functions of single elements of constants.

use candle_core::{DType, Device, Tensor, WithDType};

use super::movement::{Walk, broadcast_dims};
use super::{ElementType, Inputs, Unary};
use crate::model::{Binary, Variadic};

fn elements<T: WithDType>(tensor: &Tensor) -> Option<Vec<T>> {
    tensor.flatten_all().ok()?.to_vec1().ok()
}

fn mapped<T: WithDType, U: WithDType>(x: &Tensor, f: impl Fn(T) -> U) -> Option<Tensor> {
    let results: Vec<U> = elements(x)?.into_iter().map(f).collect();
    Tensor::from_vec(results, x.dims(), &Device::Cpu).ok()
}

/// Floats to integers truncate toward zero and saturate; integers to narrower ones wrap.
pub(super) fn cast(x: &Tensor, to: ElementType, inputs: &Inputs<'_>) -> Option<Tensor> {
    inputs.affordable(x.dims().to_vec())?;
    match (x.dtype(), to) {
        (DType::F32, ElementType::Bool) => mapped(x, |v: f32| u8::from(v != 0.0)),
        (DType::I64, ElementType::Bool) => mapped(x, |v: i64| u8::from(v != 0)),
        (DType::U8, ElementType::Bool) => Some(x.clone()),
        (DType::I64, _) if to.is_float() => mapped(x, |v: i64| v as f32),
        (DType::U8, _) if to.is_float() => mapped(x, |v: u8| f32::from(v)),
        (DType::F32, _) => mapped(x, |v: f32| wrapped(v as i64, to)),
        (DType::I64, _) => mapped(x, |v: i64| wrapped(v, to)),
        (DType::U8, _) => mapped(x, |v: u8| wrapped(i64::from(v), to)),
        _ => None,
    }
}

fn wrapped(value: i64, to: ElementType) -> i64 {
    match to {
        ElementType::I8 => i64::from(value as i8),
        ElementType::I16 => i64::from(value as i16),
        ElementType::I32 => i64::from(value as i32),
        ElementType::U8 => i64::from(value as u8),
        ElementType::U16 => i64::from(value as u16),
        ElementType::U32 => i64::from(value as u32),
        _ => value,
    }
}

pub(super) fn unary(op: Unary, x: &Tensor, inputs: &Inputs<'_>) -> Option<Tensor> {
    inputs.affordable(x.dims().to_vec())?;
    match (op, x.dtype()) {
        (Unary::Abs, DType::F32) => mapped(x, f32::abs),
        (Unary::Abs, DType::I64) => mapped(x, i64::wrapping_abs),
        (Unary::Ceil, DType::F32) => mapped(x, f32::ceil),
        (Unary::Exp, DType::F32) => mapped(x, f32::exp),
        (Unary::Floor, DType::F32) => mapped(x, f32::floor),
        (Unary::Log, DType::F32) => mapped(x, f32::ln),
        (Unary::Neg, DType::F32) => mapped(x, |v: f32| -v),
        (Unary::Neg, DType::I64) => mapped(x, i64::wrapping_neg),
        (Unary::Not, DType::U8) => mapped(x, |v: u8| u8::from(v == 0)),
        (Unary::Reciprocal, DType::F32) => mapped(x, f32::recip),
        (Unary::Round, DType::F32) => mapped(x, f32::round_ties_even),
        (Unary::Sqrt, DType::F32) => mapped(x, f32::sqrt),
        _ => None,
    }
}

/// Applies `f` to every pair of broadcast elements; `None` as soon as one pair has no result.
fn zipped<A: WithDType, B: WithDType, U: WithDType>(
    (a, b): (&Tensor, &Tensor),
    inputs: &Inputs<'_>,
    f: impl Fn(A, B) -> Option<U>,
) -> Option<Tensor> {
    let dims = inputs.affordable(broadcast_dims(a.dims(), b.dims())?)?;
    let (a_data, b_data): (Vec<A>, Vec<B>) = (elements(a)?, elements(b)?);
    let a_walk = Walk::broadcast(a.dims(), &dims).positions();
    let b_walk = Walk::broadcast(b.dims(), &dims).positions();
    let results: Vec<U> = a_walk
        .zip(b_walk)
        .map(|(at_a, at_b)| f(*a_data.get(at_a)?, *b_data.get(at_b)?))
        .collect::<Option<_>>()?;
    Tensor::from_vec(results, dims, &Device::Cpu).ok()
}

pub(super) fn binary(op: Binary, inputs: &Inputs<'_>) -> Option<Tensor> {
    let (a, b) = (inputs.get(0)?, inputs.get(1)?);
    let pair = (a, b);
    match (a.dtype(), b.dtype()) {
        (DType::F32, DType::F32) => match float_function(op) {
            Some(f) => zipped(pair, inputs, |a, b| Some(f(a, b))),
            None => zipped(pair, inputs, |a: f32, b: f32| compared(op, &a, &b)),
        },
        (DType::I64, DType::I64) => match op {
            Binary::Add
            | Binary::Sub
            | Binary::Mul
            | Binary::Div
            | Binary::Mod { .. }
            | Binary::Pow => zipped(pair, inputs, |a, b| integer_function(op, a, b)),
            _ => zipped(pair, inputs, |a: i64, b: i64| compared(op, &a, &b)),
        },
        (DType::U8, DType::U8) => zipped(pair, inputs, |a: u8, b: u8| match op {
            Binary::And => Some(a & b),
            Binary::Or => Some(a | b),
            Binary::Equal => Some(u8::from(a == b)),
            _ => None,
        }),
        (DType::F32, DType::I64) if op == Binary::Pow => {
            zipped(pair, inputs, |a: f32, b: i64| Some(a.powf(b as f32)))
        }
        _ => None,
    }
}

fn float_function(op: Binary) -> Option<fn(f32, f32) -> f32> {
    Some(match op {
        Binary::Add => |a, b| a + b,
        Binary::Sub => |a, b| a - b,
        Binary::Mul => |a, b| a * b,
        Binary::Div => |a, b| a / b,
        Binary::Pow => f32::powf,
        Binary::Mod { fmod: true } => |a, b| a % b,
        _ => return None,
    })
}

/// `None` where the operator defines no result, so that the node stays.
fn integer_function(op: Binary, a: i64, b: i64) -> Option<i64> {
    match op {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div => a.checked_div(b),
        Binary::Mod { fmod: true } => a.checked_rem(b),
        // The sign of the result is that of the divisor.
        Binary::Mod { fmod: false } => a.checked_rem(b).map(|rest| {
            if rest != 0 && (rest < 0) != (b < 0) {
                rest + b
            } else {
                rest
            }
        }),
        Binary::Pow => a.checked_pow(u32::try_from(b).ok()?),
        _ => None,
    }
}

fn compared<T: PartialOrd>(op: Binary, a: &T, b: &T) -> Option<u8> {
    let holds = match op {
        Binary::Equal => a == b,
        Binary::Greater => a > b,
        Binary::GreaterOrEqual => a >= b,
        Binary::Less => a < b,
        Binary::LessOrEqual => a <= b,
        _ => return None,
    };
    Some(u8::from(holds))
}

pub(super) fn variadic(op: Variadic, inputs: &Inputs<'_>) -> Option<Tensor> {
    let tensors = inputs.all()?;
    let (first, rest) = tensors.split_first()?;
    let mut result = (*first).clone();
    for next in rest {
        let pair = (&result, *next);
        result = match (op, result.dtype(), next.dtype()) {
            (Variadic::Max, DType::I64, DType::I64) => {
                zipped(pair, inputs, |a: i64, b: i64| Some(a.max(b)))
            }
            (Variadic::Min, DType::I64, DType::I64) => {
                zipped(pair, inputs, |a: i64, b: i64| Some(a.min(b)))
            }
            (Variadic::Sum, DType::I64, DType::I64) => zipped(pair, inputs, i64::checked_add),
            (Variadic::Sum, DType::F32, DType::F32) => {
                zipped(pair, inputs, |a: f32, b: f32| Some(a + b))
            }
            _ => None,
        }?;
    }
    Some(result)
}

/// `Where`: the condition picks between two broadcast tensors.
pub(super) fn select(inputs: &Inputs<'_>) -> Option<Tensor> {
    let (condition, a, b) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
    match (a.dtype(), b.dtype()) {
        (DType::F32, DType::F32) => selected::<f32>(condition, a, b, inputs),
        (DType::I64, DType::I64) => selected::<i64>(condition, a, b, inputs),
        (DType::U8, DType::U8) => selected::<u8>(condition, a, b, inputs),
        _ => None,
    }
}

fn selected<T: WithDType>(
    condition: &Tensor,
    a: &Tensor,
    b: &Tensor,
    inputs: &Inputs<'_>,
) -> Option<Tensor> {
    let dims = broadcast_dims(a.dims(), b.dims())?;
    let dims = inputs.affordable(broadcast_dims(condition.dims(), &dims)?)?;
    let flags: Vec<u8> = elements(condition)?;
    let (a_data, b_data): (Vec<T>, Vec<T>) = (elements(a)?, elements(b)?);
    let walk = |tensor: &Tensor| Walk::broadcast(tensor.dims(), &dims).positions();
    let results: Vec<T> = walk(condition)
        .zip(walk(a).zip(walk(b)))
        .map(|(at, (at_a, at_b))| match flags.get(at)? {
            0 => b_data.get(at_b).copied(),
            _ => a_data.get(at_a).copied(),
        })
        .collect::<Option<_>>()?;
    Tensor::from_vec(results, dims, &Device::Cpu).ok()
}
