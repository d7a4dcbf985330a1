//! Accuracy and errors of a plan, batch by batch.

use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;

use super::activation_cache::{ActivationCache, Comparer, FloatLayers, LayerRecord, Reuse};
use super::activations::Activations;
use super::batches::{Batch, Batches};
use super::error::RunError;
use super::executor::Executor;
use super::forward::run_batches;
use super::metrics::{Classification, Comparison, FloatOutputs, first_log_norms};
use super::prepare::PreparedPlan;
use super::run_options::{Keep, LayerTap, RunOptions};
use super::sample_harms::SampleHarms;
use super::sample_predictions::Predictions;
use super::slices::compare_values;
use super::value::Value;
use crate::jobs::CancelToken;
use crate::quant::{ErrorSum, SliceErrors};

/// Float outputs of every evaluation batch, kept so that a plan is compared without running float again.
#[derive(Clone, Debug, Default)]
pub struct FloatReference {
    outputs: Vec<Arc<[Tensor]>>,
    /// Float accuracy.
    pub metrics: Classification,
    /// What float predicts for each sample.
    pub predictions: Predictions,
    /// Samples that were run.
    pub samples: usize,
}

impl FloatReference {
    /// Counts and predictions so far without the outputs, cheap to hand around.
    pub fn counts(so_far: &Self) -> Self {
        Self {
            outputs: Vec::new(),
            metrics: so_far.metrics,
            predictions: so_far.predictions.clone(),
            samples: so_far.samples,
        }
    }

    /// Outputs of the batches in order.
    pub fn outputs(&self) -> &[Arc<[Tensor]>] {
        &self.outputs
    }
}

/// Errors of one layer under a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerErrors {
    /// Error of the weight; `None` for a float weight.
    pub weight: Option<SliceErrors>,
    /// Error of quantizing the input as it arrives under the plan; `None` for a float input.
    pub activation: Option<SliceErrors>,
    /// The layer's output under the plan against float, with all error from upstream.
    pub output: ErrorSum,
}

/// What is known of a plan so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Samples evaluated so far.
    pub samples: usize,
    /// Samples to evaluate.
    pub total: usize,
    /// Float accuracy on the same samples.
    pub float: Classification,
    /// Accuracy under the plan.
    pub plan: Classification,
    /// Plan against float.
    pub comparison: Comparison,
    /// What the plan predicts for each sample.
    pub predictions: Predictions,
    /// How far the outputs of each sample are from float.
    pub harms: SampleHarms,
    /// Errors in layer order.
    pub layers: Vec<LayerErrors>,
    /// Samples that the layer errors were measured on.
    pub layer_error_samples: usize,
    /// Seconds that float took, where it ran beside the plan.
    pub float_secs: f64,
    /// Seconds that the plan took.
    pub plan_secs: f64,
}

/// Measures the float network.
///
/// `on_batch` sees the result after every batch.
///
/// # Errors
/// [`RunError`] if a sample cannot be fed, a node cannot run, or the run is cancelled.
pub fn evaluate_float(
    executor: &Executor,
    batches: &Batches,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(&FloatReference),
) -> Result<FloatReference, RunError> {
    let prepared = executor.prepare_float()?;
    let mut reference = FloatReference::default();
    let batches = batches.stopped_by(cancel);
    run_batches(executor, &prepared, &batches, cancel, |batch, held| {
        let outputs = outputs_of(executor, held, batch.len)?;
        if let Some(logits) = outputs.first() {
            reference.metrics.add(logits, &batch.labels)?;
        }
        let output = outputs.first();
        reference.predictions.add(batch, output, output)?;
        reference.samples += batch.len;
        reference.outputs.push(outputs.into());
        on_batch(&reference);
        Ok(())
    })?;
    if reference.samples == 0 {
        return Err(RunError::message(
            "No evaluation sample could be read; choose a folder with readable samples".to_owned(),
        ));
    }
    Ok(reference)
}

/// Measures a plan against float from nothing.
///
/// Layer errors come from the first `layer_error_samples` samples, because they need the float
/// network's inner values, which the reference does not hold. Without a reference, float runs
/// beside the plan.
///
/// # Errors
/// As [`evaluate_float`].
pub fn evaluate_plan(
    executor: &Executor,
    prepared: &PreparedPlan,
    batches: &Batches,
    reference: Option<&FloatReference>,
    layer_error_samples: usize,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(&Evaluation),
) -> Result<Evaluation, RunError> {
    let cache = ActivationCache::new(executor, batches, layer_error_samples, 0);
    evaluate_plan_cached(executor, prepared, &cache, reference, cancel, on_batch)
}

