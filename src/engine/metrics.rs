//! What is counted while batches go by.

use candle_core::Tensor;

use super::error::RunError;
use super::slices::{compare, with_f32};
use crate::quant::{ErrorSum, ReferenceRow, log_sum_exp, wilson_interval};

/// Quantile of the normal distribution for a 95 % interval.
const Z_95: f64 = 1.959_963_984_540_054;

/// One sample against its label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Whether the label is the largest output.
    pub(super) hit: bool,
    /// Cross-entropy in nats.
    pub(super) loss: f64,
}

/// Counts of a classifier against labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Classification {
    /// Samples that have a label.
    pub labelled: u64,
    /// Samples whose label is the largest output.
    pub top1_hits: u64,
    /// Samples whose label is among the five largest outputs.
    pub top5_hits: u64,
    /// Sum of the cross-entropy in nats.
    pub loss_sum: f64,
}

impl Classification {
    /// Share of samples whose label is the largest output; `None` without labels.
    pub fn top1(&self) -> Option<f64> {
        self.share(self.top1_hits)
    }

    /// Share of samples whose label is among the five largest outputs.
    pub fn top5(&self) -> Option<f64> {
        self.share(self.top5_hits)
    }

    /// Mean cross-entropy in nats.
    pub fn loss(&self) -> Option<f64> {
        (self.labelled > 0).then(|| self.loss_sum / self.labelled as f64)
    }

    /// 95 % Wilson interval of top-1.
    pub fn top1_interval(&self) -> Option<(f64, f64)> {
        (self.labelled > 0).then(|| wilson_interval(self.top1_hits, self.labelled, Z_95))
    }

    /// Adds the counts of other samples.
    pub fn merge(&mut self, other: &Self) {
        self.labelled += other.labelled;
        self.top1_hits += other.top1_hits;
        self.top5_hits += other.top5_hits;
        self.loss_sum += other.loss_sum;
    }

    fn share(&self, hits: u64) -> Option<f64> {
        (self.labelled > 0).then(|| hits as f64 / self.labelled as f64)
    }

    /// Counts a batch of logits `[len, classes]`; other shapes have no classes to count.
    ///
    /// # Errors
    /// A label that is no class.
    pub fn add(&mut self, logits: &Tensor, labels: &[Option<u32>]) -> Result<(), RunError> {
        let norms = log_norms(logits)?;
        self.add_rows(logits, &norms, labels).map(drop)
    }

    /// As [`Classification::add`] with the [`log_norms`] of the logits, and tells of each sample with a label.
    pub(super) fn add_rows(
        &mut self,
        logits: &Tensor,
        norms: &[f64],
        labels: &[Option<u32>],
    ) -> Result<Vec<Option<Outcome>>, RunError> {
        let Some(classes) = class_count(logits) else {
            return Ok(Vec::new());
        };
        let mut outcomes = Vec::with_capacity(labels.len());
        with_f32(logits, |values| {
            let rows = values.chunks_exact(classes).zip(norms);
            for ((row, norm), label) in rows.zip(labels) {
                let Some(label) = label.map(|label| label as usize) else {
                    outcomes.push(None);
                    continue;
                };
                let Some(&score) = row.get(label) else {
                    candle_core::bail!(
                        "A sample has label {label}, but the model has {classes} classes (0..{}); is this the right dataset?",
                        classes - 1
                    );
                };
                let rank = rank_of(row, label, score);
                self.labelled += 1;
                self.top1_hits += u64::from(rank == 0);
                self.top5_hits += u64::from(rank < 5);
                let loss = norm - f64::from(score);
                self.loss_sum += loss;
                outcomes.push(Some(Outcome {
                    hit: rank == 0,
                    loss,
                }));
            }
            Ok(())
        })?;
        Ok(outcomes)
    }
}

/// As [`log_norms`] of the first output.
pub(super) fn first_log_norms(outputs: &[Tensor]) -> candle_core::Result<Vec<f64>> {
    outputs.first().map_or_else(|| Ok(Vec::new()), log_norms)
}

/// [`log_sum_exp`] of each row of a classifier's output; nothing for other outputs.
fn log_norms(output: &Tensor) -> candle_core::Result<Vec<f64>> {
    match class_count(output) {
        Some(classes) => with_f32(output, |values| {
            Ok(values.chunks_exact(classes).map(log_sum_exp).collect())
        }),
        None => Ok(Vec::new()),
    }
}

/// How many classes come before one: larger scores, and equal ones with a smaller index.
fn rank_of(row: &[f32], label: usize, score: f32) -> usize {
    row.iter()
        .enumerate()
        .filter(|(index, other)| **other > score || (**other == score && *index < label))
        .count()
}

/// Number of classes of a classifier's output `[len, classes]`.
pub fn class_count(output: &Tensor) -> Option<usize> {
    match output.dims() {
        [_, classes] if *classes > 1 => Some(*classes),
        _ => None,
    }
}

/// Index of the largest element of each row; the first of equals.
pub fn predictions(logits: &Tensor) -> candle_core::Result<Vec<u32>> {
    let Some(classes) = class_count(logits) else {
        return Ok(Vec::new());
    };
    with_f32(logits, |values| {
        Ok(values.chunks_exact(classes).map(largest).collect())
    })
}

