//! Elements of small integer tensors, from which other shapes are computed.

use super::rearrange::{axis_slices, permutation, shape_range};
use super::{Inferred, Inputs, MAX_KNOWN_INTEGERS, Stop, contradiction, normalized_axis};
use crate::model::graph::ElementType;
use crate::model::op::{Binary, Op, Reduction, Scalar, Unary, Variadic};

/// Elements of an integer or Boolean output of known shape, if the inputs are known exactly.
pub(super) fn evaluate(inputs: &Inputs<'_>, output: usize, shape: &[usize]) -> Option<Vec<i64>> {
    let elements = shape
        .iter()
        .try_fold(1usize, |product, length| product.checked_mul(*length))?;
    if elements > MAX_KNOWN_INTEGERS {
        return None;
    }
    let op = &inputs.node.op;
    if output > 0 && !matches!(op, Op::Split { .. }) {
        return None;
    }
    match op {
        Op::Shape { start, end } => {
            let source = inputs.shape(0).ok()?;
            let range = shape_range(source.len(), *start, *end);
            Some(
                source
                    .get(range)?
                    .iter()
                    .map(|length| *length as i64)
                    .collect(),
            )
        }
        Op::ConstantOfShape { value } => match value {
            Scalar::I64(value) => Some(vec![*value; elements]),
            Scalar::Bool(value) => Some(vec![i64::from(*value); elements]),
            Scalar::F32(_) => None,
        },
        Op::Range => range(inputs, elements),
        Op::Identity | Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze | Op::Unsqueeze => {
            inputs.integers(0).ok().map(<[i64]>::to_vec)
        }
        Op::Cast { to } => cast(inputs.integers(0).ok()?, *to),
        Op::Unary(unary) => {
            let source = inputs.integers(0).ok()?;
            source
                .iter()
                .map(|value| unary_of(*unary, *value))
                .collect()
        }
        Op::Binary(_) | Op::Variadic(_) | Op::Where => elementwise(inputs, shape),
        Op::Reduce { reduction, .. } => reduce_all(inputs, *reduction, elements),
        _ => moved(inputs, output, shape),
    }
}

/// Number of elements of `Range`.
pub(super) fn range_length(inputs: &Inputs<'_>) -> Inferred<usize> {
    let (&[start], &[limit], &[delta]) = (
        inputs.integers(0)?,
        inputs.integers(1)?,
        inputs.integers(2)?,
    ) else {
        return contradiction("start, limit and delta must be scalars");
    };
    if delta == 0 {
        return contradiction("a delta of 0");
    }
    let distance = i128::from(limit) - i128::from(start);
    if distance == 0 || (distance > 0) != (delta > 0) {
        return Ok(0);
    }
    let steps = distance
        .unsigned_abs()
        .div_ceil(i128::from(delta).unsigned_abs());
    usize::try_from(steps).ok().ok_or(Stop::Unknown)
}

fn range(inputs: &Inputs<'_>, elements: usize) -> Option<Vec<i64>> {
    let start = *inputs.integers(0).ok()?.first()?;
    let delta = *inputs.integers(2).ok()?.first()?;
    (0..elements as i64)
        .map(|index| start.checked_add(index.checked_mul(delta)?))
        .collect()
}

fn cast(source: &[i64], to: ElementType) -> Option<Vec<i64>> {
    match to {
        ElementType::I64 => Some(source.to_vec()),
        ElementType::I32 => source
            .iter()
            .map(|value| i32::try_from(*value).ok().map(i64::from))
            .collect(),
        ElementType::Bool => Some(source.iter().map(|value| i64::from(*value != 0)).collect()),
        _ => None,
    }
}

fn unary_of(op: Unary, value: i64) -> Option<i64> {
    match op {
        Unary::Abs => value.checked_abs(),
        Unary::Neg => value.checked_neg(),
        Unary::Not => Some(i64::from(value == 0)),
        Unary::Sign => Some(value.signum()),
        Unary::Relu => Some(value.max(0)),
        _ => None,
    }
}

