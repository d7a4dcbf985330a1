//! `Pad`.

use candle_core::{Tensor, WithDType};

use super::Inputs;
use super::elements::{
    Elements, axis_index, buffer, checked_elements, fill_rows, for_type, tensor,
};
use super::strided::contiguous_strides;
use crate::engine::error::OpError;
use crate::model::PadMode;

/// Input 0 longer (or, where a pad is negative, shorter) at both ends of its axes.
///
/// Input 1 holds the pads, all begins before all ends; input 2 the constant; input 3 the axes.
pub(super) fn pad(mode: PadMode, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?.contiguous()?;
    let pads = inputs.integers(1)?;
    let axes = match inputs.optional_integers(3)? {
        Some(axes) => axes,
        None => (0..x.rank() as i64).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(OpError::Shape(format!(
            "{} pads for {} axes, expected {}",
            pads.len(),
            axes.len(),
            2 * axes.len()
        )));
    }
    let mut ends = vec![(0i64, 0i64); x.rank()];
    for (k, &axis) in axes.iter().enumerate() {
        ends[axis_index(axis, x.rank())?] = (pads[k], pads[k + axes.len()]);
    }
    let mut shape = Vec::with_capacity(x.rank());
    for (&length, &(begin, end)) in x.dims().iter().zip(&ends) {
        shape.push(padded_length(length, begin, end)?);
    }
    checked_elements(&shape)?;
    let mut sources = Vec::with_capacity(x.rank());
    for ((&length, &(begin, _)), &padded) in x.dims().iter().zip(&ends).zip(&shape) {
        sources.push(axis_sources(mode, length, begin, padded)?);
    }
    for_type!(x.dtype(), pad_typed(&x, &sources, &shape, inputs))
}

fn padded_length(length: usize, begin: i64, end: i64) -> Result<usize, OpError> {
    begin
        .checked_add(end)
        .and_then(|sum| sum.checked_add(length as i64))
        .and_then(|padded| usize::try_from(padded).ok())
        .ok_or_else(|| {
            OpError::Shape(format!(
                "pads {begin} and {end} do not fit an axis of length {length}"
            ))
        })
}

/// The input index behind every output index of an axis; `None` is the constant.
fn axis_sources(
    mode: PadMode,
    length: usize,
    begin: i64,
    padded: usize,
) -> Result<Vec<Option<usize>>, OpError> {
    let last = length as i64 - 1;
    (0..padded as i64)
        .map(|place| {
            let index = place.checked_sub(begin);
            let Some(index) = index.filter(|_| length > 0 || mode == PadMode::Constant) else {
                return Err(OpError::Shape(format!(
                    "an axis of length {length} cannot be padded by {begin}"
                )));
            };
            let source = match mode {
                _ if (0..=last).contains(&index) => index,
                PadMode::Constant => return Ok(None),
                PadMode::Edge => index.clamp(0, last),
                PadMode::Wrap => index.rem_euclid(length as i64),
                PadMode::Reflect if last == 0 => 0,
                PadMode::Reflect => {
                    let folded = index.rem_euclid(2 * last);
                    folded.min(2 * last - folded)
                }
            };
            Ok(Some(source as usize))
        })
        .collect()
}

fn pad_typed<T: WithDType>(
    x: &Tensor,
    sources: &[Vec<Option<usize>>],
    shape: &[usize],
    inputs: &Inputs<'_>,
) -> Result<Tensor, OpError> {
    let constant = match inputs.optional(2) {
        Some(value) if value.dtype() == x.dtype() => inputs.scalar::<T>(2)?,
        Some(_) => return Err(inputs.wrong_type(2, "the type of input 0")),
        None => T::from_f64(0.0),
    };
    let Some((columns, outer)) = sources.split_last() else {
        return Ok(x.clone());
    };
    let elements = Elements::of(x)?;
    let source: &[T] = elements.as_slice()?;
    let strides = contiguous_strides(x.dims());
    let row_of = |mut row: usize| {
        let mut start = 0;
        for (axis, indices) in outer.iter().enumerate().rev() {
            start += indices[row % indices.len()]? * strides[axis] as usize;
            row /= indices.len();
        }
        Some(start)
    };
    let mut out: Vec<T> = buffer(shape)?;
    fill_rows(columns.len(), columns.len(), &mut out, |row, values| {
        let start = row_of(row);
        for (value, column) in values.iter_mut().zip(columns) {
            *value = match (start, column) {
                (Some(start), Some(column)) => source[start + column],
                _ => constant,
            };
        }
    });
    tensor(out, shape)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::Op;

    fn vector(values: &[i64]) -> Tensor {
        i64s(&[values.len()], values)
    }

    #[test]
    fn modes_fill_a_row() {
        let x = vector(&[1, 2, 3]);
        type Case = (PadMode, &'static [i64], &'static [i64]);
        let cases: [Case; 9] = [
            (PadMode::Constant, &[2, 1], &[0, 0, 1, 2, 3, 0]),
            (PadMode::Edge, &[2, 1], &[1, 1, 1, 2, 3, 3]),
            (PadMode::Reflect, &[2, 1], &[3, 2, 1, 2, 3, 2]),
            (PadMode::Reflect, &[0, 5], &[1, 2, 3, 2, 1, 2, 3, 2]),
            (PadMode::Wrap, &[4, 1], &[3, 1, 2, 3, 1, 2, 3, 1]),
            (PadMode::Constant, &[-1, 2], &[2, 3, 0, 0]),
            (PadMode::Edge, &[-2, 0], &[3]),
            (PadMode::Reflect, &[1, -2], &[2, 1]),
            (PadMode::Constant, &[-3, 0], &[]),
        ];
        for (mode, pads, expected) in cases {
            let y = run(&Op::Pad { mode }, &[x.clone(), vector(pads)]);
            assert_same(&y, &vector(expected));
        }
    }

    #[test]
    fn axes_and_value_are_optional_inputs() {
        let op = Op::Pad {
            mode: PadMode::Constant,
        };
        let x = f32s(&[2, 2], &[1., 2., 3., 4.]);
        let inputs = [
            Some(x.clone()),
            Some(vector(&[1, 0])),
            Some(f32s(&[], &[9.])),
            Some(vector(&[-1])),
        ];
        let y = run_optional(&op, &inputs);
        assert_close(&y, &f32s(&[2, 3], &[9., 1., 2., 9., 3., 4.]));
        let y = run(&op, &[x, vector(&[1, 0, 0, 1])]);
        assert_close(&y, &f32s(&[3, 3], &[0., 0., 0., 1., 2., 0., 3., 4., 0.]));
    }

    #[test]
    fn impossible_pads_are_refused_with_numbers() {
        let x = vector(&[1, 2, 3]);
        for (mode, x, pads, part) in [
            (
                PadMode::Constant,
                &x,
                &[1][..],
                "1 pads for 1 axes, expected 2",
            ),
            (PadMode::Constant, &x, &[-2, -2], "pads -2 and -2"),
            (PadMode::Constant, &x, &[i64::MAX, i64::MAX], "do not fit"),
            (PadMode::Constant, &x, &[1 << 40, 0], "more than 2147483648"),
            (PadMode::Edge, &vector(&[]), &[1, 0], "an axis of length 0"),
        ] {
            let error = fail(&Op::Pad { mode }, &[x.clone(), vector(pads)]).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
