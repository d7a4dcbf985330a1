//! `Gather`, `Slice`, `Concat` and `Split`.

use candle_core::{Tensor, WithDType};

use super::Inputs;
use super::elements::{Elements, axis_index, buffer, for_type, tensor};
use super::strided::{View, materialize};
use crate::engine::error::OpError;

/// The parts of input 0 along `axis` that input 1 names; negative indices count from the end.
pub(super) fn gather(axis: i64, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let axis = axis_index(axis, x.rank())?;
    let length = x.dims()[axis];
    let indices: Vec<usize> = inputs
        .integers(1)?
        .into_iter()
        .map(|index| {
            let from_start = if index < 0 {
                index.saturating_add(length as i64)
            } else {
                index
            };
            usize::try_from(from_start)
                .ok()
                .filter(|&from_start| from_start < length)
                .ok_or_else(|| {
                    OpError::Shape(format!(
                        "index {index} is out of range for axis {axis} of {:?}",
                        x.dims()
                    ))
                })
        })
        .collect::<Result<_, _>>()?;
    let mut shape = x.dims()[..axis].to_vec();
    shape.extend(inputs.required(1)?.dims());
    shape.extend(&x.dims()[axis + 1..]);
    let x = x.contiguous()?;
    for_type!(x.dtype(), gather_typed(&x, axis, &indices, &shape))
}

fn gather_typed<T: WithDType>(
    x: &Tensor,
    axis: usize,
    indices: &[usize],
    shape: &[usize],
) -> Result<Tensor, OpError> {
    let elements = Elements::of(x)?;
    let source: &[T] = elements.as_slice()?;
    let inner: usize = x.dims()[axis + 1..].iter().product();
    let mut out: Vec<T> = buffer(shape)?;
    let blocks = source.chunks_exact((inner * x.dims()[axis]).max(1));
    let targets = out.chunks_exact_mut((inner * indices.len()).max(1));
    for (block, target) in blocks.zip(targets) {
        for (&index, values) in indices.iter().zip(target.chunks_exact_mut(inner)) {
            values.copy_from_slice(&block[index * inner..(index + 1) * inner]);
        }
    }
    tensor(out, shape)
}

/// Input 0 from `starts` to `ends` (inputs 1 and 2) along `axes` in `steps` (inputs 3 and 4).
pub(super) fn slice(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let (starts, ends) = (inputs.integers(1)?, inputs.integers(2)?);
    let axes = match inputs.optional_integers(3)? {
        Some(axes) => axes,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match inputs.optional_integers(4)? {
        Some(steps) => steps,
        None => vec![1; starts.len()],
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(OpError::Shape(format!(
            "{} starts, {} ends, {} axes and {} steps, expected as many of each",
            starts.len(),
            ends.len(),
            axes.len(),
            steps.len()
        )));
    }
    let mut view = View::of(x.dims());
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = axis_index(axis, x.rank())?;
        if step == 0 {
            return Err(OpError::Message(format!("the step of axis {axis} is 0")));
        }
        let (first, count) = slice_range(x.dims()[axis], start, end, step);
        // A single element needs no step, and the step may be anything then.
        let step = if count > 1 { step as isize } else { 0 };
        view.offset += first as isize * view.strides[axis];
        view.strides[axis] *= step;
        view.shape[axis] = count;
    }
    materialize(x, &view)
}

/// First index and number of indices of `start..end` in steps, clamped as in ONNX Slice-13.
fn slice_range(length: usize, start: i64, end: i64, step: i64) -> (usize, usize) {
    let length = length as i64;
    let from_start = |place: i64| {
        if place < 0 {
            place.saturating_add(length)
        } else {
            place
        }
    };
    let (start, end) = (from_start(start), from_start(end));
    let span = if step > 0 {
        let start = start.clamp(0, length);
        (start, end.clamp(0, length) - start)
    } else {
        let start = start.clamp(-1, length - 1);
        (start, start - end.clamp(-1, length - 1))
    };
    let (first, distance) = span;
    if distance <= 0 {
        return (0, 0);
    }
    let count = (distance as u64).div_ceil(step.unsigned_abs());
    (first as usize, count as usize)
}

