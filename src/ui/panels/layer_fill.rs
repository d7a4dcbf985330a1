//! Dragging a width from its chip over other rows.

use std::ops::RangeInclusive;

use egui::Rect;

use super::layer_keys::KeyTarget;
use crate::model::LayerId;
use crate::quant::NumberFormat;
use crate::session::Action;
use crate::ui::theme;

/// A width on its way from one row over others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fill {
    /// The layer whose chip was pressed.
    pub(super) from: LayerId,
    /// The layer under the pointer.
    pub(super) over: LayerId,
    /// Which of the widths.
    pub(super) target: KeyTarget,
    /// The width that the rows get.
    pub(super) format: NumberFormat,
    /// When the table was last scrolled for it, in seconds of the window's clock.
    pub(super) scrolled_at: f64,
}

/// Seconds between two rows while the pointer rests at the edge of the table.
const SCROLL_INTERVAL: f64 = 0.04;

/// The row to scroll to while a width is dragged to the edge of the table, or beyond; the drag
/// reaches over it.
///
/// `body` is where rows are drawn.
pub(super) fn row_at_edge(
    ui: &egui::Ui,
    fill: &mut Option<Fill>,
    rows: &[LayerId],
    body: Rect,
) -> Option<usize> {
    let fill = fill.as_mut()?;
    let (pointer, now) = ui.input(|input| (input.pointer.latest_pos(), input.time));
    let over = rows.iter().position(|row| *row == fill.over)?;
    let row = match pointer? {
        pointer if pointer.y > body.bottom() - theme::ROW_HEIGHT / 2.0 => over + 1,
        pointer if pointer.y < body.top() + theme::ROW_HEIGHT / 2.0 => over.checked_sub(1)?,
        _ => return None,
    };
    fill.over = {
        let next = *rows.get(row)?;
        ui.ctx().request_repaint();
        if now - fill.scrolled_at < SCROLL_INTERVAL {
            return None;
        }
        fill.scrolled_at = now;
        next
    };
    Some(row)
}

impl Fill {
    /// The rows from the pressed one to the one under the pointer.
    pub(super) fn span(&self, rows: &[LayerId]) -> Option<RangeInclusive<usize>> {
        let position = |id| rows.iter().position(|row| *row == id);
        let (from, over) = (position(self.from)?, position(self.over)?);
        Some(from.min(over)..=from.max(over))
    }

    /// The edit of all rows together.
    fn action(&self, rows: &[LayerId]) -> Option<Action> {
        Some(Action::Edit {
            layers: rows.get(self.span(rows)?)?.to_vec(),
            edit: self.target.edit(self.format),
        })
    }
}

/// Follows the drag; when the button is let go, the rows get the width as one step of undo.
pub(super) fn end_fill(
    ui: &egui::Ui,
    fill: &mut Option<Fill>,
    rows: &[LayerId],
    actions: &mut Vec<Action>,
) {
    let Some(current) = *fill else {
        return;
    };
    ui.set_cursor_icon(egui::CursorIcon::Grabbing);
    if !ui.input(|input| input.pointer.primary_down()) {
        *fill = None;
        actions.extend(current.action(rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_between_are_filled_in_both_directions() {
        let rows = [5, 1, 3, 2].map(LayerId);
        let span = |from, over| {
            let fill = Fill {
                from: LayerId(from),
                over: LayerId(over),
                target: KeyTarget::Weights,
                format: NumberFormat::F16,
                scrolled_at: 0.0,
            };
            fill.span(&rows)
        };
        assert_eq!(span(1, 2), Some(1..=3));
        assert_eq!(span(3, 5), Some(0..=2));
        assert_eq!(span(3, 3), Some(2..=2));
        assert_eq!(span(3, 9), None);
    }
}
