//! Activations that run as one with the operator before them.

use std::collections::{BTreeMap, BTreeSet};

use super::data_flow::readers;
use super::schema::Fused;
use crate::model::{Binary, Graph, Node, NodeId, Op, Unary, ValueId, Variadic};

/// Which activations are part of the operator before them.
#[derive(Clone, Debug, Default)]
pub(super) struct Fusion {
    /// The activation of an operator, and what it gives.
    behind: BTreeMap<NodeId, (Fused, ValueId)>,
    /// Activations that are no operators of their own.
    inside: BTreeSet<NodeId>,
    /// Values that are never stored.
    unstored: BTreeSet<ValueId>,
}

impl Fusion {
    /// Finds activations that alone read the output of an operator that can apply them.
    pub(super) fn of(graph: &Graph, live: &[NodeId]) -> Self {
        let readers = readers(graph, live);
        let mut fusion = Self::default();
        for id in live {
            let node = graph.node(*id);
            let Some(output) = node.output().filter(|_| applies_activations(node)) else {
                continue;
            };
            let [reader] = readers[output.index()][..] else {
                continue;
            };
            let activation = graph.node(reader);
            if graph.outputs().contains(&output) {
                continue;
            }
            if let (Some(fused), Some(last)) = (fused(graph, activation), activation.output()) {
                fusion.behind.insert(*id, (fused, last));
                fusion.inside.insert(reader);
                fusion.unstored.insert(output);
            }
        }
        fusion
    }

    /// The activation of a node, and the value that the node then gives.
    pub(super) fn result(&self, id: NodeId, node: &Node) -> Option<(Fused, ValueId)> {
        let own = node.output().map(|output| (Fused::None, output));
        self.behind.get(&id).copied().or(own)
    }

    /// Whether a node is part of the one before it.
    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.inside.contains(&id)
    }

    /// Whether a value exists between two operators.
    pub(super) fn stores(&self, id: ValueId) -> bool {
        !self.unstored.contains(&id)
    }
}

fn applies_activations(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Gemm { .. }
            | Op::MatMul
            | Op::BatchNormalization { .. }
            | Op::Binary(Binary::Add | Binary::Sub | Binary::Mul)
            | Op::Variadic(Variadic::Sum)
    )
}

/// The activation that a node is, if operators can apply it.
pub(super) fn fused(graph: &Graph, node: &Node) -> Option<Fused> {
    match node.op {
        Op::Unary(Unary::Relu) => Some(Fused::Relu),
        Op::Clip => {
            let bound = |index: usize, absent: f32| match node.input(index) {
                None => Some(absent),
                Some(id) => match graph.initializers().get(&id)?.to_floats().ok()?[..] {
                    [value] => Some(value),
                    _ => None,
                },
            };
            match (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?) {
                (0.0, f32::INFINITY) => Some(Fused::Relu),
                (0.0, 6.0) => Some(Fused::Relu6),
                (-1.0, 1.0) => Some(Fused::ReluN1To1),
                _ => None,
            }
        }
        _ => None,
    }
}
