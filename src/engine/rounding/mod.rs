//! Weights rounded on calibration data, layer by layer, to the least error of each layer's output.

mod calibrators;
mod channel_ranges;
mod choice;
mod equalization;
mod frontier;
mod known;
mod reading;
mod streams;

use std::sync::Arc;

use super::batches::Batches;
use super::error::RunError;
use super::executor::Executor;
use super::layer_settings::LayerSettings;
use super::layer_weights::{LayerWeights, weight_values};
use super::prepare::{PreparedLayer, PreparedPlan};
use super::ranges::Ranges;
use super::sensitivity::Subject;
use crate::jobs::CancelToken;
use crate::model::{Graph, Layer, LayerId, Op};
use crate::plan::{Fingerprint, LayerPlan, Plan, Rounding};
use crate::quant::{
    Calibrator, LevelChoice, NumberFormat, QuantizedWeights, RoundedWeights, RoundingMethod,
    WindowSums, sqnr_db,
};

pub use self::calibrators::choose_calibrators;
pub use self::equalization::equalized;
pub use self::known::RoundedLayers;

use self::choice::{Evidence, choose};
use self::known::{Known, keys};
use self::reading::Reading;
use self::streams::{Streams, bytes_per_sample};

/// Bytes that the activations of both streams may take; fewer samples are used where they would not fit.
const STREAM_BYTES: usize = 2 << 30;
/// Bytes that the sums of one layer may take; a larger layer is rounded to nearest.
const SUM_BYTES: usize = 2 << 30;
/// Samples of a batch; every fourth batch is held out where a choice has to be made.
const BATCH: usize = 16;
/// One batch of so many is held out.
const HELD_OUT: usize = 4;

/// Weights of a plan that were rounded on calibration data.
///
/// They belong to one plan, one model and one set of calibration data, and are prepared for no other.
#[derive(Clone, Debug)]
pub struct RoundedPlan {
    origin: Fingerprint,
    layers: Vec<Option<RoundedLayer>>,
    /// Calibration samples that were used.
    pub samples: usize,
}

/// The weight of one layer.
#[derive(Clone, Debug)]
pub struct RoundedLayer {
    /// Levels, grids and errors.
    pub weights: Arc<QuantizedWeights>,
    /// The bias in place of the layer's own, where it was corrected.
    pub bias: Option<Arc<[f32]>>,
    /// How it was rounded.
    pub method: RoundingMethod,
    /// SQNR of the layer's output on calibration samples in dB, rounded to nearest without corrections,
    /// and as it is now; both with the error of the layers before.
    pub output_sqnr_db: [f64; 2],
    packed: Arc<LayerWeights>,
}

impl RoundedPlan {
    /// The rounded layers in layer order; `None` where a layer's weight does not depend on data.
    pub fn layers(&self) -> &[Option<RoundedLayer>] {
        &self.layers
    }

    /// Whether it was made for this model, plan and calibration data.
    pub fn belongs_to(&self, executor: &Executor, plan: &Plan, data: &Fingerprint) -> bool {
        self.origin == origin(executor.graph(), plan, data)
    }

    /// Prepares the plan with these weights.
    ///
    /// # Errors
    /// [`RunError`] if they were made for something else, and as [`Executor::prepare`].
    pub fn prepare(
        &self,
        executor: &Executor,
        plan: &Plan,
        ranges: Option<&Ranges>,
        data: &Fingerprint,
    ) -> Result<PreparedPlan, RunError> {
        if !self.belongs_to(executor, plan, data) {
            return Err(RunError::message(
                "The rounded weights were made for another model, plan or calibration data; round again"
                    .to_owned(),
            ));
        }
        let mut prepared = placed(executor, plan, ranges)?;
        for (id, choice) in ids(plan) {
            let activation = prepared.layers()[id.index()].activation;
            let layer = match self.layers.get(id.index()) {
                Some(Some(rounded)) => PreparedLayer {
                    weights: Arc::clone(&rounded.packed),
                    activation,
                },
                _ => executor.prepare_layer(id, choice, ranges)?,
            };
            prepared = prepared.with_layer(id, layer);
        }
        Ok(prepared)
    }
}

fn ids(plan: &Plan) -> impl Iterator<Item = (LayerId, &LayerPlan)> {
    (0u32..).map(LayerId).zip(plan.layers())
}

fn origin(graph: &Graph, plan: &Plan, data: &Fingerprint) -> Fingerprint {
    let model = graph.metadata().sha256.as_bytes();
    Fingerprint::of_parts([model, plan.fingerprint().0.as_bytes(), data.0.as_bytes()])
}

