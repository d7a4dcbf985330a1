//! Operators that change the shape and leave the elements as they are.

use candle_core::{DType, Tensor};

use super::Inputs;
use super::elements::{axis_index, checked_elements, tensor};
use super::strided::{View, broadcast_shape, materialize};
use crate::engine::error::OpError;

/// The shape of input 0 from axis `start` to `end`, as a vector.
pub(super) fn shape(start: i64, end: Option<i64>, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let dims = inputs.required(0)?.dims();
    let rank = dims.len() as i64;
    let place = |axis: i64| {
        let from_start = if axis < 0 { axis + rank } else { axis };
        from_start.clamp(0, rank) as usize
    };
    let (start, end) = (place(start), place(end.unwrap_or(rank)));
    let lengths: Vec<i64> = dims
        .get(start..end)
        .unwrap_or_default()
        .iter()
        .map(|&length| length as i64)
        .collect();
    let count = lengths.len();
    tensor(lengths, &[count])
}

/// Input 0 with the shape in input 1; 0 copies an axis (unless `allow_zero`), −1 takes the rest.
pub(super) fn reshape(allow_zero: bool, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let target = inputs.integers(1)?;
    let shape = reshape_target(x.dims(), &target, allow_zero)?;
    Ok(x.contiguous()?.reshape(shape)?)
}

fn reshape_target(from: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>, OpError> {
    let refuse = || {
        OpError::Shape(format!(
            "cannot reshape {from:?} ({} elements) to {target:?}",
            from.iter().product::<usize>()
        ))
    };
    let mut shape = Vec::with_capacity(target.len());
    let mut inferred = None;
    for (axis, &length) in target.iter().enumerate() {
        shape.push(match length {
            -1 if inferred.is_none() => {
                inferred = Some(axis);
                1
            }
            0 if !allow_zero => *from.get(axis).ok_or_else(refuse)?,
            length => usize::try_from(length).map_err(|_| refuse())?,
        });
    }
    let elements: usize = from.iter().product();
    let known = checked_elements(&shape)?;
    if let Some(axis) = inferred {
        if known == 0 || !elements.is_multiple_of(known) {
            return Err(refuse());
        }
        shape[axis] = elements / known;
    } else if known != elements {
        return Err(refuse());
    }
    Ok(shape)
}

/// Input 0 as a matrix: the axes before `axis` are the rows.
pub(super) fn flatten(axis: i64, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let axis = if axis == x.rank() as i64 {
        x.rank()
    } else {
        axis_index(axis, x.rank())?
    };
    let (rows, columns) = x.dims().split_at(axis);
    let shape: [usize; 2] = [rows.iter().product(), columns.iter().product()];
    Ok(x.contiguous()?.reshape(&shape[..])?)
}

/// Input 0 without the axes of length 1 in input 1; without all of them if there is no input 1.
pub(super) fn squeeze(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let mut drop: Vec<bool> = x.dims().iter().map(|&length| length == 1).collect();
    if let Some(axes) = inputs.optional_integers(1)? {
        drop = vec![false; x.rank()];
        for axis in axes {
            let axis = axis_index(axis, x.rank())?;
            if x.dims()[axis] != 1 {
                return Err(OpError::Shape(format!(
                    "axis {axis} of {:?} has length {} and cannot be squeezed",
                    x.dims(),
                    x.dims()[axis]
                )));
            }
            drop[axis] = true;
        }
    }
    let kept = x.dims().iter().zip(&drop).filter(|(_, drop)| !**drop);
    let shape: Vec<usize> = kept.map(|(&length, _)| length).collect();
    Ok(x.contiguous()?.reshape(shape)?)
}

/// Input 0 with axes of length 1 added at the places in input 1, which count in the result.
pub(super) fn unsqueeze(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let axes = inputs.integers(1)?;
    let rank = x.rank() + axes.len();
    let mut added = vec![false; rank];
    for &axis in &axes {
        let axis = axis_index(axis, rank)?;
        if added[axis] {
            return Err(OpError::Shape(format!(
                "axes {axes:?} name axis {axis} twice"
            )));
        }
        added[axis] = true;
    }
    let mut lengths = x.dims().iter().copied();
    let shape: Vec<usize> = added
        .iter()
        .map(|&added| {
            if added {
                1
            } else {
                lengths.next().unwrap_or(1)
            }
        })
        .collect();
    Ok(x.contiguous()?.reshape(shape)?)
}

/// Input 0 with its axes in the order of `perm`, or reversed.
pub(super) fn transpose(perm: Option<&[usize]>, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let perm = perm.map_or_else(|| (0..x.rank()).rev().collect(), <[usize]>::to_vec);
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.rank()) {
        return Err(OpError::Shape(format!(
            "perm {perm:?} is not an order of the {} axes of {:?}",
            x.rank(),
            x.dims()
        )));
    }
    materialize(x, &View::of(x.dims()).permuted(&perm))
}

