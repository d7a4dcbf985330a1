//! What was counted of a plan on some samples, in a form that is stored.

use serde::{Deserialize, Serialize};

use crate::engine::{Classification, Comparison};
use crate::quant::ErrorSum;

/// Counts of one plan or of one layer at one width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Samples.
    pub samples: u64,
    /// Samples with a label.
    pub labelled: u64,
    /// Samples whose label is the largest output.
    pub top1_hits: u64,
    /// Samples whose label is among the five largest.
    pub top5_hits: u64,
    /// Sum of the cross-entropy in nats.
    pub loss_sum: f64,
    /// Samples of a classifier.
    pub classified: u64,
    /// Samples on which float and plan agree.
    pub agreements: u64,
    /// Sum of `KL(float ‖ plan)` in nats.
    pub kl_sum: f64,
    /// Signal and noise of the raw outputs.
    pub outputs: Power,
}

/// Signal and noise, in a form that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// Σ y².
    pub signal: f64,
    /// Σ (y − ŷ)².
    pub noise: f64,
    /// Number of elements.
    pub count: u64,
}

/// JSON has no infinities; a number as large as there is stands in.
fn stored(value: f64) -> f64 {
    if value.is_nan() {
        f64::MAX
    } else {
        value.clamp(f64::MIN, f64::MAX)
    }
}

impl From<ErrorSum> for Power {
    fn from(sum: ErrorSum) -> Self {
        Self {
            signal: stored(sum.signal),
            noise: stored(sum.noise),
            count: sum.count,
        }
    }
}

impl From<Power> for ErrorSum {
    fn from(power: Power) -> Self {
        Self {
            signal: power.signal,
            noise: power.noise,
            count: power.count,
        }
    }
}

impl Score {
    /// Takes over what was counted.
    pub fn of(metrics: &Classification, comparison: &Comparison) -> Self {
        Self {
            samples: comparison.samples,
            labelled: metrics.labelled,
            top1_hits: metrics.top1_hits,
            top5_hits: metrics.top5_hits,
            loss_sum: stored(metrics.loss_sum),
            classified: comparison.classified,
            agreements: comparison.agreements,
            kl_sum: stored(comparison.kl_sum),
            outputs: comparison.outputs.into(),
        }
    }

    /// The counts against labels.
    pub fn metrics(&self) -> Classification {
        Classification {
            labelled: self.labelled,
            top1_hits: self.top1_hits,
            top5_hits: self.top5_hits,
            loss_sum: self.loss_sum,
        }
    }

    /// The counts against float.
    pub fn comparison(&self) -> Comparison {
        Comparison {
            samples: self.samples,
            classified: self.classified,
            agreements: self.agreements,
            kl_sum: self.kl_sum,
            outputs: self.outputs.into(),
        }
    }

    /// What a search makes small: mean `KL(float ‖ plan)` in nats of a classifier, noise over signal of
    /// the outputs of any other network. Needs no labels; finite.
    pub fn harm(&self) -> f64 {
        let harm = match self.comparison().kl() {
            Some(kl) => kl,
            None if self.outputs.noise == 0.0 => 0.0,
            None => self.outputs.noise / self.outputs.signal,
        };
        stored(harm).max(0.0)
    }

    /// Share of samples on which float and plan disagree.
    pub fn disagreement(&self) -> Option<f64> {
        self.comparison().agreement().map(|share| 1.0 - share)
    }

    /// Points of top-1, as a share, that float has more; with no labels the disagreement.
    pub fn drop(&self, float: &Self) -> Option<f64> {
        match (float.metrics().top1(), self.metrics().top1()) {
            (Some(float), Some(plan)) => Some(float - plan),
            _ => self.disagreement(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_outputs_survive_the_file_and_are_the_worst() {
        let comparison = Comparison {
            samples: 1,
            classified: 1,
            agreements: 0,
            kl_sum: f64::NAN,
            outputs: ErrorSum {
                signal: 1.0,
                noise: f64::INFINITY,
                count: 1,
            },
        };
        let score = Score::of(&Classification::default(), &comparison);
        let json = serde_json::to_string(&score).unwrap();
        let read: Score = serde_json::from_str(&json).unwrap();
        assert_eq!(read, score);
        assert_eq!(read.harm(), f64::MAX);
    }

    #[test]
    fn networks_without_classes_are_judged_by_noise() {
        let score = Score {
            outputs: Power {
                signal: 100.0,
                noise: 1.0,
                count: 10,
            },
            ..Score::default()
        };
        assert_eq!(score.harm(), 0.01);
        assert_eq!(score.drop(&Score::default()), None);
    }
}
