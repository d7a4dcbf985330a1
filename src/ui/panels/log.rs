//! All messages since the start.

use egui::{Label, RichText, ScrollArea};

use super::messages::severity_look;
use crate::session::{Message, Session};
use crate::ui::theme;

/// The log, newest last; `false` when it was closed.
pub(crate) fn log_ui(ui: &mut egui::Ui, session: &Session) -> bool {
    let mut open = true;
    ui.horizontal(|ui| {
        ui.strong("Messages");
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            if ui
                .button("Close")
                .accessible_name("Close message log")
                .clicked()
            {
                open = false;
            }
            let copy = ui
                .add_enabled(session.log().len() > 0, egui::Button::new("Copy all"))
                .on_disabled_hover_text("There are no messages yet");
            if copy.clicked() {
                let lines: Vec<String> = session.log().map(line).collect();
                ui.ctx().copy_text(lines.join("\n"));
            }
        });
    });
    ScrollArea::vertical()
        .id_salt("log")
        .auto_shrink(false)
        .stick_to_bottom(true)
        .show(ui, |ui| {
            if session.log().len() == 0 {
                ui.label(RichText::new("Nothing was told yet").color(theme::palette(ui).weak));
            }
            for message in session.log() {
                entry_ui(ui, message);
            }
        });
    open
}

fn entry_ui(ui: &mut egui::Ui, message: &Message) {
    let (word, color) = severity_look(ui, message.severity);
    ui.horizontal_top(|ui| {
        ui.monospace(time(message));
        ui.label(RichText::new(format!("{word}: {}", message.title)).color(color));
        ui.add(Label::new(message.text.as_str()).wrap().selectable(true));
    });
}

fn line(message: &Message) -> String {
    format!("{}  {}: {}", time(message), message.title, message.text)
}

/// Minutes and seconds since the start.
fn time(message: &Message) -> String {
    let secs = message.at.as_secs();
    format!("{:02}:{:02}", secs / 60, secs % 60)
}
