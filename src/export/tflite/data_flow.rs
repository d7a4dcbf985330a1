//! What of a graph computes the outputs once shapes are known.

use std::collections::BTreeSet;

use crate::model::{Graph, Node, NodeId, Op, ValueId};

/// The inputs of a node whose numbers flow into its output.
///
/// Lengths, axes and other parameters are known beforehand, and constants are none of these.
pub(super) fn data_inputs(graph: &Graph, node: &Node) -> Vec<ValueId> {
    let count = match node.op {
        Op::Binary(_) | Op::Variadic(_) | Op::Concat { .. } | Op::Where => usize::MAX,
        // A product of two computed matrices has two, a layer one.
        Op::MatMul | Op::Gemm { .. } | Op::Einsum { .. } => 2,
        _ => 1,
    };
    let inputs = node.inputs.iter().take(count).flatten();
    inputs
        .copied()
        .filter(|id| !graph.is_initializer(*id))
        .collect()
}

/// The nodes that outputs depend on through data, in topological order.
pub(super) fn live_nodes(graph: &Graph) -> Vec<NodeId> {
    let mut needed: BTreeSet<ValueId> = graph.outputs().iter().copied().collect();
    let mut live: Vec<NodeId> = Vec::new();
    let ids: Vec<NodeId> = graph.node_ids().collect();
    for id in ids.into_iter().rev() {
        let node = graph.node(id);
        if node.outputs.iter().any(|output| needed.contains(output)) {
            needed.extend(data_inputs(graph, node));
            live.push(id);
        }
    }
    live.reverse();
    live
}

/// The live nodes that read each value as data, indexed by [`ValueId`].
pub(super) fn readers(graph: &Graph, live: &[NodeId]) -> Vec<Vec<NodeId>> {
    let mut readers = vec![Vec::new(); graph.values().len()];
    for id in live {
        for input in data_inputs(graph, graph.node(*id)) {
            let list: &mut Vec<NodeId> = &mut readers[input.index()];
            if list.last() != Some(id) {
                list.push(*id);
            }
        }
    }
    readers
}