/// Input 0 repeated to the shape in input 1; both broadcast to each other.
pub(super) fn expand(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let target = inputs.lengths(1)?;
    let shape = broadcast_shape(x.dims(), &target)?;
    materialize(x, &View::of(x.dims()).broadcast_to(&shape)?)
}

/// Input 0 repeated along every axis as often as input 1 says.
pub(super) fn tile(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let repeats = inputs.lengths(1)?;
    if repeats.len() != x.rank() {
        return Err(OpError::Shape(format!(
            "{} repeats for the {} axes of {:?}",
            repeats.len(),
            x.rank(),
            x.dims()
        )));
    }
    let whole = View::of(x.dims());
    let mut interleaved = View {
        shape: Vec::with_capacity(2 * x.rank()),
        strides: Vec::with_capacity(2 * x.rank()),
        offset: 0,
    };
    for ((&length, &stride), &count) in whole.shape.iter().zip(&whole.strides).zip(&repeats) {
        interleaved.shape.extend([count, length]);
        interleaved.strides.extend([0, stride]);
    }
    checked_elements(&interleaved.shape)?;
    let pairs = interleaved.shape.chunks_exact(2);
    let shape: Vec<usize> = pairs.map(|pair| pair[0].saturating_mul(pair[1])).collect();
    Ok(materialize(x, &interleaved)?.reshape(shape)?)
}

