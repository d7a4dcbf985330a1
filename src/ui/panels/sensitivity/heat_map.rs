//! A map of layers × widths, coloured by value, with the number in every cell.

use egui::{Align2, FontId, Rect, ScrollArea, Sense, Stroke, StrokeKind, pos2, vec2};

use super::super::names::shortened;
use crate::figure::{Axis, Cell, CellMap, Content, Figure, Ramp};
use crate::model::LayerId;
use crate::quant::NumberFormat;
use crate::ui::color_bar::paint_color_bar;
use crate::ui::plots::{MapMenu, paint_pointed, point_at, pointed};
use crate::ui::{format, theme};

/// Height of a row in points.
const ROW: f32 = 20.0;

/// What a frame around a cell means.
const FRAMED: &str = "width of the plan";

/// What the map shows.
pub(super) struct HeatMap<'a> {
    /// What it is called.
    pub(super) title: &'a str,
    /// What it was measured on and under; may be empty.
    pub(super) note: String,
    /// What the cells hold, and its unit.
    pub(super) quantity: (&'a str, &'a str),
    /// Names of the rows.
    pub(super) names: Vec<&'a str>,
    /// Layers of the rows.
    pub(super) rows: Vec<LayerId>,
    /// Columns.
    pub(super) widths: &'a [NumberFormat],
    /// The value of a cell, if it is known.
    pub(super) value: &'a dyn Fn(LayerId, usize) -> Option<f64>,
    /// How good a value is, from 0 (bad, dark) to 1 (good, light).
    pub(super) goodness: &'a dyn Fn(f64) -> f64,
    /// The value in short, for the cell.
    pub(super) short: &'a dyn Fn(f64) -> String,
    /// A cell's value with its unit and uncertainty, for the tooltip.
    pub(super) long: &'a dyn Fn(LayerId, usize) -> Option<Vec<String>>,
    /// Selected layers.
    pub(super) selection: &'a [LayerId],
    /// The column that the plan uses for a layer, if it is among the columns.
    pub(super) planned: &'a dyn Fn(LayerId) -> Option<usize>,
    /// Ends of the legend: dark, light.
    pub(super) ends: (String, String),
    /// A row to bring into view.
    pub(super) scroll_to: Option<usize>,
}

/// What was done with the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapEvent {
    /// A layer was clicked.
    Select(LayerId),
    /// A cell was double-clicked: the layer shall have the width of this column.
    Choose(LayerId, usize),
}

