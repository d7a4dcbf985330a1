//! A plan made ready to run with everything that it takes from calibration data.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::SessionError;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use crate::engine::{
    Executor, PreparedPlan, Ranges, RoundedLayers, RoundedPlan, calibrate, choose_calibrators,
    equalized, round_plan_knowing,
};
use crate::jobs::CancelToken;
use crate::plan::{LayerPlan, Plan};
use crate::quant::{Granularity, NumberFormat};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuningStage {
    /// Activations are observed.
    Calibrating,
    /// The calibrator of each activation is chosen.
    ChoosingCalibrators,
    /// Weights are rounded.
    Rounding,
}

/// A plan with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// Runs the network; another one than the model's where layers were equalized.
    pub executor: Arc<Executor>,
    /// Pairs of layers that were equalized, where the plan asks for it.
    pub equalized_pairs: Option<usize>,
    /// The plan, with the calibrators that were chosen.
    pub plan: Plan,
    /// Ranges, where inputs are quantized.
    pub ranges: Option<Arc<Ranges>>,
    /// Weights that were rounded on data, where there are any.
    pub rounded: Option<RoundedPlan>,
    /// The plan ready to run.
    pub prepared: PreparedPlan,
}

/// Whether a plan takes anything from calibration data.
pub fn needs_calibration(plan: &Plan) -> bool {
    quantizes_inputs(plan) || plan.layers().iter().any(LayerPlan::rounds_on_data)
}

fn quantizes_inputs(plan: &Plan) -> bool {
    let mut layers = plan.layers().iter();
    layers.any(|layer| layer.activation.format != NumberFormat::F32)
}

/// Networks that are kept: that of the model, and one that was equalized.
const NETWORKS: usize = 2;

/// What earlier plans took from the calibration data of one model, so that later ones need not again.
#[derive(Debug, Default)]
pub struct TuningMemory {
    networks: Mutex<Vec<Network>>,
}

/// A network whose layers are equalized as some plans say.
#[derive(Clone, Debug)]
struct Network {
    equalizes: Vec<Equalizing>,
    executor: Arc<Executor>,
    pairs: usize,
    ranges: Option<Arc<Ranges>>,
    /// Layers that were rounded in it.
    rounded: Arc<RoundedLayers>,
}

/// What of a layer's choice decides how it is equalized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Equalizing {
    is_asked: bool,
    has_quantized_input: bool,
    is_per_tensor: bool,
}

impl Equalizing {
    fn of(choice: &LayerPlan) -> Self {
        if !choice.corrections.equalize {
            return Self::default();
        }
        Self {
            is_asked: true,
            has_quantized_input: choice.activation.format != NumberFormat::F32,
            is_per_tensor: choice.weight.granularity == Granularity::PerTensor,
        }
    }
}

impl TuningMemory {
    /// Knows the ranges of the model's own network.
    pub(super) fn with_ranges(model: &OpenModel, ranges: Arc<Ranges>) -> Self {
        let memory = Self::default();
        memory.keep(Network {
            equalizes: vec![Equalizing::default(); model.layers().len()],
            executor: Arc::clone(&model.executor),
            pairs: 0,
            ranges: Some(ranges),
            rounded: Arc::default(),
        });
        memory
    }

