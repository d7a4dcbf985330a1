//! Matrix products, normalisations, softmax and reductions.

use super::{NodeReader, Reading, Refusal};
use crate::model::{Op, Reduction};

pub(super) fn read(reader: &mut NodeReader<'_>) -> Reading {
    let op = match reader.proto.op_type.as_str() {
        "BatchNormalization" => batch_normalization(reader)?,
        "Einsum" => {
            reader.expect_inputs(1, usize::MAX)?;
            Op::Einsum {
                equation: reader.attributes.string_or("equation", "")?,
            }
        }
        "Gemm" => gemm(reader)?,
        "LayerNormalization" => layer_normalization(reader)?,
        "LRN" => lrn(reader)?,
        "LogSoftmax" => {
            let (axis, coerce_to_2d) = softmax_axis(reader)?;
            Op::LogSoftmax { axis, coerce_to_2d }
        }
        "MatMul" => {
            reader.expect_inputs(2, 2)?;
            Op::MatMul
        }
        "ReduceL2" => reduce(reader, Reduction::L2, 18)?,
        "ReduceMax" => reduce(reader, Reduction::Max, 18)?,
        "ReduceMean" => reduce(reader, Reduction::Mean, 18)?,
        "ReduceMin" => reduce(reader, Reduction::Min, 18)?,
        "ReduceProd" => reduce(reader, Reduction::Prod, 18)?,
        "ReduceSum" => reduce(reader, Reduction::Sum, 13)?,
        "ReduceSumSquare" => reduce(reader, Reduction::SumSquare, 18)?,
        "Softmax" => {
            let (axis, coerce_to_2d) = softmax_axis(reader)?;
            Op::Softmax { axis, coerce_to_2d }
        }
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn batch_normalization(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(5, 5)?;
    if reader.attributes.flag_or("training_mode", false)? {
        return Err(Refusal(
            "attribute \"training_mode\" is 1; export the model in inference mode".to_owned(),
        ));
    }
    if !reader.attributes.flag_or("spatial", true)? {
        return Err(Refusal(
            "attribute \"spatial\" is 0; only statistics per channel are supported".to_owned(),
        ));
    }
    reader.attributes.ignore("momentum");
    Ok(Op::BatchNormalization {
        epsilon: reader.attributes.float_or("epsilon", 1e-5)?,
    })
}

fn gemm(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(2, 3)?;
    Ok(Op::Gemm {
        alpha: reader.attributes.float_or("alpha", 1.0)?,
        beta: reader.attributes.float_or("beta", 1.0)?,
        trans_a: reader.attributes.flag_or("transA", false)?,
        trans_b: reader.attributes.flag_or("transB", false)?,
    })
}

fn layer_normalization(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(2, 3)?;
    // The precision of the statistics; they are always computed in f32 at least.
    reader.attributes.ignore("stash_type");
    Ok(Op::LayerNormalization {
        axis: reader.attributes.int_or("axis", -1)?,
        epsilon: reader.attributes.float_or("epsilon", 1e-5)?,
    })
}

fn lrn(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(1, 1)?;
    let size = reader.attributes.int_or("size", 0)?;
    Ok(Op::Lrn {
        alpha: reader.attributes.float_or("alpha", 1e-4)?,
        beta: reader.attributes.float_or("beta", 0.75)?,
        bias: reader.attributes.float_or("bias", 1.0)?,
        size: usize::try_from(size)
            .ok()
            .filter(|size| *size > 0)
            .ok_or_else(|| Refusal(format!("attribute \"size\" is {size}, expected 1 or more")))?,
    })
}

/// Before opset 13 the input is seen as a matrix, by default split after the first axis.
fn softmax_axis(reader: &mut NodeReader<'_>) -> Result<(i64, bool), Refusal> {
    reader.expect_inputs(1, 1)?;
    let coerce_to_2d = reader.opset < 13;
    let default = if coerce_to_2d { 1 } else { -1 };
    Ok((reader.attributes.int_or("axis", default)?, coerce_to_2d))
}

/// The axes became an input in opset `axes_input_since`.
pub(super) fn reduce(
    reader: &mut NodeReader<'_>,
    reduction: Reduction,
    axes_input_since: i64,
) -> Result<Op, Refusal> {
    if reader.opset < axes_input_since {
        reader.expect_inputs(1, 1)?;
        reader.ints_to_input("axes", 1)?;
    }
    reader.expect_inputs(1, 2)?;
    Ok(Op::Reduce {
        reduction,
        keep_dims: reader.attributes.flag_or("keepdims", true)?,
        noop_with_empty_axes: reader.attributes.flag_or("noop_with_empty_axes", false)?,
    })
}
