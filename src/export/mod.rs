//! Plans as files that runtimes execute.
//!
//! [`fit`](crate::plan::fit) makes a plan fit a target; [`TunedNetwork`] is the network with what was
//! tuned on calibration data; [`quantize_layers`] computes codes, grids and biases; [`onnx_model`] writes them. [`as_stored`] is the network as the file computes it, for
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
mod quantized;
mod tensors;
mod verify;

use std::path::Path;

pub use companions::{
    Companion, StoredNetwork, aimet_encodings, companion_notes, companions, layer_table,
    model_explorer,
};
pub use error::ExportError;
pub use import::{aimet_plan, is_aimet_encodings, stored_plan};
pub use onnx_qdq::OnnxModel;
pub use quantized::{
    IntegerBias, QuantizedLayer, TunedNetwork, as_stored, nudged, prepare_stored, quantize_layers,
};
pub use verify::{
    Level, LevelResult, OutputDifference, Runtime, Verification, find_interpreter, verify,
};

use crate::model::{Graph, Layer, ModelFormat, OnnxFile};
use crate::plan::TargetProfile;

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
