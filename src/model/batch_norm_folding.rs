//! Folds batch normalisation into the layer before it.
//!
//! ```text
//! s  = γ / √(σ² + ε)
//! w' = w · s                 (per output channel)
//! b' = (b − μ) · s + β
//! ```
//! (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", section 3.2.) The numbers are computed in `f64` and rounded to
//! `f32` once.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor};

use super::{
    Dim, ElementType, Graph, GraphBuilder, GraphError, Initializer, Node, NodeId, Op, ValueId,
};

/// Folds every `BatchNormalization` that directly follows a `Conv`, `ConvTranspose` or `Gemm`.
///
/// The layer keeps its name and takes over the output of the normalisation. Its new weight and bias
/// are new initializers (`…_folded`), so that other readers of the old ones are not affected. A
/// normalisation stays where the layer's output has another reader, where a parameter is not an
/// initializer, or where the result would not be finite.
///
/// # Errors
/// None that the graph did not have before.
pub(super) fn fold_batch_norms(graph: Graph) -> Result<Graph, GraphError> {
    let candidates = candidates(&graph);
    let metadata = graph.metadata().clone();
    let mut builder = graph.into_builder();
    let mut removed = BTreeSet::new();
    for (layer, norm) in candidates {
        let folded = Folding::of(&builder, layer, norm).and_then(Folding::computed);
        if let Some(folded) = folded {
            folded.apply(&mut builder, layer, norm);
            removed.insert(norm.index());
        }
    }
    tracing::debug!(count = removed.len(), "folded batch normalisations");
    let mut index = 0;
    builder.nodes.retain(|_| {
        index += 1;
        !removed.contains(&(index - 1))
    });
    builder.finish(metadata)
}

/// Pairs of a layer and the normalisation that alone reads the layer's output.
fn candidates(graph: &Graph) -> Vec<(NodeId, NodeId)> {
    let consumers = graph.consumers();
    graph
        .node_ids()
        .filter_map(|layer| {
            let output = graph.node(layer).output()?;
            let [norm] = consumers[output.index()][..] else {
                return None;
            };
            let node = graph.node(norm);
            let normalises = matches!(node.op, Op::BatchNormalization { .. })
                && node.input(0) == Some(output)
                && !node
                    .inputs
                    .iter()
                    .skip(1)
                    .any(|input| *input == Some(output));
            (normalises && !graph.outputs().contains(&output)).then_some((layer, norm))
        })
        .collect()
}

/// The numbers that take part in one folding.
struct Folding {
    op: Op,
    weight: Initializer,
    weight_id: ValueId,
    /// Bias per output channel, zero if the layer has none.
    bias: Vec<f64>,
    bias_id: Option<ValueId>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    epsilon: f64,
}

/// The layer after folding.
struct Folded {
    op: Op,
    weight: Tensor,
    weight_id: ValueId,
    bias: Tensor,
    bias_id: Option<ValueId>,
}

impl Folding {
    fn of(builder: &GraphBuilder, layer: NodeId, norm: NodeId) -> Option<Self> {
        let (layer, norm) = (
            builder.nodes.get(layer.index())?,
            builder.nodes.get(norm.index())?,
        );
        let Op::BatchNormalization { epsilon } = norm.op else {
            return None;
        };
        let weight_id = layer.input(1)?;
        let weight = builder.initializers.get(&weight_id)?.clone();
        if weight.dtype() != DType::F32 {
            return None;
        }
        let channels = output_channels(&layer.op, weight.dims())?;
        let parameter = |index: usize| {
            let initializer = builder.initializers.get(&norm.input(index)?)?;
            let fits = initializer.dims() == [channels];
            fits.then(|| numbers(initializer)).flatten()
        };
        let bias_id = layer.input(2);
        let bias = match bias_id {
            None => vec![0.0; channels],
            Some(id) => bias_per_channel(builder.initializers.get(&id)?, channels)?,
        };
        Some(Self {
            op: layer.op.clone(),
            weight,
            weight_id,
            bias,
            bias_id,
            gamma: parameter(1)?,
            beta: parameter(2)?,
            mean: parameter(3)?,
            variance: parameter(4)?,
            epsilon: f64::from(epsilon),
        })
    }

