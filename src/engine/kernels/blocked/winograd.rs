//! Convolutions with a kernel of 3×3 by fewer multiplications.
//!
//! Four by four outputs are the product, element by element, of a transformed piece of 6×6 inputs and
//! transformed weights, transformed back: 36 multiplications a channel instead of 144.
//!
//! ```text
//! Y = Aᵀ [ Σ_c (G g_c Gᵀ) ⊙ (Bᵀ d_c B) ] A
//! ```
//! Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. The points are
//! 0, ±√½, ±√2 and ∞, whose matrices have smaller numbers than those of 0, ±1, ±2 and ∞ and so round
//! less (B. Barabasz and others, "Error Analysis and Improving the Accuracy of Winograd Convolution for
//! Deep Neural Networks", 2020).
//!
//! Every output is computed in a tile whose place in the image is fixed, so that it does not depend on
//! the number of threads or the batch size.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::mem::MaybeUninit;

use candle_core::Result;

use super::super::parallel::{for_each, is_divided};
use super::super::planes::Windows;
use super::super::scratch::with_scratch;
use super::super::written::written;
use super::conv::{Pass, Scratch};
use super::finish::Finish;
use super::strips::{Fill, Strips};
use super::tile::{Convolve, OutputBlock, Rows, steps_of_blocks};
use super::units::{Unit, units};
use super::weights::{BlockedConvWeights, Kind};
use super::winograd_transforms::{Place, TransformInputs, TransformOutputs};
use super::{BLOCK, Pixel};
use crate::quant::with_widest_vectors;

/// Outputs of a tile in each direction.
pub(super) const TILE: usize = 4;
/// Inputs that a tile reads in each direction.
pub(super) const SPAN: usize = 6;
/// Products of a tile, for each pair of channels.
pub(super) const POINTS: usize = SPAN * SPAN;
/// Tiles that are multiplied at a time; as many as the widest registers hold sums.
const MOST_TILES: usize = 28;
/// Pairs of channels whose transformed weights are no burden for memory.
const MOST_PAIRS: usize = 512 * 512;
/// Channels below which the transforms cost more than they save.
const FEWEST_CHANNELS: usize = 8;

/// Whether a convolution of a blocked image gains.
pub(super) fn gains(weights: &BlockedConvWeights, windows: &Windows) -> bool {
    let [_, inputs, ..] = weights.shape;
    let [height, width] = windows.output;
    let computed = height.next_multiple_of(TILE) * width.next_multiple_of(TILE);
    weights.kind == Kind::Dense
        && windows.kernel == [3, 3]
        && windows.strides == [1, 1]
        && windows.dilations == [1, 1]
        && inputs >= FEWEST_CHANNELS
        && inputs * weights.outputs() <= MOST_PAIRS
        && computed <= 2 * height * width
}

/// Transformed weights `[36, output blocks, input channels, 16]`.
#[derive(Debug)]
pub(super) struct WinogradWeights(Vec<Pixel>);

/// `G`: one row for each point.
fn weight_transform() -> [[f64; 3]; SPAN] {
    let row = |point: f64, other: f64| {
        let norm = 2.0 * point * point * (point * point - other * other);
        [1.0 / norm, point / norm, point * point / norm]
    };
    let (a, b) = (FRAC_1_SQRT_2, SQRT_2);
    [
        [1.0, 0.0, 0.0],
        row(a, b),
        row(-a, b),
        row(b, a),
        row(-b, a),
        [0.0, 0.0, 1.0],
    ]
}

/// One number for each output channel of a block.
type Lanes = [f64; BLOCK];

/// `Σ factor·term`, lane by lane.
#[inline(always)]
fn weighted(factors: [f64; 3], terms: [&Lanes; 3]) -> Lanes {
    let mut sum = [0.0; BLOCK];
    for (factor, term) in factors.into_iter().zip(terms) {
        for (sum, value) in sum.iter_mut().zip(term) {
            *sum += factor * value;
        }
    }
    sum
}

