//! A space with a model as groups of candidates, and back.

use super::allocation::{Infeasible, allocate};
use super::budget::{Axis, Goal};
use super::effects::Model;
use super::error::SearchError;
use super::frontier::{Candidate, Frontier, lower_hull, undominated};
use super::space::Space;
use crate::model::Layer;
use crate::plan::Widths;
use crate::quant::NumberFormat;

/// Beyond so many ways to set a group only those on its convex hull are kept.
const MOST_WAYS: usize = 256;

/// One way to set the layers of a group.
#[derive(Clone, Debug)]
struct Way {
    /// Layer index and widths.
    layers: Vec<(usize, Widths)>,
    candidate: Candidate,
}

/// What can be chosen along one axis.
#[derive(Clone, Debug)]
pub struct Problem {
    groups: Vec<Vec<Way>>,
    candidates: Vec<Vec<Candidate>>,
    axis: Axis,
    outside: f64,
    layers: usize,
}

/// A solved problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// Widths in layer order.
    pub widths: Vec<Widths>,
    /// Sum of the effects.
    pub sum: f64,
    /// What it takes of the axis.
    pub amount: f64,
}

impl Problem {
    /// Puts the choices of a space together.
    ///
    /// Ways that take more and harm more than another one of the same group are left out, which loses
    /// no optimum; groups of several layers with very many ways keep those on their convex hull.
    pub fn new(
        space: &Space,
        model: &Model,
        layers: &[Layer],
        other_parameters: u64,
        axis: Axis,
    ) -> Self {
        let builder = Builder {
            space,
            model,
            layers,
            axis,
        };
        let mut groups = Vec::new();
        for group in space.groups() {
            let is_free = group
                .first()
                .is_some_and(|first| space.layers()[*first].activations.len() > 1);
            if is_free {
                groups.push(builder.tied(group));
            } else {
                // Nothing ties layers whose inputs are given.
                groups.extend(group.iter().map(|layer| builder.tied(&[*layer])));
            }
        }
        let candidates = groups
            .iter()
            .map(|ways: &Vec<Way>| ways.iter().map(|way| way.candidate).collect())
            .collect();
        Self {
            groups,
            candidates,
            axis,
            outside: axis.outside_layers(other_parameters),
            layers: space.layers().len(),
        }
    }

    /// The axis along which amounts are counted.
    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// The choice with the least sum of effects within a limit, in units of the axis.
    ///
    /// # Errors
    /// The smallest amount that any choice takes.
    pub fn within(&self, limit: f64) -> Result<Solution, Infeasible> {
        match allocate(&self.candidates, limit - self.outside) {
            Ok(found) => Ok(self.solution(&found.chosen)),
            Err(infeasible) => Err(Infeasible {
                least: infeasible.least + self.outside,
            }),
        }
    }

    /// The choice with the least amount whose sum of effects is at most `sum`.
    ///
    /// # Errors
    /// The smallest sum of effects that any choice has.
    pub fn with_effects_below(&self, sum: f64) -> Result<Solution, Infeasible> {
        let turned: Vec<Vec<Candidate>> = self
            .candidates
            .iter()
            .map(|group| {
                let group = group.iter();
                group
                    .map(|candidate| Candidate {
                        harm: candidate.amount,
                        amount: candidate.harm,
                    })
                    .collect()
            })
            .collect();
        allocate(&turned, sum).map(|found| self.solution(&found.chosen))
    }

    /// The choice that a goal asks for; `sum_at_drop` is the sum of effects that a goal of accuracy allows.
    ///
    /// # Errors
    /// [`SearchError::Infeasible`] names the smallest budget that can be met.
    pub fn solve(
        &self,
        goal: &Goal,
        sum_at_drop: Option<f64>,
        layers: &[Layer],
    ) -> Result<Solution, SearchError> {
        match *goal {
            Goal::Within { axis, limit } => {
                self.within(limit)
                    .map_err(|infeasible| SearchError::Infeasible {
                        asked: axis.text(limit, layers),
                        least: axis.text(infeasible.least, layers),
                    })
            }
            Goal::Drop(_) => {
                // Where no plan is so good, the best one is as near as one can get.
                let found = self.with_effects_below(sum_at_drop.unwrap_or(0.0));
                found
                    .or_else(|infeasible| self.with_effects_below(infeasible.least))
                    .map_err(|_error| SearchError::AllLocked)
            }
        }
    }

