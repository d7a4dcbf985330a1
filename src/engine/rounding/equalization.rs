//! Cross-layer equalization: channels of two layers brought to the same range, nothing else changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::channel_ranges::channel_ranges;
use crate::engine::batches::Batches;
use crate::engine::error::RunError;
use crate::engine::executor::Executor;
use crate::engine::layer_weights::weight_values;
use crate::jobs::CancelToken;
use crate::model::{Graph, Layer, NodeId, Op, Unary, ValueId};
use crate::plan::Plan;
use crate::quant::{Granularity, NumberFormat};

/// Rounds over all pairs; those of a chain settle within a few.
const ROUNDS: usize = 12;
/// The largest factor of a channel in one round.
const LARGEST: f32 = 1e3;

/// A layer and the one that reads its output through functions that keep the ratio of positive factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    first: usize,
    second: usize,
}

/// Weights and biases on their way to other ranges.
struct Scaling<'a> {
    layers: &'a [Layer],
    weights: BTreeMap<usize, Vec<f32>>,
    biases: BTreeMap<usize, Vec<f32>>,
    /// The largest magnitudes of the input channels of layers whose input is quantized.
    inputs: BTreeMap<usize, Vec<f32>>,
}

/// What the factors of a pair even out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// The output channels of the first weight and the input channels of the second.
    Weights,
    /// The channels of the input between the two, which share one grid, and the input channels of the
    /// second weight, which has this granularity.
    Input(Granularity),
}

impl Aim {
    /// A first weight that has a scale for each channel bears any factor of it, so that the input may
    /// have them.
    fn of(plan: &Plan, pair: Pair, has_samples: bool) -> Self {
        let is_integer = |format| matches!(format, NumberFormat::Int(_));
        let choices = (
            plan.layers().get(pair.first),
            plan.layers().get(pair.second),
        );
        match choices {
            (Some(first), Some(second))
                if has_samples
                    && is_integer(second.activation.format)
                    && !(is_integer(first.weight.format)
                        && first.weight.granularity == Granularity::PerTensor) =>
            {
                Self::Input(second.weight.granularity)
            }
            _ => Self::Weights,
        }
    }
}

/// Equalizes the layers that a plan says so of; gives the network back as it is where there is no pair,
/// and the number of pairs.
///
/// ```text
/// W₁[i] / s[i],  b₁[i] / s[i],  W₂[:, i] · s[i]   with  s[i] = √(max|W₁[i]| / max|W₂[:, i]|)
/// ```
/// Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section
/// 4.1, repeated over all pairs until chains settle. Where the second layer's input `x` is quantized, the
/// first weight has a scale for each channel, and there are `batches` of calibration samples, half of the
/// spread of the channels of `x` is migrated instead:
///
/// ```text
/// s[i] = √(max|x[i]| / max_o(|W₂[o, i]| / r[o]))   with  r[o] = max|W₂[o]|, or 1 for a per-tensor W₂
/// ```
/// Xiao et al. 2022, "`SmoothQuant`", equation 4 with α = ½, in which a channel of a depthwise `W₂` counts
/// as 1. The half that is left keeps values of small channels, beyond what calibration saw, from being cut off.
///
/// The output of the network does not change beyond rounding, because what lies between the layers keeps
/// positive factors: `Relu`, `LeakyRelu`, pools, `Flatten` of single pixels. A depthwise convolution is a
/// layer of its own, second of one pair and first of the next.
///
/// # Errors
/// [`RunError`] if a weight or a sample cannot be read, or when cancelled.
pub fn equalized(
    executor: &Arc<Executor>,
    plan: &Plan,
    batches: Option<&Batches>,
    cancel: &CancelToken,
) -> Result<(Arc<Executor>, usize), RunError> {
    let (graph, layers) = (executor.graph(), executor.layers());
    let wants = |index: usize| {
        let choice = plan.layers().get(index);
        choice.is_some_and(|choice| choice.corrections.equalize)
    };
    let pairs: Vec<Pair> = pairs(graph, layers)
        .into_iter()
        .filter(|pair| wants(pair.first) && wants(pair.second))
        .collect();
    if pairs.is_empty() {
        return Ok((Arc::clone(executor), 0));
    }
    let aims: Vec<(Pair, Aim)> = pairs
        .iter()
        .map(|pair| (*pair, Aim::of(plan, *pair, batches.is_some())))
        .collect();
    let mut scaling = Scaling {
        layers,
        weights: BTreeMap::new(),
        biases: BTreeMap::new(),
        inputs: BTreeMap::new(),
    };
    for pair in &pairs {
        for index in [pair.first, pair.second] {
            scaling.read(graph, index)?;
        }
    }
    let migrated = aims.iter().filter(|(_, aim)| *aim != Aim::Weights);
    let readers: Vec<usize> = migrated.map(|(pair, _)| pair.second).collect();
    if let (Some(batches), false) = (batches, readers.is_empty()) {
        let values: Vec<ValueId> = readers.iter().map(|index| layers[*index].input).collect();
        let ranges = channel_ranges(executor, &values, batches, cancel)?;
        scaling.inputs = readers.into_iter().zip(ranges).collect();
    }
    for round in 0..ROUNDS {
        for (pair, aim) in &aims {
            // What is migrated by half is migrated once.
            if round == 0 || *aim == Aim::Weights {
                scaling.equalize(*pair, *aim);
            }
        }
    }
    let graph = scaling.written(graph)?;
    Ok((Arc::new(executor.with_graph(Arc::new(graph))), pairs.len()))
}

