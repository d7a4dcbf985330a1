//! The network as a picture: blocks, nodes and edges in layers from top to bottom.

mod blocks;
mod camera;
mod canvas;
mod controls;
mod edges;
mod heads;
mod layout;
mod minimap;
mod nodes;
mod scene;
mod selection;
mod texts;
mod tint;

use std::collections::BTreeSet;

use egui::{Event, Key, Rect, pos2};

use self::blocks::Blocks;
use self::camera::{Camera, View};
use self::scene::{ItemKind, Scene};
use self::tint::Tint;
use crate::model::{LayerId, Shapes, infer_shapes};
use crate::session::{Action, OpenModel, Session};

/// Zoom by a press of a button or key.
const ZOOM_STEP: f32 = 1.25;
/// Largest zoom with which a selection is shown whole.
const SELECTION_ZOOM: f32 = 1.2;

/// Looks of the graph: what is collapsed, what is seen, what colours say.
#[derive(Debug, Default)]
pub(crate) struct GraphView {
    tint: Tint,
    drawing: Option<Drawing>,
    /// What was asked for by buttons and keys since the last frame.
    requests: Vec<Request>,
    /// The pointer was over the canvas in the last frame, so that its keys are meant for it.
    pointed: bool,
}

/// The picture of one model.
#[derive(Debug)]
struct Drawing {
    /// Fingerprint of the model.
    model: String,
    blocks: Blocks,
    shapes: Shapes,
    collapsed: BTreeSet<usize>,
    scene: Scene,
    /// `None` until the size of the canvas is known.
    camera: Option<Camera>,
}

/// Something to do with the picture once the canvas is known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Request {
    /// Enlarge by this factor, around the middle.
    Zoom(f32),
    /// Show everything.
    Fit,
    /// Show the selected layers, opening the blocks around the first.
    ShowSelection,
    /// Show one item of the scene.
    Show(u32),
    /// Collapse a block, or open it.
    Toggle(usize),
    CollapseAll,
    ExpandAll,
}

impl GraphView {
    /// Takes the keys for the canvas out of the input while the pointer is over it: `+`, `-`, `0`, `.`.
    ///
    /// It has to come before the layer table, where `0` sets a width.
    pub(crate) fn take_keys(&mut self, ui: &egui::Ui) {
        let pointed = std::mem::take(&mut self.pointed);
        if !pointed || ui.ctx().text_edit_focused() || egui::Popup::is_any_open(ui.ctx()) {
            return;
        }
        let requests = &mut self.requests;
        ui.input_mut(|input| {
            input.events.retain(|event| {
                let request = request_of(event);
                requests.extend(request);
                request.is_none()
            });
        });
    }

    /// Makes the picture of the open model, if it is not there.
    fn drawing(&mut self, model: &OpenModel) -> &mut Drawing {
        let sha256 = &model.graph().metadata().sha256;
        let old = self.drawing.take().filter(|old| old.model == *sha256);
        self.drawing
            .insert(old.unwrap_or_else(|| Drawing::new(model)))
    }
}

fn request_of(event: &Event) -> Option<Request> {
    match event {
        Event::Key {
            key,
            pressed: true,
            modifiers,
            ..
        } if !modifiers.command && !modifiers.alt => match key {
            Key::Plus | Key::Equals => Some(Request::Zoom(ZOOM_STEP)),
            Key::Minus => Some(Request::Zoom(1.0 / ZOOM_STEP)),
            Key::Num0 => Some(Request::Fit),
            Key::Period => Some(Request::ShowSelection),
            _ => None,
        },
        _ => None,
    }
}

impl Drawing {
    fn new(model: &OpenModel) -> Self {
        let blocks = Blocks::of_graph(model.graph());
        let collapsed = blocks.collapsed_at_first();
        let scene = Scene::new(model.graph(), model.layers(), &blocks, &collapsed);
        Self {
            model: model.graph().metadata().sha256.clone(),
            shapes: infer_shapes(model.graph(), 1),
            blocks,
            collapsed,
            scene,
            camera: None,
        }
    }

