//! Exporting the plan for a runtime in the background, and checking the file there.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::SessionError;
use super::export::{
    ExportRequest, ExportSource, Exported, StoredModel, export_plan, exported_model, verifier,
    verify_export,
};
use super::messages::Severity;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::session::Session;
use super::tuning::{TuningMemory, needs_calibration, tune_knowing};
use super::tuning_desk::show;
use crate::export::{Runtime, Verification};
use crate::jobs::{CancelToken, JobContext, JobError};
use crate::plan::{Fingerprint, FittedPlan, Plan, TargetProfile, fit};

/// What is to be exported.
#[derive(Clone, Debug)]
pub struct ExportOrder {
    /// The target.
    pub profile: &'static TargetProfile,
    /// Folder that the files go to; made if it is not there.
    pub folder: PathBuf,
    /// Whether files that are there already are replaced.
    pub replace: bool,
    /// Interpreter and runtime to verify with, if that is wanted.
    pub verify: Option<(PathBuf, Runtime)>,
}

/// How an export ended.
#[derive(Debug)]
pub enum ExportEnd {
    /// A file is there already, and nothing was written.
    Exists(ExportOrder, PathBuf),
    /// Files were written.
    Written(Box<ExportReport>),
    /// Nothing was written, for this reason.
    Failed(String),
}

/// What was written, and what a runtime makes of it.
#[derive(Debug)]
pub struct ExportReport {
    /// The target.
    pub profile: &'static TargetProfile,
    /// The plan that was exported, before it was made to fit the target.
    pub plan: Fingerprint,
    /// The files.
    pub exported: Exported,
    /// What the runtime gave, where it was run.
    pub verification: Option<Verification>,
    /// Why the runtime could not run it, where that failed.
    pub unverified: Option<String>,
}

/// How large the file of a target would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportForecast {
    plan: Fingerprint,
    target: &'static str,
    /// Bytes of the model file, or why it cannot be written.
    pub size_bytes: Result<u64, String>,
}

/// The interpreter that was found for a target, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeFound {
    /// The interpreter that was asked for; `None` looks for one.
    pub asked: Option<PathBuf>,
    /// The target.
    pub target: &'static str,
    /// Interpreter and runtime, or how to get them.
    pub found: Result<(PathBuf, Runtime), String>,
}

/// Exports of the open model.
#[derive(Debug, Default)]
pub(super) struct ExportDesk {
    end: Option<ExportEnd>,
    forecast: Option<ExportForecast>,
    runtime: Option<RuntimeFound>,
}

impl Session {
    /// How the last export ended; `None` before the first, and while one runs.
    pub fn export_end(&self) -> Option<&ExportEnd> {
        self.export.end.as_ref()
    }

    /// Whether an export runs.
    pub fn is_exporting(&self) -> bool {
        self.jobs.export.is_running()
    }

    /// How large the file of the current plan would be for a target, once
    /// [`super::Action::ForecastExport`] has told.
    pub fn export_forecast(&self, profile: &TargetProfile) -> Option<&ExportForecast> {
        let forecast = self.export.forecast.as_ref()?;
        let is_current = forecast.plan == self.plan_fingerprint && forecast.target == profile.name;
        is_current.then_some(forecast)
    }

    /// Whether the size of a file is computed.
    pub fn is_forecasting_export(&self) -> bool {
        self.jobs.export_forecast.is_running()
    }

    /// The interpreter that [`super::Action::FindRuntime`] found for a target.
    pub fn runtime_found(&self, profile: &TargetProfile) -> Option<&RuntimeFound> {
        let found = self.export.runtime.as_ref()?;
        (found.target == profile.name).then_some(found)
    }

    /// Whether an interpreter is looked for.
    pub fn is_finding_runtime(&self) -> bool {
        self.jobs.runtime.is_running()
    }

