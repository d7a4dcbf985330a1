//! How large the numbers of each channel are.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::engine::batches::Batches;
use crate::engine::error::RunError;
use crate::engine::executor::Executor;
use crate::engine::run_options::{Keep, RunOptions};
use crate::engine::slices::with_f32;
use crate::jobs::CancelToken;
use crate::model::ValueId;

/// The largest magnitude of each channel of values `[N, C, ...]` over samples under float.
///
/// # Errors
/// [`RunError`] if a sample cannot be fed, a node cannot run, or the run is cancelled.
pub(super) fn channel_ranges(
    executor: &Executor,
    values: &[ValueId],
    batches: &Batches,
    cancel: &CancelToken,
) -> Result<Vec<Vec<f32>>, RunError> {
    let prepared = executor.prepare_float()?;
    let mut ranges: Vec<Vec<f32>> = vec![Vec::new(); values.len()];
    for batch in batches.stopped_by(cancel).iter() {
        let batch = batch?;
        let options = RunOptions {
            keep: Keep::Values(values),
            cancel,
            tap: None,
        };
        let held = executor.run(&prepared, &batch.fed, options)?;
        for (id, ranges) in values.iter().zip(&mut ranges) {
            if let Some(value) = held.get(*id) {
                widen(ranges, &value.plain()?)?;
            }
        }
    }
    Ok(ranges)
}

fn widen(ranges: &mut Vec<f32>, tensor: &Tensor) -> Result<(), RunError> {
    let channels = tensor.dims().get(1).copied().unwrap_or(1).max(1);
    let places: usize = tensor.dims().iter().skip(2).product();
    ranges.resize(channels, 0.0);
    Ok(with_f32(tensor, |numbers| {
        let largest: Vec<f32> = numbers
            .par_chunks(places.max(1))
            .map(|channel| channel.iter().fold(0f32, |most, x| most.max(x.abs())))
            .collect();
        for sample in largest.chunks(channels) {
            for (range, largest) in ranges.iter_mut().zip(sample) {
                *range = range.max(*largest);
            }
        }
        Ok(())
    })?)
}
