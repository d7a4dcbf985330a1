//! Plots of the overview: accuracy while it is measured, and errors along the network.

use egui_plot::{
    FilledArea, HLine, HoverPosition, Line, LineStyle, MarkerShape, Plot, PlotPoints, PlotUi,
    Points, VLine,
};

use super::plot_axes::{legend_ui, quiet_plot};
use crate::model::LayerId;
use crate::plan::Fingerprint;
use crate::quant::SliceErrors;
use crate::session::{Action, PlanResult, Session};
use crate::ui::{format, theme};

/// The course of an evaluation, point by point as results come in.
#[derive(Debug, Default)]
pub(super) struct Curve {
    plan: Option<Fingerprint>,
    quantity: Quantity,
    points: Vec<CurvePoint>,
}

/// What the curve shows: the best that the data and the model allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quantity {
    #[default]
    Accuracy,
    Agreement,
    OutputSqnr,
}

#[derive(Clone, Copy, Debug)]
struct CurvePoint {
    samples: f64,
    value: f64,
    low: f64,
    high: f64,
}

impl Curve {
    /// Adds what is new of the current plan; starts again for another plan.
    pub(super) fn follow(&mut self, session: &Session) {
        let Some(result) = session.result() else {
            *self = Self::default();
            return;
        };
        let quantity = quantity_of(result);
        let samples = result.evaluation.samples as f64;
        let went_back = self
            .points
            .last()
            .is_some_and(|last| last.samples > samples);
        if self.plan.as_ref() != Some(&result.plan) || went_back || self.quantity != quantity {
            *self = Self {
                plan: Some(result.plan.clone()),
                quantity,
                points: Vec::new(),
            };
        }
        let is_new = self.points.last().is_none_or(|last| last.samples < samples);
        if is_new && let Some(point) = point_of(result, quantity) {
            self.points.push(point);
        }
    }
}

fn quantity_of(result: &PlanResult) -> Quantity {
    let evaluation = &result.evaluation;
    if evaluation.plan.labelled > 0 {
        Quantity::Accuracy
    } else if evaluation.comparison.classified > 0 {
        Quantity::Agreement
    } else {
        Quantity::OutputSqnr
    }
}

fn point_of(result: &PlanResult, quantity: Quantity) -> Option<CurvePoint> {
    let evaluation = &result.evaluation;
    let (value, low, high) = match quantity {
        Quantity::Accuracy => {
            let (low, high) = evaluation.plan.top1_interval()?;
            (evaluation.plan.top1()? * 100.0, low * 100.0, high * 100.0)
        }
        Quantity::Agreement => {
            let agreement = evaluation.comparison.agreement()? * 100.0;
            (agreement, agreement, agreement)
        }
        Quantity::OutputSqnr => {
            let db = evaluation
                .comparison
                .sqnr_db()
                .filter(|db| db.is_finite())?;
            (db, db, db)
        }
    };
    Some(CurvePoint {
        samples: evaluation.samples as f64,
        value,
        low,
        high,
    })
}

/// The accuracy so far over the number of samples, with its interval.
pub(super) fn running_accuracy_ui(ui: &mut egui::Ui, session: &Session, curve: &Curve) {
    let palette = theme::palette(ui);
    let (title, axis) = match curve.quantity {
        Quantity::Accuracy => ("Accuracy as samples come in", "top-1 in %"),
        Quantity::Agreement => ("Agreement with float as samples come in", "agreement in %"),
        Quantity::OutputSqnr => ("Output SQNR as samples come in", "SQNR in dB"),
    };
    let [plan_color, float_color, ..] = palette.series;
    ui.horizontal_wrapped(|ui| {
        ui.strong(title);
        legend_ui(
            ui,
            &[("plan, 95 % interval", plan_color), ("float", float_color)],
        );
    });
    let column = |of: fn(&CurvePoint) -> f64| curve.points.iter().map(of).collect::<Vec<f64>>();
    let (xs, low, high) = (column(|p| p.samples), column(|p| p.low), column(|p| p.high));
    let values: Vec<[f64; 2]> = curve.points.iter().map(|p| [p.samples, p.value]).collect();
    let float = session
        .float()
        .filter(|_| curve.quantity == Quantity::Accuracy)
        .and_then(|(reference, _)| reference.metrics.top1());
    plot(ui, "running accuracy")
        .x_axis_label("samples")
        .y_axis_label(axis)
        .include_x(0.0)
        .include_x(
            session
                .data()
                .map_or(1.0, |data| data.evaluation.len() as f64),
        )
        .show(ui, |plot| {
            if xs.len() > 1 {
                plot.add(
                    FilledArea::new("95 % interval", &xs, &low, &high)
                        .fill_color(plan_color.gamma_multiply(0.25))
                        .allow_hover(false),
                );
            }
            if let Some(float) = float {
                plot.hline(
                    HLine::new("float", float * 100.0)
                        .color(float_color)
                        .style(LineStyle::dashed_loose()),
                );
            }
            plot.line(
                Line::new("plan", PlotPoints::from(values.clone()))
                    .color(plan_color)
                    .width(2.0),
            );
            if let Some(last) = values.last() {
                plot.points(
                    Points::new("plan", vec![*last])
                        .color(plan_color)
                        .radius(4.0),
                );
            }
        });
}

