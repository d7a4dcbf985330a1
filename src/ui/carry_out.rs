//! What each command does.

use super::app::App;
use super::commands::Command;
use super::dialogs::DialogKind;
use super::looks::{ThemeChoice, Zoom};
use super::palette::Palette;
use crate::model::LayerId;
use crate::quant::NumberFormat;
use crate::session::{Action, LayerEdit};

impl App {
    /// Carries out a command, unless it cannot be used now.
    pub(super) fn carry_out(&mut self, command: Command, ctx: &egui::Context) {
        if command.why_disabled(&self.session).is_some() {
            return;
        }
        match command {
            Command::OpenModel => self.ask(DialogKind::Model),
            Command::OpenData => self.ask(DialogKind::Data),
            Command::OpenCalibration => self.ask(DialogKind::Calibration),
            Command::OpenProject => self.ask(DialogKind::Project),
            Command::SaveProject => match self.session.project_path().cloned() {
                Some(path) => self.session.apply(Action::SaveProject(path)),
                None => self.ask(DialogKind::SaveProject),
            },
            Command::SaveProjectAs => self.ask(DialogKind::SaveProject),
            Command::ImportPlan => self.ask(DialogKind::ImportPlan),
            Command::ExportPlan => self.ask(DialogKind::ExportPlan),
            Command::Export => self.export.open(&self.session),
            Command::SaveReport => self.ask(DialogKind::Report),
            Command::OpenSample(index) => self.perform(Action::OpenSample(index)),
            Command::Undo => self.session.apply(Action::Undo),
            Command::Redo => self.session.apply(Action::Redo),
            Command::Run => self.session.apply(Action::Evaluate),
            Command::Cancel => self.session.apply(Action::CancelJobs),
            Command::ApplyPreset(preset) => self.session.apply(Action::ApplyPreset(preset)),
            Command::RoundAll(rounding) => self.edit_unlocked(LayerEdit::Rounding(rounding)),
            Command::CorrectAll(one) => {
                let choices = self.session.plan().layers().iter();
                let mut unlocked = choices.filter(|choice| !choice.locked);
                let on = unlocked.any(|choice| !choice.corrections.has(one));
                self.edit_unlocked(LayerEdit::Correct(one, on));
            }
            Command::ChooseCalibrators => self.session.apply(Action::ChooseCalibrators),
            Command::SetWeights(width) => self.edit_selection(LayerEdit::WeightFormat(width)),
            Command::SetActivations(width) => {
                self.edit_selection(LayerEdit::ActivationFormat(width));
            }
            Command::SelectAll => {
                let shown = self.views.layer_table.shown(&self.session);
                self.session.apply(Action::Select(shown));
            }
            Command::SelectByWeights(width) => self.select_by_weights(width),
            Command::NextLayer => self.select_beside(true),
            Command::PreviousLayer => self.select_beside(false),
            Command::ShowPanel(panel) => self.dock.show(panel),
            Command::TogglePanel(panel) => self.dock.toggle(panel),
            Command::ResetLayout => self.dock.reset(),
            Command::ZoomIn => self.set_zoom(self.zoom.larger(), ctx),
            Command::ZoomOut => self.set_zoom(self.zoom.smaller(), ctx),
            Command::ZoomReset => self.set_zoom(Zoom::default(), ctx),
            Command::ThemeLight => self.set_theme(ThemeChoice::Light, ctx),
            Command::ThemeDark => self.set_theme(ThemeChoice::Dark, ctx),
            Command::ThemeSystem => self.set_theme(ThemeChoice::System, ctx),
            Command::Log => self.log_shown = !self.log_shown,
            Command::Palette => self.palette = Some(Palette::new()),
            Command::Shortcuts => self.shortcuts_shown = !self.shortcuts_shown,
            Command::ShowHints => self.hints_dismissed.clear(),
            Command::Quit => ctx.send_viewport_cmd(egui::ViewportCommand::Close),
        }
    }

    pub(super) fn ask(&mut self, kind: DialogKind) {
        self.dialogs.open(kind, &self.wake);
    }

    /// Changes every layer that is not locked.
    fn edit_unlocked(&mut self, edit: LayerEdit) {
        let layers = (0..)
            .map(LayerId)
            .zip(self.session.plan().layers())
            .filter(|(_, layer)| !layer.locked)
            .map(|(id, _)| id)
            .collect();
        self.session.apply(Action::Edit { layers, edit });
    }

    fn edit_selection(&mut self, edit: LayerEdit) {
        let layers = self.session.selection().to_vec();
        self.session.apply(Action::Edit { layers, edit });
    }

    fn select_by_weights(&mut self, width: NumberFormat) {
        let layers = (0..)
            .map(LayerId)
            .zip(self.session.plan().layers())
            .filter(|(_, layer)| layer.weight.format == width)
            .map(|(id, _)| id)
            .collect();
        self.session.apply(Action::Select(layers));
    }

    /// Selects the layer below or above the first selected one, among those that the filter shows.
    fn select_beside(&mut self, below: bool) {
        let shown = self.views.layer_table.shown(&self.session);
        let current = self
            .session
            .selection()
            .first()
            .and_then(|id| shown.iter().position(|row| row == id));
        let target = match (current, below) {
            (Some(row), true) => (row + 1).min(shown.len().saturating_sub(1)),
            (Some(row), false) => row.saturating_sub(1),
            (None, true) => 0,
            (None, false) => shown.len().saturating_sub(1),
        };
        if let Some(id) = shown.get(target) {
            self.session.apply(Action::Select(vec![*id]));
        }
    }

    pub(super) fn set_theme(&mut self, theme: ThemeChoice, ctx: &egui::Context) {
        self.theme = theme;
        ctx.set_theme(egui::ThemePreference::from(theme));
    }

    pub(super) fn set_zoom(&mut self, zoom: Zoom, ctx: &egui::Context) {
        self.zoom = zoom;
        ctx.set_zoom_factor(zoom.factor());
    }
}
