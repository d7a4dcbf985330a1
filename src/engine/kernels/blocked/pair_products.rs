//! The inner loops on rounded pixels: two products at once, by the dot-product instructions of the
//! processor.
//!
//! Pixels are rounded to 12 bits and a sign, each block of channels of a sample at its own scale. A
//! rounding is off by at most 1/8190 of the largest number of the block, at random, so that over the
//! thousands of windows whose products are summed it moves a sum of squares by some millionths of
//! itself.

use std::ops::Range;

use super::integer::has_integer_dot_products;
use super::regions::Region;
use super::{BLOCK, Pixel};

/// Largest step of a rounded pixel.
const LARGEST: f32 = 4095.0;

/// Most pairs of products whose sum fits 32 bits, whatever the pixels: `64 · 2 · 4095² < 2³¹`.
const PAIRS: usize = 64;

/// Pixels below which all is summed in `f32`: too few roundings to cancel, and little to gain.
const FEW_PIXELS: usize = 2048;

/// A pixel and the next one, channel by channel: the pixel in the lower half of each number.
type PixelPair = [i32; BLOCK];

/// One block of channels of one sample, rounded.
struct PairedPlane {
    /// What a step stands for.
    scale: f32,
    pairs: Vec<PixelPair>,
}

/// Rounded planes of some samples.
pub(super) struct PairedSamples {
    samples: Vec<Vec<PairedPlane>>,
}

impl PairedSamples {
    /// Rounds the planes of samples; `None` where the processor has no such instructions, there is
    /// little to sum, or a number is not finite.
    ///
    /// `lanes` are the channels that are there, for each plane.
    pub(super) fn of(samples: &[&[Pixel]], plane_len: usize, lanes: &[usize]) -> Option<Self> {
        if !has_integer_dot_products() || samples.len() * plane_len < FEW_PIXELS {
            return None;
        }
        let samples = samples.iter().map(|sample| {
            let planes = sample.chunks_exact(plane_len).zip(lanes);
            planes
                .map(|(plane, lanes)| rounded(plane, *lanes))
                .collect()
        });
        Some(Self {
            samples: samples.collect::<Option<_>>()?,
        })
    }

    /// Adds the products of two planes over a region to a tile: each channel of the first plane with
    /// the first `channels` of the second.
    pub(super) fn add_products(
        &self,
        samples: Range<usize>,
        planes: [usize; 2],
        region: &Region,
        channels: usize,
        tile: &mut [Pixel; BLOCK],
    ) {
        for sample in &self.samples[samples] {
            let [own, other] = planes.map(|plane| &sample[plane]);
            let products = PairProducts {
                own: &own.pairs,
                other: &other.pairs,
                scale: own.scale * other.scale,
                region,
            };
            products.add(channels, tile);
        }
    }
}

/// Two planes to be multiplied over a region.
struct PairProducts<'a> {
    own: &'a [PixelPair],
    other: &'a [PixelPair],
    scale: f32,
    region: &'a Region,
}

#[cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "a function for an instruction set may only be called where the processor has it"
    )
)]
fn rounded(plane: &[Pixel], lanes: usize) -> Option<PairedPlane> {
    #[cfg(target_arch = "x86_64")]
    if has_integer_dot_products() {
        // SAFETY: the processor has the instructions, as was just asked.
        return unsafe { avx512::rounded(plane, lanes) };
    }
    None
}

