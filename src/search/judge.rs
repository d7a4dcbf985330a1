//! Which of the measured plans is best, where differences may be chance.

use super::budget::Axis;
use super::score::Score;
use super::state::MeasuredPlan;

/// Standard errors that a difference must exceed.
const CERTAINTY: f64 = 2.0;
/// Harms count as this part of the mean at least, so that they have a logarithm.
const LEAST_SHARE: f64 = 1e-6;

/// A mean difference between two plans on the same samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedDifference {
    /// The mean over the samples.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
}

impl PairedDifference {
    /// The difference of two quantities of each sample; `None` unless both have the same samples, two at least.
    pub fn of(one: impl Iterator<Item = f64>, other: impl Iterator<Item = f64>) -> Option<Self> {
        let (one, other): (Vec<f64>, Vec<f64>) = (one.collect(), other.collect());
        let count = one.len() as f64;
        if one.len() != other.len() || one.len() < 2 {
            return None;
        }
        let differences: Vec<f64> = one.iter().zip(&other).map(|(a, b)| a - b).collect();
        let mean = differences.iter().sum::<f64>() / count;
        let squares: f64 = differences.iter().map(|d| (d - mean) * (d - mean)).sum();
        Some(Self {
            mean,
            standard_error: (squares / (count - 1.0) / count).sqrt(),
        })
    }

    /// The 95 % interval of a normal distribution.
    pub fn interval(&self) -> (f64, f64) {
        let half = 1.959_963_984_540_054 * self.standard_error;
        (self.mean - half, self.mean + half)
    }
}

/// Compares the plans of one search.
pub(super) struct Judge<'a> {
    plans: &'a [MeasuredPlan],
    /// For each uniform plan, by index, whether each plan beats it.
    beaten: Vec<(usize, Vec<bool>)>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(plans: &'a [MeasuredPlan]) -> Self {
        let uniform = plans
            .iter()
            .enumerate()
            .filter(|(_, plan)| plan.name.is_some());
        let beaten = uniform.map(|(index, uniform)| {
            let by = plans.iter().map(|plan| beats(plan, uniform)).collect();
            (index, by)
        });
        Self {
            plans,
            beaten: beaten.collect(),
        }
    }

    /// The plan with the least harm within a limit, the smaller of equals; the best uniform plan there
    /// unless that is beaten beyond chance.
    pub(super) fn within(&self, axis: Axis, limit: f64) -> Option<usize> {
        let plan = |index: usize| &self.plans[index];
        let fits = |index: &usize| plan(*index).amount(axis) <= limit;
        let compare = |a: &usize, b: &usize| {
            let harm = |index: &usize| plan(*index).score.harm();
            let size = |index: &usize| plan(*index).size_bytes;
            harm(a).total_cmp(&harm(b)).then(size(a).cmp(&size(b)))
        };
        let uniform = self.beaten.iter().filter(|(index, _)| fits(index));
        let best_uniform = uniform.min_by(|(a, _), (b, _)| compare(a, b));
        let Some((uniform, beaten)) = best_uniform else {
            return (0..self.plans.len()).filter(fits).min_by(compare);
        };
        let better = (0..self.plans.len()).filter(|index| fits(index) && beaten[*index]);
        Some(better.min_by(compare).unwrap_or(*uniform))
    }
}

