//! Taking in what jobs found, and starting what comes next.

use std::path::PathBuf;
use std::sync::Arc;

use super::history::{HistoryChanges, HistoryEntry, describe, now};
use super::job_slot::Outcome;
use super::messages::{Remedy, Severity};
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::plan_records::{PlanRecord, PlanRecords};
use super::previews::previews;
use super::project_file::{ProjectFile, StoredResult};
use super::recent::Recent;
use super::session::{
    FileDone, LAYER_ERROR_SAMPLES, LOCAL_ERROR_SAMPLES, PlanResult, SWEEP_BATCH, Session,
};
use super::sweep_store::SweepStore;
use super::undo::UndoStack;
use super::work::{self, Opened};
use crate::engine::{ActivationCache, Evaluation, Executor};
use crate::jobs::JobError;
use crate::model::LayerId;
use crate::plan::{Plan, Preset, cost};

impl Session {
    /// Takes in what the jobs found since the last call and starts what follows from it.
    ///
    /// Called once per frame; returns whether anything changed.
    pub fn poll(&mut self) -> bool {
        let before = self.running_jobs().len();
        let mut changed = self.poll_opening();
        changed |= self.poll_files();
        changed |= self.poll_export();
        changed |= self.poll_figures();
        changed |= self.poll_recent();
        changed |= self.poll_previews();
        changed |= self.poll_baseline();
        changed |= self.poll_tuning();
        changed |= self.poll_evaluation();
        changed |= self.poll_sweeps();
        changed |= self.poll_scores();
        changed |= self.poll_search();
        changed |= self.poll_pictures();
        self.advance();
        changed || before != self.running_jobs().len()
    }

    fn poll_opening(&mut self) -> bool {
        let mut changed = false;
        if let Some(outcome) = self.jobs.opening.outcome() {
            changed = true;
            match outcome {
                Ok(opened) => self.model_opened(opened),
                Err(error) => {
                    self.pending_project = None;
                    self.report("Open model", &error, Remedy::ChooseModel);
                    self.look_for_recent();
                }
            }
        }
        if let Some(outcome) = self.jobs.opening_data.outcome() {
            changed = true;
            match outcome {
                Ok(data) => self.data_opened(data),
                Err(error) => self.report("Open data", &error, Remedy::ChooseData),
            }
        }
        changed
    }

    fn model_opened(&mut self, opened: Opened) {
        let Opened { model, data } = opened;
        let plan = Plan::uniform(model.layers().len(), crate::plan::Widths::FLOAT);
        // The plan that a newcomer sees first: 8 bits everywhere.
        let plan =
            Preset::by_name("W8A8").map_or_else(|_| plan.clone(), |preset| preset.apply(&plan));
        let plan = model.stored_plan.clone().unwrap_or(plan);
        self.close_data();
        self.forget_exports();
        self.sweeps = SweepStore::default();
        self.forget_scores();
        self.inspection = None;
        self.inspection_before = None;
        self.undo = UndoStack::default();
        self.history_changes = HistoryChanges::default();
        self.saved = None;
        self.plan = plan;
        self.model = Some(Arc::clone(&model));
        self.selection = vec![LayerId(0)];
        self.remember(Recent::of(model.path.clone()));
        self.warn_of_unsupported(&model);
        self.pending_history.clear();
        self.expect_search(None);
        if let Some((path, project)) = self.pending_project.take() {
            self.take_over_project(&model, path, *project);
        }
        self.plan_changed();
        match data {
            Some(Ok(data)) => self.data_opened(data),
            Some(Err(error)) => self.tell_with(
                Severity::Error,
                "Open data",
                error.to_string(),
                Remedy::ChooseData,
            ),
            None => {}
        }
    }

    fn warn_of_unsupported(&mut self, model: &OpenModel) {
        let unsupported: Vec<String> = model
            .coverage
            .iter()
            .filter(|row| row.status == crate::model::Status::Unsupported)
            .map(|row| format!("{} × {}: {}", row.count, row.op, row.reason))
            .collect();
        if !unsupported.is_empty() {
            self.tell_with(
                Severity::Warning,
                "Unsupported operators",
                format!(
                    "The model opens, but it cannot run: {}. Sizes and weights can be studied; to measure accuracy, export the model without these operators",
                    unsupported.join("; ")
                ),
                Remedy::ShowCoverage,
            );
        }
    }

