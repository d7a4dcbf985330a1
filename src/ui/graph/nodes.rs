//! Drawing the boxes: nodes, blocks and frames.

use std::sync::Arc;

use egui::epaint::Mesh;
use egui::{
    Align2, Color32, CornerRadius, FontId, Painter, Pos2, Rect, Shape, Stroke, StrokeKind, Vec2,
    pos2, vec2,
};

use super::camera::View;
use super::scene::{Item, ItemKind};
use crate::ui::panels::shortened;
use crate::ui::theme;

/// Sizes of the two lines at a zoom of 1, and the smallest and largest that are drawn.
const NAME_SIZE: f32 = 13.0;
const DETAIL_SIZE: f32 = 11.0;
const READABLE: f32 = 8.0;
const LARGEST: f32 = 22.0;
/// Height of a box on the screen below which it is a coloured spot.
const SPOT: f32 = 9.0;
/// Width that a mark in front of the name of a block takes, at a zoom of 1.
pub(super) const MARK: f32 = 18.0;

/// Draws boxes as they are seen from a camera.
#[derive(Clone, Copy)]
pub(super) struct NodePainter<'a> {
    pub(super) ui: &'a egui::Ui,
    pub(super) painter: &'a Painter,
    pub(super) view: View,
    pub(super) canvas: Rect,
}

/// How a box is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attention {
    pub(super) selected: bool,
    pub(super) hovered: bool,
}

impl NodePainter<'_> {
    pub(super) fn on_screen(&self, item: &Item) -> Rect {
        self.view.rect_to_screen(self.canvas, item.rect)
    }

    /// Whether a box is large enough to be read and pointed at by itself.
    pub(super) fn is_readable(&self, item: &Item) -> bool {
        item.rect.height() * self.view.zoom >= SPOT
    }

    /// Many boxes at once, as spots without text.
    pub(super) fn paint_spots<'i>(&self, items: impl Iterator<Item = (&'i Item, Color32)>) {
        let mut mesh = Mesh::default();
        for (item, fill) in items {
            let rect = self.on_screen(item);
            let size = rect.size().max(vec2(2.0, 1.0));
            mesh.add_colored_rect(Rect::from_center_size(rect.center(), size), fill);
        }
        if !mesh.is_empty() {
            self.painter.add(Shape::Mesh(Arc::new(mesh)));
        }
    }

    /// The frame of an open block, without its head.
    pub(super) fn paint_frame(&self, item: &Item, depth: usize) {
        let visuals = self.ui.visuals();
        let fill = if depth.is_multiple_of(2) {
            visuals.faint_bg_color
        } else {
            visuals.panel_fill
        };
        let edge = Stroke::new(1.0, theme::palette(self.ui).card_edge);
        let rect = self.on_screen(item);
        self.painter
            .rect(rect, self.radius(8.0), fill, edge, StrokeKind::Inside);
    }

    /// A box with its text.
    pub(super) fn paint_box(
        &self,
        item: &Item,
        fill: Color32,
        attention: Attention,
        detail: Option<&str>,
    ) {
        let rect = self.on_screen(item);
        let edge = Stroke::new(1.0, theme::palette(self.ui).weak);
        let round = match item.kind {
            ItemKind::Input(_) | ItemKind::Output(_) => self.radius(12.0),
            _ => self.radius(5.0),
        };
        if matches!(item.kind, ItemKind::Block(_)) {
            // A second sheet below says that there is more in it.
            let below = rect.translate(Vec2::splat(3.0 * self.view.zoom.min(1.0)));
            self.painter
                .rect(below, round, fill, edge, StrokeKind::Inside);
        }
        self.painter
            .rect(rect, round, fill, edge, StrokeKind::Inside);
        self.paint_attention(rect, round, attention);
        self.paint_text(item, rect, theme::text_on(fill), detail);
    }

    /// A ring around what is selected or pointed at.
    pub(super) fn paint_attention(&self, rect: Rect, round: CornerRadius, attention: Attention) {
        let strong = self.ui.visuals().strong_text_color();
        if attention.selected {
            let accent = theme::palette(self.ui).accent;
            let ring = Stroke::new(3.0, accent);
            self.painter
                .rect_stroke(rect.expand(1.0), round, ring, StrokeKind::Outside);
        } else if attention.hovered {
            let ring = Stroke::new(1.5, strong);
            self.painter
                .rect_stroke(rect, round, ring, StrokeKind::Outside);
        }
    }

    fn radius(&self, radius: f32) -> CornerRadius {
        CornerRadius::same((radius * self.view.zoom.min(1.0)).round() as u8)
    }

    fn paint_text(&self, item: &Item, rect: Rect, color: Color32, detail: Option<&str>) {
        let zoom = self.view.zoom;
        let detail = detail.filter(|_| font_size(DETAIL_SIZE * zoom) >= READABLE);
        let room = rect.height() - 2.0;
        let name_size = font_size(NAME_SIZE * zoom).clamp(READABLE, LARGEST);
        if name_size + 1.0 > room {
            return;
        }
        let mark = if matches!(item.kind, ItemKind::Block(_)) {
            MARK * zoom
        } else {
            0.0
        };
        let text = Rect::from_min_max(pos2(rect.left() + mark, rect.top()), rect.max);
        let at = |share: f32| pos2(text.center().x, rect.top() + share * rect.height());
        self.line(
            &item.label,
            name_size,
            text,
            at(if detail.is_some() { 0.32 } else { 0.5 }),
            color,
        );
        if let Some(detail) = detail {
            let size = font_size(DETAIL_SIZE * zoom).min(LARGEST);
            self.line(detail, size, text, at(0.72), color);
        }
    }

    fn line(&self, text: &str, size: f32, within: Rect, center: Pos2, color: Color32) {
        let font = FontId::proportional(size);
        let text = shortened(self.ui, text, &font, within.width() - 8.0);
        self.painter
            .text(center, Align2::CENTER_CENTER, text, font, color);
    }

    /// The mark that opens (pointing right) or collapses (pointing down) a block.
    pub(super) fn paint_mark(painter: &Painter, rect: Rect, is_open: bool, color: Color32) {
        let size = 0.28 * rect.height().min(18.0);
        let corners = if is_open {
            [vec2(-1.0, -0.6), vec2(1.0, -0.6), vec2(0.0, 0.8)]
        } else {
            [vec2(-0.6, -1.0), vec2(0.8, 0.0), vec2(-0.6, 1.0)]
        };
        let corners = corners.map(|corner| rect.center() + corner * size);
        painter.add(Shape::convex_polygon(corners.to_vec(), color, Stroke::NONE));
    }
}

/// Sizes in steps of half a point, so that letters are drawn in few sizes while the picture is zoomed.
fn font_size(size: f32) -> f32 {
    (size * 2.0).floor() / 2.0
}
