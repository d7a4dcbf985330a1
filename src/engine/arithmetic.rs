//! What sums are computed with, and in which order.

use super::kernels::blocked::has_integer_dot_products;

/// What layers of at most 8 bits are computed with.
///
/// The sums are the same integers with the first three, exact in `f32` as long as they stay below 2²⁴.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// Integers where the processor has dot products of 8 bits, floats elsewhere.
    #[default]
    Auto,
    /// Integers; only where the processor has dot products of 8 bits.
    Integer,
    /// Floats.
    Float,
    /// Dequantized floats, added up in the order of ONNX Runtime without graph optimisations (see
    /// [`onnx_runtime`](super::kernels::onnx_runtime)): its numbers, bit for bit, but slowly.
    OnnxRuntime,
    /// As [`Auto`](Self::Auto), but with a rounding between product and bias and with the functions of
    /// `OpenVINO`: its numbers on integers, bit for bit.
    OpenVino,
}

impl Arithmetic {
    /// Whether the processor can compute so.
    pub fn is_available(self) -> bool {
        self != Self::Integer || has_integer_dot_products()
    }

    /// Whether layers of at most 8 bits may run on integers.
    pub(super) fn takes_integers(self) -> bool {
        matches!(self, Self::Auto | Self::Integer | Self::OpenVino)
    }
}
