//! Choosing one candidate of every group within a budget, exactly.
//!
//! This is the multiple-choice knapsack problem (Kellerer, Pferschy, Pisinger: Knapsack Problems, 2004,
//! chapter 11):
//!
//! ```text
//! minimise Σ harm(g, c_g)   subject to   Σ amount(g, c_g) ≤ budget
//! ```
//! At the price `λ` at which the [`Frontier`] passes the budget, every choice obeys
//!
//! ```text
//! harm = floor + Σ reduced(g, c_g) + λ·(budget − amount),       floor = Σ_g min_c (harm + λ·amount) − λ·budget
//! reduced(g, c) = harm(g, c) + λ·amount(g, c) − min_c (harm + λ·amount) ≥ 0
//! ```
//! so a choice that is better than a known one has little reduced harm in total. Nearly all candidates
//! fall away by that, and dynamic programming over the others finds the optimum. Where a group so large
//! is cut in two that the floor is far from any choice, branch and bound decides that group first.

use super::frontier::{Candidate, Frontier};

/// A choice for every group.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// Index of the candidate of each group.
    pub chosen: Vec<usize>,
    /// Sum of the harms.
    pub harm: f64,
    /// Sum of the amounts, at most the budget.
    pub amount: f64,
    /// No choice within the budget has less harm; equal to `harm` where the optimum was proven.
    pub bound: f64,
}

/// No choice fits the budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Infeasible {
    /// The smallest amount that any choice takes.
    pub least: f64,
}

/// States that the first dynamic program keeps; it shall find a good choice, not prove it.
const FIRST_STATES: usize = 128;
/// States beyond which a part is cut into smaller ones instead.
const PART_STATES: usize = 512;
/// States of all parts together after which no more is proven; some milliseconds.
const MOST_STATES: usize = 400_000;
/// Differences below this part of the harm are rounding of the sums.
const ROUNDING: f64 = 1e-12;

/// The choice with the least harm within a budget.
///
/// Exact up to the rounding of the sums, within a bounded amount of work; beyond that the best choice
/// found is returned, and [`Allocation::bound`] says how much better any other can be. Of equal choices
/// the earlier groups and the smaller candidates win. A group without candidates counts for nothing.
///
/// # Errors
/// [`Infeasible`] says the smallest budget that can be met.
pub fn allocate(groups: &[Vec<Candidate>], budget: f64) -> Result<Allocation, Infeasible> {
    let frontier = Frontier::of(groups);
    let Some(corner) = frontier.within(budget) else {
        return Err(Infeasible {
            least: frontier.corners().first().map_or(0.0, |first| first.amount),
        });
    };
    let mut search = Branching {
        groups,
        frontier: &frontier,
        budget,
        best: frontier.chosen(corner),
        harm: f64::INFINITY,
        bound: f64::INFINITY,
        states_left: MOST_STATES,
    };
    search.harm = harm_of(groups, &search.best);
    search.part(&vec![None; groups.len()], FIRST_STATES);
    let amount = sum_of(groups, &search.best, |candidate| candidate.amount);
    Ok(Allocation {
        chosen: search.best,
        harm: search.harm,
        amount,
        bound: search.bound.min(search.harm),
    })
}

fn harm_of(groups: &[Vec<Candidate>], chosen: &[usize]) -> f64 {
    sum_of(groups, chosen, |candidate| candidate.harm)
}

fn sum_of(groups: &[Vec<Candidate>], chosen: &[usize], of: fn(&Candidate) -> f64) -> f64 {
    let candidates = groups.iter().zip(chosen);
    candidates
        .filter_map(|(candidates, index)| candidates.get(*index))
        .map(of)
        .sum()
}

/// The best choice so far, and what is still to be done.
struct Branching<'a> {
    groups: &'a [Vec<Candidate>],
    frontier: &'a Frontier,
    budget: f64,
    best: Vec<usize>,
    harm: f64,
    /// Least floor of the parts that were given up.
    bound: f64,
    states_left: usize,
}

