//! Rounding in which later weights make up for the errors of earlier ones.

use super::lanes::{LANES, Lanes, Levels, inner_product, product, weighted_sum};
use crate::quant::fake_quantize::with_widest_vectors;

/// A change of a scale beyond this factor is not a refinement, and is not made.
const SCALE_CHANGE: f32 = 2.0;

/// Rounds the weights of a channel from the last to the first, each after moving it by what the
/// errors of those already rounded are best made up with.
///
/// ```text
/// c[i] = w[i] + Σ_{j>i} R[i, j] · (w[j] - ŵ[j]) / R[i, i],   ŵ[i] = nearest level of c[i],   H = Rᵀ · R
/// ```
/// This is GPTQ (Frantar et al. 2022, algorithm 1) with the columns in falling order of the index:
/// with the factor of the matrix in place of that of its inverse it is Babai's nearest-plane algorithm
/// (Chen et al. 2025, "The Geometry of LLM Quantization"), which gives the same levels. `upper` is `R`,
/// row by row; `levels_at[i]` says which of `levels` weight `i` has.
///
/// Gives the steps, and for each channel the error `(w - ŵ)ᵀ H (w - ŵ)`.
pub(super) fn round_compensated(
    upper: &[f32],
    weights: &[Lanes],
    levels_at: &[usize],
    levels: &[Levels],
) -> (Vec<Lanes>, [f64; LANES]) {
    with_widest_vectors(|| {
        let size = weights.len();
        let mut errors = vec![[0.0; LANES]; size];
        let mut steps = vec![[0.0; LANES]; size];
        let mut total = [0.0; LANES];
        for i in (0..size).rev() {
            let row = &upper[i * size..(i + 1) * size];
            let sums = weighted_sum(&row[i + 1..], &errors[i + 1..]);
            let mut moved = weights[i];
            for lane in 0..LANES {
                moved[lane] += sums[lane] / row[i];
            }
            let own = &levels[levels_at[i]];
            steps[i] = own.nearest(&moved);
            let level = own.of_steps(&steps[i]);
            for lane in 0..LANES {
                errors[i][lane] = weights[i][lane] - level[lane];
                let distance = f64::from(row[i]) * f64::from(moved[lane] - level[lane]);
                total[lane] += distance * distance;
            }
        }
        (steps, total)
    })
}

/// `ŵ - w` of steps.
fn errors(
    weights: &[Lanes],
    steps: &[Lanes],
    levels_at: &[usize],
    levels: &[Levels],
) -> Vec<Lanes> {
    let rows = weights.iter().zip(steps).zip(levels_at);
    rows.map(|((weight, steps), at)| {
        let mut error = levels[*at].of_steps(steps);
        for lane in 0..LANES {
            error[lane] -= weight[lane];
        }
        error
    })
    .collect()
}

/// A block of channels on its way down to a smaller error.
pub(super) struct Descent<'a> {
    /// `H`, row by row.
    pub(super) matrix: &'a [f32],
    pub(super) weights: &'a [Lanes],
    pub(super) levels_at: &'a [usize],
    /// Whether each scale is fitted to its steps before every sweep.
    pub(super) fits_scales: bool,
}

impl Descent<'_> {
    /// Moves single weights to the level that is best with all others fixed, until none moves.
    ///
    /// ```text
    /// ŵ[i] ← nearest level of ŵ[i] - g[i] / H[i, i],   g = H · (ŵ - w)
    /// s ← s - (qᵀ g) / (qᵀ H q)       for the steps q of one scale
    /// ```
    /// Coordinate descent on `(w - ŵ)ᵀ H (w - ŵ)` (Behdin et al. 2023, `QuantEase`); both steps never
    /// raise it. Stops after `sweeps` in any case.
    pub(super) fn run(&self, levels: &mut [Levels], steps: &mut [Lanes], sweeps: usize) {
        for _ in 0..sweeps {
            let errors = errors(self.weights, steps, self.levels_at, levels);
            let mut gradient = product(self.matrix, &errors);
            if self.fits_scales {
                for index in 0..levels.len() {
                    self.fit_scale(index, levels, steps, &mut gradient);
                }
            }
            if !self.sweep(levels, steps, &mut gradient) {
                return;
            }
        }
    }

    fn fit_scale(
        &self,
        index: usize,
        levels: &mut [Levels],
        steps: &[Lanes],
        gradient: &mut [Lanes],
    ) {
        let owned = steps.iter().zip(self.levels_at);
        let own: Vec<Lanes> = owned
            .map(|(steps, at)| if *at == index { *steps } else { [0.0; LANES] })
            .collect();
        let curvature = product(self.matrix, &own);
        let slope = inner_product(&own, gradient);
        let bend = inner_product(&own, &curvature);
        let mut change = [0.0; LANES];
        for lane in 0..LANES {
            let scale = levels[index].scale[lane];
            let fitted = scale - (slope[lane] / bend[lane]) as f32;
            // False for NaN, where the channel has no step but 0.
            if fitted > scale / SCALE_CHANGE && fitted < scale * SCALE_CHANGE {
                levels[index].scale[lane] = fitted;
                change[lane] = fitted - scale;
            }
        }
        for (gradient, curvature) in gradient.iter_mut().zip(&curvature) {
            for lane in 0..LANES {
                gradient[lane] += change[lane] * curvature[lane];
            }
        }
    }

    /// Visits every weight once; tells whether any moved.
    fn sweep(&self, levels: &[Levels], steps: &mut [Lanes], gradient: &mut [Lanes]) -> bool {
        with_widest_vectors(|| {
            let size = steps.len();
            let mut any = false;
            for i in 0..size {
                let own = &levels[self.levels_at[i]];
                let row = &self.matrix[i * size..(i + 1) * size];
                let mut aim = own.of_steps(&steps[i]);
                for lane in 0..LANES {
                    aim[lane] -= gradient[i][lane] / row[i];
                }
                let best = own.nearest(&aim);
                if best == steps[i] {
                    continue;
                }
                any = true;
                let mut change = [0.0; LANES];
                for lane in 0..LANES {
                    change[lane] = (best[lane] - steps[i][lane]) * own.scale[lane];
                }
                steps[i] = best;
                for (gradient, weight) in gradient.iter_mut().zip(row) {
                    for lane in 0..LANES {
                        gradient[lane] += weight * change[lane];
                    }
                }
            }
            any
        })
    }
}
