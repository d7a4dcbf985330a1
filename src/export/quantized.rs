//! What a plan makes of every layer, ready to be stored.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::error::ExportError;
use crate::engine::{
    Executor, Ranges, RoundedLayer, RoundedPlan, RunError, quantize_layer_weight, weight_values,
};
use crate::model::{Graph, GraphBuilder, GraphError, Layer};
use crate::plan::{LayerPlan, Plan, TargetProfile};
use crate::quant::{
    ActivationQuantizer, Grid, NumberFormat, QuantSpec, QuantizedWeights, Range, RoundingMethod,
};

/// A network as it is exported: what a plan took from calibration data stands in place of its own.
///
/// Equalized weights and corrected biases are constants of the graph; rounded weights are kept beside it.
#[derive(Clone, Debug)]
pub struct TunedNetwork {
    /// The network with its tuned constants; ids of nodes and values are those of the model.
    pub graph: Arc<Graph>,
    /// Its layers.
    pub layers: Arc<[Layer]>,
    /// Layers that were rounded on calibration data; `None` where that was not done for the plan.
    rounded: Option<RoundedPlan>,
}

impl TunedNetwork {
    /// The network that `executor` runs, which is the equalized one where the plan says so, with the
    /// weights that were rounded for the plan.
    ///
    /// # Errors
    /// None that the graph did not have before.
    pub fn new(executor: &Executor, rounded: Option<&RoundedPlan>) -> Result<Self, ExportError> {
        let layers = executor.layers();
        let corrected: Vec<(&Layer, &Arc<[f32]>)> = rounded
            .iter()
            .flat_map(|rounded| layers.iter().zip(rounded.layers()))
            .filter_map(|(layer, rounded)| Some((layer, rounded.as_ref()?.bias.as_ref()?)))
            .collect();
        let rounded = rounded.cloned();
        if corrected.is_empty() {
            return Ok(Self {
                graph: Arc::clone(executor.graph()),
                layers: Arc::clone(layers),
                rounded,
            });
        }
        let mut builder = Graph::clone(executor.graph()).into_builder();
        for (layer, bias) in corrected {
            let tensor = Tensor::new(&bias[..], &Device::Cpu).map_err(RunError::from)?;
            builder.replace_constant(layer.node, 2, "corrected", tensor.into());
        }
        let graph = finished(builder, executor.graph())?;
        Ok(Self {
            layers: crate::model::layers(&graph).into(),
            graph: Arc::new(graph),
            rounded,
        })
    }
}

impl TunedNetwork {
    /// A layer as it was rounded on calibration data; `None` where it takes the nearest levels.
    fn rounded_layer(
        &self,
        index: usize,
        layer: &Layer,
        choice: &LayerPlan,
    ) -> Result<Option<&RoundedLayer>, ExportError> {
        if !choice.rounds_on_data() {
            return Ok(None);
        }
        let rounded = self.rounded.as_ref().ok_or_else(|| {
            ExportError::node(
                &layer.name,
                "its weight is rounded on calibration data, and there is none; give it with --calib DIR or --data DIR",
            )
        })?;
        // A layer whose windows could not be summed takes the nearest levels.
        Ok(rounded.layers().get(index).and_then(Option::as_ref))
    }
}

fn finished(builder: GraphBuilder, original: &Graph) -> Result<Graph, ExportError> {
    builder
        .finish(original.metadata().clone())
        .map_err(|error: GraphError| ExportError::Message(error.to_string()))
}

/// Weight, input quantizer and bias of one layer under a plan.
#[derive(Clone, Debug)]
pub struct QuantizedLayer {
    /// The weight; `None` if it stays `f32`.
    pub weight: Option<QuantizedWeights>,
    /// What is chosen for the weight.
    pub weight_spec: QuantSpec,
    /// How the weight was rounded, where that took calibration data.
    pub rounding: Option<RoundingMethod>,
    /// How the input is quantized.
    pub activation: ActivationQuantizer,
    /// The bias, where the target stores it as integers.
    pub bias: Option<IntegerBias>,
    /// Whether the layer is written as the `MatMulNBits` of ONNX Runtime.
    pub matmul_nbits: bool,
}

/// A bias as `i32`.
///
/// ```text
/// q = round(b / scale),  scale = s_x · s_w
/// ```
/// (`LiteRT` quantization specification; ONNX Runtime's quantizer does the same.)
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerBias {
    /// The codes, one for each output channel.
    pub codes: Vec<i32>,
    /// One scale, or one for each output channel.
    pub scales: Vec<f32>,
}

impl IntegerBias {
    /// `None` if a code does not fit.
    fn of(bias: &[f32], input: &Grid, weight: &[Grid]) -> Option<Self> {
        let count = if weight.len() == 1 { 1 } else { bias.len() };
        let scales: Vec<f32> = (0..count)
            .map(|channel| input.scale() * weight[channel % weight.len()].scale())
            .collect();
        let codes: Option<Vec<i32>> = bias
            .iter()
            .enumerate()
            .map(|(channel, value)| {
                let scale = f64::from(scales[channel % count]);
                let code = (f64::from(*value) / scale).round_ties_even();
                let fits = scale > 0.0 && code.abs() <= f64::from(i32::MAX);
                fits.then_some(code as i32)
            })
            .collect();
        Some(Self {
            codes: codes?,
            scales,
        })
    }

    /// The values that the codes stand for.
    pub fn values(&self) -> Vec<f32> {
        let codes = self.codes.iter().enumerate();
        codes
            .map(|(channel, code)| *code as f32 * self.scales[channel % self.scales.len()])
            .collect()
    }
}

