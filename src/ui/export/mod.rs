//! Exporting the plan for a runtime: what changes, where it goes, and what the runtime makes of it.

mod outcome;

use std::path::PathBuf;

use egui::{Align2, Button, Id, Label, ProgressBar, RichText, ScrollArea, TextEdit, Window, vec2};

use super::{format, theme};
use crate::export::Runtime;
use crate::plan::{Fingerprint, FittedPlan, TargetProfile, fit};
use crate::session::{Action, ExportOrder, Session};
use outcome::{outcome_ui, question_ui};

/// Width of the window in points.
const WIDTH: f32 = 640.0;
/// Height of the list of changes in points.
const CHANGES_HEIGHT: f32 = 130.0;
/// Height of everything around what scrolls in points: title, margins, buttons and a question.
const FIXED_HEIGHT: f32 = 190.0;

/// What the window remembers.
#[derive(Debug)]
pub(crate) struct ExportView {
    open: bool,
    profile: &'static TargetProfile,
    /// Folder that the files go to, as it is typed.
    pub(crate) folder: String,
    /// Interpreter to verify with, as it is typed; empty looks for one.
    pub(crate) python: String,
    /// The plan made to fit the target, computed when either changes.
    fitted: Option<(Fingerprint, &'static str, FittedPlan)>,
    /// Whether the end of an export was on screen in the frame before.
    showed_end: bool,
}

impl Default for ExportView {
    fn default() -> Self {
        let [first, ..] = &TargetProfile::ALL;
        let own = TargetProfile::ALL
            .iter()
            .find(|profile| profile.name == "onnxruntime");
        Self {
            open: false,
            profile: own.unwrap_or(first),
            folder: String::new(),
            python: String::new(),
            fitted: None,
            showed_end: false,
        }
    }
}

/// What is to be chosen with a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The folder.
    Folder,
    /// The interpreter.
    Python,
}

