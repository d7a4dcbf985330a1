//! What a search has measured, in a form that is stored after every plan.

use serde::{Deserialize, Serialize};

use super::budget::{Axis, Goal};
use super::effects::{Meaning, Model, Prediction};
use super::error::SearchError;
use super::judge::Judge;
use super::score::Score;
use super::shard::Shard;
use super::space::Space;
use super::sweep::{StoredSweep, check_version, complete, effects, foreign};
use crate::plan::{Fingerprint, Widths};

/// How a plan came to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The same widths everywhere.
    Uniform,
    /// Best within a budget by the effects of single layers.
    Predicted,
    /// Best within a budget by the corrected effects.
    Corrected,
    /// A measured plan with one width up, one down, or both.
    Neighbour,
    /// Mixed of two measured plans, and changed at random.
    Evolved,
}

impl Origin {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Predicted => "predicted to be best",
            Self::Corrected => "best after correction",
            Self::Neighbour => "neighbour of a good plan",
            Self::Evolved => "mixed of two good plans",
        }
    }
}

/// A plan with what was predicted before it was measured, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredPlan {
    /// Place in the order of the search.
    pub place: usize,
    /// Name of a uniform plan, for example `W4A8`.
    pub name: Option<String>,
    /// Where it came from.
    pub origin: Origin,
    /// Widths in layer order.
    pub widths: Vec<Widths>,
    /// Bytes.
    pub size_bytes: u64,
    /// Bits of all weights, without scales.
    pub weight_bits: u64,
    /// Bit operations per sample.
    pub bops: u64,
    /// What was expected on the samples of the search.
    pub predicted: Prediction,
    /// What was measured on them.
    pub score: Score,
    /// How far the outputs of each of them are from float; empty in files of older programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub harms: Vec<f32>,
}

impl MeasuredPlan {
    /// What it takes of an axis.
    pub fn amount(&self, axis: Axis) -> f64 {
        match axis {
            Axis::Bytes => self.size_bytes as f64,
            Axis::Bops => self.bops as f64,
            Axis::WeightBits => self.weight_bits as f64,
        }
    }
}

/// Seconds of a search by what they were spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Measuring single weights and inputs.
    pub score: f64,
    /// Choosing plans.
    pub solve: f64,
    /// Measuring plans.
    pub measure: f64,
}

/// Everything that a search found so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchState {
    /// Format version.
    pub version: u32,
    /// Identifies model, data, preprocessing and settings.
    pub fingerprint: Fingerprint,
    /// Which of the first plans are measured.
    pub shard: Shard,
    /// What the search is for.
    pub goal: Option<Goal>,
    /// Names of the layers.
    pub layers: Vec<String>,
    /// Float on the samples of the search.
    pub float: Score,
    /// Effects of single weights.
    pub weights: Option<StoredSweep>,
    /// Effects of single inputs.
    pub activations: Option<StoredSweep>,
    /// Plans in the order in which they were measured.
    pub measured: Vec<MeasuredPlan>,
    /// Time spent.
    pub seconds: Seconds,
}

/// How far predictions were off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PredictionError {
    /// Plans that were predicted and measured.
    pub plans: usize,
    /// Half of the plans were within this factor of the predicted harm.
    pub median_factor: f64,
    /// Spearman's rank correlation of predicted and measured harm; `None` with fewer than three plans.
    pub rank_correlation: Option<f64>,
    /// Median difference of predicted and measured agreement, as a share.
    pub median_agreement: Option<f64>,
    /// Median difference of predicted and measured top-1, as a share.
    pub median_top1: Option<f64>,
}

impl SearchState {
    /// Nothing measured yet.
    pub fn new(
        fingerprint: Fingerprint,
        shard: Shard,
        goal: Option<Goal>,
        layers: Vec<String>,
    ) -> Self {
        Self {
            version: 1,
            fingerprint,
            shard,
            goal,
            layers,
            float: Score::default(),
            weights: None,
            activations: None,
            measured: Vec::new(),
            seconds: Seconds::default(),
        }
    }

    /// Goes on from this one only if it is of the same work.
    ///
    /// # Errors
    /// [`SearchError::Foreign`] says what differs.
    pub fn check(&self, fingerprint: &Fingerprint, shard: Shard) -> Result<(), SearchError> {
        check_version(self.version)?;
        let layers = self.layers.len();
        let fits = |plan: &MeasuredPlan| plan.widths.len() == layers;
        let sweeps = self.weights.iter().chain(&self.activations);
        let sweeps_fit = sweeps
            .clone()
            .all(|sweep| sweep.sweep().is_some_and(|s| s.cells.len() == layers));
        if self.fingerprint != *fingerprint || !self.measured.iter().all(fits) || !sweeps_fit {
            return Err(foreign());
        }
        if self.shard != shard && !self.shard.is_whole() {
            return Err(SearchError::Foreign(format!(
                "it holds part {}, but part {shard} was asked for; choose another file for each part",
                self.shard
            )));
        }
        Ok(())
    }

