//! The Compare tab: two evaluated plans side by side, as a whole and layer by layer.

mod layers;
mod summary;

use egui::{ComboBox, RichText};

use self::layers::LayerComparison;
use super::samples::{Filter, Pair};
use super::theme;
use crate::plan::Fingerprint;
use crate::session::{Action, HistoryEntry, Session};

/// Looks of the Compare tab.
#[derive(Debug, Default)]
pub(crate) struct CompareView {
    a: Option<Fingerprint>,
    b: Option<Fingerprint>,
    differences_only: bool,
    layers: LayerComparison,
    summary: summary::Counted,
}

impl CompareView {
    /// Chooses the two plans.
    pub(crate) fn choose(&mut self, a: Fingerprint, b: Fingerprint) {
        (self.a, self.b) = (Some(a), Some(b));
    }
}

/// The Compare tab; samples that are to be shown, if some were asked for.
pub(crate) fn compare_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut CompareView,
    actions: &mut Vec<Action>,
) -> Option<(Pair, Filter)> {
    let history = session.history();
    let Some((mut a, mut b)) = chosen(session, view) else {
        ui.label(
            "Two measured plans are compared here. Change some widths: every plan that is measured to the end is kept, and with two of them there is something to compare",
        );
        return None;
    };
    ui.horizontal_wrapped(|ui| {
        plan_choice_ui(ui, history, "A", &mut a);
        plan_choice_ui(ui, history, "B", &mut b);
        if ui.button("Swap A and B").clicked() {
            std::mem::swap(&mut a, &mut b);
        }
    });
    view.choose(a.clone(), b.clone());
    let entry = |plan: &Fingerprint| history.iter().find(|entry| entry.fingerprint == *plan);
    let (Some(first), Some(second)) = (entry(&a), entry(&b)) else {
        return None;
    };
    if a == b {
        ui.label(RichText::new("A and B are the same plan").color(theme::palette(ui).weak));
    }
    let mut shown = None;
    egui::ScrollArea::horizontal()
        .id_salt("comparison")
        .auto_shrink(false)
        .show(ui, |ui| {
            summary::summary_ui(ui, first, second);
            shown = summary::samples_ui(ui, session, &mut view.summary, &a, &b);
            ui.separator();
            view.layers.follow(session, first, second);
            view.layers.plot_ui(ui, session, actions);
            ui.horizontal(|ui| {
                ui.strong("Layers");
                let count = view.layers.differing();
                ui.label(format!("{count} of {} differ", view.layers.len()));
                ui.checkbox(&mut view.differences_only, "Differences only");
            });
            view.layers.show_ui(ui, view.differences_only);
        });
    shown
}

/// The chosen plans, else the current plan against the one that was measured before it.
fn chosen(session: &Session, view: &CompareView) -> Option<(Fingerprint, Fingerprint)> {
    let history = session.history();
    if history.len() < 2 {
        return None;
    }
    let is_known = |plan: &Fingerprint| history.iter().any(|entry| entry.fingerprint == *plan);
    let current = session.plan_fingerprint();
    let b = view
        .b
        .clone()
        .filter(is_known)
        .or_else(|| is_known(current).then(|| current.clone()))
        .or_else(|| history.last().map(|entry| entry.fingerprint.clone()))?;
    let newest_other = || {
        let mut others = history.iter().rev().map(|entry| &entry.fingerprint);
        others.find(|plan| **plan != b).cloned()
    };
    let a = view.a.clone().filter(is_known).or_else(newest_other)?;
    Some((a, b))
}

fn plan_choice_ui(
    ui: &mut egui::Ui,
    history: &[HistoryEntry],
    letter: &str,
    plan: &mut Fingerprint,
) {
    ui.strong(letter);
    let shown = history.iter().find(|entry| entry.fingerprint == *plan);
    let response = ComboBox::from_id_salt(("compared plan", letter))
        .selected_text(shown.map_or("–", |entry| entry.name.as_str()))
        .width(130.0)
        .truncate()
        .height(400.0)
        .show_ui(ui, |ui| {
            for entry in history.iter().rev() {
                let name = entry.name.as_str();
                ui.selectable_value(plan, entry.fingerprint.clone(), name);
            }
        })
        .response;
    response.accessible_name(format!("Plan {letter}"));
}
