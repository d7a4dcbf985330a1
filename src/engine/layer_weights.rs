//! Weights of a layer, quantized and packed once per specification.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};

use super::arithmetic::Arithmetic;
use super::code_sums::exact_sums;
use super::error::{OpError, RunError};
use super::kernels::blocked::{
    BlockedConvTransposeWeights, BlockedConvWeights, ConvInput, ConvOutput, block_channels,
    conv_transpose2d_blocked, conv2d_blocked, unblock_channels,
};
use super::kernels::{
    Activation, ConvGeometry, ConvTransposeWeights, ConvWeights, MatMulWeights, conv_transpose2d,
    conv2d, fake_quantize, matmul_packed,
};
use super::ops;
use super::value::Value;
use crate::model::{Graph, Layer, LayerId, Op};
use crate::quant::{
    ActivationQuantizer, ChannelSteps, NumberFormat, QuantSpec, QuantizedWeights, quantize_weights,
};

/// Packed weights of one layer, and what quantizing them cost.
#[derive(Debug)]
pub struct LayerWeights {
    packed: Packed,
    /// Grids and errors; `None` for float weights.
    pub quantized: Option<WeightQuantization>,
    /// What follows the products in a rounding of its own.
    apart: Option<Apart>,
}

/// What belongs to products that are packed without a bias.
#[derive(Debug)]
struct Apart {
    /// Scales of the output channels, where the weight is packed in steps of them.
    scales: Option<Vec<f32>>,
    bias: Option<Tensor>,
}

/// What is remembered of a weight's quantization.
#[derive(Clone, Debug)]
pub struct WeightQuantization {
    /// Σ w² and Σ (w − ŵ)² over the whole weight.
    pub errors: crate::quant::SliceErrors,
}

#[derive(Debug)]
enum Packed {
    BlockedConv(Arc<BlockedConvWeights>),
    BlockedConvTranspose(Arc<BlockedConvTransposeWeights>),
    Conv(Arc<ConvWeights>),
    /// A matrix product as a convolution over the rows of its input.
    Rows(Arc<BlockedConvWeights>),
    ConvTranspose(Arc<ConvTransposeWeights>),
    MatMul(Arc<MatMulWeights>),
    /// Forms without a kernel of their own go through the general operator.
    Plain {
        weight: Tensor,
        bias: Option<Tensor>,
    },
}

/// How a layer runs, apart from its weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerCall<'a> {
    pub op: &'a Op,
    /// How the input is quantized.
    pub quantizer: &'a ActivationQuantizer,
    /// A bias that the graph computes.
    pub bias: Option<&'a Tensor>,
    /// What follows the layer and is computed with it.
    pub output: ConvOutput<'a>,
    /// What the layer is computed with.
    pub arithmetic: Arithmetic,
}

/// How weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Packing {
    /// For the fastest kernel.
    Fast,
    /// As tensors.
    Plain,
}

impl LayerWeights {
    /// Keeps weights whose levels were chosen elsewhere as a tensor.
    ///
    /// # Errors
    /// [`RunError`] names the layer if they do not fit it.
    fn unpacked(
        graph: &Graph,
        layer: &Layer,
        quantized: &QuantizedWeights,
    ) -> Result<Self, RunError> {
        let packed = plain(graph, layer, &quantized.dequantized, None)
            .map_err(|error| RunError::layer(layer, error.to_string()))?;
        let errors = quantized.errors;
        Ok(Self {
            packed,
            quantized: Some(WeightQuantization { errors }),
            apart: None,
        })
    }

    /// Packs weights whose levels were chosen elsewhere, and a bias in place of the layer's own.
    ///
    /// # Errors
    /// [`RunError`] names the layer if they do not fit it.
    pub(super) fn of_quantized(
        graph: &Graph,
        layer: &Layer,
        quantized: &QuantizedWeights,
        bias: Option<&[f32]>,
    ) -> Result<Self, RunError> {
        let steps = quantized.channel_steps();
        let values = &quantized.dequantized;
        let packed = pack_values(graph, layer, values, steps.as_ref(), bias)
            .map_err(|error| RunError::layer(layer, error.to_string()))?;
        let errors = quantized.errors;
        Ok(Self {
            packed,
            quantized: Some(WeightQuantization { errors }),
            apart: None,
        })
    }