/// All pairs of a graph, in the order of the first.
fn pairs(graph: &Graph, layers: &[Layer]) -> Vec<Pair> {
    let consumers = graph.consumers();
    let by_node: BTreeMap<NodeId, usize> = layers
        .iter()
        .enumerate()
        .map(|(index, layer)| (layer.node, index))
        .collect();
    let mut uses = BTreeMap::<ValueId, usize>::new();
    for input in graph
        .nodes()
        .iter()
        .flat_map(|node| node.inputs.iter().flatten())
    {
        *uses.entry(*input).or_default() += 1;
    }
    let is_own = |id: ValueId| uses.get(&id) == Some(&1) && !graph.outputs().contains(&id);
    let scales = |layer: &Layer| {
        let own = is_own(layer.weight) && layer.bias.is_none_or(is_own);
        let constant_bias = layer.bias.is_some() || graph.node(layer.node).input(2).is_none();
        own && constant_bias && matches!(graph.node(layer.node).op, Op::Conv(_) | Op::Gemm { .. })
    };
    let follow = |layer: &Layer| {
        let mut value = layer.output;
        loop {
            let &[reader] = &consumers.get(value.index())?[..] else {
                return None;
            };
            let node = graph.node(reader);
            if graph.outputs().contains(&value) || node.input(0) != Some(value) {
                return None;
            }
            match node.op {
                Op::Unary(Unary::Relu | Unary::LeakyRelu { .. })
                | Op::Identity
                | Op::MaxPool(_)
                | Op::AveragePool(_)
                | Op::GlobalAveragePool
                | Op::GlobalMaxPool
                | Op::Flatten { .. } => value = node.output()?,
                _ => return by_node.get(&reader).copied(),
            }
        }
    };
    let pair = |(first, layer): (usize, &Layer)| {
        let second = follow(layer).filter(|_| scales(layer))?;
        let fits = scales(&layers[second]) && outputs(layer) == inputs(&layers[second]);
        fits.then_some(Pair { first, second })
    };
    layers.iter().enumerate().filter_map(pair).collect()
}

/// Output channels of a layer.
fn outputs(layer: &Layer) -> Option<usize> {
    layer.weight_shape.get(layer.channel_axis).copied()
}

/// Channels that a layer reads.
fn inputs(layer: &Layer) -> Option<usize> {
    let axis = 1 - layer.channel_axis.min(1);
    Some(layer.weight_shape.get(axis)? * layer.groups)
}

