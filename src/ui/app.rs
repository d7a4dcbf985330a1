//! The program's window: collects actions while it draws, applies them afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commands::Command;
use super::compare::{CompareView, compare_ui};
use super::dialogs::{Answer, DialogKind, Dialogs};
use super::looks::{Looks, STORAGE_KEY, ThemeChoice};
use super::panels::{
    CentreTab, CoverageView, InspectorView, LayerTableView, OverviewView, SensitivityView,
    StartView, ToolbarView, coverage_ui, inspector_ui, layer_table_ui, menu_bar_ui, messages_ui,
    overview_ui, sensitivity_ui, start_ui, status_bar_ui, tab_bar_ui, toolbar_ui,
};
use super::samples::{SamplesView, samples_ui};
use super::window::WindowOptions;
use crate::jobs::Wake;
use crate::session::{Action, DataRequest, Session, bundled_samples};

/// The window's state: one session, and the looks of the views.
pub struct App {
    session: Session,
    wake: Wake,
    dialogs: Dialogs,
    /// The centre tab that is shown.
    tab: CentreTab,
    theme: ThemeChoice,
    start: StartView,
    toolbar: ToolbarView,
    layer_table: LayerTableView,
    overview: OverviewView,
    sensitivity: SensitivityView,
    samples: SamplesView,
    compare: CompareView,
    coverage: CoverageView,
    inspector: InspectorView,
    /// Something the window itself has to say, such as that there are no file dialogs.
    note: Option<&'static str>,
    /// A plan to import once the model of the command line is open.
    plan_to_import: Option<PathBuf>,
    /// Whether a model was open in the last frame.
    had_model: bool,
    /// When the program was started, until the first frame is told.
    started: Option<Instant>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("session", &self.session)
            .field("tab", &self.tab)
            .finish_non_exhaustive()
    }
}

impl App {
    /// A window on a session; nothing is opened.
    pub fn new(ctx: &egui::Context, session: Session) -> Self {
        let ctx = ctx.clone();
        Self {
            session,
            wake: Arc::new(move || ctx.request_repaint()),
            dialogs: Dialogs::default(),
            tab: CentreTab::Open,
            theme: ThemeChoice::default(),
            start: StartView::new(bundled_samples()),
            toolbar: ToolbarView::default(),
            layer_table: LayerTableView::default(),
            overview: OverviewView::default(),
            sensitivity: SensitivityView::default(),
            samples: SamplesView::default(),
            compare: CompareView::default(),
            coverage: CoverageView::default(),
            inspector: InspectorView::default(),
            note: None,
            plan_to_import: None,
            had_model: false,
            started: None,
        }
    }

    /// The session behind the window.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Carries out an action as if a view had asked for it.
    pub fn apply(&mut self, action: Action) {
        self.session.apply(action);
    }

    /// Opens what the command line names, or the first bundled sample.
    pub(crate) fn start(&mut self, options: WindowOptions, started: Instant) {
        self.started = Some(started);
        let data = options.data_request();
        match (options.model, data) {
            (Some(model), _) if has_extension(&model, "qscope") => {
                self.session.apply(Action::OpenProject(model));
            }
            (Some(model), Some(data)) => {
                self.session.apply(Action::OpenModelWithData(model, data));
            }
            (Some(model), None) => self.session.apply(Action::OpenModel(model)),
            (None, _) if !bundled_samples().is_empty() => {
                self.session.apply(Action::OpenSample(0));
            }
            (None, _) => {}
        }
        self.plan_to_import = options.plan;
    }

    /// Takes over the stored looks.
    pub(crate) fn restore(&mut self, storage: &dyn eframe::Storage, ctx: &egui::Context) {
        let Some(text) = storage.get_string(STORAGE_KEY) else {
            return;
        };
        match serde_json::from_str::<Looks>(&text) {
            Ok(looks) => {
                self.theme = looks.theme;
                self.session.set_recent(looks.recent);
                ctx.set_theme(egui::ThemePreference::from(self.theme));
            }
            Err(error) => tracing::warn!("the stored looks are not read: {error}"),
        }
    }

