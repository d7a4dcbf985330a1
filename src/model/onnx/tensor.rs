//! Constant tensors of a file, converted to the engine's types.

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use prost::bytes::Bytes;

use super::external_data::ExternalData;
use super::proto::{DATA_LOCATION_EXTERNAL, TensorProto, data_type};
use crate::model::error::LoadErrorKind;
use crate::model::file_content::FileContent;
use crate::model::{ElementType, Initializer};

/// Why a tensor cannot be read.
#[derive(Debug)]
pub(crate) enum TensorError {
    /// The element type has no counterpart in [`ElementType`].
    UnsupportedType(String),
    /// The tensor contradicts itself or the file.
    Invalid(LoadErrorKind),
}

impl TensorError {
    pub(crate) fn malformed(reason: String) -> Self {
        Self::Invalid(LoadErrorKind::Malformed {
            format: "ONNX",
            reason,
        })
    }
}

impl std::fmt::Display for TensorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnsupportedType(name) => write!(f, "element type {name} is not supported"),
            Self::Invalid(kind) => write!(f, "{kind}"),
        }
    }
}

/// The element type with this number in the format, or its name if it has no counterpart.
pub(crate) fn element_type(number: i32) -> Result<ElementType, String> {
    Ok(match number {
        data_type::FLOAT => ElementType::F32,
        data_type::UINT8 => ElementType::U8,
        data_type::INT8 => ElementType::I8,
        data_type::UINT16 => ElementType::U16,
        data_type::INT16 => ElementType::I16,
        data_type::INT32 => ElementType::I32,
        data_type::INT64 => ElementType::I64,
        data_type::BOOL => ElementType::Bool,
        data_type::FLOAT16 => ElementType::F16,
        data_type::DOUBLE => ElementType::F64,
        data_type::UINT32 => ElementType::U32,
        data_type::UINT64 => ElementType::U64,
        data_type::BFLOAT16 => ElementType::BF16,
        8 => return Err("string".to_owned()),
        14 | 15 => return Err("complex".to_owned()),
        17..=20 | 24 => return Err("float8".to_owned()),
        21 => return Err("uint4".to_owned()),
        22 => return Err("int4".to_owned()),
        23 => return Err("float4".to_owned()),
        other => return Err(format!("number {other}")),
    })
}

/// Reads a tensor of the file `model`: floats as `F32`, integers as `I64`, booleans as `U8`.
///
/// Raw data stay in their file until they are used. Nothing is allocated before the number of
/// elements has been found in the file.
pub(crate) fn read_tensor(
    proto: TensorProto,
    model: &FileContent,
    external: &mut ExternalData,
) -> Result<(Initializer, ElementType), TensorError> {
    let element_type = element_type(proto.data_type).map_err(TensorError::UnsupportedType)?;
    let dims = checked_dims(&proto.dims)?;
    let elements = element_count(&dims)?;
    let initializer = if proto.data_location == DATA_LOCATION_EXTERNAL {
        let content = external
            .bytes(&proto.external_data)
            .map_err(TensorError::Invalid)?;
        from_raw(content, element_type, &dims)
    } else if let Some(bytes) = raw_data(&proto) {
        from_raw(model.part(bytes.clone()), element_type, &dims)
    } else {
        from_typed(proto, element_type, elements, dims).map(Initializer::from)
    }?;
    Ok((initializer, element_type))
}

/// Some writers set `raw_data` to nothing and use a typed list.
fn raw_data(proto: &TensorProto) -> Option<&Bytes> {
    let no_typed_data = proto.float_data.is_empty()
        && proto.int32_data.is_empty()
        && proto.int64_data.is_empty()
        && proto.double_data.is_empty()
        && proto.uint64_data.is_empty();
    proto
        .raw_data
        .as_ref()
        .filter(|bytes| !bytes.is_empty() || no_typed_data)
}

fn checked_dims(dims: &[i64]) -> Result<Vec<usize>, TensorError> {
    dims.iter()
        .map(|dim| {
            usize::try_from(*dim).map_err(|_out_of_range| {
                TensorError::malformed(format!(
                    "the shape {dims:?} has a negative length; export the model again"
                ))
            })
        })
        .collect()
}

fn element_count(dims: &[usize]) -> Result<usize, TensorError> {
    dims.iter()
        .try_fold(1usize, |product, dim| product.checked_mul(*dim))
        .ok_or_else(|| {
            TensorError::malformed(format!(
                "the shape {dims:?} has more elements than a file can hold; export the model again"
            ))
        })
}

fn from_raw(
    content: FileContent,
    element_type: ElementType,
    dims: &[usize],
) -> Result<Initializer, TensorError> {
    let bytes = content.bytes().len();
    Initializer::stored(content, element_type, dims.to_vec()).ok_or_else(|| {
        TensorError::malformed(format!(
            "a tensor of shape {dims:?} and type {} does not fit its {bytes} bytes of data; the file is damaged, download or export it again",
            element_type.name()
        ))
    })
}

fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Lists that need no conversion are moved, not copied.
fn from_typed(
    proto: TensorProto,
    element_type: ElementType,
    elements: usize,
    dims: Vec<usize>,
) -> Result<Tensor, TensorError> {
    let found = match element_type {
        ElementType::F32 => proto.float_data.len(),
        ElementType::F64 => proto.double_data.len(),
        ElementType::I64 => proto.int64_data.len(),
        ElementType::U32 | ElementType::U64 => proto.uint64_data.len(),
        _ => proto.int32_data.len(),
    };
    if found != elements {
        return Err(TensorError::malformed(format!(
            "a tensor of shape {dims:?} and type {} needs {elements} elements, the file has {found}; the file is damaged, download or export it again",
            element_type.name()
        )));
    }
    let narrow = &proto.int32_data;
    match element_type {
        ElementType::F32 => tensor(proto.float_data, dims),
        ElementType::F64 => tensor(proto.double_data.iter().map(|v| *v as f32).collect(), dims),
        ElementType::F16 => {
            let float = |v: &i32| f16::from_bits(*v as u16).to_f32();
            tensor(narrow.iter().map(float).collect(), dims)
        }
        ElementType::BF16 => {
            let float = |v: &i32| bf16::from_bits(*v as u16).to_f32();
            tensor(narrow.iter().map(float).collect(), dims)
        }
        ElementType::I64 => tensor(proto.int64_data, dims),
        ElementType::U32 | ElementType::U64 => {
            let integers = proto.uint64_data.iter().map(|v| saturated(*v)).collect();
            tensor(integers, dims)
        }
        ElementType::Bool => tensor(narrow.iter().map(|v| u8::from(*v != 0)).collect(), dims),
        ElementType::I8
        | ElementType::I16
        | ElementType::I32
        | ElementType::U8
        | ElementType::U16 => tensor(narrow.iter().map(|v| i64::from(*v)).collect(), dims),
    }
}

fn tensor<T: candle_core::WithDType>(
    data: Vec<T>,
    dims: Vec<usize>,
) -> Result<Tensor, TensorError> {
    Tensor::from_vec(data, dims, &Device::Cpu)
        .map_err(|error| TensorError::malformed(error.to_string()))
}
