//! Commands: the one table behind menus, toolbar, palette, shortcuts and their list.

use std::borrow::Cow;

use egui::{Key, KeyboardShortcut, Modifiers};

use super::format;
use super::panel::Panel;
use super::panels::{all_widths, correction_hint, rounding_hint};
use crate::plan::{Correction, Preset, Rounding};
use crate::quant::NumberFormat;
use crate::session::{Session, bundled_samples};

/// Something the user can ask for by name or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Choose a model file.
    OpenModel,
    /// Choose an evaluation folder.
    OpenData,
    /// Choose a calibration folder.
    OpenCalibration,
    /// Open a bundled sample by its index.
    OpenSample(usize),
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
    /// Write the quantized model for a runtime.
    Export,
    /// Write a report.
    SaveReport,
    /// Take back the last change.
    Undo,
    /// Do it again.
    Redo,
    /// Measure the plan again.
    Run,
    /// Stop all jobs.
    Cancel,
    /// Give all layers the widths of a preset.
    ApplyPreset(Preset),
    /// Choose how the weights of all layers are rounded.
    RoundAll(Rounding),
    /// Switch a correction of all layers on, or off where all have it.
    CorrectAll(Correction),
    /// Choose the calibrator of every input on calibration data.
    ChooseCalibrators,
    /// Give the weights of the selected layers a width.
    SetWeights(NumberFormat),
    /// Give the activations of the selected layers a width.
    SetActivations(NumberFormat),
    /// Select every layer that the filter shows.
    SelectAll,
    /// Select the layers whose weights have a width.
    SelectByWeights(NumberFormat),
    /// Select the layer below in the table.
    NextLayer,
    /// Select the layer above in the table.
    PreviousLayer,
    /// Bring a panel to the front.
    ShowPanel(Panel),
    /// Hide a panel, or show it again.
    TogglePanel(Panel),
    /// Put all panels where they stood at first.
    ResetLayout,
    /// Larger text and controls.
    ZoomIn,
    /// Smaller text and controls.
    ZoomOut,
    /// Text and controls in their first size.
    ZoomReset,
    /// Light theme.
    ThemeLight,
    /// Dark theme.
    ThemeDark,
    /// The system's theme.
    ThemeSystem,
    /// Show or hide the messages so far.
    Log,
    /// Find a command by its name.
    Palette,
    /// List the keys.
    Shortcuts,
    /// Show the hints that were dismissed.
    ShowHints,
    /// Leave the program.
    Quit,
}

/// Where a command stands in the list of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    File,
    Plan,
    Layers,
    View,
    Help,
}

impl Group {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::File => "File",
            Self::Plan => "Plan",
            Self::Layers => "Layers",
            Self::View => "View",
            Self::Help => "Help",
        }
    }
}

/// Keys that the layer table takes itself, because they stand for more than one command.
pub(crate) const TABLE_KEYS: [(&str, &str); 7] = [
    ("Up, Down, Home, End", "Move the selection"),
    ("Shift+Up, Shift+Down", "Extend the selection"),
    ("1 to 9", "Set that many bits"),
    ("0", "Set 16 bits"),
    ("F, H, B", "Set f32, f16, bf16"),
    (
        "Shift+1 to Shift+9",
        "Set the other of weights and activations",
    ),
    ("Ctrl+click, Shift+click", "Add a layer, a range of layers"),
];

const CTRL: Modifiers = Modifiers::COMMAND;
const CTRL_SHIFT: Modifiers = Modifiers {
    shift: true,
    ..Modifiers::COMMAND
};
const ALT: Modifiers = Modifiers::ALT;
const PLAIN: Modifiers = Modifiers::NONE;

const fn keys(modifiers: Modifiers, key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(modifiers, key)
}

/// Keys of the panels, in their order; further panels have none.
const PANEL_KEYS: [KeyboardShortcut; 9] = [
    keys(CTRL, Key::Num1),
    keys(CTRL, Key::Num2),
    keys(CTRL, Key::Num3),
    keys(CTRL, Key::Num4),
    keys(CTRL, Key::Num5),
    keys(CTRL, Key::Num6),
    keys(CTRL, Key::Num7),
    keys(CTRL, Key::Num8),
    keys(CTRL, Key::Num9),
];

