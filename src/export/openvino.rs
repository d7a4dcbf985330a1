//! How `OpenVINO`'s CPU plugin computes an exported file on integers.
//!
//! Sums of products of codes are exact; what follows them is the arithmetic of [`Arithmetic::OpenVino`].
//! Here it is told with which operations each layer's input becomes codes ([`FactorForm`]), which depends on
//! what the quantizer stands behind: it is fused into an integer convolution in front of it, also through
//! activation functions, and into the branches of a concatenation; else it is a node of its own, which is
//! compiled otherwise where all shapes are fixed. Found by comparing graphs of all these patterns with
//! `OpenVINO` 2026.4 on x86-64 with AVX-512, code by code.

use std::collections::BTreeSet;

use super::model_file::StoredArithmetic;
use super::quantized::QuantizedLayer;
use crate::engine::{Arithmetic, ChannelForm, EdgeGrids, EdgePass, EdgeRounding, FactorForm};
use crate::model::{
    Binary, Graph, Layer, NodeId, Op, ResizeMode, Unary, ValueId, Variadic, fixed_batch,
};
use crate::quant::ActivationQuantizer;

/// Concatenations that are looked through, one in another.
const DEEPEST: usize = 8;

/// The arithmetic of the file of these layers.
pub(super) fn openvino_arithmetic(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
) -> StoredArithmetic {
    let forms = Forms::new(graph, layers, quantized);
    let mut edges = EdgeGrids::default();
    for (layer, stored) in layers.iter().zip(quantized) {
        if let (ActivationQuantizer::Affine(grid), true) =
            (stored.activation, stored.weight.is_some())
        {
            let pass = EdgePass {
                grid,
                rounding: EdgeRounding::Factor(forms.of(layer.input, 0)),
            };
            edges.insert_for_reader(layer.node, layer.input, pass);
        }
    }
    StoredArithmetic {
        edges,
        runtime: Arithmetic::OpenVino,
        ..StoredArithmetic::default()
    }
}

fn producers(graph: &Graph) -> Vec<Option<NodeId>> {
    let mut producers = vec![None; graph.values().len()];
    for id in graph.node_ids() {
        for output in &graph.node(id).outputs {
            producers[output.index()] = Some(id);
        }
    }
    producers
}

/// What follows the same path from a value to what computes it.
struct Forms<'a> {
    graph: &'a Graph,
    layers: &'a [Layer],
    quantized: &'a [QuantizedLayer],
    producers: Vec<Option<NodeId>>,
    readers: Vec<Vec<NodeId>>,
    /// Whether the shapes of the file are fixed.
    is_fixed: bool,
}

impl<'a> Forms<'a> {
    fn new(graph: &'a Graph, layers: &'a [Layer], quantized: &'a [QuantizedLayer]) -> Self {
        Self {
            graph,
            layers,
            quantized,
            producers: producers(graph),
            readers: graph.consumers(),
            is_fixed: fixed_batch(graph).is_some(),
        }
    }

    /// The forms of a quantizer on a value, for its channels in turn.
    fn of(&self, value: ValueId, depth: usize) -> Vec<ChannelForm> {
        let all = |form| {
            vec![ChannelForm {
                channels: usize::MAX,
                form,
            }]
        };
        let producer = self.producers[value.index()].map(|id| self.graph.node(id));
        if let Some(node) = producer
            && self.has_one_use(value)
        {
            if matches!(node.op, Op::Concat { axis: 1 }) && depth < DEEPEST {
                return self.of_branches(&node.inputs, depth);
            }
            if matches!(&node.op, Op::Resize(resize) if resize.mode == ResizeMode::Nearest) {
                return all(FactorForm::Fused);
            }
        }
        all(self.behind(value))
    }

