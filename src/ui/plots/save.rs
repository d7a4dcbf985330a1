//! Where to save a plot, typed as a path where the desktop offers no file dialogs.

use std::path::PathBuf;

use egui::{Align2, Context, Id, Key, TextEdit, vec2};

use super::menu::SaveRequest;
use crate::session::Action;

/// A window that asks for a path.
#[derive(Debug)]
pub(crate) struct PathWindow {
    request: SaveRequest,
    path: String,
    /// The field has had the focus.
    begun: bool,
}

/// How the window ended, if it did.
#[derive(Debug)]
pub(crate) enum PathAnswer {
    Open,
    Cancelled,
    Save(Action),
}

impl PathWindow {
    /// Asks for a path in a folder.
    pub(crate) fn new(request: SaveRequest, folder: Option<PathBuf>) -> Self {
        let name = request.file_name();
        let path = folder.map_or_else(|| PathBuf::from(&name), |folder| folder.join(&name));
        Self {
            request,
            path: path.display().to_string(),
            begun: false,
        }
    }

    /// Draws the window.
    pub(crate) fn ui(&mut self, ctx: &Context) -> PathAnswer {
        let mut answer = PathAnswer::Open;
        let mut open = true;
        let title = format!("Save plot as {}", self.request.format.name());
        egui::Window::new(title)
            .id(Id::unique("path of a plot"))
            .open(&mut open)
            .collapsible(false)
            .resizable(false)
            .anchor(Align2::CENTER_CENTER, vec2(0.0, 0.0))
            .show(ctx, |ui| self.content_ui(ui, &mut answer));
        if !open || ctx.input(|input| input.key_pressed(Key::Escape)) {
            return PathAnswer::Cancelled;
        }
        answer
    }

    fn content_ui(&mut self, ui: &mut egui::Ui, answer: &mut PathAnswer) {
        ui.label("This desktop offers no file dialogs. A file with this name is replaced");
        let field = TextEdit::singleline(&mut self.path).desired_width(460.0);
        let response = ui.add(field).accessible_name("Path of the plot");
        if !self.begun {
            response.request_focus();
            self.begun = true;
        }
        let entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        ui.horizontal(|ui| {
            let path = PathBuf::from(self.path.trim());
            let is_typed = path.file_name().is_some();
            let save = ui
                .add_enabled(is_typed, egui::Button::new("Save plot"))
                .on_disabled_hover_text("Type the path of a file");
            if is_typed && (save.clicked() || entered) {
                *answer = PathAnswer::Save(self.request.action(path));
            }
            if ui.button("Cancel").clicked() {
                *answer = PathAnswer::Cancelled;
            }
        });
    }
}

impl SaveRequest {
    /// A name for the file.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.{}", self.figure.file_stem(), self.format.extension())
    }

    /// Saves it here; a path without an extension gets that of the format.
    pub(crate) fn action(&self, mut path: PathBuf) -> Action {
        if path.extension().is_none() {
            path.set_extension(self.format.extension());
        }
        Action::SaveFigure {
            figure: std::sync::Arc::clone(&self.figure),
            format: self.format,
            path,
        }
    }
}
