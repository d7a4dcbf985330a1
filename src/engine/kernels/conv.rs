//! Two-dimensional convolution with weights that are packed once.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use rten_simd::SimdOp as _;

use super::depthwise::{ChannelBuffers, Reduction, reduce_channel, window_tile_width};
use super::gemm::{BLOCK_PANELS, ConvolvePanels, PackedRows, tile_width};
use super::geometry::ConvGeometry;
use super::planes::{ShiftedPlanes, Windows, planned};
use super::{Activation, checked_len, contiguous_f32};

/// Weight and bias of a convolution, laid out for the kernels.
#[derive(Debug)]
pub struct ConvWeights {
    shape: [usize; 4],
    groups: usize,
    packed: Packed,
}

#[derive(Debug)]
enum Packed {
    /// One input channel a group: weights `[out, height · width]` and bias.
    Depthwise { weights: Vec<f32>, bias: Vec<f32> },
    /// A matrix `[out / groups, in / groups · height · width]` for each group.
    Groups(Vec<PackedRows>),
}

impl ConvWeights {
    /// Packs a weight `[out, in / groups, height, width]` and a bias `[out]`.
    ///
    /// # Errors
    /// A weight or bias of another length than the shape says, an empty kernel, or groups that do not
    /// divide the output channels.
    pub fn pack(
        weight: &[f32],
        shape: [usize; 4],
        groups: usize,
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let [out, inputs, height, width] = shape;
        check_weight(weight, shape, out, groups, bias)?;
        let bias = bias.map_or_else(|| vec![0.0; out], <[f32]>::to_vec);
        let depth = inputs * height * width;
        let packed = if inputs == 1 && groups > 1 {
            Packed::Depthwise {
                weights: weight.to_vec(),
                bias,
            }
        } else {
            let rows = out / groups;
            let matrices = weight.chunks_exact(rows * depth);
            let packed = matrices
                .zip(bias.chunks_exact(rows))
                .map(|(matrix, bias)| PackedRows::pack(matrix, depth, bias.to_vec()));
            Packed::Groups(packed.collect())
        };
        Ok(Self {
            shape,
            groups,
            packed,
        })
    }

    /// Shape of the weight, `[out, in / groups, height, width]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Kernel `[height, width]`.
    pub fn kernel(&self) -> [usize; 2] {
        [self.shape[2], self.shape[3]]
    }
}

/// Checks lengths against a weight shape; `out` is the number of output channels.
pub(super) fn check_weight(
    weight: &[f32],
    shape: [usize; 4],
    out: usize,
    groups: usize,
    bias: Option<&[f32]>,
) -> Result<()> {
    if checked_len(&shape)? != weight.len() {
        bail!(
            "weight has {} elements, expected shape {shape:?}",
            weight.len()
        );
    }
    if shape.contains(&0) {
        bail!("weight of shape {shape:?} is empty");
    }
    if groups == 0 || !shape[0].is_multiple_of(groups) {
        bail!(
            "group is {groups}, expected a divisor of {} channels",
            shape[0]
        );
    }
    match bias {
        Some(bias) if bias.len() != out => bail!(
            "bias has {} elements, expected one for each of {out} output channels",
            bias.len()
        ),
        _ => Ok(()),
    }
}

/// Convolves `[batch, channels, height, width]` with packed weights.
///
/// ```text
/// y[n, m, i, j] = act(b[m] + Σ_{c, k, l} x[n, c, i·s₀ + k·d₀ − top, j·s₁ + l·d₁ − left] · w[m, c, k, l])
/// ```
/// Source: ONNX Conv-11. The result is the same for any number of threads and any batch size.
///
/// # Errors
/// An input that is not four-dimensional `f32`, a channel count other than the weight's, or a kernel
/// that exceeds the padded input.
pub fn conv2d(
    x: &Tensor,
    weights: &Arc<ConvWeights>,
    geometry: &ConvGeometry,
    activation: Activation,
) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Conv2d {
        weights: Arc::clone(weights),
        geometry: *geometry,
        activation,
    })
}

struct Conv2d {
    weights: Arc<ConvWeights>,
    geometry: ConvGeometry,
    activation: Activation,
}

impl CustomOp1 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let dims = layout.shape().dims4()?;
        let (y, shape) = convolve(
            x,
            dims.into(),
            &self.weights,
            &self.geometry,
            self.activation,
        )?;
        Ok((CpuStorage::F32(y), Shape::from_dims(&shape)))
    }
}

