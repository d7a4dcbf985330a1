//! Laying out a table of coloured cells.

use super::drawing::{Anchor, Drawing, MARGIN, Piece, Rect, TEXT, WIDTH, shortened, text_width};
use super::figure::{Cell, CellMap, Ramp};
use super::paper::{BLACK, EMPTY, GRAY, Rgb, text_on};

/// Height of a row.
const ROW: f64 = 18.0;
/// Height of all rows together at most; more rows are lower.
const MOST_HEIGHT: f64 = 8000.0;
/// Rows lower than this have no text.
const READABLE: f64 = 11.0;
/// Room for the names of rows at most.
const NAMES: f64 = 260.0;
/// Room for upright names of columns at most.
const UPRIGHT_NAMES: f64 = 120.0;

/// Draws the key, names and cells below `top`; returns the height of the whole drawing.
pub(super) fn draw_map(drawing: &mut Drawing, map: &CellMap, top: f64) -> f64 {
    let top = draw_key(drawing, map, top);
    let rows = map.rows.names.len();
    let row_height = ROW.min(MOST_HEIGHT / rows.max(1) as f64);
    let widest = |names: &[String]| {
        names
            .iter()
            .map(|name| text_width(name, TEXT))
            .fold(0.0, f64::max)
    };
    let names = widest(&map.rows.names)
        .max(text_width(&map.rows.text(), TEXT))
        .min(NAMES)
        + 8.0;
    let left = MARGIN + TEXT + 6.0 + names;
    let columns = map.columns.names.len().max(1);
    let width = ((WIDTH - MARGIN - left) / columns as f64).min(90.0);
    let column_name = widest(&map.columns.names);
    let upright = column_name > width - 4.0;
    let header = if upright {
        column_name.min(UPRIGHT_NAMES) + 8.0
    } else {
        TEXT + 8.0
    };
    let grid = Grid {
        corner: [left, top + TEXT + 8.0 + header],
        cell: [width, row_height],
        upright,
    };
    grid.draw_names(drawing, map, top);
    for (row, cells) in map.cells.chunks(columns).take(rows).enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            grid.draw_cell(drawing, map.ramp, cell, [row, column]);
        }
    }
    grid.corner[1] + row_height * rows as f64 + MARGIN
}

/// The ramp with its ends, and what a frame means.
fn draw_key(drawing: &mut Drawing, map: &CellMap, top: f64) -> f64 {
    const STEPS: usize = 48;
    let base = top + TEXT;
    let mut x = MARGIN;
    let write = |drawing: &mut Drawing, x: &mut f64, text: String, color: Rgb| {
        let width = text_width(&text, TEXT);
        drawing.text([*x, base], text, color, Anchor::Start);
        *x += width + 8.0;
    };
    write(drawing, &mut x, map.value.text(), BLACK);
    x += 8.0;
    let [first, last] = &map.ends;
    write(drawing, &mut x, first.clone(), GRAY);
    for step in 0..STEPS {
        let share = (step as f64 + 0.5) / STEPS as f64;
        let shade = match map.ramp {
            Ramp::Sequential => share,
            Ramp::Diverging => 2.0 * share - 1.0,
        };
        let left = x + 120.0 * step as f64 / STEPS as f64;
        let rect = [
            left,
            base - 10.0,
            left + 120.0 / STEPS as f64 + 0.4,
            base + 1.0,
        ];
        drawing.rect(rect, map.ramp.on_paper(shade));
    }
    x += 128.0;
    write(drawing, &mut x, last.clone(), GRAY);
    if map.cells.iter().any(|cell| cell.framed) {
        x += 8.0;
        drawing
            .pieces
            .push(frame([x, base - 10.0, x + 16.0, base + 1.0]));
        x += 22.0;
        write(drawing, &mut x, map.framed.clone(), GRAY);
    }
    base + 10.0
}

fn frame(rect: Rect) -> Piece {
    Piece::Frame {
        rect,
        color: BLACK,
        width: 2.0,
    }
}

/// Where cells are.
struct Grid {
    corner: [f64; 2],
    cell: [f64; 2],
    /// Names of columns are read from below to above.
    upright: bool,
}

impl Grid {
    fn rect(&self, [row, column]: [usize; 2]) -> Rect {
        let [left, top] = self.corner;
        let [width, height] = self.cell;
        let (left, top) = (left + width * column as f64, top + height * row as f64);
        // Rows that are too low for text have no gaps either.
        let gap = if height >= READABLE { 1.0 } else { 0.0 };
        [left, top, left + width - gap, top + height - gap]
    }

    fn draw_names(&self, drawing: &mut Drawing, map: &CellMap, top: f64) {
        let [left, first_row] = self.corner;
        let columns = map.columns.names.len();
        let middle = left + self.cell[0] * columns as f64 / 2.0;
        drawing.text(
            [middle, top + TEXT],
            map.columns.text(),
            BLACK,
            Anchor::Middle,
        );
        let beside = [left - 8.0, first_row - 6.0];
        drawing.text(beside, map.rows.text(), BLACK, Anchor::End);
        for (column, name) in map.columns.names.iter().enumerate() {
            let [left, _, right, _] = self.rect([0, column]);
            let middle = left.midpoint(right);
            drawing.pieces.push(Piece::Text {
                at: if self.upright {
                    [middle + TEXT / 2.0 - 2.0, first_row - 6.0]
                } else {
                    [middle, first_row - 6.0]
                },
                text: shortened(name, TEXT, UPRIGHT_NAMES),
                size: TEXT,
                color: GRAY,
                anchor: if self.upright {
                    Anchor::Start
                } else {
                    Anchor::Middle
                },
                bold: false,
                upright: self.upright,
            });
        }
        if self.cell[1] >= READABLE {
            for (row, name) in map.rows.names.iter().enumerate() {
                let [_, top, _, bottom] = self.rect([row, 0]);
                let at = [left - 8.0, top.midpoint(bottom) + TEXT / 2.0 - 1.5];
                drawing.text(at, shortened(name, TEXT, NAMES), BLACK, Anchor::End);
            }
        }
    }

    fn draw_cell(&self, drawing: &mut Drawing, ramp: Ramp, cell: &Cell, place: [usize; 2]) {
        let rect = self.rect(place);
        let ground = match cell.value {
            Some(_) => ramp.on_paper(cell.shade),
            None => EMPTY,
        };
        drawing.rect(rect, ground);
        let [left, top, right, bottom] = rect;
        let fits = text_width(&cell.text, TEXT - 1.0) <= right - left;
        if !cell.text.is_empty() && fits && self.cell[1] >= READABLE {
            drawing.pieces.push(Piece::Text {
                at: [
                    left.midpoint(right),
                    top.midpoint(bottom) + TEXT / 2.0 - 2.0,
                ],
                text: cell.text.clone(),
                size: TEXT - 1.0,
                color: text_on(ground),
                anchor: Anchor::Middle,
                bold: false,
                upright: false,
            });
        }
        if cell.framed {
            let inner = [left + 1.0, top + 1.0, right - 1.0, bottom - 1.0];
            drawing.pieces.push(frame(inner));
        }
    }
}
