//! What quantizing a weight does to the output of its layer, at all widths from one look at the input.

use std::borrow::Cow;
use std::sync::OnceLock;

use candle_core::Tensor;

use super::error::RunError;
use super::kernels::ConvGeometry;
use super::kernels::blocked::{Patch, PatchGram, PatchWindows, block_channels};
use super::layer_weights::{quantize_layer_weight, weight_values};
use super::value::Value;
use crate::model::{Conv, Graph, Layer, Op};
use crate::quant::{ErrorSum, NumberFormat, QuantSpec};

/// Changes of the weight of a layer whose output is linear in the weight.
#[derive(Debug)]
pub(super) struct WeightChanges<'a> {
    reading: Reading<'a>,
    outputs: usize,
    /// The windows over images of the size that came first.
    windows: OnceLock<PatchWindows>,
    /// The matrix of the float weight and bias.
    float: PatchGram,
    /// Sum of the squares of the bias.
    bias_squares: f64,
    /// The matrix of the change of the weight, for each width.
    widths: Vec<PatchGram>,
}

/// How a layer reads its input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    patch: Patch,
    /// `None` for matrix products, whose input is rows.
    conv: Option<&'a Conv>,
    kernel: [usize; 2],
    /// Channels of a row.
    channels: usize,
}

impl<'a> Reading<'a> {
    /// `None` where the output is not linear in the weight and a constant bias, or the layer takes its
    /// input in another way.
    pub(super) fn of(graph: &'a Graph, layer: &Layer) -> Option<Self> {
        let shape = layer.weight_shape.as_slice();
        let node = graph.node(layer.node);
        let outputs = *shape.get(layer.channel_axis)?;
        let fits = match layer.bias {
            Some(id) => graph.initializer(id)?.elem_count() == outputs,
            None => node.input(2).is_none(),
        };
        if !fits {
            return None;
        }
        match (&node.op, shape) {
            (Op::Conv(conv), &[out, per_group, height, width]) => {
                let kernel = [height, width];
                let patch = if conv.groups == 1 {
                    Patch::dense(kernel, per_group)
                } else if conv.groups == out && per_group == 1 {
                    Patch::depthwise(kernel, out)
                } else {
                    return None;
                };
                (out * per_group * height * width > 0).then_some(Self {
                    patch,
                    conv: Some(conv),
                    kernel,
                    channels: 0,
                })
            }
            (
                Op::MatMul
                | Op::Einsum { .. }
                | Op::Gemm {
                    alpha: 1.0,
                    trans_a: false,
                    ..
                },
                &[first, second],
            ) => {
                let channels = if layer.channel_axis == 0 {
                    second
                } else {
                    first
                };
                (first * second > 0).then_some(Self {
                    patch: Patch::dense([1, 1], channels),
                    conv: None,
                    kernel: [1, 1],
                    channels,
                })
            }
            _ => None,
        }
    }

    /// Bytes of the matrices of so many widths; `None` if they are too large to address.
    pub(super) fn bytes(&self, widths: usize) -> Option<usize> {
        self.patch
            .gram_len()?
            .checked_mul(widths)?
            .checked_mul(size_of::<f32>())
    }

    /// Whether the matrices of so many samples and widths take fewer multiplications than the layer.
    pub(super) fn saves(&self, layer: &Layer, samples: usize, widths: usize) -> bool {
        let Some(macs) = layer.macs.filter(|_| layer.weight_elements > 0) else {
            return false;
        };
        let (samples, widths) = (samples as f64, widths as f64);
        let (strides, dilations) = self.steps();
        let windows = macs as f64 / layer.weight_elements as f64;
        let per_window = self.patch.products_per_window(strides, dilations) as f64;
        let per_change = self
            .patch
            .gram_len()
            .map_or(f64::INFINITY, |len| len as f64)
            * layer.weight_shape[layer.channel_axis] as f64;
        samples * windows * per_window + widths * per_change < samples * widths * macs as f64
    }

    fn steps(&self) -> ([usize; 2], [usize; 2]) {
        let pair =
            |values: &[usize]| [0, 1].map(|axis| values.get(axis).copied().unwrap_or(1).max(1));
        self.conv.map_or(([1, 1], [1, 1]), |conv| {
            (pair(&conv.strides), pair(&conv.dilations))
        })
    }

    /// The input as images that the patch reads; rows become the pixels of one.
    ///
    /// # Errors
    /// An input of another shape than the layer reads.
    pub(super) fn image(&self, input: &Value) -> candle_core::Result<Tensor> {
        if self.conv.is_some() {
            if let (Value::Plain(tensor), true) = (input, self.patch.reads_planes()) {
                return Ok(tensor.clone());
            }
            let Some((image, _)) = input.blocked()? else {
                candle_core::bail!("expected an image, got {:?}", input.dims());
            };
            return Ok(image);
        }
        let rows = input.plain()?.reshape(((), self.channels))?;
        block_channels(&rows.t()?.unsqueeze(0)?.unsqueeze(2)?)
    }

    /// The windows over images of `[height, width]`.
    fn windows(&self, image: [usize; 2]) -> candle_core::Result<PatchWindows> {
        let geometry = match self.conv {
            Some(conv) => ConvGeometry::resolve(conv, self.kernel, image)?,
            None => ConvGeometry {
                strides: [1, 1],
                pads: [0; 4],
                dilations: [1, 1],
                groups: 1,
            },
        };
        self.patch.over(image, &geometry)
    }