/// All inputs one after the other along `axis`.
pub(super) fn concat(axis: i64, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let first = inputs.required(0)?;
    let axis = axis_index(axis, first.rank())?;
    let mut shape = first.dims().to_vec();
    shape[axis] = 0;
    let mut parts = Vec::with_capacity(inputs.len());
    for index in 0..inputs.len() {
        let part = inputs.required(index)?;
        if part.dtype() != first.dtype() {
            return Err(inputs.wrong_type(index, "the type of input 0"));
        }
        let fits = part.rank() == first.rank()
            && (0..first.rank()).all(|k| k == axis || part.dims()[k] == first.dims()[k]);
        if !fits {
            return Err(OpError::Shape(format!(
                "input {index} has shape {:?}, which does not continue {:?} along axis {axis}",
                part.dims(),
                first.dims()
            )));
        }
        shape[axis] += part.dims()[axis];
        parts.push(part.contiguous()?);
    }
    for_type!(first.dtype(), concat_typed(&parts, axis, &shape))
}

fn concat_typed<T: WithDType>(
    parts: &[Tensor],
    axis: usize,
    shape: &[usize],
) -> Result<Tensor, OpError> {
    let mut out: Vec<T> = buffer(shape)?;
    let inner: usize = shape[axis + 1..].iter().product();
    let row = shape[axis] * inner;
    let mut start = 0;
    for part in parts {
        let elements = Elements::of(part)?;
        let source: &[T] = elements.as_slice()?;
        let length = part.dims()[axis] * inner;
        if length == 0 {
            continue;
        }
        for (values, target) in source.chunks_exact(length).zip(out.chunks_exact_mut(row)) {
            target[start..start + length].copy_from_slice(values);
        }
        start += length;
    }
    tensor(out, shape)
}

