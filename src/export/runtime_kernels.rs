//! What a runtime computes with after it has rewritten a graph.
//!
//! ONNX Runtime saves the rewritten graph, which is read here; `OpenVINO` tells the type of every layer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use prost::Message as _;
use serde::Deserialize;

use super::error::ExportError;
use crate::model::onnx_proto::{GraphProto, ModelProto, TensorProto};

/// Operators of a graph that ONNX Runtime rewrote, counted.
#[derive(Debug, Default)]
pub(super) struct Kernels {
    /// Operators that the exported file does not have: fused ones, and those on integers.
    new: BTreeMap<String, usize>,
    /// Layers that are still computed in float.
    float: BTreeMap<String, usize>,
    /// Float weights of the file that the runtime quantized.
    quantized_weights: usize,
}

/// A layer as `OpenVINO` runs it.
#[derive(Debug, Deserialize)]
pub(super) struct ExecutedLayer {
    /// Its operator, in the runtime's words.
    operator: String,
    /// The type that it is computed in.
    precision: String,
}

/// What layers of `OpenVINO` are computed in, in sentences.
pub(super) fn executed(layers: &[ExecutedLayer]) -> String {
    let mut counts = [BTreeMap::new(), BTreeMap::new()];
    for layer in layers {
        let is_float = !matches!(&*layer.precision, "u8" | "i8");
        let own = &mut counts[usize::from(is_float)];
        *own.entry(layer.operator.clone()).or_insert(0) += 1;
    }
    let [integer, float] = &counts;
    let mut text = counted(integer, "layers on integers", "no layer runs on integers");
    text.push_str("; ");
    text.push_str(&counted(float, "layers in float", NO_FLOAT_LAYER));
    if integer.contains_key("FullyConnected") {
        text.push_str(". A product of 8-bit weights and a float input quantizes the input while it runs; the property DYNAMIC_QUANTIZATION_GROUP_SIZE = 0 keeps it in float");
    }
    if !integer.is_empty() && cuts_pairs_of_products() {
        text.push_str(". This processor has no VNNI: oneDNN, which OpenVINO computes with, halves weights there so that pairs of products fit 16 bits; compare the graph as written, which runs in float");
    }
    text
}

const NO_FLOAT_LAYER: &str = "no layer is computed in float";

/// Operators with their numbers, or that there are none.
fn counted(counts: &BTreeMap<String, usize>, what: &str, none: &str) -> String {
    if counts.is_empty() {
        return none.to_owned();
    }
    let counts = counts.iter().map(|(op, count)| format!("{count} {op}"));
    format!("{what}: {}", counts.collect::<Vec<_>>().join(", "))
}

/// Operators that multiply by a weight in float.
const LAYERS: [&str; 7] = [
    "Conv",
    "ConvTranspose",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gemm",
    "MatMul",
];

impl Kernels {
    /// Reads both graphs.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn of(exported: &Path, rewritten: &Path) -> Result<Self, ExportError> {
        let (before, after) = (graph(exported)?, graph(rewritten)?);
        let mut kernels = Self::default();
        for node in after.node {
            if LAYERS.contains(&node.op_type.as_str()) {
                *kernels.float.entry(node.op_type.clone()).or_insert(0) += 1;
            }
            if !before.node.iter().any(|old| old.op_type == node.op_type) {
                *kernels.new.entry(node.op_type).or_insert(0) += 1;
            }
        }
        // `WeightBiasQuantization` names codes after the node that reads them.
        let added = after.initializer.iter().filter(|tensor| {
            let same = |old: &TensorProto| old.name == tensor.name;
            tensor.name.ends_with("_weight_q") && !before.initializer.iter().any(same)
        });
        kernels.quantized_weights = added.count();
        Ok(kernels)
    }

    /// What they mean for the numbers, in sentences.
    pub(super) fn explained(&self) -> String {
        let new = counted(&self.new, "new operators", "no operator was replaced");
        let float = counted(&self.float, "layers in float", NO_FLOAT_LAYER);
        let mut text = format!("{new}; {float}");
        let has = |name: &str| self.new.keys().any(|op| op.contains(name));
        if has("MatMulNBits") {
            text.push_str(". MatMulNBits quantizes its input to 8 bits while it runs; the session option session.qdq_matmulnbits_accuracy_level = 1 keeps it in float");
        }
        if self.quantized_weights > 0 {
            write!(
                text,
                ". The runtime quantized {} float weights to 8 bits, because their inputs are quantized; disabled_optimizers = [\"WeightBiasQuantization\"] keeps them",
                self.quantized_weights
            )
            .ok();
        }
        if has("QLinear") || has("Integer") || has("QGemm") {
            text.push_str(". Integer kernels round each output once, to the output's codes");
            if cuts_pairs_of_products() {
                text.push_str(". This processor has no VNNI: ONNX Runtime adds pairs of products of int8 weights in 16 bits there, and cuts what does not fit, which can cost all accuracy; the session option session.x64quantprecision = 1 keeps the sums whole");
            }
        }
        text
    }
}

