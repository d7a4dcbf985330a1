//! The menu of a plot: save, copy, reset.

use std::sync::Arc;

use egui::{Context, Id, Popup, Response, Role, Sense, Stroke, WidgetInfo, vec2};
use egui_plot::PlotMemory;

use super::axes::legend_ui;
use super::view::color;
use crate::figure::{Content, Figure, FigureFormat};
use crate::ui::theme;

/// A figure that is to be saved.
#[derive(Clone, Debug)]
pub(crate) struct SaveRequest {
    pub(crate) figure: Arc<Figure>,
    pub(crate) format: FigureFormat,
}

fn requests_id() -> Id {
    Id::unique("plots to save")
}

/// What was asked for by menus since the last call.
pub(crate) fn take_save_requests(ctx: &Context) -> Vec<SaveRequest> {
    ctx.data_mut(|data| data.remove_temp(requests_id()))
        .unwrap_or_default()
}

fn reset_id(plot: Id) -> Id {
    plot.with("reset")
}

/// Whether the whole of a plot shall be shown again; asked once.
pub(super) fn take_reset(ctx: &Context, plot: Id) -> bool {
    ctx.data_mut(|data| data.remove_temp::<bool>(reset_id(plot)))
        .is_some()
}

/// The line above a plot: title, menu, what `more` adds, the names of the series, the note.
pub(crate) fn plot_head_ui(
    ui: &mut egui::Ui,
    id: Id,
    title: &str,
    figure: &Figure,
    more: impl FnOnce(&mut egui::Ui),
) {
    let palette = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.strong(title)
            .on_hover_text("Drag to move, Ctrl and wheel or a drag with the right button to zoom, double click to see everything");
        let ctx = ui.ctx().clone();
        let make = || shown_part(&ctx, id, figure);
        let menu = PlotMenu {
            view: Some(id),
            make: &make,
        };
        let button = menu_button_ui(ui, title);
        Popup::menu(&button).show(|ui| menu.items_ui(ui));
        more(ui);
        if let Some(plot) = figure.plot() {
            let series = plot.series.iter();
            legend_ui(
                ui,
                series.map(|series| (series.name.as_str(), color(series.ink, palette))),
            );
        }
        if !figure.note.is_empty() {
            let note = egui::RichText::new(figure.note.as_str()).small();
            ui.label(note.color(palette.weak));
        }
    });
}

/// The same menu for a right click on the plot itself.
pub(super) fn plot_context_menu(response: &Response, id: Id, figure: &Figure) {
    Popup::context_menu(response).show(|ui| {
        let ctx = ui.ctx().clone();
        let make = || shown_part(&ctx, id, figure);
        let menu = PlotMenu {
            view: Some(id),
            make: &make,
        };
        menu.items_ui(ui);
    });
}

/// The menu of a map, which has no view to reset.
pub(crate) struct MapMenu<'a> {
    /// What is shown, for the button's name.
    pub(crate) title: &'a str,
    /// Makes the figure when it is asked for.
    pub(crate) make: &'a dyn Fn() -> Figure,
}

impl MapMenu<'_> {
    /// The button with its menu.
    pub(crate) fn button_ui(&self, ui: &mut egui::Ui) {
        let button = menu_button_ui(ui, self.title);
        Popup::menu(&button).show(|ui| self.items_ui(ui));
    }

    /// The entries, for a right click.
    pub(crate) fn items_ui(&self, ui: &mut egui::Ui) {
        let menu = PlotMenu {
            view: None,
            make: self.make,
        };
        menu.items_ui(ui);
    }
}

struct PlotMenu<'a> {
    /// The plot whose view can be reset.
    view: Option<Id>,
    make: &'a dyn Fn() -> Figure,
}

impl PlotMenu<'_> {
    fn items_ui(&self, ui: &mut egui::Ui) {
        for format in FigureFormat::ALL {
            if ui.button(format!("Save as {}…", format.name())).clicked() {
                let request = SaveRequest {
                    figure: Arc::new((self.make)()),
                    format,
                };
                ui.data_mut(|data| {
                    let requests: &mut Vec<SaveRequest> =
                        data.get_temp_mut_or_default(requests_id());
                    requests.push(request);
                });
                ui.close();
            }
        }
        if ui.button("Copy data as CSV").clicked() {
            ui.copy_text((self.make)().to_csv());
            ui.close();
        }
        if let Some(id) = self.view {
            ui.separator();
            if ui.button("Reset view").clicked() {
                ui.data_mut(|data| data.insert_temp(reset_id(id), true));
                ui.close();
            }
        }
    }
}

/// A button with three dots.
fn menu_button_ui(ui: &mut egui::Ui, title: &str) -> Response {
    let (rect, response) = ui.allocate_exact_size(vec2(20.0, 18.0), Sense::click());
    response
        .widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Plot menu of {title}")));
    if ui.is_rect_visible(rect) {
        let visuals = ui.style().interact(&response);
        let strong = response.hovered() || response.has_focus();
        if strong {
            ui.painter().rect_filled(rect, 4, visuals.weak_bg_fill);
        }
        if response.has_focus() {
            let edge = Stroke::new(2.0, theme::palette(ui).accent);
            ui.painter()
                .rect_stroke(rect, 4, edge, egui::StrokeKind::Inside);
        }
        for step in [-5.0, 0.0, 5.0] {
            let dot = rect.center() + vec2(0.0, step);
            ui.painter()
                .circle_filled(dot, 1.6, visuals.fg_stroke.color);
        }
    }
    response.on_hover_text("Save or copy this plot, or see all of it again")
}

/// The figure with the part of its axes that is seen on the screen.
fn shown_part(ctx: &Context, id: Id, figure: &Figure) -> Figure {
    let mut figure = figure.clone();
    if let (Content::Plot(plot), Some(memory)) = (&mut figure.content, PlotMemory::load(ctx, id))
        && memory.bounds().is_valid()
    {
        let (min, max) = (memory.bounds().min(), memory.bounds().max());
        for (index, axis) in [&mut plot.x, &mut plot.y].into_iter().enumerate() {
            axis.range = Some([min[index], max[index]].map(|place| axis.scale.value(place)));
        }
    }
    figure
}
