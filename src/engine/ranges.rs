//! What calibration learns: statistics of every layer's input, of fixed size.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::batches::Batches;
use super::error::RunError;
use super::executor::Executor;
use super::run_options::{Keep, RunOptions};
use super::slices::with_f32;
use crate::jobs::CancelToken;
use crate::model::{Layer, ValueId};
use crate::quant::{ActivationQuantizer, Observer, QuantSpec, Range, calibrate as calibrate_range};

/// Histograms and extremes of every tensor that a layer reads, and of others where they were asked for.
///
/// The memory does not depend on the number of samples.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    observers: BTreeMap<ValueId, Observer>,
    /// Number of samples that were seen.
    pub samples: usize,
}

impl Ranges {
    /// The statistics of a value, if it was observed.
    pub fn observer(&self, id: ValueId) -> Option<&Observer> {
        self.observers.get(&id)
    }

    /// The clip range that a specification gives for a layer's input.
    ///
    /// # Errors
    /// [`RunError`] names the layer if its input was not seen or is not finite.
    pub fn range(&self, layer: &Layer, spec: &QuantSpec) -> Result<Range, RunError> {
        let observer = self.observer_of(layer)?;
        calibrate_range(observer, spec).map_err(|error| RunError::layer(layer, error.to_string()))
    }

    /// The quantizer that a specification gives for a layer's input.
    ///
    /// # Errors
    /// As [`Ranges::range`].
    pub fn quantizer(
        &self,
        layer: &Layer,
        spec: &QuantSpec,
    ) -> Result<ActivationQuantizer, RunError> {
        let observer = self.observer_of(layer)?;
        ActivationQuantizer::from_spec(spec, observer)
            .map_err(|error| RunError::layer(layer, error.to_string()))
    }

    fn observer_of(&self, layer: &Layer) -> Result<&Observer, RunError> {
        self.observers.get(&layer.input).ok_or_else(|| {
            RunError::layer(
                layer,
                "its input was not seen during calibration; calibrate again".to_owned(),
            )
        })
    }
}

/// Runs the float network over calibration samples and observes every layer's input.
///
/// `on_batch` is called after every batch with the number of samples seen so far.
///
/// # Errors
/// [`RunError`] if a sample cannot be fed, a node cannot run, or the run is cancelled.
pub fn calibrate(
    executor: &Executor,
    batches: &Batches,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(usize),
) -> Result<Ranges, RunError> {
    calibrate_values(executor, batches, &[], cancel, on_batch)
}

/// As [`calibrate`], and observes `more` values beside the layers' inputs.
///
/// # Errors
/// As [`calibrate`].
pub fn calibrate_values(
    executor: &Executor,
    batches: &Batches,
    more: &[ValueId],
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(usize),
) -> Result<Ranges, RunError> {
    let prepared = executor.prepare_float()?;
    let mut inputs: Vec<ValueId> = executor.layers().iter().map(|layer| layer.input).collect();
    inputs.extend(more);
    inputs.sort_unstable();
    inputs.dedup();
    let mut ranges = Ranges {
        observers: inputs.iter().map(|id| (*id, Observer::new())).collect(),
        samples: 0,
    };
    for batch in batches.stopped_by(cancel).iter() {
        let batch = batch?;
        let mut keep = inputs.clone();
        keep.extend(executor.graph().outputs());
        let held = executor.run(
            &prepared,
            &batch.fed,
            RunOptions {
                keep: Keep::Values(&keep),
                cancel,
                tap: None,
            },
        )?;
        ranges
            .observers
            .par_iter_mut()
            .try_for_each(|(id, observer)| {
                let Some(tensor) = held.get(*id) else {
                    return Ok(());
                };
                with_f32(&tensor.elements()?, |values| {
                    observer.observe(values);
                    Ok(())
                })
            })?;
        ranges.samples += batch.len;
        on_batch(ranges.samples);
    }
    if ranges.samples == 0 {
        return Err(RunError::message(
            "No calibration sample could be read; choose a folder with readable samples".to_owned(),
        ));
    }
    Ok(ranges)
}
