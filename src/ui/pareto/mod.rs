//! The Pareto tab: size against quality of all measured plans, and a budget that is solved live.

mod controls;
mod errors;
mod points;
mod slider;
mod strip;

use egui::ScrollArea;

use self::controls::Controls;
use self::points::PointsView;
use self::slider::SliderView;
use crate::plan::Widths;
use crate::session::{Action, Session};

/// Looks of the Pareto tab, and the search that Start begins.
#[derive(Debug, Default)]
pub(crate) struct ParetoView {
    controls: Controls,
    slider: SliderView,
    points: PointsView,
}

/// A plan that is looked at: what it is, and its widths.
struct Shown {
    title: String,
    widths: Vec<Widths>,
}

/// Width of the bar that scrolls.
const SCROLL_BAR: f32 = 10.0;

/// The Pareto tab.
pub(crate) fn pareto_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut ParetoView,
    actions: &mut Vec<Action>,
) {
    if session.model().is_none() {
        ui.label("Open a model and a data folder: size is then weighed against accuracy here");
        return;
    }
    if session.data().is_none() {
        ui.label(
            "What a width costs is measured on data: open a data folder (File, Open data folder)",
        );
        return;
    }
    ScrollArea::vertical()
        .id_salt("pareto")
        .auto_shrink(false)
        .show(ui, |ui| {
            // The scroll bar lies over the right edge.
            ui.set_max_width(ui.available_width() - SCROLL_BAR);
            let axis = view.points.axis();
            view.controls.show_ui(ui, session, axis, actions);
            ui.separator();
            let space = view.controls.space();
            let preview = view.slider.show_ui(ui, session, axis, &space, actions);
            let hovered = view.points.show_ui(ui, session, preview.as_ref(), actions);
            strip::strip_ui(
                ui,
                session,
                hovered.or(preview.map(|preview| preview.shown)),
            );
            errors::errors_ui(ui, session);
        });
}
