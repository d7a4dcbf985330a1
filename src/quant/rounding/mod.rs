//! Rounding of weights to the least error of the layer's output rather than of the weights.

mod cholesky;
mod compensated;
mod lanes;
mod relaxed;
mod sums;

use rayon::prelude::*;

pub use self::sums::WindowSums;

use self::cholesky::Cholesky;
use self::compensated::{Descent, round_compensated};
use self::lanes::{LANES, Lanes, Levels};
use self::relaxed::Relaxation;
use super::layout::ChannelLayout;
use super::weights::{SliceRule, group_len};
use super::{
    BitWidth, Calibrator, Granularity, Grid, NumberFormat, QuantError, QuantSpec, QuantizedWeights,
    Range, quantize_weights,
};

/// Ranges that are tried where the calibrator is `mse`.
const RANGES: u8 = 14;
/// Each is narrower than the one before by this part of the full range.
const RANGE_STEP: f32 = 0.05;
/// Sweeps after which the descent ends in any case.
const SWEEPS: usize = 10;

/// How levels are chosen once the weights to round are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelChoice {
    /// The nearest level of each weight.
    Nearest,
    /// Later weights make up for the errors of earlier ones (GPTQ).
    Compensated,
    /// The same, then single weights and scales are moved until none gets better.
    Descent,
    /// Up or down, decided by gradient descent (`AdaRound`), or compensated where that is better.
    Relaxed,
}

/// How the weights of a layer are rounded on what is known of its inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundingMethod {
    /// How levels are chosen.
    pub levels: LevelChoice,
    /// Part of the mean square of the inputs that is added to each of them, which keeps the matrix
    /// from being singular; 0.01 in GPTQ.
    pub damping: f64,
    /// Whether the weights are first fitted to give the float output on the inputs as they are, and
    /// with which ridge, as a part of the mean square of the inputs.
    pub refit: Option<f64>,
    /// Whether the bias takes up the mean error.
    pub corrects_bias: bool,
}

impl std::fmt::Display for RoundingMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.levels {
            LevelChoice::Nearest => "nearest",
            LevelChoice::Compensated => "gptq",
            LevelChoice::Descent => "descent",
            LevelChoice::Relaxed => "adaround",
        })?;
        if let Some(ridge) = self.refit {
            write!(f, ", refit with ridge {ridge}")?;
        }
        if self.corrects_bias {
            f.write_str(", bias corrected")?;
        }
        Ok(())
    }
}

/// What rounding gives.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundedWeights {
    /// The weights; their errors are against the float weights.
    pub weights: QuantizedWeights,
    /// What is added to the bias of each output channel, where the bias is corrected.
    pub bias_change: Option<Vec<f32>>,
}

