//! Plans as files that runtimes execute.
//!
//! [`fit`](crate::plan::fit) makes a plan fit a target; [`TunedNetwork`] is the network with what was
//! tuned on calibration data; [`quantize_layers`] computes codes, grids and biases; [`model_file()`] writes
//! them. [`StoredArithmetic`] is what the file computes beside the plan, for comparing the two.

mod companions;
mod error;
mod import;
mod import_overrides;
mod insertion;
mod layer_check;
mod liveness;
mod matmul_nbits;
mod model_file;
mod onnx_message;
mod onnx_nodes;
mod onnx_qdq;
mod openvino;
mod protobuf;
mod pytorch;
mod quantized;
mod report;
mod runtime;
mod runtime_kernels;
mod second_opinion;
mod spelled_out;
mod tensors;
mod tflite;
mod tflite_recipe;
mod verify;

use std::path::Path;

pub use companions::{
    Companion, StoredNetwork, aimet_encodings, companion_notes, companions, layer_table,
    model_explorer,
};
pub use error::ExportError;
pub use import::{foreign_plan, stored_plan};
pub use layer_check::LayerCheck;
pub use matmul_nbits::choose_matmul_nbits;
pub use model_file::{ModelFile, StoredArithmetic};
pub use quantized::{IntegerBias, QuantizedLayer, TunedNetwork, nudged, quantize_layers};
pub use report::{DataFacts, ReportSubject, TargetFacts, report_html};
pub use runtime::{Level, Runtime, find_interpreter};
pub use second_opinion::{Opinion, SecondOpinion};
pub use tflite::{Refusal, StoredConstant};
pub use verify::{
    LevelResult, OrderedComparison, OutputDifference, RuntimeOutcome, RuntimeResult, Simulation,
    Verification, VerifyRequest, verify,
};

use crate::engine::{Arithmetic, Ranges};
use crate::model::{Graph, Layer, ModelFormat, OnnxFile, ValueId};
use crate::plan::{FileFormat, QuantizedTensors, TargetProfile};

/// Writes the network of the model file at `path` with the quantizers of every layer.
///
/// `ranges` are those of the values in [`values_to_observe`] too. `origin` is kept in the file.
///
/// # Errors
/// The model file is not what was opened any more, a layer that is not in it, an operator that cannot be
/// written for the target or that PyTorch has no counterpart of, a network that computes in half precision, or more than 2 GB.
pub fn model_file(
    path: &Path,
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    ranges: Option<&Ranges>,
    profile: &TargetProfile,
    origin: &str,
) -> Result<ModelFile, ExportError> {
    match profile.file {
        FileFormat::Onnx => {}
        FileFormat::Tflite => {
            return tflite::tflite_file(graph, layers, quantized, ranges, profile, origin);
        }
        FileFormat::SafeTensors => {
            let written = pytorch::pytorch_model(graph, layers, quantized, origin)?;
            return Ok(ModelFile {
                bytes: written.weights.into(),
                constant_bytes: written.constant_bytes,
                opset: None,
                notes: Vec::new(),
                beside: written.scripts,
                arithmetic: StoredArithmetic {
                    runtime: Arithmetic::PyTorch,
                    ..StoredArithmetic::default()
                },
            });
        }
    }
    let mut file = match graph.metadata().format {
        ModelFormat::Onnx => Some(OnnxFile::open(path, &graph.metadata().sha256)?),
        ModelFormat::SafeTensors | ModelFormat::Pth => None,
    };
    let mut written = onnx_qdq::onnx_qdq(graph, layers, quantized, file.as_mut(), profile, origin)?;
    if profile.name == "openvino" {
        written.arithmetic = openvino::openvino_arithmetic(graph, layers, quantized);
    }
    Ok(written)
}

/// Values whose ranges a target needs beside those of the layers' inputs.
pub fn values_to_observe(graph: &Graph, profile: &TargetProfile) -> Vec<ValueId> {
    match (profile.file, profile.tensors) {
        (FileFormat::Tflite, QuantizedTensors::EveryEdge) => tflite::values_to_observe(graph),
        _ => Vec::new(),
    }
}
