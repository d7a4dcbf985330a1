//! Two plans layer by layer.

use egui::{Label, RichText};
use egui_extras::{Column, TableBuilder, TableRow};

use crate::figure::{Axis, Content, Figure, Ink, Marker, Plot, Series, Shape};
use crate::model::LayerId;
use crate::plan::{Fingerprint, LayerPlan};
use crate::quant::{NumberFormat, QuantSpec};
use crate::session::{Action, HistoryEntry, PlanRecord, Session};
use crate::ui::panels::{layer_axis, layers_plot_ui, local_error_db, points, shortened};
use crate::ui::plots::{layers_group, plot_head_ui};
use crate::ui::{format, theme};

/// Height of the plot in points.
const PLOT_HEIGHT: f32 = 140.0;

/// One layer under both plans.
#[derive(Clone, Debug, PartialEq)]
struct LayerPair {
    name: String,
    weight: [NumberFormat; 2],
    activation: [NumberFormat; 2],
    /// SQNR in dB of the layer alone with its weight quantized.
    local_db: [Option<f64>; 2],
    /// SQNR in dB of its output with all error from upstream.
    output_db: [Option<f64>; 2],
    /// What differs, in words; empty if nothing does.
    difference: String,
}

/// What the rows were made from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    plans: [Fingerprint; 2],
    current: Fingerprint,
    local_samples: usize,
    records: [bool; 2],
}

/// The layers of both plans, those that differ first.
#[derive(Debug, Default)]
pub(super) struct LayerComparison {
    source: Option<Source>,
    rows: Vec<LayerPair>,
    differing: usize,
    /// Output errors of both along the network, if they were measured.
    figure: Option<Figure>,
}

impl LayerComparison {
    /// Compares again when plans or errors changed.
    pub(super) fn follow(&mut self, session: &Session, a: &HistoryEntry, b: &HistoryEntry) {
        let source = Some(Source {
            plans: [a.fingerprint.clone(), b.fingerprint.clone()],
            current: session.plan_fingerprint().clone(),
            local_samples: session.local_errors().map_or(0, |errors| errors.samples),
            records: [a, b].map(|entry| session.record(&entry.fingerprint).is_some()),
        });
        if source == self.source {
            return;
        }
        let layers = session.model().map(|model| model.layers());
        let layers = layers.unwrap_or_default();
        let sides = [a, b].map(|entry| Side {
            session,
            entry,
            record: session.record(&entry.fingerprint),
        });
        let mut rows: Vec<LayerPair> = (0..)
            .map(LayerId)
            .zip(layers)
            .filter_map(|(id, layer)| pair(&sides, id, &layer.name))
            .collect();
        self.figure = output_figure(&rows, [a, b]);
        // A stable sort keeps the order of the network.
        rows.sort_by_key(|row| row.difference.is_empty());
        self.differing = rows.partition_point(|row| !row.difference.is_empty());
        self.rows = rows;
        self.source = source;
    }

    /// Output errors of both plans along the network.
    pub(super) fn plot_ui(&self, ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
        let Some(figure) = &self.figure else {
            return;
        };
        let id = egui::Id::unique(("compared errors", layers_group(session)));
        plot_head_ui(ui, id, &figure.title, figure, |_| {});
        layers_plot_ui(ui, session, id, (figure, PLOT_HEIGHT), actions);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Number of layers that differ.
    pub(super) fn differing(&self) -> usize {
        self.differing
    }

    /// The table.
    pub(super) fn show_ui(&self, ui: &mut egui::Ui, differences_only: bool) {
        let count = if differences_only {
            self.differing
        } else {
            self.rows.len()
        };
        if count == 0 {
            ui.label("No layer differs");
            return;
        }
        let name_width = (ui.available_width() - 510.0).clamp(100.0, 300.0);
        let titles = [
            ("W: A, B", "Weight width in plan A and in plan B"),
            ("A: A, B", "Activation width in plan A and in plan B"),
            (
                "Local A",
                "SQNR of the layer's output alone, with its weight quantized as in plan A; higher is better",
            ),
            ("Local B", "The same for plan B"),
            (
                "Output A",
                "SQNR of the layer's output in plan A with all error from upstream, as measured",
            ),
            ("Output B", "The same for plan B"),
        ];
        TableBuilder::new(ui)
            .id_salt("compared layers")
            .striped(true)
            .column(
                Column::initial(name_width)
                    .at_least(60.0)
                    .clip(true)
                    .resizable(true),
            )
            .column(
                Column::initial(92.0)
                    .at_least(60.0)
                    .clip(true)
                    .resizable(true),
            )
            .columns(Column::exact(58.0), 2)
            .columns(Column::exact(62.0), 4)
            .header(theme::ROW_HEIGHT, |mut header| {
                for title in ["Layer", "Difference"] {
                    header.col(|ui| {
                        ui.strong(title);
                    });
                }
                for (title, hover) in titles {
                    header.col(|ui| {
                        ui.strong(title).on_hover_text(hover);
                    });
                }
            })
            .body(|body| {
                body.rows(theme::ROW_HEIGHT, count, |mut table_row| {
                    if let Some(row) = self.rows.get(table_row.index()) {
                        row_ui(&mut table_row, row);
                    }
                });
            });
    }
}

fn output_figure(rows: &[LayerPair], plans: [&HistoryEntry; 2]) -> Option<Figure> {
    let series: Vec<Series> = ["A", "B"]
        .into_iter()
        .zip(plans)
        .zip([Marker::Circle, Marker::Square])
        .enumerate()
        .map(|(index, ((letter, plan), marker))| Series {
            name: format!("{letter}: {}", plan.name),
            ink: Ink::Series(index),
            shape: Shape::Line {
                points: points(rows.iter().map(|row| row.output_db[index])),
                marker: Some(marker),
            },
        })
        .collect();
    let is_measured =
        |series: &Series| matches!(&series.shape, Shape::Line { points, .. } if !points.is_empty());
    let names = rows.iter().map(|row| row.name.clone());
    series.iter().any(is_measured).then(|| Figure {
        title: "Output error of both plans".to_owned(),
        note: "with all error from upstream".to_owned(),
        content: Content::Plot(Plot {
            x: layer_axis(names.collect()),
            y: Axis::new("SQNR", "dB").including([0.0]),
            series,
        }),
    })
}

/// One plan with what was measured of it.
struct Side<'a> {
    session: &'a Session,
    entry: &'a HistoryEntry,
    record: Option<&'a PlanRecord>,
}

