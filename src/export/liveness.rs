//! Which nodes of a file something depends on.

use std::collections::BTreeSet;

use super::onnx_message::graph_field;
use super::protobuf::Field;
use crate::model::captured_values;
use crate::model::onnx_proto::{GraphProto, NodeProto};

/// A node on its way into the file.
pub(super) struct Written {
    /// The node as a field of the graph.
    pub field: Field,
    /// Values that it and its subgraphs read.
    pub reads: Vec<String>,
    /// Values that it writes.
    pub writes: Vec<String>,
    /// Nothing needed it in the original either.
    pub kept_anyway: bool,
}

impl Written {
    /// A node that is new.
    pub(super) fn new(node: &NodeProto) -> Self {
        Self::with_field(Field::of_message(graph_field::NODE, node), node)
    }

    /// A node that is stored as `field`.
    pub(super) fn with_field(field: Field, node: &NodeProto) -> Self {
        let captured = captured_values(node).into_iter().map(str::to_owned);
        Self {
            field,
            reads: node.input.iter().cloned().chain(captured).collect(),
            writes: node.output.clone(),
            kept_anyway: false,
        }
    }
}

/// Names that the nodes, constants and inputs of a file define.
pub(super) fn defined_names(proto: &GraphProto) -> BTreeSet<&str> {
    let outputs = proto.node.iter().flat_map(|node| &node.output);
    let constants = proto.initializer.iter().map(|tensor| &tensor.name);
    let inputs = proto.input.iter().map(|input| &input.name);
    outputs
        .chain(constants)
        .chain(inputs)
        .map(String::as_str)
        .collect()
}

/// Which nodes of a file an output depends on.
pub(super) fn live_flags(nodes: &[NodeProto], proto: &GraphProto) -> Vec<bool> {
    let mut needed: BTreeSet<&str> = proto
        .output
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    let mut live = vec![false; nodes.len()];
    for (node, live) in nodes.iter().zip(&mut live).rev() {
        *live = node
            .output
            .iter()
            .any(|output| needed.contains(output.as_str()));
        if *live {
            needed.extend(node.input.iter().map(String::as_str));
            needed.extend(captured_values(node));
        }
    }
    live
}

/// Without the nodes that nothing needs any more.
pub(super) fn live_nodes(mut nodes: Vec<Written>, proto: &GraphProto) -> Vec<Written> {
    let mut needed: BTreeSet<String> = proto
        .output
        .iter()
        .map(|output| output.name.clone())
        .collect();
    let mut live = vec![false; nodes.len()];
    for (node, live) in nodes.iter().zip(&mut live).rev() {
        *live = node.kept_anyway || node.writes.iter().any(|output| needed.contains(output));
        if *live {
            needed.extend(node.reads.iter().cloned());
        }
    }
    let mut live = live.into_iter();
    nodes.retain(|_| live.next().unwrap_or(true));
    nodes
}

/// Everything that nodes and outputs read.
pub(super) fn names_read(nodes: &[Written], proto: &GraphProto) -> BTreeSet<String> {
    let read = nodes.iter().flat_map(|node| node.reads.iter().cloned());
    let returned = proto.output.iter().map(|output| output.name.clone());
    read.chain(returned).collect()
}
