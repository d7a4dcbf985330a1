//! Layers whose inputs must have one width.
//!
//! An integer kernel reads all its operands in one type, and what only moves values hands their type on.
//! So tensors are tied, and with them the layers that read them:
//!
//! - several layers that read one tensor;
//! - the operands of an element-wise operator, such as the addition of a residual block;
//! - the parts of a concatenation, with its result;
//! - input and output of what moves values (Reshape, Slice, `MaxPool`, …) or is fused with the layer
//!   before it (Relu, `LeakyRelu`, Clip).
//!
//! The result of an element-wise operator is quantized anew and is tied to nothing.

use crate::model::{Binary, Graph, Layer, LayerId, Node, Op, Unary, ValueId};

/// The layers in groups whose inputs must have one width, each group in the order of the network.
///
/// Every layer is in one group; most are alone. Groups are in the order of their first layers.
pub fn input_groups(graph: &Graph, layers: &[Layer]) -> Vec<Vec<LayerId>> {
    let mut ties = Ties::new(graph.values().len());
    for node in graph.nodes() {
        tie(&mut ties, graph, node);
    }
    let mut groups: Vec<(usize, Vec<LayerId>)> = Vec::new();
    for (index, layer) in (0u32..).zip(layers) {
        let root = ties.root(layer.input.index());
        match groups.iter_mut().find(|(other, _)| *other == root) {
            Some((_, group)) => group.push(LayerId(index)),
            None => groups.push((root, vec![LayerId(index)])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn tie(ties: &mut Ties, graph: &Graph, node: &Node) {
    let activations = || {
        let inputs = node.inputs.iter().flatten().copied();
        inputs.filter(|id| !graph.is_initializer(*id))
    };
    match &node.op {
        Op::Concat { .. } => ties.join(activations().chain(node.outputs.iter().copied())),
        Op::Variadic(_) | Op::Where => ties.join(activations()),
        Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div) => {
            ties.join(activations());
        }
        op if hands_on(op) => {
            let outputs = node.outputs.iter().copied();
            ties.join(node.input(0).into_iter().chain(outputs));
        }
        _ => {}
    }
}

/// Whether the outputs hold values of the first input, at most cut off or set to zero.
fn hands_on(op: &Op) -> bool {
    matches!(
        op,
        Op::Clip
            | Op::Expand
            | Op::Flatten { .. }
            | Op::Gather { .. }
            | Op::GlobalMaxPool
            | Op::Identity
            | Op::MaxPool(_)
            | Op::Pad { .. }
            | Op::Reshape { .. }
            | Op::Slice
            | Op::Split { .. }
            | Op::Squeeze
            | Op::Tile
            | Op::Transpose { .. }
            | Op::Unary(Unary::Relu | Unary::LeakyRelu { .. })
            | Op::Unsqueeze
    )
}

/// Sets of values, each named by one of them.
struct Ties(Vec<usize>);

impl Ties {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut value: usize) -> usize {
        while self.0[value] != value {
            self.0[value] = self.0[self.0[value]];
            value = self.0[value];
        }
        value
    }

    fn join(&mut self, values: impl Iterator<Item = ValueId>) {
        let mut first = None;
        for value in values {
            let root = self.root(value.index());
            let target = *first.get_or_insert(root);
            self.0[root] = target;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Conv, Dim, ElementType, GraphBuilder, Metadata, ModelFormat, Padding, Variadic, layers,
    };
    use candle_core::{DType, Device, Tensor};

    struct Net(GraphBuilder);

    impl Net {
        fn conv(&mut self, name: &str, input: &str) {
            let weight = Tensor::zeros((4, 4, 1, 1), DType::F32, &Device::Cpu).unwrap();
            let weight = self.0.initializer(&format!("{name}.weight"), weight);
            let conv = Op::Conv(Conv {
                strides: vec![1, 1],
                padding: Padding::Explicit(vec![0; 4]),
                dilations: vec![1, 1],
                groups: 1,
            });
            let input = self.0.value(input);
            self.0.node(name, conv, &[input, weight], name);
        }

        fn op(&mut self, output: &str, op: Op, inputs: &[&str]) {
            let inputs: Vec<ValueId> = inputs.iter().map(|name| self.0.value(name)).collect();
            self.0.node(output, op, &inputs, output);
        }

        fn groups(mut self, output: &str) -> Vec<Vec<String>> {
            let output = self.0.value(output);
            self.0.output(output);
            let graph = self.0.finish(metadata()).unwrap();
            let layers = layers(&graph);
            let named = |id: &LayerId| layers[id.index()].name.clone();
            let groups = input_groups(&graph, &layers);
            groups
                .iter()
                .map(|group| group.iter().map(named).collect())
                .collect()
        }
    }

    fn metadata() -> Metadata {
        Metadata {
            name: "net".to_owned(),
            format: ModelFormat::Onnx,
            sha256: String::new(),
            producer: None,
            opset: None,
            architecture: None,
        }
    }

    fn net() -> Net {
        let mut builder = GraphBuilder::new();
        let shape = vec![Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(8), Dim::Fixed(8)];
        builder.input("x", ElementType::F32, shape);
        Net(builder)
    }

    #[test]
    fn layers_of_one_tensor_and_operands_of_an_addition_are_tied() {
        let mut net = net();
        net.conv("stem", "x");
        net.op("relu", Op::Unary(Unary::Relu), &["stem"]);
        net.conv("conv1", "relu");
        net.conv("short", "relu");
        net.op("sum", Op::Binary(Binary::Add), &["conv1", "short"]);
        net.conv("left", "sum");
        net.conv("head", "left");
        // The residual connection ties the input of `head` to that of `left`.
        net.op("sum2", Op::Variadic(Variadic::Sum), &["left", "sum"]);
        net.conv("last", "sum2");
        let expected: [&[&str]; 4] = [&["stem"], &["conv1", "short"], &["left", "head"], &["last"]];
        assert_eq!(net.groups("last"), expected);
    }

    #[test]
    fn a_concatenation_ties_its_parts_and_its_readers() {
        let mut net = net();
        net.conv("a", "x");
        net.conv("b", "a");
        net.op("both", Op::Concat { axis: 1 }, &["a", "x"]);
        net.op("part", Op::Identity, &["both"]);
        net.conv("c", "part");
        net.conv("d", "c");
        let expected: [&[&str]; 2] = [&["a", "b", "c"], &["d"]];
        assert_eq!(net.groups("d"), expected);
    }
}
