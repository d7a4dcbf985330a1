//! Which plan is measured next.
//!
//! The first plans are the uniform ones, the best within the bytes of each of them by the effects of
//! single layers, and corners of the predicted frontier. After those, the effects are corrected with
//! what was measured, and plans around the front follow: the best by the corrected effects, neighbours of
//! the best measured plan, and mixtures of good ones. The next plan follows from the state alone, so a
//! search that was interrupted goes on as if it had not been.

use std::collections::HashSet;

use super::budget::{Axis, Goal};
use super::effects::{Meaning, Model, Prediction};
use super::moves::{Moves, Random};
use super::problem::Problem;
use super::score::Score;
use super::space::Space;
use super::state::{MeasuredPlan, Origin, SearchState};
use crate::model::Layer;
use crate::plan::{Widths, cost};
use crate::quant::NumberFormat;

/// Corners of the predicted frontier among the first plans.
const FIRST_CORNERS: usize = 12;
/// Plans that mixtures are made of.
const PARENTS: usize = 6;
/// Attempts at a mixture that was not measured yet.
const ATTEMPTS: usize = 24;

/// A plan to be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Place in the order of the search.
    pub place: usize,
    /// Name of a uniform plan.
    pub name: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Widths in layer order.
    pub widths: Vec<Widths>,
    /// What is expected.
    pub predicted: Prediction,
}

/// Decides what is measured next.
#[derive(Clone, Debug)]
pub struct Planner<'a> {
    /// The layers of the network.
    pub layers: &'a [Layer],
    /// What may be chosen.
    pub space: &'a Space,
    /// Parameters that belong to no layer.
    pub other_parameters: u64,
    /// What the search is for; without a goal the whole front counts alike.
    pub goal: Option<Goal>,
    /// Decides between mixtures.
    pub seed: u64,
}

