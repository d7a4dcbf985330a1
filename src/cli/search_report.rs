//! The document of a search, and the same in lines.

use std::collections::BTreeMap;

use serde::Serialize;

use super::eval::Metrics;
use super::front_report::{self, AgainstUniform, against_uniform};
use super::number::{Decibel, bytes, percent};
use super::output;
use crate::engine::{Classification, Comparison, Evaluation};
use crate::search::{Goal, MeasuredPlan, Origin, PredictionError, SearchState, Seconds};

/// What was measured on samples that the search never saw.
#[derive(Debug, Default)]
pub(super) struct Final {
    /// Float on the evaluation samples.
    pub(super) float: Classification,
    /// Plans by index, measured on the evaluation samples.
    pub(super) plans: BTreeMap<usize, Evaluation>,
    /// Evaluation samples.
    pub(super) samples: usize,
}

#[derive(Serialize)]
pub(super) struct Report {
    evaluated: Vec<PlanReport>,
    frontier: Vec<String>,
    chosen: Option<String>,
    uniform: Vec<String>,
    search: SamplesReport,
    evaluation: Option<SamplesReport>,
    against_uniform: Vec<AgainstUniform>,
    prediction_error: Option<PredictionError>,
    seconds: Seconds,
}

#[derive(Serialize)]
struct SamplesReport {
    samples: usize,
    float: Metrics,
}

