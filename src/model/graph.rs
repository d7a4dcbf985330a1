//! The network as a directed acyclic graph of operators.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::error::{GraphError, GraphErrorKind};
use super::initializer::Initializer;
use super::op::Op;

/// Index of a [`Node`] in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Index of a [`Value`] in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl NodeId {
    /// Position in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ValueId {
    /// Position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Element type that the file declares for a value.
///
/// The engine computes in fewer types: all floats as `F32`, all integers as `I64`, booleans as `U8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum ElementType {
    F32,
    F64,
    F16,
    BF16,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
}

impl ElementType {
    /// Name as it is shown to people, for example `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::Bool => "bool",
        }
    }

    /// Bytes of one element in a file.
    pub(super) fn size_bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether this is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }
}

/// One axis of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A length known from the file.
    Fixed(usize),
    /// A named or anonymous length that the input decides, usually the batch.
    Symbol(String),
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(name) if name.is_empty() => write!(f, "?"),
            Self::Symbol(name) => write!(f, "{name}"),
        }
    }
}

/// A tensor that flows along an edge, or an initializer.
#[derive(Clone, Debug, Default)]
pub struct Value {
    /// Name from the file.
    pub name: String,
    /// Declared element type, where the file declares one.
    pub element_type: Option<ElementType>,
    /// Declared shape, where the file declares one.
    pub shape: Option<Vec<Dim>>,
}

/// One operator applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name from the file; a node without one is named after its first output.
    pub name: String,
    /// What the node computes.
    pub op: Op,
    /// Inputs in the order of the operator's definition; `None` is an omitted optional input.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs in the order of the operator's definition; omitted trailing outputs are absent.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// The input at `index`, if it is present.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The first output.
    pub fn output(&self) -> Option<ValueId> {
        self.outputs.first().copied()
    }
}

/// Format that a graph was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFormat {
    /// An ONNX file.
    Onnx,
    /// A `.safetensors` state dict with a recognised architecture.
    SafeTensors,
    /// A zip `.pth` state dict with a recognised architecture.
    Pth,
}

impl ModelFormat {
    /// Name as it appears in JSON and on screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::SafeTensors => "safetensors",
            Self::Pth => "pth",
        }
    }
}

/// Where a graph came from.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// File name without its folder.
    pub name: String,
    /// Format of the file.
    pub format: ModelFormat,
    /// SHA-256 of the file (and of its external data), in lower-case hexadecimal.
    pub sha256: String,
    /// Program that wrote the file, if it says so.
    pub producer: Option<String>,
    /// Opset of the default domain, for ONNX.
    pub opset: Option<i64>,
    /// What the reader recognised, for example `ResNet-20 (CIFAR)`; `None` for ONNX.
    pub architecture: Option<String>,
}

/// An immutable network in topological order.
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    values: Vec<Value>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    initializers: BTreeMap<ValueId, Initializer>,
    metadata: Metadata,
}

impl Graph {
    /// Nodes, each after the nodes that it reads from.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Ids of all nodes in topological order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// All values, initializers included.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Values that the caller feeds; initializers are not among them.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Values that the network returns.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Constant tensors: weights, biases, shapes.
    pub fn initializers(&self) -> &BTreeMap<ValueId, Initializer> {
        &self.initializers
    }

    /// Whether a value is a constant tensor.
    pub fn is_initializer(&self, id: ValueId) -> bool {
        self.initializers.contains_key(&id)
    }

    /// The constant tensor of a value, if it is one; made on first use.
    ///
    /// There is none either, and a line in the log, where another program wrote to the model's file
    /// in the meantime; [`Initializer::tensor`] gives that as an error.
    pub fn initializer(&self, id: ValueId) -> Option<&Tensor> {
        let tensor = self.initializers.get(&id)?.tensor();
        tensor
            .inspect_err(|error| tracing::error!(name = self.value(id).name, "{error}"))
            .ok()
    }

