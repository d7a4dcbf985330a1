//! What could not be done, in a strip that covers nothing, with the step that may mend it.

use egui::{Button, Color32, RichText, ScrollArea};

use crate::session::{Action, Message, Remedy, Session, Severity};
use crate::ui::commands::Command;
use crate::ui::panel::Panel;
use crate::ui::theme;

/// Messages that are shown at once; older ones wait.
const SHOWN: usize = 3;
/// Width kept for the buttons of a message in points.
const BUTTONS_WIDTH: f32 = 330.0;

/// How a severity is called and coloured; the word tells it without the colour.
pub(super) fn severity_look(ui: &egui::Ui, severity: Severity) -> (&'static str, Color32) {
    let palette = theme::palette(ui);
    match severity {
        Severity::Info => ("Done", palette.good),
        Severity::Warning => ("Note", palette.warn),
        Severity::Error => ("Failed", palette.bad),
    }
}

/// Messages that stay until they are dismissed, newest last; what was done is told by a toast instead.
pub(crate) fn lasting(session: &Session) -> Vec<&Message> {
    session
        .messages()
        .iter()
        .filter(|message| message.severity != Severity::Info)
        .collect()
}

/// The strip of lasting messages, newest first, and the note of the window.
pub(crate) fn messages_ui(
    ui: &mut egui::Ui,
    session: &Session,
    note: &mut Option<&'static str>,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    if let Some(text) = *note {
        let dismissed = message_ui(ui, Severity::Warning, "File dialogs", text, "note", None);
        if dismissed {
            *note = None;
        }
    }
    let messages = lasting(session);
    for message in messages.iter().rev().take(SHOWN) {
        let remedy = message
            .remedy
            .map(command_of)
            .filter(|command| command.why_disabled(session).is_none());
        let remedy = remedy.map(|command| (command, &mut *commands));
        if message_ui(
            ui,
            message.severity,
            &message.title,
            &message.text,
            message.id,
            remedy,
        ) {
            actions.push(Action::Dismiss(message.id));
        }
    }
    if messages.len() > SHOWN {
        ui.horizontal(|ui| {
            ui.label(format!("{} older messages", messages.len() - SHOWN));
            if ui.button("Dismiss all").clicked() {
                actions.extend(messages.iter().map(|message| Action::Dismiss(message.id)));
            }
        });
    }
}

fn command_of(remedy: Remedy) -> Command {
    match remedy {
        Remedy::ChooseModel => Command::OpenModel,
        Remedy::ChooseData => Command::OpenData,
        Remedy::RunAgain => Command::Run,
        Remedy::ShowCoverage => Command::ShowPanel(Panel::Coverage),
    }
}

/// One message; `true` when it was dismissed.
fn message_ui(
    ui: &mut egui::Ui,
    severity: Severity,
    title: &str,
    text: &str,
    id: impl std::hash::Hash + std::fmt::Debug,
    remedy: Option<(Command, &mut Vec<Command>)>,
) -> bool {
    let (word, color) = severity_look(ui, severity);
    let mut dismissed = false;
    ui.push_id(("message", id), |ui| {
        ui.horizontal_top(|ui| {
            ui.label(
                RichText::new(format!("{word}: {title}"))
                    .color(color)
                    .strong(),
            );
            let width = (ui.available_width() - BUTTONS_WIDTH).max(120.0);
            ui.vertical(|ui| {
                ui.set_width(width);
                ScrollArea::vertical().max_height(72.0).show(ui, |ui| {
                    ui.add(egui::Label::new(text).wrap().selectable(true));
                });
            });
            if let Some((command, commands)) = remedy
                && ui
                    .button(command.text().into_owned())
                    .on_hover_text(command.tooltip())
                    .accessible_name(format!("Mend: {}", command.text()))
                    .clicked()
            {
                commands.push(command);
                dismissed = true;
            }
            if ui
                .add(Button::new("Copy"))
                .on_hover_text("Copy the message as text")
                .clicked()
            {
                ui.ctx().copy_text(format!("{title}: {text}"));
            }
            dismissed |= ui.add(Button::new("Dismiss")).clicked();
        });
    });
    dismissed
}
