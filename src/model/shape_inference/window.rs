//! Shapes of convolutions and pooling.

use super::{Inferred, Inputs, Stop, contradiction};
use crate::model::op::{Conv, ConvTranspose, Padding, Pool};

/// A sliding window over the spatial axes.
struct Window<'a> {
    kernel: &'a [usize],
    strides: &'a [usize],
    dilations: &'a [usize],
    padding: &'a Padding,
    ceil_mode: bool,
}

pub(super) fn conv(inputs: &Inputs<'_>, conv: &Conv) -> Inferred<Vec<usize>> {
    let (x, weight) = (inputs.shape(0)?, inputs.shape(1)?);
    let (batch, channels, spatial) = batch_channels_spatial(x)?;
    let (out_channels, in_per_group, kernel) = batch_channels_spatial(weight)?;
    if in_per_group.checked_mul(conv.groups) != Some(channels) {
        return contradiction(format!(
            "the input {x:?} has {channels} channels, but the weight {weight:?} with {} groups expects {}",
            conv.groups,
            in_per_group.saturating_mul(conv.groups)
        ));
    }
    if conv.groups == 0 || out_channels % conv.groups != 0 {
        return contradiction(format!(
            "{out_channels} output channels cannot be split into {} groups",
            conv.groups
        ));
    }
    let window = Window {
        kernel,
        strides: &conv.strides,
        dilations: &conv.dilations,
        padding: &conv.padding,
        ceil_mode: false,
    };
    Ok([&[batch, out_channels], window.output(spatial)?.as_slice()].concat())
}

pub(super) fn pool(inputs: &Inputs<'_>, pool: &Pool) -> Inferred<Vec<usize>> {
    let (batch, channels, spatial) = batch_channels_spatial(inputs.shape(0)?)?;
    let window = Window {
        kernel: &pool.kernel,
        strides: &pool.strides,
        dilations: &pool.dilations,
        padding: &pool.padding,
        ceil_mode: pool.ceil_mode,
    };
    Ok([&[batch, channels], window.output(spatial)?.as_slice()].concat())
}

pub(super) fn global_pool(inputs: &Inputs<'_>) -> Inferred<Vec<usize>> {
    let (batch, channels, spatial) = batch_channels_spatial(inputs.shape(0)?)?;
    Ok([&[batch, channels], vec![1; spatial.len()].as_slice()].concat())
}

/// Shape of a transposed convolution (ONNX `ConvTranspose`-11).
///
/// ```text
/// out = stride·(in − 1) + output_padding + (k − 1)·dilation + 1 − padding_begin − padding_end
/// out = stride·in                                          for SAME padding
/// ```
pub(super) fn conv_transpose(
    inputs: &Inputs<'_>,
    transpose: &ConvTranspose,
) -> Inferred<Vec<usize>> {
    let (x, weight) = (inputs.shape(0)?, inputs.shape(1)?);
    let conv = &transpose.conv;
    let (batch, channels, spatial) = batch_channels_spatial(x)?;
    let (in_channels, out_per_group, kernel) = batch_channels_spatial(weight)?;
    if channels != in_channels || conv.groups == 0 || channels % conv.groups != 0 {
        return contradiction(format!(
            "the input {x:?} has {channels} channels, but the weight {weight:?} with {} groups expects {in_channels}",
            conv.groups
        ));
    }
    let out_channels = out_per_group
        .checked_mul(conv.groups)
        .ok_or(Stop::Unknown)?;
    if let Some(forced) = &transpose.output_shape {
        let Some(at) = forced.len().checked_sub(spatial.len()) else {
            return contradiction(format!(
                "output_shape {forced:?} has fewer than {} axes",
                spatial.len()
            ));
        };
        return Ok([&[batch, out_channels], &forced[at..]].concat());
    }
    let window = Window {
        kernel,
        strides: &conv.strides,
        dilations: &conv.dilations,
        padding: &conv.padding,
        ceil_mode: false,
    };
    let output = window.transposed_output(spatial, &transpose.output_padding)?;
    Ok([&[batch, out_channels], output.as_slice()].concat())
}

fn batch_channels_spatial(shape: &[usize]) -> Inferred<(usize, usize, &[usize])> {
    match shape {
        [batch, channels, spatial @ ..] if !spatial.is_empty() => Ok((*batch, *channels, spatial)),
        _ => contradiction(format!(
            "expected [batch, channels, spatial…], but the shape is {shape:?}"
        )),
    }
}

