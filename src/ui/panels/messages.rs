//! Messages, in a strip that covers nothing.

use egui::{Button, RichText, ScrollArea};

use crate::session::{Action, Session, Severity};
use crate::ui::theme;

/// Messages that are shown at once; older ones wait.
const SHOWN: usize = 3;

/// The strip of messages, newest first, and the note of the window.
pub(crate) fn messages_ui(
    ui: &mut egui::Ui,
    session: &Session,
    note: &mut Option<&'static str>,
    actions: &mut Vec<Action>,
) {
    if let Some(text) = *note {
        let dismissed = message_ui(ui, Severity::Warning, "File dialogs", text, "note");
        if dismissed {
            *note = None;
        }
    }
    let messages = session.messages();
    for message in messages.iter().rev().take(SHOWN) {
        if message_ui(
            ui,
            message.severity,
            &message.title,
            &message.text,
            message.id,
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

/// One message; `true` when it was dismissed.
fn message_ui(
    ui: &mut egui::Ui,
    severity: Severity,
    title: &str,
    text: &str,
    id: impl std::hash::Hash + std::fmt::Debug,
) -> bool {
    let palette = theme::palette(ui);
    let (word, color) = match severity {
        Severity::Info => ("Done", palette.good),
        Severity::Warning => ("Note", palette.warn),
        Severity::Error => ("Failed", palette.bad),
    };
    let mut dismissed = false;
    ui.push_id(("message", id), |ui| {
        ui.horizontal_top(|ui| {
            ui.label(
                RichText::new(format!("{word}: {title}"))
                    .color(color)
                    .strong(),
            );
            let buttons_width = 150.0;
            let width = (ui.available_width() - buttons_width).max(120.0);
            ui.vertical(|ui| {
                ui.set_width(width);
                ScrollArea::vertical().max_height(72.0).show(ui, |ui| {
                    ui.add(egui::Label::new(text).wrap().selectable(true));
                });
            });
            if ui
                .add(Button::new("Copy").small())
                .on_hover_text("Copy the message as text")
                .clicked()
            {
                ui.ctx().copy_text(format!("{title}: {text}"));
            }
            dismissed = ui.add(Button::new("Dismiss").small()).clicked();
        });
    });
    dismissed
}
