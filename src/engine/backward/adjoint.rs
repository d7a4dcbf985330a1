//! The way back through products with constant weights: the same product with the weight transposed.

use std::sync::Arc;

use candle_core::Tensor;

use super::node::Passed;
use crate::engine::error::OpError;
use crate::engine::kernels::blocked::{BlockedConvWeights, ConvInput, ConvOutput, conv2d_blocked};
use crate::engine::kernels::{
    Activation, ConvGeometry, ConvTransposeWeights, ConvWeights, MatMulWeights, conv_transpose2d,
    conv2d, matmul_packed,
};
use crate::engine::slices::with_f32;
use crate::engine::value::Value;
use crate::model::{Conv, ConvTranspose, Graph, Layer, Node, Op};
use crate::quant::ActivationQuantizer;

/// A packed transposed weight.
#[derive(Debug)]
pub(super) enum Adjoint {
    /// Of a convolution of stride 1 or 2: a convolution with the kernel turned by half a circle.
    Turned(Conv, Arc<BlockedConvWeights>),
    /// Of any other convolution.
    Transposed(Conv, Arc<ConvTransposeWeights>),
    /// Of a transposed convolution.
    Convolution(ConvTranspose, Arc<ConvWeights>),
    /// Of a matrix product.
    Product(Arc<MatMulWeights>),
}

impl Adjoint {
    /// `None` for operators and weights that have another way back.
    ///
    /// # Errors
    /// A weight that cannot be packed.
    pub(super) fn of(
        graph: &Graph,
        node: &Node,
        layer: Option<&Layer>,
    ) -> Result<Option<Self>, OpError> {
        let Some(weight) = node.input(1).and_then(|id| graph.initializer(id)) else {
            return Ok(None);
        };
        let values = || -> Result<Vec<f32>, OpError> { Ok(weight.flatten_all()?.to_vec1()?) };
        Ok(Some(match (&node.op, weight.dims()) {
            (Op::Conv(conv), &[out, per_group, height, width]) => {
                let shape = [out, per_group, height, width];
                // Larger strides would convolve too many zeros.
                if conv.strides.iter().all(|stride| *stride <= 2)
                    && BlockedConvWeights::fits(shape, conv.groups)
                {
                    turned(conv, &values()?, shape)?
                } else {
                    let groups = conv.groups;
                    let weights = ConvTransposeWeights::pack(&values()?, shape, groups, None)?;
                    Self::Transposed(conv.clone(), Arc::new(weights))
                }
            }
            (Op::Conv(conv), &[out, per_group, width]) => {
                let shape = [out, per_group, 1, width];
                let weights = ConvTransposeWeights::pack(&values()?, shape, conv.groups, None)?;
                Self::Transposed(conv.clone(), Arc::new(weights))
            }
            (Op::ConvTranspose(operator), &[input, per_group, ref kernel @ ..]) => {
                let kernel = match *kernel {
                    [height, width] => [height, width],
                    [width] => [1, width],
                    _ => return Ok(None),
                };
                let shape = [input, per_group, kernel[0], kernel[1]];
                let groups = operator.conv.groups;
                let weights = ConvWeights::pack(&values()?, shape, groups, None)?;
                Self::Convolution(operator.clone(), Arc::new(weights))
            }
            (Op::MatMul | Op::Einsum { .. }, &[first, second]) => {
                // The weight is stored by outputs where those are its first axis.
                let by_output = layer.is_some_and(|layer| layer.channel_axis == 0);
                Self::Product(Arc::new(if by_output {
                    MatMulWeights::pack(&values()?, first, second, None)?
                } else {
                    MatMulWeights::pack_transposed(&values()?, second, first, None)?
                }))
            }
            _ => return Ok(None),
        }))
    }

    /// The gradient of input 0.
    ///
    /// # Errors
    /// Shapes that do not fit each other.
    pub(super) fn apply(&self, passed: &Passed<'_>) -> Result<Value, OpError> {
        let gradient = passed.gradient()?;
        let input_dims = passed.input(0)?.dims();
        match self {
            Self::Turned(conv, weights) => turned_back(conv, weights, gradient, &input_dims),
            Self::Transposed(conv, weights) => {
                let kernel = weights.kernel();
                let (g, rank) = image(&gradient.plain()?)?;
                let size = image_size(&input_dims)?;
                let geometry = ConvGeometry::resolve(conv, kernel, size)?;
                let [_, _, height, width] = dims4(&g)?;
                let full = geometry.transposed_output_size(kernel, [height, width], [0, 0]);
                let full = full.ok_or_else(|| too_large(&input_dims))?;
                let rest = [0, 1].map(|axis| size[axis].saturating_sub(full[axis]));
                let x = conv_transpose2d(&g, weights, &geometry, rest)?;
                Ok(with_rank(x, rank)?.into())
            }
            Self::Convolution(operator, weights) => {
                let (g, rank) = image(&gradient.plain()?)?;
                let size = image_size(&input_dims)?;
                let (geometry, _) =
                    ConvGeometry::resolve_transposed(operator, weights.kernel(), size)?;
                let x = conv2d(&g, weights, &geometry, Activation::None)?;
                // Output padding may leave room for windows that no input has.
                let x = x.narrow(2, 0, size[0])?.narrow(3, 0, size[1])?;
                Ok(with_rank(x.contiguous()?, rank)?.into())
            }
            Self::Product(weights) => Ok(matmul_packed(&gradient.plain()?, weights)?.into()),
        }
    }
}

