//! Weight rows times shifted planes: the inner loops of the convolution.
//!
//! Every output element is one chain of multiply-adds that starts at the bias and runs through input
//! channel, kernel row and kernel column in this order. It does not depend on the number of threads,
//! the batch size, or where the element lies in a tile.

use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::Activation;
use super::planes::{ShiftedPlanes, Tile};

/// Weight rows of a panel, held in registers together.
const PANEL_ROWS: usize = 6;
/// Registers of one row of a tile.
const TILE_REGISTERS: usize = 2;
/// Kernel elements of one pass over the panels; their inputs for one tile stay in the L1 cache.
const DEPTH_BLOCK: usize = 256;
/// Panels of one block; their weights of one pass stay in the L2 cache.
pub(super) const BLOCK_PANELS: usize = 16;
/// Floats of partial sums that are kept between passes.
const PARTIAL_SUMS: usize = 1 << 15;

/// Number of positions that one tile covers on this processor.
pub(super) fn tile_width() -> usize {
    struct Lanes;
    impl SimdOp for Lanes {
        type Output = usize;
        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) -> usize {
            isa.f32().len()
        }
    }
    TILE_REGISTERS * Lanes.dispatch()
}

/// A matrix `[rows, depth]` in panels of [`PANEL_ROWS`] rows, each panel column by column, and a bias.
#[derive(Debug)]
pub(super) struct PackedRows {
    data: Vec<f32>,
    bias: Vec<f32>,
    depth: usize,
}

/// Some consecutive panels of a [`PackedRows`].
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    data: &'a [f32],
    bias: &'a [f32],
    depth: usize,
}

impl PackedRows {
    /// Packs a row-major matrix; `bias` has one element a row.
    pub(super) fn pack(matrix: &[f32], depth: usize, bias: Vec<f32>) -> Self {
        let mut data = Vec::with_capacity(matrix.len());
        if depth > 0 {
            for panel in matrix.chunks(PANEL_ROWS * depth) {
                for column in 0..depth {
                    data.extend(panel.iter().skip(column).step_by(depth));
                }
            }
        }
        Self { data, bias, depth }
    }

    /// Number of panels.
    pub(super) fn panel_count(&self) -> usize {
        self.bias.len().div_ceil(PANEL_ROWS)
    }

    /// The panels of each block of `block_panels`, in order.
    pub(super) fn blocks(&self, block_panels: usize) -> impl Iterator<Item = Panels<'_>> {
        let block_rows = Self::rows_in(block_panels);
        self.bias
            .chunks(block_rows)
            .enumerate()
            .map(move |(block, bias)| {
                let first = block * block_rows * self.depth;
                Panels {
                    data: &self.data[first..first + bias.len() * self.depth],
                    bias,
                    depth: self.depth,
                }
            })
    }

    /// Number of rows in a full block of `block_panels`.
    pub(super) fn rows_in(block_panels: usize) -> usize {
        block_panels * PANEL_ROWS
    }
}

/// Multiplies panels with the planes of one sample and writes `[rows, height·width]`.
pub(super) struct ConvolvePanels<'a> {
    pub panels: Panels<'a>,
    /// Offset of each matrix column from the output position.
    pub offsets: &'a [usize],
    pub layout: &'a ShiftedPlanes,
    pub planes: &'a [f32],
    pub activation: Activation,
    pub output: &'a mut [f32],
}

impl SimdOp for ConvolvePanels<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let width = TILE_REGISTERS * isa.f32().len();
        let sums_len = self.panels.bias.len() * width;
        let tiles_at_once = if self.panels.depth <= DEPTH_BLOCK {
            1
        } else {
            (PARTIAL_SUMS / sums_len).max(1)
        };
        let mut sums = vec![0.0; sums_len * tiles_at_once];
        for tiles in self.layout.tiles.chunks(tiles_at_once) {
            for (tile_sums, _) in sums.chunks_exact_mut(sums_len).zip(tiles) {
                for (row, bias) in tile_sums.chunks_exact_mut(width).zip(self.panels.bias) {
                    row.fill(*bias);
                }
            }
            let mut first = 0;
            for offsets in self.offsets.chunks(DEPTH_BLOCK) {
                for (tile_sums, tile) in sums.chunks_exact_mut(sums_len).zip(tiles) {
                    let planes = &self.planes[tile.start..];
                    add_products(isa, self.panels, first, offsets, planes, tile_sums);
                }
                first += offsets.len();
            }
            for (tile_sums, tile) in sums.chunks_exact_mut(sums_len).zip(tiles) {
                self.activation.apply(isa, tile_sums);
                write_tile(isa, self.layout, *tile, tile_sums, self.output);
            }
        }
    }
}

