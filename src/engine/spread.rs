//! How certain a measured harm is: sums over pairs of float and quantized outputs of one sample.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::error::RunError;
use super::metrics::{Classification, Comparison, Outcome};
use super::slices::with_f32;
use crate::quant::ErrorSum;

/// A mean with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Standard error of the mean; NaN for fewer than two samples.
    pub standard_error: f64,
}

impl Estimate {
    /// The 95 % interval of a normal distribution.
    pub fn interval(self) -> (f64, f64) {
        let half = 1.959_963_984_540_054 * self.standard_error;
        (self.value - half, self.value + half)
    }

    /// Mean and standard error from a sum, a sum of squares and a count; `None` without samples.
    fn of_sums(sum: f64, squares: f64, count: u64) -> Option<Self> {
        let n = count as f64;
        let value = (count > 0).then(|| sum / n)?;
        let variance = ((squares - n * value * value) / (n - 1.0)).max(0.0);
        let standard_error = if count > 1 {
            (variance / n).sqrt()
        } else {
            f64::NAN
        };
        Some(Self {
            value,
            standard_error,
        })
    }
}

/// Sums over samples of what quantization changed in each.
///
/// Float and quantized network see the same samples, so the differences vary far less than the two
/// accuracies by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Samples with a label.
    pub labelled: u64,
    /// Samples that only float gets right.
    pub lost: u64,
    /// Samples that only the quantized network gets right.
    pub gained: u64,
    /// Sum of the increases of the cross-entropy in nats.
    pub loss_sum: f64,
    /// Sum of their squares.
    pub loss_squares: f64,
    /// Sum of the squares of `KL(float ‖ quantized)`.
    pub kl_squares: f64,
    /// Samples whose outputs were compared.
    pub compared: u64,
    /// Σ over samples of (Σ y²)².
    pub signal_squares: f64,
    /// Σ over samples of (Σ (y − ŷ)²)².
    pub noise_squares: f64,
    /// Σ over samples of the product of the two.
    pub signal_noise: f64,
}

impl Spread {
    /// Loss of accuracy against float, as a share; `None` without labels.
    pub fn accuracy_drop(&self) -> Option<Estimate> {
        let (lost, gained) = (self.lost as f64, self.gained as f64);
        Estimate::of_sums(lost - gained, lost + gained, self.labelled)
    }

    /// Increase of the cross-entropy in nats; `None` without labels.
    pub fn loss_increase(&self) -> Option<Estimate> {
        Estimate::of_sums(self.loss_sum, self.loss_squares, self.labelled)
    }

    /// Mean divergence of the outputs in nats; `None` if the network is no classifier.
    pub fn kl(&self, comparison: &Comparison) -> Option<Estimate> {
        Estimate::of_sums(comparison.kl_sum, self.kl_squares, comparison.classified)
    }

    /// SQNR of the outputs in dB; `None` before the first sample.
    ///
    /// ```text
    /// Var(ln(Σs/Σn)) ≈ Σ (s/Σs − n/Σn)²        s, n signal and noise of a sample
    /// ```
    /// The delta method for a ratio of two means (Cochran, Sampling Techniques, 1977, section 2.11).
    pub fn sqnr_db(&self, comparison: &Comparison) -> Option<Estimate> {
        let ErrorSum { signal, noise, .. } = comparison.outputs;
        let value = comparison.sqnr_db()?;
        let variance = self.signal_squares / (signal * signal)
            + self.noise_squares / (noise * noise)
            - 2.0 * self.signal_noise / (signal * noise);
        let standard_error = if value.is_finite() && self.compared > 1 {
            10.0 * std::f64::consts::LOG10_E * variance.max(0.0).sqrt()
        } else {
            f64::NAN
        };
        Some(Estimate {
            value,
            standard_error,
        })
    }

    /// Adds the sums of other samples.
    pub(super) fn merge(&mut self, other: &Self) {
        self.labelled += other.labelled;
        self.lost += other.lost;
        self.gained += other.gained;
        self.loss_sum += other.loss_sum;
        self.loss_squares += other.loss_squares;
        self.kl_squares += other.kl_squares;
        self.compared += other.compared;
        self.signal_squares += other.signal_squares;
        self.noise_squares += other.noise_squares;
        self.signal_noise += other.signal_noise;
    }

