//! The inner loops: products of pixels with pixels at a distance, summed in registers.
//!
//! Every sum is one chain of multiply-adds through samples, rows and columns in this order, or a fixed
//! number of such chains; it does not depend on the number of threads.

use std::ops::Range;

use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::regions::{CHAIN, Region};
use super::tile::load_pixel;
use super::{BLOCK, Pixel};

/// Two planes of channels whose pixels are multiplied, each channel with each.
pub(super) struct Product<'a> {
    pub region: &'a Region,
    pub planes: [usize; 2],
    /// Channels of each that are there.
    pub channels: [usize; 2],
    /// The tiles that the products are added to.
    pub pairs: &'a [usize],
    /// What is added to their numbers.
    pub first_pair: usize,
}

/// Tiles of sums over all samples.
pub(super) struct TileSums<'a> {
    /// The planes of each sample.
    pub samples: &'a [&'a [Pixel]],
    pub plane_len: usize,
    pub products: &'a [Product<'a>],
    /// Tiles of 16 by 16: a row for each channel of the second plane.
    pub sums: &'a mut [Pixel],
}

impl SimdOp for TileSums<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self {
            samples,
            plane_len,
            products,
            sums,
        } = self;
        let tiles = sums.as_chunks_mut::<BLOCK>().0;
        let mut tile = [[0.0; BLOCK]; BLOCK];
        for product in products {
            let together = (CHAIN / product.region.pixels().max(1)).max(1);
            for samples in samples.chunks(together) {
                let planes = Planes {
                    samples,
                    ranges: product
                        .planes
                        .map(|plane| plane * plane_len..(plane + 1) * plane_len),
                    region: product.region,
                };
                planes.multiply(isa, product.channels[1], &mut tile);
                for pair in product.pairs {
                    let sums = &mut tiles[product.first_pair + pair];
                    add(&tile, product.channels, sums);
                }
            }
        }
    }
}

impl TileSums<'_> {
    /// Computes the sums with the widest registers.
    pub(super) fn run(self) {
        self.dispatch();
    }
}

/// Adds what belongs to channels that are there; the other lanes hold numbers without meaning.
#[inline(always)]
fn add(tile: &[Pixel; BLOCK], [own, other]: [usize; 2], sums: &mut [Pixel; BLOCK]) {
    for (sums, tile) in sums.iter_mut().zip(tile).take(other) {
        if own == BLOCK {
            for (sum, value) in sums.iter_mut().zip(tile) {
                *sum += value;
            }
        } else {
            for (sum, value) in sums.iter_mut().zip(tile).take(own) {
                *sum += value;
            }
        }
    }
}

struct Planes<'a> {
    samples: &'a [&'a [Pixel]],
    ranges: [Range<usize>; 2],
    region: &'a Region,
}

impl Planes<'_> {
    /// The products with the first `channels` of the second plane.
    #[inline(always)]
    fn multiply<I: Isa>(&self, isa: I, channels: usize, tile: &mut [Pixel; BLOCK]) {
        match (isa.f32().len(), channels) {
            (16, 0..=4) => self.sum::<I, 1, 4>(isa, 0, tile),
            (16, 5..=8) => self.sum::<I, 1, 8>(isa, 0, tile),
            (16, 9..=12) => self.sum::<I, 1, 12>(isa, 0, tile),
            (16, _) => self.sum::<I, 1, 16>(isa, 0, tile),
            (8, _) => {
                for first in (0..channels).step_by(4) {
                    self.sum::<I, 2, 4>(isa, first, tile);
                }
            }
            _ => {
                for first in (0..channels).step_by(2) {
                    self.sum::<I, 4, 2>(isa, first, tile);
                }
            }
        }
    }

    #[inline(always)]
    fn sum<I: Isa, const R: usize, const P: usize>(
        &self,
        isa: I,
        first: usize,
        tile: &mut [Pixel; BLOCK],
    ) {
        let ops = isa.f32();
        let lanes = ops.len();
        let region = self.region;
        let span = (region.columns - 1) * region.column_step + 1;
        let mut sums = [[ops.zero(); R]; P];
        for sample in self.samples {
            let [own, other] = [0, 1].map(|index| &sample[self.ranges[index].clone()]);
            for row in 0..region.rows {
                let at = region.start + row * region.row_step;
                let own = &own[at..at + span];
                let other = &other[at + region.distance..][..span];
                let mut column = 0;
                while column < span {
                    let vectors = load_pixel::<I, R>(isa, &own[column]);
                    let values = &other[column][first..first + P];
                    for (sums, value) in sums.iter_mut().zip(values) {
                        let value = ops.splat(*value);
                        for (sum, vector) in sums.iter_mut().zip(vectors) {
                            *sum = ops.mul_add(value, vector, *sum);
                        }
                    }
                    column += region.column_step;
                }
            }
        }
        // By value, so that the sums stay in registers.
        for (sums, to) in sums.into_iter().zip(&mut tile[first..first + P]) {
            for (register, sum) in sums.into_iter().enumerate() {
                ops.store(sum, &mut to[register * lanes..]);
            }
        }
    }
}

