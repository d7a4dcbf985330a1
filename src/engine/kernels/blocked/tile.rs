//! The inner loops: pixels times weight rows, a tile of outputs in registers at a time.
//!
//! Every output is one chain of multiply-adds through input block, kernel row, kernel column and
//! channel in this order. It does not depend on the number of threads, the batch size, or where the
//! output lies in a tile.

use std::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
use rten_simd::isa::Avx512Isa;
use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::finish::Finish;
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
    /// Most channels of a step.
    const CHANNELS: usize;
    /// The number of a channel.
    fn channel(&self, channel: usize) -> f32;
}

/// The channels of a block.
impl Input for Pixel {
    const CHANNELS: usize = BLOCK;
    #[inline(always)]
    fn channel(&self, channel: usize) -> f32 {
        self[channel]
    }
}

/// One channel; each has pixels of its own.
impl Input for f32 {
    const CHANNELS: usize = 1;
    #[inline(always)]
    fn channel(&self, _channel: usize) -> f32 {
        *self
    }
}

/// What all output blocks of one strip read.
#[derive(Clone, Copy)]
pub(super) struct Convolve<'a, T> {
    pub pixels: &'a [T],
    pub steps: &'a [Step],
    pub rows: Rows,
}

/// One output block of one strip.
pub(super) struct OutputBlock<'a> {
    /// One row of 16 outputs for each step and channel.
    pub weights: &'a [Pixel],
    pub finish: Finish<'a>,
    /// Every number is written.
    pub output: &'a mut [MaybeUninit<f32>],
}

impl<T: Input> Convolve<'_, T> {
    /// Computes some output blocks with the widest registers.
    ///
    /// With 32 registers a pixel is read once for two blocks: reading each number for one
    /// multiply-add takes as many loads as multiply-adds, and the loads are then what limits.
    pub(super) fn run<'b>(self, blocks: impl IntoIterator<Item = OutputBlock<'b>>) {
        let mut blocks = blocks.into_iter();
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = Avx512Isa::new() {
            while let Some(first) = blocks.next() {
                if let Some(second) = blocks.next() {
                    let tiles = self.tiles([first, second]);
                    run_wide(
                        isa,
                        #[inline(always)]
                        |isa| tiles.wide_tiles(isa),
                    );
                } else {
                    let tiles = self.tiles([first]);
                    run_wide(
                        isa,
                        #[inline(always)]
                        |isa| tiles.wide_tiles(isa),
                    );
                }
            }
            return;
        }
        for block in blocks.by_ref() {
            self.tiles([block]).dispatch();
        }
    }

    fn tiles<'b, const B: usize>(self, blocks: [OutputBlock<'b>; B]) -> Tiles<'b, T, B>
    where
        Self: 'b,
    {
        Tiles {
            strip: self,
            blocks,
        }
    }
}

/// Output blocks that are computed together.
struct Tiles<'a, T, const B: usize> {
    strip: Convolve<'a, T>,
    blocks: [OutputBlock<'a>; B],
}

impl<T: Input> SimdOp for Tiles<'_, T, 1> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            8 => self.narrow_tiles::<I, 2>(isa),
            _ => self.narrow_tiles::<I, 4>(isa),
        }
    }
}

/// The many tiles for 32 registers are compiled here, for this instruction set alone.
#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "a function for an instruction set may only be called where the processor has it"
)]
fn run_wide(isa: Avx512Isa, tiles: impl FnOnce(Avx512Isa)) {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,f16c")]
    fn wide(isa: Avx512Isa, tiles: impl FnOnce(Avx512Isa)) {
        tiles(isa);
    }
    // SAFETY: there is an `Avx512Isa` only where the processor has these instructions.
    unsafe { wide(isa, tiles) }
}

/// Most pixels of a tile in 32 registers of 16 numbers.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 28;
/// Most pixels of half of such a tile: in one of two rows, or of one of two output blocks.
#[cfg(target_arch = "x86_64")]
const PAIRED: usize = WIDE / 2;
/// Most pixels of a tile in 16 registers of 8 numbers, or as many of 4.
const NARROW: usize = 6;

