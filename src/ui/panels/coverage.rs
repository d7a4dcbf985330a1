//! Which operators are quantized, which stay float, and why.

use egui::RichText;
use egui_extras::{Column, TableBuilder};

use crate::model::Status;
use crate::session::Session;
use crate::ui::theme;

/// Looks of the coverage table.
#[derive(Debug, Default)]
pub(crate) struct CoverageView {
    /// Rows that are quantized are left out.
    only_the_rest: bool,
}

/// The coverage table.
pub(crate) fn coverage_ui(ui: &mut egui::Ui, session: &Session, view: &mut CoverageView) {
    let Some(model) = session.model() else {
        ui.label("Open a model to see which operators can be quantized");
        return;
    };
    let rows: Vec<_> = model
        .coverage
        .iter()
        .filter(|row| !(view.only_the_rest && row.status == Status::Quantized))
        .collect();
    ui.horizontal(|ui| {
        ui.label(format!(
            "{} nodes, {} layers can be quantized",
            model.graph().nodes().len(),
            model.layers().len()
        ));
        ui.checkbox(&mut view.only_the_rest, "Only what is not quantized");
    });
    ui.add_space(4.0);
    let palette = theme::palette(ui);
    TableBuilder::new(ui)
        .id_salt("coverage")
        .striped(true)
        .column(Column::initial(130.0).clip(true).resizable(true))
        .column(Column::initial(60.0))
        .column(Column::initial(96.0))
        .column(Column::remainder().clip(true))
        .header(theme::ROW_HEIGHT, |mut header| {
            for title in ["Operator", "Nodes", "Status", "Reason"] {
                header.col(|ui| {
                    ui.strong(title);
                });
            }
        })
        .body(|body| {
            body.rows(theme::ROW_HEIGHT, rows.len(), |mut row| {
                let Some(entry) = rows.get(row.index()) else {
                    return;
                };
                let (status, color) = match entry.status {
                    Status::Quantized => ("quantized", palette.good),
                    Status::Float => ("float", palette.weak),
                    Status::Unsupported => ("unsupported", palette.bad),
                };
                row.col(|ui| {
                    ui.add(egui::Label::new(entry.op.as_str()).truncate());
                });
                row.col(|ui| {
                    ui.label(entry.count.to_string());
                });
                row.col(|ui| {
                    ui.label(RichText::new(status).color(color));
                });
                row.col(|ui| {
                    ui.add(egui::Label::new(entry.reason.as_str()).truncate());
                });
            });
        });
}
