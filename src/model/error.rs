//! Errors of reading and checking a network.

use std::path::{Path, PathBuf};

/// A graph that does not hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphError {
    /// Node where the problem was found, if it is at one.
    pub node: Option<String>,
    /// What is wrong.
    pub kind: GraphErrorKind,
}

/// What is wrong with a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphErrorKind {
    /// A value is read that nothing writes.
    #[error("value {0:?} is read but no node, input or initializer provides it")]
    NoSource(String),
    /// A value is written by two nodes, or by a node and an input.
    #[error("value {0:?} has more than one source")]
    WrittenTwice(String),
    /// The nodes wait for each other.
    #[error("the graph has a cycle through this node")]
    Cycle,
    /// The graph declares no outputs.
    #[error("the graph declares no outputs, so there is nothing to compute")]
    NoOutputs,
}

impl GraphError {
    pub(crate) fn new(kind: GraphErrorKind) -> Self {
        Self { node: None, kind }
    }

    pub(crate) fn at(node: &str, kind: GraphErrorKind) -> Self {
        Self {
            node: Some(node.to_owned()),
            kind,
        }
    }
}

impl std::fmt::Display for GraphError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.node {
            Some(node) => write!(f, "Node {node:?}: {}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

impl std::error::Error for GraphError {}

/// A model file that cannot be opened.
#[derive(Debug)]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// Node or tensor where reading stopped, if it is known.
    pub at: Option<String>,
    /// What is wrong, and what to do about it.
    pub kind: LoadErrorKind,
}

/// What is wrong with a model file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Io(#[from] std::io::Error),
    /// The extension is not one that is supported.
    #[error(
        "unknown model format {0:?}: expected .onnx, .safetensors, or a zip .pth/.pt state dict; export the model to ONNX"
    )]
    UnknownFormat(String),
    /// The content is not what the extension says, or is damaged.
    #[error("not a valid {format} file: {reason}")]
    Malformed {
        /// Format that was expected.
        format: &'static str,
        /// What was found, and what to do.
        reason: String,
    },
    /// The operators are of an opset that is too old.
    #[error(
        "the model uses opset {opset}, the oldest that is supported is {oldest}; convert it with onnx.version_converter.convert_version(model, 13)"
    )]
    OldOpset {
        /// Opset of the file.
        opset: i64,
        /// Oldest opset that is read.
        oldest: i64,
    },
    /// The nodes do not form a graph.
    #[error("{0}")]
    Graph(#[from] GraphError),
    /// The state dict does not match a known architecture.
    #[error("{0}")]
    UnknownArchitecture(String),
    /// A weight is NaN or infinite.
    #[error(
        "tensor {tensor:?} has {count} values that are NaN or infinite; re-export the model from a good checkpoint"
    )]
    NonFinite {
        /// Name of the tensor.
        tensor: String,
        /// How many of its elements are not finite.
        count: usize,
    },
}

impl LoadError {
    pub(crate) fn new(path: &Path, kind: impl Into<LoadErrorKind>) -> Self {
        Self {
            path: path.to_owned(),
            at: None,
            kind: kind.into(),
        }
    }
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at:?}: ")?;
        }
        write!(f, "{}\nFile: {}", self.kind, self.path.display())
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.kind)
    }
}
