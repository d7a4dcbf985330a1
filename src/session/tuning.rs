//! A plan made ready to run with everything that it takes from calibration data.

use std::sync::Arc;

use super::error::SessionError;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use crate::engine::{
    Executor, PreparedPlan, Ranges, RoundedPlan, calibrate, choose_calibrators, equalized,
    round_plan,
};
use crate::jobs::CancelToken;
use crate::plan::Plan;
use crate::quant::NumberFormat;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuningStage {
    /// Activations are observed.
    Calibrating,
    /// The calibrator of each activation is chosen.
    ChoosingCalibrators,
    /// Weights are rounded.
    Rounding,
}

/// A plan with all that belongs to it.
#[derive(Debug)]
pub struct Tuned {
    /// Runs the network; another one than the model's where layers were equalized.
    pub executor: Arc<Executor>,
    /// Pairs of layers that were equalized, where the plan asks for it.
    pub equalized_pairs: Option<usize>,
    /// The plan, with the calibrators that were chosen.
    pub plan: Plan,
    /// Ranges, where inputs are quantized.
    pub ranges: Option<Ranges>,
    /// Weights that were rounded on data, where there are any.
    pub rounded: Option<RoundedPlan>,
    /// The plan ready to run.
    pub prepared: PreparedPlan,
}

/// Whether a plan takes anything from calibration data.
pub fn needs_calibration(plan: &Plan) -> bool {
    plan.layers()
        .iter()
        .any(|layer| layer.activation.format != NumberFormat::F32 || layer.rounds_on_data())
}

/// Equalizes, calibrates, chooses calibrators where asked, and rounds, as a plan says.
///
/// Only calibration samples are used. `on_step` is called with what is done and how much of it, and
/// with how much there is.
///
/// # Errors
/// [`SessionError::Run`] if a sample cannot be fed, a layer cannot be rounded, or when cancelled.
pub fn tune(
    model: &OpenModel,
    plan: Plan,
    data: &OpenData,
    chooses_calibrators: bool,
    cancel: &CancelToken,
    on_step: &mut dyn FnMut(TuningStage, usize, usize),
) -> Result<Tuned, SessionError> {
    let mut plan = plan;
    let asked = plan.layers().iter().any(|layer| layer.corrections.equalize);
    let batches = &data.calibration;
    let (executor, pairs) = equalized(&model.executor, &plan, Some(batches), cancel)?;
    let quantizes = |plan: &Plan| {
        let mut layers = plan.layers().iter();
        layers.any(|layer| layer.activation.format != NumberFormat::F32)
    };
    let ranges = if quantizes(&plan) {
        let ranges = calibrate(&executor, batches, cancel, &mut |samples| {
            on_step(TuningStage::Calibrating, samples, batches.len());
        })?;
        Some(ranges)
    } else {
        None
    };
    let layers = executor.layers().len();
    if let (Some(ranges), true) = (&ranges, chooses_calibrators) {
        plan = choose_calibrators(&executor, &plan, ranges, batches, cancel, &mut |done| {
            on_step(TuningStage::ChoosingCalibrators, done, 2 * layers);
        })?;
    }
    let (rounded, prepared) = if plan.layers().iter().any(|layer| layer.rounds_on_data()) {
        let identity = &data.fingerprint;
        let on_layer = &mut |done| on_step(TuningStage::Rounding, done, layers);
        let rounded = round_plan(
            &executor,
            &plan,
            ranges.as_ref(),
            batches,
            identity,
            cancel,
            on_layer,
        )?;
        let prepared = rounded.prepare(&executor, &plan, ranges.as_ref(), identity)?;
        (Some(rounded), prepared)
    } else {
        (
            None,
            executor.prepare_cancellable(&plan, ranges.as_ref(), cancel)?,
        )
    };
    Ok(Tuned {
        executor,
        equalized_pairs: asked.then_some(pairs),
        plan,
        ranges,
        rounded,
        prepared,
    })
}
