//! What a slice of numbers looks like: extremes, moments and channel ranges.
#![expect(
    clippy::inline_always,
    reason = "a loop gets the instruction set of its caller only if it is inlined"
)]

use serde::{Deserialize, Serialize};

use super::fake_quantize::with_widest_vectors;
use super::layout::ChannelLayout;
use super::{Histogram, QuantError, Range};

/// Moments and extremes of the finite numbers of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SliceStatistics {
    /// How many finite numbers there are, at least 1.
    pub count: u64,
    /// How many of them are zero.
    pub zeros: u64,
    /// How many NaN and infinite numbers were left out.
    pub non_finite: u64,
    /// The smallest number.
    pub min: f32,
    /// The largest number.
    pub max: f32,
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the population.
    pub std: f64,
    /// Pearson's kurtosis, 3 for a normal distribution; NaN where all numbers are equal.
    pub kurtosis: f64,
}

/// Moments and extremes of the finite numbers of a slice.
///
/// ```text
/// mean = Σx / n;  std² = Σ(x - mean)² / n;  kurtosis = (Σ(x - mean)⁴ / n) / std⁴
/// ```
/// Computed in `f64` in two passes. `None` when there is no finite number.
pub fn slice_statistics(values: &[f32]) -> Option<SliceStatistics> {
    let extremes = extremes(values);
    let range = extremes.range?;
    let non_finite = extremes.non_finite;
    let count = values.len() as u64 - non_finite;
    let finite = || {
        values
            .iter()
            .copied()
            .filter(|x| x.is_finite())
            .map(f64::from)
    };
    let mean = finite().sum::<f64>() / count as f64;
    let (mut second, mut fourth) = (0.0, 0.0);
    for x in finite() {
        let square = (x - mean) * (x - mean);
        second += square;
        fourth += square * square;
    }
    let variance = second / count as f64;
    let constant = range.min() == range.max();
    let kurtosis = if constant {
        f64::NAN
    } else {
        fourth / count as f64 / (variance * variance)
    };
    Some(SliceStatistics {
        count,
        zeros: extremes.zeros,
        non_finite,
        min: range.min(),
        max: range.max(),
        mean,
        std: if constant { 0.0 } else { variance.sqrt() },
        kurtosis,
    })
}

/// The range of every channel of a weight, in the order of the channels.
///
/// NaN and infinite weights are left out; a channel without finite weights has the range `[0, 0]`.
///
/// # Errors
/// [`QuantError::WeightShape`] where shape, axis and number of weights do not fit.
pub fn channel_ranges(
    weights: &[f32],
    shape: &[usize],
    channel_axis: usize,
) -> Result<Vec<Range>, QuantError> {
    let layout = ChannelLayout::new(weights.len(), shape, channel_axis)?;
    let by_channel = layout.gather(weights);
    Ok(layout
        .channels(&by_channel)
        .map(|channel| extremes(channel).range.unwrap_or(Range::ZERO))
        .collect())
}

/// Counts the finite numbers of a slice in bins of equal width between its extremes.
///
/// `None` when there is no finite number or no bin.
pub fn histogram(values: &[f32], bins: usize) -> Option<Histogram> {
    let range = extremes(values).range?;
    let mut histogram = Histogram::new(f64::from(range.min()), f64::from(range.max()), bins)?;
    histogram.add(values);
    Some(histogram)
}

/// Counts the errors `x - x̂` of an approximation in bins between their extremes.
///
/// Goes as far as the shorter slice. `None` when there is no finite error or no bin.
pub fn error_histogram(reference: &[f32], approximation: &[f32], bins: usize) -> Option<Histogram> {
    let errors = reference
        .iter()
        .zip(approximation)
        .map(|(x, y)| x - y)
        .collect::<Vec<_>>();
    histogram(&errors, bins)
}

/// Extremes and special numbers of a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extremes {
    /// The range of the finite numbers, if there are any.
    pub(super) range: Option<Range>,
    pub(super) zeros: u64,
    pub(super) non_finite: u64,
}

/// Finds extremes and special numbers in one pass.
pub(super) fn extremes(values: &[f32]) -> Extremes {
    // A block stays in the first-level cache over the loops of a scan.
    const BLOCK: usize = 4096;
    let (mut min_key, mut max_key) = (i32::MAX, i32::MIN);
    let (mut zeros, mut non_finite) = (0, 0);
    with_widest_vectors(
        #[inline(always)]
        || {
            for block in values.chunks(BLOCK) {
                // One reduction a loop: the compiler vectorizes these, but not one loop for all.
                zeros += u64::from(block.iter().fold(0, |n, x| n + u32::from(*x == 0.0)));
                if all_finite(block) {
                    min_key = block.iter().fold(min_key, |m, x| m.min(to_key(*x)));
                    max_key = block.iter().fold(max_key, |m, x| m.max(to_key(*x)));
                    continue;
                }
                let finite = || block.iter().copied().filter(|x| x.is_finite()).map(to_key);
                non_finite += (block.len() - finite().count()) as u64;
                min_key = finite().fold(min_key, i32::min);
                max_key = finite().fold(max_key, i32::max);
            }
        },
    );
    let range =
        (min_key <= max_key).then(|| Range::from_ordered(from_key(min_key), from_key(max_key)));
    Extremes {
        range,
        zeros,
        non_finite,
    }
}

