//! What a plan reaches: which nodes are quantized, which stay float and why.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Node, NodeId};
use super::layer::Layer;
use super::op::Op;

/// How a node runs in a quantized network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// The node is a layer: its weight and input can be quantized.
    Quantized,
    /// The node computes in floating point.
    Float,
    /// The engine cannot run the node.
    Unsupported,
}

impl Status {
    /// Name as it appears in JSON and on screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quantized => "quantized",
            Self::Float => "float",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Nodes of one operator that run the same way for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverageRow {
    /// ONNX name of the operator.
    pub op: String,
    /// Number of nodes, at least 1.
    pub count: usize,
    /// How the nodes run.
    pub status: Status,
    /// Why, in a few words.
    pub reason: String,
}

/// Counts the nodes by operator, status and reason.
///
/// Rows are ordered by status, then by count from high to low, then by name.
pub fn coverage(graph: &Graph, layers: &[Layer]) -> Vec<CoverageRow> {
    let quantized: BTreeSet<NodeId> = layers.iter().map(|layer| layer.node).collect();
    let mut counts: BTreeMap<(Status, String, String), usize> = BTreeMap::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        let (status, reason) = if quantized.contains(&id) {
            (Status::Quantized, "weights and input activation".to_owned())
        } else if let Op::Unsupported { reason, .. } = &node.op {
            (Status::Unsupported, reason.clone())
        } else {
            (Status::Float, float_reason(graph, node).to_owned())
        };
        *counts
            .entry((status, node.op.name().to_owned(), reason))
            .or_default() += 1;
    }
    let mut rows: Vec<CoverageRow> = counts
        .into_iter()
        .map(|((status, op, reason), count)| CoverageRow {
            op,
            count,
            status,
            reason,
        })
        .collect();
    rows.sort_by_key(|row| (row.status, std::cmp::Reverse(row.count)));
    rows
}

fn float_reason(graph: &Graph, node: &Node) -> &'static str {
    let constant = |index| node.input(index).is_some_and(|id| graph.is_initializer(id));
    match &node.op {
        Op::Conv(_) | Op::ConvTranspose(_) if !constant(1) => "the weight is computed, not stored",
        Op::Gemm { .. } | Op::MatMul | Op::Einsum { .. } => match (constant(0), constant(1)) {
            (true, true) => "both inputs are constants",
            (true, false) => "the weight is on the left",
            (false, true) => "the weight is not a matrix of floats",
            (false, false) => "both inputs are activations",
        },
        Op::ConstantOfShape { .. } | Op::Range | Op::Shape { .. } => "computes shapes",
        Op::Concat { .. }
        | Op::Expand
        | Op::Flatten { .. }
        | Op::Gather { .. }
        | Op::Identity
        | Op::Reshape { .. }
        | Op::Slice
        | Op::Split { .. }
        | Op::Squeeze
        | Op::Tile
        | Op::Transpose { .. }
        | Op::Unsqueeze => "moves values without computing",
        _ => "runs on the dequantized values",
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::model::graph::{Dim, ElementType, GraphBuilder, Metadata, ModelFormat};
    use crate::model::layer::layers;
    use crate::model::op::Unary;

    #[test]
    fn groups_nodes_by_operator_status_and_reason() {
        let mut builder = GraphBuilder::new();
        let shape = vec![Dim::Fixed(4), Dim::Fixed(4)];
        let x = builder.input("x", ElementType::F32, shape);
        let zeros = Tensor::zeros((4, 4), DType::F32, &Device::Cpu).unwrap();
        let w = builder.initializer("w", zeros);
        let relu = || Op::Unary(Unary::Relu);
        let unsupported = Op::Unsupported {
            op_type: "LSTM".to_owned(),
            reason: "recurrent".to_owned(),
        };
        let a = builder.node("a", Op::MatMul, &[x, w], "a");
        let b = builder.node("b", relu(), &[a], "b");
        let c = builder.node("c", Op::MatMul, &[b, b], "c");
        let d = builder.node("d", Op::MatMul, &[w, c], "d");
        let e = builder.node("e", relu(), &[d], "e");
        let f = builder.node("f", Op::Transpose { perm: None }, &[e], "f");
        let g = builder.node("g", unsupported, &[f], "g");
        builder.output(g);
        let metadata = Metadata {
            name: "test.onnx".to_owned(),
            format: ModelFormat::Onnx,
            sha256: String::new(),
            producer: None,
            opset: None,
            architecture: None,
        };
        let graph = builder.finish(metadata).unwrap();
        let rows: Vec<String> = coverage(&graph, &layers(&graph))
            .into_iter()
            .map(|row| {
                format!(
                    "{} {} {}: {}",
                    row.count,
                    row.op,
                    row.status.name(),
                    row.reason
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                "1 MatMul quantized: weights and input activation",
                "2 Relu float: runs on the dequantized values",
                "1 MatMul float: both inputs are activations",
                "1 MatMul float: the weight is on the left",
                "1 Transpose float: moves values without computing",
                "1 LSTM unsupported: recurrent",
            ]
        );
    }
}
