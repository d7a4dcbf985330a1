//! Layers: the nodes that can be quantized.

use candle_core::Tensor;

use super::graph::{Graph, Node, NodeId, ValueId};
use super::op::Op;
use super::shape_inference::{Shapes, fixed_batch, infer_shapes};

/// Index of a [`Layer`] in the list that [`layers`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub u32);

impl LayerId {
    /// Position in the layer list.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node that can be quantized: an input activation multiplied with a constant weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The node.
    pub node: NodeId,
    /// Name of the node.
    pub name: String,
    /// ONNX name of the operator, for example `Conv`.
    pub op: String,
    /// The weight, an initializer.
    pub weight: ValueId,
    /// Shape of the weight as it is stored.
    pub weight_shape: Vec<usize>,
    /// Axis of the weight that runs over output channels (of one group, for `ConvTranspose`).
    pub channel_axis: usize,
    /// Number of groups; 1 unless the node is a convolution.
    pub groups: usize,
    /// The bias, if the node has one and it is an initializer.
    pub bias: Option<ValueId>,
    /// The activation that is multiplied with the weight.
    pub input: ValueId,
    /// The result.
    pub output: ValueId,
    /// Elements of the weight and the bias.
    pub parameters: u64,
    /// Elements of the weight.
    pub weight_elements: u64,
    /// Multiply-accumulate operations for one sample, where the shapes are known.
    pub macs: Option<u64>,
    /// Shape of the result for a batch of 1 (or of the batch that the file fixes), where it is known.
    pub output_shape: Option<Vec<usize>>,
}

/// The layers of a graph in topological order; [`LayerId`] is an index into the list.
///
/// A layer is a `Conv`, `ConvTranspose`, `Gemm`, `MatMul` or matrix-product `Einsum` whose second
/// input is an initializer and whose first is not.
pub fn layers(graph: &Graph) -> Vec<Layer> {
    let shapes = infer_shapes(graph, 1);
    let batch = fixed_batch(graph).unwrap_or(1).max(1) as u64;
    graph
        .node_ids()
        .filter_map(|id| {
            let mut layer = layer_of(graph, id)?;
            layer.macs = macs(graph.node(id), &layer, &shapes).map(|macs| macs / batch);
            layer.output_shape = shapes.get(layer.output).map(<[usize]>::to_vec);
            Some(layer)
        })
        .collect()
}

/// The layer at a node without what depends on inferred shapes.
fn layer_of(graph: &Graph, id: NodeId) -> Option<Layer> {
    let node = graph.node(id);
    let (input, weight) = (node.input(0)?, node.input(1)?);
    let weight_tensor = graph.initializer(weight)?;
    if graph.initializer(input).is_some() {
        return None;
    }
    let (channel_axis, groups) = channel_axis_and_groups(&node.op, weight_tensor)?;
    let bias = node
        .input(2)
        .filter(|bias| graph.initializer(*bias).is_some());
    let bias_elements = bias
        .and_then(|bias| graph.initializer(bias))
        .map_or(0, Tensor::elem_count);
    let weight_elements = weight_tensor.elem_count() as u64;
    Some(Layer {
        node: id,
        name: node.name.clone(),
        op: node.op.name().to_owned(),
        weight,
        weight_shape: weight_tensor.dims().to_vec(),
        channel_axis,
        groups,
        bias,
        input,
        output: node.output()?,
        parameters: weight_elements + bias_elements as u64,
        weight_elements,
        macs: None,
        output_shape: None,
    })
}

/// Output-channel axis of the weight and number of groups, if the operator makes a layer.
fn channel_axis_and_groups(op: &Op, weight: &Tensor) -> Option<(usize, usize)> {
    if !weight.dtype().is_float() {
        return None;
    }
    let rank = weight.rank();
    match op {
        Op::Conv(conv) if rank >= 3 => Some((0, conv.groups)),
        Op::ConvTranspose(transpose) if rank >= 3 => Some((1, transpose.conv.groups)),
        Op::Gemm { trans_b, .. } if rank == 2 => Some((usize::from(!trans_b), 1)),
        Op::MatMul if rank >= 2 => Some((rank - 1, 1)),
        Op::Einsum { equation } if rank == 2 => Some((einsum_channel_axis(equation)?, 1)),
        _ => None,
    }
}

/// Output-channel axis of the second operand of an `Einsum` that is a plain matrix product.
///
/// The equation must be `…k,kn->…n` (axis 1) or `…k,nk->…n` (axis 0) with distinct letters.
fn einsum_channel_axis(equation: &str) -> Option<usize> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, output) = equation.split_once("->")?;
    let (input, weight) = operands.split_once(',')?;
    let weight: [char; 2] = weight.chars().collect::<Vec<_>>().try_into().ok()?;
    let (input, output) = (input.replace("...", "."), output.replace("...", "."));
    let inner = input.chars().last()?;
    let channel = output.chars().last()?;
    let shared = input.strip_suffix(inner)?;
    let letters_are_distinct = inner != channel
        && shared.chars().all(|c| c != inner && c != channel)
        && (0..)
            .zip(shared.chars())
            .all(|(at, c)| shared.chars().skip(at + 1).all(|d| d != c));
    if output.strip_suffix(channel)? != shared || !letters_are_distinct {
        return None;
    }
    if weight == [inner, channel] {
        Some(1)
    } else if weight == [channel, inner] {
        Some(0)
    } else {
        None
    }
}

/// Multiply-accumulate operations of a layer for the batch that the shapes were inferred for.
///
/// ```text
/// Conv:           elements(output) × in/groups × k…   = elements(output) × elements(weight) / out
/// ConvTranspose:  elements(input) × out/groups × k…   = elements(input) × elements(weight) / in
/// Gemm, MatMul:   elements(output) × K
/// ```
fn macs(node: &Node, layer: &Layer, shapes: &Shapes) -> Option<u64> {
    let weight = &layer.weight_shape;
    match node.op {
        Op::Conv(_) => {
            elements(shapes.get(layer.output)?)?.checked_mul(elements(weight.get(1..)?)?)
        }
        Op::ConvTranspose(_) => {
            elements(shapes.get(layer.input)?)?.checked_mul(elements(weight.get(1..)?)?)
        }
        Op::MatMul => {
            let inner = weight.len().checked_sub(2)?;
            elements(shapes.get(layer.output)?)?.checked_mul(*weight.get(inner)? as u64)
        }
        _ => {
            let inner = 1usize.checked_sub(layer.channel_axis)?;
            elements(shapes.get(layer.output)?)?.checked_mul(*weight.get(inner)? as u64)
        }
    }
}

fn elements(shape: &[usize]) -> Option<u64> {
    shape
        .iter()
        .try_fold(1u64, |product, length| product.checked_mul(*length as u64))
}
