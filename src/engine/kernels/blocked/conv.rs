//! Convolution of blocked images.

use std::mem::MaybeUninit;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::super::conv::{check_channels, windows};
use super::super::geometry::ConvGeometry;
use super::super::parallel::{for_each, is_divided};
use super::super::planes::Windows;
use super::super::scratch::{Element, with_scratch};
use super::super::written::written;
use super::super::{Activation, checked_len, contiguous_f32};
use super::finish::Finish;
use super::integer::{Codes, IntegerWeights};
use super::layout::blocked_dims;
use super::reading::{Copied, Quantized, Steps};
use super::strips::{Fill, Source, Strips};
use super::tile::{Convolve, Input, OutputBlock, Rows, Step, steps_of_blocks};
use super::units::{Unit, blocks_per_unit, units};
use super::weights::{BlockedConvWeights, ChannelAffine, Kind};
use super::winograd;
use super::{BLOCK, Pixel};
use crate::quant::{ActivationQuantizer, Grid};

/// Bytes of pixels that one unit of a pointwise convolution reads.
const POINTWISE_BYTES: usize = 384 << 10;

/// How a convolution reads its input.
#[derive(Clone, Copy, Debug)]
pub struct ConvInput {
    /// Channels of a blocked input; those of a plain one are in its shape.
    pub channels: usize,
    /// How the input is quantized on the way.
    pub quantizer: ActivationQuantizer,
    /// Whether 8-bit inputs and weights are multiplied as integers where the processor can.
    pub integer: bool,
}

/// How a convolution finishes its output.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvOutput<'a> {
    /// A blocked image of the output's shape, added before the activation.
    pub residual: Option<&'a Tensor>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Applied last.
    pub after: Option<&'a ChannelAffine>,
}

/// Convolves a plain `[batch, channels, height, width]` or a blocked image; the result is blocked.
///
/// ```text
/// y[n, m, i, j] = after(act(r + b[m] + s[m] · Σ_{c, k, l} x̂[n, c, i·s₀ + k·d₀ − top, j·s₁ + l·d₁ − left] · w[m, c, k, l]))
/// ```
/// Source: ONNX Conv-11. The input is quantized while it is laid out. The result is the same for any
/// number of threads and any batch size.
///
/// # Errors
/// An input that is not such an image, a channel count other than the weight's, a residual of
/// another shape than the output, or a kernel that exceeds the padded input.
pub fn conv2d_blocked(
    x: &Tensor,
    input: &ConvInput,
    weights: &Arc<BlockedConvWeights>,
    geometry: &ConvGeometry,
    output: ConvOutput<'_>,
) -> Result<Tensor> {
    let blocks = weights.blocks();
    if output.after.is_some_and(|after| after.mean.len() != blocks) {
        bail!(
            "what follows has another number of channels than the {} outputs",
            weights.outputs()
        );
    }
    let operation = Conv2d {
        weights: Arc::clone(weights),
        input: *input,
        geometry: *geometry,
        activation: output.activation,
        after: output.after,
    };
    let x = x.contiguous()?;
    match output.residual {
        None => x.apply_op1_no_bwd(&operation),
        Some(residual) => x.apply_op2_no_bwd(&residual.contiguous()?, &operation),
    }
}

struct Conv2d<'a> {
    weights: Arc<BlockedConvWeights>,
    input: ConvInput,
    geometry: ConvGeometry,
    activation: Activation,
    after: Option<&'a ChannelAffine>,
}

impl CustomOp1 for Conv2d<'_> {
    fn name(&self) -> &'static str {
        "conv2d_blocked"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.convolve(contiguous_f32(storage, layout)?, layout, None)
    }
}

impl CustomOp2 for Conv2d<'_> {
    fn name(&self) -> &'static str {
        "conv2d_blocked_residual"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let residual = contiguous_f32(residual, residual_layout)?;
        self.convolve(
            contiguous_f32(storage, layout)?,
            layout,
            Some((residual, residual_layout)),
        )
    }
}

