//! A network as a module of PyTorch: weights in a `.safetensors` file and a script that builds it.
//!
//! The script is plain code: a line for each layer with its attributes, and a line for each node of the
//! network. Layers hold integer weights with their scales and zero points and quantize their input.
//! Convolutions of codes add up whole numbers and scale the sums, as the simulation does; what else there is
//! computes in float with what the codes stand for. The layout of the weights is told in [`weights`].

mod calls;
mod packing;
mod paths;
mod requantize;
mod resampling;
mod scope;
mod script;
mod weights;
mod windows;

use super::companions::Companion;
use super::error::ExportError;
use super::quantized::QuantizedLayer;
use crate::model::{Graph, Layer};
use script::Script;
use weights::Tensors;

/// Both files, and what should be known of them.
#[derive(Clone, Debug)]
pub(super) struct PytorchModel {
    /// The content of the `.safetensors` file.
    pub weights: Vec<u8>,
    /// Bytes of the tensors in it.
    pub constant_bytes: u64,
    /// The script that builds the network, and settings for PyTorch's own quantizers.
    pub scripts: Vec<Companion>,
}

/// Writes the network with the weights and quantizers of every layer.
///
/// `origin` is kept in the file's metadata.
///
/// # Errors
/// Operators that PyTorch has no counterpart of, all in one message; a constant that cannot be read.
pub(super) fn pytorch_model(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    origin: &str,
) -> Result<PytorchModel, ExportError> {
    let script = Script::of(graph, layers, quantized)?;
    let mut tensors = Tensors::default();
    for ((layer, one), path) in layers.iter().zip(quantized).zip(&script.layer_paths) {
        if let Some(path) = path {
            tensors.layer(graph, layer, one, path)?;
        }
    }
    for (id, path) in &script.constants {
        tensors.constant(graph, *id, path)?;
    }
    let settings = requantize::settings(layers, quantized, &script.layer_paths);
    Ok(PytorchModel {
        weights: tensors.file(&graph.metadata().name, origin)?,
        constant_bytes: tensors.size_bytes(),
        scripts: vec![
            Companion {
                suffix: ".py",
                text: script.text,
            },
            settings,
        ],
    })
}
