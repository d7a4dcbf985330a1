//! Values that are held where a run of the network stands still.

use crate::engine::activations::Activations;
use crate::engine::error::RunError;
use crate::engine::executor::Executor;
use crate::engine::prepare::PreparedPlan;
use crate::engine::run_options::{Keep, RunOptions};
use crate::jobs::CancelToken;
use crate::model::{NodeId, ValueId};

/// Moves runs from layer to layer, of which only what later layers read is held.
pub(super) struct Frontier<'a> {
    pub(super) executor: &'a Executor,
    cancel: &'a CancelToken,
    producers: Vec<Option<NodeId>>,
}

impl<'a> Frontier<'a> {
    pub(super) fn new(executor: &'a Executor, cancel: &'a CancelToken) -> Self {
        Self {
            executor,
            cancel,
            producers: executor.graph().producers(),
        }
    }

    /// What layers from this one on and the outputs read.
    pub(super) fn ahead(&self, from: usize) -> Vec<ValueId> {
        let layers = self.executor.layers()[from..]
            .iter()
            .map(|layer| layer.input);
        layers
            .chain(self.executor.graph().outputs().iter().copied())
            .collect()
    }

    /// Held values that are still read on the way to `ahead`.
    fn live(&self, held: &Activations, ahead: &[ValueId]) -> Vec<ValueId> {
        let graph = self.executor.graph();
        let mut seen = vec![false; graph.values().len()];
        let mut open = ahead.to_vec();
        let mut live = Vec::new();
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut seen[id.index()], true) || graph.is_initializer(id) {
                continue;
            }
            if held.contains(id) {
                live.push(id);
            } else if let Some(node) = self.producers[id.index()] {
                open.extend(graph.node(node).inputs.iter().flatten());
            }
        }
        live
    }

    /// The wanted values, and those held that are still read on the way to `ahead`.
    pub(super) fn moved(
        &self,
        prepared: &PreparedPlan,
        held: &Activations,
        ahead: &[ValueId],
        wanted: &[ValueId],
    ) -> Result<Activations, RunError> {
        let mut wanted = wanted.to_vec();
        wanted.extend(self.live(held, ahead));
        self.run(prepared, held, &wanted)
    }

    /// What is held without what is no longer read on the way to `ahead`.
    pub(super) fn kept(&self, held: &Activations, ahead: &[ValueId]) -> Activations {
        let mut kept = Activations::new();
        for id in self.live(held, ahead) {
            if let Some(value) = held.get(id) {
                kept.insert(id, value.clone());
            }
        }
        kept
    }

    pub(super) fn run(
        &self,
        prepared: &PreparedPlan,
        held: &Activations,
        wanted: &[ValueId],
    ) -> Result<Activations, RunError> {
        let options = RunOptions {
            keep: Keep::Values(wanted),
            cancel: self.cancel,
            tap: None,
        };
        self.executor.run(prepared, held, options)
    }
}
