//! What the inspector shows of one layer.

use std::sync::Arc;

use super::open_model::OpenModel;
use super::tuning::Tuned;
use crate::engine::{
    Executor, Ranges, RoundedLayer, RunError, quantize_layer_weight, weight_values,
};
use crate::model::{Layer, LayerId};
use crate::plan::LayerPlan;
use crate::quant::{
    ActivationQuantizer, Calibrator, ErrorSum, Grid, Histogram, NumberFormat, QuantError,
    QuantSpec, QuantizedWeights, Range, SliceErrors, SliceStatistics, channel_ranges,
    error_histogram, histogram, slice_statistics,
};

/// A channel whose range is more than this many times the median range is an outlier.
const OUTLIER_RATIO: f64 = 4.0;

/// Bins of a histogram before some are merged.
const BINS: usize = 256;

/// Everything that is known of one layer under its current choice, without running the network.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The layer.
    pub layer: LayerId,
    /// The choice that this belongs to.
    pub choice: LayerPlan,
    /// The weight.
    pub weight: WeightInspection,
    /// How the weight was rounded, once that took calibration data.
    pub rounded: Option<RoundedInspection>,
    /// The input activation, once it is calibrated.
    pub activation: Option<ActivationInspection>,
}

/// A weight that was rounded on calibration data, beside the same rounded to nearest.
#[derive(Clone, Debug)]
pub struct RoundedInspection {
    /// How it was rounded, for example `descent, refit with ridge 0.1, bias corrected`.
    pub method: String,
    /// SQNR of the layer's output on calibration samples in dB, to nearest and as it is now; both with
    /// the error of the layers before.
    pub output_sqnr_db: [f64; 2],
    /// Signal and noise of the weight that is rounded to nearest.
    pub nearest_errors: SliceErrors,
    /// Distribution of its error.
    pub nearest_histogram: Option<Histogram>,
}

/// A weight, before and after quantization.
#[derive(Clone, Debug)]
pub struct WeightInspection {
    /// Mean, spread and extremes.
    pub statistics: Option<SliceStatistics>,
    /// Distribution of the float values.
    pub histogram: Option<Histogram>,
    /// Distribution of `w − ŵ`; `None` for a float weight.
    pub error_histogram: Option<Histogram>,
    /// Signal, noise and saturation; `None` for a float weight.
    pub errors: Option<SliceErrors>,
    /// Grid of each channel (or group, or of the whole tensor); empty for a float weight.
    pub grids: Vec<Grid>,
    /// Levels of the grids that occur; `None` for the floating-point formats.
    pub levels: Option<Levels>,
    /// Every output channel.
    pub channels: Arc<[ChannelInspection]>,
}

/// Levels summed over all grids of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Levels that at least one weight takes.
    pub used: u64,
    /// Levels that the grids have.
    pub available: u64,
}

/// One output channel of a weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelInspection {
    /// Extremes of the float weights.
    pub range: Range,
    /// Step of the channel's grid, of the largest where it has one for each group; `None` for a
    /// floating-point format.
    pub scale: Option<f32>,
    /// Signal, noise and saturation; `None` for a float weight.
    pub errors: Option<SliceErrors>,
}

impl ChannelInspection {
    /// Distance of the extremes, at least 0.
    pub fn span(&self) -> f64 {
        f64::from(self.range.max()) - f64::from(self.range.min())
    }
}

impl WeightInspection {
    /// Channels whose range is over four times the median range, with that ratio, the largest first.
    pub fn outliers(&self) -> Vec<(usize, f64)> {
        let mut spans: Vec<f64> = self.channels.iter().map(ChannelInspection::span).collect();
        spans.sort_by(f64::total_cmp);
        let Some(median) = spans.get(spans.len() / 2).copied() else {
            return Vec::new();
        };
        if median <= 0.0 {
            return Vec::new();
        }
        let mut outliers: Vec<(usize, f64)> = self
            .channels
            .iter()
            .map(|channel| channel.span() / median)
            .enumerate()
            .filter(|(_, ratio)| *ratio > OUTLIER_RATIO)
            .collect();
        outliers.sort_by(|a, b| b.1.total_cmp(&a.1));
        outliers
    }
}

