//! A factor and an offset for each channel.

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::super::contiguous_f32;
use super::super::parallel::for_each_chunk;
use super::super::written::written;
use super::layout::blocked_dims;
use super::weights::ChannelAffine;
use super::{BLOCK, Pixel};

/// `(x − mean) · factor + bias` of a blocked image, with one number of each for every channel.
///
/// # Errors
/// A tensor that is not a blocked image, or another number of blocks.
pub fn scale_and_shift_blocked(x: &Tensor, affine: &ChannelAffine) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&ScaleAndShift(affine))
}

struct ScaleAndShift<'a>(&'a ChannelAffine);

impl CustomOp1 for ScaleAndShift<'_> {
    fn name(&self) -> &'static str {
        "scale_and_shift_blocked"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let [_, blocks, height, width] = blocked_dims(layout)?;
        let ChannelAffine { mean, factor, bias } = self.0;
        if [mean.len(), factor.len(), bias.len()] != [blocks; 3] {
            bail!("expected a number for each of {blocks} blocks of channels");
        }
        let plane = height * width * BLOCK;
        let y = written(x.len(), |y| {
            for_each_chunk(y, plane.max(1), |index, output| {
                let block = index % blocks;
                Plane {
                    x: &x[index * plane..][..plane],
                    parameters: [&mean[block], &factor[block], &bias[block]],
                    output,
                }
                .dispatch();
            });
            Ok(())
        })?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

struct Plane<'a> {
    x: &'a [f32],
    parameters: [&'a Pixel; 3],
    /// Every number is written.
    output: &'a mut [MaybeUninit<f32>],
}

impl SimdOp for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        let [mean, factor, bias] = self.parameters;
        let pixels = self
            .x
            .chunks_exact(BLOCK)
            .zip(self.output.chunks_exact_mut(BLOCK));
        for (x, y) in pixels {
            for register in (0..BLOCK).step_by(lanes) {
                let mean = ops.load(&mean[register..]);
                let factor = ops.load(&factor[register..]);
                let bias = ops.load(&bias[register..]);
                let value = ops.sub(ops.load(&x[register..]), mean);
                let value = ops.add(ops.mul(value, factor), bias);
                ops.store_uninit(value, &mut y[register..]);
            }
        }
    }
}
