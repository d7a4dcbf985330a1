//! Activations, which a kernel applies to its output while it is in a register or which run alone.

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor, bail};
use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, Simd as _, SimdOp};

use super::checked_len;
use super::parallel::for_each_chunk;
use super::written::written;
use crate::engine::slices::with_f32;

/// Elements of one task.
const CHUNK: usize = 1 << 14;

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

    /// The bounds that the function cuts a number to, if that is all it does.
    #[inline(always)]
    pub(super) fn bounds(self) -> Option<[f32; 2]> {
        match self {
            Self::None => Some([f32::NEG_INFINITY, f32::INFINITY]),
            Self::Relu => Some([0.0, f32::INFINITY]),
            Self::Clip { min, max } => Some([min, max]),
            Self::LeakyRelu(_) | Self::Silu => None,
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

/// Applies an activation to every element of an `f32` tensor.
///
/// # Errors
/// A tensor of another type.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    activate_joined(&[x], activation)
}

/// Applies an activation to `f32` tensors while it joins them along their first axis.
///
/// # Errors
/// No tensor, tensors of another type, or shapes that differ in another axis than the first.
pub fn activate_joined(parts: &[&Tensor], activation: Activation) -> Result<Tensor> {
    let Some(first) = parts.first() else {
        bail!("nothing to join");
    };
    let mut shape = first.dims().to_vec();
    for part in &parts[1..] {
        match (part.dims(), &mut shape[..]) {
            ([more, own @ ..], [length, others @ ..]) if own == others => *length += more,
            _ => bail!("cannot join {:?} with {:?}", part.dims(), first.dims()),
        }
    }
    let y = written(checked_len(&shape)?, |y| {
        let mut rest = y;
        for part in parts {
            let y;
            (y, rest) = rest.split_at_mut(part.elem_count());
            with_f32(part, |x| {
                for_each_chunk(y, CHUNK, |index, y| {
                    let x = &x[index * CHUNK..][..y.len()];
                    Chunk(activation, x, y).dispatch();
                });
                Ok(())
            })?;
        }
        Ok(())
    })?;
    Tensor::from_vec(y, shape, first.device())
}

struct Chunk<'a>(Activation, &'a [f32], &'a mut [MaybeUninit<f32>]);

impl SimdOp for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(activation, x, y) = self;
        let ops = isa.f32();
        let lanes = ops.len();
        let whole = x.len() / lanes * lanes;
        for (x, y) in x.chunks_exact(lanes).zip(y.chunks_exact_mut(lanes)) {
            ops.store_uninit(activation.of(isa, ops.load(x)), y);
        }
        for (x, y) in x[whole..].iter().zip(&mut y[whole..]) {
            let result = activation.of(isa, ops.splat(*x));
            y.write(result.to_array()[0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn parts_are_joined_and_activated() -> Result<()> {
        let image = |samples: usize, shift: f32| {
            let values = (0..samples * 21).map(|i| i as f32 - shift).collect();
            Tensor::from_vec(values, (samples, 3, 7), &Device::Cpu)
        };
        let (first, second) = (image(2, 20.0)?, image(1, 9.5)?);
        // A part may be a view of more samples.
        let second = Tensor::cat(&[&first, &second], 0)?.narrow(0, 2, 1)?;
        for activation in [Activation::Relu, Activation::LeakyRelu(0.1)] {
            let joined = activate_joined(&[&first, &second], activation)?;
            let expected = activate(&Tensor::cat(&[&first, &second], 0)?, activation)?;
            assert_eq!(joined.to_vec3::<f32>()?, expected.to_vec3::<f32>()?);
            assert_eq!(
                joined.to_vec3::<f32>()?[0][0][0],
                match activation {
                    Activation::LeakyRelu(slope) => -20.0 * slope,
                    _ => 0.0,
                }
            );
        }
        assert!(activate_joined(&[&first, &second.t()?], Activation::Relu).is_err());
        assert!(activate_joined(&[], Activation::Relu).is_err());
        Ok(())
    }
}
