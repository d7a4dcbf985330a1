//! Sums of products of 8-bit codes, by the dot-product instructions of the processor.
//!
//! ```text
//! Σ (q_x − z)·q_w = Σ q_x·q_w − z·Σ q_w        q_x: u8, q_w: i8, sums: i32
//! ```
//! The sums are exact; what follows them is the same arithmetic as in the float kernel.

use std::mem::MaybeUninit;

use rten_simd::ops::BitOps as _;
use rten_simd::{Isa, SimdOp};

use super::finish::Finish;
use super::strips::Fill;
use super::tile::{Rows, Step};
use super::{BLOCK, Pixel};
use crate::quant::Grid;

/// Channels that one instruction multiplies.
const QUAD: usize = 4;

/// Four weights of each of 16 outputs.
type Quads = [i8; BLOCK * QUAD];

/// Weights in steps that fit 8 bits.
#[derive(Debug)]
pub(super) struct IntegerWeights {
    /// `[input blocks, kernel elements, channels / 4]` for each output block.
    quads: Vec<Quads>,
    quads_per_block: usize,
    /// `Σ q_w` of each output.
    sums: Vec<[i32; BLOCK]>,
}

impl IntegerWeights {
    /// Packs steps `[out, in, kernel]` of 8 bits.
    pub(super) fn pack(steps: &[f32], [out, inputs, kernel]: [usize; 3]) -> Self {
        let quads_per_block = kernel
            * (0..inputs)
                .step_by(BLOCK)
                .map(|first| BLOCK.min(inputs - first).div_ceil(QUAD))
                .sum::<usize>();
        let step = |output: usize, input: usize, element: usize| {
            if output < out && input < inputs {
                steps[(output * inputs + input) * kernel + element] as i8
            } else {
                0
            }
        };
        let mut quads = Vec::with_capacity(out.div_ceil(BLOCK) * quads_per_block);
        let mut sums = Vec::with_capacity(out.div_ceil(BLOCK));
        for first_out in (0..out).step_by(BLOCK) {
            let mut block_sums = [0i32; BLOCK];
            for first_in in (0..inputs).step_by(BLOCK) {
                for element in 0..kernel {
                    for quad in (first_in..inputs.min(first_in + BLOCK)).step_by(QUAD) {
                        let row: Quads = std::array::from_fn(|place| {
                            step(first_out + place / QUAD, quad + place % QUAD, element)
                        });
                        for (sum, own) in block_sums.iter_mut().zip(row.as_chunks::<QUAD>().0) {
                            *sum += own.iter().map(|q| i32::from(*q)).sum::<i32>();
                        }
                        quads.push(row);
                    }
                }
            }
            sums.push(block_sums);
        }
        Self {
            quads,
            quads_per_block,
            sums,
        }
    }

    /// One output block of one strip.
    pub(super) fn convolve_block(
        &self,
        block: usize,
        codes: &[[u8; BLOCK]],
        steps: &[Step],
        rows: Rows,
        grid: &Grid,
        finish: Finish<'_>,
        output: &mut [MaybeUninit<f32>],
    ) {
        let zero = grid.zero_point() - grid.q_min();
        let start = self.sums[block].map(|sum| -zero * sum);
        let quads = &self.quads[block * self.quads_per_block..][..self.quads_per_block];
        DotProducts {
            codes,
            steps,
            quads,
            rows,
            start,
            finish,
            output,
        }
        .run();
    }
}

/// Applies what has no instruction of its own to finished pixels.
struct Finished<'a>(Finish<'a>, &'a mut [Pixel]);

impl SimdOp for Finished<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        for pixel in self.1 {
            for (register, lanes) in pixel.chunks_exact_mut(ops.len()).enumerate() {
                let y = self.0.of(isa, ops.load(lanes), register);
                ops.store(y, lanes);
            }
        }
    }
}

/// The input as codes that begin at 0.
pub(super) struct Codes(Grid);

impl Codes {
    /// How an input becomes codes of 8 bits; `None` for a grid of more.
    pub(super) fn of(grid: &Grid) -> Option<Self> {
        (grid.q_max() - grid.q_min() <= 255).then_some(Self(*grid))
    }
}

