//! The open document.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::action::Typed;
use super::error::SessionError;
use super::export_desk::{ExportDesk, ExportEnd, ExportForecast, RuntimeFound};
use super::history::{HistoryChanges, HistoryEntry};
use super::inspection::{ActivationInspection, Inspection};
use super::job_slot::{JobStatus, Slot};
use super::memory::default_cache_bytes;
use super::messages::{Message, Remedy, Severity};
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::pictures::{DecodedPictures, Pictures};
use super::plan_records::PlanRecords;
use super::previews::{Preview, Previews};
use super::project_file::StoredResult;
use super::recent::Recent;
use super::scoring::Scoring;
use super::search_desk::{SearchDesk, SearchNews};
use super::sweep_store::SweepStore;
use super::tuning::Tuned;
use super::tuning_desk::TuningDesk;
use super::undo::UndoStack;
use super::work::Opened;
use crate::engine::{
    ActivationCache, Evaluation, Executor, FloatReference, LocalErrors, Ranges, Screens,
    SecondOrder, Sensitivity,
};
use crate::jobs::{Wake, start_workers};
use crate::model::LayerId;
use crate::plan::{Cost, Fingerprint, Plan, Widths};
use crate::quant::{BitWidth, NumberFormat, Range};
use crate::search::End;

/// Samples that the layer errors of an interactive evaluation are measured on.
pub const LAYER_ERROR_SAMPLES: usize = 128;
/// Samples that the local errors are measured on.
pub(super) const LOCAL_ERROR_SAMPLES: usize = 64;

/// Samples in a batch of a sweep, few so that it can be interrupted often.
pub(super) const SWEEP_BATCH: usize = 16;

/// Messages that the log keeps.
const LOG_LENGTH: usize = 500;

/// A measured plan: the result, and what it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanResult {
    /// The plan that was measured.
    pub plan: Fingerprint,
    /// What is known of it so far.
    pub evaluation: Evaluation,
    /// Whether all samples were evaluated.
    pub finished: bool,
}

/// One open document with the jobs that work on it.
///
/// Nothing here blocks: files are read and networks run in background jobs, whose results
/// [`Session::poll`] takes in. A result is shown only for the plan, model and data that it was
/// computed for; a change cancels what it makes stale.
pub struct Session {
    pub(super) wake: Wake,
    pub(super) model: Option<Arc<OpenModel>>,
    pub(super) data: Option<Arc<OpenData>>,
    pub(super) plan: Plan,
    pub(super) plan_fingerprint: Fingerprint,
    pub(super) cost: Option<Cost>,
    pub(super) undo: UndoStack,
    pub(super) selection: Vec<LayerId>,
    pub(super) float: Option<Arc<FloatReference>>,
    pub(super) float_finished: bool,
    /// Seconds that the float run computed, without reading samples.
    pub(super) float_secs: Option<f64>,
    pub(super) ranges: Option<Arc<Ranges>>,
    pub(super) result: Option<PlanResult>,
    /// What evaluations share; made by the first evaluation on the open data.
    pub(super) cache: Arc<OnceLock<ActivationCache>>,
    /// The network that it is for, and how often rounded layers were let go when it was made.
    pub(super) cached: Option<(Arc<Executor>, u64)>,
    pub(super) cache_bytes: usize,
    pub(super) history: Vec<HistoryEntry>,
    pub(super) history_changes: HistoryChanges,
    /// The entry that was taken out last, and where it was.
    pub(super) forgotten: Option<(usize, HistoryEntry)>,
    pub(super) records: PlanRecords,
    pub(super) pictures: Pictures,
    pub(super) local_errors: Option<LocalErrors>,
    /// The plan whose schemes the local errors were measured with.
    pub(super) local_errors_plan: Plan,
    pub(super) sensitivity: Option<Sensitivity>,
    /// The plan whose schemes and calibrators the sweep was measured with.
    pub(super) sensitivity_plan: Plan,
    /// What sweeps over the open model have measured, on this data and others.
    pub(super) sweeps: SweepStore,
    pub(super) scoring: Scoring,
    pub(super) search: SearchDesk,
    pub(super) tuning: TuningDesk,
    /// The plan rounded to nearest, where it does more than that.
    pub(super) nearest: Option<Fingerprint>,
    pub(super) inspection: Option<Inspection>,
    /// The same layer under the choice that it had before.
    pub(super) inspection_before: Option<Inspection>,
    /// Its input under a clip range that is tried.
    pub(super) tried_clip: Option<ActivationInspection>,
    pub(super) messages: Vec<Message>,
    pub(super) next_message: u64,
    pub(super) log: VecDeque<Message>,
    started: Instant,
    pub(super) recent: Vec<Recent>,
    /// Files and folders of the recent ones that are not there.
    pub(super) missing: BTreeSet<PathBuf>,
    pub(super) previews: Vec<Preview>,
    pub(super) saved: Option<(PathBuf, Fingerprint)>,
    /// Plan and results of a project whose model and data are still being opened.
    pub(super) pending_project: Option<(PathBuf, Box<super::project_file::ProjectFile>)>,
    pub(super) pending_history: Vec<StoredResult>,
    /// Stopped by hand: nothing starts by itself until something is asked for.
    pub(super) halted: bool,
    /// A file that is in the way of one whose path was typed.
    pub(super) occupied: Option<Typed>,
    pub(super) export: ExportDesk,
    pub(super) jobs: Jobs,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("model", &self.model.as_ref().map(|model| &model.path))
            .field("plan", &self.plan_fingerprint)
            .field("jobs", &self.running_jobs())
            .finish_non_exhaustive()
    }
}

