//! Channels convolved on their own: all lanes of a block at once.
//!
//! The padded rows that one row of outputs reads are kept in a ring: each row of the image is copied
//! once, quantized on the way, and read from the nearest cache for all rows of outputs that it belongs to.

use std::mem::MaybeUninit;

use candle_core::{Result, bail};
use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::super::checked_len;
use super::super::parallel::for_each;
use super::super::planes::{Windows, check_kernel};
use super::super::scratch::with_scratch;
use super::conv::{Pass, parts_of_sample};
use super::finish::Finish;
use super::strips::{Fill, Source};
use super::tile::load_pixel;
use super::units::{Unit, blocks_per_unit, units};
use super::{BLOCK, Pixel};

/// Most pixels of a tile in 32 registers of 16 numbers.
const WIDE: usize = 8;
/// Most pixels of a tile in 16 registers of 8 numbers, or as many of 4.
const NARROW: usize = 6;

/// Fewest rows of a depthwise convolution that a task computes.
const DEPTHWISE_ROWS: usize = 4;

/// How padded rows lie in a ring.
#[derive(Clone, Copy, Debug)]
struct Ring {
    windows: Windows,
    /// Rows from the first to the last that a row of outputs reads.
    rows: usize,
    /// Pixels of a row from the first to the last that are read.
    row_pixels: usize,
}

impl Ring {
    /// # Errors
    /// A kernel, or its padded rows, that are too large.
    fn new(windows: &Windows) -> Result<Self> {
        check_kernel(windows)?;
        let extent = |axis: usize| {
            let reach = (windows.kernel[axis] - 1).checked_mul(windows.dilations[axis])?;
            reach.checked_add(1)
        };
        let starts = (windows.output[1] - 1).checked_mul(windows.strides[1]);
        let lengths = extent(0).zip(extent(1).zip(starts));
        let Some((rows, row_pixels)) = lengths
            .and_then(|(rows, (columns, starts))| Some((rows, starts.checked_add(columns)?)))
        else {
            bail!(
                "strides {:?} or dilations {:?} are too large",
                windows.strides,
                windows.dilations
            );
        };
        checked_len(&[rows, row_pixels, BLOCK])?;
        Ok(Self {
            windows: *windows,
            rows,
            row_pixels,
        })
    }

    /// Numbers of the ring.
    fn len(&self) -> usize {
        self.rows * self.row_pixels * BLOCK
    }
}

impl Pass<'_, dyn Fill<Element = f32> + '_> {
    /// A convolution of channels on their own.
    pub(super) fn depthwise(
        &self,
        windows: &Windows,
        batch: usize,
        residual: Option<&[f32]>,
        y: &mut [MaybeUninit<f32>],
    ) -> Result<()> {
        let ring = Ring::new(windows)?;
        let [height, width] = windows.output;
        let blocks = self.call.weights().blocks();
        let rows = height.div_ceil(parts_of_sample(batch));
        let rows = rows.max(DEPTHWISE_ROWS).min(height);
        let units = units(
            y,
            residual,
            [batch, blocks, height * width * BLOCK],
            [rows, width * BLOCK],
            blocks_per_unit(blocks, batch * height.div_ceil(rows)),
        );
        for_each(units, |unit| self.depthwise_rows(&ring, unit));
        Ok(())
    }

    fn depthwise_rows(&self, ring: &Ring, unit: Unit<'_>) {
        let call = self.call;
        let elements = call.weights().kernel_len();
        with_scratch(ring.len(), |buffer, row_buffer| {
            for (index, output) in unit.outputs.into_iter().enumerate() {
                let block = unit.first_block + index;
                ConvolveChannels {
                    ring,
                    fill: self.fill,
                    source: call.source(unit.sample),
                    first_channel: block * BLOCK,
                    channels: BLOCK.min(call.channels() - block * BLOCK),
                    first_row: unit.rows.start,
                    weights: &call.weights().rows[block * elements..][..elements],
                    finish: self.finish(block, unit.residuals.get(index).copied()),
                    buffer,
                    row_buffer,
                    output,
                }
                .dispatch();
            }
        });
    }
}

/// One block of some rows of a depthwise convolution.
struct ConvolveChannels<'a> {
    ring: &'a Ring,
    fill: &'a dyn Fill<Element = f32>,
    /// The sample, its first channel of the block, and how many of the block are there.
    source: Source<'a>,
    first_channel: usize,
    channels: usize,
    /// First row of outputs.
    first_row: usize,
    /// One weight a channel for each kernel element.
    weights: &'a [Pixel],
    finish: Finish<'a>,
    /// The ring itself, and a row of numbers; both with any content.
    buffer: &'a mut [f32],
    row_buffer: &'a mut Vec<f32>,
    /// Every number is written.
    output: &'a mut [MaybeUninit<f32>],
}

impl SimdOp for ConvolveChannels<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            16 => self.all_rows::<I, 1>(isa, WIDE),
            8 => self.all_rows::<I, 2>(isa, NARROW),
            _ => self.all_rows::<I, 4>(isa, NARROW),
        }
    }
}