impl HeatMap<'_> {
    /// Draws the map with its legend; only the rows in view are laid out.
    pub(super) fn show_ui(&self, ui: &mut egui::Ui, id: &'static str) -> Option<MapEvent> {
        self.legend_ui(ui);
        let geometry = Geometry::new(ui.available_width() - 14.0, self.widths.len());
        self.header_ui(ui, &geometry);
        let mut event = None;
        ui.spacing_mut().item_spacing.y = 1.0;
        let mut area = ScrollArea::vertical().id_salt(id).auto_shrink(false);
        if let Some(row) = self.scroll_to {
            let middle = (row as f32 + 0.5) * (ROW + 1.0) - ui.available_height() / 2.0;
            area = area.vertical_scroll_offset(middle.max(0.0));
        }
        area.show_rows(ui, ROW, self.rows.len(), |ui, range| {
            let pointed_layer = pointed(ui);
            for row in range {
                event = self.row_ui(ui, &geometry, row, pointed_layer).or(event);
            }
        });
        event
    }

    fn figure(&self) -> Figure {
        let names = self.names.iter().map(|name| (*name).to_owned());
        let widths = self.widths.iter().map(|width| format::width(*width));
        let (quantity, unit) = self.quantity;
        let cells = self.rows.iter().flat_map(|id| {
            let planned = (self.planned)(*id);
            (0..self.widths.len()).map(move |column| self.cell(*id, column, planned))
        });
        Figure {
            title: self.title.to_owned(),
            note: self.note.clone(),
            content: Content::Map(CellMap {
                rows: Axis::new("layer", "").with_names(names.collect()),
                columns: Axis::new("width", "").with_names(widths.collect()),
                value: Axis::new(quantity, unit),
                cells: cells.collect(),
                ramp: Ramp::Sequential,
                ends: [self.ends.0.clone(), self.ends.1.clone()],
                framed: FRAMED.to_owned(),
            }),
        }
    }

    /// What a cell shows, on the screen and on paper.
    fn cell(&self, id: LayerId, column: usize, planned: Option<usize>) -> Cell {
        let value = (self.value)(id, column);
        Cell {
            value,
            text: value.map(self.short).unwrap_or_default(),
            shade: value.map_or(0.0, self.goodness),
            framed: planned == Some(column),
        }
    }

    fn legend_ui(&self, ui: &mut egui::Ui) {
        ui.horizontal(|ui| {
            let weak = theme::palette(ui).weak;
            let make = || self.figure();
            let menu = MapMenu {
                title: self.title,
                make: &make,
            };
            menu.button_ui(ui);
            ui.label(
                egui::RichText::new(self.ends.0.as_str())
                    .small()
                    .color(weak),
            );
            let (rect, _) = ui.allocate_exact_size(vec2(120.0, 10.0), Sense::hover());
            paint_color_bar(ui.painter(), rect);
            ui.label(
                egui::RichText::new(self.ends.1.as_str())
                    .small()
                    .color(weak),
            );
            let (rect, _) = ui.allocate_exact_size(vec2(16.0, 12.0), Sense::hover());
            let edge = Stroke::new(2.0, ui.visuals().strong_text_color());
            ui.painter().rect_stroke(rect, 2, edge, StrokeKind::Inside);
            ui.label(egui::RichText::new(FRAMED).small().color(weak));
        });
    }

    fn header_ui(&self, ui: &mut egui::Ui, geometry: &Geometry) {
        let (rect, _) = ui.allocate_exact_size(vec2(geometry.width(), ROW), Sense::hover());
        let color = ui.visuals().strong_text_color();
        for (column, width) in self.widths.iter().enumerate() {
            ui.painter().text(
                geometry.cell(rect, column).center(),
                Align2::CENTER_CENTER,
                geometry.title(*width),
                FontId::proportional(12.5),
                color,
            );
        }
    }

    fn row_ui(
        &self,
        ui: &mut egui::Ui,
        geometry: &Geometry,
        row: usize,
        pointed_layer: Option<LayerId>,
    ) -> Option<MapEvent> {
        let (id, name) = (*self.rows.get(row)?, *self.names.get(row)?);
        let (rect, response) = ui.allocate_exact_size(vec2(geometry.width(), ROW), Sense::click());
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, name));
        let pointed = response.hover_pos().and_then(|position| {
            (0..self.widths.len()).find(|c| geometry.cell(rect, *c).contains(position))
        });
        if response.contains_pointer() {
            point_at(ui, id);
        }
        if ui.is_rect_visible(rect) {
            self.paint_row(ui, geometry, rect, id, name, response.hovered());
            if pointed_layer == Some(id) && !response.contains_pointer() {
                paint_pointed(ui, geometry.label(rect));
            }
        }
        let event = if response.double_clicked()
            && let Some(column) = pointed
        {
            Some(MapEvent::Choose(id, column))
        } else if response.clicked() {
            Some(MapEvent::Select(id))
        } else {
            None
        };
        egui::Popup::context_menu(&response).show(|ui| {
            let make = || self.figure();
            let menu = MapMenu {
                title: self.title,
                make: &make,
            };
            menu.items_ui(ui);
        });
        response.on_hover_ui_at_pointer(|ui| self.tooltip_ui(ui, id, name, pointed));
        event
    }

    fn tooltip_ui(&self, ui: &mut egui::Ui, id: LayerId, name: &str, pointed: Option<usize>) {
        ui.strong(name);
        let Some(width) = pointed.and_then(|column| self.widths.get(column)) else {
            ui.label("Click to select the layer");
            return;
        };
        let lines = pointed.and_then(|column| (self.long)(id, column));
        let lines = lines.unwrap_or_else(|| vec!["not measured yet".to_owned()]);
        ui.label(format!("{}: {}", format::width(*width), lines.join("\n")));
        ui.label("Double-click to give the layer this width");
    }

    fn paint_row(
        &self,
        ui: &egui::Ui,
        geometry: &Geometry,
        rect: Rect,
        id: LayerId,
        name: &str,
        hovered: bool,
    ) {
        let palette = theme::palette(ui);
        let painter = ui.painter();
        let selected = self.selection.contains(&id);
        let label = geometry.label(rect);
        if selected {
            painter.rect_filled(label, 2, ui.visuals().selection.bg_fill);
        } else if hovered {
            painter.rect_filled(label, 2, palette.empty_cell);
        }
        let text_color = if selected {
            ui.visuals().selection.stroke.color
        } else {
            ui.visuals().text_color()
        };
        let font = FontId::proportional(12.5);
        painter
            .with_clip_rect(label.shrink2(vec2(2.0, 0.0)).intersect(painter.clip_rect()))
            .text(
                label.left_center() + vec2(4.0, 0.0),
                Align2::LEFT_CENTER,
                shortened(ui, name, &font, label.width() - 8.0),
                font,
                text_color,
            );
        let planned = (self.planned)(id);
        for column in 0..self.widths.len() {
            let cell = geometry.cell(rect, column);
            let shown = self.cell(id, column, planned);
            let ground = match shown.value {
                Some(_) => theme::scale_color(shown.shade),
                None => palette.empty_cell,
            };
            painter.rect_filled(cell, 2, ground);
            if shown.value.is_some() && cell.width() > 26.0 {
                painter.text(
                    cell.center(),
                    Align2::CENTER_CENTER,
                    &shown.text,
                    FontId::proportional(11.5),
                    theme::text_on(ground),
                );
            }
            if shown.framed {
                painter.rect_stroke(
                    cell,
                    2,
                    Stroke::new(2.0, ui.visuals().strong_text_color()),
                    StrokeKind::Inside,
                );
            }
        }
    }
}

