//! What the weights alone say, layer by layer.

use egui::Sense;
use egui_extras::{Column, TableBuilder};

use crate::model::LayerId;
use crate::session::{Action, Session};
use crate::ui::format;

/// Names and meanings of the columns.
const COLUMNS: [(&str, &str); 3] = [
    (
        "Kurtosis",
        "Of the weights of a layer: 3 for a normal distribution; the more, the longer the tails that widen the range",
    ),
    (
        "Outliers",
        "Share of weights farther than 4 standard deviations from the mean; 0.006 % of a normal distribution",
    ),
    (
        "Range spread",
        "Largest range of an output channel over their median: what one scale for the whole weight would cost the ordinary channel",
    ),
];

pub(super) fn screens_ui(ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
    let (Some(model), Some(screens)) = (session.model(), session.screens()) else {
        ui.label("The weights are being screened");
        return;
    };
    ui.label("The SQNR of each weight at every width is on the map, as Weight SQNR");
    TableBuilder::new(ui)
        .id_salt("weight screens")
        .striped(true)
        .sense(Sense::click())
        .column(Column::remainder().at_least(120.0).clip(true))
        .columns(Column::auto().at_least(60.0), COLUMNS.len())
        .header(22.0, |mut header| {
            header.col(|ui| {
                ui.strong("Layer");
            });
            for (name, meaning) in COLUMNS {
                header.col(|ui| {
                    ui.strong(name).on_hover_text(meaning);
                });
            }
        })
        .body(|body| {
            body.rows(20.0, screens.layers.len(), |mut row| {
                let index = row.index();
                let id = LayerId(index as u32);
                let (Some(layer), Some(screen)) =
                    (model.layers().get(index), screens.layers.get(index))
                else {
                    return;
                };
                row.set_selected(session.selection().contains(&id));
                row.col(|ui| {
                    ui.add(
                        egui::Label::new(layer.name.as_str())
                            .truncate()
                            .selectable(false),
                    );
                });
                let weight = screen.weight;
                let cells = [
                    weight.map(|weight| format::value(weight.kurtosis)),
                    weight.map(|weight| format::small_percent(weight.outlier_ratio)),
                    weight.map(|weight| format::value(weight.range_spread)),
                ];
                for text in cells {
                    row.col(|ui| {
                        let text = text.unwrap_or_else(|| "–".to_owned());
                        ui.add(egui::Label::new(text).selectable(false));
                    });
                }
                if row.response().clicked() {
                    actions.push(Action::Select(vec![id]));
                }
            });
        });
}
