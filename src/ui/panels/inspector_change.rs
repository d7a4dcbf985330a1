//! What the last change of a layer's choice did to its numbers.

use egui::{Grid, RichText};

use super::rounding_menu::rounding_text;
use crate::session::Inspection;
use crate::ui::{format, theme};

/// One number before and after; nothing where neither is known.
struct Change {
    name: &'static str,
    before: String,
    after: String,
}

/// The numbers of the choice before beside those of the choice now.
pub(super) fn change_ui(ui: &mut egui::Ui, before: &Inspection, after: &Inspection) {
    ui.separator();
    ui.label(RichText::new("Before and after the last change").strong())
        .on_hover_text("Numbers of this layer under the choice before, and under the choice now");
    let weak = theme::palette(ui).weak;
    Grid::new("before and after")
        .num_columns(3)
        .spacing([12.0, 2.0])
        .show(ui, |ui| {
            for heading in ["", "before", "now"] {
                ui.label(RichText::new(heading).small().color(weak));
            }
            ui.end_row();
            for change in changes(before, after) {
                ui.label(RichText::new(change.name).color(weak));
                ui.label(change.before.as_str())
                    .on_hover_text(format!("{} before the change", change.name));
                ui.label(change.after.as_str());
                ui.end_row();
            }
        });
}

fn changes(before: &Inspection, after: &Inspection) -> Vec<Change> {
    let both = [before, after];
    let change = |name, texts: [Option<String>; 2]| {
        let [before, after] = texts;
        (before.is_some() || after.is_some()).then(|| Change {
            name,
            before: before.unwrap_or_else(|| "–".to_owned()),
            after: after.unwrap_or_else(|| "–".to_owned()),
        })
    };
    [
        change(
            "widths W, A",
            both.map(|inspection| {
                let choice = &inspection.choice;
                Some(format!(
                    "{}, {}",
                    choice.weight.format, choice.activation.format
                ))
            }),
        ),
        change(
            "weight SQNR",
            both.map(|inspection| {
                let errors = inspection.weight.errors.as_ref()?;
                Some(format::db(errors.sqnr_db()))
            }),
        ),
        change(
            "rounding",
            both.map(|inspection| Some(rounding_text(&inspection.choice))),
        ),
        change(
            "weight saturated",
            both.map(|inspection| {
                let errors = inspection.weight.errors.as_ref()?;
                Some(format::small_percent(errors.saturation()))
            }),
        ),
        change(
            "levels used",
            both.map(|inspection| inspection.weight.levels.map(super::inspector::levels_text)),
        ),
        change(
            "input clipped",
            both.map(|inspection| {
                let activation = inspection.activation.as_ref()?;
                activation.grid?;
                Some(format::small_percent(activation.clipped))
            }),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
