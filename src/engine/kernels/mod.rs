//! Numeric kernels on the processor, as candle custom operations.
//!
//! A kernel takes `f32` tensors in row-major order, or images in blocks of channels ([`blocked`]), and
//! runs in the rayon pool of its caller. Work is split over samples, groups and output channels, never
//! within a sum, so that the result is the same for any number of threads.

#![expect(
    clippy::inline_always,
    reason = "code for wide registers has to be inlined into the function that enables them"
)]

mod activation;
pub mod blocked;
mod conv;
mod conv_transpose;
mod depthwise;
mod exponential;
mod fake_quantize;
mod gemm;
mod geometry;
mod lrn;
mod matmul;
pub mod onnx_runtime;
pub mod openvino;
pub mod parallel;
mod planes;
mod pool;
pub mod pytorch;
mod resize;
mod scratch;
#[cfg(test)]
mod testing;
mod written;

pub use activation::{Activation, activate, activate_joined};
pub use conv::{ConvWeights, conv2d};
pub use conv_transpose::{ConvTransposeWeights, conv_transpose2d};
pub use exponential::sigmoid_slice;
pub use fake_quantize::{fake_quantize, fake_quantize_observed, quantization_errors};
pub use geometry::{ConvGeometry, PoolGeometry};
pub use lrn::{LrnParameters, lrn};
pub use matmul::{MatMulWeights, matmul_packed};
pub use pool::{average_pool2d, global_average_pool, global_max_pool, max_pool2d};
pub use resize::resize;

use candle_core::{CpuStorage, Layout, Result, bail};

/// Largest number of elements that a kernel allocates for one tensor.
const MAX_ELEMENTS: usize = 1 << 30;

/// Product of `dims`.
///
/// # Errors
/// A product above the largest tensor that the kernels allocate.
fn checked_len(dims: &[usize]) -> Result<usize> {
    let product = if dims.contains(&0) {
        Some(0)
    } else {
        dims.iter()
            .try_fold(1usize, |product, dim| product.checked_mul(*dim))
    };
    match product {
        Some(len) if len <= MAX_ELEMENTS => Ok(len),
        _ => bail!("a tensor of shape {dims:?} exceeds {MAX_ELEMENTS} elements"),
    }
}

/// The elements of a contiguous `f32` tensor.
fn contiguous_f32<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("input has another element type than f32");
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("input is not contiguous"),
    }
}
