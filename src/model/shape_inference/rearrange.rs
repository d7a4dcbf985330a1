//! Shapes of operators that move elements without computing with them.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Inferred, Inputs, Stop, contradiction, normalized_axis};

/// Elements of one axis that a `Slice` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AxisSlice {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) length: usize,
}

/// Lengths from integers, which must not be negative.
pub(super) fn lengths(integers: &[i64]) -> Inferred<Vec<usize>> {
    integers
        .iter()
        .map(|length| {
            usize::try_from(*length).or_else(|_| contradiction(format!("a length of {length}")))
        })
        .collect()
}

fn elements(shape: &[usize]) -> Inferred<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, length| product.checked_mul(*length))
        .ok_or(Stop::Unknown)
}

/// Target of `Reshape`: `0` copies the input's length unless `allow_zero`, one `-1` takes the rest.
pub(super) fn reshape(shape: &[usize], target: &[i64], allow_zero: bool) -> Inferred<Vec<usize>> {
    let mismatch = || contradiction(format!("{shape:?} cannot be reshaped to {target:?}"));
    let mut result = Vec::with_capacity(target.len());
    let mut open_axis = None;
    for (axis, length) in target.iter().enumerate() {
        match (*length, shape.get(axis)) {
            (0, Some(copied)) if !allow_zero => result.push(*copied),
            (0, None) if !allow_zero => return mismatch(),
            (-1, _) if open_axis.is_none() => {
                open_axis = Some(axis);
                result.push(1);
            }
            (length, _) => match usize::try_from(length) {
                Ok(length) => result.push(length),
                Err(_) => return mismatch(),
            },
        }
    }
    let (have, fixed) = (elements(shape)?, elements(&result)?);
    match open_axis {
        Some(axis) if fixed > 0 && have % fixed == 0 => result[axis] = have / fixed,
        None if have == fixed => {}
        _ => return mismatch(),
    }
    Ok(result)
}

pub(super) fn flatten(shape: &[usize], axis: i64) -> Inferred<Vec<usize>> {
    let axis = if axis == shape.len() as i64 {
        shape.len()
    } else {
        normalized_axis(axis, shape.len())?
    };
    let (outer, inner) = shape.split_at(axis);
    Ok(vec![elements(outer)?, elements(inner)?])
}

pub(super) fn squeeze(shape: &[usize], axes: Option<&[i64]>) -> Inferred<Vec<usize>> {
    let removed: BTreeSet<usize> = match axes {
        Some(axes) => axes
            .iter()
            .map(|axis| normalized_axis(*axis, shape.len()))
            .collect::<Inferred<_>>()?,
        None => (0..shape.len()).filter(|axis| shape[*axis] == 1).collect(),
    };
    if let Some(axis) = removed.iter().find(|axis| shape[**axis] != 1) {
        return contradiction(format!("axis {axis} of {shape:?} is not of length 1"));
    }
    Ok(shape
        .iter()
        .enumerate()
        .filter(|(axis, _)| !removed.contains(axis))
        .map(|(_, length)| *length)
        .collect())
}

pub(super) fn unsqueeze(shape: &[usize], axes: &[i64]) -> Inferred<Vec<usize>> {
    let rank = shape.len() + axes.len();
    let added: BTreeSet<usize> = axes
        .iter()
        .map(|axis| normalized_axis(*axis, rank))
        .collect::<Inferred<_>>()?;
    if added.len() != axes.len() {
        return contradiction(format!("axes {axes:?} name one axis twice"));
    }
    let mut lengths = shape.iter();
    Ok((0..rank)
        .filter_map(|axis| {
            if added.contains(&axis) {
                Some(1)
            } else {
                lengths.next().copied()
            }
        })
        .collect())
}