    /// How many rounded layers gave way to others so far.
    pub(super) fn let_go(&self) -> u64 {
        self.lock().iter().map(|known| known.rounded.let_go()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Network>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a network in place of the one that was kept last, but never of the model's own.
    fn keep(&self, network: Network) {
        let mut networks = self.lock();
        networks.retain(|known| known.equalizes != network.equalizes);
        if networks.len() >= NETWORKS {
            let equalized = networks
                .iter()
                .position(|known| known.equalizes.iter().any(|one| one.is_asked));
            networks.remove(equalized.unwrap_or(0));
        }
        networks.push(network);
    }

    /// The network for a plan.
    fn network(
        &self,
        model: &OpenModel,
        plan: &Plan,
        data: &OpenData,
        cancel: &CancelToken,
    ) -> Result<Network, SessionError> {
        let equalizes: Vec<Equalizing> = plan.layers().iter().map(Equalizing::of).collect();
        let find = |networks: &[Network]| {
            let mut known = networks.iter();
            known.find(|known| known.equalizes == equalizes).cloned()
        };
        if let Some(known) = find(&self.lock()) {
            return Ok(known);
        }
        let batches = Some(&data.calibration);
        let (executor, pairs) = equalized(&model.executor, plan, batches, cancel)?;
        // Without a pair it is the model's own network.
        let own = self.lock().iter().find(|known| known.pairs == 0).cloned();
        let own = own.filter(|_| pairs == 0);
        let network = Network {
            equalizes,
            executor,
            pairs,
            ranges: own.as_ref().and_then(|own| own.ranges.clone()),
            rounded: own.map(|own| own.rounded).unwrap_or_default(),
        };
        self.keep(network.clone());
        Ok(network)
    }
}

/// Equalizes, calibrates, chooses calibrators where asked, and rounds, as a plan says.
///
/// Only calibration samples are used. `on_step` is called with what is done and how much of it, and
/// with how much there is.
///
/// # Errors
/// [`SessionError::Run`] if a sample cannot be fed, a layer cannot be rounded, or when cancelled.
pub fn tune(
    model: &OpenModel,
    plan: Plan,
    data: &OpenData,
    chooses_calibrators: bool,
    cancel: &CancelToken,
    on_step: &mut dyn FnMut(TuningStage, usize, usize),
) -> Result<Tuned, SessionError> {
    let memory = TuningMemory::default();
    tune_knowing(
        &memory,
        model,
        plan,
        data,
        chooses_calibrators,
        cancel,
        on_step,
    )
}

/// As [`tune`], and does nothing again that is known; the result is the same either way.
///
/// What is known must be of this model and data.
///
/// # Errors
/// As [`tune`]. A run that is cancelled leaves known what it has finished.
pub(super) fn tune_knowing(
    memory: &TuningMemory,
    model: &OpenModel,
    plan: Plan,
    data: &OpenData,
    chooses_calibrators: bool,
    cancel: &CancelToken,
    on_step: &mut dyn FnMut(TuningStage, usize, usize),
) -> Result<Tuned, SessionError> {
    let mut plan = plan;
    let asked = plan.layers().iter().any(|layer| layer.corrections.equalize);
    let mut network = memory.network(model, &plan, data, cancel)?;
    let executor = Arc::clone(&network.executor);
    let batches = &data.calibration;
    let ranges = match network.ranges.clone() {
        _ if !quantizes_inputs(&plan) => None,
        Some(ranges) => Some(ranges),
        None => {
            let ranges = calibrate(&executor, batches, cancel, &mut |samples| {
                on_step(TuningStage::Calibrating, samples, batches.len());
            })?;
            let ranges = Arc::new(ranges);
            network.ranges = Some(Arc::clone(&ranges));
            memory.keep(network.clone());
            Some(ranges)
        }
    };
    let layers = executor.layers().len();
    if let (Some(ranges), true) = (&ranges, chooses_calibrators) {
        plan = choose_calibrators(&executor, &plan, ranges, batches, cancel, &mut |done| {
            on_step(TuningStage::ChoosingCalibrators, done, 2 * layers);
        })?;
    }
    let known_ranges = ranges.as_deref();
    let (rounded, prepared) = if plan.layers().iter().any(LayerPlan::rounds_on_data) {
        let identity = &data.fingerprint;
        let rounded = round_plan_knowing(
            &network.rounded,
            &executor,
            &plan,
            known_ranges,
            batches,
            identity,
            cancel,
            &mut |done| on_step(TuningStage::Rounding, done, layers),
        )?;
        let prepared = rounded.prepare(&executor, &plan, known_ranges, identity)?;
        (Some(rounded), prepared)
    } else {
        let prepared = executor.prepare_cancellable(&plan, known_ranges, cancel)?;
        (None, prepared)
    };
    Ok(Tuned {
        executor,
        equalized_pairs: asked.then_some(network.pairs),
        plan,
        ranges,
        rounded,
        prepared,
    })
}
