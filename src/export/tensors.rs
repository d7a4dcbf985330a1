//! Codes, scales and other constants as tensors of an ONNX file.

use half::{bf16, f16};

use super::error::ExportError;
use super::onnx_nodes::type_number;
use crate::model::onnx_proto::{TensorProto, data_type};
use crate::model::{ElementType, Initializer};
use crate::quant::HalfFormat;

/// Number of the type `uint4` in the format.
const UINT4: i32 = 21;
/// Number of the type `int4` in the format.
const INT4: i32 = 22;

/// An integer type that codes are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeType {
    /// 4, 8 or 16.
    bits: u8,
    signed: bool,
}

impl CodeType {
    /// The narrowest type of the format that holds codes of so many bits.
    pub(super) fn of(bits: u8, signed: bool) -> Self {
        let bits = match bits {
            ..=4 => 4,
            5..=8 => 8,
            _ => 16,
        };
        Self { bits, signed }
    }

    /// The lowest and the highest code.
    pub(super) fn limits(self) -> (i32, i32) {
        let count = 1i32 << self.bits;
        if self.signed {
            (-count / 2, count / 2 - 1)
        } else {
            (0, count - 1)
        }
    }

    fn number(self) -> i32 {
        match (self.bits, self.signed) {
            (4, true) => INT4,
            (4, false) => UINT4,
            (8, true) => data_type::INT8,
            (8, false) => data_type::UINT8,
            (_, true) => data_type::INT16,
            (_, false) => data_type::UINT16,
        }
    }

    /// Codes packed as the format wants them: two of 4 bits in a byte, the first one lower.
    fn packed(self, codes: &[i32]) -> Vec<u8> {
        match self.bits {
            4 => codes
                .chunks(2)
                .map(|pair| {
                    let nibble = |at: usize| pair.get(at).map_or(0, |code| (*code as u8) & 15);
                    nibble(0) | nibble(1) << 4
                })
                .collect(),
            8 => codes.iter().map(|code| *code as u8).collect(),
            _ => codes
                .iter()
                .flat_map(|code| (*code as u16).to_le_bytes())
                .collect(),
        }
    }

    /// A tensor of codes.
    pub(super) fn tensor(self, name: &str, dims: &[usize], codes: &[i32]) -> TensorProto {
        raw(name, dims, self.number(), self.packed(codes))
    }
}

fn raw(name: &str, dims: &[usize], number: i32, data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        data_type: number,
        raw_data: Some(data.into()),
        ..TensorProto::default()
    }
}

/// A tensor of bytes.
pub(super) fn bytes(name: &str, dims: &[usize], data: Vec<u8>) -> TensorProto {
    raw(name, dims, data_type::UINT8, data)
}

/// A tensor of `f32`.
pub(super) fn floats(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    let data = values.iter().flat_map(|value| value.to_le_bytes());
    raw(name, dims, data_type::FLOAT, data.collect())
}

/// A tensor of `i32`.
pub(super) fn integers32(name: &str, dims: &[usize], values: &[i32]) -> TensorProto {
    let data = values.iter().flat_map(|value| value.to_le_bytes());
    raw(name, dims, data_type::INT32, data.collect())
}

/// A list of lengths as `i64`.
pub(super) fn lengths(name: &str, values: &[usize]) -> TensorProto {
    let data = values
        .iter()
        .flat_map(|value| (*value as i64).to_le_bytes());
    raw(name, &[values.len()], data_type::INT64, data.collect())
}

/// A tensor of half-precision numbers, from values that are such.
pub(super) fn halves(
    name: &str,
    dims: &[usize],
    values: &[f32],
    format: HalfFormat,
) -> TensorProto {
    let bits = |value: &f32| match format {
        HalfFormat::F16 => f16::from_f32(*value).to_bits(),
        HalfFormat::BF16 => bf16::from_f32(*value).to_bits(),
    };
    let data = values.iter().flat_map(|value| bits(value).to_le_bytes());
    raw(name, dims, half_number(format), data.collect())
}

/// Number of a half-precision type in the format.
pub(super) fn half_number(format: HalfFormat) -> i32 {
    match format {
        HalfFormat::F16 => data_type::FLOAT16,
        HalfFormat::BF16 => data_type::BFLOAT16,
    }
}

/// A constant of the graph in the type that its file declares.
pub(super) fn constant(
    name: &str,
    constant: &Initializer,
    declared: Option<ElementType>,
) -> Result<TensorProto, ExportError> {
    let failed = |error: &dyn std::fmt::Display| ExportError::node(name, error.to_string());
    let tensor = constant.tensor().map_err(|error| failed(&error))?;
    let flat = tensor.flatten_all().map_err(|error| failed(&error))?;
    let dims = constant.dims();
    match constant.dtype() {
        candle_core::DType::F32 => {
            let values = flat.to_vec1::<f32>().map_err(|error| failed(&error))?;
            Ok(match declared {
                Some(ElementType::F16) => halves(name, dims, &values, HalfFormat::F16),
                Some(ElementType::BF16) => halves(name, dims, &values, HalfFormat::BF16),
                Some(ElementType::F64) => {
                    let data = values.iter().flat_map(|v| f64::from(*v).to_le_bytes());
                    raw(name, dims, data_type::DOUBLE, data.collect())
                }
                _ => floats(name, dims, &values),
            })
        }
        candle_core::DType::U8 => {
            let values = flat.to_vec1::<u8>().map_err(|error| failed(&error))?;
            Ok(raw(name, dims, data_type::BOOL, values))
        }
        _ => {
            let values = flat.to_vec1::<i64>().map_err(|error| failed(&error))?;
            let declared = declared.filter(|declared| !declared.is_float());
            let element_type = declared.unwrap_or(ElementType::I64);
            let bytes = match element_type {
                ElementType::I64 | ElementType::U64 => 8,
                ElementType::I32 | ElementType::U32 => 4,
                ElementType::I16 | ElementType::U16 => 2,
                _ => 1,
            };
            // Little-endian, so that the low bytes are the narrower number.
            let data = values
                .iter()
                .flat_map(|v| v.to_le_bytes().into_iter().take(bytes));
            Ok(raw(name, dims, type_number(element_type), data.collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_packed_as_the_format_says() {
        struct Case {
            bits: u8,
            signed: bool,
            codes: &'static [i32],
            bytes: &'static [u8],
            number: i32,
        }
        for case in [
            Case {
                bits: 4,
                signed: true,
                codes: &[1, -1, 7],
                bytes: &[0xF1, 0x07],
                number: INT4,
            },
            Case {
                bits: 3,
                signed: false,
                codes: &[1, 15],
                bytes: &[0xF1],
                number: UINT4,
            },
            Case {
                bits: 5,
                signed: true,
                codes: &[-2, 3],
                bytes: &[0xFE, 0x03],
                number: data_type::INT8,
            },
            Case {
                bits: 16,
                signed: false,
                codes: &[0x1234, 0xFFFF],
                bytes: &[0x34, 0x12, 0xFF, 0xFF],
                number: data_type::UINT16,
            },
        ] {
            let tensor = CodeType::of(case.bits, case.signed).tensor("w", &[3], case.codes);
            assert_eq!(
                tensor.raw_data.as_deref(),
                Some(case.bytes),
                "{} bits",
                case.bits
            );
            assert_eq!(tensor.data_type, case.number, "{} bits", case.bits);
        }
    }
}
