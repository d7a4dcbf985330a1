//! An exported file in operators and types that a runtime without 4-bit, 16-bit and half types has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message as _;

use super::error::ExportError;
use super::onnx_nodes::{Attributes as _, node};
use super::tensors::floats;
use crate::model::dequantized_file;
use crate::model::onnx_proto::{GraphProto, NodeProto, data_type};

/// Types of codes that every runtime with quantizers has.
const COMMON: [i32; 3] = [data_type::INT8, data_type::UINT8, data_type::INT32];

/// The content of a file, changed where it must be.
#[derive(Debug)]
pub(super) struct SpelledOut {
    /// The file.
    pub bytes: Vec<u8>,
    /// What was changed, a phrase each.
    pub changes: BTreeSet<&'static str>,
}

/// Writes quantizers of 4 and 16 bits, and of blocks, as the operators that define them, and attributes
/// that have a default but that some runtimes want written.
///
/// ```text
/// QuantizeLinear:    q = clip(round(x / s) + z, q_min, q_max)
/// DequantizeLinear:  x̂ = (q − z) · s
/// ```
/// in `f32`, which holds the codes of 16 bits exactly. Constants become the floats that they stand for.
///
/// # Errors
/// The file cannot be read.
pub(super) fn spelled_out(path: &Path) -> Result<SpelledOut, ExportError> {
    let mut file = dequantized_file(path)?;
    let mut changes = BTreeSet::new();
    let Some(graph) = file.model.graph.as_mut() else {
        return Err(ExportError::damaged());
    };
    let types: BTreeMap<String, i32> = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.data_type))
        .collect();
    let wide = |name: Option<&String>| {
        let number = name.and_then(|name| types.get(name));
        number.is_some_and(|number| !COMMON.contains(number))
    };
    let mut nodes = Vec::with_capacity(graph.node.len());
    for one in std::mem::take(&mut graph.node) {
        let output = one.output.first().cloned().unwrap_or_default();
        let blocked = one
            .attribute
            .iter()
            .any(|attribute| attribute.name == "block_size" && attribute.i > 0);
        let zero_point = one.input.get(2).and_then(|name| file.zero_points.get(name));
        if let Some((dims, values)) = file.constants.get(&output)
            && (wide(one.input.first()) || blocked)
        {
            let dims: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
            graph.initializer.push(floats(&output, &dims, values));
            changes.insert(if one.op_type == "Cast" {
                "weights in half precision as f32"
            } else if blocked {
                "weights in groups as the floats that their codes stand for"
            } else {
                "weights of 4 and 16 bits as the floats that their codes stand for"
            });
        } else if let (Some((codes, number)), true) = (zero_point, wide(one.input.get(2))) {
            let zero_point = codes.first().copied().unwrap_or(0) as f32;
            let name = format!("{output}_spelled_zero_point");
            graph.initializer.push(floats(&name, &[], &[zero_point]));
            spell(&one, &output, (&name, *number), graph, &mut nodes);
            changes.insert("quantizers of 4 and 16 bits as division, rounding and clipping");
        } else {
            let axes = kernel_axes(&one);
            let is_short = axes > 0 && one.attribute.iter().all(|own| own.name != "dilations");
            nodes.push(if is_short {
                changes.insert("dilations of 1, which the file leaves out");
                one.ints("dilations", &vec![1; axes])
            } else {
                one
            });
        }
    }
    graph.node = nodes;
    graph.value_info.clear();
    drop_unread(graph);
    Ok(SpelledOut {
        bytes: file.model.encode_to_vec(),
        changes,
    })
}

/// Axes of the kernel of a convolution whose file says so; 0 for other operators.
fn kernel_axes(node: &NodeProto) -> usize {
    if !matches!(node.op_type.as_str(), "Conv" | "ConvTranspose") {
        return 0;
    }
    let kernel = node.attribute.iter().find(|own| own.name == "kernel_shape");
    kernel.map_or(0, |kernel| kernel.ints.len())
}

