//! The range with the least Kullback-Leibler divergence.

use super::density::Density;
use crate::quant::{BitWidth, Range, Scheme};

/// Fewest bins that a clipped histogram keeps.
const START_BIN: usize = 128;

/// Searches the threshold of the magnitude after which the histogram changes least by quantization.
///
/// For every threshold of `i` bins, from 128 or the number of levels on:
///
/// ```text
/// P = the first i bins, the mass beyond added to the last of them with mass
/// Q = the first i bins, each replaced by the mean of the bins with mass on its level
/// KL(P‖Q) = Σ p · ln(p / q), both normalized; the largest threshold with the least KL wins
/// ```
/// Source: S. Migacz, 8-bit inference with `TensorRT` (GTC 2017), in the form of NVIDIA `ModelOpt`
/// (`calib/histogram.py`). There are `2^b` levels for values of one sign on an asymmetric grid and
/// `2^(b-1)` otherwise, as the magnitudes of both signs share the codes. We leave zeros out of the
/// count, where the sources copy the second bin to the first, and pass over empty bins at the
/// threshold, where the sources find an infinite divergence. The range is the threshold to both
/// sides, as far as there are values. More levels than bins lose nothing, so nothing is clipped.
pub(super) fn least_divergence_range(
    density: &Density,
    full: Range,
    scheme: Scheme,
    bits: BitWidth,
) -> Range {
    let one_sided = full.min() == 0.0 || full.max() == 0.0;
    let levels = match scheme {
        Scheme::Asymmetric if one_sided => bits.levels() as usize,
        Scheme::Asymmetric | Scheme::Symmetric => (bits.levels() / 2) as usize,
    };
    let magnitude = density.magnitude();
    let bins = Bins::new(magnitude.masses());
    let start = START_BIN.max(levels);
    let (mut least, mut best) = (f64::INFINITY, None);
    for kept in start..=magnitude.masses().len() {
        let divergence = bins.divergence(kept, levels);
        if divergence <= least {
            (least, best) = (divergence, Some(kept));
        }
    }
    let threshold = best.and_then(|kept| magnitude.ends().get(kept - 1));
    let threshold = threshold.map_or(full.max_abs(), |end| *end as f32);
    Range::from_ordered(full.min().max(-threshold), full.max().min(threshold))
}

/// Sums over the first bins, by their number.
struct Bins {
    mass: Vec<f64>,
    mass_log_mass: Vec<f64>,
    used: Vec<f64>,
    /// The last bin with mass among the first so many.
    last_used: Vec<usize>,
}

impl Bins {
    fn new(masses: &[f64]) -> Self {
        let mut last_used = vec![0];
        for (bin, mass) in masses.iter().enumerate() {
            let before = last_used.last().copied().unwrap_or_default();
            last_used.push(if *mass > 0.0 { bin } else { before });
        }
        Self {
            last_used,
            mass: running_sum(masses, |mass| mass),
            mass_log_mass: running_sum(masses, x_ln_x),
            used: running_sum(masses, |mass| if mass > 0.0 { 1.0 } else { 0.0 }),
        }
    }

    /// `KL(P‖Q)` for the first `kept` bins on so many levels, `1 <= levels <= kept`.
    ///
    /// With `c` the masses, `o` the mass beyond, `C_j` and `n_j` the mass and the used bins of level
    /// `j`, `N` all mass and `S` the kept mass, the sum over bins becomes one over levels:
    ///
    /// ```text
    /// KL = 1/N · (Σ p ln p - Σ_j C_j ln(C_j / n_j) - o ln(C_last / n_last)) - ln N + ln S
    /// ```
    /// where `p` are the masses with `o` added to the last that is not zero. Infinite without kept
    /// mass.
    fn divergence(&self, kept: usize, levels: usize) -> f64 {
        let total = self.mass.last().copied().unwrap_or_default();
        let inside = self.mass[kept];
        if inside <= 0.0 {
            return f64::INFINITY;
        }
        let beyond = total - inside;
        let before_last = self.last_used[kept];
        let last = inside - self.mass[before_last];
        let mut cross = 0.0;
        let mut log_mean = 0.0;
        let mut start = 0;
        for level in 1..=levels {
            let end = (level * kept).div_ceil(levels);
            let mass = self.mass[end] - self.mass[start];
            if mass > 0.0 {
                log_mean = (mass / (self.used[end] - self.used[start])).ln();
                cross += mass * log_mean;
            }
            start = end;
        }
        let own = self.mass_log_mass[before_last] + x_ln_x(last + beyond);
        (own - cross - beyond * log_mean) / total - total.ln() + inside.ln()
    }
}

fn running_sum(masses: &[f64], term: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums = vec![0.0];
    sums.extend(masses.iter().map(|mass| {
        sum += term(*mass);
        sum
    }));
    sums
}

fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of the divergence, bin by bin.
    fn divergence(masses: &[f64], kept: usize, levels: usize) -> f64 {
        let mut p = masses[..kept].to_vec();
        let last = p.iter().rposition(|mass| *mass > 0.0).unwrap();
        p[last] += masses[kept..].iter().sum::<f64>();
        let level_of = |bin: usize| bin * levels / kept;
        let q = (0..kept).map(|bin| {
            let peers =
                (0..kept).filter(|other| level_of(*other) == level_of(bin) && masses[*other] > 0.0);
            let (count, sum) =
                peers.fold((0.0, 0.0), |(n, sum), other| (n + 1.0, sum + masses[other]));
            if masses[bin] > 0.0 { sum / count } else { 0.0 }
        });
        let q = q.collect::<Vec<_>>();
        let (p_sum, q_sum) = (p.iter().sum::<f64>(), q.iter().sum::<f64>());
        p.iter()
            .zip(&q)
            .filter(|(p, _)| **p > 0.0)
            .map(|(p, q)| p / p_sum * ((p / p_sum) / (q / q_sum)).ln())
            .sum()
    }

    #[test]
    fn divergence_agrees_with_its_definition() {
        let masses = (0..200).map(|i| {
            if i % 7 == 3 {
                0.0
            } else {
                (1000.0 * (-0.03 * i as f64).exp()).floor() + f64::from(i % 5)
            }
        });
        let masses = masses.collect::<Vec<_>>();
        let bins = Bins::new(&masses);
        for kept in [16, 17, 50, 101, 128, 199, 200] {
            for levels in [1, 2, 7, 8, 16] {
                let (actual, expected) = (
                    bins.divergence(kept, levels),
                    divergence(&masses, kept, levels),
                );
                assert!(
                    actual == expected || (actual - expected).abs() < 1e-9,
                    "{kept} bins on {levels} levels: {actual} is not {expected}"
                );
            }
        }
    }
}
