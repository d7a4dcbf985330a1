//! Distributions of a layer's weight and input, with grids and clip ranges over them.

use std::sync::Arc;

use egui::{Color32, RichText};
use egui_plot::{
    Axis, Bar, BarChart, HoverPosition, LineStyle, Plot, PlotPoint, PlotUi, Span, VLine,
};

use super::plot_axes::{legend_ui, quiet_plot, with_few_lines};
use crate::model::Layer;
use crate::quant::{Grid, Histogram, Range};
use crate::session::{ActivationInspection, ChannelInspection, Inspection};
use crate::ui::theme::Palette;
use crate::ui::{format, theme};

/// Height of a plot in points.
const HEIGHT: f32 = 150.0;
/// Grids with more levels are not drawn, they would be a solid block.
const MOST_LEVELS: i64 = 64;
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

fn plot(ui: &egui::Ui, id: &'static str, x: &'static str, y: &'static str) -> Plot<'static> {
    quiet_plot(id, theme::palette(ui))
        .height(HEIGHT)
        .x_axis_label(x)
        .y_axis_label(y)
        .y_axis_formatter(|mark, _| short_axis(mark.value))
        .label_formatter(|position| match position {
            HoverPosition::NearDataPoint {
                plot_name,
                position,
                ..
            } if !plot_name.is_empty() => {
                Some(format!("{plot_name}\n{}", format::value(position.x)))
            }
            HoverPosition::NearDataPoint { .. } | HoverPosition::Elsewhere { .. } => None,
        })
}

fn short_axis(value: f64) -> String {
    if value >= 1000.0 {
        format::count(value as u64)
            .replace(".00", "")
            .replace(' ', "")
    } else {
        format!("{}", (value * 1e6).round() / 1e6)
    }
}

fn bars(name: &'static str, histogram: &Histogram, color: Color32, log: bool) -> BarChart {
    let merged = bins_to_merge(histogram.counts());
    let width = (histogram.bin_width() * merged as f64).max(f64::MIN_POSITIVE);
    let bars = histogram
        .counts()
        .chunks(merged)
        .enumerate()
        .map(|(bin, counts)| {
            let count = counts.iter().sum::<u64>() as f64;
            let height = if log { (count + 1.0).log10() } else { count };
            Bar::new(histogram.bin_start(bin * merged) + width / 2.0, height)
                .width(width)
                .fill(color)
                .stroke(egui::Stroke::NONE)
        })
        .collect();
    BarChart::new(name, bars)
        .color(color)
        .element_formatter(Box::new(move |bar, _| {
            let count = if log {
                10f64.powf(bar.value) - 1.0
            } else {
                bar.value
            };
            format!(
                "{} near {}",
                format::count(count.round() as u64),
                format::value(bar.argument)
            )
        }))
}

/// How many bins to draw as one, so that few numbers do not fall apart into single counts.
fn bins_to_merge(counts: &[u64]) -> usize {
    let total: u64 = counts.iter().sum();
    // The square-root rule, with twice as many bins because outliers widen the range.
    let wanted = (2.0 * (total as f64).sqrt()).clamp(24.0, 256.0);
    let mut merged = 1;
    while counts.len() / (2 * merged) >= wanted as usize {
        merged *= 2;
    }
    merged
}

/// The levels of a grid, if they are few enough to be told apart.
fn levels(grid: &Grid) -> Vec<f64> {
    let (q_min, q_max) = (i64::from(grid.q_min()), i64::from(grid.q_max()));
    if q_max - q_min >= MOST_LEVELS {
        return Vec::new();
    }
    (grid.q_min()..=grid.q_max())
        .map(|code| f64::from(grid.dequantize(code)))
        .collect()
}

/// The grid with the largest steps, and its index.
fn widest_grid(grids: &[Grid]) -> Option<(usize, &Grid)> {
    grids
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.scale().total_cmp(&b.1.scale()))
}

