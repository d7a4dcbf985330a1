//! Rounding to half-precision floating point, kept in `f32`.
#![expect(
    clippy::inline_always,
    reason = "a rule gets the instruction set of its loop only if it is inlined"
)]

use super::SliceErrors;
use super::fake_quantize::{Rule, clamp, round_observed, round_slice};

/// Half-precision formats that keep a floating point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HalfFormat {
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an IEEE 754 single.
    BF16,
}

impl HalfFormat {
    /// The nearest number of the format, ties to even.
    ///
    /// Numbers beyond the largest finite one become that one, as a saturating cast does.
    /// NaN stays NaN.
    pub fn round(self, x: f32) -> f32 {
        match self {
            Self::F16 => F16.round(x),
            Self::BF16 => BF16.round(x),
        }
    }

    /// Writes the rounded `src` to `dst`, as far as the shorter of the two goes.
    pub fn round_slice(self, src: &[f32], dst: &mut [f32]) {
        match self {
            Self::F16 => round_slice(F16, src, dst),
            Self::BF16 => round_slice(BF16, src, dst),
        }
    }

    /// Writes the rounded `src` to `dst` and measures the error in the same pass.
    pub fn round_observed(self, src: &[f32], dst: &mut [f32]) -> SliceErrors {
        match self {
            Self::F16 => round_observed(F16, src, dst),
            Self::BF16 => round_observed(BF16, src, dst),
        }
    }
}

/// Half precision: 10 bits of mantissa, or steps of 2^-24 below 2^-14.
#[derive(Clone, Copy)]
struct F16;

impl Rule for F16 {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        const MAX: f32 = 65504.0;
        const SMALLEST_NORMAL: f32 = 6.103_515_6e-5;
        // The last bit of 0.75 is worth 2^-24, the step of the subnormal numbers.
        const SHIFT: f32 = 0.75;
        let x = clamp(x, -MAX, MAX);
        let normal = round_mantissa(x, 13);
        let subnormal = (x + SHIFT) - SHIFT;
        if x.abs() < SMALLEST_NORMAL {
            subnormal
        } else {
            normal
        }
    }

    #[inline(always)]
    fn saturates(self, x: f32) -> bool {
        x.abs() >= 65520.0
    }
}

/// The upper 16 bits of a single.
#[derive(Clone, Copy)]
struct BF16;

impl Rule for BF16 {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        const MAX: f32 = f32::from_bits(0x7F7F_0000);
        round_mantissa(clamp(x, -MAX, MAX), 16)
    }

    #[inline(always)]
    fn saturates(self, x: f32) -> bool {
        const OVERFLOW: f32 = f32::from_bits(0x7F7F_8000);
        x.abs() >= OVERFLOW
    }
}

/// Drops the last bits of the mantissa, ties to even. NaN stays NaN.
#[inline(always)]
fn round_mantissa(x: f32, dropped_bits: u32) -> f32 {
    let bits = x.to_bits();
    let odd = (bits >> dropped_bits) & 1;
    let rounded =
        bits.wrapping_add((1 << (dropped_bits - 1)) - 1 + odd) & (u32::MAX << dropped_bits);
    if x.is_nan() {
        x
    } else {
        f32::from_bits(rounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number whose upper 19 bits differ, with the interesting endings of the lower 13.
    fn inputs() -> impl Iterator<Item = f32> {
        let endings = [0u32, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF];
        (0..1u32 << 19).flat_map(move |top| endings.map(|low| f32::from_bits(top << 13 | low)))
    }

    #[test]
    fn rounding_is_that_of_the_half_crate() {
        for x in inputs() {
            let f16 = half::f16::from_f32(x).to_f32();
            let bf16 = half::bf16::from_f32(x).to_f32();
            let cases = [
                (HalfFormat::F16, f16, 65504.0),
                (HalfFormat::BF16, bf16, half::bf16::MAX.to_f32()),
            ];
            for (format, expected, max) in cases {
                let expected = if expected.is_infinite() {
                    max.copysign(x)
                } else {
                    expected
                };
                let actual = format.round(x);
                assert!(
                    actual == expected || (actual.is_nan() && expected.is_nan()),
                    "{format:?} of {x:e} is {actual:e}, expected {expected:e}"
                );
            }
        }
    }

    #[test]
    fn slices_round_like_numbers_and_count_overflow() {
        let src = [
            0.1,
            -65519.9,
            65520.0,
            -1e30,
            f32::INFINITY,
            1e-8,
            3e38,
            f32::MAX,
        ];
        for (format, overflowing) in [(HalfFormat::F16, 5), (HalfFormat::BF16, 2)] {
            let (mut plain, mut observed) = ([0.0; 8], [0.0; 8]);
            format.round_slice(&src, &mut plain);
            let errors = format.round_observed(&src, &mut observed);
            assert_eq!(plain, src.map(|x| format.round(x)));
            assert_eq!(observed, plain);
            assert_eq!(
                (errors.saturated, errors.count),
                (overflowing, 8),
                "{format:?}"
            );
        }
    }
}
