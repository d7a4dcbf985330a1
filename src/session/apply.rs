//! Carrying out actions; the only place that changes the plan.

use std::path::{Path, PathBuf};

use super::action::{Action, LayerEdit, Typed};
use super::bundled::bundled_samples;
use super::error::SessionError;
use super::files::{read_text, write_atomically};
use super::messages::{Remedy, Severity};
use super::open_data::{DataRequest, OpenData};
use super::pictures::PictureSize;
use super::project_file::{PROJECT_VERSION, ProjectFile, StoredData, StoredResult};
use super::session::{FileDone, Session};
use super::work;
use crate::export::foreign_plan;
use crate::model::LayerId;
use crate::plan::{LayerPlan, Plan, PlanFile};
use crate::quant::NumberFormat;

impl Session {
    /// Carries out one action. What takes time goes to a background job; [`Session::poll`] brings
    /// the result. What cannot be done becomes a message, and the session stays as it was.
    pub fn apply(&mut self, action: Action) {
        tracing::debug!(?action, "apply");
        match action {
            Action::OpenModel(path) => self.open_model(path, None),
            Action::OpenModelWithData(path, data) => self.open_model(path, Some(data)),
            Action::OpenData(request) => self.open_data(request),
            Action::SetPreprocess(preprocess) => self.set_preprocess(preprocess),
            Action::OpenSample(index) => self.open_sample(index),
            Action::ImportPlan(path) => self.import_plan(path),
            Action::ExportPlan(path) => self.export_plan(path, true),
            Action::OpenProject(path) => self.open_project(path),
            Action::SaveProject(path) => self.save_project(path, true),
            Action::WriteTyped(typed) => self.write_typed(typed),
            Action::SaveReport(path) => self.save_report(path, true),
            Action::LeaveOccupied => self.occupied = None,
            Action::Export(order) => self.start_export(order),
            Action::StopExport => self.stop_export(),
            Action::ForgetExportEnd => self.forget_export_end(),
            Action::ForecastExport(profile) => self.forecast_export(profile),
            Action::FindRuntime(profile, python) => self.find_runtime(profile, python),
            Action::Select(layers) => self.select(layers),
            Action::Edit { layers, edit } => self.edit(&layers, &edit),
            Action::ChooseCalibrators => self.start_choosing_calibrators(),
            Action::TryClip(range) => self.try_clip(range),
            Action::ApplyPreset(preset) => self.change_plan(preset.apply(&self.plan)),
            Action::Undo => self.undo(),
            Action::Redo => self.redo(),
            Action::Restore(index) => self.restore(index),
            Action::Rename(index, name) => self.rename(index, name),
            Action::Pin(index, pinned) => self.pin(index, pinned),
            Action::Forget(index) => self.forget(index),
            Action::Recall => self.recall(),
            Action::WantThumbnails(samples) => self.want_pictures(&samples, PictureSize::Small),
            Action::WantPictures(samples) => self.want_pictures(&samples, PictureSize::Large),
            Action::Evaluate => self.evaluate_again(),
            Action::RunSensitivity(request) => self.run_sensitivity(&request),
            Action::RunSecondOrder(subject, widths) => self.run_second_order(subject, widths),
            Action::SaveFigure {
                figure,
                format,
                path,
            } => self.save_figure(&figure, format, path),
            Action::StartSearch(request) => self.start_search(request),
            Action::StopSearch => self.stop_search(),
            Action::Adopt(plan) => self.adopt(plan),
            Action::CancelJobs => self.cancel_jobs(),
            Action::ForgetRecent(model) => self.forget_recent(&model),
            Action::Dismiss(id) => self.messages.retain(|message| message.id != id),
        }
    }

    pub(super) fn open_model(&mut self, path: PathBuf, data: Option<DataRequest>) {
        self.halted = false;
        self.jobs.opening_data.clear();
        self.jobs
            .opening
            .start(&self.wake, move |_| work::open(&path, data));
    }

    fn open_data(&mut self, request: DataRequest) {
        let Some(model) = self.model.clone() else {
            self.tell_with(
                Severity::Error,
                "Open data",
                "Open a model first; the data is read in the shape of its input".to_owned(),
                Remedy::ChooseModel,
            );
            return;
        };
        self.halted = false;
        self.jobs
            .opening_data
            .start(&self.wake, move |_| OpenData::open(&model, request));
    }

    fn set_preprocess(&mut self, preprocess: crate::data::Preprocess) {
        if let Some(data) = &self.data {
            let request = DataRequest {
                preprocess: Some(preprocess),
                ..data.request.clone()
            };
            self.open_data(request);
        }
    }

