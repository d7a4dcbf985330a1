//! What can be computed together with a convolution, while its output is in a register.

use crate::model::{Binary, Graph, Node, NodeId, Op, Unary, ValueId, Variadic};

use super::kernels::Activation;
use super::kernels::blocked::ChannelAffine;

/// Nodes that follow a convolution and read nothing else that is computed later.
#[derive(Clone, Debug)]
pub(super) struct Followers {
    /// The nodes, in order.
    pub nodes: Vec<NodeId>,
    /// Added to the convolution's output.
    pub residual: Option<ValueId>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Applied last.
    pub after: Option<ChannelAffine>,
    /// What the last of the nodes gives.
    pub output: ValueId,
    /// What the others, and the convolution itself, give: nothing else may want it.
    pub inner: Vec<ValueId>,
}

/// Follows the readers of values through a graph.
struct Readers<'a> {
    graph: &'a Graph,
    of: Vec<Vec<NodeId>>,
}

/// The followers of every node that is a convolution and has some.
pub(super) fn followers(graph: &Graph) -> Vec<Option<Followers>> {
    let mut of = vec![Vec::new(); graph.values().len()];
    for id in graph.node_ids() {
        for input in graph.node(id).inputs.iter().flatten() {
            let readers: &mut Vec<NodeId> = &mut of[input.index()];
            if readers.last() != Some(&id) {
                readers.push(id);
            }
        }
    }
    let readers = Readers { graph, of };
    graph
        .nodes()
        .iter()
        .map(|node| match (&node.op, node.output()) {
            (Op::Conv(_), Some(output)) => readers.behind(output),
            _ => None,
        })
        .collect()
}

impl Readers<'_> {
    fn behind(&self, conv: ValueId) -> Option<Followers> {
        let mut found = Followers {
            nodes: Vec::new(),
            residual: None,
            activation: Activation::None,
            after: None,
            output: conv,
            inner: Vec::new(),
        };
        if let Some((id, residual, output)) = self.addition(conv) {
            found.append(&[id], output);
            found.residual = Some(residual);
        }
        if let Some((nodes, activation, output)) = self.activation(found.output) {
            found.append(&nodes, output);
            found.activation = activation;
        }
        if let Some((id, affine, output)) = self.normalization(found.output) {
            found.append(&[id], output);
            found.after = Some(affine);
        }
        (!found.nodes.is_empty()).then_some(found)
    }

    /// The nodes that read a value, unless it leaves the graph.
    fn of(&self, id: ValueId) -> &[NodeId] {
        if self.graph.outputs().contains(&id) {
            return &[];
        }
        &self.of[id.index()]
    }

    fn node(&self, id: NodeId) -> &Node {
        self.graph.node(id)
    }

    /// An addition of another computed value.
    fn addition(&self, id: ValueId) -> Option<(NodeId, ValueId, ValueId)> {
        let &[reader] = self.of(id) else { return None };
        let node = self.node(reader);
        let is_sum = matches!(
            node.op,
            Op::Binary(Binary::Add) | Op::Variadic(Variadic::Sum)
        );
        let [Some(first), Some(second)] = node.inputs[..] else {
            return None;
        };
        let other = if first == id { second } else { first };
        (is_sum && other != id && !self.graph.is_initializer(other)).then_some((
            reader,
            other,
            node.output()?,
        ))
    }

    fn activation(&self, id: ValueId) -> Option<(Vec<NodeId>, Activation, ValueId)> {
        match *self.of(id) {
            [reader] => {
                let node = self.node(reader);
                let activation = match node.op {
                    Op::Unary(Unary::Relu) => Activation::Relu,
                    Op::Unary(Unary::LeakyRelu { alpha }) => Activation::LeakyRelu(alpha),
                    Op::Clip => self.clip(node)?,
                    _ => return None,
                };
                Some((vec![reader], activation, node.output()?))
            }
            [first, second] => {
                let (gate, product) = match (&self.node(first).op, &self.node(second).op) {
                    (Op::Unary(Unary::Sigmoid), Op::Binary(Binary::Mul)) => (first, second),
                    (Op::Binary(Binary::Mul), Op::Unary(Unary::Sigmoid)) => (second, first),
                    _ => return None,
                };
                let gated = self.node(gate).output()?;
                let inputs = &self.node(product).inputs[..];
                let is_gated =
                    inputs == [Some(id), Some(gated)] || inputs == [Some(gated), Some(id)];
                (is_gated && self.of(gated) == [product]).then_some((
                    vec![gate, product],
                    Activation::Silu,
                    self.node(product).output()?,
                ))
            }
            _ => None,
        }
    }

    /// A batch normalisation with constant parameters.
    fn normalization(&self, id: ValueId) -> Option<(NodeId, ChannelAffine, ValueId)> {
        let &[reader] = self.of(id) else { return None };
        let node = self.node(reader);
        let Op::BatchNormalization { epsilon } = node.op else {
            return None;
        };
        let parameters: Option<Vec<_>> = (1..5)
            .map(|index| self.graph.initializer(node.input(index)?).cloned())
            .collect();
        let affine = super::ops::affine_of(epsilon, parameters?)?;
        (node.input(0) == Some(id)).then_some((reader, affine, node.output()?))
    }

    fn clip(&self, node: &Node) -> Option<Activation> {
        let bound = |index: usize, absent: f32| match node.input(index) {
            None => Some(absent),
            Some(id) => {
                let tensor = self.graph.initializer(id)?.flatten_all().ok()?;
                match tensor.to_vec1::<f32>().ok()?[..] {
                    [value] => Some(value),
                    _ => None,
                }
            }
        };
        Some(Activation::Clip {
            min: bound(1, f32::NEG_INFINITY)?,
            max: bound(2, f32::INFINITY)?,
        })
    }
}

impl Followers {
    fn append(&mut self, nodes: &[NodeId], output: ValueId) {
        self.inner.push(self.output);
        self.nodes.extend(nodes);
        self.output = output;
    }

    /// The values between the convolution and the output, a gate of the activation included.
    pub(super) fn inner_values<'a>(
        &'a self,
        graph: &'a Graph,
    ) -> impl Iterator<Item = ValueId> + 'a {
        let between = self
            .nodes
            .iter()
            .flat_map(|id| graph.node(*id).outputs.iter().copied());
        self.inner
            .iter()
            .copied()
            .chain(between)
            .filter(|id| *id != self.output)
    }
}
