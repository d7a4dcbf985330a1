//! Opening a model file of any supported format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::batch_norm_folding::fold_batch_norms;
use super::checkpoint::{read_pth, read_safetensors};
use super::constant_folding::fold_constants;
use super::error::LoadError;
use super::onnx::read_onnx;
use super::{Graph, GraphError, LoadErrorKind, Node, Op};

/// Reads a network and prepares it to be looked at, run and quantized.
///
/// The format follows from the extension. Whatever the format: nodes that can be evaluated now become
/// initializers; `Identity` (and with it `Dropout`) is dropped, and so are nodes that no output
/// depends on; batch normalisation is folded into the layer before it; and initializers that nothing
/// reads are dropped.
///
/// # Errors
/// An extension that is not known, what the reader of the format reports, and
/// [`LoadErrorKind::NonFinite`] if a constant has a NaN or a weight is infinite.
pub fn load(path: &Path) -> Result<Graph, LoadError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let graph = match extension.to_ascii_lowercase().as_str() {
        "onnx" => read_onnx(path),
        "safetensors" => read_safetensors(path),
        "pth" | "pt" | "th" | "ckpt" | "bin" => read_pth(path),
        _ => {
            let kind = LoadErrorKind::UnknownFormat(format!(".{extension}"));
            Err(LoadError::new(path, kind))
        }
    }?;
    let broken = |error: GraphError| LoadError::new(path, error);
    let graph = fold_constants(graph).map_err(broken)?;
    let graph = without_identities(graph).map_err(broken)?;
    let graph = without_dead_nodes(graph).map_err(broken)?;
    // Before the weights get new names by folding.
    check_finite(&graph).map_err(|kind| LoadError::new(path, kind))?;
    let graph = fold_batch_norms(graph).map_err(broken)?;
    without_unused_initializers(graph).map_err(broken)
}

/// Lets the readers of an `Identity` read its input, except where it writes an output of the graph.
fn without_identities(graph: Graph) -> Result<Graph, GraphError> {
    let metadata = graph.metadata().clone();
    let mut builder = graph.into_builder();
    let mut stands_for = BTreeMap::new();
    let outputs = builder.outputs.clone();
    // In topological order, so that the input of an identity is already the one that stands for it.
    builder.nodes.retain_mut(|node| {
        for input in node.inputs.iter_mut().flatten() {
            *input = stands_for.get(input).copied().unwrap_or(*input);
        }
        match (&node.op, node.input(0), node.output()) {
            (Op::Identity, Some(input), Some(output)) if !outputs.contains(&output) => {
                stands_for.insert(output, input);
                false
            }
            _ => true,
        }
    });
    builder.finish(metadata)
}

/// Drops the nodes that no output of the graph depends on.
fn without_dead_nodes(graph: Graph) -> Result<Graph, GraphError> {
    let mut needed: BTreeSet<_> = graph.outputs().iter().copied().collect();
    for node in graph.nodes().iter().rev() {
        if node.outputs.iter().any(|output| needed.contains(output)) {
            needed.extend(node.inputs.iter().flatten());
        }
    }
    let metadata = graph.metadata().clone();
    let mut builder = graph.into_builder();
    let nodes = &mut builder.nodes;
    nodes.retain(|node| node.outputs.iter().any(|output| needed.contains(output)));
    builder.finish(metadata)
}

fn without_unused_initializers(graph: Graph) -> Result<Graph, GraphError> {
    let mut used: BTreeSet<_> = graph.outputs().iter().copied().collect();
    for node in graph.nodes() {
        used.extend(node.inputs.iter().flatten());
    }
    let metadata = graph.metadata().clone();
    let mut builder = graph.into_builder();
    builder.initializers.retain(|id, _| used.contains(id));
    builder.finish(metadata)
}

