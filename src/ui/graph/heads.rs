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
/// Height of the row of blocks whose heads are above the canvas, and the largest width of one of them.
const ROW: f32 = 24.0;
const ROW_ENTRY: f32 = 150.0;

/// A head that is shown.
struct Head {
    block: usize,
    layers: usize,
    /// Where it has room.
    rect: Rect,
    letters: f32,
}

/// The heads of the frames in view, and a row of those that are above it.
pub(super) fn heads_ui(
    ui: &mut egui::Ui,
    drawing: &Drawing,
    canvas: Rect,
    view: View,
    requests: &mut Vec<Request>,
) {
    for head in heads(&drawing.scene, canvas, view) {
        head_ui(ui, drawing, &head, requests);
    }
    row_ui(ui, drawing, canvas, view, requests);
}

/// Where on the network the upper edge of the canvas is: the blocks around its middle.
fn row_ui(
    ui: &mut egui::Ui,
    drawing: &Drawing,
    canvas: Rect,
    view: View,
    requests: &mut Vec<Request>,
) {
    let place = view.to_picture(canvas, canvas.center_top() + vec2(0.0, ROW));
    let items = drawing.scene.items.iter();
    let around = items.filter_map(|item| match item.kind {
        ItemKind::Frame(block) if item.rect.contains(place) => Some((block, item)),
        _ => None,
    });
    let above: Vec<_> = around
        .filter(|(_, item)| view.to_screen(canvas, item.rect.min).y < canvas.top() - 2.0)
        .collect();
    if above.is_empty() {
        return;
    }
    let row = Rect::from_min_size(canvas.min, vec2(canvas.width(), ROW));
    let palette = theme::palette(ui);
    ui.painter().rect_filled(row, 0, ui.visuals().panel_fill);
    let line = Stroke::new(1.0, palette.card_edge);
    ui.painter().hline(row.x_range(), row.bottom(), line);
    let mut left = row.left() + 2.0;
    for (block, item) in above {
        let room = Rect::from_min_max(
            pos2(left, row.top() + 2.0),
            pos2(
                (left + ROW_ENTRY).min(row.right() - 2.0),
                row.bottom() - 2.0,
            ),
        );
        if room.width() < LEAST.x {
            break;
        }
        let head = Head {
            block,
            layers: item.layers.len(),
            rect: room,
            letters: 12.5,
        };
        left = head_ui(ui, drawing, &head, requests).right() + 4.0;
    }
}

/// One head; returns the place that it takes.
fn head_ui(ui: &mut egui::Ui, drawing: &Drawing, head: &Head, requests: &mut Vec<Request>) -> Rect {
    let Some(block) = drawing.blocks.get(head.block) else {
        return head.rect;
    };
    let font = FontId::proportional(head.letters);
    let text = shortened(ui, &block.label, &font, head.rect.width() - MARK - 6.0);
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
        WidgetInfo::labeled(Role::Button, true, format!("Collapse {}", block.label))
    });
    let palette = theme::palette(ui);
    let edge = if response.hovered() || response.has_focus() {
        Stroke::new(1.5, palette.accent)
    } else {
        Stroke::new(1.0, palette.card_edge)
    };
    ui.painter()
        .rect(rect, 4, palette.card, edge, StrokeKind::Inside);
    let mark = Rect::from_min_size(rect.min, vec2(MARK, rect.height()));
    NodePainter::paint_mark(ui.painter(), mark, true, color);
    let place =
        Align2::LEFT_CENTER.anchor_size(pos2(rect.left() + MARK, rect.center().y), galley.size());
    ui.painter().galley(place.min, galley, color);
    let plural = if head.layers == 1 { "" } else { "s" };
    let response = response.on_hover_text(format!(
        "{}\n{} layer{plural}. Click to collapse the block into one box",
        block.name, head.layers
    ));
    if response.clicked() {
        requests.push(Request::Toggle(head.block));
    }
    rect
}

/// Heads at the upper left corners of frames, where they do not cover one another.
fn heads(scene: &Scene, canvas: Rect, view: View) -> Vec<Head> {
    let letters = (12.5 * view.zoom).clamp(*LETTERS.start(), *LETTERS.end());
    let letters = (letters * 2.0).floor() / 2.0;
    let height = (HEADER * view.zoom - 4.0).clamp(letters + 5.0, 26.0);
    let mut shown: Vec<Head> = Vec::new();
    // For each item the height below which the heads of its blocks have room.
    let mut free_below: Vec<f32> = Vec::with_capacity(scene.items.len());
    for item in &scene.items {
        let around = item
            .parent
            .and_then(|parent| free_below.get(parent as usize));
        let least = around.copied().unwrap_or(f32::NEG_INFINITY);
        free_below.push(least);
        let ItemKind::Frame(block) = item.kind else {
            continue;
        };
        let frame = view.rect_to_screen(canvas, item.rect);
        let corner = frame.min + vec2(2.0, 2.0);
        let is_seen = frame.intersects(canvas) && corner.y >= canvas.top();
        if !is_seen || frame.width() < LEAST.x || frame.height() < LEAST.y || corner.y < least {
            continue;
        }
        let right = frame.right().min(canvas.right()) - 2.0;
        let left = corner.x.max(canvas.left() + 2.0);
        let rect = Rect::from_min_max(pos2(left, corner.y), pos2(right, corner.y + height));
        if rect.width() < LEAST.x {
            continue;
        }
        if let Some(free) = free_below.last_mut() {
            *free = rect.bottom() + 1.0;
        }
        shown.push(Head {
            block,
            layers: item.layers.len(),
            rect,
            letters,
        });
    }
    shown
}
