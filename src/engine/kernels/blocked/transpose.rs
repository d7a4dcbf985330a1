//! Transposed convolution of blocked images whose windows do not overlap.

use std::mem::MaybeUninit;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::super::conv::check_weight;
use super::super::parallel::for_each_chunk;
use super::super::scratch::with_scratch;
use super::super::written::written;
use super::super::{checked_len, contiguous_f32};
use super::finish::Finish;
use super::layout::blocked_dims;
use super::reading::Quantized;
use super::strips::Fill as _;
use super::tile::{Convolve, OutputBlock, Rows, steps_of_blocks};
use super::weights::lanes;
use super::{BLOCK, Pixel};
use crate::model::{ConvTranspose, Padding};
use crate::quant::ActivationQuantizer;

/// Weight and bias of a transposed convolution of one group whose strides are its kernel.
///
/// Every output then has one window, and each element of the kernel is a pointwise convolution.
#[derive(Debug)]
pub struct BlockedConvTransposeWeights {
    /// `[in, out, height, width]`.
    shape: [usize; 4],
    /// `[output blocks, kernel elements, in, 16]`.
    rows: Vec<Pixel>,
    bias: Vec<Pixel>,
}

impl BlockedConvTransposeWeights {
    /// Whether the blocked kernel takes such an operator with a weight `[in, out / groups, height, width]`.
    pub fn fits(operator: &ConvTranspose, [_, _, height, width]: [usize; 4]) -> bool {
        let conv = &operator.conv;
        let is_unpadded = match &conv.padding {
            Padding::Explicit(pads) => pads.iter().all(|pad| *pad == 0),
            Padding::SameUpper | Padding::SameLower => false,
        };
        conv.groups == 1
            && conv.strides == [height, width]
            && conv.dilations.iter().all(|dilation| *dilation == 1)
            && is_unpadded
            && operator.output_padding.iter().all(|padding| *padding == 0)
            && operator.output_shape.is_none()
    }

    /// Packs a weight `[in, out, height, width]` and a bias `[out]`.
    ///
    /// # Errors
    /// A weight or bias of another length than the shape says, or an empty kernel.
    pub fn pack(weight: &[f32], shape: [usize; 4], bias: Option<&[f32]>) -> Result<Self> {
        let [inputs, out, height, width] = shape;
        check_weight(weight, shape, out, 1, bias)?;
        let kernel = height * width;
        let mut rows = Vec::with_capacity(out.div_ceil(BLOCK) * kernel * inputs);
        for first in (0..out).step_by(BLOCK) {
            for element in 0..kernel {
                for input in 0..inputs {
                    rows.push(std::array::from_fn(|lane| {
                        let output = first + lane;
                        if output < out {
                            weight[(input * out + output) * kernel + element]
                        } else {
                            0.0
                        }
                    }));
                }
            }
        }
        let bias = bias.map_or_else(|| vec![0.0; out], <[f32]>::to_vec);
        Ok(Self {
            shape,
            rows,
            bias: lanes(&bias),
        })
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.shape[1]
    }
}

/// Applies the transpose of a convolution to a blocked image; the result is blocked.
///
/// ```text
/// y[n, m, i·height + k, j·width + l] = b[m] + Σ_c x̂[n, c, i, j] · w[c, m, k, l]
/// ```
/// Source: ONNX ConvTranspose-11. The result is the same for any number of threads and any batch size.
///
/// # Errors
/// A tensor that is not a blocked image of the weight's input channels, or an output that is too large.
pub fn conv_transpose2d_blocked(
    x: &Tensor,
    quantizer: &ActivationQuantizer,
    weights: &Arc<BlockedConvTransposeWeights>,
) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Transposed {
        weights,
        quantizer: *quantizer,
    })
}

struct Transposed<'a> {
    weights: &'a BlockedConvTransposeWeights,
    quantizer: ActivationQuantizer,
}

impl CustomOp1 for Transposed<'_> {
    fn name(&self) -> &'static str {
        "conv_transpose2d_blocked"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let [batch, in_blocks, height, width] = blocked_dims(layout)?;
        let [inputs, outputs, kernel @ ..] = self.weights.shape;
        if inputs.div_ceil(BLOCK) != in_blocks {
            bail!("{inputs} channels do not fill {in_blocks} blocks");
        }
        let [out_height, out_width] = [
            checked_len(&[height, kernel[0]])?,
            checked_len(&[width, kernel[1]])?,
        ];
        let blocks = outputs.div_ceil(BLOCK);
        let shape = [batch, blocks, out_height, out_width, BLOCK];
        let sample_len = in_blocks * height * width * BLOCK;
        let y = written(checked_len(&shape)?, |y| {
            // One task makes the rows of the output that belong to one row of the input.
            let task_len = kernel[0] * out_width * BLOCK;
            for_each_chunk(y, task_len.max(1), |index, output| {
                let (plane, row) = (index / height, index % height);
                let sample = &x[plane / blocks * sample_len..][..sample_len];
                self.rows(sample, [height, width], row, plane % blocks, output);
            });
            Ok(())
        })?;
        Ok((CpuStorage::F32(y), Shape::from_dims(&shape)))
    }
}

impl Transposed<'_> {
    fn rows(
        &self,
        sample: &[f32],
        [height, width]: [usize; 2],
        row: usize,
        block: usize,
        output: &mut [MaybeUninit<f32>],
    ) {
        if let ActivationQuantizer::Identity = self.quantizer {
            let start = row * width;
            return self.products(sample, height * width, start, width, block, output);
        }
        let row_len = width * BLOCK;
        let in_blocks = self.weights.shape[0].div_ceil(BLOCK);
        with_scratch(in_blocks * row_len, |buffer: &mut [f32], _| {
            for (index, target) in buffer.chunks_exact_mut(row_len).enumerate() {
                let source = &sample[(index * height + row) * row_len..][..row_len];
                Quantized(self.quantizer).convert(source, target);
            }
            self.products(buffer, width, 0, width, block, output);
        });
    }

    /// All elements of the kernel on one row of pixels, whose blocks lie `block_pixels` apart.
    fn products(
        &self,
        pixels: &[f32],
        block_pixels: usize,
        start: usize,
        width: usize,
        block: usize,
        output: &mut [MaybeUninit<f32>],
    ) {
        let [inputs, _, kernel_height, kernel_width] = self.weights.shape;
        let elements = kernel_height * kernel_width;
        let steps = steps_of_blocks(inputs, block_pixels, &[0]);
        let weights = &self.weights.rows[block * elements * inputs..][..elements * inputs];
        for (element, weights) in weights.chunks_exact(inputs).enumerate() {
            let products = written(width * BLOCK, |output| {
                let strip = Convolve {
                    pixels: pixels.as_chunks::<BLOCK>().0,
                    steps: &steps,
                    rows: Rows {
                        start,
                        step: 0,
                        count: 1,
                        width,
                    },
                };
                strip.run([OutputBlock {
                    weights,
                    finish: Finish::of_bias(&self.weights.bias[block]),
                    output,
                }]);
                Ok(())
            });
            let Ok(products) = products else { return };
            let (k, l) = (element / kernel_width, element % kernel_width);
            let row =
                &mut output[k * width * kernel_width * BLOCK..][..width * kernel_width * BLOCK];
            let targets = row.chunks_exact_mut(BLOCK).skip(l).step_by(kernel_width);
            for (to, from) in targets.zip(products.chunks_exact(BLOCK)) {
                to.write_copy_of_slice(from);
            }
        }
    }
}