    fn take_over_project(&mut self, model: &OpenModel, path: PathBuf, project: ProjectFile) {
        match project.plan.plan_for(model.layers(), &model.identity()) {
            Ok(plan) => {
                self.remember_project(&path);
                self.saved = Some((path, plan.fingerprint()));
                self.plan = plan;
                let position =
                    |name: &String| model.layers().iter().position(|layer| layer.name == *name);
                let selected = project.selection.iter().filter_map(position);
                let selected: Vec<LayerId> = selected.map(|row| LayerId(row as u32)).collect();
                if !selected.is_empty() {
                    self.selection = selected;
                }
                self.pending_history = project.history;
                self.sweeps = project.sweeps;
                self.expect_search(project.search);
            }
            Err(error) => self.tell(Severity::Error, "Open project", error.to_string()),
        }
    }

    fn data_opened(&mut self, data: OpenData) {
        self.close_data();
        if let Some(model) = &self.model {
            let recent = Recent {
                data: Some(data.request.data.clone()),
                calibration: data.request.calibration.clone(),
                ..Recent::of(model.path.clone())
            };
            self.remember(recent);
        }
        self.adopt_history(&data);
        if let Some(model) = self.model.clone() {
            self.adopt_search(&model, &data);
        }
        let data = Arc::new(data);
        self.data = Some(Arc::clone(&data));
        self.show_kept_sweep();
        self.jobs
            .previews
            .start(&self.wake, move |_| Ok(previews(&data)));
    }

    fn poll_previews(&mut self) -> bool {
        let Some(outcome) = self.jobs.previews.outcome() else {
            return false;
        };
        // Samples that cannot be decoded are reported by the float run.
        let previews = outcome.unwrap_or_default();
        self.previews = previews.previews;
        self.picture_recent(previews.smallest);
        true
    }

    /// Takes over the stored results that belong to this data; others would be stale.
    fn adopt_history(&mut self, data: &OpenData) {
        let Some(model) = self.model.clone() else {
            return;
        };
        for stored in std::mem::take(&mut self.pending_history) {
            if stored.data == data.fingerprint
                && let Ok(plan) = stored.plan.plan_for(model.layers(), &model.identity())
            {
                self.history.push(history_entry(&model, stored, plan));
            }
        }
    }

    /// Forgets data and all that was measured on it.
    fn close_data(&mut self) {
        self.data = None;
        self.float = None;
        self.float_finished = false;
        self.float_secs = None;
        self.previews.clear();
        self.jobs.previews.clear();
        self.ranges = None;
        self.result = None;
        self.history.clear();
        self.forgotten = None;
        self.records = PlanRecords::default();
        self.forget_pictures();
        self.local_errors = None;
        self.close_sweeps();
        self.sensitivity = None;
        self.forget_search();
        self.forget_tuning();
        self.forget_activations();
        self.jobs.float.clear();
        self.jobs.calibration.clear();
        self.jobs.evaluation.clear();
        self.jobs.local_errors.clear();
    }

    fn poll_files(&mut self) -> bool {
        let Some(outcome) = self.jobs.files.outcome() else {
            return false;
        };
        match outcome {
            Ok(FileDone::PlanRead(plan)) => self.change_plan(plan),
            Ok(FileDone::ProjectRead(path, project)) => self.project_read(path, project),
            Ok(FileDone::Occupied(typed)) => self.occupied = Some(typed),
            Ok(FileDone::PlanWritten(path)) => self.tell_of_file("Export plan", &path),
            Ok(FileDone::ReportWritten(path)) => self.tell_of_file("Save report", &path),
            Ok(FileDone::ProjectWritten(path, fingerprint)) => {
                self.tell(
                    Severity::Info,
                    "Save project",
                    format!("Saved to {}", path.display()),
                );
                self.remember_project(&path);
                self.saved = Some((path, fingerprint));
                self.history_changes.saved();
            }
            Err(error) => self.report("Files", &error, None::<Remedy>),
        }
        true
    }

