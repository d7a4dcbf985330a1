//! Accuracy and size of the plan as they are measured, and the plans that were measured before.

use egui::ScrollArea;

use super::cards::cards_ui;
use super::history_plot::{HistoryAxis, history_plot_ui};
use super::overview_history::history_table_ui;
use super::overview_plots::{Curve, ErrorSeries, layer_errors_ui, running_accuracy_ui};
use super::preprocess_card::{PreprocessCard, preprocess_card_ui};
use crate::plan::Fingerprint;
use crate::session::{Action, Session};
use crate::ui::commands::Command;
use crate::ui::theme;

/// Width from which plots stand side by side.
const TWO_COLUMNS: f32 = 760.0;

/// Looks of the overview, and the course of the running evaluation.
#[derive(Debug, Default)]
pub(crate) struct OverviewView {
    curve: Curve,
    errors: ErrorSeries,
    pub(crate) preprocess: PreprocessCard,
    pub(super) history_axis: HistoryAxis,
    /// The plan of the history whose name is edited.
    pub(super) renaming: Option<(Fingerprint, String)>,
    /// Two plans that the Compare tab is asked to show.
    pub(crate) plans_to_compare: Option<(Fingerprint, Fingerprint)>,
}

impl OverviewView {
    /// Takes in the next point of the running evaluation; needed also while another tab is shown.
    pub(crate) fn follow(&mut self, session: &Session) {
        self.curve.follow(session);
    }
}

/// Width of the bar that scrolls.
const SCROLL_BAR: f32 = 10.0;

/// The overview.
pub(crate) fn overview_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut OverviewView,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    view.follow(session);
    view.errors.follow(session);
    ScrollArea::vertical()
        .id_salt("overview")
        .auto_shrink(false)
        .show(ui, |ui| {
            // The scroll bar lies over the right edge.
            ui.set_max_width(ui.available_width() - SCROLL_BAR);
            if session.data().is_none() {
                no_data_ui(ui, session, commands);
                cards_ui(ui, session);
                return;
            }
            // What casts doubt on every number stands above them.
            let doubtful = session.is_near_chance();
            if doubtful {
                preprocess_card_ui(ui, session, &mut view.preprocess, actions);
            }
            cards_ui(ui, session);
            ui.add_space(2.0);
            if !doubtful {
                preprocess_card_ui(ui, session, &mut view.preprocess, actions);
            }
            if ui.available_width() >= TWO_COLUMNS {
                ui.columns(2, |columns| {
                    if let [left, right] = columns {
                        running_accuracy_ui(left, session, &view.curve);
                        history_plot_ui(right, session, &mut view.history_axis, actions);
                    }
                });
                layer_errors_ui(ui, session, &view.errors, actions);
            } else {
                running_accuracy_ui(ui, session, &view.curve);
                layer_errors_ui(ui, session, &view.errors, actions);
                history_plot_ui(ui, session, &mut view.history_axis, actions);
            }
            history_table_ui(ui, session, view, actions);
        });
}

fn no_data_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    theme::card(ui).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.strong("Accuracy needs data");
        ui.label(
            "Open a folder of samples: one folder per class, images with labels.csv, or inputs.npy with labels.npy. Widths, sizes and weights can be studied without it.",
        );
        if Command::OpenData.button_ui(ui, session) {
            commands.push(Command::OpenData);
        }
    });
}