/// Rounds the weights of a layer.
///
/// `sums` has an entry for each group of a convolution, one otherwise; all output channels together are
/// those of the weight, and their windows are its channels flattened. The calibrator `mse` tries 14
/// ranges for each channel (for the tensor where it has one grid) and keeps the one with the least
/// error of the output; where levels are the nearest ones, it is that of the weights as in
/// [`quantize_weights`]. Weights of a floating-point format are rounded to the nearest number.
///
/// ```text
/// refit:  w' = w + (H + λ·I)⁻¹ · Σ r x,   H = Σ x xᵀ,   λ = ridge · mean diagonal of H
/// bias:   b' = b + mean(r - (ŵ - w)ᵀ x);   H and Σ r x are then those around the means
/// ```
/// The refit is the ridge regression of the float output on the inputs as they are under the plan,
/// drawn towards the float weights.
///
/// # Errors
/// Those of [`quantize_weights`]; [`QuantError::RoundingSums`] where `sums` does not fit the weights,
/// [`QuantError::NonFiniteSums`], and [`QuantError::SingularSums`] without damping on inputs that depend
/// on each other.
pub fn round_weights(
    weights: &[f32],
    shape: &[usize],
    channel_axis: usize,
    spec: &QuantSpec,
    sums: &[WindowSums],
    method: &RoundingMethod,
) -> Result<RoundedWeights, QuantError> {
    let layout = ChannelLayout::new(weights.len(), shape, channel_axis)?;
    let by_channel = layout.gather(weights);
    check_fit(&layout, sums)?;
    let groups: Result<Vec<Group>, QuantError> = sums
        .par_iter()
        .zip(by_channel.par_chunks(group_weights(sums).max(1)))
        .map(|(sums, weights)| Group::new(sums, weights, method))
        .collect();
    let groups = groups?;
    let fitted: Vec<f32> = groups
        .iter()
        .flat_map(|group| group.weights.clone())
        .collect();
    let is_integer = matches!(spec.format, NumberFormat::Int(_));
    let rounded = match spec.format {
        NumberFormat::Int(bits) if method.levels != LevelChoice::Nearest => {
            let problem = Problem {
                groups: &groups,
                channel_len: layout.channel_len(),
                group_len: group_len(&layout, spec.granularity),
                spec,
                bits,
                method,
            };
            let (levels, grids) = problem.solve()?;
            let granularity = spec.granularity;
            let levels = layout.scatter(levels);
            QuantizedWeights::from_levels(weights, levels, grids, shape, channel_axis, granularity)?
        }
        _ => {
            let nearest = quantize_weights(&layout.scatter(fitted), shape, channel_axis, spec)?;
            if is_integer {
                let QuantizedWeights {
                    dequantized, grids, ..
                } = nearest;
                let granularity = spec.granularity;
                QuantizedWeights::from_levels(
                    weights,
                    dequantized,
                    grids,
                    shape,
                    channel_axis,
                    granularity,
                )?
            } else {
                nearest
            }
        }
    };
    let bias_change = method.corrects_bias.then(|| {
        let levels = layout.gather(&rounded.dequantized);
        bias_changes(sums, &by_channel, &levels)
    });
    Ok(RoundedWeights {
        weights: rounded,
        bias_change,
    })
}

/// The squared errors of the output under changed weights, summed over all windows and channels.
///
/// # Errors
/// [`QuantError::RoundingSums`] where `sums` does not fit the weights.
pub fn output_error(
    weights: &[f32],
    shape: &[usize],
    channel_axis: usize,
    sums: &[WindowSums],
    rounded: &RoundedWeights,
) -> Result<f64, QuantError> {
    let layout = ChannelLayout::new(weights.len(), shape, channel_axis)?;
    check_fit(&layout, sums)?;
    let before = layout.gather(weights);
    let after = layout.gather(&rounded.weights.dequantized);
    let outputs = sums.first().map_or(1, WindowSums::outputs).max(1);
    let size = layout.channel_len().max(1);
    let channels = before.par_chunks(size).zip(after.par_chunks(size));
    let errors: Vec<f64> = channels
        .enumerate()
        .map(|(channel, (before, after))| {
            let change = differences(before, after);
            let bias = rounded
                .bias_change
                .as_ref()
                .map_or(0.0, |b| f64::from(b[channel]));
            sums[channel / outputs].squared_error(channel % outputs, &change, bias)
        })
        .collect();
    Ok(errors.iter().sum())
}

fn differences(before: &[f32], after: &[f32]) -> Vec<f32> {
    before.iter().zip(after).map(|(b, a)| a - b).collect()
}

fn bias_changes(sums: &[WindowSums], before: &[f32], after: &[f32]) -> Vec<f32> {
    let size = sums.first().map_or(1, WindowSums::size).max(1);
    let mut channels = before.chunks(size).zip(after.chunks(size));
    let mut changes = Vec::new();
    for sums in sums {
        for (output, (before, after)) in channels.by_ref().take(sums.outputs()).enumerate() {
            let change = differences(before, after);
            changes.push(sums.mean_residual(output, &change) as f32);
        }
    }
    changes
}

fn group_weights(sums: &[WindowSums]) -> usize {
    sums.first().map_or(0, |sums| sums.size() * sums.outputs())
}