    fn of_branches(&self, branches: &[Option<ValueId>], depth: usize) -> Vec<ChannelForm> {
        let mut forms = Vec::new();
        for branch in branches.iter().flatten() {
            let own = self.of(*branch, depth + 1);
            let Some(mut left) = self.channels(*branch, DEEPEST) else {
                // The rest cannot be told apart.
                forms.extend(own);
                return forms;
            };
            for run in own {
                let channels = run.channels.min(left);
                left -= channels;
                forms.push(ChannelForm { channels, ..run });
            }
        }
        forms
    }

    /// Channels of a value, by what computes it.
    fn channels(&self, value: ValueId, depth: usize) -> Option<usize> {
        let id = self.producers[value.index()]?;
        let node = self.graph.node(id);
        if let Some(layer) = self.layers.iter().find(|layer| layer.node == id) {
            return layer.weight_shape.get(layer.channel_axis).copied();
        }
        match &node.op {
            Op::Concat { axis: 1 } if depth > 0 => node
                .inputs
                .iter()
                .flatten()
                .map(|branch| self.channels(*branch, depth - 1))
                .sum(),
            Op::Unary(_) | Op::Binary(_) | Op::Clip | Op::Identity | Op::Resize(_) => node
                .inputs
                .iter()
                .flatten()
                .filter(|input| !self.graph.is_initializer(**input))
                .find_map(|input| self.channels(*input, depth)),
            Op::MaxPool(_) | Op::AveragePool(_) | Op::BatchNormalization { .. } => {
                self.channels(node.input(0)?, depth)
            }
            _ => None,
        }
    }

    /// The form by what a value comes from, through activation functions and pools.
    fn behind(&self, value: ValueId) -> FactorForm {
        let alone = if self.is_fixed {
            FactorForm::Apart
        } else {
            FactorForm::Fused
        };
        let (mut value, mut through_pool) = (value, false);
        loop {
            if !self.has_one_use(value) {
                return alone;
            }
            let Some(id) = self.producers[value.index()] else {
                return alone;
            };
            let node = self.graph.node(id);
            let from = match &node.op {
                Op::Unary(Unary::Relu | Unary::LeakyRelu { .. } | Unary::Sigmoid)
                | Op::Clip
                | Op::Identity => node.input(0),
                Op::Binary(Binary::Mul) => self.gated(id),
                Op::MaxPool(_) | Op::AveragePool(_) | Op::GlobalAveragePool => {
                    through_pool = true;
                    node.input(0)
                }
                _ => None,
            };
            match from {
                Some(from) => value = from,
                None => return self.behind_node(id, through_pool).unwrap_or(alone),
            }
        }
    }

    /// The form behind a node that is no function of one value; `None` for a node of its own.
    fn behind_node(&self, id: NodeId, through_pool: bool) -> Option<FactorForm> {
        let node = self.graph.node(id);
        if let Some((layer, is_integer)) = self.layer(id) {
            return match (layer, through_pool) {
                (_, true) => is_integer.then_some(FactorForm::Fused),
                (Op::Conv(_), false) if !is_integer => Some(FactorForm::Fused),
                (Op::Conv(_) | Op::Gemm { .. } | Op::MatMul, false) if is_integer => {
                    Some(FactorForm::AfterConvolution)
                }
                _ => None,
            };
        }
        let is_sum = matches!(
            node.op,
            Op::Binary(Binary::Add) | Op::Variadic(Variadic::Sum)
        );
        if !is_sum || through_pool {
            return None;
        }
        let mut inputs = node.inputs.iter().flatten();
        let form = |input: &ValueId| match self.layer(self.producers[input.index()]?)? {
            // The bias of a product.
            (Op::MatMul, true) => Some(FactorForm::AfterConvolution),
            (Op::Conv(_), true) if !self.is_fixed && self.has_one_use(*input) => {
                Some(FactorForm::Fused)
            }
            _ => None,
        };
        inputs.find_map(form)
    }

    /// A layer's operator, and whether it runs on integers.
    fn layer(&self, id: NodeId) -> Option<(&Op, bool)> {
        let index = self.layers.iter().position(|layer| layer.node == id)?;
        let stored = self.quantized.get(index)?;
        let is_integer =
            stored.weight.is_some() && matches!(stored.activation, ActivationQuantizer::Affine(_));
        Some((&self.graph.node(id).op, is_integer))
    }

