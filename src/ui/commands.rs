//! Commands: what menus, toolbar and shortcuts offer.

use egui::{Key, KeyboardShortcut, Modifiers};

use crate::session::Session;

/// Something the user can ask for by name or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Choose a model file.
    OpenModel,
    /// Choose an evaluation folder.
    OpenData,
    /// Choose a calibration folder.
    OpenCalibration,
    /// Choose a project.
    OpenProject,
    /// Save the project where it is.
    SaveProject,
    /// Save the project elsewhere.
    SaveProjectAs,
    /// Read a plan.
    ImportPlan,
    /// Write the plan.
    ExportPlan,
    /// Take back the last change.
    Undo,
    /// Do it again.
    Redo,
    /// Measure the plan again.
    Run,
    /// Stop all jobs.
    Cancel,
    /// Select every layer that the filter shows.
    SelectAll,
    /// Light theme.
    ThemeLight,
    /// Dark theme.
    ThemeDark,
    /// The system's theme.
    ThemeSystem,
    /// Leave the program.
    Quit,
}

const CTRL: Modifiers = Modifiers::COMMAND;
const CTRL_SHIFT: Modifiers = Modifiers {
    shift: true,
    ..Modifiers::COMMAND
};

impl Command {
    /// All commands; those with more modifiers come first, so that their keys are matched first.
    const ALL: [Self; 17] = [
        Self::SaveProjectAs,
        Self::OpenCalibration,
        Self::OpenProject,
        Self::Redo,
        Self::OpenModel,
        Self::OpenData,
        Self::SaveProject,
        Self::ImportPlan,
        Self::ExportPlan,
        Self::Undo,
        Self::Run,
        Self::Cancel,
        Self::SelectAll,
        Self::ThemeLight,
        Self::ThemeDark,
        Self::ThemeSystem,
        Self::Quit,
    ];

