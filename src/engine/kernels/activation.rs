//! Activations that a kernel applies to its output while it is in a register.

use rten_simd::Isa;
use rten_simd::ops::{BitOps as _, NumOps as _};

/// Function applied to each output of a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `x` where `x ≥ 0`, `slope · x` elsewhere.
    LeakyRelu(f32),
    /// `min(max(x, min), max)`.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// `x / (1 + e^−x)`, also called `SiLU` or swish.
    Silu,
}

impl Activation {
    /// The function of one register. NaN stays NaN.
    #[inline(always)]
    pub(super) fn of<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        match self {
            Self::None => x,
            Self::Relu => ops.max(ops.zero(), x),
            Self::LeakyRelu(slope) => {
                ops.select(ops.mul(x, ops.splat(slope)), x, ops.lt(x, ops.zero()))
            }
            Self::Clip { min, max } => ops.min(ops.splat(max), ops.max(ops.splat(min), x)),
            Self::Silu => ops.mul(x, super::exponential::sigmoid(isa, x)),
        }
    }

    /// Applies the function in place; the length is a multiple of the number of lanes.
    #[inline(always)]
    pub(super) fn apply<I: Isa>(self, isa: I, values: &mut [f32]) {
        if self == Self::None {
            return;
        }
        let ops = isa.f32();
        for lanes in values.chunks_exact_mut(ops.len()) {
            let result = self.of(isa, ops.load(lanes));
            ops.store(result, lanes);
        }
    }
}
