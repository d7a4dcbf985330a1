//! The menus.

use egui::{Button, MenuBar};

use super::rounding_menu::{CommonRounding, rounding_items_ui};
use crate::plan::Preset;
use crate::session::{Action, LayerEdit, Session, bundled_samples};
use crate::ui::commands::Command;
use crate::ui::dock::Dock;
use crate::ui::looks::{ThemeChoice, Zoom};
use crate::ui::panel::Panel;

/// What the menus show of the looks of the window.
#[derive(Debug)]
pub(crate) struct MenuLooks<'a> {
    pub(crate) theme: ThemeChoice,
    pub(crate) zoom: Zoom,
    pub(crate) dock: &'a Dock,
}

/// The menus.
pub(crate) fn menu_bar_ui(
    ui: &mut egui::Ui,
    session: &Session,
    looks: &MenuLooks<'_>,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    MenuBar::new().ui(ui, |ui| {
        ui.menu_button("File", |ui| file_menu_ui(ui, session, actions, commands));
        ui.menu_button("Edit", |ui| {
            items_ui(ui, session, commands, &[Command::Undo, Command::Redo]);
            ui.separator();
            items_ui(
                ui,
                session,
                commands,
                &[
                    Command::SelectAll,
                    Command::NextLayer,
                    Command::PreviousLayer,
                ],
            );
        });
        ui.menu_button("Plan", |ui| {
            items_ui(ui, session, commands, &[Command::Run, Command::Cancel]);
            ui.separator();
            if session.model().is_some() {
                ui.menu_button("Preset", |ui| preset_items_ui(ui, session, commands));
            } else {
                ui.add_enabled(false, Button::new("Preset"))
                    .on_disabled_hover_text("Open a model first");
            }
            if session.model().is_some() {
                ui.menu_button("Rounding of all layers", |ui| {
                    rounding_commands_ui(ui, session, commands);
                });
            }
            items_ui(ui, session, commands, &[Command::ChooseCalibrators]);
            ui.separator();
            items_ui(
                ui,
                session,
                commands,
                &[Command::ImportPlan, Command::ExportPlan],
            );
        });
        ui.menu_button("View", |ui| view_menu_ui(ui, session, looks, commands));
        ui.menu_button("Help", |ui| {
            items_ui(
                ui,
                session,
                commands,
                &[Command::Palette, Command::Shortcuts, Command::ShowHints],
            );
        });
    });
}

fn file_menu_ui(
    ui: &mut egui::Ui,
    session: &Session,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    items_ui(
        ui,
        session,
        commands,
        &[
            Command::OpenModel,
            Command::OpenData,
            Command::OpenCalibration,
        ],
    );
    let samples = bundled_samples_menu(ui);
    if let Some(index) = samples {
        actions.push(Action::OpenSample(index));
    }
    ui.separator();
    items_ui(
        ui,
        session,
        commands,
        &[
            Command::OpenProject,
            Command::SaveProject,
            Command::SaveProjectAs,
        ],
    );
    ui.separator();
    items_ui(
        ui,
        session,
        commands,
        &[Command::Export, Command::SaveReport],
    );
    ui.separator();
    items_ui(ui, session, commands, &[Command::Quit]);
}

/// The bundled samples; the index of the one that was chosen.
fn bundled_samples_menu(ui: &mut egui::Ui) -> Option<usize> {
    let mut chosen = None;
    ui.menu_button("Open sample", |ui| {
        let samples = bundled_samples();
        if samples.is_empty() {
            ui.label("The bundled samples are not there");
        }
        for (index, sample) in samples.iter().enumerate() {
            if ui
                .button(sample.name)
                .on_hover_text(sample.description)
                .clicked()
            {
                chosen = Some(index);
            }
        }
    });
    chosen
}

fn view_menu_ui(
    ui: &mut egui::Ui,
    session: &Session,
    looks: &MenuLooks<'_>,
    commands: &mut Vec<Command>,
) {
    for panel in Panel::ALL.iter().copied() {
        panel_item_ui(ui, session, panel, looks.dock.is_shown(panel), commands);
    }
    items_ui(ui, session, commands, &[Command::ResetLayout]);
    ui.separator();
    for (choice, command) in [
        (ThemeChoice::System, Command::ThemeSystem),
        (ThemeChoice::Light, Command::ThemeLight),
        (ThemeChoice::Dark, Command::ThemeDark),
    ] {
        let response = ui
            .radio(looks.theme == choice, command.text().into_owned())
            .on_hover_text(command.tooltip());
        if response.clicked() {
            commands.push(command);
            ui.close();
        }
    }
    ui.separator();
    ui.label(format!("Zoom {:.0} %", 100.0 * looks.zoom.factor()));
    items_ui(
        ui,
        session,
        commands,
        &[Command::ZoomIn, Command::ZoomOut, Command::ZoomReset],
    );
    ui.separator();
    items_ui(ui, session, commands, &[Command::Log]);
}

/// A tick that shows or hides a panel.
fn panel_item_ui(
    ui: &mut egui::Ui,
    session: &Session,
    panel: Panel,
    mut shown: bool,
    commands: &mut Vec<Command>,
) {
    let command = Command::TogglePanel(panel);
    let why_disabled = command.why_disabled(session);
    ui.add_enabled_ui(why_disabled.is_none(), |ui| {
        let response = ui
            .checkbox(&mut shown, panel.title())
            .on_hover_text(command.tooltip())
            .on_disabled_hover_text(why_disabled.unwrap_or_default())
            .accessible_name(format!("Show {}", panel.title()));
        if response.changed() {
            commands.push(command);
        }
    });
}

fn items_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>, items: &[Command]) {
    for command in items {
        if command.menu_item_ui(ui, session) {
            commands.push(*command);
        }
    }
}

/// How all layers are rounded and what is corrected in them, as commands.
pub(super) fn rounding_commands_ui(
    ui: &mut egui::Ui,
    session: &Session,
    commands: &mut Vec<Command>,
) {
    let common = CommonRounding::of(session.plan().layers().iter());
    match rounding_items_ui(ui, common) {
        Some(LayerEdit::Rounding(rounding)) => commands.push(Command::RoundAll(rounding)),
        Some(LayerEdit::Correct(one, _)) => commands.push(Command::CorrectAll(one)),
        _ => {}
    }
}

/// One entry for each preset.
pub(super) fn preset_items_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    for preset in Preset::ALL {
        let command = Command::ApplyPreset(preset);
        let why_disabled = command.why_disabled(session);
        let response = ui
            .add_enabled(why_disabled.is_none(), Button::new(preset.name))
            .on_hover_text(command.tooltip())
            .on_disabled_hover_text(why_disabled.unwrap_or_default());
        if response.clicked() {
            commands.push(command);
            ui.close();
        }
    }
}