fn check_fit(layout: &ChannelLayout, sums: &[WindowSums]) -> Result<(), QuantError> {
    let outputs: usize = sums.iter().map(WindowSums::outputs).sum();
    let first = sums.first().map(WindowSums::outputs);
    let fits =
        |sums: &WindowSums| sums.size() == layout.channel_len() && Some(sums.outputs()) == first;
    if outputs == layout.channel_count() && sums.iter().all(fits) {
        sums.iter().try_for_each(WindowSums::check)
    } else {
        Err(QuantError::RoundingSums {
            channels: layout.channel_count(),
            channel_len: layout.channel_len(),
            outputs,
            sizes: sums.iter().map(WindowSums::size).max().unwrap_or(0),
        })
    }
}

/// The output channels that read the same windows.
struct Group {
    /// The weights to round, channel by channel.
    weights: Vec<f32>,
    /// The place in a channel of each row of the matrices, in rising order of the mean square there.
    order: Vec<usize>,
    /// Mean of `x xᵀ` with damping, in this order.
    matrix: Vec<f32>,
    /// `R` with `Rᵀ · R` of the same; empty where levels are the nearest ones.
    upper: Vec<f32>,
}

impl Group {
    fn new(
        sums: &WindowSums,
        weights: &[f32],
        method: &RoundingMethod,
    ) -> Result<Self, QuantError> {
        let centred = method.corrects_bias.then(|| sums.centred());
        let sums = centred.as_ref().unwrap_or(sums);
        let size = sums.size();
        let scale = 1.0 / sums.windows.max(1.0);
        let square = |place: usize| sums.products[place * size + place] * scale;
        let mean_square = (0..size).map(square).sum::<f64>() / size.max(1) as f64;
        let mut group = Self {
            weights: weights.to_vec(),
            order: (0..size).collect(),
            matrix: Vec::new(),
            upper: Vec::new(),
        };
        // Inputs that are all zero leave nothing to fit; any level does.
        let mean_square = if mean_square > 0.0 { mean_square } else { 1.0 };
        if let Some(ridge) = method.refit {
            group.refit(sums, scale, ridge * mean_square)?;
        }
        if method.levels == LevelChoice::Nearest {
            return Ok(group);
        }
        group
            .order
            .sort_by(|a, b| square(*a).total_cmp(&square(*b)));
        let rows = group.order.iter();
        let mut matrix: Vec<f64> = rows
            .flat_map(|row| group.order.iter().map(move |column| row * size + column))
            .map(|at| sums.products[at] * scale)
            .collect();
        for place in 0..size {
            matrix[place * size + place] += method.damping * mean_square;
        }
        let factor = Cholesky::of(&matrix, size).ok_or(QuantError::SingularSums)?;
        group.upper = factor.upper();
        group.matrix = matrix.iter().map(|sum| *sum as f32).collect();
        Ok(group)
    }

    /// Moves the weights to those that give the float output best.
    fn refit(&mut self, sums: &WindowSums, scale: f64, ridge: f64) -> Result<(), QuantError> {
        let size = sums.size();
        let mut matrix: Vec<f64> = sums.products.iter().map(|sum| sum * scale).collect();
        for place in 0..size {
            matrix[place * size + place] += ridge;
        }
        let factor = Cholesky::of(&matrix, size).ok_or(QuantError::SingularSums)?;
        let crossed = sums.residual_products.par_chunks(size.max(1));
        let channels = self.weights.par_chunks_mut(size.max(1));
        channels.zip(crossed).for_each(|(weights, crossed)| {
            let mut change: Vec<f64> = crossed.iter().map(|sum| sum * scale).collect();
            factor.solve(&mut change);
            for (weight, change) in weights.iter_mut().zip(&change) {
                *weight += *change as f32;
            }
        });
        Ok(())
    }
}

/// All output channels of a layer, and how they are to be rounded.
struct Problem<'a> {
    groups: &'a [Group],
    channel_len: usize,
    group_len: usize,
    spec: &'a QuantSpec,
    bits: BitWidth,
    method: &'a RoundingMethod,
}

/// Up to 16 output channels of a group.
struct Block<'a> {
    group: &'a Group,
    /// The first channel within the group.
    first: usize,
    channels: usize,
    /// Weights in the order of the group's matrices.
    weights: Vec<Lanes>,
    /// Which of the block's levels each has.
    levels_at: Vec<usize>,
}