    /// Takes in results, dropped files and answers of dialogs; draws nothing.
    pub fn logic(&mut self, ctx: &egui::Context) {
        self.session.poll();
        self.overview.follow(&self.session);
        self.take_dropped_files(ctx);
        match self.dialogs.poll() {
            Some(Answer::Chosen(kind, path)) => {
                self.session.apply(kind.action(path, &self.session));
            }
            Some(Answer::Unavailable) => {
                self.note = Some(
                    "This desktop offers no file dialogs: type a path on the Open tab, or drop files onto the window",
                );
                self.tab = CentreTab::Open;
            }
            None => {}
        }
        let has_model = self.session.model().is_some();
        if has_model && !self.had_model {
            self.tab = CentreTab::Overview;
        }
        self.had_model = has_model;
        if has_model && let Some(path) = self.plan_to_import.take() {
            self.session.apply(Action::ImportPlan(path));
        }
        if self.session.is_busy() {
            ctx.request_repaint_after(Duration::from_millis(100));
        }
    }

    fn take_dropped_files(&mut self, ctx: &egui::Context) {
        for file in ctx.input(|input| input.raw.dropped_files.clone()) {
            self.session.apply(action_for_dropped(file.path()));
        }
    }

    /// Draws the whole window and applies what was asked for.
    pub fn show(&mut self, ui: &mut egui::Ui) {
        let mut actions = Vec::new();
        if self.tab == CentreTab::Samples {
            self.samples.take_keys(ui);
        }
        let mut commands = Command::pressed(ui);
        self.bars_ui(ui, &mut actions, &mut commands);
        if self.session.model().is_some() {
            self.side_panels_ui(ui, &mut actions);
        }
        egui::CentralPanel::default().show(ui, |ui| {
            self.centre_ui(ui, &mut actions, &mut commands);
        });
        for command in commands {
            self.carry_out(command, ui.ctx());
        }
        for action in actions {
            self.session.apply(action);
        }
    }

    /// Menu, toolbar and messages at the top, status at the bottom.
    fn bars_ui(
        &mut self,
        ui: &mut egui::Ui,
        actions: &mut Vec<Action>,
        commands: &mut Vec<Command>,
    ) {
        egui::Panel::top("menu_bar").show(ui, |ui| {
            menu_bar_ui(ui, &self.session, self.theme, actions, commands);
        });
        egui::Panel::top("toolbar").show(ui, |ui| {
            toolbar_ui(ui, &self.session, &mut self.toolbar, actions, commands);
        });
        if self.note.is_some() || !self.session.messages().is_empty() {
            egui::Panel::top("messages").show(ui, |ui| {
                messages_ui(ui, &self.session, &mut self.note, actions);
            });
        }
        egui::Panel::bottom("status").show(ui, |ui| {
            status_bar_ui(ui, &self.session, actions);
        });
    }

    fn side_panels_ui(&mut self, ui: &mut egui::Ui, actions: &mut Vec<Action>) {
        let width = ui.available_width();
        egui::Panel::left("layers")
            .resizable(true)
            .default_size((width * 0.34).clamp(300.0, 640.0))
            .size_range(240.0..=width * 0.6)
            .show(ui, |ui| {
                layer_table_ui(ui, &self.session, &mut self.layer_table, actions);
            });
        egui::Panel::right("inspector")
            .resizable(true)
            .default_size((width * 0.26).clamp(250.0, 480.0))
            .size_range(230.0..=width * 0.5)
            .show(ui, |ui| {
                inspector_ui(ui, &self.session, &mut self.inspector, actions);
            });
    }

    fn centre_ui(
        &mut self,
        ui: &mut egui::Ui,
        actions: &mut Vec<Action>,
        commands: &mut Vec<Command>,
    ) {
        if self.session.model().is_some() {
            tab_bar_ui(ui, &mut self.tab);
        } else {
            self.tab = CentreTab::Open;
        }
        match self.tab {
            CentreTab::Open => start_ui(ui, &self.session, &mut self.start, actions, commands),
            CentreTab::Overview => {
                overview_ui(ui, &self.session, &mut self.overview, actions, commands);
                if let Some((a, b)) = self.overview.plans_to_compare.take() {
                    self.compare.choose(a, b);
                    self.tab = CentreTab::Compare;
                }
            }
            CentreTab::Sensitivity => {
                sensitivity_ui(ui, &self.session, &mut self.sensitivity, actions);
            }
            CentreTab::Samples => {
                samples_ui(ui, &self.session, &mut self.samples, actions, commands);
            }
            CentreTab::Compare => {
                if let Some((pair, filter)) = compare_ui(ui, &self.session, &mut self.compare) {
                    self.samples.show(pair, filter);
                    self.tab = CentreTab::Samples;
                }
            }
            CentreTab::Coverage => coverage_ui(ui, &self.session, &mut self.coverage),
        }
    }

