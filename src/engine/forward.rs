//! Raw outputs for inputs of any batch size.

use candle_core::Tensor;
use rayon::prelude::*;

use super::activations::Activations;
use super::batches::{Batch, Batches};
use super::error::RunError;
use super::evaluate::output;
use super::executor::Executor;
use super::kernels::parallel::undivided;
use super::prepare::PreparedPlan;
use super::run_options::{Keep, RunOptions};
use crate::jobs::CancelToken;
use crate::model::{self, ValueId};

/// Runs the network on whole inputs; a model with a fixed batch runs it piece by piece.
///
/// Returns the outputs in the order of the graph, the pieces joined along the first axis.
///
/// # Errors
/// [`RunError`] if the number of samples is no multiple of the fixed batch, or a node cannot run.
pub fn forward(
    executor: &Executor,
    prepared: &PreparedPlan,
    inputs: &[(ValueId, Tensor)],
    cancel: &CancelToken,
) -> Result<Vec<Tensor>, RunError> {
    let samples = inputs
        .first()
        .and_then(|(_, tensor)| tensor.dims().first().copied())
        .unwrap_or(1);
    let piece = match model::fixed_batch(executor.graph()) {
        Some(fixed) if fixed > 0 && samples > fixed => fixed,
        _ => samples.max(1),
    };
    if !samples.is_multiple_of(piece) {
        return Err(RunError::message(format!(
            "The model has a fixed batch of {piece}, and {samples} samples are no multiple of it; feed {} samples",
            samples / piece * piece
        )));
    }
    let mut pieces: Vec<Vec<Tensor>> = vec![Vec::new(); executor.graph().outputs().len()];
    for start in (0..samples.max(1)).step_by(piece) {
        let mut fed = Activations::new();
        for (id, tensor) in inputs {
            let part = match tensor.dims().first() {
                Some(&rows) if rows == samples && piece < samples => {
                    tensor.narrow(0, start, piece)?
                }
                _ => tensor.clone(),
            };
            fed.insert(*id, part);
        }
        let held = executor.run(
            prepared,
            &fed,
            RunOptions {
                keep: Keep::Outputs,
                cancel,
                tap: None,
            },
        )?;
        for (list, id) in pieces.iter_mut().zip(executor.graph().outputs()) {
            list.push(output(executor, &held, *id)?);
        }
    }
    pieces
        .into_iter()
        .map(|list| match list.as_slice() {
            [only] => Ok(only.clone()),
            several => Ok(Tensor::cat(several, 0)?),
        })
        .collect()
}

/// Runs batches to the network's outputs and hands them on in order.
///
/// Where a batch cannot be cut into pieces, as many batches run at a time as there are threads.
///
/// # Errors
/// [`RunError`] if a batch cannot be read or run, if the run is cancelled, or what `each` returns.
pub fn run_batches(
    executor: &Executor,
    prepared: &PreparedPlan,
    batches: &Batches,
    cancel: &CancelToken,
    mut each: impl FnMut(&Batch, &Activations) -> Result<(), RunError>,
) -> Result<(), RunError> {
    let run = |batch: &Batch| {
        let options = RunOptions {
            keep: Keep::Outputs,
            cancel,
            tap: None,
        };
        executor.run(prepared, &batch.fed, options)
    };
    let at_a_time = match model::fixed_batch(executor.graph()) {
        Some(_) => rayon::current_num_threads(),
        None => 1,
    };
    let mut rest = batches.iter();
    loop {
        let group: Result<Vec<Batch>, RunError> = rest.by_ref().take(at_a_time).collect();
        let group = group?;
        let held: Result<Vec<Activations>, RunError> = match &group[..] {
            [] => return Ok(()),
            [only] => run(only).map(|held| vec![held]),
            several => several
                .par_iter()
                .with_max_len(1)
                .map(|batch| undivided(|| run(batch)))
                .collect(),
        };
        for (batch, held) in group.iter().zip(&held?) {
            each(batch, held)?;
        }
    }
}