/// The slice form of [`conv2d`]; returns the output and its shape.
pub(super) fn convolve(
    x: &[f32],
    dims: [usize; 4],
    weights: &ConvWeights,
    geometry: &ConvGeometry,
    activation: Activation,
) -> Result<(Vec<f32>, [usize; 4])> {
    let [batch, channels, height, width] = dims;
    let [out, group_channels, kernel @ ..] = weights.shape;
    check_channels(channels, group_channels * weights.groups)?;
    if geometry.groups != weights.groups {
        bail!(
            "group is {}, expected {} as in the packed weight",
            geometry.groups,
            weights.groups
        );
    }
    if height * width == 0 {
        bail!("input {dims:?} has no pixels");
    }
    let windows = windows(geometry, kernel, [height, width])?;
    let shape = [batch, out, windows.output[0], windows.output[1]];
    let mut y = vec![0.0; checked_len(&shape)?];
    match &weights.packed {
        Packed::Depthwise {
            weights: kernels,
            bias,
        } => {
            let layout = planned(&windows, window_tile_width(), 1)?;
            let multiplier = out / weights.groups;
            let images = [multiplier, height * width];
            convolve_channels(&layout, kernels, bias, activation, x, images, &mut y);
        }
        Packed::Groups(packed) => {
            let layout = planned(&windows, tile_width(), group_channels)?;
            let samples = Samples {
                weights: packed,
                offsets: column_offsets(&layout, group_channels),
                buffer_len: layout.buffer_len(group_channels).unwrap_or(0),
                layout,
                activation,
                image_len: height * width,
            };
            let group_out = out / weights.groups * shape[2] * shape[3];
            samples.convolve_all(x, group_channels * height * width, &mut y, group_out);
        }
    }
    Ok((y, shape))
}

/// Convolves each channel on its own, in parallel; each gives `multiplier` outputs.
fn convolve_channels(
    layout: &ShiftedPlanes,
    weights: &[f32],
    bias: &[f32],
    activation: Activation,
    x: &[f32],
    [multiplier, image_len]: [usize; 2],
    y: &mut [f32],
) {
    let kernel_len = layout.taps.len();
    y.par_chunks_exact_mut(layout.output_len())
        .enumerate()
        .for_each_init(ChannelBuffers::default, |buffers, (index, output)| {
            let channel = index % bias.len();
            let image = &x[index / multiplier * image_len..][..image_len];
            let reduction = Reduction::WeightedSum {
                weights: &weights[channel * kernel_len..(channel + 1) * kernel_len],
                bias: bias[channel],
                activation,
            };
            reduce_channel(layout, reduction, image, 0.0, buffers, output);
        });
}

pub(super) fn check_channels(channels: usize, expected: usize) -> Result<()> {
    if channels == expected {
        return Ok(());
    }
    let plural = if channels == 1 { "" } else { "s" };
    bail!("input has {channels} channel{plural}, weight expects {expected}")
}

pub(super) fn windows(
    geometry: &ConvGeometry,
    kernel: [usize; 2],
    input: [usize; 2],
) -> Result<Windows> {
    let Some(output) = geometry.output_size(kernel, input) else {
        bail!(
            "kernel {kernel:?} with dilations {:?} exceeds the input {input:?} with pads {:?}",
            geometry.dilations,
            geometry.pads
        );
    };
    Ok(Windows {
        kernel,
        strides: geometry.strides,
        pads: geometry.pads,
        dilations: geometry.dilations,
        input,
        output,
    })
}

/// Offset from the output position for each column of the weight matrix.
fn column_offsets(planes: &ShiftedPlanes, channels: usize) -> Vec<usize> {
    (0..channels)
        .flat_map(|channel| {
            let first = channel * planes.channel_len();
            planes.taps.iter().map(move |tap| first + tap)
        })
        .collect()
}

/// A convolution that is applied to each sample and group.
struct Samples<'a> {
    weights: &'a [PackedRows],
    layout: ShiftedPlanes,
    offsets: Vec<usize>,
    buffer_len: usize,
    activation: Activation,
    image_len: usize,
}