    fn open_sample(&mut self, index: usize) {
        match bundled_samples().into_iter().nth(index) {
            Some(sample) => self.open_model(sample.model, Some(sample.data)),
            None => self.tell(
                Severity::Error,
                "Open sample",
                "The bundled samples are not there; start the program from its own folder, or open a model file".to_owned(),
            ),
        }
    }

    fn import_plan(&mut self, path: PathBuf) {
        let Some(model) = self.model.clone() else {
            self.tell_with(
                Severity::Error,
                "Import plan",
                "Open the plan's model first".to_owned(),
                Remedy::ChooseModel,
            );
            return;
        };
        self.jobs.files.start(&self.wake, move |_| {
            let plan = read_plan(&path, &model)?;
            Ok(FileDone::PlanRead(plan))
        });
    }

    fn export_plan(&mut self, path: PathBuf, replaces: bool) {
        self.occupied = None;
        let Some(file) = self.plan_file(&self.plan) else {
            self.tell(
                Severity::Error,
                "Export plan",
                "Open a model first".to_owned(),
            );
            return;
        };
        self.jobs.files.start(&self.wake, move |_| {
            if !replaces && path.exists() {
                return Ok(FileDone::Occupied(Typed::Plan(path)));
            }
            write_atomically(&path, file.to_json()?.as_bytes())?;
            Ok(FileDone::PlanWritten(path))
        });
    }

    /// Writes, unless that would replace a file that nobody was asked about.
    fn write_typed(&mut self, typed: Typed) {
        match typed {
            // The project is there because it was opened or saved.
            Typed::Project(path) if self.project_path() == Some(&path) => {
                self.save_project(path, true);
            }
            Typed::Project(path) => self.save_project(path, false),
            Typed::Plan(path) => self.export_plan(path, false),
            Typed::Report(path) => self.save_report(path, false),
        }
    }

    fn open_project(&mut self, path: PathBuf) {
        self.jobs.files.start(&self.wake, move |_| {
            let project = ProjectFile::read(&path)?;
            Ok(FileDone::ProjectRead(path, Box::new(project)))
        });
    }

    fn save_project(&mut self, path: PathBuf, replaces: bool) {
        self.occupied = None;
        self.keep_sweep();
        let Some(project) = self.project_file() else {
            self.tell(
                Severity::Error,
                "Save project",
                "Open a model first".to_owned(),
            );
            return;
        };
        let fingerprint = self.plan_fingerprint.clone();
        self.history_changes.saving();
        self.jobs.files.start(&self.wake, move |_| {
            if !replaces && path.exists() {
                return Ok(FileDone::Occupied(Typed::Project(path)));
            }
            project.write(&path)?;
            Ok(FileDone::ProjectWritten(path, fingerprint))
        });
    }

    fn select(&mut self, mut layers: Vec<LayerId>) {
        layers.retain(|id| id.index() < self.plan.layers().len());
        self.selection = layers;
        self.inspect();
    }

    fn edit(&mut self, layers: &[LayerId], edit: &LayerEdit) {
        let mut plan = self.plan.clone();
        plan.edit(layers, |layer| edit.apply(layer));
        if let Some(format) = edit.activation_format() {
            self.keep_groups(&mut plan, layers, format);
        }
        self.change_plan(plan);
        if self.data.is_none() && self.plan.is_tuned() && edit.is_of_rounding() {
            self.tell_with(
                Severity::Warning,
                "Rounding",
                "Weights are rounded on calibration data: open a data folder, and the plan is rounded and measured".to_owned(),
                Remedy::ChooseData,
            );
        }
    }

    /// Gives the inputs that are tied to those of some layers the same width; locked layers stay.
    fn keep_groups(&self, plan: &mut Plan, layers: &[LayerId], format: NumberFormat) {
        let Some(model) = &self.model else { return };
        let tied = layers.iter().flat_map(|id| model.tied_to(*id));
        let tied: Vec<LayerId> = tied.filter(|id| !layers.contains(id)).collect();
        plan.edit(&tied, |layer| {
            if !layer.locked {
                layer.activation.format = format;
            }
        });
    }

    /// Replaces the plan as one undo step; nothing happens if it is the same.
    pub(super) fn change_plan(&mut self, plan: Plan) {
        if plan != self.plan {
            self.undo.record(std::mem::replace(&mut self.plan, plan));
            self.plan_changed();
        }
    }

    fn undo(&mut self) {
        if let Some(plan) = self.undo.undo(&self.plan) {
            self.plan = plan;
            self.plan_changed();
        }
    }

    fn redo(&mut self) {
        if let Some(plan) = self.undo.redo(&self.plan) {
            self.plan = plan;
            self.plan_changed();
        }
    }

    fn restore(&mut self, index: usize) {
        if let Some(entry) = self.history.get(index) {
            self.change_plan(entry.plan.clone());
        }
    }

