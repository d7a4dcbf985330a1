//! Functions of `OpenVINO`'s CPU plugin, operation by operation.
//!
//! The formulas were found by comparing single operators of `OpenVINO` 2026.4 on x86-64 with AVX-512 (the
//! kernels are those of oneDNN) with candidates in `f32`, bit for bit. Every operation that is written
//! rounds once.

/// Channels of a block, which the mean takes in another order than what is left.
const BLOCK: usize = 16;

fn bits(pattern: u32) -> f32 {
    f32::from_bits(pattern)
}

/// `eˣ` for `x ≤ 0`.
///
/// ```text
/// n = floor(x · log2(e) + ½),  r = fma(−n, ln 2, x),  eˣ = p(r) · 2ⁿ    with a polynomial p of degree 5
/// ```
fn exponential(x: f32) -> f32 {
    let lowest = bits(0xc2ae_ac50);
    if x < lowest {
        return 0.0;
    }
    let n = (x * bits(0x3fb8_aa3b) + 0.5).floor();
    let rest = (-n).mul_add(bits(0x3f31_7218), x);
    let coefficients = [
        0x3d2b_9d0d,
        0x3e2a_ad40,
        0x3eff_fee3,
        0x3f7f_fffb,
        0x3f80_0000,
    ];
    let polynomial = coefficients
        .into_iter()
        .fold(bits(0x3c07_cfce), |sum, factor| {
            sum.mul_add(rest, bits(factor))
        });
    // In two steps, because 2ⁿ alone may be too small.
    polynomial * (n - 1.0).exp2() * 2.0
}

/// The logistic function.
///
/// ```text
/// t = e / (e + 1) with e = exp(−|x|);   t below zero, 1 − t above
/// ```
pub(in crate::engine) fn sigmoid(x: f32) -> f32 {
    let e = exponential(-x.abs());
    let below = e / (e + 1.0);
    if x.is_sign_negative() {
        below
    } else {
        1.0 - below
    }
}

/// The mean of each plane of `channels` planes of `[height, width]`.
///
/// Channels of a full block add each row first and then the rows, those that are left all pixels in turn.
pub(in crate::engine) fn plane_means(
    planes: &[f32],
    channels: usize,
    [height, width]: [usize; 2],
) -> Vec<f32> {
    let pixels = height * width;
    let in_blocks = channels / BLOCK * BLOCK;
    planes
        .chunks_exact(pixels.max(1))
        .enumerate()
        .map(|(index, plane)| {
            let sum = if index % channels.max(1) < in_blocks {
                let rows: Vec<f32> = plane.chunks_exact(width.max(1)).map(in_turn).collect();
                in_turn(&rows)
            } else {
                in_turn(plane)
            };
            sum / pixels as f32
        })
        .collect()
}

fn in_turn(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |sum, number| sum + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logistic_function_is_near_its_definition() {
        for step in -2000..=2000 {
            let x = step as f32 / 100.0;
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            let found = f64::from(sigmoid(x));
            assert!((found - exact).abs() < 2e-7, "{x}: {found} {exact}");
        }
        assert_eq!(sigmoid(-1e3), 0.0);
        assert_eq!(sigmoid(1e3), 1.0);
    }

    #[test]
    fn channels_of_a_block_add_row_by_row() {
        let large = 16_777_216.0;
        // In turn, both ones are lost beside the large number; row by row, they are two.
        let plane = [large, 0.0, 1.0, 1.0];
        let planes: Vec<f32> = plane.into_iter().cycle().take(4 * 17).collect();
        let means = plane_means(&planes, 17, [2, 2]);
        assert_eq!(means[0], (large + 2.0) / 4.0);
        assert_eq!(means[16], large / 4.0);
    }
}