/// Axes of the input in the order of the output.
pub(super) fn permutation(rank: usize, perm: Option<&[usize]>) -> Inferred<Vec<usize>> {
    let perm: Vec<usize> = perm.map_or_else(|| (0..rank).rev().collect(), <[usize]>::to_vec);
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().eq(0..rank) {
        Ok(perm)
    } else {
        contradiction(format!("{perm:?} is not a permutation of {rank} axes"))
    }
}

pub(super) fn transpose(shape: &[usize], perm: Option<&[usize]>) -> Inferred<Vec<usize>> {
    let perm = permutation(shape.len(), perm)?;
    Ok(perm.into_iter().map(|axis| shape[axis]).collect())
}

pub(super) fn tile(shape: &[usize], repeats: &[i64]) -> Inferred<Vec<usize>> {
    if repeats.len() != shape.len() {
        return contradiction(format!(
            "repeats {repeats:?} do not fit the shape {shape:?}"
        ));
    }
    shape
        .iter()
        .zip(lengths(repeats)?)
        .map(|(length, repeats)| length.checked_mul(repeats).ok_or(Stop::Unknown))
        .collect()
}

pub(super) fn pad(inputs: &Inputs<'_>) -> Inferred<Vec<usize>> {
    let mut shape = inputs.shape(0)?.to_vec();
    let pads = inputs.integers(1)?;
    let axes: Vec<usize> = match inputs.optional_integers(3)? {
        Some(axes) => axes
            .iter()
            .map(|axis| normalized_axis(*axis, shape.len()))
            .collect::<Inferred<_>>()?,
        None => (0..shape.len()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return contradiction(format!("pads {pads:?} do not fit {} axes", axes.len()));
    }
    let (begin, end) = pads.split_at(axes.len());
    for ((axis, begin), end) in axes.iter().zip(begin).zip(end) {
        let padded = (shape[*axis] as i64)
            .saturating_add(*begin)
            .saturating_add(*end);
        match usize::try_from(padded) {
            Ok(padded) => shape[*axis] = padded,
            Err(_) => return contradiction(format!("pads {pads:?} leave a length of {padded}")),
        }
    }
    Ok(shape)
}

/// The part that `Slice` takes of each axis (ONNX `Slice`-13).
pub(super) fn axis_slices(inputs: &Inputs<'_>) -> Inferred<Vec<AxisSlice>> {
    let shape = inputs.shape(0)?;
    let (starts, ends) = (inputs.integers(1)?, inputs.integers(2)?);
    let all_axes: Vec<i64> = (0..starts.len() as i64).collect();
    let ones = vec![1; starts.len()];
    let axes = inputs.optional_integers(3)?.unwrap_or(&all_axes);
    let steps = inputs.optional_integers(4)?.unwrap_or(&ones);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return contradiction(format!(
            "starts {starts:?}, ends {ends:?}, axes {axes:?} and steps {steps:?} differ in length"
        ));
    }
    let mut slices: Vec<AxisSlice> = shape
        .iter()
        .map(|length| AxisSlice {
            start: 0,
            step: 1,
            length: *length,
        })
        .collect();
    for (((axis, start), end), step) in axes.iter().zip(starts).zip(ends).zip(steps) {
        let axis = normalized_axis(*axis, shape.len())?;
        if *step == 0 {
            return contradiction("a step of 0");
        }
        slices[axis] = axis_slice(shape[axis] as i64, *start, *end, *step);
    }
    Ok(slices)
}

fn axis_slice(length: i64, start: i64, end: i64, step: i64) -> AxisSlice {
    let from_front = |at: i64| {
        if at < 0 {
            at.saturating_add(length)
        } else {
            at
        }
    };
    let (lowest, highest) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let start = from_front(start).clamp(lowest, highest);
    let end = from_front(end).clamp(lowest, highest);
    // A clamped distance and a step of the same sign: the quotient is the number of whole steps.
    let distance = if step > 0 { end - start } else { start - end };
    let taken = if distance > 0 {
        (distance as u64).div_ceil(step.unsigned_abs()) as usize
    } else {
        0
    };
    AxisSlice {
        start,
        step,
        length: taken,
    }
}