    /// Packs weights that are stored in a file as the arithmetic of its runtime takes them.
    ///
    /// # Errors
    /// [`RunError`] names the layer if they do not fit it.
    pub(super) fn stored(
        (graph, layer): (&Graph, &Layer),
        quantized: &QuantizedWeights,
        input: &ActivationQuantizer,
        arithmetic: Arithmetic,
    ) -> Result<Self, RunError> {
        if arithmetic == Arithmetic::OnnxRuntime {
            return Self::unpacked(graph, layer, quantized);
        }
        if arithmetic == Arithmetic::OpenVino || arithmetic.takes_apart(input) {
            let is_float = *input == ActivationQuantizer::Identity;
            return Self::apart_from_bias(graph, layer, quantized, is_float);
        }
        Self::of_quantized(graph, layer, quantized, None)
    }

    /// Packs weights whose levels were chosen elsewhere so that the bias is added in a rounding of its own.
    ///
    /// Products are summed in steps of the scales, also those of matrices; with a float input, in the
    /// numbers that the codes stand for.
    ///
    /// # Errors
    /// [`RunError`] names the layer if they do not fit it.
    fn apart_from_bias(
        graph: &Graph,
        layer: &Layer,
        quantized: &QuantizedWeights,
        is_float: bool,
    ) -> Result<Self, RunError> {
        let steps = quantized.channel_steps().filter(|_| !is_float);
        let no_bias = vec![0.0; layer.weight_shape.get(layer.channel_axis).map_or(0, |n| *n)];
        let values = &quantized.dequantized;
        let packed = match &steps {
            Some(steps) if layer.weight_shape.len() == 2 => rows(layer, steps),
            _ => {
                let changed = layer.bias.is_some().then_some(&no_bias[..]);
                pack_values(graph, layer, values, steps.as_ref(), changed)
            }
        };
        let packed = packed.map_err(|error| RunError::layer(layer, error.to_string()))?;
        let errors = quantized.errors;
        Ok(Self {
            packed,
            quantized: Some(WeightQuantization { errors }),
            apart: Some(Apart {
                scales: steps.map(|steps| steps.scales),
                bias: layer.bias.and_then(|id| graph.initializer(id)).cloned(),
            }),
        })
    }

    /// Whether an activation and a residual can be computed with the layer.
    pub(super) fn takes_followers(&self) -> bool {
        matches!(self.packed, Packed::BlockedConv(_))
    }

    /// Shape `[batch, channels, height, width]` of the output, where followers are taken.
    pub(super) fn output_dims(&self, op: &Op, input: &[usize]) -> Option<[usize; 4]> {
        let (Packed::BlockedConv(weights), Op::Conv(conv), &[batch, _, height, width]) =
            (&self.packed, op, input)
        else {
            return None;
        };
        let geometry = ConvGeometry::resolve(conv, weights.kernel(), [height, width]).ok()?;
        let [height, width] = geometry.output_size(weights.kernel(), [height, width])?;
        Some([batch, weights.outputs(), height, width])
    }

    /// Applies the layer to its input.
    ///
    /// # Errors
    /// [`OpError`] if the shapes do not fit.
    pub(super) fn apply(&self, input: &Value, call: &LayerCall<'_>) -> Result<Value, OpError> {
        let output = self.product(input, call)?;
        let Some(bias) = self.apart.as_ref().and_then(|apart| apart.bias.as_ref()) else {
            return Ok(output);
        };
        let mut shape = vec![1; output.dims().len()];
        let axis = match call.op {
            Op::Conv(_) | Op::ConvTranspose(_) => 1,
            _ => shape.len().saturating_sub(1),
        };
        if let Some(length) = shape.get_mut(axis) {
            *length = bias.elem_count();
        }
        Ok(output.plain()?.broadcast_add(&bias.reshape(shape)?)?.into())
    }

