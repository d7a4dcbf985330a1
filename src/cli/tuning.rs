//! Plans made ready on calibration data, with progress.

use super::args::{OutputOptions, PlanOptions};
use super::output::{self, Progress};
use crate::jobs::CancelToken;
use crate::plan::Plan;
use crate::session::{OpenData, OpenModel, SessionError, Tuned, TuningStage, tune};

/// Everything that a plan takes from calibration data, as the options say.
pub(super) fn tuned(
    model: &OpenModel,
    plan: Plan,
    data: &OpenData,
    options: &PlanOptions,
    output: OutputOptions,
) -> Result<Tuned, SessionError> {
    let mut shown: Option<(TuningStage, Progress)> = None;
    let mut on_step = |stage: TuningStage, done: usize, total: usize| {
        if shown.as_ref().is_none_or(|(known, _)| *known != stage) {
            shown = Some((stage, Progress::new(name(stage), total, output)));
        }
        if let Some((_, progress)) = &mut shown {
            progress.show(done, "");
        }
    };
    let cancel = CancelToken::default();
    let chooses = options.chooses_calibrators();
    let tuned = tune(model, plan, data, chooses, &cancel, &mut on_step)?;
    if let (Some(0), false) = (tuned.equalized_pairs, output.quiet) {
        output::note(
            "Nothing was equalized: no layer passes its output to another one through Relu, LeakyRelu or pools alone",
        );
    }
    Ok(tuned)
}

fn name(stage: TuningStage) -> &'static str {
    match stage {
        TuningStage::Calibrating => "Calibrating",
        TuningStage::ChoosingCalibrators => "Choosing calibrators",
        TuningStage::Rounding => "Rounding",
    }
}