/// Levels of a block, and the grid of each channel for each of them.
struct BlockLevels {
    levels: Vec<Levels>,
    grids: Vec<Vec<Grid>>,
}

/// The error of each channel of a block for each of the ranges tried.
type RangeErrors = Vec<[f64; LANES]>;

/// Levels channel by channel, and their grids.
type LevelsAndGrids = (Vec<f32>, Vec<Grid>);

impl Problem<'_> {
    /// Levels channel by channel, and grids.
    fn solve(&self) -> Result<LevelsAndGrids, QuantError> {
        let tensor = self.tensor_range();
        let blocks: Vec<Block<'_>> = self.groups.iter().flat_map(|g| self.blocks(g)).collect();
        let ratios = self.ratios();
        let errors: Result<Vec<RangeErrors>, QuantError> = blocks
            .par_iter()
            .map(|block| {
                let tried = ratios.par_iter();
                tried
                    .map(|ratio| {
                        let levels = self.levels(block, tensor, &[*ratio; LANES])?.levels;
                        Ok(block.round(&levels).1)
                    })
                    .collect()
            })
            .collect();
        let chosen = self.choose(&ratios, &blocks, &errors?);
        let rounded: Result<Vec<LevelsAndGrids>, QuantError> = blocks
            .par_iter()
            .zip(&chosen)
            .map(|(block, ratios)| self.round(block, tensor, ratios))
            .collect();
        let (mut levels, mut grids) = (Vec::new(), Vec::new());
        for (own, own_grids) in rounded? {
            levels.extend(own);
            grids.extend(own_grids);
        }
        if tensor.is_some() {
            grids.truncate(1);
        }
        Ok((levels, grids))
    }

    /// The full range of all weights, where they share one grid.
    fn tensor_range(&self) -> Option<Range> {
        let all = || self.groups.iter().flat_map(|group| &group.weights).copied();
        (self.spec.granularity == Granularity::PerTensor)
            .then(|| SliceRule::full_range(&all().collect::<Vec<f32>>(), self.spec, self.bits))
    }

    fn ratios(&self) -> Vec<f32> {
        if self.spec.calibrator == Calibrator::Mse && self.spec.range_override.is_none() {
            let ratio = |index: u8| 1.0 - f32::from(index) * RANGE_STEP;
            (0..RANGES).map(ratio).collect()
        } else {
            vec![1.0]
        }
    }

    fn blocks<'g>(&self, group: &'g Group) -> Vec<Block<'g>> {
        let size = self.channel_len.max(1);
        let channels: Vec<&[f32]> = group.weights.chunks(size).collect();
        let block = |(index, block): (usize, &[&[f32]])| {
            let lanes = |place: &usize| {
                let mut lanes = [0.0; LANES];
                for (lane, channel) in lanes.iter_mut().zip(block) {
                    *lane = channel[*place];
                }
                lanes
            };
            Block {
                group,
                first: index * LANES,
                channels: block.len(),
                weights: group.order.iter().map(lanes).collect(),
                levels_at: group
                    .order
                    .iter()
                    .map(|place| place / self.group_len)
                    .collect(),
            }
        };
        channels.chunks(LANES).enumerate().map(block).collect()
    }

    /// The levels of a block with its ranges narrowed by a factor for each channel.
    fn levels(
        &self,
        block: &Block<'_>,
        tensor: Option<Range>,
        ratios: &Lanes,
    ) -> Result<BlockLevels, QuantError> {
        let size = self.channel_len;
        let mut made = BlockLevels {
            levels: Vec::new(),
            grids: Vec::new(),
        };
        for start in (0..size).step_by(self.group_len) {
            let mut levels = None;
            let mut grids = Vec::new();
            for (lane, ratio) in ratios.iter().enumerate().take(block.channels) {
                let channel = &block.group.weights[(block.first + lane) * size..][..size];
                let slice = &channel[start..(start + self.group_len).min(size)];
                let rule = self.rule(slice, tensor, *ratio)?;
                let own = levels.get_or_insert_with(|| Levels::empty(rule.is_binary()));
                own.scale[lane] = rule.grid.scale();
                (own.lowest[lane], own.highest[lane]) = rule.grid.step_limits();
                grids.push(rule.grid);
            }
            made.levels.extend(levels);
            made.grids.push(grids);
        }
        Ok(made)
    }

    fn rule(
        &self,
        slice: &[f32],
        tensor: Option<Range>,
        ratio: f32,
    ) -> Result<SliceRule, QuantError> {
        let spec = self.spec;
        let keeps = spec.range_override.is_some()
            || matches!(spec.calibrator, Calibrator::Percentile(_)) && tensor.is_none();
        if keeps {
            return SliceRule::new(slice, spec, self.bits);
        }
        let full = tensor.unwrap_or_else(|| SliceRule::full_range(slice, spec, self.bits));
        let range = Range::from_ordered(full.min() * ratio, full.max() * ratio);
        let spec = QuantSpec {
            range_override: Some(range),
            ..*spec
        };
        SliceRule::new(slice, &spec, self.bits)
    }

    /// The factor of each channel of each block with the least error.
    fn choose(&self, ratios: &[f32], blocks: &[Block<'_>], errors: &[RangeErrors]) -> Vec<Lanes> {
        let best = |error: &dyn Fn(usize) -> f64| {
            let compare = |a: &usize, b: &usize| error(*a).total_cmp(&error(*b));
            let index = (0..ratios.len()).min_by(compare);
            index
                .and_then(|index| ratios.get(index))
                .copied()
                .unwrap_or(1.0)
        };
        if self.spec.granularity == Granularity::PerTensor {
            let total = |ratio: usize| -> f64 {
                let of_block = |(block, errors): (&Block<'_>, &RangeErrors)| -> f64 {
                    errors[ratio][..block.channels].iter().sum()
                };
                blocks.iter().zip(errors).map(of_block).sum()
            };
            return vec![[best(&total); LANES]; blocks.len()];
        }
        let of_block =
            |errors: &RangeErrors| std::array::from_fn(|lane| best(&|ratio| errors[ratio][lane]));
        errors.iter().map(of_block).collect()
    }

    /// Levels and grids of a block, channel by channel.
    fn round(
        &self,
        block: &Block<'_>,
        tensor: Option<Range>,
        ratios: &Lanes,
    ) -> Result<LevelsAndGrids, QuantError> {
        let BlockLevels { mut levels, grids } = self.levels(block, tensor, ratios)?;
        let (mut steps, _) = block.round(&levels);
        if self.method.levels == LevelChoice::Relaxed {
            let relaxation = Relaxation {
                matrix: &block.group.matrix,
                weights: &block.weights,
                levels_at: &block.levels_at,
            };
            steps = relaxation.run(&levels, steps);
        }
        if self.method.levels == LevelChoice::Descent {
            let descent = Descent {
                matrix: &block.group.matrix,
                weights: &block.weights,
                levels_at: &block.levels_at,
                fits_scales: tensor.is_none() && self.spec.range_override.is_none(),
            };
            descent.run(&mut levels, &mut steps, SWEEPS);
        }
        let size = self.channel_len;
        let mut rounded = vec![0.0; block.channels * size];
        for ((place, steps), at) in block.group.order.iter().zip(&steps).zip(&block.levels_at) {
            for (lane, channel) in rounded.chunks_mut(size.max(1)).enumerate() {
                channel[*place] = steps[lane] * levels[*at].scale[lane];
            }
        }
        let mut own_grids = Vec::new();
        for lane in 0..block.channels {
            for (levels, grids) in levels.iter().zip(&grids) {
                own_grids.push(grids[lane].with_scale(levels.scale[lane]));
            }
        }
        Ok((rounded, own_grids))
    }
}

impl Block<'_> {
    fn round(&self, levels: &[Levels]) -> (Vec<Lanes>, [f64; LANES]) {
        round_compensated(&self.group.upper, &self.weights, &self.levels_at, levels)
    }
}

#[cfg(test)]
mod tests;