impl Window<'_> {
    /// Output lengths of a convolution or pooling.
    ///
    /// ```text
    /// out = floor((in + padding − ((k − 1)·dilation + 1)) / stride) + 1
    /// ```
    /// With `ceil_mode` the quotient is rounded up, unless the last window would start in the end
    /// padding (ONNX `MaxPool`-12, ONNX Runtime).
    fn output(&self, spatial: &[usize]) -> Inferred<Vec<usize>> {
        self.check(spatial)?;
        spatial
            .iter()
            .enumerate()
            .map(|(axis, input)| {
                let (stride, extent) = (self.stride(axis), self.extent(axis)?);
                let Some((begin, end)) = self.explicit_padding(axis, spatial.len()) else {
                    return Ok(input.div_ceil(stride));
                };
                let padded = sum(&[*input, begin, end])?;
                let Some(free) = padded.checked_sub(extent) else {
                    return contradiction(format!(
                        "a window of {extent} is larger than the padded input of {padded} on spatial axis {axis}"
                    ));
                };
                if !self.ceil_mode {
                    return Ok(free / stride + 1);
                }
                let steps = free.div_ceil(stride);
                let starts_in_end_padding = steps
                    .checked_mul(stride)
                    .is_none_or(|start| start >= input.saturating_add(begin));
                Ok(if starts_in_end_padding { steps } else { steps + 1 })
            })
            .collect()
    }

    fn transposed_output(&self, spatial: &[usize], extra: &[usize]) -> Inferred<Vec<usize>> {
        self.check(spatial)?;
        spatial
            .iter()
            .enumerate()
            .map(|(axis, input)| {
                let (stride, extent) = (self.stride(axis), self.extent(axis)?);
                let Some((begin, end)) = self.explicit_padding(axis, spatial.len()) else {
                    return input.checked_mul(stride).ok_or(Stop::Unknown);
                };
                let steps = input.saturating_sub(1).checked_mul(stride).ok_or(Stop::Unknown)?;
                let full = sum(&[steps, extent, extra.get(axis).copied().unwrap_or(0)])?;
                match full.checked_sub(sum(&[begin, end])?) {
                    Some(length) => Ok(length),
                    None => contradiction(format!(
                        "the padding {begin} + {end} is larger than the result of {full} on spatial axis {axis}"
                    )),
                }
            })
            .collect()
    }

    fn check(&self, spatial: &[usize]) -> Inferred<()> {
        let axes = spatial.len();
        let fits = |list: &[usize]| list.is_empty() || list.len() == axes;
        let padding_fits = match self.padding {
            Padding::Explicit(pads) => pads.is_empty() || pads.len() == 2 * axes,
            Padding::SameUpper | Padding::SameLower => true,
        };
        if self.kernel.len() != axes
            || !fits(self.strides)
            || !fits(self.dilations)
            || !padding_fits
        {
            return contradiction(format!(
                "kernel {:?}, strides {:?}, dilations {:?} and padding {:?} do not fit {axes} spatial axes",
                self.kernel, self.strides, self.dilations, self.padding
            ));
        }
        if [self.kernel, self.strides, self.dilations]
            .concat()
            .contains(&0)
        {
            return contradiction("a kernel, stride or dilation of 0");
        }
        Ok(())
    }

    fn stride(&self, axis: usize) -> usize {
        self.strides.get(axis).copied().unwrap_or(1)
    }

    /// Length that the dilated window covers.
    fn extent(&self, axis: usize) -> Inferred<usize> {
        let kernel = self.kernel.get(axis).copied().unwrap_or(1);
        let dilation = self.dilations.get(axis).copied().unwrap_or(1);
        kernel
            .saturating_sub(1)
            .checked_mul(dilation)
            .and_then(|extent| extent.checked_add(1))
            .ok_or(Stop::Unknown)
    }

    fn explicit_padding(&self, axis: usize, axes: usize) -> Option<(usize, usize)> {
        match self.padding {
            Padding::Explicit(pads) => Some((
                pads.get(axis).copied().unwrap_or(0),
                pads.get(axis + axes).copied().unwrap_or(0),
            )),
            Padding::SameUpper | Padding::SameLower => None,
        }
    }
}

fn sum(terms: &[usize]) -> Inferred<usize> {
    terms
        .iter()
        .try_fold(0usize, |sum, term| sum.checked_add(*term))
        .ok_or(Stop::Unknown)
}
