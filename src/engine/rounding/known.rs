//! Layers that were rounded before, by everything that their rounding depends on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::RoundedLayer;
use super::streams::compared_at;
use crate::engine::executor::Executor;
use crate::model::{Graph, LayerId, NodeId, ValueId};
use crate::plan::{Fingerprint, LayerPlan, Plan};

/// Rounded layers are kept up to this many bytes.
const BUDGET_BYTES: usize = 256 << 20;

/// Rounded layers of earlier plans.
///
/// How a layer is rounded depends on its own choice, on the layers before it, and on the inputs of those
/// that lead to the same addition. What these have in common with an earlier plan is not rounded again.
/// Entries that were not used for the longest time give way to new ones.
#[derive(Debug, Default)]
pub struct RoundedLayers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<Fingerprint, Entry>,
    bytes: usize,
    /// Counts uses, so that the oldest is known.
    clock: u64,
    let_go: u64,
}

#[derive(Debug)]
struct Entry {
    found: Known,
    bytes: usize,
    used: u64,
}

/// What rounding a layer gave.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The layer; `None` where its windows cannot be summed, so that it is rounded to nearest.
    pub(super) layer: Option<RoundedLayer>,
    /// Calibration samples that were used.
    pub(super) samples: usize,
}

impl RoundedLayers {
    /// How many entries gave way to others so far.
    pub fn let_go(&self) -> u64 {
        self.lock().let_go
    }

    pub(super) fn get(&self, key: &Fingerprint) -> Option<Known> {
        let mut kept = self.lock();
        kept.clock += 1;
        let clock = kept.clock;
        let entry = kept.entries.get_mut(key)?;
        entry.used = clock;
        Some(entry.found.clone())
    }

    pub(super) fn keep(&self, key: Fingerprint, found: Known) {
        // Levels, and the packed weights of the same size.
        let elements = found
            .layer
            .as_ref()
            .map_or(0, |layer| layer.weights.dequantized.len());
        let bytes = 2 * elements * size_of::<f32>();
        let mut kept = self.lock();
        kept.clock += 1;
        let entry = Entry {
            found,
            bytes,
            used: kept.clock,
        };
        let old = kept.entries.insert(key, entry);
        kept.bytes = kept.bytes + bytes - old.map_or(0, |old| old.bytes);
        kept.make_room();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn make_room(&mut self) {
        while self.bytes > BUDGET_BYTES && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= entry.bytes;
                self.let_go += 1;
            }
        }
    }
}

/// A key for every layer of a plan, in layer order: equal keys are rounded alike.
///
/// ```text
/// key(k) = hash(network, data, choice(k), key(j) for j < k, input of j for j > k)
///          over the layers j that lead to where the output of k is compared
/// ```
pub(super) fn keys(executor: &Executor, plan: &Plan, data: &Fingerprint) -> Vec<Fingerprint> {
    let (graph, layers) = (executor.graph(), executor.layers());
    let equalizes: Vec<u8> = plan
        .layers()
        .iter()
        .map(|choice| u8::from(choice.corrections.equalize))
        .collect();
    let source = Fingerprint::of_parts([
        graph.metadata().sha256.as_bytes(),
        data.0.as_bytes(),
        &equalizes,
    ]);
    let cones = Cones::new(graph, layers.iter().map(|layer| layer.node));
    let consumers = graph.consumers();
    let mut keys: Vec<Fingerprint> = Vec::new();
    for (index, (layer, choice)) in layers.iter().zip(plan.layers()).enumerate() {
        let mut parts = vec![source.0.clone(), own(choice)];
        for other in cones.layers_before(compared_at(graph, &consumers, layer.output)) {
            match keys.get(other) {
                Some(key) => parts.push(key.0.clone()),
                None if other == index => {}
                None => {
                    let input = plan.layers().get(other).map(|choice| choice.activation);
                    parts.push(format!("{other} {input:?}"));
                }
            }
        }
        keys.push(Fingerprint::of_parts(
            parts.iter().map(|part| part.as_bytes()),
        ));
    }
    keys
}

fn own(choice: &LayerPlan) -> String {
    let LayerPlan {
        weight,
        activation,
        rounding,
        corrections,
        locked: _,
    } = choice;
    format!("{weight:?}|{activation:?}|{rounding}|{corrections}")
}

/// What values are computed from.
struct Cones<'a> {
    graph: &'a Graph,
    producers: Vec<Option<NodeId>>,
    layer_at: BTreeMap<NodeId, LayerId>,
}

impl<'a> Cones<'a> {
    fn new(graph: &'a Graph, nodes: impl Iterator<Item = NodeId>) -> Self {
        Self {
            graph,
            producers: graph.producers(),
            layer_at: nodes.zip((0..).map(LayerId)).collect(),
        }
    }

    /// Indices of the layers that a value depends on, ascending.
    fn layers_before(&self, value: ValueId) -> Vec<usize> {
        let mut seen = vec![false; self.graph.values().len()];
        let mut open = vec![value];
        let mut layers = Vec::new();
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut seen[id.index()], true) {
                continue;
            }
            let Some(node) = self.producers[id.index()] else {
                continue;
            };
            layers.extend(self.layer_at.get(&node).map(|id| id.index()));
            open.extend(self.graph.node(node).inputs.iter().flatten());
        }
        layers.sort_unstable();
        layers.dedup();
        layers
    }
}
