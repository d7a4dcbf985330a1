//! How a run of a network is watched and stopped, and what it keeps.

use super::error::RunError;
use super::value::Value;
use crate::jobs::CancelToken;
use crate::model::{LayerId, ValueId};
use crate::quant::SliceErrors;

/// What a run keeps.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// The graph's outputs.
    Outputs,
    /// These values.
    Values(&'a [ValueId]),
    /// Every value that is computed.
    Everything,
}

/// One layer as it ran.
#[derive(Debug)]
pub struct LayerTap<'a> {
    /// The layer.
    pub layer: LayerId,
    /// Its input before quantization.
    pub input: &'a Value,
    /// Its output.
    pub output: &'a Value,
    /// Error of quantizing the input; zero noise for a float input. Only in observed runs.
    pub input_errors: Option<SliceErrors>,
}

/// Sees every layer of a run as it ends.
pub type Tap<'a> = dyn FnMut(LayerTap<'_>) -> Result<(), RunError> + 'a;

/// Sees the input of every layer of a run before it is computed.
pub(super) type InputTap<'a> = dyn FnMut(LayerId, &Value) -> Result<(), RunError> + 'a;

/// How a run is watched and stopped.
pub struct RunOptions<'a> {
    /// What to keep.
    pub keep: Keep<'a>,
    /// Checked before every node.
    pub cancel: &'a CancelToken,
    /// Called after every layer; `None` also skips measuring input errors.
    pub tap: Option<&'a mut Tap<'a>>,
}

impl std::fmt::Debug for RunOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions")
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}