#[derive(Serialize)]
struct PlanReport {
    plan_id: String,
    name: Option<String>,
    origin: Origin,
    size_bytes: u64,
    bops: u64,
    weight_bits: u64,
    predicted: Predicted,
    /// On the samples of the search.
    measured: Option<Measured>,
    /// On the evaluation samples, which chose nothing.
    #[serde(rename = "final")]
    final_: Option<Measured>,
    widths: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Predicted {
    harm: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    top1: Option<f64>,
    agreement: Option<f64>,
    sqnr_db: Decibel,
}

#[derive(Serialize)]
struct Measured {
    #[serde(flatten)]
    metrics: Metrics,
    kl: Option<f64>,
    agreement: Option<f64>,
    sqnr_db: Decibel,
}

impl Measured {
    fn of(metrics: &Classification, comparison: &Comparison) -> Self {
        Self {
            metrics: Metrics::from(metrics),
            kl: comparison.kl(),
            agreement: comparison.agreement(),
            sqnr_db: Decibel(comparison.sqnr_db()),
        }
    }
}

pub(super) fn plan_id(index: usize) -> String {
    format!("p{index}")
}

/// The plan that serves the goal.
pub(super) fn chosen(state: &SearchState) -> Option<usize> {
    state.best(state.goal.as_ref()?)
}

/// The axis along which the front is drawn.
pub(super) fn front(state: &SearchState) -> Vec<usize> {
    state.front(state.goal.as_ref().map(Goal::axis).unwrap_or_default())
}

/// Indices of the uniform plans.
pub(super) fn uniform(state: &SearchState) -> Vec<usize> {
    let plans = state.measured.iter().enumerate();
    plans
        .filter(|(_, plan)| plan.name.is_some())
        .map(|(index, _)| index)
        .collect()
}

/// The document of a search; `last` is what was measured on the evaluation samples.
pub(super) fn report(state: &SearchState, last: Option<&Final>) -> Report {
    let ids = |indices: Vec<usize>| indices.into_iter().map(plan_id).collect();
    let plans = state.measured.iter().enumerate();
    Report {
        evaluated: plans
            .map(|(index, plan)| {
                let last = last.and_then(|last| last.plans.get(&index));
                plan_report(state, index, plan, last)
            })
            .collect(),
        frontier: ids(front(state)),
        chosen: chosen(state).map(plan_id),
        uniform: ids(uniform(state)),
        search: SamplesReport {
            samples: state.measured.first().map_or(0, |plan| plan.score.samples) as usize,
            float: Metrics::from(&state.float.metrics()),
        },
        evaluation: last.map(|last| SamplesReport {
            samples: last.samples,
            float: Metrics::from(&last.float),
        }),
        against_uniform: last.map_or_else(Vec::new, |last| against_uniform(state, last)),
        prediction_error: state.prediction_error(),
        seconds: state.seconds,
    }
}

fn plan_report(
    state: &SearchState,
    index: usize,
    plan: &MeasuredPlan,
    last: Option<&Evaluation>,
) -> PlanReport {
    let layers = state.layers.iter().zip(&plan.widths);
    PlanReport {
        plan_id: plan_id(index),
        name: plan.name.clone(),
        origin: plan.origin,
        size_bytes: plan.size_bytes,
        bops: plan.bops,
        weight_bits: plan.weight_bits,
        predicted: Predicted {
            harm: plan.predicted.harm,
            top1: plan.predicted.top1,
            agreement: plan.predicted.agreement,
            sqnr_db: Decibel(plan.predicted.sqnr_db),
        },
        measured: Some(Measured::of(
            &plan.score.metrics(),
            &plan.score.comparison(),
        )),
        final_: last.map(|last| Measured::of(&last.plan, &last.comparison)),
        widths: layers
            .map(|(name, widths)| (name.clone(), widths.to_string()))
            .collect(),
    }
}

/// Prints front, uniform plans and the chosen one.
pub(super) fn print(report: &Report) {
    output::line(&format!(
        "{:<6} {:<26} {:>11} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "plan", "", "size", "predicted", "agreement", "SQNR dB", "top-1", "fin. top-1", "fin. SQNR"
    ));
    for plan in &report.evaluated {
        let is_chosen = report.chosen.as_ref() == Some(&plan.plan_id);
        let is_front = report.frontier.contains(&plan.plan_id);
        if !(is_chosen || is_front || plan.name.is_some()) {
            continue;
        }
        let mut words = Vec::new();
        words.extend(plan.name.clone());
        words.extend(is_front.then(|| "front".to_owned()));
        words.extend(is_chosen.then(|| "chosen".to_owned()));
        let measured = plan.measured.as_ref();
        let last = plan.final_.as_ref();
        let level = |of: Option<&Measured>| of.map_or(Decibel(None), |of| of.sqnr_db);
        output::line(&format!(
            "{:<6} {:<26} {:>11} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            plan.plan_id,
            words.join(", "),
            bytes(plan.size_bytes),
            percent(plan.predicted.agreement),
            percent(measured.and_then(|measured| measured.agreement)),
            level(measured),
            percent(measured.and_then(|measured| measured.metrics.top1)),
            percent(last.and_then(|last| last.metrics.top1)),
            level(last),
        ));
    }
    output::line(&format!(
        "The search scored on {} samples, float top-1 {}; {}",
        report.search.samples,
        percent(report.search.float.top1),
        match &report.evaluation {
            Some(last) => format!(
                "the final numbers are of {} others, float top-1 {}",
                last.samples,
                percent(last.float.top1)
            ),
            None => "final numbers are not measured yet".to_owned(),
        }
    ));
    front_report::print(&report.against_uniform);
    if let Some(error) = &report.prediction_error {
        output::line(&format!(
            "Prediction: half of {} plans were within a factor of {:.2} of the predicted harm, agreement within {}, top-1 within {}; rank correlation {}",
            error.plans,
            error.median_factor,
            percent(error.median_agreement),
            percent(error.median_top1),
            error
                .rank_correlation
                .map_or_else(|| "-".to_owned(), |rank| format!("{rank:.3}"))
        ));
    }
    output::line(&format!(
        "{} plans measured; seconds: {:.1} scoring layers, {:.1} solving, {:.1} measuring plans",
        report.evaluated.len(),
        report.seconds.score,
        report.seconds.solve,
        report.seconds.measure
    ));
}
