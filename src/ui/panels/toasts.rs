//! What was done, told in a corner for a few seconds.

use std::collections::BTreeMap;

use egui::{Align2, Area, Id, Label, Order, RichText, vec2};

use super::messages::severity_look;
use crate::session::{Action, Message, Session, Severity};
use crate::ui::theme;

/// How long a toast stays, in seconds.
const STAYS_SECS: f64 = 5.0;
/// Toasts that are shown at once; further ones wait.
const SHOWN: usize = 3;
const WIDTH: f32 = 340.0;

/// Since when each toast is shown.
#[derive(Debug, Default)]
pub(crate) struct ToastsView {
    since: BTreeMap<u64, f64>,
}

/// The toasts, above the corner at `foot`, which is the top of the status bar.
///
/// They go by themselves and let clicks through, so that nothing below them is out of reach.
pub(crate) fn toasts_ui(
    ctx: &egui::Context,
    session: &Session,
    view: &mut ToastsView,
    foot: f32,
    actions: &mut Vec<Action>,
) {
    let now = ctx.input(|input| input.time);
    let shown: Vec<&Message> = session
        .messages()
        .iter()
        .filter(|message| message.severity == Severity::Info)
        .take(SHOWN)
        .collect();
    view.since
        .retain(|id, _| shown.iter().any(|message| message.id == *id));
    for message in &shown {
        let age = now - *view.since.entry(message.id).or_insert(now);
        if age >= STAYS_SECS {
            actions.push(Action::Dismiss(message.id));
        } else {
            let rest = std::time::Duration::from_secs_f64(STAYS_SECS - age);
            ctx.request_repaint_after(rest);
        }
    }
    if shown.is_empty() {
        return;
    }
    let below = ctx.content_rect().bottom() - foot;
    Area::new(Id::unique("toasts"))
        .order(Order::Foreground)
        .interactable(false)
        .anchor(Align2::RIGHT_BOTTOM, vec2(-10.0, -below - 8.0))
        .show(ctx, |ui| {
            ui.set_width(WIDTH.min(ctx.content_rect().width() - 20.0));
            for message in shown {
                toast_ui(ui, message);
            }
        });
}

fn toast_ui(ui: &mut egui::Ui, message: &Message) {
    let (word, color) = severity_look(ui, message.severity);
    theme::card(ui)
        .shadow(ui.visuals().popup_shadow)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.label(
                RichText::new(format!("{word}: {}", message.title))
                    .color(color)
                    .strong(),
            );
            ui.add(Label::new(message.text.as_str()).wrap());
        });
}
