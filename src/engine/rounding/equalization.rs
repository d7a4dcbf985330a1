//! Cross-layer equalization (to come).
use std::sync::Arc;
use crate::engine::executor::Executor;
/// x
pub fn equalized(executor: &Arc<Executor>) -> Arc<Executor> { Arc::clone(executor) }
