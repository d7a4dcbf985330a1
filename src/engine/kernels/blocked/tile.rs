//! The inner loops: pixels times weight rows, a tile of outputs in registers at a time.
//!
//! Every output is one chain of multiply-adds through input block, kernel row, kernel column and
//! channel in this order. It does not depend on the number of threads, the batch size, or where the
//! output lies in a tile.

use std::mem::MaybeUninit;

use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::super::Activation;
use super::{BLOCK, Pixel};

/// Pixels read by all outputs of a strip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Distance from the pixel that an output starts at.
    pub offset: usize,
    /// Channels of the block that are there.
    pub channels: usize,
}

/// What every output reads, in the order of the packed weights: the kernel elements at `offsets` of
/// each block of channels, the blocks lying `block_pixels` apart.
pub(super) fn steps_of_blocks(
    channels: usize,
    block_pixels: usize,
    offsets: &[usize],
) -> Vec<Step> {
    (0..channels)
        .step_by(BLOCK)
        .enumerate()
        .flat_map(|(block, first)| {
            offsets.iter().map(move |offset| Step {
                offset: block * block_pixels + offset,
                channels: BLOCK.min(channels - first),
            })
        })
        .collect()
}

/// Where the outputs of a strip lie: rows of pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// First pixel of the buffer.
    pub start: usize,
    /// Pixels between the starts of two rows.
    pub step: usize,
    pub count: usize,
    pub width: usize,
}

/// What the buffer of a strip consists of.
pub(super) trait Input: Copy + Sync {
    /// The number of a channel.
    fn channel(&self, channel: usize) -> f32;
}

/// The channels of a block.
impl Input for Pixel {
    #[inline(always)]
    fn channel(&self, channel: usize) -> f32 {
        self[channel]
    }
}

/// One channel; each has pixels of its own.
impl Input for f32 {
    #[inline(always)]
    fn channel(&self, _channel: usize) -> f32 {
        *self
    }
}

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

/// One output block of one strip.
pub(super) struct ConvolveBlock<'a, T> {
    pub pixels: &'a [T],
    pub steps: &'a [Step],
    /// One row of 16 outputs for each step and channel.
    pub weights: &'a [Pixel],
    pub rows: Rows,
    pub finish: Finish<'a>,
    /// Every number is written.
    pub output: &'a mut [MaybeUninit<f32>],
}

impl<T: Input> SimdOp for ConvolveBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            8 => self.narrow_tiles::<I, 2>(isa),
            _ => self.narrow_tiles::<I, 4>(isa),
        }
    }
}

impl<T: Input> ConvolveBlock<'_, T> {
    /// Computes the block with the widest registers.
    pub(super) fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = rten_simd::isa::Avx512Isa::new() {
            run_wide(isa, self);
            return;
        }
        self.dispatch();
    }
}

/// The many tiles for 32 registers are compiled here, for this instruction set alone.
#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "a function for an instruction set may only be called where the processor has it"
)]
fn run_wide<T: Input>(isa: rten_simd::isa::Avx512Isa, block: ConvolveBlock<'_, T>) {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
    fn wide<T: Input>(isa: rten_simd::isa::Avx512Isa, block: ConvolveBlock<'_, T>) {
        block.wide_tiles(isa);
    }
    // SAFETY: there is an `Avx512Isa` only where the processor has these instructions.
    unsafe { wide(isa, block) }
}

/// Most pixels of a tile in 32 registers of 16 numbers.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 28;
/// Most pixels of each row of a tile of two rows.
#[cfg(target_arch = "x86_64")]
const PAIRED: usize = 14;
/// Most pixels of a tile in 16 registers of 8 numbers, or as many of 4.
const NARROW: usize = 6;

