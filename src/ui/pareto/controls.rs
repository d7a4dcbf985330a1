//! What a search may choose from, and starting and stopping it.

use egui::{DragValue, ProgressBar, RichText};

use super::points::PlotAxis;
use super::slider::current_amount;
use crate::quant::NumberFormat;
use crate::search::{End, Goal, SpaceRequest, Stage};
use crate::session::{Action, SearchRequest, Session};
use crate::ui::{format, theme};

/// Widths of weights that can be switched on.
const WEIGHTS: [&str; 7] = ["8", "7", "6", "5", "4", "3", "2"];
/// Widths of inputs that can be switched on.
const INPUTS: [&str; 5] = ["f32", "16", "8", "6", "4"];

/// Where a search looks for better plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Along the whole front.
    Front,
    /// Within what the current plan takes.
    CurrentPlan,
}

/// The widths, the number of plans and where they are looked for.
#[derive(Debug)]
pub(super) struct Controls {
    weights: Vec<(NumberFormat, bool)>,
    inputs: Vec<(NumberFormat, bool)>,
    plans: usize,
    aim: Aim,
}

impl Default for Controls {
    fn default() -> Self {
        let default = SearchRequest::widths();
        let switches = |texts: &[&str], on: &[NumberFormat]| {
            let formats = texts.iter().filter_map(|text| text.parse().ok());
            formats
                .map(|format| (format, on.contains(&format)))
                .collect()
        };
        Self {
            weights: switches(&WEIGHTS, &default.weights),
            inputs: switches(&INPUTS, &default.activations),
            plans: SearchRequest::PLANS,
            aim: Aim::Front,
        }
    }
}

impl Controls {
    /// What may be chosen from.
    pub(super) fn space(&self) -> SpaceRequest {
        let chosen = |switches: &[(NumberFormat, bool)]| {
            let on = switches.iter().filter(|(_, on)| *on);
            on.map(|(format, _)| *format).collect()
        };
        SpaceRequest {
            weights: chosen(&self.weights),
            activations: chosen(&self.inputs),
            bounds: Vec::new(),
        }
    }

    pub(super) fn show_ui(
        &mut self,
        ui: &mut egui::Ui,
        session: &Session,
        axis: PlotAxis,
        actions: &mut Vec<Action>,
    ) {
        ui.horizontal_wrapped(|ui| {
            ui.strong("Choose from");
            switches_ui(ui, "weights", &mut self.weights);
            switches_ui(ui, "inputs", &mut self.inputs);
        });
        ui.horizontal_wrapped(|ui| {
            ui.strong("Search");
            let plans = DragValue::new(&mut self.plans).range(1..=10_000).speed(1);
            ui.add(plans)
                .on_hover_text("The search stops when so many plans are measured, those of earlier runs included")
                .accessible_name("Plans to measure");
            ui.label("plans");
            self.aim_ui(ui, session, axis);
            if session.is_searching() {
                if ui
                    .button("Stop search")
                    .on_hover_text("Keep what was found; Start goes on from there")
                    .clicked()
                {
                    actions.push(Action::StopSearch);
                }
                progress_ui(ui, session);
            } else {
                self.start_ui(ui, session, axis, actions);
            }
        });
        if !session.is_searching() {
            self.state_ui(ui, session);
        }
    }

    fn aim_ui(&mut self, ui: &mut egui::Ui, session: &Session, axis: PlotAxis) {
        ui.selectable_value(&mut self.aim, Aim::Front, "along the front")
            .on_hover_text("Better plans are looked for at the sizes of all uniform plans");
        let taken = current_amount(session, axis).map_or_else(String::new, |a| axis.amount(a));
        ui.selectable_value(&mut self.aim, Aim::CurrentPlan, "at the plan's size")
            .on_hover_text(format!(
                "Three of four plans are looked for within what the current plan takes, {taken}; the budget below moves it"
            ));
    }

    fn goal(&self, session: &Session, axis: PlotAxis) -> Option<Goal> {
        let limit = match self.aim {
            Aim::Front => None,
            Aim::CurrentPlan => current_amount(session, axis),
        };
        let axis = axis.axis();
        limit.map(|limit| Goal::Within { axis, limit })
    }

    fn start_ui(
        &self,
        ui: &mut egui::Ui,
        session: &Session,
        axis: PlotAxis,
        actions: &mut Vec<Action>,
    ) {
        let space = self.space();
        let why_disabled = if space.weights.is_empty() {
            Some("Choose at least one width of weights")
        } else if space.activations.is_empty() {
            Some("Choose at least one width of inputs")
        } else if session.plan().layers().iter().all(|layer| layer.locked) {
            Some("Every layer is locked; unlock at least one in the layer table")
        } else if session.ranges().is_none() {
            Some("Inputs need ranges: wait until calibration has ended")
        } else {
            None
        };
        let response = ui
            .add_enabled(why_disabled.is_none(), egui::Button::new("Start search"))
            .on_hover_text(
                "Measure every layer at every width, then plans around the front; all of them stay as points. Evaluation samples choose nothing",
            );
        if response.clicked() {
            actions.push(Action::StartSearch(SearchRequest {
                space,
                goal: self.goal(session, axis),
                plans: self.plans,
                time: None,
                seed: 0,
            }));
        }
        response.on_disabled_hover_text(why_disabled.unwrap_or_default());
    }

    /// What a search that does not run has found.
    fn state_ui(&self, ui: &mut egui::Ui, session: &Session) {
        let weak = theme::palette(ui).weak;
        let measured = session.search().map_or(0, |news| news.state.measured.len());
        let text = match (measured, session.search_end()) {
            (0, _) => "No plan is measured yet: press Start search, or move the budget below, which is solved from what is known of single layers".to_owned(),
            (_, Some(End::NothingLeft)) => format!(
                "{measured} plans measured; the chosen widths allow no better ones nearby. Switch on more widths, or lock fewer layers"
            ),
            (_, Some(End::Plans)) if measured >= self.plans => format!(
                "{measured} plans measured; raise the number and press Start search to go on"
            ),
            _ => format!("{measured} plans measured; Start search goes on from there"),
        };
        ui.label(RichText::new(text).small().color(weak));
    }
}

fn switches_ui(ui: &mut egui::Ui, of: &str, switches: &mut [(NumberFormat, bool)]) {
    ui.label(of);
    for (width, on) in switches {
        ui.toggle_value(on, width.to_string())
            .on_hover_text(format!("{} of {of} at {}", "Choice", format::width(*width)))
            .accessible_name(format!("Choose {of} at {}", format::width(*width)));
    }
}

fn progress_ui(ui: &mut egui::Ui, session: &Session) {
    let jobs = session.running_jobs();
    let Some(job) = jobs.iter().find(|job| job.name == "Search") else {
        return;
    };
    let unit = match session.search().map(|news| news.stage) {
        Some(Stage::Measuring(..)) => "plans",
        _ => "samples, single layers",
    };
    let text = format!("{} of {} {unit}", job.done, job.total);
    ui.add(
        ProgressBar::new(job.fraction)
            .desired_width(190.0)
            .desired_height(16.0)
            .text(RichText::new(text).small()),
    )
    .accessible_name("Progress of the search");
    let weak = theme::palette(ui).weak;
    if job.paused {
        ui.label(
            RichText::new("waits for the plan's evaluation")
                .small()
                .color(weak),
        );
    } else if let Some(secs) = job.eta_secs {
        ui.label(RichText::new(format::eta(secs)).small().color(weak));
    }
}
