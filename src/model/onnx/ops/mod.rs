//! Nodes of the file, brought to the form of the newest opset.

mod composed;
mod elementwise;
mod linear;
mod resize;
mod shaping;
mod windowed;

use std::collections::BTreeSet;

use candle_core::{Device, NdArray, Tensor};

use super::attributes::{Attributes, Refusal};
use super::names::free_name;
use super::proto::NodeProto;
use crate::model::{Dim, ElementType, GraphBuilder, Initializer, Node, Op, ValueId};

/// A node on its way to an [`Op`].
#[derive(Debug)]
pub(super) struct NodeReader<'a> {
    /// Name of the node in the graph.
    pub(super) name: &'a str,
    pub(super) proto: &'a NodeProto,
    /// Opset of the default domain.
    pub(super) opset: i64,
    pub(super) attributes: Attributes<'a>,
    /// Inputs; rewritten where parameters moved between attributes and inputs.
    pub(super) inputs: Vec<Option<ValueId>>,
    /// Whether each output is read by a node or returned by the graph.
    pub(super) output_used: &'a [bool],
    pub(super) builder: &'a mut GraphBuilder,
    /// Names of all nodes, for further ones to stay clear of.
    pub(super) node_names: &'a mut BTreeSet<String>,
    /// Nodes that compute inputs of this one.
    pub(super) nodes_before: Vec<Node>,
}

/// A node that can be run.
#[derive(Debug)]
pub(super) struct ReadNode {
    pub(super) op: Op,
    pub(super) inputs: Vec<Option<ValueId>>,
    /// Nodes that compute inputs of this one, where an operator is composed of several.
    pub(super) nodes_before: Vec<Node>,
}

/// What a node computes, or `None` if its operator is not known here.
type Reading = Result<Option<Op>, Refusal>;

/// Reads what a node of the default domain computes.
///
/// # Errors
/// The reason why the node cannot be run, which names the attribute or input at fault.
pub(super) fn read_op(mut reader: NodeReader<'_>) -> Result<ReadNode, Refusal> {
    let op = read_family(&mut reader)?;
    if !matches!(op, Op::Split { .. })
        && let Some(extra) = reader.output_used.iter().skip(1).position(|used| *used)
    {
        let name = reader.proto.output.get(extra + 1);
        return Err(Refusal(format!(
            "its output {:?} is used, only the first output is supported",
            name.map_or("", String::as_str)
        )));
    }
    reader.attributes.finish()?;
    while reader.inputs.last() == Some(&None) {
        reader.inputs.pop();
    }
    Ok(ReadNode {
        op,
        inputs: reader.inputs,
        nodes_before: reader.nodes_before,
    })
}

fn read_family(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let families = [
        elementwise::read,
        linear::read,
        windowed::read,
        shaping::read,
        resize::read,
        composed::read,
    ];
    for family in families {
        if let Some(op) = family(reader)? {
            return Ok(op);
        }
    }
    Err(Refusal(unknown_operator(&reader.proto.op_type)))
}

fn unknown_operator(op_type: &str) -> String {
    match op_type {
        "QuantizeLinear"
        | "DequantizeLinear"
        | "DynamicQuantizeLinear"
        | "QLinearConv"
        | "QLinearMatMul"
        | "ConvInteger"
        | "MatMulInteger" => "this model is already quantized; open the float model".to_owned(),
        "If" | "Loop" | "Scan" => {
            "control flow is not supported; export the model by tracing, with fixed control flow"
                .to_owned()
        }
        _ => "this operator is not supported".to_owned(),
    }
}

