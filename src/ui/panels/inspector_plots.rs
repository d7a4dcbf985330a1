//! Distributions of a layer's weight and input, with grids and clip ranges over them.

use egui::{Id, RichText};

use super::clip_handles::{ClipDrag, ClipHandles};
use super::inspector_figures::{activation_figure, channel_figure, error_figure, weight_figure};
use crate::figure::{Series, Shape};
use crate::model::{Layer, LayerId};
use crate::session::{ActivationInspection, ChannelInspection, Inspection};
use crate::ui::plots::{PlotView, exact, plot_head_ui};
use crate::ui::{format, theme};

/// Height of a plot in points.
const HEIGHT: f32 = 150.0;

/// What is remembered between frames.
#[derive(Debug, Default)]
pub(super) struct InspectorPlots {
    log_counts: bool,
    clip: ClipHandles,
}

/// Every layer keeps its own view of a plot.
fn plot_id(plot: &str, layer: LayerId) -> Id {
    Id::unique(("inspector", plot, layer.0))
}

/// The weight's distribution with the levels of its grid.
pub(super) fn weight_plot_ui(
    ui: &mut egui::Ui,
    inspection: &Inspection,
    layer: &Layer,
    view: &mut InspectorPlots,
) {
    let figure = weight_figure(layer, &inspection.weight, view.log_counts);
    let scale = if view.log_counts { "log" } else { "linear" };
    let id = plot_id("weight", inspection.layer).with(scale);
    plot_head_ui(ui, id, "Distribution of the weight", &figure, |ui| {
        ui.checkbox(&mut view.log_counts, "log counts");
    });
    let plot = PlotView {
        height: HEIGHT,
        ..PlotView::new(id, &figure)
    };
    plot.show(ui, |_| {});
}

/// The distribution of the weight's rounding error.
pub(super) fn error_plot_ui(ui: &mut egui::Ui, inspection: &Inspection, layer: &Layer) {
    let Some(figure) = error_figure(layer, inspection) else {
        return;
    };
    let id = plot_id("error", inspection.layer);
    plot_head_ui(ui, id, "Error of the weight", &figure, |_| {});
    let plot = PlotView {
        height: 110.0,
        ..PlotView::new(id, &figure)
    };
    plot.show(ui, |_| {});
}

/// Extremes of every output channel.
pub(super) fn channel_plot_ui(ui: &mut egui::Ui, inspection: &Inspection, layer: &Layer) {
    let weight = &inspection.weight;
    if weight.channels.len() < 2 {
        return;
    }
    let figure = channel_figure(layer, weight);
    let id = plot_id("channels", inspection.layer);
    plot_head_ui(ui, id, "Range of each channel", &figure, |_| {});
    let outliers = weight.outliers();
    if let Some((first, ratio)) = outliers.first() {
        let others = match outliers.len() {
            1 => String::new(),
            count => format!(", and {} more channels stand out", count - 1),
        };
        let text = format!("Outlier: channel {first}, {ratio:.1} times the median range{others}");
        ui.label(RichText::new(text).color(theme::palette(ui).warn));
    }
    let hover = |series: &Series, index: usize| {
        let Shape::Bars(bars) = &series.shape else {
            return None;
        };
        let [left, right] = bars.get(index)?.x;
        let channel = left.midpoint(right).round() as usize;
        Some(channel_text(channel, weight.channels.get(channel)?))
    };
    let plot = PlotView {
        height: 120.0,
        hover: Some(&hover),
        ..PlotView::new(id, &figure)
    };
    plot.show(ui, |_| {});
}

/// The numbers of a channel, one a line.
fn channel_text(index: usize, channel: &ChannelInspection) -> String {
    let value = |number: f32| exact(f64::from(number));
    let mut lines = vec![
        format!("channel {index}"),
        format!("min {}", value(channel.range.min())),
        format!("max {}", value(channel.range.max())),
    ];
    if let Some(scale) = channel.scale {
        lines.push(format!("scale {}", value(scale)));
    }
    if let Some(errors) = &channel.errors {
        let saturated = format::small_percent(errors.saturation());
        lines.push(format!("SQNR {}", format::db(errors.sqnr_db())));
        lines.push(format!("saturated {saturated}"));
    }
    lines.join("\n")
}

/// The input's distribution with clip range, grid and one mark per calibrator.
///
/// The ends of the clip range can be dragged; what the drag asks for comes back.
pub(super) fn activation_plot_ui(
    ui: &mut egui::Ui,
    activation: &ActivationInspection,
    (id, layer): (LayerId, &Layer),
    is_float: bool,
    view: &mut InspectorPlots,
) -> Option<ClipDrag> {
    let held = !is_float && view.clip.is_held(ui, activation.clip);
    let (low, high) = view.clip.shown(activation.clip);
    let clip = (!is_float).then_some([low, high]);
    let figure = activation_figure(layer, activation, clip, view.log_counts);
    let scale = if view.log_counts { "log" } else { "linear" };
    let plot_id = plot_id("input", id).with(scale);
    plot_head_ui(ui, plot_id, "Distribution of the input", &figure, |_| {});
    let plot = PlotView {
        height: HEIGHT + 40.0,
        drag: !held,
        ..PlotView::new(plot_id, &figure)
    };
    let transform = plot.show(ui, |_| {})?.transform;
    if is_float {
        return None;
    }
    view.clip.ui(ui, &transform, activation.clip)
}
