//! Which part of the picture is seen, and how large.

use egui::{Pos2, Rect, Vec2, pos2};

/// Largest zoom: a box then fills a quarter of a small window.
const LARGEST: f32 = 3.0;
/// Smallest zoom, in parts of that which shows everything.
const SMALLEST: f32 = 0.7;
/// Space around what is shown whole, in points.
const MARGIN: f32 = 16.0;
/// Width that the map of a high picture takes.
const MAP: f32 = 44.0;
/// How fast the camera comes near its target, per second.
const SPEED: f32 = 16.0;

/// A view of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    /// The place in the middle of the canvas.
    pub(super) center: Pos2,
    /// Points on the screen for each point of the picture.
    pub(super) zoom: f32,
}

impl View {
    /// The view that shows a rectangle whole, not larger than `largest`.
    pub(super) fn of(rect: Rect, canvas: Rect, largest: f32) -> Self {
        let room = (canvas.size() - Vec2::splat(2.0 * MARGIN)).max(Vec2::splat(1.0));
        let size = rect.size().max(Vec2::splat(1.0));
        Self {
            center: rect.center(),
            zoom: (room.x / size.x).min(room.y / size.y).min(largest),
        }
    }

    /// The view that networks are opened with: the beginning, as large as can be read.
    pub(super) fn at_first(picture: Vec2, canvas: Rect) -> Self {
        let whole = Self::of(Rect::from_min_size(Pos2::ZERO, picture), canvas, 1.0);
        let room = canvas.width() - 2.0 * MARGIN - MAP;
        let zoom = whole.zoom.max((room / picture.x.max(1.0)).clamp(0.6, 1.0));
        let half_height = (canvas.height() / 2.0 - MARGIN) / zoom;
        let is_high = picture.y / 2.0 > half_height;
        Self {
            center: if is_high {
                // The map covers the right edge.
                pos2(picture.x / 2.0 + MAP / 2.0 / zoom, half_height)
            } else {
                pos2(picture.x / 2.0, picture.y / 2.0)
            },
            zoom,
        }
    }

    pub(super) fn to_screen(self, canvas: Rect, place: Pos2) -> Pos2 {
        canvas.center() + (place - self.center) * self.zoom
    }

    pub(super) fn rect_to_screen(self, canvas: Rect, rect: Rect) -> Rect {
        Rect::from_min_max(
            self.to_screen(canvas, rect.min),
            self.to_screen(canvas, rect.max),
        )
    }

    pub(super) fn to_picture(self, canvas: Rect, point: Pos2) -> Pos2 {
        self.center + (point - canvas.center()) / self.zoom
    }

    /// The part of the picture that is seen.
    pub(super) fn seen(self, canvas: Rect) -> Rect {
        Rect::from_center_size(self.center, canvas.size() / self.zoom)
    }
}

/// The view, and the view that it moves to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Camera {
    pub(super) view: View,
    target: Option<View>,
}

impl Camera {
    pub(super) fn new(view: View) -> Self {
        Self { view, target: None }
    }

    /// Moves to a view over the next frames.
    pub(super) fn go_to(&mut self, view: View) {
        self.target = Some(view);
    }

    /// Shows a view at once.
    pub(super) fn jump_to(&mut self, view: View) {
        *self = Self::new(view);
    }

    /// One frame of the movement; `true` while it goes on.
    pub(super) fn advance(&mut self, seconds: f32) -> bool {
        let Some(target) = self.target else {
            return false;
        };
        let share = 1.0 - (-SPEED * seconds).exp();
        let zoom = (self.view.zoom.ln() + (target.zoom / self.view.zoom).ln() * share).exp();
        let center = self.view.center.lerp(target.center, share);
        self.view = View { center, zoom };
        let is_there = ((target.center - center) * target.zoom).length() < 0.5
            && (target.zoom / zoom - 1.0).abs() < 0.005;
        if is_there {
            self.jump_to(target);
        }
        !is_there
    }

    /// Moves the picture with the pointer.
    pub(super) fn pan(&mut self, points: Vec2) {
        if points != Vec2::ZERO {
            let view = self.view;
            self.jump_to(View {
                center: view.center - points / view.zoom,
                ..view
            });
        }
    }

    /// Enlarges the picture around a point that stays where it is.
    pub(super) fn zoom_at(&mut self, canvas: Rect, point: Pos2, factor: f32, picture: Vec2) {
        if factor == 1.0 {
            return;
        }
        let whole = View::of(Rect::from_min_size(Pos2::ZERO, picture), canvas, 1.0);
        let zoom = (self.view.zoom * factor).clamp(whole.zoom * SMALLEST, LARGEST);
        let fixed = self.view.to_picture(canvas, point);
        self.jump_to(View {
            center: fixed - (point - canvas.center()) / zoom,
            zoom,
        });
    }

    /// Keeps some of the picture in sight.
    pub(super) fn keep_in_sight(&mut self, picture: Vec2) {
        let center = self.view.center;
        self.view.center = pos2(
            center.x.clamp(0.0, picture.x),
            center.y.clamp(0.0, picture.y),
        );
    }
}

#[cfg(test)]
mod tests {
    use egui::vec2;

    use super::*;

    const PICTURE: Vec2 = vec2(400.0, 8000.0);

    fn canvas() -> Rect {
        Rect::from_min_size(pos2(100.0, 50.0), vec2(600.0, 500.0))
    }

    #[test]
    fn screen_and_picture_are_inverse() {
        let view = View {
            center: pos2(30.0, 700.0),
            zoom: 0.4,
        };
        let place = pos2(-12.0, 345.0);
        let there = view.to_picture(canvas(), view.to_screen(canvas(), place));
        assert!((there - place).length() < 1e-2);
        assert!(view.seen(canvas()).contains(view.center));
    }

    #[test]
    fn a_network_opens_at_its_beginning_in_a_size_that_can_be_read() {
        let view = View::at_first(PICTURE, canvas());
        assert!(view.zoom >= 0.6, "{}", view.zoom);
        let top = view.to_screen(canvas(), Pos2::ZERO).y;
        assert!((top - canvas().top() - MARGIN).abs() < 1.0, "{top}");
        let small = View::at_first(vec2(200.0, 100.0), canvas());
        assert_eq!((small.center, small.zoom), (pos2(100.0, 50.0), 1.0));
    }

    #[test]
    fn zooming_keeps_the_point_under_the_pointer() {
        let mut camera = Camera::new(View::at_first(PICTURE, canvas()));
        let pointer = pos2(200.0, 300.0);
        let before = camera.view.to_picture(canvas(), pointer);
        camera.zoom_at(canvas(), pointer, 1.5, PICTURE);
        let after = camera.view.to_picture(canvas(), pointer);
        assert!((before - after).length() < 1e-2);
        for _ in 0..100 {
            camera.zoom_at(canvas(), pointer, 0.5, PICTURE);
        }
        let whole = View::of(Rect::from_min_size(Pos2::ZERO, PICTURE), canvas(), 1.0);
        assert!(
            camera.view.zoom > 0.6 * whole.zoom,
            "the picture does not vanish"
        );
    }

    #[test]
    fn a_movement_ends_at_its_target() {
        let mut camera = Camera::new(View::at_first(PICTURE, canvas()));
        let target = View {
            center: pos2(200.0, 7000.0),
            zoom: 1.2,
        };
        camera.go_to(target);
        let frames = (0..200).take_while(|_| camera.advance(1.0 / 60.0)).count();
        assert!((10..120).contains(&frames), "{frames}");
        assert_eq!(camera.view, target);
    }
}
