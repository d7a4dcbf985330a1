//! What a node computes, in the form of the newest opset.
//!
//! Readers bring older forms to this one: parameters that became inputs in a later opset (`axes` of
//! `Squeeze`, `min` of `Clip`, `starts` of `Slice`, …) are inputs here, as initializers.
//! Definitions: <https://onnx.ai/onnx/operators/>.

/// Spatial padding of a convolution or pooling window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Padding {
    /// `[begin of axis 0, begin of axis 1, …, end of axis 0, end of axis 1, …]`; empty means zero.
    Explicit(Vec<usize>),
    /// Output length `ceil(input / stride)`, the odd element at the end.
    SameUpper,
    /// Output length `ceil(input / stride)`, the odd element at the beginning.
    SameLower,
}

/// Attributes of `Conv`. Weight `[out, in / groups, k…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Window step per spatial axis; empty means 1.
    pub strides: Vec<usize>,
    /// Zero padding.
    pub padding: Padding,
    /// Distance of kernel elements per spatial axis; empty means 1.
    pub dilations: Vec<usize>,
    /// Number of groups; divides both channel counts.
    pub groups: usize,
}

/// Attributes of `ConvTranspose`. Weight `[in, out / groups, k…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// The convolution that this is the transpose of.
    pub conv: Conv,
    /// Extra length at the end of each spatial axis; empty means 0.
    pub output_padding: Vec<usize>,
    /// Forced spatial output shape; the padding follows from it.
    pub output_shape: Option<Vec<usize>>,
}

/// Attributes of `MaxPool` and `AveragePool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Window length per spatial axis.
    pub kernel: Vec<usize>,
    /// Window step per spatial axis; empty means 1.
    pub strides: Vec<usize>,
    /// Padding: −∞ for the maximum, ignored or zero for the average.
    pub padding: Padding,
    /// Distance of window elements per spatial axis; empty means 1.
    pub dilations: Vec<usize>,
    /// Round the output length up.
    pub ceil_mode: bool,
    /// Count padded elements in the average.
    pub count_include_pad: bool,
}

/// Element-wise functions of one input.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the functions")]
pub enum Unary {
    Abs,
    Ceil,
    Elu { alpha: f32 },
    Erf,
    Exp,
    Floor,
    Gelu { tanh_approximation: bool },
    HardSigmoid { alpha: f32, beta: f32 },
    HardSwish,
    LeakyRelu { alpha: f32 },
    Log,
    Neg,
    Not,
    Reciprocal,
    Relu,
    Round,
    Sigmoid,
    Sign,
    Softplus,
    Sqrt,
    Tanh,
}

/// Element-wise functions of two inputs with broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the functions")]
pub enum Binary {
    Add,
    And,
    Div,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// Python's remainder for integers (`fmod = 0`), C's for `fmod = 1`.
    Mod {
        fmod: bool,
    },
    Mul,
    Or,
    Pow,
    PRelu,
    Sub,
}

/// Element-wise functions of any number of inputs with broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the functions")]
pub enum Variadic {
    Max,
    Mean,
    Min,
    Sum,
}

/// Reductions over the axes of input 1; all axes if it is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the functions")]
pub enum Reduction {
    L2,
    Max,
    Mean,
    Min,
    Prod,
    Sum,
    SumSquare,
}

/// How `Pad` fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the operator")]
pub enum PadMode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

/// Interpolation of `Resize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the operator")]
pub enum ResizeMode {
    Nearest,
    Linear,
    Cubic,
}

/// How `Resize` maps an output coordinate to an input coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the operator")]
pub enum CoordinateTransform {
    AlignCorners,
    Asymmetric,
    HalfPixel,
    PytorchHalfPixel,
}

/// How nearest-neighbour `Resize` rounds a coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the operator")]
pub enum NearestRounding {
    Ceil,
    Floor,
    RoundPreferCeil,
    RoundPreferFloor,
}

/// Attributes of `Resize`; inputs are `X, roi, scales, sizes` as in opset 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Interpolation.
    pub mode: ResizeMode,
    /// Coordinate mapping.
    pub coordinates: CoordinateTransform,
    /// Rounding of nearest-neighbour coordinates.
    pub rounding: NearestRounding,
}