/// Whether a plan does less harm than another one, on the mean and beyond chance on most samples, and gets no
/// fewer of them right than chance may explain.
///
/// The harms of single samples differ by orders of magnitude, and few of them make most of the mean, so
/// that logarithms are compared: their paired differences are nearly normal.
fn beats(plan: &MeasuredPlan, other: &MeasuredPlan) -> bool {
    let (own, others) = (&plan.score, &other.score);
    let differing = |score: &Score| score.classified.saturating_sub(score.agreements) as f64;
    // The two differ from each other on no more samples than each does from float.
    let chance = (differing(own) + differing(others)).sqrt();
    let lags = |own: u64, others: u64| others as f64 - own as f64 > chance;
    if own.harm() >= others.harm()
        || lags(own.agreements, others.agreements)
        || lags(own.top1_hits, others.top1_hits)
    {
        return false;
    }
    let mean = other.harms.iter().copied().map(f64::from).sum::<f64>() / other.harms.len() as f64;
    let least = (LEAST_SHARE * mean).max(f64::MIN_POSITIVE);
    let logarithms = |harms: &[f32]| -> Vec<f64> {
        let harms = harms.iter().copied().map(f64::from);
        harms.map(|harm| harm.max(least).ln()).collect()
    };
    let (own, others) = (logarithms(&plan.harms), logarithms(&other.harms));
    let difference = PairedDifference::of(own.into_iter(), others.into_iter());
    difference.is_none_or(|known| known.mean + CERTAINTY * known.standard_error < 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::effects::Prediction;
    use crate::search::state::Origin;

    fn plan(name: Option<&str>, size_bytes: u64, harms: &[f32], hits: u64) -> MeasuredPlan {
        MeasuredPlan {
            place: 0,
            name: name.map(str::to_owned),
            origin: Origin::Predicted,
            widths: Vec::new(),
            size_bytes,
            weight_bits: 8 * size_bytes,
            bops: size_bytes,
            predicted: Prediction::default(),
            score: Score {
                samples: harms.len() as u64,
                labelled: harms.len() as u64,
                top1_hits: hits,
                classified: harms.len() as u64,
                agreements: hits,
                kl_sum: harms.iter().map(|harm| f64::from(*harm)).sum(),
                ..Score::default()
            },
            harms: harms.to_vec(),
        }
    }

    #[test]
    fn a_uniform_plan_stays_until_it_is_beaten_beyond_chance() {
        let uniform = plan(Some("W4"), 100, &[1.0, 2.0, 3.0, 4.0], 3);
        for (what, other, wins) in [
            (
                "better in every sample",
                plan(None, 100, &[0.8, 1.7, 2.8, 3.7], 3),
                true,
            ),
            (
                "better on the mean alone",
                plan(None, 100, &[1.2, 2.1, 3.2, 2.0], 3),
                false,
            ),
            (
                "far fewer samples right",
                plan(None, 100, &[0.8, 1.7, 2.8, 3.7], 0),
                false,
            ),
            (
                "too large",
                plan(None, 101, &[0.1, 0.1, 0.1, 0.1], 4),
                false,
            ),
            ("worse", plan(None, 90, &[1.1, 2.1, 3.1, 4.1], 4), false),
        ] {
            let plans = [uniform.clone(), other];
            let found = Judge::new(&plans).within(Axis::Bytes, 100.0);
            assert_eq!(found, Some(usize::from(wins)), "{what}");
        }
    }

    #[test]
    fn without_a_uniform_plan_within_the_limit_the_least_harm_wins() {
        let plans = [
            plan(Some("W8"), 200, &[0.0, 0.0], 2),
            plan(None, 50, &[3.0, 1.0], 1),
            plan(None, 60, &[1.0, 1.0], 1),
        ];
        let judge = Judge::new(&plans);
        let found = [40.0, 55.0, 100.0, 300.0].map(|limit| judge.within(Axis::Bytes, limit));
        assert_eq!(found, [None, Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn differences_of_the_same_samples_vary_less_than_the_samples() {
        let one = [1.0, 5.0, 9.0].into_iter();
        let found = PairedDifference::of(one, [0.9, 4.8, 8.7].into_iter()).unwrap();
        assert!((found.mean - 0.2).abs() < 1e-12);
        assert!((found.standard_error - 0.1 / 3f64.sqrt()).abs() < 1e-12);
        assert_eq!(
            PairedDifference::of([1.0].into_iter(), [1.0, 2.0].into_iter()),
            None
        );
    }
}
