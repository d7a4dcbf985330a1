//! Plans as files that runtimes execute.
//!
//! [`fit`](crate::plan::fit) makes a plan fit a target; [`quantize_layers`] computes codes, grids and
//! biases; [`onnx_model`] writes them. [`as_stored`] is the network as the file computes it, for
//! comparing the two.

mod companions;
mod error;
mod import;
mod insertion;
mod liveness;
mod onnx_message;
mod onnx_nodes;
mod onnx_qdq;
mod protobuf;
mod pytorch;
mod quantized;
mod report;
mod tensors;
mod verify;

use std::path::Path;

pub use companions::{
    Companion, StoredNetwork, aimet_encodings, companions, layer_table, model_explorer,
};
pub use error::ExportError;
pub use import::{aimet_plan, is_aimet_encodings, stored_plan};
pub use onnx_qdq::OnnxModel;
pub use quantized::{IntegerBias, QuantizedLayer, as_stored, nudged, quantize_layers};
pub use report::{DataFacts, ReportSubject, TargetFacts, report_html};
pub use verify::{
    Level, LevelResult, OutputDifference, Runtime, Verification, find_interpreter, verify,
};

use crate::model::{Graph, Layer, ModelFormat, OnnxFile};
use crate::plan::TargetProfile;

/// A model as the file that a target reads.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The content of the file.
    pub bytes: Vec<u8>,
    /// What its name ends in, for example `.onnx`.
    pub extension: &'static str,
    /// Bytes of the constants in it: codes, scales, zero points, biases and what stays float.
    pub constant_bytes: u64,
    /// Opset of the default domain, for ONNX.
    pub opset: Option<i64>,
    /// What differs from the original apart from the quantizers, a sentence each.
    pub notes: Vec<String>,
    /// Files that belong to it whatever else is written.
    pub beside: Vec<Companion>,
}

/// Writes the network of the model file at `path` in the form that a target reads.
///
/// `origin` is kept in the file's metadata.
///
/// # Errors
/// As for [`onnx_model`]; for PyTorch, operators that it has no counterpart of.
pub fn model_file(
    path: &Path,
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    profile: &TargetProfile,
    origin: &str,
) -> Result<ModelFile, ExportError> {
    if profile.name == "pytorch" {
        let written = pytorch::pytorch_model(graph, layers, quantized, origin)?;
        return Ok(ModelFile {
            bytes: written.weights,
            extension: ".safetensors",
            constant_bytes: written.constant_bytes,
            opset: None,
            notes: Vec::new(),
            beside: written.scripts,
        });
    }
    let written = onnx_model(path, graph, layers, quantized, profile, origin)?;
    Ok(ModelFile {
        bytes: written.bytes.to_vec(),
        extension: ".onnx",
        constant_bytes: written.constant_bytes,
        opset: Some(written.opset),
        notes: written.notes,
        beside: Vec::new(),
    })
}

/// Writes the network of the model file at `path` with the quantizers of every layer.
///
/// `origin` is kept in the file's metadata.
///
/// # Errors
/// The model file is not what was opened any more, a layer that is not in it, an operator that cannot be
/// written in a newer opset, a network that computes in half precision, or more than 2 GB.
pub fn onnx_model(
    path: &Path,
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    profile: &TargetProfile,
    origin: &str,
) -> Result<OnnxModel, ExportError> {
    let mut file = match graph.metadata().format {
        ModelFormat::Onnx => Some(OnnxFile::open(path, &graph.metadata().sha256)?),
        ModelFormat::SafeTensors | ModelFormat::Pth => None,
    };
    onnx_qdq::onnx_qdq(graph, layers, quantized, file.as_mut(), profile, origin)
}
