//! Which columns the layer table shows, and how wide they are.

use std::collections::{BTreeMap, BTreeSet};

use egui::PopupCloseBehavior;
use egui::containers::menu::{MenuButton, MenuConfig};
use egui_extras::Column;
use serde::{Deserialize, Serialize};

use super::layer_order::LayerColumn;

/// The least width of a column that can be resized, in points.
const LEAST_WIDTH: f32 = 30.0;
/// The most.
const MOST_WIDTH: f32 = 2000.0;
/// The name keeps this much in a narrow panel, in points; what does not fit beside it is scrolled to.
const LEAST_NAME_WIDTH: f32 = 96.0;
/// The width of a name in a wide window, until it is changed.
const FIRST_NAME_WIDTH: f32 = 320.0;

/// The columns after the name that are seen without scrolling.
const LEADING: [LayerColumn; 6] = [
    LayerColumn::WeightBits,
    LayerColumn::ActivationBits,
    LayerColumn::Sqnr,
    LayerColumn::Size,
    LayerColumn::Lock,
    LayerColumn::Sensitivity,
];

/// The width of a column in points until it is changed.
fn first_width(column: LayerColumn) -> f32 {
    match column {
        LayerColumn::Name => FIRST_NAME_WIDTH,
        LayerColumn::WeightBits | LayerColumn::ActivationBits => 36.0,
        LayerColumn::Lock => 32.0,
        LayerColumn::Sqnr => 64.0,
        LayerColumn::Sensitivity | LayerColumn::Size => 58.0,
        LayerColumn::Op | LayerColumn::Rounding => 86.0,
        LayerColumn::Shape => 92.0,
        LayerColumn::Parameters | LayerColumn::Macs => 60.0,
        LayerColumn::Scheme => 150.0,
    }
}

/// Columns as the user left them; the name is always shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LayerColumns {
    hidden: BTreeSet<LayerColumn>,
    /// Widths in points, as they were last drawn.
    widths: BTreeMap<LayerColumn, f32>,
    /// Whether the table has to forget the widths that it keeps itself.
    #[serde(skip)]
    is_reset: bool,
    /// Room of the name in the last frame, in points; 0 before the first.
    #[serde(skip)]
    last_room: f32,
    /// The least width of the name in this frame, in points.
    #[serde(skip)]
    least_name: f32,
}

impl LayerColumns {
    /// As it is stored.
    pub(crate) fn stored(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self)
            .inspect_err(|error| tracing::warn!("the columns are not stored: {error}"))
            .ok()
    }

    /// What was stored; the first columns where it cannot be read.
    pub(crate) fn restored(stored: serde_json::Value) -> Self {
        serde_json::from_value(stored).unwrap_or_else(|error| {
            tracing::warn!("the stored columns are not read: {error}");
            Self::default()
        })
    }

    /// The columns that are shown, in their order.
    pub(super) fn shown(&self) -> Vec<LayerColumn> {
        LayerColumn::ALL
            .into_iter()
            .filter(|column| !self.hidden.contains(column))
            .collect()
    }

    /// Width in points that the name has beside the columns that tell of the plan, so that none of those
    /// is cut off at the edge of the panel while the name can make room for it.
    ///
    /// Where the name took all of its room and there is more now, it grows with it.
    pub(super) fn name_room(&mut self, panel: f32, spacing: f32) -> f32 {
        let others: f32 = LEADING
            .into_iter()
            .filter(|column| !self.hidden.contains(column))
            .map(|column| {
                let width = self.widths.get(&column).copied();
                width.unwrap_or_else(|| first_width(column)) + spacing
            })
            .sum();
        let room = (panel - others).max(LEAST_NAME_WIDTH);
        let name = self.widths.get(&LayerColumn::Name).copied();
        let took_all =
            name.is_some_and(|width| self.last_room > 0.0 && width > self.last_room - 1.0);
        self.least_name = if took_all && room > self.last_room {
            room.min(FIRST_NAME_WIDTH)
        } else {
            LEAST_WIDTH
        };
        self.last_room = room;
        room
    }

    /// How a column is laid out; the name has `name_room` beside the first columns, and takes no more,
    /// so that a window that became smaller does not push the others out.
    pub(super) fn layout(&self, column: LayerColumn, name_room: f32) -> Column {
        let first_width = match column {
            LayerColumn::Name => name_room.min(FIRST_NAME_WIDTH),
            LayerColumn::WeightBits | LayerColumn::ActivationBits | LayerColumn::Lock => {
                return Column::exact(first_width(column));
            }
            other => first_width(other),
        };
        let width = self.widths.get(&column).copied().unwrap_or(first_width);
        let (least, most) = match column {
            LayerColumn::Name => (self.least_name.max(LEAST_WIDTH), name_room.max(LEAST_WIDTH)),
            _ => (LEAST_WIDTH, MOST_WIDTH),
        };
        Column::initial(width.clamp(least, most))
            .range(least..=most)
            .clip(true)
            .resizable(true)
    }

    /// Remembers the widths of the columns that are shown.
    pub(super) fn remember(&mut self, shown: &[LayerColumn], widths: &[f32]) {
        self.widths
            .extend(shown.iter().copied().zip(widths.iter().copied()));
    }

    /// Whether the columns were reset since the last call.
    pub(super) fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.is_reset)
    }

    /// A menu with a tick for every column.
    pub(super) fn menu_ui(&mut self, ui: &mut egui::Ui) {
        let stays_open = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
        MenuButton::new(egui::RichText::new("Columns").small())
            .config(stays_open)
            .ui(ui, |ui| {
                for column in LayerColumn::ALL {
                    if column != LayerColumn::Name {
                        self.column_ui(ui, column);
                    }
                }
                ui.separator();
                if ui.button("Reset columns").clicked() {
                    *self = Self {
                        is_reset: true,
                        ..Self::default()
                    };
                    ui.close();
                }
            });
    }

    fn column_ui(&mut self, ui: &mut egui::Ui, column: LayerColumn) {
        let mut is_shown = !self.hidden.contains(&column);
        let response = ui
            .checkbox(&mut is_shown, column.title())
            .on_hover_text(column.tooltip())
            .accessible_name(format!("Show column {}", column.title()));
        if response.changed() {
            if is_shown {
                self.hidden.remove(&column);
            } else {
                self.hidden.insert(column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_columns_and_widths_are_read_back() {
        let mut columns = LayerColumns::default();
        columns.hidden.insert(LayerColumn::Macs);
        let shown = columns.shown();
        assert_eq!(shown.len(), LayerColumn::ALL.len() - 1);
        columns.remember(&shown, &[123.0]);
        let back = LayerColumns::restored(columns.stored().unwrap());
        assert_eq!(back, columns);
        assert_eq!(back.widths.get(&LayerColumn::Name), Some(&123.0));
    }

    #[test]
    fn columns_of_another_version_are_the_first_ones() {
        let stored = serde_json::json!({ "hidden": ["NoSuchColumn"] });
        assert_eq!(LayerColumns::restored(stored), LayerColumns::default());
    }
}
