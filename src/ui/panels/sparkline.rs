//! A layer's sensitivity over the widths of the last sweep, as one small bar for each width.

use egui::{Align2, FontId, Rect, Role, Sense, WidgetInfo, pos2, vec2};

use super::sensitivity::protocol_text;
use crate::engine::Sensitivity;
use crate::model::LayerId;
use crate::session::Session;
use crate::ui::{format, theme};

/// Lowest SQNR in dB of the network's output over the widths of the last sweep, if there is one.
pub(super) fn worst_sqnr_db(session: &Session, id: LayerId) -> Option<f64> {
    let row = session.sensitivity()?.cells.get(id.index())?;
    row.iter()
        .filter_map(|cell| cell.comparison.sqnr_db())
        .reduce(f64::min)
}

/// The bars; the numbers come up under the pointer.
pub(super) fn sparkline_ui(ui: &mut egui::Ui, session: &Session, id: LayerId, name: &str) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 16.0), Sense::hover());
    if !ui.is_rect_visible(rect) {
        return;
    }
    let palette = theme::palette(ui);
    let Some(sweep) = session.sensitivity().filter(|sweep| sweep.samples > 0) else {
        let font = FontId::proportional(12.0);
        let left = rect.left_center() + vec2(4.0, 0.0);
        ui.painter()
            .text(left, Align2::LEFT_CENTER, "–", font, palette.weak);
        response.on_hover_text("Run a sweep on the Sensitivity tab");
        return;
    };
    let cells = sweep.cells.get(id.index()).map_or(&[][..], Vec::as_slice);
    let step = rect.width() / cells.len().max(1) as f32;
    for (column, cell) in cells.iter().enumerate() {
        let left = rect.left() + column as f32 * step;
        let ground = Rect::from_min_max(
            pos2(left, rect.top()),
            pos2(left + (step - 1.0).max(1.0), rect.bottom()),
        );
        ui.painter().rect_filled(ground, 0, palette.empty_cell);
        if let Some(sqnr_db) = cell.comparison.sqnr_db() {
            let share = (sqnr_db / theme::SQNR_FULL_DB).clamp(0.05, 1.0);
            let mut bar = ground;
            bar.min.y = bar.max.y - ground.height() * share as f32;
            ui.painter().rect_filled(bar, 0, theme::scale_color(share));
        }
    }
    response.widget_info(|| {
        let text = format!("Sensitivity of {name}: {}", numbers(sweep, id).join("; "));
        WidgetInfo::labeled(Role::Image, true, text)
    });
    response.on_hover_ui(|ui| {
        ui.label(format!(
            "SQNR of the network's output and change of accuracy.\n{}, {} of {} samples",
            protocol_text(sweep.request.protocol),
            sweep.samples,
            sweep.total
        ));
        for line in numbers(sweep, id) {
            ui.label(line);
        }
    });
}

/// One line for each width: `4 bits: 21.3 dB, −1.20 pt`.
fn numbers(sweep: &Sensitivity, id: LayerId) -> Vec<String> {
    let cells = sweep.cells.get(id.index()).map_or(&[][..], Vec::as_slice);
    sweep
        .request
        .widths
        .iter()
        .zip(cells)
        .map(|(width, cell)| {
            let sqnr = cell.comparison.sqnr_db().unwrap_or(f64::NAN);
            let drop = cell.spread.accuracy_drop();
            let drop = drop.map(|drop| format!(", {}", format::points(-drop.value)));
            format!(
                "{}: {}{}",
                format::width(*width),
                format::db(sqnr),
                drop.unwrap_or_default()
            )
        })
        .collect()
}
