//! Operators whose sums are added up in the order of ONNX Runtime's CPU kernels.
//!
//! Floats that are added in another order give another last bit, and a quantizer behind them rounds a
//! sum next to the middle between two codes to the other code. A simulation that has to give the
//! runtime's own numbers therefore has to add as the runtime does. These kernels follow MLAS, the
//! runtime's library, on x86-64 with one thread and without graph optimisations; the order was found by
//! comparing bits with ONNX Runtime 1.32. They are for comparisons, not for speed.

mod exponentials;
mod images;
mod layer_norm;
mod product;
#[cfg(test)]
mod recorded;
mod sums;

pub use exponentials::{error_function, softmax};
pub use images::{convolved, transposed_convolved};
pub use layer_norm::normalized_rows;
pub use product::{Right, matrix_product};
pub use sums::{mean, normalized_channel, sigmoid, window_average, windowless_average};
