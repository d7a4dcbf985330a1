//! What evaluations of one dataset share: inputs, float outputs of layers, activations at cut points.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::activations::Activations;
use super::batches::{Batch, Batches};
use super::cut_points::{CutPoints, Kept};
use super::executor::Executor;
use super::prepare::{PreparedLayer, PreparedPlan};
use super::value::Value;
use crate::model::{Graph, NodeId, ValueId};
use crate::quant::{ErrorSum, SliceErrors};

/// Keeps what evaluations of one network on one dataset can share, under a memory budget.
///
/// An activation is kept with the settings of all layers that it was computed with, and is used again
/// only where every layer upstream of it is set the same. So a changed layer re-runs what lies
/// downstream, and the numbers are those of an evaluation that begins from nothing, bit for bit.
#[derive(Debug)]
pub struct ActivationCache {
    graph: Arc<Graph>,
    producers: Vec<Option<NodeId>>,
    layer_nodes: Vec<NodeId>,
    batches: Batches,
    layer_error_samples: usize,
    budget_bytes: usize,
    /// What to keep of each batch.
    kept: Vec<Kept>,
    state: Mutex<State>,
}

/// The float output of every layer that ran, in layer order.
pub(super) type FloatLayers = Arc<[Option<Value>]>;

/// Identifies the setting of every layer, in layer order.
type Settings = Arc<[u32]>;

#[derive(Debug, Default)]
struct State {
    /// The different settings that each layer had; an index into its list stands for a setting.
    known: Vec<Vec<PreparedLayer>>,
    batches: Vec<HeldBatch>,
    used_bytes: usize,
}

/// What is held of one batch.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBatch {
    /// Labels and samples, and the input if it is kept.
    pub(super) batch: Option<Batch>,
    /// Float output of every layer.
    pub(super) float_layers: Option<FloatLayers>,
    /// What the rest was computed with; `None` if there is none.
    settings: Option<Settings>,
    /// Values under the plan.
    values: Activations,
    /// Errors of every layer; empty where they were not measured.
    errors: Vec<Option<LayerRecord>>,
    bytes: usize,
}

/// Errors of one layer on one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerRecord {
    pub(super) activation: Option<SliceErrors>,
    pub(super) output: ErrorSum,
}

/// What of a batch holds under a plan.
#[derive(Clone, Debug)]
pub(super) struct Reuse {
    /// Values to start from; the input is not among them.
    pub(super) fed: Activations,
    /// Errors of the layers that are unchanged, input included.
    pub(super) errors: Vec<Option<LayerRecord>>,
    /// Values that the run must return: the outputs, and what is to be kept.
    pub(super) wanted: Vec<ValueId>,
    /// Whether the graph's input is needed.
    pub(super) needs_input: bool,
}

/// Which settings an evaluation runs with, and how they differ from those of a batch.
#[derive(Debug)]
pub(super) struct Comparer {
    settings: Settings,
    /// The settings that were compared last, and which values depend on what differs.
    last: Option<(Settings, Arc<[bool]>)>,
}

impl ActivationCache {
    /// A cache for one network and one dataset.
    ///
    /// Layer errors come from the first `layer_error_samples` samples. At most `budget_bytes` of
    /// tensors are held; 0 holds nothing.
    pub fn new(
        executor: &Executor,
        batches: &Batches,
        layer_error_samples: usize,
        budget_bytes: usize,
    ) -> Self {
        let graph = Arc::clone(executor.graph());
        let lengths: Vec<usize> = (0..batches.count()).map(|at| batches.fed_len(at)).collect();
        let mut left = layer_error_samples;
        let with_errors = lengths.iter().take_while(|length| {
            let wanted = left > 0;
            left = left.saturating_sub(**length);
            wanted
        });
        let with_errors = with_errors.count();
        let kept = if budget_bytes == 0 {
            vec![Kept::default(); lengths.len()]
        } else {
            CutPoints::of(&graph, executor.layers()).allot(&lengths, with_errors, budget_bytes)
        };
        Self {
            producers: graph.producers(),
            layer_nodes: executor.layers().iter().map(|layer| layer.node).collect(),
            graph,
            batches: batches.clone(),
            layer_error_samples,
            budget_bytes,
            kept,
            state: Mutex::default(),
        }
    }

    /// The samples that are evaluated.
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// Samples that the layer errors are measured on.
    pub fn layer_error_samples(&self) -> usize {
        self.layer_error_samples
    }