    /// `None` if a number is not finite.
    fn computed(self) -> Option<Folded> {
        let scales: Vec<f64> = self
            .gamma
            .iter()
            .zip(&self.variance)
            .map(|(gamma, variance)| gamma / (variance + self.epsilon).sqrt())
            .collect();
        // `Gemm` multiplies its bias by beta, which becomes 1.
        let (op, bias_factor) = match self.op {
            Op::Gemm {
                alpha,
                beta,
                trans_a,
                trans_b,
            } => {
                let op = Op::Gemm {
                    alpha,
                    beta: 1.0,
                    trans_a,
                    trans_b,
                };
                (op, f64::from(beta))
            }
            op => (op, 1.0),
        };
        let shifts = self.mean.iter().zip(&self.beta).zip(&scales);
        let bias: Vec<f32> = self
            .bias
            .iter()
            .zip(shifts)
            .map(|(bias, ((mean, beta), s))| ((bias * bias_factor - mean) * s + beta) as f32)
            .collect();
        let weight = scaled_weight(&op, &self.weight, &scales)?;
        let finite = weight.iter().chain(&bias).all(|value| value.is_finite());
        finite.then_some(())?;
        Some(Folded {
            op,
            weight: Tensor::from_vec(weight, self.weight.dims(), &Device::Cpu).ok()?,
            weight_id: self.weight_id,
            bias: Tensor::new(bias, &Device::Cpu).ok()?,
            bias_id: self.bias_id,
        })
    }
}

impl Folded {
    fn apply(self, builder: &mut GraphBuilder, layer: NodeId, norm: NodeId) {
        let name_of = |id: ValueId| builder.values[id.index()].name.clone();
        let layer_name = builder.nodes[layer.index()].name.clone();
        let weight_name = format!("{}_folded", name_of(self.weight_id));
        let bias_name = match self.bias_id {
            Some(id) => format!("{}_folded", name_of(id)),
            None => format!("{layer_name}_bias_folded"),
        };
        let weight = new_initializer(builder, &weight_name, self.weight);
        let bias = new_initializer(builder, &bias_name, self.bias);
        let outputs = builder.nodes[norm.index()].outputs.clone();
        let node: &mut Node = &mut builder.nodes[layer.index()];
        node.op = self.op;
        node.inputs.truncate(1);
        node.inputs.extend([Some(weight), Some(bias)]);
        node.outputs = outputs;
        // Its output is written by the layer now.
        builder.nodes[norm.index()].outputs.clear();
    }
}

fn new_initializer(builder: &mut GraphBuilder, name: &str, tensor: Tensor) -> ValueId {
    let id = builder.fresh_value(name);
    let value = &mut builder.values[id.index()];
    value.element_type = Some(ElementType::F32);
    value.shape = Some(tensor.dims().iter().copied().map(Dim::Fixed).collect());
    builder.initializers.insert(id, tensor.into());
    id
}

fn numbers(initializer: &Initializer) -> Option<Vec<f64>> {
    let values = initializer.to_floats().ok()?;
    Some(values.into_iter().map(f64::from).collect())
}

/// A bias of shape `[channels]`, or what broadcasts to `[1, channels]` for `Gemm`.
fn bias_per_channel(bias: &Initializer, channels: usize) -> Option<Vec<f64>> {
    match bias.dims() {
        [] | [1] | [1, 1] => Some(vec![*numbers(bias)?.first()?; channels]),
        [length] | [1, length] if *length == channels => numbers(bias),
        _ => None,
    }
}

/// How many channels a layer with this weight writes; `None` if nothing can be folded into it.
fn output_channels(op: &Op, weight: &[usize]) -> Option<usize> {
    match (op, weight) {
        (Op::ConvTranspose(transposed), [_, out, _, ..]) => out.checked_mul(transposed.conv.groups),
        (Op::Conv(_), [out, _, _, ..])
        | (Op::Gemm { trans_b: true, .. }, [out, _])
        | (Op::Gemm { trans_b: false, .. }, [_, out]) => Some(*out),
        _ => None,
    }
}

