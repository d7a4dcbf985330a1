//! Ways to open a model, data or a project; what the window shows while nothing is open.

use std::path::PathBuf;

use egui::{Button, Label, RichText, ScrollArea, Sense, Shape, Stroke, TextEdit, vec2};

use super::names::field_label_ui;
use super::recent_list::{RecentPictures, recent_ui};
use crate::data::Preprocess;
use crate::session::{Action, BundledSample, DataRequest, Session, Typed};
use crate::ui::commands::Command;
use crate::ui::theme;

/// Width that the page is kept to, so that lines stay readable.
const PAGE_WIDTH: f32 = 760.0;

/// What is typed on the page.
#[derive(Debug)]
pub(crate) struct StartView {
    samples: Vec<BundledSample>,
    recent: RecentPictures,
    model: String,
    data: String,
    calibration: String,
    preprocess: String,
    project: String,
    plan: String,
    report: String,
    /// Why the last Open did nothing.
    problem: Option<String>,
}

impl StartView {
    pub(crate) fn new(samples: Vec<BundledSample>) -> Self {
        Self {
            samples,
            recent: RecentPictures::default(),
            model: String::new(),
            data: String::new(),
            calibration: String::new(),
            preprocess: String::new(),
            project: String::new(),
            plan: String::new(),
            report: String::new(),
            problem: None,
        }
    }

    /// The data that was typed; `None` without a data folder.
    fn data_request(&self) -> Result<Option<DataRequest>, String> {
        let Some(data) = typed_path(&self.data) else {
            return Ok(None);
        };
        let preprocess = match self.preprocess.trim() {
            "" => None,
            text => Some(
                text.parse::<Preprocess>()
                    .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Some(DataRequest {
            calibration: typed_path(&self.calibration),
            preprocess,
            ..DataRequest::new(data)
        }))
    }

    /// What Open does with the typed paths.
    fn open(&self, has_model: bool) -> Result<Action, String> {
        match (typed_path(&self.model), self.data_request()?) {
            (Some(model), Some(data)) => Ok(Action::OpenModelWithData(model, data)),
            (Some(model), None) => Ok(Action::OpenModel(model)),
            (None, Some(data)) if has_model => Ok(Action::OpenData(data)),
            (None, Some(_)) => Err("Type the path of a model too".to_owned()),
            (None, None) => Err("Type the path of a model or of a data folder".to_owned()),
        }
    }
}

/// A path as it is typed or pasted, with or without quotes.
fn typed_path(text: &str) -> Option<PathBuf> {
    let text = text.trim().trim_matches('"').trim_matches('\'').trim();
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// The page.
pub(crate) fn start_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut StartView,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    ScrollArea::vertical()
        .id_salt("start")
        .auto_shrink(false)
        .show(ui, |ui| {
            let side = ((ui.available_width() - PAGE_WIDTH) / 2.0).max(0.0);
            ui.horizontal_top(|ui| {
                ui.add_space(side);
                ui.vertical(|ui| {
                    ui.set_width(ui.available_width().min(PAGE_WIDTH));
                    title_ui(ui, session);
                    samples_ui(ui, view, actions);
                    if !session.recent().is_empty() {
                        heading_ui(ui, "Recent");
                        recent_ui(ui, session, &mut view.recent, actions);
                    }
                    buttons_ui(ui, session, commands);
                    paths_ui(ui, session, view, actions);
                });
            });
        });
}

fn title_ui(ui: &mut egui::Ui, session: &Session) {
    let weak = theme::palette(ui).weak;
    if session.model().is_none() {
        ui.add_space(12.0);
        ui.label(RichText::new("Quantscope").size(28.0).strong());
        ui.label(
            RichText::new("See what every bit-width does to a network's accuracy, size and error, layer by layer")
                .color(weak),
        );
    }
    if session
        .running_jobs()
        .iter()
        .any(|job| job.name.starts_with("Opening"))
    {
        ui.add_space(4.0);
        ui.label("Opening…");
    }
}

fn heading_ui(ui: &mut egui::Ui, text: &str) {
    ui.add_space(14.0);
    ui.label(RichText::new(text).size(16.0).strong());
    ui.add_space(2.0);
}

fn samples_ui(ui: &mut egui::Ui, view: &StartView, actions: &mut Vec<Action>) {
    if view.samples.is_empty() {
        return;
    }
    heading_ui(ui, "Try a sample");
    let spacing = ui.spacing().item_spacing.x;
    let columns = if ui.available_width() > 520.0 { 2 } else { 1 };
    let width = (ui.available_width() - spacing * (columns - 1) as f32) / columns as f32;
    let cards: Vec<(usize, &BundledSample)> = view.samples.iter().enumerate().collect();
    for row in cards.chunks(columns) {
        ui.horizontal_top(|ui| {
            for (index, sample) in row {
                sample_card_ui(ui, width, *index, sample, actions);
            }
        });
    }
}

fn sample_card_ui(
    ui: &mut egui::Ui,
    width: f32,
    index: usize,
    sample: &BundledSample,
    actions: &mut Vec<Action>,
) {
    let frame = theme::card(ui);
    let margin = frame.total_margin().sum();
    let weak = theme::palette(ui).weak;
    frame.show(ui, |ui| {
        ui.set_width((width - margin.x).max(100.0));
        ui.set_min_height(84.0);
        ui.vertical(|ui| {
            ui.strong(sample.name);
            ui.label(RichText::new(sample.description).color(weak));
            let open = ui
                .button("Open sample")
                .accessible_name(format!("Open sample {}", sample.name));
            if open.clicked() {
                actions.push(Action::OpenSample(index));
            }
        });
    });
}

fn buttons_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    heading_ui(ui, "Open your own");
    ui.horizontal_wrapped(|ui| {
        for command in [
            Command::OpenModel,
            Command::OpenData,
            Command::OpenCalibration,
            Command::OpenProject,
            Command::ImportPlan,
        ] {
            if command.button_ui(ui, session) {
                commands.push(command);
            }
        }
    });
    drop_zone_ui(ui);
}