/// Input 0 as it is.
pub(super) fn identity(inputs: &Inputs<'_>, output_count: usize) -> Result<Vec<Tensor>, OpError> {
    let x = inputs.required(0)?;
    let mut outputs = vec![x.contiguous()?];
    if output_count > 1 {
        // The mask of a dropout that drops nothing.
        outputs.push(Tensor::ones(x.dims(), DType::U8, x.device())?);
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
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
    fn shape_takes_a_part() {
        let x = count(&[2, 3, 4]);
        let cases: [(i64, Option<i64>, &[i64]); 7] = [
            (0, None, &[2, 3, 4]),
            (1, None, &[3, 4]),
            (-2, Some(-1), &[3]),
            (0, Some(99), &[2, 3, 4]),
            (-99, Some(1), &[2]),
            (2, Some(1), &[]),
            (5, None, &[]),
        ];
        for (start, end, expected) in cases {
            let y = run(&Op::Shape { start, end }, std::slice::from_ref(&x));
            assert_same(&y, &vector(expected));
        }
        let scalar = run(
            &Op::Shape {
                start: 0,
                end: None,
            },
            &[count(&[])],
        );
        assert_same(&scalar, &vector(&[]));
    }

    #[test]
    fn reshape_infers_and_copies() {
        type Case = (
            &'static [usize],
            &'static [i64],
            bool,
            Result<&'static [usize], &'static str>,
        );
        let cases: &[Case] = &[
            (&[2, 3, 4], &[2, -1], false, Ok(&[2, 12])),
            (&[2, 3, 4], &[0, 0, -1], false, Ok(&[2, 3, 4])),
            (&[1], &[], false, Ok(&[])),
            (&[], &[1, -1], false, Ok(&[1, 1])),
            (&[0, 3], &[3, 0], true, Ok(&[3, 0])),
            (
                &[0, 3],
                &[0, -1],
                false,
                Err("cannot reshape [0, 3] (0 elements) to [0, -1]"),
            ),
            (
                &[2, 3],
                &[4, -1],
                false,
                Err("cannot reshape [2, 3] (6 elements) to [4, -1]"),
            ),
            (&[2, 3], &[-1, -1], false, Err("[-1, -1]")),
            (&[2, 3], &[5], false, Err("(6 elements) to [5]")),
            (&[2, 3], &[2, 3, 0], false, Err("[2, 3, 0]")),
            (
                &[2, 3],
                &[i64::MAX, i64::MAX],
                false,
                Err("more than 2147483648 elements"),
            ),
        ];
        for (from, target, allow_zero, expected) in cases {
            let op = Op::Reshape {
                allow_zero: *allow_zero,
            };
            let inputs = [count(from), vector(target)];
            match expected {
                Ok(shape) => assert_same(&run(&op, &inputs), &count(shape)),
                Err(part) => {
                    let error = fail(&op, &inputs).to_string();
                    assert!(error.contains(part), "{error}");
                }
            }
        }
    }

    #[test]
    fn flatten_splits_at_any_axis() {
        let cases: [(i64, &[usize]); 5] = [
            (0, &[1, 24]),
            (1, &[2, 12]),
            (3, &[24, 1]),
            (-1, &[6, 4]),
            (-3, &[1, 24]),
        ];
        for (axis, shape) in cases {
            let y = run(&Op::Flatten { axis }, &[count(&[2, 3, 4])]);
            assert_same(&y, &count(shape));
        }
        fail(&Op::Flatten { axis: 4 }, &[count(&[2, 3, 4])]);
    }

    #[test]
    fn squeeze_and_unsqueeze_are_inverse() {
        let x = count(&[2, 3]);
        let cases: [(&[i64], &[usize]); 4] = [
            (&[0], &[1, 2, 3]),
            (&[-1], &[2, 3, 1]),
            (&[3, 0], &[1, 2, 3, 1]),
            (&[1, 2], &[2, 1, 1, 3]),
        ];
        for (axes, shape) in cases {
            let wide = run(&Op::Unsqueeze, &[x.clone(), vector(axes)]);
            assert_same(&wide, &count(shape));
            assert_same(&run(&Op::Squeeze, &[wide.clone(), vector(axes)]), &x);
            assert_same(&run(&Op::Squeeze, &[wide]), &x);
        }
        let error = fail(&Op::Squeeze, &[x.clone(), vector(&[1])]).to_string();
        assert_eq!(
            error,
            "axis 1 of [2, 3] has length 3 and cannot be squeezed"
        );
        fail(&Op::Unsqueeze, &[x, vector(&[0, 0])]);
    }

    #[test]
    fn transpose_orders_axes() {
        let op = |perm: Option<&[usize]>| Op::Transpose {
            perm: perm.map(<[usize]>::to_vec),
        };
        let y = run(&op(None), &[count(&[2, 3])]);
        assert_same(&y, &i64s(&[3, 2], &[0, 3, 1, 4, 2, 5]));
        let y = run(&op(Some(&[1, 0, 2])), &[count(&[2, 2, 2])]);
        assert_same(&y, &i64s(&[2, 2, 2], &[0, 1, 4, 5, 2, 3, 6, 7]));
        assert_same(&run(&op(None), &[count(&[])]), &count(&[]));
        let error = fail(&op(Some(&[0, 0])), &[count(&[2, 3])]).to_string();
        assert_eq!(error, "perm [0, 0] is not an order of the 2 axes of [2, 3]");
    }

    #[test]
    fn expand_and_tile_repeat() {
        let y = run(&Op::Expand, &[count(&[2, 1]), vector(&[1, 3])]);
        assert_same(&y, &i64s(&[2, 3], &[0, 0, 0, 1, 1, 1]));
        let y = run(&Op::Tile, &[count(&[1, 2]), vector(&[2, 2])]);
        assert_same(&y, &i64s(&[2, 4], &[0, 1, 0, 1, 0, 1, 0, 1]));
        let y = run(&Op::Tile, &[count(&[2]), vector(&[0])]);
        assert_same(&y, &vector(&[]));
        for (op, amount) in [(Op::Expand, 1 << 40), (Op::Tile, 1 << 40)] {
            let error = fail(&op, &[count(&[1]), vector(&[amount])]).to_string();
            assert!(error.contains("1099511627776"), "{error}");
        }
        fail(&Op::Tile, &[count(&[2]), vector(&[-1])]);
        fail(&Op::Tile, &[count(&[2]), vector(&[1, 1])]);
    }
}
