//! Quantization of weights, per tensor, per channel or per group.

use std::collections::BTreeMap;

use super::fake_quantize::{Binary, round_observed};
use super::layout::ChannelLayout;
use super::statistics::{extremes, quantile};
use super::{
    BitWidth, Calibrator, ErrorSum, Granularity, Grid, HalfFormat, NumberFormat, QuantError,
    QuantSpec, Range, Scheme, SliceErrors,
};

/// Candidate ranges of the search for the least squared error, in equal parts of the full range.
const MSE_CANDIDATES: u16 = 100;

/// A weight after quantization.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedWeights {
    /// The levels that the weights take, in the order and shape of the weight.
    pub dequantized: Vec<f32>,
    /// The grids: one, one for each channel, or one for each group, channel by channel.
    /// Empty for the floating-point formats.
    pub grids: Vec<Grid>,
    /// The error of the whole weight.
    pub errors: SliceErrors,
    /// The error of each output channel.
    pub channel_errors: Vec<SliceErrors>,
    layout: ChannelLayout,
    group_len: usize,
}

/// How many different values there are; zero counts once, whatever its sign.
fn different(values: &[f32]) -> usize {
    let mut bits: Vec<u32> = values.iter().map(|value| (value + 0.0).to_bits()).collect();
    bits.sort_unstable();
    bits.dedup();
    bits.len()
}

/// Weights as `steps · scale` with one scale for each output channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelSteps {
    /// Integers, in the order and shape of the weight.
    pub steps: Vec<f32>,
    /// One scale for each output channel.
    pub scales: Vec<f32>,
}

impl QuantizedWeights {
    /// Weights whose levels were chosen elsewhere, with their errors against `weights`.
    ///
    /// `levels` lie in the order and shape of the weight; `grids` as in [`QuantizedWeights::grids`].
    ///
    /// # Errors
    /// [`QuantError::WeightShape`] where levels or grids are not as many as shape and granularity say.
    pub fn from_levels(
        weights: &[f32],
        levels: Vec<f32>,
        grids: Vec<Grid>,
        shape: &[usize],
        channel_axis: usize,
        granularity: Granularity,
    ) -> Result<Self, QuantError> {
        let layout = ChannelLayout::new(weights.len(), shape, channel_axis)?;
        let expected = grid_count(shape, channel_axis, granularity)?;
        if levels.len() != weights.len() || grids.len() != expected {
            return Err(QuantError::WeightShape {
                shape: shape.to_vec(),
                elements: levels.len(),
                channel_axis,
            });
        }
        let (before, after) = (layout.gather(weights), layout.gather(&levels));
        let channel_errors: Vec<SliceErrors> = layout
            .channels(&before)
            .zip(layout.channels(&after))
            .map(|(before, after)| errors_between(before, after))
            .collect();
        let mut errors = SliceErrors::default();
        for channel in &channel_errors {
            errors.merge(channel);
        }
        let group_len = group_len(&layout, granularity);
        Ok(Self {
            dequantized: levels,
            grids,
            errors,
            channel_errors,
            layout,
            group_len,
        })
    }

    /// The grid of the weight at a position in memory order.
    ///
    /// `None` beyond the last weight and for the floating-point formats.
    pub fn grid_at(&self, index: usize) -> Option<&Grid> {
        self.grids.get(self.grid_index_at(index)?)
    }

    /// The index in [`grids`](Self::grids) of the grid of the weight at a position in memory order.
    ///
    /// `None` beyond the last weight and for the floating-point formats.
    pub fn grid_index_at(&self, index: usize) -> Option<usize> {
        if index >= self.dequantized.len() || self.grids.is_empty() {
            return None;
        }
        if self.grids.len() == 1 {
            return Some(0);
        }
        let (channel, place) = self.layout.position(index);
        let groups = self.layout.channel_len().div_ceil(self.group_len.max(1));
        Some(channel * groups + place / self.group_len.max(1))
    }

    /// The integer codes in memory order; empty for the floating-point formats.
    ///
    /// 1-bit weights have the codes -1 and 1, and 0 in a channel of zeros.
    pub fn codes(&self) -> Vec<i32> {
        let weights = self.dequantized.iter().enumerate();
        weights
            .filter_map(|(i, x)| Some(self.grid_at(i)?.quantize(*x)))
            .collect()
    }