impl Conv2d<'_> {
    fn convolve(
        &self,
        x: &[f32],
        layout: &Layout,
        residual: Option<(&[f32], &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let is_blocked = layout.dims().len() == 5;
        let [batch, channels, height, width] = if is_blocked {
            let [batch, blocks, height, width] = blocked_dims(layout)?;
            if self.input.channels.div_ceil(BLOCK) != blocks {
                bail!(
                    "{} channels do not fill {blocks} blocks",
                    self.input.channels
                );
            }
            [batch, self.input.channels, height, width]
        } else {
            layout.shape().dims4()?.into()
        };
        check_channels(channels, self.weights.input_channels())?;
        if height * width == 0 {
            bail!("input {:?} has no pixels", layout.dims());
        }
        let windows = windows(&self.geometry, self.weights.kernel(), [height, width])?;
        let [out_height, out_width] = windows.output;
        let shape = [batch, self.weights.blocks(), out_height, out_width, BLOCK];
        if residual.is_some_and(|(_, layout)| layout.dims() != shape) {
            bail!("the residual has another shape than the output {shape:?}");
        }
        let residual = residual.map(|(values, _)| values);
        let len = checked_len(&shape)?;
        let call = Call {
            operation: self,
            x,
            is_blocked,
            channels,
            sample_len: x.len() / batch.max(1),
        };
        let y = written(len, |y| {
            if y.is_empty() {
                return Ok(());
            }
            call.run(&windows, batch, residual, y)
        })?;
        Ok((CpuStorage::F32(y), Shape::from_dims(&shape)))
    }
}

/// One convolution of a batch.
pub(super) struct Call<'a> {
    operation: &'a Conv2d<'a>,
    x: &'a [f32],
    is_blocked: bool,
    channels: usize,
    sample_len: usize,
}

