//! What a network predicts for each single sample.

use std::sync::Arc;

use candle_core::Tensor;

use super::batches::Batch;
use super::error::RunError;
use super::metrics::class_count;
use super::slices::with_f32;

/// Classes that are kept of each sample.
const KEPT_CLASSES: usize = 5;
/// How far the sum of a probability distribution may be from one.
const SUM_TOLERANCE: f32 = 1e-3;

/// A class and how probable the network holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankedClass {
    /// Index of the class.
    pub class: u32,
    /// Its probability in `0.0..=1.0`; NaN where the outputs are not finite.
    pub probability: f32,
}

impl RankedClass {
    const ABSENT: Self = Self {
        class: u32::MAX,
        probability: 0.0,
    };
}

/// What a network predicts for one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplePrediction {
    /// Index of the sample in the dataset.
    pub sample: u32,
    /// Its label, if it has one.
    pub label: Option<u32>,
    ranked: [RankedClass; KEPT_CLASSES],
}

impl SamplePrediction {
    /// A prediction of one class without any doubt.
    #[cfg(test)]
    pub(crate) fn certain(sample: u32, label: Option<u32>, class: u32) -> Self {
        let mut ranked = [RankedClass::ABSENT; KEPT_CLASSES];
        ranked[0] = RankedClass {
            class,
            probability: 1.0,
        };
        Self {
            sample,
            label,
            ranked,
        }
    }

    /// The five most probable classes, best first; fewer for fewer classes, none if the network is no classifier.
    pub fn top(&self) -> &[RankedClass] {
        let end = self
            .ranked
            .iter()
            .position(|ranked| ranked.class == u32::MAX)
            .unwrap_or(KEPT_CLASSES);
        self.ranked.get(..end).unwrap_or_default()
    }

    /// The most probable class; the first of equals.
    pub fn best(&self) -> Option<RankedClass> {
        self.top().first().copied()
    }

    /// Probability of the best class minus that of the second.
    pub fn margin(&self) -> Option<f32> {
        match self.top() {
            [first, second, ..] => Some(first.probability - second.probability),
            _ => None,
        }
    }

    /// Whether the most probable class is the label; `None` without label or classes.
    pub fn is_right(&self) -> Option<bool> {
        Some(self.best()?.class == self.label?)
    }
}

/// What the outputs of a classifier are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputScale {
    /// Any numbers; the softmax makes probabilities of them.
    Logits,
    /// Probabilities already: none is negative, and they add up to one.
    Probabilities,
}

/// Predictions of the samples so far, in the order in which they ran.
///
/// Batches are shared, so that a clone costs one pointer a batch; a sample takes 52 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    batches: Vec<Arc<[SamplePrediction]>>,
    len: usize,
    classes: usize,
    scale: Option<OutputScale>,
}

impl Predictions {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no sample was run.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of classes; 0 if the network is no classifier.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What the outputs are; `None` if the network is no classifier.
    pub fn scale(&self) -> Option<OutputScale> {
        self.scale
    }

    /// The samples in the order in which they ran.
    pub fn iter(&self) -> impl Iterator<Item = &SamplePrediction> {
        self.batches.iter().flat_map(|batch| batch.iter())
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<SamplePrediction>()
    }

    /// Adds a batch of outputs.
    ///
    /// The float outputs of the first batch tell whether outputs are logits, for float and plan alike.
    pub(super) fn add(
        &mut self,
        batch: &Batch,
        output: Option<&Tensor>,
        float: Option<&Tensor>,
    ) -> Result<(), RunError> {
        let classes = output.and_then(class_count);
        let mut added: Vec<SamplePrediction> = batch
            .samples
            .iter()
            .zip(&batch.labels)
            .map(|(sample, label)| SamplePrediction {
                sample: *sample as u32,
                label: *label,
                ranked: [RankedClass::ABSENT; KEPT_CLASSES],
            })
            .collect();
        if let (Some(output), Some(classes)) = (output, classes) {
            let scale = match (self.scale, float) {
                (Some(scale), _) => scale,
                (None, Some(float)) => scale_of(float, classes)?,
                (None, None) => OutputScale::Logits,
            };
            (self.scale, self.classes) = (Some(scale), classes);
            with_f32(output, |values| {
                for (prediction, row) in added.iter_mut().zip(values.chunks_exact(classes)) {
                    prediction.ranked = ranked(row, scale);
                }
                Ok(())
            })?;
        }
        self.len += added.len();
        self.batches.push(added.into());
        Ok(())
    }
}

