//! The calibrator of each activation by what it does to the output of the network.

use std::collections::BTreeMap;

use super::frontier::Frontier;
use crate::engine::activations::Activations;
use crate::engine::batches::Batches;
use crate::engine::error::RunError;
use crate::engine::executor::Executor;
use crate::engine::prepare::{PreparedLayer, PreparedPlan};
use crate::engine::ranges::Ranges;
use crate::engine::slices::compare_values;
use crate::jobs::CancelToken;
use crate::model::{LayerId, ValueId};
use crate::plan::Plan;
use crate::quant::{ActivationQuantizer, Calibrator, ErrorSum, NumberFormat, QuantSpec};

/// Calibration samples that are run for each calibrator.
const SAMPLES: usize = 48;
/// Samples of a batch.
const BATCH: usize = 16;
/// Activations that together give less than this share of the noise keep their calibrator.
const QUIET_SHARE: f64 = 0.05;
/// What is tried.
const CANDIDATES: [Calibrator; 9] = [
    Calibrator::MinMax,
    Calibrator::MovingAverage,
    Calibrator::Mse,
    Calibrator::Entropy,
    Calibrator::Percentile(99.999),
    Calibrator::Percentile(99.99),
    Calibrator::Percentile(99.9),
    Calibrator::Percentile(99.5),
    Calibrator::Percentile(99.0),
];

/// Chooses the calibrator of every quantized activation whose range is not set by hand.
///
/// One tensor at a time is quantized, the rest of the network is float, and the calibrator with the least
/// error of the network's outputs is taken for all layers that read the tensor. Tensors whose noise does
/// not count beside that of the others keep the calibrator that they have. `on_layer` is called with the
/// number of layers done, of twice as many as there are.
///
/// # Errors
/// [`RunError`] if a sample cannot be fed, a node cannot run, or the run is cancelled.
pub fn choose_calibrators(
    executor: &Executor,
    plan: &Plan,
    ranges: &Ranges,
    batches: &Batches,
    cancel: &CancelToken,
    on_layer: &mut dyn FnMut(usize),
) -> Result<Plan, RunError> {
    let mut tensors: BTreeMap<ValueId, Vec<LayerId>> = BTreeMap::new();
    for ((id, layer), choice) in (0u32..)
        .map(LayerId)
        .zip(executor.layers().iter())
        .zip(plan.layers())
    {
        let spec = &choice.activation;
        if matches!(spec.format, NumberFormat::Int(_)) && spec.range_override.is_none() {
            tensors.entry(layer.input).or_default().push(id);
        }
    }
    let frontier = Frontier::new(executor, cancel);
    let float = executor.prepare_float()?;
    let mut inputs = Vec::new();
    for batch in batches
        .first(SAMPLES)
        .in_batches_of(BATCH)
        .stopped_by(cancel)
        .iter()
    {
        inputs.push(batch?.fed);
    }
    let outputs = executor.graph().outputs();
    let references: Result<Vec<Activations>, RunError> = inputs
        .iter()
        .map(|fed| frontier.run(&float, fed, outputs))
        .collect();
    let study = Study {
        plan,
        ranges,
        float,
        frontier,
        inputs,
        references: references?,
        tensors,
    };
    let layers = executor.layers().len();
    let mut noise: BTreeMap<ValueId, f64> = BTreeMap::new();
    study.walk(|index, tensor, held| {
        noise.insert(tensor, study.noise(tensor, None, held)?);
        on_layer(index + 1);
        Ok(())
    })?;
    let loud = loud(&noise);
    let mut chosen = plan.clone();
    study.walk(|index, tensor, held| {
        if loud.contains(&tensor) {
            let best = study.best(tensor, noise.get(&tensor).copied(), held)?;
            if let (Some(calibrator), Some(readers)) = (best, study.tensors.get(&tensor)) {
                chosen.edit(readers, |layer| layer.activation.calibrator = calibrator);
            }
        }
        on_layer(layers + index + 1);
        Ok(())
    })?;
    on_layer(2 * layers);
    Ok(chosen)
}

