//! Input samples laid out so that a convolution reads every kernel element at a constant distance.
//!
//! Each channel becomes one zero-padded plane per stride phase: phase `(a, b)` holds the padded rows
//! `a, a + stride, …` and columns `b, b + stride, …`. All planes have the same pitch, so that output
//! position `p = y·pitch + x` multiplies kernel element `(i, j)` with `plane[p + offset(i, j)]`. Columns
//! `x ≥ width` are computed and dropped. No matrix of unrolled patches is written.

use candle_core::{Result, bail};

use super::checked_len;

/// Where the windows of a convolution or pool lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    pub dilations: [usize; 2],
    /// `[height, width]`.
    pub input: [usize; 2],
    /// `[height, width]`, at least 1.
    pub output: [usize; 2],
}

/// Positions in a plane that one pass of a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// First position.
    pub start: usize,
}

/// Largest number of elements of a kernel; each of them is visited for every output.
const MAX_KERNEL_LEN: usize = 1 << 20;

/// # Errors
/// A kernel of too many elements.
pub(super) fn check_kernel(windows: &Windows) -> Result<()> {
    let [height, width] = windows.kernel;
    match height.checked_mul(width) {
        Some(len) if len <= MAX_KERNEL_LEN => Ok(()),
        _ => bail!(
            "kernel {:?} has more than {MAX_KERNEL_LEN} elements",
            windows.kernel
        ),
    }
}

/// Plans the layout of `channels` and checks that it may be allocated.
///
/// # Errors
/// A kernel, a padded input or an output that is too large.
pub(super) fn planned(
    windows: &Windows,
    tile_width: usize,
    channels: usize,
) -> Result<ShiftedPlanes> {
    check_kernel(windows)?;
    checked_len(&windows.output)?;
    let layout = ShiftedPlanes::new(windows, tile_width);
    let len = layout
        .as_ref()
        .and_then(|layout| layout.buffer_len(channels));
    match (layout, len) {
        (Some(layout), Some(len)) if checked_len(&[len]).is_ok() => Ok(layout),
        _ => bail!(
            "an input {:?} with pads {:?} and dilations {:?} is too large",
            windows.input,
            windows.pads,
            windows.dilations
        ),
    }
}

/// The layout for one convolution and one input size.
#[derive(Debug)]
pub(super) struct ShiftedPlanes {
    windows: Windows,
    /// Distance of two rows of a plane.
    pitch: usize,
    plane_rows: usize,
    plane_len: usize,
    phases: Vec<[usize; 2]>,
    /// Offset of each kernel element from the output position, within a channel.
    pub taps: Vec<usize>,
    /// Where the passes start; together they cover all output positions.
    pub tiles: Vec<Tile>,
    tile_width: usize,
}

