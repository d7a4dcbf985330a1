//! Which of several ways to round suits a layer best.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{LayerStudy, output_sqnr_db};
use crate::engine::error::RunError;
use crate::engine::slices::with_f32;
use crate::plan::{LayerPlan, Rounding};
use crate::quant::{
    Calibrator, ErrorSum, LevelChoice, NumberFormat, RoundedWeights, RoundingMethod, WindowSums,
};

/// Damping of the matrix, that of GPTQ.
pub(super) const DAMPING: f64 = 0.01;
/// Ridge of a refit. Fewer samples than these networks have weights for would need more of it.
pub(super) const RIDGE: f64 = 0.1;
/// Ridges that are tried; the larger one suits layers with few windows.
const RIDGES: [f64; 2] = [RIDGE, 10.0 * RIDGE];

/// What the calibration samples tell of a layer.
pub(super) struct Evidence {
    fitted: Vec<WindowSums>,
    /// Sums over other samples, where a choice has to be made on them.
    held_out: Option<Vec<WindowSums>>,
    signal: ErrorSum,
}

impl Evidence {
    pub(super) fn new(empty: Vec<WindowSums>, holds_out: bool) -> Self {
        Self {
            held_out: holds_out.then(|| empty.clone()),
            fitted: empty,
            signal: ErrorSum::default(),
        }
    }

    /// The sums that a batch belongs to.
    pub(super) fn sums_of(&mut self, is_held_out: bool) -> &mut [WindowSums] {
        match &mut self.held_out {
            Some(held_out) if is_held_out => held_out,
            _ => &mut self.fitted,
        }
    }

    /// Adds the output of the float network.
    pub(super) fn add_signal(&mut self, float: &Tensor) -> Result<(), RunError> {
        with_f32(float, |values| {
            self.signal.add(values, values);
            Ok(())
        })?;
        Ok(())
    }

    /// All samples.
    fn all(&self) -> Vec<WindowSums> {
        let mut all = self.fitted.clone();
        for (sums, held_out) in all.iter_mut().zip(self.held_out.iter().flatten()) {
            sums.add(held_out);
        }
        all
    }

    /// The sums of samples that nothing was fitted to; all there are where there are too few.
    fn judges(&self) -> &[WindowSums] {
        let held_out = self
            .held_out
            .as_deref()
            .filter(|held_out| held_out.first().is_some_and(|sums| sums.windows > 0.0));
        held_out.unwrap_or(&self.fitted)
    }

    /// Mean square of the output for each window, all channels together.
    fn signal(&self, outputs: usize) -> f64 {
        self.signal.signal / self.signal.count.max(1) as f64 * outputs as f64
    }
}

/// Rounds a layer as its plan says; gives how, the weights, and the SQNR of the output before and after.
pub(super) fn choose(
    study: &LayerStudy<'_>,
    evidence: &Evidence,
) -> Result<(RoundingMethod, RoundedWeights, [f64; 2]), RunError> {
    let plain = RoundingMethod {
        levels: LevelChoice::Nearest,
        damping: DAMPING,
        refit: None,
        corrects_bias: false,
    };
    let all = evidence.all();
    let nearest = study.rounded(study.choice, &plain, &all)?;
    let (choice, method) = if study.choice.rounding == Rounding::Auto {
        best(study, evidence, plain)?
    } else {
        (study.choice.clone(), study.named())
    };
    let rounded = study.rounded(&choice, &method, &all)?;
    let outputs = study.layer.weight_shape[study.layer.channel_axis];
    let signal = evidence.signal(outputs);
    let mut levels = [0.0; 2];
    for (level, rounded) in levels.iter_mut().zip([&nearest, &rounded]) {
        *level = output_sqnr_db(signal, study.error(rounded, &all)?);
    }
    Ok((method, rounded, levels))
}

/// The way with the least error on the samples that were held out.
fn best(
    study: &LayerStudy<'_>,
    evidence: &Evidence,
    plain: RoundingMethod,
) -> Result<(LayerPlan, RoundingMethod), RunError> {
    let candidates = candidates(study, plain);
    let errors: Result<Vec<f64>, RunError> = candidates
        .par_iter()
        .map(|(choice, method)| {
            let rounded = study.rounded(choice, method, &evidence.fitted)?;
            study.error(&rounded, evidence.judges())
        })
        .collect();
    let errors = errors?;
    let compare = |a: &usize, b: &usize| errors[*a].total_cmp(&errors[*b]);
    let best = (0..candidates.len()).min_by(compare).unwrap_or_default();
    let first = || (study.choice.clone(), plain);
    Ok(candidates.into_iter().nth(best).unwrap_or_else(first))
}

/// What is tried: as planned, and everything that may help, with and without a search for the ranges.
fn candidates(study: &LayerStudy<'_>, plain: RoundingMethod) -> Vec<(LayerPlan, RoundingMethod)> {
    let own = study.choice;
    let mut searched = own.clone();
    if own.weight.calibrator == Calibrator::MinMax {
        searched.weight.calibrator = Calibrator::Mse;
    }
    let bias = RoundingMethod {
        corrects_bias: study.takes_bias,
        ..plain
    };
    let mut candidates = vec![(own.clone(), plain), (own.clone(), bias)];
    let refits = RIDGES.into_iter().map(Some);
    if matches!(own.weight.format, NumberFormat::Int(_)) {
        let descent = RoundingMethod {
            levels: LevelChoice::Descent,
            ..bias
        };
        candidates
            .extend(refits.map(|refit| (searched.clone(), RoundingMethod { refit, ..descent })));
    } else {
        candidates.extend(refits.map(|refit| (own.clone(), RoundingMethod { refit, ..bias })));
    }
    candidates
}
