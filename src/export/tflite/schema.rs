//! Numbers of the public `TFLite` schema: fields of tables, types, operators.
//!
//! Source: `tensorflow/compiler/mlir/lite/schema/schema.fbs`, version 3 with file identifier `TFL3`.
//! A field of a table has the virtual offset `4 + 2 · id`, where `id` counts the fields in the order of
//! the schema; a union takes two, its type and its value.

use flatbuffers::VOffsetT;

/// Version of the schema.
pub(super) const VERSION: u32 = 3;
/// File identifier.
pub(super) const IDENTIFIER: &str = "TFL3";
/// Buffers start at a multiple of this many bytes (`force_align: 16`).
pub(super) const BUFFER_ALIGNMENT: usize = 16;

/// Virtual offset of a field.
pub(super) const fn slot(id: VOffsetT) -> VOffsetT {
    4 + 2 * id
}

/// Fields of `Model`.
pub(super) mod model {
    use super::{VOffsetT, slot};
    pub(in super::super) const VERSION: VOffsetT = slot(0);
    pub(in super::super) const OPERATOR_CODES: VOffsetT = slot(1);
    pub(in super::super) const SUBGRAPHS: VOffsetT = slot(2);
    pub(in super::super) const DESCRIPTION: VOffsetT = slot(3);
    pub(in super::super) const BUFFERS: VOffsetT = slot(4);
    pub(in super::super) const SIGNATURE_DEFS: VOffsetT = slot(7);
}

/// Fields of `OperatorCode`.
pub(super) mod operator_code {
    use super::{VOffsetT, slot};
    pub(in super::super) const DEPRECATED_BUILTIN_CODE: VOffsetT = slot(0);
    pub(in super::super) const VERSION: VOffsetT = slot(2);
    pub(in super::super) const BUILTIN_CODE: VOffsetT = slot(3);
}

/// Fields of `SubGraph`.
pub(super) mod sub_graph {
    use super::{VOffsetT, slot};
    pub(in super::super) const TENSORS: VOffsetT = slot(0);
    pub(in super::super) const INPUTS: VOffsetT = slot(1);
    pub(in super::super) const OUTPUTS: VOffsetT = slot(2);
    pub(in super::super) const OPERATORS: VOffsetT = slot(3);
    pub(in super::super) const NAME: VOffsetT = slot(4);
}

/// Fields of `Tensor`.
pub(super) mod tensor {
    use super::{VOffsetT, slot};
    pub(in super::super) const SHAPE: VOffsetT = slot(0);
    pub(in super::super) const TYPE: VOffsetT = slot(1);
    pub(in super::super) const BUFFER: VOffsetT = slot(2);
    pub(in super::super) const NAME: VOffsetT = slot(3);
    pub(in super::super) const QUANTIZATION: VOffsetT = slot(4);
    pub(in super::super) const SHAPE_SIGNATURE: VOffsetT = slot(7);
    pub(in super::super) const HAS_RANK: VOffsetT = slot(8);
}

/// Fields of `QuantizationParameters`.
pub(super) mod quantization {
    use super::{VOffsetT, slot};
    pub(in super::super) const SCALE: VOffsetT = slot(2);
    pub(in super::super) const ZERO_POINT: VOffsetT = slot(3);
    pub(in super::super) const QUANTIZED_DIMENSION: VOffsetT = slot(6);
}

/// Fields of `Buffer`.
pub(super) mod buffer {
    use super::{VOffsetT, slot};
    pub(in super::super) const DATA: VOffsetT = slot(0);
}

/// Fields of `Operator`.
pub(super) mod operator {
    use super::{VOffsetT, slot};
    pub(in super::super) const OPCODE_INDEX: VOffsetT = slot(0);
    pub(in super::super) const INPUTS: VOffsetT = slot(1);
    pub(in super::super) const OUTPUTS: VOffsetT = slot(2);
    pub(in super::super) const BUILTIN_OPTIONS_TYPE: VOffsetT = slot(3);
    pub(in super::super) const BUILTIN_OPTIONS: VOffsetT = slot(4);
}

/// Fields of `SignatureDef` and `TensorMap`.
pub(super) mod signature {
    use super::{VOffsetT, slot};
    pub(in super::super) const INPUTS: VOffsetT = slot(0);
    pub(in super::super) const OUTPUTS: VOffsetT = slot(1);
    pub(in super::super) const KEY: VOffsetT = slot(2);
    pub(in super::super) const MAP_NAME: VOffsetT = slot(0);
    pub(in super::super) const MAP_TENSOR: VOffsetT = slot(1);
}

/// Type of a tensor's elements (`TensorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementKind {
    F32 = 0,
    I32 = 2,
    I64 = 4,
    I16 = 7,
    I8 = 9,
    I4 = 17,
}

/// How a window goes over the border (`Padding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowPadding {
    Same = 0,
    Valid = 1,
}

/// Function that an operator applies to its result (`ActivationFunctionType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fused {
    #[default]
    None = 0,
    Relu = 1,
    ReluN1To1 = 2,
    Relu6 = 3,
}

/// An operator (`BuiltinOperator`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Builtin {
    Add = 0,
    AveragePool2d = 1,
    Concatenation = 2,
    Conv2d = 3,
    DepthwiseConv2d = 4,
    FullyConnected = 9,
    Logistic = 14,
    MaxPool2d = 17,
    Mul = 18,
    Relu = 19,
    ReluN1To1 = 20,
    Relu6 = 21,
    Reshape = 22,
    ResizeBilinear = 23,
    Softmax = 25,
    Tanh = 28,
    Pad = 34,
    Transpose = 39,
    Mean = 40,
    Sub = 41,
    StridedSlice = 45,
    PadV2 = 60,
    TransposeConv = 67,
    ResizeNearestNeighbor = 97,
    LeakyRelu = 98,
    Quantize = 114,
    HardSwish = 117,
}
