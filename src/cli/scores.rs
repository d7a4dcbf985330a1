//! Cheap scores beside measured harm, and how well they agree.

use std::collections::BTreeMap;

use serde::Serialize;

use super::number::Decibel;
use crate::engine::{Estimate, SecondOrder, SecondOrderCell, Sensitivity, SensitivityCell};
use crate::quant::{WeightScreen, rank_correlation};

/// What a weight by itself says.
#[derive(Clone, Copy, Serialize)]
pub(super) struct ScreenReport {
    kurtosis: f64,
    outlier_ratio: f64,
    range_spread: f64,
}

impl From<WeightScreen> for ScreenReport {
    fn from(screen: WeightScreen) -> Self {
        Self {
            kurtosis: screen.kurtosis,
            outlier_ratio: screen.outlier_ratio,
            range_spread: screen.range_spread,
        }
    }
}

/// A number with its standard error and 95 % interval.
#[derive(Serialize)]
pub(super) struct EstimateReport {
    value: Decibel,
    standard_error: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

impl From<Estimate> for EstimateReport {
    fn from(estimate: Estimate) -> Self {
        let (low, high) = estimate.interval();
        let finite = |value: f64| value.is_finite().then_some(value);
        Self {
            value: Decibel(Some(estimate.value)),
            standard_error: finite(estimate.standard_error),
            low: finite(low),
            high: finite(high),
        }
    }
}

/// Harm of a cell with its uncertainty.
#[derive(Serialize)]
pub(super) struct Uncertainty {
    top1_drop: Option<EstimateReport>,
    loss_increase: Option<EstimateReport>,
    kl: Option<EstimateReport>,
    sqnr_db: Option<EstimateReport>,
}

impl From<&SensitivityCell> for Uncertainty {
    fn from(cell: &SensitivityCell) -> Self {
        let spread = &cell.spread;
        Self {
            top1_drop: spread.accuracy_drop().map(EstimateReport::from),
            loss_increase: spread.loss_increase().map(EstimateReport::from),
            kl: spread.kl(&cell.comparison).map(EstimateReport::from),
            sqnr_db: spread.sqnr_db(&cell.comparison).map(EstimateReport::from),
        }
    }
}

/// What was computed of the second-order score.
#[derive(Serialize)]
pub(super) struct SecondOrderReport {
    pub(super) objective: Option<&'static str>,
    pub(super) samples: usize,
    pub(super) seconds: f64,
    /// Why there is none.
    pub(super) unavailable: Option<String>,
}

/// The second-order score of a cell.
#[derive(Serialize)]
pub(super) struct ScoreReport {
    /// Mean second-order term of a sample, in nats for a classifier.
    score: f64,
    /// First and second term together.
    loss_increase: f64,
}

impl ScoreReport {
    pub(super) fn of(cell: &SecondOrderCell) -> Option<Self> {
        Some(Self {
            score: cell.score()?,
            loss_increase: cell.increase()?,
        })
    }
}

/// Rank correlations of one score with each measured harm.
#[derive(Serialize)]
pub(super) struct Agreement {
    top1_drop: Option<f64>,
    loss_increase: Option<f64>,
    kl: Option<f64>,
    sqnr_db: Option<f64>,
}

/// A score that says what is harmful before it is measured; larger is worse.
pub(super) type Score<'a> = (&'static str, Box<dyn Fn(usize) -> Option<f64> + 'a>);

/// Correlates every score with every harm over the layers at one width.
pub(super) fn agreements(
    sweep: &Sensitivity,
    column: usize,
    scores: &[Score<'_>],
) -> BTreeMap<&'static str, Agreement> {
    let correlate = |score: &Score<'_>, harm: &dyn Fn(&SensitivityCell) -> Option<f64>| {
        let pairs: Vec<(f64, f64)> = sweep
            .cells
            .iter()
            .enumerate()
            .filter_map(|(layer, row)| Some((score.1(layer)?, harm(row.get(column)?)?)))
            .collect();
        rank_correlation(&pairs)
    };
    scores
        .iter()
        .map(|score| {
            let agreement = Agreement {
                top1_drop: correlate(score, &|cell| Some(cell.spread.accuracy_drop()?.value)),
                loss_increase: correlate(score, &|cell| Some(cell.spread.loss_increase()?.value)),
                kl: correlate(score, &|cell| cell.comparison.kl()),
                sqnr_db: correlate(score, &|cell| Some(-cell.comparison.sqnr_db()?)),
            };
            (score.0, agreement)
        })
        .collect()
}

/// The scores that a second-order run adds.
pub(super) fn second_order_scores(found: &SecondOrder, column: usize) -> Vec<Score<'_>> {
    let cell = move |layer: usize| found.cells.get(layer)?.get(column);
    vec![
        (
            "second_order",
            Box::new(move |layer| cell(layer)?.score()) as Box<dyn Fn(usize) -> Option<f64>>,
        ),
        (
            "loss_increase",
            Box::new(move |layer| cell(layer)?.increase()),
        ),
        (
            "second_order_diagonal",
            Box::new(move |layer| Some(cell(layer)?.diagonal)),
        ),
    ]
}
