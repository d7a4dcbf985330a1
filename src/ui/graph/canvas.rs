//! The canvas: what is seen of the picture, and what pointer and keys do with it.

use egui::{Color32, Id, Rect, Response, Role, Sense, Stroke, UiBuilder, WidgetInfo, vec2};

use super::camera::View;
use super::edges::EdgePainter;
use super::heads::heads_ui;
use super::minimap::Minimap;
use super::nodes::{Attention, MARK, NodePainter};
use super::scene::{Item, ItemKind, Scene};
use super::selection::after_click;
use super::tint::{Reader, Reading, Scale, Tint};
use super::{Drawing, GraphView, Request, texts};
use crate::model::LayerId;
use crate::session::{Action, OpenModel, Session};
use crate::ui::plots::{point_at, pointed};
use crate::ui::theme;

/// Zoom by a point of scrolling.
const WHEEL: f32 = 0.0028;

/// The picture with everything that can be done in it.
pub(super) fn canvas_ui(
    ui: &mut egui::Ui,
    session: &Session,
    model: &OpenModel,
    view: &mut GraphView,
    actions: &mut Vec<Action>,
) {
    let rect = ui.available_rect_before_wrap();
    let response = ui.allocate_rect(rect, Sense::click_and_drag());
    response.widget_info(|| WidgetInfo::labeled(Role::Canvas, true, "Network graph"));
    if rect.width() < 1.0 || rect.height() < 1.0 {
        return;
    }
    let builder = UiBuilder::new().max_rect(rect).id_salt("canvas");
    ui.scope_builder(builder, |ui| {
        ui.set_clip_rect(rect.intersect(ui.clip_rect()));
        let tint = view.tint;
        let Some(drawing) = &mut view.drawing else {
            return;
        };
        for request in view.requests.drain(..) {
            drawing.carry_out(request, ui.ctx(), session, rect);
        }
        drawing.take_next(ui.ctx(), session, rect);
        move_camera(ui, drawing, &response, rect);
        let canvas = Canvas {
            session,
            model,
            tint,
            rect,
            response: &response,
        };
        canvas.show_ui(ui, drawing, &mut view.requests, actions);
    });
    view.pointed = response.contains_pointer();
    if !view.requests.is_empty() {
        ui.ctx().request_repaint();
    }
}

/// Drags, scrolling and pinching.
fn move_camera(ui: &egui::Ui, drawing: &mut Drawing, response: &Response, canvas: Rect) {
    let picture = drawing.scene.size;
    let camera = drawing.camera(canvas);
    if response.dragged() {
        camera.pan(response.drag_delta());
    }
    if let Some(pointer) = response.hover_pos().filter(|_| response.contains_pointer()) {
        let (scroll, pinch) = ui.input(|input| (input.smooth_scroll_delta(), input.zoom_delta()));
        camera.pan(vec2(scroll.x, 0.0));
        camera.zoom_at(canvas, pointer, pinch * (WHEEL * scroll.y).exp(), picture);
    }
    let seconds = ui.input(|input| input.stable_dt).min(0.1);
    if camera.advance(seconds) {
        ui.ctx().request_repaint();
    }
    camera.keep_in_sight(picture);
}

/// What the canvas shows in one frame.
struct Canvas<'a> {
    session: &'a Session,
    model: &'a OpenModel,
    tint: Tint,
    rect: Rect,
    /// The canvas itself, below all boxes.
    response: &'a Response,
}

/// Values and looks of all boxes in this frame.
struct Looks {
    readings: Vec<Option<Reading>>,
    fills: Vec<Color32>,
    /// The colours where boxes are spots without an edge and without text.
    spots: Vec<Color32>,
    selected: Vec<bool>,
    hovered: Option<u32>,
}

