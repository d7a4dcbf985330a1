//! The logistic function of a register.

use rten_simd::ops::{BitOps as _, FloatOps as _, IntOps as _, NumOps as _, ToFloat as _};
use rten_simd::{Isa, Simd as _, SimdOp};

/// `1 / (1 + e^−x)`. NaN gives NaN.
#[inline(always)]
pub(super) fn sigmoid<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let grown = exp(isa, ops.sub(ops.zero(), x));
    ops.div(ops.one(), ops.add(ops.one(), grown))
}

/// `1 / (1 + e^−x)` of each number, by the same instructions as in a convolution's registers.
pub fn sigmoid_slice(from: &[f32], to: &mut [f32]) {
    Sigmoid { from, to }.dispatch();
}

struct Sigmoid<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl SimdOp for Sigmoid<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        for (from, to) in self.from.chunks(lanes).zip(self.to.chunks_mut(lanes)) {
            let y = sigmoid(isa, ops.load_pad(from).0);
            if to.len() == lanes {
                ops.store(y, to);
            } else {
                to.copy_from_slice(&y.to_array().as_ref()[..to.len()]);
            }
        }
    }
}

/// `e^x` with a relative error below 2·10⁻⁷ for `−87 ≤ x ≤ 88`, and that of the nearer end beyond.
///
/// ```text
/// e^x = 2^n · e^r,  n = round(x / ln 2),  |r| ≤ ln 2 / 2
/// ```
/// `e^r` is the degree-7 polynomial of the Cephes library (`expf`). NaN gives NaN.
#[inline(always)]
fn exp<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const COEFFICIENTS: [f32; 5] = [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let (floats, ints) = (isa.f32(), isa.i32());
    let limited = floats.min(floats.splat(88.0), floats.max(floats.splat(-87.0), x));
    let steps = floats.to_int_round(floats.mul(limited, floats.splat(std::f32::consts::LOG2_E)));
    let n = ints.to_float(steps);
    let r = floats.mul_sub_from(n, floats.splat(LN2_HIGH), limited);
    let r = floats.mul_sub_from(n, floats.splat(LN2_LOW), r);
    let mut p = floats.splat(1.987_569_1e-4);
    for coefficient in COEFFICIENTS {
        p = floats.mul_add(p, r, floats.splat(coefficient));
    }
    let p = floats.mul_add(floats.mul(p, r), r, r);
    let p = floats.add(p, floats.one());
    // Within these limits the power of two is a normal number.
    let exponent = ints.shift_left::<23>(ints.add(steps, ints.splat(127)));
    floats.mul(p, floats.from_bits(exponent.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition() {
        let xs: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.031).collect();
        let mut ys = vec![0.0; xs.len()];
        sigmoid_slice(&xs, &mut ys);
        for (x, y) in xs.iter().zip(&ys) {
            let expected = 1.0 / (1.0 + (-f64::from(*x)).exp());
            let error = (f64::from(*y) - expected).abs();
            assert!(
                error <= 3e-7 * expected + 1e-37,
                "{x}: {y} is not {expected}"
            );
        }
        let mut special = [0.0; 3];
        sigmoid_slice(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN], &mut special);
        assert!(special[0] == 1.0 && special[1] < 1e-37 && special[2].is_nan());
    }
}