/// The weight with each output channel multiplied by its scale.
fn scaled_weight(op: &Op, weight: &Initializer, scales: &[f64]) -> Option<Vec<f32>> {
    let dims = weight.dims();
    let inner = |axis: usize| dims.get(axis..).map(|dims| dims.iter().product::<usize>());
    let mut data = weight.to_floats().ok()?;
    let channel: Box<dyn Fn(usize) -> usize> = match op {
        Op::Conv(_) | Op::Gemm { trans_b: true, .. } => {
            let block = inner(1)?;
            Box::new(move |position| position / block)
        }
        Op::Gemm { .. } => {
            let columns = inner(1)?;
            Box::new(move |position| position % columns)
        }
        // Weight `[in, out / groups, …]`: a group's rows write that group's channels.
        Op::ConvTranspose(transposed) => {
            let groups = transposed.conv.groups;
            let (rows, per_group) = (*dims.first()?, *dims.get(1)?);
            let rows_per_group = rows.is_multiple_of(groups).then(|| rows / groups)?;
            let (row, block) = (inner(1)?, inner(2)?);
            Box::new(move |position| {
                let group = position / row / rows_per_group;
                group * per_group + position % row / block
            })
        }
        _ => return None,
    };
    for (position, weight) in data.iter_mut().enumerate() {
        let scale = scales.get(channel(position))?;
        *weight = (f64::from(*weight) * scale) as f32;
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Conv, ConvTranspose, Metadata, ModelFormat, Padding, Unary};

    const GAMMA: [f32; 2] = [1.5, -0.5];
    const BETA: [f32; 2] = [0.25, 1.0];
    const MEAN: [f32; 2] = [0.1, -2.0];
    const VARIANCE: [f32; 2] = [0.04, 4.0];
    const EPSILON: f32 = 1e-3;

    fn conv(groups: usize) -> Conv {
        Conv {
            strides: vec![],
            padding: Padding::Explicit(vec![]),
            dilations: vec![],
            groups,
        }
    }

    fn metadata() -> Metadata {
        Metadata {
            name: "m".to_owned(),
            format: ModelFormat::Onnx,
            sha256: String::new(),
            producer: None,
            opset: None,
            architecture: None,
        }
    }

    /// `x → layer → BatchNormalization → y`, weight elements 1, 2, 3, ….
    fn builder(op: Op, weight: &[usize], bias: Option<&[f32]>) -> GraphBuilder {
        let mut builder = GraphBuilder::new();
        let x = builder.input("x", ElementType::F32, vec![]);
        let count: usize = weight.iter().product();
        let data: Vec<f32> = (1..=count).map(|v| v as f32).collect();
        let w = builder.initializer("w", Tensor::from_vec(data, weight, &Device::Cpu).unwrap());
        let mut inputs = vec![x, w];
        if let Some(bias) = bias {
            let bias = Tensor::new(bias, &Device::Cpu).unwrap();
            inputs.push(builder.initializer("b", bias));
        }
        let z = builder.node("layer", op, &inputs, "z");
        let mut inputs = vec![z];
        for (name, values) in [("g", GAMMA), ("be", BETA), ("m", MEAN), ("v", VARIANCE)] {
            let tensor = Tensor::new(&values, &Device::Cpu).unwrap();
            inputs.push(builder.initializer(name, tensor));
        }
        let op = Op::BatchNormalization { epsilon: EPSILON };
        let y = builder.node("norm", op, &inputs, "y");
        builder.output(y);
        builder
    }

    fn folded(builder: GraphBuilder) -> Graph {
        fold_batch_norms(builder.finish(metadata()).unwrap()).unwrap()
    }

    fn constant(graph: &Graph, name: &str) -> Vec<f32> {
        let (id, _) = (0u32..)
            .zip(graph.values())
            .find(|(_, value)| value.name == name)
            .unwrap_or_else(|| panic!("no value {name:?}"));
        let tensor = graph.initializer(ValueId(id)).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn scale(channel: usize) -> f64 {
        let variance = f64::from(VARIANCE[channel]) + f64::from(EPSILON);
        f64::from(GAMMA[channel]) / variance.sqrt()
    }

    #[track_caller]
    fn check(op: Op, weight: &[usize], channels: &[usize], bias_factor: f64) {
        let bias = [10.0, 20.0];
        let graph = folded(builder(op, weight, Some(&bias)));
        let [layer] = graph.nodes() else {
            panic!("expected one node, got {:?}", graph.nodes());
        };
        assert_eq!(layer.name, "layer");
        assert_eq!(layer.output(), graph.outputs().first().copied());
        let expected: Vec<f32> = (1..)
            .zip(channels)
            .map(|(w, channel)| (f64::from(w) * scale(*channel)) as f32)
            .collect();
        assert_eq!(constant(&graph, "w_folded"), expected);
        let expected = [0, 1].map(|c| {
            let centred = f64::from(bias[c]) * bias_factor - f64::from(MEAN[c]);
            (centred * scale(c) + f64::from(BETA[c])) as f32
        });
        assert_eq!(constant(&graph, "b_folded"), expected);
        assert_eq!(constant(&graph, "w")[0], 1.0, "the old weight is as it was");
    }

    #[test]
    fn every_layer_kind_scales_its_output_channels() {
        check(Op::Conv(conv(1)), &[2, 2, 1, 1], &[0, 0, 1, 1], 1.0);
        check(Op::Conv(conv(2)), &[2, 1, 3], &[0, 0, 0, 1, 1, 1], 1.0);
        let transposed = |groups| {
            Op::ConvTranspose(ConvTranspose {
                conv: conv(groups),
                output_padding: vec![],
                output_shape: None,
            })
        };
        check(transposed(1), &[2, 2, 1, 1], &[0, 1, 0, 1], 1.0);
        check(transposed(2), &[4, 1, 1, 1], &[0, 0, 1, 1], 1.0);
        let gemm = |trans_b| Op::Gemm {
            alpha: 1.0,
            beta: 0.5,
            trans_a: false,
            trans_b,
        };
        check(gemm(true), &[2, 2], &[0, 0, 1, 1], 0.5);
        check(gemm(false), &[2, 2], &[0, 1, 0, 1], 0.5);
    }

    #[test]
    fn a_layer_without_bias_gets_one() {
        let graph = folded(builder(Op::Conv(conv(1)), &[2, 1, 1], None));
        let expected = [0, 1].map(|c| (f64::from(BETA[c]) - f64::from(MEAN[c]) * scale(c)) as f32);
        assert_eq!(constant(&graph, "layer_bias_folded"), expected);
        assert_eq!(graph.nodes()[0].inputs.len(), 3);
    }

    #[test]
    fn a_norm_stays_where_folding_would_change_the_result() {
        let plain = || builder(Op::Conv(conv(1)), &[2, 1, 1], None);
        let mut cases = vec![];
        let mut two_readers = plain();
        let z = two_readers.value("z");
        let r = two_readers.node("relu", Op::Unary(Unary::Relu), &[z], "r");
        two_readers.output(r);
        cases.push(("two readers", two_readers));
        let mut returned = plain();
        returned.output(z);
        cases.push(("the output of the layer is returned", returned));
        let mut fed = plain();
        let gamma = fed.value("g");
        fed.initializers.remove(&gamma);
        fed.inputs.push(gamma);
        cases.push(("a parameter that is fed", fed));
        let mut wrong = plain();
        wrong.initializer("v", Tensor::new(&[1f32, 1.0, 1.0], &Device::Cpu).unwrap());
        cases.push(("a parameter of the wrong length", wrong));
        let mut negative = plain();
        negative.initializer("v", Tensor::new(&[-1f32, 1.0], &Device::Cpu).unwrap());
        cases.push(("a negative variance", negative));
        let channels = builder(Op::Conv(conv(1)), &[3, 1, 1], None);
        cases.push(("another number of channels", channels));
        for (case, builder) in cases {
            let graph = folded(builder);
            let norms = graph.nodes().iter().filter(|node| node.name == "norm");
            assert_eq!(norms.count(), 1, "{case}");
        }
    }

    #[test]
    fn a_shared_weight_is_folded_for_each_reader_alone() {
        let mut builder = builder(Op::Conv(conv(1)), &[2, 1, 1], None);
        let (x, w) = (builder.value("x"), builder.value("w"));
        let other = builder.node("other", Op::Conv(conv(1)), &[x, w], "o");
        builder.output(other);
        let graph = folded(builder);
        let other = graph.nodes().iter().find(|node| node.name == "other");
        assert_eq!(other.unwrap().input(1), Some(w));
        assert_eq!(constant(&graph, "w"), [1.0, 2.0]);
    }
}
