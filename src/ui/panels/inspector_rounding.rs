//! How the weight of a layer is rounded, and what that changes beside the nearest levels.

use egui::{Grid, Label, RichText};

use super::inspector::{choice_ui, push_edits};
use super::rounding_menu::{correction_hint, rounding_hint};
use crate::model::LayerId;
use crate::plan::{Correction, LayerPlan, Rounding};
use crate::session::{Action, Inspection, LayerEdit, RoundedInspection, RoundingState, Session};
use crate::ui::{format, theme};

/// Rounding and corrections to choose, then the numbers to nearest and as it is.
pub(super) fn rounding_ui(
    ui: &mut egui::Ui,
    session: &Session,
    id: LayerId,
    choice: &LayerPlan,
    inspection: Option<&Inspection>,
    actions: &mut Vec<Action>,
) {
    let mut edits = Vec::new();
    let roundings = Rounding::ALL.map(|rounding| (rounding, rounding.name().to_owned()));
    edits.extend(
        choice_ui(
            ui,
            "Weight rounding",
            "Rounding",
            &choice.rounding,
            &roundings,
        )
        .map(LayerEdit::Rounding),
    );
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("Correct").color(theme::palette(ui).weak));
        for one in Correction::ALL {
            let mut on = choice.corrections.has(one);
            let response = ui
                .checkbox(&mut on, one.name())
                .on_hover_text(correction_hint(one))
                .accessible_name(format!("Correct {}", one.name()));
            if response.changed() {
                edits.push(LayerEdit::Correct(one, on));
            }
        }
    });
    push_edits(session, edits, actions);
    state_ui(ui, session.rounding_state(id), choice);
    let rounded =
        inspection.and_then(|inspection| Some((inspection, inspection.rounded.as_ref()?)));
    if let Some((inspection, rounded)) = rounded {
        beside_nearest_ui(ui, inspection, rounded);
    }
}

/// Why there are no numbers yet, or what the choice does.
fn state_ui(ui: &mut egui::Ui, state: RoundingState, choice: &LayerPlan) {
    let palette = theme::palette(ui);
    let (text, color) = match state {
        RoundingState::Nearest => (rounding_hint(choice.rounding), palette.weak),
        RoundingState::NoData => (
            "Weights are rounded on calibration data: open a data folder (File, Open data folder)",
            palette.warn,
        ),
        RoundingState::Waiting => (
            "Not rounded yet: the numbers below are those of the nearest levels",
            palette.weak,
        ),
        RoundingState::Unreadable => (
            "This layer cannot be read as windows of its input, or is too large: it takes the nearest levels",
            palette.warn,
        ),
        RoundingState::Done => return,
    };
    ui.add(Label::new(RichText::new(text).small().color(color)).wrap());
}

fn beside_nearest_ui(ui: &mut egui::Ui, inspection: &Inspection, rounded: &RoundedInspection) {
    let weak = theme::palette(ui).weak;
    let [output_nearest, output] = rounded.output_sqnr_db.map(format::db);
    let weight = inspection.weight.errors.as_ref();
    let rows = [
        ("output SQNR", output_nearest, output),
        (
            "weight SQNR",
            format::db(rounded.nearest_errors.sqnr_db()),
            weight.map_or_else(|| "–".to_owned(), |errors| format::db(errors.sqnr_db())),
        ),
    ];
    Grid::new("nearest and rounded")
        .num_columns(3)
        .spacing([12.0, 2.0])
        .show(ui, |ui| {
            for heading in ["", "nearest", "rounded"] {
                ui.label(RichText::new(heading).small().color(weak));
            }
            ui.end_row();
            for (name, nearest, rounded) in rows {
                ui.label(RichText::new(name).color(weak));
                ui.label(nearest)
                    .on_hover_text(format!("{name} with the nearest levels"));
                ui.label(RichText::new(rounded).strong());
                ui.end_row();
            }
        });
    ui.label(RichText::new(&rounded.method).small().color(weak))
        .on_hover_text(
            "How the weight was rounded. The SQNR of the output is measured on calibration samples, with the error of the layers before; that of the weight falls where weights make up for each other",
        );
}