impl ShiftedPlanes {
    /// Plans the layout; `None` if a length overflows or the kernel is empty.
    fn new(windows: &Windows, tile_width: usize) -> Option<Self> {
        let output = windows.output;
        let [rows_of, columns_of] = [0, 1].map(|axis| {
            let stride = windows.strides[axis];
            (0..windows.kernel[axis])
                .map(|k| k * windows.dilations[axis])
                .map(|shift| (shift % stride, shift / stride))
                .collect::<Vec<_>>()
        });
        let reach = |shifts: &[(usize, usize)]| shifts.iter().map(|(_, steps)| *steps).max();
        let pitch = output[1].checked_add(reach(&columns_of)?)?;
        let plane_rows = output[0].checked_add(reach(&rows_of)?)?;
        // An odd number of cache lines a plane spreads the channels over all cache sets.
        let lines = plane_rows.checked_mul(pitch)?.div_ceil(16) | 1;
        let plane_len = lines.checked_mul(16)?;
        let mut phases = Vec::new();
        let mut taps = Vec::with_capacity(rows_of.len() * columns_of.len());
        for &(row_phase, row_step) in &rows_of {
            for &(column_phase, column_step) in &columns_of {
                let phase = [row_phase, column_phase];
                let index = phases.iter().position(|p| *p == phase).unwrap_or_else(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                taps.push(index * plane_len + row_step * pitch + column_step);
            }
        }
        let mut planes = Self {
            windows: *windows,
            pitch,
            plane_rows,
            plane_len,
            phases,
            taps,
            tiles: Vec::new(),
            tile_width,
        };
        planes.tiles = planes.cover();
        Some(planes)
    }

    /// Tiles over all rows in one run, or row by row where the dropped columns would cost more.
    fn cover(&self) -> Vec<Tile> {
        let [height, width] = self.windows.output;
        let run = (height - 1) * self.pitch + width;
        let tiles_in_run = run.div_ceil(self.tile_width);
        let tiles_in_row = width.div_ceil(self.tile_width);
        if tiles_in_run <= height * tiles_in_row {
            (0..tiles_in_run)
                .map(|tile| Tile {
                    start: tile * self.tile_width,
                })
                .collect()
        } else {
            (0..height)
                .flat_map(|y| {
                    (0..tiles_in_row).map(move |tile| Tile {
                        start: y * self.pitch + tile * self.tile_width,
                    })
                })
                .collect()
        }
    }

    /// Number of floats for one channel.
    pub(super) fn channel_len(&self) -> usize {
        self.phases.len() * self.plane_len
    }

    /// Number of floats for `channels`, with room for the last tile to read past the end.
    pub(super) fn buffer_len(&self, channels: usize) -> Option<usize> {
        self.channel_len()
            .checked_mul(channels)?
            .checked_add(self.tile_width)
    }

    /// Number of outputs of one channel.
    pub(super) fn output_len(&self) -> usize {
        self.windows.output.iter().product()
    }

    /// Writes one channel `[height, width]` into its planes, with `padding` around it.
    pub(super) fn fill_channel(&self, image: &[f32], padding: f32, planes: &mut [f32]) {
        for (phase, plane) in self.phases.iter().zip(planes.chunks_mut(self.plane_len)) {
            let used = self.plane_rows * self.pitch;
            for (y, row) in plane[..used].chunks_mut(self.pitch).enumerate() {
                self.fill_row(image, y, *phase, padding, row);
            }
            plane[used..].fill(padding);
        }
    }

    fn fill_row(&self, image: &[f32], y: usize, phase: [usize; 2], padding: f32, row: &mut [f32]) {
        let Windows {
            strides,
            pads,
            input: [height, width],
            ..
        } = self.windows;
        let source_y = (y * strides[0] + phase[0]).wrapping_sub(pads[0]);
        if source_y >= height {
            row.fill(padding);
            return;
        }
        let source = &image[source_y * width..(source_y + 1) * width];
        // Columns x with left ≤ x·stride + phase < left + width lie in the image.
        let first = pads[1].saturating_sub(phase[1]).div_ceil(strides[1]);
        let end = (pads[1] + width)
            .saturating_sub(phase[1])
            .div_ceil(strides[1])
            .min(row.len());
        let first = first.min(end);
        row[..first].fill(padding);
        row[end..].fill(padding);
        if first < end {
            let begin = first * strides[1] + phase[1] - pads[1];
            copy_strided(&source[begin..], strides[1], &mut row[first..end]);
        }
    }

    /// Copies the kept columns of all rows from a plane of output positions.
    pub(super) fn compact(&self, positions: &[f32], output: &mut [f32]) {
        let width = self.windows.output[1];
        for (from, to) in positions
            .chunks(self.pitch)
            .zip(output.chunks_exact_mut(width))
        {
            to.copy_from_slice(&from[..width]);
        }
    }

    /// Number of floats that hold all output positions, with room for the last tile.
    pub(super) fn positions_len(&self) -> usize {
        self.windows.output[0] * self.pitch + self.tile_width
    }

    /// Calls `copy(tile position, output position, length)` for each run of a tile that is kept.
    #[inline(always)]
    pub(super) fn kept_runs(&self, tile: Tile, mut copy: impl FnMut(usize, usize, usize)) {
        let [height, width] = self.windows.output;
        if width == self.pitch {
            let rest = height * width - tile.start;
            copy(0, tile.start, rest.min(self.tile_width));
            return;
        }
        let mut y = tile.start / self.pitch;
        let mut x = tile.start % self.pitch;
        let mut done = 0;
        while done < self.tile_width && y < height {
            if x < width {
                let length = (width - x).min(self.tile_width - done);
                copy(done, y * width + x, length);
            }
            done += self.pitch - x;
            x = 0;
            y += 1;
        }
    }
}

/// Copies every `stride`-th element, starting with the first, until `to` is full.
pub(super) fn copy_strided<T: Copy>(from: &[T], stride: usize, to: &mut [T]) {
    match stride {
        1 => to.copy_from_slice(&from[..to.len()]),
        2 => {
            // Pairs of known size let the compiler use vectors.
            for (to, pair) in to.iter_mut().zip(from.as_chunks::<2>().0) {
                *to = pair[0];
            }
            // An odd end has no pair.
            if let Some(last) = to.len().checked_sub(1) {
                to[last] = from[2 * last];
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                *to = *from;
            }
        }
    }
}