/// `a op b` on integers; division truncates, and the remainder of `fmod = 0` has the divisor's sign.
fn binary_of(op: Binary, a: i64, b: i64) -> Option<i64> {
    match op {
        Binary::Add => a.checked_add(b),
        Binary::And => Some(i64::from(a != 0 && b != 0)),
        Binary::Div => a.checked_div(b),
        Binary::Equal => Some(i64::from(a == b)),
        Binary::Greater => Some(i64::from(a > b)),
        Binary::GreaterOrEqual => Some(i64::from(a >= b)),
        Binary::Less => Some(i64::from(a < b)),
        Binary::LessOrEqual => Some(i64::from(a <= b)),
        Binary::Mod { fmod: true } => a.checked_rem(b),
        Binary::Mod { fmod: false } => {
            let remainder = a.checked_rem(b)?;
            Some(if remainder != 0 && (remainder < 0) != (b < 0) {
                remainder + b
            } else {
                remainder
            })
        }
        Binary::Mul => a.checked_mul(b),
        Binary::Or => Some(i64::from(a != 0 || b != 0)),
        Binary::Pow => a.checked_pow(u32::try_from(b).ok()?),
        Binary::PRelu => None,
        Binary::Sub => a.checked_sub(b),
    }
}

fn elementwise(inputs: &Inputs<'_>, shape: &[usize]) -> Option<Vec<i64>> {
    let operands: Vec<(&[usize], &[i64])> = (0..inputs.node.inputs.len())
        .map(|index| Some((inputs.shape(index).ok()?, inputs.integers(index).ok()?)))
        .collect::<Option<_>>()?;
    collect(shape, |at| {
        let mut values = operands
            .iter()
            .map(|(shape, data)| data.get(broadcast_offset(shape, at)?).copied());
        let first = values.next()??;
        match &inputs.node.op {
            Op::Binary(op) => binary_of(*op, first, values.next()??),
            Op::Where => {
                let (yes, no) = (values.next()??, values.next()??);
                Some(if first == 0 { no } else { yes })
            }
            Op::Variadic(op) => values.try_fold(first, |total, value| match op {
                Variadic::Max => Some(total.max(value?)),
                Variadic::Min => Some(total.min(value?)),
                Variadic::Sum => total.checked_add(value?),
                Variadic::Mean => None,
            }),
            _ => None,
        }
    })
}

fn reduce_all(inputs: &Inputs<'_>, reduction: Reduction, elements: usize) -> Option<Vec<i64>> {
    let source = inputs.integers(0).ok()?;
    if elements != 1 || source.is_empty() {
        return None;
    }
    let mut values = source.iter().copied();
    let reduced = match reduction {
        Reduction::Max => values.max(),
        Reduction::Min => values.min(),
        Reduction::Prod => values.try_fold(1i64, i64::checked_mul),
        Reduction::Sum => values.try_fold(0i64, i64::checked_add),
        Reduction::L2 | Reduction::Mean | Reduction::SumSquare => None,
    };
    Some(vec![reduced?])
}