impl WinogradWeights {
    /// From rows `[output blocks, input blocks, 9, channels of the block, 16]`.
    pub(super) fn new(rows: &[Pixel], shape: [usize; 2]) -> Self {
        Self(with_widest_vectors(|| Self::transformed(rows, shape)))
    }

    /// `G g Gᵀ` of every kernel `g`.
    #[inline(always)]
    fn transformed(rows: &[Pixel], [blocks, inputs]: [usize; 2]) -> Vec<Pixel> {
        let g = weight_transform();
        let mut weights = vec![[0.0; BLOCK]; POINTS * blocks * inputs];
        for block in 0..blocks {
            let own = &rows[block * inputs * 9..][..inputs * 9];
            for input in 0..inputs {
                let first = input / BLOCK * BLOCK;
                let channels = BLOCK.min(inputs - first);
                let kernel: [Lanes; 9] = std::array::from_fn(|place| {
                    own[first * 9 + place * channels + input - first].map(f64::from)
                });
                for (row, left) in g.into_iter().enumerate() {
                    let columns = [0, 1, 2]
                        .map(|j| weighted(left, [&kernel[j], &kernel[3 + j], &kernel[6 + j]]));
                    for (column, right) in g.into_iter().enumerate() {
                        let point = row * SPAN + column;
                        let value = weighted(right, columns.each_ref());
                        weights[(point * blocks + block) * inputs + input] =
                            value.map(|value| value as f32);
                    }
                }
            }
        }
        weights
    }
}

impl<F: Fill> Pass<'_, F>
where
    F::Element: Scratch,
{
    /// All of a convolution that [`gains`].
    pub(super) fn winograd(
        &self,
        weights: &WinogradWeights,
        windows: &Windows,
        batch: usize,
        residual: Option<&[f32]>,
        y: &mut [MaybeUninit<f32>],
    ) -> Result<()> {
        let [height, width] = windows.output;
        let whole = Windows {
            output: [height, width].map(|len| len.next_multiple_of(TILE)),
            ..*windows
        };
        let strips = Strips::new(&whole)?;
        let blocks = self.call.weights().blocks();
        let tiles_in_row = width.div_ceil(TILE);
        let all_rows = height.div_ceil(TILE);
        let wanted_tasks = if is_divided() {
            2 * rayon::current_num_threads()
        } else {
            1
        };
        let most_rows = (MOST_TILES / tiles_in_row).max(1);
        let parts = all_rows
            .div_ceil(most_rows)
            .max(wanted_tasks.div_ceil(batch).min(all_rows));
        let rows = all_rows.div_ceil(parts);
        let units = units(
            y,
            residual,
            [batch, blocks, height * width * BLOCK],
            [rows * TILE, width * BLOCK],
            blocks,
        );
        let together = (MOST_TILES / (rows * tiles_in_row))
            .min(units.len() / wanted_tasks)
            .max(1);
        let multiply = Multiply {
            pass: self,
            weights,
            strips: &strips,
            width,
            rows,
        };
        for_each(groups(units, together), |group| multiply.group(group));
        Ok(())
    }
}

/// Cuts units into groups of `len`.
fn groups(units: Vec<Unit<'_>>, len: usize) -> Vec<Vec<Unit<'_>>> {
    let mut units = units.into_iter();
    std::iter::from_fn(|| {
        let group: Vec<Unit<'_>> = units.by_ref().take(len).collect();
        (!group.is_empty()).then_some(group)
    })
    .collect()
}

/// One convolution, cut into groups of units.
struct Multiply<'a, F> {
    pass: &'a Pass<'a, F>,
    weights: &'a WinogradWeights,
    strips: &'a Strips,
    /// Columns of the output.
    width: usize,
    /// Rows of tiles of a unit.
    rows: usize,
}

