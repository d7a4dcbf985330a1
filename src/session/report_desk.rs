//! Writing a report of the open plan in the background.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::action::Typed;
use super::error::SessionError;
use super::messages::Severity;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::report::{MeasuredPlan, ReportRequest, write_report};
use super::session::{FileDone, Session};
use super::tuning::{Tuned, TuningMemory, tune_knowing};
use super::tuning_desk::show;
use crate::engine::{Evaluation, Protocol, Sensitivity, Subject, evaluate_plan};
use crate::jobs::JobContext;
use crate::plan::Plan;

impl Session {
    /// Writes a report of the plan with what was measured of it; what was not yet is measured for it.
    pub(super) fn save_report(&mut self, path: PathBuf, replaces: bool) {
        self.occupied = None;
        let Some(work) = self.report_work() else {
            let text = "Open a model first".to_owned();
            self.tell(Severity::Error, "Save report", text);
            return;
        };
        self.jobs.files.start(&self.wake, move |context| {
            if !replaces && path.exists() {
                return Ok(FileDone::Occupied(Typed::Report(path)));
            }
            work.write(context, &path)?;
            Ok(FileDone::ReportWritten(path))
        });
    }

    fn report_work(&mut self) -> Option<Work> {
        let model = self.model.clone()?;
        let memory = self.tuning_memory(&model);
        let evaluation = self.result().filter(|result| result.finished);
        let sweep = self.sensitivity().filter(|sweep| {
            let request = &sweep.request;
            (request.protocol, request.subject) == (Protocol::OnlyOne, Subject::Weights)
                && sweep.samples == sweep.total
        });
        Some(Work {
            evaluation: evaluation.map(|result| result.evaluation.clone()),
            sweep: sweep.cloned(),
            plan: self.plan.clone(),
            data: self.data.clone(),
            model,
            memory,
        })
    }
}

/// What a report reads, as it was when it was asked for.
struct Work {
    model: Arc<OpenModel>,
    data: Option<Arc<OpenData>>,
    memory: Arc<TuningMemory>,
    plan: Plan,
    evaluation: Option<Evaluation>,
    sweep: Option<Sensitivity>,
}

impl Work {
    fn write(&self, context: &JobContext<()>, path: &Path) -> Result<(), SessionError> {
        let Some(data) = &self.data else {
            return self.write_with(path, &self.plan, None);
        };
        let tuned = tune_knowing(
            &self.memory,
            &self.model,
            self.plan.clone(),
            data,
            false,
            &context.cancel,
            &mut |stage, done, total| show(context, stage, done, total),
        )?;
        let evaluation = match &self.evaluation {
            Some(evaluation) => evaluation.clone(),
            None => evaluated(context, &tuned, data)?,
        };
        let measured = MeasuredPlan {
            data,
            tuned: &tuned,
            evaluation: &evaluation,
            sensitivity: self.sweep.as_ref(),
            skipped: data.evaluation.loader().skipped().len(),
        };
        self.write_with(path, &tuned.plan, Some(measured))
    }

    fn write_with(
        &self,
        path: &Path,
        plan: &Plan,
        measured: Option<MeasuredPlan<'_>>,
    ) -> Result<(), SessionError> {
        let request = ReportRequest {
            model: &self.model,
            plan,
            measured,
            target: None,
            file_bytes: None,
            command: None,
        };
        write_report(path, &request)
    }
}

fn evaluated(
    context: &JobContext<()>,
    tuned: &Tuned,
    data: &OpenData,
) -> Result<Evaluation, SessionError> {
    let total = data.evaluation.len();
    context.progress.start_stage("Evaluating", total as u64);
    let evaluation = evaluate_plan(
        &tuned.executor,
        &tuned.prepared,
        &data.evaluation,
        None,
        usize::MAX,
        &context.cancel,
        &mut |so_far| context.progress.set_done(so_far.samples as u64),
    )?;
    Ok(evaluation)
}
