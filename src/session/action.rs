//! Everything that can be done to a session.

use std::path::PathBuf;
use std::sync::Arc;

use super::export_desk::ExportOrder;
use super::open_data::DataRequest;
use super::search_setup::SearchRequest;
use crate::data::Preprocess;
use crate::engine::{SensitivityRequest, Subject};
use crate::figure::{Figure, FigureFormat};
use crate::model::LayerId;
use crate::plan::{Correction, Plan, Preset, Rounding, TargetProfile};
use crate::quant::{Calibrator, Granularity, NumberFormat, Range, Scheme};

/// A change to some layers of the plan.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerEdit {
    /// Width of the weight.
    WeightFormat(NumberFormat),
    /// Width of the input activation.
    ActivationFormat(NumberFormat),
    /// Both widths.
    BothFormats(NumberFormat),
    /// Scheme of the weight.
    WeightScheme(Scheme),
    /// Scheme of the activation.
    ActivationScheme(Scheme),
    /// Granularity of the weight.
    WeightGranularity(Granularity),
    /// How the weight's range is chosen.
    WeightCalibrator(Calibrator),
    /// How the levels of the weight are chosen, and with it how its range is.
    Rounding(Rounding),
    /// Whether something is corrected on calibration data.
    Correct(Correction, bool),
    /// How the activation's range is chosen.
    ActivationCalibrator(Calibrator),
    /// A clip range set by hand, or `None` for the calibrator's.
    ActivationRange(Option<Range>),
    /// Presets and searches leave locked layers alone.
    Locked(bool),
}

/// A file whose path was typed, so that nobody has asked yet whether one that is there may be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// The project.
    Project(PathBuf),
    /// The plan.
    Plan(PathBuf),
    /// A report.
    Report(PathBuf),
}

impl Typed {
    /// The path.
    pub fn path(&self) -> &PathBuf {
        match self {
            Self::Project(path) | Self::Plan(path) | Self::Report(path) => path,
        }
    }
}

/// What a view asks for; [`super::Session::apply`] carries it out.
#[derive(Clone, Debug)]
pub enum Action {
    /// Open a model file; data and plan of the previous model are closed when it has loaded.
    OpenModel(PathBuf),
    /// Open a model file and data for it.
    OpenModelWithData(PathBuf, DataRequest),
    /// Open an evaluation folder, and calibration data with it.
    OpenData(DataRequest),
    /// Use this preprocessing instead of the guess.
    SetPreprocess(Preprocess),
    /// Open a bundled sample by its index in [`super::bundled_samples`].
    OpenSample(usize),
    /// Replace the plan by one from a file.
    ImportPlan(PathBuf),
    /// Write the plan to a file.
    ExportPlan(PathBuf),
    /// Open a project: model, data, plan and history.
    OpenProject(PathBuf),
    /// Write the project.
    SaveProject(PathBuf),
    /// Write to a path that was typed; a file that is there is told by
    /// [`super::Session::occupied`] and stays.
    WriteTyped(Typed),
    /// Leave the file that is told by [`super::Session::occupied`] as it is.
    LeaveOccupied,
    /// Write the plan and what was measured of it as one page; a file that is there is replaced.
    SaveReport(PathBuf),
    /// Export the plan for a runtime.
    Export(ExportOrder),
    /// Stop the export; files that are written stay.
    StopExport,
    /// Put away how the last export ended.
    ForgetExportEnd,
    /// Tell how large the file for a target would be; see [`super::Session::export_forecast`].
    ForecastExport(&'static TargetProfile),
    /// Look for what can check exports for a target, or whether an interpreter can.
    FindRuntime(&'static TargetProfile, Option<PathBuf>),
    /// Replace the selection; the first layer is shown in the inspector.
    Select(Vec<LayerId>),
    /// Change layers of the plan; one undo step.
    Edit {
        /// The layers.
        layers: Vec<LayerId>,
        /// What changes.
        edit: LayerEdit,
    },
    /// Choose the calibrator of every input on calibration data; one undo step when it has ended.
    ChooseCalibrators,
    /// Show the first selected layer's input under another clip range; the plan stays as it is.
    TryClip(Range),
    /// Apply a preset to every layer that is not locked.
    ApplyPreset(Preset),
    /// Take back the last change of the plan.
    Undo,
    /// Do the change again that was taken back.
    Redo,
    /// Go back to an evaluated plan by its index in the history.
    Restore(usize),
    /// Give an evaluated plan a name.
    Rename(usize, String),
    /// Keep an evaluated plan at the top of the history, or no longer.
    Pin(usize, bool),
    /// Take an evaluated plan out of the history.
    Forget(usize),
    /// Put the plan back that was taken out of the history last.
    Recall,
    /// Decode thumbnails of evaluation samples, the first of them first; see [`super::Session::thumbnail`].
    WantThumbnails(Vec<usize>),
    /// Decode evaluation samples in full, the first of them first; see [`super::Session::picture`].
    WantPictures(Vec<usize>),
    /// Evaluate the current plan again.
    Evaluate,
    /// Run a sensitivity sweep, from where an equal one stopped.
    RunSensitivity(SensitivityRequest),
    /// Score every layer at these widths by gradients over the calibration data.
    RunSecondOrder(Subject, Vec<NumberFormat>),
    /// Write a figure to a file.
    SaveFigure {
        /// What is written.
        figure: Arc<Figure>,
        /// How it is written.
        format: FigureFormat,
        /// The file; one that is there is replaced.
        path: PathBuf,
    },
    /// Search for the best plans, or go on with the last search.
    StartSearch(SearchRequest),
    /// Stop the search and keep what it found.
    StopSearch,
    /// Replace the plan; one undo step.
    Adopt(Plan),
    /// Stop all jobs and keep what they found.
    CancelJobs,
    /// Take a model out of the list of recent ones.
    ForgetRecent(PathBuf),
    /// Take a message away.
    Dismiss(u64),
}
