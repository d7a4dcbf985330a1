//! Softmax and the error function.
//!
//! Both evaluate an exponential as `2^m · P(r)` with `x = m·ln 2 + r`; steps and coefficients are those of
//! MLAS on x86-64 (`ComputeSumExpF32Kernel` and `ErfKernelFma3`).

use rten_simd::ops::{BitOps as _, FloatOps as _, NumOps as _};
use rten_simd::{Isa, Simd as _, SimdOp};

const LOG2_E: f32 = f32::from_bits(0x3FB8_AA3B);
/// Added and taken away again it rounds to an integer.
const ROUNDER: f32 = f32::from_bits(0x4B40_0000);
/// `−ln 2` in two parts.
const MINUS_LN_2: [f32; 2] = [f32::from_bits(0xBF31_7200), f32::from_bits(0xB5BF_BE8E)];

/// The registers of the processor that the runtime uses for sums of exponentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registers {
    /// 8 numbers; with AVX2 and FMA.
    Eight,
    /// 16 numbers; with AVX-512F.
    Sixteen,
}

impl Registers {
    fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f") {
            return Self::Sixteen;
        }
        Self::Eight
    }

    /// Smaller arguments are raised to this one.
    fn least_argument(self) -> f32 {
        match self {
            Self::Eight => f32::from_bits(0xC2B0_C0A5),
            Self::Sixteen => f32::from_bits(0xC2CF_F1B5),
        }
    }

    /// `p · 2^m` of a number that was rounded to `m` by adding [`ROUNDER`].
    fn scaled(self, p: f32, rounded: f32) -> f32 {
        match self {
            Self::Eight => p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3F80_0000)),
            Self::Sixteen => {
                // The product is rounded once, below the normal numbers too.
                let power = rounded - ROUNDER;
                (f64::from(p) * 2f64.powi(power as i32)) as f32
            }
        }
    }

    /// The sum of exponentials, from the sums that run through the lanes of a register.
    fn total(self, values: &[f32]) -> f32 {
        let mut sums = [0.0f32; 16];
        let count = match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        };
        for part in values.chunks(count) {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += value;
            }
        }
        if self == Self::Sixteen {
            let (low, high) = sums.split_at_mut(8);
            for (low, high) in low.iter_mut().zip(high) {
                *low += *high;
            }
        }
        let of_four = |at: usize| (sums[at] + sums[at + 1]) + (sums[at + 2] + sums[at + 3]);
        of_four(4) + of_four(0)
    }
}

/// Replaces every row of `length` numbers by its softmax.
///
/// ```text
/// e_i = exp(x_i − max x);  y_i = e_i · (1 / Σ e)
/// ```
pub fn softmax(values: &mut [f32], length: usize) {
    softmax_in(values, length, Registers::of_this_machine());
}

fn softmax_in(values: &mut [f32], length: usize, registers: Registers) {
    for row in values.chunks_exact_mut(length.max(1)) {
        let most = row.iter().fold(f32::MIN, |most, x| most.max(*x));
        Exponentials {
            values: row,
            summand: -most,
            registers,
        }
        .dispatch();
        let factor = 1.0 / registers.total(row);
        for value in row {
            *value *= factor;
        }
    }
}

/// Replaces each number by `exp(x + summand)`.
struct Exponentials<'a> {
    values: &'a mut [f32],
    summand: f32,
    registers: Registers,
}

impl SimdOp for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        const P: [u32; 7] = [
            0x3AB4_A000,
            0x3C09_2F6E,
            0x3D2A_ADAD,
            0x3E2A_AA28,
            0x3EFF_FFFB,
            0x3F80_0000,
            0x3F80_0000,
        ];
        let ops = isa.f32();
        let least = ops.splat(self.registers.least_argument());
        for part in self.values.chunks_mut(ops.len()) {
            let x = ops.add(ops.load_pad(part).0, ops.splat(self.summand));
            let x = ops.max(x, least);
            let rounded = ops.mul_add(ops.splat(LOG2_E), x, ops.splat(ROUNDER));
            let power = ops.sub(rounded, ops.splat(ROUNDER));
            let rest = ops.mul_add(power, ops.splat(MINUS_LN_2[0]), x);
            let rest = ops.mul_add(power, ops.splat(MINUS_LN_2[1]), rest);
            let mut p = ops.splat(f32::from_bits(P[0]));
            for bits in &P[1..] {
                p = ops.mul_add(p, rest, ops.splat(f32::from_bits(*bits)));
            }
            let (p, rounded) = (p.to_array(), rounded.to_array());
            for ((value, p), rounded) in part.iter_mut().zip(p).zip(rounded) {
                *value = self.registers.scaled(p, rounded);
            }
        }
    }
}

