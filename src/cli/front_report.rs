//! The front against the uniform plans, on samples that chose nothing.

use serde::Serialize;

use super::output;
use super::search_report::{Final, plan_id, uniform};
use crate::engine::Evaluation;
use crate::search::{Goal, MeasuredPlan, PairedDifference, SearchState};

/// A mean over the samples with its 95 % interval.
#[derive(Clone, Copy, Serialize)]
struct Difference {
    mean: f64,
    low: f64,
    high: f64,
}

impl From<PairedDifference> for Difference {
    fn from(paired: PairedDifference) -> Self {
        let (low, high) = paired.interval();
        Self {
            mean: paired.mean,
            low,
            high,
        }
    }
}

/// What the front has at the size of a uniform plan, sample by sample against that plan.
#[derive(Serialize)]
pub(super) struct AgainstUniform {
    uniform: String,
    name: String,
    /// The plan of the front; the uniform one itself where none is better beyond chance.
    front: String,
    /// Share of right answers that the front has more.
    #[serde(skip_serializing_if = "Option::is_none")]
    top1: Option<Difference>,
    /// Harm that the front has more: KL in nats, for networks that are no classifiers squared error.
    harm: Option<Difference>,
}

/// The plan of the front that takes no more than a uniform plan.
pub(super) fn within_uniform(state: &SearchState, plan: &MeasuredPlan) -> Option<usize> {
    let axis = state.goal.as_ref().map(Goal::axis).unwrap_or_default();
    let limit = plan.amount(axis);
    state.best(&Goal::Within { axis, limit })
}

/// Compares at every uniform plan that was measured last.
pub(super) fn against_uniform(state: &SearchState, last: &Final) -> Vec<AgainstUniform> {
    let compare = |index: usize| {
        let plan = state.measured.get(index)?;
        let front = within_uniform(state, plan)?;
        let (ours, theirs) = (last.plans.get(&front)?, last.plans.get(&index)?);
        let right = |of: &Evaluation| {
            let right = of.predictions.iter().filter_map(|one| one.is_right());
            right
                .map(|right| f64::from(u8::from(right)))
                .collect::<Vec<_>>()
        };
        let harms = |of: &Evaluation| of.harms.iter().map(f64::from).collect::<Vec<_>>();
        let paired = |of: &dyn Fn(&Evaluation) -> Vec<f64>| {
            PairedDifference::of(of(ours).into_iter(), of(theirs).into_iter())
        };
        Some(AgainstUniform {
            uniform: plan_id(index),
            name: plan.name.clone().unwrap_or_default(),
            front: plan_id(front),
            top1: paired(&right).map(Difference::from),
            harm: paired(&harms).map(Difference::from),
        })
    };
    uniform(state).into_iter().filter_map(compare).collect()
}

/// A line for every uniform plan.
pub(super) fn print(compared: &[AgainstUniform]) {
    for one in compared {
        if one.front == one.uniform {
            output::line(&format!(
                "At the size of {}: {} itself; no plan is better beyond chance",
                one.name, one.front
            ));
            continue;
        }
        let mut parts = vec![one.front.clone()];
        if let Some(top1) = one.top1 {
            parts.push(format!(
                "top-1 {:+.2} points ({:+.2} to {:+.2})",
                100.0 * top1.mean,
                100.0 * top1.low,
                100.0 * top1.high
            ));
        }
        if let Some(harm) = one.harm {
            parts.push(format!(
                "harm {:+.4} ({:+.4} to {:+.4})",
                harm.mean, harm.low, harm.high
            ));
        }
        output::line(&format!(
            "At the size of {}: {}",
            one.name,
            parts.join(", ")
        ));
    }
}