/// Float weights, inputs quantized as planned.
fn placed(
    executor: &Executor,
    plan: &Plan,
    ranges: Option<&Ranges>,
) -> Result<PreparedPlan, RunError> {
    let mut float_weights = plan.clone();
    let all: Vec<LayerId> = ids(plan).map(|(id, _)| id).collect();
    float_weights.set_weight_format(&all, NumberFormat::F32);
    executor.prepare(&float_weights, ranges)
}

/// Rounds the weights of a plan on calibration samples.
///
/// Two streams walk through the network: the float one, and one through the layers that are already
/// rounded, with quantized inputs. Before each layer the windows `x` of the second stream are summed, and
/// with them the residual `r` between the float output and that of the float weights on `x`; where a
/// shortcut is added right behind the layer, `r` is taken behind the addition. From the sums the weight
/// is rounded ([`crate::quant::round_weights`]). A layer that cannot be read as windows, or that is too
/// large, is rounded to nearest.
///
/// `data` identifies the calibration samples. `on_layer` is called with the number of layers done.
///
/// # Errors
/// [`RunError`] names the layer that cannot be rounded, or says that the run was cancelled.
pub fn round_plan(
    executor: &Executor,
    plan: &Plan,
    ranges: Option<&Ranges>,
    batches: &Batches,
    data: &Fingerprint,
    cancel: &CancelToken,
    on_layer: &mut dyn FnMut(usize),
) -> Result<RoundedPlan, RunError> {
    let known = RoundedLayers::default();
    round_plan_knowing(
        &known, executor, plan, ranges, batches, data, cancel, on_layer,
    )
}

/// As [`round_plan`], and rounds no layer again that is known; what is rounded becomes known.
///
/// The weights are the same either way. A run that is cancelled leaves known what it has finished.
///
/// # Errors
/// As [`round_plan`].
pub fn round_plan_knowing(
    known: &RoundedLayers,
    executor: &Executor,
    plan: &Plan,
    ranges: Option<&Ranges>,
    batches: &Batches,
    data: &Fingerprint,
    cancel: &CancelToken,
    on_layer: &mut dyn FnMut(usize),
) -> Result<RoundedPlan, RunError> {
    let mut pass = Pass {
        executor,
        batches,
        streams: None,
        plan: placed(executor, plan, ranges)?,
        cancel,
    };
    let mut layers = Vec::new();
    let mut samples = 0;
    let keys = keys(executor, plan, data);
    for ((id, choice), key) in ids(plan).zip(keys) {
        cancel.check()?;
        let rounded = if choice.rounds_on_data() {
            let found = if let Some(found) = known.get(&key) {
                found
            } else {
                let found = pass.round(id, choice)?;
                known.keep(key, found.clone());
                found
            };
            samples = found.samples;
            found.layer
        } else {
            None
        };
        let prepared = match &rounded {
            Some(rounded) => PreparedLayer {
                weights: Arc::clone(&rounded.packed),
                activation: pass.plan.layers()[id.index()].activation,
            },
            None => executor.prepare_layer(id, choice, ranges)?,
        };
        pass.put(id, prepared);
        layers.push(rounded);
        on_layer(id.index() + 1);
    }
    Ok(RoundedPlan {
        origin: origin(executor.graph(), plan, data),
        layers,
        samples,
    })
}

/// Rounds every weight at every width, with all other weights and all inputs in float.
///
/// One walk over the samples serves all widths of a layer. Where the plan says [`Rounding::Auto`],
/// what that mostly chooses is taken: coordinate descent with searched ranges and corrected bias. There
/// is nothing to refit, since no error comes from the layers before.
///
/// # Errors
/// As [`round_plan`].
pub fn round_alone(
    executor: &Executor,
    plan: &Plan,
    widths: &[NumberFormat],
    batches: &Batches,
    cancel: &CancelToken,
    on_layer: &mut dyn FnMut(usize),
) -> Result<LayerSettings, RunError> {
    let mut pass = Pass {
        executor,
        batches,
        streams: None,
        plan: executor.prepare_float()?,
        cancel,
    };
    let mut rows = Vec::new();
    for (id, choice) in ids(plan).take(executor.layers().len()) {
        rows.push(pass.alone(id, &settled(choice), widths)?);
        on_layer(id.index() + 1);
    }
    Ok(LayerSettings::of_rows(rows))
}