/// A plot among other things: the wheel scrolls the panel, not the plot.
pub(super) fn plot(ui: &egui::Ui, id: &'static str) -> Plot<'static> {
    quiet_plot(id, theme::palette(ui))
        .height(theme::PLOT_HEIGHT)
        .label_formatter(|position| match position {
            HoverPosition::NearDataPoint {
                plot_name,
                position,
                ..
            } => Some(format!(
                "{plot_name}\n{} at {}",
                format::value(position.y),
                format::value(position.x)
            )),
            HoverPosition::Elsewhere { .. } => None,
        })
}

/// Errors of weights, inputs and outputs of every layer, in the order of the network.
pub(super) fn layer_errors_ui(ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
    ui.add_space(6.0);
    let palette = theme::palette(ui);
    let [output, weight, activation, ..] = palette.series;
    ui.horizontal_wrapped(|ui| {
        ui.strong("Error along the network")
            .on_hover_text("Click to select a layer");
        legend_ui(
            ui,
            &[
                ("output", output),
                ("weight", weight),
                ("input", activation),
            ],
        );
        if let Some(result) = session.result() {
            let samples = result.evaluation.layer_error_samples;
            let text = format!("on {samples} samples");
            ui.label(egui::RichText::new(text).small().color(palette.weak));
        }
    });
    let (Some(model), Some(result)) = (session.model(), session.result()) else {
        ui.label("The errors appear with the first batch of the evaluation");
        return;
    };
    let layers = &result.evaluation.layers;
    let slice = |errors: Option<SliceErrors>| errors.filter(|e| e.count > 0).map(|e| e.sqnr_db());
    let outputs = series(
        layers
            .iter()
            .map(|e| (e.output.count > 0).then(|| e.output.sqnr_db())),
    );
    let weights = series(layers.iter().map(|e| slice(e.weight)));
    let activations = series(layers.iter().map(|e| slice(e.activation)));
    let names: Vec<String> = model
        .layers()
        .iter()
        .map(|layer| layer.name.clone())
        .collect();
    let selected = session.selection().first().map(|id| f64::from(id.0));
    let clicked = plot(ui, "layer errors")
        .x_axis_label("layer")
        .y_axis_label("SQNR in dB")
        .include_y(0.0)
        .label_formatter(move |position| match position {
            HoverPosition::NearDataPoint {
                plot_name,
                position,
                ..
            } => {
                let name = names.get(position.x.max(0.0).round() as usize)?;
                Some(format!("{name}\n{plot_name} {}", format::db(position.y)))
            }
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, move |plot| {
            if let Some(selected) = selected {
                plot.vline(
                    VLine::new("", selected)
                        .color(palette.accent)
                        .allow_hover(false),
                );
            }
            error_series(
                plot,
                "output, with all error from upstream",
                outputs,
                output,
                MarkerShape::Circle,
            );
            error_series(plot, "weight", weights, weight, MarkerShape::Square);
            error_series(plot, "input", activations, activation, MarkerShape::Diamond);
            plot.response()
                .clicked()
                .then(|| plot.pointer_coordinate())
                .flatten()
        })
        .inner;
    if let Some(position) = clicked {
        let last = model.layers().len().saturating_sub(1) as f64;
        let index = position.x.round().clamp(0.0, last) as u32;
        actions.push(Action::Select(vec![LayerId(index)]));
    }
}

/// Finite values over the layer index; a float layer has no error and no point.
fn series(values: impl Iterator<Item = Option<f64>>) -> Vec<[f64; 2]> {
    values
        .enumerate()
        .filter_map(|(index, db)| Some([index as f64, db.filter(|db| db.is_finite())?]))
        .collect()
}

fn error_series(
    plot: &mut PlotUi<'_>,
    name: &str,
    values: Vec<[f64; 2]>,
    color: egui::Color32,
    shape: MarkerShape,
) {
    plot.line(
        Line::new(name, PlotPoints::from(values.clone()))
            .color(color)
            .width(1.5),
    );
    plot.points(
        Points::new(name, values)
            .color(color)
            .shape(shape)
            .radius(3.0),
    );
}
