//! How much one layer at one width hurts.

use candle_core::Tensor;
use rayon::prelude::*;

use super::activations::Activations;
use super::batches::{Batch, Batches};
use super::beyond::Beyond;
use super::error::RunError;
use super::evaluate::outputs_of;
use super::executor::Executor;
use super::kernels::parallel::undivided;
use super::layer_settings::LayerSettings;
use super::metrics::{Classification, Comparison, FloatOutputs, first_log_norms};
use super::prepare::PreparedPlan;
use super::ranges::Ranges;
use super::run_options::{Keep, RunOptions};
use super::slices::compare_values;
use super::spread::{Spread, outcomes_of};
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
    pub(super) fn applied_to(self, choice: &LayerPlan, width: NumberFormat) -> LayerPlan {
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
    /// How certain that is.
    pub spread: Spread,
    /// Batches that it was measured on, always the first ones.
    pub batches: u32,
}

impl SensitivityCell {
    fn merge(&mut self, other: &Self) {
        self.metrics.merge(&other.metrics);
        self.comparison.merge(&other.comparison);
        self.local.merge(&other.local);
        self.spread.merge(&other.spread);
    }
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
    /// Batches that float was measured on, always the first ones.
    pub float_batches: u32,
    /// One row per layer, one column per width.
    pub cells: Vec<Vec<SensitivityCell>>,
}

impl Sensitivity {
    /// Nothing measured yet.
    pub fn new(request: SensitivityRequest, layers: usize, total: usize) -> Self {
        let widths = request.widths.len();
        Self {
            request,
            samples: 0,
            total,
            float: Classification::default(),
            float_batches: 0,
            cells: vec![vec![SensitivityCell::default(); widths]; layers],
        }
    }
}

/// Most bytes that [`sensitivity`] holds at once, about: what `threads` pieces of a batch compute, the
/// batch itself and, for weights, each layer's weight at every width.
pub fn sensitivity_bytes(
    executor: &Executor,
    request: &SensitivityRequest,
    batch: usize,
    threads: usize,
) -> u64 {
    let held = executor.batch_axis().held_bytes(batch, threads) as u64;
    let weights = match request.subject {
        Subject::Activations => 0,
        Subject::Weights | Subject::Both => executor
            .layers()
            .iter()
            .map(|layer| layer.weight_elements)
            .sum(),
    };
    held + weights * request.widths.len() as u64 * size_of::<f32>() as u64
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
    let known = Sensitivity::new(request.clone(), executor.layers().len(), batches.len());
    resume_sensitivity(executor, plan, ranges, known, batches, cancel, on_batch)
}

/// As [`sensitivity`], from where an earlier sweep over the same batches stopped.
///
/// Each cell of `known` says how many batches it was measured on; only the others run. The result is
/// the same bit for bit as that of a sweep in one go.
///
/// # Errors
/// As [`sensitivity`].
pub fn resume_sensitivity(
    executor: &Executor,
    plan: &Plan,
    ranges: Option<&Ranges>,
    known: Sensitivity,
    batches: &Batches,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(&Sensitivity),
) -> Result<Sensitivity, RunError> {
    let (subject, widths) = (known.request.subject, &known.request.widths);
    let settings = LayerSettings::new(executor, plan, ranges, subject, widths, cancel)?;
    let all = |_| true;
    sensitivity_part(executor, &settings, known, &all, batches, cancel, on_batch)
}

/// As [`resume_sensitivity`], for the layers that are `studied` and with the weights and quantizers of
/// `settings`; the cells of the others stay as they are.
///
/// Every cell is the same bit for bit as that of a sweep over all layers.
///
/// # Errors
/// As [`sensitivity`].
pub fn sensitivity_part(
    executor: &Executor,
    settings: &LayerSettings,
    known: Sensitivity,
    studied: &(dyn Fn(LayerId) -> bool + Sync),
    batches: &Batches,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(&Sensitivity),
) -> Result<Sensitivity, RunError> {
    let request = known.request.clone();
    let float = executor.prepare_float()?;
    let beyond: Vec<Beyond> = (0..executor.layers().len() as u32)
        .map(|index| Beyond::layer(executor, LayerId(index)))
        .collect();
    let columns = match request.protocol {
        Protocol::OnlyOne => Vec::new(),
        Protocol::AllButOne => (0..request.widths.len())
            .map(|width| settings.column(&float, width))
            .collect(),
    };
    let study = Study {
        executor,
        request: &request,
        settings,
        float: &float,
        columns: &columns,
        beyond: &beyond,
        cancel,
    };
    let mut result = known;
    result.samples = 0;
    for index in 0..batches.count() {
        cancel.check()?;
        let wanted = Wanted::at(&result, index as u32, studied);
        if wanted.is_empty() {
            result.samples += batches.samples_of(index);
            continue;
        }
        let batch = batches.get(index)?;
        if batch.len > 0 {
            for piece in each_piece(executor, &batch, |part| study.piece(part, &wanted))? {
                if wanted.float {
                    result.float.merge(&piece.float);
                }
                for (row, measured) in result.cells.iter_mut().zip(&piece.cells) {
                    for (cell, measured) in row.iter_mut().zip(measured) {
                        cell.merge(measured);
                    }
                }
            }
        }
        wanted.count(&mut result);
        result.samples += batch.len;
        on_batch(&result);
    }
    Ok(result)
}