    fn carry_out(&mut self, command: Command, ctx: &egui::Context) {
        if command.why_disabled(&self.session).is_some() {
            return;
        }
        match command {
            Command::OpenModel => self.dialogs.open(DialogKind::Model, &self.wake),
            Command::OpenData => self.dialogs.open(DialogKind::Data, &self.wake),
            Command::OpenCalibration => self.dialogs.open(DialogKind::Calibration, &self.wake),
            Command::OpenProject => self.dialogs.open(DialogKind::Project, &self.wake),
            Command::SaveProject => match self.session.project_path().cloned() {
                Some(path) => self.session.apply(Action::SaveProject(path)),
                None => self.dialogs.open(DialogKind::SaveProject, &self.wake),
            },
            Command::SaveProjectAs => self.dialogs.open(DialogKind::SaveProject, &self.wake),
            Command::ImportPlan => self.dialogs.open(DialogKind::ImportPlan, &self.wake),
            Command::ExportPlan => self.dialogs.open(DialogKind::ExportPlan, &self.wake),
            Command::Undo => self.session.apply(Action::Undo),
            Command::Redo => self.session.apply(Action::Redo),
            Command::Run => self.session.apply(Action::Evaluate),
            Command::Cancel => self.session.apply(Action::CancelJobs),
            Command::SelectAll => {
                let shown = self.layer_table.shown(&self.session);
                self.session.apply(Action::Select(shown));
            }
            Command::ThemeLight => self.set_theme(ThemeChoice::Light, ctx),
            Command::ThemeDark => self.set_theme(ThemeChoice::Dark, ctx),
            Command::ThemeSystem => self.set_theme(ThemeChoice::System, ctx),
            Command::Quit => ctx.send_viewport_cmd(egui::ViewportCommand::Close),
        }
    }

    fn set_theme(&mut self, theme: ThemeChoice, ctx: &egui::Context) {
        self.theme = theme;
        ctx.set_theme(egui::ThemePreference::from(theme));
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        Self::logic(self, ctx);
    }

    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut eframe::Frame) {
        let begun = Instant::now();
        self.show(ui);
        if let Some(started) = self.started.take() {
            tracing::debug!(
                "first frame {} ms after the start",
                started.elapsed().as_millis()
            );
        }
        tracing::trace!(
            "views took {:.2} ms; the whole frame before, with painting, {:.2} ms",
            1e3 * begun.elapsed().as_secs_f64(),
            1e3 * frame.info().cpu_usage.unwrap_or(0.0),
        );
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        let looks = Looks {
            theme: self.theme,
            recent: self.session.recent().to_vec(),
        };
        match serde_json::to_string(&looks) {
            Ok(text) => storage.set_string(STORAGE_KEY, text),
            Err(error) => tracing::warn!("the looks are not stored: {error}"),
        }
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// What to do with a file or folder that was dropped onto the window, told by its extension.
pub(crate) fn action_for_dropped(path: &Path) -> Action {
    let path = path.to_path_buf();
    if has_extension(&path, "qscope") {
        Action::OpenProject(path)
    } else if has_extension(&path, "json") {
        Action::ImportPlan(path)
    } else if ["onnx", "safetensors", "pth", "pt"]
        .iter()
        .any(|extension| has_extension(&path, extension))
    {
        Action::OpenModel(path)
    } else {
        Action::OpenData(DataRequest::new(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_files_open_by_their_extension() {
        let opens = |name: &str| match action_for_dropped(Path::new(name)) {
            Action::OpenProject(_) => "project",
            Action::ImportPlan(_) => "plan",
            Action::OpenModel(_) => "model",
            Action::OpenData(_) => "data",
            _ => "something else",
        };
        for (name, expected) in [
            ("a/net.ONNX", "model"),
            ("net.pt", "model"),
            ("work.qscope", "project"),
            ("plan.json", "plan"),
            ("photos", "data"),
            ("photos.v2", "data"),
        ] {
            assert_eq!(opens(name), expected, "{name}");
        }
    }
}
