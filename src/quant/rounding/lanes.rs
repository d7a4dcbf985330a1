//! Weights of sixteen output channels side by side, and the inner loops over them.
#![expect(
    clippy::inline_always,
    reason = "a loop gets the instruction set of its caller only if it is inlined"
)]

use crate::quant::fake_quantize::{clamp, round_half_even, with_widest_vectors};

/// Output channels that are rounded together.
pub(super) const LANES: usize = 16;

/// One number of each of them.
pub(super) type Lanes = [f32; LANES];

/// The levels `steps · scale` that a weight of each channel can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) scale: Lanes,
    pub(super) lowest: Lanes,
    pub(super) highest: Lanes,
    /// The steps are -1 and 1 alone.
    pub(super) is_binary: bool,
}

impl Levels {
    /// Levels of channels that are not there.
    pub(super) fn empty(is_binary: bool) -> Self {
        Self {
            scale: [1.0; LANES],
            lowest: [0.0; LANES],
            highest: [0.0; LANES],
            is_binary,
        }
    }

    /// The steps of the nearest levels.
    #[inline(always)]
    pub(super) fn nearest(&self, x: &Lanes) -> Lanes {
        let mut steps = [0.0; LANES];
        if self.is_binary {
            for lane in 0..LANES {
                steps[lane] = if x[lane] >= 0.0 { 1.0 } else { -1.0 };
            }
        } else {
            for lane in 0..LANES {
                let exact = x[lane] / self.scale[lane];
                steps[lane] = round_half_even(clamp(exact, self.lowest[lane], self.highest[lane]));
            }
        }
        steps
    }

    /// The levels of steps.
    #[inline(always)]
    pub(super) fn of_steps(&self, steps: &Lanes) -> Lanes {
        let mut levels = [0.0; LANES];
        for lane in 0..LANES {
            levels[lane] = steps[lane] * self.scale[lane];
        }
        levels
    }
}

/// `Σ_k row[k] · x[k]` for each channel.
#[inline(always)]
pub(super) fn weighted_sum(row: &[f32], x: &[Lanes]) -> Lanes {
    // Four chains of sums hide the latency of an addition.
    let mut sums = [[0.0; LANES]; 4];
    let (rows, row_rest) = row.as_chunks::<4>();
    let (xs, x_rest) = x.as_chunks::<4>();
    for (row, x) in rows.iter().zip(xs) {
        for chain in 0..4 {
            for lane in 0..LANES {
                sums[chain][lane] += row[chain] * x[chain][lane];
            }
        }
    }
    for (weight, x) in row_rest.iter().zip(x_rest) {
        for lane in 0..LANES {
            sums[0][lane] += weight * x[lane];
        }
    }
    let mut total = [0.0; LANES];
    for lane in 0..LANES {
        total[lane] = (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]);
    }
    total
}

/// `matrix · x` for each channel; the matrix is square.
pub(super) fn product(matrix: &[f32], x: &[Lanes]) -> Vec<Lanes> {
    with_widest_vectors(|| {
        matrix
            .chunks(x.len().max(1))
            .map(|row| weighted_sum(row, x))
            .collect()
    })
}

/// `Σ_k x[k] · y[k]` for each channel.
pub(super) fn inner_product(x: &[Lanes], y: &[Lanes]) -> [f64; LANES] {
    with_widest_vectors(|| {
        let mut sums = [0.0; LANES];
        for (x, y) in x.iter().zip(y) {
            for lane in 0..LANES {
                sums[lane] += f64::from(x[lane]) * f64::from(y[lane]);
            }
        }
        sums
    })
}

/// `Σ a · b`, as far as the shorter of the two goes.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    with_widest_vectors(|| {
        let shorter = a.len().min(b.len());
        let (a, b) = (&a[..shorter], &b[..shorter]);
        let mut sums = [0.0; LANES];
        let (a_lanes, a_rest) = a.as_chunks::<LANES>();
        let (b_lanes, b_rest) = b.as_chunks::<LANES>();
        for (a, b) in a_lanes.iter().zip(b_lanes) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        }
        let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
        sums.iter().sum::<f64>() + rest
    })
}
