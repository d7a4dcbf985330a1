//! Drawing the edges.

use std::sync::Arc;

use egui::epaint::{CubicBezierShape, Mesh};
use egui::{Color32, Painter, Pos2, Rect, Shape, Stroke, pos2, vec2};

use super::camera::View;
use super::layout::{Arrow, Piece};

/// Zoom below which curves are drawn as lines, without arrow heads.
const PLAIN_BELOW: f32 = 0.35;

/// Draws edges as they are seen from a camera.
#[derive(Clone, Copy)]
pub(super) struct EdgePainter<'a> {
    pub(super) painter: &'a Painter,
    pub(super) view: View,
    pub(super) canvas: Rect,
}

impl EdgePainter<'_> {
    /// Draws the pieces that can be seen.
    pub(super) fn paint<'p>(&self, pieces: impl Iterator<Item = &'p Piece>, stroke: Stroke) {
        let seen = self.view.seen(self.canvas);
        let seen = pieces.filter(|piece| {
            let space = Rect::from_two_pos(piece.from, piece.to).expand(4.0);
            seen.intersects(space)
        });
        if self.view.zoom < PLAIN_BELOW {
            self.paint_plain(seen, stroke);
        } else {
            for piece in seen {
                self.paint_curve(piece, stroke);
            }
        }
    }

    /// All as one mesh of thin lines, which thousands can be drawn of.
    fn paint_plain<'p>(&self, pieces: impl Iterator<Item = &'p Piece>, stroke: Stroke) {
        let mut mesh = Mesh::default();
        for piece in pieces {
            let [from, to] = self.ends(piece);
            line(&mut mesh, from, to, stroke);
        }
        if !mesh.is_empty() {
            self.painter.add(Shape::Mesh(Arc::new(mesh)));
        }
    }

    fn ends(&self, piece: &Piece) -> [Pos2; 2] {
        [piece.from, piece.to].map(|end| self.view.to_screen(self.canvas, end))
    }

    fn paint_curve(&self, piece: &Piece, stroke: Stroke) {
        let [from, to] = self.ends(piece);
        if (from.x - to.x).abs() < 0.7 {
            self.painter.line_segment([from, to], stroke);
        } else {
            let bend = vec2(0.0, 0.6 * (to.y - from.y));
            self.painter.add(CubicBezierShape::from_points_stroke(
                [from, from + bend, to - bend, to],
                false,
                Color32::TRANSPARENT,
                stroke,
            ));
        }
        let size = (5.0 * self.view.zoom).clamp(3.0, 7.0) + 0.5 * stroke.width;
        match piece.arrow {
            Arrow::None => {}
            Arrow::End => self.paint_head(to, -size, stroke.color),
            Arrow::Start => self.paint_head(from, size, stroke.color),
        }
    }

    fn paint_head(&self, tip: Pos2, height: f32, color: Color32) {
        let half = 0.6 * height.abs();
        self.painter.add(Shape::convex_polygon(
            vec![tip, tip + vec2(-half, height), tip + vec2(half, height)],
            color,
            Stroke::NONE,
        ));
    }
}

/// Adds a line as two triangles.
fn line(mesh: &mut Mesh, from: Pos2, to: Pos2, stroke: Stroke) {
    let way = to - from;
    if way.length_sq() < 0.01 {
        return;
    }
    let side = way.rot90().normalized() * (0.5 * stroke.width);
    let first = mesh.vertices.len() as u32;
    for corner in [from + side, from - side, to - side, to + side] {
        mesh.colored_vertex(pos2(corner.x, corner.y), stroke.color);
    }
    mesh.add_triangle(first, first + 1, first + 2);
    mesh.add_triangle(first, first + 2, first + 3);
}
