//! Runs graphs: kernels, executor, calibration, evaluation.

mod error;
pub mod kernels;
mod ops;

pub use error::{OpError, RunError, RunErrorKind, TensorSummary};
pub use ops::evaluate;
