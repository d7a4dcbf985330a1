//! Operators that move, select, repeat or make elements.

use candle_core::DType;
use prost::bytes::Bytes;

use super::super::external_data::ExternalData;
use super::super::tensor::read_tensor;
use super::{NodeReader, Reading, Refusal, not_supported};
use crate::model::file_content::FileContent;
use crate::model::{ElementType, Op, PadMode, Scalar};

pub(super) fn read(reader: &mut NodeReader<'_>) -> Reading {
    let op = match reader.proto.op_type.as_str() {
        "Concat" => concat(reader)?,
        "ConstantOfShape" => constant_of_shape(reader)?,
        "Expand" => with_inputs(reader, 2, Op::Expand)?,
        "Flatten" => {
            let axis = reader.attributes.int_or("axis", 1)?;
            with_inputs(reader, 1, Op::Flatten { axis })?
        }
        "Gather" => {
            let axis = reader.attributes.int_or("axis", 0)?;
            with_inputs(reader, 2, Op::Gather { axis })?
        }
        "Pad" => pad(reader)?,
        "Range" => with_inputs(reader, 3, Op::Range)?,
        "Reshape" => {
            let allow_zero = reader.attributes.flag_or("allowzero", false)?;
            with_inputs(reader, 2, Op::Reshape { allow_zero })?
        }
        "Shape" => {
            let start = reader.attributes.int_or("start", 0)?;
            let end = reader.attributes.int("end")?;
            with_inputs(reader, 1, Op::Shape { start, end })?
        }
        "Slice" => slice(reader)?,
        "Split" => split(reader)?,
        "Squeeze" => squeeze(reader)?,
        "Tile" => with_inputs(reader, 2, Op::Tile)?,
        "Transpose" => transpose(reader)?,
        "Unsqueeze" => unsqueeze(reader)?,
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn with_inputs(reader: &NodeReader<'_>, inputs: usize, op: Op) -> Result<Op, Refusal> {
    reader.expect_inputs(inputs, inputs)?;
    Ok(op)
}

fn concat(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(reader.inputs.len().max(1), usize::MAX)?;
    match reader.attributes.int("axis")? {
        Some(axis) => Ok(Op::Concat { axis }),
        None => Err(Refusal("attribute \"axis\" is missing".to_owned())),
    }
}

fn constant_of_shape(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(1, 1)?;
    let Some(proto) = reader.attributes.tensor("value")? else {
        return Ok(Op::ConstantOfShape {
            value: Scalar::F32(0.0),
        });
    };
    let at_fault = |reason: String| Refusal(format!("attribute \"value\": {reason}"));
    let mut no_files = ExternalData::in_folder(std::path::PathBuf::new());
    let in_memory = FileContent::from(Bytes::new());
    let (value, element_type) = read_tensor(proto.clone(), &in_memory, &mut no_files)
        .map_err(|error| at_fault(error.to_string()))?;
    let scalar = value
        .tensor()
        .map_err(|error| at_fault(error.to_string()))?
        .reshape(())
        .map_err(|_several| at_fault("expected one element".to_owned()))?;
    let value = match (scalar.dtype(), element_type) {
        (DType::F32, _) => Scalar::F32(scalar.to_scalar()?),
        (_, ElementType::Bool) => Scalar::Bool(scalar.to_scalar::<u8>()? != 0),
        _ => Scalar::I64(scalar.to_scalar()?),
    };
    Ok(Op::ConstantOfShape { value })
}

/// Before opset 11 pads and value are attributes.
fn pad(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    if reader.opset < 11 {
        reader.expect_inputs(1, 1)?;
        reader.ints_to_input("pads", 1)?;
        reader.float_to_input("value", 2)?;
    }
    reader.expect_inputs(2, 4)?;
    let mode = match reader.attributes.string_or("mode", "constant")?.as_str() {
        "constant" => PadMode::Constant,
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        "wrap" => PadMode::Wrap,
        other => return Err(not_supported("mode", other)),
    };
    Ok(Op::Pad { mode })
}

/// Before opset 10 the bounds are attributes.
fn slice(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    if reader.opset < 10 {
        reader.expect_inputs(1, 1)?;
        reader.ints_to_input("starts", 1)?;
        reader.ints_to_input("ends", 2)?;
        reader.ints_to_input("axes", 3)?;
    }
    reader.expect_inputs(3, 5)?;
    Ok(Op::Slice)
}

/// Before opset 13 the lengths are an attribute.
fn split(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    if reader.opset < 13 {
        reader.expect_inputs(1, 1)?;
        reader.ints_to_input("split", 1)?;
    }
    reader.expect_inputs(1, 2)?;
    let outputs = reader.proto.output.len();
    if let Some(parts) = reader.attributes.int("num_outputs")?
        && usize::try_from(parts) != Ok(outputs)
    {
        return Err(Refusal(format!(
            "attribute \"num_outputs\" is {parts}, but the node has {outputs} outputs"
        )));
    }
    let axis = reader.attributes.int_or("axis", 0)?;
    Ok(Op::Split { axis })
}

/// Before opset 13 the axes are an attribute.
fn squeeze(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    if reader.opset < 13 {
        reader.expect_inputs(1, 1)?;
        reader.ints_to_input("axes", 1)?;
    }
    reader.expect_inputs(1, 2)?;
    Ok(Op::Squeeze)
}

/// Before opset 13 the axes are an attribute.
fn unsqueeze(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    if reader.opset < 13 {
        reader.expect_inputs(1, 1)?;
        reader.ints_to_input("axes", 1)?;
    }
    reader.expect_inputs(2, 2)?;
    Ok(Op::Unsqueeze)
}

fn transpose(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(1, 1)?;
    let perm = reader.attributes.lengths("perm")?;
    let mut seen = perm.clone();
    seen.sort_unstable();
    if !seen.iter().copied().eq(0..perm.len()) {
        return Err(Refusal(format!(
            "attribute \"perm\" is {perm:?}, expected every axis once"
        )));
    }
    Ok(Op::Transpose {
        perm: Some(perm).filter(|perm| !perm.is_empty()),
    })
}
