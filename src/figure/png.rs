//! Figures as PNG pictures, drawn from the same pieces as SVG.

use std::io::Cursor;

use ab_glyph::{Font as _, FontRef, OutlineCurve, Point};
use tiny_skia::{
    Color, FillRule, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, Stroke, StrokeDash,
    Transform,
};

use super::drawing::{Anchor, Drawing, Piece, Rect, WIDTH};
use super::figure::{Figure, Marker};
use super::paper::Rgb;

/// Pixels for a point: sharp on paper and on fine screens.
const PIXELS: f32 = 2.0;

/// The figure could not be made into a picture.
#[derive(Debug, thiserror::Error)]
#[error("the figure cannot be drawn as a picture: {0}. Save it as SVG instead")]
pub struct PngError(String);

impl PngError {
    fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl Figure {
    /// The figure as a PNG file, 1520 pixels wide.
    ///
    /// # Errors
    /// There is no memory for the picture.
    pub fn to_png(&self) -> Result<Vec<u8>, PngError> {
        let drawing = Drawing::new(self);
        let size = |points: f64| (points * f64::from(PIXELS)).ceil() as u32;
        let pixmap = Pixmap::new(size(WIDTH), size(drawing.height))
            .ok_or_else(|| PngError::new("it is too large"))?;
        let font =
            FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).map_err(PngError::new)?;
        let mut canvas = Canvas {
            pixmap,
            font,
            clip: None,
            scale: Transform::from_scale(PIXELS, PIXELS),
        };
        canvas.pixmap.fill(Color::WHITE);
        for piece in &drawing.pieces {
            canvas.draw(piece);
        }
        encode(&canvas.pixmap)
    }
}

/// The ground is opaque, so that colours are not premultiplied by anything.
fn encode(pixmap: &Pixmap) -> Result<Vec<u8>, PngError> {
    let rgb = pixmap
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    let picture = image::RgbImage::from_raw(pixmap.width(), pixmap.height(), rgb)
        .ok_or_else(|| PngError::new("its pixels do not fill it"))?;
    let mut file = Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .map_err(PngError::new)?;
    Ok(file.into_inner())
}

struct Canvas<'a> {
    pixmap: Pixmap,
    font: FontRef<'a>,
    clip: Option<Mask>,
    scale: Transform,
}

