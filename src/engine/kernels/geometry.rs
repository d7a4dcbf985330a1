//! Where windows lie: strides, padding and dilation of convolutions and pools over two axes.
//!
//! A one-dimensional window is a two-dimensional one of height 1 over an image of height 1.

use candle_core::{Result, bail};

use crate::model::{Conv, ConvTranspose, Padding, Pool};

/// Window placement of a two-dimensional convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Window step, `[vertical, horizontal]`, at least 1.
    pub strides: [usize; 2],
    /// Zero padding, `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    /// Distance of kernel elements, `[vertical, horizontal]`, at least 1.
    pub dilations: [usize; 2],
    /// Number of groups, at least 1.
    pub groups: usize,
}

impl ConvGeometry {
    /// Fixes the attributes of a convolution for an input of `[height, width]`.
    ///
    /// Attributes of one axis belong to a one-dimensional convolution and describe the horizontal axis.
    ///
    /// # Errors
    /// Attributes for more than two axes, or a stride, dilation or group count of zero.
    pub fn resolve(conv: &Conv, kernel: [usize; 2], input: [usize; 2]) -> Result<Self> {
        let window = Window::resolve(&conv.strides, &conv.padding, &conv.dilations, kernel, input)?;
        if conv.groups == 0 {
            bail!("group is 0, expected at least 1");
        }
        Ok(Self {
            strides: window.strides,
            pads: window.pads,
            dilations: window.dilations,
            groups: conv.groups,
        })
    }

    /// Fixes the attributes of a transposed convolution; also returns its output padding.
    ///
    /// A forced output shape, or automatic padding with its output of `in · stride`, sets the padding:
    ///
    /// ```text
    /// total = stride·(in − 1) + output_padding + (k − 1)·dilation + 1 − out
    /// ```
    /// Source: ONNX ConvTranspose-11. The odd element is at the end for `SAME_UPPER` and at the
    /// beginning otherwise. A negative total becomes output padding.
    ///
    /// # Errors
    /// As for [`Self::resolve`], or an output that is too large to address.
    pub fn resolve_transposed(
        operator: &ConvTranspose,
        kernel: [usize; 2],
        input: [usize; 2],
    ) -> Result<(Self, [usize; 2])> {
        let conv = &operator.conv;
        let unpadded = Conv {
            padding: match &conv.padding {
                Padding::Explicit(pads) if operator.output_shape.is_none() => {
                    Padding::Explicit(pads.clone())
                }
                _ => Padding::Explicit(Vec::new()),
            },
            ..conv.clone()
        };
        let mut geometry = Self::resolve(&unpadded, kernel, input)?;
        let mut output_padding = match operator.output_padding[..] {
            [] => [0, 0],
            [horizontal] => [0, horizontal],
            [vertical, horizontal] => [vertical, horizontal],
            _ => bail!(
                "output_padding {:?} has more than 2 numbers",
                operator.output_padding
            ),
        };
        let target = match (operator.output_shape.as_deref(), &conv.padding) {
            (None, Padding::Explicit(_)) => return Ok((geometry, output_padding)),
            (None, _) => [0, 1].map(|axis| input[axis].saturating_mul(geometry.strides[axis])),
            (Some(&[.., height, width]), _) => [height, width],
            (Some(&[width]), _) => [1, width],
            (Some(&[]), _) => bail!("output_shape is empty, expected one length per axis"),
        };
        let Some(full) = geometry.transposed_output_size(kernel, input, output_padding) else {
            bail!("output of input {input:?} and kernel {kernel:?} is too large");
        };
        for axis in [0, 1] {
            let total = full[axis].saturating_sub(target[axis]);
            output_padding[axis] += target[axis].saturating_sub(full[axis]);
            let (small, large) = (total / 2, total - total / 2);
            let upper = conv.padding == Padding::SameUpper;
            geometry.pads[axis] = if upper { small } else { large };
            geometry.pads[axis + 2] = if upper { large } else { small };
        }
        Ok((geometry, output_padding))
    }

    /// Output `[height, width]` of a convolution; `None` if the kernel exceeds the padded input.
    ///
    /// ```text
    /// out = floor((in + pad_begin + pad_end − ((k − 1)·dilation + 1)) / stride) + 1
    /// ```
    /// Source: ONNX Conv-11.
    pub fn output_size(&self, kernel: [usize; 2], input: [usize; 2]) -> Option<[usize; 2]> {
        let length = |axis: usize| {
            let padded = input[axis]
                .checked_add(self.pads[axis])?
                .checked_add(self.pads[axis + 2])?;
            let room = padded.checked_sub(extent(kernel[axis], self.dilations[axis])?)?;
            Some(room.checked_div(self.strides[axis])? + 1)
        };
        Some([length(0)?, length(1)?])
    }

    /// Output `[height, width]` of the transpose of this convolution.
    ///
    /// ```text
    /// out = stride·(in − 1) + output_padding + (k − 1)·dilation + 1 − pad_begin − pad_end
    /// ```
    /// Source: ONNX ConvTranspose-11. `None` if that is negative or too large to address.
    pub fn transposed_output_size(
        &self,
        kernel: [usize; 2],
        input: [usize; 2],
        output_padding: [usize; 2],
    ) -> Option<[usize; 2]> {
        let length = |axis: usize| {
            input[axis]
                .checked_sub(1)?
                .checked_mul(self.strides[axis])?
                .checked_add(output_padding[axis])?
                .checked_add(extent(kernel[axis], self.dilations[axis])?)?
                .checked_sub(self.pads[axis].checked_add(self.pads[axis + 2])?)
        };
        Some([length(0)?, length(1)?])
    }
}