/// The tensors that make nearly all of the noise.
fn loud(noise: &BTreeMap<ValueId, f64>) -> Vec<ValueId> {
    let mut falling: Vec<(ValueId, f64)> = noise.iter().map(|(id, noise)| (*id, *noise)).collect();
    falling.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut left: f64 = falling.iter().map(|(_, noise)| noise).sum();
    let enough = left * QUIET_SHARE;
    let mut loud = Vec::new();
    for (id, noise) in falling {
        if left <= enough {
            break;
        }
        left -= noise;
        loud.push(id);
    }
    loud
}

struct Study<'a> {
    plan: &'a Plan,
    ranges: &'a Ranges,
    float: PreparedPlan,
    frontier: Frontier<'a>,
    inputs: Vec<Activations>,
    references: Vec<Activations>,
    /// Layers that read each tensor quantized.
    tensors: BTreeMap<ValueId, Vec<LayerId>>,
}

impl Study<'_> {
    /// Stands still before the first reader of each tensor.
    fn walk(
        &self,
        mut each: impl FnMut(usize, ValueId, &[Activations]) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let mut held = self.inputs.clone();
        for (index, layer) in self.frontier.executor.layers().iter().enumerate() {
            let first = self
                .tensors
                .get(&layer.input)
                .and_then(|readers| readers.first());
            if first.is_none_or(|first| first.index() != index) {
                continue;
            }
            let ahead = self.frontier.ahead(index);
            for held in &mut held {
                *held = self
                    .frontier
                    .moved(&self.float, held, &ahead, &[layer.input])?;
            }
            each(index, layer.input, &held)?;
        }
        Ok(())
    }

    /// Noise of the outputs over their signal with a tensor quantized by its own or another calibrator.
    fn noise(
        &self,
        tensor: ValueId,
        calibrator: Option<Calibrator>,
        held: &[Activations],
    ) -> Result<f64, RunError> {
        let executor = self.frontier.executor;
        let mut prepared = self.float.clone();
        for id in self.tensors.get(&tensor).into_iter().flatten() {
            let spec = self.plan.layers()[id.index()].activation;
            let spec = QuantSpec {
                calibrator: calibrator.unwrap_or(spec.calibrator),
                ..spec
            };
            let activation: ActivationQuantizer = self
                .ranges
                .quantizer(&executor.layers()[id.index()], &spec)?;
            let weights = std::sync::Arc::clone(&self.float.layers()[id.index()].weights);
            prepared = prepared.with_layer(
                *id,
                PreparedLayer {
                    weights,
                    activation,
                },
            );
        }
        let outputs = executor.graph().outputs();
        let mut errors = vec![ErrorSum::default(); outputs.len()];
        for (held, reference) in held.iter().zip(&self.references) {
            let run = self.frontier.run(&prepared, held, outputs)?;
            for (error, id) in errors.iter_mut().zip(outputs) {
                if let (Some(float), Some(own)) = (reference.get(*id), run.get(*id)) {
                    error.merge(&compare_values(float, own)?);
                }
            }
        }
        let share = |error: &ErrorSum| error.noise / error.signal.max(f64::MIN_POSITIVE);
        Ok(errors.iter().map(share).sum())
    }

    /// The calibrator with the least noise, if it has less than is known of the own one.
    fn best(
        &self,
        tensor: ValueId,
        known: Option<f64>,
        held: &[Activations],
    ) -> Result<Option<Calibrator>, RunError> {
        let mut least = known.unwrap_or(f64::INFINITY);
        let mut best = None;
        for calibrator in CANDIDATES {
            let noise = self.noise(tensor, Some(calibrator), held)?;
            if noise < least {
                (least, best) = (noise, Some(calibrator));
            }
        }
        Ok(best)
    }
}
