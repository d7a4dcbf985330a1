//! Walks over strided views: broadcasting, transposition, slices and tiles.

use std::ops::Range;

use candle_core::{Tensor, WithDType};

use super::elements::{Elements, buffer, fill_chunks, for_type, tensor};
use crate::engine::error::OpError;

/// Row-major strides of a contiguous tensor, in elements.
pub(super) fn contiguous_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1) as isize);
    }
    strides
}

/// A position in each of `N` tensors for every element of one output shape.
///
/// Neighbouring axes that can be stepped through as one are merged, so that the innermost run is long.
pub(super) struct Walk<const N: usize> {
    shape: Vec<usize>,
    strides: Vec<[isize; N]>,
    offsets: [isize; N],
}

impl<const N: usize> Walk<N> {
    /// `strides[n][axis]` is the step in tensor `n` along an axis of `shape`; 0 repeats.
    pub(super) fn new(shape: &[usize], strides: [&[isize]; N], offsets: [isize; N]) -> Self {
        let mut merged_shape: Vec<usize> = Vec::with_capacity(shape.len());
        let mut merged: Vec<[isize; N]> = Vec::with_capacity(shape.len());
        for (axis, &length) in shape.iter().enumerate() {
            if length == 1 {
                continue;
            }
            let step: [isize; N] = std::array::from_fn(|n| strides[n][axis]);
            match (merged_shape.last_mut(), merged.last_mut()) {
                (Some(outer_length), Some(outer))
                    if (0..N).all(|n| outer[n] == step[n] * length as isize) =>
                {
                    *outer_length *= length;
                    *outer = step;
                }
                _ => {
                    merged_shape.push(length);
                    merged.push(step);
                }
            }
        }
        if merged_shape.is_empty() {
            merged_shape.push(1);
            merged.push([0; N]);
        }
        Self {
            shape: merged_shape,
            strides: merged,
            offsets,
        }
    }

    /// Steps of the innermost run.
    pub(super) fn steps(&self) -> [isize; N] {
        self.strides[self.strides.len() - 1]
    }

    /// Visits `count` elements from output position `start` as runs along the innermost axis.
    ///
    /// `visit` gets the run's place within the visited part, and the position of its first element in
    /// every tensor.
    pub(super) fn for_each_run(
        &self,
        start: usize,
        count: usize,
        mut visit: impl FnMut(Range<usize>, [isize; N]),
    ) {
        let inner = self.shape.len() - 1;
        let mut index = vec![0usize; self.shape.len()];
        let mut rest = start;
        for axis in (0..self.shape.len()).rev() {
            index[axis] = rest % self.shape[axis].max(1);
            rest /= self.shape[axis].max(1);
        }
        let mut done = 0;
        while done < count {
            let run = (self.shape[inner] - index[inner]).min(count - done);
            visit(done..done + run, self.positions(&index));
            done += run;
            index[inner] += run;
            for axis in (1..self.shape.len()).rev() {
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
                index[axis - 1] += 1;
            }
        }
    }

    fn positions(&self, index: &[usize]) -> [isize; N] {
        let mut positions = self.offsets;
        for (place, steps) in index.iter().zip(&self.strides) {
            for (position, step) in positions.iter_mut().zip(steps) {
                *position += *place as isize * step;
            }
        }
        positions
    }
}

/// A view of a contiguous tensor: element `[i, j, …]` is at `offset + i·strides[0] + j·strides[1] + …`.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<isize>,
    pub(super) offset: isize,
}

impl View {
    /// The whole of a contiguous tensor.
    pub(super) fn of(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            strides: contiguous_strides(shape),
            offset: 0,
        }
    }

    /// This view repeated to `shape`, `NumPy` style; axes are aligned at the end.
    pub(super) fn broadcast_to(&self, shape: &[usize]) -> Result<Self, OpError> {
        let refuse = || {
            OpError::Shape(format!(
                "shape {:?} cannot be broadcast to {shape:?}",
                self.shape
            ))
        };
        let added = shape
            .len()
            .checked_sub(self.shape.len())
            .ok_or_else(refuse)?;
        let mut strides = vec![0; added];
        for ((&length, &stride), &target) in
            self.shape.iter().zip(&self.strides).zip(&shape[added..])
        {
            match (length, target) {
                (1, _) => strides.push(0),
                (a, b) if a == b => strides.push(stride),
                _ => return Err(refuse()),
            }
        }
        Ok(Self {
            shape: shape.to_vec(),
            strides,
            offset: self.offset,
        })
    }

    /// The axes in a new order.
    pub(super) fn permuted(&self, perm: &[usize]) -> Self {
        Self {
            shape: perm.iter().map(|&axis| self.shape[axis]).collect(),
            strides: perm.iter().map(|&axis| self.strides[axis]).collect(),
            offset: self.offset,
        }
    }
}

