//! Quantizers of one layer as nodes and constants.

use std::collections::{BTreeMap, BTreeSet};

use super::matmul_nbits::PackedProduct;
use super::onnx_nodes::{Attributes as _, node};
use super::quantized::{IntegerBias, QuantizedLayer};
use super::tensors::{CodeType, floats, half_number, halves, integers32, lengths};
use crate::model::onnx_proto::{NodeProto, TensorProto, data_type};
use crate::model::{Graph, Layer, ValueId};
use crate::plan::{ActivationCodes, TargetProfile};
use crate::quant::{
    ActivationQuantizer, Granularity, Grid, HalfFormat, NumberFormat, QuantizedWeights,
};

/// Names that are taken.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Takes a name that is given.
    pub(super) fn take(&mut self, name: &str) {
        self.0.insert(name.to_owned());
    }

    /// `wanted`, or `wanted_1`, `wanted_2`, … if it is taken.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut suffix = 0;
        while !self.0.insert(name.clone()) {
            suffix += 1;
            name = format!("{wanted}_{suffix}");
        }
        name
    }
}

/// What a layer's node becomes.
#[derive(Debug, Default)]
pub(super) struct LayerEdit {
    /// Nodes to put before it.
    pub before: Vec<NodeProto>,
    /// New names of input, weight and bias; `None` leaves the name.
    pub inputs: [Option<String>; 3],
    /// Nodes that take its place.
    pub instead: Vec<NodeProto>,
}

/// Collects what is added to a graph.
#[derive(Debug)]
pub(super) struct Insertion<'a> {
    graph: &'a Graph,
    profile: &'a TargetProfile,
    /// Names of the file and those that were added.
    pub names: Names,
    /// Constants that were added.
    pub tensors: Vec<TensorProto>,
    weights: BTreeMap<String, String>,
    inputs: BTreeMap<String, String>,
}

impl<'a> Insertion<'a> {
    pub(super) fn new(graph: &'a Graph, profile: &'a TargetProfile, names: Names) -> Self {
        Self {
            graph,
            profile,
            names,
            tensors: Vec::new(),
            weights: BTreeMap::new(),
            inputs: BTreeMap::new(),
        }
    }

    /// Adds the quantizers of a layer.
    pub(super) fn layer(&mut self, layer: &Layer, quantized: &QuantizedLayer) -> LayerEdit {
        let mut edit = LayerEdit::default();
        if let (true, Some(weight)) = (quantized.matmul_nbits, &quantized.weight) {
            self.matmul_nbits(layer, quantized, weight, &mut edit);
            return edit;
        }
        edit.inputs[0] = self.input(layer.input, &quantized.activation, &mut edit.before);
        if let Some(weight) = &quantized.weight {
            // One weight that two layers read in the same way is stored once; rounded on calibration
            // data, each layer has its own levels.
            let own = quantized.rounding.map(|_| layer.node);
            let key = format!(
                "{} {:?} {} {own:?}",
                layer.weight.0, quantized.weight_spec, layer.channel_axis
            );
            let name = match self.weights.get(&key) {
                Some(name) => name.clone(),
                None => self.weight(layer, quantized, weight, &mut edit.before),
            };
            self.weights.insert(key, name.clone());
            edit.inputs[1] = Some(name);
        }
        if let (Some(bias), Some(id)) = (&quantized.bias, layer.bias) {
            edit.inputs[2] = Some(self.bias(id, bias, &mut edit.before));
        }
        edit
    }

    fn name_of(&self, id: ValueId) -> String {
        self.graph.value(id).name.clone()
    }

