//! A figure laid out on paper: a list of simple pieces that every writer can put down.

use super::figure::{Content, Figure, Marker};
use super::map_drawing::draw_map;
use super::paper::{BLACK, GRAY, Rgb};
use super::plot_drawing::draw_plot;

/// Width of every figure in points.
pub(super) const WIDTH: f64 = 760.0;
/// Room around everything.
pub(super) const MARGIN: f64 = 16.0;
/// Size of ordinary text.
pub(super) const TEXT: f64 = 12.0;
/// Size of the title.
const TITLE: f64 = 16.0;

/// A figure as pieces, in points with the origin at the upper left.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    pub(super) height: f64,
    pub(super) pieces: Vec<Piece>,
}

/// A rectangle: left, top, right, bottom.
pub(super) type Rect = [f64; 4];

/// One piece.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// A filled rectangle.
    Rect { rect: Rect, fill: Rgb, opacity: f64 },
    /// The edge of a rectangle.
    Frame { rect: Rect, color: Rgb, width: f64 },
    /// Lines from point to point.
    Line {
        points: Vec<[f64; 2]>,
        color: Rgb,
        width: f64,
        dashed: bool,
    },
    /// A filled area.
    Area {
        points: Vec<[f64; 2]>,
        fill: Rgb,
        opacity: f64,
    },
    /// A mark.
    Mark {
        at: [f64; 2],
        marker: Marker,
        fill: Rgb,
        radius: f64,
    },
    /// A line of text; `at` is on its base line.
    Text {
        at: [f64; 2],
        text: String,
        size: f64,
        color: Rgb,
        anchor: Anchor,
        bold: bool,
        /// Read from below to above.
        upright: bool,
    },
    /// What follows is seen only in this rectangle.
    Clip(Rect),
    /// What follows is seen everywhere again.
    EndClip,
}

/// Which end of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    /// Lays a figure out.
    pub(super) fn new(figure: &Figure) -> Self {
        let mut drawing = Self::default();
        let mut top = MARGIN + TITLE;
        drawing.pieces.push(Piece::Text {
            at: [MARGIN, top],
            text: shortened(&figure.title, TITLE, WIDTH - 2.0 * MARGIN),
            size: TITLE,
            color: BLACK,
            anchor: Anchor::Start,
            bold: true,
            upright: false,
        });
        if !figure.note.is_empty() {
            top += TEXT + 6.0;
            let note = shortened(&figure.note, TEXT, WIDTH - 2.0 * MARGIN);
            drawing.text([MARGIN, top], note, GRAY, Anchor::Start);
        }
        top += 8.0;
        drawing.height = match &figure.content {
            Content::Plot(plot) => draw_plot(&mut drawing, plot, top),
            Content::Map(map) => draw_map(&mut drawing, map, top),
        };
        drawing
    }

    /// A line of ordinary text.
    pub(super) fn text(&mut self, at: [f64; 2], text: String, color: Rgb, anchor: Anchor) {
        self.pieces.push(Piece::Text {
            at,
            text,
            size: TEXT,
            color,
            anchor,
            bold: false,
            upright: false,
        });
    }

    pub(super) fn rect(&mut self, rect: Rect, fill: Rgb) {
        let opacity = 1.0;
        self.pieces.push(Piece::Rect {
            rect,
            fill,
            opacity,
        });
    }

    pub(super) fn line(&mut self, points: Vec<[f64; 2]>, color: Rgb, width: f64, dashed: bool) {
        self.pieces.push(Piece::Line {
            points,
            color,
            width,
            dashed,
        });
    }
}

/// About how wide a text is; the reader's font is not known.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em = |letter: char| match letter {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.27,
        'f' | 'r' | 't' | ' ' | '(' | ')' | '[' | ']' | '/' | '-' => 0.36,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.87,
        'A'..='Z' | '−' | '+' | '=' => 0.66,
        letter if u32::from(letter) >= 0x2e80 => 1.0,
        _ => 0.56,
    };
    size * text.chars().map(em).sum::<f64>()
}

/// A text that is no wider than this; a longer one loses its beginning, as names share it with others.
pub(super) fn shortened(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let room = width - text_width("…", size);
    let mut used = 0.0;
    let mut start = text.len();
    for (index, letter) in text.char_indices().rev() {
        used += text_width(letter.encode_utf8(&mut [0; 4]), size);
        if used > room {
            break;
        }
        start = index;
    }
    format!("…{}", text.get(start..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_beginning() {
        assert_eq!(shortened("conv1", 12.0, 100.0), "conv1");
        let short = shortened("/model/layer1/layer1.0/conv1/Conv", 12.0, 100.0);
        assert!(
            short.starts_with('…') && short.ends_with("conv1/Conv"),
            "{short}"
        );
        assert!(text_width(&short, 12.0) <= 100.0);
        assert_eq!(shortened("abc", 12.0, 0.0), "…");
    }
}