    /// The camera for a canvas.
    fn camera(&mut self, canvas: Rect) -> &mut Camera {
        let size = self.scene.size;
        self.camera
            .get_or_insert_with(|| Camera::new(View::at_first(size, canvas)))
    }

    fn carry_out(&mut self, request: Request, session: &Session, canvas: Rect) {
        let size = self.scene.size;
        match request {
            Request::Zoom(factor) => {
                self.camera(canvas)
                    .zoom_at(canvas, canvas.center(), factor, size);
            }
            Request::Fit => {
                let all = Rect::from_min_size(egui::Pos2::ZERO, size);
                self.camera(canvas).go_to(View::of(all, canvas, 1.0));
            }
            Request::ShowSelection => self.show_selection(session, canvas),
            Request::Show(item) => {
                if let Some(rect) = self.rect_of(item) {
                    let view = View::of(rect.expand2(rect.size()), canvas, SELECTION_ZOOM * 1.25);
                    self.camera(canvas).go_to(view);
                }
            }
            Request::Toggle(block) => {
                let mut collapsed = self.collapsed.clone();
                if !collapsed.remove(&block) {
                    collapsed.insert(block);
                }
                self.collapse(collapsed, session, Some(block), canvas);
            }
            Request::CollapseAll => {
                let all = (0..self.blocks.all().len()).collect();
                self.collapse(all, session, None, canvas);
            }
            Request::ExpandAll => self.collapse(BTreeSet::new(), session, None, canvas),
        }
    }

    fn rect_of(&self, item: u32) -> Option<Rect> {
        self.scene.items.get(item as usize).map(|item| item.rect)
    }

    /// Collapses these blocks and opens the others; `fixed` stays where it is on the screen.
    fn collapse(
        &mut self,
        collapsed: BTreeSet<usize>,
        session: &Session,
        fixed: Option<usize>,
        canvas: Rect,
    ) {
        let Some(model) = session.model().filter(|_| collapsed != self.collapsed) else {
            return;
        };
        let before = fixed.and_then(|block| self.top_of(block));
        self.collapsed = collapsed;
        self.scene = Scene::new(model.graph(), model.layers(), &self.blocks, &self.collapsed);
        let after = fixed.and_then(|block| self.top_of(block));
        let picture = self.scene.size;
        let camera = self.camera(canvas);
        match before.zip(after) {
            Some((before, after)) => {
                let center = camera.view.center + (after - before);
                camera.jump_to(View {
                    center,
                    ..camera.view
                });
            }
            None => camera.jump_to(View::at_first(picture, canvas)),
        }
    }

    /// The middle of the upper edge of a block, open or collapsed.
    fn top_of(&self, block: usize) -> Option<egui::Pos2> {
        let is_block = |kind| kind == ItemKind::Block(block) || kind == ItemKind::Frame(block);
        let item = self.scene.items.iter().find(|item| is_block(item.kind))?;
        Some(pos2(item.rect.center().x, item.rect.top()))
    }

    fn show_selection(&mut self, session: &Session, canvas: Rect) {
        let Some(first) = session.selection().first() else {
            return;
        };
        if let Some(layer) = session
            .model()
            .and_then(|model| model.layers().get(first.index()))
        {
            let mut collapsed = self.collapsed.clone();
            for block in self.blocks.upwards(self.blocks.of_node(layer.node.index())) {
                collapsed.remove(&block);
            }
            self.collapse(collapsed, session, None, canvas);
        }
        let place = |layer: &LayerId| self.rect_of(self.scene.item_of_layer(*layer)?);
        let rects = session.selection().iter().filter_map(place);
        if let Some(rect) = rects.reduce(Rect::union) {
            let view = View::of(rect.expand(40.0), canvas, SELECTION_ZOOM);
            self.camera(canvas).go_to(view);
        }
    }
}

/// The graph of the open model.
pub(crate) fn graph_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut GraphView,
    actions: &mut Vec<Action>,
) {
    let Some(model) = session.model() else {
        ui.label("Open a model to see its graph (File, Open model)");
        return;
    };
    view.drawing(model);
    controls::controls_ui(ui, session, model, view);
    canvas::canvas_ui(ui, session, model, view, actions);
}