    /// How many different levels each grid's weights take, summed over the grids; without grids, of
    /// the whole weight.
    pub fn levels_used(&self) -> usize {
        if self.grids.len() <= 1 {
            return different(&self.dequantized);
        }
        let by_channel = self.layout.gather(&self.dequantized);
        self.layout
            .channels(&by_channel)
            .flat_map(|channel| channel.chunks(self.group_len.max(1)))
            .map(different)
            .sum()
    }

    /// The weights in steps from zero, `ŵ / scale`, where every output channel has one scale.
    ///
    /// `None` for the floating-point formats and for groups within a channel.
    pub fn channel_steps(&self) -> Option<ChannelSteps> {
        let channels = self.channel_errors.len();
        let scale_of = |channel: usize| match self.grids.len() {
            1 => self.grids.first(),
            count if count == channels => self.grids.get(channel),
            _ => None,
        };
        let scales: Option<Vec<f32>> = (0..channels)
            .map(|channel| scale_of(channel).map(Grid::scale))
            .collect();
        let mut steps = self.dequantized.clone();
        for (index, step) in steps.iter_mut().enumerate() {
            let grid = self.grid_at(index)?;
            *step = (grid.quantize(*step) - grid.zero_point()) as f32;
        }
        Some(ChannelSteps {
            steps,
            scales: scales?,
        })
    }

    /// How many weights have each code that occurs, by code.
    pub fn code_counts(&self) -> BTreeMap<i32, u64> {
        let mut counts = BTreeMap::new();
        for code in self.codes() {
            *counts.entry(code).or_default() += 1;
        }
        counts
    }
}

/// Quantizes a weight and measures the error.
///
/// ```text
/// symmetric:   scale = max|w| / (2^(b-1) - 1), codes ±(2^(b-1) - 1)    (2 bits: {-1, 0, 1})
/// asymmetric:  the codes 0..=2^b - 1 over [min(w, 0), max(w, 0)]
/// 1 bit, symmetric:  ŵ = sign(w) · mean|w|, with sign(0) = 1
/// ```
/// 1 bit is the binary weight of Rastegari et al., XNOR-Net (2016), equation 6; it takes no
/// calibrator. The other calibrators choose the range of each grid: `minmax` the full range,
/// `percentile:P` the range that holds this share of the weights, `mse` that of 100 equal parts of
/// the full range with the least squared error. A range given by hand holds for every grid.
/// A group is a run of weights of one output channel, all other axes flattened in memory order; the
/// last group of a channel may be shorter. `f16` and `bf16` round to the nearest number, ties to
/// even, and take the largest finite one beyond it; `f32` leaves the weights as they are.
///
/// # Errors
/// [`QuantError::WeightShape`], [`QuantError::NonFiniteWeights`], [`QuantError::Percentile`], and
/// [`QuantError::WeightCalibrator`] for calibrators that need batches of activations.
pub fn quantize_weights(
    weights: &[f32],
    shape: &[usize],
    channel_axis: usize,
    spec: &QuantSpec,
) -> Result<QuantizedWeights, QuantError> {
    let layout = ChannelLayout::new(weights.len(), shape, channel_axis)?;
    check_finite(weights)?;
    check_calibrator(spec)?;
    let by_channel = layout.gather(weights);
    let mut rounded = vec![0.0; weights.len()];
    let mut grids = Vec::new();
    let channel_errors = match spec.format {
        NumberFormat::Int(bits) => {
            quantize_channels(&layout, &by_channel, &mut rounded, spec, bits, &mut grids)?
        }
        NumberFormat::F16 => each_channel(&layout, &by_channel, &mut rounded, |x, y| {
            HalfFormat::F16.round_observed(x, y)
        }),
        NumberFormat::BF16 => each_channel(&layout, &by_channel, &mut rounded, |x, y| {
            HalfFormat::BF16.round_observed(x, y)
        }),
        NumberFormat::F32 => each_channel(&layout, &by_channel, &mut rounded, copy_observed),
    };
    let mut errors = SliceErrors::default();
    for channel in &channel_errors {
        errors.merge(channel);
    }
    let group_len = group_len(&layout, spec.granularity);
    Ok(QuantizedWeights {
        dequantized: layout.scatter(rounded),
        grids,
        errors,
        channel_errors,
        layout,
        group_len,
    })
}