    /// The whole Lagrangian frontier, from the smallest plan to the one with the least harm.
    pub fn frontier(&self) -> Vec<Solution> {
        let frontier = Frontier::of(&self.candidates);
        (0..frontier.corners().len())
            .map(|corner| self.solution(&frontier.chosen(corner)))
            .collect()
    }

    /// Sums along the frontier without the plans: amounts and sums of effects.
    pub fn corners(&self) -> Vec<(f64, f64)> {
        let frontier = Frontier::of(&self.candidates);
        let corners = frontier.corners().iter();
        corners
            .map(|corner| (corner.amount + self.outside, corner.harm))
            .collect()
    }

    fn solution(&self, chosen: &[usize]) -> Solution {
        let float = Widths::FLOAT;
        let mut solution = Solution {
            widths: vec![float; self.layers],
            sum: 0.0,
            amount: self.outside,
        };
        for (ways, index) in self.groups.iter().zip(chosen) {
            let Some(way) = ways.get(*index) else {
                continue;
            };
            solution.sum += way.candidate.harm;
            solution.amount += way.candidate.amount;
            for (layer, widths) in &way.layers {
                solution.widths[*layer] = *widths;
            }
        }
        solution
    }
}

struct Builder<'a> {
    space: &'a Space,
    model: &'a Model,
    layers: &'a [Layer],
    axis: Axis,
}

impl Builder<'_> {
    /// All ways to set layers whose inputs have one width.
    fn tied(&self, group: &[usize]) -> Vec<Way> {
        let Some(&first) = group.first() else {
            return Vec::new();
        };
        let mut ways = Vec::new();
        for activation in &self.space.layers()[first].activations {
            ways.extend(self.at(group, *activation));
        }
        thinned(ways)
    }

    /// All ways with one width of the inputs; a locked layer keeps its own.
    fn at(&self, group: &[usize], activation: NumberFormat) -> Vec<Way> {
        let mut ways = vec![Way {
            layers: Vec::new(),
            candidate: Candidate {
                harm: 0.0,
                amount: 0.0,
            },
        }];
        for layer in group {
            let own = &self.space.layers()[*layer].activations;
            let activation = match own.as_slice() {
                [only] => *only,
                _ => activation,
            };
            let mut next = Vec::new();
            for weight in &self.space.layers()[*layer].weights {
                let widths = Widths {
                    weight: *weight,
                    activation,
                };
                let one = self.candidate(*layer, widths);
                next.extend(ways.iter().map(|way| {
                    let mut layers = way.layers.clone();
                    layers.push((*layer, widths));
                    Way {
                        layers,
                        candidate: Candidate {
                            harm: way.candidate.harm + one.harm,
                            amount: way.candidate.amount + one.amount,
                        },
                    }
                }));
            }
            ways = thinned(next);
        }
        ways
    }

    fn candidate(&self, layer: usize, widths: Widths) -> Candidate {
        let choice = self.space.base().layers().get(layer);
        let amount = match (self.layers.get(layer), choice) {
            (Some(layer), Some(choice)) => {
                let mut choice = choice.clone();
                choice.weight.format = widths.weight;
                choice.activation.format = widths.activation;
                self.axis.amount(layer, &choice)
            }
            _ => 0.0,
        };
        Candidate {
            harm: self.model.weight(layer, widths.weight)
                + self.model.activation(layer, widths.activation),
            amount,
        }
    }
}