impl Command {
    /// Commands that stand for themselves, in the order of the menus.
    const SINGLE: [Self; 32] = [
        Self::OpenModel,
        Self::OpenData,
        Self::OpenCalibration,
        Self::OpenProject,
        Self::SaveProject,
        Self::SaveProjectAs,
        Self::ImportPlan,
        Self::ExportPlan,
        Self::Export,
        Self::SaveReport,
        Self::Quit,
        Self::Run,
        Self::Cancel,
        Self::ChooseCalibrators,
        Self::Undo,
        Self::Redo,
        Self::SelectAll,
        Self::NextLayer,
        Self::PreviousLayer,
        Self::ResetLayout,
        Self::ZoomIn,
        Self::ZoomOut,
        Self::ZoomReset,
        Self::ThemeSystem,
        Self::ThemeLight,
        Self::ThemeDark,
        Self::Log,
        Self::Palette,
        Self::Shortcuts,
        Self::ShowHints,
        // Two that stand for panels which are hidden most often.
        Self::TogglePanel(Panel::Layers),
        Self::TogglePanel(Panel::Inspector),
    ];

    /// Every command, each preset, width, panel and sample by itself.
    pub fn all() -> Vec<Self> {
        let panels = || Panel::ALL.iter().copied();
        let others = || {
            panels()
                .filter(|panel| !Self::SINGLE.contains(&Self::TogglePanel(*panel)))
                .map(Self::TogglePanel)
        };
        Self::SINGLE
            .into_iter()
            .chain(panels().map(Self::ShowPanel))
            .chain(others())
            .chain(Preset::ALL.into_iter().map(Self::ApplyPreset))
            .chain(Rounding::ALL.into_iter().map(Self::RoundAll))
            .chain(Correction::ALL.into_iter().map(Self::CorrectAll))
            .chain((0..bundled_samples().len()).map(Self::OpenSample))
            .chain(all_widths().into_iter().map(Self::SetWeights))
            .chain(all_widths().into_iter().map(Self::SetActivations))
            .chain(all_widths().into_iter().map(Self::SelectByWeights))
            .collect()
    }

