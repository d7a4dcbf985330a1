//! Figures as SVG 1.1: text stays text, the ground is white.

use std::fmt::Write as _;

use super::drawing::{Anchor, Drawing, Piece, WIDTH};
use super::figure::{Figure, Marker};
use super::paper::Rgb;

impl Figure {
    /// The figure as an SVG document, 760 points wide.
    pub fn to_svg(&self) -> String {
        self.to_inline_svg("")
    }

    /// As [`Self::to_svg`], with ids that begin with `prefix`, so that several may stand in one page.
    pub fn to_inline_svg(&self, prefix: &str) -> String {
        let drawing = Drawing::new(self);
        let mut svg = String::new();
        let (width, height) = (number(WIDTH), number(drawing.height));
        put(
            &mut svg,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n<title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
                escaped(&self.title)
            ),
        );
        let mut clips = Clips { prefix, count: 0 };
        for piece in &drawing.pieces {
            write_piece(&mut svg, piece, &mut clips);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Areas that drawings are cut to, by number.
struct Clips<'a> {
    prefix: &'a str,
    count: usize,
}

/// Writing to a string cannot fail.
fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).ok();
}

fn write_piece(svg: &mut String, piece: &Piece, clips: &mut Clips<'_>) {
    match piece {
        Piece::Rect {
            rect,
            fill,
            opacity,
        } => put(
            svg,
            format_args!(
                "<rect {} fill=\"{}\"{}/>\n",
                place(*rect),
                hex(*fill),
                opaque(*opacity)
            ),
        ),
        Piece::Frame { rect, color, width } => put(
            svg,
            format_args!(
                "<rect {} fill=\"none\" stroke=\"{}\" stroke-width=\"{}\"/>\n",
                place(*rect),
                hex(*color),
                number(*width)
            ),
        ),
        Piece::Line {
            points,
            color,
            width,
            dashed,
        } => put(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"{}/>\n",
                list(points),
                hex(*color),
                number(*width),
                if *dashed {
                    " stroke-dasharray=\"6 4\""
                } else {
                    ""
                }
            ),
        ),
        Piece::Area {
            points,
            fill,
            opacity,
        } => put(
            svg,
            format_args!(
                "<polygon points=\"{}\" fill=\"{}\"{}/>\n",
                list(points),
                hex(*fill),
                opaque(*opacity)
            ),
        ),
        Piece::Mark {
            at,
            marker,
            fill,
            radius,
        } => write_mark(svg, *at, *marker, *fill, *radius),
        Piece::Text { .. } => write_text(svg, piece),
        Piece::Clip(rect) => {
            clips.count += 1;
            let id = format!("{}area{}", escaped(clips.prefix), clips.count);
            put(
                svg,
                format_args!(
                    "<clipPath id=\"{id}\"><rect {}/></clipPath>\n<g clip-path=\"url(#{id})\">\n",
                    place(*rect)
                ),
            );
        }
        Piece::EndClip => svg.push_str("</g>\n"),
    }
}

fn write_mark(svg: &mut String, [x, y]: [f64; 2], marker: Marker, fill: Rgb, radius: f64) {
    let fill = hex(fill);
    match marker {
        Marker::Circle => put(
            svg,
            format_args!(
                "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{fill}\"/>\n",
                number(x),
                number(y),
                number(radius)
            ),
        ),
        Marker::Square | Marker::Diamond => put(
            svg,
            format_args!(
                "<polygon points=\"{}\" fill=\"{fill}\"/>\n",
                list(&marker.corners([x, y], radius))
            ),
        ),
    }
}

impl Marker {
    /// Corners of a mark; those of a disc are its ends.
    pub(super) fn corners(self, [x, y]: [f64; 2], radius: f64) -> [[f64; 2]; 4] {
        if self == Self::Square {
            let half = 0.9 * radius;
            return [
                [x - half, y - half],
                [x + half, y - half],
                [x + half, y + half],
                [x - half, y + half],
            ];
        }
        let half = 1.25 * radius;
        [[x, y - half], [x + half, y], [x, y + half], [x - half, y]]
    }
}

fn write_text(svg: &mut String, piece: &Piece) {
    let Piece::Text {
        at: [x, y],
        text,
        size,
        color,
        anchor,
        bold,
        upright,
    } = piece
    else {
        return;
    };
    let (x, y) = (number(*x), number(*y));
    let anchor = match anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let weight = if *bold { " font-weight=\"bold\"" } else { "" };
    let turn = if *upright {
        format!(" transform=\"rotate(-90 {x} {y})\"")
    } else {
        String::new()
    };
    put(
        svg,
        format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\" fill=\"{}\"{anchor}{weight}{turn}>{}</text>\n",
            number(*size),
            hex(*color),
            escaped(text)
        ),
    );
}

/// Text as it may stand in XML; characters that XML 1.0 forbids become a replacement mark.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Two digits after the point are a hundredth of a pixel.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn place([left, top, right, bottom]: [f64; 4]) -> String {
    format!(
        "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
        number(left),
        number(top),
        number((right - left).max(0.0)),
        number((bottom - top).max(0.0))
    )
}

fn list(points: &[[f64; 2]]) -> String {
    let mut text = String::new();
    for [x, y] in points {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&number(*x));
        text.push(',');
        text.push_str(&number(*y));
    }
    text
}

fn hex([red, green, blue]: Rgb) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn opaque(opacity: f64) -> String {
    if opacity < 1.0 {
        format!(" fill-opacity=\"{}\"", number(opacity))
    } else {
        String::new()
    }
}