impl<T: Input> ConvolveBlock<'_, T> {
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn wide_tiles<I: Isa>(mut self, isa: I) {
        let Rows { count, width, .. } = self.rows;
        let mut row = 0;
        while row < count {
            if width <= PAIRED && row + 1 < count {
                self.paired(isa, row);
                row += 2;
                continue;
            }
            each_tile(
                width,
                WIDE,
                #[inline(always)]
                |size, column| match size {
                    1 => self.tile::<I, 1, 1, 1>(isa, row, column),
                    2 => self.tile::<I, 1, 1, 2>(isa, row, column),
                    3 => self.tile::<I, 1, 1, 3>(isa, row, column),
                    4 => self.tile::<I, 1, 1, 4>(isa, row, column),
                    5 => self.tile::<I, 1, 1, 5>(isa, row, column),
                    6 => self.tile::<I, 1, 1, 6>(isa, row, column),
                    7 => self.tile::<I, 1, 1, 7>(isa, row, column),
                    8 => self.tile::<I, 1, 1, 8>(isa, row, column),
                    10 => self.tile::<I, 1, 1, 10>(isa, row, column),
                    12 => self.tile::<I, 1, 1, 12>(isa, row, column),
                    14 => self.tile::<I, 1, 1, 14>(isa, row, column),
                    16 => self.tile::<I, 1, 1, 16>(isa, row, column),
                    20 => self.tile::<I, 1, 1, 20>(isa, row, column),
                    24 => self.tile::<I, 1, 1, 24>(isa, row, column),
                    _ => self.tile::<I, 1, 1, WIDE>(isa, row, column),
                },
            );
            row += 1;
        }
    }

    #[inline(always)]
    fn narrow_tiles<I: Isa, const R: usize>(mut self, isa: I) {
        for row in 0..self.rows.count {
            each_tile(
                self.rows.width,
                NARROW,
                #[inline(always)]
                |size, column| match size {
                    1 => self.tile::<I, R, 1, 1>(isa, row, column),
                    2 => self.tile::<I, R, 1, 2>(isa, row, column),
                    3 => self.tile::<I, R, 1, 3>(isa, row, column),
                    4 => self.tile::<I, R, 1, 4>(isa, row, column),
                    5 => self.tile::<I, R, 1, 5>(isa, row, column),
                    _ => self.tile::<I, R, 1, NARROW>(isa, row, column),
                },
            );
        }
    }

    /// Two whole rows at once.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn paired<I: Isa>(&mut self, isa: I, row: usize) {
        match self.rows.width {
            1 => self.tile::<I, 1, 2, 1>(isa, row, 0),
            2 => self.tile::<I, 1, 2, 2>(isa, row, 0),
            3 => self.tile::<I, 1, 2, 3>(isa, row, 0),
            4 => self.tile::<I, 1, 2, 4>(isa, row, 0),
            5 => self.tile::<I, 1, 2, 5>(isa, row, 0),
            6 => self.tile::<I, 1, 2, 6>(isa, row, 0),
            7 => self.tile::<I, 1, 2, 7>(isa, row, 0),
            8 => self.tile::<I, 1, 2, 8>(isa, row, 0),
            width @ (9 | 10) => self.overlapping::<I, 5>(isa, row, width),
            width @ (11 | 12) => self.overlapping::<I, 6>(isa, row, width),
            13 => self.tile::<I, 1, 2, 13>(isa, row, 0),
            _ => self.tile::<I, 1, 2, 14>(isa, row, 0),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn overlapping<I: Isa, const P: usize>(&mut self, isa: I, row: usize, width: usize) {
        self.tile::<I, 1, 2, P>(isa, row, 0);
        self.tile::<I, 1, 2, P>(isa, row, width - P);
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize, const ROWS: usize, const P: usize>(
        &mut self,
        isa: I,
        row: usize,
        column: usize,
    ) {
        let ops = isa.f32();
        let lanes = ops.len();
        let starts: [usize; ROWS] =
            std::array::from_fn(|r| self.rows.start + (row + r) * self.rows.step + column);
        let first = match self.finish.scale {
            None => load_pixel::<I, R>(isa, self.finish.bias),
            Some(_) => [ops.zero(); R],
        };
        let mut sums = [[first; P]; ROWS];
        let mut weights = self.weights;
        for step in self.steps {
            // By a loop: the call of a closure would put all sums into memory and take them back.
            let mut inputs: [&[T]; ROWS] = [&[]; ROWS];
            for (input, start) in inputs.iter_mut().zip(starts) {
                *input = &self.pixels[start + step.offset..][..P];
            }
            let (own, rest) = weights.split_at(step.channels);
            weights = rest;
            for (channel, row_of_weights) in own.iter().enumerate().take(BLOCK) {
                let vectors = load_pixel::<I, R>(isa, row_of_weights);
                for (sums, inputs) in sums.iter_mut().zip(&inputs) {
                    for (sums, pixel) in sums.iter_mut().zip(*inputs) {
                        let value = ops.splat(pixel.channel(channel));
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            *sum = ops.mul_add(value, vector, *sum);
                        }
                    }
                }
            }
        }
        if let Some(scale) = self.finish.scale {
            let (scale, bias) = (
                load_pixel::<I, R>(isa, scale),
                load_pixel::<I, R>(isa, self.finish.bias),
            );
            for sums in sums.as_flattened_mut() {
                for ((sum, scale), bias) in sums.iter_mut().zip(scale).zip(bias) {
                    *sum = ops.mul_add(*sum, scale, bias);
                }
            }
        }
        // By value, so that the sums stay in registers.
        for (r, mut sums) in sums.into_iter().enumerate() {
            let at = ((row + r) * self.rows.width + column) * BLOCK;
            let output = &mut self.output[at..at + P * BLOCK];
            if let Some(residual) = self.finish.residual {
                let residual = &residual[at..at + P * BLOCK];
                for (pixel, sums) in sums.iter_mut().enumerate() {
                    for (register, sum) in sums.iter_mut().enumerate() {
                        let own = ops.load(&residual[pixel * BLOCK + register * lanes..]);
                        *sum = ops.add(*sum, own);
                    }
                }
            }
            for (sums, to) in sums.into_iter().zip(output.chunks_exact_mut(BLOCK)) {
                for (register, sum) in sums.into_iter().enumerate() {
                    let y = self.finish.of(isa, sum, register);
                    ops.store_uninit(y, &mut to[register * lanes..]);
                }
            }
        }
    }
}

/// The registers of a pixel.
#[inline(always)]
pub(super) fn load_pixel<I: Isa, const R: usize>(isa: I, pixel: &Pixel) -> [I::F32; R] {
    isa.f32().load_many::<R>(pixel)
}

/// Calls `tile(size, column)` for tiles of about the same size, at most `most`, that cover a row; the
/// last overlaps the one before where it must.
#[inline(always)]
fn each_tile(width: usize, most: usize, mut tile: impl FnMut(usize, usize)) {
    let wanted = width.div_ceil(width.div_ceil(most).max(1));
    let size = match wanted {
        0..=8 => wanted.max(1),
        9..=16 => wanted.next_multiple_of(2),
        _ => wanted.next_multiple_of(4),
    };
    let mut column = 0;
    while column < width {
        let rest = width - column;
        if size <= width {
            tile(size, column.min(width - size));
            column += size;
        } else {
            // The row is shorter than the next larger tile.
            let smaller = match rest {
                0..=8 => rest,
                9..=16 => rest / 2 * 2,
                _ => rest / 4 * 4,
            };
            tile(smaller, column);
            column += smaller;
        }
    }
}