/// Measures a plan against float and re-runs only what earlier evaluations with this cache do not know.
///
/// The result is the same bit for bit as that of [`evaluate_plan`], but for the seconds.
///
/// # Errors
/// As [`evaluate_float`].
pub fn evaluate_plan_cached(
    executor: &Executor,
    prepared: &PreparedPlan,
    cache: &ActivationCache,
    reference: Option<&FloatReference>,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(&Evaluation),
) -> Result<Evaluation, RunError> {
    let mut run = PlanRun {
        executor,
        prepared,
        float: executor.prepare_float()?,
        cache,
        comparer: cache.comparer(prepared),
        cancel,
        evaluation: Evaluation::of(prepared, cache.batches().len()),
    };
    let mut reference = reference.map(FloatReference::outputs).unwrap_or_default();
    for index in 0..cache.batches().count() {
        let outputs = reference.first().map(Arc::clone);
        if run.batch(index, outputs)? {
            reference = reference.get(1..).unwrap_or_default();
            on_batch(&run.evaluation);
        }
    }
    if run.evaluation.samples == 0 {
        return Err(RunError::message(
            "No evaluation sample could be read; choose a folder with readable samples".to_owned(),
        ));
    }
    Ok(run.evaluation)
}

/// One evaluation of a plan on its way.
struct PlanRun<'a> {
    executor: &'a Executor,
    prepared: &'a PreparedPlan,
    float: PreparedPlan,
    cache: &'a ActivationCache,
    comparer: Comparer,
    cancel: &'a CancelToken,
    evaluation: Evaluation,
}

/// What running one batch under a plan gives.
struct PlanBatch {
    outputs: Vec<Tensor>,
    /// The values that were wanted, outputs included.
    values: Activations,
    /// Errors of every layer; empty where they were not measured.
    errors: Vec<Option<LayerRecord>>,
}

impl PlanRun<'_> {
    /// Evaluates one batch; gives `false` if none of its samples can be read.
    fn batch(&mut self, index: usize, reference: Option<Arc<[Tensor]>>) -> Result<bool, RunError> {
        self.cancel.check()?;
        let with_layers = self.evaluation.samples < self.cache.layer_error_samples();
        let held = self.cache.held(index);
        let reuse = self
            .cache
            .reuse(index, &held, &mut self.comparer, with_layers);
        let mut float_layers = held.float_layers.filter(|_| with_layers);
        let runs_float = reference.is_none() || with_layers && float_layers.is_none();
        let batch = match held.batch {
            Some(batch) if self.has_input(&batch) || !(reuse.needs_input || runs_float) => batch,
            known => {
                let batch = self.cache.batches().stopped_by(self.cancel).get(index)?;
                if known.is_some_and(|known| known.samples != batch.samples) {
                    // A file became readable or unreadable since.
                    self.cache.forget(index);
                    return self.batch(index, reference);
                }
                batch
            }
        };
        if batch.len == 0 {
            return Ok(false);
        }
        let started = Instant::now();
        let float_outputs = match reference {
            Some(outputs) if !runs_float => outputs,
            _ => {
                let (outputs, layers) = self.run_float(&batch, with_layers)?;
                float_layers = layers;
                outputs.into()
            }
        };
        self.evaluation.float_secs += started.elapsed().as_secs_f64();
        let started = Instant::now();
        let plan = self.run_plan(&batch, &reuse, float_layers.as_deref())?;
        self.evaluation.plan_secs += started.elapsed().as_secs_f64();
        if with_layers {
            self.evaluation.add_layers(&plan.errors, batch.len);
        }
        self.evaluation.add(&batch, &float_outputs, &plan.outputs)?;
        self.cancel.check()?;
        let values = [&plan.values, &reuse.fed];
        let errors = plan.errors;
        self.cache
            .keep(index, &batch, float_layers, &self.comparer, values, errors);
        Ok(true)
    }

    /// Whether the input is there, and not only what is known of the samples.
    fn has_input(&self, batch: &Batch) -> bool {
        let mut inputs = self.executor.graph().inputs().iter();
        inputs.all(|id| batch.fed.contains(*id))
    }

    /// Float outputs, and the output of every layer where asked.
    fn run_float(
        &self,
        batch: &Batch,
        with_layers: bool,
    ) -> Result<(Vec<Tensor>, Option<FloatLayers>), RunError> {
        let mut layer_outputs = vec![None; self.executor.layers().len()];
        let mut remember = |tap: LayerTap<'_>| {
            if let Some(slot) = layer_outputs.get_mut(tap.layer.index()) {
                *slot = Some(tap.output.clone());
            }
            Ok(())
        };
        let held = self.executor.run(
            &self.float,
            &batch.fed,
            RunOptions {
                keep: Keep::Outputs,
                cancel: self.cancel,
                tap: with_layers.then_some(&mut remember),
            },
        )?;
        let outputs = outputs_of(self.executor, &held, batch.len)?;
        Ok((outputs, with_layers.then(|| layer_outputs.into())))
    }

    /// Runs what is not known already: outputs, values to keep, and the errors of every layer where
    /// its float output is given.
    fn run_plan(
        &self,
        batch: &Batch,
        reuse: &Reuse,
        float_layers: Option<&[Option<Value>]>,
    ) -> Result<PlanBatch, RunError> {
        let mut fed = reuse.fed.clone();
        if reuse.needs_input {
            for id in self.executor.graph().inputs() {
                if let Some(tensor) = batch.fed.get(*id) {
                    fed.insert(*id, tensor.clone());
                }
            }
        }
        let mut errors = reuse.errors.clone();
        let mut measure = |tap: LayerTap<'_>| {
            let index = tap.layer.index();
            let float = float_layers.and_then(|layers| layers.get(index)?.as_ref());
            if let (Some(slot), Some(float)) = (errors.get_mut(index), float) {
                *slot = Some(LayerRecord {
                    activation: tap.input_errors,
                    output: compare_values(float, tap.output)?,
                });
            }
            Ok(())
        };
        let held = self.executor.run(
            self.prepared,
            &fed,
            RunOptions {
                keep: Keep::Values(&reuse.wanted),
                cancel: self.cancel,
                tap: float_layers.is_some().then_some(&mut measure),
            },
        )?;
        if float_layers.is_none() {
            errors.clear();
        }
        Ok(PlanBatch {
            outputs: outputs_of(self.executor, &held, batch.len)?,
            values: held,
            errors,
        })
    }
}