    /// Name in menus, on buttons and in the palette.
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Self::OpenModel => "Open model…",
            Self::OpenData => "Open data folder…",
            Self::OpenCalibration => "Open calibration folder…",
            Self::OpenProject => "Open project…",
            Self::SaveProject => "Save project",
            Self::SaveProjectAs => "Save project as…",
            Self::ImportPlan => "Import plan…",
            Self::ExportPlan => "Export plan…",
            Self::Export => "Export…",
            Self::SaveReport => "Save report…",
            Self::Undo => "Undo",
            Self::Redo => "Redo",
            Self::Run => "Run",
            Self::Cancel => "Cancel",
            Self::ChooseCalibrators => "Choose calibrators",
            Self::SelectAll => "Select all layers",
            Self::NextLayer => "Next layer",
            Self::PreviousLayer => "Previous layer",
            Self::ResetLayout => "Reset layout",
            Self::ZoomIn => "Zoom in",
            Self::ZoomOut => "Zoom out",
            Self::ZoomReset => "Reset zoom",
            Self::ThemeLight => "Light theme",
            Self::ThemeDark => "Dark theme",
            Self::ThemeSystem => "Theme of the system",
            Self::Log => "Message log",
            Self::Palette => "Find a command…",
            Self::Shortcuts => "Keyboard shortcuts",
            Self::ShowHints => "Show hints again",
            Self::Quit => "Quit",
            Self::OpenSample(index) => return sample_text(index).into(),
            Self::ApplyPreset(preset) => return format!("Preset {}", preset.name).into(),
            Self::RoundAll(rounding) => return format!("Round all weights: {rounding}").into(),
            Self::CorrectAll(one) => {
                return format!("Correct in all layers: {}", one.name()).into();
            }
            Self::SetWeights(width) => return format!("Set weights to {}", long(width)).into(),
            Self::SetActivations(width) => {
                return format!("Set activations to {}", long(width)).into();
            }
            Self::SelectByWeights(width) => {
                return format!("Select layers with weights of {}", long(width)).into();
            }
            Self::ShowPanel(panel) => return format!("Go to {}", panel.title()).into(),
            Self::TogglePanel(panel) => {
                return format!("Show or hide {}", panel.title()).into();
            }
        }
        .into()
    }

    /// One sentence on what it does.
    pub fn tooltip(self) -> Cow<'static, str> {
        match self {
            Self::OpenModel => "Open a trained network: ONNX, safetensors or PyTorch checkpoint",
            Self::OpenData => "Choose the folder of samples that measure accuracy",
            Self::OpenCalibration => {
                "Choose a separate folder of samples that tune the clip ranges"
            }
            Self::OpenSample(_) => "Open a model and its data that come with the program",
            Self::OpenProject => "Open a saved project: model, data, plan and results",
            Self::SaveProject => "Save model, data, plan and results as a project",
            Self::SaveProjectAs => "Save the project under another name",
            Self::ImportPlan => "Replace the plan by one from a file",
            Self::ExportPlan => "Write the plan to a file that the command line reads too",
            Self::Export => "Write the quantized model for a runtime, and check it there",
            Self::SaveReport => "Write the plan and what was measured of it as one page to read, send or print",
            Self::Undo => "Take back the last change of the plan",
            Self::Redo => "Do the change again that was taken back",
            Self::Run => "Measure the current plan again",
            Self::Cancel => "Stop all jobs and keep what they found",
            Self::ApplyPreset(preset) => {
                let text = format!("{}. Locked layers stay as they are", preset.description);
                return text.into();
            }
            Self::RoundAll(rounding) => {
                let text = format!(
                    "{}. Locked layers stay as they are",
                    rounding_hint(rounding)
                );
                return text.into();
            }
            Self::CorrectAll(one) => {
                let text = format!("{}. Locked layers stay as they are", correction_hint(one));
                return text.into();
            }
            Self::ChooseCalibrators => {
                "Try every calibrator on each input, and take the one that harms the outputs least, on calibration data"
            }
            Self::SetWeights(_) => "Change the weights of the selected layers",
            Self::SetActivations(_) => "Change the activations of the selected layers",
            Self::SelectAll => "Select every layer that the filter shows",
            Self::SelectByWeights(_) => "Select every layer whose weights have this width",
            Self::NextLayer => "Select the layer below in the table",
            Self::PreviousLayer => "Select the layer above in the table",
            Self::ShowPanel(panel) => return panel.hint().into(),
            Self::TogglePanel(_) => "Hide the panel, or show it again where it was",
            Self::ResetLayout => "Put all panels where they stood at first",
            Self::ZoomIn => "Larger text and controls, up to 200 %",
            Self::ZoomOut => "Smaller text and controls, down to 100 %",
            Self::ZoomReset => "Text and controls at 100 %",
            Self::ThemeLight => "Dark text on light ground",
            Self::ThemeDark => "Light text on dark ground",
            Self::ThemeSystem => "Light or dark as the system has it",
            Self::Log => "Show or hide all messages since the start",
            Self::Palette => "Find any command by a few of its letters",
            Self::Shortcuts => "List the keys of all commands",
            Self::ShowHints => "Show the hints of all panels that were dismissed",
            Self::Quit => "Close the window",
        }
        .into()
    }

    /// Where it stands in the list of keys.
    pub(crate) fn group(self) -> Group {
        match self {
            Self::OpenModel
            | Self::OpenData
            | Self::OpenCalibration
            | Self::OpenSample(_)
            | Self::OpenProject
            | Self::SaveProject
            | Self::SaveProjectAs
            | Self::ImportPlan
            | Self::ExportPlan
            | Self::Export
            | Self::SaveReport
            | Self::Quit => Group::File,
            Self::Undo
            | Self::Redo
            | Self::Run
            | Self::Cancel
            | Self::ApplyPreset(_)
            | Self::RoundAll(_)
            | Self::CorrectAll(_)
            | Self::ChooseCalibrators => Group::Plan,
            Self::SetWeights(_)
            | Self::SetActivations(_)
            | Self::SelectAll
            | Self::SelectByWeights(_)
            | Self::NextLayer
            | Self::PreviousLayer => Group::Layers,
            Self::ShowPanel(_)
            | Self::TogglePanel(_)
            | Self::ResetLayout
            | Self::ZoomIn
            | Self::ZoomOut
            | Self::ZoomReset
            | Self::ThemeLight
            | Self::ThemeDark
            | Self::ThemeSystem
            | Self::Log => Group::View,
            Self::Palette | Self::Shortcuts | Self::ShowHints => Group::Help,
        }
    }

    /// Keys that trigger it, the one that is shown first.
    pub fn shortcuts(self) -> &'static [KeyboardShortcut] {
        match self {
            Self::OpenModel => const { &[keys(CTRL, Key::O)] },
            Self::OpenData => const { &[keys(CTRL, Key::D)] },
            Self::OpenCalibration => const { &[keys(CTRL_SHIFT, Key::D)] },
            Self::OpenProject => const { &[keys(CTRL_SHIFT, Key::O)] },
            Self::SaveProject => const { &[keys(CTRL, Key::S)] },
            Self::SaveProjectAs => const { &[keys(CTRL_SHIFT, Key::S)] },
            Self::ImportPlan => const { &[keys(CTRL, Key::I)] },
            Self::ExportPlan => const { &[keys(CTRL, Key::E)] },
            Self::Export => const { &[keys(CTRL_SHIFT, Key::E)] },
            Self::SaveReport => const { &[keys(CTRL_SHIFT, Key::R)] },
            Self::Undo => const { &[keys(CTRL, Key::Z)] },
            Self::Redo => const { &[keys(CTRL_SHIFT, Key::Z), keys(CTRL, Key::Y)] },
            Self::Run => const { &[keys(PLAIN, Key::F5)] },
            Self::Cancel => const { &[keys(PLAIN, Key::Escape)] },
            Self::SelectAll => const { &[keys(CTRL, Key::A)] },
            Self::NextLayer => const { &[keys(ALT, Key::ArrowDown)] },
            Self::PreviousLayer => const { &[keys(ALT, Key::ArrowUp)] },
            Self::TogglePanel(Panel::Layers) => const { &[keys(CTRL, Key::L)] },
            Self::TogglePanel(Panel::Inspector) => const { &[keys(CTRL_SHIFT, Key::I)] },
            Self::ZoomIn => const { &[keys(CTRL, Key::Plus), keys(CTRL, Key::Equals)] },
            Self::ZoomOut => const { &[keys(CTRL, Key::Minus)] },
            Self::ZoomReset => const { &[keys(CTRL, Key::Num0)] },
            Self::Log => const { &[keys(CTRL_SHIFT, Key::L)] },
            Self::Palette => const { &[keys(CTRL, Key::K), keys(CTRL, Key::P)] },
            Self::Shortcuts => const { &[keys(PLAIN, Key::Questionmark), keys(PLAIN, Key::F1)] },
            Self::Quit => const { &[keys(CTRL, Key::Q)] },
            Self::ShowPanel(panel) => {
                let place = Panel::ALL.iter().position(|other| *other == panel);
                place
                    .and_then(|place| PANEL_KEYS.get(place..=place))
                    .unwrap_or_default()
            }
            Self::OpenSample(_)
            | Self::ApplyPreset(_)
            | Self::RoundAll(_)
            | Self::CorrectAll(_)
            | Self::ChooseCalibrators
            | Self::SetWeights(_)
            | Self::SetActivations(_)
            | Self::SelectByWeights(_)
            | Self::TogglePanel(_)
            | Self::ResetLayout
            | Self::ThemeLight
            | Self::ThemeDark
            | Self::ThemeSystem
            | Self::ShowHints => &[],
        }
    }

    /// Why it cannot be used now; `None` if it can.
    pub fn why_disabled(self, session: &Session) -> Option<&'static str> {
        let needs_model = session.model().is_none().then_some("Open a model first");
        match self {
            Self::OpenData
            | Self::SaveProject
            | Self::SaveProjectAs
            | Self::ImportPlan
            | Self::ExportPlan
            | Self::Export
            | Self::SaveReport
            | Self::SelectAll
            | Self::NextLayer
            | Self::PreviousLayer
            | Self::ApplyPreset(_)
            | Self::RoundAll(_)
            | Self::CorrectAll(_)
            | Self::ShowPanel(_)
            | Self::TogglePanel(_)
            | Self::ResetLayout => needs_model,
            Self::SetWeights(_) | Self::SetActivations(_) => needs_model.or_else(|| {
                session
                    .selection()
                    .is_empty()
                    .then_some("Select layers in the table first")
            }),
            Self::SelectByWeights(width) => needs_model.or_else(|| {
                let mut layers = session.plan().layers().iter();
                (!layers.any(|layer| layer.weight.format == width))
                    .then_some("No layer has this width")
            }),
            Self::OpenCalibration | Self::Run | Self::ChooseCalibrators => {
                needs_model.or_else(|| {
                    session
                        .data()
                        .is_none()
                        .then_some("Open a data folder first")
                })
            }
            Self::Undo => (!session.can_undo()).then_some("Nothing to take back"),
            Self::Redo => (!session.can_redo()).then_some("Nothing to do again"),
            Self::Cancel => session.running_jobs().is_empty().then_some("No job runs"),
            Self::OpenModel
            | Self::OpenSample(_)
            | Self::OpenProject
            | Self::ThemeLight
            | Self::ThemeDark
            | Self::ThemeSystem
            | Self::ZoomIn
            | Self::ZoomOut
            | Self::ZoomReset
            | Self::Log
            | Self::Palette
            | Self::Shortcuts
            | Self::ShowHints
            | Self::Quit => None,
        }
    }

    /// Takes the shortcuts that were pressed out of the input.
    ///
    /// While text is edited, the keys that edit text stay with it.
    pub(crate) fn pressed(ui: &egui::Ui, editing: bool) -> Vec<Self> {
        let any_key = ui.input(|input| {
            let mut events = input.events.iter();
            events.any(|event| matches!(event, egui::Event::Key { pressed: true, .. }))
        });
        if !any_key {
            return Vec::new();
        }
        let belongs_to_text = |command: Self| {
            matches!(
                command,
                Self::Undo | Self::Redo | Self::SelectAll | Self::Cancel | Self::Shortcuts
            )
        };
        // Those with more modifiers come first: a shortcut matches with further Shift or Alt too.
        let mut known: Vec<(KeyboardShortcut, Self)> = Self::with_keys()
            .filter(|command| !(editing && belongs_to_text(*command)))
            .flat_map(|command| command.shortcuts().iter().map(move |keys| (*keys, command)))
            .collect();
        known.sort_by_key(|(keys, _)| std::cmp::Reverse(modifier_count(keys.modifiers)));
        ui.input_mut(|input| {
            known
                .into_iter()
                .filter(|(keys, _)| input.consume_shortcut(keys))
                .map(|(_, command)| command)
                .collect()
        })
    }

    /// The commands that have a key.
    pub(crate) fn with_keys() -> impl Iterator<Item = Self> {
        let panels = Panel::ALL.iter().copied().map(Self::ShowPanel);
        Self::SINGLE
            .into_iter()
            .chain(panels)
            .filter(|command| !command.shortcuts().is_empty())
    }

    /// A menu entry; `true` when it was chosen.
    pub(crate) fn menu_item_ui(self, ui: &mut egui::Ui, session: &Session) -> bool {
        let why_disabled = self.why_disabled(session);
        let mut button = egui::Button::new(self.text().into_owned());
        if let Some(shortcut) = self.shortcuts().first() {
            button = button.shortcut_text(key_text(ui.ctx(), *shortcut));
        }
        let response = ui.add_enabled(why_disabled.is_none(), button);
        let clicked = response.clicked();
        explain(response, self, why_disabled);
        clicked
    }

    /// A toolbar button; `true` when it was pressed.
    pub(crate) fn button_ui(self, ui: &mut egui::Ui, session: &Session) -> bool {
        let why_disabled = self.why_disabled(session);
        let button = egui::Button::new(self.text().into_owned());
        let response = ui.add_enabled(why_disabled.is_none(), button);
        let clicked = response.clicked();
        explain(response, self, why_disabled);
        clicked
    }
}

