//! The row above the graph: what colours say, blocks, and zoom.

use egui::{Align2, ComboBox, FontId, Rect, Sense, Stroke, StrokeKind, pos2, vec2};

use super::tint::{Reader, Reading, Scale, Tint};
use super::{GraphView, Request, ZOOM_STEP};
use crate::quant::NumberFormat;
use crate::session::{OpenModel, Session};
use crate::ui::color_bar::paint_color_bar;
use crate::ui::theme;

/// Size of the bar of the legend, without its texts.
const BAR: egui::Vec2 = vec2(230.0, 9.0);

/// Controls and legend.
pub(super) fn controls_ui(
    ui: &mut egui::Ui,
    session: &Session,
    model: &OpenModel,
    view: &mut GraphView,
) {
    ui.horizontal_wrapped(|ui| {
        ui.label("Colour by");
        let response = ComboBox::from_id_salt("tint")
            .selected_text(view.tint.text())
            .width(120.0)
            .show_ui(ui, |ui| {
                for tint in Tint::ALL {
                    ui.selectable_value(&mut view.tint, tint, tint.text())
                        .on_hover_text(tint.tooltip());
                }
            })
            .response;
        response
            .on_hover_text(view.tint.tooltip())
            .accessible_name("What colours show");
        legend_ui(ui, session, model, view);
    });
    ui.horizontal_wrapped(|ui| {
        blocks_ui(ui, view);
        let why_disabled = session
            .selection()
            .is_empty()
            .then_some("Select a layer first, here or in the table");
        button_ui(
            ui,
            view,
            "Show selection",
            "Move to the selected layers and open the blocks around them (. while the pointer is over the graph)",
            why_disabled,
            Request::ShowSelection,
        );
        ui.separator();
        zoom_ui(ui, view);
    });
}

fn blocks_ui(ui: &mut egui::Ui, view: &mut GraphView) {
    let counts = view.drawing.as_ref().map(|drawing| {
        let all = drawing.blocks.all().len();
        (all, drawing.collapsed.len())
    });
    let (all, collapsed) = counts.unwrap_or_default();
    let no_blocks = (all == 0).then_some("The names of this network have no blocks in common");
    button_ui(
        ui,
        view,
        "Collapse all",
        "Show each outer block as one box",
        no_blocks.or((collapsed == all).then_some("All blocks are collapsed")),
        Request::CollapseAll,
    );
    button_ui(
        ui,
        view,
        "Expand all",
        "Show all nodes of all blocks",
        no_blocks.or((collapsed == 0).then_some("All blocks are open")),
        Request::ExpandAll,
    );
}

fn zoom_ui(ui: &mut egui::Ui, view: &mut GraphView) {
    let zoom = view
        .drawing
        .as_ref()
        .and_then(|drawing| drawing.camera.as_ref())
        .map_or(1.0, |camera| camera.view.zoom);
    for (text, name, keys, request) in [
        ("−", "Zoom out", "−", Request::Zoom(1.0 / ZOOM_STEP)),
        ("+", "Zoom in", "+", Request::Zoom(ZOOM_STEP)),
    ] {
        let response = ui
            .button(text)
            .on_hover_text(format!(
                "{name} (wheel, or {keys} while the pointer is over the graph)"
            ))
            .accessible_name(name);
        if response.clicked() {
            view.requests.push(request);
        }
    }
    button_ui(
        ui,
        view,
        "Fit",
        "Show the whole network (0 while the pointer is over the graph)",
        None,
        Request::Fit,
    );
    ui.weak(format!("{:.0} %", 100.0 * zoom));
}

fn button_ui(
    ui: &mut egui::Ui,
    view: &mut GraphView,
    text: &str,
    tooltip: &str,
    why_disabled: Option<&str>,
    request: Request,
) {
    let response = ui
        .add_enabled(why_disabled.is_none(), egui::Button::new(text))
        .on_hover_text(tooltip);
    if response.clicked() {
        view.requests.push(request);
    }
    response.on_disabled_hover_text(why_disabled.unwrap_or_default());
}

/// What the colours mean, with numbers and units.
fn legend_ui(ui: &mut egui::Ui, session: &Session, model: &OpenModel, view: &GraphView) {
    let reader = Reader::new(session, model.layers(), view.tint);
    if let Some(why) = reader.nothing_known() {
        ui.weak(why);
        return;
    }
    let Some(drawing) = &view.drawing else {
        return;
    };
    let readings = drawing.scene.items.iter().filter(|item| !item.is_frame());
    let readings = || {
        readings
            .clone()
            .filter_map(|item| reader.read(&item.layers))
    };
    let scale = Scale::over(readings());
    match scale.ticks(view.tint, readings().next()) {
        Some(ticks) => scale_ui(ui, &ticks),
        None => widths_ui(ui, session, view.tint),
    }
}

fn scale_ui(ui: &mut egui::Ui, ticks: &[String; 3]) {
    let (rect, _) = ui.allocate_exact_size(BAR + vec2(0.0, 13.0), Sense::hover());
    let bar = Rect::from_min_size(rect.min, BAR);
    let painter = ui.painter();
    paint_color_bar(painter, bar);
    let font = FontId::proportional(11.0);
    let color = theme::palette(ui).weak;
    for (text, (x, align)) in ticks.iter().zip([
        (bar.left(), Align2::LEFT_TOP),
        (bar.center().x, Align2::CENTER_TOP),
        (bar.right(), Align2::RIGHT_TOP),
    ]) {
        painter.text(pos2(x, bar.bottom()), align, text, font.clone(), color);
    }
}

/// The widths of the plan, each in its colour.
fn widths_ui(ui: &mut egui::Ui, session: &Session, tint: Tint) {
    let mut widths: Vec<NumberFormat> = session
        .plan()
        .layers()
        .iter()
        .map(|layer| match tint {
            Tint::ActivationBits => layer.activation.format,
            _ => layer.weight.format,
        })
        .collect();
    widths.sort_by_key(|width| (width.is_float(), width.bits()));
    widths.dedup();
    let palette = theme::palette(ui);
    for width in widths {
        let reading = Reading::Widths(width, width);
        let fill = Scale::default()
            .color(reading)
            .unwrap_or(palette.empty_cell);
        let (rect, response) = ui.allocate_exact_size(vec2(30.0, 18.0), Sense::hover());
        ui.painter().rect(
            rect,
            3,
            fill,
            Stroke::new(1.0, palette.card_edge),
            StrokeKind::Inside,
        );
        ui.painter().text(
            rect.center(),
            Align2::CENTER_CENTER,
            width.to_string(),
            FontId::proportional(12.0),
            theme::text_on(fill),
        );
        response.on_hover_text(super::super::format::width(width));
    }
    ui.weak("bits");
}
