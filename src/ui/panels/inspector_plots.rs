//! Distributions of a layer's weight and input, with grids and clip ranges over them.

use egui::{Id, RichText};
use egui_plot::{PlotPoint, PlotUi};

use super::inspector_figures::{activation_figure, channel_figure, error_figure, weight_figure};
use crate::figure::{Series, Shape};
use crate::model::{Layer, LayerId};
use crate::quant::Range;
use crate::session::{ActivationInspection, ChannelInspection, Inspection};
use crate::ui::plots::{PlotView, exact, plot_head_ui};
use crate::ui::{format, theme};

/// Height of a plot in points.
const HEIGHT: f32 = 150.0;
/// Screen distance in points within which a press takes hold of an end of the clip range.
const HOLD_DISTANCE: f64 = 9.0;

/// What is remembered between frames.
#[derive(Debug, Default)]
pub(super) struct InspectorPlots {
    log_counts: bool,
    /// The clip range while one of its ends is dragged.
    dragged: Option<DraggedClip>,
}

/// A clip range whose end follows the pointer.
#[derive(Clone, Copy, Debug)]
struct DraggedClip {
    min: f64,
    max: f64,
    upper: bool,
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
    let Some(figure) = error_figure(layer, &inspection.weight) else {
        return;
    };
    let id = plot_id("error", inspection.layer);
    plot_head_ui(ui, id, "Error of the weight", &figure, |_| {});
    let plot = PlotView {
        height: 110.0,
        few_lines: true,
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
        few_lines: true,
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
/// The ends of the clip range can be dragged; the range comes back when the drag ends.
pub(super) fn activation_plot_ui(
    ui: &mut egui::Ui,
    activation: &ActivationInspection,
    (id, layer): (LayerId, &Layer),
    is_float: bool,
    view: &mut InspectorPlots,
) -> Option<Range> {
    let (low, high) = view.dragged.map_or(
        (
            f64::from(activation.clip.min()),
            f64::from(activation.clip.max()),
        ),
        |dragged| (dragged.min, dragged.max),
    );
    let held = view.dragged.is_some();
    let clip = (!is_float).then_some([low, high]);
    let figure = activation_figure(layer, activation, clip, view.log_counts);
    let scale = if view.log_counts { "log" } else { "linear" };
    let plot_id = plot_id("input", id).with(scale);
    plot_head_ui(ui, plot_id, "Distribution of the input", &figure, |_| {});
    let plot = PlotView {
        height: HEIGHT + 40.0,
        drag: !held && !near_an_end(ui),
        ..PlotView::new(plot_id, &figure)
    };
    let pointer = plot.show(ui, |plot| clip_pointer(plot))?.inner;
    set_near_an_end(ui, !is_float && pointer.nearest(low, high).is_some());
    if is_float {
        return None;
    }
    if pointer.nearest(low, high).is_some() || held {
        ui.ctx().set_cursor_icon(egui::CursorIcon::ResizeHorizontal);
    }
    drag_clip(view, pointer, (low, high))
}

/// Where the pointer is over the plot, and what it does.
#[derive(Clone, Copy, Debug)]
struct ClipPointer {
    position: Option<f64>,
    /// Plot units per point on the screen.
    unit: f64,
    pressed: bool,
    down: bool,
}

impl ClipPointer {
    /// The end that the pointer is near: `true` for the upper one.
    fn nearest(self, low: f64, high: f64) -> Option<bool> {
        let position = self.position?;
        let (to_low, to_high) = ((position - low).abs(), (position - high).abs());
        (to_low.min(to_high) <= HOLD_DISTANCE * self.unit).then_some(to_high < to_low)
    }
}

fn clip_pointer(plot: &PlotUi<'_>) -> ClipPointer {
    let hovered = plot.response().contains_pointer();
    let (pressed, down, on_screen) = plot.ctx().input(|input| {
        (
            input.pointer.primary_pressed(),
            input.pointer.primary_down(),
            input.pointer.latest_pos(),
        )
    });
    let transform = plot.transform();
    let position: Option<PlotPoint> = on_screen
        .filter(|_| hovered || down)
        .map(|position| transform.value_from_position(position));
    ClipPointer {
        position: position.map(|position| position.x),
        unit: transform.dvalue_dpos()[0].abs(),
        pressed: pressed && hovered,
        down,
    }
}

/// Takes hold of an end, moves it, and gives the range back when it is let go.
fn drag_clip(
    view: &mut InspectorPlots,
    pointer: ClipPointer,
    (low, high): (f64, f64),
) -> Option<Range> {
    if pointer.pressed
        && let Some(upper) = pointer.nearest(low, high)
    {
        view.dragged = Some(DraggedClip {
            min: low,
            max: high,
            upper,
        });
    }
    let dragged = view.dragged.as_mut()?;
    if let Some(position) = pointer.position {
        if dragged.upper {
            dragged.max = position.max(dragged.min);
        } else {
            dragged.min = position.min(dragged.max);
        }
    }
    if pointer.down {
        return None;
    }
    let range = Range::new(dragged.min as f32, dragged.max as f32).ok();
    view.dragged = None;
    range
}

/// Whether the pointer was near an end in the last frame: then a drag moves it, not the view.
fn near_an_end(ui: &egui::Ui) -> bool {
    ui.data(|data| data.get_temp(clip_id()).unwrap_or(false))
}

fn set_near_an_end(ui: &egui::Ui, near: bool) {
    ui.data_mut(|data| data.insert_temp(clip_id(), near));
}

fn clip_id() -> Id {
    Id::unique("pointer near an end of the clip range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(position: f64, pressed: bool, down: bool) -> ClipPointer {
        ClipPointer {
            position: Some(position),
            unit: 0.1,
            pressed,
            down,
        }
    }

    #[test]
    fn an_end_of_the_clip_range_follows_the_pointer_until_it_is_let_go() {
        let mut view = InspectorPlots::default();
        assert_eq!(
            drag_clip(&mut view, pointer(4.0, true, true), (0.0, 6.0)),
            None
        );
        assert!(
            view.dragged.is_none(),
            "a press between the ends holds nothing"
        );
        assert_eq!(
            drag_clip(&mut view, pointer(5.8, true, true), (0.0, 6.0)),
            None
        );
        assert_eq!(
            drag_clip(&mut view, pointer(4.5, false, true), (0.0, 5.8)),
            None
        );
        let range = drag_clip(&mut view, pointer(4.5, false, false), (0.0, 4.5));
        assert_eq!(range, Range::new(0.0, 4.5).ok());
        assert!(view.dragged.is_none());
    }

    #[test]
    fn the_ends_do_not_pass_each_other() {
        let mut view = InspectorPlots::default();
        drag_clip(&mut view, pointer(6.0, true, true), (1.0, 6.0));
        let range = drag_clip(&mut view, pointer(-3.0, false, false), (1.0, 6.0));
        assert_eq!(range, Range::new(1.0, 1.0).ok());
    }
}
