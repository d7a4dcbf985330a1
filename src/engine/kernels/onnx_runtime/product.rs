//! Matrix products.
//!
//! ```text
//! c = Σ over blocks of (fma(a_k, b_k, … fma(a_1, b_1, 0)))
//! ```
//! A sum runs along the inner axis with one rounding a step, and sums of blocks are added up. How long
//! a block is depends on the shape alone.

use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

/// Columns that are computed together.
pub(super) const PANEL: usize = 64;

/// Columns of a matrix, one row of them for each step of the inner axis.
pub(super) type Columns = [[f32; PANEL]];

/// Steps of a block where the right matrix is a constant, which the runtime packs beforehand.
const PACKED_BLOCK: usize = 256;

/// Steps of a block, for `columns` columns that are computed at once.
///
/// A tile of the right matrix has 128 × 128 numbers; a narrow matrix gets longer blocks instead.
pub(super) fn block(depth: usize, columns: usize) -> usize {
    let (mut width, mut steps) = (128, 128);
    if columns < depth {
        while width > 16 && width / 2 >= columns {
            width /= 2;
            steps *= 2;
        }
    }
    steps
}

/// A product of `[rows, depth]` by `[depth, PANEL]`.
pub(super) struct Product<'a> {
    /// The left matrix by rows.
    pub left: &'a [f32],
    /// The right matrix by rows.
    pub right: &'a Columns,
    /// Steps of a block.
    pub block: usize,
    /// Whether the sums are added to what `out` holds.
    pub adds: bool,
    /// The result by rows.
    pub out: &'a mut Columns,
}

impl SimdOp for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let (lanes, depth) = (ops.len(), self.right.len().max(1));
        for (row, out) in self.left.chunks_exact(depth).zip(self.out) {
            let blocks = row.chunks(self.block).zip(self.right.chunks(self.block));
            for (index, (row, right)) in blocks.enumerate() {
                for at in (0..PANEL).step_by(4 * lanes) {
                    let mut sums = [ops.zero(); 4];
                    for (x, right) in row.iter().zip(right) {
                        let x = ops.splat(*x);
                        for (register, sum) in sums.iter_mut().enumerate() {
                            let y = ops.load(&right[at + register * lanes..]);
                            *sum = ops.mul_add(x, y, *sum);
                        }
                    }
                    for (register, sum) in sums.into_iter().enumerate() {
                        let place = &mut out[at + register * lanes..][..lanes];
                        let begun = index > 0 || self.adds;
                        let total = if begun {
                            ops.add(ops.load(place), sum)
                        } else {
                            sum
                        };
                        ops.store(total, place);
                    }
                }
            }
        }
    }
}

/// A product with a left matrix of one row, `[1, depth]` by `[depth, PANEL]`, added to what `out` holds.
///
/// Its kernel has no fused steps: four products are summed and the sum is added, then two, then one.
pub(super) struct RowProduct<'a> {
    /// The left row.
    pub left: &'a [f32],
    /// The right matrix by rows.
    pub right: &'a Columns,
    /// The result.
    pub out: &'a mut [f32; PANEL],
}

impl SimdOp for RowProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        let depth = self.left.len();
        for at in (0..PANEL).step_by(lanes) {
            let mut total = ops.load(&self.out[at..]);
            let mut done = 0;
            while done < depth {
                let count = match depth - done {
                    4.. => 4,
                    2..=3 => 2,
                    _ => 1,
                };
                let mut products = (done..done + count).map(|k| {
                    let (x, y) = (ops.splat(self.left[k]), ops.load(&self.right[k][at..]));
                    ops.mul(x, y)
                });
                let first = products.next().unwrap_or_else(|| ops.zero());
                let sum = products.fold(first, |sum, product| ops.add(sum, product));
                total = ops.add(total, sum);
                done += count;
            }
            ops.store(total, &mut self.out[at..at + lanes]);
        }
    }
}

/// The right side of a product.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a> {
    /// `[depth, columns]`, or `[columns, depth]` if transposed.
    pub values: &'a [f32],
    /// Number of columns.
    pub columns: usize,
    /// Whether the values lie by columns.
    pub transposed: bool,
    /// Whether it is a constant of the file.
    pub constant: bool,
}

/// Products of one vector with others that lie beside each other, without fused steps.
///
/// Products run through eight lanes; how these are summed depends on whether a vector is one of four that
/// are computed together, of two, or alone.
fn dots(one: &[f32], others: &[f32]) -> Vec<f32> {
    let count = others.len().checked_div(one.len()).unwrap_or(0);
    let vectors = others.chunks_exact(one.len().max(1)).enumerate();
    vectors
        .map(|(index, other)| {
            let mut l = [0.0f32; 8];
            for (at, (a, b)) in one.iter().zip(other).enumerate() {
                l[at % 8] += a * b;
            }
            let left = count - index / 4 * 4;
            if left >= 4 {
                (((l[0] + l[1]) + l[2]) + l[3]) + (((l[4] + l[5]) + l[6]) + l[7])
            } else if left >= 2 && index % 4 < 2 {
                ((l[0] + l[2]) + (l[4] + l[6])) + ((l[1] + l[3]) + (l[5] + l[7]))
            } else {
                ((l[0] + l[1]) + (l[2] + l[3])) + ((l[4] + l[5]) + (l[6] + l[7]))
            }
        })
        .collect()
}

