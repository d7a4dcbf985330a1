//! Closing the window: work that is not saved is asked about first.

use std::path::PathBuf;

use egui::{Event, Id, Key, Modal, RichText, TextEdit, ViewportCommand};

use super::app::App;
use super::theme;
use crate::session::{Action, Session};

/// Width of the question in points.
const WIDTH: f32 = 420.0;

/// Where closing stands.
#[derive(Debug, Default)]
pub(super) enum Closing {
    /// Nobody wants to close.
    #[default]
    No,
    /// The question is on the screen; the project would be saved under the typed path.
    Asked(String),
    /// The window closes as soon as the project is written.
    Saving,
    /// Closing was agreed to.
    Agreed,
}

/// What was answered to the question.
enum Answer {
    Save(PathBuf),
    Discard,
    Stay,
}

impl App {
    /// Holds the window open while there is unsaved work and nobody agreed to lose it.
    pub(super) fn guard_close(&mut self, ctx: &egui::Context) {
        let requested = ctx.input(|input| input.viewport().close_requested());
        let agreed = matches!(self.closing, Closing::Agreed);
        if requested && !agreed && self.session.is_modified() {
            ctx.send_viewport_cmd(ViewportCommand::CancelClose);
            if matches!(self.closing, Closing::No) {
                self.closing = Closing::Asked(suggested_path(&self.session));
            }
        }
        if matches!(self.closing, Closing::Saving) {
            let writes = self.session.running_jobs();
            if !self.session.is_modified() {
                self.close(ctx);
            } else if !writes.iter().any(|job| job.name == "Files") {
                // The file could not be written, and a message says why.
                self.closing = Closing::No;
            }
        }
    }

    fn close(&mut self, ctx: &egui::Context) {
        self.closing = Closing::Agreed;
        ctx.send_viewport_cmd(ViewportCommand::Close);
    }

    /// Draws the question while it is asked, and keeps all keys to it; whether it is.
    pub(super) fn closing_ui(&mut self, ui: &egui::Ui) -> bool {
        let Closing::Asked(path) = &mut self.closing else {
            return false;
        };
        let answer = question_ui(ui.ctx(), path);
        ui.input_mut(|input| {
            input
                .events
                .retain(|event| !matches!(event, Event::Key { .. } | Event::Text(_)));
        });
        match answer {
            Some(Answer::Save(path)) => {
                self.closing = Closing::Saving;
                self.session.apply(Action::SaveProject(path));
            }
            Some(Answer::Discard) => self.close(ui.ctx()),
            Some(Answer::Stay) => self.closing = Closing::No,
            None => {}
        }
        true
    }
}

/// The project's own path, else one beside the model.
fn suggested_path(session: &Session) -> String {
    let beside_model = || Some(session.model()?.path.with_extension("qscope"));
    let path = session.project_path().cloned().or_else(beside_model);
    path.unwrap_or_default().display().to_string()
}

fn question_ui(ctx: &egui::Context, path: &mut String) -> Option<Answer> {
    let mut answer = None;
    let modal = Modal::new(Id::unique("closing with unsaved work")).show(ctx, |ui| {
        ui.set_width(WIDTH);
        ui.heading("Save your work before closing?");
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
                .add_enabled(!typed.is_empty(), egui::Button::new("Save and close"))
                .on_disabled_hover_text("Type where the project shall be saved");
            if save.clicked() {
                answer = Some(Answer::Save(PathBuf::from(typed)));
            }
            if ui.button("Close without saving").clicked() {
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
