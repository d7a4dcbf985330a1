//! How far the outputs of each single sample are from float.

use std::sync::Arc;

use candle_core::Tensor;

use super::error::RunError;
use super::spread::sums_by_sample;

/// For each sample, in the order in which they ran: `KL(float ‖ plan)` in nats of a classifier, the squared
/// error of the outputs of any other network.
///
/// Batches are shared, so that a clone costs one pointer a batch. Two plans are compared sample by
/// sample, which is far more certain than comparing their means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleHarms(Vec<Arc<[f32]>>);

impl SampleHarms {
    /// The samples in the order in which they ran.
    pub fn iter(&self) -> impl Iterator<Item = f32> {
        self.0.iter().flat_map(|batch| batch.iter().copied())
    }

    /// Adds a batch; `divergences` are empty where the network is no classifier.
    pub(super) fn add(
        &mut self,
        divergences: &[f64],
        outputs: [&[Tensor]; 2],
        len: usize,
    ) -> Result<(), RunError> {
        let finite = |harm: f64| {
            if harm.is_nan() {
                0.0
            } else {
                (harm as f32).clamp(0.0, f32::MAX)
            }
        };
        let batch: Arc<[f32]> = if divergences.is_empty() {
            let sums = sums_by_sample(outputs, len)?;
            sums.iter().map(|sum| finite(sum.noise)).collect()
        } else {
            divergences.iter().map(|kl| finite(*kl)).collect()
        };
        self.0.push(batch);
        Ok(())
    }
}
