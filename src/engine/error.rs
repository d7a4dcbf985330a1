//! Errors of running a network.

use candle_core::DType;

use super::value::Value;
use crate::data::DataError;
use crate::jobs::Cancelled;
use crate::model::{Layer, Node};

/// Why an operator cannot be computed from its inputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// The engine has no implementation for this operator or this use of it.
    #[error("{reason}")]
    Unsupported {
        /// What is not supported, and what to do instead.
        reason: String,
    },
    /// A required input is absent.
    #[error("input {0} is missing")]
    MissingInput(usize),
    /// An input has an element type that the operator does not take.
    #[error("{what} has elements of type {}, expected {expected}", type_name(*found))]
    ElementType {
        /// Which input.
        what: String,
        /// The type it has.
        found: DType,
        /// The types it may have.
        expected: &'static str,
    },
    /// Shapes that do not fit the operator or each other.
    #[error("{0}")]
    Shape(String),
    /// A tensor would be larger than the engine allows.
    #[error(
        "a tensor of shape {shape:?} would have more than {limit} elements; use a smaller input or batch"
    )]
    TooLarge {
        /// The shape that was asked for.
        shape: Vec<usize>,
        /// The most elements that a tensor may have.
        limit: usize,
    },
    /// Tensor storage refused the operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A parameter has a value that makes no sense.
    #[error("{0}")]
    Message(String),
}

/// Element type and shape of a tensor, as messages show it: `f32[1,3,32,32]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSummary {
    /// Element type; `U8` stands for booleans.
    pub dtype: DType,
    /// Length of every axis.
    pub shape: Vec<usize>,
}

impl std::fmt::Display for TensorSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[", type_name(self.dtype))?;
        for (axis, length) in self.shape.iter().enumerate() {
            let separator = if axis == 0 { "" } else { "," };
            write!(f, "{separator}{length}")?;
        }
        write!(f, "]")
    }
}

/// Name of an engine type; booleans are stored as `U8`.
fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::U8 => "bool",
        other => other.as_str(),
    }
}

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// The run was asked to stop; nothing needs to be shown.
    #[error("Cancelled")]
    Cancelled,
    /// A node cannot be computed.
    #[error(transparent)]
    Op(OpError),
    /// Something around the nodes does not fit: the plan, the data, the model's inputs.
    #[error("{0}")]
    Message(String),
}

/// A run that stopped before its end.
#[derive(Debug)]
pub struct RunError {
    /// Name of the node where it stopped, if it was at one.
    pub node: Option<String>,
    /// ONNX name of the node's operator.
    pub op: Option<String>,
    /// What is wrong.
    pub kind: Box<RunErrorKind>,
    /// The node's inputs; `None` is an omitted optional input.
    pub inputs: Vec<Option<TensorSummary>>,
}

impl RunError {
    /// A node that cannot be computed from these inputs.
    pub(super) fn node(node: &Node, inputs: &[Option<Value>], error: OpError) -> Self {
        Self {
            node: Some(node.name.clone()),
            op: Some(node.op.name().to_owned()),
            kind: Box::new(RunErrorKind::Op(error)),
            inputs: inputs
                .iter()
                .map(|input| input.as_ref().map(Value::summary))
                .collect(),
        }
    }

    /// A layer that cannot be run as planned.
    pub(crate) fn layer(layer: &Layer, reason: String) -> Self {
        Self {
            node: Some(layer.name.clone()),
            op: Some(layer.op.clone()),
            ..Self::message(reason)
        }
    }

    /// A reason that belongs to no node.
    pub(crate) fn message(reason: String) -> Self {
        Self {
            node: None,
            op: None,
            kind: Box::new(RunErrorKind::Message(reason)),
            inputs: Vec::new(),
        }
    }

    /// Whether the run was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.kind, RunErrorKind::Cancelled)
    }
}

impl From<Cancelled> for RunError {
    fn from(_: Cancelled) -> Self {
        Self {
            kind: Box::new(RunErrorKind::Cancelled),
            ..Self::message(String::new())
        }
    }
}

impl From<candle_core::Error> for RunError {
    fn from(error: candle_core::Error) -> Self {
        Self::message(error.to_string())
    }
}

impl From<DataError> for RunError {
    fn from(error: DataError) -> Self {
        Self::message(error.to_string())
    }
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "Node {node:?}")?;
            if let Some(op) = &self.op {
                write!(f, " ({op})")?;
            }
            f.write_str(": ")?;
        }
        write!(f, "{}", self.kind)?;
        for (index, input) in self.inputs.iter().enumerate() {
            f.write_str(if index == 0 { "; inputs " } else { ", " })?;
            match input {
                Some(summary) => write!(f, "{summary}")?,
                None => f.write_str("none")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::CancelToken;
    use crate::model::{Op, Unary};
    use candle_core::{Device, Tensor};

    fn node(op: Op) -> Node {
        Node {
            name: "n1".to_owned(),
            op,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    #[test]
    fn message_names_node_op_reason_and_inputs() {
        let x = Tensor::zeros((1, 3), DType::F32, &Device::Cpu)
            .expect("allocates")
            .into();
        let s = Tensor::zeros((), DType::U8, &Device::Cpu)
            .expect("allocates")
            .into();
        let error = RunError::node(
            &node(Op::Where),
            &[Some(x), None, Some(s)],
            OpError::Shape("3 channels, expected 4".to_owned()),
        );
        assert_eq!(
            error.to_string(),
            "Node \"n1\" (Where): 3 channels, expected 4; inputs f32[1,3], none, bool[]"
        );
    }

    #[test]
    fn messages_say_no_more_than_is_known() {
        let error = RunError::node(&node(Op::Unary(Unary::Neg)), &[], OpError::MissingInput(0));
        assert_eq!(error.to_string(), "Node \"n1\" (Neg): input 0 is missing");
        assert!(!error.is_cancelled());
        let error = RunError::message("No samples".to_owned());
        assert_eq!(error.to_string(), "No samples");
        let token = CancelToken::default();
        token.cancel();
        let cancelled = token.check().map_err(RunError::from);
        assert!(cancelled.is_err_and(|error| error.is_cancelled()));
    }
}