/// Calls `each` with the place of every weight, its output channel and its input channel.
fn for_each_weight(layer: &Layer, mut each: impl FnMut(usize, usize, usize)) {
    let shape = &layer.weight_shape;
    let [first, second, ..] = shape[..] else {
        return;
    };
    let taps: usize = shape.iter().skip(2).product();
    let per_group = first / layer.groups.max(1);
    let mut place = 0;
    for row in 0..first {
        for column in 0..second {
            let (output, input) = if layer.channel_axis == 0 {
                (row, row / per_group.max(1) * second + column)
            } else {
                (column, row)
            };
            for _ in 0..taps {
                each(place, output, input);
                place += 1;
            }
        }
    }
}

impl Scaling<'_> {
    fn read(&mut self, graph: &Graph, index: usize) -> Result<(), RunError> {
        let layer = &self.layers[index];
        if let Entry::Vacant(entry) = self.weights.entry(index) {
            entry.insert(weight_values(graph, layer)?);
            if let Some(bias) = layer.bias.and_then(|id| graph.initializer(id)) {
                self.biases.insert(index, bias.flatten_all()?.to_vec1()?);
            }
        }
        Ok(())
    }

    /// The largest magnitude of each output channel.
    fn output_ranges(&self, index: usize, channels: usize) -> Vec<f32> {
        let mut ranges = vec![0f32; channels];
        self.for_each(index, |weight, output, _| {
            if let Some(range) = ranges.get_mut(output) {
                *range = range.max(weight.abs());
            }
        });
        ranges
    }

    /// The largest magnitude of each input channel; with scales for each output channel, as a part of
    /// what those span.
    fn input_ranges(&self, index: usize, channels: usize, granularity: Granularity) -> Vec<f32> {
        let layer = &self.layers[index];
        let full = match granularity {
            Granularity::PerTensor => vec![1.0; outputs(layer).unwrap_or(0)],
            _ => self.output_ranges(index, outputs(layer).unwrap_or(0)),
        };
        let mut ranges = vec![0f32; channels];
        self.for_each(index, |weight, output, input| {
            if let (Some(range), Some(full)) = (ranges.get_mut(input), full.get(output))
                && *full > 0.0
            {
                *range = range.max(weight.abs() / full);
            }
        });
        ranges
    }

    fn for_each(&self, index: usize, mut each: impl FnMut(f32, usize, usize)) {
        let weights = self.weights.get(&index);
        for_each_weight(&self.layers[index], |place, output, input| {
            if let Some(weight) = weights.and_then(|weights| weights.get(place)) {
                each(*weight, output, input);
            }
        });
    }

    fn equalize(&mut self, pair: Pair, aim: Aim) {
        let factors = self.factors(pair, aim);
        let bias = self.biases.get_mut(&pair.first);
        for (bias, factor) in bias.into_iter().flatten().zip(&factors) {
            *bias /= factor;
        }
        self.scale(pair.first, |output, _| 1.0 / factors[output]);
        self.scale(pair.second, |_, input| factors[input]);
    }

    /// The factor of each channel; 1 where a channel has no range.
    fn factors(&self, pair: Pair, aim: Aim) -> Vec<f32> {
        let channels = outputs(&self.layers[pair.first]).unwrap_or(0);
        let (above, below) = match aim {
            Aim::Weights => (
                self.output_ranges(pair.first, channels),
                self.input_ranges(pair.second, channels, Granularity::PerTensor),
            ),
            Aim::Input(granularity) => {
                let seen = self.inputs.get(&pair.second);
                let mut seen = seen.cloned().unwrap_or_default();
                seen.resize(channels, 0.0);
                let below = self.input_ranges(pair.second, channels, granularity);
                (seen, below)
            }
        };
        let ratios = above.iter().zip(&below);
        ratios
            .map(|(above, below)| match (above / below).sqrt() {
                factor if factor.is_finite() && factor > 0.0 => {
                    factor.clamp(1.0 / LARGEST, LARGEST)
                }
                _ => 1.0,
            })
            .collect()
    }

    fn scale(&mut self, index: usize, factor: impl Fn(usize, usize) -> f32) {
        let Some(weights) = self.weights.get_mut(&index) else {
            return;
        };
        for_each_weight(&self.layers[index], |place, output, input| {
            weights[place] *= factor(output, input);
        });
    }

    /// The graph with these weights and biases as constants of their own.
    fn written(&self, graph: &Graph) -> Result<Graph, RunError> {
        let metadata = graph.metadata().clone();
        let mut builder = graph.clone().into_builder();
        for (index, weights) in &self.weights {
            let layer = &self.layers[*index];
            let tensor = Tensor::from_slice(weights, layer.weight_shape.as_slice(), &Device::Cpu)?;
            builder.replace_constant(layer.node, 1, "equalized", tensor.into());
            if let (Some(id), Some(bias)) = (layer.bias, self.biases.get(index)) {
                let dims = graph.initializer(id).map(|own| own.dims().to_vec());
                let tensor = Tensor::from_slice(bias, dims.unwrap_or_default(), &Device::Cpu)?;
                builder.replace_constant(layer.node, 2, "equalized", tensor.into());
            }
        }
        builder
            .finish(metadata)
            .map_err(|error| RunError::message(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Activations, Keep, RunOptions};
    use crate::jobs::CancelToken;
    use crate::model::{Conv, Dim, ElementType, GraphBuilder, Metadata, ModelFormat, Padding};
    use crate::plan::Widths;

    /// Numbers of no pattern; channel `i` of `per_channel` numbers is `spread^i` times as large.
    fn weight(shape: &[usize], spread: f32) -> Tensor {
        let per_channel: usize = shape[1..].iter().product();
        let count = shape.iter().product::<usize>();
        let value = |i: usize| {
            let number = ((i * 37 + i * i % 11) % 19) as f32 / 9.0 - 1.0;
            number * spread.powi((i / per_channel % 5) as i32)
        };
        let values: Vec<f32> = (0..count).map(value).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn conv(groups: usize) -> Op {
        Op::Conv(Conv {
            strides: Vec::new(),
            padding: Padding::SameUpper,
            dilations: Vec::new(),
            groups,
        })
    }

    /// `x [N, 2, 5, 5] → conv → LeakyRelu → depthwise → Relu → conv → y`, with a wide spread of channels.
    fn chain() -> Arc<Executor> {
        let mut builder = GraphBuilder::new();
        let shape = [2, 5, 5].map(Dim::Fixed);
        let shape = std::iter::once(Dim::Symbol("N".to_owned())).chain(shape);
        let mut value = builder.input("x", ElementType::F32, shape.collect());
        let layers = [
            ("first", vec![6, 2, 3, 3], 1),
            ("depthwise", vec![6, 1, 3, 3], 6),
            ("last", vec![4, 6, 1, 1], 1),
        ];
        for (index, (name, shape, groups)) in layers.into_iter().enumerate() {
            let w = builder.initializer(&format!("{name}.w"), weight(&shape, 4.0));
            let b = builder.initializer(&format!("{name}.b"), weight(&shape[..1], 1.0));
            value = builder.node(name, conv(groups), &[value, w, b], &format!("{name}.y"));
            let activation = [Unary::LeakyRelu { alpha: 0.1 }, Unary::Relu];
            if let Some(activation) = activation.get(index) {
                let op = Op::Unary(*activation);
                value = builder.node(&format!("{name}.act"), op, &[value], &format!("{name}.a"));
            }
        }
        builder.output(value);
        let metadata = Metadata {
            name: "m".to_owned(),
            format: ModelFormat::Onnx,
            sha256: String::new(),
            producer: None,
            opset: None,
            architecture: None,
        };
        Arc::new(Executor::new(Arc::new(builder.finish(metadata).unwrap())))
    }

    fn plan(equalize: bool) -> Plan {
        let mut plan = Plan::uniform(3, Widths::FLOAT);
        if equalize {
            plan.set_corrections("equalize".parse().unwrap());
        }
        plan
    }

    fn outputs_of(executor: &Executor) -> Vec<f32> {
        let x = weight(&[3, 2, 5, 5], 1.0);
        let mut fed = Activations::new();
        fed.insert(executor.graph().inputs()[0], x);
        let options = RunOptions {
            keep: Keep::Outputs,
            cancel: &CancelToken::default(),
            tap: None,
        };
        let held = executor
            .run(&executor.prepare_float().unwrap(), &fed, options)
            .unwrap();
        let output = held
            .get(executor.graph().outputs()[0])
            .unwrap()
            .plain()
            .unwrap();
        output.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn channels_get_the_same_range_and_the_network_stays() {
        let before = chain();
        let (after, count) =
            equalized(&before, &plan(true), None, &CancelToken::default()).unwrap();
        assert_eq!(count, 2);
        let largest = outputs_of(&before)
            .iter()
            .fold(0f32, |most, y| most.max(y.abs()));
        for (before, after) in outputs_of(&before).iter().zip(outputs_of(&after)) {
            assert!((before - after).abs() <= 1e-5 * largest, "{before} {after}");
        }
        let found = pairs(after.graph(), after.layers());
        let indices: Vec<[usize; 2]> = found.iter().map(|pair| [pair.first, pair.second]).collect();
        assert_eq!(indices, [[0, 1], [1, 2]]);
        let mut scaling = Scaling {
            layers: after.layers(),
            weights: BTreeMap::new(),
            biases: BTreeMap::new(),
            inputs: BTreeMap::new(),
        };
        for pair in found {
            scaling.read(after.graph(), pair.first).unwrap();
            scaling.read(after.graph(), pair.second).unwrap();
            let ranges = [
                scaling.output_ranges(pair.first, 6),
                scaling.input_ranges(pair.second, 6, Granularity::PerTensor),
            ];
            for (first, second) in ranges[0].iter().zip(&ranges[1]) {
                assert!((first / second - 1.0).abs() < 0.02, "{ranges:?}");
            }
        }
    }

    #[test]
    fn half_of_the_spread_of_an_input_moves_into_the_weights() {
        let executor = chain();
        let mut scaling = Scaling {
            layers: executor.layers(),
            weights: BTreeMap::new(),
            biases: BTreeMap::new(),
            inputs: [(1, vec![1.0, 4.0, 16.0, 64.0, 0.25, 0.0])].into(),
        };
        for index in 0..3 {
            scaling.read(executor.graph(), index).unwrap();
        }
        let factors = |first: usize, second: usize, aim: Aim| {
            let pair = Pair { first, second };
            scaling.factors(pair, aim)
        };
        // A depthwise weight with a scale for each channel bears any factor; nothing is known of the last.
        let found = factors(0, 1, Aim::Input(Granularity::PerChannel));
        assert_eq!(found, [1.0, 2.0, 4.0, 8.0, 0.5, 1.0]);
        // With one scale for all its channels, large ones are to become smaller.
        let shared = factors(0, 1, Aim::Input(Granularity::PerTensor));
        let channels = scaling.weights[&1].chunks_exact(9);
        let largest = channels.map(|own| own.iter().fold(0.0f32, |m, w| m.max(w.abs())));
        let expected = largest
            .zip(&found)
            .map(|(largest, one)| one / largest.sqrt());
        for (factor, expected) in shared.iter().zip(expected).take(5) {
            assert!((factor - expected).abs() <= 1e-6 * expected, "{shared:?}");
        }
        assert_eq!(shared[5], 1.0);
    }

    #[test]
    fn nothing_changes_unless_both_layers_are_to_be_equalized() {
        let before = chain();
        let mut one = plan(false);
        one.edit(&[crate::model::LayerId(1)], |layer| {
            layer.corrections = "equalize".parse().unwrap();
        });
        for plan in [plan(false), one] {
            let (after, count) = equalized(&before, &plan, None, &CancelToken::default()).unwrap();
            assert!(Arc::ptr_eq(&before, &after));
            assert_eq!(count, 0);
        }
    }
}