/// What a batch is still needed for.
struct Wanted {
    float: bool,
    cells: Vec<Vec<bool>>,
}

impl Wanted {
    fn at(so_far: &Sensitivity, batch: u32, studied: &dyn Fn(LayerId) -> bool) -> Self {
        let rows = (0u32..).map(LayerId).zip(&so_far.cells);
        let row = |(id, row): (LayerId, &Vec<SensitivityCell>)| {
            let is_studied = studied(id);
            row.iter()
                .map(|cell| is_studied && cell.batches == batch)
                .collect()
        };
        Self {
            float: so_far.float_batches == batch,
            cells: rows.map(row).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        !self.float && !self.cells.iter().flatten().any(|wanted| *wanted)
    }

    /// Notes that the batch is done.
    fn count(&self, result: &mut Sensitivity) {
        result.float_batches += u32::from(self.float);
        for (row, wanted) in result.cells.iter_mut().zip(&self.cells) {
            for (cell, wanted) in row.iter_mut().zip(wanted) {
                cell.batches += u32::from(*wanted);
            }
        }
    }
}

/// Cuts a batch into pieces, each of which stays on one thread with all that is measured on it.
///
/// The results come in the order of the samples and do not depend on the number of threads.
pub(super) fn each_piece<R: Send>(
    executor: &Executor,
    batch: &Batch,
    measure: impl Fn(&Batch) -> Result<R, RunError> + Sync,
) -> Result<Vec<R>, RunError> {
    let axis = executor.batch_axis();
    let samples = axis.samples(executor.graph(), &batch.fed, executor.graph().outputs());
    let pieces = match samples {
        Some(samples) if samples == batch.len => axis.fixed_pieces(samples),
        _ => return Ok(vec![measure(batch)?]),
    };
    pieces
        .par_iter()
        .with_max_len(1)
        .map(|piece| {
            undivided(|| {
                measure(&Batch {
                    fed: executor.samples_of(&batch.fed, piece)?,
                    len: piece.len(),
                    labels: batch.labels[piece.clone()].to_vec(),
                    samples: batch.samples[piece.clone()].to_vec(),
                })
            })
        })
        .collect()
}

/// What stays the same over all pieces of a sweep.
struct Study<'a> {
    executor: &'a Executor,
    request: &'a SensitivityRequest,
    settings: &'a LayerSettings,
    float: &'a PreparedPlan,
    /// All layers at each width, for [`Protocol::AllButOne`].
    columns: &'a [PreparedPlan],
    beyond: &'a [Beyond],
    cancel: &'a CancelToken,
}

/// What is measured on a piece of a batch.
struct PieceResult {
    float: Classification,
    cells: Vec<Vec<SensitivityCell>>,
}

