//! What a network is, and how it is read from a file.
//!
//! [`Graph`] is the network: immutable after loading, nodes in topological order, names from the file.
//! This layer knows nothing of quantization, datasets or screens.

mod batch_norm_folding;
mod checkpoint;
mod constant_folding;
mod coverage;
mod error;
mod file_content;
mod graph;
mod initializer;
mod layer;
mod load;
mod onnx;
mod op;
mod shape_inference;

pub use checkpoint::{read_pth, read_safetensors};
pub use coverage::{CoverageRow, Status, coverage};
pub use error::{GraphError, GraphErrorKind, LoadError, LoadErrorKind};
pub use graph::{
    Dim, ElementType, Graph, GraphBuilder, Metadata, ModelFormat, Node, NodeId, Value, ValueId,
};
pub use initializer::Initializer;
pub use layer::{Layer, LayerId, layers};
pub use load::load;
pub(crate) use onnx::{
    OnnxFile, captured_values, dequantized_file, node_names, proto as onnx_proto,
};
pub use onnx::{StoredGrids, StoredLayer, read_onnx, stored_grids};
pub use op::{
    Binary, Conv, ConvTranspose, CoordinateTransform, NearestRounding, Op, PadMode, Padding, Pool,
    Reduction, Resize, ResizeMode, Scalar, Unary, Variadic,
};
pub use shape_inference::{Shapes, fixed_batch, infer_shapes, input_shape};

#[cfg(test)]
pub(crate) mod testing;
