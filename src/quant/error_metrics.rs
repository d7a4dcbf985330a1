//! How far a quantized signal is from the float one.

use serde::{Deserialize, Serialize};

use super::fake_quantize;

/// Signal-to-quantization-noise ratio in decibels.
///
/// ```text
/// 10 · log10(signal / noise)    with signal = Σ x², noise = Σ (x - x̂)²
/// ```
/// Infinite where there is no noise, minus infinite where there is noise and no signal.
pub fn sqnr_db(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 {
        f64::INFINITY
    } else {
        10.0 * (signal / noise).log10()
    }
}

/// Signal and noise summed over pairs of slices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorSum {
    /// Sum of the squares of the reference.
    pub signal: f64,
    /// Sum of the squares of the differences.
    pub noise: f64,
    /// How many pairs were seen.
    pub count: u64,
}

impl ErrorSum {
    /// Adds a slice and its approximation, as far as the shorter of the two goes.
    ///
    /// The order of the sum is fixed, so the result does not depend on the processor.
    pub fn add(&mut self, reference: &[f32], approximation: &[f32]) {
        let (signal, noise) = fake_quantize::signal_and_noise(reference, approximation);
        self.signal += signal;
        self.noise += noise;
        self.count += reference.len().min(approximation.len()) as u64;
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.signal += other.signal;
        self.noise += other.noise;
        self.count += other.count;
    }

    /// The ratio of the two sums in decibels, see [`sqnr_db`].
    pub fn sqnr_db(&self) -> f64 {
        sqnr_db(self.signal, self.noise)
    }

    /// Mean squared error; NaN when nothing was added.
    pub fn mse(&self) -> f64 {
        self.noise / self.count as f64
    }
}

/// What quantization did to a slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SliceErrors {
    /// Sum of the squares before quantization.
    pub signal: f64,
    /// Sum of the squares of the errors.
    pub noise: f64,
    /// How many numbers lie more than half a step beyond the ends of the grid.
    pub saturated: u64,
    /// The largest error in magnitude.
    pub max_abs_error: f32,
    /// How many numbers were seen.
    pub count: u64,
}

impl SliceErrors {
    /// Adds the errors of another slice.
    pub fn merge(&mut self, other: &Self) {
        self.signal += other.signal;
        self.noise += other.noise;
        self.saturated += other.saturated;
        self.max_abs_error = self.max_abs_error.max(other.max_abs_error);
        self.count += other.count;
    }

    /// The ratio of signal and noise in decibels, see [`sqnr_db`].
    pub fn sqnr_db(&self) -> f64 {
        sqnr_db(self.signal, self.noise)
    }

    /// Mean squared error; NaN for an empty slice.
    pub fn mse(&self) -> f64 {
        self.noise / self.count as f64
    }

    /// Share of saturated numbers, `0..=1`; 0 for an empty slice.
    pub fn saturation(&self) -> f64 {
        self.saturated as f64 / (self.count as f64).max(1.0)
    }
}

/// Kullback-Leibler divergence between the softmax of two rows of logits, in nats.
///
/// ```text
/// Σ p_i · (ln p_i - ln q_i)    with p = softmax(reference), q = softmax(other)
/// ```
/// Computed in `f64` from log-probabilities. NaN where a logit is NaN; infinite where the
/// reference gives some probability to a class that the other excludes.
/// Goes as far as the shorter row; empty rows give 0.
pub fn kl_divergence(reference: &[f32], other: &[f32]) -> f64 {
    let classes = reference.len().min(other.len());
    let other = &other[..classes];
    ReferenceRow::of(&reference[..classes]).divergence(other, log_sum_exp(other))
}

/// The softmax of a row of logits, for the divergences of many others from it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceRow {
    /// Logarithm of the probability of each class, and the probability.
    classes: Vec<(f64, f64)>,
}

impl ReferenceRow {
    /// The softmax of a row.
    pub fn of(logits: &[f32]) -> Self {
        let norm = log_sum_exp(logits);
        let classes = logits.iter().map(|logit| {
            let log_p = f64::from(*logit) - norm;
            (log_p, log_p.exp())
        });
        Self {
            classes: classes.collect(),
        }
    }

    /// As [`kl_divergence`] with this row as the reference; `other` has as many classes, and `norm` is its
    /// [`log_sum_exp`].
    pub fn divergence(&self, other: &[f32], norm: f64) -> f64 {
        let terms = self.classes.iter().zip(other).map(|(&(log_p, p), &q)| {
            let log_q = f64::from(q) - norm;
            if p == 0.0 { 0.0 } else { p * (log_p - log_q) }
        });
        // Rounding may leave a tiny negative sum for equal rows.
        let sum = terms.sum::<f64>();
        if sum < 0.0 { 0.0 } else { sum }
    }
}