impl Canvas<'_> {
    fn show_ui(
        &self,
        ui: &mut egui::Ui,
        drawing: &mut Drawing,
        requests: &mut Vec<Request>,
        actions: &mut Vec<Action>,
    ) {
        let view = drawing.camera(self.rect).view;
        let picture = drawing.scene.size;
        let minimap = Minimap::new(picture, view, self.rect);
        let pointer = self.response.hover_pos().filter(|pointer| {
            self.response.contains_pointer()
                && !self.response.dragged()
                && minimap.is_none_or(|map| !map.rect.contains(*pointer))
        });
        let place = pointer.map(|pointer| view.to_picture(self.rect, pointer));
        let hovered = place.and_then(|place| drawing.scene.item_at(place));
        let pointed_here = hovered.and_then(|item| drawing.scene.items.get(item as usize));
        if let Some(layer) = pointed_here.and_then(|item| item.layers.first()) {
            point_at(ui, *layer);
        }
        let elsewhere = || drawing.scene.item_of_layer(pointed(ui)?);
        let looks = self.looks(ui, &drawing.scene, hovered.or_else(elsewhere));
        let painter = ui.painter().clone();
        let nodes = NodePainter {
            ui,
            painter: &painter,
            view,
            canvas: self.rect,
        };
        self.paint_frames(&nodes, &drawing.scene);
        self.paint_edges(ui, &drawing.scene, &looks, view);
        let readable = self.paint_nodes(&nodes, &drawing.scene, &looks);
        for item in readable {
            self.item_ui(ui, drawing, item, view, requests, actions);
        }
        heads_ui(ui, drawing, self.rect, view, requests);
        self.far_away_ui(ui, drawing, hovered, requests, actions);
        if let Some(map) = minimap
            && let Some(camera) = &mut drawing.camera
        {
            map.show_ui(ui, &drawing.scene, &looks.spots, camera, self.rect);
        }
    }

    fn looks(&self, ui: &egui::Ui, scene: &Scene, hovered: Option<u32>) -> Looks {
        let reader = Reader::new(self.session, self.model.layers(), self.tint);
        let readings: Vec<Option<Reading>> = scene
            .items
            .iter()
            .map(|item| {
                (!item.is_frame())
                    .then(|| reader.read(&item.layers))
                    .flatten()
            })
            .collect();
        let scale = Scale::over(readings.iter().copied().flatten());
        let palette = theme::palette(ui);
        let colors = readings
            .iter()
            .map(|reading| reading.and_then(|reading| scale.color(reading)));
        let fills = colors
            .clone()
            .zip(&scene.items)
            .map(|(color, item)| match color {
                Some(color) => color,
                None if item.layers.is_empty() => palette.card,
                None => palette.empty_cell,
            })
            .collect();
        let pale = palette.weak.gamma_multiply(0.45);
        let spots = colors.map(|color| color.unwrap_or(pale)).collect();
        let mut selected = vec![false; scene.items.len()];
        for layer in self.session.selection() {
            let item = scene.item_of_layer(*layer);
            if let Some(mark) = item.and_then(|item| selected.get_mut(item as usize)) {
                *mark = true;
            }
        }
        Looks {
            readings,
            fills,
            spots,
            selected,
            hovered,
        }
    }

    fn paint_frames(&self, nodes: &NodePainter<'_>, scene: &Scene) {
        for item in scene.items.iter().filter(|item| item.is_frame()) {
            if nodes.on_screen(item).intersects(self.rect) {
                let around = std::iter::successors(item.parent, |parent| {
                    scene.items.get(*parent as usize)?.parent
                });
                nodes.paint_frame(item, around.count());
            }
        }
    }

    fn paint_edges(&self, ui: &egui::Ui, scene: &Scene, looks: &Looks, view: View) {
        let palette = theme::palette(ui);
        let painter = EdgePainter {
            painter: ui.painter(),
            view,
            canvas: self.rect,
        };
        let width = (1.4 * view.zoom).clamp(0.8, 1.8);
        painter.paint(scene.pieces.iter(), Stroke::new(width, palette.weak));
        let first = self.session.selection().first();
        let items = [
            first.and_then(|layer| scene.item_of_layer(*layer)),
            looks.hovered,
        ];
        let is_box = |item: &u32| {
            let item = scene.items.get(*item as usize);
            item.is_some_and(|item| !item.is_frame())
        };
        let items = items.into_iter().flatten().filter(is_box);
        let mut marked = Vec::new();
        for item in items {
            marked.resize(scene.pieces.len(), false);
            scene.mark_edges_of(item, &mut marked);
        }
        let marked = scene
            .pieces
            .iter()
            .zip(&marked)
            .filter(|(_, marked)| **marked);
        let strong = Stroke::new((width + 1.2).max(2.0), palette.accent);
        painter.paint(marked.map(|(piece, _)| piece), strong);
    }

    /// Paints what is seen; returns the boxes that are large enough to be pointed at.
    fn paint_nodes(&self, nodes: &NodePainter<'_>, scene: &Scene, looks: &Looks) -> Vec<u32> {
        let seen = nodes.view.seen(self.rect).expand(8.0);
        let visible = || {
            (0u32..)
                .zip(&scene.items)
                .filter(|(_, item)| !item.is_frame() && seen.intersects(item.rect))
        };
        let fill = |index: u32| looks.fills.get(index as usize).copied().unwrap_or_default();
        let spot = |index: u32| looks.spots.get(index as usize).copied().unwrap_or_default();
        let small = visible().filter(|(_, item)| !nodes.is_readable(item));
        nodes.paint_spots(small.map(|(index, item)| (item, spot(index))));
        let mut readable = Vec::new();
        for (index, item) in visible() {
            let attention = Attention {
                selected: looks.selected.get(index as usize).copied().unwrap_or(false),
                hovered: looks.hovered == Some(index),
            };
            if nodes.is_readable(item) {
                let reading = looks.readings.get(index as usize).copied().flatten();
                let detail = texts::detail(item, self.model, self.session, self.tint, reading);
                nodes.paint_box(item, fill(index), attention, detail.as_deref());
                readable.push(index);
            } else if attention != Attention::default() {
                nodes.paint_attention(nodes.on_screen(item), 1.into(), attention);
            }
        }
        readable
    }

    /// One box that can be read: a control of its own.
    fn item_ui(
        &self,
        ui: &mut egui::Ui,
        drawing: &Drawing,
        index: u32,
        view: View,
        requests: &mut Vec<Request>,
        actions: &mut Vec<Action>,
    ) {
        let Some(item) = drawing.scene.items.get(index as usize) else {
            return;
        };
        let rect = view.rect_to_screen(self.rect, item.rect);
        let id = Id::unique(("graph item", item.kind));
        let can_be_selected = !item.layers.is_empty();
        let sense = if can_be_selected || matches!(item.kind, ItemKind::Block(_)) {
            Sense::click()
        } else {
            Sense::hover()
        };
        let response = ui.interact(rect.intersect(ui.clip_rect()), id, sense);
        response.widget_info(|| {
            let role = if can_be_selected {
                Role::Button
            } else {
                Role::Label
            };
            WidgetInfo::labeled(role, true, texts::name(item, self.model))
        });
        self.clicked(&response, item, index, requests, actions);
        if let ItemKind::Block(block) = item.kind {
            expand_ui(ui, item, block, rect, view.zoom, requests);
        }
        response.on_hover_ui(|ui| {
            texts::tooltip_ui(ui, item, self.model, self.session, &drawing.shapes);
        });
    }

    fn clicked(
        &self,
        response: &Response,
        item: &Item,
        index: u32,
        requests: &mut Vec<Request>,
        actions: &mut Vec<Action>,
    ) {
        if response.double_clicked() {
            requests.push(Request::Show(index));
        } else if response.clicked() && !item.layers.is_empty() {
            let modifiers = response.ctx.input(|input| input.modifiers);
            let selected: &[LayerId] = self.session.selection();
            actions.push(Action::Select(after_click(
                selected,
                &item.layers,
                modifiers,
            )));
        }
    }

    /// Boxes that are too small to be controls are found by the pointer's place.
    fn far_away_ui(
        &self,
        ui: &egui::Ui,
        drawing: &Drawing,
        hovered: Option<u32>,
        requests: &mut Vec<Request>,
        actions: &mut Vec<Action>,
    ) {
        let Some((index, item)) =
            hovered.and_then(|index| Some((index, drawing.scene.items.get(index as usize)?)))
        else {
            return;
        };
        let zoom = drawing.camera.map_or(1.0, |camera| camera.view.zoom);
        let nodes = NodePainter {
            ui,
            painter: ui.painter(),
            view: View {
                center: egui::Pos2::ZERO,
                zoom,
            },
            canvas: self.rect,
        };
        if item.is_frame() || nodes.is_readable(item) {
            return;
        }
        self.clicked(self.response, item, index, requests, actions);
        self.response.clone().on_hover_ui_at_pointer(|ui| {
            texts::tooltip_ui(ui, item, self.model, self.session, &drawing.shapes);
        });
    }
}

/// The mark on a collapsed block that opens it.
fn expand_ui(
    ui: &mut egui::Ui,
    item: &Item,
    block: usize,
    rect: Rect,
    zoom: f32,
    requests: &mut Vec<Request>,
) {
    let mut mark = rect;
    mark.set_width((MARK + 4.0) * zoom);
    let response = ui.interact(
        mark.intersect(ui.clip_rect()),
        Id::unique(("expand block", block)),
        Sense::click(),
    );
    response
        .widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Expand {}", item.label)));
    let strong = response.hovered() || response.has_focus();
    let ground = theme::palette(ui).card;
    let badge = Rect::from_center_size(mark.center(), egui::Vec2::splat((16.0 * zoom).min(18.0)));
    let color = if strong {
        theme::palette(ui).accent
    } else {
        ui.visuals().text_color()
    };
    ui.painter().rect_filled(badge, 3, ground);
    NodePainter::paint_mark(ui.painter(), badge, false, color);
    if response
        .on_hover_text("Show what is in this block")
        .clicked()
    {
        requests.push(Request::Toggle(block));
    }
}
