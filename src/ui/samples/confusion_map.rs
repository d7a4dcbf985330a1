//! The confusion matrices as a map: label by prediction, with names that stay in view.

use std::ops::Range;

use egui::{
    Align2, Color32, FontId, Rect, ScrollArea, Sense, Stroke, StrokeKind, Vec2, pos2, vec2,
};

use super::confusion::Confusion;
use super::filters::{class_count, class_name};
use super::marks::cut;
use super::rows::{Cell, Filter, Table};
use super::{SamplesView, Section};
use crate::figure::{self, Axis, CellMap, Content, Figure, Ramp};
use crate::session::Session;
use crate::ui::plots::MapMenu;
use crate::ui::theme;

/// Width of the names of the rows in points.
const NAMES: f32 = 118.0;
/// Height of the names of the columns.
const HEADER: f32 = 96.0;
/// Least side of a cell.
const LEAST_CELL: f32 = 17.0;

/// Choice of the matrix, and its map; a click on a cell shows its samples.
pub(super) fn confusion_ui(ui: &mut egui::Ui, session: &Session, view: &mut SamplesView) {
    let classes = class_count(session, view);
    let generation = view.rows.generation();
    let mut confusion = std::mem::take(&mut view.confusion);
    confusion.follow(view.rows.all(), generation, classes);
    table_choice_ui(ui, view);
    let names = view.pair.words();
    let shown = confusion.classes(view.table);
    if shown.is_empty() {
        ui.label(match view.table {
            Table::Difference => "Both take the same classes for one another",
            Table::First | Table::Second => "No class is taken for another one",
        });
    } else {
        let map = Map {
            session,
            confusion: &confusion,
            table: view.table,
            names,
            geometry: Geometry::new(ui.available_width(), shown.len()),
        };
        let make = || map.figure();
        let menu = MapMenu {
            title: map.title(),
            make: &make,
        };
        ui.horizontal_wrapped(|ui| {
            menu.button_ui(ui);
            explanation_ui(ui, &confusion, view.table, names);
        });
        if let Some(cell) = map.show_ui(ui) {
            view.choice.cell = Some(cell);
            view.choice.filter = Filter::All;
            view.choice.class = None;
            view.section = Section::Pictures;
        }
    }
    view.confusion = confusion;
}

fn table_choice_ui(ui: &mut egui::Ui, view: &mut SamplesView) {
    let [first, second] = view.pair.words();
    ui.horizontal_wrapped(|ui| {
        for (table, text) in [
            (Table::Difference, format!("{second} − {first}")),
            (Table::First, format!("{first} alone")),
            (Table::Second, format!("{second} alone")),
        ] {
            ui.selectable_value(&mut view.table, table, text);
        }
    });
}

fn explanation_ui(ui: &mut egui::Ui, confusion: &Confusion, table: Table, names: [&str; 2]) {
    let [first, second] = names;
    let what = match table {
        Table::Difference => format!(
            "Rows are labels, columns predictions. A number is how many more (+) or fewer (−) samples {second} puts there than {first}"
        ),
        Table::First | Table::Second => {
            "Rows are labels, columns predictions; the colour is the share of the row".to_owned()
        }
    };
    let shown = confusion.classes(table).len();
    let some = if shown < confusion.class_count {
        format!(
            ". Of {} classes, the {shown} that this concerns are shown",
            confusion.class_count
        )
    } else {
        String::new()
    };
    let weak = theme::palette(ui).weak;
    ui.label(egui::RichText::new(format!("{what}{some}")).color(weak));
}

/// Where names and cells are, relative to the content's corner.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    cell: Vec2,
    count: usize,
}

impl Geometry {
    fn new(width: f32, count: usize) -> Self {
        let side = (width - NAMES - 16.0) / count.max(1) as f32;
        Self {
            cell: vec2(side.clamp(LEAST_CELL, 64.0), side.clamp(LEAST_CELL, 32.0)),
            count,
        }
    }

    fn size(&self) -> Vec2 {
        vec2(NAMES, HEADER) + self.cell * self.count as f32
    }

    fn rect(&self, row: usize, column: usize) -> Rect {
        let corner = pos2(NAMES, HEADER) + self.cell * vec2(column as f32, row as f32);
        Rect::from_min_size(corner, self.cell - vec2(1.0, 1.0))
    }

    /// Rows and columns that a part of the content touches.
    fn in_view(&self, part: Rect) -> (Range<usize>, Range<usize>) {
        let range = |low: f32, high: f32, names: f32, cell: f32| {
            // The names that stay in view cover as much as they are wide.
            let first = (low / cell).floor().max(0.0) as usize;
            let end = ((high - names) / cell).ceil().max(0.0) as usize;
            first.min(self.count)..end.min(self.count)
        };
        (
            range(part.top(), part.bottom(), HEADER, self.cell.y),
            range(part.left(), part.right(), NAMES, self.cell.x),
        )
    }
}

struct Map<'a> {
    session: &'a Session,
    confusion: &'a Confusion,
    table: Table,
    names: [&'static str; 2],
    geometry: Geometry,
}