/// Refuses NaN in any constant, and infinity in the parameters of a layer.
///
/// Elsewhere an infinity can be meant, as in the mask of an attention.
fn check_finite(graph: &Graph) -> Result<(), LoadErrorKind> {
    let mut checked = BTreeSet::new();
    for node in graph.nodes() {
        let parametric = has_parameters(node);
        for id in node.inputs.iter().flatten() {
            let Some(initializer) = graph.initializers().get(id) else {
                continue;
            };
            if !checked.insert((*id, parametric)) {
                continue;
            }
            let count = if parametric {
                initializer.count_floats(|value| !value.is_finite())
            } else {
                initializer.count_floats(f32::is_nan)
            }?;
            if count > 0 {
                let tensor = graph.value(*id).name.clone();
                return Err(LoadErrorKind::NonFinite { tensor, count });
            }
        }
    }
    Ok(())
}

fn has_parameters(node: &Node) -> bool {
    matches!(
        node.op,
        Op::BatchNormalization { .. }
            | Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Einsum { .. }
            | Op::Gemm { .. }
            | Op::LayerNormalization { .. }
            | Op::MatMul
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use prost::Message as _;

    use super::*;
    use crate::model::onnx::proto::{
        DATA_LOCATION_EXTERNAL, NodeProto, StringStringEntryProto, TensorProto,
    };
    use crate::model::onnx::tests::{WithAttribute as _, floats, integers, model, node};
    use crate::model::{coverage, layers};

    /// The real models beside the project, or `None` (said aloud) where they are absent.
    fn real_models() -> Option<PathBuf> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/models");
        if !folder.is_dir() {
            println!("skipped: {} is not there", folder.display());
            return None;
        }
        Some(folder)
    }

    fn count(graph: &Graph, op: &str) -> usize {
        let nodes = graph.nodes().iter();
        nodes.filter(|node| node.op.name() == op).count()
    }

    #[test]
    fn every_real_onnx_model_loads() {
        let Some(folder) = real_models() else { return };
        // Name, nodes with constant parameters, and batch normalisations that stay: those of wnet-drive
        // follow a ReLU, so that no layer can take them over.
        for (name, weights, norms) in [
            ("dscnn-kws", 10, 0),
            ("mobilenetv1-025-imagenet", 28, 0),
            ("resnet20-cifar10", 20, 0),
            ("vit-mnist", 39, 0),
            ("wnet-drive", 64, 24),
            ("yolox-nano-coco", 113, 0),
        ] {
            let graph = load(&folder.join(format!("{name}.onnx"))).expect(name);
            for node in graph.nodes() {
                let supported = !matches!(node.op, Op::Unsupported { .. });
                assert!(supported, "{name}: {:?} {:?}", node.name, node.op);
            }
            assert_eq!(graph.inputs().len(), 1, "{name}");
            assert_eq!(count(&graph, "BatchNormalization"), norms, "{name}");
            let layers = graph.nodes().iter().filter(|node| has_parameters(node));
            let with_weight = layers.filter(|node| {
                let weight = node.input(1).and_then(|id| graph.initializer(id));
                weight.is_some()
            });
            assert_eq!(with_weight.count(), weights, "{name}");
        }
    }

    fn loaded(nodes: Vec<NodeProto>, tensors: Vec<TensorProto>) -> Result<Graph, LoadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.ONNX");
        std::fs::write(&path, model(17, nodes, tensors).encode_to_vec()).unwrap();
        load(&path)
    }

    #[test]
    fn weights_that_are_not_finite_are_refused_by_name() {
        let check = |op_type: &str, value: f32, expected: Option<usize>| {
            let nodes = vec![
                node("Identity", &["w"], &["v"]),
                node(op_type, &["x", "v"], &["y"]),
            ];
            let weight = floats("w", &[3, 3, 1, 1], &[&[1.0; 7], &[value; 2][..]].concat());
            let found = match loaded(nodes, vec![weight]).map_err(|error| error.kind) {
                Ok(_) => None,
                Err(LoadErrorKind::NonFinite { tensor, count }) => {
                    assert_eq!(tensor, "v");
                    Some(count)
                }
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, expected, "{op_type} {value}");
        };
        check("Conv", f32::NAN, Some(2));
        check("Conv", f32::NEG_INFINITY, Some(2));
        check("Conv", 1.0, None);
        check("Add", f32::NAN, Some(2));
        check("Add", f32::NEG_INFINITY, None);
    }

    #[test]
    fn batch_norm_is_folded_through_a_dropout() {
        let nodes = vec![
            node("Conv", &["x", "w"], &["z"]),
            node("Dropout", &["z"], &["d"]),
            node("Identity", &["d"], &["i"]),
            node("BatchNormalization", &["i", "c", "c", "c", "c"], &["n"]),
            node("Identity", &["n"], &["y"]),
        ];
        let tensors = vec![
            floats("w", &[2, 3, 1, 1], &[1.0; 6]),
            floats("c", &[2], &[1.0; 2]),
        ];
        let graph = loaded(nodes, tensors).unwrap();
        let ops: Vec<_> = graph.nodes().iter().map(|n| n.op.name()).collect();
        assert_eq!(
            ops,
            ["Conv", "Identity"],
            "the output of the graph keeps its node"
        );
    }

    #[test]
    fn nothing_is_kept_that_no_output_needs() {
        let nodes = vec![
            node("Conv", &["x", "w"], &["dead"]),
            node("Conv", &["x", "u"], &["z"]),
            node("Constant", &[], &["c"]).float("value_float", f32::NAN),
            node("Relu", &["z"], &["y"]),
        ];
        let tensors = vec![
            floats("w", &[1, 3, 1, 1], &[f32::NAN; 3]),
            floats("u", &[1, 3, 1, 1], &[1.0; 3]),
        ];
        let graph = loaded(nodes, tensors).unwrap();
        let names: Vec<_> = graph.nodes().iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["z", "y"]);
        assert_eq!(graph.initializers().len(), 1);
    }

    /// A weight of 18 MiB, so that its file is large enough to be mapped.
    fn large_weight(dims: &[i64]) -> TensorProto {
        let values: Vec<f32> = (0..(18 << 20) / 4)
            .map(|n| (n % 1000) as f32 - 500.0)
            .collect();
        floats("w", dims, &values)
    }

    /// Writes `proto` as `m.onnx`, with its first tensor in another file if asked for.
    fn write(
        folder: &Path,
        nodes: Vec<NodeProto>,
        mut tensors: Vec<TensorProto>,
        external: bool,
    ) -> PathBuf {
        if external {
            let bytes = tensors[0].raw_data.take().unwrap();
            std::fs::write(folder.join("m.data"), &bytes).unwrap();
            tensors[0].data_location = DATA_LOCATION_EXTERNAL;
            tensors[0].external_data = vec![StringStringEntryProto {
                key: "location".to_owned(),
                value: "m.data".to_owned(),
            }];
        }
        let path = folder.join("m.onnx");
        std::fs::write(&path, model(17, nodes, tensors).encode_to_vec()).unwrap();
        path
    }

    #[test]
    fn the_layer_table_of_a_large_model_leaves_its_weights_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = || {
            vec![
                node("Identity", &["w"], &["i"]),
                node("Reshape", &["i", "shape"], &["v"]),
                node("Flatten", &["x"], &["f"]),
                node("Gemm", &["f", "v"], &["y"]),
            ]
        };
        let tensors = || {
            let shape = integers("shape", &[2], &[192, -1]);
            vec![large_weight(&[4, 48, (18 << 18) / 192]), shape]
        };
        for external in [false, true] {
            let path = write(folder.path(), nodes(), tensors(), external);
            let graph = load(&path).unwrap();
            let layers = layers(&graph);
            assert_eq!(coverage(&graph, &layers).len(), 2);
            assert_eq!(layers[0].weight_shape, [192, (18 << 18) / 192]);
            let weight = &graph.initializers()[&layers[0].weight];
            assert!(!weight.is_made());
            assert_eq!(weight.to_floats().unwrap()[1234], -266.0);
            assert!(!weight.is_made());
            let tensor = graph.initializer(layers[0].weight).unwrap();
            assert_eq!(tensor.dims(), [192, (18 << 18) / 192]);
        }
    }

    #[test]
    fn a_large_weight_takes_over_its_batch_norm() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = vec![
            node("Conv", &["x", "w"], &["z"]),
            node(
                "BatchNormalization",
                &["z", "two", "zero", "zero", "one"],
                &["y"],
            )
            .float("epsilon", 0.0),
        ];
        let channels = (18i64 << 18) / 3 / 64;
        let parameters =
            |name: &str, value: f32| floats(name, &[channels], &vec![value; channels as usize]);
        let mut tensors = vec![large_weight(&[channels, 3, 8, 8])];
        tensors.extend(
            [("two", 2.0), ("zero", 0.0), ("one", 1.0)]
                .map(|(name, value)| parameters(name, value)),
        );
        let graph = load(&write(folder.path(), nodes, tensors, false)).unwrap();
        let layers = layers(&graph);
        assert_eq!(graph.nodes().len(), 1);
        let weight = graph.initializers()[&layers[0].weight].to_floats().unwrap();
        assert_eq!(weight[1234], -532.0);
    }

    #[test]
    fn large_damaged_files_give_the_errors_of_small_ones() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = || {
            vec![
                node("Flatten", &["x"], &["f"]),
                node("Gemm", &["f", "w"], &["y"]),
            ]
        };
        let dims = [192, (18 << 18) / 192];
        let message = |path: &Path| load(path).unwrap_err().to_string();

        let path = write(folder.path(), nodes(), vec![large_weight(&dims)], false);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(17 << 20).unwrap();
        assert!(
            message(&path).contains("damaged or cut off"),
            "{}",
            message(&path)
        );

        let path = write(folder.path(), nodes(), vec![large_weight(&dims)], true);
        let data = std::fs::File::options()
            .write(true)
            .open(folder.path().join("m.data"));
        data.unwrap().set_len(17 << 20).unwrap();
        assert!(
            message(&path).contains("does not fit its"),
            "{}",
            message(&path)
        );

        let path = write(
            folder.path(),
            nodes(),
            vec![large_weight(&[192, 192])],
            false,
        );
        assert!(
            message(&path).contains("does not fit its"),
            "{}",
            message(&path)
        );

        let mut weight = large_weight(&dims);
        let mut bytes = weight.raw_data.unwrap().to_vec();
        bytes[4000..4004].copy_from_slice(&f32::NAN.to_le_bytes());
        weight.raw_data = Some(bytes.into());
        let path = write(folder.path(), nodes(), vec![weight], false);
        assert!(
            message(&path).contains("\"w\" has 1 values"),
            "{}",
            message(&path)
        );
    }

    #[test]
    fn weights_of_a_file_that_was_written_to_are_not_taken_for_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = vec![
            node("Flatten", &["x"], &["f"]),
            node("Gemm", &["f", "w"], &["y"]),
        ];
        let weight = large_weight(&[192, (18 << 18) / 192]);
        let path = write(folder.path(), nodes, vec![weight], false);
        let graph = load(&path).unwrap();
        let weight = layers(&graph)[0].weight;
        std::fs::write(&path, "another export").unwrap();
        let error = graph.initializers()[&weight].to_floats().unwrap_err();
        assert!(
            error.to_string().contains("open the model again"),
            "{error}"
        );
        assert!(graph.initializer(weight).is_none());
    }

    #[test]
    fn every_operator_of_the_golden_models_is_known() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ops");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "onnx")
            })
            .collect();
        files.sort();
        assert!(files.len() > 100, "{} files", files.len());
        let mut refused = Vec::new();
        for file in files {
            let graph = load(&file).unwrap_or_else(|error| panic!("{error}"));
            for node in graph.nodes() {
                if let Op::Unsupported { op_type, reason } = &node.op {
                    refused.push(format!("{}: {op_type}: {reason}", graph.metadata().name));
                }
            }
        }
        // Quantized operators, and a policy of `Resize` that the reader refuses by name.
        let expected = [
            "dequantize_linear_",
            "quantize_linear_",
            "resize_opset18_not_larger",
        ];
        refused.retain(|line| !expected.iter().any(|prefix| line.starts_with(prefix)));
        assert!(refused.is_empty(), "{}", refused.join("\n"));
    }

    #[test]
    fn unknown_extensions_name_the_remedy() {
        for name in ["model.tflite", "model", "model.onnx.zip"] {
            let error = load(Path::new(name)).expect_err(name);
            assert!(
                error.to_string().contains("export the model to ONNX"),
                "{error}"
            );
        }
    }
}
