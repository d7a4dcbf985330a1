//! Drawing a figure's plot on the screen.

use egui::{Align2, Color32, Id, Stroke};
use egui_plot::{
    BarChart, FilledArea, HLine, HoverPosition, Line, LineStyle, MarkerShape, PlotPoint,
    PlotPoints, PlotResponse, PlotUi, Points, Span, Text, VLine,
};

use super::axes::quiet_plot;
use super::linked::{point_at, pointed};
use super::menu::{plot_context_menu, take_reset};
use crate::figure::{self, Figure, Ink, Interval, Marker, Plot, Series, Shape};
use crate::model::LayerId;
use crate::ui::theme::{self, Palette};

/// Points of which at most so many are in view are marked; more would run into one another.
const MARKED_POINTS: usize = 300;

/// What stands under the pointer near an element of a series, instead of its numbers.
pub(crate) type Hover<'a> = dyn Fn(&Series, usize) -> Option<String> + 'a;

/// How a figure's plot is shown.
pub(crate) struct PlotView<'a> {
    /// Identifies what is zoomed and moved; the same in every frame.
    pub(crate) id: Id,
    /// What is shown.
    pub(crate) figure: &'a Figure,
    /// Height in points.
    pub(crate) height: f32,
    /// What stands under the pointer near an element of a series, instead of its numbers.
    pub(crate) hover: Option<&'a Hover<'a>>,
    /// Whether dragging moves the view.
    pub(crate) drag: bool,
    /// Where the axis below counts layers, the group of plots that share it.
    pub(crate) layers: Option<Id>,
}

impl<'a> PlotView<'a> {
    /// A plot that only shows.
    pub(crate) fn new(id: Id, figure: &'a Figure) -> Self {
        Self {
            id,
            figure,
            height: theme::PLOT_HEIGHT,
            hover: None,
            drag: true,
            layers: None,
        }
    }

    /// Draws it; `more` adds what belongs to the screen alone. `None` for a map.
    pub(crate) fn show<R>(
        self,
        ui: &mut egui::Ui,
        more: impl FnOnce(&mut PlotUi<'a>) -> R + 'a,
    ) -> Option<PlotResponse<R>> {
        let plot = self.figure.plot()?;
        let palette = theme::palette(ui);
        let hover = self.hover;
        let mut shown = quiet_plot(ui, self.id, plot, self.height)
            .allow_drag(self.drag)
            .label_formatter(move |position| hover_text(plot, hover, position));
        if let Some(group) = self.layers {
            shown = shown
                .link_axis(group, [true, false])
                .link_cursor(group, [true, false]);
        }
        if take_reset(ui, self.id) {
            shown = shown.reset();
        }
        let elsewhere = pointed(ui).filter(|_| self.layers.is_some());
        let response = shown.show(ui, move |ui| {
            for series in &plot.series {
                add_series(ui, plot, series, palette, hover);
            }
            if let Some(layer) = elsewhere {
                let line = VLine::new("", f64::from(layer.0)).color(palette.weak);
                ui.vline(line.width(1.0).allow_hover(false));
            }
            more(ui)
        });
        if self.layers.is_some()
            && let Some(pointer) = response.response.hover_pos()
        {
            let x = response.transform.value_from_position(pointer).x.round();
            let last = plot.x.names.len() as f64 - 1.0;
            if (0.0..=last).contains(&x) {
                point_at(ui, LayerId(x as u32));
            }
        }
        plot_context_menu(&response.response, self.id, self.figure);
        Some(response)
    }
}

/// Points up to this share of the width have their names on their right.
const LABELS_RIGHT: f64 = 0.85;

/// The layer at a place of a plot over layers, the nearest one beyond its ends.
pub(crate) fn layer_at(plot: &Plot, x: f64) -> LayerId {
    let last = plot.x.names.len().saturating_sub(1) as f64;
    LayerId(x.round().clamp(0.0, last) as u32)
}

/// The colour of an ink in the theme in use.
pub(crate) fn color(ink: Ink, palette: &Palette) -> Color32 {
    match ink {
        Ink::Series(index) => palette.series[index % palette.series.len()],
        Ink::Accent => palette.accent,
        Ink::Weak => palette.weak,
        Ink::Warn => palette.warn,
    }
}

fn add_series<'a>(
    ui: &mut PlotUi<'a>,
    plot: &'a Plot,
    series: &'a Series,
    palette: &Palette,
    hover: Option<&'a Hover<'a>>,
) {
    let color = color(series.ink, palette);
    let name = series.name.as_str();
    match &series.shape {
        Shape::Line { points, marker } => {
            let points = placed(plot, points);
            let line = Line::new(name, PlotPoints::Owned(points.clone()));
            ui.line(line.color(color).width(2.0));
            if let Some(marker) = marker {
                let bounds = ui.plot_bounds();
                let marked = in_view(&points, bounds.min()[0], bounds.max()[0]);
                if marked.len() <= MARKED_POINTS {
                    // The line tells the numbers; marks would tell them again, counted from the view's edge.
                    let marks = Points::new("", PlotPoints::Owned(marked.to_vec()));
                    let marks = marks.color(color).shape(marker_shape(*marker));
                    ui.points(marks.radius(3.0).allow_hover(false));
                }
            }
        }
        Shape::Points {
            points,
            marker,
            names,
            labelled,
        } => {
            let placed = placed(plot, points);
            let radius = if *marker == Marker::Circle { 4.0 } else { 6.0 };
            let marks = Points::new(name, PlotPoints::Owned(placed.clone()));
            let marks = marks.color(color).shape(marker_shape(*marker));
            ui.points(marks.radius(radius));
            let bounds = ui.plot_bounds();
            let right = bounds.min()[0] + LABELS_RIGHT * bounds.width();
            for index in labelled {
                if let (Some(at), Some(name)) = (placed.get(*index), names.get(*index)) {
                    // At the right edge there is no room beside the point but on its left.
                    let (text, anchor) = if at.x < right {
                        (format!("  {name}"), Align2::LEFT_CENTER)
                    } else {
                        (format!("{name}  "), Align2::RIGHT_CENTER)
                    };
                    let text = Text::new("", *at, text);
                    ui.text(text.anchor(anchor).allow_hover(false));
                }
            }
        }
        Shape::Bars(bars) => add_bars(ui, plot, series, bars, color, hover),
        Shape::Band(band) => add_band(ui, plot, name, band, color),
        Shape::Level(y) => {
            let line = HLine::new(name, plot.y.scale.place(*y)).color(color);
            ui.hline(line.style(LineStyle::dashed_loose()));
        }
        Shape::Uprights(xs) => {
            for x in xs {
                let line = VLine::new("", plot.x.scale.place(*x)).color(color.gamma_multiply(0.7));
                ui.vline(line.width(1.0).allow_hover(false));
            }
        }
        Shape::Ends(ends) => {
            for x in ends {
                let line = VLine::new(name, plot.x.scale.place(*x)).color(color);
                ui.vline(line.style(LineStyle::dashed_dense()));
            }
        }
        Shape::Span(ends) => {
            let [low, high] = ends.map(|end| plot.x.scale.place(end));
            let span = Span::new("", low..=high).axis(egui_plot::Axis::X);
            let edge = Stroke::new(2.0, color);
            ui.span(span.fill(color.gamma_multiply(0.12)).border(edge));
        }
    }
}

