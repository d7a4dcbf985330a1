//! Starting sweeps and scores.

use egui::{ComboBox, Label, RichText};

use super::quantity::{Quantity, Source};
use super::{SensitivityView, protocol_text};
use crate::engine::{Protocol, Subject};
use crate::session::{Action, Scored, Session};
use crate::ui::{format, theme};

pub(super) fn sweep_controls_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SensitivityView,
    actions: &mut Vec<Action>,
) {
    ui.horizontal_wrapped(|ui| {
        ui.strong("Sweep");
        let response = ComboBox::from_id_salt("protocol")
            .selected_text(protocol_text(view.protocol))
            .width(170.0)
            .show_ui(ui, |ui| {
                for protocol in [Protocol::OnlyOne, Protocol::AllButOne] {
                    ui.selectable_value(&mut view.protocol, protocol, protocol_text(protocol));
                }
            })
            .response;
        response.accessible_name("Protocol of the sweep");
        let response = ComboBox::from_id_salt("subject")
            .selected_text(view.subject.name())
            .width(90.0)
            .show_ui(ui, |ui| {
                for subject in [Subject::Weights, Subject::Activations, Subject::Both] {
                    ui.selectable_value(&mut view.subject, subject, subject.name());
                }
            })
            .response;
        response.accessible_name("What the sweep quantizes");
        ui.label("at");
        for (width, on) in &mut view.widths {
            ui.toggle_value(on, width.to_string())
                .on_hover_text(format::width(*width))
                .accessible_name(format!("Sweep at {}", format::width(*width)));
        }
        ui.label("bits");
        run_ui(ui, session, view, actions);
    });
}

fn run_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SensitivityView,
    actions: &mut Vec<Action>,
) {
    let request = view.request();
    let why_disabled = if request.widths.is_empty() {
        Some("Choose at least one width")
    } else if request.subject != Subject::Weights && session.ranges().is_none() {
        Some("Activations need ranges: wait until calibration has ended")
    } else {
        None
    };
    let response = ui
        .add_enabled(why_disabled.is_none(), egui::Button::new("Run sweep"))
        .on_hover_text(
            "Measure the whole network for every layer and width; results appear as they come, and what was measured before is not measured again",
        );
    if let (None, Some(secs)) = (why_disabled, session.sweep_secs(&request)) {
        let weak = theme::palette(ui).weak;
        let bytes = session
            .sweep_bytes(&request)
            .map_or_else(String::new, |bytes| {
                format!(", {} of memory", format::bytes(bytes))
            });
        let text = format!("{}{bytes}", format::about(secs));
        ui.add(Label::new(RichText::new(text).color(weak)).extend())
            .on_hover_text("Time: predicted from what the float run took, for this protocol and these widths; other jobs go first. Memory: what the sweep holds at its peak, on top of what is open");
    }
    if response.clicked() {
        actions.push(Action::RunSensitivity(request.clone()));
        if view.quantity.source() != Source::Sweep {
            view.quantity = Quantity::AccuracyDrop;
        }
    }
    response.on_disabled_hover_text(why_disabled.unwrap_or_default());
    let response = ui
        .add_enabled(why_disabled.is_none(), egui::Button::new("Score"))
        .on_hover_text(
            "Score every layer at these widths by gradients: one pass forth and back over the calibration samples",
        );
    if let (None, Some(secs)) = (why_disabled, session.score_secs(request.widths.len())) {
        let weak = theme::palette(ui).weak;
        ui.add(Label::new(RichText::new(format::about(secs)).color(weak)).extend())
            .on_hover_text("Predicted from the time that the float run took");
    }
    if response.clicked() {
        actions.push(Action::RunSecondOrder(request.subject, request.widths));
        if view.quantity.source() != Source::Gradients {
            view.quantity = Quantity::SecondOrder;
        }
    }
    response
        .on_disabled_hover_text(why_disabled.unwrap_or_default())
        .accessible_name("Score layers by gradients");
}

/// Why no second-order scores are shown, and what to do.
pub(super) fn why_no_scores(session: &Session, runs: bool) -> String {
    match session.second_order() {
        Some(Scored::Unavailable(reason)) => reason.clone(),
        _ if runs => "The scores are being computed: they appear after the first batch".to_owned(),
        _ => "No scores yet: choose what to quantize above and press Score".to_owned(),
    }
}
