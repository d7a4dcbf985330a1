//! Layers: the nodes that can be quantized.

use super::graph::{Graph, Node, NodeId, ValueId};
use super::initializer::Initializer;
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
    let weight_tensor = graph.initializers().get(&weight)?;
    if graph.is_initializer(input) {
        return None;
    }
    let (channel_axis, groups) = channel_axis_and_groups(&node.op, weight_tensor)?;
    let bias = node.input(2).filter(|bias| graph.is_initializer(*bias));
    let bias_elements = bias
        .and_then(|bias| graph.initializers().get(&bias))
        .map_or(0, Initializer::elem_count);
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
fn channel_axis_and_groups(op: &Op, weight: &Initializer) -> Option<(usize, usize)> {
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::model::graph::{Dim, ElementType, GraphBuilder, Metadata, ModelFormat};
    use crate::model::op::{Conv, ConvTranspose, Padding};

    fn metadata() -> Metadata {
        Metadata {
            name: "test.onnx".to_owned(),
            format: ModelFormat::Onnx,
            sha256: String::new(),
            producer: None,
            opset: None,
            architecture: None,
        }
    }

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
    }

    /// One node with an input, a weight and a bias of the given shapes.
    fn single(op: Op, input: &[Dim], weight: &[usize], bias: usize) -> Vec<Layer> {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", ElementType::F32, input.to_vec());
        let w = builder.initializer("w", zeros(weight));
        let mut inputs = vec![x, w];
        if bias > 0 {
            inputs.push(builder.initializer("b", zeros(&[bias])));
        }
        let y = builder.node("the node", op, &inputs, "y");
        builder.output(y);
        layers(&builder.finish(metadata()).unwrap())
    }

    fn conv(groups: usize) -> Conv {
        Conv {
            strides: vec![2, 2],
            padding: Padding::Explicit(vec![1; 4]),
            dilations: Vec::new(),
            groups,
        }
    }

    fn batched(shape: &[usize]) -> Vec<Dim> {
        std::iter::once(Dim::Symbol("N".to_owned()))
            .chain(shape.iter().copied().map(Dim::Fixed))
            .collect()
    }

    /// What one node is expected to be described as.
    struct Expected<'a> {
        channel_axis: usize,
        groups: usize,
        parameters: u64,
        macs: u64,
        output: &'a [usize],
    }

    #[track_caller]
    fn check(op: Op, input: &[usize], weight: &[usize], bias: usize, expected: &Expected<'_>) {
        let name = format!("{op:?}");
        let layers = single(op, &batched(input), weight, bias);
        let [layer] = layers.as_slice() else {
            panic!("{name}: {} layers", layers.len());
        };
        assert_eq!(layer.name, "the node");
        assert_eq!(layer.weight_shape, weight, "{name}");
        assert_eq!(layer.channel_axis, expected.channel_axis, "{name}");
        assert_eq!(layer.groups, expected.groups, "{name}");
        assert_eq!(layer.parameters, expected.parameters, "{name}");
        assert_eq!(layer.macs, Some(expected.macs), "{name}");
        let output = layer.output_shape.as_deref();
        assert_eq!(output, Some(expected.output), "{name}");
    }

    #[test]
    fn describes_convolutions() {
        let mut expected = Expected {
            channel_axis: 0,
            groups: 1,
            parameters: 6 * 4 * 9 + 6,
            macs: 6 * 16 * 36,
            output: &[1, 6, 4, 4],
        };
        let image = [4, 8, 8];
        check(Op::Conv(conv(1)), &image, &[6, 4, 3, 3], 6, &expected);
        expected = Expected {
            groups: 4,
            parameters: 8 * 9 + 8,
            macs: 8 * 16 * 9,
            output: &[1, 8, 4, 4],
            ..expected
        };
        check(Op::Conv(conv(4)), &image, &[8, 1, 3, 3], 8, &expected);
        let transpose = |groups| {
            Op::ConvTranspose(ConvTranspose {
                conv: Conv {
                    padding: Padding::Explicit(Vec::new()),
                    ..conv(groups)
                },
                output_padding: Vec::new(),
                output_shape: None,
            })
        };
        expected = Expected {
            channel_axis: 1,
            groups: 1,
            parameters: 4 * 6 * 4 + 6,
            macs: 256 * 6 * 4,
            output: &[1, 6, 16, 16],
        };
        check(transpose(1), &image, &[4, 6, 2, 2], 6, &expected);
        expected.groups = 2;
        expected.parameters = 4 * 3 * 4 + 6;
        expected.macs = 256 * 3 * 4;
        check(transpose(2), &image, &[4, 3, 2, 2], 6, &expected);
    }

    #[test]
    fn describes_matrix_products() {
        let gemm = |trans_b| Op::Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b,
        };
        let einsum = |equation: &str| Op::Einsum {
            equation: equation.to_owned(),
        };
        let mut expected = Expected {
            channel_axis: 0,
            groups: 1,
            parameters: 650,
            macs: 640,
            output: &[1, 10],
        };
        check(gemm(true), &[64], &[10, 64], 10, &expected);
        expected.channel_axis = 1;
        check(gemm(false), &[64], &[64, 10], 10, &expected);
        expected = Expected {
            parameters: 640,
            macs: 5 * 640,
            output: &[1, 5, 10],
            ..expected
        };
        check(Op::MatMul, &[5, 64], &[64, 10], 0, &expected);
        check(einsum("bij, jk -> bik"), &[5, 64], &[64, 10], 0, &expected);
        expected.channel_axis = 0;
        check(einsum("...j,kj->...k"), &[5, 64], &[10, 64], 0, &expected);
    }

    #[test]
    fn macs_are_per_sample_when_the_file_fixes_the_batch() {
        let gemm = Op::Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b: true,
        };
        let layers = single(gemm, &[Dim::Fixed(4), Dim::Fixed(64)], &[10, 64], 10);
        assert_eq!(layers[0].macs, Some(640));
        assert_eq!(layers[0].output_shape, Some(vec![4, 10]));
    }

    #[test]
    fn two_activations_are_no_layer() {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", ElementType::F32, batched(&[4, 4]));
        let w = builder.initializer("w", zeros(&[4, 4]));
        let both = builder.node("both", Op::MatMul, &[x, x], "both");
        let left = builder.node("left", Op::MatMul, &[w, both], "left");
        let right = builder.node("right", Op::MatMul, &[left, w], "right");
        builder.output(right);
        let layers = layers(&builder.finish(metadata()).unwrap());
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["right"]);
        assert_eq!(layers[0].macs, Some(64));
    }

    #[test]
    fn einsum_is_a_layer_only_as_a_matrix_product() {
        for (equation, axis) in [
            ("bij,jk->bik", Some(1)),
            ("bij,kj->bik", Some(0)),
            ("...j,jk->...k", Some(1)),
            ("bij,jk->bki", None),
            ("bii,ik->bik", None),
            ("bij,bk->bik", None),
            ("bij,jk", None),
            ("bij,ij->bi", None),
            ("bbj,jk->bbk", None),
        ] {
            assert_eq!(einsum_channel_axis(equation), axis, "{equation}");
        }
    }
}
