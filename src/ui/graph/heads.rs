//! The heads of open blocks: their names, which collapse them.

use egui::{Align2, FontId, Id, Rect, Role, Sense, Stroke, StrokeKind, WidgetInfo, pos2, vec2};

use super::camera::View;
use super::nodes::NodePainter;
use super::scene::{HEADER, ItemKind, Scene};
use super::{Drawing, Request};
use crate::ui::panels::shortened;
use crate::ui::theme;

/// Size of the letters, and of what is around them.
const LETTERS: std::ops::RangeInclusive<f32> = 10.5..=15.0;
const MARK: f32 = 16.0;
/// Smallest frame on the screen that has a head.
const LEAST: egui::Vec2 = vec2(48.0, 34.0);

/// A head that is shown.
struct Head {
    block: usize,
    item: usize,
    rect: Rect,
    letters: f32,
}

/// The heads of the frames in view; a head stays in view as long as its frame does.
pub(super) fn heads_ui(
    ui: &mut egui::Ui,
    drawing: &Drawing,
    canvas: Rect,
    view: View,
    requests: &mut Vec<Request>,
) {
    for head in heads(&drawing.scene, canvas, view) {
        let Some(item) = drawing.scene.items.get(head.item) else {
            continue;
        };
        let font = FontId::proportional(head.letters);
        let text = shortened(ui, &item.label, &font, head.rect.width() - MARK - 6.0);
        let color = ui.visuals().text_color();
        let galley = ui.painter().layout_no_wrap(text, font, color);
        let mut rect = head.rect;
        rect.set_width((galley.size().x + MARK + 8.0).min(rect.width()));
        let response = ui.interact(
            rect.intersect(ui.clip_rect()),
            Id::unique(("collapse block", head.block)),
            Sense::click(),
        );
        response.widget_info(|| {
            WidgetInfo::labeled(Role::Button, true, format!("Collapse {}", item.label))
        });
        let palette = theme::palette(ui);
        let edge = if response.hovered() || response.has_focus() {
            Stroke::new(1.5, palette.accent)
        } else {
            Stroke::new(1.0, palette.card_edge)
        };
        ui.painter()
            .rect(rect, 4, palette.card, edge, StrokeKind::Inside);
        let nodes = NodePainter {
            ui,
            painter: ui.painter(),
            view,
            canvas,
        };
        let mark = Rect::from_min_size(rect.min, vec2(MARK, rect.height()));
        nodes.paint_mark(mark, true, color);
        let place = Align2::LEFT_CENTER
            .anchor_size(pos2(rect.left() + MARK, rect.center().y), galley.size());
        ui.painter().galley(place.min, galley, color);
        let name = drawing
            .blocks
            .get(head.block)
            .map_or("", |block| &block.name);
        let clicked = response
            .on_hover_text(format!(
                "{name}\n{} layers. Click to collapse the block into one box",
                item.layers.len()
            ))
            .clicked();
        if clicked {
            requests.push(Request::Toggle(head.block));
        }
    }
}

/// Where heads have room: below that of the block around, and not over one another.
fn heads(scene: &Scene, canvas: Rect, view: View) -> Vec<Head> {
    let letters = (12.5 * view.zoom).clamp(*LETTERS.start(), *LETTERS.end());
    let letters = (letters * 2.0).floor() / 2.0;
    let height = (HEADER * view.zoom - 4.0).clamp(letters + 5.0, 26.0);
    let mut shown: Vec<Head> = Vec::new();
    // For each item the height below which the heads of its blocks have room.
    let mut free_below: Vec<f32> = Vec::with_capacity(scene.items.len());
    for (index, item) in scene.items.iter().enumerate() {
        let around = item
            .parent
            .and_then(|parent| free_below.get(parent as usize));
        let least = around.copied().unwrap_or(canvas.top() + 2.0);
        free_below.push(least);
        let ItemKind::Frame(block) = item.kind else {
            continue;
        };
        let frame = view.rect_to_screen(canvas, item.rect);
        if !frame.intersects(canvas) || frame.width() < LEAST.x || frame.height() < LEAST.y {
            continue;
        }
        let top = (frame.top() + 2.0).max(least);
        let left = (frame.left() + 2.0).max(canvas.left() + 2.0);
        let rect = Rect::from_min_max(
            pos2(left, top),
            pos2(frame.right().min(canvas.right()) - 2.0, top + height),
        );
        // Nested frames that are seen from afar have no room for more than the outer head.
        let is_crowded = item.parent.is_some() && top > frame.top() + 2.0 + height;
        let sticks = frame.top() < canvas.top();
        if rect.width() < LEAST.x || rect.bottom() > frame.bottom() - 2.0 || (is_crowded && !sticks)
        {
            continue;
        }
        if let Some(free) = free_below.last_mut() {
            *free = rect.bottom() + 1.0;
        }
        shown.push(Head {
            block,
            item: index,
            rect,
            letters,
        });
    }
    shown
}
