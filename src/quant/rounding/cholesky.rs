//! Triangular factors of symmetric matrices.

use rayon::prelude::*;

use super::lanes::dot;

/// Rows and columns that are factored together.
const PANEL: usize = 48;

/// The lower factor of a symmetric positive definite matrix, `H = L · Lᵀ`, row by row.
#[derive(Debug, Clone)]
pub(super) struct Cholesky {
    size: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors a matrix `[size, size]`; `None` where it is not positive definite or not finite.
    ///
    /// ```text
    /// L[i, j] = (H[i, j] - Σ_{k<j} L[i, k] · L[j, k]) / L[j, j],   L[j, j] = √(H[j, j] - Σ_{k<j} L[j, k]²)
    /// ```
    /// Only the lower triangle is read. The factor does not depend on the number of threads.
    pub(super) fn of(matrix: &[f64], size: usize) -> Option<Self> {
        let mut lower = matrix.to_vec();
        for first in (0..size).step_by(PANEL) {
            let last = (first + PANEL).min(size);
            let (above, below) = lower.split_at_mut(last * size);
            factor_diagonal(above, size, first..last)?;
            let above = &*above;
            below.par_chunks_mut(size).for_each(|row| {
                for column in first..last {
                    let other = &above[column * size..][..=column];
                    let sum = dot(&row[..column], &other[..column]);
                    row[column] = (row[column] - sum) / other[column];
                }
            });
        }
        for (index, row) in lower.chunks_mut(size.max(1)).enumerate() {
            row[index + 1..].fill(0.0);
        }
        Some(Self { size, lower })
    }

    /// The upper factor `Lᵀ`, row by row.
    pub(super) fn upper(&self) -> Vec<f32> {
        let size = self.size;
        let mut upper = vec![0.0; size * size];
        upper
            .par_chunks_mut(size.max(1))
            .enumerate()
            .for_each(|(row, upper)| {
                for (column, value) in upper.iter_mut().enumerate().skip(row) {
                    *value = self.lower[column * size + row] as f32;
                }
            });
        upper
    }

    /// Replaces `x` by the `y` with `H · y = x`.
    pub(super) fn solve(&self, x: &mut [f64]) {
        let rows = || self.lower.chunks(self.size.max(1)).enumerate();
        for (index, row) in rows() {
            let sum = dot(&x[..index], &row[..index]);
            x[index] = (x[index] - sum) / row[index];
        }
        for (index, row) in rows().rev() {
            let value = x[index] / row[index];
            x[index] = value;
            for (x, l) in x[..index].iter_mut().zip(row) {
                *x -= value * l;
            }
        }
    }
}

/// Factors the square on the diagonal at `panel`, whose columns before the panel are factored.
fn factor_diagonal(above: &mut [f64], size: usize, panel: std::ops::Range<usize>) -> Option<()> {
    for row in panel.clone() {
        for column in panel.start..=row {
            let (one, other) = (row * size, column * size);
            let sum = dot(&above[one..one + column], &above[other..other + column]);
            let rest = above[one + column] - sum;
            above[one + column] = if row == column {
                if !rest.is_finite() || rest <= 0.0 {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / above[other + column]
            };
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A · Aᵀ + I` of a matrix with numbers of no pattern.
    fn positive_definite(size: usize) -> Vec<f64> {
        let a = |i: usize, j: usize| ((i * 31 + j * 17 + i * j) % 23) as f64 / 11.0 - 1.0;
        let cell = |i: usize, j: usize| {
            (0..size).map(|k| a(i, k) * a(j, k)).sum::<f64>() + f64::from(u8::from(i == j))
        };
        (0..size * size)
            .map(|at| cell(at / size, at % size))
            .collect()
    }

    #[test]
    fn the_factor_gives_the_matrix_back_and_solves_it() {
        for size in [0, 1, 3, 47, 48, 49, 131] {
            let matrix = positive_definite(size);
            let factor = Cholesky::of(&matrix, size).unwrap();
            let upper = factor.upper();
            for (at, expected) in matrix.iter().enumerate() {
                let (i, j) = (at / size, at % size);
                let product = |k: usize| f64::from(upper[k * size + i] * upper[k * size + j]);
                let actual: f64 = (0..size).map(product).sum();
                assert!(
                    (actual - expected).abs() < 1e-4 * size as f64,
                    "{size}: {i} {j}"
                );
            }
            let solution: Vec<f64> = (0..size).map(|i| i as f64 - 2.5).collect();
            let row = |i: usize| &matrix[i * size..(i + 1) * size];
            let mut x: Vec<f64> = (0..size).map(|i| dot(row(i), &solution)).collect();
            factor.solve(&mut x);
            for (actual, expected) in x.iter().zip(&solution) {
                assert!(
                    (actual - expected).abs() < 1e-6,
                    "{size}: {actual} {expected}"
                );
            }
        }
    }

    #[test]
    fn singular_and_broken_matrices_have_no_factor() {
        for matrix in [
            [0.0, 0.0, 0.0, 0.0],
            [1.0, 1.0, 1.0, 1.0],
            [1.0, 2.0, 2.0, 1.0],
            [f64::NAN, 0.0, 0.0, 1.0],
            [f64::INFINITY, 0.0, 0.0, 1.0],
        ] {
            assert!(Cholesky::of(&matrix, 2).is_none(), "{matrix:?}");
        }
    }
}