    /// Why the current plan cannot be exported now, with the remedy; `None` if it can.
    pub fn why_no_export(&self) -> Option<&'static str> {
        if self.model.is_none() {
            return Some("Open a model first");
        }
        (self.data.is_none() && needs_calibration(&self.plan)).then_some(
            "The plan takes ranges or rounded weights from calibration data: open a data folder first (File, Open data folder)",
        )
    }

    pub(super) fn start_export(&mut self, order: ExportOrder) {
        let (Some(source), None) = (self.export_work(order.profile), self.why_no_export()) else {
            let why = self.why_no_export().unwrap_or_default();
            self.export.end = Some(ExportEnd::Failed(why.to_owned()));
            return;
        };
        self.export.end = None;
        self.jobs.export.start(&self.wake, move |context| {
            run_export(context, &source, order)
        });
    }

    pub(super) fn stop_export(&mut self) {
        self.jobs.export.cancel();
    }

    pub(super) fn forget_export_end(&mut self) {
        self.export.end = None;
    }

    pub(super) fn forecast_export(&mut self, profile: &'static TargetProfile) {
        if self.why_no_export().is_some() || self.jobs.export_forecast.is_running() {
            return;
        }
        let Some(source) = self.export_work(profile) else {
            return;
        };
        self.jobs.export_forecast.start(&self.wake, move |context| {
            Ok(ExportForecast {
                plan: source.plan.fingerprint(),
                target: profile.name,
                size_bytes: forecast(context, &source, profile)?,
            })
        });
    }

    pub(super) fn find_runtime(&mut self, profile: &'static TargetProfile, asked: Option<PathBuf>) {
        self.export.runtime = None;
        self.jobs.runtime.start(&self.wake, move |_| {
            let found = verifier(profile, asked.as_deref()).map_err(|error| error.to_string());
            Ok(RuntimeFound {
                asked,
                target: profile.name,
                found,
            })
        });
    }

    /// Everything that an export of the current plan reads.
    fn export_work(&mut self, profile: &TargetProfile) -> Option<Work> {
        let model = self.model.clone()?;
        let memory = self.tuning_memory(&model);
        Some(Work {
            fitted: fit(&self.plan, model.layers(), profile),
            plan: self.plan.clone(),
            data: self.data.clone(),
            model,
            memory,
        })
    }

    pub(super) fn poll_export(&mut self) -> bool {
        let mut changed = false;
        if let Some(outcome) = self.jobs.export.outcome() {
            changed = true;
            self.export.end = match outcome {
                Ok(end) => Some(end),
                Err(JobError::Cancelled) => None,
                Err(error) => Some(ExportEnd::Failed(error.to_string())),
            };
            self.tell_of_export();
        }
        if let Some(outcome) = self.jobs.export_forecast.outcome() {
            changed = true;
            // A file that cannot be written is told by the forecast itself.
            self.export.forecast = outcome.ok();
        }
        if let Some(outcome) = self.jobs.runtime.outcome() {
            changed = true;
            self.export.runtime = outcome.ok();
        }
        changed
    }

    fn tell_of_export(&mut self) {
        let text = match &self.export.end {
            Some(ExportEnd::Written(report)) => {
                format!("Written to {}", report.exported.model.display())
            }
            _ => return,
        };
        self.tell(Severity::Info, "Export", text);
    }

    /// Forgets what belongs to another model.
    pub(super) fn forget_exports(&mut self) {
        self.export.end = None;
        self.export.forecast = None;
        self.jobs.export.clear();
        self.jobs.export_forecast.clear();
    }
}

/// What an export reads, as it was when it was asked for.
struct Work {
    model: Arc<OpenModel>,
    data: Option<Arc<OpenData>>,
    memory: Arc<TuningMemory>,
    plan: Plan,
    fitted: FittedPlan,
}

impl Work {
    /// What the fitted plan takes from calibration data; known already where it is the plan itself.
    fn source<P>(
        &self,
        context: &JobContext<P>,
        profile: &TargetProfile,
    ) -> Result<ExportSource, SessionError> {
        let Some(data) = &self.data else {
            return ExportSource::without_data(&self.model, &self.fitted.plan);
        };
        let tuned = tune_knowing(
            &self.memory,
            &self.model,
            self.fitted.plan.clone(),
            data,
            false,
            &context.cancel,
            &mut |stage, done, total| show(context, stage, done, total),
        )?;
        ExportSource::of(&tuned, profile, data, &context.cancel)
    }
}

fn run_export(
    context: &JobContext<()>,
    work: &Work,
    order: ExportOrder,
) -> Result<ExportEnd, SessionError> {
    // Asked before anything is rounded, which may take long.
    let file = exported_model(&work.model, order.profile, &order.folder);
    if file.exists() && !order.replace {
        return Ok(ExportEnd::Exists(order, file));
    }
    let source = work.source(context, order.profile)?;
    context.progress.start_stage("Writing", 0);
    let request = ExportRequest {
        profile: order.profile,
        fitted: &work.fitted,
        source: &source,
        folder: &order.folder,
        replace: order.replace,
        matmul_nbits: false,
    };
    let exported = match export_plan(&work.model, &request) {
        Ok(exported) => exported,
        Err(SessionError::Exists(path)) => return Ok(ExportEnd::Exists(order, path)),
        Err(error) => return Err(error),
    };
    let mut report = ExportReport {
        profile: order.profile,
        plan: work.plan.fingerprint(),
        exported,
        verification: None,
        unverified: None,
    };
    let verified = order
        .verify
        .as_ref()
        .zip(work.data.as_ref())
        .map(|(with, data)| {
            run_verification(context, work, &report.exported, &request, with, data)
        });
    match verified {
        Some(Ok(verification)) => report.verification = Some(verification),
        // The files are written and stay, whatever the runtime says of them.
        Some(Err(error)) if error.is_cancelled() => {
            report.unverified = Some("Verifying was cancelled".to_owned());
        }
        Some(Err(error)) => report.unverified = Some(error.to_string()),
        None => {}
    }
    Ok(ExportEnd::Written(Box::new(report)))
}

fn run_verification(
    context: &JobContext<()>,
    work: &Work,
    exported: &Exported,
    request: &ExportRequest<'_>,
    (python, runtime): &(PathBuf, Runtime),
    data: &OpenData,
) -> Result<Verification, SessionError> {
    let total = data.evaluation.len();
    context.progress.start_stage("Simulating", total as u64);
    let cancel: &CancelToken = &context.cancel;
    verify_export(
        &work.model,
        exported,
        request,
        data,
        Ok((python, *runtime)),
        cancel,
        &mut |samples| {
            context.progress.set_done(samples as u64);
            if samples == total {
                context.progress.start_stage(runtime.package(), 0);
            }
        },
    )
}

fn forecast(
    context: &JobContext<()>,
    work: &Work,
    profile: &TargetProfile,
) -> Result<Result<u64, String>, SessionError> {
    let stored = work
        .source(context, profile)
        .and_then(|source| StoredModel::of(&work.model, &work.fitted.plan, &source, profile));
    match stored {
        Ok(stored) => Ok(Ok(stored.size_bytes)),
        Err(error) if error.is_cancelled() => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}
