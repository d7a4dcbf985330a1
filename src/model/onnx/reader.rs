//! Nodes, values and constants of a file.

use std::collections::BTreeSet;

use super::attributes::{Attributes, Refusal};
use super::external_data::ExternalData;
use super::ops::{self, NodeReader, ReadNode, read_op};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::tensor::{TensorError, element_type, read_tensor};
use super::{Fault, is_default_domain, malformed, names};
use crate::model::file_content::FileContent;
use crate::model::{
    Dim, ElementType, GraphBuilder, GraphError, GraphErrorKind, Initializer, Node, Op, ValueId,
};

/// Fills a builder from the graph of a file.
#[derive(Debug)]
pub(super) struct GraphReader<'a> {
    graph: &'a GraphProto,
    opset: i64,
    has_functions: bool,
    content: &'a FileContent,
    external: &'a mut ExternalData,
    builder: GraphBuilder,
    node_names: BTreeSet<String>,
}

impl<'a> GraphReader<'a> {
    /// A reader of the graph of `model`, whose operators are those of `opset` and whose file holds `content`.
    pub(super) fn new(
        model: &ModelProto,
        graph: &'a GraphProto,
        opset: i64,
        content: &'a FileContent,
        external: &'a mut ExternalData,
    ) -> Self {
        Self {
            graph,
            opset,
            has_functions: !model.functions.is_empty(),
            content,
            external,
            builder: GraphBuilder::new(),
            node_names: BTreeSet::new(),
        }
    }

    /// Reads all of the graph and its `tensors`; the edges are not checked yet.
    pub(super) fn read(mut self, tensors: Vec<TensorProto>) -> Result<GraphBuilder, Fault> {
        let graph = self.graph;
        let names = names::node_names(&graph.node);
        self.node_names.extend(names.iter().cloned());
        self.register_names(&tensors);
        self.declare_types();
        self.inputs(&tensors)?;
        self.initializers(tensors)?;
        let nodes: Vec<_> = graph.node.iter().zip(names).collect();
        // Constants first, so that the other nodes can look at them wherever they stand.
        for (proto, name) in &nodes {
            if is_constant(proto)
                && let Some(reason) = self.constant(proto, name)?
            {
                self.unsupported(proto, name.clone(), reason);
            }
        }
        let used = names::used_values(graph);
        for (proto, name) in nodes {
            if !is_constant(proto) {
                self.node(proto, name, &used);
            }
        }
        for output in &graph.output {
            let id = self.builder.value(&output.name);
            self.builder.output(id);
        }
        Ok(self.builder)
    }

    /// Claims every name of the file before new ones are invented.
    fn register_names(&mut self, tensors: &[TensorProto]) {
        let graph = self.graph;
        let declared = graph.input.iter().map(|input| &input.name);
        let constants = tensors.iter().map(|tensor| &tensor.name);
        for name in declared.chain(constants) {
            self.builder.value(name);
        }
        for node in &graph.node {
            for name in node.input.iter().chain(&node.output) {
                if !name.is_empty() {
                    self.builder.value(name);
                }
            }
        }
    }

    fn declare_types(&mut self) {
        let graph = self.graph;
        let declared = graph.input.iter().chain(&graph.output);
        for info in declared.chain(&graph.value_info) {
            let id = self.builder.value(&info.name);
            let value = &mut self.builder.values[id.index()];
            (value.element_type, value.shape) = declared_type(info);
        }
    }