    /// The layer with exact sums, rounded once after the bias; `None` where its sums are not in steps.
    ///
    /// # Errors
    /// [`OpError`] if the shapes do not fit.
    pub(super) fn exact(
        &self,
        input: &Value,
        call: &LayerCall<'_>,
    ) -> Result<Option<Value>, OpError> {
        let (Some(apart), Op::Conv(_), ActivationQuantizer::Affine(grid)) =
            (&self.apart, call.op, call.quantizer)
        else {
            return Ok(None);
        };
        let Some(scales) = &apart.scales else {
            return Ok(None);
        };
        let bias = apart
            .bias
            .as_ref()
            .map(Tensor::to_vec1::<f32>)
            .transpose()?;
        let product = |part: &Value, quantizer: &ActivationQuantizer| {
            self.product(part, &LayerCall { quantizer, ..*call })
        };
        let y = exact_sums(input, grid, scales, bias.as_deref(), product)?;
        Ok(Some(y.into()))
    }

    /// The layer without a bias that is added in a rounding of its own.
    fn product(&self, input: &Value, call: &LayerCall<'_>) -> Result<Value, OpError> {
        if let (Packed::BlockedConv(weights), Op::Conv(conv)) = (&self.packed, call.op) {
            let (tensor, channels) = match input {
                Value::Plain(tensor) => (tensor, 0),
                Value::Blocked { image, channels } => (image, *channels),
            };
            let [_, _, height, width] = image_shape(&input.dims())?;
            let geometry = ConvGeometry::resolve(conv, weights.kernel(), [height, width])?;
            let reading = ConvInput {
                channels,
                quantizer: *call.quantizer,
                integer: call.arithmetic.takes_integers(),
            };
            let image = conv2d_blocked(tensor, &reading, weights, &geometry, call.output)?;
            return Ok(Value::Blocked {
                image,
                channels: weights.outputs(),
            });
        }
        if let Packed::BlockedConvTranspose(weights) = &self.packed {
            let Some((image, _)) = input.blocked()? else {
                return Err(OpError::Message("expected an image".to_owned()));
            };
            let image = conv_transpose2d_blocked(&image, call.quantizer, weights)?;
            return Ok(Value::Blocked {
                image,
                channels: weights.outputs(),
            });
        }
        if let Packed::Rows(weights) = &self.packed {
            return rows_product(&input.plain()?, weights, call).map(Value::from);
        }
        let input = fake_quantize(&input.plain()?, call.quantizer)?;
        self.apply_plain(&input, call).map(Value::from)
    }

    /// Applies the layer to its quantized input.
    fn apply_plain(&self, input: &Tensor, call: &LayerCall<'_>) -> Result<Tensor, OpError> {
        let op = call.op;
        match (&self.packed, op) {
            (Packed::Conv(weights), Op::Conv(conv)) => {
                let [_, _, height, width] = image_shape(input.dims())?;
                let geometry = ConvGeometry::resolve(conv, weights.kernel(), [height, width])?;
                Ok(conv2d(input, weights, &geometry, Activation::None)?)
            }
            (Packed::ConvTranspose(weights), Op::ConvTranspose(conv)) => {
                let [_, _, height, width] = image_shape(input.dims())?;
                let (geometry, output_padding) =
                    ConvGeometry::resolve_transposed(conv, weights.kernel(), [height, width])?;
                Ok(conv_transpose2d(input, weights, &geometry, output_padding)?)
            }
            (Packed::MatMul(weights), _) => Ok(matmul_packed(input, weights)?),
            (Packed::Plain { weight, bias: own }, _) => {
                let mut inputs = vec![Some(input.clone()), Some(weight.clone())];
                // Not every operator has a third input, not even an omitted one.
                inputs.extend(own.as_ref().or(call.bias).cloned().map(Some));
                // Quantized weights are computed from their codes, so that they are no constants.
                let constant = self.quantized.is_none();
                if let Some(output) = ops::evaluate_as(call.arithmetic, op, &inputs, constant)? {
                    return Ok(output);
                }
                ops::evaluate(op, &inputs, 1)?
                    .pop()
                    .ok_or_else(|| OpError::Message("the operator gave no output".to_owned()))
            }
            _ => Err(OpError::Message(
                "the packed weight belongs to another operator".to_owned(),
            )),
        }
    }
}

