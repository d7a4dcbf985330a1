//! Writing a report of an open model's plan.

use std::path::Path;

use super::error::SessionError;
use super::files::write_atomically;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::tuning::Tuned;
use crate::engine::{Evaluation, Sensitivity};
use crate::export::{DataFacts, ReportSubject, TargetFacts, report_html};
use crate::plan::{FittedPlan, Plan, TargetProfile, cost};

/// What a report tells of.
#[derive(Debug)]
pub struct ReportRequest<'a> {
    /// The model.
    pub model: &'a OpenModel,
    /// The plan.
    pub plan: &'a Plan,
    /// What was measured of it.
    pub measured: Option<MeasuredPlan<'a>>,
    /// The target, and what it changed.
    pub target: Option<(&'a TargetProfile, &'a FittedPlan)>,
    /// Bytes of the file that the target reads, where that is known.
    pub file_bytes: Option<u64>,
    /// The command that writes the report again, where one did.
    pub command: Option<String>,
}

/// A plan made ready and run on data.
#[derive(Debug)]
pub struct MeasuredPlan<'a> {
    /// The data.
    pub data: &'a OpenData,
    /// The plan, made ready.
    pub tuned: &'a Tuned,
    /// Accuracy and errors.
    pub evaluation: &'a Evaluation,
    /// Every layer at every width, where that was measured.
    pub sensitivity: Option<&'a Sensitivity>,
    /// Samples that could not be read.
    pub skipped: usize,
}

/// Writes the report.
///
/// # Errors
/// The file cannot be written; then none is left half-written.
pub fn write_report(path: &Path, request: &ReportRequest<'_>) -> Result<(), SessionError> {
    let model = request.model;
    let measured = request.measured.as_ref();
    let subject = ReportSubject {
        graph: model.graph(),
        layers: model.layers(),
        plan: request.plan,
        cost: cost(model.layers(), request.plan, model.other_parameters),
        prepared: measured.map(|measured| &measured.tuned.prepared),
        ranges: measured.and_then(|measured| measured.tuned.ranges.as_deref()),
        roundings: measured
            .map(|measured| roundings(measured.tuned))
            .unwrap_or_default(),
        evaluation: measured.map(|measured| measured.evaluation),
        sensitivity: measured.and_then(|measured| measured.sensitivity),
        data: measured.map(facts),
        target: request.target.map(|(profile, fitted)| TargetFacts {
            profile,
            changes: &fitted.changes,
            file_bytes: request.file_bytes,
        }),
        command: request.command.clone(),
    };
    write_atomically(path, report_html(&subject).as_bytes())
}

/// How each weight was rounded, where that took calibration data.
fn roundings(tuned: &Tuned) -> Vec<Option<String>> {
    let layers = tuned.rounded.iter().flat_map(|rounded| rounded.layers());
    layers
        .map(|layer| layer.as_ref().map(|layer| layer.method.to_string()))
        .collect()
}

fn facts(measured: &MeasuredPlan<'_>) -> DataFacts {
    let (data, tuned) = (measured.data, measured.tuned);
    let name = |path: &Path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| path.display().to_string())
    };
    let ranges = tuned.ranges.as_ref().map_or(0, |ranges| ranges.samples);
    let rounded = tuned.rounded.as_ref().map_or(0, |rounded| rounded.samples);
    DataFacts {
        evaluation: name(&data.request.data),
        calibration: data.request.calibration.as_deref().map(name),
        calibration_samples: ranges.max(rounded),
        preprocessing: data.preprocess.to_string(),
        guess: data.preprocess_guess.clone(),
        seed: data.request.seed,
        skipped: measured.skipped,
        fingerprint: data.fingerprint.clone(),
    }
}