/// A layer's input as calibration saw it, and how it is quantized.
#[derive(Clone, Debug)]
pub struct ActivationInspection {
    /// Distribution over all calibration samples.
    pub histogram: Histogram,
    /// The same with all bins that were counted.
    fine: Histogram,
    /// Extremes that occurred.
    pub observed: Range,
    /// The clip range in force.
    pub clip: Range,
    /// The grid in force; `None` for a float input.
    pub grid: Option<Grid>,
    /// Share of elements outside the clip range, estimated from the histogram.
    pub clipped: f64,
    /// SQNR in dB of the input alone, estimated from the histogram; `None` for a float input.
    pub sqnr_db: Option<f64>,
    /// Range that each calibrator would choose.
    pub candidates: Vec<(Calibrator, Range)>,
}

impl Inspection {
    /// Computes the inspection of a layer; `tuned` is the plan as it was rounded, if it was.
    ///
    /// # Errors
    /// [`RunError`] names the layer if its weight cannot be quantized as chosen.
    pub fn compute(
        model: &OpenModel,
        layer: LayerId,
        choice: &LayerPlan,
        ranges: Option<&Ranges>,
        tuned: Option<&Tuned>,
    ) -> Result<Self, RunError> {
        let executor = tuned.map_or(&model.executor, |tuned| &tuned.executor);
        let study = WeightStudy::new(executor, layer)?;
        let rounded = tuned
            .and_then(|tuned| tuned.rounded.as_ref())
            .and_then(|rounded| rounded.layers().get(layer.index())?.as_ref());
        let quantized = rounded.map(|rounded| &*rounded.weights);
        Ok(Self {
            layer,
            choice: choice.clone(),
            weight: study.inspect(&choice.weight, quantized)?,
            rounded: rounded
                .map(|rounded| study.beside_nearest(&choice.nearest().weight, rounded))
                .transpose()?,
            activation: ranges
                .map(|ranges| inspect_activation(model, layer, &choice.activation, ranges))
                .transpose()?,
        })
    }
}

/// A float weight that is looked into.
struct WeightStudy<'a> {
    layer: &'a Layer,
    values: Vec<f32>,
}

impl<'a> WeightStudy<'a> {
    fn new(executor: &'a Executor, id: LayerId) -> Result<Self, RunError> {
        let layer = &executor.layers()[id.index()];
        let values = weight_values(executor.graph(), layer)?;
        Ok(Self { layer, values })
    }

    /// The weight under a choice; `rounded` are its levels where they were chosen on data.
    fn inspect(
        &self,
        spec: &QuantSpec,
        rounded: Option<&QuantizedWeights>,
    ) -> Result<WeightInspection, RunError> {
        let Self { layer, values } = self;
        let nearest = (rounded.is_none() && spec.format != NumberFormat::F32)
            .then(|| quantize_layer_weight(layer, values, spec))
            .transpose()?;
        let quantized = rounded.or(nearest.as_ref());
        let ranges = channel_ranges(values, &layer.weight_shape, layer.channel_axis)
            .map_err(|error| RunError::layer(layer, error.to_string()))?;
        Ok(WeightInspection {
            statistics: slice_statistics(values),
            histogram: histogram(values, BINS).as_ref().map(drawn),
            error_histogram: quantized.and_then(|quantized| self.errors(quantized)),
            errors: quantized.map(|quantized| quantized.errors),
            levels: quantized.and_then(|it| levels(it, spec.format)),
            channels: inspect_channels(&ranges, quantized),
            grids: quantized.map_or_else(Vec::new, |quantized| quantized.grids.clone()),
        })
    }