impl ConvolveChannels<'_> {
    #[inline(always)]
    fn all_rows<I: Isa, const R: usize>(mut self, isa: I, most: usize) {
        let Ring {
            windows,
            rows,
            row_pixels,
        } = *self.ring;
        let [stride, step] = windows.strides;
        let width = windows.output[1];
        let row_len = width * BLOCK;
        self.clear_margins();
        let mut offsets = vec![0; self.weights.len()];
        let mut read = 0;
        for index in 0..self.output.len() / row_len {
            // Rows are counted from the first that is read.
            let first = index * stride;
            for row in read.max(first)..first + rows {
                self.read_row(row);
            }
            read = first + rows;
            let mut row = first % rows;
            for offsets in offsets.chunks_exact_mut(windows.kernel[1]) {
                for (column, offset) in offsets.iter_mut().enumerate() {
                    *offset = row * row_pixels + column * windows.dilations[1];
                }
                row += windows.dilations[0];
                row -= if row < rows { 0 } else { rows };
            }
            let place = index * row_len;
            let row = OutputRow {
                pixels: self.buffer.as_chunks().0,
                offsets: &offsets,
                weights: self.weights,
                finish: Finish {
                    residual: self.finish.residual.map(|residual| &residual[place..]),
                    ..self.finish
                },
                output: &mut self.output[place..place + row_len],
            };
            match step {
                1 => row.tiles::<I, R, 1>(isa, width, most),
                2 => row.tiles::<I, R, 2>(isa, width, most),
                _ => row.pixels::<I, R>(isa, width, step),
            }
        }
    }

    /// Columns of the ring that lie in the image.
    fn inside(&self) -> std::ops::Range<usize> {
        let windows = &self.ring.windows;
        let left = windows.pads[1].min(self.ring.row_pixels);
        left..left + windows.input[1].min(self.ring.row_pixels - left)
    }

    /// Writes zeros beside the image.
    fn clear_margins(&mut self) {
        let (inside, zero) = (self.inside(), self.fill.zero());
        for row in self.buffer.chunks_exact_mut(self.ring.row_pixels * BLOCK) {
            row[..inside.start * BLOCK].fill(zero);
            row[inside.end * BLOCK..].fill(zero);
        }
    }

    /// Puts a padded row in its place, counted from the first that is read.
    fn read_row(&mut self, row: usize) {
        let inside = self.inside();
        let Windows {
            input: [height, width],
            strides,
            pads,
            ..
        } = self.ring.windows;
        let at = row % self.ring.rows * self.ring.row_pixels;
        let target = &mut self.buffer[(at + inside.start) * BLOCK..(at + inside.end) * BLOCK];
        let y = (self.first_row * strides[0] + row).wrapping_sub(pads[0]);
        if y >= height {
            target.fill(self.fill.zero());
            return;
        }
        match self.source {
            Source::Blocked(values) => {
                let at = (self.first_channel / BLOCK * height + y) * width * BLOCK;
                self.fill.convert(&values[at..at + target.len()], target);
            }
            Source::Planes(values) => {
                if self.channels < BLOCK {
                    target.fill(self.fill.zero());
                }
                self.row_buffer.resize(inside.len(), 0.0);
                for lane in 0..self.channels {
                    let at = ((self.first_channel + lane) * height + y) * width;
                    let row = &values[at..at + inside.len()];
                    self.fill.convert(row, self.row_buffer);
                    for (to, from) in target.chunks_exact_mut(BLOCK).zip(&*self.row_buffer) {
                        to[lane] = *from;
                    }
                }
            }
        }
    }
}

/// One row of outputs.
struct OutputRow<'a> {
    pixels: &'a [Pixel],
    /// Distance of each kernel element from the pixel that an output starts at.
    offsets: &'a [usize],
    weights: &'a [Pixel],
    finish: Finish<'a>,
    output: &'a mut [MaybeUninit<f32>],
}

impl OutputRow<'_> {
    /// Tiles of about the same size; the last overlaps the one before where it must.
    #[inline(always)]
    fn tiles<I: Isa, const R: usize, const STEP: usize>(
        mut self,
        isa: I,
        width: usize,
        most: usize,
    ) {
        let size = width.div_ceil(width.div_ceil(most));
        for column in (0..width).step_by(size) {
            let column = column.min(width - size);
            let start = column * STEP;
            match size {
                1 => self.tile::<I, R, STEP, 1>(isa, start, column),
                2 => self.tile::<I, R, STEP, 2>(isa, start, column),
                3 => self.tile::<I, R, STEP, 3>(isa, start, column),
                4 => self.tile::<I, R, STEP, 4>(isa, start, column),
                5 => self.tile::<I, R, STEP, 5>(isa, start, column),
                6 => self.tile::<I, R, STEP, 6>(isa, start, column),
                7 => self.tile::<I, R, STEP, 7>(isa, start, column),
                _ => self.tile::<I, R, STEP, WIDE>(isa, start, column),
            }
        }
    }

    /// Pixels one by one, whose windows lie `step` apart.
    #[inline(always)]
    fn pixels<I: Isa, const R: usize>(mut self, isa: I, width: usize, step: usize) {
        for column in 0..width {
            self.tile::<I, R, 1, 1>(isa, column * step, column);
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize, const STEP: usize, const P: usize>(
        &mut self,
        isa: I,
        start: usize,
        column: usize,
    ) {
        let ops = isa.f32();
        let first = match self.finish.scale {
            None => load_pixel::<I, R>(isa, self.finish.bias),
            Some(_) => [ops.zero(); R],
        };
        let mut sums = [first; P];
        for (offset, weights) in self.offsets.iter().zip(self.weights) {
            let weights = load_pixel::<I, R>(isa, weights);
            let pixels = &self.pixels[start + offset..][..=(P - 1) * STEP];
            for (index, sums) in sums.iter_mut().enumerate() {
                let values = load_pixel::<I, R>(isa, &pixels[index * STEP]);
                for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(values) {
                    *sum = ops.mul_add(weight, value, *sum);
                }
            }
        }
        self.finish.write(isa, sums, column * BLOCK, self.output);
    }
}