/// The shape that two shapes broadcast to, `NumPy` style.
pub(super) fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, OpError> {
    let rank = a.len().max(b.len());
    let length = |shape: &[usize], axis: usize| {
        let missing = rank - shape.len();
        if axis < missing {
            1
        } else {
            shape[axis - missing]
        }
    };
    (0..rank)
        .map(|axis| match (length(a, axis), length(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            (x, y) => Err(OpError::Shape(format!(
                "shapes {a:?} and {b:?} cannot be broadcast together: axis {axis} has {x} and {y}"
            ))),
        })
        .collect()
}

/// A contiguous tensor with the elements of a view of `x`.
pub(super) fn materialize(x: &Tensor, view: &View) -> Result<Tensor, OpError> {
    let x = x.contiguous()?;
    for_type!(x.dtype(), copy_view(&x, view))
}

fn copy_view<T: WithDType>(x: &Tensor, view: &View) -> Result<Tensor, OpError> {
    let elements = Elements::of(x)?;
    let source: &[T] = elements.as_slice()?;
    let mut out: Vec<T> = buffer(&view.shape)?;
    let walk = Walk::new(&view.shape, [&view.strides], [view.offset]);
    let [step] = walk.steps();
    fill_chunks(&mut out, |start, chunk| {
        walk.for_each_run(start, chunk.len(), |run, [from]| {
            let target = &mut chunk[run];
            match step {
                1 => {
                    let from = from as usize;
                    target.copy_from_slice(&source[from..from + target.len()]);
                }
                0 => target.fill(source[from as usize]),
                _ => {
                    let mut position = from;
                    for value in target {
                        *value = source[position as usize];
                        position += step;
                    }
                }
            }
        });
    });
    tensor(out, &view.shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_shapes_follow_numpy() {
        type Case = (&'static [usize], &'static [usize], Option<&'static [usize]>);
        let cases: &[Case] = &[
            (&[2, 3], &[3], Some(&[2, 3])),
            (&[2, 1], &[1, 3], Some(&[2, 3])),
            (&[], &[4], Some(&[4])),
            (&[], &[], Some(&[])),
            (&[0, 1], &[1, 5], Some(&[0, 5])),
            (&[0], &[1], Some(&[0])),
            (&[2, 3], &[2], None),
            (&[2], &[3], None),
        ];
        for (a, b, expected) in cases {
            let found = broadcast_shape(a, b);
            assert_eq!(found.ok().as_deref(), *expected, "{a:?} {b:?}");
        }
        let error = broadcast_shape(&[1, 2, 3], &[4, 3]).expect_err("2 is not 4");
        assert_eq!(
            error.to_string(),
            "shapes [1, 2, 3] and [4, 3] cannot be broadcast together: axis 1 has 2 and 4"
        );
    }

    #[test]
    fn axes_that_step_together_are_merged() {
        let shape = [2, 3, 4, 5];
        let full = contiguous_strides(&shape);
        let channel = [0, 1, 0, 0];
        let walk = Walk::new(&shape, [&full, &channel], [0, 0]);
        assert_eq!(walk.shape, [2, 3, 20]);
        assert_eq!(walk.steps(), [1, 0]);
    }

    #[test]
    fn runs_cover_any_part_in_order() {
        let shape = [2, 3, 2];
        let transposed = [2, 4, 1];
        let walk = Walk::new(&shape, [&transposed], [7]);
        let all: Vec<isize> = (0..12)
            .map(|i| 7 + (i / 6) * 2 + (i / 2 % 3) * 4 + i % 2)
            .collect();
        for start in 0..12 {
            for count in 0..=12 - start {
                let mut seen = vec![-1; count];
                walk.for_each_run(start, count, |run, [from]| {
                    for (k, place) in (0isize..).zip(run) {
                        seen[place] = from + k * walk.steps()[0];
                    }
                });
                assert_eq!(seen, all[start..start + count], "{start} {count}");
            }
        }
    }

    #[test]
    fn a_large_transposition_is_exact() {
        let (rows, columns) = (300, 170);
        let data: Vec<i64> = (0..rows * columns).collect();
        let x = tensor(data, &[rows as usize, columns as usize]).expect("tensor");
        let y = materialize(&x, &View::of(x.dims()).permuted(&[1, 0])).expect("transposes");
        assert_eq!(y.dims(), [columns as usize, rows as usize]);
        let values = y
            .flatten_all()
            .and_then(|y| y.to_vec1::<i64>())
            .expect("values");
        assert!(
            (0i64..)
                .zip(values)
                .all(|(i, v)| v == (i % rows) * columns + i / rows)
        );
    }
}
