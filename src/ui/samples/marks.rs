//! Marks that tell right from wrong by their shape, and texts that are cut to fit.

use std::sync::Arc;

use egui::text::{LayoutJob, TextFormat};
use egui::{Color32, FontId, Galley, Painter, Pos2, Stroke, vec2};

use super::rows::Change;
use crate::engine::{RankedClass, SamplePrediction};
use crate::ui::theme::Palette;

/// A check, a cross, or a ring where there is no label.
pub(super) fn paint_mark(
    painter: &Painter,
    center: Pos2,
    radius: f32,
    is_right: Option<bool>,
    palette: &Palette,
) {
    let at = |x: f32, y: f32| center + vec2(x, y) * radius;
    match is_right {
        Some(true) => {
            let stroke = Stroke::new(1.8, palette.good);
            painter.line_segment([at(-0.8, 0.0), at(-0.2, 0.7)], stroke);
            painter.line_segment([at(-0.2, 0.7), at(0.9, -0.7)], stroke);
        }
        Some(false) => {
            let stroke = Stroke::new(1.8, palette.bad);
            painter.line_segment([at(-0.7, -0.7), at(0.7, 0.7)], stroke);
            painter.line_segment([at(-0.7, 0.7), at(0.7, -0.7)], stroke);
        }
        None => {
            painter.circle_stroke(center, radius * 0.7, Stroke::new(1.4, palette.weak));
        }
    }
}

/// What a change is called, and its colour; what stayed as it should has no name.
pub(super) fn change_name(change: Change, palette: &Palette) -> Option<(&'static str, Color32)> {
    match change {
        Change::RightToWrong => Some(("right to wrong", palette.bad)),
        Change::WrongToRight => Some(("wrong to right", palette.good)),
        Change::StillWrong => Some(("still wrong", palette.warn)),
        Change::Changed => Some(("changed", palette.warn)),
        Change::StillRight | Change::Same => None,
    }
}

/// One line of text that ends in `…` where it is too long.
pub(super) fn cut(
    painter: &Painter,
    text: &str,
    font: FontId,
    color: Color32,
    width: f32,
) -> Arc<Galley> {
    let mut job = LayoutJob::single_section(text.to_owned(), TextFormat::simple(font, color));
    job.wrap.max_width = width.max(1.0);
    job.wrap.max_rows = 1;
    job.wrap.break_anywhere = true;
    painter.layout_job(job)
}

/// A probability without decimals; what is not quite certain is never shown as certain.
pub(super) fn share(probability: f32) -> String {
    if probability.is_nan() {
        return "–".to_owned();
    }
    match (100.0 * probability).round() as i32 {
        100 if probability < 0.999_95 => "> 99 %".to_owned(),
        0 if probability > 0.0 => "< 1 %".to_owned(),
        percent => format!("{percent} %"),
    }
}

/// A prediction in words: `cat 98 %`.
pub(super) fn prediction_text(
    prediction: Option<&SamplePrediction>,
    name: &dyn Fn(u32) -> String,
) -> String {
    let best = prediction.and_then(SamplePrediction::best);
    best.map_or_else(
        || "not measured yet".to_owned(),
        |RankedClass { class, probability }| format!("{} {}", name(class), share(probability)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certainty_is_shown_as_certainty() {
        for (probability, shown) in [
            (1.0, "100 %"),
            (0.998, "> 99 %"),
            (0.994, "99 %"),
            (0.5, "50 %"),
            (0.001, "< 1 %"),
            (0.0, "0 %"),
            (f32::NAN, "–"),
        ] {
            assert_eq!(share(probability), shown);
        }
    }
}