fn add_bars<'a>(
    ui: &mut PlotUi<'a>,
    plot: &'a Plot,
    series: &'a Series,
    bars: &'a [figure::Bar],
    color: Color32,
    hover: Option<&'a Hover<'a>>,
) {
    let chart = bars
        .iter()
        .map(|bar| {
            let [left, right] = bar.x.map(|x| plot.x.scale.place(x));
            let [low, high] = bar.y.map(|y| plot.y.scale.place(y));
            egui_plot::Bar::new(left.midpoint(right), high - low)
                .base_offset(low)
                .width((right - left).max(f64::MIN_POSITIVE))
                .fill(color)
                .stroke(Stroke::NONE)
        })
        .collect();
    // The formatter has to own what it tells, so the text of the bar under the pointer is made beforehand.
    let text = ui
        .pointer_coordinate()
        .filter(|_| ui.response().contains_pointer())
        .and_then(|pointer| {
            let x = plot.x.scale.value(pointer.x);
            let nearest = |bar: &figure::Bar| (bar.x[0].midpoint(bar.x[1]) - x).abs();
            let bars = bars.iter().enumerate();
            let (index, bar) = bars.min_by(|a, b| nearest(a.1).total_cmp(&nearest(b.1)))?;
            let told = hover.and_then(|hover| hover(series, index));
            Some(told.unwrap_or_else(|| bar_text(plot, series, bar)))
        })
        .unwrap_or_default();
    let chart = BarChart::new(series.name.as_str(), chart).color(color);
    ui.bar_chart(chart.element_formatter(Box::new(move |_, _| text.clone())));
}

fn bar_text(plot: &Plot, series: &Series, bar: &figure::Bar) -> String {
    let [left, right] = bar.x.map(exact);
    let [low, high] = bar.y;
    let height = if low == 0.0 {
        exact(high)
    } else {
        format!("{} to {}", exact(low), exact(high))
    };
    format!(
        "{}\n{} {left} to {right}{}\n{} {height}{}",
        series.name,
        plot.x.label,
        unit(&plot.x),
        plot.y.label,
        unit(&plot.y)
    )
}

