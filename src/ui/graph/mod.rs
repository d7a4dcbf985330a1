//! The network as a picture: blocks, nodes and edges in layers from top to bottom.

mod blocks;
mod camera;
mod canvas;
mod controls;
mod edges;
mod heads;
mod layout;
mod making;
mod minimap;
mod nodes;
mod scene;
mod selection;
mod texts;
mod tint;

use std::collections::BTreeSet;
use std::sync::Arc;

use egui::{Event, Key, Rect, pos2};

use self::blocks::Blocks;
use self::camera::{Camera, View};
use self::making::Making;
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
    /// The picture of the model with this fingerprint is being made.
    opening: Option<(String, Making<Drawing>)>,
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
    blocks: Arc<Blocks>,
    shapes: Shapes,
    collapsed: BTreeSet<usize>,
    scene: Scene,
    /// The next picture of the same model.
    next: Option<NextScene>,
    /// `None` until the size of the canvas is known.
    camera: Option<Camera>,
}

/// A picture with other blocks collapsed.
#[derive(Debug)]
struct NextScene {
    collapsed: BTreeSet<usize>,
    /// The block that stays where it is on the screen.
    fixed: Option<usize>,
    /// What is to be done when it is there.
    then: Option<Request>,
    scene: Making<Scene>,
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
    fn make_drawing(&mut self, ctx: &egui::Context, model: &OpenModel) {
        let sha256 = &model.graph().metadata().sha256;
        if self
            .drawing
            .as_ref()
            .is_some_and(|old| old.model == *sha256)
        {
            return;
        }
        self.drawing = None;
        let opening = self.opening.take().filter(|(of, _)| of == sha256);
        let (_, making) =
            opening.unwrap_or_else(|| (sha256.clone(), Making::new(ctx, model, Drawing::new)));
        match making.finish() {
            Ok(drawing) => self.drawing = Some(drawing),
            Err(making) => self.opening = Some((sha256.clone(), making)),
        }
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
            blocks: Arc::new(blocks),
            collapsed,
            scene,
            next: None,
            camera: None,
        }
    }

    /// The camera for a canvas.
    fn camera(&mut self, canvas: Rect) -> &mut Camera {
        let size = self.scene.size;
        self.camera
            .get_or_insert_with(|| Camera::new(View::at_first(size, canvas)))
    }

    fn carry_out(
        &mut self,
        request: Request,
        ctx: &egui::Context,
        session: &Session,
        canvas: Rect,
    ) {
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
            Request::ShowSelection => self.show_selection(ctx, session, canvas),
            Request::Show(item) => {
                if let Some(rect) = self.rect_of(item) {
                    let view = View::of(rect.expand2(rect.size()), canvas, SELECTION_ZOOM * 1.25);
                    self.camera(canvas).go_to(view);
                }
            }
            Request::Toggle(block) => {
                let mut collapsed = self.collapsed_soon().clone();
                if !collapsed.remove(&block) {
                    collapsed.insert(block);
                }
                self.collapse(ctx, session, collapsed, Some(block), None);
            }
            Request::CollapseAll => {
                let all = (0..self.blocks.all().len()).collect();
                self.collapse(ctx, session, all, None, None);
            }
            Request::ExpandAll => self.collapse(ctx, session, BTreeSet::new(), None, None),
        }
    }

    /// What is collapsed once the next picture is there.
    fn collapsed_soon(&self) -> &BTreeSet<usize> {
        self.next
            .as_ref()
            .map_or(&self.collapsed, |next| &next.collapsed)
    }

    fn rect_of(&self, item: u32) -> Option<Rect> {
        self.scene.items.get(item as usize).map(|item| item.rect)
    }

    /// Collapses these blocks and opens the others; `fixed` stays where it is on the screen.
    fn collapse(
        &mut self,
        ctx: &egui::Context,
        session: &Session,
        collapsed: BTreeSet<usize>,
        fixed: Option<usize>,
        then: Option<Request>,
    ) {
        let Some(model) = session.model() else {
            return;
        };
        let (blocks, chosen) = (Arc::clone(&self.blocks), collapsed.clone());
        let scene = Making::new(ctx, model, move |model| {
            Scene::new(model.graph(), model.layers(), &blocks, &chosen)
        });
        self.next = Some(NextScene {
            collapsed,
            fixed,
            then,
            scene,
        });
    }

    /// Shows the next picture if it is there.
    fn take_next(&mut self, ctx: &egui::Context, session: &Session, canvas: Rect) {
        let Some(next) = self.next.take() else {
            return;
        };
        let scene = match next.scene.finish() {
            Ok(scene) => scene,
            Err(Making::Failed) => return,
            Err(scene) => {
                self.next = Some(NextScene { scene, ..next });
                return;
            }
        };
        let before = next.fixed.and_then(|block| self.top_of(block));
        self.collapsed = next.collapsed;
        self.scene = scene;
        let after = next.fixed.and_then(|block| self.top_of(block));
        let picture = self.scene.size;
        let camera = self.camera(canvas);
        match before.zip(after) {
            Some((before, after)) => camera.jump_to(View {
                center: camera.view.center + (after - before),
                ..camera.view
            }),
            None => camera.jump_to(View::at_first(picture, canvas)),
        }
        if let Some(then) = next.then {
            self.carry_out(then, ctx, session, canvas);
        }
    }

    /// The middle of the upper edge of a block, open or collapsed.
    fn top_of(&self, block: usize) -> Option<egui::Pos2> {
        let is_block = |kind| kind == ItemKind::Block(block) || kind == ItemKind::Frame(block);
        let item = self.scene.items.iter().find(|item| is_block(item.kind))?;
        Some(pos2(item.rect.center().x, item.rect.top()))
    }

    fn show_selection(&mut self, ctx: &egui::Context, session: &Session, canvas: Rect) {
        let model = session.model();
        let Some(first) = session
            .selection()
            .first()
            .and_then(|first| model?.layers().get(first.index()))
        else {
            return;
        };
        let mut open = self.collapsed.clone();
        let innermost = self.blocks.of_node(first.node.index());
        open.retain(|block| {
            !self
                .blocks
                .upwards(innermost)
                .any(|around| around == *block)
        });
        if open != self.collapsed {
            self.collapse(ctx, session, open, None, Some(Request::ShowSelection));
            return;
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
    view.make_drawing(ui.ctx(), model);
    if view.drawing.is_none() {
        let nodes = model.graph().nodes().len();
        ui.label(match view.opening {
            Some((_, Making::Failed)) => {
                "This network cannot be drawn; the log says why".to_owned()
            }
            _ => format!("Laying out {nodes} nodes"),
        });
        return;
    }
    controls::controls_ui(ui, session, model, view);
    canvas::canvas_ui(ui, session, model, view, actions);
}