/// Input 0 cut along `axis` into the lengths of input 1, or into equal parts, the last one smaller.
pub(super) fn split(
    axis: i64,
    inputs: &Inputs<'_>,
    output_count: usize,
) -> Result<Vec<Tensor>, OpError> {
    let x = inputs.required(0)?;
    let axis = axis_index(axis, x.rank())?;
    let length = x.dims()[axis];
    let lengths = if inputs.optional(1).is_some() {
        inputs.lengths(1)?
    } else {
        let part = length.div_ceil(output_count.max(1));
        (0..output_count)
            .map(|index| part.min(length.saturating_sub(index * part)))
            .collect()
    };
    let sum = lengths
        .iter()
        .try_fold(0usize, |sum, &n| sum.checked_add(n));
    if sum != Some(length) || lengths.len() < output_count {
        return Err(OpError::Shape(format!(
            "cannot split axis {axis} of length {length} into {output_count} parts of {lengths:?}"
        )));
    }
    let mut view = View::of(x.dims());
    let stride = view.strides[axis];
    let mut outputs = Vec::with_capacity(lengths.len());
    for part in lengths {
        view.shape[axis] = part;
        outputs.push(materialize(x, &view)?);
        view.offset += part as isize * stride;
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::super::evaluate;
    use super::super::testing::*;
    use super::slice_range;
    use crate::model::Op;
    use candle_core::Tensor;

    fn count(shape: &[usize]) -> Tensor {
        let values: Vec<i64> = (0..shape.iter().product::<usize>() as i64).collect();
        i64s(shape, &values)
    }

    fn vector(values: &[i64]) -> Tensor {
        i64s(&[values.len()], values)
    }

    #[test]
    fn gather_keeps_the_shape_of_its_indices() {
        let x = count(&[2, 3]);
        let op = |axis| Op::Gather { axis };
        let y = run(&op(1), &[x.clone(), i64s(&[2, 1], &[2, -3])]);
        assert_same(&y, &i64s(&[2, 2, 1], &[2, 0, 5, 3]));
        let y = run(&op(0), &[x.clone(), i64s(&[], &[-1])]);
        assert_same(&y, &vector(&[3, 4, 5]));
        let y = run(&op(-1), &[x.clone(), vector(&[])]);
        assert_eq!(y.dims(), [2, 0]);
        for index in [3, -4, i64::MIN, i64::MAX] {
            let error = fail(&op(1), &[x.clone(), vector(&[index])]).to_string();
            let expected = format!("index {index} is out of range for axis 1 of [2, 3]");
            assert_eq!(error, expected);
        }
        let empty = run(&op(0), &[i64s(&[2, 0], &[]), vector(&[1])]);
        assert_eq!(empty.dims(), [1, 0]);
    }

    #[test]
    fn slice_ranges_follow_python() {
        // (length, start, end, step, indices)
        type Case = (usize, i64, i64, i64, &'static [usize]);
        let cases: &[Case] = &[
            (5, 1, 3, 1, &[1, 2]),
            (5, -2, i64::MAX, 1, &[3, 4]),
            (5, i64::MIN, i64::MAX, 2, &[0, 2, 4]),
            (5, 3, 1, 1, &[]),
            (5, 9, 12, 1, &[]),
            (5, -1, i64::MIN, -1, &[4, 3, 2, 1, 0]),
            (5, i64::MAX, i64::MIN, -2, &[4, 2, 0]),
            (5, 3, 0, -2, &[3, 1]),
            (5, 1, 3, -1, &[]),
            (5, -9, i64::MIN, -1, &[]),
            (5, 0, -9, -1, &[0]),
            (0, 0, i64::MAX, 1, &[]),
            (0, -1, i64::MIN, -1, &[]),
            (5, 0, 5, i64::MAX, &[0]),
            (5, 4, i64::MIN, i64::MIN, &[4]),
        ];
        for &(length, start, end, step, expected) in cases {
            let (first, count) = slice_range(length, start, end, step);
            let found: Vec<usize> = (0..count as i64)
                .map(|k| (first as i64 + k * step) as usize)
                .collect();
            assert_eq!(found, expected, "{length}: {start}..{end} by {step}");
        }
    }

    #[test]
    fn slice_cuts_several_axes() {
        let x = count(&[3, 4]);
        let y = run(
            &Op::Slice,
            &[
                x.clone(),
                vector(&[-1, 1]),
                vector(&[i64::MIN, 9]),
                vector(&[0, -1]),
                vector(&[-2, 2]),
            ],
        );
        assert_same(&y, &i64s(&[2, 2], &[9, 11, 1, 3]));
        let y = run(&Op::Slice, &[x.clone(), vector(&[2]), vector(&[1])]);
        assert_eq!(y.dims(), [0, 4]);
        let error = fail(&Op::Slice, &[x.clone(), vector(&[0, 1]), vector(&[1])]);
        assert!(error.to_string().starts_with("2 starts, 1 ends"), "{error}");
        let zero = fail(
            &Op::Slice,
            &[x, vector(&[0]), vector(&[1]), vector(&[0]), vector(&[0])],
        );
        assert_eq!(zero.to_string(), "the step of axis 0 is 0");
    }

    #[test]
    fn concat_joins_and_split_parts() {
        let x = count(&[2, 5]);
        let lengths: [&[i64]; 3] = [&[2, 3], &[0, 5], &[1, 1, 3]];
        for lengths in lengths {
            let op = Op::Split { axis: -1 };
            let inputs = [Some(x.clone()), Some(vector(lengths))];
            let parts = evaluate(&op, &inputs, lengths.len()).expect("splits");
            for (part, &length) in parts.iter().zip(lengths) {
                assert_eq!(part.dims(), [2, length as usize]);
            }
            assert_same(&run(&Op::Concat { axis: 1 }, &parts), &x);
        }
        for (count_of_parts, expected) in
            [(2, vec![3, 2]), (3, vec![2, 2, 1]), (4, vec![2, 2, 1, 0])]
        {
            let inputs = [Some(x.clone())];
            let parts = evaluate(&Op::Split { axis: 1 }, &inputs, count_of_parts).expect("splits");
            let found: Vec<usize> = parts.iter().map(|part| part.dims()[1]).collect();
            assert_eq!(found, expected);
        }
        let error = fail(&Op::Split { axis: 1 }, &[x, vector(&[2, 2])]).to_string();
        assert_eq!(
            error,
            "cannot split axis 1 of length 5 into 1 parts of [2, 2]"
        );
    }

    #[test]
    fn concat_refuses_what_does_not_fit() {
        let x = count(&[2, 3]);
        let error = fail(&Op::Concat { axis: 0 }, &[x.clone(), count(&[2, 4])]);
        assert_eq!(
            error.to_string(),
            "input 1 has shape [2, 4], which does not continue [2, 3] along axis 0"
        );
        fail(
            &Op::Concat { axis: 0 },
            &[x.clone(), f32s(&[2, 3], &[0.0; 6])],
        );
        fail(&Op::Concat { axis: 0 }, &[count(&[])]);
        fail(&Op::Concat { axis: 2 }, &[x]);
    }
}
