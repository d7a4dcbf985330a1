//! A score of every layer and width from one walk forth and back over calibration data.
//!
//! The loss is expanded around the float network. With the gradient `g` of the loss of a sample at the
//! output of a layer, and the error `Δ` that quantizing the layer alone makes there,
//!
//! ```text
//! E[L(ŷ) − L(y)] ≈ E[Σ g·Δ] + ½ E[Σ_c (Σ_p g·Δ)²]       c channels, p places of a channel
//! ```
//! The second term takes the squared gradient for the curvature (the empirical Fisher matrix, as in
//! Dong et al., HAWQ, 2019, and Li et al., BRECQ, 2021, equation 10). An error of a weight is the same
//! at every place of its channel, so places are summed before squaring; between channels the errors
//! are taken as independent.

use candle_core::Tensor;

use super::activations::Activations;
use super::backward::Backward;
use super::batches::{Batch, Batches};
use super::error::RunError;
use super::evaluate::outputs_of;
use super::executor::Executor;
use super::gradient_moments::moments;
use super::layer_settings::LayerSettings;
use super::metrics::class_count;
use super::prepare::PreparedPlan;
use super::ranges::Ranges;
use super::run_options::{Keep, RunOptions};
use super::sensitivity::{Subject, each_piece};
use super::slices::with_f32;
use super::value::Value;
use crate::jobs::CancelToken;
use crate::model::{LayerId, ValueId};
use crate::plan::Plan;
use crate::quant::NumberFormat;

/// The loss that is expanded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// Cross-entropy against the labels.
    #[default]
    Labels,
    /// `KL(float ‖ quantized)` of a classifier without labels; it has no first term.
    Divergence,
    /// Half the squared change of all outputs of a network that is no classifier; no first term.
    OutputError,
}

impl Objective {
    /// Name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Labels => "cross-entropy",
            Self::Divergence => "kl",
            Self::OutputError => "output-error",
        }
    }
}

/// Sums over the samples for one layer at one width.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SecondOrderCell {
    /// `Σ g·Δ`.
    pub first: f64,
    /// `½ Σ_c (Σ_p g·Δ)²`.
    pub second: f64,
    /// `½ Σ (g·Δ)²`, every output by itself.
    pub diagonal: f64,
    /// Samples in the sums.
    pub samples: u64,
}

impl SecondOrderCell {
    /// Predicted increase of the loss of a sample; `None` before the first.
    pub fn increase(&self) -> Option<f64> {
        (self.samples > 0).then(|| (self.first + self.second) / self.samples as f64)
    }

    /// Mean second-order term of a sample, never negative; `None` before the first.
    ///
    /// It ranks layers better than [`SecondOrderCell::increase`]: whether a small error happens to
    /// raise or lower the loss differs between samples, how far it moves the outputs does not.
    pub fn score(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.second / self.samples as f64)
    }

    fn merge(&mut self, other: &Self) {
        self.first += other.first;
        self.second += other.second;
        self.diagonal += other.diagonal;
        self.samples += other.samples;
    }
}

/// Scores of all layers and widths so far.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondOrder {
    /// Weights, activations or both.
    pub subject: Subject,
    /// The loss that is expanded.
    pub objective: Objective,
    /// The widths, in the order of the columns.
    pub widths: Vec<NumberFormat>,
    /// Samples done.
    pub samples: usize,
    /// Samples to do.
    pub total: usize,
    /// One row per layer, one column per width.
    pub cells: Vec<Vec<SecondOrderCell>>,
}

/// Scores every layer at every width.
///
/// `plan` gives the schemes and calibrators; its widths do not matter. `batches` should be calibration
/// data. The labels are used where every sample has one. `on_batch` sees the scores after every batch.
///
/// # Errors
/// [`RunError`] if an operator has no gradient, a sample cannot be fed, a node cannot run, or the run is
/// cancelled.
pub fn second_order(
    executor: &Executor,
    plan: &Plan,
    ranges: Option<&Ranges>,
    subject: Subject,
    widths: &[NumberFormat],
    batches: &Batches,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(&SecondOrder),
) -> Result<SecondOrder, RunError> {
    let backward = Backward::new(executor)?;
    let settings = LayerSettings::new(executor, plan, ranges, subject, widths, cancel)?;
    let study = Study {
        executor,
        backward,
        float: executor.prepare_float()?,
        settings,
        cancel,
    };
    let mut result = SecondOrder {
        subject,
        objective: Objective::default(),
        widths: widths.to_vec(),
        samples: 0,
        total: batches.len(),
        cells: vec![vec![SecondOrderCell::default(); widths.len()]; executor.layers().len()],
    };
    for batch in batches.iter() {
        let batch = batch?;
        for (objective, cells) in each_piece(executor, &batch, |part| study.piece(part))? {
            result.objective = objective;
            for (row, measured) in result.cells.iter_mut().zip(&cells) {
                for (cell, measured) in row.iter_mut().zip(measured) {
                    cell.merge(measured);
                }
            }
        }
        result.samples += batch.len;
        on_batch(&result);
    }
    Ok(result)
}

/// What stays the same over all pieces.
struct Study<'a> {
    executor: &'a Executor,
    backward: Backward<'a>,
    float: PreparedPlan,
    settings: LayerSettings,
    cancel: &'a CancelToken,
}