impl ExportView {
    /// Shows the window.
    pub(crate) fn open(&mut self, session: &Session) {
        self.open = true;
        if self.folder.is_empty() {
            self.folder = suggested_folder(session);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    fn python(&self) -> Option<PathBuf> {
        let typed = self.python.trim();
        (!typed.is_empty()).then(|| PathBuf::from(typed))
    }

    fn fitted(&mut self, session: &Session) -> Option<&FittedPlan> {
        let layers = session.model()?.layers();
        let key = (session.plan_fingerprint(), self.profile.name);
        let is_known = self
            .fitted
            .as_ref()
            .is_some_and(|(plan, target, _)| (plan, *target) == key);
        if !is_known {
            let fitted = fit(session.plan(), layers, self.profile);
            self.fitted = Some((key.0.clone(), key.1, fitted));
        }
        self.fitted.as_ref().map(|(_, _, fitted)| fitted)
    }
}

/// A folder beside the project, else beside the model.
fn suggested_folder(session: &Session) -> String {
    let file = session
        .project_path()
        .or_else(|| session.model().map(|model| &model.path));
    let folder = file.and_then(|file| file.parent());
    let folder = folder.map(|folder| folder.join("export"));
    folder.unwrap_or_default().display().to_string()
}

/// The window, while it is open; what a dialog is wanted for.
pub(crate) fn export_ui(
    ctx: &egui::Context,
    session: &Session,
    view: &mut ExportView,
    actions: &mut Vec<Action>,
) -> Option<Wanted> {
    if !view.open {
        return None;
    }
    ask_what_is_missing(session, view, actions);
    let screen = ctx.content_rect();
    let mut open = true;
    let mut wanted = None;
    Window::new("Export for a runtime")
        .id(Id::unique("export for a runtime"))
        .open(&mut open)
        .collapsible(false)
        .resizable(false)
        .pivot(Align2::CENTER_CENTER)
        .default_pos(screen.center())
        .show(ctx, |ui| {
            ui.set_width(WIDTH.min(screen.width() - 60.0));
            // Without a least height the area keeps to that of the frame before, and cuts off what is new.
            let height = screen.height() - FIXED_HEIGHT;
            ScrollArea::vertical()
                .max_height(height)
                .min_scrolled_height(height)
                .show(ui, |ui| {
                    target_ui(ui, view);
                    changes_ui(ui, session, view);
                    ui.separator();
                    wanted = places_ui(ui, session, view, actions);
                    let outcome = ui.scope(|ui| outcome_ui(ui, session)).response;
                    let has_ended = session.export_end().is_some();
                    if has_ended && !view.showed_end {
                        outcome.scroll_to_me(Some(egui::Align::Min));
                    }
                    view.showed_end = has_ended;
                });
            ui.separator();
            buttons_ui(ui, session, view, actions);
            question_ui(ui, session, actions);
        });
    view.open = open;
    wanted
}

/// Asks for the size of the file and for an interpreter, once for each plan and target.
fn ask_what_is_missing(session: &Session, view: &ExportView, actions: &mut Vec<Action>) {
    let profile = view.profile;
    let settled = session.result().is_some_and(|result| result.finished)
        || session.data().is_none() && session.why_no_export().is_none();
    if session.export_forecast(profile).is_none()
        && settled
        && !session.is_forecasting_export()
        && !session.is_exporting()
    {
        actions.push(Action::ForecastExport(profile));
    }
    let asked = view.python();
    let found = session.runtime_found(profile);
    if found.is_none() && !session.is_finding_runtime() {
        actions.push(Action::FindRuntime(profile, asked));
    }
}

fn target_ui(ui: &mut egui::Ui, view: &mut ExportView) {
    ui.horizontal_wrapped(|ui| {
        ui.label("Target");
        for profile in &TargetProfile::ALL {
            let is_chosen = profile.name == view.profile.name;
            let response = ui
                .selectable_label(is_chosen, profile.label)
                .on_hover_text(profile.description)
                .accessible_name(format!("Target {}", profile.label));
            if response.clicked() {
                view.profile = profile;
            }
        }
    });
    let weak = theme::palette(ui).weak;
    ui.add(Label::new(RichText::new(view.profile.description).color(weak)).wrap());
    let claims = format!("What is known of {}", view.profile.label);
    egui::CollapsingHeader::new(claims)
        .id_salt(("claims", view.profile.name))
        .show(ui, |ui| {
            for claim in view.profile.claims {
                ui.add(Label::new(claim.text).wrap());
                ui.add(Label::new(RichText::new(claim.source).small().color(weak)).wrap());
            }
        });
}

/// What the target would change, and why.
fn changes_ui(ui: &mut egui::Ui, session: &Session, view: &mut ExportView) {
    let label = view.profile.label;
    let (Some(model), Some(fitted)) = (session.model(), view.fitted(session)) else {
        return;
    };
    let palette = theme::palette(ui);
    let changes = &fitted.changes;
    if changes.is_empty() {
        let text = format!("{label} takes this plan as it is: nothing changes");
        ui.label(RichText::new(text).color(palette.good));
        return;
    }
    let text = match changes.len() {
        1 => format!("{label} cannot express this plan; 1 change"),
        count => format!("{label} cannot express this plan; {count} changes"),
    };
    ui.label(RichText::new(text).color(palette.warn).strong());
    let row = ui.text_style_height(&egui::TextStyle::Body) + 2.0;
    ScrollArea::vertical()
        .id_salt("changes of the target")
        .max_height(CHANGES_HEIGHT)
        .auto_shrink([false, true])
        .show_rows(ui, row, changes.len(), |ui, rows| {
            for change in changes.get(rows).unwrap_or_default() {
                let layer = model.layers().get(change.layer.index());
                let text = format!(
                    "{} of {}: {} to {}",
                    change.part.name(),
                    layer.map_or("", |layer| layer.name.as_str()),
                    change.from,
                    change.to
                );
                ui.add(Label::new(format!("{text}, {}", change.reason)).truncate())
                    .on_hover_text(format!("{text}\n{}", change.reason));
            }
        });
}

/// Where the files go, how large the model file will be, and what checks it.
fn places_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut ExportView,
    actions: &mut Vec<Action>,
) -> Option<Wanted> {
    let mut wanted = None;
    let weak = theme::palette(ui).weak;
    let size = match session.export_forecast(view.profile) {
        Some(forecast) => match &forecast.size_bytes {
            Ok(bytes) => format!("Model file {}", format::bytes(*bytes)),
            Err(why) => why.clone(),
        },
        None if session.why_no_export().is_some() => "Model file: size not known".to_owned(),
        None => "Model file: computing its size…".to_owned(),
    };
    ui.add(Label::new(size).wrap());
    ui.horizontal(|ui| {
        let name = ui.label("Folder");
        let field = TextEdit::singleline(&mut view.folder).desired_width(field_width(ui));
        ui.add(field).labelled_by(name.id);
        if ui
            .button("Choose…")
            .on_hover_text("Choose the folder that the files go to")
            .accessible_name("Choose the folder of the export")
            .clicked()
        {
            wanted = Some(Wanted::Folder);
        }
    });
    ui.horizontal(|ui| {
        let name = ui.label("Python");
        let field = TextEdit::singleline(&mut view.python)
            .hint_text("empty: looked for")
            .desired_width(field_width(ui));
        let response = ui.add(field).labelled_by(name.id);
        let choose = ui
            .button("Choose…")
            .on_hover_text("Choose a Python interpreter that has the runtime")
            .accessible_name("Choose the Python interpreter");
        if choose.clicked() {
            wanted = Some(Wanted::Python);
        }
        let found = session.runtime_found(view.profile);
        let is_other = found.is_some_and(|found| found.asked != view.python());
        if is_other && !response.has_focus() && !session.is_finding_runtime() {
            actions.push(Action::FindRuntime(view.profile, view.python()));
        }
    });
    let (text, color) = match session.runtime_found(view.profile) {
        Some(found) => match &found.found {
            Ok((python, runtime)) => (
                format!("Can verify: {} in {}", runtime.package(), python.display()),
                weak,
            ),
            Err(why) => (for_window(why), theme::palette(ui).warn),
        },
        None => ("Looking for a runtime to verify with…".to_owned(), weak),
    };
    ui.add(Label::new(RichText::new(text).small().color(color)).wrap());
    wanted
}

/// Room for a path beside its name and a button, in points.
fn field_width(ui: &egui::Ui) -> f32 {
    (ui.available_width() - 96.0).max(120.0)
}

/// A message in the words of the window instead of those of the command line.
fn for_window(message: &str) -> String {
    message
        .replace(
            "give another interpreter with --python",
            "type another interpreter above",
        )
        .replace(
            "give it with --python venv/bin/python",
            "type venv/bin/python above",
        )
}

fn buttons_ui(ui: &mut egui::Ui, session: &Session, view: &ExportView, actions: &mut Vec<Action>) {
    if let Some(job) = session.export_status() {
        running_ui(ui, &job, actions);
        return;
    }
    let folder = view.folder.trim();
    let why = session.why_no_export().or_else(|| {
        folder
            .is_empty()
            .then_some("Type the folder that the files go to")
    });
    let with = runtime(session, view);
    let why_unverified = why
        .or_else(|| {
            session
                .data()
                .is_none()
                .then_some("Verifying runs samples: open a data folder first")
        })
        .or_else(|| {
            with.is_none()
                .then_some("No runtime to verify with was found: see above")
        });
    let order = |verify| ExportOrder {
        profile: view.profile,
        folder: PathBuf::from(folder),
        replace: false,
        verify,
    };
    ui.horizontal(|ui| {
        let export = ui
            .add_enabled(why.is_none(), Button::new("Export"))
            .on_hover_text("Write the model, the plan and the files beside it")
            .on_disabled_hover_text(why.unwrap_or_default())
            .accessible_name("Export now");
        if export.clicked() {
            actions.push(Action::Export(order(None)));
        }
        let verify = ui
            .add_enabled(why_unverified.is_none(), Button::new("Export and verify"))
            .on_hover_text("Write the files, and run the model in the runtime on the same samples as the simulation")
            .on_disabled_hover_text(why_unverified.unwrap_or_default());
        if verify.clicked() {
            actions.push(Action::Export(order(with)));
        }
    });
    if let Some(why) = why {
        ui.label(RichText::new(why).small().color(theme::palette(ui).warn));
    }
}

fn runtime(session: &Session, view: &ExportView) -> Option<(PathBuf, Runtime)> {
    let found = session.runtime_found(view.profile)?;
    found.found.clone().ok()
}

fn running_ui(ui: &mut egui::Ui, job: &crate::session::JobStatus, actions: &mut Vec<Action>) {
    ui.horizontal(|ui| {
        if ui
            .button("Stop")
            .on_hover_text("Stop the export; files that are written stay")
            .accessible_name("Stop the export")
            .clicked()
        {
            actions.push(Action::StopExport);
        }
        let text = match &*job.stage {
            "" => "Exporting",
            stage => stage,
        };
        ui.label(text);
        if job.total > 0 {
            let bar = ProgressBar::new(job.fraction)
                .desired_width(160.0)
                .text(format!("{} of {}", job.done, job.total));
            ui.add(bar).accessible_name("Progress of the export");
        }
        if let Some(secs) = job.eta_secs {
            ui.label(RichText::new(format::eta(secs)).color(theme::palette(ui).weak));
        }
    });
    ui.allocate_space(vec2(0.0, 2.0));
}