impl Fill for Codes {
    type Element = u8;
    fn zero(&self) -> u8 {
        (self.0.zero_point() - self.0.q_min()) as u8
    }
    fn convert(&self, from: &[f32], to: &mut [u8]) {
        self.0.codes_slice(from, to);
    }
}

/// Whether the processor multiplies 8-bit integers four at a time.
pub fn has_integer_dot_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// One output block of one strip, as the instructions take it.
struct DotProducts<'a> {
    codes: &'a [[u8; BLOCK]],
    steps: &'a [Step],
    quads: &'a [Quads],
    rows: Rows,
    /// What each sum begins with.
    start: [i32; BLOCK],
    finish: Finish<'a>,
    output: &'a mut [MaybeUninit<f32>],
}

impl DotProducts<'_> {
    /// Weights are packed only where the processor has the instructions, so this runs only there.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(
            unsafe_code,
            reason = "a function for an instruction set may only be called where the processor has it"
        )
    )]
    fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if has_integer_dot_products() {
            // SAFETY: the processor has the instructions, as was just asked.
            unsafe { avx512::convolve(self) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __m512i, _CMP_LT_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps,
        _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mask_mul_ps, _mm512_max_ps, _mm512_min_ps,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    };

    use crate::engine::kernels::Activation;
    use std::mem::MaybeUninit;

    use rten_simd::SimdOp as _;

    use super::{BLOCK, DotProducts, Finish, Finished, Pixel, QUAD, Quads, Rows, Step};

    /// Most pixels of a tile, and of each row of a tile of two rows.
    const PIXELS: usize = 24;
    const PAIRED: usize = 12;

    struct Block<'a> {
        codes: &'a [[u8; BLOCK]],
        steps: &'a [Step],
        quads: &'a [Quads],
        rows: Rows,
        start: __m512i,
        scale: __m512,
        bias: __m512,
        residual: Option<&'a [f32]>,
        activation: Activation,
        /// What follows the activation, where that is not all.
        rest: Option<Finish<'a>>,
        output: &'a mut [MaybeUninit<f32>],
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn convolve(work: DotProducts<'_>) {
        let DotProducts {
            codes,
            steps,
            quads,
            rows,
            start,
            finish,
            output,
        } = work;
        let scale = finish.scale.copied().unwrap_or([1.0; BLOCK]);
        let mut block = Block {
            codes,
            steps,
            quads,
            rows,
            start: bytemuck::cast(start),
            scale: bytemuck::cast(scale),
            bias: bytemuck::cast(*finish.bias),
            residual: finish.residual,
            activation: finish.activation,
            rest: rest_of(&finish),
            output,
        };
        let Rows { count, width, .. } = block.rows;
        let mut row = 0;
        while row < count {
            if width <= PAIRED && row + 1 < count {
                paired(&mut block, row, width);
                row += 2;
            } else {
                single(&mut block, row, width);
                row += 1;
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn paired(block: &mut Block<'_>, row: usize, width: usize) {
        match width {
            1 => tile::<2, 1>(block, row, 0),
            2 => tile::<2, 2>(block, row, 0),
            3 => tile::<2, 3>(block, row, 0),
            4 => tile::<2, 4>(block, row, 0),
            5 => tile::<2, 5>(block, row, 0),
            6 => tile::<2, 6>(block, row, 0),
            7 => tile::<2, 7>(block, row, 0),
            8 => tile::<2, 8>(block, row, 0),
            9 | 10 => {
                tile::<2, 5>(block, row, 0);
                tile::<2, 5>(block, row, width - 5);
            }
            _ => {
                tile::<2, 6>(block, row, 0);
                tile::<2, 6>(block, row, width - 6);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn single(block: &mut Block<'_>, row: usize, width: usize) {
        let mut column = 0;
        if width < 8 {
            while column < width {
                tile::<1, 1>(block, row, column);
                column += 1;
            }
            return;
        }
        let wanted = width.div_ceil(width.div_ceil(PIXELS));
        while column < width {
            match wanted {
                0..=8 => {
                    tile::<1, 8>(block, row, column.min(width - 8));
                    column += 8;
                }
                9..=12 if width >= 12 => {
                    tile::<1, 12>(block, row, column.min(width - 12));
                    column += 12;
                }
                13..=16 if width >= 16 => {
                    tile::<1, 16>(block, row, column.min(width - 16));
                    column += 16;
                }
                _ if width >= PIXELS => {
                    tile::<1, PIXELS>(block, row, column.min(width - PIXELS));
                    column += PIXELS;
                }
                _ => {
                    tile::<1, 8>(block, row, column.min(width - 8));
                    column += 8;
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn tile<const ROWS: usize, const P: usize>(block: &mut Block<'_>, row: usize, column: usize) {
        let mut starts = [block.rows.start + row * block.rows.step + column; ROWS];
        for r in 1..ROWS {
            starts[r] = starts[r - 1] + block.rows.step;
        }
        let mut sums = [[block.start; P]; ROWS];
        let mut quads = block.quads;
        for step in block.steps {
            // By a loop: the call of a closure would put all sums into memory and take them back.
            let mut inputs: [&[[u8; BLOCK]]; ROWS] = [&[]; ROWS];
            for r in 0..ROWS {
                inputs[r] = &block.codes[starts[r] + step.offset..][..P];
            }
            let (own, rest) = quads.split_at(step.channels.div_ceil(4));
            quads = rest;
            for (quad, weights) in own.iter().enumerate().take(4) {
                let weights: __m512i = bytemuck::cast(*weights);
                // A place that is seen to lie in the pixel, so that no check keeps the loops from being
                // unrolled and the sums from staying in registers.
                let at = quad % (BLOCK / QUAD) * QUAD;
                for r in 0..ROWS {
                    for p in 0..P {
                        let pixel = &inputs[r][p];
                        let four = [pixel[at], pixel[at + 1], pixel[at + 2], pixel[at + 3]];
                        let values = _mm512_set1_epi32(i32::from_ne_bytes(four));
                        sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], values, weights);
                    }
                }
            }
        }
        // By value, so that the sums stay in registers until here.
        for (r, sums) in sums.into_iter().enumerate() {
            let at = ((row + r) * block.rows.width + column) * BLOCK;
            let mut pixels = [[0.0; BLOCK]; P];
            let output = &mut block.output[at..at + P * BLOCK];
            // As arrays of known length, so that each is one store.
            let outputs = output.as_chunks_mut::<BLOCK>().0.iter_mut();
            for (index, (sum, to)) in sums.into_iter().zip(outputs).enumerate() {
                let mut y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), block.scale, block.bias);
                if let Some(residual) = block.residual {
                    let own: Pixel = residual[at + index * BLOCK..].as_chunks::<BLOCK>().0[0];
                    y = _mm512_add_ps(y, bytemuck::cast(own));
                }
                let y: Pixel = bytemuck::cast(activated(block.activation, y));
                *to = y.map(MaybeUninit::new);
                if block.rest.is_some() {
                    pixels[index] = y;
                }
            }
            if let Some(rest) = block.rest {
                Finished(rest, &mut pixels).dispatch();
                let outputs = output.as_chunks_mut::<BLOCK>().0.iter_mut();
                for (to, pixel) in outputs.zip(pixels) {
                    *to = pixel.map(MaybeUninit::new);
                }
            }
        }
    }

    /// What follows the sums that [`activated`] leaves out.
    fn rest_of<'a>(finish: &Finish<'a>) -> Option<Finish<'a>> {
        let activation = match finish.activation {
            Activation::Silu => Activation::Silu,
            _ => Activation::None,
        };
        let is_all = activation == Activation::None && finish.after.is_none();
        (!is_all).then_some(Finish {
            activation,
            ..*finish
        })
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn activated(activation: Activation, y: __m512) -> __m512 {
        match activation {
            // What needs a function of its own follows in another pass.
            Activation::None | Activation::Silu => y,
            Activation::Relu => _mm512_max_ps(_mm512_setzero_ps(), y),
            Activation::LeakyRelu(slope) => {
                let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(y, _mm512_setzero_ps());
                _mm512_mask_mul_ps(y, negative, y, _mm512_set1_ps(slope))
            }
            Activation::Clip { min, max } => {
                _mm512_min_ps(_mm512_set1_ps(max), _mm512_max_ps(_mm512_set1_ps(min), y))
            }
        }
    }
}
