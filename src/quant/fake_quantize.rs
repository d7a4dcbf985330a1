//! The inner loops: quantize and dequantize slices, and measure the error on the way.
//!
//! The loops are plain Rust over fixed lanes, compiled once for each instruction set and chosen at
//! run time. Lanes and blocks are the same for all, so the sums are too.
#![expect(
    clippy::inline_always,
    reason = "a loop gets the instruction set of its caller only if it is inlined"
)]
#![expect(
    clippy::needless_range_loop,
    clippy::needless_bitwise_bool,
    reason = "loops over lanes without branches are what the compiler vectorizes"
)]

use rten_simd::{Isa, SimdOp};

use super::{Grid, SliceErrors};

/// Sums that are kept side by side. So many that the compiler keeps a loop over them, which it can
/// vectorize, rather than unroll it.
const LANES: usize = 256;

/// Rounds to the nearest integer, ties to even, for `|x| <= 2^22`.
///
/// Adding 1.5 · 2^23 leaves no bits for a fraction, so that the addition itself rounds. Unlike
/// `round_ties_even` this needs no instruction beyond the baseline. NaN stays NaN.
#[inline(always)]
pub(super) fn round_half_even(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// The same as an integer; NaN gives 0.
#[inline(always)]
pub(super) fn round_half_even_to_int(x: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    // Floats of one exponent are as far apart as their bits.
    let code = (x + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32;
    if x.is_nan() { 0 } else { code }
}

/// Limits a number; NaN stays NaN.
///
/// Unlike `f32::clamp` it has no assertion, which would keep a loop from being vectorized.
#[inline(always)]
pub(super) fn clamp(x: f32, lowest: f32, highest: f32) -> f32 {
    let x = if x < lowest { lowest } else { x };
    if x > highest { highest } else { x }
}

struct Compiled<F>(F);

impl<R, F: FnOnce() -> R> SimdOp for Compiled<F> {
    type Output = R;

    #[inline(always)]
    fn eval<I: Isa>(self, _isa: I) -> R {
        (self.0)()
    }
}

/// Runs a loop compiled for the widest vectors that the processor has.
#[inline(always)]
pub(crate) fn with_widest_vectors<R>(work: impl FnOnce() -> R) -> R {
    Compiled(work).dispatch()
}

/// How one number becomes one of a format.
pub(super) trait Rule: Copy {
    /// The nearest number of the format.
    fn round(self, x: f32) -> f32;

    /// True where the format ends more than half a step before the number.
    fn saturates(self, x: f32) -> bool;
}

/// The rule of a grid, ready for a loop. `FUSED` divides by multiplying, which gives the same quotient.
#[derive(Clone, Copy)]
pub(super) struct Affine<const FUSED: bool> {
    scale: f32,
    reciprocal: f32,
    lowest: f32,
    highest: f32,
    /// The lowest and the highest level.
    levels: [f32; 2],
}

impl<const FUSED: bool> Affine<FUSED> {
    fn new(grid: &Grid) -> Self {
        let (lowest, highest) = grid.step_limits();
        let scale = grid.scale();
        Self {
            scale,
            reciprocal: 1.0 / scale,
            lowest,
            highest,
            levels: [lowest * scale, highest * scale],
        }
    }

    /// `x / scale` of a finite number, rounded to `f32` as the division is.
    ///
    /// A quotient by multiplication is off by at most two units in the last place; each correction by
    /// the exact remainder, that a fused multiply-add gives, makes it faithful and then correct
    /// (Markstein, Computation of elementary functions on the IBM RISC System/6000, 1990).
    #[inline(always)]
    fn quotient(self, x: f32) -> f32 {
        if !FUSED {
            return x / self.scale;
        }
        let mut quotient = x * self.reciprocal;
        for _ in 0..2 {
            let remainder = quotient.mul_add(-self.scale, x);
            quotient = remainder.mul_add(self.reciprocal, quotient);
        }
        quotient
    }

    #[inline(always)]
    fn steps(self, x: f32) -> f32 {
        if FUSED {
            // A level is rounded, and so is its quotient, but both by much less than half a step: its
            // nearest step is its own. So limiting the number is the same as limiting its steps.
            return self.quotient(clamp(x, self.levels[0], self.levels[1]));
        }
        // The limits are integers, so clamping before rounding gives the same as after it.
        clamp(self.quotient(x), self.lowest, self.highest)
    }
}

impl<const FUSED: bool> Rule for Affine<FUSED> {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        round_half_even(self.steps(x)) * self.scale
    }

    #[inline(always)]
    fn saturates(self, x: f32) -> bool {
        // Limited a step beyond the ends, so that nothing overflows.
        let [low, high] = self.levels;
        let steps = self.quotient(clamp(x, low - self.scale, high + self.scale));
        (steps < self.lowest - 0.5) | (steps > self.highest + 0.5)
    }
}

/// Whether numbers may be divided by a scale by multiplying: the processor multiplies and adds in
/// one rounding, and no remainder is too small for that.
fn divides_fused(scale: f32) -> bool {
    #[cfg(target_arch = "x86_64")]
    let has_fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let has_fused = cfg!(target_arch = "aarch64");
    has_fused && (1e-25..1e25).contains(&scale)
}

/// Calls a function with the rule of a grid.
macro_rules! with_rule {
    ($grid:expr, $rule:ident => $call:expr) => {
        if divides_fused($grid.scale()) {
            let $rule = Affine::<true>::new($grid);
            $call
        } else {
            let $rule = Affine::<false>::new($grid);
            $call
        }
    };
}

/// Writes the levels nearest to `src` to `dst`.
pub(super) fn levels(grid: &Grid, src: &[f32], dst: &mut [f32]) {
    with_rule!(grid, rule => round_slice(rule, src, dst));
}

/// Replaces numbers by their nearest levels.
pub(super) fn levels_in_place(grid: &Grid, values: &mut [f32]) {
    with_rule!(grid, rule => round_in_place(rule, values));
}

/// Writes the levels nearest to `src` to `dst` and measures the error.
pub(super) fn levels_observed(grid: &Grid, src: &[f32], dst: &mut [f32]) -> SliceErrors {
    with_rule!(grid, rule => round_observed(rule, src, dst))
}

/// Measures the error of a grid.
pub(super) fn measure_levels(grid: &Grid, src: &[f32]) -> SliceErrors {
    with_rule!(grid, rule => measure(rule, src))
}

/// Writes the steps from zero of the levels nearest to `src`.
pub(super) fn steps_slice(grid: &Grid, src: &[f32], dst: &mut [f32]) {
    with_rule!(grid, rule => map(
        src,
        dst,
        #[inline(always)]
        move |x| round_half_even(rule.steps(x)),
    ));
}

/// Writes the codes of `src`, less the lowest code; the grid has at most 256 codes.
pub(super) fn codes_slice(grid: &Grid, src: &[f32], dst: &mut [u8]) {
    let zero = grid.zero_point() - grid.q_min();
    with_rule!(grid, rule => map(
        src,
        dst,
        #[inline(always)]
        move |x| (round_half_even_to_int(rule.steps(x)) + zero) as u8,
    ));
}

/// The rule of 1-bit weights: the sign times a magnitude; zero counts as positive.
#[derive(Clone, Copy)]
pub(super) struct Binary {
    pub(super) magnitude: f32,
}

impl Rule for Binary {
    #[inline(always)]
    fn round(self, x: f32) -> f32 {
        if x >= 0.0 {
            self.magnitude
        } else {
            -self.magnitude
        }
    }

    #[inline(always)]
    fn saturates(self, _x: f32) -> bool {
        false
    }
}

/// Writes the codes of `src` to `dst`.
pub(super) fn quantize_slice(grid: &Grid, src: &[f32], dst: &mut [i32]) {
    let zero_point = grid.zero_point();
    with_rule!(grid, rule => map(
        src,
        dst,
        #[inline(always)]
        move |x| round_half_even_to_int(rule.steps(x)) + zero_point,
    ));
}

/// Writes the rounded `src` to `dst`.
pub(super) fn round_slice<R: Rule>(rule: R, src: &[f32], dst: &mut [f32]) {
    map(src, dst, move |x| rule.round(x));
}

/// Replaces numbers by their rounded ones.
fn round_in_place<R: Rule>(rule: R, values: &mut [f32]) {
    with_widest_vectors(
        #[inline(always)]
        move || {
            for x in values {
                *x = rule.round(*x);
            }
        },
    );
}

#[inline(always)]
fn map<T: Copy>(src: &[f32], dst: &mut [T], f: impl Fn(f32) -> T + Copy) {
    with_widest_vectors(
        #[inline(always)]
        move || {
            for (x, y) in src.iter().zip(dst) {
                *y = f(*x);
            }
        },
    );
}

/// Writes the rounded `src` to `dst` and measures the error in the same pass.
pub(super) fn round_observed<R: Rule>(rule: R, src: &[f32], dst: &mut [f32]) -> SliceErrors {
    let count = src.len().min(dst.len());
    let (src, dst) = (&src[..count], &mut dst[..count]);
    with_widest_vectors(
        #[inline(always)]
        move || {
            let mut total = SliceErrors::default();
            let (src_groups, src_tail) = src.as_chunks::<LANES>();
            let (dst_groups, dst_tail) = dst.as_chunks_mut::<LANES>();
            if !src_groups.is_empty() {
                let mut tally = Tally::default();
                for (x, y) in src_groups.iter().zip(dst_groups) {
                    for lane in 0..LANES {
                        y[lane] = rule.round(x[lane]);
                    }
                    tally.add(rule, x, y);
                }
                total = tally.fold();
            }
            for (x, y) in src_tail.iter().zip(dst_tail) {
                *y = rule.round(*x);
                add_one(&mut total, rule, *x, *y);
            }
            SliceErrors {
                count: src.len() as u64,
                ..total
            }
        },
    )
}

/// Measures the error of a rule on `src`.
pub(super) fn measure<R: Rule>(rule: R, src: &[f32]) -> SliceErrors {
    with_widest_vectors(
        #[inline(always)]
        move || {
            let mut total = SliceErrors::default();
            let (groups, tail) = src.as_chunks::<LANES>();
            if !groups.is_empty() {
                let mut tally = Tally::default();
                let mut rounded = [0.0; LANES];
                for x in groups {
                    for lane in 0..LANES {
                        rounded[lane] = rule.round(x[lane]);
                    }
                    tally.add(rule, x, &rounded);
                }
                total = tally.fold();
            }
            for x in tail {
                add_one(&mut total, rule, *x, rule.round(*x));
            }
            SliceErrors {
                count: src.len() as u64,
                ..total
            }
        },
    )
}

/// Sums of one pass, each lane on its own, on cache lines of their own.
#[repr(align(64))]
struct Tally {
    signal: [f64; LANES],
    noise: [f64; LANES],
    saturated: [u32; LANES],
    max_abs_error: [f32; LANES],
}

impl Default for Tally {
    #[inline(always)]
    fn default() -> Self {
        Self {
            signal: [0.0; LANES],
            noise: [0.0; LANES],
            saturated: [0; LANES],
            max_abs_error: [0.0; LANES],
        }
    }
}

impl Tally {
    #[inline(always)]
    fn add<R: Rule>(&mut self, rule: R, x: &[f32; LANES], y: &[f32; LANES]) {
        // One loop for each kind of sum: the compiler vectorizes these, but not one loop for all.
        for lane in 0..LANES {
            let (signal, error) = (f64::from(x[lane]), f64::from(x[lane] - y[lane]));
            self.signal[lane] += signal * signal;
            self.noise[lane] += error * error;
        }
        for lane in 0..LANES {
            self.saturated[lane] += u32::from(rule.saturates(x[lane]));
        }
        for lane in 0..LANES {
            self.max_abs_error[lane] = self.max_abs_error[lane].max((x[lane] - y[lane]).abs());
        }
    }

    #[inline(always)]
    fn fold(&self) -> SliceErrors {
        SliceErrors {
            signal: self.signal.iter().sum(),
            noise: self.noise.iter().sum(),
            saturated: self.saturated.iter().map(|n| u64::from(*n)).sum(),
            max_abs_error: self.max_abs_error.iter().fold(0.0, |m, e| m.max(*e)),
            count: 0,
        }
    }
}

#[inline(always)]
fn add_one<R: Rule>(total: &mut SliceErrors, rule: R, x: f32, y: f32) {
    let error = x - y;
    total.signal += f64::from(x) * f64::from(x);
    total.noise += f64::from(error) * f64::from(error);
    total.saturated += u64::from(rule.saturates(x));
    total.max_abs_error = total.max_abs_error.max(error.abs());
}

/// Sums of squares of a slice and of its difference from another.
pub(super) fn signal_and_noise(reference: &[f32], approximation: &[f32]) -> (f64, f64) {
    let count = reference.len().min(approximation.len());
    let (reference, approximation) = (&reference[..count], &approximation[..count]);
    with_widest_vectors(
        #[inline(always)]
        move || {
            let (mut signal, mut noise) = ([0.0; LANES], [0.0; LANES]);
            let (groups_x, tail_x) = reference.as_chunks::<LANES>();
            let (groups_y, tail_y) = approximation.as_chunks::<LANES>();
            for (x, y) in groups_x.iter().zip(groups_y) {
                for lane in 0..LANES {
                    let (x, y) = (f64::from(x[lane]), f64::from(y[lane]));
                    signal[lane] += x * x;
                    noise[lane] += (x - y) * (x - y);
                }
            }
            for (lane, (x, y)) in tail_x.iter().zip(tail_y).enumerate() {
                let (x, y) = (f64::from(*x), f64::from(*y));
                signal[lane] += x * x;
                noise[lane] += (x - y) * (x - y);
            }
            (signal.iter().sum(), noise.iter().sum())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::{BitWidth, Range};
    use super::*;

    fn grids() -> Vec<Grid> {
        let range = Range::new(-0.7, 2.3).unwrap();
        BitWidth::all()
            .flat_map(|bits| {
                [
                    Some(Grid::asymmetric(range, bits)),
                    Grid::symmetric_activation(range, bits).ok(),
                ]
            })
            .flatten()
            .collect()
    }

    /// Ordinary numbers, exact ties of the grid, numbers beyond its ends and special values.
    fn inputs(grid: &Grid, len: usize) -> Vec<f32> {
        let special = [
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN_POSITIVE,
            -0.0,
            0.0,
            1e-40,
            f32::NAN,
        ];
        (0..len)
            .map(|i| match i % 5 {
                0 => (i as f32 * 0.61).sin() * 4.0,
                1 => (i as f32 - 200.0 + 0.5) * grid.scale(),
                2 => (i as f32 * 7.3).cos() * 0.1,
                3 => special[i / 5 % special.len()],
                _ => (i as f32 - 300.0) * grid.scale(),
            })
            .collect()
    }

    fn reference(grid: &Grid, x: f32) -> f32 {
        let zero_point = grid.zero_point() as f32;
        let code = (x / grid.scale()).round_ties_even() + zero_point;
        (code.clamp(grid.q_min() as f32, grid.q_max() as f32) - zero_point) * grid.scale()
    }

    #[test]
    fn shifted_rounding_is_round_ties_even() {
        let halves = (-40_000..40_000).map(|i| i as f32 * 0.5);
        let wide = (-70_000..70_000).map(|i| i as f32 * 59.9);
        for x in halves.chain(wide) {
            for x in [x, x.next_up(), x.next_down()] {
                assert_eq!(round_half_even(x), x.round_ties_even(), "{x}");
            }
        }
        assert!(round_half_even(f32::NAN).is_nan());
    }

    #[test]
    fn every_pass_gives_the_bits_of_the_reference() {
        for grid in grids() {
            for len in [0, 1, 15, 16, 17, 1003, 5000] {
                let src = inputs(&grid, len);
                let (mut plain, mut observed, mut in_place) =
                    (vec![0.0; len], vec![0.0; len], src.clone());
                grid.fake_quantize_slice(&src, &mut plain);
                grid.fake_quantize_observed(&src, &mut observed);
                grid.fake_quantize_in_place(&mut in_place);
                let mut codes = vec![0; len];
                grid.quantize_slice(&src, &mut codes);
                for i in 0..len {
                    // Adding zero drops the sign of a negative zero.
                    let expected = (reference(&grid, src[i]) + 0.0).to_bits();
                    if src[i].is_nan() {
                        assert!(plain[i].is_nan() && observed[i].is_nan() && in_place[i].is_nan());
                        assert_eq!(codes[i], grid.zero_point());
                        continue;
                    }
                    let actual = [
                        plain[i],
                        observed[i],
                        in_place[i],
                        grid.dequantize(codes[i]),
                        grid.fake_quantize(src[i]),
                    ];
                    assert_eq!(
                        actual.map(f32::to_bits),
                        [expected; 5],
                        "{} on {grid:?}",
                        src[i]
                    );
                }
            }
        }
    }

    #[test]
    fn errors_are_those_of_the_numbers() {
        for grid in grids() {
            for len in [0, 1, 16, 21, 5003, 20_000] {
                let src = inputs(&grid, len)
                    .into_iter()
                    .map(|x| if x.abs() < 1e4 { x } else { 9.0 })
                    .collect::<Vec<_>>();
                let mut dst = vec![0.0; len];
                let errors = grid.fake_quantize_observed(&src, &mut dst);
                assert_eq!(grid.measure(&src), errors, "measuring equals observing");
                let differences = || src.iter().zip(&dst).map(|(x, y)| x - y);
                let signal = src.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
                let noise = differences().map(|e| f64::from(e).powi(2)).sum::<f64>();
                assert!(
                    (errors.signal - signal).abs() <= 1e-10 * signal,
                    "{errors:?}"
                );
                assert!((errors.noise - noise).abs() <= 1e-10 * noise, "{errors:?}");
                assert_eq!(
                    errors.max_abs_error,
                    differences().fold(0.0, |m, e| f32::max(m, e.abs()))
                );
                assert_eq!(
                    errors.saturated,
                    src.iter().filter(|x| grid.saturates(**x)).count() as u64
                );
                assert_eq!(errors.count, len as u64);
            }
        }
    }

    #[test]
    fn binary_weights_keep_their_sign() {
        let src = [0.5, -0.1, 0.0, -0.0, 3.0, -2.0, 0.25];
        let mut dst = [0.0; 7];
        let errors = round_observed(Binary { magnitude: 0.5 }, &src, &mut dst);
        assert_eq!(dst, [0.5, -0.5, 0.5, 0.5, 0.5, -0.5, 0.5]);
        let noise = src
            .iter()
            .zip(dst)
            .map(|(x, y)| f64::from(x - y).powi(2))
            .sum::<f64>();
        assert!((errors.noise - noise).abs() < 1e-9, "{errors:?}");
        assert_eq!((errors.max_abs_error, errors.count), (2.5, 7));
    }
}