impl Call<'_> {
    pub(super) fn weights(&self) -> &BlockedConvWeights {
        &self.operation.weights
    }

    pub(super) fn activation(&self) -> Activation {
        self.operation.activation
    }

    fn run(
        &self,
        windows: &Windows,
        batch: usize,
        residual: Option<&[f32]>,
        y: &mut [MaybeUninit<f32>],
    ) -> Result<()> {
        let quantizer = self.operation.input.quantizer;
        let weights = self.weights();
        if let (Some(integer), true, ActivationQuantizer::Affine(grid)) =
            (&weights.integer, self.operation.input.integer, quantizer)
            && let Some(codes) = Codes::of(&grid)
            && self.is_blocked
        {
            return self.run_as(
                &codes,
                Arithmetic::Integer(integer, &grid),
                windows,
                batch,
                residual,
                y,
            );
        }
        match (quantizer, &weights.scale) {
            (ActivationQuantizer::Identity, _) => {
                self.run_floats(&Copied, Arithmetic::Float, windows, batch, residual, y)
            }
            (ActivationQuantizer::Affine(grid), Some(_)) => self.run_floats(
                &Steps(grid),
                Arithmetic::Steps {
                    scale: grid.scale(),
                    is_exact: weights.has_short_steps && Codes::of(&grid).is_some(),
                },
                windows,
                batch,
                residual,
                y,
            ),
            (quantizer, _) => self.run_floats(
                &Quantized(quantizer),
                Arithmetic::Float,
                windows,
                batch,
                residual,
                y,
            ),
        }
    }

    fn run_floats<F: Fill<Element = f32>>(
        &self,
        fill: &F,
        arithmetic: Arithmetic<'_>,
        windows: &Windows,
        batch: usize,
        residual: Option<&[f32]>,
        y: &mut [MaybeUninit<f32>],
    ) -> Result<()> {
        match self.weights().kind {
            Kind::Dense => self.run_as(fill, arithmetic, windows, batch, residual, y),
            Kind::Depthwise => {
                let scale = self.scales(arithmetic);
                let pass = Pass {
                    call: self,
                    fill: fill as &dyn Fill<Element = f32>,
                    arithmetic,
                    scale: scale.as_deref(),
                };
                pass.depthwise(windows, batch, residual, y)
            }
        }
    }

    fn run_as<F: Fill>(
        &self,
        fill: &F,
        arithmetic: Arithmetic<'_>,
        windows: &Windows,
        batch: usize,
        residual: Option<&[f32]>,
        y: &mut [MaybeUninit<f32>],
    ) -> Result<()>
    where
        F::Element: Scratch,
    {
        let scale = self.scales(arithmetic);
        let pass = Pass {
            call: self,
            fill,
            arithmetic,
            scale: scale.as_deref(),
        };
        let blocks = self.weights().blocks();
        let plane_len = windows.output[0] * windows.output[1] * BLOCK;
        let may_round = matches!(
            arithmetic,
            Arithmetic::Float
                | Arithmetic::Steps {
                    is_exact: false,
                    ..
                }
        );
        if may_round && self.is_blocked && winograd::gains(self.weights(), windows) {
            return pass.winograd(self.weights().winograd(), windows, batch, residual, y);
        }
        if is_pointwise(windows) && self.is_blocked {
            let pixels = plane_len / BLOCK;
            let in_blocks = self.channels.div_ceil(BLOCK);
            let fitting = POINTWISE_BYTES / (in_blocks * BLOCK * size_of::<F::Element>());
            let parts = parts_of_sample(batch).min(pixels.div_ceil(28));
            let part = fitting
                .max(28)
                .min(pixels.div_ceil(parts))
                .next_multiple_of(4);
            let strips = pixels.div_ceil(part);
            let units = units(
                y,
                residual,
                [batch, blocks, plane_len],
                [part, BLOCK],
                blocks_per_unit(blocks, batch * strips),
            );
            for_each(units, |unit| pass.pointwise(pixels, unit));
        } else {
            let strips = Strips::new(windows)?;
            let element = size_of::<F::Element>();
            let (in_blocks, pixel_bytes) = if self.is_blocked {
                (self.channels.div_ceil(BLOCK), BLOCK * element)
            } else {
                (self.channels, element)
            };
            let rows = strips.strip_rows(in_blocks, pixel_bytes, parts_of_sample(batch));
            checked_len(&[in_blocks, strips.block_pixels(rows), pixel_bytes])?;
            let strip_count = windows.output[0].div_ceil(rows);
            let units = units(
                y,
                residual,
                [batch, blocks, plane_len],
                [rows, windows.output[1] * BLOCK],
                blocks_per_unit(blocks, batch * strip_count),
            );
            if self.is_blocked {
                for_each(units, |unit| pass.strip(&strips, unit));
            } else {
                for_each(units, |unit| pass.strip_of_planes(&strips, unit));
            }
        }
        Ok(())
    }

    /// The factor of every output channel's sum.
    fn scales(&self, arithmetic: Arithmetic<'_>) -> Option<Vec<Pixel>> {
        let input = match arithmetic {
            Arithmetic::Float => 1.0,
            Arithmetic::Steps { scale, .. } => scale,
            Arithmetic::Integer(_, grid) => grid.scale(),
        };
        let scale = self.weights().scale.as_ref()?;
        Some(scale.iter().map(|pixel| pixel.map(|s| s * input)).collect())
    }

    pub(super) fn source(&self, sample: usize) -> Source<'_> {
        let values = &self.x[sample * self.sample_len..][..self.sample_len];
        if self.is_blocked {
            Source::Blocked(values)
        } else {
            Source::Planes(values)
        }
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }
}

/// Parts of a sample's output that give every thread work.
pub(super) fn parts_of_sample(batch: usize) -> usize {
    if is_divided() {
        (2 * rayon::current_num_threads()).div_ceil(batch)
    } else {
        1
    }
}

