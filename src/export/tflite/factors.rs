//! Factors of `LiteRT`'s kernels, rounded to the bits that the kernels have for them.

/// Factors that XNNPACK takes: `2^−8 .. 2^7`.
pub(super) fn is_taken(ratio: f64) -> bool {
    (1.0 / 256.0..=128.0).contains(&ratio)
}

/// To the nearest 256th, as a count of them.
pub(super) fn in_256ths(ratio: f64) -> f64 {
    (ratio * 256.0).round_ties_even()
}

/// ```text
/// m · 2^e with m in 0.5..1  →  (round(m · 2^31), e)
/// ```
fn mantissa(factor: f64) -> (f64, f64) {
    let mut power = 1.0;
    while factor < 0.5 * power && power > f64::EPSILON {
        power /= 2.0;
    }
    while factor >= power {
        power *= 2.0;
    }
    ((factor / power * f64::from(1u32 << 31)).round(), power)
}

/// To the nearest number of 31 bits.
pub(super) fn in_31_bits(factor: f64) -> f64 {
    let (mantissa, power) = mantissa(factor);
    mantissa / f64::from(1u32 << 31) * power
}

/// At most `(1 − 2^−15) · 2^e`.
pub(super) fn in_15_bits(factor: f64) -> f64 {
    let (mantissa, power) = mantissa(factor);
    let short = ((mantissa + f64::from(1 << 15)) / f64::from(1 << 16)).floor();
    short.min(32767.0) / 32768.0 * power
}

/// Bits behind the point that a built-in kernel shifts out last.
pub(super) fn shifted_out(factor: f64) -> u8 {
    let mut bits = 0;
    let mut scaled = factor * 2.0;
    while scaled < 1.0 && bits < 31 {
        scaled *= 2.0;
        bits += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_exponent() {
        for (factor, bits) in [
            (0.75, 0),
            (0.5, 0),
            (0.49, 1),
            (0.25, 1),
            (0.005, 7),
            (3.0, 0),
        ] {
            assert_eq!(shifted_out(factor), bits, "{factor}");
        }
    }

    #[test]
    fn products_with_int16_have_factors_of_15_bits() {
        for (factor, expected) in [
            (0.75, 24576.0),
            (0.3, 19661.0 / 2.0),
            (1.5, 24576.0 * 2.0),
            (0.999_999_9, 32767.0),
        ] {
            assert_eq!(in_15_bits(factor) * 32768.0, expected, "{factor}");
        }
    }
}
