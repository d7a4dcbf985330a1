//! From sums in registers to finished outputs in memory.

use std::mem::MaybeUninit;

use rten_simd::Isa;
use rten_simd::ops::{BitOps as _, NumOps as _};

use super::super::Activation;
use super::tile::load_pixel;
use super::{BLOCK, Pixel};

/// What happens to the sums of one output block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish<'a> {
    /// Factor of each channel's sum; `None` is 1.
    pub scale: Option<&'a Pixel>,
    pub bias: &'a Pixel,
    /// Added before the activation, in the layout of the output.
    pub residual: Option<&'a [f32]>,
    pub activation: Activation,
    /// Mean, factor and bias of what follows the activation.
    pub after: Option<[&'a Pixel; 3]>,
}

impl<'a> Finish<'a> {
    /// The sums and a bias, nothing else.
    pub(super) fn of_bias(bias: &'a Pixel) -> Self {
        Self {
            scale: None,
            bias,
            residual: None,
            activation: Activation::None,
            after: None,
        }
    }
}

impl Finish<'_> {
    /// Finishes the sums of some pixels and writes them from place `at` of the output on.
    #[inline(always)]
    pub(super) fn write<I: Isa, const R: usize, const P: usize>(
        &self,
        isa: I,
        mut sums: [[I::F32; R]; P],
        at: usize,
        output: &mut [MaybeUninit<f32>],
    ) {
        let ops = isa.f32();
        let lanes = ops.len();
        if let Some(scale) = self.scale {
            let scale = load_pixel::<I, R>(isa, scale);
            let bias = load_pixel::<I, R>(isa, self.bias);
            for sums in &mut sums {
                for ((sum, scale), bias) in sums.iter_mut().zip(scale).zip(bias) {
                    *sum = ops.mul_add(*sum, scale, bias);
                }
            }
        }
        let output = &mut output[at..at + P * BLOCK];
        if self.residual.is_none() && self.after.is_none() {
            // Loops without a choice in them, for what most networks use.
            if let Some([min, max]) = self.activation.bounds() {
                let (min, max) = (ops.splat(min), ops.splat(max));
                write_each(
                    isa,
                    &sums,
                    output,
                    #[inline(always)]
                    |sum| ops.min(max, ops.max(min, sum)),
                );
                return;
            }
            if let Activation::LeakyRelu(slope) = self.activation {
                let (slope, zero) = (ops.splat(slope), ops.zero());
                write_each(
                    isa,
                    &sums,
                    output,
                    #[inline(always)]
                    |sum| ops.select(ops.mul(sum, slope), sum, ops.lt(sum, zero)),
                );
                return;
            }
        }
        // By value, so that the sums are in memory for this loop alone.
        for (pixel, sums) in sums.into_iter().enumerate() {
            for (register, sum) in sums.into_iter().enumerate() {
                let place = pixel * BLOCK + register * lanes;
                let sum = match self.residual {
                    Some(residual) => ops.add(sum, ops.load(&residual[at + place..])),
                    None => sum,
                };
                let y = self.of(isa, sum, register);
                ops.store_uninit(y, &mut output[place..]);
            }
        }
    }

    /// The finished output of one register, of which there are `R` in a pixel.
    #[inline(always)]
    pub(super) fn of<I: Isa>(&self, isa: I, sum: I::F32, register: usize) -> I::F32 {
        let ops = isa.f32();
        let y = self.activation.of(isa, sum);
        match self.after {
            None => y,
            Some([mean, factor, bias]) => {
                // One by one: a closure would not be compiled for these registers.
                let at = register * ops.len();
                let mean = ops.load(&mean[at..]);
                let factor = ops.load(&factor[at..]);
                let bias = ops.load(&bias[at..]);
                ops.add(ops.mul(ops.sub(y, mean), factor), bias)
            }
        }
    }
}

/// Writes a function of the sums of some pixels.
#[inline(always)]
fn write_each<I: Isa, const R: usize, const P: usize>(
    isa: I,
    sums: &[[I::F32; R]; P],
    output: &mut [MaybeUninit<f32>],
    finished: impl Fn(I::F32) -> I::F32,
) {
    let ops = isa.f32();
    for (pixel, sums) in sums.iter().enumerate() {
        for (register, sum) in sums.iter().enumerate() {
            let place = pixel * BLOCK + register * ops.len();
            ops.store_uninit(finished(*sum), &mut output[place..]);
        }
    }
}
