//! Windows reduced to one pixel: all lanes of a block at once.

use std::mem::MaybeUninit;

use rten_simd::ops::{BitOps as _, FloatOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::tile::Rows;
use super::{BLOCK, Pixel};

/// What happens to the pixels of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    /// The largest of each channel.
    Max,
    /// Their sum.
    Sum,
}

/// Reduces the windows of one block of one strip.
pub(super) struct ReduceWindows<'a> {
    pub pixels: &'a [Pixel],
    pub offsets: &'a [usize],
    pub rows: Rows,
    pub reduction: Reduction,
    /// What each output pixel is divided by.
    pub divisors: Option<&'a [f32]>,
    /// Every number is written.
    pub output: &'a mut [MaybeUninit<f32>],
}

impl SimdOp for ReduceWindows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        match self.reduction {
            Reduction::Max => self.reduce(
                isa,
                f32::MIN,
                #[inline(always)]
                |best, value| ops.max(value, best),
            ),
            Reduction::Sum => self.reduce(
                isa,
                0.0,
                #[inline(always)]
                |sum, value| ops.add(sum, value),
            ),
        }
    }
}

impl ReduceWindows<'_> {
    #[inline(always)]
    fn reduce<I: Isa>(self, isa: I, start: f32, combine: impl Fn(I::F32, I::F32) -> I::F32) {
        let ops = isa.f32();
        let lanes = ops.len();
        let Rows {
            start: first,
            step,
            width,
            ..
        } = self.rows;
        let outputs = self.output.as_chunks_mut::<BLOCK>().0.iter_mut();
        for (index, output) in outputs.enumerate() {
            let pixel = first + index / width * step + index % width;
            for (register, to) in output.chunks_exact_mut(lanes).enumerate() {
                let mut result = ops.splat(start);
                for offset in self.offsets {
                    let from = &self.pixels[pixel + offset][register * lanes..];
                    result = combine(result, ops.load(from));
                }
                if let Some(divisors) = self.divisors {
                    result = ops.div(result, ops.splat(divisors[index]));
                }
                ops.store_uninit(result, to);
            }
        }
    }
}
