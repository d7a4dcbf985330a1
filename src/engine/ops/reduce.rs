//! Reductions over axes.

use candle_core::{DType, Tensor, WithDType};

use super::Inputs;
use super::elements::{Elements, axis_index, buffer, fill_rows, tensor};
use super::math;
use super::strided::{View, materialize};
use crate::engine::error::OpError;
use crate::model::Reduction;

/// Reduces input 0 over the axes in input 1; over all axes if there are none.
pub(super) fn reduce(
    reduction: Reduction,
    keep_dims: bool,
    noop_with_empty_axes: bool,
    inputs: &Inputs<'_>,
) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let listed = inputs.optional_integers(1)?.unwrap_or_default();
    if listed.is_empty() && noop_with_empty_axes {
        return without_axes(reduction, inputs);
    }
    let mut reduced = vec![listed.is_empty(); x.rank()];
    for axis in listed {
        reduced[axis_index(axis, x.rank())?] = true;
    }
    reduce_axes(reduction, &reduced, keep_dims, inputs)
}

/// A reduction of every element by itself, which leaves sums, means and extremes as they are.
fn without_axes(reduction: Reduction, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    reduce_axes(reduction, &vec![false; x.rank()], true, inputs)
}

/// Reduces input 0 over the marked axes.
pub(super) fn reduce_axes(
    reduction: Reduction,
    reduced: &[bool],
    keep_dims: bool,
    inputs: &Inputs<'_>,
) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    let kept_axes = (0..x.rank()).filter(|&axis| !reduced[axis]);
    let reduced_axes = (0..x.rank()).filter(|&axis| reduced[axis]);
    let perm: Vec<usize> = kept_axes.chain(reduced_axes).collect();
    let mut shape = Vec::with_capacity(x.rank());
    let mut length = 1;
    for (&axis_length, &is_reduced) in x.dims().iter().zip(reduced) {
        match (is_reduced, keep_dims) {
            (false, _) => shape.push(axis_length),
            (true, true) => shape.push(1),
            (true, false) => {}
        }
        if is_reduced {
            length *= axis_length;
        }
    }
    let rows = if perm.is_sorted() {
        x.contiguous()?
    } else {
        materialize(x, &View::of(x.dims()).permuted(&perm))?
    };
    match x.dtype() {
        DType::F32 => reduce_rows(&rows, length, &shape, |row| row_f32(reduction, row)),
        DType::I64 => reduce_rows(&rows, length, &shape, |row| row_i64(reduction, row)),
        DType::U8 if reduction == Reduction::Max => reduce_rows(&rows, length, &shape, |row| {
            u8::from(row.iter().any(|&v: &u8| v != 0))
        }),
        DType::U8 if reduction == Reduction::Min => reduce_rows(&rows, length, &shape, |row| {
            u8::from(row.iter().all(|&v: &u8| v != 0))
        }),
        _ => Err(inputs.wrong_type(0, "f32 or i64")),
    }
}

fn reduce_rows<T: WithDType>(
    x: &Tensor,
    length: usize,
    shape: &[usize],
    f: impl Fn(&[T]) -> T + Sync,
) -> Result<Tensor, OpError> {
    let elements = Elements::of(x)?;
    let source: &[T] = elements.as_slice()?;
    let mut out: Vec<T> = buffer(shape)?;
    fill_rows(1, length, &mut out, |row, values| {
        for value in values {
            *value = f(&source[row * length..(row + 1) * length]);
        }
    });
    tensor(out, shape)
}

/// Sums of rows of `length` elements.
pub(super) fn sum_rows(x: &Tensor, length: usize, shape: &[usize]) -> Result<Tensor, OpError> {
    reduce_rows(x, length, shape, |row| row_f32(Reduction::Sum, row))
}

/// Sums are in `f64`, in an order that depends on the length alone.
fn row_f32(reduction: Reduction, row: &[f32]) -> f32 {
    match reduction {
        Reduction::Sum => sum(row, f64::from) as f32,
        Reduction::Mean => (sum(row, f64::from) / row.len() as f64) as f32,
        Reduction::SumSquare => sum(row, |v| f64::from(v) * f64::from(v)) as f32,
        Reduction::L2 => sum(row, |v| f64::from(v) * f64::from(v)).sqrt() as f32,
        Reduction::Prod => row.iter().map(|v| f64::from(*v)).product::<f64>() as f32,
        Reduction::Max => row.iter().copied().fold(f32::NEG_INFINITY, math::max),
        Reduction::Min => row.iter().copied().fold(f32::INFINITY, math::min),
    }
}