    fn initializers(&mut self, tensors: Vec<TensorProto>) -> Result<(), Fault> {
        let graph = self.graph;
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().map(|values| values.name.clone());
            let reason = "sparse tensors are not supported; export the model with dense weights";
            return Err((name, malformed(reason)));
        }
        for tensor in tensors {
            let wanted = tensor.name.clone();
            let id = self.builder.value(&wanted);
            if self.builder.initializers.contains_key(&id) {
                let reason = "two tensors have this name; export the model again";
                return Err((Some(wanted), malformed(reason)));
            }
            if let Some(reason) = self.constant_tensor(tensor, id, &wanted)? {
                let name = names::free_name(&mut self.node_names, &wanted);
                self.builder.nodes.push(Node {
                    name,
                    op: Op::Unsupported {
                        op_type: "Constant".to_owned(),
                        reason,
                    },
                    inputs: Vec::new(),
                    outputs: vec![id],
                });
            }
        }
        Ok(())
    }

    /// Files of IR version 3 list the initializers among the inputs as well.
    fn inputs(&mut self, tensors: &[TensorProto]) -> Result<(), Fault> {
        let graph = self.graph;
        let mut seen = BTreeSet::new();
        let constants: BTreeSet<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        for input in &graph.input {
            if !seen.insert(&input.name) {
                let reason = "two inputs have this name; export the model again";
                return Err((Some(input.name.clone()), malformed(reason)));
            }
            if !constants.contains(input.name.as_str()) {
                let id = self.builder.value(&input.name);
                self.builder.inputs.push(id);
            }
        }
        Ok(())
    }

    /// Reads a tensor into the initializer `id`; the reason if its type is not supported.
    fn constant_tensor(
        &mut self,
        proto: TensorProto,
        id: ValueId,
        at: &str,
    ) -> Result<Option<String>, Fault> {
        match read_tensor(proto, self.content, self.external) {
            Ok((initializer, element_type)) => {
                self.set_constant(id, initializer, element_type);
                Ok(None)
            }
            Err(error @ TensorError::UnsupportedType(_)) => Ok(Some(error.to_string())),
            Err(TensorError::Invalid(kind)) => Err((Some(at.to_owned()), kind)),
        }
    }

    fn set_constant(&mut self, id: ValueId, initializer: Initializer, element_type: ElementType) {
        let value = &mut self.builder.values[id.index()];
        value.element_type = Some(element_type);
        value.shape = Some(initializer.dims().iter().copied().map(Dim::Fixed).collect());
        self.builder.initializers.insert(id, initializer);
    }

    /// Turns a `Constant` node into an initializer; the reason if that cannot be done.
    fn constant(&mut self, proto: &NodeProto, name: &str) -> Result<Option<String>, Fault> {
        let Some(output) = proto.output.first().filter(|output| !output.is_empty()) else {
            return Ok(None);
        };
        let id = self.builder.value(output);
        if self.builder.initializers.contains_key(&id) {
            let kind = GraphErrorKind::WrittenTwice(output.clone());
            return Err((None, GraphError::at(name, kind).into()));
        }
        let mut attributes = Attributes::of(proto);
        match attributes.tensor("value") {
            Ok(Some(tensor)) => return self.constant_tensor(tensor.clone(), id, name),
            Ok(None) => {}
            Err(Refusal(reason)) => return Ok(Some(reason)),
        }
        Ok(match ops::constant_numbers(attributes) {
            Ok((tensor, element_type)) => {
                self.set_constant(id, tensor.into(), element_type);
                None
            }
            Err(Refusal(reason)) => Some(reason),
        })
    }

    fn node(&mut self, proto: &'a NodeProto, name: String, used: &BTreeSet<&str>) {
        if !is_default_domain(&proto.domain) {
            let reason = self.foreign_domain(&proto.domain);
            self.unsupported(proto, name, reason);
            return;
        }
        let inputs = self.input_ids(proto);
        let output_used: Vec<bool> = proto
            .output
            .iter()
            .map(|output| used.contains(output.as_str()))
            .collect();
        let read = read_op(NodeReader {
            name: &name,
            proto,
            opset: self.opset,
            attributes: Attributes::of(proto),
            inputs,
            output_used: &output_used,
            builder: &mut self.builder,
            node_names: &mut self.node_names,
            nodes_before: Vec::new(),
        });
        match read {
            Err(Refusal(reason)) => self.unsupported(proto, name, reason),
            Ok(read) => {
                let ReadNode {
                    op,
                    inputs,
                    nodes_before,
                } = read;
                self.builder.nodes.extend(nodes_before);
                let mut outputs = self.output_ids(proto, &name);
                if !matches!(op, Op::Split { .. }) {
                    outputs.truncate(1);
                }
                self.builder.nodes.push(Node {
                    name,
                    op,
                    inputs,
                    outputs,
                });
            }
        }
    }

    fn foreign_domain(&self, domain: &str) -> String {
        if self.has_functions {
            format!(
                "operators of the domain {domain:?} are not supported; inline the model's functions with onnx.inliner.inline_local_functions"
            )
        } else {
            format!(
                "operators of the domain {domain:?} are not supported; export the model without fused operators"
            )
        }
    }

    /// Adds a node that cannot be run, with what its subgraphs read as further inputs.
    fn unsupported(&mut self, proto: &NodeProto, name: String, reason: String) {
        let mut inputs = self.input_ids(proto);
        for captured in names::captured_values(proto) {
            // Names that only exist inside of the subgraph are not values of this graph.
            let known = self.builder.find(captured);
            if known.is_some() && !inputs.contains(&known) {
                inputs.push(known);
            }
        }
        let outputs = self.output_ids(proto, &name);
        self.builder.nodes.push(Node {
            name,
            op: Op::Unsupported {
                op_type: proto.op_type.clone(),
                reason,
            },
            inputs,
            outputs,
        });
    }

    fn input_ids(&mut self, proto: &NodeProto) -> Vec<Option<ValueId>> {
        let ids = proto.input.iter();
        ids.map(|name| (!name.is_empty()).then(|| self.builder.value(name)))
            .collect()
    }

    /// The outputs without omitted trailing ones; an omitted one between others gets a new name.
    fn output_ids(&mut self, proto: &NodeProto, node: &str) -> Vec<ValueId> {
        let named = proto.output.iter().rposition(|name| !name.is_empty());
        let present = named.map_or(0, |last| last + 1);
        let outputs = proto.output.iter().take(present).enumerate();
        outputs
            .map(|(index, name)| {
                if name.is_empty() {
                    self.builder.fresh_value(&format!("{node}_unused_{index}"))
                } else {
                    self.builder.value(name)
                }
            })
            .collect()
    }
}

fn is_constant(node: &NodeProto) -> bool {
    node.op_type == "Constant" && is_default_domain(&node.domain)
}

/// Element type and shape of a declaration; lengths below 1 are unknown.
fn declared_type(info: &ValueInfoProto) -> (Option<ElementType>, Option<Vec<Dim>>) {
    let Some(tensor) = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
        return (None, None);
    };
    let shape = tensor.shape.as_ref().map(|shape| {
        let dims = shape.dim.iter();
        dims.map(|dim| match (dim.dim_value, &dim.dim_param) {
            (Some(length), _) if length > 0 => Dim::Fixed(length as usize),
            (_, Some(name)) => Dim::Symbol(name.clone()),
            _ => Dim::Symbol(String::new()),
        })
        .collect()
    });
    (element_type(tensor.elem_type).ok(), shape)
}