impl PairProducts<'_> {
    /// Pixels are rounded only where the processor has the instructions, so this runs only there.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(
            unsafe_code,
            reason = "a function for an instruction set may only be called where the processor has it"
        )
    )]
    fn add(self, channels: usize, tile: &mut [Pixel; BLOCK]) {
        #[cfg(target_arch = "x86_64")]
        if has_integer_dot_products() {
            // SAFETY: the processor has the instructions, as was just asked.
            unsafe {
                match channels {
                    0..=4 => avx512::add::<4>(&self, tile),
                    5..=8 => avx512::add::<8>(&self, tile),
                    9..=12 => avx512::add::<12>(&self, tile),
                    _ => avx512::add::<16>(&self, tile),
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __m512i, _CMP_NLE_UQ, _mm512_abs_ps, _mm512_and_si512, _mm512_cmp_ps_mask,
        _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_dpwssds_epi32, _mm512_fmadd_ps,
        _mm512_mask_reduce_max_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_or_si512,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
        _mm512_slli_epi32,
    };

    use super::{BLOCK, LARGEST, PAIRS, PairProducts, PairedPlane, Pixel, PixelPair};

    /// Below this, steps would have no finite reciprocal; such a plane is as good as zero.
    const SMALLEST: f32 = 1e-30;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn rounded(plane: &[Pixel], lanes: usize) -> Option<PairedPlane> {
        let used = u16::MAX >> (BLOCK - lanes.clamp(1, BLOCK));
        let mut largest = _mm512_setzero_ps();
        let mut endless = 0;
        for pixel in plane {
            let size = _mm512_abs_ps(bytemuck::cast(*pixel));
            endless |= _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(size, _mm512_set1_ps(f32::MAX));
            largest = _mm512_max_ps(size, largest);
        }
        if endless & used != 0 {
            return None;
        }
        let largest = _mm512_mask_reduce_max_ps(used, largest);
        let (scale, steps) = if largest < SMALLEST {
            (0.0, 0.0)
        } else {
            (largest / LARGEST, LARGEST / largest)
        };
        let steps = _mm512_set1_ps(steps);
        let mut next = _mm512_setzero_si512();
        let mut pairs = vec![[0; BLOCK]; plane.len()];
        for (pair, pixel) in pairs.iter_mut().zip(plane).rev() {
            let own = _mm512_cvtps_epi32(_mm512_mul_ps(bytemuck::cast(*pixel), steps));
            *pair = bytemuck::cast(joined(own, next));
            next = own;
        }
        Some(PairedPlane { scale, pairs })
    }

    /// The lower halves of two lists of numbers side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn joined(first: __m512i, second: __m512i) -> __m512i {
        _mm512_or_si512(lower(first), _mm512_slli_epi32::<16>(second))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn lower(numbers: __m512i) -> __m512i {
        _mm512_and_si512(numbers, _mm512_set1_epi32(0xffff))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn add<const P: usize>(work: &PairProducts<'_>, tile: &mut [Pixel; BLOCK]) {
        let region = work.region;
        let mut sums = [_mm512_setzero_si512(); P];
        let mut summed = 0;
        for row in 0..region.rows {
            let mut column = 0;
            while column < region.columns {
                let count = (region.columns - column).min(2 * PAIRS);
                let pairs = count.div_ceil(2);
                if summed + pairs > PAIRS {
                    flush(sums, work.scale, tile);
                    sums = [_mm512_setzero_si512(); P];
                    summed = 0;
                }
                let at = region.start + row * region.row_step + column * region.column_step;
                let own = &work.own[at..];
                let other = &work.other[at + region.distance..];
                sums = if region.column_step == 1 {
                    neighbours(sums, &own[..count], &other[..count])
                } else {
                    apart(sums, own, other, count, region.column_step)
                };
                summed += pairs;
                column += count;
            }
        }
        flush(sums, work.scale, tile);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn flush<const P: usize>(sums: [__m512i; P], scale: f32, tile: &mut [Pixel; BLOCK]) {
        let scale = _mm512_set1_ps(scale);
        for (sum, row) in sums.into_iter().zip(tile) {
            let held: __m512 = bytemuck::cast(*row);
            *row = bytemuck::cast(_mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, held));
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn multiply<const P: usize>(
        mut sums: [__m512i; P],
        own: __m512i,
        other: &PixelPair,
    ) -> [__m512i; P] {
        // No sum is ever saturated; the compiler would split the instruction that does not saturate into
        // a product and a sum.
        for p in 0..P {
            sums[p] = _mm512_dpwssds_epi32(sums[p], own, _mm512_set1_epi32(other[p]));
        }
        sums
    }

    /// The products of pixels that lie side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn neighbours<const P: usize>(
        mut sums: [__m512i; P],
        own: &[PixelPair],
        other: &[PixelPair],
    ) -> [__m512i; P] {
        let (own, last) = own.as_chunks::<2>();
        let (other, last_other) = other.as_chunks::<2>();
        for (own, other) in own.iter().zip(other) {
            sums = multiply(sums, bytemuck::cast(own[0]), &other[0]);
        }
        for (own, other) in last.iter().zip(last_other) {
            sums = multiply(sums, lower(bytemuck::cast(*own)), other);
        }
        sums
    }

    /// The products of pixels that lie `step` apart.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn apart<const P: usize>(
        mut sums: [__m512i; P],
        own: &[PixelPair],
        other: &[PixelPair],
        count: usize,
        step: usize,
    ) -> [__m512i; P] {
        for column in (0..count).step_by(2) {
            let at = column * step;
            let pair = |pixels: &[PixelPair]| {
                let second = if column + 1 < count {
                    pixels[at + step]
                } else {
                    [0; BLOCK]
                };
                joined(bytemuck::cast(pixels[at]), bytemuck::cast(second))
            };
            let others: PixelPair = bytemuck::cast(pair(other));
            sums = multiply(sums, pair(own), &others);
        }
        sums
    }
}