/// Eight partial sums, so that the loop vectorises.
fn sum(row: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let mut partial = [0.0f64; 8];
    let chunks = row.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (total, v) in partial.iter_mut().zip(chunk) {
            *total += f(*v);
        }
    }
    for (total, v) in partial.iter_mut().zip(rest) {
        *total += f(*v);
    }
    partial.iter().sum()
}

fn row_i64(reduction: Reduction, row: &[i64]) -> i64 {
    let sum = || row.iter().fold(0i64, |total, v| total.wrapping_add(*v));
    let square_sum = || {
        row.iter()
            .fold(0i64, |total, v| total.wrapping_add(v.wrapping_mul(*v)))
    };
    match reduction {
        Reduction::Sum => sum(),
        Reduction::Mean => sum().checked_div(row.len() as i64).unwrap_or(0),
        Reduction::SumSquare => square_sum(),
        Reduction::L2 => (square_sum() as f64).sqrt() as i64,
        Reduction::Prod => row.iter().fold(1i64, |total, v| total.wrapping_mul(*v)),
        Reduction::Max => row.iter().copied().max().unwrap_or(i64::MIN),
        Reduction::Min => row.iter().copied().min().unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::Op;

    fn op(reduction: Reduction, keep_dims: bool) -> Op {
        Op::Reduce {
            reduction,
            keep_dims,
            noop_with_empty_axes: false,
        }
    }

    #[test]
    fn every_reduction_of_a_row() {
        let x = [3.0, -1.0, 2.0];
        for (reduction, float, int) in [
            (Reduction::Sum, 4.0, 4),
            (Reduction::Mean, 4.0 / 3.0, 1),
            (Reduction::Max, 3.0, 3),
            (Reduction::Min, -1.0, -1),
            (Reduction::Prod, -6.0, -6),
            (Reduction::SumSquare, 14.0, 14),
            (Reduction::L2, 14.0f32.sqrt(), 3),
        ] {
            let y = run(&op(reduction, false), &[f32s(&[3], &x)]);
            assert_close(&y, &f32s(&[], &[float]));
            let y = run(&op(reduction, true), &[i64s(&[3], &[3, -1, 2])]);
            assert_same(&y, &i64s(&[1], &[int]));
        }
    }

    #[test]
    fn any_axes_in_any_order() {
        let x: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let x = f32s(&[2, 3, 4], &x);
        type Case = (&'static [i64], bool, &'static [usize], Vec<f32>);
        let cases: [Case; 6] = [
            (&[2], false, &[2, 3], vec![6., 22., 38., 54., 70., 86.]),
            (&[-1, 1], false, &[2], vec![66., 210.]),
            (&[0, 2], true, &[1, 3, 1], vec![60., 92., 124.]),
            (
                &[1],
                true,
                &[2, 1, 4],
                vec![12., 15., 18., 21., 48., 51., 54., 57.],
            ),
            (&[], true, &[1, 1, 1], vec![276.]),
            (&[0, 1, 2], false, &[], vec![276.]),
        ];
        for (axes, keep_dims, shape, expected) in cases {
            let inputs = [x.clone(), i64s(&[axes.len()], axes)];
            let y = run(&op(Reduction::Sum, keep_dims), &inputs);
            assert_close(&y, &f32s(shape, &expected));
        }
        let error = fail(&op(Reduction::Sum, true), &[x, i64s(&[1], &[3])]);
        assert_eq!(
            error.to_string(),
            "axis 3 does not exist in a tensor of rank 3"
        );
    }

    #[test]
    fn empty_axes_can_mean_nothing_to_reduce() {
        let noop = |reduction| Op::Reduce {
            reduction,
            keep_dims: true,
            noop_with_empty_axes: true,
        };
        let x = f32s(&[2], &[-3.0, 2.0]);
        let inputs = [x.clone(), i64s(&[0], &[])];
        assert_close(&run(&noop(Reduction::Mean), &inputs), &x);
        let squares = run(&noop(Reduction::SumSquare), &inputs);
        assert_close(&squares, &f32s(&[2], &[9.0, 4.0]));
    }

    #[test]
    fn empty_rows_give_the_neutral_element() {
        for (reduction, expected) in [
            (Reduction::Sum, 0.0),
            (Reduction::Prod, 1.0),
            (Reduction::Max, f32::NEG_INFINITY),
        ] {
            let inputs = [f32s(&[2, 0], &[]), i64s(&[1], &[1])];
            let y = run(&op(reduction, false), &inputs);
            let values = y.to_vec1::<f32>().expect("f32");
            assert_eq!(values, [expected; 2]);
        }
    }

    #[test]
    fn large_sums_keep_their_digits() {
        let y = run(
            &op(Reduction::Mean, false),
            &[f32s(&[1 << 20], &vec![0.1; 1 << 20])],
        );
        assert_close(&y, &f32s(&[], &[0.1]));
    }
}
