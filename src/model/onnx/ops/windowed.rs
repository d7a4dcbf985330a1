//! Convolutions and pooling.

use super::{NodeReader, Reading, Refusal};
use crate::model::{Conv, ConvTranspose, Op, Padding, Pool};

pub(super) fn read(reader: &mut NodeReader<'_>) -> Reading {
    let op = match reader.proto.op_type.as_str() {
        "AveragePool" => {
            let mut pool = pool(reader)?;
            pool.count_include_pad = reader.attributes.flag_or("count_include_pad", false)?;
            Op::AveragePool(pool)
        }
        "Conv" => Op::Conv(conv(reader)?),
        "ConvTranspose" => conv_transpose(reader)?,
        "GlobalAveragePool" => {
            reader.expect_inputs(1, 1)?;
            Op::GlobalAveragePool
        }
        "GlobalMaxPool" => {
            reader.expect_inputs(1, 1)?;
            Op::GlobalMaxPool
        }
        "MaxPool" => {
            // The storage order concerns the indices alone, which are refused if they are used.
            reader.attributes.ignore("storage_order");
            Op::MaxPool(pool(reader)?)
        }
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn conv(reader: &mut NodeReader<'_>) -> Result<Conv, Refusal> {
    reader.expect_inputs(2, 3)?;
    let kernel = reader.attributes.lengths("kernel_shape")?;
    let weight_kernel = reader
        .constant_input(1)
        .map(|weight| weight.dims().get(2..).unwrap_or_default().to_vec());
    if let Some(weight_kernel) = weight_kernel
        && !kernel.is_empty()
        && kernel != weight_kernel
    {
        return Err(Refusal(format!(
            "attribute \"kernel_shape\" is {kernel:?}, but the weight has {weight_kernel:?}"
        )));
    }
    let groups = reader.attributes.int_or("group", 1)?;
    Ok(Conv {
        strides: positive(reader, "strides")?,
        padding: padding(reader)?,
        dilations: positive(reader, "dilations")?,
        groups: usize::try_from(groups)
            .ok()
            .filter(|groups| *groups > 0)
            .ok_or_else(|| {
                Refusal(format!(
                    "attribute \"group\" is {groups}, expected 1 or more"
                ))
            })?,
    })
}

fn conv_transpose(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let output_padding = reader.attributes.lengths("output_padding")?;
    let output_shape = reader.attributes.lengths("output_shape")?;
    Ok(Op::ConvTranspose(ConvTranspose {
        conv: conv(reader)?,
        output_padding,
        output_shape: Some(output_shape).filter(|shape| !shape.is_empty()),
    }))
}

fn pool(reader: &mut NodeReader<'_>) -> Result<Pool, Refusal> {
    reader.expect_inputs(1, 1)?;
    let kernel = positive(reader, "kernel_shape")?;
    if kernel.is_empty() {
        return Err(Refusal("attribute \"kernel_shape\" is missing".to_owned()));
    }
    Ok(Pool {
        kernel,
        strides: positive(reader, "strides")?,
        padding: padding(reader)?,
        dilations: positive(reader, "dilations")?,
        ceil_mode: reader.attributes.flag_or("ceil_mode", false)?,
        count_include_pad: false,
    })
}

/// A list of lengths of which none is zero; empty if the attribute is absent.
fn positive(reader: &mut NodeReader<'_>, name: &str) -> Result<Vec<usize>, Refusal> {
    let values = reader.attributes.lengths(name)?;
    if values.contains(&0) {
        return Err(Refusal(format!(
            "attribute {name:?} is {values:?}, expected 1 or more"
        )));
    }
    Ok(values)
}

fn padding(reader: &mut NodeReader<'_>) -> Result<Padding, Refusal> {
    let pads = reader.attributes.lengths("pads")?;
    match reader.attributes.string_or("auto_pad", "NOTSET")?.as_str() {
        "NOTSET" => Ok(Padding::Explicit(pads)),
        "VALID" => Ok(Padding::Explicit(Vec::new())),
        "SAME_UPPER" => Ok(Padding::SameUpper),
        "SAME_LOWER" => Ok(Padding::SameLower),
        other => Err(Refusal(format!(
            "attribute \"auto_pad\" is {other:?}, which is not supported"
        ))),
    }
}
