//! Runs a graph node by node, float or under a plan.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::Tensor;
use rayon::prelude::*;

use super::activations::Activations;
use super::arithmetic::Arithmetic;
use super::error::{OpError, RunError};
use super::followers::{Followers, followers};
use super::kernels::blocked::ConvOutput;
use super::kernels::parallel::undivided;
use super::kernels::{Activation, quantization_errors};
use super::layer_weights::{LayerCall, WeightCache};
use super::ops;
use super::pieces::BatchAxis;
use super::prepare::{PreparedLayer, PreparedPlan};
use super::run_options::{InputTap, Keep, LayerTap, RunOptions, Tap};
use super::value::Value;
use crate::jobs::CancelToken;
use crate::model::{self, Graph, Layer, LayerId, Node, NodeId, Op, ValueId};
use crate::quant::ActivationQuantizer;

/// A graph that is ready to run: its layers, its edges, and its packed weights.
///
/// Weights are quantized and packed once per (layer, specification) and shared by every run.
#[derive(Debug)]
pub struct Executor {
    pub(super) graph: Arc<Graph>,
    pub(super) layers: Arc<[Layer]>,
    layer_at: Vec<Option<LayerId>>,
    producers: Vec<Option<NodeId>>,
    followers: Vec<Option<Followers>>,
    batch_axis: OnceLock<BatchAxis>,
    pub(super) weights: WeightCache,
    pub(super) arithmetic: Arithmetic,
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
            followers: followers(&graph),
            batch_axis: OnceLock::new(),
            weights: WeightCache::default(),
            arithmetic: Arithmetic::default(),
            graph,
            layers,
            layer_at,
        }
    }

    /// The same network with other arithmetic.
    pub fn with_arithmetic(self, arithmetic: Arithmetic) -> Self {
        Self { arithmetic, ..self }
    }

    /// Another network on the same arithmetic.
    pub(super) fn with_graph(&self, graph: Arc<Graph>) -> Self {
        Self::new(graph).with_arithmetic(self.arithmetic)
    }

    /// How the values depend on the batch.
    pub(super) fn batch_axis(&self) -> &BatchAxis {
        self.batch_axis.get_or_init(|| BatchAxis::of(&self.graph))
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The layers in topological order.
    pub fn layers(&self) -> &Arc<[Layer]> {
        &self.layers
    }

    /// Runs what is needed for the wanted values and not fed already.
    ///
    /// Values in `fed` may be graph inputs or any intermediate value: nodes whose outputs are all
    /// fed do not run, and neither do nodes that only they read. So a caller that holds the float
    /// activations of a batch re-runs one changed layer and what lies downstream of it.
    ///
    /// A batch is cut into pieces where the graph allows it, and each goes through the network on one
    /// thread; the numbers do not depend on that.
    ///
    /// # Errors
    /// [`RunError`] names the node that cannot run, or says that the run was cancelled.
    pub fn run(
        &self,
        prepared: &PreparedPlan,
        fed: &Activations,
        options: RunOptions<'_>,
    ) -> Result<Activations, RunError> {
        if options.tap.is_none()
            && let Keep::Values(wanted) = self.explicit(options.keep)
            && let Some(samples) = self.batch_axis().samples(&self.graph, fed, wanted)
            && let Some(pieces) = self.batch_axis().pieces(samples)
        {
            return self.run_pieces(prepared, fed, wanted, &pieces, options.cancel);
        }
        self.run_whole(prepared, fed, options)
    }

    /// Outputs as a list of values.
    fn explicit<'a>(&'a self, keep: Keep<'a>) -> Keep<'a> {
        match keep {
            Keep::Outputs => Keep::Values(self.graph.outputs()),
            other => other,
        }
    }

    fn run_pieces(
        &self,
        prepared: &PreparedPlan,
        fed: &Activations,
        wanted: &[ValueId],
        pieces: &[Range<usize>],
        cancel: &CancelToken,
    ) -> Result<Activations, RunError> {
        let results: Result<Vec<Activations>, RunError> = pieces
            .par_iter()
            .with_max_len(1)
            .map(|piece| {
                undivided(|| {
                    let part = self.samples_of(fed, piece)?;
                    let options = RunOptions {
                        keep: Keep::Values(wanted),
                        cancel,
                        tap: None,
                    };
                    self.run_whole(prepared, &part, options)
                })
            })
            .collect();
        let results = results?;
        let mut joined = fed.clone();
        for id in wanted {
            let parts: Vec<&Value> = results.iter().filter_map(|held| held.get(*id)).collect();
            if !joined.contains(*id) && parts.len() == results.len() {
                joined.insert(*id, Value::joined(&parts)?);
            }
        }
        Ok(joined)
    }

    /// Some samples of what is fed.
    pub(super) fn samples_of(
        &self,
        fed: &Activations,
        samples: &Range<usize>,
    ) -> Result<Activations, RunError> {
        let mut part = Activations::new();
        for (id, value) in fed.iter() {
            let own = if self.graph.is_initializer(id) {
                value.clone()
            } else {
                value.samples(samples.start, samples.len())?
            };
            part.insert(id, own);
        }
        Ok(part)
    }

    /// [`Executor::run`] without cutting the batch.
    pub(super) fn run_whole(
        &self,
        prepared: &PreparedPlan,
        fed: &Activations,
        options: RunOptions<'_>,
    ) -> Result<Activations, RunError> {
        self.run_seeing(prepared, fed, options, None)
    }

    /// [`Executor::run_whole`] that shows the inputs of the layers; they are joined as otherwise.
    pub(super) fn run_seeing(
        &self,
        prepared: &PreparedPlan,
        fed: &Activations,
        options: RunOptions<'_>,
        mut see: Option<&mut InputTap<'_>>,
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
        let mut needed = self.needed_nodes(fed, wanted);
        let mut readers_left = self.reader_counts(&needed);
        let mut held = fed.clone();
        for id in self.graph.inputs() {
            if let (true, Some(value)) = (prepared.edges.contains(*id), fed.get(*id)) {
                held.insert(*id, prepared.edges.stored(*id, value.clone())?);
            }
        }
        let joins =
            tap.is_none() && !matches!(keep, Keep::Everything) && self.arithmetic.joins_followers();
        for (index, node) in self.graph.nodes().iter().enumerate() {
            if !needed[index] {
                continue;
            }
            cancel.check()?;
            let followers = self.followers[index].as_ref().filter(|followers| {
                joins && self.can_join(followers, prepared, &needed, &held, wanted)
            });
            if let Some(id) = self.layer_at[index] {
                if let (Some(see), Some(input)) =
                    (&mut see, self.value(&held, self.layers[id.index()].input))
                {
                    see(id, &input)?;
                }
                let (output, joined) =
                    self.run_layer(id, node, prepared, &held, followers, tap.as_deref_mut())?;
                if let (Some(followers), true) = (followers, joined) {
                    let value = self.kept(followers.output, output, prepared)?;
                    held.insert(followers.output, value);
                    Self::release(node, wanted, &mut readers_left, &mut held);
                    for follower in &followers.nodes {
                        needed[follower.index()] = false;
                        let node = self.graph.node(*follower);
                        Self::release(node, wanted, &mut readers_left, &mut held);
                    }
                    continue;
                }
                if let Some(id) = node.output() {
                    held.insert(id, self.kept(id, output, prepared)?);
                }
            } else {
                let outputs = self.run_node(NodeId(index as u32), prepared, &held)?;
                for (id, value) in node.outputs.iter().zip(outputs) {
                    held.insert(*id, self.kept(*id, value, prepared)?);
                }
            }
            if !matches!(keep, Keep::Everything) {
                Self::release(node, wanted, &mut readers_left, &mut held);
            }
        }
        Ok(held)
    }

    /// A value as it is kept: on its grid, if it has one; what leaves the graph is plain.
    fn kept(&self, id: ValueId, value: Value, prepared: &PreparedPlan) -> Result<Value, RunError> {
        let value = prepared.edges.stored(id, value)?;
        if self.graph.outputs().contains(&id) {
            return Ok(value.plain()?.into());
        }
        Ok(value)
    }

    /// Whether a convolution's followers can be computed with it in this run.
    fn can_join(
        &self,
        followers: &Followers,
        prepared: &PreparedPlan,
        needed: &[bool],
        held: &Activations,
        wanted: &[ValueId],
    ) -> bool {
        followers.nodes.iter().all(|id| needed[id.index()])
            && followers.residual.is_none_or(|id| held.contains(id))
            && followers.inner_values(&self.graph).all(|id| {
                !wanted.contains(&id) && !held.contains(id) && !prepared.edges.contains(id)
            })
    }

    fn run_node(
        &self,
        id: NodeId,
        prepared: &PreparedPlan,
        held: &Activations,
    ) -> Result<Vec<Value>, RunError> {
        let node = self.graph.node(id);
        let mut inputs: Vec<Option<Value>> = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            let value = input.and_then(|input| Some((input, self.value(held, input)?)));
            let read = value.map(|(input, value)| prepared.edges.as_read(id, input, value));
            inputs.push(read.transpose()?);
        }
        if let Some(kernel) = prepared.edges.kernel(id) {
            return Ok(vec![kernel.evaluate(&inputs)?]);
        }
        let evaluated = match self.as_a_runtime_does(node, &inputs) {
            Ok(Some(value)) => Ok(vec![value]),
            Ok(None) => ops::evaluate_values(&node.op, &inputs, node.outputs.len()),
            Err(error) => Err(error),
        };
        evaluated.map_err(|error| RunError::node(node, &inputs, error))
    }

    /// The output of a node as another runtime computes it, if that is asked for and known.
    fn as_a_runtime_does(
        &self,
        node: &Node,
        inputs: &[Option<Value>],
    ) -> Result<Option<Value>, OpError> {
        if !self.arithmetic.has_own_operators() || inputs.is_empty() || node.outputs.len() > 1 {
            return Ok(None);
        }
        let plain: Result<Vec<Option<Tensor>>, candle_core::Error> = inputs
            .iter()
            .map(|input| input.as_ref().map(Value::plain).transpose())
            .collect();
        let constant = node
            .input(1)
            .is_some_and(|id| self.graph.is_initializer(id));
        let output = ops::evaluate_as(self.arithmetic, &node.op, &plain?, constant)?;
        Ok(output.map(Value::from))
    }

    /// The layer's output, or that of its followers, and which of them.
    fn run_layer(
        &self,
        id: LayerId,
        node: &Node,
        prepared: &PreparedPlan,
        held: &Activations,
        followers: Option<&Followers>,
        tap: Option<&mut Tap<'_>>,
    ) -> Result<(Value, bool), RunError> {
        let layer = &self.layers[id.index()];
        let setting = prepared
            .layers
            .get(id.index())
            .ok_or_else(|| RunError::layer(layer, "the plan has no entry for it".to_owned()))?;
        let input = self
            .value(held, layer.input)
            .ok_or_else(|| RunError::layer(layer, "its input was not computed".to_owned()))?;
        let input = prepared.edges.as_read(layer.node, layer.input, input)?;
        let input = prepared.edges.read_by(layer.node, input)?;
        let bias = layer.bias.is_none().then(|| node.input(2)).flatten();
        let bias = bias.and_then(|id| self.value(held, id));
        let bias = bias.map(|bias| bias.plain()).transpose()?;
        let mut call = LayerCall {
            op: &node.op,
            quantizer: &setting.activation,
            bias: bias.as_ref(),
            output: ConvOutput::default(),
            arithmetic: self.arithmetic,
        };
        if let Some(sum) = prepared.edges.sum(layer.node) {
            let run = |part: &Value, quantizer: &ActivationQuantizer| {
                setting
                    .weights
                    .apply(part, &LayerCall { quantizer, ..call })
            };
            let output = sum.evaluate(&input, run);
            let output = output.map_err(|error| RunError::node(node, &[Some(input)], error))?;
            return Ok((output, false));
        }
        if self.arithmetic.takes_apart(&setting.activation) {
            let exact = setting.weights.exact(&input, &call);
            let exact =
                exact.map_err(|error| RunError::node(node, &[Some(input.clone())], error))?;
            if let Some(output) = exact {
                return Ok((output, false));
            }
        }
        let residual = followers
            .and_then(|f| f.residual)
            .and_then(|id| held.get(id));
        let residual = match (followers, residual) {
            (Some(followers), None) if followers.residual.is_none() => Some(None),
            (Some(_), Some(value)) => fitting_residual(setting, &node.op, &input, value)?.map(Some),
            _ => None,
        };
        let joined = residual.is_some() && setting.weights.takes_followers();
        if let (true, Some(residual), Some(followers)) = (joined, &residual, followers) {
            call.output = ConvOutput {
                residual: residual.as_ref(),
                activation: followers.activation,
                after: followers.after.as_ref(),
            };
        }
        let output = setting
            .weights
            .apply(&input, &call)
            .map_err(|error| RunError::node(node, &[Some(input.clone())], error))?;
        if let Some(tap) = tap {
            let input_errors = match setting.activation {
                ActivationQuantizer::Identity => None,
                quantizer => Some(quantization_errors(&input.elements()?, &quantizer)?),
            };
            tap(LayerTap {
                layer: id,
                input: &input,
                output: &output,
                input_errors,
            })?;
        }
        Ok((output, joined))
    }

    fn value(&self, held: &Activations, id: ValueId) -> Option<Value> {
        let constant = || self.graph.initializer(id).cloned().map(Value::from);
        held.get(id).cloned().or_else(constant)
    }

    /// The activation that alone reads a layer's output, and what it gives, if it may be joined.
    pub(super) fn activation_behind(&self, id: LayerId) -> Option<(ValueId, Activation)> {
        let followers = self.followers[self.layers[id.index()].node.index()].as_ref()?;
        let is_alone = followers.residual.is_none() && followers.after.is_none();
        let leaves = self.graph.outputs().contains(&followers.output);
        (is_alone && !leaves && self.arithmetic.joins_followers())
            .then_some((followers.output, followers.activation))
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

/// A value in blocks that can be added to a layer's output; `None` if its shape is another.
fn fitting_residual(
    setting: &PreparedLayer,
    op: &Op,
    input: &Value,
    residual: &Value,
) -> Result<Option<Tensor>, RunError> {
    let output = setting.weights.output_dims(op, &input.dims());
    if output.is_none_or(|dims| residual.dims() != dims) {
        return Ok(None);
    }
    Ok(residual.blocked()?.map(|(image, _)| image))
}