impl Branching<'_> {
    /// Solves the part in which some groups are decided.
    fn part(&mut self, decided: &[Option<usize>], first_states: usize) {
        let frontier = self.frontier.with_decided(self.groups, decided);
        let Some(corner) = frontier.within(self.budget) else {
            return;
        };
        self.take(filled(self.groups, &frontier, corner, self.budget));
        let Some(cut) = frontier.steps().get(corner).copied() else {
            return;
        };
        let price = cut.gain();
        let mut core = Core::new(self.groups, decided, price, self.budget, self.harm);
        if core.gap <= core.rounding {
            return;
        }
        let most = if first_states == 0 {
            Most::GiveUp(PART_STATES)
        } else {
            Most::DropWorst(first_states)
        };
        let is_solved = core.solve(most, &mut self.states_left);
        let floor = core.floor;
        if let Some(best) = core.best {
            self.take(best);
        }
        if is_solved {
            return;
        }
        if self.states_left == 0 {
            self.bound = self.bound.min(floor);
            return;
        }
        let candidates = &self.groups[cut.group];
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|a, b| {
            let priced = |index: usize| candidates[index].priced(price);
            priced(*a).total_cmp(&priced(*b))
        });
        for candidate in order {
            let mut decided = decided.to_vec();
            decided[cut.group] = Some(candidate);
            self.part(&decided, 0);
        }
    }

    fn take(&mut self, chosen: Vec<usize>) {
        let harm = harm_of(self.groups, &chosen);
        if harm < self.harm {
            self.harm = harm;
            self.best = chosen;
        }
    }
}

/// The choice at a corner, with what is left of the budget spent step by step.
fn filled(
    groups: &[Vec<Candidate>],
    frontier: &Frontier,
    corner: usize,
    budget: f64,
) -> Vec<usize> {
    let mut chosen = frontier.chosen(corner);
    let mut left = budget - frontier.corners()[corner].amount;
    for step in &frontier.steps()[corner..] {
        let now = groups[step.group][chosen[step.group]];
        let new = groups[step.group][step.candidate];
        let more = new.amount - now.amount;
        if more <= left && new.harm < now.harm {
            chosen[step.group] = step.candidate;
            left -= more;
        }
    }
    chosen
}

/// A candidate that is not the best of its group at the price.
#[derive(Clone, Copy, Debug)]
struct Other {
    /// Reduced harm.
    reduced: f64,
    /// Amount beyond that of the best one.
    amount: f64,
    index: usize,
}

/// A group with the candidates that can be part of a better choice.
#[derive(Debug)]
struct Open {
    group: usize,
    /// By rising reduced harm; not empty.
    others: Vec<Other>,
}

/// How far the groups that are not decided yet can move the amount.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    up: f64,
    down: f64,
}

impl Reach {
    /// The reach that is left after each group.
    fn after_each(open: &[Open]) -> Vec<Self> {
        let mut reach = Self::default();
        let mut all: Vec<Self> = open
            .iter()
            .rev()
            .map(|open| {
                let here = reach;
                let amounts = || open.others.iter().map(|other| other.amount);
                reach.up += amounts().fold(0.0, f64::max);
                reach.down -= amounts().fold(0.0, f64::min);
                here
            })
            .collect();
        all.reverse();
        all
    }
}

/// What a partial choice differs in from the base, which is the best of every group at the price.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Amount beyond that of the base.
    amount: f64,
    /// Reduced harm.
    reduced: f64,
    /// Place of the state before in the list before.
    parent: usize,
    /// The candidate of the last group; `None` is that of the base.
    candidate: Option<usize>,
}

/// What is done when a list of states becomes too long.
#[derive(Clone, Copy, Debug)]
enum Most {
    /// Keep so many of the best: a good choice is found, but not proven.
    DropWorst(usize),
    /// Stop.
    GiveUp(usize),
}

/// The dynamic program over the candidates that can be part of a better choice.
struct Core {
    price: f64,
    /// Budget that the base leaves; below zero if the base is beyond it.
    left: f64,
    base: Vec<usize>,
    open: Vec<Open>,
    /// No choice has less harm.
    floor: f64,
    /// Harm of the best known choice above the floor.
    gap: f64,
    rounding: f64,
    /// A choice that is better than the one known before.
    best: Option<Vec<usize>>,
}

impl Core {
    fn new(
        groups: &[Vec<Candidate>],
        decided: &[Option<usize>],
        price: f64,
        budget: f64,
        harm: f64,
    ) -> Self {
        let mut core = Self {
            price,
            left: budget,
            base: Vec::with_capacity(groups.len()),
            open: Vec::new(),
            floor: -price * budget,
            gap: 0.0,
            rounding: 0.0,
            best: None,
        };
        for (group, (candidates, decided)) in groups.iter().zip(decided).enumerate() {
            core.add_group(group, candidates, *decided);
        }
        core.gap = harm - core.floor;
        core.rounding = ROUNDING * (price * budget).abs().max(harm.abs());
        core
    }

