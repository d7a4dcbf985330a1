//! Weights quantized and packed, and input quantizers placed, before a graph runs.

use std::sync::Arc;

use super::arithmetic::Arithmetic;
use super::edges::EdgeGrids;
use super::error::RunError;
use super::executor::Executor;
use super::layer_weights::{LayerWeights, Packing};
use super::ranges::Ranges;
use crate::jobs::CancelToken;
use crate::model::{Layer, LayerId};
use crate::plan::{LayerPlan, Plan, Widths};
use crate::quant::{ActivationQuantizer, NumberFormat, QuantizedWeights};

/// Weights and input quantizers of every layer, for one plan or for float.
#[derive(Clone, Debug)]
pub struct PreparedPlan {
    pub(super) layers: Vec<PreparedLayer>,
    pub(super) edges: Arc<EdgeGrids>,
}

/// What one layer runs with.
#[derive(Clone, Debug)]
pub struct PreparedLayer {
    /// Packed weights, quantized or float.
    pub weights: Arc<LayerWeights>,
    /// How the input is quantized.
    pub activation: ActivationQuantizer,
}

impl PreparedPlan {
    /// What each layer runs with, in layer order.
    pub fn layers(&self) -> &[PreparedLayer] {
        &self.layers
    }

    /// The same plan where values are stored on grids between operators too.
    ///
    /// Layers read their inputs on these grids. Such a plan is evaluated without what other evaluations
    /// kept, since their values were not stored so.
    pub fn with_edges(&self, layers: &[Layer], edges: EdgeGrids) -> Self {
        let mut changed = self.clone();
        for (layer, setting) in layers.iter().zip(&mut changed.layers) {
            if let Some(grid) = edges.read_grid(layer.input) {
                setting.activation = ActivationQuantizer::Affine(*grid);
            }
        }
        changed.edges = Arc::new(edges);
        changed
    }

    /// The same plan with one layer replaced.
    pub fn with_layer(&self, id: LayerId, layer: PreparedLayer) -> Self {
        let mut changed = self.clone();
        if let Some(slot) = changed.layers.get_mut(id.index()) {
            *slot = layer;
        }
        changed
    }
}

impl Executor {
    /// Packs the float weights.
    ///
    /// # Errors
    /// A layer whose weight cannot be packed.
    pub fn prepare_float(&self) -> Result<PreparedPlan, RunError> {
        self.prepare(&Plan::uniform(self.layers.len(), Widths::FLOAT), None)
    }

    /// Quantizes and packs the weights of a plan, and places the input quantizers.
    ///
    /// # Errors
    /// [`RunError`] names the layer whose weight cannot be quantized or depends on calibration data
    /// (see [`round_plan`](super::round_plan)), or whose quantized input has no range because nothing
    /// was calibrated.
    pub fn prepare(&self, plan: &Plan, ranges: Option<&Ranges>) -> Result<PreparedPlan, RunError> {
        self.prepare_cancellable(plan, ranges, &CancelToken::default())
    }

    /// As [`Executor::prepare`], and stops when asked to.
    ///
    /// # Errors
    /// As [`Executor::prepare`], or cancelled.
    pub fn prepare_cancellable(
        &self,
        plan: &Plan,
        ranges: Option<&Ranges>,
        cancel: &CancelToken,
    ) -> Result<PreparedPlan, RunError> {
        for (layer, choice) in self.layers.iter().zip(plan.layers()) {
            if choice.rounds_on_data() {
                return Err(RunError::layer(
                    layer,
                    "its weight is to be rounded on calibration data, which has not been done; round the plan first, or choose nearest rounding without corrections".to_owned(),
                ));
            }
        }
        let layers: Result<Vec<PreparedLayer>, RunError> = (0u32..)
            .zip(plan.layers().iter().take(self.layers.len()))
            .map(|(index, choice)| {
                cancel.check()?;
                self.prepare_layer(LayerId(index), choice, ranges)
            })
            .collect();
        Ok(PreparedPlan {
            layers: layers?,
            edges: Arc::default(),
        })
    }

    /// Quantizes and packs one layer.
    ///
    /// # Errors
    /// As [`Executor::prepare`].
    pub fn prepare_layer(
        &self,
        id: LayerId,
        choice: &LayerPlan,
        ranges: Option<&Ranges>,
    ) -> Result<PreparedLayer, RunError> {
        let layer = &self.layers[id.index()];
        let packing = if self.arithmetic == Arithmetic::OnnxRuntime {
            Packing::Plain
        } else {
            Packing::Fast
        };
        let weights = self
            .weights
            .get((&self.graph, layer), id, &choice.weight, packing)?;
        let activation = if choice.activation.format == NumberFormat::F32 {
            ActivationQuantizer::Identity
        } else {
            ranges
                .ok_or_else(|| {
                    RunError::layer(
                        layer,
                        "its input is quantized but no range is known; calibrate first".to_owned(),
                    )
                })?
                .quantizer(layer, &choice.activation)?
        };
        Ok(PreparedLayer {
            weights,
            activation,
        })
    }

    /// Takes weights whose levels were chosen elsewhere; `None` is a weight that stays float.
    ///
    /// # Errors
    /// A weight does not fit its layer.
    pub fn prepare_levels<'a>(
        &self,
        layers: impl IntoIterator<Item = (Option<&'a QuantizedWeights>, ActivationQuantizer)>,
    ) -> Result<PreparedPlan, RunError> {
        let float = LayerPlan::with_widths(Widths::FLOAT);
        let pairs = (0u32..).zip(self.layers.iter()).zip(layers);
        let layers: Result<Vec<PreparedLayer>, RunError> = pairs
            .map(|((index, layer), (weight, activation))| {
                let weights = match weight {
                    None => self.prepare_layer(LayerId(index), &float, None)?.weights,
                    Some(weight) => {
                        let places = (&*self.graph, layer);
                        let packed =
                            LayerWeights::stored(places, weight, &activation, self.arithmetic)?;
                        Arc::new(packed)
                    }
                };
                Ok(PreparedLayer {
                    weights,
                    activation,
                })
            })
            .collect();
        Ok(PreparedPlan {
            layers: layers?,
            edges: Arc::default(),
        })
    }
}
