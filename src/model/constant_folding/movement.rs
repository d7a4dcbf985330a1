//! Constants that are moved, selected, repeated or joined.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::{Initializer, Inputs};

/// The elements of an integer tensor.
pub(super) fn integers(initializer: &Initializer) -> Option<Vec<i64>> {
    (initializer.dtype() == DType::I64).then_some(())?;
    let tensor = initializer.tensor().ok()?;
    tensor.flatten_all().ok()?.to_vec1().ok()
}

/// An index that may count from the end, as a position below `length`.
pub(super) fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    (0..length).contains(&index).then_some(index as usize)
}

/// The axes that `Shape` with `start` and `end` gives the lengths of.
pub(super) fn shape_range(rank: usize, start: i64, end: Option<i64>) -> Range<usize> {
    let clamped = |index: i64| {
        let rank = rank as i64;
        let index = if index < 0 {
            index.saturating_add(rank)
        } else {
            index
        };
        index.clamp(0, rank) as usize
    };
    let start = clamped(start);
    start..end.map_or(rank, clamped).max(start)
}

/// How many steps of `delta` lead from `start` to just before `limit`; `None` for a step of zero.
pub(super) fn steps(start: i128, limit: i128, delta: i128) -> Option<i128> {
    let distance = limit - start;
    match delta {
        0 => None,
        _ if (distance > 0) != (delta > 0) || distance == 0 => Some(0),
        _ => Some((distance.abs() + delta.abs() - 1) / delta.abs()),
    }
}

pub(super) fn flatten(x: &Initializer, axis: i64) -> Option<Initializer> {
    let rank = x.rank();
    let axis = if axis == rank as i64 {
        rank
    } else {
        position(axis, rank)?
    };
    let (outer, inner) = x.dims().split_at(axis);
    x.reshaped(vec![outer.iter().product(), inner.iter().product()])
}

pub(super) fn reshape(x: &Initializer, shape: &[i64], allow_zero: bool) -> Option<Initializer> {
    let mut dims = Vec::with_capacity(shape.len());
    let mut unknown = None;
    for (axis, length) in shape.iter().enumerate() {
        match *length {
            -1 if unknown.is_none() => {
                unknown = Some(axis);
                dims.push(1);
            }
            0 if !allow_zero => dims.push(*x.dims().get(axis)?),
            length => dims.push(usize::try_from(length).ok()?),
        }
    }
    if let Some(axis) = unknown {
        let known = dims.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
        dims[axis] = x.elem_count().checked_div(known)?;
    }
    x.reshaped(dims)
}

/// Without axes, every axis of length 1 is removed.
pub(super) fn squeeze(inputs: &Inputs<'_>) -> Option<Initializer> {
    let x = inputs.initializer(0)?;
    let ones = || {
        let axes = (0i64..).zip(x.dims()).filter(|(_, length)| **length == 1);
        axes.map(|(axis, _)| axis).collect()
    };
    let axes = inputs.integers_or(1, ones)?.into_iter();
    let removed: Vec<usize> = axes
        .map(|axis| position(axis, x.rank()))
        .collect::<Option<_>>()?;
    let kept = (0..x.rank()).filter(|axis| !removed.contains(axis));
    x.reshaped(kept.map(|axis| x.dims()[axis]).collect())
}

pub(super) fn unsqueeze(x: &Initializer, axes: &[i64]) -> Option<Initializer> {
    let rank = x.rank() + axes.len();
    let added: Vec<usize> = axes
        .iter()
        .map(|axis| position(*axis, rank))
        .collect::<Option<_>>()?;
    let mut lengths = x.dims().iter();
    let dims: Vec<usize> = (0..rank)
        .map(|axis| {
            if added.contains(&axis) {
                Some(1)
            } else {
                lengths.next().copied()
            }
        })
        .collect::<Option<_>>()?;
    x.reshaped(dims)
}

pub(super) fn concat(inputs: &Inputs<'_>, axis: i64) -> Option<Tensor> {
    let parts = inputs.all()?;
    let axis = position(axis, parts.first()?.rank())?;
    let total = parts
        .iter()
        .try_fold(0usize, |n, part| n.checked_add(part.elem_count()))?;
    inputs.affordable(vec![total])?;
    Tensor::cat(&parts, axis).ok()?.contiguous().ok()
}

