//! All layers at one width as bars with their 95 % intervals.

use std::sync::Arc;

use egui::Id;

use super::quantity::Scale;
use super::{Order, SensitivityView, note, ordered};
use crate::figure::{Axis, Bar, Content, Figure, Ink, Plot, Series, Shape};
use crate::model::LayerId;
use crate::session::{Action, Session};
use crate::ui::format;
use crate::ui::plots::{PlotView, layer_at, layers_group, plot_head_ui};

/// Half the width of a bar, and of the mark of an interval.
const HALF: [f64; 2] = [0.4, 0.06];

pub(super) fn bars_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &SensitivityView,
    actions: &mut Vec<Action>,
) {
    let quantity = view.quantity;
    let Some(widths) = quantity.widths(session) else {
        return;
    };
    let Some(column) = view
        .width_among(widths)
        .and_then(|width| widths.iter().position(|other| *other == width))
    else {
        return;
    };
    let rows = ordered(session, view);
    let figure = figure(session, view, &rows, column);
    let id = Id::unique(("sensitivity bars", layers_group(session)));
    plot_head_ui(ui, id, &figure.title, &figure, |_| {});
    let scale = Scale::new(quantity, 0.0);
    let known = places(session, view, &rows, column);
    let hover = |series: &Series, index: usize| {
        let of_series = known
            .iter()
            .filter(|(_, id, _)| series.name == kind(session, *id) || series.name == INTERVAL);
        let (_, id, value) = of_series.copied().nth(index)?;
        let mut text = format!(
            "{}\n{}",
            session.model()?.layers().get(id.index())?.name,
            scale.long(value)
        );
        let estimate = quantity.estimate(session, id, column);
        if let Some(interval) = estimate.and_then(|estimate| scale.interval(estimate)) {
            text = format!("{text}\n{interval}");
        }
        Some(text)
    };
    let plot = PlotView {
        height: (ui.available_height() - 8.0).max(160.0),
        hover: Some(&hover),
        layers: (view.order == Order::Depth).then(|| layers_group(session)),
        ..PlotView::new(id, &figure)
    };
    let shown = plot.show(ui, |plot| {
        let clicked = plot.response().clicked();
        clicked.then(|| plot.pointer_coordinate()).flatten()
    });
    let clicked = shown.and_then(|shown| shown.inner);
    if let (Some(at), Some(plot)) = (clicked, figure.plot())
        && let Some(id) = rows.get(layer_at(plot, at.x).index())
    {
        actions.push(Action::Select(vec![*id]));
    }
}

const INTERVAL: &str = "95 % interval";

/// The series that a layer's bar belongs to.
fn kind(session: &Session, id: LayerId) -> &'static str {
    if session.selection().contains(&id) {
        "selected"
    } else {
        "layers"
    }
}

/// Place, layer and value of every layer that has one.
fn places(
    session: &Session,
    view: &SensitivityView,
    rows: &[LayerId],
    column: usize,
) -> Vec<(f64, LayerId, f64)> {
    rows.iter()
        .enumerate()
        .filter_map(|(place, id)| {
            let value = view.quantity.value(session, *id, column)?;
            value.is_finite().then_some((place as f64, *id, value))
        })
        .collect()
}

fn figure(session: &Session, view: &SensitivityView, rows: &[LayerId], column: usize) -> Figure {
    let quantity = view.quantity;
    let bar = |x: f64, half: f64, y: [f64; 2]| Bar {
        x: [x - half, x + half],
        y: y.map(|y| quantity.in_units(y)),
    };
    let known = places(session, view, rows, column);
    let bars = |name: &'static str, ink: Ink| Series {
        name: name.to_owned(),
        ink,
        shape: Shape::Bars(
            known
                .iter()
                .filter(|(_, id, _)| kind(session, *id) == name)
                .map(|(x, _, value)| bar(*x, HALF[0], [value.min(0.0), value.max(0.0)]))
                .collect(),
        ),
    };
    let mut series = vec![
        bars("layers", Ink::Series(0)),
        bars("selected", Ink::Series(3)),
    ];
    let intervals: Vec<Bar> = known
        .iter()
        .filter_map(|(x, id, _)| {
            let (low, high) = quantity.estimate(session, *id, column)?.interval();
            let finite = low.is_finite() && high.is_finite();
            finite.then(|| bar(*x, HALF[1], [low, high]))
        })
        .collect();
    if !intervals.is_empty() {
        series.push(Series {
            name: INTERVAL.to_owned(),
            ink: Ink::Warn,
            shape: Shape::Bars(intervals),
        });
    }
    let names: Arc<[String]> = session.model().map_or_else(Arc::default, |model| {
        let name = |id: &LayerId| model.layers()[id.index()].name.clone();
        rows.iter().map(name).collect()
    });
    let below = match view.order {
        Order::Depth => "layer number",
        Order::Harm => "layers by harm",
    };
    let width = quantity
        .widths(session)
        .and_then(|widths| widths.get(column));
    let width = width.map_or_else(String::new, |width| format::width(*width));
    let (label, unit) = quantity.axis();
    Figure {
        title: format!("{} at {width}", quantity.text()),
        note: note(session, quantity),
        content: Content::Plot(Plot {
            x: Axis::new(below, "").with_names(names),
            y: Axis::new(label, unit).including([0.0]),
            series,
        }),
    }
}