    /// A product with a weight that is stored packed, and the bias added to it.
    fn matmul_nbits(
        &mut self,
        layer: &Layer,
        quantized: &QuantizedLayer,
        weight: &QuantizedWeights,
        edit: &mut LayerEdit,
    ) {
        let base = self.name_of(layer.weight);
        let packed = PackedProduct::of(layer, &quantized.weight_spec, weight);
        let mut inputs = vec![self.name_of(layer.input)];
        for (part, tensor) in packed.tensors() {
            let name = self.constant(&format!("{base}_{part}"), |name| TensorProto {
                name: name.to_owned(),
                ..tensor
            });
            inputs.push(name);
        }
        edit.inputs[1] = inputs.get(1).cloned();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let output = self.name_of(layer.output);
        let Some(bias) = layer.bias else {
            edit.instead = vec![packed.node(&layer.name, &inputs, &output)];
            return;
        };
        let product = self.names.fresh(&format!("{output}_MatMulNBits"));
        let name = self.names.fresh(&format!("{}_bias", layer.name));
        let bias = self.name_of(bias);
        edit.instead = vec![
            packed.node(&layer.name, &inputs, &product),
            node(&name, "Add", &[&product, &bias], &[&output]),
        ];
    }

    /// Adds a constant under a fresh name.
    fn constant(&mut self, wanted: &str, make: impl FnOnce(&str) -> TensorProto) -> String {
        let name = self.names.fresh(wanted);
        self.tensors.push(make(&name));
        name
    }

    /// Adds a node that reads `inputs` and writes a new value named after `base` and its operator.
    fn append(
        &mut self,
        base: &str,
        op: &str,
        inputs: &[&str],
        nodes: &mut Vec<NodeProto>,
    ) -> String {
        let name = self.names.fresh(&format!("{base}_{op}"));
        let output = self.names.fresh(&format!("{name}_Output"));
        nodes.push(node(&name, op, inputs, &[&output]));
        output
    }

    /// The quantized input, shared by all layers that quantize it in the same way.
    fn input(
        &mut self,
        id: ValueId,
        quantizer: &ActivationQuantizer,
        nodes: &mut Vec<NodeProto>,
    ) -> Option<String> {
        if *quantizer == ActivationQuantizer::Identity {
            return None;
        }
        let key = format!("{} {quantizer:?}", id.0);
        if let Some(name) = self.inputs.get(&key) {
            return Some(name.clone());
        }
        let base = self.name_of(id);
        let name = match quantizer {
            ActivationQuantizer::Identity => return None,
            ActivationQuantizer::Half(format) => self.through_half(&base, *format, nodes),
            ActivationQuantizer::Affine(grid) => self.through_grid(&base, grid, nodes),
        };
        self.inputs.insert(key, name.clone());
        Some(name)
    }

    fn through_half(
        &mut self,
        base: &str,
        format: HalfFormat,
        nodes: &mut Vec<NodeProto>,
    ) -> String {
        let half = self.append(base, "Cast", &[base], nodes);
        set_type(nodes, half_number(format));
        let float = self.append(&half, "Cast", &[&half], nodes);
        set_type(nodes, data_type::FLOAT);
        float
    }

    fn through_grid(&mut self, base: &str, grid: &Grid, nodes: &mut Vec<NodeProto>) -> String {
        let bits = (grid.levels() - 1).ilog2() as u8 + 1;
        let symmetric = grid.q_min() < 0;
        let signed = symmetric || self.profile.activation_codes == ActivationCodes::Signed;
        let stored = CodeType::of(bits, signed);
        // Codes that start at 0 are moved to where a signed type starts.
        let shift = if signed && !symmetric {
            1 << (bits - 1)
        } else {
            0
        };
        let (lowest, highest) = stored.limits();
        let fills = (grid.q_min() - shift, grid.q_max() - shift) == (lowest, highest);
        let mut source = base.to_owned();
        if !fills {
            let range = grid.range();
            let min = self.constant(&format!("{base}_clip_min"), |name| {
                floats(name, &[], &[range.min()])
            });
            let max = self.constant(&format!("{base}_clip_max"), |name| {
                floats(name, &[], &[range.max()])
            });
            source = self.append(base, "Clip", &[base, &min, &max], nodes);
        }
        let scale = self.constant(&format!("{base}_scale"), |name| {
            floats(name, &[], &[grid.scale()])
        });
        let zero_point = self.constant(&format!("{base}_zero_point"), |name| {
            stored.tensor(name, &[], &[grid.zero_point() - shift])
        });
        let inputs = [source.as_str(), &scale, &zero_point];
        let codes = self.append(base, "QuantizeLinear", &inputs, nodes);
        self.append(
            base,
            "DequantizeLinear",
            &[&codes, &scale, &zero_point],
            nodes,
        )
    }