pub(super) fn split(inputs: &Inputs<'_>, axis: i64, parts: usize) -> Option<Vec<Tensor>> {
    let x = inputs.get(0)?;
    inputs.affordable(x.dims().to_vec())?;
    let axis = position(axis, x.rank())?;
    let length = x.dims()[axis];
    let lengths: Vec<usize> = if inputs.initializer(1).is_some() {
        let lengths = inputs.integers(1)?.into_iter().map(usize::try_from);
        lengths.collect::<Result<_, _>>().ok()?
    } else {
        let equal = length.checked_div(parts)?;
        vec![equal; parts]
    };
    let total = lengths
        .iter()
        .try_fold(0usize, |n, part| n.checked_add(*part))?;
    (total == length).then_some(())?;
    let mut start = 0;
    let part = |part: usize| {
        let taken = x.narrow(axis, start, part).ok()?.contiguous().ok();
        start += part;
        taken
    };
    lengths.into_iter().map(part).collect()
}

pub(super) fn gather(inputs: &Inputs<'_>, axis: i64) -> Option<Tensor> {
    let x = inputs.get(0)?;
    let indices = inputs.initializer(1)?;
    let axis = position(axis, x.rank())?;
    let length = x.dims()[axis];
    let picked: Vec<usize> = integers(indices)?
        .into_iter()
        .map(|index| position(index, length))
        .collect::<Option<_>>()?;
    let (outer, inner) = (&x.dims()[..axis], &x.dims()[axis + 1..]);
    let dims = inputs.affordable([outer, indices.dims(), inner].concat())?;
    let block: usize = inner.iter().product();
    let positions = (0..outer.iter().product::<usize>()).flat_map(|o| {
        let start = move |p: &usize| (o * length + p) * block;
        picked.iter().map(start).flat_map(|at| at..at + block)
    });
    taken(x, positions, dims)
}

pub(super) fn slice(inputs: &Inputs<'_>) -> Option<Tensor> {
    let x = inputs.get(0)?;
    let (starts, ends) = (inputs.integers(1)?, inputs.integers(2)?);
    let count = starts.len();
    let axes = inputs.integers_or(3, || (0..count as i64).collect())?;
    let deltas = inputs.integers_or(4, || vec![1; count])?;
    let axes: Vec<usize> = axes
        .into_iter()
        .map(|axis| position(axis, x.rank()))
        .collect::<Option<_>>()?;
    let mut walk = Walk::over(x.dims());
    for (index, axis) in axes.iter().copied().enumerate() {
        if axes[..index].contains(&axis) {
            return None;
        }
        let delta = *deltas.get(index)?;
        let (first, count) = sliced(
            x.dims()[axis],
            *starts.get(index)?,
            *ends.get(index)?,
            delta,
        )?;
        walk.start += first as isize * walk.strides[axis];
        walk.dims[axis] = count;
        // A step beyond the end is taken at most zero times, so that its size does not matter.
        walk.strides[axis] = walk.strides[axis].wrapping_mul(delta as isize);
    }
    let dims = inputs.affordable(walk.dims.clone())?;
    taken(x, walk.positions(), dims)
}

/// First position and number of positions of a slice, with the clamping of the operator.
fn sliced(length: usize, start: i64, end: i64, delta: i64) -> Option<(usize, usize)> {
    if length == 0 {
        return (delta != 0).then_some((0, 0));
    }
    let length = length as i64;
    let clamped = |index: i64, low: i64, high: i64| {
        let index = if index < 0 {
            index.saturating_add(length)
        } else {
            index
        };
        index.clamp(low, high)
    };
    let (start, end) = if delta > 0 {
        (clamped(start, 0, length), clamped(end, 0, length))
    } else {
        (clamped(start, 0, length - 1), clamped(end, -1, length - 1))
    };
    let count = steps(start.into(), end.into(), delta.into())?;
    Some((if count == 0 { 0 } else { start as usize }, count as usize))
}

pub(super) fn transpose(inputs: &Inputs<'_>, perm: Option<&[usize]>) -> Option<Tensor> {
    let x = inputs.get(0)?;
    let reversed: Vec<usize> = (0..x.rank()).rev().collect();
    let perm = perm.unwrap_or(&reversed);
    if perm.len() != x.rank() {
        return None;
    }
    let mut walk = Walk::over(x.dims());
    let strides = perm.iter().map(|axis| walk.strides.get(*axis).copied());
    walk.strides = strides.collect::<Option<_>>()?;
    walk.dims = perm.iter().map(|axis| x.dims()[*axis]).collect();
    let dims = inputs.affordable(walk.dims.clone())?;
    taken(x, walk.positions(), dims)
}