/// Tells probabilities by every row being a distribution.
fn scale_of(output: &Tensor, classes: usize) -> Result<OutputScale, RunError> {
    let is_distribution = |row: &[f32]| {
        row.iter().all(|value| *value >= 0.0)
            && (row.iter().sum::<f32>() - 1.0).abs() <= SUM_TOLERANCE
    };
    Ok(with_f32(output, |values| {
        let all = values.chunks_exact(classes).all(is_distribution);
        Ok(if all {
            OutputScale::Probabilities
        } else {
            OutputScale::Logits
        })
    })?)
}

/// The largest outputs of a row by insertion into a short list, and their probabilities.
fn ranked(row: &[f32], scale: OutputScale) -> [RankedClass; KEPT_CLASSES] {
    let mut best = [(f32::NEG_INFINITY, u32::MAX); KEPT_CLASSES];
    for (class, &value) in (0u32..).zip(row) {
        // Equal values keep the order of their classes; NaN is never among the best.
        if value > best[KEPT_CLASSES - 1].0 {
            let place = best.iter().position(|(other, _)| value > *other);
            let place = place.unwrap_or(KEPT_CLASSES - 1);
            best[place..].rotate_right(1);
            best[place] = (value, class);
        }
    }
    let largest = best[0].0;
    let sum = match scale {
        OutputScale::Logits => row.iter().map(|value| (value - largest).exp()).sum(),
        OutputScale::Probabilities => 1.0,
    };
    best.map(|(value, class)| {
        let probability = match scale {
            OutputScale::Logits => (value - largest).exp() / sum,
            OutputScale::Probabilities => value,
        };
        if class == u32::MAX {
            RankedClass::ABSENT
        } else {
            RankedClass { class, probability }
        }
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::activations::Activations;
    use super::*;

    fn batch(labels: &[Option<u32>]) -> Batch {
        Batch {
            fed: Activations::new(),
            len: labels.len(),
            labels: labels.to_vec(),
            samples: (7..7 + labels.len()).collect(),
        }
    }

    fn predict(rows: &[&[f32]], labels: &[Option<u32>]) -> Predictions {
        let shape = (rows.len(), rows[0].len());
        let output = Tensor::from_vec(rows.concat(), shape, &Device::Cpu).unwrap();
        let mut predictions = Predictions::default();
        predictions
            .add(&batch(labels), Some(&output), Some(&output))
            .unwrap();
        predictions
    }

    fn classes(prediction: &SamplePrediction) -> Vec<u32> {
        prediction.top().iter().map(|ranked| ranked.class).collect()
    }

    #[test]
    fn the_best_five_come_first_and_equals_in_the_order_of_their_classes() {
        for (row, expected) in [
            (
                vec![0.0, 3.0, 1.0, 3.0, 2.0, -1.0, 5.0],
                vec![6, 1, 3, 4, 2],
            ),
            (vec![1.0; 8], vec![0, 1, 2, 3, 4]),
            (vec![1.0, 2.0], vec![1, 0]),
            (vec![f32::NAN, 2.0, f32::NEG_INFINITY], vec![1]),
        ] {
            let predictions = predict(&[&row], &[None]);
            assert_eq!(classes(predictions.iter().next().unwrap()), expected);
        }
    }

    #[test]
    fn logits_become_probabilities_and_probabilities_stay() {
        // numpy: exp([2, 0, 1]) / exp([2, 0, 1]).sum()
        let logits = predict(&[&[2.0, 0.0, 1.0]], &[Some(0)]);
        assert_eq!(logits.scale(), Some(OutputScale::Logits));
        let first = logits.iter().next().unwrap();
        for (ranked, expected) in first.top().iter().zip([0.665_241, 0.244_728, 0.090_031]) {
            assert!((ranked.probability - expected).abs() < 1e-5, "{ranked:?}");
        }
        assert!((first.margin().unwrap() - 0.420_513).abs() < 1e-5);
        assert_eq!((first.sample, first.is_right()), (7, Some(true)));

        let shares = predict(
            &[&[0.25, 0.75, 0.0], &[0.5, 0.25, 0.25]],
            &[Some(0), Some(0)],
        );
        assert_eq!(shares.scale(), Some(OutputScale::Probabilities));
        let best: Vec<f32> = shares
            .iter()
            .filter_map(|p| Some(p.best()?.probability))
            .collect();
        assert_eq!(best, [0.75, 0.5]);
        let right: Vec<Option<bool>> = shares.iter().map(SamplePrediction::is_right).collect();
        assert_eq!(right, [Some(false), Some(true)]);
    }

    #[test]
    fn a_network_without_classes_has_samples_without_predictions() {
        let output = Tensor::zeros((2, 3, 4, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut predictions = Predictions::default();
        predictions
            .add(&batch(&[None, Some(1)]), Some(&output), Some(&output))
            .unwrap();
        assert_eq!((predictions.len(), predictions.classes()), (2, 0));
        assert!(predictions.iter().all(|p| p.best().is_none()));
    }
}