/// Sums of the products of each channel of a block with itself, or of its numbers alone.
pub(super) struct ChannelSums<'a> {
    pub samples: &'a [&'a [Pixel]],
    /// The pixels of the block in each sample.
    pub plane: Range<usize>,
    pub regions: &'a [Region],
    pub of_products: bool,
    /// One for each pair of kernel elements, or for each kernel element.
    pub sums: &'a mut [Pixel],
}

/// Chains of each sum.
const CHAINS: usize = 4;

impl SimdOp for ChannelSums<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            16 => self.sum::<I, 1>(isa),
            8 => self.sum::<I, 2>(isa),
            _ => self.sum::<I, 4>(isa),
        }
    }
}

impl ChannelSums<'_> {
    /// Computes the sums with the widest registers.
    pub(super) fn run(self) {
        self.dispatch();
    }

    #[inline(always)]
    fn sum<I: Isa, const R: usize>(mut self, isa: I) {
        for region in self.regions {
            if self.of_products {
                self.sum_region::<I, R, true>(isa, region);
            } else if region.is_square {
                self.sum_region::<I, R, false>(isa, region);
            }
        }
    }

    #[inline(always)]
    fn sum_region<I: Isa, const R: usize, const PRODUCTS: bool>(
        &mut self,
        isa: I,
        region: &Region,
    ) {
        let mut total = [0.0; BLOCK];
        for sample in self.samples {
            let plane = &sample[self.plane.clone()];
            let sums = sum_region::<I, R, PRODUCTS>(isa, plane, region);
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        for pair in &region.pairs {
            for (sum, total) in self.sums[*pair].iter_mut().zip(total) {
                *sum += total;
            }
        }
    }
}

#[inline(always)]
fn sum_region<I: Isa, const R: usize, const PRODUCTS: bool>(
    isa: I,
    plane: &[Pixel],
    region: &Region,
) -> Pixel {
    let ops = isa.f32();
    let lanes = ops.len();
    let step = region.column_step;
    let span = (region.columns - 1) * step + 1;
    let mut sums = [[ops.zero(); R]; CHAINS];
    for row in 0..region.rows {
        let at = region.start + row * region.row_step;
        let own = &plane[at..at + span];
        let other = &plane[at + region.distance..][..span];
        let mut column = 0;
        while column + (CHAINS - 1) * step < span {
            for (chain, sums) in sums.iter_mut().enumerate() {
                let place = column + chain * step;
                let values = load_pixel::<I, R>(isa, &own[place]);
                if PRODUCTS {
                    let others = load_pixel::<I, R>(isa, &other[place]);
                    for ((sum, value), other) in sums.iter_mut().zip(values).zip(others) {
                        *sum = ops.mul_add(value, other, *sum);
                    }
                } else {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = ops.add(*sum, value);
                    }
                }
            }
            column += CHAINS * step;
        }
        while column < span {
            let values = load_pixel::<I, R>(isa, &own[column]);
            if PRODUCTS {
                let others = load_pixel::<I, R>(isa, &other[column]);
                for ((sum, value), other) in sums[0].iter_mut().zip(values).zip(others) {
                    *sum = ops.mul_add(value, other, *sum);
                }
            } else {
                for (sum, value) in sums[0].iter_mut().zip(values) {
                    *sum = ops.add(*sum, value);
                }
            }
            column += step;
        }
    }
    let mut total = [0.0; BLOCK];
    for register in 0..R {
        let mut sum = ops.zero();
        for chain in sums {
            sum = ops.add(sum, chain[register]);
        }
        ops.store(sum, &mut total[register * lanes..]);
    }
    total
}

/// Sum of the products of two lists: a tile at a time in `f32`, and their sum in `f64`.
pub(super) fn dot(own: &[Pixel], other: &[Pixel]) -> f64 {
    Dot { own, other }.dispatch()
}

struct Dot<'a> {
    own: &'a [Pixel],
    other: &'a [Pixel],
}

impl SimdOp for Dot<'_> {
    type Output = f64;

    #[inline(always)]
    fn eval<I: Isa>(self, _isa: I) -> f64 {
        let mut total = [0.0; BLOCK];
        for (own, other) in self.own.chunks(BLOCK).zip(self.other.chunks(BLOCK)) {
            let mut sums = [0.0f32; BLOCK];
            for (own, other) in own.iter().zip(other) {
                for lane in 0..BLOCK {
                    sums[lane] += own[lane] * other[lane];
                }
            }
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += f64::from(sum);
            }
        }
        total.into_iter().sum()
    }
}