/// Elements of operators that only move elements.
fn moved(inputs: &Inputs<'_>, output: usize, shape: &[usize]) -> Option<Vec<i64>> {
    let (source_shape, source) = (inputs.shape(0).ok()?, inputs.integers(0).ok()?);
    let element = |at: &[usize]| source.get(offset(source_shape, at)?).copied();
    match &inputs.node.op {
        Op::Expand => collect(shape, |at| {
            source.get(broadcast_offset(source_shape, at)?).copied()
        }),
        Op::Transpose { perm } => {
            let perm = permutation(source_shape.len(), perm.as_deref()).ok()?;
            let mut from = vec![0; perm.len()];
            collect(shape, |at| {
                for (axis, index) in perm.iter().zip(at) {
                    *from.get_mut(*axis)? = *index;
                }
                element(&from)
            })
        }
        Op::Slice => {
            let slices = axis_slices(inputs).ok()?;
            collect(shape, |at| {
                let from: Option<Vec<usize>> = slices
                    .iter()
                    .zip(at)
                    .map(|(slice, index)| {
                        let step = slice.step.checked_mul(*index as i64)?;
                        usize::try_from(slice.start.checked_add(step)?).ok()
                    })
                    .collect();
                element(&from?)
            })
        }
        Op::Tile => collect(shape, |at| {
            let from: Vec<usize> = at.iter().zip(source_shape).map(|(i, n)| i % n).collect();
            element(&from)
        }),
        Op::Split { axis } => {
            let axis = normalized_axis(*axis, shape.len()).ok()?;
            let before = inputs.node.outputs.get(..output)?;
            let skipped: usize = match inputs.optional_integers(1).ok()? {
                Some(parts) => parts.get(..output)?.iter().map(|part| *part as usize).sum(),
                None => before.len() * source_shape.get(axis)?.div_ceil(inputs.node.outputs.len()),
            };
            collect(shape, |at| {
                let mut from = at.to_vec();
                *from.get_mut(axis)? += skipped;
                element(&from)
            })
        }
        Op::Gather { axis } => gathered(inputs, *axis, shape),
        Op::Concat { axis } => joined(inputs, *axis, shape),
        _ => None,
    }
}

fn gathered(inputs: &Inputs<'_>, axis: i64, shape: &[usize]) -> Option<Vec<i64>> {
    let (source_shape, source) = (inputs.shape(0).ok()?, inputs.integers(0).ok()?);
    let (index_shape, indices) = (inputs.shape(1).ok()?, inputs.integers(1).ok()?);
    let axis = normalized_axis(axis, source_shape.len()).ok()?;
    collect(shape, |at| {
        let (outer, rest) = at.split_at_checked(axis)?;
        let (middle, inner) = rest.split_at_checked(index_shape.len())?;
        let index = *indices.get(offset(index_shape, middle)?)?;
        let index = normalized_axis(index, *source_shape.get(axis)?).ok()?;
        let from = [outer, &[index], inner].concat();
        source.get(offset(source_shape, &from)?).copied()
    })
}

fn joined(inputs: &Inputs<'_>, axis: i64, shape: &[usize]) -> Option<Vec<i64>> {
    let axis = normalized_axis(axis, shape.len()).ok()?;
    let parts: Vec<(&[usize], &[i64])> = (0..inputs.node.inputs.len())
        .map(|index| Some((inputs.shape(index).ok()?, inputs.integers(index).ok()?)))
        .collect::<Option<_>>()?;
    collect(shape, |at| {
        let mut from = at.to_vec();
        for (part_shape, data) in &parts {
            let length = *part_shape.get(axis)?;
            if *from.get(axis)? < length {
                return data.get(offset(part_shape, &from)?).copied();
            }
            *from.get_mut(axis)? -= length;
        }
        None
    })
}

/// Calls `element` with each index of a tensor in row-major order.
fn collect(shape: &[usize], mut element: impl FnMut(&[usize]) -> Option<i64>) -> Option<Vec<i64>> {
    let elements: usize = shape.iter().product();
    let mut at = vec![0; shape.len()];
    let mut data = Vec::with_capacity(elements);
    for _ in 0..elements {
        data.push(element(&at)?);
        for (index, length) in at.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < *length {
                break;
            }
            *index = 0;
        }
    }
    Some(data)
}

/// Row-major position of an index.
fn offset(shape: &[usize], at: &[usize]) -> Option<usize> {
    if shape.len() != at.len() {
        return None;
    }
    shape
        .iter()
        .zip(at)
        .try_fold(0usize, |offset, (length, index)| {
            if index >= length {
                return None;
            }
            offset.checked_mul(*length)?.checked_add(*index)
        })
}

/// Position in an operand that is broadcast to the index `at`.
fn broadcast_offset(shape: &[usize], at: &[usize]) -> Option<usize> {
    let aligned = at.get(at.len().checked_sub(shape.len())?..)?;
    let from: Vec<usize> = shape
        .iter()
        .zip(aligned)
        .map(|(length, index)| if *length == 1 { 0 } else { *index })
        .collect();
    offset(shape, &from)
}