impl Study<'_> {
    fn piece(&self, batch: &Batch) -> Result<(Objective, Vec<Vec<SecondOrderCell>>), RunError> {
        let options = RunOptions {
            keep: Keep::Everything,
            cancel: self.cancel,
            tap: None,
        };
        let held = self.executor.run(&self.float, &batch.fed, options)?;
        let (objective, seeds) = self.seeds(batch, &held)?;
        let mut cells: Vec<Vec<SecondOrderCell>> = self
            .settings
            .rows()
            .iter()
            .map(|row| vec![SecondOrderCell::default(); row.len()])
            .collect();
        let mut see = |id: LayerId, gradient: &Value| {
            let layer = &self.executor.layers()[id.index()];
            let (Some(input), Some(float)) = (held.get(layer.input), held.get(layer.output)) else {
                return Ok(());
            };
            let mut fed = batch.fed.clone();
            fed.insert(layer.input, input.clone());
            let channels_first = !matches!(layer.op.as_str(), "Gemm" | "MatMul" | "Einsum");
            let settings = &self.settings.rows()[id.index()];
            for (setting, cell) in settings.iter().zip(&mut cells[id.index()]) {
                let changed = self.float.with_layer(id, setting.clone());
                let options = RunOptions {
                    keep: Keep::Values(&[layer.output]),
                    cancel: self.cancel,
                    tap: None,
                };
                let run = self.executor.run(&changed, &fed, options)?;
                if let Some(output) = run.get(layer.output) {
                    *cell = moments(gradient, float, output, channels_first)?;
                    cell.samples = batch.len as u64;
                }
            }
            Ok(())
        };
        self.backward.walk(&held, seeds, self.cancel, &mut see)?;
        Ok((objective, cells))
    }

    /// The gradients at the outputs.
    fn seeds(
        &self,
        batch: &Batch,
        held: &Activations,
    ) -> Result<(Objective, Vec<(ValueId, Value)>), RunError> {
        let ids = self.executor.graph().outputs();
        let outputs = outputs_of(self.executor, held, batch.len)?;
        let first = ids.first().zip(outputs.first());
        if let Some((id, logits)) = first
            && outputs.len() == 1
            && let Some(classes) = class_count(logits)
        {
            let labels: Option<Vec<u32>> = batch.labels.iter().copied().collect();
            let objective = match &labels {
                Some(_) => Objective::Labels,
                None => Objective::Divergence,
            };
            let gradient = with_f32(logits, |values| {
                let mut gradient = vec![0.0; values.len()];
                let rows = gradient.chunks_mut(classes).zip(values.chunks(classes));
                for (index, (out, row)) in rows.enumerate() {
                    match labels.as_ref().and_then(|labels| labels.get(index)) {
                        Some(label) => cross_entropy_gradient(row, *label as usize, out),
                        None => divergence_root(row, sample_of(batch, index), out),
                    }
                }
                Tensor::from_vec(gradient, logits.dims(), logits.device())
            })?;
            return Ok((objective, vec![(*id, filled(*id, held, gradient)?)]));
        }
        let mut seeds = Vec::new();
        for (id, output) in ids.iter().zip(&outputs) {
            if output.dtype() != candle_core::DType::F32 {
                continue;
            }
            let count = output.elem_count() / batch.len.max(1);
            let signs: Vec<f32> = (0..output.elem_count())
                .map(|at| sign(sample_of(batch, at / count.max(1)), at % count.max(1)))
                .collect();
            let gradient = Tensor::from_vec(signs, output.dims(), output.device())?;
            seeds.push((*id, filled(*id, held, gradient)?));
        }
        Ok((Objective::OutputError, seeds))
    }
}

/// A gradient with zeros for the samples that only fill up a fixed batch.
fn filled(id: ValueId, held: &Activations, gradient: Tensor) -> Result<Value, RunError> {
    let rows = held.get(id).and_then(|value| value.dims().first().copied());
    let own = gradient.dims().first().copied();
    Ok(match rows.zip(own) {
        Some((rows, own)) if rows > own => gradient.pad_with_zeros(0, 0, rows - own)?.into(),
        _ => gradient.into(),
    })
}

/// Index of a sample in the dataset, so that its signs do not depend on the batch.
fn sample_of(batch: &Batch, index: usize) -> usize {
    batch.samples.get(index).copied().unwrap_or(index)
}

fn softmax(row: &[f32]) -> Vec<f32> {
    let peak = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut shares: Vec<f32> = row.iter().map(|value| (value - peak).exp()).collect();
    let sum: f32 = shares.iter().sum();
    for share in &mut shares {
        *share /= sum;
    }
    shares
}

/// `softmax(row) − one-hot(label)`.
fn cross_entropy_gradient(row: &[f32], label: usize, out: &mut [f32]) {
    out.copy_from_slice(&softmax(row));
    if let Some(value) = out.get_mut(label) {
        *value -= 1.0;
    }
}

/// A random vector whose mean square is the curvature of the divergence.
///
/// ```text
/// (diag(√p) − p·√pᵀ)·v    with random signs v, since (…)·(…)ᵀ = diag(p) − p·pᵀ
/// ```
fn divergence_root(row: &[f32], sample: usize, out: &mut [f32]) {
    let shares = softmax(row);
    let mut sum = 0.0;
    for (class, (out, share)) in out.iter_mut().zip(&shares).enumerate() {
        *out = share.sqrt() * sign(sample, class);
        sum += *out;
    }
    for (out, share) in out.iter_mut().zip(&shares) {
        *out -= share * sum;
    }
}

/// A sign that looks random but is always the same for an element of a sample.
///
/// The mixing function is splitmix64 (Steele, Lea and Flood, 2014).
fn sign(sample: usize, element: usize) -> f32 {
    let mut z = (sample as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(element as u64)
        .wrapping_mul(0xD134_2543_DE82_EF95);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    if (z ^ (z >> 31)) & 1 == 0 { 1.0 } else { -1.0 }
}
