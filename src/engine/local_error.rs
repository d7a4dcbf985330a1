//! How far quantizing a layer moves its own output.
//!
//! One float pass serves all layers and widths. For quantized weights one matrix of each layer's input
//! is gathered, from which the error at every width follows ([`WeightChanges`]); where that would not be
//! cheaper, and for quantized inputs, the layer runs again at each width.

use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;

use super::activations::Activations;
use super::batches::{Batch, Batches};
use super::error::RunError;
use super::executor::Executor;
use super::kernels::blocked::PatchGram;
use super::prepare::{PreparedLayer, PreparedPlan};
use super::ranges::Ranges;
use super::run_options::{Keep, RunOptions};
use super::sensitivity::{Subject, each_piece};
use super::slices::compare_values;
use super::value::Value;
use super::weight_changes::{Reading, WeightChanges};
use crate::jobs::CancelToken;
use crate::model::{Graph, LayerId, ValueId};
use crate::plan::Plan;
use crate::quant::{ErrorSum, NumberFormat};

/// Bytes of the matrices of all layers and widths together; further layers run again.
const MATRIX_BYTES: usize = 256 << 20;

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

/// Measures every layer at every width on the layer alone, in one float pass.
///
/// `plan` gives the schemes and calibrators; its widths do not matter. `on_batch` sees the errors
/// after every batch.
///
/// # Errors
/// [`RunError`] if a sample cannot be fed, a node cannot run, or the run is cancelled.
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
    let graph = Arc::clone(executor.graph());
    let columns = Columns { subject, widths };
    let samples = batches.len();
    let ways = prepare(executor, &graph, plan, ranges, &columns, samples, cancel)?;
    let study = Study {
        executor,
        float: executor.prepare_float()?,
        kept: kept_values(executor, &ways),
        ways,
        widths: widths.len(),
        cancel,
    };
    let mut result = LocalErrors {
        subject,
        widths: widths.to_vec(),
        samples: 0,
        total: batches.len(),
        cells: vec![vec![ErrorSum::default(); widths.len()]; executor.layers().len()],
    };
    for batch in batches.iter() {
        let batch = batch?;
        let pieces = each_piece(executor, &batch, |part| study.piece(part))?;
        for (row, measured) in result.cells.iter_mut().zip(study.merged(pieces)?) {
            for (cell, measured) in row.iter_mut().zip(&measured) {
                cell.merge(measured);
            }
        }
        result.samples += batch.len;
        on_batch(&result);
    }
    Ok(result)
}

/// How the errors of a layer are found.
enum Way<'a> {
    /// From a matrix of its input.
    Changes(Box<WeightChanges<'a>>),
    /// By running the layer at each width.
    Runs(Vec<PreparedLayer>),
}

struct Columns<'a> {
    subject: Subject,
    widths: &'a [NumberFormat],
}

fn prepare<'a>(
    executor: &Executor,
    graph: &'a Graph,
    plan: &Plan,
    ranges: Option<&Ranges>,
    columns: &Columns<'_>,
    samples: usize,
    cancel: &CancelToken,
) -> Result<Vec<Way<'a>>, RunError> {
    let mut bytes_left = MATRIX_BYTES;
    let mut readings: Vec<Option<Reading<'_>>> = Vec::with_capacity(executor.layers().len());
    for layer in executor.layers().iter() {
        let count = columns.widths.len();
        let reading = Reading::of(graph, layer).filter(|reading| {
            columns.subject == Subject::Weights && reading.saves(layer, samples, count)
        });
        let fitting = reading.and_then(|reading| {
            bytes_left = bytes_left.checked_sub(reading.bytes(count)?)?;
            Some(reading)
        });
        readings.push(fitting);
    }
    let layers = executor.layers().par_iter().zip(plan.layers());
    layers
        .zip(readings)
        .enumerate()
        .with_max_len(1)
        .map(|(index, ((layer, choice), reading))| {
            cancel.check()?;
            if let Some(reading) = reading {
                let spec = &choice.weight;
                let changes = WeightChanges::of(reading, graph, layer, spec, columns.widths)?;
                return Ok(Way::Changes(Box::new(changes)));
            }
            let runs: Result<Vec<PreparedLayer>, RunError> = columns
                .widths
                .iter()
                .map(|width| {
                    let changed = columns.subject.applied_to(choice, *width);
                    executor.prepare_layer(LayerId(index as u32), &changed, ranges)
                })
                .collect();
            Ok(Way::Runs(runs?))
        })
        .collect()
}

