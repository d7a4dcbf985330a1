//! The transforms around the products of tiles of 4×4 outputs.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use rten_simd::ops::{BitOps as _, FloatOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::finish::Finish;

use super::units::Unit;
use super::winograd::{POINTS, SPAN, TILE};
use super::{BLOCK, Pixel};

/// Where a tile is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// First pixel of its inputs in the buffer.
    pub start: usize,
    /// Index of its unit.
    pub unit: usize,
    /// First row of its outputs in the unit.
    pub row: usize,
    /// First column of its outputs.
    pub column: usize,
}

/// `Bᵀ d B` of each tile.
pub(super) struct TransformInputs<'a> {
    pub pixels: &'a [Pixel],
    pub places: &'a [Place],
    pub blocks: usize,
    /// Pixels of a block of a unit.
    pub block_pixels: usize,
    /// Pixels of a row of the buffer.
    pub row_pixels: usize,
    /// `[36, blocks, tiles]`; every number is written.
    pub output: &'a mut [Pixel],
}

impl TransformInputs<'_> {
    pub(super) fn run(self) {
        self.dispatch();
    }
}

impl SimdOp for TransformInputs<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let tiles = self.places.len();
        let point_pixels = self.blocks * tiles;
        for block in 0..self.blocks {
            for (index, place) in self.places.iter().enumerate() {
                let from = &self.pixels[block * self.block_pixels + place.start..]
                    [..(SPAN - 1) * self.row_pixels + SPAN];
                let to = &mut self.output[block * tiles + index..][..=(POINTS - 1) * point_pixels];
                for register in (0..BLOCK).step_by(ops.len()) {
                    let mut rows = [[ops.zero(); SPAN]; SPAN];
                    for (row, from) in rows.iter_mut().zip(from.chunks(self.row_pixels)) {
                        for (value, pixel) in row.iter_mut().zip(from) {
                            *value = ops.load(&pixel[register..]);
                        }
                        *row = forward(isa, *row);
                    }
                    for column in 0..SPAN {
                        let mut values = [ops.zero(); SPAN];
                        for (value, row) in values.iter_mut().zip(&rows) {
                            *value = row[column];
                        }
                        for (row, value) in forward(isa, values).into_iter().enumerate() {
                            let pixel = &mut to[(row * SPAN + column) * point_pixels];
                            ops.store(value, &mut pixel[register..]);
                        }
                    }
                }
            }
        }
    }
}

/// `Bᵀ x` for the points 0, ±a, ±b, ∞ with a = √½ and b = √2, so that `ab = 1`.
#[inline(always)]
fn forward<I: Isa>(isa: I, x: [I::F32; SPAN]) -> [I::F32; SPAN] {
    let ops = isa.f32();
    let (a, b) = (ops.splat(FRAC_1_SQRT_2), ops.splat(SQRT_2));
    let (half, two) = (ops.splat(0.5), ops.splat(2.0));
    let both = ops.splat(2.5);
    let [x0, x1, x2, x3, x4, x5] = x;
    let even_a = ops.mul_sub_from(two, x2, x4);
    let odd_a = ops.mul_sub_from(two, x1, x3);
    let even_b = ops.mul_sub_from(half, x2, x4);
    let odd_b = ops.mul_sub_from(half, x1, x3);
    [
        ops.add(ops.mul_sub_from(both, x2, x4), x0),
        ops.mul_add(odd_a, a, even_a),
        ops.mul_sub_from(odd_a, a, even_a),
        ops.mul_add(odd_b, b, even_b),
        ops.mul_sub_from(odd_b, b, even_b),
        ops.add(ops.mul_sub_from(both, x3, x5), x1),
    ]
}

/// `Aᵀ m A` of each tile, and what follows it.
pub(super) struct TransformOutputs<'a, 'b> {
    /// `[36, tiles]`, of which the points lie `point_pixels` apart.
    pub sums: &'a [Pixel],
    pub point_pixels: usize,
    pub places: &'a [Place],
    /// Columns of the output.
    pub width: usize,
    /// Without a residual, which is in the units.
    pub finish: Finish<'a>,
    pub block: usize,
    pub units: &'a mut [Unit<'b>],
}

impl TransformOutputs<'_, '_> {
    pub(super) fn run(self) {
        self.dispatch();
    }
}

impl SimdOp for TransformOutputs<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        for (index, place) in self.places.iter().enumerate() {
            let sums = &self.sums[index..][..=(POINTS - 1) * self.point_pixels];
            let unit = &mut self.units[place.unit];
            let columns = TILE.min(self.width - place.column);
            let rows = TILE.min(unit.rows.len() - place.row);
            let residual = unit.residuals.get(self.block).copied();
            let output = &mut *unit.outputs[self.block];
            for register in (0..BLOCK).step_by(ops.len()) {
                let mut halves = [[ops.zero(); TILE]; SPAN];
                for (row, half) in halves.iter_mut().enumerate() {
                    let mut values = [ops.zero(); SPAN];
                    for (column, value) in values.iter_mut().enumerate() {
                        let pixel = &sums[(row * SPAN + column) * self.point_pixels];
                        *value = ops.load(&pixel[register..]);
                    }
                    *half = backward(isa, values);
                }
                let bias = ops.load(&self.finish.bias[register..]);
                for column in 0..columns {
                    let mut values = [ops.zero(); SPAN];
                    for (value, half) in values.iter_mut().zip(&halves) {
                        *value = half[column];
                    }
                    let finished = backward(isa, values);
                    for (row, sum) in finished.into_iter().enumerate().take(rows) {
                        let at = ((place.row + row) * self.width + place.column + column) * BLOCK
                            + register;
                        let mut y = match self.finish.scale {
                            None => ops.add(sum, bias),
                            Some(scale) => ops.mul_add(sum, ops.load(&scale[register..]), bias),
                        };
                        if let Some(residual) = residual {
                            y = ops.add(y, ops.load(&residual[at..]));
                        }
                        let y = self.finish.of(isa, y, register / ops.len());
                        ops.store_uninit(y, &mut output[at..]);
                    }
                }
            }
        }
    }
}

/// `Aᵀ m` for the same points as [`forward`].
#[inline(always)]
fn backward<I: Isa>(isa: I, m: [I::F32; SPAN]) -> [I::F32; TILE] {
    let ops = isa.f32();
    let (a, b) = (ops.splat(FRAC_1_SQRT_2), ops.splat(SQRT_2));
    let (half, two) = (ops.splat(0.5), ops.splat(2.0));
    let (a_cubed, b_cubed) = (ops.splat(0.5 * FRAC_1_SQRT_2), ops.splat(2.0 * SQRT_2));
    let [m0, m1, m2, m3, m4, m5] = m;
    let (sum_a, difference_a) = (ops.add(m1, m2), ops.sub(m1, m2));
    let (sum_b, difference_b) = (ops.add(m3, m4), ops.sub(m3, m4));
    [
        ops.add(ops.add(m0, sum_a), sum_b),
        ops.mul_add(difference_b, b, ops.mul(difference_a, a)),
        ops.mul_add(sum_b, two, ops.mul(sum_a, half)),
        ops.mul_add(
            difference_b,
            b_cubed,
            ops.mul_add(difference_a, a_cubed, m5),
        ),
    ]
}