    /// Name in menus and on buttons.
    pub fn text(self) -> &'static str {
        match self {
            Self::OpenModel => "Open model…",
            Self::OpenData => "Open data folder…",
            Self::OpenCalibration => "Open calibration folder…",
            Self::OpenProject => "Open project…",
            Self::SaveProject => "Save project",
            Self::SaveProjectAs => "Save project as…",
            Self::ImportPlan => "Import plan…",
            Self::ExportPlan => "Export plan…",
            Self::Undo => "Undo",
            Self::Redo => "Redo",
            Self::Run => "Run",
            Self::Cancel => "Cancel",
            Self::SelectAll => "Select all layers",
            Self::ThemeLight => "Light",
            Self::ThemeDark => "Dark",
            Self::ThemeSystem => "As the system",
            Self::Quit => "Quit",
        }
    }

    /// One sentence on what it does.
    pub fn tooltip(self) -> &'static str {
        match self {
            Self::OpenModel => "Open a trained network: ONNX, safetensors or PyTorch checkpoint",
            Self::OpenData => "Choose the folder of samples that measure accuracy",
            Self::OpenCalibration => {
                "Choose a separate folder of samples that tune the clip ranges"
            }
            Self::OpenProject => "Open a saved project: model, data, plan and results",
            Self::SaveProject => "Save model, data, plan and results as a project",
            Self::SaveProjectAs => "Save the project under another name",
            Self::ImportPlan => "Replace the plan by one from a file",
            Self::ExportPlan => "Write the plan to a file that the command line reads too",
            Self::Undo => "Take back the last change of the plan",
            Self::Redo => "Do the change again that was taken back",
            Self::Run => "Measure the current plan again",
            Self::Cancel => "Stop all jobs and keep what they found",
            Self::SelectAll => "Select every layer that the filter shows",
            Self::ThemeLight => "Light theme",
            Self::ThemeDark => "Dark theme",
            Self::ThemeSystem => "Follow the theme of the system",
            Self::Quit => "Close the window",
        }
    }

    /// Keys that trigger it, the one that is shown first.
    pub fn shortcuts(self) -> &'static [KeyboardShortcut] {
        const fn keys(modifiers: Modifiers, key: Key) -> KeyboardShortcut {
            KeyboardShortcut::new(modifiers, key)
        }
        match self {
            Self::OpenModel => const { &[keys(CTRL, Key::O)] },
            Self::OpenData => const { &[keys(CTRL, Key::D)] },
            Self::OpenCalibration => const { &[keys(CTRL_SHIFT, Key::D)] },
            Self::OpenProject => const { &[keys(CTRL_SHIFT, Key::O)] },
            Self::SaveProject => const { &[keys(CTRL, Key::S)] },
            Self::SaveProjectAs => const { &[keys(CTRL_SHIFT, Key::S)] },
            Self::ImportPlan => const { &[keys(CTRL, Key::I)] },
            Self::ExportPlan => const { &[keys(CTRL, Key::E)] },
            Self::Undo => const { &[keys(CTRL, Key::Z)] },
            Self::Redo => const { &[keys(CTRL_SHIFT, Key::Z), keys(CTRL, Key::Y)] },
            Self::Run => const { &[keys(Modifiers::NONE, Key::F5)] },
            Self::Cancel => const { &[keys(Modifiers::NONE, Key::Escape)] },
            Self::SelectAll => const { &[keys(CTRL, Key::A)] },
            Self::Quit => const { &[keys(CTRL, Key::Q)] },
            Self::ThemeLight | Self::ThemeDark | Self::ThemeSystem => &[],
        }
    }

    /// Why it cannot be used now; `None` if it can.
    pub fn why_disabled(self, session: &Session) -> Option<&'static str> {
        let needs_model = session.model().is_none().then_some("Open a model first");
        match self {
            Self::OpenModel
            | Self::OpenProject
            | Self::ThemeLight
            | Self::ThemeDark
            | Self::ThemeSystem
            | Self::Quit => None,
            Self::OpenData
            | Self::SaveProject
            | Self::SaveProjectAs
            | Self::ImportPlan
            | Self::ExportPlan
            | Self::SelectAll => needs_model,
            Self::OpenCalibration | Self::Run => needs_model.or_else(|| {
                session
                    .data()
                    .is_none()
                    .then_some("Open a data folder first")
            }),
            Self::Undo => (!session.can_undo()).then_some("Nothing to take back"),
            Self::Redo => (!session.can_redo()).then_some("Nothing to do again"),
            Self::Cancel => session.running_jobs().is_empty().then_some("No job runs"),
        }
    }

    /// Takes the shortcuts that were pressed out of the input.
    ///
    /// While text is edited, the keys that edit text stay with it.
    pub fn pressed(ui: &egui::Ui) -> Vec<Self> {
        let editing = ui.ctx().text_edit_focused();
        let belongs_to_text = |command: Self| {
            matches!(
                command,
                Self::Undo | Self::Redo | Self::SelectAll | Self::Cancel
            )
        };
        ui.input_mut(|input| {
            Self::ALL
                .into_iter()
                .filter(|command| !(editing && belongs_to_text(*command)))
                .filter(|command| {
                    command
                        .shortcuts()
                        .iter()
                        .any(|shortcut| input.consume_shortcut(shortcut))
                })
                .collect()
        })
    }

    /// A menu entry; `true` when it was chosen.
    pub(crate) fn menu_item_ui(self, ui: &mut egui::Ui, session: &Session) -> bool {
        let why_disabled = self.why_disabled(session);
        let mut button = egui::Button::new(self.text());
        if let Some(shortcut) = self.shortcuts().first() {
            button = button.shortcut_text(ui.format_shortcut(shortcut));
        }
        let response = ui.add_enabled(why_disabled.is_none(), button);
        let clicked = response.clicked();
        explain(response, self, why_disabled);
        clicked
    }

    /// A toolbar button; `true` when it was pressed.
    pub(crate) fn button_ui(self, ui: &mut egui::Ui, session: &Session) -> bool {
        let why_disabled = self.why_disabled(session);
        let response = ui.add_enabled(why_disabled.is_none(), egui::Button::new(self.text()));
        let clicked = response.clicked();
        explain(response, self, why_disabled);
        clicked
    }
}

fn explain(response: egui::Response, command: Command, why_disabled: Option<&str>) {
    let keys = command
        .shortcuts()
        .first()
        .map(|shortcut| format!(" ({})", response.ctx.format_shortcut(shortcut)))
        .unwrap_or_default();
    let response = response.on_hover_text(format!("{}{keys}", command.tooltip()));
    if let Some(why) = why_disabled {
        response.on_disabled_hover_text(why);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn no_two_commands_share_a_key() {
        let mut seen: Vec<KeyboardShortcut> = Vec::new();
        for shortcut in Command::ALL.iter().flat_map(|command| command.shortcuts()) {
            assert!(!seen.contains(shortcut), "{shortcut:?}");
            seen.push(*shortcut);
        }
    }

    #[test]
    fn keys_with_more_modifiers_are_matched_first() {
        let modifiers = |command: &Command| {
            command.shortcuts().first().map_or(0, |shortcut| {
                u8::from(shortcut.modifiers.shift) + u8::from(shortcut.modifiers.command)
            })
        };
        let shifted: Vec<bool> = Command::ALL
            .iter()
            .map(|command| modifiers(command) == 2)
            .collect();
        assert!(shifted.is_sorted_by(|a, b| a >= b), "{shifted:?}");
    }

    #[test]
    fn an_empty_session_says_what_is_missing() {
        let session = Session::new(1, Arc::new(|| {})).unwrap();
        assert_eq!(Command::OpenModel.why_disabled(&session), None);
        assert_eq!(
            Command::Run.why_disabled(&session),
            Some("Open a model first")
        );
        assert_eq!(
            Command::Undo.why_disabled(&session),
            Some("Nothing to take back")
        );
    }
}
