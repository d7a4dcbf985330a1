//! Gradients by one walk through the graph in reverse.
//!
//! [`Backward`] takes the values of a float run and a gradient of some outputs, and shows the gradient
//! of every layer's output on its way. Operators have a rule each, one family a file; what has none is
//! refused before anything runs, with the name of the node.

mod adjoint;
mod elementwise;
mod movement;
mod node;
mod normalization;
mod pool;
mod product;
mod reduction;
#[cfg(test)]
mod tests;

use super::activations::Activations;
use super::error::RunError;
use super::executor::Executor;
use super::value::Value;
use crate::jobs::CancelToken;
use crate::model::{Binary, LayerId, Node, NodeId, Op, Reduction, Unary, ValueId, Variadic};
use adjoint::Adjoint;
use movement::KnownPlaces;
use node::Passed;

/// A graph that is ready for walks in reverse.
#[derive(Debug)]
pub(super) struct Backward<'a> {
    executor: &'a Executor,
    /// Values that depend on the output of a layer; no others have a gradient. Indexed by [`ValueId`].
    reached: Vec<bool>,
    /// Transposed weights of the nodes that have their own way back, indexed by [`NodeId`].
    adjoints: Vec<Option<Adjoint>>,
    layer_at: Vec<Option<LayerId>>,
    /// Nodes that a gradient goes through, indexed by [`NodeId`].
    passed: Vec<bool>,
    places: KnownPlaces,
}

/// Sees the gradient of every layer's output.
pub(super) type SeeGradient<'a> = dyn FnMut(LayerId, &Value) -> Result<(), RunError> + 'a;

/// How gradients go through an operator.
enum Rule {
    /// The output does not change with small changes of the inputs.
    Stops,
    /// To these inputs.
    To(fn(usize) -> bool),
    /// There is no rule.
    Unknown,
}

impl<'a> Backward<'a> {
    /// Packs what the way back needs.
    ///
    /// # Errors
    /// [`RunError`] names the first node on the way from the outputs to a layer that has no rule.
    pub(super) fn new(executor: &'a Executor) -> Result<Self, RunError> {
        let graph = executor.graph();
        let mut layer_at = vec![None; graph.nodes().len()];
        let mut reached = vec![false; graph.values().len()];
        for (index, layer) in (0u32..).zip(executor.layers().iter()) {
            layer_at[layer.node.index()] = Some(LayerId(index));
            reached[layer.output.index()] = true;
        }
        for node in graph.nodes() {
            if node.inputs.iter().flatten().any(|id| reached[id.index()]) {
                for id in &node.outputs {
                    reached[id.index()] = true;
                }
            }
        }
        let mut backward = Self {
            executor,
            reached,
            adjoints: Vec::new(),
            layer_at,
            passed: Vec::new(),
            places: KnownPlaces::default(),
        };
        backward.passed = backward.nodes_on_the_way()?;
        backward.adjoints = graph
            .nodes()
            .iter()
            .zip(&backward.passed)
            .enumerate()
            .map(|(index, (node, passed))| {
                let layer = backward.layer_at[index];
                let layer = layer.map(|id| &executor.layers()[id.index()]);
                if !*passed || !node.input(0).is_some_and(|id| backward.reached[id.index()]) {
                    return Ok(None);
                }
                Adjoint::of(graph, node, layer)
                    .map_err(|error| RunError::message(format!("Node {:?}: {error}", node.name)))
            })
            .collect::<Result<_, _>>()?;
        Ok(backward)
    }

    /// Which nodes a gradient passes, by a walk without numbers.
    fn nodes_on_the_way(&self) -> Result<Vec<bool>, RunError> {
        let graph = self.executor.graph();
        let mut has_gradient = vec![false; graph.values().len()];
        for id in graph.outputs() {
            has_gradient[id.index()] = self.reached[id.index()];
        }
        let mut passed = vec![false; graph.nodes().len()];
        for (index, node) in graph.nodes().iter().enumerate().rev() {
            if !node.outputs.iter().any(|id| has_gradient[id.index()]) {
                continue;
            }
            let feeds = node.inputs.iter().flatten();
            if !feeds.into_iter().any(|id| self.reached[id.index()]) {
                continue;
            }
            match rule(&node.op, self.layer_at[index].is_some()) {
                Rule::Stops => {}
                Rule::To(goes_to) => {
                    passed[index] = true;
                    for (place, id) in node.inputs.iter().enumerate() {
                        if let Some(id) = id.filter(|id| self.reached[id.index()] && goes_to(place))
                        {
                            has_gradient[id.index()] = true;
                        }
                    }
                }
                Rule::Unknown => return Err(unknown(node)),
            }
        }
        Ok(passed)
    }

