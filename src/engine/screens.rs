//! What the weights alone say of every layer, before any data is run.

use rayon::prelude::*;

use super::error::RunError;
use super::layer_weights::{quantize_layer_weight, weight_values};
use crate::jobs::CancelToken;
use crate::model::{Graph, Layer};
use crate::plan::Plan;
use crate::quant::{NumberFormat, QuantSpec, SliceErrors, WeightScreen, weight_screen};

/// Screens of all layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Screens {
    /// The widths, in the order of the columns.
    pub widths: Vec<NumberFormat>,
    /// In layer order.
    pub layers: Vec<LayerScreen>,
}

/// Screens of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerScreen {
    /// Shape of the distribution; `None` for a weight without finite numbers.
    pub weight: Option<WeightScreen>,
    /// Error of the weight at each width.
    pub errors: Vec<SliceErrors>,
}

/// Screens every layer's weight; `plan` gives the schemes, its widths do not matter.
///
/// # Errors
/// [`RunError`] names a layer whose weight cannot be quantized, or says that it was cancelled.
pub fn screen_weights(
    graph: &Graph,
    layers: &[Layer],
    plan: &Plan,
    widths: &[NumberFormat],
    cancel: &CancelToken,
) -> Result<Screens, RunError> {
    let layers: Result<Vec<LayerScreen>, RunError> = layers
        .par_iter()
        .zip(plan.layers())
        .with_max_len(1)
        .map(|(layer, choice)| {
            cancel.check()?;
            let values = weight_values(graph, layer)?;
            let weight = weight_screen(&values, &layer.weight_shape, layer.channel_axis)
                .map_err(|error| RunError::layer(layer, error.to_string()))?;
            let errors: Result<Vec<SliceErrors>, RunError> = widths
                .iter()
                .map(|width| {
                    let spec = QuantSpec {
                        format: *width,
                        ..choice.weight
                    };
                    Ok(quantize_layer_weight(layer, &values, &spec)?.errors)
                })
                .collect();
            Ok(LayerScreen {
                weight,
                errors: errors?,
            })
        })
        .collect();
    Ok(Screens {
        widths: widths.to_vec(),
        layers: layers?,
    })
}
