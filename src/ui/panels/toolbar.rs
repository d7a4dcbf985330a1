//! The toolbar: what is open, the widths of the plan, and run or cancel.

use egui::{Button, ComboBox, PopupCloseBehavior, RichText};

use super::menus::{preset_items_ui, rounding_commands_ui};
use super::rounding_menu::CommonRounding;
use super::width_menu::{common_width, width_items_ui};
use crate::plan::{Fingerprint, Preset, Rounding};
use crate::session::{Action, LayerEdit, Session};
use crate::ui::commands::Command;
use crate::ui::format;
use crate::ui::theme;

/// What the toolbar remembers between frames.
#[derive(Debug, Default)]
pub(crate) struct ToolbarView {
    /// The preset that a plan follows, if it follows one.
    preset: Option<(Fingerprint, Option<&'static str>)>,
}

impl ToolbarView {
    /// Name of the preset that the whole plan follows; compared only when the plan changed.
    fn preset(&mut self, session: &Session) -> Option<&'static str> {
        let fingerprint = session.plan_fingerprint();
        match &self.preset {
            Some((known, preset)) if known == fingerprint => *preset,
            _ => {
                let plan = session.plan();
                let found = Preset::ALL
                    .into_iter()
                    .find(|preset| preset.apply(plan) == *plan)
                    .map(|preset| preset.name);
                self.preset = Some((fingerprint.clone(), found));
                found
            }
        }
    }
}

/// What is open, and the edits of the whole plan and of the selection.
pub(crate) fn toolbar_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut ToolbarView,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    ui.horizontal(|ui| {
        names_ui(ui, session, commands);
        if session.model().is_some() {
            ui.separator();
            preset_ui(ui, session, view.preset(session), commands);
            rounding_ui(ui, session, commands);
            selection_widths_ui(ui, session, actions);
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            run_or_cancel_ui(ui, session, commands);
            for command in [Command::Redo, Command::Undo, Command::Export] {
                if command.button_ui(ui, session) {
                    commands.push(command);
                }
            }
        });
    });
}

fn run_or_cancel_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    // Both buttons stay where they are, so that a click never lands on the other one.
    for command in [Command::Cancel, Command::Run] {
        if command.button_ui(ui, session) {
            commands.push(command);
        }
    }
}

/// Model and data, each a way to choose another.
fn names_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    let Some(model) = session.model() else {
        ui.label(RichText::new("No model open").color(theme::palette(ui).weak));
        return;
    };
    let metadata = model.graph().metadata();
    let star = if session.is_modified() { " *" } else { "" };
    let name = short(&metadata.name, 24);
    let response = ui
        .add(Button::new(RichText::new(format!("{name}{star}")).strong()).frame(false))
        .on_hover_ui(|ui| {
            ui.label(format!(
                "{}\n{} · {} parameters · {} MACs per sample\nClick to open another model",
                model.path.display(),
                metadata.format.name(),
                format::count(model.parameters()),
                format::count(model.macs()),
            ));
        });
    if response.clicked() {
        commands.push(Command::OpenModel);
    }
    ui.label("on");
    let (text, hover) = match session.data() {
        Some(data) => (
            short(&file_name(&data.request.data), 18),
            format!(
                "{}\n{} samples evaluate, {} calibrate\nPreprocessing {}\nClick to open other data",
                data.request.data.display(),
                data.evaluation.len(),
                data.calibration.len(),
                data.preprocess,
            ),
        ),
        None => (
            "no data…".to_owned(),
            Command::OpenData.tooltip().into_owned(),
        ),
    };
    let response = ui
        .add(Button::new(RichText::new(text).strong()).frame(false))
        .on_hover_text(hover);
    if response.clicked() {
        commands.push(Command::OpenData);
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// A text of at most `length` characters.
fn short(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept: String = text.chars().take(length.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// The preset that the whole plan follows, and a choice of another.
fn preset_ui(
    ui: &mut egui::Ui,
    session: &Session,
    current: Option<&'static str>,
    commands: &mut Vec<Command>,
) {
    let response = ComboBox::from_id_salt("preset")
        .selected_text(current.unwrap_or("Mixed"))
        .width(96.0)
        .height(400.0)
        .show_ui(ui, |ui| preset_items_ui(ui, session, commands))
        .response;
    response
        .accessible_name("Preset of the plan")
        .on_hover_text("Widths of the whole plan; locked layers stay as they are");
}

/// How all weights are rounded, and a choice of another way.
fn rounding_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    let common = CommonRounding::of(session.plan().layers().iter());
    let text = common.rounding.map_or("mixed", Rounding::name);
    let response = ComboBox::from_id_salt("rounding")
        .selected_text(text)
        .width(72.0)
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .show_ui(ui, |ui| rounding_commands_ui(ui, session, commands))
        .response;
    response
        .accessible_name("Rounding of the plan")
        .on_hover_text(
            "How all weights are rounded, and what is corrected, on calibration data; locked layers stay as they are",
        );
}

/// Widths of the selected layers.
fn selection_widths_ui(ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
    let selection = session.selection();
    let plan = session.plan();
    let chosen = || selection.iter().filter_map(|id| plan.layer(*id));
    for (label, name, common, edit) in [
        (
            "W",
            "Weight bits of the selected layers",
            common_width(chosen().map(|layer| layer.weight.format)),
            LayerEdit::WeightFormat as fn(_) -> LayerEdit,
        ),
        (
            "A",
            "Activation bits of the selected layers",
            common_width(chosen().map(|layer| layer.activation.format)),
            LayerEdit::ActivationFormat,
        ),
    ] {
        ui.add_enabled_ui(!selection.is_empty(), |ui| {
            ui.label(label);
            let response = ComboBox::from_id_salt(("selection width", label))
                .selected_text(common.map_or_else(|| "–".to_owned(), |width| width.to_string()))
                .width(52.0)
                .height(400.0)
                .show_ui(ui, |ui| {
                    if let Some(format) = width_items_ui(ui, common) {
                        actions.push(Action::Edit {
                            layers: selection.to_vec(),
                            edit: edit(format),
                        });
                    }
                })
                .response;
            response
                .accessible_name(name)
                .on_hover_text(format!("{name} ({})", selection.len()))
                .on_disabled_hover_text("Select layers in the table first");
        });
    }
}
