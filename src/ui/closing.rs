//! Leaving the open document: work that is not saved is asked about first.

use std::path::PathBuf;

use egui::{Event, Id, Key, Modal, RichText, TextEdit, ViewportCommand};

use super::app::App;
use super::theme;
use crate::session::{Action, Session, Typed};

/// Width of a question in points.
const WIDTH: f32 = 420.0;

/// What follows once the work is saved or given up.
#[derive(Clone, Debug)]
pub(super) enum Leaving {
    /// The window closes.
    Close,
    /// Another model or project opens.
    Open(Box<Action>),
}

/// Where leaving the document stands.
#[derive(Debug, Default)]
pub(super) enum Closing {
    /// Nobody wants to leave.
    #[default]
    No,
    /// The question is on the screen; the project would be saved under the typed path.
    Asked(String, Leaving),
    /// It is left as soon as the project is written.
    Saving(Leaving),
    /// Closing was agreed to.
    Agreed,
}

/// What was answered to the question.
enum Answer {
    Save(PathBuf),
    Discard,
    Stay,
}

/// Whether an action puts another document in place of the open one.
fn leaves(action: &Action) -> bool {
    matches!(
        action,
        Action::OpenModel(_)
            | Action::OpenModelWithData(..)
            | Action::OpenSample(_)
            | Action::OpenProject(_)
    )
}

impl App {
    /// Carries out an action that was asked for in the window; what is not saved is asked about first.
    pub(super) fn perform(&mut self, action: Action) {
        if leaves(&action) && self.session.is_modified() {
            let path = suggested_path(&self.session);
            self.closing = Closing::Asked(path, Leaving::Open(Box::new(action)));
        } else {
            self.session.apply(action);
        }
    }

    /// Holds the window open while there is unsaved work and nobody agreed to lose it.
    pub(super) fn guard_close(&mut self, ctx: &egui::Context) {
        let requested = ctx.input(|input| input.viewport().close_requested());
        let agreed = matches!(self.closing, Closing::Agreed);
        if requested && !agreed && self.session.is_modified() {
            ctx.send_viewport_cmd(ViewportCommand::CancelClose);
            if matches!(self.closing, Closing::No) {
                let path = suggested_path(&self.session);
                self.closing = Closing::Asked(path, Leaving::Close);
            }
        }
        let Closing::Saving(leaving) = &self.closing else {
            return;
        };
        let writes = self.session.running_jobs();
        if !self.session.is_modified() {
            let leaving = leaving.clone();
            self.leave(leaving, ctx);
        } else if self.session.occupied().is_none() && !writes.iter().any(|job| job.name == "Files")
        {
            // The file could not be written, and a message says why; or the one that is there stays.
            self.closing = Closing::No;
        }
    }

    fn leave(&mut self, leaving: Leaving, ctx: &egui::Context) {
        match leaving {
            Leaving::Close => {
                self.closing = Closing::Agreed;
                ctx.send_viewport_cmd(ViewportCommand::Close);
            }
            Leaving::Open(action) => {
                self.closing = Closing::No;
                self.session.apply(*action);
            }
        }
    }

    /// Draws a question while one is asked, and keeps all keys to it; whether one is.
    pub(super) fn closing_ui(&mut self, ui: &egui::Ui) -> bool {
        if let Some(typed) = self.session.occupied() {
            if let Some(action) = replace_ui(ui.ctx(), typed) {
                self.session.apply(action);
            }
            take_keys(ui);
            return true;
        }
        let Closing::Asked(path, leaving) = &mut self.closing else {
            return false;
        };
        let answer = question_ui(ui.ctx(), path, leaving);
        let leaving = leaving.clone();
        take_keys(ui);
        match answer {
            Some(Answer::Save(path)) => {
                self.closing = Closing::Saving(leaving);
                self.session.apply(Action::WriteTyped(Typed::Project(path)));
            }
            Some(Answer::Discard) => self.leave(leaving, ui.ctx()),
            Some(Answer::Stay) => self.closing = Closing::No,
            None => {}
        }
        true
    }
}

