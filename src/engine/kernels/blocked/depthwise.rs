//! Channels convolved on their own, and windows reduced: all lanes of a block at once.

use std::mem::MaybeUninit;

use rten_simd::ops::{BitOps as _, FloatOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::tile::{Finish, Rows, load_pixel};
use super::{BLOCK, Pixel};

/// Pixels of a tile.
const TILE: usize = 6;

/// One block of one strip of a depthwise convolution.
pub(super) struct ConvolveChannels<'a> {
    pub pixels: &'a [Pixel],
    /// Distance of each kernel element from the pixel that an output starts at.
    pub offsets: &'a [usize],
    /// One weight a channel for each kernel element.
    pub weights: &'a [Pixel],
    pub rows: Rows,
    pub finish: Finish<'a>,
    /// Every number is written.
    pub output: &'a mut [MaybeUninit<f32>],
}

impl SimdOp for ConvolveChannels<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            16 => self.rows_of_tiles::<I, 1>(isa),
            8 => self.rows_of_tiles::<I, 2>(isa),
            _ => self.rows_of_tiles::<I, 4>(isa),
        }
    }
}

impl ConvolveChannels<'_> {
    #[inline(always)]
    fn rows_of_tiles<I: Isa, const R: usize>(mut self, isa: I) {
        let Rows { count, width, .. } = self.rows;
        for row in 0..count {
            let mut column = 0;
            while column + TILE <= width {
                self.tile::<I, R, TILE>(isa, row, column);
                column += TILE;
            }
            if column < width && width >= TILE {
                self.tile::<I, R, TILE>(isa, row, width - TILE);
                continue;
            }
            while column < width {
                self.tile::<I, R, 1>(isa, row, column);
                column += 1;
            }
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize, const P: usize>(&mut self, isa: I, row: usize, column: usize) {
        let ops = isa.f32();
        let lanes = ops.len();
        let first = match self.finish.scale {
            None => load_pixel::<I, R>(isa, self.finish.bias),
            Some(_) => [ops.zero(); R],
        };
        let start = self.rows.start + row * self.rows.step + column;
        let mut sums = [first; P];
        for (offset, weights) in self.offsets.iter().zip(self.weights) {
            let weights = load_pixel::<I, R>(isa, weights);
            let pixels = &self.pixels[start + offset..][..P];
            for (sums, pixel) in sums.iter_mut().zip(pixels) {
                let values = load_pixel::<I, R>(isa, pixel);
                for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(values) {
                    *sum = ops.mul_add(weight, value, *sum);
                }
            }
        }
        if let Some(scale) = self.finish.scale {
            let (scale, bias) = (
                load_pixel::<I, R>(isa, scale),
                load_pixel::<I, R>(isa, self.finish.bias),
            );
            for sums in &mut sums {
                for ((sum, scale), bias) in sums.iter_mut().zip(scale).zip(bias) {
                    *sum = ops.mul_add(*sum, scale, bias);
                }
            }
        }
        let at = (row * self.rows.width + column) * BLOCK;
        let output = &mut self.output[at..at + P * BLOCK];
        for (pixel, sums) in sums.into_iter().enumerate() {
            for (register, sum) in sums.into_iter().enumerate() {
                let place = pixel * BLOCK + register * lanes;
                let sum = match self.finish.residual {
                    Some(residual) => ops.add(sum, ops.load(&residual[at + place..])),
                    None => sum,
                };
                ops.store_uninit(self.finish.of(isa, sum, register), &mut output[place..]);
            }
        }
    }
}

/// What happens to the pixels of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    /// The largest of each channel.
    Max,
    /// Their sum.
    Sum,
}

/// Reduces the windows of one block of one strip.
pub(super) struct ReduceWindows<'a> {
    pub pixels: &'a [Pixel],
    pub offsets: &'a [usize],
    pub rows: Rows,
    pub reduction: Reduction,
    /// What each output pixel is divided by.
    pub divisors: Option<&'a [f32]>,
    /// Every number is written.
    pub output: &'a mut [MaybeUninit<f32>],
}

impl SimdOp for ReduceWindows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        match self.reduction {
            Reduction::Max => self.reduce(
                isa,
                f32::MIN,
                #[inline(always)]
                |best, value| ops.max(value, best),
            ),
            Reduction::Sum => self.reduce(
                isa,
                0.0,
                #[inline(always)]
                |sum, value| ops.add(sum, value),
            ),
        }
    }
}

impl ReduceWindows<'_> {
    #[inline(always)]
    fn reduce<I: Isa>(self, isa: I, start: f32, combine: impl Fn(I::F32, I::F32) -> I::F32) {
        let ops = isa.f32();
        let lanes = ops.len();
        let Rows {
            start: first,
            step,
            width,
            ..
        } = self.rows;
        let outputs = self.output.as_chunks_mut::<BLOCK>().0.iter_mut();
        for (index, output) in outputs.enumerate() {
            let pixel = first + index / width * step + index % width;
            for (register, to) in output.chunks_exact_mut(lanes).enumerate() {
                let mut result = ops.splat(start);
                for offset in self.offsets {
                    let from = &self.pixels[pixel + offset][register * lanes..];
                    result = combine(result, ops.load(from));
                }
                if let Some(divisors) = self.divisors {
                    result = ops.div(result, ops.splat(divisors[index]));
                }
                ops.store_uninit(result, to);
            }
        }
    }
}