/// How many grids a weight of a shape has under a granularity.
///
/// # Errors
/// [`QuantError::WeightShape`] where the shape has no such axis.
pub fn grid_count(
    shape: &[usize],
    channel_axis: usize,
    granularity: Granularity,
) -> Result<usize, QuantError> {
    let elements = shape
        .iter()
        .try_fold(1usize, |size, axis| size.checked_mul(*axis))
        .unwrap_or(usize::MAX);
    let layout = ChannelLayout::new(elements, shape, channel_axis)?;
    if granularity == Granularity::PerTensor || elements == 0 {
        return Ok(elements.min(1));
    }
    let channel_len = layout.channel_len();
    Ok(elements / channel_len * channel_len.div_ceil(group_len(&layout, granularity)))
}

/// The errors of levels that no single grid need have given; none of them saturates.
fn errors_between(before: &[f32], after: &[f32]) -> SliceErrors {
    let mut sum = ErrorSum::default();
    sum.add(before, after);
    let differences = before.iter().zip(after).map(|(x, y)| (x - y).abs());
    SliceErrors {
        signal: sum.signal,
        noise: sum.noise,
        max_abs_error: differences.fold(0.0, f32::max),
        count: sum.count,
        ..SliceErrors::default()
    }
}

pub(super) fn group_len(layout: &ChannelLayout, granularity: Granularity) -> usize {
    match granularity {
        Granularity::PerTensor | Granularity::PerChannel => layout.channel_len().max(1),
        Granularity::PerGroup(size) => size.get(),
    }
}

fn check_finite(weights: &[f32]) -> Result<(), QuantError> {
    let count = extremes(weights).non_finite as usize;
    match weights.iter().enumerate().find(|(_, w)| !w.is_finite()) {
        Some((index, value)) if count > 0 => Err(QuantError::NonFiniteWeights {
            index,
            value: *value,
            count,
        }),
        _ => Ok(()),
    }
}

fn check_calibrator(spec: &QuantSpec) -> Result<(), QuantError> {
    spec.calibrator.validate()?;
    let needs_batches = matches!(
        spec.calibrator,
        Calibrator::MovingAverage | Calibrator::Entropy
    );
    if needs_batches && !spec.format.is_float() && spec.range_override.is_none() {
        return Err(QuantError::WeightCalibrator {
            calibrator: spec.calibrator.to_string(),
        });
    }
    Ok(())
}

fn each_channel(
    layout: &ChannelLayout,
    src: &[f32],
    dst: &mut [f32],
    quantize: impl Fn(&[f32], &mut [f32]) -> SliceErrors,
) -> Vec<SliceErrors> {
    let dst_channels = dst.chunks_mut(layout.channel_len().max(1));
    layout
        .channels(src)
        .zip(dst_channels)
        .map(|(x, y)| quantize(x, y))
        .collect()
}

fn copy_observed(src: &[f32], dst: &mut [f32]) -> SliceErrors {
    dst.copy_from_slice(src);
    let mut sum = ErrorSum::default();
    sum.add(src, src);
    SliceErrors {
        signal: sum.signal,
        count: sum.count,
        ..SliceErrors::default()
    }
}

fn quantize_channels(
    layout: &ChannelLayout,
    src: &[f32],
    dst: &mut [f32],
    spec: &QuantSpec,
    bits: BitWidth,
    grids: &mut Vec<Grid>,
) -> Result<Vec<SliceErrors>, QuantError> {
    if src.is_empty() {
        return Ok(Vec::new());
    }
    if spec.granularity == Granularity::PerTensor {
        let rule = SliceRule::new(src, spec, bits)?;
        grids.push(rule.grid);
        return Ok(each_channel(layout, src, dst, |x, y| rule.round(x, y)));
    }
    let (channel_len, group_len) = (layout.channel_len(), group_len(layout, spec.granularity));
    let mut errors = Vec::with_capacity(src.len() / channel_len);
    for (src, dst) in src.chunks(channel_len).zip(dst.chunks_mut(channel_len)) {
        let mut channel = SliceErrors::default();
        for (src, dst) in src.chunks(group_len).zip(dst.chunks_mut(group_len)) {
            let rule = SliceRule::new(src, spec, bits)?;
            channel.merge(&rule.round(src, dst));
            grids.push(rule.grid);
        }
        errors.push(channel);
    }
    Ok(errors)
}

