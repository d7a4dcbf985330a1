//! Runs a graph node by node, float or under a plan.

use std::sync::Arc;

use candle_core::Tensor;

use super::activations::Activations;
use super::error::RunError;
use super::layer_weights::{LayerWeights, WeightCache};
use super::ops;
use super::quantize::quantize_activation;
use super::ranges::Ranges;
use crate::jobs::CancelToken;
use crate::model::{self, Graph, Layer, LayerId, Node, NodeId, ValueId};
use crate::plan::Plan;
use crate::quant::{ActivationQuantizer, SliceErrors};

/// A graph that is ready to run: its layers, its edges, and its packed weights.
///
/// Weights are quantized and packed once per (layer, specification) and shared by every run.
#[derive(Debug)]
pub struct Executor {
    graph: Arc<Graph>,
    layers: Arc<[Layer]>,
    layer_at: Vec<Option<LayerId>>,
    producers: Vec<Option<NodeId>>,
    weights: WeightCache,
}

/// Weights and input quantizers of every layer, for one plan or for float.
#[derive(Clone, Debug)]
pub struct PreparedPlan {
    layers: Vec<PreparedLayer>,
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

    /// The same plan with one layer replaced.
    pub fn with_layer(&self, id: LayerId, layer: PreparedLayer) -> Self {
        let mut changed = self.clone();
        if let Some(slot) = changed.layers.get_mut(id.index()) {
            *slot = layer;
        }
        changed
    }
}

/// What a run keeps.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// The graph's outputs.
    Outputs,
    /// These values.
    Values(&'a [ValueId]),
    /// Every value that is computed.
    Everything,
}

/// One layer as it ran.
#[derive(Debug)]
pub struct LayerTap<'a> {
    /// The layer.
    pub layer: LayerId,
    /// Its input before quantization.
    pub input: &'a Tensor,
    /// Its output.
    pub output: &'a Tensor,
    /// Error of quantizing the input; zero noise for a float input. Only in observed runs.
    pub input_errors: Option<SliceErrors>,
}

/// Sees every layer of a run as it ends.
pub type Tap<'a> = dyn FnMut(LayerTap<'_>) -> Result<(), RunError> + 'a;

/// How a run is watched and stopped.
pub struct RunOptions<'a> {
    /// What to keep.
    pub keep: Keep<'a>,
    /// Checked before every node.
    pub cancel: &'a CancelToken,
    /// Called after every layer; `None` also skips measuring input errors.
    pub tap: Option<&'a mut Tap<'a>>,
}

impl std::fmt::Debug for RunOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions")
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

impl Executor {
    /// Finds the layers of a graph; nothing is packed yet.
    pub fn new(graph: Arc<Graph>) -> Self {
        let layers: Arc<[Layer]> = model::layers(&graph).into();
        let mut layer_at = vec![None; graph.nodes().len()];
        for (index, layer) in (0u32..).zip(layers.iter()) {
            if let Some(slot) = layer_at.get_mut(layer.node.index()) {
                *slot = Some(LayerId(index));
            }
        }
        Self {
            producers: graph.producers(),
            weights: WeightCache::default(),
            graph,
            layers,
            layer_at,
        }
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The layers in topological order.
    pub fn layers(&self) -> &Arc<[Layer]> {
        &self.layers
    }

    /// Packs the float weights.
    ///
    /// # Errors
    /// A layer whose weight cannot be packed.
    pub fn prepare_float(&self) -> Result<PreparedPlan, RunError> {
        self.prepare(
            &Plan::uniform(self.layers.len(), crate::plan::Widths::FLOAT),
            None,
        )
    }

    /// Quantizes and packs the weights of a plan, and places the input quantizers.
    ///
    /// # Errors
    /// [`RunError`] names the layer whose weight cannot be quantized, or whose quantized input has
    /// no range because nothing was calibrated.
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
        let layers: Result<Vec<PreparedLayer>, RunError> = (0u32..)
            .zip(plan.layers().iter().take(self.layers.len()))
            .map(|(index, choice)| {
                cancel.check()?;
                self.prepare_layer(LayerId(index), choice, ranges)
            })
            .collect();
        Ok(PreparedPlan { layers: layers? })
    }