/// A matrix product of steps as a convolution with a kernel of one element.
fn rows(layer: &Layer, steps: &ChannelSteps) -> Result<Packed, OpError> {
    let outputs = steps.scales.len();
    let inputs = steps.steps.len() / outputs.max(1);
    let by_output = if layer.channel_axis == 0 {
        steps.steps.clone()
    } else {
        (0..outputs)
            .flat_map(|output| steps.steps.iter().skip(output).step_by(outputs).copied())
            .collect()
    };
    let shape = [outputs, inputs, 1, 1];
    let weights = BlockedConvWeights::pack(&by_output, shape, 1, Some(&steps.scales), None)?;
    Ok(Packed::Rows(Arc::new(weights)))
}

/// Rows as the pixels of one image.
fn rows_product(
    input: &Tensor,
    weights: &Arc<BlockedConvWeights>,
    call: &LayerCall<'_>,
) -> Result<Tensor, OpError> {
    let mut shape = input.dims().to_vec();
    let channels = shape.last().copied().unwrap_or(1);
    let image = input.reshape(((), channels))?.t()?;
    let image = block_channels(&image.unsqueeze(0)?.unsqueeze(2)?)?;
    let reading = ConvInput {
        channels,
        quantizer: *call.quantizer,
        integer: call.arithmetic.takes_integers(),
    };
    let geometry = ConvGeometry {
        strides: [1, 1],
        pads: [0; 4],
        dilations: [1, 1],
        groups: 1,
    };
    let y = conv2d_blocked(&image, &reading, weights, &geometry, ConvOutput::default())?;
    let y = unblock_channels(&y, weights.outputs())?
        .squeeze(2)?
        .squeeze(0)?;
    if let Some(last) = shape.last_mut() {
        *last = weights.outputs();
    }
    Ok(y.t()?.contiguous()?.reshape(shape)?)
}

fn image_shape(dims: &[usize]) -> Result<[usize; 4], OpError> {
    dims.try_into()
        .map_err(|_| OpError::Message(format!("expected an input [N, C, H, W], got {dims:?}")))
}

/// Packed weights by layer and specification.
#[derive(Debug, Default)]
pub(super) struct WeightCache {
    packed: Mutex<HashMap<(LayerId, String, Packing), Arc<LayerWeights>>>,
}

impl WeightCache {
    /// The packed weights, made on first use.
    pub(super) fn get(
        &self,
        (graph, layer): (&Graph, &Layer),
        id: LayerId,
        spec: &QuantSpec,
        packing: Packing,
    ) -> Result<Arc<LayerWeights>, RunError> {
        let key = (id, weight_key(spec), packing);
        let lock = || self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&key) {
            return Ok(Arc::clone(found));
        }
        let made = Arc::new(pack(graph, layer, spec, packing)?);
        lock().insert(key, Arc::clone(&made));
        Ok(made)
    }
}

/// Specifications that give the same numbers share an entry.
fn weight_key(spec: &QuantSpec) -> String {
    if spec.format.is_float() {
        spec.format.to_string()
    } else {
        format!("{spec:?}")
    }
}

/// The weight of a layer as stored, `f32`.
///
/// # Errors
/// [`RunError`] if the weight is not a constant tensor of floats.
pub fn weight_values(graph: &Graph, layer: &Layer) -> Result<Vec<f32>, RunError> {
    let weight = graph
        .initializers()
        .get(&layer.weight)
        .ok_or_else(|| RunError::layer(layer, "its weight is not a constant".to_owned()))?;
    weight
        .to_floats()
        .map_err(|error| RunError::layer(layer, error.to_string()))
}

/// Quantizes the weight of a layer.
///
/// # Errors
/// [`RunError`] names the layer and says what the arithmetic refuses.
pub fn quantize_layer_weight(
    layer: &Layer,
    values: &[f32],
    spec: &QuantSpec,
) -> Result<QuantizedWeights, RunError> {
    quantize_weights(values, &layer.weight_shape, layer.channel_axis, spec)
        .map_err(|error| RunError::layer(layer, error.to_string()))
}

