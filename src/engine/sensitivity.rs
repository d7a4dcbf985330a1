//! How much one layer at one width hurts.

use super::activations::Activations;
use super::batches::Batches;
use super::error::RunError;
use super::evaluate::outputs_of;
use super::executor::{Executor, Keep, PreparedLayer, PreparedPlan, RunOptions};
use super::metrics::{Classification, Comparison};
use super::ranges::Ranges;
use super::slices::compare_values;
use crate::jobs::CancelToken;
use crate::model::{LayerId, ValueId};
use crate::plan::{LayerPlan, Plan};
use crate::quant::{ErrorSum, NumberFormat};

/// Which layers are quantized while one is studied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Only the studied layer is quantized.
    OnlyOne,
    /// Every layer but the studied one is quantized.
    AllButOne,
}

impl Protocol {
    /// Name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnlyOne => "only-one",
            Self::AllButOne => "all-but-one",
        }
    }
}

/// What of a studied layer is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The weight.
    Weights,
    /// The input activation.
    Activations,
    /// Both.
    Both,
}

impl Subject {
    /// Name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Activations => "activations",
            Self::Both => "both",
        }
    }

    /// A layer's choice with the studied parts at `width` and the others in float.
    fn applied_to(self, choice: &LayerPlan, width: NumberFormat) -> LayerPlan {
        let mut changed = choice.clone();
        let at = |on: bool| if on { width } else { NumberFormat::F32 };
        changed.weight.format = at(self != Self::Activations);
        changed.activation.format = at(self != Self::Weights);
        changed
    }
}

/// What a sweep computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensitivityRequest {
    /// Which layers are quantized together.
    pub protocol: Protocol,
    /// Weights, activations or both.
    pub subject: Subject,
    /// The widths, in the order of the columns.
    pub widths: Vec<NumberFormat>,
}

/// One layer at one width.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SensitivityCell {
    /// Accuracy of the network.
    pub metrics: Classification,
    /// Outputs of the network against float.
    pub comparison: Comparison,
    /// Output of the layer alone on float inputs, against float; empty for [`Protocol::AllButOne`].
    pub local: ErrorSum,
}

/// A sweep so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// What is computed.
    pub request: SensitivityRequest,
    /// Samples done.
    pub samples: usize,
    /// Samples to do.
    pub total: usize,
    /// Float accuracy on the same samples.
    pub float: Classification,
    /// One row per layer, one column per width.
    pub cells: Vec<Vec<SensitivityCell>>,
}

/// Local error of every layer at every width.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalErrors {
    /// Weights, activations or both.
    pub subject: Subject,
    /// The widths, in the order of the columns.
    pub widths: Vec<NumberFormat>,
    /// Samples done.
    pub samples: usize,
    /// Samples to do.
    pub total: usize,
    /// One row per layer, one column per width: the layer's output on float inputs, against float.
    pub cells: Vec<Vec<ErrorSum>>,
}

/// Settings of every (layer, width) cell.
struct Sweep {
    layers: Vec<Vec<PreparedLayer>>,
}

impl Sweep {
    fn prepare(
        executor: &Executor,
        plan: &Plan,
        ranges: Option<&Ranges>,
        subject: Subject,
        widths: &[NumberFormat],
        cancel: &CancelToken,
    ) -> Result<Self, RunError> {
        let mut layers = Vec::with_capacity(plan.layers().len());
        for (index, choice) in (0u32..).zip(plan.layers()) {
            cancel.check()?;
            let row: Result<Vec<PreparedLayer>, RunError> = widths
                .iter()
                .map(|width| {
                    let changed = subject.applied_to(choice, *width);
                    executor.prepare_layer(LayerId(index), &changed, ranges)
                })
                .collect();
            layers.push(row?);
        }
        Ok(Self { layers })
    }

    /// All layers at one width.
    fn column(&self, float: &PreparedPlan, width: usize) -> PreparedPlan {
        let mut prepared = float.clone();
        for (index, row) in (0u32..).zip(&self.layers) {
            if let Some(layer) = row.get(width) {
                prepared = prepared.with_layer(LayerId(index), layer.clone());
            }
        }
        prepared
    }
}

