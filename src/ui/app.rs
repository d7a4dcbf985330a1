//! The program's window: collects actions while it draws, applies them afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::closing::Closing;
use super::commands::Command;
use super::dialogs::{Answer, DialogKind, Dialogs};
use super::dock::Dock;
use super::export::{ExportView, Wanted, export_ui};
use super::hints::hint_ui;
use super::looks::{Looks, STORAGE_KEY, ThemeChoice, Zoom};
use super::palette::{Outcome, Palette};
use super::panel::Panel;
use super::panels::{
    LayerColumns, MenuLooks, ToastsView, lasting, log_ui, menu_bar_ui, messages_ui, status_bar_ui,
    toasts_ui, toolbar_ui,
};
use super::plots::{PathAnswer, PathWindow, SaveRequest, follow_pointed, take_save_requests};
use super::shortcuts::shortcuts_ui;
use super::views::Views;
use super::window::WindowOptions;
use crate::jobs::Wake;
use crate::session::{Action, DataRequest, Session, bundled_samples, process_bytes};

/// How long the window rests between two frames of a running job.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How often the memory of the program is asked for.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

/// The window's state: one session, and the looks of the views.
pub struct App {
    pub(super) session: Session,
    pub(super) wake: Wake,
    pub(super) dialogs: Dialogs,
    pub(super) dock: Dock,
    pub(super) views: Views,
    pub(super) theme: ThemeChoice,
    pub(super) zoom: Zoom,
    pub(super) hints_dismissed: BTreeSet<Panel>,
    /// The command palette, while it is open.
    pub(super) palette: Option<Palette>,
    /// The window that exports.
    pub(super) export: ExportView,
    /// Whether the list of keys is shown.
    pub(super) shortcuts_shown: bool,
    /// Whether the messages so far are shown.
    pub(super) log_shown: bool,
    toasts: ToastsView,
    /// Where to save a plot, while that is typed.
    plot_path: Option<PathWindow>,
    /// Folder of the last plot that was saved by a typed path.
    plot_folder: Option<PathBuf>,
    /// How long the window rests between two frames while a job runs.
    pub(super) busy_pause: Duration,
    /// Memory of the program, told by the window now and then.
    memory_bytes: Option<u64>,
    memory_told: Option<Instant>,
    /// Whether the window is about to close, and what is asked before.
    pub(super) closing: Closing,
    /// Whether text was edited when the last frame ended.
    editing: bool,
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
            .field("dock", &self.dock)
            .finish_non_exhaustive()
    }
}