/// A place that says what can be dropped; the whole window takes it.
fn drop_zone_ui(ui: &mut egui::Ui) {
    let palette = theme::palette(ui);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 52.0), Sense::hover());
    let text = "Or drop a model file, a data folder, a project (.qscope) or a plan (.json) anywhere onto the window";
    let corners = [
        rect.left_top(),
        rect.right_top(),
        rect.right_bottom(),
        rect.left_bottom(),
        rect.left_top(),
    ];
    let edge = Stroke::new(1.0, palette.weak);
    ui.painter()
        .extend(Shape::dashed_line(&corners, edge, 6.0, 4.0));
    let place = rect.shrink(8.0);
    ui.put(
        place,
        Label::new(RichText::new(text).color(palette.weak)).wrap(),
    );
}

fn paths_ui(ui: &mut egui::Ui, session: &Session, view: &mut StartView, actions: &mut Vec<Action>) {
    heading_ui(ui, "Or by path");
    let has_model = session.model().is_some();
    row_ui(
        ui,
        "Model",
        &mut view.model,
        "net.onnx, net.safetensors or net.pth",
        |_, _| {},
    );
    row_ui(
        ui,
        "Data folder",
        &mut view.data,
        "samples that measure accuracy",
        |_, _| {},
    );
    let hint = "empty: a disjoint part of the data folder";
    row_ui(
        ui,
        "Calibration folder",
        &mut view.calibration,
        hint,
        |_, _| {},
    );
    let hint = "empty: guessed from the model; or imagenet, unit, signed, raw, mean=…;std=…";
    let mut open = false;
    row_ui(ui, "Preprocessing", &mut view.preprocess, hint, |ui, _| {
        open = ui
            .button("Open")
            .on_hover_text("Open the model and the data")
            .clicked();
    });
    if open {
        match view.open(has_model) {
            Ok(action) => {
                view.problem = None;
                actions.push(action);
            }
            Err(problem) => view.problem = Some(problem),
        }
    }
    for (kind, text, hint) in [
        (FileKind::Project, &mut view.project, "work.qscope"),
        (FileKind::Plan, &mut view.plan, "plan.json"),
        (FileKind::Report, &mut view.report, "report.html"),
    ] {
        row_ui(ui, kind.title(), text, hint, |ui, text| {
            file_buttons_ui(ui, kind, text, has_model, actions);
        });
    }
    if let Some(problem) = &view.problem {
        ui.label(RichText::new(problem.as_str()).color(theme::palette(ui).bad));
    }
}

