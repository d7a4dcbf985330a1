//! What all plots share: a calm grid with round steps, and a legend.

use egui::{Color32, Id, Rect, Sense, Vec2, pos2, vec2};
use egui_plot::{GridInput, GridMark, Plot};

use crate::figure::{self, Axis, Scale, mark_text, round_step};
use crate::ui::theme;

/// Lines of the grid along an axis, about this many.
const LINES: f64 = 5.0;
/// Points along the axis below for each line.
const POINTS_A_LINE: f32 = 95.0;
/// Points along the upright axis for each line; a round step may be half of what is asked for.
const POINTS_A_LINE_UPRIGHT: f32 = 46.0;
/// Width of a swatch in a legend with its margins, in points.
const SWATCH: f32 = 14.0;

/// An empty plot of some height with the axes of a figure; its wheel scrolls the panel around it.
pub(super) fn quiet_plot<'a>(
    ui: &egui::Ui,
    id: Id,
    plot: &'a figure::Plot,
    height: f32,
) -> Plot<'a> {
    let upright = f64::from(height / POINTS_A_LINE_UPRIGHT).clamp(1.0, LINES);
    let (x, y) = (&plot.x, &plot.y);
    // Numbers closer than this fade out.
    let across = f64::from((ui.available_width() - 45.0) / POINTS_A_LINE).clamp(1.0, LINES);
    let mut quiet = Plot::new(id)
        .id(id)
        .height(height)
        .allow_scroll(false)
        .grid_color(theme::palette(ui).weak.gamma_multiply(0.45))
        .x_grid_spacer(move |input| grid_marks(x, &input, across))
        .y_grid_spacer(move |input| grid_marks(y, &input, upright))
        .x_axis_formatter(move |mark, _| place_text(x.scale, mark))
        .y_axis_formatter(move |mark, _| place_text(y.scale, mark))
        .x_axis_label(x.text())
        .y_axis_label(y.text())
        .y_axis_min_width(34.0);
    for value in &x.includes {
        quiet = quiet.include_x(x.scale.place(*value));
    }
    for value in &y.includes {
        quiet = quiet.include_y(y.scale.place(*value));
    }
    quiet
}

/// Names of the series beside a plot's title, where they hide no data.
pub(super) fn legend_ui<'a>(
    ui: &mut egui::Ui,
    series: impl IntoIterator<Item = (&'a str, Color32)>,
) {
    let font = egui::TextStyle::Small.resolve(ui.style());
    let text_color = ui.visuals().text_color();
    for (name, color) in series {
        // Swatch and name are one piece, so that no line ends between them.
        let galley = ui
            .painter()
            .layout_no_wrap(name.to_owned(), font.clone(), text_color);
        let size = vec2(galley.size().x + SWATCH, galley.size().y.max(SWATCH));
        let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
        let swatch = Rect::from_center_size(
            rect.left_center() + vec2(SWATCH / 2.0 - 2.0, 0.0),
            Vec2::splat(SWATCH - 6.0),
        );
        ui.painter().rect_filled(swatch, 2, color);
        let top = rect.center().y - galley.size().y / 2.0;
        ui.painter()
            .galley(pos2(rect.left() + SWATCH, top), galley, text_color);
    }
}

/// Where the grid is along an axis of a figure.
fn grid_marks(axis: &Axis, input: &GridInput, lines: f64) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    let step_size = round_step(high - low, lines).unwrap_or(1.0);
    axis.marks([low, high], lines)
        .into_iter()
        .map(|(value, _)| GridMark { value, step_size })
        .collect()
}

/// The number at a place of an axis.
fn place_text(scale: Scale, mark: GridMark) -> String {
    match scale {
        Scale::Linear => mark_text(mark.value, mark.step_size),
        Scale::LogCount => mark_text(scale.value(mark.value).round(), 1.0),
    }
}