impl Planner<'_> {
    fn axis(&self) -> Axis {
        self.goal.as_ref().map_or(Axis::Bytes, Goal::axis)
    }

    fn problem(&self, model: &Model) -> Problem {
        Problem::new(
            self.space,
            model,
            self.layers,
            self.other_parameters,
            self.axis(),
        )
    }

    /// A measured plan; `harms` are those of the single samples.
    pub fn measured(&self, proposal: Proposal, score: Score, harms: Vec<f32>) -> MeasuredPlan {
        let plan = self.space.plan(&proposal.widths);
        let cost = cost(self.layers, &plan, self.other_parameters);
        let weight_bits = Axis::WeightBits.of_plan(self.layers, &plan, self.other_parameters);
        MeasuredPlan {
            place: proposal.place,
            name: proposal.name,
            origin: proposal.origin,
            widths: proposal.widths,
            size_bytes: cost.size_bytes,
            weight_bits: weight_bits as u64,
            bops: cost.bops,
            predicted: proposal.predicted,
            score,
            harms,
        }
    }

    /// What a plan takes of the axis.
    fn amount(&self, widths: &[Widths]) -> f64 {
        let plan = self.space.plan(widths);
        self.axis()
            .of_plan(self.layers, &plan, self.other_parameters)
    }

    /// The uniform plans with their names, each once; layers that may not follow are as near as they may.
    pub fn uniform(&self) -> Vec<(String, Vec<Widths>)> {
        let mut pairs: Vec<Widths> = Vec::new();
        for layer in self.space.layers() {
            for weight in &layer.weights {
                for activation in &layer.activations {
                    let widths = Widths {
                        weight: *weight,
                        activation: *activation,
                    };
                    if !pairs.contains(&widths) {
                        pairs.push(widths);
                    }
                }
            }
        }
        pairs.sort_by_key(|pair| std::cmp::Reverse((pair.activation.bits(), pair.weight.bits())));
        let mut seen = HashSet::new();
        pairs
            .into_iter()
            .map(|pair| (uniform_name(pair), self.space.uniform(pair)))
            .filter(|(_, widths)| seen.insert(widths.clone()))
            .collect()
    }

    /// The plans that are measured first; they follow from the effects of single layers alone.
    pub fn first_plans(&self, model: &Model, meaning: &Meaning) -> Vec<Proposal> {
        let mut list = First {
            plans: Vec::new(),
            seen: HashSet::new(),
            model,
            meaning,
        };
        let uniform = self.uniform();
        for (name, widths) in &uniform {
            list.add(Some(name.clone()), Origin::Uniform, widths.clone());
        }
        let problem = self.problem(model);
        if let Some(goal) = &self.goal {
            let sum = self.sum_at_drop(model, meaning);
            if let Ok(found) = problem.solve(goal, sum, self.layers) {
                list.add(None, Origin::Predicted, found.widths);
            }
        }
        for (_, widths) in &uniform {
            if let Ok(found) = problem.within(self.amount(widths)) {
                list.add(None, Origin::Predicted, found.widths);
            }
        }
        let frontier = problem.frontier();
        let (Some(first), Some(last)) = (frontier.first(), frontier.last()) else {
            return list.plans;
        };
        let (low, high) = (first.amount.max(1.0).ln(), last.amount.max(1.0).ln());
        for step in 0..FIRST_CORNERS {
            let share = step as f64 / (FIRST_CORNERS - 1) as f64;
            let limit = (low + (high - low) * share).exp() * (1.0 + 1e-9);
            let corner = frontier.iter().rev().find(|corner| corner.amount <= limit);
            if let Some(corner) = corner {
                list.add(None, Origin::Predicted, corner.widths.clone());
            }
        }
        list.plans
    }

    fn sum_at_drop(&self, model: &Model, meaning: &Meaning) -> Option<f64> {
        match self.goal {
            Some(Goal::Drop(drop)) => Some(model.sum_at(meaning.harm_at_drop(drop)?)),
            _ => None,
        }
    }

    /// The next plan; `None` if the part is done or nothing new is left around the front.
    ///
    /// `first` are the plans of [`Planner::first_plans`].
    pub fn next(&self, state: &SearchState, first: &[Proposal]) -> Option<Proposal> {
        let measured: HashSet<&[Widths]> = state
            .measured
            .iter()
            .map(|plan| plan.widths.as_slice())
            .collect();
        let open = first.iter().find(|plan| {
            state.shard.holds(plan.place) && !measured.contains(plan.widths.as_slice())
        });
        if let Some(open) = open {
            return Some(open.clone());
        }
        if !state.shard.is_whole() {
            return None;
        }
        self.later(state, first, &measured)
    }

    fn later(
        &self,
        state: &SearchState,
        first: &[Proposal],
        measured: &HashSet<&[Widths]>,
    ) -> Option<Proposal> {
        let (_, model) = state.models();
        let meaning = state.meaning();
        let turn = state.measured.len().saturating_sub(first.len());
        let last = state.measured.iter().map(|plan| plan.place).max();
        let place = last.map_or(0, |last| last + 1).max(first.len());
        let around = Around {
            planner: self,
            problem: self.problem(&model),
            model: &model,
            state,
            measured,
            random: Random::new(self.seed, state.measured.len() as u64),
        };
        let targets = self.targets(state, &model, &meaning);
        // Three of four plans serve the goal, the others keep the whole front growing.
        let goals = usize::from(self.goal.is_some());
        let begin = match turn % 4 {
            _ if targets.len() <= goals => 0,
            3 => goals + (turn / 4) % (targets.len() - goals),
            _ if goals == 1 => 0,
            _ => turn % targets.len(),
        };
        let order = (0..targets.len()).map(|step| (begin + step) % targets.len());
        let mut around = around;
        order
            .filter_map(|index| around.propose(&targets[index], turn))
            .map(|(origin, widths)| Proposal {
                place,
                name: None,
                origin,
                predicted: meaning.prediction(model.harm(model.sum(&widths))),
                widths,
            })
            .next()
    }

    /// Limits of the axis at which plans are wanted: the goal first, then what the uniform plans take.
    fn targets(&self, state: &SearchState, model: &Model, meaning: &Meaning) -> Vec<Target> {
        let mut targets = Vec::new();
        match self.goal {
            Some(Goal::Within { limit, .. }) => targets.push(Target {
                limit,
                solved: None,
            }),
            Some(goal @ Goal::Drop(_)) => {
                let best = state.best(&goal);
                // Only a smaller plan is better.
                let limit = best.map_or(f64::INFINITY, |best| {
                    state.measured[best].size_bytes as f64 - 1.0
                });
                let sum = self.sum_at_drop(model, meaning);
                let solved = self.problem(model).solve(&goal, sum, self.layers).ok();
                targets.push(Target {
                    limit,
                    solved: solved.map(|found| found.widths),
                });
            }
            None => {}
        }
        for (_, widths) in self.uniform() {
            targets.push(Target {
                limit: self.amount(&widths),
                solved: None,
            });
        }
        targets
    }
}

/// Where better plans are wanted.
struct Target {
    /// Amount of the axis.
    limit: f64,
    /// What the model says is best, where that is not the best within the limit.
    solved: Option<Vec<Widths>>,
}

/// `W4A8`, or `W4` with inputs in float.
fn uniform_name(widths: Widths) -> String {
    match widths.activation {
        NumberFormat::F32 if widths.weight == NumberFormat::F32 => "F32".to_owned(),
        NumberFormat::F32 => format!("W{}", widths.weight),
        activation => format!("W{}A{activation}", widths.weight),
    }
}

/// The first plans as they are collected.
struct First<'a> {
    plans: Vec<Proposal>,
    seen: HashSet<Vec<Widths>>,
    model: &'a Model,
    meaning: &'a Meaning,
}

