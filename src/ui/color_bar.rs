//! The bar of a legend that shows the colours of a scale.

use egui::{Painter, Rect, pos2, vec2};

use super::theme;

/// Strips that the bar is made of.
const STEPS: u32 = 48;

/// Paints the scale from dark to light.
pub(crate) fn paint_color_bar(painter: &Painter, bar: Rect) {
    let width = bar.width() / STEPS as f32;
    for step in 0..STEPS {
        let corner = pos2(bar.left() + width * step as f32, bar.top());
        let strip = Rect::from_min_size(corner, vec2(width + 0.5, bar.height()));
        let share = f64::from(step) / f64::from(STEPS - 1);
        painter.rect_filled(strip, 0, theme::scale_color(share));
    }
}