fn is_pointwise(windows: &Windows) -> bool {
    windows.kernel == [1, 1] && windows.strides == [1, 1] && windows.pads == [0; 4]
}

/// What the sums are made of.
#[derive(Clone, Copy)]
pub(super) enum Arithmetic<'a> {
    /// Floats.
    Float,
    /// An input in steps of `scale`; exact where the sums must be those of the integer kernel.
    Steps { scale: f32, is_exact: bool },
    /// Integers.
    Integer(&'a IntegerWeights, &'a Grid),
}

/// One way of computing a call.
pub(super) struct Pass<'a, F: ?Sized> {
    pub call: &'a Call<'a>,
    pub fill: &'a F,
    arithmetic: Arithmetic<'a>,
    pub scale: Option<&'a [Pixel]>,
}

/// Elements that a thread keeps a buffer of, and that the tiles know how to multiply.
pub(super) trait Scratch: Element + Send + Sync {
    /// The buffer as pixels of floats; `None` for codes.
    fn floats(buffer: &[Self]) -> Option<&[Pixel]>;
    /// The buffer as it is; `None` for codes.
    fn numbers(buffer: &[Self]) -> Option<&[f32]>;
    /// The buffer as pixels of codes; `None` for floats.
    fn codes(buffer: &[Self]) -> Option<&[[u8; BLOCK]]>;
}

impl Scratch for f32 {
    fn numbers(buffer: &[Self]) -> Option<&[f32]> {
        Some(buffer)
    }
    fn floats(buffer: &[Self]) -> Option<&[Pixel]> {
        Some(buffer.as_chunks().0)
    }
    fn codes(_buffer: &[Self]) -> Option<&[[u8; BLOCK]]> {
        None
    }
}

impl Scratch for u8 {
    fn numbers(_buffer: &[Self]) -> Option<&[f32]> {
        None
    }
    fn floats(_buffer: &[Self]) -> Option<&[Pixel]> {
        None
    }
    fn codes(buffer: &[Self]) -> Option<&[[u8; BLOCK]]> {
        Some(buffer.as_chunks().0)
    }
}