impl Canvas<'_> {
    fn draw(&mut self, piece: &Piece) {
        match piece {
            Piece::Rect {
                rect,
                fill,
                opacity,
            } => self.fill(path_of_rect(*rect), *fill, *opacity),
            Piece::Frame { rect, color, width } => {
                self.stroke(path_of_rect(*rect), *color, *width, false);
            }
            Piece::Line {
                points,
                color,
                width,
                dashed,
            } => self.stroke(path_of_points(points, false), *color, *width, *dashed),
            Piece::Area {
                points,
                fill,
                opacity,
            } => self.fill(path_of_points(points, true), *fill, *opacity),
            Piece::Mark {
                at,
                marker,
                fill,
                radius,
            } => {
                let path = match marker {
                    Marker::Circle => {
                        PathBuilder::from_circle(at[0] as f32, at[1] as f32, *radius as f32)
                    }
                    _ => path_of_points(&marker.corners(*at, *radius), true),
                };
                self.fill(path, *fill, 1.0);
            }
            Piece::Text { .. } => self.text(piece),
            Piece::Clip(rect) => {
                self.clip = Mask::new(self.pixmap.width(), self.pixmap.height());
                if let (Some(mask), Some(path)) = (&mut self.clip, path_of_rect(*rect)) {
                    mask.fill_path(&path, FillRule::Winding, true, self.scale);
                }
            }
            Piece::EndClip => self.clip = None,
        }
    }

    fn fill(&mut self, path: Option<Path>, color: Rgb, opacity: f64) {
        if let Some(path) = path {
            let paint = paint(color, opacity);
            let clip = self.clip.as_ref();
            self.pixmap
                .fill_path(&path, &paint, FillRule::Winding, self.scale, clip);
        }
    }

    fn stroke(&mut self, path: Option<Path>, color: Rgb, width: f64, dashed: bool) {
        if let Some(path) = path {
            let stroke = Stroke {
                width: width as f32,
                line_join: LineJoin::Round,
                dash: dashed
                    .then(|| StrokeDash::new(vec![6.0, 4.0], 0.0))
                    .flatten(),
                ..Stroke::default()
            };
            let clip = self.clip.as_ref();
            self.pixmap
                .stroke_path(&path, &paint(color, 1.0), &stroke, self.scale, clip);
        }
    }

    fn text(&mut self, piece: &Piece) {
        let Piece::Text {
            at,
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
        let unit = *size as f32 / self.font.units_per_em().unwrap_or(1000.0);
        let (outline, width) = self.outline(text, unit);
        let left = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => -width / 2.0,
            Anchor::End => -width,
        };
        let turn = if *upright {
            Transform::from_rotate(-90.0)
        } else {
            Transform::identity()
        };
        let placed = Transform::from_translate(left, 0.0)
            .post_concat(turn)
            .post_translate(at[0] as f32, at[1] as f32);
        let path = outline.and_then(|path| path.transform(placed));
        if *bold {
            // The font has one weight; a line around its letters makes them heavier.
            self.stroke(path.clone(), *color, 0.05 * size, false);
        }
        self.fill(path, *color, 1.0);
    }

    /// Letters of a text from the origin on, and how far they reach.
    fn outline(&self, text: &str, unit: f32) -> (Option<Path>, f32) {
        let mut path = PathBuilder::new();
        let mut x = 0.0;
        let mut last = None;
        for letter in text.chars() {
            let glyph = self.font.glyph_id(letter);
            if let Some(last) = last {
                x += unit * self.font.kern_unscaled(last, glyph);
            }
            if let Some(outline) = self.font.outline(glyph) {
                add_curves(&mut path, &outline.curves, |point| {
                    (x + unit * point.x, -unit * point.y)
                });
            }
            x += unit * self.font.h_advance_unscaled(glyph);
            last = Some(glyph);
        }
        (path.finish(), x)
    }
}

/// Adds closed curves; each begins where the last one does not end.
fn add_curves(
    path: &mut PathBuilder,
    curves: &[OutlineCurve],
    place: impl Fn(Point) -> (f32, f32),
) {
    let mut end = None;
    for curve in curves {
        let (from, to) = match curve {
            OutlineCurve::Line(from, to)
            | OutlineCurve::Quad(from, _, to)
            | OutlineCurve::Cubic(from, _, _, to) => (*from, *to),
        };
        if end != Some(from) {
            if end.is_some() {
                path.close();
            }
            let (x, y) = place(from);
            path.move_to(x, y);
        }
        let (x, y) = place(to);
        match curve {
            OutlineCurve::Line(..) => path.line_to(x, y),
            OutlineCurve::Quad(_, control, _) => {
                let (cx, cy) = place(*control);
                path.quad_to(cx, cy, x, y);
            }
            OutlineCurve::Cubic(_, first, second, _) => {
                let ((ax, ay), (bx, by)) = (place(*first), place(*second));
                path.cubic_to(ax, ay, bx, by, x, y);
            }
        }
        end = Some(to);
    }
    if end.is_some() {
        path.close();
    }
}

fn paint([red, green, blue]: Rgb, opacity: f64) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, (255.0 * opacity).round() as u8);
    paint
}

fn path_of_rect([left, top, right, bottom]: Rect) -> Option<Path> {
    tiny_skia::Rect::from_ltrb(left as f32, top as f32, right as f32, bottom as f32)
        .map(PathBuilder::from_rect)
}

fn path_of_points(points: &[[f64; 2]], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (index, [x, y]) in points.iter().enumerate() {
        if index == 0 {
            path.move_to(*x as f32, *y as f32);
        } else {
            path.line_to(*x as f32, *y as f32);
        }
    }
    if closed {
        path.close();
    }
    path.finish()
}