fn pack(
    graph: &Graph,
    layer: &Layer,
    spec: &QuantSpec,
    packing: Packing,
) -> Result<LayerWeights, RunError> {
    let mut values = weight_values(graph, layer)?;
    let mut steps = None;
    let quantized = if spec.format == NumberFormat::F32 {
        None
    } else {
        let quantized = quantize_layer_weight(layer, &values, spec)?;
        let errors = quantized.errors;
        steps = quantized.channel_steps();
        values = quantized.dequantized;
        Some(WeightQuantization { errors })
    };
    let packed = match packing {
        Packing::Fast => pack_values(graph, layer, &values, steps.as_ref(), None),
        Packing::Plain => plain(graph, layer, &values, None),
    };
    let packed = packed.map_err(|error| RunError::layer(layer, error.to_string()))?;
    Ok(LayerWeights {
        packed,
        quantized,
        apart: None,
    })
}

/// `steps` are the weights in steps of the scale of each output channel, where they have one;
/// `changed_bias` stands in for the layer's own.
fn pack_values(
    graph: &Graph,
    layer: &Layer,
    values: &[f32],
    steps: Option<&ChannelSteps>,
    changed_bias: Option<&[f32]>,
) -> Result<Packed, OpError> {
    let node = graph.node(layer.node);
    let bias = match (
        changed_bias,
        layer.bias.and_then(|id| graph.initializer(id)),
    ) {
        (Some(bias), _) => Some(bias.to_vec()),
        (None, Some(tensor)) => Some(tensor.flatten_all()?.to_vec1::<f32>()?),
        (None, None) => None,
    };
    let computed_bias = layer.bias.is_none() && node.input(2).is_some();
    match (&node.op, layer.weight_shape.as_slice()) {
        (Op::Conv(conv), &[out, per_group, height, width]) if !computed_bias => {
            let shape = [out, per_group, height, width];
            if BlockedConvWeights::fits(shape, conv.groups) {
                let (values, scales) = match steps {
                    Some(steps) => (&steps.steps[..], Some(&steps.scales[..])),
                    None => (values, None),
                };
                let weights =
                    BlockedConvWeights::pack(values, shape, conv.groups, scales, bias.as_deref())?;
                return Ok(Packed::BlockedConv(Arc::new(weights)));
            }
            let weights = ConvWeights::pack(values, shape, conv.groups, bias.as_deref())?;
            Ok(Packed::Conv(Arc::new(weights)))
        }
        (Op::ConvTranspose(conv), &[input, per_group, height, width]) if !computed_bias => {
            let shape = [input, per_group, height, width];
            if BlockedConvTransposeWeights::fits(conv, shape) {
                let weights = BlockedConvTransposeWeights::pack(values, shape, bias.as_deref())?;
                return Ok(Packed::BlockedConvTranspose(Arc::new(weights)));
            }
            let weights =
                ConvTransposeWeights::pack(values, shape, conv.conv.groups, bias.as_deref())?;
            Ok(Packed::ConvTranspose(Arc::new(weights)))
        }
        (Op::MatMul, &[inner, outer]) => Ok(Packed::MatMul(Arc::new(MatMulWeights::pack(
            values, inner, outer, None,
        )?))),
        (
            Op::Gemm {
                alpha,
                beta,
                trans_a: false,
                trans_b,
            },
            &[first, second],
        ) if *alpha == 1.0 && !computed_bias => {
            let (inner, outer) = if *trans_b {
                (second, first)
            } else {
                (first, second)
            };
            let bias = bias.map(|bias| bias.iter().map(|b| b * beta).collect::<Vec<f32>>());
            if bias.as_ref().is_some_and(|bias| bias.len() != outer) {
                return plain(graph, layer, values, changed_bias);
            }
            let weights = if *trans_b {
                MatMulWeights::pack_transposed(values, inner, outer, bias.as_deref())
            } else {
                MatMulWeights::pack(values, inner, outer, bias.as_deref())
            };
            Ok(Packed::MatMul(Arc::new(weights?)))
        }
        _ => plain(graph, layer, values, changed_bias),
    }
}

fn plain(
    graph: &Graph,
    layer: &Layer,
    values: &[f32],
    changed_bias: Option<&[f32]>,
) -> Result<Packed, OpError> {
    let weight = Tensor::from_slice(values, layer.weight_shape.as_slice(), &Device::Cpu)?;
    let bias = match changed_bias {
        Some(bias) => Some(Tensor::from_slice(bias, bias.len(), &Device::Cpu)?),
        None => layer.bias.and_then(|id| graph.initializer(id)).cloned(),
    };
    Ok(Packed::Plain { weight, bias })
}
