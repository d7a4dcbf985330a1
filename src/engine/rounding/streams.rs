//! The network run layer by layer on all samples at once, in float and under the plan.

use std::sync::Arc;

use candle_core::Tensor;

use super::frontier::Frontier;
use crate::engine::activations::Activations;
use crate::engine::batches::Batches;
use crate::engine::error::RunError;
use crate::engine::executor::Executor;
use crate::engine::kernels::fake_quantize;
use crate::engine::prepare::{PreparedLayer, PreparedPlan};
use crate::jobs::CancelToken;
use crate::model::{Binary, Graph, LayerId, NodeId, Op, ValueId};

/// Two runs of the network that stand still before one layer after another.
///
/// Held is what later layers read and no more, so that memory does not grow with the depth.
pub(super) struct Streams<'a> {
    frontier: Frontier<'a>,
    consumers: Vec<Vec<NodeId>>,
    batches: Vec<Pair>,
    float: PreparedPlan,
    /// Layers that are done as they were rounded, the others with float weights; inputs are quantized.
    pub(super) plan: PreparedPlan,
}

/// The values of a batch that are held.
struct Pair {
    float: Activations,
    plan: Activations,
    samples: usize,
}

/// A batch before a layer.
pub(super) struct LayerBatch {
    /// What the layer reads under the plan, quantized.
    pub(super) input: Tensor,
    /// What the float network gives where the layer's output ends up, minus what the layer gives there
    /// with float weights on its input under the plan.
    pub(super) residual: Tensor,
    /// The same of the float network alone.
    pub(super) float: Tensor,
    /// Number of samples.
    pub(super) samples: usize,
}

impl<'a> Streams<'a> {
    /// Reads the samples; `plan` has float weights and quantized inputs.
    ///
    /// # Errors
    /// A sample that cannot be read, or cancelled.
    pub(super) fn new(
        executor: &'a Executor,
        batches: &Batches,
        plan: PreparedPlan,
        cancel: &'a CancelToken,
    ) -> Result<Self, RunError> {
        let mut read = Vec::new();
        for batch in batches.stopped_by(cancel).iter() {
            let batch = batch?;
            read.push(Pair {
                float: batch.fed.clone(),
                plan: batch.fed,
                samples: batch.len,
            });
        }
        Ok(Self {
            frontier: Frontier::new(executor, cancel),
            consumers: executor.graph().consumers(),
            batches: read,
            float: executor.prepare_float()?,
            plan,
        })
    }

    /// Samples that were read.
    pub(super) fn samples(&self) -> usize {
        self.batches.iter().map(|batch| batch.samples).sum()
    }

    /// Moves on to a layer; layers are visited in their order.
    ///
    /// # Errors
    /// A node that cannot run, or cancelled.
    pub(super) fn advance(&mut self, id: LayerId) -> Result<(), RunError> {
        let layer = &self.frontier.executor.layers()[id.index()];
        let target = self.target(id);
        let ahead = self.frontier.ahead(id.index());
        let frontier = &self.frontier;
        for pair in &mut self.batches {
            pair.float =
                frontier.moved(&self.float, &pair.float, &ahead, &[layer.input, target])?;
            pair.plan = frontier.moved(&self.plan, &pair.plan, &ahead, &[layer.input])?;
        }
        Ok(())
    }

    /// Lets go of what no layer after this one reads.
    pub(super) fn release(&mut self, id: LayerId) {
        let ahead = self.frontier.ahead(id.index() + 1);
        for pair in &mut self.batches {
            pair.float = self.frontier.kept(&pair.float, &ahead);
            pair.plan = self.frontier.kept(&pair.plan, &ahead);
        }
    }

    /// Shows the batches as they stand before the layer.
    ///
    /// # Errors
    /// A node that cannot run, or what `each` returns.
    pub(super) fn look(
        &self,
        id: LayerId,
        mut each: impl FnMut(usize, &LayerBatch) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let layer = &self.frontier.executor.layers()[id.index()];
        let activation = self.plan.layers()[id.index()].activation;
        let probe = PreparedLayer {
            weights: Arc::clone(&self.float.layers()[id.index()].weights),
            activation,
        };
        let probe = self.plan.with_layer(id, probe);
        let target = self.target(id);
        for (index, pair) in self.batches.iter().enumerate() {
            let own = self.frontier.run(&probe, &pair.plan, &[target])?;
            let (Some(input), Some(float), Some(own)) = (
                pair.plan.get(layer.input),
                pair.float.get(target),
                own.get(target),
            ) else {
                return Err(RunError::layer(
                    layer,
                    "it has no part in the outputs".to_owned(),
                ));
            };
            let float = float.plain()?;
            let batch = LayerBatch {
                input: fake_quantize(&input.plain()?, &activation)?,
                residual: (&float - own.plain()?)?,
                float,
                samples: pair.samples,
            };
            each(index, &batch)?;
        }
        Ok(())
    }

    fn target(&self, id: LayerId) -> ValueId {
        let executor = self.frontier.executor;
        let output = executor.layers()[id.index()].output;
        compared_at(executor.graph(), &self.consumers, output)
    }
}

/// Where the float output of a layer is compared: after the addition of a shortcut, whose error the layer
/// can make up for, where one follows at once.
pub(super) fn compared_at(graph: &Graph, consumers: &[Vec<NodeId>], output: ValueId) -> ValueId {
    addition(graph, consumers, output).unwrap_or(output)
}

fn addition(graph: &Graph, consumers: &[Vec<NodeId>], output: ValueId) -> Option<ValueId> {
    let &[reader] = &consumers.get(output.index())?[..] else {
        return None;
    };
    let node = graph.node(reader);
    let [Some(first), Some(second)] = node.inputs[..] else {
        return None;
    };
    let other = if first == output { second } else { first };
    let is_sum = matches!(node.op, Op::Binary(Binary::Add)) && other != output;
    let computed = is_sum && !graph.is_initializer(other) && !graph.outputs().contains(&output);
    node.output().filter(|_| computed)
}

/// Bytes of one sample that both streams hold at most, together with what a layer gives.
pub(super) fn bytes_per_sample(graph: &Graph) -> usize {
    let unit = crate::model::fixed_batch(graph).unwrap_or(1).max(1);
    let shapes = crate::model::infer_shapes(graph, unit);
    let bytes = |id: ValueId| {
        let elements = shapes
            .get(id)
            .map_or(0, |shape| shape.iter().product::<usize>());
        elements * size_of::<f32>() / unit
    };
    let mut last_reader = vec![0; graph.values().len()];
    for (index, node) in graph.nodes().iter().enumerate() {
        for input in node.inputs.iter().flatten() {
            last_reader[input.index()] = index;
        }
    }
    let mut held: usize = graph.inputs().iter().map(|id| bytes(*id)).sum();
    let mut most = held;
    for (index, node) in graph.nodes().iter().enumerate() {
        held += node.outputs.iter().map(|id| bytes(*id)).sum::<usize>();
        most = most.max(held);
        let mut inputs: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        inputs.sort_unstable();
        inputs.dedup();
        for input in inputs {
            if last_reader[input.index()] == index && !graph.is_initializer(input) {
                held = held.saturating_sub(bytes(input));
            }
        }
    }
    2 * most
}