impl Map<'_> {
    /// Draws the part in view; the cell that was clicked.
    fn show_ui(&self, ui: &mut egui::Ui) -> Option<Cell> {
        let mut clicked = None;
        ScrollArea::both()
            .id_salt("confusion matrix")
            .auto_shrink(false)
            .show_viewport(ui, |ui, viewport| {
                let size = self.geometry.size();
                ui.set_width(size.x);
                ui.set_height(size.y);
                let origin = ui.max_rect().min.to_vec2();
                let corner = viewport.min + origin;
                let (rows, columns) = self.geometry.in_view(viewport);
                for row in rows.clone() {
                    for column in columns.clone() {
                        let rect = self.geometry.rect(row, column).translate(origin);
                        let covered = rect.center().x < corner.x + NAMES
                            || rect.center().y < corner.y + HEADER;
                        if !covered {
                            clicked = self.cell_ui(ui, rect, row, column).or(clicked);
                        }
                    }
                }
                self.row_names_ui(ui, origin, corner, rows);
                self.column_names_ui(ui, origin, corner, columns);
            });
        clicked
    }

    fn class(&self, place: usize) -> u32 {
        self.confusion
            .classes(self.table)
            .get(place)
            .copied()
            .unwrap_or(0)
    }

    fn name(&self, place: usize) -> String {
        class_name(self.session, self.class(place))
    }

    fn cell_ui(&self, ui: &mut egui::Ui, rect: Rect, row: usize, column: usize) -> Option<Cell> {
        let (label, predicted) = (self.class(row), self.class(column));
        let [first, second] = self.confusion.count(label, predicted);
        let (text, ground) = self.looks(ui, label, [first, second]);
        let painter = ui.painter();
        painter.rect_filled(rect, 2, ground);
        if row == column {
            let edge = Stroke::new(1.0, theme::palette(ui).weak);
            painter.rect_stroke(rect, 2, edge, StrokeKind::Inside);
        }
        if first == 0 && second == 0 {
            return None;
        }
        painter.text(
            rect.center(),
            Align2::CENTER_CENTER,
            &text,
            FontId::proportional(if rect.width() < 22.0 { 9.5 } else { 11.5 }),
            theme::text_on(ground),
        );
        let id = ui.unique_id().with((label, predicted));
        let response = ui.interact(rect, id, Sense::click());
        let [first_name, second_name] = self.names;
        let (label_name, predicted_name) = (self.name(row), self.name(column));
        let name = format!(
            "{label_name} as {predicted_name}: {first_name} {first}, {second_name} {second}"
        );
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, &name));
        if response.hovered() {
            let edge = Stroke::new(2.0, ui.visuals().strong_text_color());
            ui.painter().rect_stroke(rect, 2, edge, StrokeKind::Inside);
        }
        let clicked = response.clicked();
        response.on_hover_ui_at_pointer(|ui| {
            ui.strong(format!("{label_name} taken for {predicted_name}"));
            let [of_first, of_second] = self.confusion.labelled(label);
            ui.label(format!("{first_name}: {first} of {of_first}"));
            ui.label(format!("{second_name}: {second} of {of_second}"));
            ui.label(format!("difference {}", signed(first, second)));
            ui.label("Click to see these samples");
        });
        clicked.then_some(Cell {
            table: self.table,
            label,
            predicted,
        })
    }

    /// Text and ground of a cell.
    fn looks(&self, ui: &egui::Ui, label: u32, counts: [u32; 2]) -> (String, Color32) {
        let palette = theme::palette(ui);
        let cell = self.cell(label, counts);
        let ground = match self.table {
            Table::Difference => theme::difference_color(palette, cell.shade),
            _ if cell.shade.is_nan() => palette.empty_cell,
            _ => theme::scale_color(cell.shade),
        };
        (cell.text, ground)
    }

    /// What a cell shows, on the screen and on paper.
    fn cell(&self, label: u32, [first, second]: [u32; 2]) -> figure::Cell {
        let [of_first, of_second] = self.confusion.labelled(label);
        let (count, of) = match self.table {
            Table::First => (first, of_first),
            Table::Second => (second, of_second),
            Table::Difference => {
                let difference = f64::from(second) - f64::from(first);
                return figure::Cell {
                    value: Some(difference),
                    text: if difference == 0.0 {
                        "0".to_owned()
                    } else {
                        signed(first, second)
                    },
                    // A tenth of the row is much.
                    shade: 10.0 * difference / f64::from(of_first.max(1)),
                    framed: false,
                };
            }
        };
        figure::Cell {
            value: Some(f64::from(count)),
            text: count.to_string(),
            // None is no place on the scale.
            shade: match count {
                0 => f64::NAN,
                _ => f64::from(count) / f64::from(of.max(1)),
            },
            framed: false,
        }
    }

    fn title(&self) -> &'static str {
        match self.table {
            Table::First | Table::Second => "Confusion matrix",
            Table::Difference => "Difference of confusion matrices",
        }
    }

    fn figure(&self) -> Figure {
        let classes = self.confusion.classes(self.table);
        let axis = |label: &str| {
            let names = classes.iter().map(|class| class_name(self.session, *class));
            Axis::new(label, "").with_names(names.collect())
        };
        let cells = classes.iter().flat_map(|label| {
            classes.iter().map(|predicted| {
                let counts = self.confusion.count(*label, *predicted);
                let mut cell = self.cell(*label, counts);
                if counts == [0, 0] {
                    cell.text.clear();
                }
                cell
            })
        });
        let [first, second] = self.names;
        let (note, ramp, ends) = match self.table {
            Table::First => (
                first.to_owned(),
                Ramp::Sequential,
                ["none of the row", "all"],
            ),
            Table::Second => (
                second.to_owned(),
                Ramp::Sequential,
                ["none of the row", "all"],
            ),
            Table::Difference => (
                format!("{second} − {first}"),
                Ramp::Diverging,
                ["fewer", "more"],
            ),
        };
        Figure {
            title: self.title().to_owned(),
            note,
            content: Content::Map(CellMap {
                rows: axis("label"),
                columns: axis("prediction"),
                value: Axis::new("samples", ""),
                cells: cells.collect(),
                ramp,
                ends: ends.map(str::to_owned),
                framed: String::new(),
            }),
        }
    }

    fn row_names_ui(&self, ui: &egui::Ui, origin: Vec2, corner: egui::Pos2, rows: Range<usize>) {
        let ground = ui.visuals().panel_fill;
        let color = ui.visuals().text_color();
        let strip = Rect::from_min_size(corner, vec2(NAMES - 1.0, self.geometry.size().y));
        let painter = ui.painter().with_clip_rect(strip.intersect(ui.clip_rect()));
        painter.rect_filled(strip, 0, ground);
        for row in rows {
            let cell = self.geometry.rect(row, 0).translate(origin);
            let font = FontId::proportional(12.5);
            let galley = cut(&painter, &self.name(row), font, color, NAMES - 10.0);
            let at = pos2(
                corner.x + NAMES - 6.0 - galley.size().x,
                cell.center().y - galley.size().y / 2.0,
            );
            painter.galley(at, galley, color);
        }
    }

    /// Names that are read from below to above.
    fn column_names_ui(
        &self,
        ui: &egui::Ui,
        origin: Vec2,
        corner: egui::Pos2,
        columns: Range<usize>,
    ) {
        let ground = ui.visuals().panel_fill;
        let color = ui.visuals().text_color();
        let weak = theme::palette(ui).weak;
        let strip = Rect::from_min_size(corner, vec2(self.geometry.size().x, HEADER - 1.0));
        let painter = ui.painter().with_clip_rect(strip.intersect(ui.clip_rect()));
        painter.rect_filled(strip, 0, ground);
        let beside_corner = Rect::from_min_max(pos2(corner.x + NAMES, strip.top()), strip.max);
        let inner = painter.with_clip_rect(beside_corner.intersect(painter.clip_rect()));
        for column in columns {
            let cell = self.geometry.rect(0, column).translate(origin);
            let font = FontId::proportional(12.5);
            let galley = cut(&inner, &self.name(column), font, color, HEADER - 12.0);
            let at = pos2(
                cell.center().x - galley.size().y / 2.0,
                corner.y + HEADER - 6.0,
            );
            let text = egui::epaint::TextShape::new(at, galley, color)
                .with_angle(-std::f32::consts::FRAC_PI_2);
            inner.add(text);
        }
        let small = FontId::proportional(11.0);
        for (at, anchor, text) in [
            (vec2(NAMES - 6.0, 4.0), Align2::RIGHT_TOP, "prediction"),
            (vec2(4.0, HEADER - 6.0), Align2::LEFT_BOTTOM, "label"),
        ] {
            painter.text(corner + at, anchor, text, small.clone(), weak);
        }
    }
}

/// The second count minus the first, with its sign.
fn signed(first: u32, second: u32) -> String {
    let difference = i64::from(second) - i64::from(first);
    match difference {
        0 => "±0".to_owned(),
        1.. => format!("+{difference}"),
        _ => format!("−{}", -difference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_beside_the_names_are_in_view() {
        let geometry = Geometry::new(600.0, 100);
        let part = Rect::from_min_size(pos2(170.0, 340.0), vec2(NAMES + 85.0, HEADER + 51.0));
        let (rows, columns) = geometry.in_view(part);
        assert_eq!((rows, columns), (20..23, 10..15));
        for (row, column) in [(20, 10), (22, 14)] {
            let cell = geometry.rect(row, column);
            assert!(cell.right() > part.left() + NAMES && cell.left() < part.right());
            assert!(cell.bottom() > part.top() + HEADER && cell.top() < part.bottom());
        }
    }

    #[test]
    fn differences_carry_their_sign() {
        let shown = [(3, 5), (5, 3), (4, 4)].map(|(first, second)| signed(first, second));
        assert_eq!(shown, ["+2", "−2", "±0"]);
    }
}