    fn project_read(&mut self, path: PathBuf, project: Box<ProjectFile>) {
        let request = project
            .data
            .as_ref()
            .map(super::project_file::StoredData::request)
            .transpose();
        match request {
            Ok(request) => {
                let model = project.model.clone();
                self.pending_project = Some((path, project));
                self.open_model(model, request);
            }
            Err(error) => self.tell(Severity::Error, "Open project", error.to_string()),
        }
    }

    fn poll_baseline(&mut self) -> bool {
        let mut changed = false;
        if let Some(partial) = self.jobs.float.partial() {
            self.float = Some(partial);
            changed = true;
        }
        let elapsed = self.jobs.float.elapsed_secs();
        if let Some(outcome) = self.jobs.float.outcome() {
            changed = true;
            if let Some(reference) = self.finished("Measure float", outcome) {
                self.float = Some(reference);
                self.float_finished = true;
                self.float_secs = elapsed.map(|elapsed| self.without_decoding(elapsed));
                self.report_skipped();
            }
        }
        if let Some(outcome) = self.jobs.calibration.outcome() {
            changed = true;
            if let Some(ranges) = self.finished("Calibrate", outcome) {
                self.ranges = Some(ranges);
                self.inspect();
            }
        }
        changed
    }

    /// Seconds of the float run that were spent computing; reading the samples happens but once.
    fn without_decoding(&self, elapsed_secs: f64) -> f64 {
        let decoding = self
            .data
            .as_ref()
            .map_or(0.0, |data| data.evaluation.decode_secs());
        (elapsed_secs - decoding).max(0.25 * elapsed_secs)
    }

    fn report_skipped(&mut self) {
        let Some(data) = self.data.clone() else {
            return;
        };
        let skipped = data.evaluation.loader().skipped();
        if let Some(first) = skipped.first() {
            self.tell(
                Severity::Warning,
                "Skipped files",
                format!(
                    "{} files were left out, the first: {}: {}",
                    skipped.len(),
                    first.file,
                    first.reason
                ),
            );
        }
    }

    fn poll_evaluation(&mut self) -> bool {
        let mut changed = false;
        if let Some(evaluation) = self.jobs.evaluation.partial() {
            self.result = Some(self.result_of(evaluation, false));
            changed = true;
        }
        if let Some(outcome) = self.jobs.evaluation.outcome() {
            changed = true;
            if let Some(evaluation) = self.finished("Evaluate plan", outcome) {
                let result = self.result_of(evaluation, true);
                self.enter_into_history(&result);
                self.result = Some(result);
            }
        }
        changed
    }

    /// The evaluation job is cleared whenever the plan changes, so what it sends is of this plan.
    fn result_of(&self, evaluation: Evaluation, finished: bool) -> PlanResult {
        PlanResult {
            plan: self.plan_fingerprint.clone(),
            evaluation,
            finished,
        }
    }

    fn enter_into_history(&mut self, result: &PlanResult) {
        let known = self
            .history
            .iter()
            .any(|entry| entry.fingerprint == result.plan);
        if let (Some(cost), false) = (self.cost, known) {
            self.history.push(HistoryEntry {
                name: describe(&self.plan, &cost),
                fingerprint: result.plan.clone(),
                plan: self.plan.clone(),
                pinned: false,
                measured_secs: now(),
                cost,
                samples: result.evaluation.samples,
                metrics: result.evaluation.plan,
                comparison: result.evaluation.comparison,
            });
        }
        self.keep_record(PlanRecord {
            plan: result.plan.clone(),
            predictions: result.evaluation.predictions.clone(),
            layers: result.evaluation.layers.clone(),
        });
    }

