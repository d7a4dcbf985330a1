//! The layer under the pointer, which every view in which layers have a place shows.
//!
//! It is kept in egui's memory, like the linked cursors of `egui_plot`: what one view tells in a frame,
//! all views show in the next.

use egui::{Context, Id, Rect, Stroke, StrokeKind};

use crate::model::LayerId;
use crate::session::Session;

#[derive(Clone, Copy, Debug, Default)]
struct Pointed {
    /// What is shown in this frame.
    shown: Option<LayerId>,
    /// What was told in this frame.
    told: Option<LayerId>,
}

fn id() -> Id {
    Id::unique("layer under the pointer")
}

/// The layer that the pointer was on in the last frame, in whichever view.
pub fn pointed(ctx: &Context) -> Option<LayerId> {
    ctx.data(|data| data.get_temp::<Pointed>(id()))?.shown
}

/// Tells that the pointer is on a layer.
pub(crate) fn point_at(ctx: &Context, layer: LayerId) {
    ctx.data_mut(|data| {
        let pointed: &mut Pointed = data.get_temp_mut_or_default(id());
        pointed.told = Some(layer);
    });
}

/// Takes over what views told in the frame that ends; asks for another frame if views have to change.
pub(crate) fn follow_pointed(ctx: &Context) {
    let changed = ctx.data_mut(|data| {
        let pointed: &mut Pointed = data.get_temp_mut_or_default(id());
        let told = pointed.told.take();
        let changed = told != pointed.shown;
        pointed.shown = told;
        changed
    });
    if changed {
        ctx.request_repaint();
    }
}

/// A frame around what stands for the layer under the pointer.
pub(crate) fn paint_pointed(ui: &egui::Ui, rect: Rect) {
    let edge = Stroke::new(1.5, ui.visuals().strong_text_color());
    ui.painter().rect_stroke(rect, 2, edge, StrokeKind::Inside);
}

/// The group of plots over the layers of the open model, which share zoom and cursor along that axis.
pub(crate) fn layers_group(session: &Session) -> Id {
    let model = session
        .model()
        .map(|model| &model.graph().metadata().sha256);
    Id::unique(("plots over layers", model))
}
