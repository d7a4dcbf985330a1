//! Two-dimensional transposed convolution with weights that are packed once.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::conv::{ConvWeights, check_channels, check_weight, convolve};
use super::geometry::ConvGeometry;
use super::{Activation, checked_len, contiguous_f32};

/// Weight and bias of a transposed convolution, laid out for the kernels.
#[derive(Debug)]
pub struct ConvTransposeWeights {
    shape: [usize; 4],
    groups: usize,
    /// The weight as a 1×1 convolution with `out · height · width` outputs.
    columns: ConvWeights,
    bias: Vec<f32>,
}

impl ConvTransposeWeights {
    /// Packs a weight `[in, out / groups, height, width]` and a bias `[out]`.
    ///
    /// # Errors
    /// A weight or bias of another length than the shape says, an empty kernel, or groups that do not
    /// divide the input channels.
    pub fn pack(
        weight: &[f32],
        shape: [usize; 4],
        groups: usize,
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let [inputs, group_out, height, width] = shape;
        let out = group_out.saturating_mul(groups);
        check_weight(weight, shape, out, groups, bias)?;
        let group_in = inputs / groups;
        let rows = group_out * height * width;
        let transposed: Vec<f32> = weight
            .chunks_exact(group_in * rows)
            .flat_map(|group| {
                (0..rows).flat_map(move |row| group.iter().skip(row).step_by(rows).copied())
            })
            .collect();
        Ok(Self {
            shape,
            groups,
            columns: ConvWeights::pack(&transposed, [groups * rows, group_in, 1, 1], groups, None)?,
            bias: bias.map_or_else(|| vec![0.0; out], <[f32]>::to_vec),
        })
    }

    /// Shape of the weight, `[in, out / groups, height, width]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Kernel `[height, width]`.
    pub fn kernel(&self) -> [usize; 2] {
        [self.shape[2], self.shape[3]]
    }
}

/// Applies the transpose of a convolution to `[batch, channels, height, width]`.
///
/// ```text
/// y[n, m, i·s₀ + k·d₀ − top, j·s₁ + l·d₁ − left] += x[n, c, i, j] · w[c, m, k, l],  starting at b[m]
/// ```
/// Source: ONNX ConvTranspose-11. `geometry` is that of the convolution. The result is the same for any
/// number of threads and any batch size.
///
/// # Errors
/// An input that is not four-dimensional `f32`, a channel count other than the weight's, or padding
/// that leaves no output.
pub fn conv_transpose2d(
    x: &Tensor,
    weights: &Arc<ConvTransposeWeights>,
    geometry: &ConvGeometry,
    output_padding: [usize; 2],
) -> Result<Tensor> {
    x.contiguous()?.apply_op1(ConvTranspose2d {
        weights: Arc::clone(weights),
        geometry: *geometry,
        output_padding,
    })
}

struct ConvTranspose2d {
    weights: Arc<ConvTransposeWeights>,
    geometry: ConvGeometry,
    output_padding: [usize; 2],
}

impl CustomOp1 for ConvTranspose2d {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let [inputs, group_out, kernel @ ..] = self.weights.shape;
        check_channels(channels, inputs)?;
        let input = [height, width];
        let size = self
            .geometry
            .transposed_output_size(kernel, input, self.output_padding);
        let Some([out_height, out_width]) = size else {
            bail!(
                "input {input:?} has no output with kernel {kernel:?} and pads {:?}",
                self.geometry.pads
            );
        };
        let out = group_out * self.weights.groups;
        let mut y = vec![0.0; checked_len(&[batch, out, out_height, out_width])?];
        let columns_geometry = ConvGeometry {
            strides: [1, 1],
            pads: [0; 4],
            dilations: [1, 1],
            groups: self.weights.groups,
        };
        let (columns, _) = convolve(
            x,
            [batch, channels, height, width],
            &self.weights.columns,
            &columns_geometry,
            Activation::None,
        )?;
        if out_height * out_width > 0 {
            y.par_chunks_exact_mut(out_height * out_width)
                .zip(columns.par_chunks_exact(kernel[0] * kernel[1] * height * width))
                .enumerate()
                .for_each(|(plane, (output, columns))| {
                    output.fill(self.weights.bias[plane % out]);
                    self.add_columns(kernel, input, [out_height, out_width], columns, output);
                });
        }
        let shape = Shape::from((batch, out, out_height, out_width));
        Ok((CpuStorage::F32(y), shape))
    }
}

