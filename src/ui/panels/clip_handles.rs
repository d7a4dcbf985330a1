//! The ends of a clip range as handles over a plot.

use egui::{CornerRadius, Id, Rect, Role, Sense, WidgetInfo, vec2};
use egui_plot::PlotTransform;

use crate::quant::Range;
use crate::ui::theme;

/// Half the width in points of what takes hold of an end.
const HOLD_DISTANCE: f32 = 9.0;
/// Size of the grip that is drawn on an end, in points.
const GRIP: egui::Vec2 = vec2(8.0, 26.0);

/// The clip range while one of its ends is dragged.
#[derive(Debug, Default)]
pub(super) struct ClipHandles {
    dragged: Option<Dragged>,
    /// Where the lower and the upper handle were in the last frame.
    places: Option<[Rect; 2]>,
}

/// A clip range whose end follows the pointer.
#[derive(Clone, Copy, Debug)]
struct Dragged {
    min: f64,
    max: f64,
    upper: bool,
}

/// What a drag of an end asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ClipDrag {
    /// The end is still held.
    Trying(Range),
    /// The end was let go.
    Chosen(Range),
}

impl ClipHandles {
    /// The range to draw: the one that is dragged, else the one in force.
    pub(super) fn shown(&self, in_force: Range) -> (f64, f64) {
        let in_force = (f64::from(in_force.min()), f64::from(in_force.max()));
        self.dragged
            .map_or(in_force, |dragged| (dragged.min, dragged.max))
    }

    /// Takes hold of a handle that was pressed in this frame; whether one is held.
    ///
    /// Called before the plot is drawn, which must not move while a handle does. It is the place of the press
    /// that counts: where frames are slow, the pointer has left the handle before the next one is drawn.
    pub(super) fn is_held(&mut self, ui: &egui::Ui, in_force: Range) -> bool {
        let origin = ui.input(|input| {
            let pointer = &input.pointer;
            pointer.press_origin().filter(|_| pointer.primary_pressed())
        });
        let on_top = |origin: &egui::Pos2| ui.ctx().layer_id_at(*origin) == Some(ui.layer_id());
        if let Some((origin, [lower, upper])) = origin.filter(on_top).zip(self.places) {
            let (low, high) = self.shown(in_force);
            if upper.contains(origin) {
                self.take_hold(low, high, true);
            } else if lower.contains(origin) {
                self.take_hold(low, high, false);
            }
        }
        self.dragged.is_some()
    }

    /// Both handles, over the plot that was drawn with this transform.
    pub(super) fn ui(
        &mut self,
        ui: &mut egui::Ui,
        transform: &PlotTransform,
        in_force: Range,
    ) -> Option<ClipDrag> {
        let (low, high) = self.shown(in_force);
        let lower = self.handle_ui(ui, transform, ("Lower clip handle", low, false));
        let upper = self.handle_ui(ui, transform, ("Upper clip handle", high, true));
        self.places = Some([lower, upper]);
        self.dragged?;
        let (pointer, down) =
            ui.input(|input| (input.pointer.latest_pos(), input.pointer.primary_down()));
        if let Some(pointer) = pointer {
            self.move_to(transform.value_from_position(pointer).x);
        }
        if down {
            self.range().map(ClipDrag::Trying)
        } else {
            self.let_go().map(ClipDrag::Chosen)
        }
    }

    /// One handle; the part of it that is seen.
    fn handle_ui(
        &self,
        ui: &mut egui::Ui,
        transform: &PlotTransform,
        (name, value, upper): (&str, f64, bool),
    ) -> Rect {
        let held = self.dragged.is_some_and(|dragged| dragged.upper == upper);
        let x = transform.position_from_point_x(value);
        let frame = transform.frame();
        if !held && !frame.x_range().contains(x) {
            return Rect::NOTHING;
        }
        let place = Rect::from_x_y_ranges(x - HOLD_DISTANCE..=x + HOLD_DISTANCE, frame.y_range());
        let response = ui
            .interact(place, Id::unique(("clip handle", upper)), Sense::drag())
            .on_hover_text("Drag to set the clip range");
        response.widget_info(|| {
            let mut info = WidgetInfo::labeled(Role::Slider, true, name);
            info.value = Some(value);
            info
        });
        let is_lit = response.hovered() || held;
        grip_ui(ui, egui::pos2(x, frame.center().y), is_lit);
        if is_lit {
            ui.set_cursor_icon(egui::CursorIcon::ResizeHorizontal);
        }
        place.intersect(ui.clip_rect())
    }

    fn take_hold(&mut self, min: f64, max: f64, upper: bool) {
        self.dragged = Some(Dragged { min, max, upper });
    }

    /// Moves the end that is held, up to the other one.
    fn move_to(&mut self, position: f64) {
        if let Some(dragged) = &mut self.dragged {
            if dragged.upper {
                dragged.max = position.max(dragged.min);
            } else {
                dragged.min = position.min(dragged.max);
            }
        }
    }

    fn range(&self) -> Option<Range> {
        let dragged = self.dragged?;
        Range::new(dragged.min as f32, dragged.max as f32).ok()
    }

    fn let_go(&mut self) -> Option<Range> {
        let range = self.range();
        self.dragged = None;
        range
    }
}

fn grip_ui(ui: &egui::Ui, center: egui::Pos2, is_lit: bool) {
    let size = if is_lit { GRIP + vec2(2.0, 4.0) } else { GRIP };
    let palette = theme::palette(ui);
    let grip = Rect::from_center_size(center, size);
    ui.painter()
        .rect_filled(grip, CornerRadius::same(3), palette.accent);
    for side in [-1.0, 1.0] {
        let x = center.x + side * 1.5;
        let line = center.y - 5.0..=center.y + 5.0;
        ui.painter()
            .vline(x, line, egui::Stroke::new(1.0, palette.card));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_the_clip_range_follows_the_pointer_until_it_is_let_go() {
        let mut handles = ClipHandles::default();
        handles.move_to(4.0);
        assert_eq!(handles.let_go(), None, "nothing is held");
        handles.take_hold(0.0, 6.0, true);
        handles.move_to(4.5);
        assert_eq!(handles.range(), Range::new(0.0, 4.5).ok());
        assert_eq!(handles.let_go(), Range::new(0.0, 4.5).ok());
        assert_eq!(handles.shown(Range::new(0.0, 6.0).unwrap()), (0.0, 6.0));
    }

    #[test]
    fn the_ends_do_not_pass_each_other() {
        for (upper, position, expected) in [(true, -3.0, (1.0, 1.0)), (false, 9.0, (6.0, 6.0))] {
            let mut handles = ClipHandles::default();
            handles.take_hold(1.0, 6.0, upper);
            handles.move_to(position);
            let range = Range::new(expected.0, expected.1).ok();
            assert_eq!(handles.let_go(), range);
        }
    }
}
