//! Averages, normalisations and the logistic function.

use rten_simd::ops::{BitOps as _, FloatOps as _, NumOps as _};
use rten_simd::{Isa, Simd as _, SimdOp};

/// The average of a whole channel, as a pool over all of it computes it.
///
/// Four partial sums run along the channel; what is left over is added one by one.
pub fn windowless_average(values: &[f32]) -> f32 {
    let (fours, rest) = values.as_chunks::<4>();
    let mut sums = [0.0f32; 4];
    for four in fours {
        for (sum, value) in sums.iter_mut().zip(four) {
            *sum += value;
        }
    }
    let begun = (sums[0] + sums[2]) + (sums[1] + sums[3]);
    let total = rest.iter().fold(begun, |total, value| total + value);
    total / values.len() as f32
}

/// The average of a window, summed by rows.
pub fn window_average(values: impl Iterator<Item = f32>, count: usize) -> f32 {
    values.fold(0.0, |total, value| total + value) / count as f32
}

/// The mean of a row that starts `offset` numbers after an aligned address.
///
/// Eigen sums two registers of four numbers in turn from the first aligned address on, and adds the
/// numbers before and after that one by one.
pub fn mean(values: &[f32], offset: usize) -> f32 {
    let start = (offset.next_multiple_of(4) - offset).min(values.len());
    let (before, aligned) = values.split_at(start);
    let (fours, after) = aligned.as_chunks::<4>();
    let total = match fours {
        [] => values
            .iter()
            .copied()
            .reduce(|total, value| total + value)
            .unwrap_or(0.0),
        [first, others @ ..] => {
            let sums = summed_in_turn(*first, others);
            let begun = (sums[0] + sums[2]) + (sums[1] + sums[3]);
            let ends = before.iter().chain(after);
            ends.fold(begun, |total, value| total + value)
        }
    };
    total / values.len() as f32
}

fn summed_in_turn(first: [f32; 4], others: &[[f32; 4]]) -> [f32; 4] {
    let add = |a: [f32; 4], b: [f32; 4]| std::array::from_fn(|lane| a[lane] + b[lane]);
    let [second, others @ ..] = others else {
        return first;
    };
    let (pairs, last) = others.as_chunks::<2>();
    let (even, odd) = pairs.iter().fold((first, *second), |(even, odd), pair| {
        (add(even, pair[0]), add(odd, pair[1]))
    });
    let sums = add(even, odd);
    last.iter().fold(sums, |sums, four| add(sums, *four))
}

/// Normalises a channel in place.
///
/// ```text
/// y = x · s + (b − m · s),  s = scale / √(variance + ε)
/// ```
pub fn normalized_channel(
    values: &mut [f32],
    [scale, bias, mean, variance]: [f32; 4],
    epsilon: f32,
) {
    let factor = scale * (1.0 / (variance + epsilon).sqrt());
    let summand = bias - mean * factor;
    for value in values {
        *value = *value * factor + summand;
    }
}

/// Writes the logistic function of each number.
///
/// ```text
/// y = x · P(x²) / Q(x²) + 1/2,  x limited to [−18, 18]
/// ```
/// The coefficients are those of the rational approximation that MLAS and Eigen use.
pub fn sigmoid(from: &[f32], to: &mut [f32]) {
    Logistic { from, to }.dispatch();
}

struct Logistic<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl SimdOp for Logistic<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        const P: [f32; 5] = [
            4.370_31e-11,
            1.156_273_2e-7,
            6.085_749e-5,
            0.008_513_771,
            0.248_287_95,
        ];
        const Q: [f32; 6] = [
            6.102_473_7e-13,
            5.761_021_4e-9,
            6.291_068e-6,
            0.001_701_988_2,
            0.116_817_65,
            0.993_151_9,
        ];
        let ops = isa.f32();
        let lanes = ops.len();
        for (from, to) in self.from.chunks(lanes).zip(self.to.chunks_mut(lanes)) {
            let x = ops.load_pad(from).0;
            let x = ops.max(ops.splat(-18.0), ops.min(ops.splat(18.0), x));
            let square = ops.mul(x, x);
            let polynomial = |coefficients: &[f32]| {
                let mut terms = coefficients.iter().map(|c| ops.splat(*c));
                let first = terms.next().unwrap_or_else(|| ops.zero());
                terms.fold(first, |sum, c| ops.mul_add(sum, square, c))
            };
            let (p, q) = (ops.mul(polynomial(&P), x), polynomial(&Q));
            let y = ops.add(ops.div(p, q), ops.splat(0.5));
            let y = ops.min(ops.one(), ops.max(ops.zero(), y));
            to.copy_from_slice(&y.to_array().as_ref()[..to.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_agree_with_their_definition() {
        for len in [1, 3, 4, 7, 8, 25, 49, 64, 169] {
            let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let exact = values.iter().map(|v| f64::from(*v)).sum::<f64>() / len as f64;
            let found = [
                windowless_average(&values),
                window_average(values.iter().copied(), len),
                mean(&values, 0),
                mean(&values, 3),
            ];
            for value in found {
                assert!((f64::from(value) - exact).abs() < 1e-6, "{len}: {found:?}");
            }
        }
    }

    #[test]
    fn the_logistic_function_is_near_its_definition() {
        let from: Vec<f32> = (-300..300).map(|i| i as f32 * 0.1).collect();
        let mut to = vec![0.0; from.len()];
        sigmoid(&from, &mut to);
        for (x, y) in from.iter().zip(&to) {
            let exact = 1.0 / (1.0 + (-f64::from(*x)).exp());
            assert!((f64::from(*y) - exact).abs() < 3e-7, "{x}: {y}");
        }
    }

    #[test]
    fn a_channel_is_scaled_and_shifted() {
        let mut values = [1.0, 3.0];
        normalized_channel(&mut values, [2.0, 0.5, 1.0, 4.0], 0.0);
        assert_eq!(values, [0.5, 2.5]);
    }
}
