//! Functions of one `f32` without branches, so that loops over them vectorise.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

/// `e^x` with a relative error below 2·10⁻⁷.
///
/// ```text
/// e^x = 2^n · e^r,  n = round(x / ln 2),  |r| ≤ ln 2 / 2
/// ```
/// `e^r` is the degree-7 polynomial of the Cephes library (`expf`). NaN gives NaN.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5·2²³: adding it rounds to an integer that is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-104.0, 89.0);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    // The power of two is applied in two halves, so that neither leaves the normal range.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The error function with an absolute error below 2·10⁻⁷, and as good a relative one.
///
/// ```text
/// |x| < 1:  erf(x) = x · P(x²)
/// |x| ≥ 1:  erf(x) = sign(x) · (1 − e^−Q(|x|))
/// ```
/// `P` is fitted to `erf(x) / x`, `Q` to `−ln(1 − erf(x))` on `[1, 4]`, both at Chebyshev points.
/// Beyond 4 the value is 1 in `f32`. NaN gives NaN.
#[inline]
pub(in crate::engine) fn erf(x: f32) -> f32 {
    const P: [f32; 8] = [
        FRAC_2_SQRT_PI,
        -0.376_126_38,
        0.112_837_83,
        -0.026_865_438,
        0.005_221_053_5,
        -0.000_848_439_64,
        0.000_112_682_54,
        -9.673_59e-6,
    ];
    const Q: [f32; 9] = [
        -0.000_211_165_55,
        1.129_696_8,
        0.632_959_37,
        0.108_740_38,
        -0.025_452_157,
        0.004_320_642,
        -0.000_475_199_75,
        2.722_088_7e-5,
        -3.877_706_3e-7,
    ];
    let a = x.abs().clamp(0.0, 4.0);
    let small = a * polynomial(&P, a * a);
    let large = 1.0 - exp(-polynomial(&Q, a));
    (if a < 1.0 { small } else { large }).copysign(x)
}

#[inline]
fn polynomial<const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// `1 / (1 + e^−x)`.
#[inline]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x · Φ(x) = x/2 · (1 + erf(x / √2))`.
#[inline]
pub(super) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// The approximation `x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³)))`, by `(1 + tanh t)/2 = sigmoid(2t)`.
#[inline]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    /// `2·√(2/π)`.
    const TWICE_ROOT: f32 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    x * sigmoid(TWICE_ROOT * (x + 0.044_715 * x * x * x))
}

/// `ln(1 + e^x)` without overflow.
#[inline]
pub(super) fn softplus(x: f32) -> f32 {
    (if x > 0.0 { x } else { 0.0 }) + (-x.abs()).exp().ln_1p()
}

/// The larger of two numbers; NaN if one is NaN.
#[inline]
pub(super) fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller of two numbers; NaN if one is NaN.
#[inline]
pub(super) fn min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(low: f64, high: f64) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |k| (low + (high - low) * f64::from(k) / 200_000.0) as f32)
    }

    #[test]
    fn exp_is_accurate() {
        for x in grid(-87.0, 88.7) {
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(error < 2e-7, "exp({x}) is off by {error:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
        // Subnormal results lose bits, not their size.
        assert!((f64::from(exp(-100.0)) - (-100.0f64).exp()).abs() < 2e-45);
    }

    #[test]
    fn erf_is_accurate() {
        for x in grid(-5.0, 5.0) {
            let exact = candle_core::cpu::erf::erf_f64(f64::from(x));
            let error = (f64::from(erf(x)) - exact).abs();
            assert!(error < 2e-7, "erf({x}) is off by {error:e}");
            assert!(error <= 3e-7 * exact.abs(), "erf({x}) is off by {error:e}");
        }
        assert_eq!(erf(f32::INFINITY), 1.0);
        assert_eq!(erf(f32::NEG_INFINITY), -1.0);
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn activations_match_their_definition_in_f64() {
        for x in grid(-20.0, 20.0) {
            let v = f64::from(x);
            let erf = candle_core::cpu::erf::erf_f64(v * std::f64::consts::FRAC_1_SQRT_2);
            let tanh = ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v.powi(3))).tanh();
            for (name, found, exact) in [
                ("sigmoid", sigmoid(x), 1.0 / (1.0 + (-v).exp())),
                ("gelu", gelu(x), 0.5 * v * (1.0 + erf)),
                ("gelu_tanh", gelu_tanh(x), 0.5 * v * (1.0 + tanh)),
                (
                    "softplus",
                    softplus(x),
                    v.max(0.0) + (-v.abs()).exp().ln_1p(),
                ),
            ] {
                let error = (f64::from(found) - exact).abs();
                assert!(error < 5e-7 * (1.0 + exact.abs()), "{name}({x}): {error:e}");
            }
        }
        assert_eq!(softplus(f32::NEG_INFINITY), 0.0);
        assert!(softplus(f32::NAN).is_nan());
    }

    #[test]
    fn max_and_min_keep_nan() {
        assert!(max(f32::NAN, 1.0).is_nan() && max(1.0, f32::NAN).is_nan());
        assert!(min(f32::NAN, 1.0).is_nan() && min(1.0, f32::NAN).is_nan());
        assert_eq!((max(1.0, 2.0), min(1.0, 2.0)), (2.0, 1.0));
    }
}