/// Quantizes every layer as a plan says and a target stores it.
///
/// # Errors
/// A weight that the arithmetic refuses, one that is to be rounded on calibration data and was not, or a
/// quantized input without a range.
pub fn quantize_layers(
    network: &TunedNetwork,
    plan: &Plan,
    ranges: Option<&Ranges>,
    profile: &TargetProfile,
) -> Result<Vec<QuantizedLayer>, ExportError> {
    network
        .layers
        .iter()
        .zip(plan.layers())
        .enumerate()
        .map(|(index, (layer, choice))| {
            let rounded = network.rounded_layer(index, layer, choice)?;
            quantize_layer(&network.graph, layer, choice, rounded, ranges, profile)
        })
        .collect()
}

fn quantize_layer(
    graph: &Graph,
    layer: &Layer,
    choice: &LayerPlan,
    rounded: Option<&RoundedLayer>,
    ranges: Option<&Ranges>,
    profile: &TargetProfile,
) -> Result<QuantizedLayer, ExportError> {
    let weight = match rounded {
        _ if choice.weight.format == NumberFormat::F32 => None,
        Some(rounded) => Some(QuantizedWeights::clone(&rounded.weights)),
        None => {
            let values = weight_values(graph, layer)?;
            Some(quantize_layer_weight(layer, &values, &choice.weight)?)
        }
    };
    let activation = input_quantizer(layer, &choice.activation, ranges)?;
    let bias = match (&weight, activation.grid(), layer.bias) {
        (Some(weight), Some(input), Some(id)) if profile.stores_integer_bias(choice) => {
            let bias = graph.initializers().get(&id);
            let channels = channels(layer);
            bias.filter(|bias| bias.dims() == [channels] && !weight.grids.is_empty())
                .and_then(|bias| bias.to_floats().ok())
                .and_then(|bias| IntegerBias::of(&bias, input, &weight.grids))
        }
        _ => None,
    };
    Ok(QuantizedLayer {
        weight,
        weight_spec: choice.weight,
        rounding: rounded.map(|rounded| rounded.method),
        activation,
        bias,
        matmul_nbits: false,
    })
}

/// Number of channels that a layer writes.
fn channels(layer: &Layer) -> usize {
    let own = layer.weight_shape.get(layer.channel_axis).copied();
    let groups = if layer.op == "ConvTranspose" {
        layer.groups
    } else {
        1
    };
    own.unwrap_or(1) * groups
}

fn input_quantizer(
    layer: &Layer,
    spec: &QuantSpec,
    ranges: Option<&Ranges>,
) -> Result<ActivationQuantizer, ExportError> {
    let refused =
        |error: crate::quant::QuantError| ExportError::node(&layer.name, error.to_string());
    if spec.format.is_float() {
        return ActivationQuantizer::from_range(spec, Range::ZERO).map_err(refused);
    }
    if let Some(range) = spec.range_override {
        return ActivationQuantizer::from_range(spec, range).map_err(refused);
    }
    let ranges = ranges.ok_or_else(|| {
        ExportError::node(
            &layer.name,
            "its input is quantized but no range is known; give calibration data with --calib DIR or --data DIR",
        )
    })?;
    Ok(ranges.quantizer(layer, spec)?)
}

/// The same layers with every weight scale moved to the next number in `f32`, up and down in turn.
///
/// What this changes in a runtime's own outputs is how far two exact computations of one plan can be
/// apart: a sum that ends next to the middle between two codes is rounded to either.
pub fn nudged(layers: &[QuantizedLayer]) -> Vec<QuantizedLayer> {
    let mut moved = layers.to_vec();
    let grids = moved
        .iter_mut()
        .filter_map(|layer| layer.weight.as_mut())
        .flat_map(|weight| &mut weight.grids);
    for (index, grid) in grids.enumerate() {
        let scale = grid.scale();
        let next = if index % 2 == 0 {
            scale.next_up()
        } else {
            scale.next_down()
        };
        if let Ok(changed) = Grid::new(next, grid.zero_point(), grid.q_min(), grid.q_max()) {
            *grid = changed;
        }
    }
    moved
}

/// The network with the biases that the target stores, to be run in place of the original.
///
/// Ids of nodes and values stay what they are.
///
/// # Errors
/// None that the graph did not have before.
pub(super) fn as_stored(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
) -> Result<Graph, ExportError> {
    let mut builder = graph.clone().into_builder();
    for (layer, one) in layers.iter().zip(quantized) {
        let (Some(bias), Some(_)) = (&one.bias, layer.bias) else {
            continue;
        };
        let tensor = Tensor::new(bias.values(), &Device::Cpu).map_err(RunError::from)?;
        builder.replace_constant(layer.node, 2, "quantized", tensor.into());
    }
    finished(builder, graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_is_stored_in_steps_of_both_scales() {
        let input = Grid::new(0.5, 3, 0, 255).unwrap();
        let grid = |scale| Grid::new(scale, 0, -127, 127).unwrap();
        let bias = IntegerBias::of(&[1.0, -0.3], &input, &[grid(0.25), grid(0.1)]).unwrap();
        assert_eq!(bias.codes, [8, -6]);
        assert_eq!(bias.scales, [0.125, 0.05]);
        assert_eq!(bias.values(), [1.0, -6.0 * 0.05f32]);
        // Channels of all groups use the scales of one group in turn.
        let grouped = [1.0, 1.0, 2.0, 2.0];
        let bias = IntegerBias::of(&grouped, &input, &[grid(0.25), grid(0.5)]).unwrap();
        assert_eq!(bias.codes, [8, 4, 16, 8]);
        let tiny = Grid::new(1e-30, 0, -127, 127).unwrap();
        assert_eq!(IntegerBias::of(&[1.0], &input, &[tiny]), None);
    }
}