/// Shapes of all parts of a `Split`.
pub(super) fn split(inputs: &Inputs<'_>, axis: i64) -> Inferred<Vec<Vec<usize>>> {
    let shape = inputs.shape(0)?;
    let axis = normalized_axis(axis, shape.len())?;
    let parts = inputs.node.outputs.len();
    let lengths = if let Some(integers) = inputs.optional_integers(1)? {
        lengths(integers)?
    } else {
        // Equal parts; the last is shorter if the length does not divide (ONNX Split-18).
        let part = shape[axis].div_ceil(parts.max(1));
        (0..parts)
            .map(|index| part.min(shape[axis].saturating_sub(index.saturating_mul(part))))
            .collect()
    };
    let total = lengths
        .iter()
        .try_fold(0usize, |sum, part| sum.checked_add(*part));
    if lengths.len() != parts || total != Some(shape[axis]) {
        return contradiction(format!(
            "axis {axis} of {shape:?} cannot be split into {lengths:?} for {parts} outputs"
        ));
    }
    Ok(lengths
        .into_iter()
        .map(|length| {
            let mut part = shape.to_vec();
            part[axis] = length;
            part
        })
        .collect())
}

pub(super) fn concat(inputs: &Inputs<'_>, axis: i64) -> Inferred<Vec<usize>> {
    let shapes = inputs.shapes()?;
    let Some(first) = shapes.first() else {
        return contradiction("no inputs");
    };
    let axis = normalized_axis(axis, first.len())?;
    let mut result = first.to_vec();
    for shape in &shapes[1..] {
        let fits = shape.len() == first.len()
            && (0..shape.len()).all(|other| other == axis || shape[other] == first[other]);
        if !fits {
            return contradiction(format!(
                "{first:?} and {shape:?} cannot be joined along axis {axis}"
            ));
        }
        result[axis] = result[axis].checked_add(shape[axis]).ok_or(Stop::Unknown)?;
    }
    Ok(result)
}

pub(super) fn gather(inputs: &Inputs<'_>, axis: i64) -> Inferred<Vec<usize>> {
    let shape = inputs.shape(0)?;
    let axis = normalized_axis(axis, shape.len())?;
    Ok([&shape[..axis], inputs.shape(1)?, &shape[axis + 1..]].concat())
}

/// Target of `Resize`: the sizes, or `floor(length · scale)` in f32 (ONNX `Resize`-13).
pub(super) fn resize(inputs: &Inputs<'_>) -> Inferred<Vec<usize>> {
    let shape = inputs.shape(0)?;
    if inputs.has(3) && inputs.shape(3).is_ok_and(|sizes| sizes != [0]) {
        let sizes = lengths(inputs.integers(3)?)?;
        if sizes.len() != shape.len() {
            return contradiction(format!("sizes {sizes:?} do not fit the shape {shape:?}"));
        }
        return Ok(sizes);
    }
    let scales = inputs.floats(2)?;
    if scales.len() != shape.len()
        || scales
            .iter()
            .any(|scale| !scale.is_finite() || *scale <= 0.0)
    {
        return contradiction(format!("scales {scales:?} do not fit the shape {shape:?}"));
    }
    Ok(shape
        .iter()
        .zip(scales)
        .map(|(length, scale)| (*length as f32 * scale).floor() as usize)
        .collect())
}

/// Axes that `Shape` returns the lengths of.
pub(super) fn shape_range(rank: usize, start: i64, end: Option<i64>) -> Range<usize> {
    let rank = rank as i64;
    let clamped = |at: i64| {
        let from_front = if at < 0 { at.saturating_add(rank) } else { at };
        from_front.clamp(0, rank) as usize
    };
    let start = clamped(start);
    start..clamped(end.unwrap_or(rank)).max(start)
}