pub(super) fn expand(inputs: &Inputs<'_>) -> Option<Tensor> {
    let x = inputs.get(0)?;
    let shape = inputs.integers(1)?.into_iter().map(usize::try_from);
    let shape: Vec<usize> = shape.collect::<Result<_, _>>().ok()?;
    let dims = inputs.affordable(broadcast_dims(x.dims(), &shape)?)?;
    taken(x, Walk::broadcast(x.dims(), &dims).positions(), dims)
}

/// Each axis is walked as a pair: the repetition, which stays in place, and the axis itself.
pub(super) fn tile(inputs: &Inputs<'_>) -> Option<Tensor> {
    let x = inputs.get(0)?;
    let repeats = inputs.integers(1)?.into_iter().map(usize::try_from);
    let repeats: Vec<usize> = repeats.collect::<Result<_, _>>().ok()?;
    if repeats.len() != x.rank() {
        return None;
    }
    let plain = Walk::over(x.dims());
    let mut dims = Vec::new();
    let mut walk = Walk::over(&[]);
    for ((length, repeat), stride) in x.dims().iter().zip(repeats).zip(plain.strides) {
        dims.push(length.checked_mul(repeat)?);
        walk.dims.extend([repeat, *length]);
        walk.strides.extend([0, stride]);
    }
    let dims = inputs.affordable(dims)?;
    taken(x, walk.positions(), dims)
}

/// The shape that two shapes broadcast to.
pub(super) fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let length = |dims: &[usize], axis: usize| {
        let missing = rank - dims.len();
        axis.checked_sub(missing).map_or(1, |axis| dims[axis])
    };
    (0..rank)
        .map(|axis| match (length(a, axis), length(b, axis)) {
            (a, b) if a == b || b == 1 => Some(a),
            (1, b) => Some(b),
            _ => None,
        })
        .collect()
}

/// An order in which to visit the elements of a contiguous tensor.
pub(super) struct Walk {
    start: isize,
    dims: Vec<usize>,
    strides: Vec<isize>,
}

impl Walk {
    /// Every element once, in the order in which they lie.
    fn over(dims: &[usize]) -> Self {
        let mut strides = vec![1isize; dims.len()];
        for axis in (1..dims.len()).rev() {
            strides[axis - 1] = strides[axis].wrapping_mul(dims[axis] as isize);
        }
        Self {
            start: 0,
            dims: dims.to_vec(),
            strides,
        }
    }

    /// The elements of a tensor of shape `dims` as they are repeated in shape `out`.
    pub(super) fn broadcast(dims: &[usize], out: &[usize]) -> Self {
        let plain = Self::over(dims);
        let lengths = dims.iter().zip(plain.strides);
        let repeated = lengths.map(|(length, stride)| if *length == 1 { 0 } else { stride });
        let missing = vec![0; out.len().saturating_sub(dims.len())];
        Self {
            start: 0,
            dims: out.to_vec(),
            strides: missing.into_iter().chain(repeated).collect(),
        }
    }

    /// Positions of the elements, the last axis running fastest.
    pub(super) fn positions(self) -> impl Iterator<Item = usize> {
        let count = self.dims.iter().product();
        let mut index = vec![0usize; self.dims.len()];
        let mut at = self.start;
        (0..count).map(move |_| {
            let here = at as usize;
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at = at.wrapping_add(self.strides[axis]);
                if index[axis] < self.dims[axis] {
                    break;
                }
                at = at.wrapping_sub(self.strides[axis].wrapping_mul(self.dims[axis] as isize));
                index[axis] = 0;
            }
            here
        })
    }
}

/// A tensor of the elements of `x` at `positions`.
fn taken(x: &Tensor, positions: impl Iterator<Item = usize>, dims: Vec<usize>) -> Option<Tensor> {
    let x = x.flatten_all().ok()?;
    fn at<T: Copy>(data: &[T], positions: impl Iterator<Item = usize>) -> Option<Vec<T>> {
        positions
            .map(|position| data.get(position).copied())
            .collect()
    }
    let device = &Device::Cpu;
    match x.dtype() {
        DType::F32 => Tensor::from_vec(at(&x.to_vec1::<f32>().ok()?, positions)?, dims, device),
        DType::I64 => Tensor::from_vec(at(&x.to_vec1::<i64>().ok()?, positions)?, dims, device),
        DType::U8 => Tensor::from_vec(at(&x.to_vec1::<u8>().ok()?, positions)?, dims, device),
        _ => return None,
    }
    .ok()
}