    /// Distribution of the error of a quantized weight.
    fn errors(&self, quantized: &QuantizedWeights) -> Option<Histogram> {
        error_histogram(&self.values, &quantized.dequantized, BINS)
            .as_ref()
            .map(drawn)
    }

    fn beside_nearest(
        &self,
        spec: &QuantSpec,
        rounded: &RoundedLayer,
    ) -> Result<RoundedInspection, RunError> {
        let nearest = quantize_layer_weight(self.layer, &self.values, spec)?;
        Ok(RoundedInspection {
            method: rounded.method.to_string(),
            output_sqnr_db: rounded.output_sqnr_db,
            nearest_errors: nearest.errors,
            nearest_histogram: self.errors(&nearest),
        })
    }
}

fn levels(quantized: &QuantizedWeights, format: NumberFormat) -> Option<Levels> {
    let of_grid = |grid: &Grid| match format {
        // The grid of one bit has a zero between its two levels, for channels of zeros.
        NumberFormat::Int(bits) if bits.get() == 1 => 2,
        _ => u64::from(grid.q_max().abs_diff(grid.q_min())) + 1,
    };
    (!quantized.grids.is_empty()).then(|| Levels {
        used: quantized.levels_used() as u64,
        available: quantized.grids.iter().map(of_grid).sum(),
    })
}

fn inspect_channels(
    ranges: &[Range],
    quantized: Option<&QuantizedWeights>,
) -> Arc<[ChannelInspection]> {
    let grids = quantized.map_or(&[][..], |quantized| quantized.grids.as_slice());
    let of_channel = |channel: usize| match grids.len() / ranges.len().max(1) {
        0 => grids.get(..1),
        groups => grids.get(channel * groups..(channel + 1) * groups),
    };
    ranges
        .iter()
        .enumerate()
        .map(|(channel, range)| ChannelInspection {
            range: *range,
            scale: of_channel(channel)
                .and_then(|grids| grids.iter().map(Grid::scale).reduce(f32::max)),
            errors: quantized.and_then(|it| it.channel_errors.get(channel).copied()),
        })
        .collect()
}

fn inspect_activation(
    model: &OpenModel,
    id: LayerId,
    spec: &QuantSpec,
    ranges: &Ranges,
) -> Result<ActivationInspection, RunError> {
    let layer = &model.layers()[id.index()];
    let clip = ranges.range(layer, spec)?;
    let unseen = || {
        RunError::layer(
            layer,
            "its input was not seen during calibration".to_owned(),
        )
    };
    let observer = ranges.observer(layer.input).ok_or_else(unseen)?;
    let histogram = observer.histogram().ok_or_else(unseen)?;
    let candidates = [
        Calibrator::MinMax,
        Calibrator::MovingAverage,
        Calibrator::Percentile(99.99),
        Calibrator::Mse,
        Calibrator::Entropy,
    ]
    .into_iter()
    .filter_map(|calibrator| {
        let spec = QuantSpec {
            calibrator,
            range_override: None,
            ..*spec
        };
        // A calibrator that does not apply to this width simply has no mark.
        Some((calibrator, ranges.range(layer, &spec).ok()?))
    })
    .collect();
    let quantizer = ranges.quantizer(layer, spec)?;
    Ok(ActivationInspection {
        clipped: share_outside(histogram, clip),
        observed: observer.range().ok_or_else(unseen)?,
        sqnr_db: estimated_sqnr_db(histogram, &quantizer),
        grid: quantizer.grid().copied(),
        histogram: drawn(histogram),
        fine: histogram.clone(),
        clip,
        candidates,
    })
}

/// A histogram with as many bins as can be told apart, so that a frame need not count again.
fn drawn(histogram: &Histogram) -> Histogram {
    histogram.merged(bins_to_merge(histogram.counts()))
}

