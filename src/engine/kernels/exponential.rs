//! The exponential function of a register.

use rten_simd::Isa;
use rten_simd::ops::{BitOps as _, FloatOps as _, IntOps as _, NumOps as _, ToFloat as _};

/// `e^x` with a relative error below 2·10⁻⁷; the method is that of the element-wise operator.
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
    let limited = floats.min(floats.splat(89.0), floats.max(floats.splat(-104.0), x));
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
    // The power of two is applied in two halves, so that neither leaves the normal range.
    let half = ints.shift_right::<1>(steps);
    let rest = ints.sub(steps, half);
    floats.mul(
        floats.mul(p, power_of_two(isa, half)),
        power_of_two(isa, rest),
    )
}

#[inline(always)]
fn power_of_two<I: Isa>(isa: I, n: I::I32) -> I::F32 {
    let ints = isa.i32();
    isa.f32().from_bits(rten_simd::Simd::to_bits(
        ints.shift_left::<23>(ints.add(n, ints.splat(127))),
    ))
}

/// `1 / (1 + e^−x)`.
#[inline(always)]
pub(super) fn sigmoid<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let grown = exp(isa, ops.sub(ops.zero(), x));
    ops.div(ops.one(), ops.add(ops.one(), grown))
}