impl Side<'_> {
    /// The local error at the plan's width where it was measured with its scheme, else the weight's own.
    fn local_db(&self, id: LayerId) -> Option<f64> {
        let weight = &self.entry.plan.layer(id)?.weight;
        if weight.format == NumberFormat::F32 {
            return Some(f64::INFINITY);
        }
        let current = self.session.plan().layer(id)?;
        let measured = weight.same_but_format(&current.weight);
        let local = measured.then(|| local_error_db(self.session, id, weight.format));
        local.flatten().or_else(|| {
            let errors = self.record?.layers.get(id.index())?.weight?;
            Some(errors.sqnr_db())
        })
    }

    fn output_db(&self, id: LayerId) -> Option<f64> {
        let output = self.record?.layers.get(id.index())?.output;
        (output.count > 0).then(|| output.sqnr_db())
    }
}

fn pair([a, b]: &[Side<'_>; 2], id: LayerId, name: &str) -> Option<LayerPair> {
    let (first, second) = (a.entry.plan.layer(id)?, b.entry.plan.layer(id)?);
    Some(LayerPair {
        name: name.to_owned(),
        weight: [first.weight.format, second.weight.format],
        activation: [first.activation.format, second.activation.format],
        local_db: [a.local_db(id), b.local_db(id)],
        output_db: [a.output_db(id), b.output_db(id)],
        difference: difference(first, second),
    })
}

/// What differs between two choices, in words: `W 8 to 4, A calibrator`.
fn difference(a: &LayerPlan, b: &LayerPlan) -> String {
    let mut parts = Vec::new();
    for (letter, a, b) in [
        ("W", &a.weight, &b.weight),
        ("A", &a.activation, &b.activation),
    ] {
        if a.format != b.format {
            parts.push(format!("{letter} {} to {}", a.format, b.format));
        }
        // Of a float tensor nothing else matters.
        let both_quantized = [a, b].iter().all(|spec| spec.format != NumberFormat::F32);
        if both_quantized {
            let names = setting_names(a, b);
            parts.extend(names.into_iter().map(|name| format!("{letter} {name}")));
        }
    }
    parts.join(", ")
}

fn setting_names(a: &QuantSpec, b: &QuantSpec) -> Vec<&'static str> {
    [
        (a.scheme != b.scheme, "scheme"),
        (a.granularity != b.granularity, "granularity"),
        (a.calibrator != b.calibrator, "calibrator"),
        (a.range_override != b.range_override, "range"),
    ]
    .into_iter()
    .filter(|(differs, _)| *differs)
    .map(|(_, name)| name)
    .collect()
}

fn row_ui(table_row: &mut TableRow<'_, '_>, row: &LayerPair) {
    table_row.col(|ui| {
        let font = egui::TextStyle::Body.resolve(ui.style());
        let text = shortened(ui, &row.name, &font, ui.available_width());
        ui.add(Label::new(text).selectable(false))
            .on_hover_text(&row.name);
    });
    table_row.col(|ui| {
        let palette = theme::palette(ui);
        let text = if row.difference.is_empty() {
            RichText::new("same").color(palette.weak)
        } else {
            RichText::new(&row.difference)
                .color(palette.accent)
                .strong()
        };
        ui.add(Label::new(text).truncate());
    });
    for [a, b] in [row.weight, row.activation] {
        table_row.col(|ui| {
            let text = RichText::new(format!("{a}, {b}"));
            ui.label(if a == b { text } else { text.strong() });
        });
    }
    for db in row.local_db.into_iter().chain(row.output_db) {
        table_row.col(|ui| {
            ui.label(db.map_or_else(|| "–".to_owned(), format::db));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Calibrator, Scheme};

    #[test]
    fn differences_are_told_in_words() {
        let plan = |widths: &str| LayerPlan::with_widths(widths.parse().unwrap());
        let mut asymmetric = plan("4/8");
        asymmetric.weight.scheme = Scheme::Asymmetric;
        asymmetric.activation.calibrator = Calibrator::Mse;
        let mut float = plan("f32/8");
        float.weight.scheme = Scheme::Asymmetric;
        for (a, b, expected) in [
            (plan("8/8"), plan("8/8"), ""),
            (plan("8/8"), plan("4/6"), "W 8 to 4, A 8 to 6"),
            (plan("4/8"), asymmetric, "W scheme, A calibrator"),
            (plan("8/8"), float, "W 8 to f32"),
        ] {
            assert_eq!(difference(&a, &b), expected);
        }
    }
}
