//! Strips of output rows with the padded input pixels that they read.
//!
//! The rows of a strip are copied once into a buffer that fits the cache, with padding around them
//! and, where the input is quantized, quantized on the way. Columns of a stride above 1 are sorted by
//! their phase `column mod stride`, so that neighbouring outputs always read neighbouring pixels.

use std::ops::Range;

use candle_core::{Result, bail};

use super::super::checked_len;
use super::super::planes::{Windows, check_kernel, copy_strided};
use super::BLOCK;

/// Bytes of a buffer that are aimed at; half of a common second-level cache.
const STRIP_BYTES: usize = 384 << 10;

/// A kernel element: where its pixels lie from those of the output, in one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    row: usize,
    column: usize,
}

/// How the pixels of a strip lie in its buffer: `[blocks, rows, phases, phase width]`.
#[derive(Clone, Debug)]
pub(super) struct Strips {
    windows: Windows,
    phase_width: usize,
    /// Kernel elements in row-major order.
    taps: Vec<Tap>,
    used_phases: Vec<bool>,
    /// Whether a padded row is read, by its place from a row that an output starts at.
    used_rows: Vec<bool>,
}

/// Where the input of a strip comes from, for one sample.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// `[blocks, height, width, 16]`.
    Blocked(&'a [f32]),
    /// `[channels, height, width]`.
    Planes(&'a [f32]),
}

/// What becomes of the numbers on their way into the buffer.
pub(super) trait Fill: Sync {
    /// Element of the buffer.
    type Element: Copy + Default + Send + Sync;
    /// What stands for zero.
    fn zero(&self) -> Self::Element;
    /// Converts one number after another.
    fn convert(&self, from: &[f32], to: &mut [Self::Element]);
}

impl Strips {
    /// # Errors
    /// A kernel, or a padded row, that is too large.
    pub(super) fn new(windows: &Windows) -> Result<Self> {
        let [height, width] = windows.kernel;
        check_kernel(windows)?;
        let reach =
            [0, 1].map(|axis| (windows.kernel[axis] - 1).checked_mul(windows.dilations[axis]));
        let [Some(rows), Some(columns)] = reach else {
            bail!("dilations {:?} are too large", windows.dilations);
        };
        let stride = windows.strides[1];
        let phase_width = windows.output[1].saturating_add(columns / stride);
        checked_len(&[rows, BLOCK])?;
        checked_len(&[phase_width, stride, BLOCK])?;
        let mut taps = Vec::with_capacity(height * width);
        let mut used_phases = vec![false; stride];
        let mut used_rows = vec![false; rows + 1];
        for i in 0..height {
            for j in 0..width {
                let shift = j * windows.dilations[1];
                used_phases[shift % stride] = true;
                used_rows[i * windows.dilations[0]] = true;
                taps.push(Tap {
                    row: i * windows.dilations[0],
                    column: shift % stride * phase_width + shift / stride,
                });
            }
        }
        Ok(Self {
            windows: *windows,
            phase_width,
            taps,
            used_phases,
            used_rows,
        })
    }

    pub(super) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Pixels of one row of one block.
    pub(super) fn row_pixels(&self) -> usize {
        self.windows.strides[1] * self.phase_width
    }

    /// Distance of the pixels of two output rows.
    pub(super) fn row_step(&self) -> usize {
        self.windows.strides[0] * self.row_pixels()
    }

    /// Rows that a strip reads.
    fn rows(&self, output_rows: usize) -> usize {
        (output_rows - 1) * self.windows.strides[0] + self.used_rows.len()
    }

    /// Fills the buffer of a strip with whole channels, one after another, as single numbers.
    pub(super) fn fill_planes<F: Fill>(
        &self,
        fill: &F,
        planes: &[f32],
        channels: usize,
        outputs: Range<usize>,
        row_buffer: &mut Vec<F::Element>,
        buffer: &mut [F::Element],
    ) {
        let [height, width] = self.windows.input;
        let plane_len = self.block_pixels(outputs.len());
        let first_row = outputs.start * self.windows.strides[0];
        let sources = planes.chunks_exact(height * width).take(channels);
        for (plane, target) in sources.zip(buffer.chunks_exact_mut(plane_len)) {
            for (row, target) in target.chunks_exact_mut(self.row_pixels()).enumerate() {
                if self.reads_row(row) {
                    self.fill_plane_row(fill, plane, first_row + row, row_buffer, target);
                }
            }
        }
    }

    fn fill_plane_row<F: Fill>(
        &self,
        fill: &F,
        plane: &[f32],
        padded_row: usize,
        row_buffer: &mut Vec<F::Element>,
        target: &mut [F::Element],
    ) {
        let [height, width] = self.windows.input;
        let y = padded_row.wrapping_sub(self.windows.pads[0]);
        if y >= height {
            target.fill(fill.zero());
            return;
        }
        row_buffer.resize(width, F::Element::default());
        fill.convert(&plane[y * width..(y + 1) * width], row_buffer);
        for (phase, target) in target.chunks_exact_mut(self.phase_width).enumerate() {
            if self.used_phases[phase] {
                let (inside, column) = self.inside(phase);
                target[..inside.start].fill(fill.zero());
                target[inside.end..].fill(fill.zero());
                if !inside.is_empty() {
                    let target = &mut target[inside];
                    copy_strided(&row_buffer[column..], self.windows.strides[1], target);
                }
            }
        }
    }

    /// Which columns of a phase lie in the image, and the column of the image that the first is.
    fn inside(&self, phase: usize) -> (Range<usize>, usize) {
        let Windows {
            strides,
            pads,
            input: [_, width],
            ..
        } = self.windows;
        // Columns x with left ≤ x·stride + phase < left + width lie in the image.
        let first = pads[1].saturating_sub(phase).div_ceil(strides[1]);
        let end = (pads[1] + width)
            .saturating_sub(phase)
            .div_ceil(strides[1])
            .min(self.phase_width);
        let first = first.min(end);
        let column = (first * strides[1] + phase).saturating_sub(pads[1]);
        (first..end, column)
    }

    /// Pixels of one block of a strip.
    pub(super) fn block_pixels(&self, output_rows: usize) -> usize {
        self.rows(output_rows) * self.row_pixels()
    }

    /// Offset of every kernel element from the pixel of an output, in one block.
    pub(super) fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        self.taps
            .iter()
            .map(|tap| tap.row * self.row_pixels() + tap.column)
    }

    /// Output rows of a strip of `blocks` blocks whose buffer fits the cache, and at least one of
    /// `parts` parts of the image.
    pub(super) fn strip_rows(&self, blocks: usize, pixel_bytes: usize, parts: usize) -> usize {
        let height = self.windows.output[0];
        let row_bytes = blocks * self.row_pixels() * pixel_bytes;
        let halo = self.used_rows.len().saturating_sub(self.windows.strides[0]);
        let rows = (STRIP_BYTES / row_bytes.max(1)).saturating_sub(halo) / self.windows.strides[0];
        let least = 4.min(height);
        let rows = rows.max(least).min(height.div_ceil(parts).max(least));
        // Strips of about the same height, and an even number of rows, since tiles take two.
        let strips = height.div_ceil(rows.max(1));
        height.div_ceil(strips).next_multiple_of(2).min(height)
    }

    /// Fills the buffer of a strip for some blocks.
    pub(super) fn fill<F: Fill>(
        &self,
        fill: &F,
        source: Source<'_>,
        channels: Range<usize>,
        outputs: Range<usize>,
        row_buffer: &mut Vec<F::Element>,
        buffer: &mut [F::Element],
    ) {
        let block_len = self.block_pixels(outputs.len()) * BLOCK;
        let blocks = channels.len().div_ceil(BLOCK);
        for (index, target) in buffer.chunks_exact_mut(block_len).take(blocks).enumerate() {
            let first = channels.start + index * BLOCK;
            let lanes = BLOCK.min(channels.end - first);
            let first_row = outputs.start * self.windows.strides[0];
            for (row, target) in target
                .chunks_exact_mut(self.row_pixels() * BLOCK)
                .enumerate()
            {
                if self.reads_row(row) {
                    self.fill_row(
                        fill,
                        source,
                        first..first + lanes,
                        first_row + row,
                        row_buffer,
                        target,
                    );
                }
            }
        }
    }

    fn reads_row(&self, row: usize) -> bool {
        let stride = self.windows.strides[0];
        let mut at = row % stride;
        // The rows of the kernel that fall on this one lie whole strides apart.
        while at < self.used_rows.len() && at <= row {
            if self.used_rows[at] {
                return true;
            }
            at += stride;
        }
        false
    }

    fn fill_row<F: Fill>(
        &self,
        fill: &F,
        source: Source<'_>,
        channels: Range<usize>,
        padded_row: usize,
        row_buffer: &mut Vec<F::Element>,
        target: &mut [F::Element],
    ) {
        let Windows {
            strides,
            pads,
            input: [height, width],
            ..
        } = self.windows;
        let y = padded_row.wrapping_sub(pads[0]);
        if y >= height {
            target.fill(fill.zero());
            return;
        }
        let phase_len = self.phase_width * BLOCK;
        let mut is_converted = false;
        for (phase, target) in target.chunks_exact_mut(phase_len).enumerate() {
            if !self.used_phases[phase] {
                continue;
            }
            let (inside, column) = self.inside(phase);
            target[..inside.start * BLOCK].fill(fill.zero());
            target[inside.end * BLOCK..].fill(fill.zero());
            if inside.is_empty() {
                continue;
            }
            let target = &mut target[inside.start * BLOCK..inside.end * BLOCK];
            match source {
                Source::Blocked(values) => {
                    let at = (channels.start / BLOCK * height + y) * width * BLOCK;
                    let row = &values[at..at + width * BLOCK];
                    if strides[1] == 1 {
                        fill.convert(&row[column * BLOCK..][..target.len()], target);
                        continue;
                    }
                    // The whole row is converted at once, for the first phase that reads it.
                    if !is_converted {
                        row_buffer.resize(row.len(), F::Element::default());
                        fill.convert(row, row_buffer);
                        is_converted = true;
                    }
                    let pixels = &row_buffer.as_chunks::<BLOCK>().0[column..];
                    let targets = target.as_chunks_mut::<BLOCK>().0.iter_mut();
                    for (to, from) in targets.zip(pixels.iter().step_by(strides[1])) {
                        *to = *from;
                    }
                }
                Source::Planes(values) => {
                    if channels.len() < BLOCK {
                        target.fill(fill.zero());
                    }
                    row_buffer.resize(width, F::Element::default());
                    for (lane, channel) in channels.clone().enumerate() {
                        let row = &values[(channel * height + y) * width..][..width];
                        fill.convert(row, row_buffer);
                        for (to, from) in target
                            .chunks_exact_mut(BLOCK)
                            .zip(row_buffer[column..].iter().step_by(strides[1]))
                        {
                            to[lane] = *from;
                        }
                    }
                }
            }
        }
    }
}