    /// Where the graph came from.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The node that writes each value, indexed by [`ValueId`].
    pub fn producers(&self) -> Vec<Option<NodeId>> {
        let mut producers = vec![None; self.values.len()];
        for id in self.node_ids() {
            for output in &self.node(id).outputs {
                producers[output.index()] = Some(id);
            }
        }
        producers
    }

    /// The nodes that read each value, indexed by [`ValueId`], in topological order.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.values.len()];
        for id in self.node_ids() {
            for input in self.node(id).inputs.iter().flatten() {
                let readers: &mut Vec<NodeId> = &mut consumers[input.index()];
                if readers.last() != Some(&id) {
                    readers.push(id);
                }
            }
        }
        consumers
    }

    /// Takes the graph apart to rewrite it; [`GraphBuilder::finish`] puts it together again.
    pub fn into_builder(self) -> GraphBuilder {
        GraphBuilder {
            by_name: BTreeMap::new(),
            last_suffixes: BTreeMap::new(),
            nodes: self.nodes,
            values: self.values,
            inputs: self.inputs,
            outputs: self.outputs,
            initializers: self.initializers,
        }
        .indexed()
    }
}

/// Collects nodes and values by name and checks them into a [`Graph`].
#[derive(Clone, Debug, Default)]
pub struct GraphBuilder {
    by_name: BTreeMap<String, ValueId>,
    /// Suffixes up to these are taken, so that many values of one name do not try them all again.
    last_suffixes: BTreeMap<String, usize>,
    /// Nodes in any order.
    pub nodes: Vec<Node>,
    /// Values; a [`ValueId`] is an index into this list.
    pub values: Vec<Value>,
    /// Graph inputs.
    pub inputs: Vec<ValueId>,
    /// Graph outputs.
    pub outputs: Vec<ValueId>,
    /// Constant tensors.
    pub initializers: BTreeMap<ValueId, Initializer>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    fn indexed(mut self) -> Self {
        self.by_name = (0u32..)
            .zip(&self.values)
            .map(|(index, value)| (value.name.clone(), ValueId(index)))
            .collect();
        self
    }

    /// The value called `name`, created on first use.
    pub fn value(&mut self, name: &str) -> ValueId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = ValueId(self.values.len() as u32);
        self.values.push(Value {
            name: name.to_owned(),
            ..Value::default()
        });
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// The value called `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.by_name.get(name).copied()
    }

    /// A value whose name starts with `name` and is not taken yet.
    pub fn fresh_value(&mut self, name: &str) -> ValueId {
        if !self.by_name.contains_key(name) {
            return self.value(name);
        }
        let suffix = self.last_suffixes.entry(name.to_owned()).or_default();
        let unique = loop {
            *suffix += 1;
            let unique = format!("{name}_{suffix}");
            if !self.by_name.contains_key(&unique) {
                break unique;
            }
        };
        self.value(&unique)
    }

    /// Declares a graph input with its shape.
    pub fn input(&mut self, name: &str, element_type: ElementType, shape: Vec<Dim>) -> ValueId {
        let id = self.value(name);
        let value = &mut self.values[id.index()];
        value.element_type = Some(element_type);
        value.shape = Some(shape);
        self.inputs.push(id);
        id
    }

    /// Declares a graph output.
    pub fn output(&mut self, id: ValueId) {
        self.outputs.push(id);
    }

    /// Adds a constant tensor under a name.
    pub fn initializer(&mut self, name: &str, tensor: impl Into<Initializer>) -> ValueId {
        let id = self.value(name);
        self.initializers.insert(id, tensor.into());
        id
    }

    /// Adds a node with a single new output called `output`, and returns that output.
    pub fn node(&mut self, name: &str, op: Op, inputs: &[ValueId], output: &str) -> ValueId {
        let out = self.value(output);
        self.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![out],
        });
        out
    }

    /// Gives an input of a node a constant of its own, named after what it replaces.
    ///
    /// The old constant stays for other readers; where the input was left out, the new one is named after
    /// the node. Ids of nodes and values stay what they are.
    pub fn replace_constant(
        &mut self,
        node: NodeId,
        slot: usize,
        suffix: &str,
        constant: Initializer,
    ) {
        let Some(reader) = self.nodes.get(node.index()) else {
            return;
        };
        let old = reader.input(slot);
        let base = match old {
            Some(old) => self.values[old.index()].name.clone(),
            None => format!("{}_input_{slot}", reader.name),
        };
        let id = self.fresh_value(&format!("{base}_{suffix}"));
        if let Some(old) = old {
            self.values[id.index()].element_type = self.values[old.index()].element_type;
        }
        self.initializers.insert(id, constant);
        let inputs = &mut self.nodes[node.index()].inputs;
        if inputs.len() <= slot {
            inputs.resize(slot + 1, None);
        }
        inputs[slot] = Some(id);
    }

    /// Sorts the nodes topologically and checks that every value has exactly one source.
    ///
    /// # Errors
    /// A value without a source, a value with two, a cycle, or a graph without outputs.
    pub fn finish(self, metadata: Metadata) -> Result<Graph, GraphError> {
        let order = topological_order(&self)?;
        let mut nodes: Vec<_> = self.nodes.into_iter().map(Some).collect();
        let nodes = order
            .into_iter()
            .filter_map(|index| nodes[index].take())
            .collect();
        if self.outputs.is_empty() {
            return Err(GraphError::new(GraphErrorKind::NoOutputs));
        }
        Ok(Graph {
            nodes,
            values: self.values,
            inputs: self.inputs,
            outputs: self.outputs,
            initializers: self.initializers,
            metadata,
        })
    }
}

