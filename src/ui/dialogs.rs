//! File dialogs, each on its own thread, so that no frame waits for one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::plots::SaveRequest;
use crate::jobs::{JobHandle, Wake, spawn};
use crate::session::{Action, DataRequest, Session};

/// A dialog that ends sooner than this was never on the screen.
const SHORTEST_DIALOG: Duration = Duration::from_millis(100);

/// What a dialog asks for.
#[derive(Clone, Debug)]
pub(crate) enum DialogKind {
    /// A model file.
    Model,
    /// An evaluation folder.
    Data,
    /// A calibration folder.
    Calibration,
    /// A project to open.
    Project,
    /// Where to save the project.
    SaveProject,
    /// A plan to read.
    ImportPlan,
    /// Where to write the plan.
    ExportPlan,
    /// Where to write a report.
    Report,
    /// Where an export goes to.
    ExportFolder,
    /// A Python interpreter that has a runtime.
    Python,
    /// Where to save a plot.
    SavePlot(SaveRequest),
}

impl DialogKind {
    fn title(&self) -> &'static str {
        match self {
            Self::Model => "Open model",
            Self::Data => "Open data folder",
            Self::Calibration => "Open calibration folder",
            Self::Project => "Open project",
            Self::SaveProject => "Save project",
            Self::ImportPlan => "Import plan",
            Self::ExportPlan => "Export plan",
            Self::Report => "Save report",
            Self::ExportFolder => "Choose the folder of the export",
            Self::Python => "Choose a Python interpreter",
            Self::SavePlot(_) => "Save plot",
        }
    }

    /// Shows the dialog and waits for the answer.
    fn ask(&self) -> Option<PathBuf> {
        let dialog = rfd::FileDialog::new().set_title(self.title());
        match self {
            Self::Model => dialog
                .add_filter("Models", &["onnx", "safetensors", "pth", "pt"])
                .add_filter("All files", &["*"])
                .pick_file(),
            Self::Data | Self::Calibration | Self::ExportFolder => dialog.pick_folder(),
            Self::Python => dialog.pick_file(),
            Self::Project => dialog.add_filter("Projects", &["qscope"]).pick_file(),
            Self::SaveProject => dialog
                .add_filter("Projects", &["qscope"])
                .set_file_name("project.qscope")
                .save_file(),
            Self::ImportPlan => dialog.add_filter("Plans", &["json"]).pick_file(),
            Self::ExportPlan => dialog
                .add_filter("Plans", &["json"])
                .set_file_name("plan.json")
                .save_file(),
            Self::Report => dialog
                .add_filter("Web pages", &["html"])
                .set_file_name("report.html")
                .save_file(),
            Self::SavePlot(request) => dialog
                .add_filter(request.format.name(), &[request.format.extension()])
                .set_file_name(request.file_name())
                .save_file(),
        }
    }

    /// What follows from an answer; nothing where a window only takes note of it.
    pub(crate) fn action(self, path: PathBuf, session: &Session) -> Option<Action> {
        Some(match self {
            Self::ExportFolder | Self::Python => return None,
            Self::Model => Action::OpenModel(path),
            Self::Data => Action::OpenData(DataRequest::new(path)),
            Self::Calibration => Action::OpenData(DataRequest {
                calibration: Some(path.clone()),
                ..session
                    .data()
                    .map_or_else(|| DataRequest::new(path), |data| data.request.clone())
            }),
            Self::Project => Action::OpenProject(path),
            Self::SaveProject => Action::SaveProject(with_extension(path, "qscope")),
            Self::ImportPlan => Action::ImportPlan(path),
            Self::ExportPlan => Action::ExportPlan(with_extension(path, "json")),
            Self::Report => Action::SaveReport(with_extension(path, "html")),
            Self::SavePlot(request) => request.action(path),
        })
    }
}

fn with_extension(path: PathBuf, extension: &str) -> PathBuf {
    if path.extension().is_none() {
        path.with_extension(extension)
    } else {
        path
    }
}

/// The dialog that is open, if one is.
#[derive(Debug, Default)]
pub(crate) struct Dialogs {
    open: Option<OpenDialog>,
    /// This desktop was found to offer none, so that paths are typed.
    unavailable: bool,
}

#[derive(Debug)]
struct OpenDialog {
    kind: DialogKind,
    since: Instant,
    answer: JobHandle<(), Option<PathBuf>>,
}

/// How a dialog ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A path was chosen.
    Chosen(DialogKind, PathBuf),
    /// This desktop offers no dialogs, so that this is to be asked in another way.
    Unavailable(DialogKind),
}

impl Dialogs {
    /// Whether this desktop is known to offer no dialogs.
    pub(crate) fn are_unavailable(&self) -> bool {
        self.unavailable
    }

    /// Does without dialogs from now on.
    pub(crate) fn do_without(&mut self) {
        self.unavailable = true;
    }

    /// Opens a dialog, unless one is open already.
    pub(crate) fn open(&mut self, kind: DialogKind, wake: &Wake) {
        if self.open.is_some() {
            return;
        }
        let wake = std::sync::Arc::clone(wake);
        let asked = kind.clone();
        match spawn("file dialog", 0, wake, move |_| Ok(asked.ask())) {
            Ok(answer) => {
                self.open = Some(OpenDialog {
                    kind,
                    since: Instant::now(),
                    answer,
                });
            }
            Err(error) => tracing::error!("cannot start a thread for a dialog: {error}"),
        }
    }

    /// The answer, once it is there; a dialog that was closed without one is forgotten.
    pub(crate) fn poll(&mut self) -> Option<Answer> {
        let outcome = self.open.as_ref()?.answer.poll_done()?;
        let OpenDialog { kind, since, .. } = self.open.take()?;
        let shown = since.elapsed() > SHORTEST_DIALOG;
        match outcome {
            Ok(Some(path)) => Some(Answer::Chosen(kind, path)),
            Ok(None) if shown => None,
            Ok(None) | Err(_) => {
                self.unavailable = true;
                Some(Answer::Unavailable(kind))
            }
        }
    }
}
