//! Nodes of a graph as those of an ONNX file of opset 21.
//!
//! Definitions: <https://onnx.ai/onnx/operators/>.

use super::error::ExportError;
use crate::model::onnx_proto::{AttributeProto, NodeProto, TensorProto, attribute_type, data_type};
use crate::model::{
    Binary, Conv, CoordinateTransform, ElementType, Graph, NearestRounding, Node, Op, PadMode,
    Padding, Pool, ResizeMode, Scalar, Shapes, Unary, ValueId,
};

/// The opset that these nodes are of.
pub(super) const OPSET: i64 = 21;

/// A node of the default domain without attributes.
pub(super) fn node(name: &str, op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        name: name.to_owned(),
        op_type: op_type.to_owned(),
        input: owned(inputs),
        output: owned(outputs),
        ..NodeProto::default()
    }
}

/// Adds attributes to a node.
pub(super) trait Attributes: Sized {
    /// Adds one.
    fn with(self, attribute: AttributeProto) -> Self;

    /// Adds an integer.
    fn int(self, name: &str, i: i64) -> Self {
        self.with(AttributeProto {
            i,
            ..attribute(name, attribute_type::INT)
        })
    }

    /// Adds a float.
    fn float(self, name: &str, f: f32) -> Self {
        self.with(AttributeProto {
            f,
            ..attribute(name, attribute_type::FLOAT)
        })
    }

    /// Adds a list of integers, unless it is empty.
    fn ints(self, name: &str, values: &[usize]) -> Self {
        if values.is_empty() {
            return self;
        }
        self.with(AttributeProto {
            ints: values.iter().map(|value| *value as i64).collect(),
            ..attribute(name, attribute_type::INTS)
        })
    }

    /// Adds a text.
    fn string(self, name: &str, text: &str) -> Self {
        self.with(AttributeProto {
            s: text.as_bytes().to_vec(),
            ..attribute(name, attribute_type::STRING)
        })
    }
}

impl Attributes for NodeProto {
    fn with(mut self, attribute: AttributeProto) -> Self {
        self.attribute.push(attribute);
        self
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        kind,
        ..AttributeProto::default()
    }
}

/// The number of an element type in the format.
pub(super) fn type_number(element_type: ElementType) -> i32 {
    match element_type {
        ElementType::F32 => data_type::FLOAT,
        ElementType::F64 => data_type::DOUBLE,
        ElementType::F16 => data_type::FLOAT16,
        ElementType::BF16 => data_type::BFLOAT16,
        ElementType::I8 => data_type::INT8,
        ElementType::I16 => data_type::INT16,
        ElementType::I32 => data_type::INT32,
        ElementType::I64 => data_type::INT64,
        ElementType::U8 => data_type::UINT8,
        ElementType::U16 => data_type::UINT16,
        ElementType::U32 => data_type::UINT32,
        ElementType::U64 => data_type::UINT64,
        ElementType::Bool => data_type::BOOL,
    }
}

/// The nodes that compute what a node of the graph computes, in order.
///
/// # Errors
/// [`ExportError::Node`] for an operator that this program cannot run.
pub(super) fn nodes_of(
    graph: &Graph,
    shapes: &Shapes,
    source: &Node,
) -> Result<Vec<NodeProto>, ExportError> {
    let name_of = |id: ValueId| graph.value(id).name.clone();
    let mut proto = NodeProto {
        name: source.name.clone(),
        op_type: source.op.name().to_owned(),
        input: source
            .inputs
            .iter()
            .map(|input| input.map(name_of).unwrap_or_default())
            .collect(),
        output: source.outputs.iter().copied().map(name_of).collect(),
        ..NodeProto::default()
    };
    while proto.input.last().is_some_and(String::is_empty) {
        proto.input.pop();
    }
    if let Op::Softmax { axis, coerce_to_2d } | Op::LogSoftmax { axis, coerce_to_2d } = source.op {
        let rank = source
            .input(0)
            .and_then(|id| shapes.get(id))
            .map(<[usize]>::len);
        let is_last = axis == -1 || rank.is_some_and(|rank| axis == rank as i64 - 1);
        if coerce_to_2d && !is_last {
            return Ok(flattened(proto, axis));
        }
        return Ok(vec![
            proto.int("axis", if coerce_to_2d { -1 } else { axis }),
        ]);
    }
    with_attributes(proto, source).map(|proto| vec![proto])
}