    /// Bytes of tensors that are held now; never more than the budget.
    pub fn used_bytes(&self) -> usize {
        self.lock().used_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the settings of a plan.
    pub(super) fn comparer(&self, prepared: &PreparedPlan) -> Comparer {
        let mut state = self.lock();
        let count = state.known.len().max(prepared.layers().len());
        state.known.resize_with(count, Vec::new);
        let settings = prepared
            .layers()
            .iter()
            .zip(&mut state.known)
            .map(|(layer, known)| {
                let found = known.iter().position(|other| is_same(layer, other));
                found.unwrap_or_else(|| {
                    known.push(layer.clone());
                    known.len() - 1
                }) as u32
            })
            .collect();
        Comparer {
            settings,
            last: None,
        }
    }

    /// Lets go of what is held of a batch.
    pub(super) fn forget(&self, batch: usize) {
        let mut state = self.lock();
        if let Some(held) = state.batches.get_mut(batch).map(std::mem::take) {
            state.used_bytes -= held.bytes;
        }
    }

    /// What is held of a batch.
    pub(super) fn held(&self, batch: usize) -> HeldBatch {
        self.lock().batches.get(batch).cloned().unwrap_or_default()
    }

    /// Which parts of a batch hold under the settings.
    pub(super) fn reuse(
        &self,
        batch: usize,
        held: &HeldBatch,
        comparer: &mut Comparer,
        with_errors: bool,
    ) -> Reuse {
        let usable = !with_errors || !held.errors.is_empty();
        let mut wanted = self.graph.outputs().to_vec();
        let mut fed = Activations::new();
        let mut errors = vec![None; self.layer_nodes.len()];
        let settings = held.settings.as_ref().filter(|_| usable);
        let differs = settings.map(|settings| self.differs(settings, comparer));
        for id in &self.kept[batch].values {
            match &differs {
                Some(differs) if !differs[id.index()] => {
                    if let Some(tensor) = held.values.get(*id) {
                        fed.insert(*id, tensor.clone());
                    }
                }
                _ => wanted.push(*id),
            }
        }
        if let (Some(differs), true) = (&differs, with_errors) {
            for ((slot, record), node) in errors.iter_mut().zip(&held.errors).zip(&self.layer_nodes)
            {
                let output = self.graph.node(*node).output();
                *slot = record.filter(|_| output.is_some_and(|id| !differs[id.index()]));
            }
        }
        Reuse {
            needs_input: self.needs_input(&fed, &wanted),
            fed,
            errors,
            wanted,
        }
    }

    /// Which values depend on a layer whose setting is not the same.
    fn differs(&self, settings: &Settings, comparer: &mut Comparer) -> Arc<[bool]> {
        if let Some((known, differs)) = &comparer.last
            && Arc::ptr_eq(known, settings)
        {
            return Arc::clone(differs);
        }
        let mut is_changed = vec![false; self.graph.nodes().len()];
        for ((node, old), new) in self
            .layer_nodes
            .iter()
            .zip(settings.iter())
            .zip(comparer.settings.iter())
        {
            is_changed[node.index()] = old != new;
        }
        let mut differs = vec![false; self.graph.values().len()];
        for (node, changed) in self.graph.nodes().iter().zip(is_changed) {
            let mut inputs = node.inputs.iter().flatten();
            if changed || inputs.any(|id| differs[id.index()]) {
                for output in &node.outputs {
                    differs[output.index()] = true;
                }
            }
        }
        let differs: Arc<[bool]> = differs.into();
        comparer.last = Some((Arc::clone(settings), Arc::clone(&differs)));
        differs
    }

    /// Whether what is wanted cannot be computed from what is fed alone.
    fn needs_input(&self, fed: &Activations, wanted: &[ValueId]) -> bool {
        let mut seen = vec![false; self.graph.values().len()];
        let mut open = wanted.to_vec();
        while let Some(id) = open.pop() {
            if fed.contains(id) || std::mem::replace(&mut seen[id.index()], true) {
                continue;
            }
            match self.producers[id.index()] {
                Some(node) => open.extend(self.graph.node(node).inputs.iter().flatten()),
                None if self.graph.inputs().contains(&id) => return true,
                None => {}
            }
        }
        false
    }

    /// Keeps what a run was fed and gave, as far as the budget goes; it replaces what was held of the batch.
    pub(super) fn keep(
        &self,
        index: usize,
        batch: &Batch,
        float_layers: Option<FloatLayers>,
        comparer: &Comparer,
        values: [&Activations; 2],
        errors: Vec<Option<LayerRecord>>,
    ) {
        if self.budget_bytes == 0 {
            return;
        }
        let kept = &self.kept[index];
        let mut state = self.lock();
        let count = state.batches.len().max(index + 1);
        state.batches.resize_with(count, HeldBatch::default);
        let old = std::mem::take(&mut state.batches[index]);
        let mut free = self.budget_bytes - (state.used_bytes - old.bytes);
        let before = free;
        let mut take = |bytes: usize| {
            let left = free.checked_sub(bytes);
            free = left.unwrap_or(free);
            left.is_some()
        };
        let mut held = HeldBatch {
            settings: Some(Arc::clone(&comparer.settings)),
            errors,
            ..HeldBatch::default()
        };
        let mut kept_batch = Batch {
            fed: Activations::new(),
            ..batch.clone()
        };
        if kept.input {
            for id in self.graph.inputs() {
                copy(*id, &batch.fed, &mut kept_batch.fed, &mut take);
            }
        }
        held.batch = Some(kept_batch);
        held.float_layers = float_layers.filter(|layers| {
            let bytes = layers.iter().flatten().map(Value::held_bytes).sum();
            kept.float_layers && take(bytes)
        });
        for id in &kept.values {
            let from = values.into_iter().find(|values| values.contains(*id));
            if let Some(from) = from {
                copy(*id, from, &mut held.values, &mut take);
            }
        }
        held.bytes = before - free;
        state.used_bytes = state.used_bytes - old.bytes + held.bytes;
        state.batches[index] = held;
        drop(state);
        // Freed outside the lock, for it may be large.
        drop(old);
    }
}

/// Copies a value from one run to another set, if there is room.
fn copy(
    id: ValueId,
    from: &Activations,
    to: &mut Activations,
    take: &mut impl FnMut(usize) -> bool,
) {
    if let Some(tensor) = from.get(id)
        && take(tensor.held_bytes())
    {
        to.insert(id, tensor.clone());
    }
}

/// Whether a layer runs the same under both settings: packed weights are shared per specification.
fn is_same(a: &PreparedLayer, b: &PreparedLayer) -> bool {
    Arc::ptr_eq(&a.weights, &b.weights) && a.activation == b.activation
}