/// What a float pass keeps: the network's outputs, and the ends of the layers that run again.
fn kept_values(executor: &Executor, ways: &[Way<'_>]) -> Vec<ValueId> {
    let mut kept = executor.graph().outputs().to_vec();
    for (layer, way) in executor.layers().iter().zip(ways) {
        if matches!(way, Way::Runs(_)) {
            kept.extend([layer.input, layer.output]);
        }
    }
    kept
}

/// What stays the same over all pieces.
struct Study<'a> {
    executor: &'a Executor,
    float: PreparedPlan,
    kept: Vec<ValueId>,
    ways: Vec<Way<'a>>,
    widths: usize,
    cancel: &'a CancelToken,
}

/// What a piece of a batch tells of one layer.
enum Seen {
    /// The matrix of the input.
    Gram(PatchGram),
    /// The input, where one matrix is made of all pieces together.
    Image(Tensor),
    /// The errors at each width.
    Errors(Vec<ErrorSum>),
}

impl Study<'_> {
    /// One float pass over a piece of a batch, as fused as an evaluation; `None` for layers that have
    /// no part in the outputs.
    fn piece(&self, batch: &Batch) -> Result<Vec<Option<Seen>>, RunError> {
        let mut seen: Vec<Option<Seen>> = self.ways.iter().map(|_| None).collect();
        let mut see = |id: LayerId, input: &Value| {
            if let Some(Way::Changes(changes)) = self.ways.get(id.index()) {
                let image = changes.reading().image(input)?;
                seen[id.index()] = Some(if changes.keeps(&image)? {
                    Seen::Image(image)
                } else {
                    Seen::Gram(changes.gram(&[image])?)
                });
            }
            Ok(())
        };
        let options = RunOptions {
            keep: Keep::Values(&self.kept),
            cancel: self.cancel,
            tap: None,
        };
        let executor = self.executor;
        let held = executor.run_seeing(&self.float, &batch.fed, options, Some(&mut see))?;
        for ((id, way), seen) in (0u32..).map(LayerId).zip(&self.ways).zip(&mut seen) {
            if let Way::Runs(settings) = way {
                let errors = self.rerun(id, settings, &held, &batch.fed)?;
                *seen = errors.map(Seen::Errors);
            }
        }
        Ok(seen)
    }

    /// The errors of a layer that runs again at each width, on what the float pass kept of it.
    fn rerun(
        &self,
        id: LayerId,
        settings: &[PreparedLayer],
        held: &Activations,
        fed: &Activations,
    ) -> Result<Option<Vec<ErrorSum>>, RunError> {
        let layer = &self.executor.layers()[id.index()];
        let (Some(input), Some(float)) = (held.get(layer.input), held.get(layer.output)) else {
            return Ok(None);
        };
        let mut fed = fed.clone();
        fed.insert(layer.input, input.clone());
        let errors: Result<Vec<ErrorSum>, RunError> = settings
            .iter()
            .map(|setting| {
                let changed = self.float.with_layer(id, setting.clone());
                let options = RunOptions {
                    keep: Keep::Values(&[layer.output]),
                    cancel: self.cancel,
                    tap: None,
                };
                let run = self.executor.run(&changed, &fed, options)?;
                match run.get(layer.output) {
                    Some(output) => Ok(compare_values(float, output)?),
                    None => Ok(ErrorSum::default()),
                }
            })
            .collect();
        errors.map(Some)
    }

    /// The errors of a batch, from what its pieces tell in their order.
    fn merged(&self, pieces: Vec<Vec<Option<Seen>>>) -> Result<Vec<Vec<ErrorSum>>, RunError> {
        let mut layers: Vec<Vec<Seen>> = self.ways.iter().map(|_| Vec::new()).collect();
        for piece in pieces {
            for (layer, seen) in layers.iter_mut().zip(piece) {
                layer.extend(seen);
            }
        }
        layers
            .into_par_iter()
            .zip(&self.ways)
            .with_max_len(1)
            .map(|(seen, way)| {
                self.cancel.check()?;
                self.errors(way, seen)
            })
            .collect()
    }

    fn errors(&self, way: &Way<'_>, seen: Vec<Seen>) -> Result<Vec<ErrorSum>, RunError> {
        let mut errors = vec![ErrorSum::default(); self.widths];
        let (mut gram, mut images) = (None::<PatchGram>, Vec::new());
        for seen in seen {
            match (seen, &mut gram) {
                (Seen::Gram(own), Some(sum)) => sum.add(&own),
                (Seen::Gram(own), None) => gram = Some(own),
                (Seen::Image(image), _) => images.push(image),
                (Seen::Errors(own), _) => {
                    for (error, own) in errors.iter_mut().zip(&own) {
                        error.merge(own);
                    }
                }
            }
        }
        let Way::Changes(changes) = way else {
            return Ok(errors);
        };
        if !images.is_empty() {
            let own = changes.gram(&images)?;
            match &mut gram {
                Some(sum) => sum.add(&own),
                None => gram = Some(own),
            }
        }
        if let Some(gram) = &gram {
            errors = changes.errors(gram).collect();
        }
        Ok(errors)
    }
}