/// Whether integer kernels of this processor add pairs of `u8 · i8` in 16 bits with saturation
/// (`vpmaddubsw`), as those of x86-64 without VNNI do.
fn cuts_pairs_of_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        !std::arch::is_x86_feature_detected!("avx512vnni")
            && !std::arch::is_x86_feature_detected!("avxvnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

fn graph(path: &Path) -> Result<GraphProto, ExportError> {
    let bytes = std::fs::read(path).map_err(|error| {
        ExportError::Message(format!("cannot read {}: {error}", path.display()))
    })?;
    let model = ModelProto::decode(&bytes[..]).map_err(|_damaged| ExportError::damaged())?;
    Ok(model.graph.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::onnx_nodes::node;
    use super::super::tensors::CodeType;
    use super::*;
    use crate::model::onnx_proto::NodeProto;

    fn saved(nodes: Vec<NodeProto>, tensors: &[&str]) -> tempfile::NamedTempFile {
        let tensor = |name: &&str| CodeType::of(8, true).tensor(name, &[1], &[1]);
        let graph = GraphProto {
            node: nodes,
            initializer: tensors.iter().map(tensor).collect(),
            ..GraphProto::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), model.encode_to_vec()).unwrap();
        file
    }

    #[test]
    fn layers_are_counted_by_their_type() {
        let layer = |operator: &str, precision: &str| ExecutedLayer {
            operator: operator.to_owned(),
            precision: precision.to_owned(),
        };
        let layers = [
            layer("Convolution", "u8"),
            layer("Convolution", "i8"),
            layer("Convolution", "f32"),
        ];
        let text = executed(&layers);
        let expected = "layers on integers: 2 Convolution; layers in float: 1 Convolution";
        assert!(text.starts_with(expected), "{text}");
        assert!(executed(&[layer("FullyConnected", "i8")]).contains("GROUP_SIZE"));
        let text = executed(&layers[2..]);
        assert_eq!(
            text,
            "no layer runs on integers; layers in float: 1 Convolution"
        );
        assert!(executed(&layers[..2]).contains(NO_FLOAT_LAYER));
    }

    #[test]
    fn what_the_runtime_changed_is_told() {
        let one = |op: &str| node(op, op, &["x"], &["y"]);
        let before = saved(vec![one("Conv"), one("Relu")], &["w"]);
        let nodes = vec![one("QLinearConv"), one("FusedConv"), one("MatMulNBits")];
        let after = saved(nodes, &["w", "conv_weight_q"]);
        let kernels = Kernels::of(before.path(), after.path()).unwrap();
        assert_eq!(kernels.new.len(), 3);
        assert_eq!(kernels.float, BTreeMap::from([("FusedConv".to_owned(), 1)]));
        assert_eq!(kernels.quantized_weights, 1);
        let text = kernels.explained();
        for part in [
            "1 QLinearConv",
            "layers in float: 1 FusedConv",
            "accuracy_level",
            "1 float weights",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let same = Kernels::of(before.path(), before.path()).unwrap();
        assert!(
            same.explained().starts_with("no operator was replaced"),
            "{}",
            same.explained()
        );
    }
}