impl App {
    /// A window on a session; nothing is opened.
    pub fn new(ctx: &egui::Context, session: Session) -> Self {
        // Zoom has its own commands, with a range of its own.
        ctx.options_mut(|options| options.zoom_with_keyboard = false);
        let ctx = ctx.clone();
        Self {
            session,
            wake: Arc::new(move || ctx.request_repaint()),
            dialogs: Dialogs::default(),
            dock: Dock::default(),
            views: Views::new(),
            theme: ThemeChoice::default(),
            zoom: Zoom::default(),
            hints_dismissed: BTreeSet::new(),
            palette: None,
            export: ExportView::default(),
            shortcuts_shown: false,
            log_shown: false,
            toasts: ToastsView::default(),
            plot_path: None,
            plot_folder: std::env::current_dir().ok(),
            busy_pause: BUSY_PAUSE,
            memory_bytes: None,
            memory_told: None,
            closing: Closing::default(),
            editing: false,
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
    pub fn restore(&mut self, storage: &dyn eframe::Storage, ctx: &egui::Context) {
        let Some(text) = storage.get_string(STORAGE_KEY) else {
            return;
        };
        match serde_json::from_str::<Looks>(&text) {
            Ok(looks) => {
                self.session.set_recent(looks.recent);
                self.hints_dismissed = looks.hints_dismissed;
                self.views.overview.preprocess.confirmed = looks.preprocess_confirmed;
                if let Some(layout) = looks.layout {
                    self.dock.restore(layout);
                }
                if let Some(columns) = looks.layer_columns {
                    self.views.layer_table.columns = LayerColumns::restored(columns);
                }
                self.set_theme(looks.theme, ctx);
                self.set_zoom(looks.zoom, ctx);
            }
            Err(error) => tracing::warn!("the stored looks are not read: {error}"),
        }
    }

    /// Takes in results, dropped files and answers of dialogs; draws nothing.
    pub fn logic(&mut self, ctx: &egui::Context) {
        self.session.poll();
        self.guard_close(ctx);
        self.views.overview.follow(&self.session);
        self.take_dropped_files(ctx);
        match self.dialogs.poll() {
            Some(Answer::Chosen(DialogKind::ExportFolder, path)) => {
                self.export.folder = path.display().to_string();
            }
            Some(Answer::Chosen(DialogKind::Python, path)) => {
                self.export.python = path.display().to_string();
            }
            Some(Answer::Chosen(kind, path)) => {
                if let Some(action) = kind.action(path, &self.session) {
                    self.perform(action);
                }
            }
            Some(Answer::Unavailable(DialogKind::ExportFolder | DialogKind::Python)) => {
                self.note = Some(
                    "This desktop offers no file dialogs: type the path into the field beside the button",
                );
            }
            Some(Answer::Unavailable(DialogKind::SavePlot(request))) => self.ask_for_path(request),
            Some(Answer::Unavailable(_)) => {
                self.note = Some(
                    "This desktop offers no file dialogs: type a path on the Open tab, or drop files onto the window",
                );
                self.dock.show(Panel::Open);
            }
            None => {}
        }
        let has_model = self.session.model().is_some();
        if has_model && !self.had_model && self.dock.is_in_front(Panel::Open) {
            self.dock.show(Panel::Overview);
        }
        self.had_model = has_model;
        if has_model && let Some(path) = self.plan_to_import.take() {
            self.session.apply(Action::ImportPlan(path));
        }
        if self.session.is_busy() {
            ctx.request_repaint_after(self.busy_pause);
        }
    }

    fn take_dropped_files(&mut self, ctx: &egui::Context) {
        for file in ctx.input(|input| input.raw.dropped_files.clone()) {
            self.perform(action_for_dropped(file.path()));
        }
    }

    /// Draws the whole window and applies what was asked for.
    pub fn show(&mut self, ui: &mut egui::Ui) {
        let mut actions = Vec::new();
        let mut commands = self.overlays_ui(ui);
        if self.palette.is_none() {
            self.views.graph.take_keys(ui);
        }
        self.bars_ui(ui, &mut actions, &mut commands);
        egui::CentralPanel::default()
            .frame(egui::Frame::new().fill(ui.visuals().panel_fill))
            .show(ui, |ui| {
                self.panels_ui(ui, &mut actions, &mut commands);
            });
        self.plot_path_ui(ui.ctx(), &mut actions);
        match export_ui(ui.ctx(), &self.session, &mut self.export, &mut actions) {
            Some(Wanted::Folder) => self.ask(DialogKind::ExportFolder),
            Some(Wanted::Python) => self.ask(DialogKind::Python),
            None => {}
        }
        self.editing = ui.ctx().text_edit_focused();
        follow_pointed(ui.ctx());
        for request in take_save_requests(ui.ctx()) {
            self.save_plot(request);
        }
        for command in commands {
            self.carry_out(command, ui.ctx());
        }
        for action in actions {
            self.perform(action);
        }
    }

    /// Asks for paths in the window itself, as on a desktop that offers no file dialogs.
    pub fn do_without_dialogs(&mut self) {
        self.dialogs.do_without();
    }

    fn save_plot(&mut self, request: SaveRequest) {
        if self.dialogs.are_unavailable() {
            self.ask_for_path(request);
        } else {
            let wake = Arc::clone(&self.wake);
            self.dialogs.open(DialogKind::SavePlot(request), &wake);
        }
    }

    fn ask_for_path(&mut self, request: SaveRequest) {
        self.plot_path = Some(PathWindow::new(request, self.plot_folder.clone()));
    }

    fn plot_path_ui(&mut self, ctx: &egui::Context, actions: &mut Vec<Action>) {
        let Some(window) = &mut self.plot_path else {
            return;
        };
        match window.ui(ctx) {
            PathAnswer::Open => return,
            PathAnswer::Cancelled => {}
            PathAnswer::Save(action) => {
                if let Action::SaveFigure { path, .. } = &action {
                    self.plot_folder = path.parent().map(Path::to_path_buf);
                }
                actions.push(action);
            }
        }
        self.plot_path = None;
    }

    /// What lies over the window, and the commands that keys stand for: those of what lies over it come first.
    fn overlays_ui(&mut self, ui: &egui::Ui) -> Vec<Command> {
        if self.closing_ui(ui) {
            return Vec::new();
        }
        if let Some(palette) = &mut self.palette {
            let outcome = palette.ui(ui.ctx(), &self.session);
            if outcome != Outcome::Open {
                self.palette = None;
            }
            return match outcome {
                Outcome::Chosen(command) => vec![command],
                Outcome::Open | Outcome::Closed => Vec::new(),
            };
        }
        if self.shortcuts_shown {
            let escape =
                ui.input_mut(|input| input.consume_key(egui::Modifiers::NONE, egui::Key::Escape));
            self.shortcuts_shown = !escape;
            shortcuts_ui(ui.ctx(), &mut self.shortcuts_shown);
        }
        if self.export.is_open() && !ui.ctx().text_edit_focused() {
            let escape =
                ui.input_mut(|input| input.consume_key(egui::Modifiers::NONE, egui::Key::Escape));
            if escape {
                self.export.close();
            }
        }
        if self.dock.is_in_front(Panel::Samples) {
            self.views.samples.take_keys(ui);
        }
        // A key that ends editing has done so before the frame begins.
        Command::pressed(ui, self.editing || ui.ctx().text_edit_focused())
    }

    /// Menu and toolbar at the top; status, messages and log at the bottom.
    fn bars_ui(
        &mut self,
        ui: &mut egui::Ui,
        actions: &mut Vec<Action>,
        commands: &mut Vec<Command>,
    ) {
        egui::Panel::top("menu_bar").show(ui, |ui| {
            let looks = MenuLooks {
                theme: self.theme,
                zoom: self.zoom,
                dock: &self.dock,
            };
            menu_bar_ui(ui, &self.session, &looks, actions, commands);
        });
        egui::Panel::top("toolbar").show(ui, |ui| {
            let view = &mut self.views.toolbar;
            toolbar_ui(ui, &self.session, view, actions, commands);
        });
        let status = egui::Panel::bottom("status").show(ui, |ui| {
            status_bar_ui(ui, &self.session, self.memory_bytes, actions, commands);
        });
        if self.note.is_some() || !lasting(&self.session).is_empty() {
            egui::Panel::bottom("messages").show(ui, |ui| {
                messages_ui(ui, &self.session, &mut self.note, actions, commands);
            });
        }
        if self.log_shown {
            egui::Panel::bottom("log")
                .resizable(true)
                .default_size(160.0)
                .size_range(80.0..=400.0)
                .show(ui, |ui| self.log_shown = log_ui(ui, &self.session));
        }
        let foot = status.response.rect.top();
        drop_target_ui(ui.ctx());
        toasts_ui(ui.ctx(), &self.session, &mut self.toasts, foot, actions);
    }

    /// The docked panels; ways to open a model while there is none.
    fn panels_ui(
        &mut self,
        ui: &mut egui::Ui,
        actions: &mut Vec<Action>,
        commands: &mut Vec<Command>,
    ) {
        let Self {
            session,
            views,
            dock,
            hints_dismissed,
            ..
        } = self;
        if session.model().is_none() {
            egui::Frame::new()
                .inner_margin(egui::Margin::symmetric(8, 6))
                .show(ui, |ui| {
                    views.panel_ui(ui, Panel::Open, session, actions, commands);
                });
            return;
        }
        let reset = dock.ui(ui, &mut |ui, panel| {
            hint_ui(ui, panel, hints_dismissed);
            views.panel_ui(ui, panel, session, actions, commands);
        });
        if reset {
            commands.push(Command::ResetLayout);
        }
        if let Some(panel) = views.take_request() {
            dock.show(panel);
        }
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        Self::logic(self, ctx);
        let is_old = |told: Instant| told.elapsed() >= MEMORY_INTERVAL;
        if self.memory_told.is_none_or(is_old) {
            self.memory_bytes = process_bytes();
            self.memory_told = Some(Instant::now());
        }
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
            zoom: self.zoom,
            hints_dismissed: self.hints_dismissed.clone(),
            preprocess_confirmed: self.views.overview.preprocess.confirmed.clone(),
            layout: self.dock.stored(),
            layer_columns: self.views.layer_table.columns.stored(),
        };
        match serde_json::to_string(&looks) {
            Ok(text) => storage.set_string(STORAGE_KEY, text),
            Err(error) => tracing::warn!("the looks are not stored: {error}"),
        }
    }
}

/// Says that files can be let go here, while they are dragged over the window.
fn drop_target_ui(ctx: &egui::Context) {
    if ctx.input(|input| input.raw.hovered_files.is_empty()) {
        return;
    }
    let layer = egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop target"));
    let painter = ctx.layer_painter(layer);
    let screen = ctx.content_rect();
    let visuals = &ctx.global_style().visuals;
    let edge = egui::Stroke::new(3.0, visuals.hyperlink_color);
    painter.rect_filled(screen, 0.0, visuals.panel_fill.gamma_multiply(0.8));
    painter.rect_stroke(screen.shrink(12.0), 8.0, edge, egui::StrokeKind::Inside);
    painter.text(
        screen.center(),
        egui::Align2::CENTER_CENTER,
        "Drop to open: a model, a folder of samples, a project or a plan",
        egui::FontId::proportional(20.0),
        visuals.strong_text_color(),
    );
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
