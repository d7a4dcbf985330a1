//! State dicts: tensors without a graph, from `.safetensors` and PyTorch's zip `.pth`.
//!
//! The architecture is recognised from the names and shapes of the tensors, and its graph is built
//! with `BatchNormalization` as separate nodes, as the checkpoint stores it.
//! A state dict is refused unless the graph uses every one of its tensors.

mod builder;
mod mobilenet_v1;
mod mobilenet_v2;
mod pickle;
mod pth;
mod resnet;
mod safetensors;
mod state_dict;
mod vgg;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use self::state_dict::StateDict;
use super::error::{LoadError, LoadErrorKind};
use super::file_content::FileContent;
use super::graph::{Graph, GraphBuilder, Metadata, ModelFormat};
use super::initializer::Initializer;
use super::onnx::{file_name, hexadecimal};

/// Tensor names that an error message quotes.
const NAMES_IN_MESSAGE: usize = 8;

/// What the builders know, for messages.
const FAMILIES: &str = "ResNet, ResNeXt and Wide ResNet (torchvision), ResNet for CIFAR, \
                        MobileNetV1, MobileNetV2 and VGG (torchvision)";

const EXPORT_HINT: &str =
    "export the model to ONNX: torch.onnx.export(model.eval(), example_input, \"model.onnx\")";

/// Reads a `.safetensors` state dict of a known architecture.
///
/// # Errors
/// An unreadable or damaged file, an architecture that is not known, and tensors that are missing,
/// left over or of the wrong shape.
pub fn read_safetensors(path: &Path) -> Result<Graph, LoadError> {
    read(path, ModelFormat::SafeTensors, safetensors::tensors)
}

/// Reads a zip `.pth` or `.pt` state dict of a known architecture; code in it is never run.
///
/// # Errors
/// As [`read_safetensors`]; also files of PyTorch before 1.6, whole pickled modules and scripts.
pub fn read_pth(path: &Path) -> Result<Graph, LoadError> {
    read(path, ModelFormat::Pth, pth::tensors)
}

type Tensors = Result<BTreeMap<String, Initializer>, LoadErrorKind>;

fn read(
    path: &Path,
    format: ModelFormat,
    tensors: impl Fn(&FileContent) -> Tensors,
) -> Result<Graph, LoadError> {
    let graph = || {
        let content = FileContent::open(path)?;
        let state = StateDict::new(tensors(&content)?);
        let (architecture, builder) = build(&state)?;
        let metadata = Metadata {
            name: file_name(path),
            format,
            sha256: hexadecimal(&content.read(|bytes| Sha256::digest(bytes))?),
            producer: None,
            opset: None,
            architecture: Some(architecture),
        };
        Ok(builder.finish(metadata)?)
    };
    graph().map_err(|kind: LoadErrorKind| LoadError::new(path, kind))
}

/// Name and graph of the architecture that the tensors belong to.
fn build(state: &StateDict) -> Result<(String, GraphBuilder), LoadErrorKind> {
    let (name, graph) = if let Some(spec) = mobilenet_v2::recognise(state) {
        (spec.name(), spec.build(state))
    } else if let Some(spec) = vgg::recognise(state) {
        (spec.name(), spec.build(state))
    } else if let Some(spec) = mobilenet_v1::recognise(state) {
        (spec.name(), spec.build(state))
    } else if let Some(spec) = resnet::recognise(state) {
        (spec.name(), spec.build(state))
    } else {
        return Err(unknown_architecture(state));
    };
    let graph = graph.map_err(|error| {
        LoadErrorKind::UnknownArchitecture(format!("it looks like {name}, but {error}"))
    })?;
    check_all_used(state, &name, &graph)?;
    Ok((name, graph))
}

/// A network with a tensor too many computes something else than the graph that was built.
fn check_all_used(
    state: &StateDict,
    architecture: &str,
    graph: &GraphBuilder,
) -> Result<(), LoadErrorKind> {
    let used: BTreeSet<&str> = graph
        .initializers
        .keys()
        .filter_map(|id| graph.values.get(id.index()))
        .map(|value| value.name.as_str())
        .collect();
    let unused: Vec<&str> = state.names().filter(|name| !used.contains(name)).collect();
    if unused.is_empty() {
        return Ok(());
    }
    Err(LoadErrorKind::UnknownArchitecture(format!(
        "it looks like {architecture}, but {} tensors have no place in it ({}); {EXPORT_HINT}",
        unused.len(),
        quoted(&unused)
    )))
}

fn unknown_architecture(state: &StateDict) -> LoadErrorKind {
    let names: Vec<&str> = state.names().collect();
    LoadErrorKind::UnknownArchitecture(format!(
        "the state dict of {} floating-point tensors ({}) has no graph, and its names and shapes match \
         none of the known architectures: {FAMILIES}; {EXPORT_HINT}",
        state.len(),
        quoted(&names)
    ))
}

/// The first names in quotes, with an ellipsis if there are more.
fn quoted(names: &[&str]) -> String {
    let mut list: Vec<String> = names
        .iter()
        .take(NAMES_IN_MESSAGE)
        .map(|name| format!("{name:?}"))
        .collect();
    if names.len() > NAMES_IN_MESSAGE {
        list.push("…".to_owned());
    }
    list.join(", ")
}

#[cfg(test)]
mod tests;