impl<F: Fill> Pass<'_, F>
where
    F::Element: Scratch,
{
    /// A strip of rows of a convolution over all input channels.
    fn strip(&self, strips: &Strips, unit: Unit<'_>) {
        let call = self.call;
        let in_blocks = call.channels.div_ceil(BLOCK);
        let block_pixels = strips.block_pixels(unit.rows.len());
        let rows = Rows {
            start: 0,
            step: strips.row_step(),
            count: unit.rows.len(),
            width: strips.windows().output[1],
        };
        with_scratch(in_blocks * block_pixels * BLOCK, |buffer, row_buffer| {
            strips.fill(
                self.fill,
                call.source(unit.sample),
                0..call.channels,
                unit.rows.clone(),
                row_buffer,
                buffer,
            );
            let offsets: Vec<usize> = strips.offsets().collect();
            let steps = steps_of_blocks(call.channels, block_pixels, &offsets);
            self.blocks(buffer, &steps, rows, unit);
        });
    }

    /// A strip of rows of a convolution of planes, which stay planes.
    fn strip_of_planes(&self, strips: &Strips, unit: Unit<'_>) {
        let call = self.call;
        let plane_len = strips.block_pixels(unit.rows.len());
        let rows = Rows {
            start: 0,
            step: strips.row_step(),
            count: unit.rows.len(),
            width: strips.windows().output[1],
        };
        let planes = &call.x[unit.sample * call.sample_len..][..call.sample_len];
        with_scratch(call.channels * plane_len, |buffer, row_buffer| {
            let outputs = unit.rows.clone();
            strips.fill_planes(
                self.fill,
                planes,
                call.channels,
                outputs,
                row_buffer,
                buffer,
            );
            let Some(numbers) = F::Element::numbers(buffer) else {
                return;
            };
            let offsets: Vec<usize> = strips.offsets().collect();
            // In the order of the packed weights: block, kernel element, channel of the block.
            let blocks = (0..call.channels).step_by(BLOCK);
            let steps: Vec<Step> = blocks
                .flat_map(|first| offsets.iter().map(move |offset| (first, offset)))
                .flat_map(|(first, offset)| {
                    (first..call.channels.min(first + BLOCK)).map(move |channel| Step {
                        offset: channel * plane_len + offset,
                        channels: 1,
                    })
                })
                .collect();
            self.float_blocks(numbers, &steps, rows, unit);
        });
    }

    /// A run of pixels of a convolution with a kernel of one element.
    fn pointwise(&self, pixels: usize, unit: Unit<'_>) {
        let call = self.call;
        let in_blocks = call.channels.div_ceil(BLOCK);
        let source = &call.x[unit.sample * call.sample_len..][..call.sample_len];
        let run = unit.rows.clone();
        let rows = |start: usize| Rows {
            start,
            step: 0,
            count: 1,
            width: run.len(),
        };
        if matches!(
            call.operation.input.quantizer,
            ActivationQuantizer::Identity
        ) {
            let steps = steps_of_blocks(call.channels, pixels, &[0]);
            let pixels: &[Pixel] = source.as_chunks().0;
            self.float_blocks(pixels, &steps, rows(run.start), unit);
            return;
        }
        with_scratch(in_blocks * run.len() * BLOCK, |buffer, _| {
            for (block, target) in buffer.chunks_exact_mut(run.len() * BLOCK).enumerate() {
                let at = (block * pixels + run.start) * BLOCK;
                self.fill.convert(&source[at..at + target.len()], target);
            }
            let steps = steps_of_blocks(call.channels, run.len(), &[0]);
            self.blocks(buffer, &steps, rows(0), unit);
        });
    }

    fn blocks(&self, buffer: &[F::Element], steps: &[Step], rows: Rows, unit: Unit<'_>) {
        match (
            self.arithmetic,
            F::Element::codes(buffer),
            F::Element::floats(buffer),
        ) {
            (Arithmetic::Integer(integer, grid), Some(codes), _) => {
                let first_block = unit.first_block;
                let residuals = unit.residuals;
                for (index, output) in unit.outputs.into_iter().enumerate() {
                    let finish = self.finish(first_block + index, residuals.get(index).copied());
                    integer.convolve_block(
                        first_block + index,
                        codes,
                        steps,
                        rows,
                        grid,
                        finish,
                        output,
                    );
                }
            }
            (_, _, Some(pixels)) => self.float_blocks(pixels, steps, rows, unit),
            _ => {}
        }
    }

    fn float_blocks<T: Input>(&self, pixels: &[T], steps: &[Step], rows: Rows, unit: Unit<'_>) {
        let weights = self.call.weights();
        let block_len = weights.kernel_len() * weights.shape[1];
        let strip = Convolve {
            pixels,
            steps,
            rows,
        };
        let (first_block, residuals) = (unit.first_block, unit.residuals);
        let outputs = (0..).zip(unit.outputs);
        strip.run(outputs.map(|(index, output)| OutputBlock {
            weights: &weights.rows[(first_block + index) * block_len..][..block_len],
            finish: self.finish(first_block + index, residuals.get(index).copied()),
            output,
        }));
    }
}

impl<F: ?Sized> Pass<'_, F> {
    pub(super) fn finish<'b>(&'b self, block: usize, residual: Option<&'b [f32]>) -> Finish<'b> {
        Finish {
            scale: self.scale.and_then(|scale| scale.get(block)),
            bias: &self.call.weights().bias[block],
            residual,
            activation: self.call.activation(),
            after: self
                .call
                .operation
                .after
                .map(|after| [&after.mean[block], &after.factor[block], &after.bias[block]]),
        }
    }
}