/// `2^m` of a whole number whose power is a normal number.
fn power_of_two(m: f32) -> f32 {
    f32::from_bits(((m as i32 + 127) as u32) << 23)
}

/// Replaces each number by its error function.
///
/// ```text
/// |x| < 0.921875:  y = x + x·P(x²)          else:  y = ±(1 − exp(−(|x| + |x|·Q(|x|)))),  |x| at most 3.925
/// ```
pub fn error_function(values: &mut [f32]) {
    ErrorFunction { values }.dispatch();
}

struct ErrorFunction<'a> {
    values: &'a mut [f32],
}

impl SimdOp for ErrorFunction<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        const SPLIT: f32 = 0.921_875;
        const LARGEST: f32 = f32::from_bits(0x407B_3333);
        const P: [u32; 6] = [
            0xBA1D_0D41,
            0x3BA3_9FA4,
            0xBCDB_45E9,
            0x3DE7_0D23,
            0xBEC0_9370,
            0x3E03_75D3,
        ];
        const Q: [u32; 7] = [
            0x3791_1480,
            0xB9C8_E966,
            0x3B7E_899B,
            0xBCC6_B180,
            0x3DDA_AE58,
            0x3F22_8550,
            0x3E03_CE86,
        ];
        const E: [u32; 7] = [
            0x3AB5_4C6D,
            0x3C09_3965,
            0x3D2A_AD10,
            0x3E2A_AA17,
            0x3EFF_FFFB,
            0x3F80_0000,
            0x3F80_0000,
        ];
        let ops = isa.f32();
        let constant = |bits: u32| ops.splat(f32::from_bits(bits));
        let polynomial = |coefficients: &[u32], x| {
            let mut terms = coefficients.iter();
            let first = terms
                .next()
                .map_or_else(|| ops.zero(), |bits| constant(*bits));
            terms.fold(first, |sum, bits| ops.mul_add(sum, x, constant(*bits)))
        };
        for part in self.values.chunks_mut(ops.len()) {
            let x = ops.min(ops.abs(ops.load_pad(part).0), ops.splat(LARGEST));
            let near = ops.mul_add(polynomial(&P, ops.mul(x, x)), x, x);
            let exponent = ops.neg(ops.mul_add(polynomial(&Q, x), x, x));
            let rounded = ops.mul_add(ops.splat(LOG2_E), exponent, ops.splat(ROUNDER));
            let power = ops.sub(rounded, ops.splat(ROUNDER));
            let rest = ops.mul_add(ops.splat(MINUS_LN_2[0]), power, exponent);
            let rest = ops.mul_add(power, ops.splat(MINUS_LN_2[1]), rest);
            let p = polynomial(&E, rest);
            let arrays = (near.to_array(), p.to_array(), power.to_array());
            let (near, p, power) = (arrays.0.as_ref(), arrays.1.as_ref(), arrays.2.as_ref());
            for (at, value) in part.iter_mut().enumerate() {
                let far = || 1.0 - p[at] * power_of_two(power[at]);
                let y = if value.abs() >= SPLIT {
                    far()
                } else {
                    near[at]
                };
                *value = y.copysign(*value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::recorded;
    use super::*;

    #[test]
    fn softmax_is_that_of_the_runtime() {
        for case in recorded("Softmax") {
            let mut values = case.numbers("x");
            let length = values.len() / case.rows();
            softmax_in(&mut values, length, Registers::Eight);
            case.assert_same(&values);
            let mut others = case.numbers("x");
            softmax_in(&mut others, length, Registers::Sixteen);
            for (one, other) in values.iter().zip(&others) {
                assert!((one - other).abs() <= 1e-6 * one, "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_far_below_the_largest_vanishes() {
        for (registers, rest) in [(Registers::Eight, 0.0), (Registers::Sixteen, 3.8e-44)] {
            let mut values = [0.0, -100.0, f32::NEG_INFINITY];
            softmax_in(&mut values, 3, registers);
            assert_eq!(values, [1.0, rest, 0.0], "{registers:?}");
        }
    }

    #[test]
    fn the_error_function_is_that_of_the_runtime() {
        for case in recorded("Erf") {
            let mut values = case.numbers("x");
            error_function(&mut values);
            case.assert_same(&values);
        }
    }
}