fn take_keys(ui: &egui::Ui) {
    ui.input_mut(|input| {
        input
            .events
            .retain(|event| !matches!(event, Event::Key { .. } | Event::Text(_)));
    });
}

/// The project's own path, else one beside the model.
fn suggested_path(session: &Session) -> String {
    let beside_model = || Some(session.model()?.path.with_extension("qscope"));
    let path = session.project_path().cloned().or_else(beside_model);
    path.unwrap_or_default().display().to_string()
}

/// Words of the question: heading, and the two buttons that leave.
fn words(leaving: &Leaving) -> [&'static str; 3] {
    match leaving {
        Leaving::Close => [
            "Save your work before closing?",
            "Save and close",
            "Close without saving",
        ],
        Leaving::Open(action) if matches!(**action, Action::OpenProject(_)) => [
            "Save your work before opening another project?",
            "Save and open",
            "Open without saving",
        ],
        Leaving::Open(_) => [
            "Save your work before opening another model?",
            "Save and open",
            "Open without saving",
        ],
    }
}

fn question_ui(ctx: &egui::Context, path: &mut String, leaving: &Leaving) -> Option<Answer> {
    let [heading, save_text, discard_text] = words(leaving);
    let mut answer = None;
    let modal = Modal::new(Id::unique("leaving with unsaved work")).show(ctx, |ui| {
        ui.set_width(WIDTH);
        ui.heading(heading);
        let weak = theme::palette(ui).weak;
        let text = "The plan, or names and pins of the history, changed since they were saved. A project keeps model, data, plan and results";
        ui.add(egui::Label::new(RichText::new(text).color(weak)).wrap());
        ui.add_space(6.0);
        ui.horizontal(|ui| {
            let label = ui.label("Project file");
            let field = TextEdit::singleline(path).desired_width(f32::INFINITY);
            ui.add(field).labelled_by(label.id);
        });
        ui.add_space(6.0);
        ui.horizontal(|ui| {
            let typed = path.trim();
            let save = ui
                .add_enabled(!typed.is_empty(), egui::Button::new(save_text))
                .on_disabled_hover_text("Type where the project shall be saved");
            if save.clicked() {
                answer = Some(Answer::Save(PathBuf::from(typed)));
            }
            if ui.button(discard_text).clicked() {
                answer = Some(Answer::Discard);
            }
            if ui.button("Keep working").clicked() {
                answer = Some(Answer::Stay);
            }
        });
    });
    let enter = ctx.input(|input| input.key_pressed(Key::Enter));
    if answer.is_none() && enter && !path.trim().is_empty() {
        answer = Some(Answer::Save(PathBuf::from(path.trim())));
    }
    if answer.is_none() && modal.should_close() {
        answer = Some(Answer::Stay);
    }
    answer
}

/// Asks whether a file that is there already may be replaced; Enter answers nothing here.
fn replace_ui(ctx: &egui::Context, typed: &Typed) -> Option<Action> {
    let mut answer = None;
    let modal = Modal::new(Id::unique("replacing a file")).show(ctx, |ui| {
        ui.set_width(WIDTH);
        ui.heading("Replace the file that is there?");
        let text = typed.path().display().to_string();
        ui.add(egui::Label::new(text).wrap());
        ui.add_space(6.0);
        ui.horizontal(|ui| {
            if ui.button("Keep the file").clicked() {
                answer = Some(Action::LeaveOccupied);
            }
            if ui.button("Replace it").clicked() {
                answer = Some(match typed {
                    Typed::Project(path) => Action::SaveProject(path.clone()),
                    Typed::Plan(path) => Action::ExportPlan(path.clone()),
                    Typed::Report(path) => Action::SaveReport(path.clone()),
                });
            }
        });
    });
    if answer.is_none() && modal.should_close() {
        answer = Some(Action::LeaveOccupied);
    }
    answer
}