/// A choice without anything that is tried out.
fn settled(choice: &LayerPlan) -> LayerPlan {
    let mut choice = choice.clone();
    choice.corrections.refit = false;
    if choice.rounding == Rounding::Auto {
        choice.rounding = Rounding::Descent;
        choice.corrections.bias = true;
        if choice.weight.calibrator == Calibrator::MinMax {
            choice.weight.calibrator = Calibrator::Mse;
        }
    }
    choice
}

struct Pass<'a> {
    executor: &'a Executor,
    batches: &'a Batches,
    /// The samples on their way through the network, once a layer has to be rounded.
    streams: Option<Streams<'a>>,
    /// Layers that are done as they were rounded, the others with float weights; inputs are quantized.
    plan: PreparedPlan,
    cancel: &'a CancelToken,
}

impl<'a> Pass<'a> {
    /// Puts a layer that is done into the second stream.
    fn put(&mut self, id: LayerId, prepared: PreparedLayer) {
        self.plan = self.plan.with_layer(id, prepared);
        if let Some(streams) = &mut self.streams {
            streams.plan = self.plan.clone();
            streams.release(id);
        }
    }

    /// The streams before a layer.
    fn streams_at(&mut self, id: LayerId) -> Result<&Streams<'a>, RunError> {
        let streams = match self.streams.take() {
            Some(streams) => streams,
            None => self.begin()?,
        };
        let streams = self.streams.insert(streams);
        streams.advance(id)?;
        Ok(streams)
    }

    /// Reads the samples.
    fn begin(&self) -> Result<Streams<'a>, RunError> {
        let samples = (STREAM_BYTES / bytes_per_sample(self.executor.graph()).max(1)).max(1);
        let batches = self.batches.first(samples).in_batches_of(BATCH);
        let streams = Streams::new(self.executor, &batches, self.plan.clone(), self.cancel)?;
        if streams.samples() == 0 {
            return Err(RunError::message(
                "No calibration sample could be read; choose a folder with readable samples"
                    .to_owned(),
            ));
        }
        Ok(streams)
    }

    /// A layer at every width; the second stream stays as it is.
    fn alone(
        &mut self,
        id: LayerId,
        choice: &LayerPlan,
        widths: &[NumberFormat],
    ) -> Result<Vec<PreparedLayer>, RunError> {
        self.cancel.check()?;
        let executor = self.executor;
        let at = |width: &NumberFormat| Subject::Weights.applied_to(choice, *width);
        let evidence = if widths.iter().any(|width| at(width).rounds_on_data()) {
            evidence(executor, self.streams_at(id)?, id, choice)?
        } else {
            None
        };
        let activation = self.plan.layers()[id.index()].activation;
        let row = widths
            .iter()
            .map(|width| match (at(width), &evidence) {
                (choice, Some(evidence)) if choice.rounds_on_data() => Ok(PreparedLayer {
                    weights: rounded(executor, id, &choice, evidence)?.packed,
                    activation,
                }),
                (choice, _) => executor.prepare_layer(id, &choice, None),
            })
            .collect();
        if let Some(streams) = &mut self.streams {
            streams.release(id);
        }
        row
    }

    /// Rounds a layer on what the streams hold.
    fn round(&mut self, id: LayerId, choice: &LayerPlan) -> Result<Known, RunError> {
        let executor = self.executor;
        let streams = self.streams_at(id)?;
        let evidence = evidence(executor, streams, id, choice)?;
        let layer = evidence
            .map(|evidence| rounded(executor, id, choice, &evidence))
            .transpose()?;
        let samples = streams.samples();
        Ok(Known { layer, samples })
    }
}

/// Sums over what a layer reads; `None` where it cannot be summed.
fn evidence(
    executor: &Executor,
    streams: &Streams<'_>,
    id: LayerId,
    choice: &LayerPlan,
) -> Result<Option<Evidence>, RunError> {
    let layer = &executor.layers()[id.index()];
    let graph = executor.graph();
    let mut reading: Option<Reading> = None;
    let mut evidence: Option<Evidence> = None;
    let mut first = 0;
    let holds_out = choice.rounding == Rounding::Auto;
    let samples = streams.samples();
    streams.look(id, |index, batch| {
        if reading.is_none() {
            reading = Reading::of(graph, layer, batch.input.dims())
                .filter(|reading| reading.bytes().is_some_and(|bytes| bytes <= SUM_BYTES));
        }
        let Some(reading) = &reading else {
            return Ok(());
        };
        let evidence = evidence.get_or_insert_with(|| Evidence::new(reading.sums(), holds_out));
        evidence.add_signal(&batch.float)?;
        let sums = evidence.sums_of(holds_out && index % HELD_OUT == HELD_OUT - 1);
        let step = reading.row_step(samples);
        reading
            .add(sums, &batch.input, &batch.residual, first, step)
            .map_err(|error| RunError::layer(layer, error.to_string()))?;
        first += batch.samples;
        Ok(())
    })?;
    Ok(evidence)
}

