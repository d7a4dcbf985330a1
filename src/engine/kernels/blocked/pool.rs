//! Pools of blocked images.

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rten_simd::SimdOp as _;

use super::super::geometry::PoolGeometry;
use super::super::parallel::{for_each, for_each_chunk, is_divided};
use super::super::planes::Windows;
use super::super::pool::{pool_windows, window_counts};
use super::super::scratch::with_scratch;
use super::super::written::written;
use super::super::{checked_len, contiguous_f32};
use super::layout::blocked_dims;
use super::reduce::{ReduceWindows, Reduction};
use super::strips::{Fill, Source, Strips};
use super::tile::Rows;
use super::{BLOCK, Pixel};

/// Maximum over windows of a blocked image; padding never wins. See [`max_pool2d`](crate::engine::kernels::max_pool2d).
///
/// # Errors
/// A tensor that is not a blocked image, or a window that exceeds the padded input.
pub fn max_pool_blocked(x: &Tensor, geometry: &PoolGeometry) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Pool {
        geometry: *geometry,
        reduction: Reduction::Max,
    })
}

/// Average over windows of a blocked image. See [`average_pool2d`](crate::engine::kernels::average_pool2d).
///
/// # Errors
/// As [`max_pool_blocked`].
pub fn average_pool_blocked(x: &Tensor, geometry: &PoolGeometry) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Pool {
        geometry: *geometry,
        reduction: Reduction::Sum,
    })
}

struct Pool {
    geometry: PoolGeometry,
    reduction: Reduction,
}

/// The input with its padding, which is the neutral element of the reduction.
struct Padded(f32);

impl Fill for Padded {
    type Element = f32;
    fn zero(&self) -> f32 {
        self.0
    }
    fn convert(&self, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        match self.reduction {
            Reduction::Max => "max_pool_blocked",
            Reduction::Sum => "average_pool_blocked",
        }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let [batch, blocks, height, width] = blocked_dims(layout)?;
        let windows = pool_windows(&self.geometry, [height, width])?;
        let strips = Strips::new(&windows)?;
        let [out_height, out_width] = windows.output;
        let shape = [batch, blocks, out_height, out_width, BLOCK];
        let parts = if is_divided() {
            rayon::current_num_threads()
        } else {
            1
        };
        let rows = strips.strip_rows(1, size_of::<Pixel>(), parts.div_ceil(batch * blocks));
        checked_len(&[strips.block_pixels(rows), BLOCK])?;
        let divisors = self.divisors(&windows);
        let offsets: Vec<usize> = strips.offsets().collect();
        let plane = |index: usize| &x[index * height * width * BLOCK..][..height * width * BLOCK];
        let y = written(checked_len(&shape)?, |y| {
            let plane_len = out_height * out_width * BLOCK;
            let mut units = Vec::new();
            for (index, plane) in y.chunks_mut(plane_len.max(1)).enumerate() {
                for (strip, part) in plane.chunks_mut(rows * out_width * BLOCK).enumerate() {
                    units.push((index, strip * rows, part));
                }
            }
            for_each(units, |(index, first, output)| {
                self.strip(
                    &strips,
                    &offsets,
                    divisors.as_deref(),
                    plane(index),
                    first,
                    output,
                );
            });
            Ok(())
        })?;
        Ok((CpuStorage::F32(y), Shape::from_dims(&shape)))
    }
}

impl Pool {
    /// Some rows of one block, from row `first` of the output.
    fn strip(
        &self,
        strips: &Strips,
        offsets: &[usize],
        divisors: Option<&[f32]>,
        plane: &[f32],
        first: usize,
        output: &mut [MaybeUninit<f32>],
    ) {
        let width = strips.windows().output[1];
        let count = output.len() / (width * BLOCK);
        let padding = match self.reduction {
            Reduction::Max => f32::MIN,
            Reduction::Sum => 0.0,
        };
        with_scratch(strips.block_pixels(count) * BLOCK, |buffer, row_buffer| {
            strips.fill(
                &Padded(padding),
                Source::Blocked(plane),
                0..BLOCK,
                first..first + count,
                row_buffer,
                buffer,
            );
            ReduceWindows {
                pixels: buffer.as_chunks().0,
                offsets,
                rows: Rows {
                    start: 0,
                    step: strips.row_step(),
                    count,
                    width,
                },
                reduction: self.reduction,
                divisors: divisors.map(|divisors| &divisors[first * width..]),
                output,
            }
            .dispatch();
        });
    }

    /// What each output pixel is divided by.
    fn divisors(&self, windows: &Windows) -> Option<Vec<f32>> {
        (self.reduction == Reduction::Sum)
            .then(|| window_counts(windows, self.geometry.count_include_pad))
    }
}

/// Average of each channel of a blocked image; gives a plain `[batch, channels, 1, 1]`.
///
/// # Errors
/// A tensor that is not a blocked image of so many channels, or has no pixels.
pub fn global_average_pool_blocked(x: &Tensor, channels: usize) -> Result<Tensor> {
    x.contiguous()?
        .apply_op1_no_bwd(&GlobalAverage { channels })
}

struct GlobalAverage {
    channels: usize,
}

impl CustomOp1 for GlobalAverage {
    fn name(&self) -> &'static str {
        "global_average_pool_blocked"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let [batch, blocks, height, width] = blocked_dims(layout)?;
        let (channels, pixels) = (self.channels, height * width);
        if channels.div_ceil(BLOCK) != blocks || pixels == 0 {
            bail!(
                "{channels} channels and {pixels} pixels do not fit {:?}",
                layout.dims()
            );
        }
        let source = x.as_chunks::<BLOCK>().0;
        let mut y = vec![0.0; batch * channels];
        for_each_chunk(&mut y, channels, |sample, values| {
            let planes = source[sample * blocks * pixels..].chunks_exact(pixels);
            for (values, plane) in values.chunks_mut(BLOCK).zip(planes) {
                let mean = lane_means(plane);
                values.copy_from_slice(&mean[..values.len()]);
            }
        });
        Ok((
            CpuStorage::F32(y),
            Shape::from_dims(&[batch, channels, 1, 1]),
        ))
    }
}

/// Mean of each lane, summed in `f64`.
fn lane_means(pixels: &[Pixel]) -> Pixel {
    let mut sums = [0.0f64; BLOCK];
    for pixel in pixels {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += f64::from(*value);
        }
    }
    sums.map(|sum| (sum / pixels.len() as f64) as f32)
}