/// The jobs of a session, one slot for each kind.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) opening: Slot<(), Opened>,
    pub(super) opening_data: Slot<(), OpenData>,
    pub(super) float: Slot<Arc<FloatReference>, Arc<FloatReference>>,
    pub(super) calibration: Slot<(), Arc<Ranges>>,
    pub(super) tuning: Slot<(), Arc<Tuned>>,
    pub(super) evaluation: Slot<Evaluation, Evaluation>,
    pub(super) calibrators: Slot<(), Plan>,
    pub(super) counterpart: Slot<(), (Plan, Evaluation)>,
    pub(super) local_errors: Slot<LocalErrors, LocalErrors>,
    pub(super) sensitivity: Slot<Sensitivity, Sensitivity>,
    pub(super) second_order: Slot<SecondOrder, SecondOrder>,
    pub(super) screens: Slot<(), Screens>,
    pub(super) search: Slot<SearchNews, (SearchNews, End)>,
    pub(super) inspection: Slot<(), Inspection>,
    pub(super) pictures: Slot<(), DecodedPictures>,
    pub(super) files: Slot<(), FileDone>,
    pub(super) export: Slot<(), ExportEnd>,
    pub(super) export_forecast: Slot<(), ExportForecast>,
    pub(super) runtime: Slot<(), RuntimeFound>,
    pub(super) figures: Slot<(), PathBuf>,
    pub(super) previews: Slot<(), Previews>,
    pub(super) recent: Slot<(), BTreeSet<PathBuf>>,
}

/// A file job that ended.
#[derive(Debug)]
pub(super) enum FileDone {
    /// A plan file was read.
    PlanRead(Plan),
    /// A project file was read.
    ProjectRead(PathBuf, Box<super::project_file::ProjectFile>),
    /// A file is in the way of one whose path was typed.
    Occupied(Typed),
    /// The plan was exported.
    PlanWritten(PathBuf),
    /// A report was written.
    ReportWritten(PathBuf),
    /// The project was saved with this plan.
    ProjectWritten(PathBuf, Fingerprint),
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            opening: Slot::new("Opening model"),
            opening_data: Slot::new("Opening data"),
            float: Slot::new("Measuring float"),
            calibration: Slot::new("Calibrating"),
            tuning: Slot::new("Rounding weights"),
            evaluation: Slot::new("Evaluating plan"),
            calibrators: Slot::new("Choosing calibrators"),
            counterpart: Slot::new("Evaluating nearest"),
            local_errors: Slot::new("Local errors"),
            sensitivity: Slot::new("Sensitivity"),
            second_order: Slot::new("Second-order score"),
            screens: Slot::new("Screening weights"),
            search: Slot::new("Search"),
            inspection: Slot::new("Inspecting layer"),
            pictures: Slot::new("Decoding pictures"),
            files: Slot::new("Files"),
            export: Slot::new("Exporting"),
            export_forecast: Slot::new("Size of the export"),
            runtime: Slot::new("Looking for a runtime"),
            figures: Slot::new("Saving plot"),
            previews: Slot::new("Decoding samples"),
            recent: Slot::new("Looking for recent files"),
        }
    }
}