    fn poll_sweeps(&mut self) -> bool {
        let mut changed = false;
        if let Some(partial) = self.jobs.local_errors.partial() {
            self.local_errors = Some(partial);
            changed = true;
        }
        if let Some(outcome) = self.jobs.local_errors.outcome() {
            changed = true;
            if let Some(errors) = self.finished("Local errors", outcome) {
                self.local_errors = Some(errors);
            }
        }
        if let Some(outcome) = self.jobs.inspection.outcome() {
            changed = true;
            if let Some(inspection) = self.finished("Inspect layer", outcome) {
                self.take_inspection(inspection);
            }
        }
        changed
    }

    /// The result of a job that ended well; a failure becomes a message and stops the chain.
    pub(super) fn finished<T>(&mut self, title: &str, outcome: Outcome<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.halted = true;
                self.report(title, &error, Remedy::RunAgain);
                None
            }
        }
    }

    pub(super) fn report(
        &mut self,
        title: &str,
        error: &JobError,
        remedy: impl Into<Option<Remedy>>,
    ) {
        if !matches!(error, JobError::Cancelled) {
            self.tell_with(Severity::Error, title, error.to_string(), remedy);
        }
    }

    /// Brings everything that depends on the plan up to date.
    pub(super) fn plan_changed(&mut self) {
        self.plan_fingerprint = self.plan.fingerprint();
        let is_tuned = self.plan.is_tuned();
        self.nearest = is_tuned.then(|| self.plan.nearest().fingerprint());
        self.cost = self
            .model
            .as_ref()
            .map(|model| cost(model.layers(), &self.plan, model.other_parameters));
        self.jobs.tuning.clear();
        self.jobs.calibrators.clear();
        self.jobs.counterpart.clear();
        self.jobs.evaluation.clear();
        self.result = None;
        self.halted = false;
        self.forget_local_errors_of_other_schemes();
        self.forget_scores_of_other_schemes();
        self.screen();
        self.selection
            .retain(|id| id.index() < self.plan.layers().len());
        self.inspect();
        self.advance();
    }

    /// Local errors hold for all widths, but only for the schemes that they were measured with.
    fn forget_local_errors_of_other_schemes(&mut self) {
        let mut layers = self
            .plan
            .layers()
            .iter()
            .zip(self.local_errors_plan.layers());
        if !layers.all(|(now, then)| now.weight.same_but_format(&then.weight)) {
            self.local_errors = None;
            self.jobs.local_errors.clear();
        }
    }

    /// Starts the next job that is missing: float, calibration, rounding, the plan, then local errors.
    pub(super) fn advance(&mut self) {
        let (Some(model), Some(data)) = (self.model.clone(), self.data.clone()) else {
            return;
        };
        if self.halted {
            return;
        }
        if !self.float_finished {
            self.start_float(model, data);
        } else if self.ranges.is_none() {
            self.start_calibration(model, data);
        } else {
            let measured = self.result().is_some_and(|result| result.finished);
            if !measured && self.nearest.is_some() && self.tuned().is_none() {
                self.start_tuning(Arc::clone(&model), Arc::clone(&data));
            } else if !measured && !self.jobs.evaluation.is_running() {
                self.start_evaluation(&model, Arc::clone(&data));
            }
            let compared = self.nearest.is_none() || self.counterpart().is_some();
            if measured && !compared && !self.jobs.counterpart.is_running() {
                self.start_counterpart(Arc::clone(&model), Arc::clone(&data));
            }
            let screened = self
                .local_errors
                .as_ref()
                .is_some_and(|errors| errors.samples > 0);
            if !screened && !self.jobs.local_errors.is_running() {
                self.start_local_errors(model, data);
            }
        }
        self.let_urgent_work_pass();
    }

    /// Makes sweeps wait, between nodes, while something runs whose result is awaited.
    pub(super) fn let_urgent_work_pass(&mut self) {
        let jobs = &mut self.jobs;
        let urgent = jobs.float.is_running()
            || jobs.calibration.is_running()
            || jobs.tuning.is_running()
            || jobs.evaluation.is_running();
        jobs.counterpart.set_paused(urgent);
        jobs.local_errors.set_paused(urgent);
        jobs.sensitivity.set_paused(urgent);
        jobs.second_order.set_paused(urgent);
        jobs.search.set_paused(urgent);
    }

    fn start_float(&mut self, model: Arc<OpenModel>, data: Arc<OpenData>) {
        if self.jobs.float.is_running() {
            return;
        }
        self.jobs.float.start(&self.wake, move |context| {
            work::run_float(context, &model, &data.evaluation)
        });
    }

    fn start_calibration(&mut self, model: Arc<OpenModel>, data: Arc<OpenData>) {
        if self.jobs.calibration.is_running() {
            return;
        }
        self.jobs.calibration.start(&self.wake, move |context| {
            work::run_calibration(context, &model, &data.calibration)
        });
    }

    fn start_evaluation(&mut self, model: &OpenModel, data: Arc<OpenData>) {
        let tuned = self.tuned().cloned();
        let executor = match &tuned {
            Some(tuned) => Arc::clone(&tuned.executor),
            None => Arc::clone(&model.executor),
        };
        self.share_activations_of(&executor);
        let (plan, ranges, reference) =
            (self.plan.clone(), self.ranges.clone(), self.float.clone());
        let (cache, cache_bytes) = (Arc::clone(&self.cache), self.cache_bytes);
        self.jobs.evaluation.start(&self.wake, move |context| {
            let cache = cache.get_or_init(|| {
                let batches = &data.evaluation;
                ActivationCache::new(&executor, batches, LAYER_ERROR_SAMPLES, cache_bytes)
            });
            let prepared = match &tuned {
                Some(tuned) => tuned.prepared.clone(),
                None => executor.prepare_cancellable(&plan, ranges.as_deref(), &context.cancel)?,
            };
            work::run_evaluation(context, &executor, cache, &prepared, reference.as_deref())
        });
    }

    /// Activations are shared by evaluations of one network; what holds weights that were let go is let
    /// go with them.
    fn share_activations_of(&mut self, executor: &Arc<Executor>) {
        let let_go = self.tuning_let_go();
        let is_same = self
            .cached
            .as_ref()
            .is_some_and(|(known, at)| Arc::ptr_eq(known, executor) && *at == let_go);
        if !is_same {
            self.forget_activations();
            self.cached = Some((Arc::clone(executor), let_go));
        }
    }

    fn start_local_errors(&mut self, model: Arc<OpenModel>, data: Arc<OpenData>) {
        let Some(ranges) = self.ranges.clone() else {
            return;
        };
        let plan = self.plan.clone();
        self.local_errors_plan = plan.clone();
        self.jobs.local_errors.start(&self.wake, move |context| {
            let batches = data
                .calibration
                .first(LOCAL_ERROR_SAMPLES)
                .in_batches_of(SWEEP_BATCH);
            work::run_local_errors(
                context,
                &model,
                &batches,
                &plan,
                &ranges,
                &Self::screening_widths(),
            )
        });
    }

    /// Looks into the first selected layer under its current choice.
    pub(super) fn inspect(&mut self) {
        let (Some(model), Some(&layer)) = (self.model.clone(), self.selection.first()) else {
            self.inspection = None;
            return;
        };
        let Some(choice) = self.plan.layer(layer).cloned() else {
            return;
        };
        let (ranges, tuned) = (self.ranges.clone(), self.tuned().cloned());
        self.jobs.inspection.start(&self.wake, move |context| {
            work::run_inspection(
                &context.cancel,
                &model,
                layer,
                &choice,
                ranges.as_deref(),
                tuned.as_deref(),
            )
        });
    }
}

fn history_entry(model: &OpenModel, stored: StoredResult, plan: Plan) -> HistoryEntry {
    HistoryEntry {
        fingerprint: plan.fingerprint(),
        cost: cost(model.layers(), &plan, model.other_parameters),
        samples: stored.samples,
        metrics: stored.metrics(),
        comparison: stored.comparison(),
        pinned: stored.pinned,
        measured_secs: stored.measured_secs,
        name: stored.name,
        plan,
    }
}
