//! Dragging a width from its chip over other rows.

use std::ops::RangeInclusive;

use super::layer_keys::KeyTarget;
use crate::model::LayerId;
use crate::quant::NumberFormat;
use crate::session::Action;

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
            };
            fill.span(&rows)
        };
        assert_eq!(span(1, 2), Some(1..=3));
        assert_eq!(span(3, 5), Some(0..=2));
        assert_eq!(span(3, 3), Some(2..=2));
        assert_eq!(span(3, 9), None);
    }
}
