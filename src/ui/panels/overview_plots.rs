//! Plots of the overview: accuracy while it is measured, and errors along the network.

use std::sync::Arc;

use egui::Id;
use egui_plot::VLine;

use crate::engine::LayerErrors;
use crate::figure::{Axis, Content, Figure, Ink, Interval, Marker, Plot, Series, Shape};
use crate::plan::Fingerprint;
use crate::quant::SliceErrors;
use crate::session::{Action, PlanResult, Session};
use crate::ui::plots::{PlotView, exact, layer_at, layers_group, plot_head_ui};
use crate::ui::theme;

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

/// Title, and the axis on the left.
fn curve_texts(quantity: Quantity) -> (&'static str, Axis) {
    match quantity {
        Quantity::Accuracy => ("Accuracy as samples come in", Axis::new("top-1", "%")),
        Quantity::Agreement => (
            "Agreement with float as samples come in",
            Axis::new("agreement", "%"),
        ),
        Quantity::OutputSqnr => ("Output SQNR as samples come in", Axis::new("SQNR", "dB")),
    }
}

impl Curve {
    fn figure(&self, session: &Session) -> Figure {
        let (title, mut y) = curve_texts(self.quantity);
        if self.points.is_empty() && self.quantity != Quantity::OutputSqnr {
            // Without a point the axis would run far beyond what a share can be.
            y = y.including([0.0, 100.0]);
        }
        let samples = session
            .data()
            .map_or(1.0, |data| data.evaluation.len() as f64);
        let band = self.points.iter().map(|point| Interval {
            x: point.samples,
            y: [point.low, point.high],
        });
        let float = session
            .float()
            .filter(|_| self.quantity == Quantity::Accuracy)
            .and_then(|(reference, _)| reference.metrics.top1());
        let points = self.points.iter().map(|point| [point.samples, point.value]);
        let mut series = Vec::new();
        if self.quantity == Quantity::Accuracy {
            series.push(Series {
                name: "95 % interval".to_owned(),
                ink: Ink::Series(0),
                shape: Shape::Band(band.collect()),
            });
        }
        series.extend(float.map(|float| Series {
            name: "float".to_owned(),
            ink: Ink::Series(1),
            shape: Shape::Level(100.0 * float),
        }));
        series.push(Series {
            name: "plan".to_owned(),
            ink: Ink::Series(0),
            shape: Shape::Line {
                points: points.collect(),
                marker: Some(Marker::Circle),
            },
        });
        Figure {
            title: title.to_owned(),
            note: String::new(),
            content: Content::Plot(Plot {
                x: Axis::new("samples", "").including([0.0, samples]),
                y,
                series,
            }),
        }
    }
}

/// The accuracy so far over the number of samples, with its interval.
pub(super) fn running_accuracy_ui(ui: &mut egui::Ui, session: &Session, curve: &Curve) {
    let id = Id::unique("running accuracy");
    let figure = curve.figure(session);
    plot_head_ui(ui, id, &figure.title, &figure, |_| {});
    PlotView::new(id, &figure).show(ui, |_| {});
}

/// Errors along the network as a figure, made again only when the result changes.
#[derive(Debug, Default)]
pub(super) struct ErrorSeries {
    /// The plan, and the samples that the errors were measured on.
    key: Option<(Fingerprint, usize)>,
    figure: Option<Figure>,
}

impl ErrorSeries {
    /// Takes over the errors of the current result.
    pub(super) fn follow(&mut self, session: &Session) {
        let (Some(result), Some(model)) = (session.result(), session.model()) else {
            *self = Self::default();
            return;
        };
        let samples = result.evaluation.layer_error_samples;
        let is_same =
            |(plan, known): &(Fingerprint, usize)| *plan == result.plan && *known == samples;
        if self.key.as_ref().is_some_and(is_same) {
            return;
        }
        let names = model.layers().iter().map(|layer| layer.name.clone());
        *self = Self {
            key: Some((result.plan.clone(), samples)),
            figure: Some(error_figure(
                names.collect(),
                &result.evaluation.layers,
                samples,
            )),
        };
    }
}

