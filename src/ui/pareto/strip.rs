//! The widths of a plan as a strip, one cell a layer.

use egui::{Align2, FontId, Rect, Sense, pos2, vec2};

use super::Shown;
use crate::plan::Widths;
use crate::quant::NumberFormat;
use crate::session::Session;
use crate::ui::{format, theme};

/// Height of one row of cells.
const ROW: f32 = 18.0;
/// Space for the letters W and A.
const LETTER: f32 = 16.0;

/// Weights above, inputs below, in the order of the network.
pub(super) fn strip_ui(ui: &mut egui::Ui, session: &Session, shown: Option<Shown>) {
    let Some(model) = session.model() else {
        return;
    };
    let shown = shown.unwrap_or_else(|| Shown {
        title: "The current plan".to_owned(),
        widths: session.plan().widths(),
    });
    ui.horizontal_wrapped(|ui| {
        ui.strong("Widths");
        ui.label(shown.title.as_str());
    });
    let size = vec2(ui.available_width(), 2.0 * ROW + 2.0);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let label = format!("Widths of {}", shown.title);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, label.as_str()));
    if !ui.is_rect_visible(rect) || shown.widths.is_empty() {
        return;
    }
    let cells = rect.with_min_x(rect.left() + LETTER);
    let cell = cells.width() / shown.widths.len() as f32;
    let column = |of: fn(&Widths) -> NumberFormat| shown.widths.iter().map(of).collect();
    let rows: [(&str, Vec<NumberFormat>); 2] =
        [("W", column(|w| w.weight)), ("A", column(|w| w.activation))];
    for ((letter, row), top) in rows.into_iter().zip([rect.top(), rect.top() + ROW + 2.0]) {
        ui.painter().text(
            pos2(rect.left(), top + ROW / 2.0),
            Align2::LEFT_CENTER,
            letter,
            FontId::proportional(12.0),
            ui.visuals().text_color(),
        );
        for (index, width) in row.into_iter().enumerate() {
            let left = cells.left() + cell * index as f32;
            let gap = if cell > 4.0 { 1.0 } else { 0.0 };
            let place = Rect::from_min_size(pos2(left, top), vec2(cell - gap, ROW));
            paint_cell(ui, place, width);
        }
    }
    let pointed = response.hover_pos().map(|position| {
        let index = ((position.x - cells.left()) / cell).floor().max(0.0);
        index as usize
    });
    let layer = pointed.and_then(|index| {
        let layer = model.layers().get(index)?;
        Some((layer, *shown.widths.get(index)?))
    });
    if let Some((layer, widths)) = layer {
        response.on_hover_ui_at_pointer(|ui| {
            ui.strong(layer.name.as_str());
            ui.label(format!("weight {}", format::width(widths.weight)));
            ui.label(format!("input {}", format::width(widths.activation)));
        });
    }
}

fn paint_cell(ui: &egui::Ui, place: Rect, width: NumberFormat) {
    let palette = theme::palette(ui);
    let color = theme::width_color(width).unwrap_or(palette.empty_cell);
    ui.painter().rect_filled(place, 1, color);
    // The number too, so that nothing is told by colour alone.
    let text = width.to_string();
    if place.width() > 7.0 * text.len() as f32 {
        let ink = theme::width_color(width).map_or(ui.visuals().text_color(), theme::text_on);
        ui.painter().text(
            place.center(),
            Align2::CENTER_CENTER,
            text,
            FontId::proportional(11.0),
            ink,
        );
    }
}