/// One quantizer as the operators that define it.
fn spell(
    quantizer: &NodeProto,
    output: &str,
    (zero_point, number): (&str, i32),
    graph: &mut GraphProto,
    nodes: &mut Vec<NodeProto>,
) {
    let [source, scale] = [0, 1].map(|at| quantizer.input.get(at).map_or("", String::as_str));
    let mut add = |op: &str, inputs: &[&str], to: &str| {
        nodes.push(node(&format!("{to}_{op}"), op, inputs, &[to]));
    };
    if quantizer.op_type == "DequantizeLinear" {
        let moved = format!("{output}_moved");
        add("Sub", &[source, zero_point], &moved);
        add("Mul", &[&moved, scale], output);
        return;
    }
    let (lowest, highest) = match number {
        21 => (0.0, 15.0),
        22 => (-8.0, 7.0),
        data_type::INT16 => (-32_768.0, 32_767.0),
        _ => (0.0, 65_535.0),
    };
    let [steps, rounded, moved] =
        ["steps", "rounded", "moved"].map(|part| format!("{output}_{part}"));
    let [low, high] = ["lowest", "highest"].map(|part| format!("{output}_{part}"));
    graph.initializer.push(floats(&low, &[], &[lowest]));
    graph.initializer.push(floats(&high, &[], &[highest]));
    add("Div", &[source, scale], &steps);
    add("Round", &[&steps], &rounded);
    add("Add", &[&rounded, zero_point], &moved);
    add("Clip", &[&moved, &low, &high], output);
}

/// Constants that nothing reads any more, whose types may be unknown.
fn drop_unread(graph: &mut GraphProto) {
    let read: BTreeSet<String> = graph
        .node
        .iter()
        .flat_map(|node| node.input.iter().cloned())
        .chain(graph.output.iter().map(|output| output.name.clone()))
        .collect();
    graph
        .initializer
        .retain(|tensor| read.contains(&tensor.name));
}

#[cfg(test)]
mod tests {
    use super::super::tensors::CodeType;
    use super::*;
    use crate::model::onnx_proto::{ModelProto, OperatorSetIdProto, ValueInfoProto};

    fn saved(graph: GraphProto) -> (tempfile::TempDir, std::path::PathBuf) {
        let model = ModelProto {
            ir_version: 10,
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 21,
            }],
            ..ModelProto::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        (folder, path)
    }

    fn named(name: &str) -> ValueInfoProto {
        ValueInfoProto {
            name: name.to_owned(),
            r#type: None,
        }
    }

    fn graph(bits: u8) -> GraphProto {
        let stored = CodeType::of(bits, true);
        let pair = |inputs: [&str; 3], op: &str, output: &str| node(op, op, &inputs, &[output]);
        GraphProto {
            node: vec![
                pair(["x", "s", "z"], "QuantizeLinear", "q"),
                pair(["q", "s", "z"], "DequantizeLinear", "d"),
                pair(["w_q", "s", "z"], "DequantizeLinear", "w"),
                node("MatMul", "MatMul", &["d", "w"], &["y"]),
            ],
            initializer: vec![
                floats("s", &[], &[0.5]),
                stored.tensor("z", &[], &[1]),
                stored.tensor("w_q", &[2, 1], &[3, -2]),
            ],
            input: vec![named("x")],
            output: vec![named("y")],
            ..GraphProto::default()
        }
    }

    #[test]
    fn types_that_are_not_common_are_written_as_their_definition() {
        let (_folder, path) = saved(graph(16));
        let written = spelled_out(&path).unwrap();
        let model = ModelProto::decode(&written.bytes[..]).unwrap();
        let graph = model.graph.unwrap();
        let ops: Vec<&str> = graph
            .node
            .iter()
            .map(|node| node.op_type.as_str())
            .collect();
        assert_eq!(ops, ["Div", "Round", "Add", "Clip", "Sub", "Mul", "MatMul"]);
        let weight = graph.initializer.iter().find(|tensor| tensor.name == "w");
        let expected = floats("w", &[2, 1], &[1.0, -1.5]);
        assert_eq!(weight, Some(&expected));
        assert!(
            graph
                .initializer
                .iter()
                .all(|tensor| tensor.data_type == data_type::FLOAT)
        );
        assert_eq!(written.changes.len(), 2);
    }

    #[test]
    fn eight_bits_stay_as_they_are() {
        let (_folder, path) = saved(graph(8));
        let written = spelled_out(&path).unwrap();
        let model = ModelProto::decode(&written.bytes[..]).unwrap();
        assert_eq!(model.graph.unwrap().node.len(), 4);
        assert!(written.changes.is_empty());
    }
}
