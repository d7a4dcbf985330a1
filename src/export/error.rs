//! Why a plan cannot be exported.

use super::tflite::Refusal;
use crate::engine::RunError;
use crate::model::LoadError;

/// Why a plan cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The model file cannot be read again.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A weight cannot be quantized.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A layer or node cannot be written.
    #[error("{node:?}: {reason}")]
    Node {
        /// Name of the node.
        node: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Nodes that the target has no operators for.
    #[error("{}", unsupported(.0))]
    Unsupported(Vec<Refusal>),
    /// Anything else.
    #[error("{0}")]
    Message(String),
}

/// All refusals, one line for each node.
fn unsupported(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals
        .iter()
        .map(|one| format!("  {} {:?}: {}", one.op, one.node, one.reason))
        .collect();
    format!(
        "TFLite cannot express {} of the nodes:\n{}",
        refusals.len(),
        lines.join("\n")
    )
}

impl ExportError {
    pub(super) fn node(node: &str, reason: impl Into<String>) -> Self {
        Self::Node {
            node: node.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn damaged() -> Self {
        Self::Message(
            "the model file is damaged or cut off; download or export it again".to_owned(),
        )
    }
}