/// The softmax of old opsets, over all axes from `axis` on.
fn flattened(mut proto: NodeProto, axis: i64) -> Vec<NodeProto> {
    let input = proto.input.first().cloned().unwrap_or_default();
    let output = proto.output.first().cloned().unwrap_or_default();
    let [flat, soft, shape] = ["flat", "soft", "shape"].map(|part| format!("{output}_{part}"));
    let part = |suffix: &str| format!("{}_{suffix}", proto.name);
    let before = node(&part("flatten"), "Flatten", &[&input], &[&flat]).int("axis", axis);
    let sizes = node(&part("shape"), "Shape", &[&input], &[&shape]);
    let after = node(&part("reshape"), "Reshape", &[&soft, &shape], &[&output]);
    proto.input = vec![flat];
    proto.output = vec![soft];
    vec![before, proto.int("axis", -1), sizes, after]
}

fn with_attributes(proto: NodeProto, source: &Node) -> Result<NodeProto, ExportError> {
    Ok(match &source.op {
        Op::AveragePool(pool) => {
            with_pool(proto, pool).int("count_include_pad", i64::from(pool.count_include_pad))
        }
        Op::MaxPool(pool) => with_pool(proto, pool),
        Op::BatchNormalization { epsilon } => proto.float("epsilon", *epsilon),
        Op::Binary(Binary::Mod { fmod: true }) => proto.int("fmod", 1),
        Op::Cast { to } => proto.int("to", i64::from(type_number(*to))),
        Op::Concat { axis } | Op::Flatten { axis } | Op::Gather { axis } => {
            proto.int("axis", *axis)
        }
        Op::ConstantOfShape { value } => with_scalar(proto, *value),
        Op::Conv(conv) => with_conv(proto, conv),
        Op::ConvTranspose(transposed) => {
            let proto = with_conv(proto, &transposed.conv)
                .ints("output_padding", &transposed.output_padding);
            match &transposed.output_shape {
                Some(shape) => proto.ints("output_shape", shape),
                None => proto,
            }
        }
        Op::Einsum { equation } => proto.string("equation", equation),
        Op::Gemm {
            alpha,
            beta,
            trans_a,
            trans_b,
        } => proto
            .float("alpha", *alpha)
            .float("beta", *beta)
            .int("transA", i64::from(*trans_a))
            .int("transB", i64::from(*trans_b)),
        Op::LayerNormalization { axis, epsilon } => {
            proto.int("axis", *axis).float("epsilon", *epsilon)
        }
        Op::Lrn {
            alpha,
            beta,
            bias,
            size,
        } => proto
            .float("alpha", *alpha)
            .float("beta", *beta)
            .float("bias", *bias)
            .int("size", *size as i64),
        Op::Pad { mode } => proto.string("mode", pad_mode(*mode)),
        Op::Reduce {
            keep_dims,
            noop_with_empty_axes,
            ..
        } => proto
            .int("keepdims", i64::from(*keep_dims))
            .int("noop_with_empty_axes", i64::from(*noop_with_empty_axes)),
        Op::Reshape { allow_zero } => proto.int("allowzero", i64::from(*allow_zero)),
        Op::Resize(resize) => proto
            .string("mode", resize_mode(resize.mode))
            .string(
                "coordinate_transformation_mode",
                coordinates(resize.coordinates),
            )
            .string("nearest_mode", rounding(resize.rounding)),
        Op::Shape { start, end } => {
            let proto = proto.int("start", *start);
            match end {
                Some(end) => proto.int("end", *end),
                None => proto,
            }
        }
        Op::Split { axis } => {
            let parts = proto.output.len() as i64;
            let equal = proto.input.len() < 2;
            let proto = proto.int("axis", *axis);
            if equal {
                proto.int("num_outputs", parts)
            } else {
                proto
            }
        }
        Op::Transpose { perm } => proto.ints("perm", perm.as_deref().unwrap_or_default()),
        Op::Unary(unary) => with_unary(proto, *unary),
        Op::Unsupported { reason, .. } => {
            return Err(ExportError::node(
                &source.name,
                format!(
                    "{reason}; it cannot be written in opset {OPSET}, export the model itself in that opset or newer"
                ),
            ));
        }
        _ => proto,
    })
}

