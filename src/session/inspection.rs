//! What the inspector shows of one layer.

use super::open_model::OpenModel;
use crate::engine::{Ranges, RunError, quantize_layer_weight, weight_values};
use crate::model::LayerId;
use crate::plan::LayerPlan;
use crate::quant::{
    Calibrator, Grid, Histogram, NumberFormat, QuantSpec, Range, SliceErrors, SliceStatistics,
    channel_ranges, error_histogram, histogram, slice_statistics,
};

/// Bins of the histograms that are drawn.
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
    /// The input activation, once it is calibrated.
    pub activation: Option<ActivationInspection>,
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
    /// Different dequantized values that occur.
    pub unique_levels: usize,
    /// Extremes of every output channel.
    pub channels: Vec<Range>,
}

/// A layer's input as calibration saw it, and how it is quantized.
#[derive(Clone, Debug)]
pub struct ActivationInspection {
    /// Distribution over all calibration samples.
    pub histogram: Histogram,
    /// Extremes that occurred.
    pub observed: Range,
    /// The clip range in force.
    pub clip: Range,
    /// The grid in force; `None` for a float input.
    pub grid: Option<Grid>,
    /// Share of elements outside the clip range, estimated from the histogram.
    pub clipped: f64,
    /// Range that each calibrator would choose.
    pub candidates: Vec<(Calibrator, Range)>,
}

impl Inspection {
    /// Computes the inspection of a layer.
    ///
    /// # Errors
    /// [`RunError`] names the layer if its weight cannot be quantized as chosen.
    pub fn compute(
        model: &OpenModel,
        layer: LayerId,
        choice: &LayerPlan,
        ranges: Option<&Ranges>,
    ) -> Result<Self, RunError> {
        Ok(Self {
            layer,
            choice: choice.clone(),
            weight: inspect_weight(model, layer, &choice.weight)?,
            activation: ranges
                .map(|ranges| inspect_activation(model, layer, &choice.activation, ranges))
                .transpose()?,
        })
    }
}

fn inspect_weight(
    model: &OpenModel,
    id: LayerId,
    spec: &QuantSpec,
) -> Result<WeightInspection, RunError> {
    let layer = &model.layers()[id.index()];
    let values = weight_values(model.graph(), layer)?;
    let quantized = (spec.format != NumberFormat::F32)
        .then(|| quantize_layer_weight(layer, &values, spec))
        .transpose()?;
    let unique_levels = quantized
        .as_ref()
        .map_or(&values, |quantized| &quantized.dequantized);
    Ok(WeightInspection {
        statistics: slice_statistics(&values),
        histogram: histogram(&values, BINS),
        error_histogram: quantized
            .as_ref()
            .and_then(|quantized| error_histogram(&values, &quantized.dequantized, BINS)),
        errors: quantized.as_ref().map(|quantized| quantized.errors),
        unique_levels: count_unique(unique_levels),
        channels: channel_ranges(&values, &layer.weight_shape, layer.channel_axis)
            .map_err(|error| RunError::layer(layer, error.to_string()))?,
        grids: quantized.map_or_else(Vec::new, |quantized| quantized.grids),
    })
}

fn count_unique(values: &[f32]) -> usize {
    let mut bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
    bits.sort_unstable();
    bits.dedup();
    bits.len()
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
    let histogram = observer.histogram().cloned().ok_or_else(unseen)?;
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
    Ok(ActivationInspection {
        clipped: share_outside(&histogram, clip),
        observed: observer.range().ok_or_else(unseen)?,
        grid: ranges.quantizer(layer, spec)?.grid().copied(),
        histogram,
        clip,
        candidates,
    })
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