/// Errors of weights, inputs and outputs of all layers.
fn error_figure(names: Arc<[String]>, layers: &[LayerErrors], samples: usize) -> Figure {
    let level = |errors: Option<SliceErrors>| errors.filter(|e| e.count > 0).map(|e| e.sqnr_db());
    let output = |errors: &LayerErrors| (errors.output.count > 0).then(|| errors.output.sqnr_db());
    let series = [
        ("output", Marker::Circle, points(layers.iter().map(output))),
        (
            "weight",
            Marker::Square,
            points(layers.iter().map(|errors| level(errors.weight))),
        ),
        (
            "input",
            Marker::Diamond,
            points(layers.iter().map(|errors| level(errors.activation))),
        ),
    ];
    let series = series
        .into_iter()
        .enumerate()
        .map(|(index, (name, marker, points))| Series {
            name: name.to_owned(),
            ink: Ink::Series(index),
            shape: Shape::Line {
                points,
                marker: Some(marker),
            },
        });
    Figure {
        title: "Error along the network".to_owned(),
        note: format!("on {samples} samples"),
        content: Content::Plot(Plot {
            x: layer_axis(names),
            y: Axis::new("SQNR", "dB").including([0.0]),
            series: series.collect(),
        }),
    }
}

/// The axis of plots over the layers in the order of the network.
pub(crate) fn layer_axis(names: Arc<[String]>) -> Axis {
    Axis::new("layer number", "").with_names(names)
}

/// Errors of weights, inputs and outputs of every layer, in the order of the network.
pub(super) fn layer_errors_ui(
    ui: &mut egui::Ui,
    session: &Session,
    errors: &ErrorSeries,
    actions: &mut Vec<Action>,
) {
    ui.add_space(6.0);
    let Some(figure) = &errors.figure else {
        ui.strong("Error along the network");
        ui.label("The errors appear with the first batch of the evaluation");
        return;
    };
    let id = Id::unique(("layer errors", layers_group(session)));
    plot_head_ui(ui, id, &figure.title, figure, |_| {});
    layers_plot_ui(ui, session, id, (figure, theme::PLOT_HEIGHT), actions);
}

/// A plot over the layers: a click selects one, its zoom and cursor are shared with the others.
pub(crate) fn layers_plot_ui(
    ui: &mut egui::Ui,
    session: &Session,
    id: Id,
    (figure, height): (&Figure, f32),
    actions: &mut Vec<Action>,
) {
    let Some(plot) = figure.plot() else {
        return;
    };
    let selected = session.selection().first().map(|id| f64::from(id.0));
    let accent = theme::palette(ui).accent;
    let hover = |series: &Series, index: usize| layer_text(plot, series, index);
    let view = PlotView {
        height,
        hover: Some(&hover),
        layers: Some(layers_group(session)),
        ..PlotView::new(id, figure)
    };
    let shown = view.show(ui, move |plot| {
        if let Some(selected) = selected {
            plot.vline(VLine::new("", selected).color(accent).allow_hover(false));
        }
        plot.response()
            .clicked()
            .then(|| plot.pointer_coordinate())
            .flatten()
    });
    if let Some(position) = shown.and_then(|shown| shown.inner) {
        actions.push(Action::Select(vec![layer_at(plot, position.x)]));
    }
}

/// Name of the layer and exact value of a point.
fn layer_text(plot: &Plot, series: &Series, index: usize) -> Option<String> {
    let Shape::Line { points, .. } = &series.shape else {
        return None;
    };
    let [x, y] = *points.get(index)?;
    let from_upstream = match series.name.as_str() {
        "output" => ", with all error from upstream",
        _ => "",
    };
    Some(format!(
        "{}\nlayer number {x}\n{} {} {} {}{from_upstream}",
        plot.x.name(x)?,
        series.name,
        plot.y.label,
        exact(y),
        plot.y.unit
    ))
}

/// Finite values over the layer index; a float layer has no error and no point.
pub(crate) fn points(values: impl Iterator<Item = Option<f64>>) -> Vec<[f64; 2]> {
    values
        .enumerate()
        .filter_map(|(index, db)| Some([index as f64, db.filter(|db| db.is_finite())?]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_without_error_have_no_point() {
        let values = [Some(3.0), None, Some(f64::INFINITY), Some(5.0), Some(7.0)];
        let points = points(values.into_iter());
        assert_eq!(points, [[0.0, 3.0], [3.0, 5.0], [4.0, 7.0]]);
    }
}