    /// The value `x` of a product `x · sigmoid(x)`.
    fn gated(&self, id: NodeId) -> Option<ValueId> {
        let node = self.graph.node(id);
        let [Some(first), Some(second)] = node.inputs[..] else {
            return None;
        };
        [(first, second), (second, first)]
            .into_iter()
            .find_map(|(x, gate)| {
                let gate = self.graph.node(self.producers[gate.index()]?);
                let is_own = matches!(gate.op, Op::Unary(Unary::Sigmoid));
                (is_own && gate.input(0) == Some(x)).then_some(x)
            })
    }

    /// Whether all readers of a value read it in one way: as one node, as the two of `x · sigmoid(x)`, or
    /// as codes of one grid.
    fn has_one_use(&self, value: ValueId) -> bool {
        let mut uses = BTreeSet::new();
        for reader in &self.readers[value.index()] {
            uses.insert(self.use_by(*reader, value));
        }
        let leaves = self.graph.outputs().contains(&value);
        uses.len() + usize::from(leaves) == 1
    }

    /// What stands for all readers that are one: a grid in bits, or a node.
    fn use_by(&self, reader: NodeId, value: ValueId) -> (Option<(u32, i32, i32)>, Option<NodeId>) {
        let own = |(layer, stored): (&Layer, &QuantizedLayer)| match stored.activation {
            ActivationQuantizer::Affine(grid) if layer.node == reader && layer.input == value => {
                Some((grid.scale().to_bits(), grid.zero_point(), grid.q_min()))
            }
            _ => None,
        };
        let grid = self.layers.iter().zip(self.quantized).find_map(own);
        if grid.is_some() {
            return (grid, None);
        }
        let node = self.graph.node(reader);
        let is_gate = matches!(node.op, Op::Unary(Unary::Sigmoid));
        let product = node
            .output()
            .filter(|_| is_gate)
            .and_then(|gate| self.readers[gate.index()].first().copied())
            .filter(|product| self.gated(*product) == Some(value));
        (None, Some(product.unwrap_or(reader)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::{quantize_layer_weight, weight_values};
    use crate::model::{layers, load};
    use crate::quant::{Grid, QuantSpec};

    fn quantized(graph: &Graph, layer: &Layer) -> QuantizedLayer {
        let weight_spec = QuantSpec::weight("8".parse().unwrap());
        let values = weight_values(graph, layer).unwrap();
        let grid = Grid::new(0.1, 3, 0, 255).unwrap();
        QuantizedLayer {
            weight: Some(quantize_layer_weight(layer, &values, &weight_spec).unwrap()),
            weight_spec,
            rounding: None,
            activation: ActivationQuantizer::Affine(grid),
            bias: None,
            matmul_nbits: false,
        }
    }

    #[test]
    fn quantizers_are_fused_into_the_convolution_that_they_alone_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-models");
        let graph = load(&folder.join("signs-resnet.onnx")).unwrap();
        let layers = layers(&graph);
        let quantized: Vec<QuantizedLayer> = layers
            .iter()
            .map(|layer| quantized(&graph, layer))
            .collect();
        for is_fixed in [false, true] {
            let forms = Forms {
                is_fixed,
                ..Forms::new(&graph, &layers, &quantized)
            };
            let alone = if is_fixed {
                FactorForm::Apart
            } else {
                FactorForm::Fused
            };
            for layer in &layers {
                // The second convolution of a block reads what the first gives, and nothing else does.
                let form = if layer.name.ends_with("conv2/Conv") {
                    FactorForm::AfterConvolution
                } else {
                    alone
                };
                let channels = usize::MAX;
                let expected = [ChannelForm { channels, form }];
                assert_eq!(forms.of(layer.input, 0), expected, "{}", layer.name);
            }
        }
    }
}