fn grid_lines(plot: &mut PlotUi<'_>, grid: &Grid, color: Color32) {
    for level in levels(grid) {
        plot.vline(
            VLine::new("", level)
                .color(color)
                .width(1.0)
                .allow_hover(false),
        );
    }
}

/// The weight's distribution with the levels of its grid.
pub(super) fn weight_plot_ui(
    ui: &mut egui::Ui,
    inspection: &Inspection,
    view: &mut InspectorPlots,
) {
    let palette = theme::palette(ui);
    let weight = &inspection.weight;
    ui.horizontal(|ui| {
        ui.label(RichText::new("Distribution").strong());
        ui.checkbox(&mut view.log_counts, "log counts");
    });
    let grid = widest_grid(&weight.grids);
    if let Some((channel, grid)) = grid {
        let text = match (levels(grid).len(), weight.grids.len()) {
            (0, _) => format!("more than {MOST_LEVELS} levels, too dense to draw"),
            (levels, 1) => format!("{levels} levels of the grid"),
            (levels, _) => format!("{levels} levels of channel {channel}, whose steps are largest"),
        };
        ui.label(RichText::new(text).small().color(palette.weak));
    }
    let log = view.log_counts;
    plot(ui, "weight distribution", "weight", counts_label(log)).show(ui, |plot| {
        let [values, lines, ..] = palette.series;
        if let Some(histogram) = &weight.histogram {
            plot.bar_chart(bars("weights", histogram, values, log));
        }
        if let Some((_, grid)) = grid {
            grid_lines(plot, grid, lines.gamma_multiply(0.7));
        }
    });
}

fn counts_label(log: bool) -> &'static str {
    if log { "log10(1 + count)" } else { "count" }
}

/// The distribution of the weight's rounding error.
pub(super) fn error_plot_ui(ui: &mut egui::Ui, inspection: &Inspection) {
    let Some(histogram) = &inspection.weight.error_histogram else {
        return;
    };
    ui.label(RichText::new("Error of the weight").strong());
    let color = theme::palette(ui).series[3];
    with_few_lines(plot(ui, "weight error", "w − ŵ", "count"))
        .height(110.0)
        .show(ui, |plot| {
            plot.bar_chart(bars("errors", histogram, color, false));
        });
}

/// Extremes of every output channel.
pub(super) fn channel_plot_ui(ui: &mut egui::Ui, inspection: &Inspection, layer: &Layer) {
    let channels = &inspection.weight.channels;
    if channels.len() < 2 {
        return;
    }
    ui.label(RichText::new("Range of each channel").strong())
        .on_hover_text(format!(
            "Smallest and largest weight along axis {} of {}",
            layer.channel_axis,
            format::shape(&layer.weight_shape)
        ));
    let outliers = inspection.weight.outliers();
    let palette = theme::palette(ui);
    if let Some((first, ratio)) = outliers.first() {
        let others = match outliers.len() {
            1 => String::new(),
            count => format!(", and {} more channels stand out", count - 1),
        };
        let text = format!("Outlier: channel {first}, {ratio:.1} times the median range{others}");
        ui.label(RichText::new(text).color(palette.warn));
    }
    let bars = channels
        .iter()
        .enumerate()
        .map(|(index, channel)| {
            let is_outlier = outliers.iter().any(|(outlier, _)| *outlier == index);
            let color = if is_outlier {
                palette.warn
            } else {
                palette.series[2]
            };
            Bar::new(index as f64, channel.span())
                .base_offset(f64::from(channel.range.min()))
                .width(0.9)
                .fill(color)
                .stroke(egui::Stroke::NONE)
        })
        .collect();
    let named = Arc::clone(channels);
    let chart = BarChart::new("range", bars)
        .color(palette.series[2])
        .element_formatter(Box::new(move |bar, _| {
            let index = bar.argument.max(0.0) as usize;
            named
                .get(index)
                .map_or_else(String::new, |channel| channel_text(index, channel))
        }));
    with_few_lines(plot(ui, "channel ranges", "output channel", "weight"))
        .height(120.0)
        .show(ui, |plot| plot.bar_chart(chart));
}