impl Evaluation {
    /// Nothing evaluated yet; the errors of the weights are known before any sample is run.
    fn of(prepared: &PreparedPlan, total: usize) -> Self {
        let layers = prepared.layers().iter().map(|layer| LayerErrors {
            weight: layer
                .weights
                .quantized
                .as_ref()
                .map(|quantized| quantized.errors),
            ..LayerErrors::default()
        });
        Self {
            total,
            layers: layers.collect(),
            ..Self::default()
        }
    }

    fn add(&mut self, batch: &Batch, float: &[Tensor], plan: &[Tensor]) -> Result<(), RunError> {
        let norms = first_log_norms(plan)?;
        if let (Some(float), Some(plan)) = (float.first(), plan.first()) {
            self.float.add(float, &batch.labels)?;
            self.plan.add_rows(plan, &norms, &batch.labels)?;
        }
        let reference = FloatOutputs::of(float)?;
        let divergences = self
            .comparison
            .add_rows(&reference, plan, &norms, batch.len)?;
        self.harms.add(&divergences, [float, plan], batch.len)?;
        self.predictions.add(batch, plan.first(), float.first())?;
        self.samples += batch.len;
        Ok(())
    }

    fn add_layers(&mut self, records: &[Option<LayerRecord>], samples: usize) {
        for (errors, record) in self.layers.iter_mut().zip(records) {
            let Some(record) = record else {
                continue;
            };
            if let Some(activation) = &record.activation {
                errors
                    .activation
                    .get_or_insert_with(SliceErrors::default)
                    .merge(activation);
            }
            errors.output.merge(&record.output);
        }
        self.layer_error_samples += samples;
    }
}

/// The graph's outputs, without the samples that only filled up a fixed batch.
///
/// # Errors
/// An output was not computed.
pub fn outputs_of(
    executor: &Executor,
    held: &Activations,
    len: usize,
) -> Result<Vec<Tensor>, RunError> {
    executor
        .graph()
        .outputs()
        .iter()
        .map(|id| {
            let tensor = output(executor, held, *id)?;
            match tensor.dims().first() {
                Some(&rows) if rows > len => Ok(tensor.narrow(0, 0, len)?),
                _ => Ok(tensor),
            }
        })
        .collect()
}

/// One of the graph's outputs.
pub(super) fn output(
    executor: &Executor,
    held: &Activations,
    id: crate::model::ValueId,
) -> Result<Tensor, RunError> {
    let value = held.get(id).map(Value::plain).transpose()?;
    value
        .or_else(|| executor.graph().initializer(id).cloned())
        .ok_or_else(|| {
            RunError::message(format!(
                "Output {:?} was not computed",
                executor.graph().value(id).name
            ))
        })
}