/// How the weights that share one grid are rounded.
pub(super) struct SliceRule {
    pub(super) grid: Grid,
    /// The magnitude of 1-bit weights; 0 for a slice of zeros, whose grid has scale 1.
    binary_magnitude: Option<f32>,
}

impl SliceRule {
    /// The rule that a choice gives for one slice of finite weights.
    pub(super) fn new(
        weights: &[f32],
        spec: &QuantSpec,
        bits: BitWidth,
    ) -> Result<Self, QuantError> {
        if takes_signs(spec, bits) {
            let magnitude = spec
                .range_override
                .map_or_else(|| mean_abs(weights), Range::max_abs);
            return Ok(Self {
                grid: Grid::binary(magnitude),
                binary_magnitude: Some(magnitude),
            });
        }
        let grid_of = |range: Range| match spec.scheme {
            Scheme::Symmetric => Grid::symmetric_weight(range.max_abs(), bits),
            Scheme::Asymmetric => Ok(Grid::asymmetric(range, bits)),
        };
        let full = || full_range(weights);
        let grid = match (spec.range_override, spec.calibrator) {
            (Some(range), _) => grid_of(range),
            (None, Calibrator::Percentile(p)) => {
                grid_of(percentile_range(weights, spec.scheme, full(), p))
            }
            (None, Calibrator::Mse) => least_squares_grid(weights, full(), grid_of),
            (None, Calibrator::MinMax | Calibrator::MovingAverage | Calibrator::Entropy) => {
                grid_of(full())
            }
        };
        Ok(Self {
            grid: grid?,
            binary_magnitude: None,
        })
    }

    /// The range that nothing is cut off from; of 1-bit weights, that of their two levels.
    pub(super) fn full_range(weights: &[f32], spec: &QuantSpec, bits: BitWidth) -> Range {
        if takes_signs(spec, bits) {
            let magnitude = mean_abs(weights);
            Range::from_ordered(-magnitude, magnitude)
        } else {
            full_range(weights)
        }
    }

    /// Whether the weights take the two levels of their signs alone.
    pub(super) fn is_binary(&self) -> bool {
        self.binary_magnitude.is_some()
    }

    fn round(&self, src: &[f32], dst: &mut [f32]) -> SliceErrors {
        match self.binary_magnitude {
            Some(magnitude) => round_observed(Binary { magnitude }, src, dst),
            None => self.grid.fake_quantize_observed(src, dst),
        }
    }
}

/// Whether 1-bit weights take their signs times a magnitude.
fn takes_signs(spec: &QuantSpec, bits: BitWidth) -> bool {
    spec.scheme == Scheme::Symmetric && bits == BitWidth::MIN
}

fn full_range(weights: &[f32]) -> Range {
    extremes(weights)
        .range
        .map_or(Range::ZERO, Range::widened_to_zero)
}

fn mean_abs(weights: &[f32]) -> f32 {
    let sum = weights.iter().map(|w| f64::from(w.abs())).sum::<f64>();
    (sum / weights.len().max(1) as f64) as f32
}

fn percentile_range(weights: &[f32], scheme: Scheme, full: Range, percentile: f32) -> Range {
    let outside = 1.0 - f64::from(percentile) / 100.0;
    let mut values = weights.to_vec();
    if scheme == Scheme::Symmetric {
        for w in &mut values {
            *w = w.abs();
        }
        let top = quantile(&mut values, 1.0 - outside).unwrap_or_default();
        return Range::from_ordered(-top, top);
    }
    // What is cut off is shared between the sides that there are.
    let (two_sided, share) = (full.min() < 0.0 && full.max() > 0.0, outside / 2.0);
    let (below, above) = match (two_sided, full.min() < 0.0) {
        (true, _) => (share, share),
        (false, true) => (outside, 0.0),
        (false, false) => (0.0, outside),
    };
    let low = quantile(&mut values, below).unwrap_or_default().min(0.0);
    let high = quantile(&mut values, 1.0 - above)
        .unwrap_or_default()
        .max(0.0);
    Range::from_ordered(low, high)
}