    /// Takes over a plan of the open model.
    fn adopt(&mut self, plan: Plan) {
        if plan.layers().len() == self.plan.layers().len() {
            self.change_plan(plan);
        }
    }

    fn evaluate_again(&mut self) {
        self.halted = false;
        self.result = None;
        self.jobs.evaluation.clear();
        self.advance();
        if self.data.is_none() {
            self.tell_with(
                Severity::Error,
                "Evaluate",
                "Choose a data folder first: File, Open data folder".to_owned(),
                Remedy::ChooseData,
            );
        }
    }

    fn cancel_jobs(&mut self) {
        self.halted = true;
        let jobs = &mut self.jobs;
        // Reading files cannot be interrupted; what comes of it is not wanted any more.
        jobs.opening.clear();
        jobs.opening_data.clear();
        self.pending_project = None;
        jobs.float.cancel();
        jobs.calibration.cancel();
        jobs.tuning.cancel();
        jobs.calibrators.cancel();
        jobs.counterpart.cancel();
        jobs.evaluation.cancel();
        jobs.local_errors.cancel();
        jobs.sensitivity.cancel();
        jobs.second_order.cancel();
        jobs.search.cancel();
        jobs.export.cancel();
        jobs.export_forecast.cancel();
    }

    /// The plan file of a plan for the open model.
    pub(super) fn plan_file(&self, plan: &Plan) -> Option<PlanFile> {
        let model = self.model.as_ref()?;
        let data = self.data.as_ref().map(|data| data.fingerprint.clone());
        Some(PlanFile::new(plan, model.layers(), model.identity(), data))
    }

    fn project_file(&self) -> Option<ProjectFile> {
        let model = self.model.as_ref()?;
        let data = self.data.as_ref();
        Some(ProjectFile {
            version: PROJECT_VERSION,
            model: model.path.clone(),
            data: data.map(|data| StoredData::new(&data.request)),
            plan: self.plan_file(&self.plan)?,
            selection: self
                .selection
                .iter()
                .filter_map(|id| Some(model.layers().get(id.index())?.name.clone()))
                .collect(),
            sweeps: self.sweeps.clone(),
            search: self.stored_search(),
            history: data.map_or_else(Vec::new, |data| {
                self.history
                    .iter()
                    .filter_map(|entry| {
                        StoredResult::new(entry, &data.fingerprint, self.plan_file(&entry.plan)?)
                    })
                    .collect()
            }),
        })
    }
}

impl LayerEdit {
    /// Whether it takes calibration data.
    fn is_of_rounding(&self) -> bool {
        matches!(self, Self::Rounding(_) | Self::Correct(..))
    }

    /// The width that it gives to inputs.
    fn activation_format(&self) -> Option<NumberFormat> {
        match self {
            Self::ActivationFormat(format) | Self::BothFormats(format) => Some(*format),
            _ => None,
        }
    }

    fn apply(&self, layer: &mut LayerPlan) {
        match self {
            Self::WeightFormat(format) => layer.weight.format = *format,
            Self::ActivationFormat(format) => layer.activation.format = *format,
            Self::BothFormats(format) => {
                layer.weight.format = *format;
                layer.activation.format = *format;
            }
            Self::WeightScheme(scheme) => layer.weight.scheme = *scheme,
            Self::ActivationScheme(scheme) => layer.activation.scheme = *scheme,
            Self::WeightGranularity(granularity) => layer.weight.granularity = *granularity,
            Self::WeightCalibrator(calibrator) => layer.weight.calibrator = *calibrator,
            Self::Rounding(rounding) => layer.choose_rounding(*rounding),
            Self::Correct(one, on) => layer.corrections.set(*one, *on),
            Self::ActivationCalibrator(calibrator) => {
                layer.activation.calibrator = *calibrator;
                layer.activation.range_override = None;
            }
            Self::ActivationRange(range) => layer.activation.range_override = *range,
            Self::Locked(locked) => layer.locked = *locked,
        }
    }
}

/// Reads a plan file for a model.
///
/// # Errors
/// The file cannot be read, is no plan, or was made for another model.
pub fn read_plan(path: &Path, model: &super::OpenModel) -> Result<Plan, SessionError> {
    let text = read_text(path)?;
    let names = |id| model.graph().value(id).name.clone();
    if let Some(plan) = foreign_plan(&text, model.layers(), &names) {
        return plan.map_err(|error| SessionError::Malformed {
            path: path.to_owned(),
            reason: error.to_string(),
        });
    }
    PlanFile::from_json(&text)
        .and_then(|file| file.plan_for(model.layers(), &model.identity()))
        .map_err(|error| SessionError::Malformed {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}