    /// Whether single weights and inputs are measured.
    pub fn is_scored(&self) -> bool {
        let finished =
            |sweep: &Option<StoredSweep>| sweep.as_ref().is_some_and(StoredSweep::is_finished);
        finished(&self.weights) && finished(&self.activations)
    }

    /// The additive model; corrected by the plans that were measured.
    pub fn models(&self) -> (Model, Model) {
        let first = Model::new(effects(self.weights.as_ref(), self.activations.as_ref()));
        let measured: Vec<(&[Widths], f64)> = self
            .measured
            .iter()
            .map(|plan| (plan.widths.as_slice(), plan.score.harm()))
            .collect();
        let corrected = first.corrected(&measured);
        (first, corrected)
    }

    /// What a harm means on these samples.
    pub fn meaning(&self) -> Meaning {
        let sweeps = self.weights.iter().chain(&self.activations);
        let cells = sweeps.flat_map(StoredSweep::scores);
        // Whole plans tell more than single layers do, so they take over as soon as there are some.
        let plans: Vec<Score> = self.measured.iter().map(|plan| plan.score).collect();
        if plans.len() >= 8 {
            Meaning::of(&self.float, &plans)
        } else {
            Meaning::of(
                &self.float,
                &cells.chain(plans.iter().copied()).collect::<Vec<_>>(),
            )
        }
    }

    /// Index of the measured plan with these widths.
    pub fn find(&self, widths: &[Widths]) -> Option<usize> {
        self.measured.iter().position(|plan| plan.widths == widths)
    }

    /// The plans that are best within what they take themselves, by rising amount.
    ///
    /// A uniform plan is among them unless a plan that takes no more is better beyond chance.
    pub fn front(&self, axis: Axis) -> Vec<usize> {
        let mut amounts: Vec<f64> = self.measured.iter().map(|plan| plan.amount(axis)).collect();
        amounts.sort_by(f64::total_cmp);
        amounts.dedup();
        let judge = Judge::new(&self.measured);
        let mut front: Vec<usize> = Vec::new();
        for amount in amounts {
            let best = judge.within(axis, amount);
            front.extend(best.filter(|best| front.last() != Some(best)));
        }
        front
    }

    /// The measured plan that serves a goal best; `None` if none keeps it.
    ///
    /// Within a limit that is the one with the least harm, the smaller of equals, but the best uniform plan
    /// there where no other one is better beyond chance; for a goal of accuracy the smallest that loses
    /// no more than allowed.
    pub fn best(&self, goal: &Goal) -> Option<usize> {
        let size = |plan: &MeasuredPlan| plan.size_bytes;
        let harm = |plan: &MeasuredPlan| plan.score.harm();
        match *goal {
            Goal::Within { axis, limit } => Judge::new(&self.measured).within(axis, limit),
            Goal::Drop(most) => {
                let plans = self.measured.iter().enumerate();
                let best = plans
                    .filter(|(_, plan)| {
                        // Shares of counts are rounded.
                        let drop = plan.score.drop(&self.float);
                        drop.is_some_and(|drop| drop <= most + 1e-9)
                    })
                    .min_by(|(_, a), (_, b)| {
                        size(a).cmp(&size(b)).then(harm(a).total_cmp(&harm(b)))
                    });
                best.map(|(index, _)| index)
            }
        }
    }

    /// How far predictions were off; `None` before any plan was measured.
    pub fn prediction_error(&self) -> Option<PredictionError> {
        let known: Vec<(f64, f64)> = self
            .measured
            .iter()
            .map(|plan| (plan.predicted.harm, plan.score.harm()))
            .filter(|(predicted, measured)| *predicted > 0.0 && *measured > 0.0)
            .collect();
        let factors = known.iter().map(|(p, m)| (p / m).ln().abs()).collect();
        let differences = |of: fn(&MeasuredPlan) -> Option<f64>| {
            median(self.measured.iter().filter_map(of).collect())
        };
        Some(PredictionError {
            plans: known.len(),
            median_factor: median(factors)?.exp(),
            rank_correlation: (known.len() >= 3).then(|| spearman(&known)),
            median_agreement: differences(|plan| {
                let measured = plan.score.comparison().agreement()?;
                Some((plan.predicted.agreement? - measured).abs())
            }),
            median_top1: differences(|plan| {
                Some((plan.predicted.top1? - plan.score.metrics().top1()?).abs())
            }),
        })
    }

    /// Joins the parts of one split search.
    ///
    /// # Errors
    /// [`SearchError::Foreign`] names parts that are missing, twice there or of other work.
    pub fn merge(parts: &[Self]) -> Result<Self, SearchError> {
        let Some(first) = parts.first() else {
            return Err(SearchError::Foreign(
                "there are no parts to join".to_owned(),
            ));
        };
        for part in parts {
            check_version(part.version)?;
            if part.fingerprint != first.fingerprint || part.goal != first.goal {
                return Err(SearchError::Foreign(format!(
                    "part {} belongs to another model, data or settings than part {}; join parts of one job",
                    part.shard, first.shard
                )));
            }
        }
        complete(parts.iter().map(|part| part.shard))?;
        let mut whole = first.clone();
        whole.shard = Shard::WHOLE;
        whole.measured = parts
            .iter()
            .flat_map(|part| part.measured.clone())
            .collect();
        whole.measured.sort_by_key(|plan| plan.place);
        let sum = |of: fn(&Seconds) -> f64| parts.iter().map(|part| of(&part.seconds)).sum();
        whole.seconds = Seconds {
            score: sum(|seconds| seconds.score),
            solve: sum(|seconds| seconds.solve),
            measure: sum(|seconds| seconds.measure),
        };
        Ok(whole)
    }

