//! A budget that is solved while it is dragged.

use egui::{RichText, Slider};

use super::Shown;
use super::points::PlotAxis;
use crate::plan::{Plan, cost};
use crate::search::{Prediction, Solution, SpaceRequest};
use crate::session::{Action, Session, Solver, SolverBasis};
use crate::ui::{format, theme};

/// What the solver was made for; it is made again when any of it changes.
type Key = (PlotAxis, SpaceRequest, (u64, usize), Plan);

/// The slider with what it needs to answer at once.
#[derive(Debug, Default)]
pub(super) struct SliderView {
    /// The budget in units of the axis, once it was moved.
    limit: Option<(PlotAxis, f64)>,
    solver: Option<(Key, Option<Solver>)>,
    /// Corners of the predicted frontier: amount and prediction.
    frontier: Vec<(f64, Prediction)>,
    /// The last budget with its solution.
    solved: Option<(f64, Solution)>,
}

/// The plan that a budget leads to, while the budget is moved.
pub(super) struct Preview<'a> {
    pub(super) shown: Shown,
    /// Amount of the axis, and what is expected.
    pub(super) point: Option<(f64, Prediction)>,
    /// The predicted frontier.
    pub(super) frontier: &'a [(f64, Prediction)],
}

impl SliderView {
    /// Shows the slider; letting it go adopts the plan.
    pub(super) fn show_ui(
        &mut self,
        ui: &mut egui::Ui,
        session: &Session,
        axis: PlotAxis,
        space: &SpaceRequest,
        actions: &mut Vec<Action>,
    ) -> Option<Preview<'_>> {
        self.follow(session, axis, space);
        let Some(solver) = self.solver.as_ref().and_then(|(_, solver)| solver.as_ref()) else {
            let why = session.why_no_solver(space);
            ui.horizontal_wrapped(|ui| {
                ui.strong("Budget");
                ui.label(why.unwrap_or_else(|| "There is nothing to choose".to_owned()));
            });
            return None;
        };
        let (Some(&(least, _)), Some(&(most, _))) = (self.frontier.first(), self.frontier.last())
        else {
            return None;
        };
        let current = current_amount(session, axis).unwrap_or(most);
        let mut limit = match self.limit {
            Some((of, limit)) if of == axis => limit,
            _ => current,
        }
        .clamp(least, most.max(least));
        let response = ui
            .horizontal(|ui| {
                ui.strong("Budget");
                ui.spacing_mut().slider_width = (ui.available_width() - 110.0).max(80.0);
                let slider = Slider::new(&mut limit, least..=most.max(least + 1.0))
                    .show_value(false)
                    .smallest_positive(1.0);
                let response = ui
                    .add(slider)
                    .on_hover_text("Drag: the best widths within the budget are found at once. Letting go makes them the plan")
                    .accessible_name("Budget of the plan");
                ui.label(axis.amount(limit));
                response
            })
            .inner;
        if response.changed() {
            self.limit = Some((axis, limit));
        } else if !response.dragged() && !response.has_focus() {
            // Follows the plan again.
            self.limit = None;
        }
        let is_moved = self.limit.is_some();
        let solution = match &self.solved {
            Some((known, solution)) if *known == limit => solution.clone(),
            _ => solver.problem.within(limit).ok()?,
        };
        let plan = solver.space.plan(&solution.widths);
        let prediction = solver.prediction(solution.sum);
        self.solved = Some((limit, solution.clone()));
        let is_let_go = response.drag_stopped() || response.changed() && !response.dragged();
        if is_let_go && is_moved {
            actions.push(Action::Adopt(plan.clone()));
        }
        ui.label(
            RichText::new(sentence(
                session,
                &plan,
                &prediction,
                solver.basis,
                is_moved,
            ))
            .small()
            .color(theme::palette(ui).weak),
        );
        Some(Preview {
            shown: if is_moved {
                Shown {
                    title: format!("Best within {}", axis.amount(limit)),
                    widths: solution.widths,
                }
            } else {
                Shown {
                    title: "The current plan".to_owned(),
                    widths: session.plan().widths(),
                }
            },
            point: is_moved.then_some((solution.amount, prediction)),
            frontier: &self.frontier,
        })
    }

    /// Makes the solver again if what it stands on has changed.
    fn follow(&mut self, session: &Session, axis: PlotAxis, space: &SpaceRequest) {
        let generation = session.solver_generation();
        let is_same = |(known_axis, known_space, known_generation, plan): &Key| {
            *known_axis == axis
                && known_space == space
                && *known_generation == generation
                && is_same_base(plan, session.plan())
        };
        if self.solver.as_ref().is_some_and(|(key, _)| is_same(key)) {
            return;
        }
        let key = (axis, space.clone(), generation, session.plan().clone());
        let solver = session.solver(space, axis.axis());
        self.frontier = solver.as_ref().map_or_else(Vec::new, |solver| {
            let corners = solver.problem.corners().into_iter();
            corners
                .map(|(amount, sum)| (amount, solver.prediction(sum)))
                .collect()
        });
        self.solved = None;
        self.solver = Some((key, solver));
    }
}

/// Whether two plans have the same schemes and locks, and locked layers the same widths.
fn is_same_base(one: &Plan, other: &Plan) -> bool {
    let mut layers = one.layers().iter().zip(other.layers());
    one.layers().len() == other.layers().len()
        && layers.all(|(one, other)| {
            one.locked == other.locked
                && one.weight.same_but_format(&other.weight)
                && one.activation.same_but_format(&other.activation)
                && (!one.locked || one.widths() == other.widths())
        })
}

/// What the current plan takes.
pub(super) fn current_amount(session: &Session, axis: PlotAxis) -> Option<f64> {
    let cost = session.cost()?;
    Some(match axis {
        PlotAxis::Size => cost.size_bytes as f64,
        PlotAxis::Bops => cost.bops as f64,
    })
}

/// The plan within the budget in words.
fn sentence(
    session: &Session,
    plan: &Plan,
    prediction: &Prediction,
    basis: SolverBasis,
    is_moved: bool,
) -> String {
    let Some(model) = session.model() else {
        return String::new();
    };
    let cost = cost(model.layers(), plan, model.other_parameters);
    let mut parts = vec![
        format::bytes(cost.size_bytes),
        format!("{:.2} bits a weight", cost.average_weight_bits),
    ];
    parts.extend(
        prediction
            .top1
            .map(|share| format!("top-1 {}", format::percent(share))),
    );
    parts.extend(
        prediction
            .agreement
            .map(|share| format!("agreement {}", format::percent(share))),
    );
    parts.extend(
        prediction
            .sqnr_db
            .map(|db| format!("output SQNR {}", format::db(db))),
    );
    let on = match basis {
        SolverBasis::LocalErrors => "from the errors of single layers; a search predicts better",
        SolverBasis::Search => "on the samples of the search",
    };
    let what = if is_moved {
        "Predicted for the best plan within it"
    } else {
        "The best plan of that size is predicted to have"
    };
    format!("{what}: {}, {on}", parts.join(", "))
}