/// Indices of the nodes, each after those of the nodes that it reads from.
fn topological_order(builder: &GraphBuilder) -> Result<Vec<usize>, GraphError> {
    let mut source: Vec<Option<usize>> = vec![None; builder.values.len()];
    let mut fed = vec![false; builder.values.len()];
    for id in builder.inputs.iter().chain(builder.initializers.keys()) {
        fed[id.index()] = true;
    }
    for (index, node) in builder.nodes.iter().enumerate() {
        for output in &node.outputs {
            if fed[output.index()] || source[output.index()].is_some() {
                return Err(GraphError::at(
                    &node.name,
                    GraphErrorKind::WrittenTwice(builder.values[output.index()].name.clone()),
                ));
            }
            source[output.index()] = Some(index);
        }
    }
    let mut waiting_for = vec![0usize; builder.nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); builder.nodes.len()];
    for (index, node) in builder.nodes.iter().enumerate() {
        for input in node.inputs.iter().flatten() {
            match source[input.index()] {
                Some(from) => {
                    waiting_for[index] += 1;
                    readers[from].push(index);
                }
                None if fed[input.index()] => {}
                None => {
                    return Err(GraphError::at(
                        &node.name,
                        GraphErrorKind::NoSource(builder.values[input.index()].name.clone()),
                    ));
                }
            }
        }
    }
    for output in &builder.outputs {
        if source[output.index()].is_none() && !fed[output.index()] {
            return Err(GraphError::new(GraphErrorKind::NoSource(
                builder.values[output.index()].name.clone(),
            )));
        }
    }
    order_by_readiness(builder, waiting_for, &readers)
}

/// Kahn's algorithm that keeps the file's order wherever the edges allow it.
fn order_by_readiness(
    builder: &GraphBuilder,
    mut waiting_for: Vec<usize>,
    readers: &[Vec<usize>],
) -> Result<Vec<usize>, GraphError> {
    let mut ready: std::collections::BTreeSet<usize> = waiting_for
        .iter()
        .enumerate()
        .filter(|(_, count)| **count == 0)
        .map(|(index, _)| index)
        .collect();
    let mut order = Vec::with_capacity(builder.nodes.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for reader in &readers[index] {
            waiting_for[*reader] -= 1;
            if waiting_for[*reader] == 0 {
                ready.insert(*reader);
            }
        }
    }
    match waiting_for.iter().position(|count| *count > 0) {
        Some(stuck) => Err(GraphError::at(
            &builder.nodes[stuck].name,
            GraphErrorKind::Cycle,
        )),
        None => Ok(order),
    }
}
