//! What lies beyond a layer: the part of the network that its output can change.

use super::activations::Activations;
use super::executor::Executor;
use super::kernels::Activation;
use super::value::Value;
use crate::model::{LayerId, NodeId, ValueId};

/// What runs again when the output of one layer changes.
#[derive(Debug)]
pub(super) struct Beyond {
    /// Computed values that the layer reads.
    inputs: Vec<ValueId>,
    /// What the nodes beyond start from: the layer's output, or that of an activation of it.
    start: ValueId,
    /// What makes it of the layer's output.
    activation: Activation,
    /// Computed values that the layer cannot change, but that nodes beyond it read or that leave the graph.
    reads: Vec<ValueId>,
    /// Samples of a batch that go through together at most; `None` where a batch cannot be made longer.
    samples: Option<usize>,
}

impl Beyond {
    /// What lies beyond a layer.
    pub(super) fn layer(executor: &Executor, id: LayerId) -> Self {
        let (graph, layer) = (executor.graph(), &executor.layers()[id.index()]);
        let changes = executor.downstream(id);
        let is_computed = |id: &&ValueId| !graph.is_initializer(**id);
        let inputs = graph.node(layer.node).inputs.iter().flatten();
        let inputs: Vec<ValueId> = inputs.filter(is_computed).copied().collect();
        let unchanged = |id: &&ValueId| is_computed(id) && !changes[id.index()];
        let mut reads: Vec<ValueId> = graph.outputs().iter().filter(unchanged).copied().collect();
        let mut nodes = Vec::new();
        for (index, node) in (0u32..).zip(graph.nodes()) {
            let is_beyond = node.outputs.iter().any(|id| changes[id.index()]);
            if NodeId(index) == layer.node || !is_beyond {
                continue;
            }
            nodes.push(NodeId(index));
            for id in node.inputs.iter().flatten().filter(unchanged) {
                if !reads.contains(id) {
                    reads.push(*id);
                }
            }
        }
        let (start, activation) = executor
            .activation_behind(id)
            .unwrap_or((layer.output, Activation::None));
        let axis = executor.batch_axis();
        let through = reads.iter().chain([&start]).chain(graph.outputs());
        let samples = axis.samples_at_once(&nodes, through);
        Self {
            inputs,
            start,
            activation,
            reads,
            samples,
        }
    }

    /// The held values that the layer itself reads.
    pub(super) fn before(&self, held: &Activations) -> Activations {
        let mut fed = Activations::new();
        for id in &self.inputs {
            if let Some(value) = held.get(*id) {
                fed.insert(*id, value.clone());
            }
        }
        fed
    }

    /// How many copies of a batch go through together.
    pub(super) fn copies(&self, batch: usize) -> usize {
        let samples = self.samples.unwrap_or(0);
        (samples / batch.max(1)).max(1)
    }

    /// What the nodes beyond the layer read, for some outputs of the layer on the same samples: each sample
    /// comes once for every output.
    ///
    /// # Errors
    /// A value is too large.
    pub(super) fn fed(
        &self,
        held: &Activations,
        outputs: &[&Value],
    ) -> candle_core::Result<Activations> {
        let mut fed = Activations::new();
        for id in &self.reads {
            if let Some(value) = held.get(*id) {
                fed.insert(*id, Value::joined(&vec![value; outputs.len()])?);
            }
        }
        let start = Value::joined_and_activated(outputs, self.activation)?;
        fed.insert(self.start, start);
        Ok(fed)
    }
}