/// The product where one side is a vector beside a right side that is computed, if its kernel takes
/// vectors that lie side by side.
fn product_of_vectors(
    left: &[f32],
    (rows, depth): (usize, usize),
    right: Right<'_>,
    start: Option<&[f32]>,
) -> Option<Vec<f32>> {
    if right.constant || depth == 0 {
        return None;
    }
    let mut sums = if rows == 1 && right.transposed {
        dots(left, right.values)
    } else if rows > 1 && right.columns == 1 && (!right.transposed || depth == 1) {
        dots(right.values, left)
    } else {
        return None;
    };
    if let Some(start) = start {
        let starts = start.iter().cycle();
        sums.iter_mut()
            .zip(starts)
            .for_each(|(sum, start)| *sum += start);
    }
    Some(sums)
}

/// `left · right`, added to `start` in every row where that is given; `left` is `[rows, depth]`.
pub fn matrix_product(
    left: &[f32],
    depth: usize,
    right: Right<'_>,
    start: Option<&[f32]>,
) -> Vec<f32> {
    let columns = right.columns;
    let rows = left.len().checked_div(depth).unwrap_or(0);
    if let Some(out) = product_of_vectors(left, (rows, depth), right, start) {
        return out;
    }
    let mut out = vec![0.0; rows * columns];
    let block = if right.constant {
        PACKED_BLOCK
    } else {
        block(depth, columns)
    };
    let one_row = rows == 1 && !right.constant;
    let mut panel = vec![[0.0; PANEL]; depth];
    let mut sums = vec![[0.0; PANEL]; rows];
    for first in (0..columns).step_by(PANEL) {
        let width = PANEL.min(columns - first);
        for (k, row) in panel.iter_mut().enumerate() {
            for (column, value) in (first..first + width).zip(row) {
                *value = if right.transposed {
                    right.values[column * depth + k]
                } else {
                    right.values[k * columns + column]
                };
            }
        }
        if let (true, [out]) = (one_row, sums.as_mut_slice()) {
            *out = [0.0; PANEL];
            if let Some(start) = start {
                out[..width].copy_from_slice(&start[first..first + width]);
            }
            let right = &panel;
            RowProduct { left, right, out }.dispatch();
        } else {
            if let Some(start) = start {
                for row in &mut sums {
                    row[..width].copy_from_slice(&start[first..first + width]);
                }
            }
            Product {
                left,
                right: &panel,
                block,
                adds: start.is_some(),
                out: &mut sums,
            }
            .dispatch();
        }
        for (row, sums) in out.chunks_exact_mut(columns).zip(&sums) {
            row[first..first + width].copy_from_slice(&sums[..width]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::recorded::recorded;
    use super::*;

    #[test]
    fn blocks_get_longer_as_the_matrix_gets_narrower() {
        for (depth, columns, steps) in [
            (144, 1024, 128),
            (576, 64, 256),
            (288, 32, 512),
            (640, 10, 1024),
            (27, 1024, 128),
            (256, 169, 128),
        ] {
            assert_eq!(block(depth, columns), steps, "{depth} by {columns}");
        }
    }

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    #[test]
    fn sums_are_added_up_in_the_order_of_the_runtime() {
        let (rows, depth, columns) = (3, 300, 70);
        let (left, right) = (values(rows * depth, 1.3), values(depth * columns, 0.7));
        let start = values(columns, 2.1);
        let by_columns: Vec<f32> = (0..columns * depth)
            .map(|at| right[at % depth * columns + at / depth])
            .collect();
        for (constant, block) in [(true, 256), (false, 128)] {
            let expected: Vec<f32> = (0..rows * columns)
                .map(|at| {
                    let (row, column) = (at / columns, at % columns);
                    let mut total = start[column];
                    for from in (0..depth).step_by(block) {
                        let mut sum = 0.0f32;
                        for k in from..depth.min(from + block) {
                            sum = left[row * depth + k].mul_add(right[k * columns + column], sum);
                        }
                        total += sum;
                    }
                    total
                })
                .collect();
            for (values, transposed) in [(&right, false), (&by_columns, true)] {
                let right = Right {
                    values,
                    columns,
                    transposed,
                    constant,
                };
                assert_eq!(
                    matrix_product(&left, depth, right, Some(&start)),
                    expected,
                    "constant {constant}, transposed {transposed}"
                );
            }
        }
    }

    #[test]
    fn one_row_is_summed_in_fours() {
        let (left, right) = (values(7, 1.3), values(7 * 3, 0.7));
        let side = Right {
            values: &right,
            columns: 3,
            transposed: false,
            constant: false,
        };
        let expected: Vec<f32> = (0..3)
            .map(|column| {
                let p = |k: usize| left[k] * right[k * 3 + column];
                (p(0) + p(1) + p(2) + p(3)) + (p(4) + p(5)) + p(6)
            })
            .collect();
        assert_eq!(matrix_product(&left, 7, side, None), expected);
    }

    #[test]
    fn products_are_those_of_the_runtime() {
        for case in recorded("Gemm") {
            let b = case.numbers("b");
            let columns = case.numbers("y").len() / case.rows();
            let start = case.has("c").then(|| case.numbers("c"));
            let right = Right {
                values: &b,
                columns,
                transposed: case.flag("transposed"),
                constant: false,
            };
            let depth = b.len() / columns;
            let found = matrix_product(&case.numbers("a"), depth, right, start.as_deref());
            case.assert_same(&found);
        }
    }
}