/// The ways that no other one beats.
fn thinned(ways: Vec<Way>) -> Vec<Way> {
    let candidates: Vec<Candidate> = ways.iter().map(|way| way.candidate).collect();
    let mut kept = undominated(&candidates);
    if kept.len() > MOST_WAYS {
        kept = lower_hull(&candidates);
    }
    let mut ways: Vec<Option<Way>> = ways.into_iter().map(Some).collect();
    kept.into_iter()
        .filter_map(|index| ways.get_mut(index)?.take())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;
    use crate::plan::Plan;
    use crate::search::effects::{Effects, PartEffects};
    use crate::search::space::SpaceRequest;
    use proptest::prelude::*;

    fn formats(texts: &[&str]) -> Vec<NumberFormat> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn space(weights: &[&str], activations: &[&str]) -> Space {
        let layers = layers_named(&["a", "b", "c"]);
        let request = SpaceRequest {
            weights: formats(weights),
            activations: formats(activations),
            bounds: Vec::new(),
        };
        let base = Plan::uniform(3, Widths::FLOAT);
        Space::with_groups(&layers, &base, &request, vec![vec![0, 2], vec![1]]).unwrap()
    }

    fn parts(effects: &[Vec<f64>], widths: &[NumberFormat]) -> Vec<PartEffects> {
        let effects = effects.iter();
        effects
            .map(|row| PartEffects::new(widths.iter().copied().zip(row.iter().copied()).collect()))
            .collect()
    }

    /// Every choice in which the inputs of the first and the last layer have one width.
    fn all_choices(space: &Space) -> Vec<Vec<Widths>> {
        let mut all = vec![Vec::new()];
        for layer in space.layers() {
            let mut next = Vec::new();
            for choice in &all {
                for weight in &layer.weights {
                    for activation in &layer.activations {
                        let mut longer = choice.clone();
                        longer.push(Widths {
                            weight: *weight,
                            activation: *activation,
                        });
                        next.push(longer);
                    }
                }
            }
            all = next;
        }
        all.retain(|choice: &Vec<Widths>| choice[0].activation == choice[2].activation);
        all
    }

    proptest! {
        #[test]
        fn tied_inputs_and_products_of_widths_are_solved_exactly(
            weights in prop::collection::vec(prop::collection::vec(0u32..100, 3), 3),
            activations in prop::collection::vec(prop::collection::vec(0u32..100, 2), 3),
            share in 0.0f64..1.2,
        ) {
            let space = space(&["8", "4", "2"], &["8", "4"]);
            let as_f64 = |rows: &[Vec<u32>]| -> Vec<Vec<f64>> {
                rows.iter().map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect()
            };
            let model = Model::new(Effects {
                weights: parts(&as_f64(&weights), &formats(&["8", "4", "2"])),
                activations: parts(&as_f64(&activations), &formats(&["8", "4"])),
            });
            let layers = layers_named(&["a", "b", "c"]);
            for axis in [Axis::Bytes, Axis::WeightBits, Axis::Bops] {
                let amount = |choice: &[Widths]| axis.of_plan(&layers, &space.plan(choice), 7);
                let most = amount(&space.uniform("8/8".parse().unwrap()));
                let limit = (share * most).floor();
                let problem = Problem::new(&space, &model, &layers, 7, axis);
                let choices = all_choices(&space);
                let fitting = choices.iter().filter(|choice| amount(choice) <= limit);
                let best = fitting.map(|choice| model.sum(choice)).min_by(f64::total_cmp);
                match (problem.within(limit), best) {
                    (Ok(found), Some(best)) => {
                        prop_assert_eq!(found.sum, best);
                        prop_assert_eq!(amount(&found.widths), found.amount);
                        prop_assert_eq!(model.sum(&found.widths), best);
                        let turned = problem.with_effects_below(best).unwrap();
                        prop_assert!(turned.amount <= found.amount && turned.sum <= best);
                    }
                    (Err(infeasible), None) => {
                        let least = choices.iter().map(|c| amount(c)).min_by(f64::total_cmp);
                        prop_assert_eq!(Some(infeasible.least), least);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }

    #[test]
    fn an_infeasible_budget_says_the_smallest_one() {
        let space = space(&["8", "4"], &["8"]);
        let layers = layers_named(&["a", "b", "c"]);
        let problem = Problem::new(&space, &Model::default(), &layers, 0, Axis::WeightBits);
        let goal = Goal::Within {
            axis: Axis::WeightBits,
            limit: 3.0 * 288.0 * 3.5,
        };
        let message = problem.solve(&goal, None, &layers).unwrap_err().to_string();
        assert!(message.contains("3.5 bits a weight"), "{message}");
        assert!(
            message.contains("can be met is 4 bits a weight"),
            "{message}"
        );
    }
}
