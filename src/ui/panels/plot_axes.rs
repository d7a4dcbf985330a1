//! What all plots share: a calm grid with round steps.

use egui::{Color32, Rect, Sense, Vec2, pos2, vec2};
use egui_plot::{GridInput, GridMark, Plot};

use crate::ui::theme::Palette;

/// Lines of the grid along an axis, about this many.
const LINES: f64 = 5.0;
/// Lines along the upright axis of a low plot.
const FEW_LINES: f64 = 2.5;
/// Width of a swatch in a legend with its margins, in points.
const SWATCH: f32 = 14.0;

/// A plot whose wheel scrolls the panel around it, with a calm grid.
pub(super) fn quiet_plot(id: &'static str, palette: &Palette) -> Plot<'static> {
    Plot::new(id)
        .allow_scroll(false)
        .grid_color(palette.weak.gamma_multiply(0.45))
        .x_grid_spacer(|input| round_marks(&input, LINES))
        .y_grid_spacer(|input| round_marks(&input, LINES))
        .y_axis_min_width(34.0)
}

/// A plot that is too low for many labels along its upright axis.
pub(super) fn with_few_lines(plot: Plot<'_>) -> Plot<'_> {
    plot.y_grid_spacer(|input| round_marks(&input, FEW_LINES))
}

/// Names of the series beside a plot's title, where they hide no data.
pub(super) fn legend_ui(ui: &mut egui::Ui, series: &[(&str, Color32)]) {
    let font = egui::TextStyle::Small.resolve(ui.style());
    let text_color = ui.visuals().text_color();
    for (name, color) in series {
        // Swatch and name are one piece, so that no line ends between them.
        let galley = ui
            .painter()
            .layout_no_wrap((*name).to_owned(), font.clone(), text_color);
        let size = vec2(galley.size().x + SWATCH, galley.size().y.max(SWATCH));
        let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
        let swatch = Rect::from_center_size(
            rect.left_center() + vec2(SWATCH / 2.0 - 2.0, 0.0),
            Vec2::splat(SWATCH - 6.0),
        );
        ui.painter().rect_filled(swatch, 2, *color);
        let top = rect.center().y - galley.size().y / 2.0;
        ui.painter()
            .galley(pos2(rect.left() + SWATCH, top), galley, text_color);
    }
}

/// Marks at multiples of 1, 2 or 5 times a power of ten.
fn round_marks(input: &GridInput, lines: f64) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    let Some(step_size) = round_step(high - low, lines) else {
        return Vec::new();
    };
    let first = (low / step_size).ceil() as i64;
    let last = (high / step_size).floor() as i64;
    (first..=last)
        .map(|multiple| GridMark {
            value: multiple as f64 * step_size,
            step_size,
        })
        .collect()
}

/// A round step that divides a span into about `lines` parts; `None` for a span of nothing.
fn round_step(span: f64, lines: f64) -> Option<f64> {
    let rough = span / lines;
    if !rough.is_finite() || rough <= 0.0 {
        return None;
    }
    let power = 10f64.powf(rough.log10().floor());
    let factor = match rough / power {
        // Never more than seven lines: closer ones lose their numbers in a low plot.
        share if share < 1.42 => 1.0,
        share if share < 2.84 => 2.0,
        share if share < 7.1 => 5.0,
        _ => 10.0,
    };
    Some(factor * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (span, expected) in [
            (10.0, 2.0),
            (100.0, 20.0),
            (7.0, 1.0),
            (0.3, 0.05),
            (49.0, 10.0),
            (15.6, 5.0),
        ] {
            let step = round_step(span, LINES).unwrap();
            assert!((step - expected).abs() < 1e-9 * expected, "{span}: {step}");
        }
        for span in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(round_step(span, LINES), None);
        }
    }
}
