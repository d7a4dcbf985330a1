//! A model file in memory, and the arithmetic that it stands for.

use prost::bytes::Bytes;

use super::companions::Companion;
use super::error::ExportError;
use super::quantized::{QuantizedLayer, as_stored};
use super::tflite::StoredConstant;
use crate::engine::{Arithmetic, EdgeGrids, RunError};
use crate::model::{Graph, GraphError, Layer, NodeId, Op, Unary};

/// A model file in memory, and what should be known of it.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The content of the file.
    pub bytes: Bytes,
    /// Bytes of the constants: codes, biases and what stays float; in ONNX scales and zero points too.
    pub constant_bytes: u64,
    /// Opset of the default domain, for ONNX.
    pub opset: Option<i64>,
    /// What differs from the original apart from the quantizers, a sentence each.
    pub notes: Vec<String>,
    /// Files that belong to it whatever else is written.
    pub beside: Vec<Companion>,
    /// How the file computes apart from what the plan says.
    pub arithmetic: StoredArithmetic,
}

/// How a file computes apart from what the plan says of its layers.
#[derive(Clone, Debug, Default)]
pub struct StoredArithmetic {
    /// What sums and functions are computed with.
    pub runtime: Arithmetic,
    /// Grids of the values between operators, and how they come to their codes.
    pub edges: EdgeGrids,
    /// Constant operands on grids of their own.
    pub constants: Vec<StoredConstant>,
    /// Slopes below zero of `LeakyRelu` nodes, as their kernels have them.
    pub slopes: Vec<(NodeId, f32)>,
    /// Whether images are fed with their channels last.
    pub inputs_channels_last: bool,
    /// Which outputs have their channels last; none for files in the layout of the graph.
    pub outputs_channels_last: Vec<bool>,
}

impl StoredArithmetic {
    /// The network with the constants as they are stored, to be run in place of the original.
    ///
    /// # Errors
    /// None that the graph did not have before.
    pub fn graph(
        &self,
        graph: &Graph,
        layers: &[Layer],
        quantized: &[QuantizedLayer],
    ) -> Result<Graph, ExportError> {
        let stored = as_stored(graph, layers, quantized)?;
        if self.constants.is_empty() && self.slopes.is_empty() {
            return Ok(stored);
        }
        let metadata = stored.metadata().clone();
        let mut builder = stored.into_builder();
        for (node, alpha) in &self.slopes {
            if let Some(node) = builder.nodes.get_mut(node.index()) {
                node.op = Op::Unary(Unary::LeakyRelu { alpha: *alpha });
            }
        }
        for constant in &self.constants {
            let slot = |builder: &crate::model::GraphBuilder| {
                let node = builder.nodes.get(constant.node.index())?;
                node.input(constant.input)
            };
            let Some(old) = slot(&builder) else { continue };
            let Some(dims) = builder
                .initializers
                .get(&old)
                .map(|one| one.dims().to_vec())
            else {
                continue;
            };
            let values = constant.values.clone();
            let tensor = candle_core::Tensor::from_vec(values, dims, &candle_core::Device::Cpu)
                .map_err(RunError::from)?;
            let own = builder.values.get(old.index());
            let name = own.map_or("constant", |value| value.name.as_str());
            let name = format!("{name}_quantized");
            let id = builder.fresh_value(&name);
            builder.initializers.insert(id, tensor.into());
            if let Some(slot) = builder
                .nodes
                .get_mut(constant.node.index())
                .and_then(|node| node.inputs.get_mut(constant.input))
            {
                *slot = Some(id);
            }
        }
        builder
            .finish(metadata)
            .map_err(|error: GraphError| ExportError::Message(error.to_string()))
    }
}