/// Packs `[in, out, k…]` with the kernel turned from `[out, in, k…]`; depthwise kernels keep their axes.
fn turned(conv: &Conv, values: &[f32], shape: [usize; 4]) -> Result<Adjoint, OpError> {
    let [out, per_group, height, width] = shape;
    let kernel = height * width;
    let mut weight = vec![0.0; values.len()];
    for (row, window) in values.chunks_exact(kernel.max(1)).enumerate() {
        let (m, c) = (row / per_group, row % per_group);
        let place = if conv.groups == 1 { c * out + m } else { m };
        for (at, value) in window.iter().enumerate() {
            weight[place * kernel + kernel - 1 - at] = *value;
        }
    }
    let shape = if conv.groups == 1 {
        [per_group, out, height, width]
    } else {
        shape
    };
    let weights = BlockedConvWeights::pack(&weight, shape, conv.groups, None, None)?;
    Ok(Adjoint::Turned(conv.clone(), Arc::new(weights)))
}

/// `∂x = ∂y ∗ turned w`, padded so that every window that an input was in is met.
fn turned_back(
    conv: &Conv,
    weights: &Arc<BlockedConvWeights>,
    gradient: &Value,
    input_dims: &[usize],
) -> Result<Value, OpError> {
    let kernel = weights.kernel();
    let size = image_size(input_dims)?;
    let forward = ConvGeometry::resolve(conv, kernel, size)?;
    let reach = [0, 1].map(|axis| forward.dilations[axis] * (kernel[axis] - 1));
    // More padding than the kernel reaches has windows of nothing but padding; they are left out.
    let over = |side: usize| forward.pads[side].saturating_sub(reach[side % 2]);
    let mut gradient = if forward.strides == [1, 1] {
        gradient.clone()
    } else {
        let all_windows = [0, 1].map(|axis| {
            (size[axis] + forward.pads[axis] + forward.pads[axis + 2]).saturating_sub(reach[axis])
        });
        spread(gradient, forward.strides, all_windows)?
    };
    if (0..4).any(|side| over(side) > 0) {
        let plain = gradient.plain()?;
        let [_, _, height, width] = dims4(&plain)?;
        let cut = plain
            .narrow(2, over(0), height.saturating_sub(over(0) + over(2)))?
            .narrow(3, over(1), width.saturating_sub(over(1) + over(3)))?;
        gradient = cut.contiguous()?.into();
    }
    let (tensor, channels) = match &gradient {
        Value::Plain(tensor) => (tensor, 0),
        Value::Blocked { image, channels } => (image, *channels),
    };
    let geometry = ConvGeometry {
        strides: [1, 1],
        pads: [0, 1, 2, 3].map(|side| reach[side % 2].saturating_sub(forward.pads[side])),
        ..forward
    };
    let input = ConvInput {
        channels,
        quantizer: ActivationQuantizer::Identity,
        integer: false,
    };
    let image = conv2d_blocked(tensor, &input, weights, &geometry, ConvOutput::default())?;
    Ok(Value::Blocked {
        image,
        channels: weights.outputs(),
    })
}

/// The gradient at the windows that a convolution with `strides` computes, and 0 at those that it skips.
fn spread(
    gradient: &Value,
    strides: [usize; 2],
    [height, width]: [usize; 2],
) -> Result<Value, OpError> {
    let (image, channels) = gradient
        .blocked()?
        .ok_or_else(|| OpError::Shape(format!("expected an image, got {:?}", gradient.dims())))?;
    let &[batch, blocks, rows, columns, lanes] = image.dims() else {
        return Err(OpError::Shape("expected an image in blocks".to_owned()));
    };
    if rows * strides[0] >= height + strides[0] || columns * strides[1] >= width + strides[1] {
        return Err(too_large(&gradient.dims()));
    }
    let dims = [batch, blocks, height, width, lanes];
    let image = with_f32(&image, |pixels| {
        let mut all = vec![0.0; dims.iter().product()];
        let planes = all.chunks_mut((height * width * lanes).max(1));
        for (plane, own) in planes.zip(pixels.chunks((rows * columns * lanes).max(1))) {
            let lines = plane.chunks_mut((width * lanes).max(1));
            for (line, row) in lines
                .step_by(strides[0])
                .zip(own.chunks((columns * lanes).max(1)))
            {
                let places = line.chunks_mut(lanes).step_by(strides[1]);
                for (place, pixel) in places.zip(row.chunks(lanes)) {
                    place.copy_from_slice(pixel);
                }
            }
        }
        Tensor::from_vec(all, &dims, image.device())
    })?;
    Ok(Value::Blocked { image, channels })
}

/// Height and width of `[N, C, H, W]`; `[N, C, W]` has a height of 1.
fn image_size(dims: &[usize]) -> Result<[usize; 2], OpError> {
    match *dims {
        [_, _, height, width] => Ok([height, width]),
        [_, _, width] => Ok([1, width]),
        _ => Err(OpError::Shape(format!("expected an image, got {dims:?}"))),
    }
}

/// A tensor with two spatial axes, and the rank that it had.
fn image(tensor: &Tensor) -> Result<(Tensor, usize), OpError> {
    match tensor.rank() {
        3 => Ok((tensor.unsqueeze(2)?, 3)),
        rank => Ok((tensor.clone(), rank)),
    }
}

fn with_rank(tensor: Tensor, rank: usize) -> Result<Tensor, OpError> {
    Ok(if rank == 3 {
        tensor.squeeze(2)?
    } else {
        tensor
    })
}

fn dims4(tensor: &Tensor) -> Result<[usize; 4], OpError> {
    Ok(tensor.dims4()?.into())
}

fn too_large(dims: &[usize]) -> OpError {
    OpError::Shape(format!("no gradient of the shape {dims:?}"))
}