    /// Walks from gradients of some outputs to every layer.
    ///
    /// `held` are all values of a float run. `see` is called for each layer that has a part in these
    /// outputs, the last one first.
    ///
    /// # Errors
    /// [`RunError`] names the node whose gradient cannot be computed, or what `see` returns.
    pub(super) fn walk(
        &self,
        held: &Activations,
        seeds: Vec<(ValueId, Value)>,
        cancel: &CancelToken,
        see: &mut SeeGradient<'_>,
    ) -> Result<(), RunError> {
        let graph = self.executor.graph();
        let mut gradients = Activations::new();
        for (id, seed) in seeds {
            gradients.insert(id, seed);
        }
        for index in (0..graph.nodes().len()).rev() {
            let node = graph.node(NodeId(index as u32));
            let own: Vec<Option<Value>> = node
                .outputs
                .iter()
                .map(|id| gradients.remove(*id))
                .collect();
            if own.iter().all(Option::is_none) {
                continue;
            }
            cancel.check()?;
            if let (Some(layer), Some(Some(gradient))) = (self.layer_at[index], own.first()) {
                see(layer, gradient)?;
            }
            if !self.passed[index] {
                continue;
            }
            let failed = |error| RunError::node(node, &own, error);
            let passed = Passed {
                graph,
                held,
                node,
                gradients: &own,
            };
            let needed: Vec<bool> = node
                .inputs
                .iter()
                .map(|id| id.is_some_and(|id| self.reached[id.index()]))
                .collect();
            if !needed.contains(&true) {
                continue;
            }
            let inputs = self.input_gradients(index, &passed, &needed);
            for (id, gradient) in node.inputs.iter().zip(inputs.map_err(failed)?) {
                if let (Some(id), Some(gradient)) = (id, gradient) {
                    let sum = match gradients.remove(*id) {
                        Some(other) => node::sum(&other, &gradient)?,
                        None => gradient,
                    };
                    gradients.insert(*id, sum);
                }
            }
        }
        Ok(())
    }

    fn input_gradients(
        &self,
        index: usize,
        passed: &Passed<'_>,
        needed: &[bool],
    ) -> Result<Vec<Option<Value>>, super::error::OpError> {
        if let Some(Some(adjoint)) = self.adjoints.get(index) {
            let mut gradients = vec![Some(adjoint.apply(passed)?)];
            gradients.resize(passed.node.inputs.len().max(1), None);
            return Ok(gradients);
        }
        match &passed.node.op {
            Op::Unary(_) | Op::Clip | Op::Identity | Op::Cast { .. } => {
                elementwise::of_one(passed).map(|gradient| vec![Some(gradient)])
            }
            Op::Binary(op) => elementwise::binary(*op, passed, needed),
            Op::Variadic(op) => elementwise::variadic(*op, passed, needed),
            Op::MatMul => product::matmul(passed, needed),
            Op::Gemm { .. } => product::gemm(passed, needed),
            Op::AveragePool(_) | Op::MaxPool(_) | Op::GlobalAveragePool | Op::GlobalMaxPool => {
                pool::pool(passed).map(|gradient| vec![Some(gradient)])
            }
            Op::Reduce { .. } => {
                reduction::reduce(passed).map(|gradient| vec![Some(gradient), None])
            }
            Op::BatchNormalization { .. }
            | Op::LayerNormalization { .. }
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. } => {
                normalization::normalization(passed).map(|gradient| vec![Some(gradient)])
            }
            _ => movement::movement(&self.places, passed, needed),
        }
    }
}

fn unknown(node: &Node) -> RunError {
    RunError::message(format!(
        "The second-order score is not available for this network: the gradient of operator {} at node {:?} is not implemented; use the measured sweep instead",
        node.op.name(),
        node.name
    ))
}

/// How gradients go through an operator.
fn rule(op: &Op, is_layer: bool) -> Rule {
    let first: fn(usize) -> bool = |place| place == 0;
    let every: fn(usize) -> bool = |_| true;
    let pair: fn(usize) -> bool = |place| place < 2;
    match op {
        Op::Shape { .. }
        | Op::ConstantOfShape { .. }
        | Op::Range
        | Op::Unary(Unary::Ceil | Unary::Floor | Unary::Round | Unary::Sign | Unary::Not)
        | Op::Binary(
            Binary::And
            | Binary::Equal
            | Binary::Greater
            | Binary::GreaterOrEqual
            | Binary::Less
            | Binary::LessOrEqual
            | Binary::Or,
        ) => Rule::Stops,
        Op::Binary(Binary::Mod { .. })
        | Op::Lrn { .. }
        | Op::Unsupported { .. }
        | Op::Variadic(Variadic::Max | Variadic::Min)
        | Op::Reduce {
            reduction: Reduction::Max | Reduction::Min | Reduction::Prod,
            ..
        } => Rule::Unknown,
        Op::Resize(resize) if resize.mode != crate::model::ResizeMode::Nearest => Rule::Unknown,
        Op::Einsum { .. } if !is_layer => Rule::Unknown,
        Op::Binary(Binary::Pow | Binary::PRelu) => Rule::To(first),
        Op::Binary(_) | Op::MatMul => Rule::To(pair),
        Op::Where => Rule::To(|place| place == 1 || place == 2),
        Op::Variadic(_) | Op::Concat { .. } | Op::Gemm { .. } => Rule::To(every),
        _ => Rule::To(first),
    }
}