/// True where no number is NaN or infinite.
#[inline(always)]
pub(super) fn all_finite(values: &[f32]) -> bool {
    const INFINITY_BITS: u32 = 0x7F80_0000;
    values
        .iter()
        .fold(0, |largest, x| largest.max(x.to_bits() & 0x7FFF_FFFF))
        < INFINITY_BITS
}

/// An integer that orders floats as their values do, with -0 below +0.
#[inline(always)]
fn to_key(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

fn from_key(key: i32) -> f32 {
    f32::from_bits((key ^ (((key >> 31) as u32) >> 1) as i32) as u32)
}

/// Sum and sum of squares in `f64`, in a fixed order.
pub(super) fn sums(values: &[f32]) -> (f64, f64) {
    // So many sums side by side that the compiler keeps the loop and vectorizes it.
    const LANES: usize = 256;
    with_widest_vectors(
        #[inline(always)]
        move || {
            let (mut sum, mut squares) = ([0.0; LANES], [0.0; LANES]);
            for block in values.chunks(LANES) {
                for ((sum, square), x) in sum.iter_mut().zip(&mut squares).zip(block) {
                    let x = f64::from(*x);
                    *sum += x;
                    *square += x * x;
                }
            }
            (sum.iter().sum(), squares.iter().sum())
        },
    )
}

/// The value below which a share `q` of the numbers lies, `0..=1`, by linear interpolation.
///
/// Reorders the slice. `None` for an empty slice. The same as `numpy.quantile`.
pub(super) fn quantile(values: &mut [f32], q: f64) -> Option<f32> {
    let last = values.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (_, low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let low = f64::from(*low);
    let high = above
        .iter()
        .copied()
        .min_by(f32::total_cmp)
        .map_or(low, f64::from);
    Some((low + (high - low) * (position - below as f64)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_agree_with_numpy_and_scipy() {
        // numpy: x = [1, 2, 3, 4, 10]; x.mean(), x.std(); scipy.stats.kurtosis(x, fisher=False).
        let all = slice_statistics(&[1.0, f32::NAN, 2.0, 3.0, f32::INFINITY, 4.0, 10.0]).unwrap();
        assert_eq!((all.count, all.non_finite, all.zeros), (5, 2, 0));
        assert_eq!((all.min, all.max, all.mean), (1.0, 10.0, 4.0));
        assert!((all.std - 10f64.sqrt()).abs() < 1e-12, "{all:?}");
        assert!((all.kurtosis - 2.788).abs() < 1e-12, "{all:?}");
        let constant = slice_statistics(&[0.1; 7]).unwrap();
        assert!(
            constant.std == 0.0 && constant.kurtosis.is_nan(),
            "{constant:?}"
        );
        assert_eq!(slice_statistics(&[]), None);
        assert_eq!(slice_statistics(&[f32::NAN]), None);
    }

    #[test]
    fn extremes_skip_what_is_not_finite() {
        let cases = [
            (vec![], None),
            (vec![f32::NAN, -f32::NAN, f32::INFINITY], None),
            (vec![-0.0, 0.0], Some((0.0, 0.0))),
            (vec![3.0, -2.0, f32::NEG_INFINITY, 1e-45], Some((-2.0, 3.0))),
            (vec![f32::MAX, f32::MIN], Some((f32::MIN, f32::MAX))),
            (vec![-3.0, -2.0], Some((-3.0, -2.0))),
        ];
        for (values, range) in cases {
            let actual = extremes(&values);
            assert_eq!(
                actual.range.map(|r| (r.min(), r.max())),
                range,
                "{values:?}"
            );
            let count = |f: fn(&f32) -> bool| values.iter().filter(|x| f(x)).count() as u64;
            assert_eq!(actual.zeros, count(|x| *x == 0.0), "{values:?}");
            assert_eq!(actual.non_finite, count(|x| !x.is_finite()), "{values:?}");
        }
    }

    #[test]
    fn quantiles_agree_with_numpy() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        for (q, expected) in [
            (0.0, 1.0),
            (0.25, 2.0),
            (0.6, 3.4),
            (0.999, 4.996),
            (1.0, 5.0),
        ] {
            assert_eq!(quantile(&mut values.clone(), q), Some(expected), "{q}");
        }
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    #[test]
    fn channel_ranges_follow_the_axis() {
        let weights = [1.0, -2.0, 3.0, 4.0, f32::NAN, 6.0];
        let ranges = |axis| {
            let ranges = channel_ranges(&weights, &[2, 3], axis).unwrap();
            ranges
                .into_iter()
                .map(|r| (r.min(), r.max()))
                .collect::<Vec<_>>()
        };
        assert_eq!(ranges(0), [(-2.0, 3.0), (4.0, 6.0)]);
        assert_eq!(ranges(1), [(1.0, 4.0), (-2.0, -2.0), (3.0, 6.0)]);
        assert!(channel_ranges(&weights, &[2, 3], 2).is_err());
        assert!(channel_ranges(&weights, &[2, 2], 0).is_err());
    }

    #[test]
    fn error_histograms_count_every_error() {
        let errors = error_histogram(&[0.0, 0.1, 0.2, 0.3], &[0.0, 0.0, 0.25, 0.25], 8).unwrap();
        assert_eq!(errors.counts().iter().sum::<u64>(), 4);
        assert!(
            (errors.lo() + 0.05).abs() < 1e-7 && (errors.hi() - 0.1).abs() < 1e-7,
            "{errors:?}"
        );
        assert_eq!(error_histogram(&[], &[], 8), None);
    }
}
