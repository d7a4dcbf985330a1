//! Plots of the overview: accuracy while it is measured, and errors along the network.

use egui_plot::{
    FilledArea, HLine, HoverPosition, Line, LineStyle, MarkerShape, Plot, PlotPoint, PlotPoints,
    PlotUi, Points, VLine,
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
    let mut running = plot(ui, "running accuracy");
    if values.is_empty() && curve.quantity != Quantity::OutputSqnr {
        // Without a point the axis would run far beyond what a share can be.
        running = running.include_y(0.0).include_y(100.0);
    }
    running
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

/// Points of which at most so many are in view are marked; more would run into one another.
const MARKED_POINTS: usize = 300;

/// Errors along the network as points of a plot, computed again only when the result changes.
#[derive(Debug, Default)]
pub(super) struct ErrorSeries {
    /// The plan, and the samples that the errors were measured on.
    key: Option<(Fingerprint, usize)>,
    outputs: Vec<PlotPoint>,
    weights: Vec<PlotPoint>,
    inputs: Vec<PlotPoint>,
}

impl ErrorSeries {
    /// Takes over the errors of the current result.
    pub(super) fn follow(&mut self, session: &Session) {
        let Some(result) = session.result() else {
            *self = Self::default();
            return;
        };
        let samples = result.evaluation.layer_error_samples;
        let is_same =
            |(plan, known): &(Fingerprint, usize)| *plan == result.plan && *known == samples;
        if self.key.as_ref().is_some_and(is_same) {
            return;
        }
        let layers = &result.evaluation.layers;
        let level =
            |errors: Option<SliceErrors>| errors.filter(|e| e.count > 0).map(|e| e.sqnr_db());
        *self = Self {
            key: Some((result.plan.clone(), samples)),
            outputs: series(
                layers
                    .iter()
                    .map(|e| (e.output.count > 0).then(|| e.output.sqnr_db())),
            ),
            weights: series(layers.iter().map(|e| level(e.weight))),
            inputs: series(layers.iter().map(|e| level(e.activation))),
        };
    }
}

/// Errors of weights, inputs and outputs of every layer, in the order of the network.
pub(super) fn layer_errors_ui(
    ui: &mut egui::Ui,
    session: &Session,
    errors: &ErrorSeries,
    actions: &mut Vec<Action>,
) {
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
    let (Some(model), Some(_)) = (session.model(), session.result()) else {
        ui.label("The errors appear with the first batch of the evaluation");
        return;
    };
    let layers = model.layers();
    let selected = session.selection().first().map(|id| f64::from(id.0));
    let clicked = plot(ui, "layer errors")
        .x_axis_label("layer")
        .y_axis_label("SQNR in dB")
        .include_y(0.0)
        .label_formatter(|position| match position {
            HoverPosition::NearDataPoint {
                plot_name,
                position,
                ..
            } => {
                let layer = layers.get(position.x.max(0.0).round() as usize)?;
                Some(format!(
                    "{}\n{plot_name} {}",
                    layer.name,
                    format::db(position.y)
                ))
            }
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            if let Some(selected) = selected {
                plot.vline(
                    VLine::new("", selected)
                        .color(palette.accent)
                        .allow_hover(false),
                );
            }
            for (name, points, color, shape) in [
                (
                    "output, with all error from upstream",
                    &errors.outputs,
                    output,
                    MarkerShape::Circle,
                ),
                ("weight", &errors.weights, weight, MarkerShape::Square),
                ("input", &errors.inputs, activation, MarkerShape::Diamond),
            ] {
                error_series(plot, name, points, color, shape);
            }
            plot.response()
                .clicked()
                .then(|| plot.pointer_coordinate())
                .flatten()
        })
        .inner;
    if let Some(position) = clicked {
        let last = layers.len().saturating_sub(1) as f64;
        let index = position.x.round().clamp(0.0, last) as u32;
        actions.push(Action::Select(vec![LayerId(index)]));
    }
}

/// Finite values over the layer index; a float layer has no error and no point.
fn series(values: impl Iterator<Item = Option<f64>>) -> Vec<PlotPoint> {
    values
        .enumerate()
        .filter_map(|(index, db)| {
            let db = db.filter(|db| db.is_finite())?;
            Some(PlotPoint::new(index as f64, db))
        })
        .collect()
}

/// A line through all points, and marks on those in view if they can be told apart.
fn error_series<'a>(
    plot: &mut PlotUi<'a>,
    name: &'a str,
    points: &'a [PlotPoint],
    color: egui::Color32,
    shape: MarkerShape,
) {
    plot.line(
        Line::new(name, PlotPoints::Borrowed(points))
            .color(color)
            .width(1.5),
    );
    let bounds = plot.plot_bounds();
    let in_view = in_view(points, bounds.min()[0], bounds.max()[0]);
    if in_view.len() <= MARKED_POINTS {
        plot.points(
            Points::new(name, PlotPoints::Borrowed(in_view))
                .color(color)
                .shape(shape)
                .radius(3.0),
        );
    }
}

/// The points between two places along the layers; all of them before there are bounds.
fn in_view(points: &[PlotPoint], min: f64, max: f64) -> &[PlotPoint] {
    if min >= max {
        return points;
    }
    let start = points.partition_point(|point| point.x < min);
    let end = points.partition_point(|point| point.x <= max);
    points.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_points_in_view_are_marked() {
        let points =
            series([Some(3.0), None, Some(f64::INFINITY), Some(5.0), Some(7.0)].into_iter());
        let xs = |points: &[PlotPoint]| points.iter().map(|point| point.x).collect::<Vec<_>>();
        assert_eq!(xs(&points), [0.0, 3.0, 4.0]);
        for (min, max, expected) in [
            (-1.0, 9.0, vec![0.0, 3.0, 4.0]),
            (0.5, 3.0, vec![3.0]),
            (5.0, 9.0, vec![]),
            (f64::INFINITY, f64::NEG_INFINITY, vec![0.0, 3.0, 4.0]),
        ] {
            assert_eq!(xs(in_view(&points, min, max)), expected, "{min}..{max}");
        }
    }
}