/// What a button says, and what it does with a path.
type Verb = (&'static str, fn(PathBuf) -> Action);

/// What is read or written at a path that was typed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Project,
    Plan,
    Report,
}

impl FileKind {
    fn title(self) -> &'static str {
        match self {
            Self::Project => "Project",
            Self::Plan => "Plan",
            Self::Report => "Report",
        }
    }

    fn verbs(self) -> &'static [Verb] {
        match self {
            Self::Project => &[
                ("Open", Action::OpenProject),
                ("Save", |path| Action::WriteTyped(Typed::Project(path))),
            ],
            Self::Plan => &[
                ("Import", Action::ImportPlan),
                ("Export", |path| Action::WriteTyped(Typed::Plan(path))),
            ],
            Self::Report => &[("Save", |path| Action::WriteTyped(Typed::Report(path)))],
        }
    }

    /// Whether there must be a model; a project brings its own.
    fn needs_model(self, verb: &str) -> bool {
        !(self == Self::Project && verb == "Open")
    }
}

/// Reading and writing a file at the path that was typed.
fn file_buttons_ui(
    ui: &mut egui::Ui,
    kind: FileKind,
    typed: &str,
    has_model: bool,
    actions: &mut Vec<Action>,
) {
    let path = typed_path(typed);
    ui.horizontal(|ui| {
        for (verb, action) in kind.verbs() {
            let why = match &path {
                None => Some("Type a path first"),
                Some(_) if !has_model && kind.needs_model(verb) => Some("Open a model first"),
                Some(_) => None,
            };
            let name = format!("{verb} {} by path", kind.title().to_lowercase());
            let response = ui
                .add_enabled(why.is_none(), Button::new(*verb))
                .on_disabled_hover_text(why.unwrap_or_default())
                .accessible_name(name);
            if let (true, Some(path)) = (response.clicked(), path.clone()) {
                actions.push(action(path));
            }
        }
    });
}

/// A named text field with buttons after it.
fn row_ui(
    ui: &mut egui::Ui,
    name: &str,
    text: &mut String,
    hint: &str,
    buttons: impl FnOnce(&mut egui::Ui, &str),
) {
    ui.horizontal(|ui| {
        let height = ui.spacing().interact_size.y;
        let label = field_label_ui(ui, name, 124.0);
        let width = (ui.available_width() - 150.0).clamp(120.0, 460.0);
        ui.add_sized(
            vec2(width, height),
            TextEdit::singleline(text).hint_text(hint),
        )
        .labelled_by(label.id);
        buttons(ui, text);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_paths_open_what_they_name() {
        let mut view = StartView::new(Vec::new());
        assert!(view.open(true).is_err());
        view.data = " \"photos\" ".to_owned();
        assert!(matches!(view.open(true), Ok(Action::OpenData(_))));
        assert!(view.open(false).is_err());
        view.model = "net.onnx".to_owned();
        match view.open(false) {
            Ok(Action::OpenModelWithData(model, request)) => {
                assert_eq!(model, PathBuf::from("net.onnx"));
                assert_eq!(request, DataRequest::new(PathBuf::from("photos")));
            }
            other => panic!("{other:?}"),
        }
        view.preprocess = "no such thing".to_owned();
        assert!(view.open(false).is_err());
    }
}