fn with_unary(proto: NodeProto, unary: Unary) -> NodeProto {
    match unary {
        Unary::Elu { alpha } | Unary::LeakyRelu { alpha } => proto.float("alpha", alpha),
        Unary::HardSigmoid { alpha, beta } => proto.float("alpha", alpha).float("beta", beta),
        Unary::Gelu {
            tanh_approximation: true,
        } => proto.string("approximate", "tanh"),
        _ => proto,
    }
}

fn with_padding(proto: NodeProto, padding: &Padding) -> NodeProto {
    match padding {
        Padding::Explicit(pads) => proto.ints("pads", pads),
        Padding::SameUpper => proto.string("auto_pad", "SAME_UPPER"),
        Padding::SameLower => proto.string("auto_pad", "SAME_LOWER"),
    }
}

fn with_conv(proto: NodeProto, conv: &Conv) -> NodeProto {
    with_padding(proto, &conv.padding)
        .ints("strides", &conv.strides)
        .ints("dilations", &conv.dilations)
        .int("group", conv.groups as i64)
}

fn with_pool(proto: NodeProto, pool: &Pool) -> NodeProto {
    with_padding(proto, &pool.padding)
        .ints("kernel_shape", &pool.kernel)
        .ints("strides", &pool.strides)
        .ints("dilations", &pool.dilations)
        .int("ceil_mode", i64::from(pool.ceil_mode))
}

fn with_scalar(proto: NodeProto, value: Scalar) -> NodeProto {
    let (number, data) = match value {
        Scalar::F32(value) => (data_type::FLOAT, value.to_le_bytes().to_vec()),
        Scalar::I64(value) => (data_type::INT64, value.to_le_bytes().to_vec()),
        Scalar::Bool(value) => (data_type::BOOL, vec![u8::from(value)]),
    };
    let tensor = TensorProto {
        dims: vec![1],
        data_type: number,
        raw_data: Some(data.into()),
        ..TensorProto::default()
    };
    proto.with(AttributeProto {
        t: Some(tensor),
        ..attribute("value", attribute_type::TENSOR)
    })
}

fn pad_mode(mode: PadMode) -> &'static str {
    match mode {
        PadMode::Constant => "constant",
        PadMode::Edge => "edge",
        PadMode::Reflect => "reflect",
        PadMode::Wrap => "wrap",
    }
}

fn resize_mode(mode: ResizeMode) -> &'static str {
    match mode {
        ResizeMode::Nearest => "nearest",
        ResizeMode::Linear => "linear",
        ResizeMode::Cubic => "cubic",
    }
}

fn coordinates(coordinates: CoordinateTransform) -> &'static str {
    match coordinates {
        CoordinateTransform::AlignCorners => "align_corners",
        CoordinateTransform::Asymmetric => "asymmetric",
        CoordinateTransform::HalfPixel => "half_pixel",
        CoordinateTransform::PytorchHalfPixel => "pytorch_half_pixel",
    }
}

fn rounding(rounding: NearestRounding) -> &'static str {
    match rounding {
        NearestRounding::Ceil => "ceil",
        NearestRounding::Floor => "floor",
        NearestRounding::RoundPreferCeil => "round_prefer_ceil",
        NearestRounding::RoundPreferFloor => "round_prefer_floor",
    }
}