/// A layer rounded on what is known of its inputs.
fn rounded(
    executor: &Executor,
    id: LayerId,
    choice: &LayerPlan,
    evidence: &Evidence,
) -> Result<RoundedLayer, RunError> {
    let layer = &executor.layers()[id.index()];
    let graph = executor.graph();
    let values = weight_values(graph, layer)?;
    let study = LayerStudy {
        layer,
        choice,
        values: &values,
        takes_bias: takes_bias(graph, layer),
    };
    let (method, rounded, output_sqnr_db) = choose(&study, evidence)?;
    let bias = match &rounded.bias_change {
        Some(change) => Some(changed_bias(graph, layer, change)?),
        None => None,
    };
    let packed = LayerWeights::of_quantized(graph, layer, &rounded.weights, bias.as_deref())?;
    Ok(RoundedLayer {
        weights: Arc::new(rounded.weights),
        bias: bias.map(Arc::from),
        method,
        output_sqnr_db,
        packed: Arc::new(packed),
    })
}

/// A layer on the way to its rounding.
struct LayerStudy<'a> {
    layer: &'a Layer,
    choice: &'a LayerPlan,
    values: &'a [f32],
    takes_bias: bool,
}

impl LayerStudy<'_> {
    /// The layer's weight rounded in one way.
    fn rounded(
        &self,
        choice: &LayerPlan,
        method: &RoundingMethod,
        sums: &[WindowSums],
    ) -> Result<RoundedWeights, RunError> {
        let Layer {
            weight_shape,
            channel_axis,
            ..
        } = self.layer;
        crate::quant::round_weights(
            self.values,
            weight_shape,
            *channel_axis,
            &choice.weight,
            sums,
            method,
        )
        .map_err(|error| RunError::layer(self.layer, error.to_string()))
    }

    /// The mean squared error of the output for each window.
    fn error(&self, rounded: &RoundedWeights, sums: &[WindowSums]) -> Result<f64, RunError> {
        let Layer {
            weight_shape,
            channel_axis,
            ..
        } = self.layer;
        let error =
            crate::quant::output_error(self.values, weight_shape, *channel_axis, sums, rounded);
        let windows = sums.first().map_or(1.0, |sums| sums.windows.max(1.0));
        error
            .map(|error| error / windows)
            .map_err(|error| RunError::layer(self.layer, error.to_string()))
    }

    /// The method that the plan names.
    fn named(&self) -> RoundingMethod {
        RoundingMethod {
            levels: match self.choice.rounding {
                Rounding::Nearest => LevelChoice::Nearest,
                Rounding::Gptq => LevelChoice::Compensated,
                Rounding::Descent | Rounding::Auto => LevelChoice::Descent,
                Rounding::AdaRound => LevelChoice::Relaxed,
            },
            damping: choice::DAMPING,
            refit: self.choice.corrections.refit.then_some(choice::RIDGE),
            corrects_bias: self.choice.corrections.bias && self.takes_bias,
        }
    }
}

/// Whether the node adds a bias of one number for each output channel, or can be given one.
fn takes_bias(graph: &Graph, layer: &Layer) -> bool {
    let outputs = layer.weight_shape.get(layer.channel_axis).copied();
    let own = layer.bias.and_then(|id| graph.initializer(id));
    match (&graph.node(layer.node).op, own) {
        (Op::Conv(_), _) => true,
        (Op::Gemm { beta, .. }, Some(bias)) => *beta != 0.0 && Some(bias.elem_count()) == outputs,
        (Op::Gemm { beta, .. }, None) => *beta != 0.0,
        _ => false,
    }
}

/// The bias as the node takes it.
fn changed_bias(graph: &Graph, layer: &Layer, change: &[f32]) -> Result<Vec<f32>, RunError> {
    let mut bias = match layer.bias.and_then(|id| graph.initializer(id)) {
        Some(own) => own.flatten_all()?.to_vec1::<f32>()?,
        None => vec![0.0; change.len()],
    };
    let factor = match graph.node(layer.node).op {
        Op::Gemm { beta, .. } => beta,
        _ => 1.0,
    };
    for (bias, change) in bias.iter_mut().zip(change) {
        *bias += change / factor;
    }
    Ok(bias)
}

/// SQNR of an output with this signal and error for each window.
fn output_sqnr_db(signal: f64, error: f64) -> f64 {
    sqnr_db(signal, error)
}
