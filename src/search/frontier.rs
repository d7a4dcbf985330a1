//! Everything that is best for some price: the lower convex hull of all choices.

/// One way to set a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// What it costs in quality; lower is better. Finite.
    pub harm: f64,
    /// What it takes from the budget, for example bytes. Finite.
    pub amount: f64,
}

impl Candidate {
    /// Harm with the amount at a price.
    pub(super) fn priced(&self, price: f64) -> f64 {
        self.harm + price * self.amount
    }
}

/// A step along the hull of one group, from one candidate to the next larger one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) group: usize,
    pub(super) candidate: usize,
    /// Amount that it takes more.
    pub(super) amount: f64,
    /// Change of the harm, below zero.
    harm: f64,
}

impl Step {
    /// Harm that a unit of the amount takes away.
    pub(super) fn gain(&self) -> f64 {
        -self.harm / self.amount
    }
}

/// Sums at a corner of the frontier.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Corner {
    /// Sum of the amounts.
    pub amount: f64,
    /// Sum of the harms.
    pub harm: f64,
}

impl Corner {
    fn add(&mut self, candidate: &Candidate) {
        self.amount += candidate.amount;
        self.harm += candidate.harm;
    }
}

/// All choices of one candidate a group that are best for some price of the amount.
///
/// For a price `λ` the best candidate of each group alone minimises `harm + λ·amount`. As the price
/// falls from ∞ to 0, one group after the other takes a step along its own convex hull.
#[derive(Clone, Debug)]
pub struct Frontier {
    corners: Vec<Corner>,
    smallest: Vec<usize>,
    steps: Vec<Step>,
}

impl Frontier {
    /// The frontier of groups; a group without candidates counts for nothing.
    pub fn of(groups: &[Vec<Candidate>]) -> Self {
        let mut smallest = Vec::with_capacity(groups.len());
        let mut steps = Vec::new();
        for (group, candidates) in groups.iter().enumerate() {
            let hull = lower_hull(candidates);
            smallest.push(hull.first().copied().unwrap_or(0));
            steps.extend(hull.windows(2).map(|pair| {
                let (from, to) = (candidates[pair[0]], candidates[pair[1]]);
                Step {
                    group,
                    candidate: pair[1],
                    amount: to.amount - from.amount,
                    harm: to.harm - from.harm,
                }
            }));
        }
        // Stable: the steps of a group, whose gains fall, stay in order, and ties go to earlier groups.
        steps.sort_by(|a, b| b.gain().total_cmp(&a.gain()));
        Self::from_steps(groups, smallest, steps)
    }

    fn from_steps(groups: &[Vec<Candidate>], smallest: Vec<usize>, steps: Vec<Step>) -> Self {
        let mut corner = Corner::default();
        for (candidates, index) in groups.iter().zip(&smallest) {
            if let Some(candidate) = candidates.get(*index) {
                corner.add(candidate);
            }
        }
        let mut corners = Vec::with_capacity(steps.len() + 1);
        corners.push(corner);
        for step in &steps {
            corner.amount += step.amount;
            corner.harm += step.harm;
            corners.push(corner);
        }
        Self {
            corners,
            smallest,
            steps,
        }
    }

    /// The frontier where some groups are decided.
    pub(super) fn with_decided(
        &self,
        groups: &[Vec<Candidate>],
        decided: &[Option<usize>],
    ) -> Self {
        let smallest = self
            .smallest
            .iter()
            .zip(decided)
            .map(|(smallest, decided)| decided.unwrap_or(*smallest))
            .collect();
        let open = self
            .steps
            .iter()
            .filter(|step| decided[step.group].is_none());
        Self::from_steps(groups, smallest, open.copied().collect())
    }

    /// The corners, from the smallest amount to the least harm.
    pub fn corners(&self) -> &[Corner] {
        &self.corners
    }

    /// The steps between the corners.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The candidate of each group at a corner.
    pub fn chosen(&self, corner: usize) -> Vec<usize> {
        let mut chosen = self.smallest.clone();
        for step in self.steps.iter().take(corner) {
            chosen[step.group] = step.candidate;
        }
        chosen
    }

    /// The last corner within a budget; `None` if even the smallest is beyond it.
    pub fn within(&self, budget: f64) -> Option<usize> {
        self.corners
            .partition_point(|corner| corner.amount <= budget)
            .checked_sub(1)
    }
}

/// Indices of the candidates on the lower convex hull, by rising amount and falling harm.
pub(super) fn lower_hull(candidates: &[Candidate]) -> Vec<usize> {
    let mut hull: Vec<usize> = Vec::new();
    for index in undominated(candidates) {
        let new = candidates[index];
        while let [.., before, last] = hull[..] {
            let (before, last) = (candidates[before], candidates[last]);
            let is_below = (last.harm - before.harm) * (new.amount - before.amount)
                < (new.harm - before.harm) * (last.amount - before.amount);
            if is_below {
                break;
            }
            hull.pop();
        }
        hull.push(index);
    }
    hull
}

/// Indices of the candidates that no other one beats in both harm and amount, by rising amount.
pub(super) fn undominated(candidates: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&candidates[*a], &candidates[*b]);
        a.amount
            .total_cmp(&b.amount)
            .then(a.harm.total_cmp(&b.harm))
    });
    let mut least = f64::INFINITY;
    order.retain(|index| {
        let harm = candidates[*index].harm;
        let is_better = harm < least;
        least = least.min(harm);
        is_better
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(pairs: &[(f64, f64)]) -> Vec<Candidate> {
        pairs
            .iter()
            .map(|&(amount, harm)| Candidate { harm, amount })
            .collect()
    }

    #[test]
    fn the_hull_leaves_out_what_a_mix_beats() {
        for (pairs, expected) in [
            // (2, 9) lies above the line from (1, 10) to (3, 0).
            (vec![(1.0, 10.0), (2.0, 9.0), (3.0, 0.0)], vec![0, 2]),
            (vec![(1.0, 10.0), (2.0, 3.0), (3.0, 0.0)], vec![0, 1, 2]),
            // More amount and more harm; equal ones count once.
            (
                vec![(3.0, 5.0), (2.0, 4.0), (1.0, 9.0), (2.0, 4.0)],
                vec![2, 1],
            ),
            (vec![], vec![]),
        ] {
            assert_eq!(lower_hull(&candidates(&pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn corners_go_from_the_smallest_to_the_least_harm() {
        let groups = [
            candidates(&[(1.0, 8.0), (2.0, 2.0), (4.0, 0.0)]),
            candidates(&[(1.0, 3.0), (2.0, 0.0)]),
        ];
        let frontier = Frontier::of(&groups);
        let corners: Vec<(f64, f64)> = frontier
            .corners()
            .iter()
            .map(|corner| (corner.amount, corner.harm))
            .collect();
        assert_eq!(corners, [(2.0, 11.0), (3.0, 5.0), (4.0, 2.0), (6.0, 0.0)]);
        assert_eq!(frontier.chosen(2), [1, 1]);
        assert_eq!(frontier.within(1.9), None);
        assert_eq!(frontier.within(5.0), Some(2));
    }
}