impl<F: Fill> Multiply<'_, F>
where
    F::Element: Scratch,
{
    fn group(&self, mut units: Vec<Unit<'_>>) {
        let call = self.pass.call;
        let in_blocks = call.channels().div_ceil(BLOCK);
        let unit_pixels = in_blocks * self.strips.block_pixels(self.rows * TILE);
        with_scratch(units.len() * unit_pixels * BLOCK, |buffer, row_buffer| {
            for (unit, part) in units
                .iter()
                .zip(buffer.chunks_exact_mut(unit_pixels * BLOCK))
            {
                self.strips.fill(
                    self.pass.fill,
                    call.source(unit.sample),
                    0..call.channels(),
                    unit.rows.start..unit.rows.start + self.rows * TILE,
                    row_buffer,
                    part,
                );
            }
            let Some(pixels) = F::Element::floats(buffer) else {
                return;
            };
            let places = self.places(&units, unit_pixels);
            let segments = places.len().div_ceil(MOST_TILES);
            for places in places.chunks(places.len().div_ceil(segments)) {
                self.segment(pixels, places, &mut units);
            }
        });
    }

    fn places(&self, units: &[Unit<'_>], unit_pixels: usize) -> Vec<Place> {
        let mut places = Vec::with_capacity(units.len() * self.rows);
        for (index, unit) in units.iter().enumerate() {
            for row in (0..unit.rows.len()).step_by(TILE) {
                for column in (0..self.width).step_by(TILE) {
                    places.push(Place {
                        start: index * unit_pixels + row * self.strips.row_pixels() + column,
                        unit: index,
                        row,
                        column,
                    });
                }
            }
        }
        places
    }

    /// Some tiles, from padded inputs to finished outputs.
    fn segment(&self, pixels: &[Pixel], places: &[Place], units: &mut [Unit<'_>]) {
        let call = self.pass.call;
        let in_blocks = call.channels().div_ceil(BLOCK);
        let point_pixels = in_blocks * places.len();
        with_scratch(
            POINTS * point_pixels * BLOCK,
            |transformed: &mut [f32], _| {
                let transformed = transformed.as_chunks_mut().0;
                TransformInputs {
                    pixels,
                    places,
                    blocks: in_blocks,
                    block_pixels: self.strips.block_pixels(self.rows * TILE),
                    row_pixels: self.strips.row_pixels(),
                    output: transformed,
                }
                .run();
                let sums = self.products(transformed, places.len());
                let Ok(sums) = sums else { return };
                let blocks = call.weights().blocks();
                for block in 0..blocks {
                    TransformOutputs {
                        sums: &sums.as_chunks().0[block * places.len()..],
                        point_pixels: blocks * places.len(),
                        places,
                        width: self.width,
                        finish: self.pass.finish(block, None),
                        block,
                        units,
                    }
                    .run();
                }
            },
        );
    }

    /// Sums over the input channels `[36, output blocks, tiles, 16]`.
    fn products(&self, transformed: &[Pixel], tiles: usize) -> Result<Vec<f32>> {
        let call = self.pass.call;
        let (inputs, blocks) = (call.channels(), call.weights().blocks());
        let steps = steps_of_blocks(inputs, tiles, &[0]);
        let rows = Rows {
            start: 0,
            step: 0,
            count: 1,
            width: tiles,
        };
        let finish = Finish::of_bias(&[0.0; BLOCK]);
        let points = transformed.chunks_exact(steps.len() * tiles);
        written(POINTS * blocks * tiles * BLOCK, |sums| {
            let mut outputs = sums.chunks_exact_mut(tiles * BLOCK);
            let mut weights = self.weights.0.chunks_exact(inputs);
            for pixels in points {
                let strip = Convolve {
                    pixels,
                    steps: &steps,
                    rows,
                };
                let of_point = outputs.by_ref().zip(&mut weights).take(blocks);
                strip.run(of_point.map(|(output, weights)| OutputBlock {
                    weights,
                    finish,
                    output,
                }));
            }
            Ok(())
        })
    }
}