/// How many bins to draw as one, so that few numbers do not fall apart into single counts.
fn bins_to_merge(counts: &[u64]) -> usize {
    let total: u64 = counts.iter().sum();
    // The square-root rule, with twice as many bins because outliers widen the range.
    let wanted = (2.0 * (total as f64).sqrt()).clamp(24.0, 256.0);
    let mut merged = 1;
    while counts.len() / (2 * merged) >= wanted as usize {
        merged *= 2;
    }
    merged
}

impl ActivationInspection {
    /// The same input under another clip range; quick enough to follow a drag.
    ///
    /// # Errors
    /// The range is not legal for the width.
    pub(super) fn under_clip(&self, spec: &QuantSpec, clip: Range) -> Result<Self, QuantError> {
        let quantizer = ActivationQuantizer::from_range(spec, clip)?;
        Ok(Self {
            clipped: share_outside(&self.fine, clip),
            sqnr_db: estimated_sqnr_db(&self.fine, &quantizer),
            grid: quantizer.grid().copied(),
            clip,
            ..self.clone()
        })
    }
}

/// SQNR in dB as if all numbers of a bin were at its centre; `None` without a grid.
fn estimated_sqnr_db(histogram: &Histogram, quantizer: &ActivationQuantizer) -> Option<f64> {
    quantizer.grid()?;
    let half = histogram.bin_width() / 2.0;
    let centres: Vec<f32> = (0..histogram.counts().len())
        .map(|bin| (histogram.bin_start(bin) + half) as f32)
        .collect();
    let mut rounded = vec![0.0; centres.len()];
    quantizer.apply(&centres, &mut rounded);
    let mut errors = ErrorSum::default();
    for ((count, centre), rounded) in histogram.counts().iter().zip(&centres).zip(&rounded) {
        let (count_f64, centre, rounded) = (*count as f64, f64::from(*centre), f64::from(*rounded));
        errors.signal += count_f64 * centre * centre;
        errors.noise += count_f64 * (centre - rounded) * (centre - rounded);
        errors.count += count;
    }
    Some(errors.sqnr_db())
}

/// Share of the counts whose bin centre lies outside a range.
fn share_outside(histogram: &Histogram, clip: Range) -> f64 {
    let counts = histogram.counts();
    let total: u64 = counts.iter().sum();
    let outside: u64 = counts
        .iter()
        .enumerate()
        .filter(|(bin, _)| {
            let centre = histogram.bin_start(*bin) + histogram.bin_width() / 2.0;
            centre < f64::from(clip.min()) || centre > f64::from(clip.max())
        })
        .map(|(_, count)| *count)
        .sum();
    outside as f64 / total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(spans: &[f32]) -> WeightInspection {
        WeightInspection {
            statistics: None,
            histogram: None,
            error_histogram: None,
            errors: None,
            grids: Vec::new(),
            levels: None,
            channels: spans
                .iter()
                .map(|span| ChannelInspection {
                    range: Range::new(-span / 2.0, span / 2.0).unwrap(),
                    scale: None,
                    errors: None,
                })
                .collect(),
        }
    }

    #[test]
    fn few_numbers_are_drawn_in_few_bins() {
        let counts = |each: u64| vec![each; 256];
        assert_eq!(bins_to_merge(&counts(1)), 8);
        assert_eq!(bins_to_merge(&counts(10)), 2);
        assert_eq!(bins_to_merge(&counts(1000)), 1);
        assert_eq!(bins_to_merge(&[5]), 1);
    }

    #[test]
    fn outliers_are_channels_far_above_the_median() {
        for (spans, expected) in [
            (vec![1.0, 1.0, 9.0, 1.0, 5.0], vec![(2, 9.0), (4, 5.0)]),
            (vec![1.0, 4.0, 1.0], vec![]),
            (vec![0.0, 0.0, 7.0], vec![]),
            (vec![], vec![]),
        ] {
            assert_eq!(weight(&spans).outliers(), expected, "{spans:?}");
        }
    }
}