    fn add_group(&mut self, group: usize, candidates: &[Candidate], decided: Option<usize>) {
        let priced = |index: &usize| candidates[*index].priced(self.price);
        let order = |a: &usize, b: &usize| {
            let amount = |index: &usize| candidates[*index].amount;
            priced(a)
                .total_cmp(&priced(b))
                .then(amount(a).total_cmp(&amount(b)))
        };
        let best = decided.or_else(|| (0..candidates.len()).min_by(order));
        self.base.push(best.unwrap_or(0));
        let Some(best) = best else { return };
        let least = candidates[best];
        let others = (0..candidates.len()).filter(|index| decided.is_none() && *index != best);
        let others: Vec<Other> = others
            .map(|index| Other {
                reduced: (priced(&index) - priced(&best)).max(0.0),
                amount: candidates[index].amount - least.amount,
                index,
            })
            .collect();
        self.floor += priced(&best);
        self.left -= least.amount;
        self.open.push(Open { group, others });
    }

    /// Finds the best choice; `false` if it is not proven that there is no better one.
    fn solve(&mut self, most: Most, states_left: &mut usize) -> bool {
        let limit = self.gap - self.rounding;
        for open in &mut self.open {
            open.others.retain(|other| other.reduced < limit);
            open.others.sort_by(|a, b| a.reduced.total_cmp(&b.reduced));
        }
        let mut open = std::mem::take(&mut self.open);
        open.retain(|open| !open.others.is_empty());
        // The cheapest deviations first: they close the gap soonest, and the rest falls away.
        let cheapest = |open: &Open| open.others.first().map_or(0.0, |other| other.reduced);
        open.sort_by(|a, b| cheapest(a).total_cmp(&cheapest(b)));
        let reach = Reach::after_each(&open);
        let mut lists = vec![vec![State {
            amount: 0.0,
            reduced: 0.0,
            parent: 0,
            candidate: None,
        }]];
        self.improve(&open, &lists);
        let mut is_proven = true;
        for (group, reach) in open.iter().zip(&reach) {
            if cheapest(group) >= self.gap - self.rounding {
                // No later group can be part of a better choice either.
                break;
            }
            let states = lists.last().map(Vec::as_slice).unwrap_or_default();
            let mut next = self.expanded(states, &group.others, reach);
            *states_left = states_left.saturating_sub(next.len());
            match most {
                Most::GiveUp(most) if next.len() > most || *states_left == 0 => return false,
                Most::DropWorst(most) if next.len() > most => {
                    self.drop_worst(&mut next, most, reach);
                    is_proven = false;
                }
                Most::GiveUp(_) | Most::DropWorst(_) => {}
            }
            lists.push(next);
            self.improve(&open, &lists);
        }
        is_proven
    }

    /// The least harm above the floor that a state can lead to.
    fn outlook(&self, state: &State, reach: &Reach) -> f64 {
        let unspent = self.left - state.amount - reach.up;
        state.reduced + self.price * unspent.max(0.0)
    }

    /// All states with one more group decided, without those that cannot lead to a better choice.
    fn expanded(&self, states: &[State], others: &[Other], reach: &Reach) -> Vec<State> {
        let can_win = |state: &State| {
            state.amount - reach.down <= self.left
                && self.outlook(state, reach) < self.gap - self.rounding
        };
        let mut next = Vec::with_capacity(states.len() * 2);
        for (parent, state) in states.iter().enumerate() {
            let stays = State {
                parent,
                candidate: None,
                ..*state
            };
            next.extend(Some(stays).filter(can_win));
            let moved = others.iter().map(|other| State {
                amount: state.amount + other.amount,
                reduced: state.reduced + other.reduced,
                parent,
                candidate: Some(other.index),
            });
            next.extend(moved.filter(can_win));
        }
        next.sort_by(|a, b| {
            a.amount
                .total_cmp(&b.amount)
                .then(a.reduced.total_cmp(&b.reduced))
        });
        let mut least = f64::INFINITY;
        next.retain(|state| {
            let harm = state.reduced - self.price * state.amount;
            let is_better = harm < least;
            least = least.min(harm);
            is_better
        });
        next
    }