/// Measures every layer at every width on the whole network.
///
/// Batch by batch, the float activations are held, and for each cell of [`Protocol::OnlyOne`] only
/// the layer and what lies downstream of it runs. `plan` gives the schemes and calibrators; its
/// widths do not matter. `on_batch` sees the sweep after every batch.
///
/// # Errors
/// [`RunError`] if a sample cannot be fed, a node cannot run, or the run is cancelled.
pub fn sensitivity(
    executor: &Executor,
    plan: &Plan,
    ranges: Option<&Ranges>,
    request: &SensitivityRequest,
    batches: &Batches,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(&Sensitivity),
) -> Result<Sensitivity, RunError> {
    let widths = request.widths.len();
    let sweep = Sweep::prepare(
        executor,
        plan,
        ranges,
        request.subject,
        &request.widths,
        cancel,
    )?;
    let float = executor.prepare_float()?;
    let downstream: Vec<Vec<bool>> = (0..executor.layers().len() as u32)
        .map(|index| executor.downstream(LayerId(index)))
        .collect();
    let mut result = Sensitivity {
        request: request.clone(),
        samples: 0,
        total: batches.len(),
        float: Classification::default(),
        cells: vec![vec![SensitivityCell::default(); widths]; executor.layers().len()],
    };
    for batch in batches.iter() {
        let batch = batch?;
        let held = run_everything(executor, &float, &batch.fed, cancel)?;
        let float_outputs = outputs_of(executor, &held, batch.len)?;
        if let Some(logits) = float_outputs.first() {
            result.float.add(logits, &batch.labels)?;
        }
        for width in 0..widths {
            let all = sweep.column(&float, width);
            for (index, row) in sweep.layers.iter().enumerate() {
                let id = LayerId(index as u32);
                let cell = &mut result.cells[index][width];
                let outputs = match request.protocol {
                    Protocol::OnlyOne => {
                        let changed = float.with_layer(id, row[width].clone());
                        let fed = upstream_of(&held, &downstream[index]);
                        let run = rerun(executor, &changed, &fed, id, cancel)?;
                        cell.local.merge(&layer_error(executor, id, &held, &run)?);
                        run
                    }
                    Protocol::AllButOne => {
                        let changed = all.with_layer(id, float.layers()[index].clone());
                        rerun(executor, &changed, &batch.fed, id, cancel)?
                    }
                };
                let outputs = outputs_of(executor, &outputs, batch.len)?;
                if let Some(logits) = outputs.first() {
                    cell.metrics.add(logits, &batch.labels)?;
                }
                cell.comparison.add(&float_outputs, &outputs, batch.len)?;
            }
        }
        result.samples += batch.len;
        on_batch(&result);
    }
    Ok(result)
}

/// Measures every layer at every width on the layer alone: one float pass, then only the layers.
///
/// # Errors
/// As [`sensitivity`].
pub fn local_errors(
    executor: &Executor,
    plan: &Plan,
    ranges: Option<&Ranges>,
    subject: Subject,
    widths: &[NumberFormat],
    batches: &Batches,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(&LocalErrors),
) -> Result<LocalErrors, RunError> {
    let sweep = Sweep::prepare(executor, plan, ranges, subject, widths, cancel)?;
    let float = executor.prepare_float()?;
    let mut result = LocalErrors {
        subject,
        widths: widths.to_vec(),
        samples: 0,
        total: batches.len(),
        cells: vec![vec![ErrorSum::default(); widths.len()]; executor.layers().len()],
    };
    for batch in batches.iter() {
        let batch = batch?;
        let held = run_everything(executor, &float, &batch.fed, cancel)?;
        for (index, layer) in executor.layers().iter().enumerate() {
            let id = LayerId(index as u32);
            let mut fed = held.clone();
            fed.remove(layer.output);
            for (width, setting) in sweep.layers[index].iter().enumerate() {
                let changed = float.with_layer(id, setting.clone());
                let run = executor.run(
                    &changed,
                    &fed,
                    RunOptions {
                        keep: Keep::Values(&[layer.output]),
                        cancel,
                        tap: None,
                    },
                )?;
                result.cells[index][width].merge(&layer_error(executor, id, &held, &run)?);
            }
        }
        result.samples += batch.len;
        on_batch(&result);
    }
    Ok(result)
}

fn run_everything(
    executor: &Executor,
    float: &PreparedPlan,
    fed: &Activations,
    cancel: &CancelToken,
) -> Result<Activations, RunError> {
    executor.run(
        float,
        fed,
        RunOptions {
            keep: Keep::Everything,
            cancel,
            tap: None,
        },
    )
}

/// The held values that a layer cannot change.
fn upstream_of(held: &Activations, downstream: &[bool]) -> Activations {
    let mut fed = held.clone();
    for (index, reached) in (0u32..).zip(downstream) {
        if *reached {
            fed.remove(ValueId(index));
        }
    }
    fed
}

fn rerun(
    executor: &Executor,
    prepared: &PreparedPlan,
    fed: &Activations,
    id: LayerId,
    cancel: &CancelToken,
) -> Result<Activations, RunError> {
    let mut keep = executor.graph().outputs().to_vec();
    keep.push(executor.layers()[id.index()].output);
    executor.run(
        prepared,
        fed,
        RunOptions {
            keep: Keep::Values(&keep),
            cancel,
            tap: None,
        },
    )
}

fn layer_error(
    executor: &Executor,
    id: LayerId,
    float: &Activations,
    changed: &Activations,
) -> Result<ErrorSum, RunError> {
    let output = executor.layers()[id.index()].output;
    match (float.get(output), changed.get(output)) {
        (Some(float), Some(changed)) => Ok(compare_values(float, changed)?),
        _ => Ok(ErrorSum::default()),
    }
}