/// A shortcut as it stands on the keyboard: `Ctrl++` rather than `Ctrl+Plus`.
pub(crate) fn key_text(ctx: &egui::Context, keys: KeyboardShortcut) -> String {
    let text = ctx.format_shortcut(&keys);
    [
        ("Questionmark", "?"),
        ("Plus", "+"),
        ("Minus", "−"),
        ("Equals", "="),
        ("Escape", "Esc"),
    ]
    .into_iter()
    .fold(text, |text, (name, sign)| text.replace(name, sign))
}

fn modifier_count(modifiers: Modifiers) -> u8 {
    u8::from(modifiers.shift) + u8::from(modifiers.alt) + u8::from(modifiers.command)
}

/// A width in words that can be searched for: `8 bits`, `float (f32)`.
fn long(width: NumberFormat) -> String {
    match width {
        NumberFormat::Int(_) => format::width(width),
        float => format!("float ({float})"),
    }
}

fn sample_text(index: usize) -> String {
    match bundled_samples().get(index) {
        Some(sample) => format!("Open sample: {}", sample.name),
        None => format!("Open sample {}", index + 1),
    }
}

fn explain(response: egui::Response, command: Command, why_disabled: Option<&str>) {
    let keys = command
        .shortcuts()
        .first()
        .map(|shortcut| format!(" ({})", key_text(&response.ctx, *shortcut)))
        .unwrap_or_default();
    let response = response.on_hover_text(format!("{}{keys}", command.tooltip()));
    if let Some(why) = why_disabled {
        response.on_disabled_hover_text(why);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn no_two_commands_share_a_key() {
        let mut seen: Vec<KeyboardShortcut> = Vec::new();
        let all = Command::all();
        for shortcut in all.iter().flat_map(|command| command.shortcuts()) {
            assert!(!seen.contains(shortcut), "{shortcut:?}");
            seen.push(*shortcut);
        }
    }

    #[test]
    fn no_two_commands_share_a_name() {
        let all = Command::all();
        let names: BTreeSet<_> = all.iter().map(|command| command.text()).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn every_command_with_a_key_is_looked_for() {
        for command in Command::all() {
            let is_known = Command::with_keys().any(|known| known == command);
            assert_eq!(is_known, !command.shortcuts().is_empty(), "{command:?}");
        }
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