/// The numbers of a channel, one a line.
fn channel_text(index: usize, channel: &ChannelInspection) -> String {
    let value = |number: f32| format::value(f64::from(number));
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
    is_float: bool,
    view: &mut InspectorPlots,
) -> Option<Range> {
    let palette = theme::palette(ui);
    let log = view.log_counts;
    let clip = (
        f64::from(activation.clip.min()),
        f64::from(activation.clip.max()),
    );
    let (low, high) = view
        .dragged
        .map_or(clip, |dragged| (dragged.min, dragged.max));
    let held = view.dragged.is_some();
    let candidates = candidates(activation, palette);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("Distribution").strong());
        let clip = (!is_float).then_some(("clip range", palette.accent));
        let marks = candidates
            .iter()
            .map(|(name, _, color)| (name.as_str(), *color));
        legend_ui(ui, &clip.into_iter().chain(marks).collect::<Vec<_>>());
    });
    let response = plot(
        ui,
        "activation distribution",
        "input activation",
        counts_label(log),
    )
    .height(HEIGHT + 40.0)
    .allow_drag(!held && !near_an_end(ui))
    .show(ui, |plot| {
        let [values, ..] = palette.series;
        plot.bar_chart(bars("input", &activation.histogram, values, log));
        if !is_float {
            plot.span(
                Span::new("", low..=high)
                    .axis(Axis::X)
                    .fill(palette.accent.gamma_multiply(0.12))
                    .border(egui::Stroke::new(2.0, palette.accent)),
            );
            if let (Some(grid), false) = (&activation.grid, held) {
                grid_lines(plot, grid, palette.weak.gamma_multiply(0.6));
            }
        }
        for (name, range, color) in &candidates {
            for end in [range.min(), range.max()] {
                plot.vline(
                    VLine::new(name.as_str(), f64::from(end))
                        .color(*color)
                        .style(LineStyle::dashed_dense()),
                );
            }
        }
        clip_pointer(plot)
    });
    let pointer = response.inner;
    set_near_an_end(ui, !is_float && pointer.nearest(low, high).is_some());
    if is_float {
        return None;
    }
    if pointer.nearest(low, high).is_some() || held {
        ui.ctx().set_cursor_icon(egui::CursorIcon::ResizeHorizontal);
    }
    drag_clip(view, pointer, (low, high))
}

/// The range that each calibrator would choose, with its name and colour.
fn candidates(
    activation: &ActivationInspection,
    palette: &Palette,
) -> Vec<(String, Range, Color32)> {
    let [_, second, third, fourth, fifth] = palette.series;
    let colors = [second, third, fourth, fifth, palette.weak];
    activation
        .candidates
        .iter()
        .zip(colors.into_iter().cycle())
        .map(|((calibrator, range), color)| (calibrator.to_string(), *range, color))
        .collect()
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

fn clip_id() -> egui::Id {
    egui::Id::unique("pointer near an end of the clip range")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::BitWidth;

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

    #[test]
    fn few_numbers_are_drawn_in_few_bins() {
        let counts = |each: u64| vec![each; 256];
        assert_eq!(bins_to_merge(&counts(1)), 8);
        assert_eq!(bins_to_merge(&counts(10)), 2);
        assert_eq!(bins_to_merge(&counts(1000)), 1);
        assert_eq!(bins_to_merge(&[5]), 1);
    }

    #[test]
    fn only_grids_that_can_be_told_apart_are_drawn() {
        let range = Range::new(-1.0, 1.0).unwrap();
        let grid = |bits| Grid::asymmetric(range, BitWidth::new(bits).unwrap());
        assert_eq!(levels(&grid(3)).len(), 8);
        assert_eq!(levels(&grid(6)).len(), 64);
        assert!(levels(&grid(7)).is_empty());
    }
}
