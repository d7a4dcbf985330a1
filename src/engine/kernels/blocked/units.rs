//! How the output of a convolution is divided among tasks.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::parallel::is_divided;

/// Some output rows (or pixels) and blocks of one sample; what one task computes.
pub(super) struct Unit<'a> {
    pub sample: usize,
    /// Output rows; output pixels of a pointwise convolution.
    pub rows: Range<usize>,
    /// First output block.
    pub first_block: usize,
    /// One slice an output block.
    pub outputs: Vec<&'a mut [MaybeUninit<f32>]>,
    /// As the outputs; empty without a residual.
    pub residuals: Vec<&'a [f32]>,
}

/// The units of an output, each of at most `rows` of `row_len` numbers and of `blocks` blocks.
pub(super) fn units<'a>(
    y: &'a mut [MaybeUninit<f32>],
    residual: Option<&'a [f32]>,
    [batch, all_blocks, plane_len]: [usize; 3],
    [rows, row_len]: [usize; 2],
    blocks: usize,
) -> Vec<Unit<'a>> {
    let part_len = rows * row_len;
    let (strips, groups) = (plane_len.div_ceil(part_len), all_blocks.div_ceil(blocks));
    let mut units: Vec<Unit<'a>> = Vec::with_capacity(batch * groups * strips);
    for sample in 0..batch {
        for group in 0..groups {
            for strip in 0..strips {
                units.push(Unit {
                    sample,
                    rows: strip * rows..((strip + 1) * rows).min(plane_len / row_len),
                    first_block: group * blocks,
                    outputs: Vec::with_capacity(blocks),
                    residuals: Vec::new(),
                });
            }
        }
    }
    let first_unit =
        |plane: usize| (plane / all_blocks * groups + plane % all_blocks / blocks) * strips;
    for (index, plane) in y.chunks_exact_mut(plane_len).enumerate() {
        let own = &mut units[first_unit(index)..];
        for (unit, part) in own.iter_mut().zip(plane.chunks_mut(part_len)) {
            unit.outputs.push(part);
        }
    }
    for (index, plane) in residual
        .into_iter()
        .flat_map(|r| r.chunks_exact(plane_len))
        .enumerate()
    {
        let own = &mut units[first_unit(index)..];
        for (unit, part) in own.iter_mut().zip(plane.chunks(part_len)) {
            unit.residuals.push(part);
        }
    }
    units
}

/// Output blocks of a unit: all of them, unless there would be too few units for the threads.
pub(super) fn blocks_per_unit(all_blocks: usize, other_units: usize) -> usize {
    if !is_divided() {
        return all_blocks;
    }
    let wanted = (2 * rayon::current_num_threads()).div_ceil(other_units.max(1));
    all_blocks.div_ceil(wanted.min(all_blocks))
}