#[cfg(target_arch = "x86_64")]
impl<T: Input> Tiles<'_, T, 2> {
    #[inline(always)]
    fn wide_tiles<I: Isa>(mut self, isa: I) {
        let Rows { count, width, .. } = self.strip.rows;
        let mut row = 0;
        while row < count {
            if width <= PAIRED / 2 && row + 1 < count {
                match width {
                    1 => self.tile::<I, 1, 2, 1>(isa, row, 0),
                    2 => self.tile::<I, 1, 2, 2>(isa, row, 0),
                    3 => self.tile::<I, 1, 2, 3>(isa, row, 0),
                    4 => self.tile::<I, 1, 2, 4>(isa, row, 0),
                    5 => self.tile::<I, 1, 2, 5>(isa, row, 0),
                    6 => self.tile::<I, 1, 2, 6>(isa, row, 0),
                    _ => self.tile::<I, 1, 2, 7>(isa, row, 0),
                }
                row += 2;
                continue;
            }
            let size = width.div_ceil(width.div_ceil(PAIRED).max(1));
            for column in (0..width).step_by(size.max(1)) {
                let column = column.min(width - size);
                match size {
                    1 => self.tile::<I, 1, 1, 1>(isa, row, column),
                    2 => self.tile::<I, 1, 1, 2>(isa, row, column),
                    3 => self.tile::<I, 1, 1, 3>(isa, row, column),
                    4 => self.tile::<I, 1, 1, 4>(isa, row, column),
                    5 => self.tile::<I, 1, 1, 5>(isa, row, column),
                    6 => self.tile::<I, 1, 1, 6>(isa, row, column),
                    7 => self.tile::<I, 1, 1, 7>(isa, row, column),
                    8 => self.tile::<I, 1, 1, 8>(isa, row, column),
                    9 => self.tile::<I, 1, 1, 9>(isa, row, column),
                    10 => self.tile::<I, 1, 1, 10>(isa, row, column),
                    11 => self.tile::<I, 1, 1, 11>(isa, row, column),
                    12 => self.tile::<I, 1, 1, 12>(isa, row, column),
                    13 => self.tile::<I, 1, 1, 13>(isa, row, column),
                    _ => self.tile::<I, 1, 1, PAIRED>(isa, row, column),
                }
            }
            row += 1;
        }
    }
}

impl<T: Input> Tiles<'_, T, 1> {
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn wide_tiles<I: Isa>(mut self, isa: I) {
        let Rows { count, width, .. } = self.strip.rows;
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
        for row in 0..self.strip.rows.count {
            each_tile(
                self.strip.rows.width,
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
        match self.strip.rows.width {
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
}

impl<T: Input, const B: usize> Tiles<'_, T, B> {
    /// `ROWS` times `P` pixels of all blocks.
    #[inline(always)]
    fn tile<I: Isa, const R: usize, const ROWS: usize, const P: usize>(
        &mut self,
        isa: I,
        row: usize,
        column: usize,
    ) {
        let ops = isa.f32();
        let Convolve {
            pixels,
            steps,
            rows,
        } = self.strip;
        let starts: [usize; ROWS] =
            std::array::from_fn(|r| rows.start + (row + r) * rows.step + column);
        // By loops: the call of a closure would put all sums into memory and take them back.
        let mut first = [[ops.zero(); R]; B];
        let mut weights: [&[Pixel]; B] = [&[]; B];
        for ((first, weights), block) in first.iter_mut().zip(&mut weights).zip(&self.blocks) {
            if block.finish.scale.is_none() {
                *first = load_pixel::<I, R>(isa, block.finish.bias);
            }
            *weights = block.weights;
        }
        let mut sums = [[first; P]; ROWS];
        for step in steps {
            let mut inputs: [&[T]; ROWS] = [&[]; ROWS];
            for (input, start) in inputs.iter_mut().zip(starts) {
                *input = &pixels[start + step.offset..][..P];
            }
            let channels = step.channels.min(T::CHANNELS);
            let mut own: [&[Pixel]; B] = [&[]; B];
            for (own, weights) in own.iter_mut().zip(&mut weights) {
                (*own, *weights) = weights.split_at(channels);
            }
            for channel in 0..channels {
                let mut vectors = [[ops.zero(); R]; B];
                for (vectors, own) in vectors.iter_mut().zip(own) {
                    *vectors = load_pixel::<I, R>(isa, &own[channel]);
                }
                for (sums, inputs) in sums.iter_mut().zip(&inputs) {
                    for (sums, pixel) in sums.iter_mut().zip(*inputs) {
                        let value = ops.splat(pixel.channel(channel));
                        for (sums, vectors) in sums.iter_mut().zip(vectors) {
                            for (sum, vector) in sums.iter_mut().zip(vectors) {
                                *sum = ops.mul_add(value, vector, *sum);
                            }
                        }
                    }
                }
            }
        }
        // Spelled out: a loop over rows or blocks would keep the sums in memory.
        self.finish::<I, R, ROWS, P, 0, 0>(isa, sums, row, column);
        if B > 1 {
            self.finish::<I, R, ROWS, P, 0, 1>(isa, sums, row, column);
        }
        if ROWS > 1 {
            self.finish::<I, R, ROWS, P, 1, 0>(isa, sums, row, column);
        }
        if ROWS > 1 && B > 1 {
            self.finish::<I, R, ROWS, P, 1, 1>(isa, sums, row, column);
        }
    }

    /// Finishes and writes one of the rows of a tile, of one of its blocks.
    #[inline(always)]
    fn finish<
        I: Isa,
        const R: usize,
        const ROWS: usize,
        const P: usize,
        const ROW: usize,
        const INDEX: usize,
    >(
        &mut self,
        isa: I,
        sums: [[[[I::F32; R]; B]; P]; ROWS],
        row: usize,
        column: usize,
    ) {
        let mut own = [[isa.f32().zero(); R]; P];
        for (own, sums) in own.iter_mut().zip(&sums[ROW % ROWS]) {
            *own = sums[INDEX % B];
        }
        let at = ((row + ROW) * self.strip.rows.width + column) * BLOCK;
        let block = &mut self.blocks[INDEX % B];
        block.finish.write(isa, own, at, block.output);
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