    /// Adds what the two networks make of a batch.
    pub(super) fn add(
        &mut self,
        float: &[Option<Outcome>],
        quantized: &[Option<Outcome>],
        divergences: &[f64],
        outputs: [&[Tensor]; 2],
        len: usize,
    ) -> Result<(), RunError> {
        for (float, quantized) in float.iter().zip(quantized) {
            let (Some(float), Some(quantized)) = (float, quantized) else {
                continue;
            };
            let increase = quantized.loss - float.loss;
            self.labelled += 1;
            self.lost += u64::from(float.hit && !quantized.hit);
            self.gained += u64::from(!float.hit && quantized.hit);
            self.loss_sum += increase;
            self.loss_squares += increase * increase;
        }
        self.kl_squares += divergences.iter().map(|kl| kl * kl).sum::<f64>();
        for ErrorSum { signal, noise, .. } in sums_by_sample(outputs, len)? {
            self.compared += 1;
            self.signal_squares += signal * signal;
            self.noise_squares += noise * noise;
            self.signal_noise += signal * noise;
        }
        Ok(())
    }
}

/// Signal and noise of each sample over all outputs whose first axis runs over samples.
pub(super) fn sums_by_sample(
    [float, quantized]: [&[Tensor]; 2],
    len: usize,
) -> Result<Vec<ErrorSum>, RunError> {
    let mut sums = vec![ErrorSum::default(); len];
    for (float, quantized) in float.iter().zip(quantized) {
        if len == 0 || float.dims().first() != Some(&len) {
            return Ok(Vec::new());
        }
        let row = float.elem_count() / len;
        with_f32(float, |float| {
            with_f32(quantized, |quantized| {
                let rows = float.chunks(row.max(1)).zip(quantized.chunks(row.max(1)));
                for (sum, (float, quantized)) in sums.iter_mut().zip(rows) {
                    sum.add(float, quantized);
                }
                Ok(())
            })
        })?;
    }
    Ok(sums)
}

/// Outcomes of a batch, whose outputs have such [norms](super::metrics::first_log_norms), and what is counted
/// of them.
pub(super) fn outcomes_of(
    counts: &mut Classification,
    outputs: &[Tensor],
    norms: &[f64],
    labels: &[Option<u32>],
) -> Result<Vec<Option<Outcome>>, RunError> {
    match outputs.first() {
        Some(logits) => counts.add_rows(logits, norms, labels),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paired_differences_have_the_error_of_their_own_spread() {
        // 100 samples, 7 lost and 3 gained: mean 0.04, variance (10 − 100·0.04²)/99.
        let spread = Spread {
            labelled: 100,
            lost: 7,
            gained: 3,
            ..Spread::default()
        };
        let drop = spread.accuracy_drop().unwrap();
        let expected = ((10.0 - 100.0 * 0.0016) / 99.0 / 100.0_f64).sqrt();
        assert!((drop.value - 0.04).abs() < 1e-12);
        assert!((drop.standard_error - expected).abs() < 1e-12, "{drop:?}");
        assert_eq!(Spread::default().accuracy_drop(), None);
    }

    #[test]
    fn a_ratio_that_is_the_same_for_all_samples_is_certain() {
        let mut comparison = Comparison::default();
        let mut spread = Spread::default();
        for signal in [100.0, 300.0, 50.0] {
            let noise = 0.01 * signal;
            comparison.samples += 1;
            comparison.outputs.merge(&ErrorSum {
                signal,
                noise,
                count: 1,
            });
            spread.compared += 1;
            spread.signal_squares += signal * signal;
            spread.noise_squares += noise * noise;
            spread.signal_noise += signal * noise;
        }
        let sqnr = spread.sqnr_db(&comparison).unwrap();
        assert!((sqnr.value - 20.0).abs() < 1e-9);
        assert!(sqnr.standard_error < 1e-6, "{sqnr:?}");
    }
}
