//! What the background jobs of a session compute.

use std::sync::Arc;

use super::error::SessionError;
use super::inspection::Inspection;
use super::open_data::{DataRequest, OpenData};
use super::open_model::OpenModel;
use super::tuning::Tuned;
use crate::engine::{
    ActivationCache, Batches, Evaluation, Executor, FloatReference, LocalErrors, PreparedPlan,
    Ranges, RunError, Sensitivity, Subject, calibrate, evaluate_float, evaluate_plan,
    evaluate_plan_cached, local_errors, resume_sensitivity,
};
use crate::jobs::{CancelToken, JobContext};
use crate::model::LayerId;
use crate::plan::{LayerPlan, Plan};
use crate::quant::NumberFormat;

/// A document that was opened in the background.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) model: Arc<OpenModel>,
    /// Data that was asked for with the model.
    pub(super) data: Option<Result<OpenData, SessionError>>,
}

/// Opens a model, and data with it where asked.
pub(super) fn open(
    path: &std::path::Path,
    data: Option<DataRequest>,
) -> Result<Opened, SessionError> {
    let model = Arc::new(OpenModel::open(path)?);
    let data = data.map(|request| OpenData::open(&model, request));
    Ok(Opened { model, data })
}

/// Progress of the float run: samples and accuracy so far.
pub(super) fn run_float(
    context: &JobContext<Arc<FloatReference>>,
    model: &OpenModel,
    batches: &Batches,
) -> Result<Arc<FloatReference>, SessionError> {
    context.progress.start_stage("", batches.len() as u64);
    let reference = evaluate_float(&model.executor, batches, &context.cancel, &mut |so_far| {
        context.progress.set_done(so_far.samples as u64);
        // Only the counts are shown while it runs; the outputs follow at the end.
        context.publish(Arc::new(FloatReference::counts(so_far)));
    })?;
    Ok(Arc::new(reference))
}

pub(super) fn run_calibration(
    context: &JobContext<()>,
    model: &OpenModel,
    batches: &Batches,
) -> Result<Arc<Ranges>, SessionError> {
    context.progress.start_stage("", batches.len() as u64);
    let ranges = calibrate(&model.executor, batches, &context.cancel, &mut |samples| {
        context.progress.set_done(samples as u64);
    })?;
    Ok(Arc::new(ranges))
}

pub(super) fn run_evaluation(
    context: &JobContext<Evaluation>,
    executor: &Executor,
    cache: &ActivationCache,
    prepared: &PreparedPlan,
    reference: Option<&FloatReference>,
) -> Result<Evaluation, SessionError> {
    let total = cache.batches().len() as u64;
    context.progress.start_stage("", total);
    Ok(evaluate_plan_cached(
        executor,
        prepared,
        cache,
        reference,
        &context.cancel,
        &mut |so_far| {
            context.progress.set_done(so_far.samples as u64);
            context.publish(so_far.clone());
        },
    )?)
}

/// Measures a plan without layer errors and without sharing activations.
pub(super) fn run_counterpart(
    context: &JobContext<()>,
    model: &OpenModel,
    batches: &Batches,
    plan: &Plan,
    ranges: Option<&Ranges>,
    reference: Option<&FloatReference>,
) -> Result<Evaluation, SessionError> {
    context.progress.start_stage("", batches.len() as u64);
    let prepared = model
        .executor
        .prepare_cancellable(plan, ranges, &context.cancel)?;
    Ok(evaluate_plan(
        &model.executor,
        &prepared,
        batches,
        reference,
        0,
        &context.cancel,
        &mut |so_far| context.progress.set_done(so_far.samples as u64),
    )?)
}

pub(super) fn run_local_errors(
    context: &JobContext<LocalErrors>,
    model: &OpenModel,
    batches: &Batches,
    plan: &Plan,
    ranges: &Ranges,
    widths: &[NumberFormat],
) -> Result<LocalErrors, SessionError> {
    context.progress.start_stage("", batches.len() as u64);
    Ok(local_errors(
        &model.executor,
        plan,
        Some(ranges),
        Subject::Weights,
        widths,
        &batches.stopped_by(&context.cancel),
        &context.cancel,
        &mut |so_far| {
            context.progress.set_done(so_far.samples as u64);
            context.publish(so_far.clone());
        },
    )?)
}

pub(super) fn run_sensitivity(
    context: &JobContext<Sensitivity>,
    model: &OpenModel,
    batches: &Batches,
    plan: &Plan,
    ranges: Option<&Ranges>,
    known: Sensitivity,
) -> Result<Sensitivity, SessionError> {
    context.progress.start_stage("", batches.len() as u64);
    Ok(resume_sensitivity(
        &model.executor,
        plan,
        ranges,
        known,
        &batches.stopped_by(&context.cancel),
        &context.cancel,
        &mut |so_far| {
            context.progress.set_done(so_far.samples as u64);
            context.publish(so_far.clone());
        },
    )?)
}

pub(super) fn run_inspection(
    cancel: &CancelToken,
    model: &OpenModel,
    layer: LayerId,
    choice: &LayerPlan,
    ranges: Option<&Ranges>,
    tuned: Option<&Tuned>,
) -> Result<Inspection, SessionError> {
    cancel.check().map_err(RunError::from)?;
    // Equalized layers read other values than those of the model's own network.
    let ranges = tuned.and_then(|tuned| tuned.ranges.as_deref()).or(ranges);
    Ok(Inspection::compute(model, layer, choice, ranges, tuned)?)
}