    /// The widths of a measured plan as a plan.
    pub fn plan(&self, space: &Space, index: usize) -> Option<crate::plan::Plan> {
        Some(space.plan(&self.measured.get(index)?.widths))
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Spearman's rank correlation; equal values share their mean rank.
fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (first, second) = (ranks(&first), ranks(&second));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let (mut products, mut a_squares, mut b_squares) = (0.0, 0.0, 0.0);
    for (a, b) in first.iter().zip(&second) {
        let (a, b) = (a - mean, b - mean);
        products += a * b;
        a_squares += a * a;
        b_squares += b * b;
    }
    if a_squares > 0.0 && b_squares > 0.0 {
        products / (a_squares * b_squares).sqrt()
    } else {
        0.0
    }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && values[order[end]] == values[order[start]] {
            end += 1;
        }
        let rank = (start + end - 1) as f64 / 2.0;
        for index in &order[start..end] {
            ranks[*index] = rank;
        }
        start = end;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(place: usize, size_bytes: u64, kl: f64, hits: u64) -> MeasuredPlan {
        MeasuredPlan {
            place,
            name: None,
            origin: Origin::Uniform,
            widths: vec!["8/8".parse().unwrap()],
            size_bytes,
            weight_bits: 8 * size_bytes,
            bops: 10 * size_bytes,
            predicted: Prediction {
                harm: 2.0 * kl,
                ..Prediction::default()
            },
            score: Score {
                samples: 100,
                labelled: 100,
                top1_hits: hits,
                classified: 100,
                agreements: hits,
                kl_sum: 100.0 * kl,
                ..Score::default()
            },
            harms: Vec::new(),
        }
    }

    fn state(measured: Vec<MeasuredPlan>) -> SearchState {
        SearchState {
            float: Score {
                labelled: 100,
                top1_hits: 90,
                ..Score::default()
            },
            measured,
            ..SearchState::new(
                Fingerprint("f".to_owned()),
                Shard::WHOLE,
                None,
                vec!["a".to_owned()],
            )
        }
    }

    #[test]
    fn the_front_and_the_best_for_a_goal() {
        let state = state(vec![
            plan(0, 300, 0.01, 89),
            plan(1, 100, 0.5, 60),
            plan(2, 200, 0.02, 88),
            plan(3, 250, 0.03, 88),
            plan(4, 190, 0.02, 88),
        ]);
        assert_eq!(state.front(Axis::Bytes), [1, 4, 0]);
        let within = |limit| Goal::Within {
            axis: Axis::Bytes,
            limit,
        };
        for (goal, expected) in [
            (within(260.0), Some(4)),
            (within(99.0), None),
            (within(1000.0), Some(0)),
            (Goal::Drop(0.02), Some(4)),
            (Goal::Drop(0.0), None),
        ] {
            assert_eq!(state.best(&goal), expected, "{goal:?}");
        }
        let error = state.prediction_error().unwrap();
        assert!((error.median_factor - 2.0).abs() < 1e-9);
        assert!((error.rank_correlation.unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_state_survives_its_file() {
        let state = state(vec![plan(0, 300, 0.1 + 0.2, 89)]);
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<SearchState>(&json).unwrap(), state);
        let same = Fingerprint("f".to_owned());
        assert!(state.check(&same, Shard::WHOLE).is_ok());
        let other = Fingerprint("g".to_owned());
        assert!(state.check(&other, Shard::WHOLE).is_err());
        let mut cut = state.clone();
        cut.layers.clear();
        assert!(cut.check(&same, Shard::WHOLE).is_err());
    }

    #[test]
    fn parts_are_joined_in_the_order_of_the_search() {
        let part = |shard: &str, plans: Vec<MeasuredPlan>| SearchState {
            shard: shard.parse().unwrap(),
            ..state(plans)
        };
        let first = part("1/2", vec![plan(0, 1, 0.1, 1), plan(2, 3, 0.3, 1)]);
        let second = part("2/2", vec![plan(1, 2, 0.2, 1)]);
        let whole = SearchState::merge(&[second, first.clone()]).unwrap();
        let places: Vec<usize> = whole.measured.iter().map(|plan| plan.place).collect();
        assert_eq!(places, [0, 1, 2]);
        assert!(whole.shard.is_whole());
        let message = SearchState::merge(&[first]).unwrap_err().to_string();
        assert!(message.contains("missing: 2/2"), "{message}");
    }
}