impl NodeReader<'_> {
    /// Checks that the node has `required` inputs and at most `most`.
    fn expect_inputs(&self, required: usize, most: usize) -> Result<(), Refusal> {
        if self.inputs.len() > most {
            return Err(Refusal(format!(
                "it has {} inputs, expected at most {most}",
                self.inputs.len()
            )));
        }
        match (0..required).find(|index| self.input(*index).is_none()) {
            None => Ok(()),
            Some(missing) => Err(Refusal(format!("its input {missing} is missing"))),
        }
    }

    fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The constant tensor at an input, if it is one.
    fn constant_input(&self, index: usize) -> Option<&Initializer> {
        self.builder.initializers.get(&self.input(index)?)
    }

    /// Makes `tensor` the input at `index`, named after the node and the attribute that it was.
    fn set_input(&mut self, index: usize, attribute: &str, tensor: Tensor) {
        let id = self.add_constant(attribute, tensor);
        if self.inputs.len() <= index {
            self.inputs.resize(index + 1, None);
        }
        self.inputs[index] = Some(id);
    }

    fn add_constant(&mut self, suffix: &str, tensor: Tensor) -> ValueId {
        let name = format!("{}_{suffix}", self.name);
        let id = self.builder.fresh_value(&name);
        let value = &mut self.builder.values[id.index()];
        value.shape = Some(tensor.dims().iter().copied().map(Dim::Fixed).collect());
        value.element_type = Some(if tensor.dtype().is_int() {
            ElementType::I64
        } else {
            ElementType::F32
        });
        self.builder.initializers.insert(id, tensor.into());
        id
    }

    /// A new constant, named after the node.
    fn constant<A: NdArray>(&mut self, suffix: &str, data: A) -> Result<ValueId, Refusal> {
        let tensor = Tensor::new(data, &Device::Cpu)?;
        Ok(self.add_constant(suffix, tensor))
    }

    /// Adds a node before this one, named after it, and returns its output.
    fn add_node(&mut self, suffix: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = free_name(self.node_names, &format!("{}_{suffix}", self.name));
        let output = self.builder.fresh_value(&name);
        self.nodes_before.push(Node {
            name,
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![output],
        });
        output
    }

    /// Turns a list attribute of an older opset into the input that it became.
    fn ints_to_input(&mut self, attribute: &str, index: usize) -> Result<(), Refusal> {
        if let Some(values) = self.attributes.ints(attribute)? {
            let tensor = Tensor::new(values, &Device::Cpu)?;
            self.set_input(index, attribute, tensor);
        }
        Ok(())
    }

    /// Turns a number of an older opset into the input that it became.
    fn float_to_input(&mut self, attribute: &str, index: usize) -> Result<(), Refusal> {
        if let Some(value) = self.attributes.float(attribute)? {
            let tensor = Tensor::new(value, &Device::Cpu)?;
            self.set_input(index, attribute, tensor);
        }
        Ok(())
    }
}

fn not_supported(attribute: &str, value: &str) -> Refusal {
    Refusal(format!(
        "attribute {attribute:?} is {value:?}, which is not supported"
    ))
}

impl From<candle_core::Error> for Refusal {
    fn from(error: candle_core::Error) -> Self {
        Self(error.to_string())
    }
}

/// The value of a `Constant` node that lists numbers instead of a tensor.
///
/// # Errors
/// The attribute that is not supported.
pub(super) fn constant_numbers(
    mut attributes: Attributes<'_>,
) -> Result<(Tensor, ElementType), Refusal> {
    let device = &Device::Cpu;
    let constant = if let Some(value) = attributes.float("value_float")? {
        (Tensor::new(value, device), ElementType::F32)
    } else if let Some(values) = attributes.floats("value_floats")? {
        (Tensor::new(values, device), ElementType::F32)
    } else if let Some(value) = attributes.int("value_int")? {
        (Tensor::new(value, device), ElementType::I64)
    } else if let Some(values) = attributes.ints("value_ints")? {
        (Tensor::new(values, device), ElementType::I64)
    } else {
        attributes.finish()?;
        return Err(Refusal("it has no value".to_owned()));
    };
    attributes.finish()?;
    Ok((constant.0?, constant.1))
}