impl Samples<'_> {
    /// One task for each sample and group; tasks split further where there are few.
    fn convolve_all(&self, x: &[f32], group_in: usize, y: &mut [f32], group_out: usize) {
        let few = y.len() < 4 * rayon::current_num_threads() * group_out;
        y.par_chunks_mut(group_out)
            .zip(x.par_chunks(group_in))
            .enumerate()
            .for_each_init(
                Vec::new,
                |buffer: &mut Vec<f32>, (index, (output, image))| {
                    buffer.resize(self.buffer_len, 0.0);
                    let rows = &self.weights[index % self.weights.len()];
                    if few {
                        self.convolve_split(image, rows, buffer, output);
                    } else {
                        self.convolve(image, rows, buffer, output);
                    }
                },
            );
    }

    fn convolve(&self, image: &[f32], rows: &PackedRows, buffer: &mut [f32], output: &mut [f32]) {
        for (image, planes) in image
            .chunks_exact(self.image_len)
            .zip(buffer.chunks_mut(self.layout.channel_len()))
        {
            self.layout.fill_channel(image, 0.0, planes);
        }
        let chunk = self.block_len(BLOCK_PANELS);
        for (panels, output) in rows.blocks(BLOCK_PANELS).zip(output.chunks_mut(chunk)) {
            self.convolve_panels(panels, buffer, output);
        }
    }

    /// Like `convolve`, with channels and rows of the weight matrix in parallel.
    fn convolve_split(
        &self,
        image: &[f32],
        rows: &PackedRows,
        buffer: &mut [f32],
        output: &mut [f32],
    ) {
        image
            .par_chunks_exact(self.image_len)
            .zip(buffer.par_chunks_mut(self.layout.channel_len()))
            .for_each(|(image, planes)| self.layout.fill_channel(image, 0.0, planes));
        let panels = rows
            .panel_count()
            .div_ceil(rayon::current_num_threads())
            .clamp(1, BLOCK_PANELS);
        let blocks: Vec<_> = rows.blocks(panels).collect();
        let buffer = &*buffer;
        blocks
            .into_par_iter()
            .zip(output.par_chunks_mut(self.block_len(panels)))
            .for_each(|(panels, output)| self.convolve_panels(panels, buffer, output));
    }

    fn block_len(&self, panels: usize) -> usize {
        PackedRows::rows_in(panels) * self.layout.output_len()
    }

    fn convolve_panels(&self, panels: super::gemm::Panels<'_>, planes: &[f32], output: &mut [f32]) {
        ConvolvePanels {
            panels,
            offsets: &self.offsets,
            layout: &self.layout,
            planes,
            activation: self.activation,
            output,
        }
        .dispatch();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Case, Random, assert_sums_close, on_one_and_two_threads, reference, values,
    };
    use super::*;

    fn check(case: &Case, random: &mut Random) -> Result<()> {
        let x = random.tensor(&case.input)?;
        let w = random.floats(case.weight.iter().product());
        let bias = random.floats(case.weight[0]);
        let weights = Arc::new(ConvWeights::pack(
            &w,
            case.weight,
            case.geometry.groups,
            Some(&bias),
        )?);
        let run = || conv2d(&x, &weights, &case.geometry, Activation::None);
        let y = on_one_and_two_threads(run)?;
        let expected = reference(case, &values(&x)?, &w, &bias);
        let context = format!("{:?} {:?} {:?}", case.input, case.weight, case.geometry);
        assert_sums_close(&values(&y)?, &expected, &context);
        Ok(())
    }

    fn plain(groups: usize) -> ConvGeometry {
        ConvGeometry {
            strides: [1, 1],
            pads: [1; 4],
            dilations: [1, 1],
            groups,
        }
    }

    #[test]
    fn agrees_with_the_definition_on_random_shapes() -> Result<()> {
        let mut random = Random::new(1);
        for _ in 0..120 {
            check(&Case::random(&mut random), &mut random)?;
        }
        Ok(())
    }

    #[test]
    fn agrees_with_the_definition_on_shapes_of_networks() -> Result<()> {
        let unpadded = |strides| ConvGeometry {
            strides,
            pads: [0; 4],
            ..plain(1)
        };
        let mut random = Random::new(2);
        for case in [
            Case::new([2, 64, 14, 14], [70, 64, 3, 3], plain(1)),
            Case::new([1, 300, 4, 4], [130, 300, 1, 1], unpadded([1, 1])),
            Case::new([2, 256, 8, 8], [16, 256, 1, 1], unpadded([1, 1])),
            Case::new([9, 16, 9, 9], [32, 16, 1, 1], unpadded([2, 2])),
            Case::new([2, 24, 1, 1], [6, 24, 1, 1], unpadded([1, 1])),
            Case::new([1, 3, 40, 1], [5, 3, 7, 1], unpadded([2, 1])),
            Case::new([3, 1, 1, 50], [4, 1, 1, 9], unpadded([1, 3])),
            Case::new([2, 12, 15, 15], [12, 1, 3, 3], plain(12)),
            Case::new([1, 5, 30, 31], [15, 1, 3, 3], plain(5)),
            Case::new(
                [1, 4, 33, 33],
                [4, 4, 3, 3],
                ConvGeometry {
                    dilations: [24, 24],
                    pads: [24; 4],
                    ..plain(1)
                },
            ),
        ] {
            check(&case, &mut random)?;
        }
        Ok(())
    }

    #[test]
    fn sample_does_not_depend_on_its_batch() -> Result<()> {
        let mut random = Random::new(3);
        for (channels, groups) in [(40, 1), (40, 40), (40, 4)] {
            let shape = [80, channels / groups, 3, 3];
            let w = random.floats(shape.iter().product());
            let weights = Arc::new(ConvWeights::pack(&w, shape, groups, None)?);
            let x = random.tensor(&[12, channels, 11, 11])?;
            let all = conv2d(&x, &weights, &plain(groups), Activation::Relu)?;
            let one = conv2d(
                &x.narrow(0, 7, 1)?,
                &weights,
                &plain(groups),
                Activation::Relu,
            )?;
            assert_eq!(values(&all.narrow(0, 7, 1)?)?, values(&one)?);
        }
        Ok(())
    }

    #[test]
    fn activations_follow_the_sum() -> Result<()> {
        let mut random = Random::new(4);
        for groups in [1, 6] {
            let shape = [6, 6 / groups, 3, 3];
            let w = random.floats(shape.iter().product());
            let weights = Arc::new(ConvWeights::pack(&w, shape, groups, None)?);
            let x = random.tensor(&[2, 6, 7, 9])?;
            let run = |activation| values(&conv2d(&x, &weights, &plain(groups), activation)?);
            let linear = run(Activation::None)?;
            let check = |activation, function: fn(f32) -> f32| -> Result<()> {
                let expected: Vec<f32> = linear.iter().copied().map(function).collect();
                assert_eq!(run(activation)?, expected);
                Ok(())
            };
            check(Activation::Relu, |x| x.max(0.0))?;
            check(Activation::LeakyRelu(0.25), |x| {
                if x < 0.0 { 0.25 * x } else { x }
            })?;
            check(
                Activation::Clip {
                    min: -0.5,
                    max: 0.75,
                },
                |x| x.clamp(-0.5, 0.75),
            )?;
        }
        Ok(())
    }

    #[test]
    fn strided_views_and_empty_batches_are_inputs_too() -> Result<()> {
        let mut random = Random::new(5);
        let w = random.floats(2 * 3 * 9);
        let weights = Arc::new(ConvWeights::pack(&w, [2, 3, 3, 3], 1, None)?);
        let x = random.tensor(&[2, 3, 8, 6])?;
        let view = x.transpose(2, 3)?;
        let copy = view.contiguous()?;
        let run = |x: &Tensor| conv2d(x, &weights, &plain(1), Activation::None);
        assert_eq!(values(&run(&view)?)?, values(&run(&copy)?)?);
        let empty = run(&x.narrow(0, 0, 0)?)?;
        assert_eq!(empty.dims(), &[0, 2, 8, 6]);
        Ok(())
    }

    #[test]
    fn errors_name_what_does_not_fit() -> Result<()> {
        let weights = Arc::new(ConvWeights::pack(&[0.0; 27], [1, 3, 3, 3], 1, None)?);
        let x = Tensor::zeros(
            (1, 1, 5, 5),
            candle_core::DType::F32,
            &candle_core::Device::Cpu,
        )?;
        let message =
            |result: Result<Tensor>| result.err().map(|e| e.to_string()).unwrap_or_default();
        let wrong_channels = message(conv2d(&x, &weights, &plain(1), Activation::None));
        assert!(
            wrong_channels.contains("input has 1 channel, weight expects 3"),
            "{wrong_channels}"
        );
        let small = Tensor::zeros(
            (1, 3, 2, 5),
            candle_core::DType::F32,
            &candle_core::Device::Cpu,
        )?;
        let unpadded = ConvGeometry {
            pads: [0; 4],
            ..plain(1)
        };
        let too_small = message(conv2d(&small, &weights, &unpadded, Activation::None));
        assert!(
            too_small.contains("exceeds the input [2, 5]"),
            "{too_small}"
        );
        assert!(ConvWeights::pack(&[0.0; 26], [1, 3, 3, 3], 1, None).is_err());
        assert!(ConvWeights::pack(&[0.0; 27], [1, 3, 3, 3], 2, None).is_err());
        assert!(ConvWeights::pack(&[0.0; 27], [1, 3, 3, 3], 1, Some(&[0.0; 2])).is_err());
        Ok(())
    }
}