impl Session {
    /// An empty session that calls `wake` when there is news.
    ///
    /// All sessions compute on the program's one pool; the first starts it with `threads` threads.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn new(threads: usize, wake: Wake) -> Result<Self, SessionError> {
        start_workers(threads).map_err(|error| {
            SessionError::Missing(format!("cannot start {threads} threads: {error}"))
        })?;
        let plan = Plan::uniform(0, Widths::FLOAT);
        Ok(Self {
            wake,
            model: None,
            data: None,
            plan_fingerprint: plan.fingerprint(),
            local_errors_plan: plan.clone(),
            sensitivity_plan: plan.clone(),
            plan,
            cost: None,
            undo: UndoStack::default(),
            selection: Vec::new(),
            float: None,
            float_finished: false,
            float_secs: None,
            ranges: None,
            result: None,
            cache: Arc::default(),
            cached: None,
            cache_bytes: default_cache_bytes(),
            history: Vec::new(),
            history_changes: HistoryChanges::default(),
            forgotten: None,
            records: PlanRecords::default(),
            pictures: Pictures::default(),
            local_errors: None,
            sensitivity: None,
            sweeps: SweepStore::default(),
            scoring: Scoring::default(),
            search: SearchDesk::default(),
            tuning: TuningDesk::default(),
            nearest: None,
            inspection: None,
            inspection_before: None,
            tried_clip: None,
            messages: Vec::new(),
            next_message: 0,
            log: VecDeque::new(),
            started: Instant::now(),
            recent: Vec::new(),
            missing: BTreeSet::new(),
            previews: Vec::new(),
            saved: None,
            pending_project: None,
            pending_history: Vec::new(),
            halted: false,
            occupied: None,
            export: ExportDesk::default(),
            jobs: Jobs::default(),
        })
    }

    /// The open model.
    pub fn model(&self) -> Option<&OpenModel> {
        self.model.as_deref()
    }

    /// The open data.
    pub fn data(&self) -> Option<&OpenData> {
        self.data.as_deref()
    }

    /// The plan as it is edited.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Identifies the plan as it is edited.
    pub fn plan_fingerprint(&self) -> &Fingerprint {
        &self.plan_fingerprint
    }

    /// Size and bit operations of the plan; `None` without a model.
    pub fn cost(&self) -> Option<&Cost> {
        self.cost.as_ref()
    }

    /// The selected layers, in the order in which they were selected.
    pub fn selection(&self) -> &[LayerId] {
        &self.selection
    }

    /// Float accuracy so far, and whether all samples were run.
    pub fn float(&self) -> Option<(&FloatReference, bool)> {
        self.float
            .as_deref()
            .map(|reference| (reference, self.float_finished))
    }

    /// Statistics of the layers' inputs, once calibrated.
    pub fn ranges(&self) -> Option<&Ranges> {
        self.ranges.as_deref()
    }

    /// What is measured of the current plan; never of another one.
    pub fn result(&self) -> Option<&PlanResult> {
        self.result
            .as_ref()
            .filter(|result| result.plan == self.plan_fingerprint)
    }

    /// Plans that were evaluated to the end, oldest first.
    pub fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    /// Local error of every layer at every width, as far as measured.
    pub fn local_errors(&self) -> Option<&LocalErrors> {
        self.local_errors.as_ref()
    }

    /// The last sensitivity sweep, as far as it went.
    pub fn sensitivity(&self) -> Option<&Sensitivity> {
        self.sensitivity.as_ref()
    }

    /// Details of the first selected layer under its current choice.
    pub fn inspection(&self) -> Option<&Inspection> {
        let inspection = self.inspection.as_ref()?;
        (self.selection.first() == Some(&inspection.layer)).then_some(inspection)
    }

    /// Details of the same layer under the choice that it had before the last change, if it was
    /// shown under that one.
    pub fn inspection_before(&self) -> Option<&Inspection> {
        let before = self.inspection_before.as_ref()?;
        (self.inspection()?.layer == before.layer).then_some(before)
    }

    /// Input of the first selected layer under the clip range of [`super::Action::TryClip`], until
    /// the layer is inspected again.
    pub fn tried_clip(&self) -> Option<&ActivationInspection> {
        self.inspection()?;
        self.tried_clip.as_ref()
    }

    /// Measures the first selected layer's input under a clip range that is not chosen yet; one that
    /// is not legal changes nothing.
    pub(super) fn try_clip(&mut self, clip: Range) {
        let tried = self.inspection().and_then(|inspection| {
            let activation = inspection.activation.as_ref()?;
            let spec = &inspection.choice.activation;
            activation.under_clip(spec, clip).ok()
        });
        if tried.is_some() {
            self.tried_clip = tried;
        }
    }

    /// Takes in an inspection; the one of another choice of the same layer is kept beside it.
    pub(super) fn take_inspection(&mut self, inspection: Inspection) {
        self.tried_clip = None;
        let last = self.inspection.replace(inspection);
        let Some((last, now)) = last.zip(self.inspection.as_ref()) else {
            self.inspection_before = None;
            return;
        };
        if last.layer != now.layer {
            self.inspection_before = None;
        } else if last.choice != now.choice {
            self.inspection_before = Some(last);
        }
    }

    /// Messages that were not dismissed, oldest first.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// All messages, oldest first, dismissed or not; the oldest of very many are dropped.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = &Message> + ExactSizeIterator {
        self.log.iter()
    }

    /// Memory in bytes that evaluations may use for activations that they share.
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Sets the memory for shared activations, at first a quarter of the machine's and at most 4 GB;
    /// what was kept is let go.
    pub fn set_cache_bytes(&mut self, bytes: usize) {
        self.cache_bytes = bytes;
        self.forget_activations();
    }

    /// Starts with an empty cache.
    pub(super) fn forget_activations(&mut self) {
        let old = std::mem::take(&mut self.cache);
        self.cached = None;
        // Giving gigabytes back takes long enough to be seen.
        rayon::spawn(move || drop(old));
    }

    /// Whether there is a change of the plan to take back.
    pub fn can_undo(&self) -> bool {
        self.undo.can_undo()
    }

    /// Whether there is a change of the plan to do again.
    pub fn can_redo(&self) -> bool {
        self.undo.can_redo()
    }

    /// The project file, if one was opened or saved.
    pub fn project_path(&self) -> Option<&PathBuf> {
        self.saved.as_ref().map(|(path, _)| path)
    }

    /// A file that is there already under a path that was typed; nothing was written.
    pub fn occupied(&self) -> Option<&Typed> {
        self.occupied.as_ref()
    }

    /// How far the running export is.
    pub fn export_status(&self) -> Option<JobStatus> {
        self.jobs.export.status()
    }

    /// Whether the plan, or names and pins of the history, differ from the saved project, or were
    /// changed and never saved.
    pub fn is_modified(&self) -> bool {
        let plan = match &self.saved {
            Some((_, fingerprint)) => *fingerprint != self.plan_fingerprint,
            None => self.undo.can_undo(),
        };
        plan || self.history_changes.are_unsaved()
    }

    /// The jobs that run now, most urgent first.
    pub fn running_jobs(&self) -> Vec<JobStatus> {
        let jobs = &self.jobs;
        [
            jobs.opening.status(),
            jobs.opening_data.status(),
            jobs.files.status(),
            jobs.export.status(),
            jobs.figures.status(),
            jobs.float.status(),
            jobs.calibration.status(),
            jobs.tuning.status(),
            jobs.evaluation.status(),
            jobs.calibrators.status(),
            jobs.counterpart.status(),
            jobs.local_errors.status(),
            jobs.sensitivity.status(),
            jobs.second_order.status(),
            jobs.search.status(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether a job runs or would be started by the next [`Session::poll`].
    pub fn is_busy(&self) -> bool {
        !self.running_jobs().is_empty()
            || self.jobs.inspection.is_running()
            || self.jobs.previews.is_running()
            || self.jobs.screens.is_running()
            || self.jobs.recent.is_running()
            || self.jobs.pictures.is_running()
            || self.jobs.export_forecast.is_running()
            || self.jobs.runtime.is_running()
    }

    /// Widths of the local-error map and the default widths of a sweep.
    pub fn screening_widths() -> Vec<NumberFormat> {
        [8, 7, 6, 5, 4, 3, 2]
            .into_iter()
            .filter_map(|bits| BitWidth::new(bits).ok())
            .map(NumberFormat::Int)
            .collect()
    }

    pub(super) fn tell_of_file(&mut self, title: &str, path: &Path) {
        self.tell(
            Severity::Info,
            title,
            format!("Written to {}", path.display()),
        );
    }

    pub(super) fn tell(&mut self, severity: Severity, title: &str, text: String) {
        self.tell_with(severity, title, text, None::<Remedy>);
    }

    /// Tells what went wrong, and the step that may mend it.
    pub(super) fn tell_with(
        &mut self,
        severity: Severity,
        title: &str,
        text: String,
        remedy: impl Into<Option<Remedy>>,
    ) {
        let message = Message {
            id: self.next_message,
            severity,
            title: title.to_owned(),
            text,
            remedy: remedy.into(),
            at: self.started.elapsed(),
        };
        self.next_message += 1;
        self.log.push_back(message.clone());
        if self.log.len() > LOG_LENGTH {
            self.log.pop_front();
        }
        self.messages.push(message);
    }
}