impl First<'_> {
    fn add(&mut self, name: Option<String>, origin: Origin, widths: Vec<Widths>) {
        if self.seen.insert(widths.clone()) {
            let harm = self.model.harm(self.model.sum(&widths));
            self.plans.push(Proposal {
                place: self.plans.len(),
                name,
                origin,
                widths,
                predicted: self.meaning.prediction(harm),
            });
        }
    }
}

/// Ways to find a plan around what was measured.
struct Around<'a> {
    planner: &'a Planner<'a>,
    problem: Problem,
    model: &'a Model,
    state: &'a SearchState,
    measured: &'a HashSet<&'a [Widths]>,
    random: Random,
}

impl Around<'_> {
    fn propose(&mut self, target: &Target, turn: usize) -> Option<(Origin, Vec<Widths>)> {
        let solved = match &target.solved {
            Some(widths) => Some(widths.clone()),
            None => self.problem.within(target.limit).ok().map(|s| s.widths),
        };
        if let Some(widths) = solved.filter(|widths| self.is_new(widths)) {
            return Some((Origin::Corrected, widths));
        }
        if turn.is_multiple_of(2) {
            self.neighbour(target.limit)
                .or_else(|| self.evolved(target.limit))
        } else {
            self.evolved(target.limit)
                .or_else(|| self.neighbour(target.limit))
        }
    }

    fn is_new(&self, widths: &[Widths]) -> bool {
        !self.measured.contains(widths)
    }

    /// Measured plans near a limit, the best within it first; larger ones follow.
    fn parents(&self, limit: f64) -> Vec<&MeasuredPlan> {
        let planner = self.planner;
        let amount = |plan: &MeasuredPlan| plan.amount(planner.axis());
        let mut plans: Vec<(bool, f64, &MeasuredPlan)> = self
            .state
            .measured
            .iter()
            .map(|plan| {
                let over = (amount(plan) / limit).max(1.0);
                // What must be made smaller will be harmed by it.
                (over > 1.0, plan.score.harm() * over * over, plan)
            })
            .collect();
        plans.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        plans.into_iter().map(|(_, _, plan)| plan).collect()
    }

    /// The neighbour of the best plan within the limit that is expected to be best.
    fn neighbour(&self, limit: f64) -> Option<(Origin, Vec<Widths>)> {
        let parent = self.parents(limit).into_iter().next()?;
        let moves = self.moves(&parent.widths);
        let found = moves.neighbours(limit, |widths| self.is_new(widths))?;
        Some((Origin::Neighbour, found))
    }

    fn moves<'b>(&'b self, widths: &'b [Widths]) -> Moves<'b> {
        Moves::new(
            self.planner.space,
            self.model,
            self.planner.layers,
            self.planner.axis(),
            widths,
            self.planner.amount(widths),
        )
    }

    /// A mixture of two good plans with a few random changes, brought to the limit.
    fn evolved(&mut self, limit: f64) -> Option<(Origin, Vec<Widths>)> {
        let parents: Vec<Vec<Widths>> = self
            .parents(limit)
            .into_iter()
            .take(PARENTS)
            .map(|plan| plan.widths.clone())
            .collect();
        for _ in 0..ATTEMPTS {
            let (Some(one), Some(other)) = (
                parents.get(self.random.below(parents.len())),
                parents.get(self.random.below(parents.len())),
            ) else {
                return None;
            };
            let mut child = self.mixed(one, other);
            for _ in 0..=self.random.below(3) {
                self.mutate(&mut child);
            }
            if let Some(child) = self.moves(&child).repaired(limit)
                && self.is_new(&child)
            {
                return Some((Origin::Evolved, child));
            }
        }
        None
    }

    /// Weights from either parent; inputs of a group from one of them.
    fn mixed(&mut self, one: &[Widths], other: &[Widths]) -> Vec<Widths> {
        let mut child = one.to_vec();
        for (layer, other) in child.iter_mut().zip(other) {
            if self.random.below(2) == 1 {
                layer.weight = other.weight;
            }
        }
        for group in self.planner.space.groups() {
            if self.random.below(2) == 1 {
                for layer in group {
                    child[*layer].activation = other[*layer].activation;
                }
            }
        }
        child
    }

    /// Gives one weight, or the inputs of one group, a random width.
    fn mutate(&mut self, widths: &mut [Widths]) {
        let space = self.planner.space;
        let layer = self.random.below(widths.len());
        let Some(own) = space.layers().get(layer) else {
            return;
        };
        if own.activations.len() > 1 && self.random.below(3) == 0 {
            let new = own.activations[self.random.below(own.activations.len())];
            let group = space.groups().iter().find(|group| group.contains(&layer));
            for layer in group.into_iter().flatten() {
                if space.layers()[*layer].activations.contains(&new) {
                    widths[*layer].activation = new;
                }
            }
        } else if !own.weights.is_empty() {
            widths[layer].weight = own.weights[self.random.below(own.weights.len())];
        }
    }
}