    fn drop_worst(&self, states: &mut Vec<State>, most: usize, reach: &Reach) {
        let mut outlooks: Vec<f64> = states
            .iter()
            .map(|state| self.outlook(state, reach))
            .collect();
        let (_, limit, _) = outlooks.select_nth_unstable_by(most, f64::total_cmp);
        let limit = *limit;
        states.retain(|state| self.outlook(state, reach) < limit);
    }

    /// Takes over the best of the last states, with the base for all groups that are not decided.
    fn improve(&mut self, open: &[Open], lists: &[Vec<State>]) {
        let above = |state: &State| state.reduced + self.price * (self.left - state.amount);
        let last = lists.last().into_iter().flatten().enumerate();
        let best = last
            .filter(|(_, state)| state.amount <= self.left)
            .min_by(|a, b| above(a.1).total_cmp(&above(b.1)));
        let Some((mut place, gap)) = best.map(|(place, state)| (place, above(state))) else {
            return;
        };
        if gap >= self.gap - self.rounding {
            return;
        }
        self.gap = gap;
        let mut chosen = self.base.clone();
        for (open, list) in open.iter().zip(lists.iter().skip(1)).rev() {
            let state = list[place];
            if let Some(candidate) = state.candidate {
                chosen[open.group] = candidate;
            }
            place = state.parent;
        }
        self.best = Some(chosen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The least harm within a budget, by trying everything.
    fn least_harm(groups: &[Vec<Candidate>], budget: f64) -> Option<f64> {
        let Some((first, rest)) = groups.split_first() else {
            return (budget >= 0.0).then_some(0.0);
        };
        let each = first.iter().filter_map(|candidate| {
            Some(candidate.harm + least_harm(rest, budget - candidate.amount)?)
        });
        each.min_by(f64::total_cmp)
    }

    /// Whole numbers, so that there are ties and no sum is rounded.
    fn groups() -> impl Strategy<Value = Vec<Vec<Candidate>>> {
        let candidate = (0u32..40, 0u32..40).prop_map(|(harm, amount)| Candidate {
            harm: f64::from(harm),
            amount: f64::from(amount),
        });
        prop::collection::vec(prop::collection::vec(candidate, 1..6), 0..7)
    }

    proptest! {
        #[test]
        fn nothing_within_the_budget_is_better(groups in groups(), budget in 0u32..160) {
            let budget = f64::from(budget);
            match (allocate(&groups, budget), least_harm(&groups, budget)) {
                (Ok(found), Some(least)) => {
                    prop_assert_eq!(found.harm, least);
                    prop_assert_eq!(found.bound, least);
                    prop_assert!(found.amount <= budget);
                    prop_assert_eq!(harm_of(&groups, &found.chosen), least);
                }
                (Err(infeasible), None) => {
                    prop_assert!(infeasible.least > budget);
                    prop_assert!(least_harm(&groups, infeasible.least).is_some());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn corners_of_the_frontier_are_optimal(groups in groups()) {
            let frontier = Frontier::of(&groups);
            for (index, corner) in frontier.corners().iter().enumerate() {
                prop_assert_eq!(harm_of(&groups, &frontier.chosen(index)), corner.harm);
                prop_assert_eq!(least_harm(&groups, corner.amount), Some(corner.harm));
            }
        }
    }

    #[test]
    fn one_large_group_does_not_hide_the_optimum() {
        // The step of the first group does not fit; what is left must go to the second.
        let pair = |amount: f64, harm: f64| Candidate { harm, amount };
        let groups = [
            vec![pair(0.0, 100.0), pair(1000.0, 0.0)],
            vec![pair(0.0, 10.0), pair(400.0, 9.0), pair(900.0, 1.0)],
            vec![pair(0.0, 5.0), pair(99.0, 4.0)],
        ];
        let found = allocate(&groups, 999.0).unwrap();
        assert_eq!(found.chosen, [0, 2, 1]);
        assert_eq!(found.bound, found.harm);
    }

    #[test]
    fn equal_layers_share_a_budget_that_does_not_divide() {
        let candidates: Vec<Candidate> = [2.0, 3.0, 4.0, 8.0]
            .map(|bits: f64| Candidate {
                harm: 4.0_f64.powf(-bits),
                amount: 100.0 * bits,
            })
            .to_vec();
        let groups = vec![candidates; 200];
        let found = allocate(&groups, 100.0 * 200.0 * 3.5).unwrap();
        let count = |index: usize| found.chosen.iter().filter(|c| **c == index).count();
        assert_eq!([count(1), count(2)], [100, 100]);
    }
}