    fn weight(
        &mut self,
        layer: &Layer,
        quantized: &QuantizedLayer,
        weight: &QuantizedWeights,
        nodes: &mut Vec<NodeProto>,
    ) -> String {
        let base = self.name_of(layer.weight);
        let half = match quantized.weight_spec.format {
            NumberFormat::F16 => Some(HalfFormat::F16),
            NumberFormat::BF16 => Some(HalfFormat::BF16),
            NumberFormat::Int(_) | NumberFormat::F32 => None,
        };
        if let Some(format) = half {
            let stored = self.constant(&format!("{base}_half"), |name| {
                halves(name, &layer.weight_shape, &weight.dequantized, format)
            });
            let float = self.append(&base, "Cast", &[&stored], nodes);
            set_type(nodes, data_type::FLOAT);
            return float;
        }
        let bits = quantized.weight_spec.format.bits() as u8;
        let signed = weight.grids.iter().any(|grid| grid.q_min() < 0);
        let stored = CodeType::of(bits, signed);
        let channels = layer.weight_shape.get(layer.channel_axis).copied();
        let channels = channels.unwrap_or(1);
        match quantized.weight_spec.granularity {
            Granularity::PerGroup(size) if weight.grids.len() > channels => {
                let blocks = Blocks::of(layer, weight, size.get());
                self.blocked_weight(&base, layer, &blocks, stored, nodes)
            }
            _ => {
                let dims: &[usize] = if weight.grids.len() == 1 {
                    &[]
                } else {
                    &[channels]
                };
                let codes = weight.codes();
                let codes = Codes {
                    dims: &layer.weight_shape,
                    values: &codes,
                    grid_dims: dims,
                    grids: weight.grids.iter().collect(),
                };
                let output = self.dequantized(&base, &codes, stored, nodes);
                if weight.grids.len() > 1 {
                    with_last(nodes, |node| node.int("axis", layer.channel_axis as i64));
                }
                output
            }
        }
    }

    fn dequantized(
        &mut self,
        base: &str,
        codes: &Codes<'_>,
        stored: CodeType,
        nodes: &mut Vec<NodeProto>,
    ) -> String {
        let tensor = self.constant(&format!("{base}_quantized"), |name| {
            stored.tensor(name, codes.dims, codes.values)
        });
        let scales: Vec<f32> = codes.grids.iter().map(|grid| grid.scale()).collect();
        let zero_points: Vec<i32> = codes.grids.iter().map(|grid| grid.zero_point()).collect();
        let scale = self.constant(&format!("{base}_scale"), |name| {
            floats(name, codes.grid_dims, &scales)
        });
        let zero_point = self.constant(&format!("{base}_zero_point"), |name| {
            stored.tensor(name, codes.grid_dims, &zero_points)
        });
        self.append(
            base,
            "DequantizeLinear",
            &[&tensor, &scale, &zero_point],
            nodes,
        )
    }

    /// Blocks lie along one axis in the format, and along all but the channel axis here.
    fn blocked_weight(
        &mut self,
        base: &str,
        layer: &Layer,
        blocks: &Blocks<'_>,
        stored: CodeType,
        nodes: &mut Vec<NodeProto>,
    ) -> String {
        let codes = Codes {
            dims: &blocks.dims,
            values: &blocks.codes,
            grid_dims: &blocks.grid_dims,
            grids: blocks.grids.clone(),
        };
        let mut output = self.dequantized(base, &codes, stored, nodes);
        with_last(nodes, |node| {
            node.int("axis", blocks.axis)
                .int("block_size", blocks.size as i64)
        });
        if let Some(shape) = &blocks.unfolded {
            output = self.reshaped(base, &output, shape, nodes);
            output = self.append(base, "Transpose", &[&output], nodes);
            with_last(nodes, |node| node.ints("perm", &[1, 0, 2]));
        }
        if blocks.unfolded.is_some() || blocks.dims != layer.weight_shape {
            output = self.reshaped(base, &output, &layer.weight_shape, nodes);
        }
        output
    }