/// Where names and cells are.
struct Geometry {
    label_width: f32,
    cell_width: f32,
    columns: usize,
}

impl Geometry {
    fn new(width: f32, columns: usize) -> Self {
        let label_width = (width * 0.32).clamp(90.0, 260.0);
        let cell_width = ((width - label_width) / columns.max(1) as f32).clamp(12.0, 110.0);
        Self {
            label_width,
            cell_width,
            columns,
        }
    }

    fn width(&self) -> f32 {
        self.label_width + self.cell_width * self.columns as f32
    }

    fn label(&self, row: Rect) -> Rect {
        Rect::from_min_size(row.min, vec2(self.label_width - 2.0, row.height()))
    }

    fn cell(&self, row: Rect, column: usize) -> Rect {
        let left = row.left() + self.label_width + self.cell_width * column as f32;
        Rect::from_min_size(
            pos2(left, row.top()),
            vec2(self.cell_width - 1.0, row.height()),
        )
    }

    fn title(&self, width: NumberFormat) -> String {
        if self.cell_width < 44.0 {
            width.to_string()
        } else {
            format::width(width)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_lie_side_by_side_within_the_row() {
        let geometry = Geometry::new(480.0, 7);
        let row = Rect::from_min_size(pos2(10.0, 0.0), vec2(geometry.width(), ROW));
        for column in 0..7 {
            let cell = geometry.cell(row, column);
            assert!(row.contains_rect(cell), "{cell:?}");
            assert!(cell.left() > geometry.label(row).right());
            if column > 0 {
                assert!(cell.left() > geometry.cell(row, column - 1).right());
            }
        }
    }
}