fn least_squares_grid(
    weights: &[f32],
    full: Range,
    grid_of: impl Fn(Range) -> Result<Grid, QuantError>,
) -> Result<Grid, QuantError> {
    let mut best = grid_of(full)?;
    let mut least_noise = best.measure(weights).noise;
    for part in (1..MSE_CANDIDATES).rev() {
        let ratio = f32::from(part) / f32::from(MSE_CANDIDATES);
        let grid = grid_of(Range::from_ordered(full.min() * ratio, full.max() * ratio))?;
        let noise = grid.measure(weights).noise;
        if noise < least_noise {
            (best, least_noise) = (grid, noise);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(format: &str) -> QuantSpec {
        QuantSpec::weight(format.parse().unwrap())
    }

    #[rustfmt::skip]
    const ROWS: [f32; 24] = [
        0.31, -1.27, 0.635, 0.005, -0.015, 1.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        3e-3, -7e-3, 1e-3, 5e-4, -3.5e-3, 7e-3,
        1.5, -2.5, 3.5, -0.5, 7.0, -7.0,
    ];

    /// numpy: `s = f4(abs(w).max(1) / f4(2**(b-1) - 1)); s[s == 0] = 1; clip(rint(f4(w / s)), -m, m)`, in float32.
    #[test]
    #[rustfmt::skip]
    fn symmetric_codes_agree_with_numpy() {
        let cases = [
            ("8", [0.01, 1.0, 5.511811e-5, 0.05511811],
             [31, -127, 64, 0, -2, 100, 0, 0, 0, 0, 0, 0, 54, -127, 18, 9, -64, 127, 27, -45, 64, -9, 127, -127]),
            ("6", [0.04096774, 1.0, 0.00022580646, 0.22580644],
             [8, -31, 16, 0, 0, 24, 0, 0, 0, 0, 0, 0, 13, -31, 4, 2, -16, 31, 7, -11, 16, -2, 31, -31]),
            ("5", [0.08466666, 1.0, 0.00046666668, 0.46666667],
             [4, -15, 8, 0, 0, 12, 0, 0, 0, 0, 0, 0, 6, -15, 2, 1, -8, 15, 3, -5, 8, -1, 15, -15]),
            ("4", [0.18142857, 1.0, 0.001, 1.0],
             [2, -7, 4, 0, 0, 6, 0, 0, 0, 0, 0, 0, 3, -7, 1, 0, -4, 7, 2, -2, 4, 0, 7, -7]),
            ("3", [0.42333332, 1.0, 0.0023333335, 2.3333333],
             [1, -3, 2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, -3, 0, 0, -2, 3, 1, -1, 2, 0, 3, -3]),
            ("2", [1.27, 1.0, 0.007, 7.0],
             [0, -1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 1, 0, 0, 0, 0, 1, -1]),
        ];
        for (format, scales, codes) in cases {
            let quantized = quantize_weights(&ROWS, &[4, 6], 0, &spec(format)).unwrap();
            let close = |(a, b): (f32, &f32)| (a - b).abs() <= b * 1.2e-7;
            assert!(quantized.grids.iter().map(Grid::scale).zip(&scales).all(close), "{format} {:?}", quantized.grids);
            assert_eq!(quantized.codes(), codes, "{format} bits");
            let levels = codes.iter().enumerate().map(|(i, code)| *code as f32 * quantized.grids[i / 6].scale());
            assert_eq!(quantized.dequantized, levels.collect::<Vec<_>>(), "{format} bits");
        }
    }

    #[test]
    fn one_bit_is_sign_times_mean_magnitude() {
        let quantized =
            quantize_weights(&[1.0, -3.0, 0.0, -0.0, 0.0, 0.0], &[3, 2], 0, &spec("1")).unwrap();
        assert_eq!(quantized.dequantized, [2.0, -2.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(quantized.codes(), [1, -1, 0, 0, 0, 0]);
        let tensor = QuantSpec {
            granularity: Granularity::PerTensor,
            ..spec("1")
        };
        let quantized = quantize_weights(&[1.0, -3.0, 0.0, 0.0], &[2, 2], 0, &tensor).unwrap();
        assert_eq!(quantized.dequantized, [1.0, -1.0, 1.0, 1.0]);
    }

    #[test]
    fn grids_follow_axis_and_granularity() {
        let by_column = ROWS
            .iter()
            .enumerate()
            .map(|(i, _)| ROWS[i % 4 * 6 + i / 4])
            .collect::<Vec<_>>();
        let rows = quantize_weights(&ROWS, &[4, 6], 0, &spec("4")).unwrap();
        let columns = quantize_weights(&by_column, &[6, 4], 1, &spec("4")).unwrap();
        assert_eq!(columns.grids, rows.grids);
        assert_eq!(columns.errors, rows.errors);
        for (i, code) in columns.codes().iter().enumerate() {
            assert_eq!(*code, rows.codes()[i % 4 * 6 + i / 4]);
        }
        let cases = [
            ("per-tensor", 1),
            ("per-channel", 4),
            ("per-group:4", 8),
            ("per-group:6", 4),
            ("per-group:100", 4),
            ("per-group:1", 24),
        ];
        for (text, grids) in cases {
            let granularity = text.parse().unwrap();
            let quantized = quantize_weights(
                &ROWS,
                &[4, 6],
                0,
                &QuantSpec {
                    granularity,
                    ..spec("4")
                },
            )
            .unwrap();
            assert_eq!(quantized.grids.len(), grids, "{text}");
            assert_eq!(grid_count(&[4, 6], 0, granularity), Ok(grids), "{text}");
            assert_eq!(quantized.channel_errors.len(), 4, "{text}");
        }
        let group = QuantSpec {
            granularity: "per-group:4".parse().unwrap(),
            ..spec("4")
        };
        let grouped = quantize_weights(&ROWS, &[4, 6], 0, &group).unwrap();
        assert_eq!(grouped.grid_at(4).map(Grid::scale), Some(1.0 / 7.0));
        assert_eq!(grouped.grid_at(24), None);
    }

    #[test]
    fn asymmetric_weights_cover_their_range() {
        let asymmetric = QuantSpec {
            scheme: Scheme::Asymmetric,
            ..spec("2")
        };
        let quantized =
            quantize_weights(&[-1.0, 2.0, 0.4, 3.0, 6.0, 1.0], &[2, 3], 0, &asymmetric).unwrap();
        assert_eq!(quantized.codes(), [0, 3, 1, 2, 3, 0]);
        assert_eq!(quantized.dequantized, [-1.0, 2.0, 0.0, 4.0, 6.0, 0.0]);
        assert_eq!(
            quantized.code_counts().into_iter().collect::<Vec<_>>(),
            [(0, 2), (1, 1), (2, 1), (3, 2)]
        );
    }

    #[test]
    fn floating_point_formats_have_no_grids() {
        let weights = [0.1, -1e6, 65504.0, 3.0];
        let cases = [
            ("f32", weights),
            ("f16", [0.099975586, -65504.0, 65504.0, 3.0]),
            ("bf16", [0.100097656, -999424.0, 65536.0, 3.0]),
        ];
        for (format, expected) in cases {
            let quantized = quantize_weights(&weights, &[1, 2, 2], 2, &spec(format)).unwrap();
            assert_eq!(quantized.dequantized, expected, "{format}");
            assert!(
                quantized.grids.is_empty()
                    && quantized.codes().is_empty()
                    && quantized.grid_at(0).is_none()
            );
            assert_eq!(quantized.errors.count, 4);
        }
        let identical = quantize_weights(&weights, &[4], 0, &spec("f32")).unwrap();
        assert_eq!(identical.errors.sqnr_db(), f64::INFINITY);
    }

    #[test]
    fn calibrators_clip_outliers() {
        let mut weights = (0..1000)
            .map(|i| (i as f32 * 0.7).sin() * 0.1)
            .collect::<Vec<_>>();
        weights[3] = 1.0;
        for scheme in [Scheme::Symmetric, Scheme::Asymmetric] {
            let quantize = |calibrator| {
                let spec = QuantSpec {
                    scheme,
                    calibrator,
                    ..spec("3")
                };
                quantize_weights(&weights, &[1, 1000], 0, &spec).unwrap()
            };
            let full = quantize(Calibrator::MinMax);
            let least = quantize(Calibrator::Mse);
            let percentile = quantize(Calibrator::Percentile(99.0));
            assert!(least.errors.noise < full.errors.noise, "{scheme}");
            assert!(
                percentile.grids[0].range().max() < 0.2,
                "{scheme} {:?}",
                percentile.grids
            );
            assert_eq!(full.errors.saturated, 0, "{scheme}");
            assert!(percentile.errors.saturated >= 1, "{scheme}");
            assert_eq!(
                quantize(Calibrator::Percentile(100.0)).grids,
                full.grids,
                "{scheme}"
            );
        }
        let by_hand = QuantSpec {
            range_override: Range::new(-0.3, 0.1).ok(),
            calibrator: Calibrator::Entropy,
            ..spec("3")
        };
        let quantized = quantize_weights(&weights, &[10, 100], 0, &by_hand).unwrap();
        assert!(
            quantized.grids.iter().all(|g| g.scale() == 0.1),
            "{:?}",
            quantized.grids
        );
    }

    #[test]
    fn requests_without_an_answer_are_refused() {
        let error =
            quantize_weights(&[1.0, f32::NAN, f32::INFINITY], &[3], 0, &spec("8")).unwrap_err();
        assert!(
            matches!(
                error,
                QuantError::NonFiniteWeights {
                    index: 1,
                    count: 2,
                    ..
                }
            ),
            "{error}"
        );
        for calibrator in [
            Calibrator::Entropy,
            Calibrator::MovingAverage,
            Calibrator::Percentile(12.0),
        ] {
            let refused = quantize_weights(
                &[1.0],
                &[1],
                0,
                &QuantSpec {
                    calibrator,
                    ..spec("8")
                },
            );
            assert!(refused.is_err(), "{calibrator}");
        }
        assert!(quantize_weights(&[1.0], &[1], 1, &spec("8")).is_err());
        assert!(quantize_weights(&[1.0], &[2], 0, &spec("8")).is_err());
        let empty = quantize_weights(&[], &[usize::MAX, 0], 0, &spec("8")).unwrap();
        assert!(empty.grids.is_empty() && empty.dequantized.is_empty());
        assert_eq!(
            grid_count(&[usize::MAX, 0], 0, Granularity::PerChannel),
            Ok(0)
        );
    }

    proptest! {
        #[test]
        fn channel_scales_do_not_exceed_the_tensor_scale(
            weights in prop::collection::vec(-10f32..10.0, 24), bits in 2..=16u8, axis in 0..3usize,
        ) {
            let channel = QuantSpec::weight(NumberFormat::int(bits).unwrap());
            let tensor = QuantSpec { granularity: Granularity::PerTensor, ..channel };
            let of = |spec| quantize_weights(&weights, &[2, 3, 4], axis, spec).unwrap();
            let (channel, tensor) = (of(&channel), of(&tensor));
            let largest = channel.grids.iter().map(Grid::scale).fold(0.0, f32::max);
            prop_assert_eq!(largest, tensor.grids[0].scale());
        }

        #[test]
        fn every_weight_is_within_half_a_step_of_its_level(
            weights in prop::collection::vec(-10f32..10.0, 60), bits in 2..=16u8, axis in 0..3usize, group in 1..9usize,
        ) {
            let granularity = Granularity::PerGroup(group.try_into().unwrap());
            let spec = QuantSpec { granularity, ..QuantSpec::weight(NumberFormat::int(bits).unwrap()) };
            let quantized = quantize_weights(&weights, &[3, 4, 5], axis, &spec).unwrap();
            for (i, (w, level)) in weights.iter().zip(&quantized.dequantized).enumerate() {
                let grid = quantized.grid_at(i).unwrap();
                prop_assert!((w - level).abs() <= grid.scale() * 0.5 + w.abs() * 1e-6, "{} {} {:?}", w, level, grid);
                prop_assert_eq!(grid.dequantize(quantized.codes()[i]), *level);
            }
            prop_assert_eq!(quantized.errors.saturated, 0);
        }
    }
}