/// Window placement of a two-dimensional pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    /// Window `[height, width]`, at least 1.
    pub kernel: [usize; 2],
    /// Window step, `[vertical, horizontal]`, at least 1.
    pub strides: [usize; 2],
    /// Padding, `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    /// Distance of window elements, `[vertical, horizontal]`, at least 1.
    pub dilations: [usize; 2],
    /// Whether the output length is rounded up.
    pub ceil_mode: bool,
    /// Whether the average counts padded elements.
    pub count_include_pad: bool,
}

impl PoolGeometry {
    /// Fixes the attributes of a pool for an input of `[height, width]`.
    ///
    /// # Errors
    /// Attributes for more than two axes, or a window length, stride or dilation of zero.
    pub fn resolve(pool: &Pool, input: [usize; 2]) -> Result<Self> {
        let kernel = pair("kernel_shape", &pool.kernel)?;
        let window = Window::resolve(&pool.strides, &pool.padding, &pool.dilations, kernel, input)?;
        Ok(Self {
            kernel,
            strides: window.strides,
            pads: window.pads,
            dilations: window.dilations,
            ceil_mode: pool.ceil_mode,
            count_include_pad: pool.count_include_pad,
        })
    }

    /// Output `[height, width]`; `None` if the window exceeds the padded input.
    ///
    /// With `ceil_mode`, a last window that would start behind the input and its leading padding is
    /// left out, as in ONNX Runtime and PyTorch.
    pub fn output_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let length = |axis: usize| {
            let led = input[axis].checked_add(self.pads[axis])?;
            let padded = led.checked_add(self.pads[axis + 2])?;
            let room = padded.checked_sub(extent(self.kernel[axis], self.dilations[axis])?)?;
            let stride = self.strides[axis];
            let steps = room.checked_div(stride)?;
            if self.ceil_mode {
                let steps = room.div_ceil(stride);
                let starts_outside = steps.checked_mul(stride)? >= led;
                Some(if starts_outside { steps } else { steps + 1 })
            } else {
                Some(steps + 1)
            }
        };
        Some([length(0)?, length(1)?])
    }
}

struct Window {
    strides: [usize; 2],
    pads: [usize; 4],
    dilations: [usize; 2],
}

impl Window {
    fn resolve(
        strides: &[usize],
        padding: &Padding,
        dilations: &[usize],
        kernel: [usize; 2],
        input: [usize; 2],
    ) -> Result<Self> {
        let strides = pair("strides", strides)?;
        let dilations = pair("dilations", dilations)?;
        for (name, values) in [
            ("strides", strides),
            ("dilations", dilations),
            ("kernel_shape", kernel),
        ] {
            if values.contains(&0) {
                bail!("{name} {values:?} contain 0, expected at least 1");
            }
        }
        let same = |odd_at_end: bool| -> Result<[usize; 4]> {
            let [top, bottom] =
                same_pads(input[0], kernel[0], strides[0], dilations[0], odd_at_end)?;
            let [left, right] =
                same_pads(input[1], kernel[1], strides[1], dilations[1], odd_at_end)?;
            Ok([top, left, bottom, right])
        };
        let pads = match padding {
            Padding::Explicit(pads) => match pads[..] {
                [] => [0; 4],
                [left, right] => [0, left, 0, right],
                [top, left, bottom, right] => [top, left, bottom, right],
                _ => bail!("pads {pads:?} have {} numbers, expected 2 or 4", pads.len()),
            },
            Padding::SameUpper => same(true)?,
            Padding::SameLower => same(false)?,
        };
        Ok(Self {
            strides,
            pads,
            dilations,
        })
    }
}

/// Length that a dilated kernel covers.
fn extent(kernel: usize, dilation: usize) -> Option<usize> {
    kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)
}

fn pair(name: &str, values: &[usize]) -> Result<[usize; 2]> {
    match *values {
        [] => Ok([1, 1]),
        [horizontal] => Ok([1, horizontal]),
        [vertical, horizontal] => Ok([vertical, horizontal]),
        _ => bail!(
            "{name} {values:?} have {} numbers, expected 1 or 2",
            values.len()
        ),
    }
}

/// Padding `[begin, end]` for an output of `ceil(input / stride)`.
fn same_pads(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    odd_at_end: bool,
) -> Result<[usize; 2]> {
    let total = extent(kernel, dilation)
        .and_then(|extent| {
            let covered = (input.div_ceil(stride).checked_sub(1)?).checked_mul(stride)?;
            Some(covered.checked_add(extent)?.saturating_sub(input))
        })
        .unwrap_or(0);
    if total > input.saturating_add(kernel.saturating_mul(dilation)) {
        bail!("automatic padding of {total} exceeds an input of length {input}");
    }
    let (small, large) = (total / 2, total - total / 2);
    Ok(if odd_at_end {
        [small, large]
    } else {
        [large, small]
    })
}