    /// Whether an image takes no more memory than the matrix.
    fn is_smaller(&self, image: &Tensor) -> bool {
        self.patch
            .gram_len()
            .is_some_and(|len| image.elem_count() <= len)
    }
}

/// Numbers of an image of a sample that is kept because the matrix of many takes less time.
const KEPT_NUMBERS: usize = 32 << 10;

impl<'a> WeightChanges<'a> {
    /// Quantizes the weight of a layer at each width; `spec` gives what else is chosen for it.
    ///
    /// # Errors
    /// A weight that cannot be quantized.
    pub(super) fn of(
        reading: Reading<'a>,
        graph: &Graph,
        layer: &Layer,
        spec: &QuantSpec,
        widths: &[NumberFormat],
    ) -> Result<Self, RunError> {
        let values = weight_values(graph, layer)?;
        let outputs = layer.weight_shape[layer.channel_axis];
        let matrix = |weight: &[f32], bias: Option<&[f32]>| {
            let by_output = if layer.channel_axis == 0 {
                weight.to_vec()
            } else {
                transposed(weight, outputs)
            };
            reading
                .patch
                .of_weight(&by_output, outputs, bias)
                .map_err(|error| RunError::layer(layer, error.to_string()))
        };
        let bias = bias_values(graph, layer)?;
        let widths: Result<Vec<PatchGram>, RunError> = widths
            .iter()
            .map(|width| {
                let change = if *width == NumberFormat::F32 {
                    vec![0.0; values.len()]
                } else {
                    let spec = QuantSpec {
                        format: *width,
                        ..*spec
                    };
                    let mut change = quantize_layer_weight(layer, &values, &spec)?.dequantized;
                    for (change, value) in change.iter_mut().zip(&values) {
                        *change -= value;
                    }
                    change
                };
                matrix(&change, None)
            })
            .collect();
        Ok(Self {
            reading,
            outputs,
            windows: OnceLock::new(),
            float: matrix(&values, bias.as_deref())?,
            bias_squares: bias.iter().flatten().map(|b| f64::from(*b).powi(2)).sum(),
            widths: widths?,
        })
    }

    pub(super) fn reading(&self) -> &Reading<'a> {
        &self.reading
    }

    /// The matrix of what the layer reads of images.
    ///
    /// # Errors
    /// Images of other channels or several sizes, or smaller than the kernel.
    pub(super) fn gram(&self, images: &[Tensor]) -> candle_core::Result<PatchGram> {
        let rows = match self.reading.conv {
            Some(_) => None,
            None => Some(Tensor::cat(images, 3)?),
        };
        let images = rows.as_ref().map_or(images, std::slice::from_ref);
        self.windows_over(images.first())?.gram(images)
    }

    /// The windows over images of the size of this one.
    fn windows_over(&self, image: Option<&Tensor>) -> candle_core::Result<Cow<'_, PatchWindows>> {
        let size = match image.map(Tensor::dims) {
            Some(&[_, _, height, width, ..]) => [height, width],
            other => candle_core::bail!("expected an image, got {other:?}"),
        };
        if let Some(windows) = self.windows.get()
            && windows.image() == size
        {
            return Ok(Cow::Borrowed(windows));
        }
        let windows = self.reading.windows(size)?;
        self.windows.get_or_init(|| windows.clone());
        Ok(Cow::Owned(windows))
    }

    /// Whether an image is kept until those of a batch are together: where it is smaller than its matrix,
    /// and where the matrix of many takes less time.
    ///
    /// # Errors
    /// An image that is smaller than the kernel.
    pub(super) fn keeps(&self, image: &Tensor) -> candle_core::Result<bool> {
        if self.reading.is_smaller(image) {
            return Ok(true);
        }
        let samples = image.dims().first().copied().unwrap_or(1).max(1);
        let is_small = image.elem_count() / samples <= KEPT_NUMBERS;
        Ok(is_small && self.windows_over(Some(image))?.gain_together())
    }

    /// The errors of the output at each width, from the matrix of the input.
    pub(super) fn errors<'g>(&'g self, gram: &'g PatchGram) -> impl Iterator<Item = ErrorSum> + 'g {
        // Rounding may leave a tiny negative sum; NaN stays.
        let squares = |sum: f64| if sum < 0.0 { 0.0 } else { sum };
        let windows = gram.windows();
        let signal = squares(gram.dot(&self.float) + windows as f64 * self.bias_squares);
        self.widths.iter().map(move |change| ErrorSum {
            signal,
            noise: squares(gram.dot(change)),
            count: windows * self.outputs as u64,
        })
    }
}

/// The bias as it is added, one number for each output.
fn bias_values(graph: &Graph, layer: &Layer) -> Result<Option<Vec<f32>>, RunError> {
    let Some(bias) = layer.bias.and_then(|id| graph.initializer(id)) else {
        return Ok(None);
    };
    let mut values = bias.flatten_all()?.to_vec1::<f32>()?;
    if let Op::Gemm { beta, .. } = graph.node(layer.node).op {
        for value in &mut values {
            *value *= beta;
        }
    }
    Ok(Some(values))
}

/// A row-major matrix with so many columns, column by column.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|column| matrix.iter().skip(column).step_by(columns).copied())
        .collect()
}
