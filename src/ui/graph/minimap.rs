//! The whole picture in small, with a frame around the part that is seen.

use std::sync::Arc;

use egui::epaint::Mesh;
use egui::{Color32, Pos2, Rect, Sense, Shape, Stroke, StrokeKind, Vec2, vec2};

use super::camera::{Camera, View};
use super::scene::Scene;
use crate::ui::theme;

/// Largest width, and largest height as a part of the canvas.
const WIDTH: f32 = 96.0;
const HEIGHT: f32 = 0.72;
/// Smallest width and height that can be pointed at.
const LEAST: Vec2 = vec2(26.0, 40.0);
/// Distance from the edges of the canvas, and of the picture from the edges of the map.
const MARGIN: f32 = 8.0;
const PADDING: f32 = 4.0;
/// Narrowest canvas that has room for a map.
const NARROWEST: f32 = 280.0;

/// A map that lies on a canvas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Minimap {
    /// The map on the screen.
    pub(super) rect: Rect,
    /// How the picture lies in it.
    view: View,
}

impl Minimap {
    /// The map for a picture; `None` where all of it is seen anyway.
    pub(super) fn new(picture: Vec2, camera: View, canvas: Rect) -> Option<Self> {
        let all = Rect::from_min_size(Pos2::ZERO, picture);
        if canvas.width() < NARROWEST || camera.seen(canvas).contains_rect(all.shrink(1.0)) {
            return None;
        }
        let room = vec2(WIDTH, HEIGHT * canvas.height());
        let size = picture.max(Vec2::splat(1.0));
        let scale = (room.x / size.x).min(room.y / size.y);
        let outer = (size * scale).max(LEAST) + Vec2::splat(2.0 * PADDING);
        let rect = Rect::from_min_size(canvas.right_top() + vec2(-outer.x - MARGIN, MARGIN), outer);
        let view = View {
            center: all.center(),
            zoom: scale,
        };
        Some(Self { rect, view })
    }

    /// Draws the map; a click or drag moves the camera there.
    pub(super) fn show_ui(
        self,
        ui: &mut egui::Ui,
        scene: &Scene,
        colors: &[Color32],
        camera: &mut Camera,
        canvas: Rect,
    ) {
        let id = ui.scope_id().with("minimap");
        let response = ui.interact(self.rect, id, Sense::click_and_drag());
        response.widget_info(|| {
            egui::WidgetInfo::labeled(egui::Role::Button, true, "Minimap, click to go there")
        });
        let pressed = response.dragged() || response.clicked();
        if let Some(pointer) = response.interact_pointer_pos().filter(|_| pressed) {
            camera.jump_to(View {
                center: self.view.to_picture(self.rect, pointer),
                ..camera.view
            });
        }
        self.paint(ui, scene, colors, camera.view.seen(canvas));
    }

    fn paint(self, ui: &egui::Ui, scene: &Scene, colors: &[Color32], seen: Rect) {
        let palette = theme::palette(ui);
        let painter = ui
            .painter()
            .with_clip_rect(self.rect.intersect(ui.clip_rect()));
        let edge = Stroke::new(1.0, palette.card_edge);
        painter.rect(self.rect, 4, palette.card, edge, StrokeKind::Inside);
        let mut mesh = Mesh::default();
        for (item, color) in scene.items.iter().zip(colors) {
            if !item.is_frame() {
                let place = self.view.rect_to_screen(self.rect, item.rect);
                let size = place.size().max(vec2(1.5, 1.0));
                mesh.add_colored_rect(Rect::from_center_size(place.center(), size), *color);
            }
        }
        painter.add(Shape::Mesh(Arc::new(mesh)));
        let window = self.view.rect_to_screen(self.rect, seen);
        let window = Rect::from_center_size(window.center(), window.size().max(Vec2::splat(5.0)));
        let window = window.intersect(self.rect.shrink(1.0));
        painter.rect(
            window,
            2,
            palette.accent.gamma_multiply(0.18),
            Stroke::new(1.5, palette.accent),
            StrokeKind::Inside,
        );
    }
}

#[cfg(test)]
mod tests {
    use egui::pos2;

    use super::*;

    fn canvas() -> Rect {
        Rect::from_min_size(pos2(100.0, 50.0), vec2(600.0, 500.0))
    }

    #[test]
    fn the_map_lies_in_the_canvas_and_keeps_proportions() {
        for picture in [
            vec2(300.0, 40_000.0),
            vec2(9000.0, 700.0),
            vec2(2000.0, 2000.0),
        ] {
            let view = View::at_first(picture, canvas());
            let map = Minimap::new(picture, view, canvas()).unwrap();
            assert!(canvas().contains_rect(map.rect), "{:?}", map.rect);
            let all = Rect::from_min_size(Pos2::ZERO, picture);
            assert!(
                map.rect
                    .contains_rect(map.view.rect_to_screen(map.rect, all))
            );
        }
    }

    #[test]
    fn there_is_no_map_of_what_is_seen_whole() {
        let picture = vec2(300.0, 200.0);
        let view = View::at_first(picture, canvas());
        assert!(Minimap::new(picture, view, canvas()).is_none());
    }
}
