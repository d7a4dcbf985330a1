//! What sums are computed with, and in which order.

use super::kernels::blocked::has_integer_dot_products;
use crate::quant::{ActivationQuantizer, Grid};

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
    /// As [`Auto`](Self::Auto), but with exact sums of inputs of up to 16 bits and with the functions of
    /// PyTorch: its numbers where layers compute with codes, bit for bit.
    PyTorch,
}

/// The widest span of the codes of an input whose sums with 8-bit weights are exact in `f32`.
const SHORT_CODES: i32 = 255;

impl Arithmetic {
    /// Whether the processor can compute so.
    pub fn is_available(self) -> bool {
        self != Self::Integer || has_integer_dot_products()
    }

    /// Whether operators are computed in ways of another runtime.
    pub(super) fn has_own_operators(self) -> bool {
        matches!(self, Self::OnnxRuntime | Self::OpenVino | Self::PyTorch)
    }

    /// Whether what follows a layer may be computed with it.
    pub(super) fn joins_followers(self) -> bool {
        !matches!(self, Self::OpenVino | Self::PyTorch)
    }

    /// Whether sums over this input are taken apart, to be exact.
    pub(super) fn takes_apart(self, input: &ActivationQuantizer) -> bool {
        let is_wide = |grid: &Grid| grid.q_max() - grid.q_min() > SHORT_CODES;
        self == Self::PyTorch && matches!(input, ActivationQuantizer::Affine(grid) if is_wide(grid))
    }

    /// Whether layers of at most 8 bits may run on integers.
    pub(super) fn takes_integers(self) -> bool {
        matches!(
            self,
            Self::Auto | Self::Integer | Self::OpenVino | Self::PyTorch
        )
    }
}