fn largest(row: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best as u32
}

/// How near the plan's outputs are to the float outputs; needs no labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Samples that were compared.
    pub samples: u64,
    /// Samples of a classifier.
    pub classified: u64,
    /// Samples with the same largest output.
    pub agreements: u64,
    /// Sum over samples of `KL(float ‖ plan)` of the softmax, in nats.
    pub kl_sum: f64,
    /// Signal and noise over all raw outputs.
    pub outputs: ErrorSum,
}

impl Comparison {
    /// Share of samples with the same largest output; `None` if the network is no classifier.
    pub fn agreement(&self) -> Option<f64> {
        (self.classified > 0).then(|| self.agreements as f64 / self.classified as f64)
    }

    /// Mean `KL(float ‖ plan)` in nats; `None` if the network is no classifier.
    pub fn kl(&self) -> Option<f64> {
        (self.classified > 0).then(|| self.kl_sum / self.classified as f64)
    }

    /// SQNR of the raw outputs in dB; `None` before the first sample.
    pub fn sqnr_db(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.outputs.sqnr_db())
    }

    /// Adds the comparison of other samples.
    pub fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        self.classified += other.classified;
        self.agreements += other.agreements;
        self.kl_sum += other.kl_sum;
        self.outputs.merge(&other.outputs);
    }

    /// Compares one batch of `len` samples' outputs.
    ///
    /// # Errors
    /// Outputs of different shapes.
    pub fn add(&mut self, float: &[Tensor], plan: &[Tensor], len: usize) -> Result<(), RunError> {
        let norms = first_log_norms(plan)?;
        self.add_rows(&FloatOutputs::of(float)?, plan, &norms, len)
            .map(drop)
    }

    /// As [`Comparison::add`] with the [`log_norms`] of the plan's first output, and tells the divergence of
    /// each sample of a classifier.
    pub(super) fn add_rows(
        &mut self,
        float: &FloatOutputs<'_>,
        plan: &[Tensor],
        norms: &[f64],
        len: usize,
    ) -> Result<Vec<f64>, RunError> {
        self.samples += len as u64;
        for (float, plan) in float.outputs.iter().zip(plan) {
            self.outputs.merge(&compare(float, plan)?);
        }
        let rows = &float.rows;
        let (Some(float), Some(plan)) = (float.outputs.first(), plan.first()) else {
            return Ok(Vec::new());
        };
        let Some(classes) = class_count(float) else {
            return Ok(Vec::new());
        };
        let mut divergences = Vec::with_capacity(len);
        with_f32(float, |float| {
            with_f32(plan, |plan| {
                let logits = float.chunks_exact(classes).zip(plan.chunks_exact(classes));
                for ((float, plan), (row, norm)) in logits.zip(rows.iter().zip(norms)) {
                    self.classified += 1;
                    self.agreements += u64::from(largest(float) == largest(plan));
                    let divergence = row.divergence(plan, *norm);
                    self.kl_sum += divergence;
                    divergences.push(divergence);
                }
                Ok(())
            })
        })?;
        Ok(divergences)
    }
}

/// Float outputs of a batch, ready to be compared with those of many plans.
pub(super) struct FloatOutputs<'a> {
    outputs: &'a [Tensor],
    /// The rows of a classifier.
    rows: Vec<ReferenceRow>,
}

impl<'a> FloatOutputs<'a> {
    pub(super) fn of(outputs: &'a [Tensor]) -> Result<Self, RunError> {
        let classifier = outputs.first().and_then(|o| Some((o, class_count(o)?)));
        let rows = match classifier {
            Some((logits, classes)) => with_f32(logits, |values| {
                Ok(values.chunks_exact(classes).map(ReferenceRow::of).collect())
            })?,
            None => Vec::new(),
        };
        Ok(Self { outputs, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn logits(rows: &[[f32; 3]]) -> Tensor {
        Tensor::from_vec(rows.concat(), (rows.len(), 3), &Device::Cpu).unwrap()
    }

    #[test]
    fn equal_scores_count_for_the_first_class() {
        let mut counts = Classification::default();
        counts
            .add(
                &logits(&[[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]]),
                &[Some(1), Some(1)],
            )
            .unwrap();
        assert_eq!(
            (counts.labelled, counts.top1_hits, counts.top5_hits),
            (2, 1, 2)
        );
    }

    #[test]
    fn a_label_beyond_the_classes_is_an_error() {
        let error = Classification::default()
            .add(&logits(&[[1.0, 1.0, 0.0]]), &[Some(7)])
            .unwrap_err();
        assert!(error.to_string().contains("label 7"), "{error}");
    }

    #[test]
    fn equal_outputs_agree_without_noise() {
        let float = [logits(&[[1.0, 2.0, 3.0]])];
        let mut comparison = Comparison::default();
        comparison.add(&float, &float, 1).unwrap();
        assert_eq!(comparison.agreement(), Some(1.0));
        assert_eq!(comparison.kl(), Some(0.0));
        assert_eq!(comparison.sqnr_db(), Some(f64::INFINITY));
    }
}