fn add_band(ui: &mut PlotUi<'_>, plot: &Plot, name: &str, band: &[Interval], color: Color32) {
    if band.len() < 2 {
        return;
    }
    let xs: Vec<f64> = band.iter().map(|i| plot.x.scale.place(i.x)).collect();
    let ends = |end: usize| -> Vec<f64> {
        band.iter()
            .map(|interval| plot.y.scale.place(interval.y[end]))
            .collect()
    };
    let area = FilledArea::new(name, &xs, &ends(0), &ends(1));
    ui.add(
        area.fill_color(color.gamma_multiply(0.25))
            .allow_hover(false),
    );
}

fn placed(plot: &Plot, points: &[[f64; 2]]) -> Vec<PlotPoint> {
    points
        .iter()
        .map(|[x, y]| PlotPoint::new(plot.x.scale.place(*x), plot.y.scale.place(*y)))
        .collect()
}

/// The points between two places along the axis below; all of them before there are bounds.
fn in_view(points: &[PlotPoint], min: f64, max: f64) -> &[PlotPoint] {
    if min >= max {
        return points;
    }
    let start = points.partition_point(|point| point.x < min);
    let end = points.partition_point(|point| point.x <= max);
    points.get(start..end).unwrap_or_default()
}

fn marker_shape(marker: Marker) -> MarkerShape {
    match marker {
        Marker::Circle => MarkerShape::Circle,
        Marker::Square => MarkerShape::Square,
        Marker::Diamond => MarkerShape::Diamond,
    }
}

/// Name and exact numbers of what is under the pointer.
fn hover_text(
    plot: &Plot,
    hover: Option<&Hover<'_>>,
    position: &HoverPosition<'_>,
) -> Option<String> {
    let HoverPosition::NearDataPoint {
        plot_name,
        position,
        index,
    } = position
    else {
        return None;
    };
    let series = plot
        .series
        .iter()
        .find(|series| series.name == *plot_name)?;
    if let Some(text) = hover.and_then(|hover| hover(series, *index)) {
        return Some(text);
    }
    let (x, y) = (
        plot.x.scale.value(position.x),
        plot.y.scale.value(position.y),
    );
    let x = format!("{} {}{}", plot.x.label, exact(x), unit(&plot.x));
    let y = format!("{} {}{}", plot.y.label, exact(y), unit(&plot.y));
    Some(match &series.shape {
        Shape::Level(_) => format!("{}\n{y}", series.name),
        Shape::Ends(_) => format!("{}\n{x}", series.name),
        _ => match plot.x.name(position.x) {
            Some(name) => format!("{name}\n{}, {y}\n{x}", series.name),
            None => format!("{}\n{x}\n{y}", series.name),
        },
    })
}

/// The unit of an axis behind a number.
fn unit(axis: &figure::Axis) -> String {
    if axis.unit.is_empty() {
        String::new()
    } else {
        format!(" {}", axis.unit)
    }
}

/// A number to six significant digits; whole numbers in full, in groups of three.
pub(crate) fn exact(value: f64) -> String {
    let magnitude = value.abs();
    let text = if value == value.round() && magnitude < 1e15 {
        grouped(magnitude as u64, value < 0.0)
    } else if (1e-4..1e6).contains(&magnitude) {
        let decimals = (5.0 - magnitude.log10().floor()).clamp(0.0, 9.0) as usize;
        let text = format!("{value:.decimals$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.5e}")
    };
    text.replace('-', "−")
}

fn grouped(value: u64, negative: bool) -> String {
    let digits = value.to_string();
    let mut text = if negative {
        "-".to_owned()
    } else {
        String::new()
    };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_points_in_view_are_marked() {
        let points: Vec<PlotPoint> = [0.0, 3.0, 4.0].map(|x| PlotPoint::new(x, 1.0)).to_vec();
        let xs = |points: &[PlotPoint]| points.iter().map(|point| point.x).collect::<Vec<_>>();
        for (min, max, expected) in [
            (-1.0, 9.0, vec![0.0, 3.0, 4.0]),
            (0.5, 3.0, vec![3.0]),
            (5.0, 9.0, vec![]),
            (f64::INFINITY, f64::NEG_INFINITY, vec![0.0, 3.0, 4.0]),
        ] {
            assert_eq!(xs(in_view(&points, min, max)), expected, "{min}..{max}");
        }
    }

    #[test]
    fn numbers_under_the_pointer_are_exact() {
        for (given, shown) in [
            (0.0, "0"),
            (1234.0, "1234"),
            (1_234_567.0, "1 234 567"),
            (-41.203_125, "−41.2031"),
            (0.000_123_456_7, "0.000123457"),
            (1.5e-9, "1.50000e−9"),
            (92.5, "92.5"),
        ] {
            assert_eq!(exact(given), shown);
        }
    }
}
