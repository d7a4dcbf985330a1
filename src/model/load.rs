//! Opening a model file of any supported format.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::LoadError;
use super::onnx::read_onnx;
use super::{Graph, GraphError, LoadErrorKind};

/// Reads a network and prepares it to be looked at, run and quantized.
///
/// The format follows from the extension. Whatever the format, initializers that nothing reads are
/// dropped.
///
/// # Errors
/// An extension that is not known, and what the reader of the format reports.
pub fn load(path: &Path) -> Result<Graph, LoadError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let graph = if extension.eq_ignore_ascii_case("onnx") {
        read_onnx(path)
    } else {
        let kind = LoadErrorKind::UnknownFormat(format!(".{extension}"));
        Err(LoadError::new(path, kind))
    }?;
    without_unused_initializers(graph).map_err(|error| LoadError::new(path, error))
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::Op;

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
        for name in [
            "dscnn-kws",
            "mobilenetv1-025-imagenet",
            "resnet20-cifar10",
            "vit-mnist",
            "wnet-drive",
            "yolox-nano-coco",
        ] {
            let graph = load(&folder.join(format!("{name}.onnx"))).expect(name);
            for node in graph.nodes() {
                let supported = !matches!(node.op, Op::Unsupported { .. });
                assert!(supported, "{name}: {:?} {:?}", node.name, node.op);
            }
            assert_eq!(graph.inputs().len(), 1, "{name}");
            assert_eq!(count(&graph, "Constant"), 0, "{name}");
        }
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
        // Quantized operators, and forms of `Resize` that the reader refuses by name.
        let expected = [
            "dequantize_linear_",
            "quantize_linear_",
            "resize_opset18_axes_scales",
            "resize_opset18_not_larger",
            "resize_opset19_axes_sizes",
            "size",
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
