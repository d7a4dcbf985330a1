//! Sums and maxima over windows of one channel: depthwise convolution and pools.

use rten_simd::ops::{BitOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::Activation;
use super::planes::ShiftedPlanes;

/// Registers of one tile.
const TILE_REGISTERS: usize = 4;

/// Number of positions that one tile covers on this processor.
pub(super) fn window_tile_width() -> usize {
    struct Lanes;
    impl SimdOp for Lanes {
        type Output = usize;
        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) -> usize {
            isa.f32().len()
        }
    }
    TILE_REGISTERS * Lanes.dispatch()
}

/// What happens to the elements of a window.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reduction<'a> {
    /// The largest element.
    Max,
    /// The sum of the elements.
    Sum,
    /// A sum with one weight an element that starts at a bias, then an activation.
    WeightedSum {
        weights: &'a [f32],
        bias: f32,
        activation: Activation,
    },
}

/// Reduces the window at each output position of one channel.
struct ReduceWindows<'a> {
    layout: &'a ShiftedPlanes,
    planes: &'a [f32],
    reduction: Reduction<'a>,
    /// One element for each output position.
    positions: &'a mut [f32],
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
                |best, value, _| ops.max(value, best),
            ),
            Reduction::Sum => self.reduce(
                isa,
                0.0,
                #[inline(always)]
                |sum, value, _| ops.add(sum, value),
            ),
            Reduction::WeightedSum {
                weights,
                bias,
                activation,
            } => {
                let positions = self.reduce(
                    isa,
                    bias,
                    #[inline(always)]
                    |sum, value, tap| ops.mul_add(ops.splat(weights[tap]), value, sum),
                );
                activation.apply(isa, positions);
                positions
            }
        };
    }
}

impl<'a> ReduceWindows<'a> {
    /// Folds `combine(result, value, kernel element)` over each window, from `start`.
    #[inline(always)]
    fn reduce<I: Isa>(
        self,
        isa: I,
        start: f32,
        combine: impl Fn(I::F32, I::F32, usize) -> I::F32,
    ) -> &'a mut [f32] {
        let ops = isa.f32();
        let lanes = ops.len();
        for tile in &self.layout.tiles {
            let inputs = &self.planes[tile.start..];
            let mut results = [ops.splat(start); TILE_REGISTERS];
            for (element, tap) in self.layout.taps.iter().enumerate() {
                let values = ops.load_many::<TILE_REGISTERS>(&inputs[*tap..]);
                for (result, value) in results.iter_mut().zip(values) {
                    *result = combine(*result, value, element);
                }
            }
            let to = &mut self.positions[tile.start..tile.start + TILE_REGISTERS * lanes];
            for (to, result) in to.chunks_exact_mut(lanes).zip(results) {
                ops.store(result, to);
            }
        }
        self.positions
    }
}

/// Buffers that a thread keeps between channels.
#[derive(Default)]
pub(super) struct ChannelBuffers {
    planes: Vec<f32>,
    positions: Vec<f32>,
}

/// Reduces all windows of one channel `[height, width]`, with `padding` around it.
pub(super) fn reduce_channel(
    layout: &ShiftedPlanes,
    reduction: Reduction<'_>,
    image: &[f32],
    padding: f32,
    buffers: &mut ChannelBuffers,
    output: &mut [f32],
) {
    let Some(len) = layout.buffer_len(1) else {
        return;
    };
    buffers.planes.resize(len, 0.0);
    buffers.positions.resize(layout.positions_len(), 0.0);
    layout.fill_channel(image, padding, &mut buffers.planes);
    ReduceWindows {
        layout,
        planes: &buffers.planes,
        reduction,
        positions: &mut buffers.positions,
    }
    .dispatch();
    layout.compact(&buffers.positions, output);
}
