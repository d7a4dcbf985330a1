//! A sentence at the top of each panel for newcomers, until it is dismissed.

use std::collections::BTreeSet;

use egui::{Button, Label, RichText};

use super::panel::Panel;
use super::theme;

/// The hint of a panel, unless it was dismissed.
pub(crate) fn hint_ui(ui: &mut egui::Ui, panel: Panel, dismissed: &mut BTreeSet<Panel>) {
    if dismissed.contains(&panel) {
        return;
    }
    theme::hint(ui).show(ui, |ui| {
        ui.horizontal_top(|ui| {
            let width = (ui.available_width() - 58.0).max(60.0);
            ui.vertical(|ui| {
                ui.set_width(width);
                ui.add(Label::new(RichText::new(panel.hint()).small()).wrap());
            });
            let got_it = ui
                .add(Button::new(RichText::new("Got it").small()))
                .accessible_name(format!("Dismiss hint of {}", panel.title()))
                .on_hover_text("Hide this hint; Help, Show hints again brings all back");
            if got_it.clicked() {
                dismissed.insert(panel);
            }
        });
    });
    ui.add_space(4.0);
}