/// A scalar constant, for `ConstantOfShape`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Scalar {
    F32(f32),
    I64(i64),
    Bool(bool),
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "operators and attributes are those of the ONNX operator pages"
)]
pub enum Op {
    AveragePool(Pool),
    BatchNormalization {
        epsilon: f32,
    },
    Binary(Binary),
    Cast {
        to: super::graph::ElementType,
    },
    /// Inputs `x, min, max`, the last two optional.
    Clip,
    Concat {
        axis: i64,
    },
    ConstantOfShape {
        value: Scalar,
    },
    /// Inputs `x, weight, bias?`.
    Conv(Conv),
    /// Inputs `x, weight, bias?`.
    ConvTranspose(ConvTranspose),
    Einsum {
        equation: String,
    },
    Expand,
    Flatten {
        axis: i64,
    },
    Gather {
        axis: i64,
    },
    Gemm {
        alpha: f32,
        beta: f32,
        trans_a: bool,
        trans_b: bool,
    },
    GlobalAveragePool,
    GlobalMaxPool,
    /// Also stands for `Dropout` at inference.
    Identity,
    LayerNormalization {
        axis: i64,
        epsilon: f32,
    },
    LogSoftmax {
        axis: i64,
        coerce_to_2d: bool,
    },
    Lrn {
        alpha: f32,
        beta: f32,
        bias: f32,
        size: usize,
    },
    MatMul,
    MaxPool(Pool),
    /// Inputs `x, pads, value?, axes?`.
    Pad {
        mode: PadMode,
    },
    Range,
    /// Inputs `x, axes?`.
    Reduce {
        reduction: Reduction,
        keep_dims: bool,
        noop_with_empty_axes: bool,
    },
    Reshape {
        allow_zero: bool,
    },
    Resize(Resize),
    Shape {
        start: i64,
        end: Option<i64>,
    },
    /// Inputs `x, starts, ends, axes?, steps?`.
    Slice,
    /// `coerce_to_2d` is the meaning before opset 13: all axes from `axis` on are one.
    Softmax {
        axis: i64,
        coerce_to_2d: bool,
    },
    /// Inputs `x, lengths?`; without lengths, equal parts, one per output.
    Split {
        axis: i64,
    },
    /// Inputs `x, axes?`.
    Squeeze,
    Tile,
    /// `None` reverses the axes.
    Transpose {
        perm: Option<Vec<usize>>,
    },
    Unary(Unary),
    /// Inputs `x, axes`.
    Unsqueeze,
    Variadic(Variadic),
    Where,
    /// The engine cannot run this; it is listed in the coverage with the reason.
    Unsupported {
        op_type: String,
        reason: String,
    },
}

impl Op {
    /// The ONNX name of the operator.
    pub fn name(&self) -> &str {
        match self {
            Self::AveragePool(_) => "AveragePool",
            Self::BatchNormalization { .. } => "BatchNormalization",
            Self::Binary(op) => op.name(),
            Self::Cast { .. } => "Cast",
            Self::Clip => "Clip",
            Self::Concat { .. } => "Concat",
            Self::ConstantOfShape { .. } => "ConstantOfShape",
            Self::Conv(_) => "Conv",
            Self::ConvTranspose(_) => "ConvTranspose",
            Self::Einsum { .. } => "Einsum",
            Self::Expand => "Expand",
            Self::Flatten { .. } => "Flatten",
            Self::Gather { .. } => "Gather",
            Self::Gemm { .. } => "Gemm",
            Self::GlobalAveragePool => "GlobalAveragePool",
            Self::GlobalMaxPool => "GlobalMaxPool",
            Self::Identity => "Identity",
            Self::LayerNormalization { .. } => "LayerNormalization",
            Self::LogSoftmax { .. } => "LogSoftmax",
            Self::Lrn { .. } => "LRN",
            Self::MatMul => "MatMul",
            Self::MaxPool(_) => "MaxPool",
            Self::Pad { .. } => "Pad",
            Self::Range => "Range",
            Self::Reduce { reduction, .. } => reduction.name(),
            Self::Reshape { .. } => "Reshape",
            Self::Resize(_) => "Resize",
            Self::Shape { .. } => "Shape",
            Self::Slice => "Slice",
            Self::Softmax { .. } => "Softmax",
            Self::Split { .. } => "Split",
            Self::Squeeze => "Squeeze",
            Self::Tile => "Tile",
            Self::Transpose { .. } => "Transpose",
            Self::Unary(op) => op.name(),
            Self::Unsqueeze => "Unsqueeze",
            Self::Variadic(op) => op.name(),
            Self::Where => "Where",
            Self::Unsupported { op_type, .. } => op_type,
        }
    }
}

impl Unary {
    /// The ONNX name of the operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abs => "Abs",
            Self::Ceil => "Ceil",
            Self::Elu { .. } => "Elu",
            Self::Erf => "Erf",
            Self::Exp => "Exp",
            Self::Floor => "Floor",
            Self::Gelu { .. } => "Gelu",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Log => "Log",
            Self::Neg => "Neg",
            Self::Not => "Not",
            Self::Reciprocal => "Reciprocal",
            Self::Relu => "Relu",
            Self::Round => "Round",
            Self::Sigmoid => "Sigmoid",
            Self::Sign => "Sign",
            Self::Softplus => "Softplus",
            Self::Sqrt => "Sqrt",
            Self::Tanh => "Tanh",
        }
    }
}

impl Binary {
    /// The ONNX name of the operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::And => "And",
            Self::Div => "Div",
            Self::Equal => "Equal",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Mod { .. } => "Mod",
            Self::Mul => "Mul",
            Self::Or => "Or",
            Self::Pow => "Pow",
            Self::PRelu => "PRelu",
            Self::Sub => "Sub",
        }
    }
}

impl Variadic {
    /// The ONNX name of the operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "Max",
            Self::Mean => "Mean",
            Self::Min => "Min",
            Self::Sum => "Sum",
        }
    }
}

impl Reduction {
    /// The ONNX name of the operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::L2 => "ReduceL2",
            Self::Max => "ReduceMax",
            Self::Mean => "ReduceMean",
            Self::Min => "ReduceMin",
            Self::Prod => "ReduceProd",
            Self::Sum => "ReduceSum",
            Self::SumSquare => "ReduceSumSquare",
        }
    }
}