/// Adds one pass of kernel elements to the sums of one tile, panel by panel.
#[inline(always)]
fn add_products<I: Isa>(
    isa: I,
    panels: Panels<'_>,
    first: usize,
    offsets: &[usize],
    planes: &[f32],
    sums: &mut [f32],
) {
    let width = TILE_REGISTERS * isa.f32().len();
    for (panel, sums) in sums.chunks_mut(PANEL_ROWS * width).enumerate() {
        let rows = sums.len() / width;
        let start = panel * PANEL_ROWS * panels.depth + first * rows;
        let weights = &panels.data[start..start + offsets.len() * rows];
        match rows {
            1 => add_panel::<I, 1>(isa, weights, offsets, planes, sums),
            2 => add_panel::<I, 2>(isa, weights, offsets, planes, sums),
            3 => add_panel::<I, 3>(isa, weights, offsets, planes, sums),
            4 => add_panel::<I, 4>(isa, weights, offsets, planes, sums),
            5 => add_panel::<I, 5>(isa, weights, offsets, planes, sums),
            _ => add_panel::<I, 6>(isa, weights, offsets, planes, sums),
        }
    }
}

#[inline(always)]
fn add_panel<I: Isa, const ROWS: usize>(
    isa: I,
    weights: &[f32],
    offsets: &[usize],
    planes: &[f32],
    sums: &mut [f32],
) {
    let ops = isa.f32();
    let lanes = ops.len();
    let mut accumulators: [[I::F32; TILE_REGISTERS]; ROWS] = std::array::from_fn(|row| {
        ops.load_many::<TILE_REGISTERS>(&sums[row * TILE_REGISTERS * lanes..])
    });
    for (column, offset) in weights.as_chunks::<ROWS>().0.iter().zip(offsets) {
        let inputs = ops.load_many::<TILE_REGISTERS>(&planes[*offset..]);
        for (accumulator, weight) in accumulators.iter_mut().zip(column) {
            let weight = ops.splat(*weight);
            for (sum, input) in accumulator.iter_mut().zip(inputs) {
                *sum = ops.mul_add(weight, input, *sum);
            }
        }
    }
    for (row, accumulator) in accumulators.into_iter().enumerate() {
        for (register, sum) in accumulator.into_iter().enumerate() {
            ops.store(sum, &mut sums[(row * TILE_REGISTERS + register) * lanes..]);
        }
    }
}

/// Copies the kept positions of a tile of rows into the output planes.
#[inline(always)]
fn write_tile<I: Isa>(
    isa: I,
    layout: &ShiftedPlanes,
    tile: Tile,
    sums: &[f32],
    output: &mut [f32],
) {
    let ops = isa.f32();
    let width = TILE_REGISTERS * ops.len();
    let plane = layout.output_len();
    layout.kept_runs(
        tile,
        #[inline(always)]
        |from, to, length| {
            let rows = sums.chunks_exact(width);
            let planes = output.chunks_exact_mut(plane);
            if length == width {
                for (row, plane) in rows.zip(planes) {
                    let registers = ops.load_many::<TILE_REGISTERS>(row);
                    let to = plane[to..to + width].chunks_exact_mut(ops.len());
                    for (register, to) in registers.into_iter().zip(to) {
                        ops.store(register, to);
                    }
                }
            } else {
                for (row, plane) in rows.zip(planes) {
                    plane[to..to + length].copy_from_slice(&row[from..from + length]);
                }
            }
        },
    );
}
