//! `Conv` and `ConvTranspose` with weights that are packed for this one call.
//!
//! A network that runs more than once packs its weights once and calls the kernels itself.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::Inputs;
use crate::engine::error::OpError;
use crate::engine::kernels::{
    Activation, ConvGeometry, ConvTransposeWeights, ConvWeights, conv_transpose2d, conv2d,
};
use crate::model::{Conv, ConvTranspose};

/// Convolves input 0 with the weight in input 1 and adds the bias in input 2.
pub(super) fn conv(conv: &Conv, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (x, weight) = (image(inputs, 0)?, image(inputs, 1)?);
    let (shape, bias) = (weight.dims4()?.into(), bias(inputs)?);
    let [_, _, height, width] = shape;
    let geometry = ConvGeometry::resolve(conv, [height, width], spatial(&x)?)?;
    let packed = ConvWeights::pack(
        &weight.flatten_all()?.to_vec1::<f32>()?,
        shape,
        conv.groups,
        bias.as_deref(),
    )?;
    let y = conv2d(&x, &Arc::new(packed), &geometry, Activation::None)?;
    with_rank_of(inputs, y)
}

/// Applies the transpose of a convolution to input 0; weight and bias are inputs 1 and 2.
pub(super) fn conv_transpose(
    operator: &ConvTranspose,
    inputs: &Inputs<'_>,
) -> Result<Tensor, OpError> {
    let (x, weight) = (image(inputs, 0)?, image(inputs, 1)?);
    let (shape, bias) = (weight.dims4()?.into(), bias(inputs)?);
    let [_, _, height, width] = shape;
    let (geometry, output_padding) =
        ConvGeometry::resolve_transposed(operator, [height, width], spatial(&x)?)?;
    let packed = ConvTransposeWeights::pack(
        &weight.flatten_all()?.to_vec1::<f32>()?,
        shape,
        operator.conv.groups,
        bias.as_deref(),
    )?;
    let y = conv_transpose2d(&x, &Arc::new(packed), &geometry, output_padding)?;
    with_rank_of(inputs, y)
}

fn bias(inputs: &Inputs<'_>) -> Result<Option<Vec<f32>>, OpError> {
    inputs.optional(2).map(|_| inputs.floats(2)).transpose()
}

fn spatial(x: &Tensor) -> Result<[usize; 2], OpError> {
    let (_, _, height, width) = x.dims4()?;
    Ok([height, width])
}

/// An input with two spatial axes; one axis gets a height of 1.
pub(super) fn image(inputs: &Inputs<'_>, index: usize) -> Result<Tensor, OpError> {
    inputs.expect_type(index, DType::F32, "f32")?;
    let input = inputs.required(index)?;
    match input.rank() {
        3 => Ok(input.unsqueeze(2)?),
        4 => Ok(input.clone()),
        rank => Err(OpError::Unsupported {
            reason: format!(
                "input {index} has {rank} axes; one or two spatial axes after batch and channels are supported"
            ),
        }),
    }
}

/// Drops the height that [`image()`] added.
pub(super) fn with_rank_of(inputs: &Inputs<'_>, y: Tensor) -> Result<Tensor, OpError> {
    if inputs.required(0)?.rank() == 3 {
        Ok(y.squeeze(2)?)
    } else {
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::{Op, Padding};

    fn attributes(pads: &[usize], strides: &[usize]) -> Conv {
        Conv {
            strides: strides.to_vec(),
            padding: Padding::Explicit(pads.to_vec()),
            dilations: Vec::new(),
            groups: 1,
        }
    }

    #[test]
    fn one_spatial_axis_is_a_row() {
        let x = f32s(&[1, 1, 4], &[1., 2., 3., 4.]);
        let w = f32s(&[1, 1, 2], &[1., 10.]);
        let b = f32s(&[1], &[0.5]);
        let op = Op::Conv(attributes(&[1, 0], &[2]));
        let y = run(&op, &[x.clone(), w.clone(), b.clone()]);
        assert_close(&y, &f32s(&[1, 1, 2], &[10.5, 32.5]));
        let op = Op::ConvTranspose(ConvTranspose {
            conv: attributes(&[0, 1], &[2]),
            output_padding: Vec::new(),
            output_shape: None,
        });
        let y = run(&op, &[x, w, b]);
        let expected = [1.5, 10.5, 2.5, 20.5, 3.5, 30.5, 4.5];
        assert_close(&y, &f32s(&[1, 1, 7], &expected));
    }

    #[test]
    fn other_ranks_types_and_channels_are_refused() {
        let op = Op::Conv(attributes(&[], &[]));
        let w = f32s(&[1, 1, 1, 1, 1], &[1.0]);
        let error = fail(&op, &[w.clone(), w]).to_string();
        assert!(error.contains("input 0 has 5 axes"), "{error}");
        let w = f32s(&[1, 2, 1, 1], &[1.0; 2]);
        let error = fail(&op, &[f32s(&[1, 3, 1, 1], &[0.0; 3]), w.clone()]).to_string();
        assert!(error.contains('3') && error.contains('2'), "{error}");
        fail(&op, &[i64s(&[1, 2, 1, 1], &[0; 2]), w.clone()]);
        fail(&op, &[w]);
    }
}