    fn reshaped(
        &mut self,
        base: &str,
        input: &str,
        shape: &[usize],
        nodes: &mut Vec<NodeProto>,
    ) -> String {
        let shape = self.constant(&format!("{base}_shape"), |name| lengths(name, shape));
        self.append(base, "Reshape", &[input, &shape], nodes)
    }

    fn bias(&mut self, id: ValueId, bias: &IntegerBias, nodes: &mut Vec<NodeProto>) -> String {
        let base = self.name_of(id);
        let codes = self.constant(&format!("{base}_quantized"), |name| {
            integers32(name, &[bias.codes.len()], &bias.codes)
        });
        let one = bias.scales.len() == 1;
        let dims: &[usize] = if one { &[] } else { &[bias.scales.len()] };
        let scale = self.constant(&format!("{base}_scale"), |name| {
            floats(name, dims, &bias.scales)
        });
        let output = self.append(&base, "DequantizeLinear", &[&codes, &scale], nodes);
        if !one {
            with_last(nodes, |node| node.int("axis", 0));
        }
        output
    }
}

/// Codes with their grids.
struct Codes<'a> {
    dims: &'a [usize],
    values: &'a [i32],
    grid_dims: &'a [usize],
    grids: Vec<&'a Grid>,
}

/// A weight in which the groups of a channel lie one after the other along one axis.
struct Blocks<'a> {
    dims: Vec<usize>,
    codes: Vec<i32>,
    axis: i64,
    size: usize,
    grid_dims: Vec<usize>,
    grids: Vec<&'a Grid>,
    /// Shape `[channels, outer, inner]` to be turned to `[outer, channels, inner]`.
    unfolded: Option<Vec<usize>>,
}

impl<'a> Blocks<'a> {
    fn of(layer: &Layer, weight: &'a QuantizedWeights, size: usize) -> Self {
        let shape = &layer.weight_shape;
        let axis = layer.channel_axis.min(shape.len());
        let outer: usize = shape[..axis].iter().product();
        let channels = shape.get(axis).copied().unwrap_or(1);
        let inner: usize = shape.get(axis + 1..).unwrap_or_default().iter().product();
        let length = outer * inner;
        let groups = length.div_ceil(size);
        let codes = weight.codes();
        if inner == 1 && outer > 1 {
            // Columns are channels, as in a matrix product.
            let by_group = (0..groups * channels)
                .filter_map(|at| weight.grids.get(at % channels * groups + at / channels));
            return Self {
                dims: vec![outer, channels],
                codes,
                axis: 0,
                size,
                grid_dims: vec![groups, channels],
                grids: by_group.collect(),
                unfolded: None,
            };
        }
        let by_channel = (0..codes.len()).map(|at| {
            let (channel, place) = (at / length, at % length);
            let (row, column) = (place / inner, place % inner);
            codes[(row * channels + channel) * inner + column]
        });
        Self {
            dims: vec![channels, length],
            codes: by_channel.collect(),
            axis: 1,
            size,
            grid_dims: vec![channels, groups],
            grids: weight.grids.iter().collect(),
            unfolded: (outer > 1).then(|| vec![channels, outer, inner]),
        }
    }
}

fn with_last(nodes: &mut [NodeProto], change: impl FnOnce(NodeProto) -> NodeProto) {
    if let Some(last) = nodes.last_mut() {
        *last = change(std::mem::take(last));
    }
}

fn set_type(nodes: &mut [NodeProto], number: i32) {
    with_last(nodes, |node| node.int("to", i64::from(number)));
}
