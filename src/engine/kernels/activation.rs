//! Activations that a kernel applies to its output while it is in the cache.

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
}

impl Activation {
    /// Applies the function in place; the length is a multiple of the number of lanes. NaN stays NaN.
    #[inline(always)]
    pub(super) fn apply<I: Isa>(self, isa: I, values: &mut [f32]) {
        let ops = isa.f32();
        match self {
            Self::None => {}
            Self::Relu => {
                let zero = ops.zero();
                map_lanes(
                    isa,
                    values,
                    #[inline(always)]
                    |x| ops.max(zero, x),
                );
            }
            Self::LeakyRelu(slope) => {
                let (zero, slope) = (ops.zero(), ops.splat(slope));
                map_lanes(
                    isa,
                    values,
                    #[inline(always)]
                    |x| ops.select(ops.mul(x, slope), x, ops.lt(x, zero)),
                );
            }
            Self::Clip { min, max } => {
                let (min, max) = (ops.splat(min), ops.splat(max));
                map_lanes(
                    isa,
                    values,
                    #[inline(always)]
                    |x| ops.min(max, ops.max(min, x)),
                );
            }
        }
    }
}

#[inline(always)]
fn map_lanes<I: Isa>(isa: I, values: &mut [f32], function: impl Fn(I::F32) -> I::F32) {
    let ops = isa.f32();
    for lanes in values.chunks_exact_mut(ops.len()) {
        let result = function(ops.load(lanes));
        ops.store(result, lanes);
    }
}