impl ConvTranspose2d {
    /// Adds `[kernel height, kernel width, height, width]` products where they belong in one plane.
    fn add_columns(
        &self,
        kernel: [usize; 2],
        input: [usize; 2],
        output: [usize; 2],
        columns: &[f32],
        plane: &mut [f32],
    ) {
        let ConvGeometry {
            strides,
            pads,
            dilations,
            ..
        } = self.geometry;
        for (tap, products) in columns.chunks_exact(input[0] * input[1]).enumerate() {
            let (k, l) = (tap / kernel[1], tap % kernel[1]);
            let shift = l * dilations[1];
            // Columns j with 0 ≤ j·stride + shift − left < width of the output.
            let first = pads[1].saturating_sub(shift).div_ceil(strides[1]);
            let end = (pads[1] + output[1])
                .saturating_sub(shift)
                .div_ceil(strides[1])
                .min(input[1]);
            if first >= end {
                continue;
            }
            let column = first * strides[1] + shift - pads[1];
            for (i, products) in products.chunks_exact(input[1]).enumerate() {
                let y = (i * strides[0] + k * dilations[0]).wrapping_sub(pads[0]);
                if y < output[0] {
                    let row = &mut plane[y * output[1] + column..(y + 1) * output[1]];
                    let targets = row.iter_mut().step_by(strides[1]);
                    for (to, product) in targets.zip(&products[first..end]) {
                        *to += product;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, assert_sums_close, on_one_and_two_threads, values};
    use super::*;
    use crate::model::{Conv, ConvTranspose, Padding};

    #[test]
    fn agrees_with_the_definition_on_random_shapes() -> Result<()> {
        let mut random = Random::new(51);
        for _ in 0..80 {
            let groups = random.choose(&[1, 1, 2, 3]);
            let (batch, group_in, group_out) = (
                random.between(1, 3),
                random.between(1, 9),
                random.between(1, 5),
            );
            let kernel = [random.between(1, 4), random.between(1, 4)];
            let input = [random.between(3, 9), random.between(3, 9)];
            let geometry = ConvGeometry {
                strides: [random.between(1, 3), random.between(1, 3)],
                pads: [(); 4].map(|()| random.between(0, 1)),
                dilations: [random.between(1, 2), random.between(1, 2)],
                groups,
            };
            let padding = [random.between(0, 1), random.between(0, 1)];
            let Some(output) = geometry.transposed_output_size(kernel, input, padding) else {
                continue;
            };
            let x = random.tensor(&[batch, groups * group_in, input[0], input[1]])?;
            let shape = [groups * group_in, group_out, kernel[0], kernel[1]];
            let w = random.floats(shape.iter().product());
            let bias = random.floats(groups * group_out);
            let weights = Arc::new(ConvTransposeWeights::pack(&w, shape, groups, Some(&bias))?);
            let y = on_one_and_two_threads(|| conv_transpose2d(&x, &weights, &geometry, padding))?;
            assert_eq!(y.dims()[2..], output);

            let out = groups * group_out;
            let mut expected: Vec<(f64, f64)> = (0..batch * out * output[0] * output[1])
                .map(|i| f64::from(bias[i / output[0] / output[1] % out]))
                .map(|bias| (bias, bias.abs()))
                .collect();
            for (index, value) in values(&x)?.iter().enumerate() {
                let (j, i) = (index % input[1], index / input[1] % input[0]);
                let channel = index / input[0] / input[1] % (groups * group_in);
                let n = index / input[0] / input[1] / (groups * group_in);
                for tap in 0..group_out * kernel[0] * kernel[1] {
                    let (l, k) = (tap % kernel[1], tap / kernel[1] % kernel[0]);
                    let m = channel / group_in * group_out + tap / kernel[0] / kernel[1];
                    let row = (i * geometry.strides[0] + k * geometry.dilations[0])
                        .wrapping_sub(geometry.pads[0]);
                    let column = (j * geometry.strides[1] + l * geometry.dilations[1])
                        .wrapping_sub(geometry.pads[1]);
                    if row < output[0] && column < output[1] {
                        let weight = w[channel * group_out * kernel[0] * kernel[1] + tap];
                        let product = f64::from(*value) * f64::from(weight);
                        let at = ((n * out + m) * output[0] + row) * output[1] + column;
                        expected[at].0 += product;
                        expected[at].1 += product.abs();
                    }
                }
            }
            assert_sums_close(&values(&y)?, &expected, &format!("{shape:?} {geometry:?}"));
        }
        Ok(())
    }

    #[test]
    fn forced_output_shape_and_automatic_padding_set_the_pads() -> Result<()> {
        let operator = |padding, output_shape| ConvTranspose {
            conv: Conv {
                strides: vec![2, 2],
                padding,
                dilations: vec![],
                groups: 1,
            },
            output_padding: vec![],
            output_shape,
        };
        let explicit = || Padding::Explicit(vec![]);
        // Kernel 3, input 4: the full output has length 9.
        for (operator, pads, output) in [
            (operator(explicit(), None), [0, 0, 0, 0], [9, 9]),
            (operator(Padding::SameUpper, None), [0, 0, 1, 1], [8, 8]),
            (operator(Padding::SameLower, None), [1, 1, 0, 0], [8, 8]),
            (operator(explicit(), Some(vec![8, 7])), [1, 1, 0, 1], [8, 7]),
            (
                operator(explicit(), Some(vec![10, 9])),
                [0, 0, 0, 0],
                [10, 9],
            ),
        ] {
            let (geometry, padding) = ConvGeometry::resolve_transposed(&operator, [3, 3], [4, 4])?;
            assert_eq!(geometry.pads, pads, "{operator:?}");
            let size = geometry.transposed_output_size([3, 3], [4, 4], padding);
            assert_eq!(size, Some(output), "{operator:?}");
        }
        Ok(())
    }
}
