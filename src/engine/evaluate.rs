//! Accuracy and errors of a plan, batch by batch.

use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;

use super::activations::Activations;
use super::batches::{Batch, Batches};
use super::error::RunError;
use super::executor::{Executor, Keep, PreparedPlan, RunOptions};
use super::metrics::{Classification, Comparison};
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
    /// Samples that were run.
    pub samples: usize,
}

impl FloatReference {
    /// The counts so far without the outputs, cheap to hand around.
    pub fn counts(so_far: &Self) -> Self {
        Self {
            outputs: Vec::new(),
            metrics: so_far.metrics,
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
    for batch in batches.iter() {
        let batch = batch?;
        let held = run(executor, &prepared, &batch, cancel)?;
        let outputs = outputs_of(executor, &held, batch.len)?;
        if let Some(logits) = outputs.first() {
            reference.metrics.add(logits, &batch.labels)?;
        }
        reference.samples += batch.len;
        reference.outputs.push(outputs.into());
        on_batch(&reference);
    }
    if reference.samples == 0 {
        return Err(RunError::message(
            "No evaluation sample could be read; choose a folder with readable samples".to_owned(),
        ));
    }
    Ok(reference)
}

/// Measures a plan against float.
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
    let float = executor.prepare_float()?;
    let mut evaluation = Evaluation {
        total: batches.len(),
        layers: prepared
            .layers()
            .iter()
            .map(|layer| LayerErrors {
                weight: layer
                    .weights
                    .quantized
                    .as_ref()
                    .map(|quantized| quantized.errors),
                ..LayerErrors::default()
            })
            .collect(),
        ..Evaluation::default()
    };
    for (index, batch) in batches.iter().enumerate() {
        let batch = batch?;
        let known = reference.and_then(|reference| reference.outputs.get(index));
        let with_layers = evaluation.samples < layer_error_samples;
        let started = Instant::now();
        let (float_outputs, float_layers): (Arc<[Tensor]>, _) = match known {
            Some(outputs) if !with_layers => (Arc::clone(outputs), Vec::new()),
            _ => {
                let (outputs, layers) = run_float(executor, &float, &batch, with_layers, cancel)?;
                (outputs.into(), layers)
            }
        };
        evaluation.float_secs += started.elapsed().as_secs_f64();
        let started = Instant::now();
        let plan_outputs = if with_layers {
            run_observed(
                executor,
                prepared,
                &batch,
                &float_layers,
                cancel,
                &mut evaluation,
            )?
        } else {
            let held = run(executor, prepared, &batch, cancel)?;
            outputs_of(executor, &held, batch.len)?
        };
        evaluation.plan_secs += started.elapsed().as_secs_f64();
        evaluation.add(&batch, &float_outputs, &plan_outputs)?;
        on_batch(&evaluation);
    }
    if evaluation.samples == 0 {
        return Err(RunError::message(
            "No evaluation sample could be read; choose a folder with readable samples".to_owned(),
        ));
    }
    Ok(evaluation)
}

impl Evaluation {
    fn add(&mut self, batch: &Batch, float: &[Tensor], plan: &[Tensor]) -> Result<(), RunError> {
        if let (Some(float), Some(plan)) = (float.first(), plan.first()) {
            self.float.add(float, &batch.labels)?;
            self.plan.add(plan, &batch.labels)?;
        }
        self.comparison.add(float, plan, batch.len)?;
        self.samples += batch.len;
        Ok(())
    }
}

fn run(
    executor: &Executor,
    prepared: &PreparedPlan,
    batch: &Batch,
    cancel: &CancelToken,
) -> Result<Activations, RunError> {
    executor.run(
        prepared,
        &batch.fed,
        RunOptions {
            keep: Keep::Outputs,
            cancel,
            tap: None,
        },
    )
}

/// Float outputs, and the output of every layer where asked.
fn run_float(
    executor: &Executor,
    float: &PreparedPlan,
    batch: &Batch,
    with_layers: bool,
    cancel: &CancelToken,
) -> Result<(Vec<Tensor>, Vec<Option<Value>>), RunError> {
    let mut layer_outputs = vec![None; executor.layers().len()];
    let mut remember = |tap: super::executor::LayerTap<'_>| {
        if let Some(slot) = layer_outputs.get_mut(tap.layer.index()) {
            *slot = Some(tap.output.clone());
        }
        Ok(())
    };
    let held = executor.run(
        float,
        &batch.fed,
        RunOptions {
            keep: Keep::Outputs,
            cancel,
            tap: with_layers.then_some(&mut remember),
        },
    )?;
    Ok((outputs_of(executor, &held, batch.len)?, layer_outputs))
}

/// Runs the plan and adds every layer's errors.
fn run_observed(
    executor: &Executor,
    prepared: &PreparedPlan,
    batch: &Batch,
    float_outputs: &[Option<Value>],
    cancel: &CancelToken,
    evaluation: &mut Evaluation,
) -> Result<Vec<Tensor>, RunError> {
    let layers = &mut evaluation.layers;
    let mut measure = |tap: super::executor::LayerTap<'_>| {
        let index = tap.layer.index();
        let (Some(errors), Some(Some(float))) = (layers.get_mut(index), float_outputs.get(index))
        else {
            return Ok(());
        };
        if let Some(input) = tap.input_errors {
            errors
                .activation
                .get_or_insert_with(SliceErrors::default)
                .merge(&input);
        }
        errors.output.merge(&compare_values(float, tap.output)?);
        Ok(())
    };
    let held = executor.run(
        prepared,
        &batch.fed,
        RunOptions {
            keep: Keep::Outputs,
            cancel,
            tap: Some(&mut measure),
        },
    )?;
    evaluation.layer_error_samples += batch.len;
    outputs_of(executor, &held, batch.len)
}

/// The graph's outputs, without the samples that only filled up a fixed batch.
pub(super) fn outputs_of(
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