/// Mean of [`kl_divergence`] over the rows of two logit matrices `[rows, classes]`.
///
/// `None` without classes or rows, or when the two matrices are not of one size.
pub fn mean_kl_divergence(reference: &[f32], other: &[f32], classes: usize) -> Option<f64> {
    let same_shape = reference.len() == other.len() && !reference.is_empty();
    if classes == 0 || !same_shape || !reference.len().is_multiple_of(classes) {
        return None;
    }
    let rows = reference
        .chunks_exact(classes)
        .zip(other.chunks_exact(classes));
    let sum = rows.map(|(p, q)| kl_divergence(p, q)).sum::<f64>();
    Some(sum / (reference.len() / classes) as f64)
}

/// `ln Σ exp(xᵢ)` of a row of logits; less the logit of the true class it is the cross-entropy, in nats.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let max = f64::from(max);
    max + logits
        .iter()
        .map(|&x| (f64::from(x) - max).exp())
        .sum::<f64>()
        .ln()
}

/// Wilson score interval of a proportion, both ends in `0..=1`.
///
/// ```text
/// (p̂ + z²/2n ± z·sqrt(p̂(1 - p̂)/n + z²/4n²)) / (1 + z²/n)
/// ```
/// Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
/// JASA 22 (1927), 209-212. `z` is 1.96 for 95 %. No trial at all gives `(0, 1)`.
pub fn wilson_interval(successes: u64, trials: u64, z: f64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    let n = trials as f64;
    let p = successes.min(trials) as f64 / n;
    let z2 = z * z;
    let center = p + z2 / (2.0 * n);
    let half_width = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let denominator = 1.0 + z2 / n;
    let (low, high) = (
        (center - half_width) / denominator,
        (center + half_width) / denominator,
    );
    (low.clamp(0.0, 1.0), high.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() <= 1e-9 * expected.abs().max(1.0),
            "{actual} is not {expected}"
        );
    }

    #[test]
    fn sqnr_covers_its_ends() {
        close(sqnr_db(100.0, 1.0), 20.0);
        assert_eq!(sqnr_db(1.0, 0.0), f64::INFINITY);
        assert_eq!(sqnr_db(0.0, 0.0), f64::INFINITY);
        assert_eq!(sqnr_db(0.0, 1.0), f64::NEG_INFINITY);
    }

    #[test]
    fn error_sums_add_up_over_slices() {
        let reference = (0..1000)
            .map(|i| (i as f32 * 0.37).sin())
            .collect::<Vec<_>>();
        let approximation = reference
            .iter()
            .map(|x| (x * 8.0).round() / 8.0)
            .collect::<Vec<_>>();
        let mut whole = ErrorSum::default();
        whole.add(&reference, &approximation);
        let mut parts = ErrorSum::default();
        for (a, b) in reference.chunks(77).zip(approximation.chunks(77)) {
            let mut part = ErrorSum::default();
            part.add(a, b);
            parts.merge(&part);
        }
        let pairs = || reference.iter().zip(&approximation);
        close(
            whole.signal,
            pairs().map(|(x, _)| f64::from(*x) * f64::from(*x)).sum(),
        );
        close(
            whole.noise,
            pairs()
                .map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2))
                .sum(),
        );
        close(parts.signal, whole.signal);
        close(parts.noise, whole.noise);
        assert_eq!((whole.count, parts.count), (1000, 1000));
        close(whole.mse(), whole.noise / 1000.0);
    }

    #[test]
    fn kl_and_log_sum_exp_agree_with_numpy() {
        // numpy: p = softmax([1, 2, 3]), q = softmax([3, 2, 1]), (p * log(p / q)).sum()
        close(
            kl_divergence(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]),
            1.150420765208883,
        );
        close(log_sum_exp(&[1.0, 2.0, 3.0]), 3.4076059644443804);
        close(log_sum_exp(&[1000.0, 0.0]), 1000.0);
        assert_eq!(kl_divergence(&[5.0, -2.0], &[5.0, -2.0]), 0.0);
        assert_eq!(kl_divergence(&[], &[]), 0.0);
        assert!(kl_divergence(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan());
        assert_eq!(
            kl_divergence(&[1.0, 1.0], &[1.0, f32::NEG_INFINITY]),
            f64::INFINITY
        );
        let two_rows = mean_kl_divergence(
            &[1.0, 2.0, 3.0, 4.0, 4.0, 4.0],
            &[3.0, 2.0, 1.0, 0.0, 0.0, 0.0],
            3,
        );
        close(two_rows.unwrap(), 1.150420765208883 / 2.0);
        assert_eq!(mean_kl_divergence(&[1.0; 5], &[1.0; 5], 3), None);
        assert_eq!(mean_kl_divergence(&[1.0; 4], &[1.0; 4], 0), None);
    }

    #[test]
    fn wilson_interval_agrees_with_statsmodels() {
        // statsmodels.stats.proportion.proportion_confint(k, n, method="wilson") at z = 1.96.
        let (low, high) = wilson_interval(90, 100, 1.96);
        assert!(
            (low - 0.8256).abs() < 1e-4 && (high - 0.9448).abs() < 1e-4,
            "{low} {high}"
        );
        assert_eq!(wilson_interval(0, 0, 1.96), (0.0, 1.0));
        let (low, high) = wilson_interval(10, 10, 1.96);
        assert!(low > 0.7 && high == 1.0, "{low} {high}");
    }
}
