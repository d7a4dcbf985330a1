//! What a weight by itself says of how well it can be quantized, before any data is run.

use super::layout::ChannelLayout;
use super::statistics::slice_statistics;
use super::{QuantError, channel_ranges};

/// Standard deviations from the mean beyond which a weight is an outlier.
const OUTLIER_DEVIATIONS: f64 = 4.0;

/// Signs of a weight that is hard to quantize.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightScreen {
    /// Pearson's kurtosis over the whole weight, 3 for a normal distribution; NaN for a constant.
    pub kurtosis: f64,
    /// Share of weights farther than 4 standard deviations from the mean, `0..=1`; of a normal
    /// distribution 0.006 %.
    pub outlier_ratio: f64,
    /// Largest range of an output channel over their median, at least 1: how much one scale for the
    /// whole tensor costs the ordinary channel (compare Nagel et al., 2019, figure 2). Infinite where
    /// more than half of the channels are zero.
    pub range_spread: f64,
}

/// Screens a weight.
///
/// `None` for a weight without finite numbers.
///
/// # Errors
/// [`QuantError::WeightShape`] where shape, axis and number of weights do not fit.
pub fn weight_screen(
    weights: &[f32],
    shape: &[usize],
    channel_axis: usize,
) -> Result<Option<WeightScreen>, QuantError> {
    ChannelLayout::new(weights.len(), shape, channel_axis)?;
    let Some(statistics) = slice_statistics(weights) else {
        return Ok(None);
    };
    let far = OUTLIER_DEVIATIONS * statistics.std;
    let outliers = weights
        .iter()
        .filter(|w| w.is_finite() && (f64::from(**w) - statistics.mean).abs() > far)
        .count();
    let mut reach: Vec<f32> = channel_ranges(weights, shape, channel_axis)?
        .into_iter()
        .map(|range| range.min().abs().max(range.max().abs()))
        .collect();
    reach.sort_unstable_by(f32::total_cmp);
    let median = reach.get(reach.len() / 2).copied().unwrap_or(0.0);
    let largest = reach.last().copied().unwrap_or(0.0);
    Ok(Some(WeightScreen {
        kurtosis: statistics.kurtosis,
        outlier_ratio: outliers as f64 / statistics.count as f64,
        range_spread: if largest == 0.0 {
            1.0
        } else {
            f64::from(largest) / f64::from(median)
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_and_uneven_channels_are_seen() {
        let mut weights = [0.5, -0.5].repeat(150);
        let calm = weight_screen(&weights, &[3, 100], 0).unwrap().unwrap();
        assert_eq!((calm.kurtosis, calm.outlier_ratio), (1.0, 0.0));
        assert_eq!(calm.range_spread, 1.0);
        weights[7] = 50.0;
        let wild = weight_screen(&weights, &[3, 100], 0).unwrap().unwrap();
        assert!(wild.kurtosis > 100.0, "{wild:?}");
        assert_eq!(wild.outlier_ratio, 1.0 / 300.0);
        assert_eq!(wild.range_spread, 100.0);
        // Along the other axis only one of a hundred channels has it.
        let wild = weight_screen(&weights, &[3, 100], 1).unwrap().unwrap();
        assert_eq!(wild.range_spread, 100.0);
    }

    #[test]
    fn weights_without_numbers_have_no_screen() {
        assert_eq!(weight_screen(&[f32::NAN; 2], &[2, 1], 0), Ok(None));
        let zeros = weight_screen(&[0.0; 4], &[2, 2], 0).unwrap().unwrap();
        assert!(zeros.kurtosis.is_nan() && zeros.range_spread == 1.0);
        assert!(weight_screen(&[0.0; 4], &[3, 2], 0).is_err());
    }
}