impl Study<'_> {
    fn piece(&self, batch: &Batch, wanted: &Wanted) -> Result<PieceResult, RunError> {
        let (executor, widths) = (self.executor, self.request.widths.len());
        let held = run_everything(executor, self.float, &batch.fed, self.cancel)?;
        let float_outputs = outputs_of(executor, &held, batch.len)?;
        let mut result = PieceResult {
            float: Classification::default(),
            cells: vec![vec![SensitivityCell::default(); widths]; self.settings.rows().len()],
        };
        let norms = first_log_norms(&float_outputs)?;
        let float = outcomes_of(&mut result.float, &float_outputs, &norms, &batch.labels)?;
        let reference = FloatOutputs::of(&float_outputs)?;
        for (index, row) in result.cells.iter_mut().enumerate() {
            let of_layer = |width: &usize| wanted.cells[index][*width];
            let of_layer: Vec<usize> = (0..widths).filter(of_layer).collect();
            let id = LayerId(index as u32);
            for chunk in of_layer.chunks(self.at_once(id, batch)) {
                let runs = match self.request.protocol {
                    Protocol::OnlyOne => self.only(id, chunk, &held, batch)?,
                    Protocol::AllButOne => self.all_but(id, chunk, batch)?,
                };
                for (width, run) in chunk.iter().zip(runs) {
                    let cell = &mut row[*width];
                    cell.local = run.local;
                    let norms = first_log_norms(&run.outputs)?;
                    let quantized =
                        outcomes_of(&mut cell.metrics, &run.outputs, &norms, &batch.labels)?;
                    let compared = &mut cell.comparison;
                    let kl = compared.add_rows(&reference, &run.outputs, &norms, batch.len)?;
                    let both = [&float_outputs[..], &run.outputs[..]];
                    cell.spread.add(&float, &quantized, &kl, both, batch.len)?;
                }
            }
        }
        Ok(result)
    }

    /// How many widths of a layer go through the network together, as one batch.
    fn at_once(&self, id: LayerId, batch: &Batch) -> usize {
        match self.request.protocol {
            Protocol::OnlyOne => self.beyond[id.index()].copies(batch.len),
            Protocol::AllButOne => 1,
        }
    }

    /// One layer at some widths; what lies beyond it runs once for all of them.
    fn only(
        &self,
        id: LayerId,
        widths: &[usize],
        held: &Activations,
        batch: &Batch,
    ) -> Result<Vec<CellRun>, RunError> {
        let (executor, beyond) = (self.executor, &self.beyond[id.index()]);
        let layer = &executor.layers()[id.index()];
        let before = beyond.before(held);
        let mut parts = Vec::with_capacity(widths.len());
        let mut runs = Vec::with_capacity(widths.len());
        for width in widths {
            let setting = self.settings.rows()[id.index()][*width].clone();
            let changed = self.float.with_layer(id, setting);
            let run = run_for(executor, &changed, &before, &[layer.output], self.cancel)?;
            runs.push(CellRun {
                local: layer_error(executor, id, held, &run)?,
                outputs: Vec::new(),
            });
            parts.extend(run.get(layer.output).cloned());
        }
        let fed = beyond.fed(held, &parts.iter().collect::<Vec<_>>())?;
        let outputs = executor.graph().outputs();
        let run = run_for(executor, self.float, &fed, outputs, self.cancel)?;
        let outputs = outputs_of(executor, &run, batch.len * widths.len())?;
        for (index, run) in runs.iter_mut().enumerate() {
            let own = |output: &Tensor| match output.dims().first() {
                Some(&rows) if widths.len() > 1 && rows == batch.len * widths.len() => {
                    output.narrow(0, index * batch.len, batch.len)
                }
                _ => Ok(output.clone()),
            };
            run.outputs = outputs
                .iter()
                .map(own)
                .collect::<candle_core::Result<_>>()?;
        }
        Ok(runs)
    }

    /// Every layer at some widths but one.
    fn all_but(
        &self,
        id: LayerId,
        widths: &[usize],
        batch: &Batch,
    ) -> Result<Vec<CellRun>, RunError> {
        let (executor, float) = (self.executor, self.float);
        let run = |width: &usize| {
            let changed = self.columns[*width].with_layer(id, float.layers()[id.index()].clone());
            let outputs = executor.graph().outputs();
            let run = run_for(executor, &changed, &batch.fed, outputs, self.cancel)?;
            Ok(CellRun {
                local: ErrorSum::default(),
                outputs: outputs_of(executor, &run, batch.len)?,
            })
        };
        widths.iter().map(run).collect()
    }
}

/// What one layer at one width gives.
struct CellRun {
    local: ErrorSum,
    outputs: Vec<Tensor>,
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

fn run_for(
    executor: &Executor,
    prepared: &PreparedPlan,
    fed: &Activations,
    wanted: &[ValueId],
    cancel: &CancelToken,
) -> Result<Activations, RunError> {
    let options = RunOptions {
        keep: Keep::Values(wanted),
        cancel,
        tap: None,
    };
    executor.run(prepared, fed, options)
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
