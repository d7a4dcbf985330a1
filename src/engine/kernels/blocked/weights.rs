//! Weights of convolutions of blocked images, packed once.

use std::sync::OnceLock;

use candle_core::{Result, bail};

use super::super::conv::check_weight;
use super::integer::{IntegerWeights, has_integer_dot_products};
use super::winograd::WinogradWeights;
use super::{BLOCK, Pixel};

/// Weight, scale and bias of a convolution of one group, or of one group a channel.
///
/// Integer weights are kept as steps, that is `ŵ / scale`, and the scale of the output channel is
/// applied to the finished sum. With the input in steps too, all products and sums are integers: as
/// long as a sum stays below 2²⁴ it is exact in `f32`, and equal to that of the integer kernel.
#[derive(Debug)]
pub struct BlockedConvWeights {
    pub(super) shape: [usize; 4],
    pub(super) kind: Kind,
    /// `[input blocks, kernel elements, channels of the block, 16]` for each output block, or
    /// `[kernel elements, 16]` for each block of a depthwise convolution.
    pub(super) rows: Vec<Pixel>,
    /// Factor of each output channel; `None` where the weights are values.
    pub(super) scale: Option<Vec<Pixel>>,
    pub(super) bias: Vec<Pixel>,
    /// Whether the weights are steps of at most 8 bits, so that sums with codes are kept exact.
    pub(super) has_short_steps: bool,
    /// The same for the processor's dot products, where it has some.
    pub(super) integer: Option<IntegerWeights>,
    winograd: OnceLock<WinogradWeights>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dense,
    Depthwise,
}

impl BlockedConvWeights {
    /// Whether the blocked kernels take such a weight `[out, in / groups, height, width]`.
    pub fn fits(shape: [usize; 4], groups: usize) -> bool {
        groups == 1 || (shape[1] == 1 && shape[0] == groups)
    }

    /// Packs a weight `[out, in / groups, height, width]`, in values or with `scale` in steps.
    ///
    /// # Errors
    /// A weight, scale or bias of another length than the shape says, an empty kernel, or groups that
    /// are neither one nor as many as there are channels.
    pub fn pack(
        weight: &[f32],
        shape: [usize; 4],
        groups: usize,
        scale: Option<&[f32]>,
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let [out, inputs, height, width] = shape;
        check_weight(weight, shape, out, groups, bias)?;
        if !Self::fits(shape, groups) {
            bail!("a weight {shape:?} in {groups} groups is not for blocked images");
        }
        if scale.is_some_and(|scale| scale.len() != out) {
            bail!("expected one scale for each of {out} output channels");
        }
        let kernel = height * width;
        let kind = if groups > 1 {
            Kind::Depthwise
        } else {
            Kind::Dense
        };
        let rows = match kind {
            Kind::Dense => dense_rows(weight, [out, inputs, kernel]),
            Kind::Depthwise => depthwise_rows(weight, [out, kernel]),
        };
        let has_short_steps = scale.is_some() && weight.iter().all(|step| is_short(*step));
        let integer = (has_short_steps && kind == Kind::Dense && has_integer_dot_products())
            .then(|| IntegerWeights::pack(weight, [out, inputs, kernel]));
        Ok(Self {
            shape,
            kind,
            rows,
            scale: scale.map(lanes),
            bias: lanes(&bias.map_or_else(|| vec![0.0; out], <[f32]>::to_vec)),
            has_short_steps,
            integer,
            winograd: OnceLock::new(),
        })
    }

    /// Kernel `[height, width]`.
    pub fn kernel(&self) -> [usize; 2] {
        [self.shape[2], self.shape[3]]
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.shape[0]
    }

    pub(super) fn input_channels(&self) -> usize {
        match self.kind {
            Kind::Dense => self.shape[1],
            Kind::Depthwise => self.shape[0],
        }
    }

    pub(super) fn blocks(&self) -> usize {
        self.outputs().div_ceil(BLOCK)
    }

    /// The weights of a 3×3 kernel of one group, transformed when they are first asked for.
    pub(super) fn winograd(&self) -> &WinogradWeights {
        self.winograd
            .get_or_init(|| WinogradWeights::new(&self.rows, [self.blocks(), self.shape[1]]))
    }

    pub(super) fn kernel_len(&self) -> usize {
        self.shape[2] * self.shape[3]
    }
}

/// Whether a step is an integer of 8 bits.
fn is_short(step: f32) -> bool {
    step == step.trunc() && (-128.0..=127.0).contains(&step)
}

/// One number a channel, in blocks.
pub(super) fn lanes(values: &[f32]) -> Vec<Pixel> {
    values
        .chunks(BLOCK)
        .map(|chunk| std::array::from_fn(|lane| chunk.get(lane).copied().unwrap_or(0.0)))
        .collect()
}

fn dense_rows(weight: &[f32], [out, inputs, kernel]: [usize; 3]) -> Vec<Pixel> {
    let mut rows = Vec::with_capacity(out.div_ceil(BLOCK) * inputs * kernel);
    for first_out in (0..out).step_by(BLOCK) {
        for first_in in (0..inputs).step_by(BLOCK) {
            for element in 0..kernel {
                for input in first_in..inputs.min(first_in + BLOCK) {
                    rows.push(std::array::from_fn(|lane| {
                        let output = first_out + lane;
                        if output < out {
                            weight[(output * inputs + input) * kernel + element]
                        } else {
                            0.0
                        }
                    }));
                }
            }
        }
    }
    rows
}

fn depthwise_rows(weight: &[f32], [out, kernel]: [usize; 2]) -> Vec<Pixel> {
    (0..out)
        .step_by(BLOCK)
        .flat_map(|first| (0..kernel).map(move |element| (first, element)))
        .map(|(first, element)| {
            std::array::from_fn(|lane| {
                weight
                    .get((first + lane) * kernel + element)
                    .copied()
                    .filter(|_| first + lane < out)
                    .unwrap_or(0.0)
            })
        })
        .collect()
}

/// `(x − mean) · factor + bias`, with one number of each for every channel, in blocks.
#[derive(Clone, Debug)]
pub struct ChannelAffine {
    /// Subtracted first.
    pub mean: Vec<[f32; BLOCK]>,
    /// Multiplied with.
    pub factor: Vec<[f32; BLOCK]>,
    /// Added last.
    pub bias: Vec<[f32; BLOCK]>,
}

impl ChannelAffine {
    /// From one number a channel.
    pub fn new([mean, factor, bias]: [&[f32]; 3]) -> Self {
        Self {
            mean: lanes(mean),
            factor: lanes(factor),
            bias: lanes(bias),
        }
    }
}