    /// Quantizes and packs one layer.
    ///
    /// # Errors
    /// As [`Executor::prepare`].
    pub fn prepare_layer(
        &self,
        id: LayerId,
        choice: &crate::plan::LayerPlan,
        ranges: Option<&Ranges>,
    ) -> Result<PreparedLayer, RunError> {
        let layer = &self.layers[id.index()];
        let weights = self.weights.get(&self.graph, id, layer, &choice.weight)?;
        let activation = if choice.activation.format == crate::quant::NumberFormat::F32 {
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

    /// Runs what is needed for the wanted values and not fed already.
    ///
    /// Values in `fed` may be graph inputs or any intermediate value: nodes whose outputs are all
    /// fed do not run, and neither do nodes that only they read. So a caller that holds the float
    /// activations of a batch re-runs one changed layer and what lies downstream of it.
    ///
    /// # Errors
    /// [`RunError`] names the node that cannot run, or says that the run was cancelled.
    pub fn run(
        &self,
        prepared: &PreparedPlan,
        fed: &Activations,
        options: RunOptions<'_>,
    ) -> Result<Activations, RunError> {
        let RunOptions {
            keep,
            cancel,
            mut tap,
        } = options;
        let wanted: &[ValueId] = match keep {
            Keep::Values(values) => values,
            Keep::Outputs | Keep::Everything => self.graph.outputs(),
        };
        let needed = self.needed_nodes(fed, wanted);
        let mut readers_left = self.reader_counts(&needed);
        let mut held = fed.clone();
        for (index, node) in self.graph.nodes().iter().enumerate() {
            if !needed[index] {
                continue;
            }
            cancel.check()?;
            let outputs = self.run_node(index, node, prepared, &held, tap.as_deref_mut())?;
            for (id, tensor) in node.outputs.iter().zip(outputs) {
                held.insert(*id, tensor);
            }
            if !matches!(keep, Keep::Everything) {
                Self::release(node, wanted, &mut readers_left, &mut held);
            }
        }
        Ok(held)
    }

    fn run_node(
        &self,
        index: usize,
        node: &Node,
        prepared: &PreparedPlan,
        held: &Activations,
        tap: Option<&mut Tap<'_>>,
    ) -> Result<Vec<Tensor>, RunError> {
        if let Some(id) = self.layer_at[index] {
            let output = self.run_layer(id, node, prepared, held, tap)?;
            return Ok(vec![output]);
        }
        let inputs: Vec<Option<Tensor>> = node
            .inputs
            .iter()
            .map(|input| input.and_then(|id| self.tensor(held, id)).cloned())
            .collect();
        ops::evaluate(&node.op, &inputs, node.outputs.len())
            .map_err(|error| RunError::node(node, &inputs, error))
    }

    fn run_layer(
        &self,
        id: LayerId,
        node: &Node,
        prepared: &PreparedPlan,
        held: &Activations,
        tap: Option<&mut Tap<'_>>,
    ) -> Result<Tensor, RunError> {
        let layer = &self.layers[id.index()];
        let setting = prepared
            .layers
            .get(id.index())
            .ok_or_else(|| RunError::layer(layer, "the plan has no entry for it".to_owned()))?;
        let input = self
            .tensor(held, layer.input)
            .ok_or_else(|| RunError::layer(layer, "its input was not computed".to_owned()))?;
        let bias = layer.bias.is_none().then(|| node.input(2)).flatten();
        let bias = bias.and_then(|id| self.tensor(held, id));
        let (quantized, input_errors) =
            quantize_activation(input, &setting.activation, tap.is_some())
                .map_err(|error| RunError::node(node, &[Some(input.clone())], error.into()))?;
        let output = setting
            .weights
            .apply(&node.op, &quantized, bias)
            .map_err(|error| RunError::node(node, &[Some(input.clone())], error))?;
        if let Some(tap) = tap {
            tap(LayerTap {
                layer: id,
                input,
                output: &output,
                input_errors,
            })?;
        }
        Ok(output)
    }

    fn tensor<'a>(&'a self, held: &'a Activations, id: ValueId) -> Option<&'a Tensor> {
        held.get(id).or_else(|| self.graph.initializer(id))
    }

    /// Which nodes lie between what is fed and what is wanted.
    fn needed_nodes(&self, fed: &Activations, wanted: &[ValueId]) -> Vec<bool> {
        let mut needed = vec![false; self.graph.nodes().len()];
        let mut open: Vec<ValueId> = wanted.to_vec();
        while let Some(id) = open.pop() {
            if fed.contains(id) {
                continue;
            }
            if let Some(node) = self.producers[id.index()]
                && !needed[node.index()]
            {
                needed[node.index()] = true;
                open.extend(self.graph.node(node).inputs.iter().flatten());
            }
        }
        needed
    }

    /// How many needed nodes read each value.
    fn reader_counts(&self, needed: &[bool]) -> Vec<u32> {
        let mut counts = vec![0; self.graph.values().len()];
        for (node, _) in self
            .graph
            .nodes()
            .iter()
            .zip(needed)
            .filter(|(_, needed)| **needed)
        {
            for input in node.inputs.iter().flatten() {
                counts[input.index()] += 1;
            }
        }
        counts
    }

    /// Lets go of what no later node reads.
    fn release(node: &Node, wanted: &[ValueId], readers_left: &mut [u32], held: &mut Activations) {
        for input in node.inputs.iter().flatten() {
            let left = &mut readers_left[input.index()];
            *left = left.saturating_sub(1);
            if *left == 0 && !wanted.contains(input) {
                held.remove(*input);
            }
        }
        for output in &node.outputs {
            if readers_left[output.index()] == 0 && !wanted.contains(output) {
                held.remove(*output);
            }
        }
    }

    /// All values that depend on a layer's output, the output included, indexed by [`ValueId`].
    pub fn downstream(&self, id: LayerId) -> Vec<bool> {
        let mut reached = vec![false; self.graph.values().len()];
        reached[self.layers[id.index()].output.index()] = true;
        for node in self.graph.nodes() {
            if node
                .inputs
                .iter()
                .flatten()
                .any(|input| reached[input.index()])
            {
                for output in &node.outputs {
                    reached[output.index()] = true;
                }
            }
        }
        reached
    }
}
