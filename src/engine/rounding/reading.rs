//! What a layer reads for each element of its output, summed over samples.

use std::ops::Range;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::engine::kernels::ConvGeometry;
use crate::engine::slices::with_f32;
use crate::model::{Graph, Layer, Op};
use crate::quant::WindowSums;

/// Floats of unrolled windows that are held at a time; they stay in the last-level cache.
const UNROLLED: usize = 2 << 20;
/// Rows of a symmetric product that are computed together.
const STRIPE: usize = 96;
/// Windows for each number of a window beyond which more of them tell nothing new.
const WINDOWS_PER_NUMBER: usize = 128;
/// Windows that are enough for no layer.
const FEWEST_WINDOWS: usize = 1 << 14;

/// How a layer reads its input: as windows of an image, or as rows.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// `None` for matrix products.
    window: Option<Window>,
    groups: usize,
    /// Numbers of a window.
    size: usize,
    /// Output channels of a group.
    outputs: usize,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    kernel: [usize; 2],
    geometry: ConvGeometry,
    image: [usize; 2],
    output: [usize; 2],
}

impl Reading {
    /// The reading of an input of this shape; `None` where the layer is no convolution and no product
    /// of rows and a matrix, or where the bias is computed by the graph.
    pub(super) fn of(graph: &Graph, layer: &Layer, input: &[usize]) -> Option<Self> {
        let node = graph.node(layer.node);
        if layer.bias.is_none() && node.input(2).is_some() {
            return None;
        }
        match (&node.op, layer.weight_shape.as_slice()) {
            (Op::Conv(conv), &[outputs, channels, ref kernel @ ..]) => {
                let kernel = two_axes(kernel)?;
                let image = two_axes(input.get(2..)?)?;
                let geometry = ConvGeometry::resolve(conv, kernel, image).ok()?;
                Some(Self {
                    window: Some(Window {
                        kernel,
                        geometry,
                        image,
                        output: geometry.output_size(kernel, image)?,
                    }),
                    groups: conv.groups,
                    size: channels * kernel[0] * kernel[1],
                    outputs: outputs.checked_div(conv.groups)?,
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
                let (size, outputs) = if layer.channel_axis == 0 {
                    (second, first)
                } else {
                    (first, second)
                };
                Some(Self {
                    window: None,
                    groups: 1,
                    size,
                    outputs,
                })
            }
            _ => None,
        }
        .filter(|reading| reading.size > 0 && reading.outputs > 0)
    }

    /// Bytes that the sums and what is made of them take.
    pub(super) fn bytes(&self) -> Option<usize> {
        let square = self.size.checked_mul(self.size)?;
        // Two sets of sums, the matrix in order, its factor, and both in single precision.
        square
            .checked_mul(self.groups)?
            .checked_mul(5 * size_of::<f64>())
    }

    /// Sums of nothing, one for each group.
    pub(super) fn sums(&self) -> Vec<WindowSums> {
        vec![WindowSums::new(self.size, self.outputs); self.groups]
    }

    /// Of how many rows of an output image one is summed, where so many samples will be.
    pub(super) fn row_step(&self, samples: usize) -> usize {
        let Some(window) = &self.window else { return 1 };
        let enough = (self.size * WINDOWS_PER_NUMBER).max(FEWEST_WINDOWS);
        let [rows, columns] = window.output;
        (samples * rows * columns / enough).clamp(1, rows.max(1))
    }

    /// Adds the windows of a batch whose first sample is the `first` of all.
    ///
    /// `input` is what the layer reads, quantized; `residual` has the shape of its output. Both are plain.
    ///
    /// # Errors
    /// Tensors of other shapes.
    pub(super) fn add(
        &self,
        sums: &mut [WindowSums],
        input: &Tensor,
        residual: &Tensor,
        first: usize,
        row_step: usize,
    ) -> candle_core::Result<()> {
        let Some(window) = &self.window else {
            let rows = input.reshape(((), self.size))?;
            let residual = residual.reshape(((), self.outputs))?;
            let [sums] = sums else {
                candle_core::bail!("expected one set of sums, got {}", sums.len());
            };
            return accumulate(sums, &rows.t()?.contiguous()?, &residual.t()?.contiguous()?);
        };
        let samples = input.dims().first().copied().unwrap_or(0);
        let [height, width] = window.image;
        let [out_height, out_width] = window.output;
        let channels = self.groups * (self.size / (window.kernel[0] * window.kernel[1]));
        let outputs = self.groups * self.outputs;
        if input.elem_count() != samples * channels * height * width
            || residual.elem_count() != samples * outputs * out_height * out_width
        {
            candle_core::bail!(
                "expected {channels} channels of {height} by {width} and {outputs} of {out_height} by {out_width}, got {:?} and {:?}",
                input.dims(),
                residual.dims()
            );
        }
        with_f32(input, |input| {
            with_f32(residual, |residual| {
                let all = Images {
                    window,
                    input: Planes {
                        values: input,
                        channels,
                        len: height * width,
                    },
                    residual: Planes {
                        values: residual,
                        channels: outputs,
                        len: out_height * out_width,
                    },
                    first,
                    row_step,
                };
                let add = |(group, sums): (usize, &mut WindowSums)| {
                    self.add_group(group, sums, &all, samples)
                };
                if self.groups == 1 {
                    sums.iter_mut().enumerate().try_for_each(add)
                } else {
                    sums.par_iter_mut().enumerate().try_for_each(add)
                }
            })
        })
    }

    fn add_group(
        &self,
        group: usize,
        sums: &mut WindowSums,
        all: &Images<'_>,
        samples: usize,
    ) -> candle_core::Result<()> {
        let of_sample = all.windows_of_sample();
        let at_once = (UNROLLED / (self.size * of_sample).max(1)).max(1);
        for start in (0..samples).step_by(at_once) {
            let part = start..samples.min(start + at_once);
            let count = part.len() * of_sample;
            let mut windows = vec![0.0; self.size * count];
            windows
                .par_chunks_mut(count.max(1))
                .enumerate()
                .for_each(|(place, row)| all.unroll(group * self.size + place, &part, row));
            let mut lacking = vec![0.0; self.outputs * count];
            lacking
                .par_chunks_mut(count.max(1))
                .enumerate()
                .for_each(|(output, row)| all.pick(group * self.outputs + output, &part, row));
            let windows = Tensor::from_vec(windows, (self.size, count), &Device::Cpu)?;
            let lacking = Tensor::from_vec(lacking, (self.outputs, count), &Device::Cpu)?;
            accumulate(sums, &windows, &lacking)?;
        }
        Ok(())
    }
}

/// The lengths of two axes; a single axis is the horizontal one.
fn two_axes(lengths: &[usize]) -> Option<[usize; 2]> {
    match *lengths {
        [width] => Some([1, width]),
        [height, width] => Some([height, width]),
        _ => None,
    }
}

struct Planes<'a> {
    values: &'a [f32],
    channels: usize,
    len: usize,
}

impl Planes<'_> {
    fn plane(&self, sample: usize, channel: usize) -> &[f32] {
        &self.values[(sample * self.channels + channel) * self.len..][..self.len]
    }
}

/// A batch of inputs and residuals.
struct Images<'a> {
    window: &'a Window,
    input: Planes<'a>,
    residual: Planes<'a>,
    first: usize,
    row_step: usize,
}

impl Images<'_> {
    fn rows_of_sample(&self) -> usize {
        self.window.output[0] / self.row_step
    }

    fn windows_of_sample(&self) -> usize {
        self.rows_of_sample() * self.window.output[1]
    }

    /// The rows of the output that are summed; every sample begins with another one.
    fn rows(&self, sample: usize) -> impl Iterator<Item = usize> {
        let offset = (self.first + sample) % self.row_step;
        (0..self.rows_of_sample()).map(move |row| row * self.row_step + offset)
    }

    /// The numbers at one place of all windows of some samples.
    fn unroll(&self, place: usize, samples: &Range<usize>, unrolled: &mut [f32]) {
        let Window {
            kernel: [kernel_height, kernel_width],
            geometry,
            image: [height, width],
            output: [_, columns],
        } = *self.window;
        let (channel, tap) = (
            place / (kernel_height * kernel_width),
            place % (kernel_height * kernel_width),
        );
        let down = tap / kernel_width * geometry.dilations[0];
        let right = tap % kernel_width * geometry.dilations[1];
        let [top, left, ..] = geometry.pads;
        let [row_stride, stride] = geometry.strides;
        // Output columns whose input lies within the image.
        let begin = left.saturating_sub(right).div_ceil(stride).min(columns);
        let end = (width + left)
            .saturating_sub(right)
            .div_ceil(stride)
            .clamp(begin, columns);
        let mut lines = unrolled.chunks_mut(columns.max(1));
        for sample in samples.clone() {
            let plane = self.input.plane(sample, channel);
            for row in self.rows(sample) {
                let Some(line) = lines.next() else { return };
                let Some(y) = (row * row_stride + down)
                    .checked_sub(top)
                    .filter(|y| *y < height)
                else {
                    continue;
                };
                let source = &plane[y * width..(y + 1) * width];
                if begin < end {
                    let source = source[begin * stride + right - left..]
                        .iter()
                        .step_by(stride);
                    for (to, from) in line[begin..end].iter_mut().zip(source) {
                        *to = *from;
                    }
                }
            }
        }
    }

    /// The residuals of one channel at the same windows.
    fn pick(&self, channel: usize, samples: &Range<usize>, picked: &mut [f32]) {
        let columns = self.window.output[1];
        let mut lines = picked.chunks_mut(columns.max(1));
        for sample in samples.clone() {
            let plane = self.residual.plane(sample, channel);
            for row in self.rows(sample) {
                let Some(line) = lines.next() else { return };
                line.copy_from_slice(&plane[row * columns..][..columns]);
            }
        }
    }
}

/// Adds windows `[size, count]` and residuals `[outputs, count]`.
fn accumulate(
    sums: &mut WindowSums,
    windows: &Tensor,
    residual: &Tensor,
) -> candle_core::Result<()> {
    let (size, count) = windows.dims2()?;
    let transposed = windows.t()?;
    for start in (0..size).step_by(STRIPE) {
        // The matrix is symmetric: each stripe of rows ends at the diagonal, and is mirrored there.
        let rows = STRIPE.min(size - start);
        let own = windows.narrow(0, start, rows)?;
        let product = own.matmul(&transposed.narrow(1, 0, start + rows)?)?;
        with_f32(&product, |values| {
            for (row, values) in values.chunks(start + rows).enumerate() {
                let row = start + row;
                for (column, value) in values.iter().enumerate() {
                    sums.products[row * size + column] += f64::from(*value);
                    if column < start {
                        sums.products[column * size + row] += f64::from(*value);
                    }
                }
            }
            Ok(())
        })?;
    }
    with_f32(&residual.matmul(&transposed)?, |values| {
        for (sum, value) in sums.residual_products.iter_mut().zip(values) {
            *sum += f64::from(*value);
        }
        Ok(())
    })?;
    let add_rows = |to: &mut [f64], rows: &Tensor, of: fn(f64) -> f64| {
        with_f32(rows, |values| {
            let rows = values.par_chunks(count.max(1));
            to.par_iter_mut().zip(rows).for_each(|(sum, row)| {
                *sum += row.iter().map(|value| of(f64::from(*value))).sum::<f64>();
            });
            Ok(())
        })
    };
    add_rows(&mut sums.inputs, windows, |x| x)?;
    add_rows(&mut sums.residuals, residual, |r| r)?;
    add_rows(&mut sums.residual_squares, residual, |r| r * r)?;
    sums.windows += count as f64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::executor::Executor;
    use crate::engine::{Activations, Keep, RunOptions};
    use crate::jobs::CancelToken;
    use crate::model::{Conv, Dim, ElementType, GraphBuilder, Metadata, ModelFormat, Padding};

    fn numbers(shape: &[usize], seed: usize) -> Tensor {
        let count = shape.iter().product::<usize>();
        let value = |i: usize| ((i * 37 + seed * 11 + i * i % 13) % 29) as f32 / 14.0 - 1.0;
        Tensor::from_vec(
            (0..count).map(value).collect::<Vec<f32>>(),
            shape,
            &Device::Cpu,
        )
        .unwrap()
    }

    /// A convolution on images of 5 channels by `groups`, or a product of rows, without a bias.
    fn layer(op: Op, input: &[usize], weight: &[usize]) -> Executor {
        let mut builder = GraphBuilder::new();
        let shape = input[1..].iter().copied().map(Dim::Fixed);
        let shape = std::iter::once(Dim::Symbol("N".to_owned())).chain(shape);
        let x = builder.input("x", ElementType::F32, shape.collect());
        let w = builder.initializer("w", numbers(weight, 3));
        let y = builder.node("layer", op, &[x, w], "y");
        builder.output(y);
        let metadata = Metadata {
            name: "m".to_owned(),
            format: ModelFormat::Onnx,
            sha256: String::new(),
            producer: None,
            opset: None,
            architecture: None,
        };
        Executor::new(Arc::new(builder.finish(metadata).unwrap()))
    }

    /// The output of a layer has the squares and the sum that its weight gives on the sums.
    #[track_caller]
    fn check(op: Op, input: &[usize], weight: &[usize]) {
        let name = format!("{op:?}");
        let executor = layer(op, input, weight);
        let x = numbers(input, 1);
        let mut fed = Activations::new();
        fed.insert(executor.graph().inputs()[0], x.clone());
        let options = RunOptions {
            keep: Keep::Outputs,
            cancel: &CancelToken::default(),
            tap: None,
        };
        let held = executor
            .run(&executor.prepare_float().unwrap(), &fed, options)
            .unwrap();
        let y = held
            .get(executor.graph().outputs()[0])
            .unwrap()
            .plain()
            .unwrap();
        let layer = &executor.layers()[0];
        let reading = Reading::of(executor.graph(), layer, input).unwrap();
        let mut sums = reading.sums();
        // What the weight gives is what is lacking where it is left out, so nothing is left.
        reading.add(&mut sums, &x, &y, 0, 1).unwrap();
        let signal: f64 =
            with_f32(&y, |y| Ok(y.iter().map(|y| f64::from(*y).powi(2)).sum())).unwrap();
        let by_channel: Vec<f32> = {
            let w = numbers(weight, 3);
            let w = if layer.channel_axis == 0 {
                w
            } else {
                w.t().unwrap().contiguous().unwrap()
            };
            w.flatten_all().unwrap().to_vec1().unwrap()
        };
        let (mut squares, mut left) = (0.0, 0.0);
        let size = sums[0].size();
        let mut channels = by_channel.chunks(size);
        for sums in &sums {
            for output in 0..sums.outputs() {
                let channel = channels.next().unwrap();
                squares += sums.residual_squares[output];
                left += sums.squared_error(output, channel, 0.0);
            }
        }
        assert!(
            (squares / signal - 1.0).abs() < 1e-5,
            "{name}: {squares} {signal}"
        );
        assert!(left < 1e-4 * signal, "{name}: {left} of {signal}");
        let windows = (y.elem_count() / sums.len() / sums[0].outputs()) as f64;
        assert_eq!(sums[0].windows, windows, "{name}");
    }

    fn conv(groups: usize, stride: usize, dilation: usize) -> Op {
        Op::Conv(Conv {
            strides: vec![stride; 2],
            padding: Padding::Explicit(vec![1, 0, 2, 1]),
            dilations: vec![dilation; 2],
            groups,
        })
    }

    #[test]
    fn windows_of_every_kind_give_the_output() {
        check(conv(1, 1, 1), &[2, 5, 7, 6], &[4, 5, 3, 3]);
        check(conv(1, 2, 1), &[3, 5, 7, 6], &[4, 5, 3, 2]);
        check(conv(1, 1, 2), &[2, 3, 9, 8], &[2, 3, 3, 3]);
        check(conv(2, 1, 1), &[2, 6, 5, 5], &[4, 3, 3, 3]);
        check(conv(6, 2, 1), &[2, 6, 8, 8], &[6, 1, 3, 3]);
        check(conv(1, 1, 1), &[2, 70, 3, 3], &[3, 70, 1, 1]);
        let one_axis = Op::Conv(Conv {
            strides: vec![2],
            padding: Padding::Explicit(vec![1, 1]),
            dilations: Vec::new(),
            groups: 1,
        });
        check(one_axis, &[2, 3, 11], &[4, 3, 3]);
        check(Op::MatMul, &[2, 4, 7], &[7, 3]);
        let gemm = |trans_b: bool| Op::Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b,
        };
        check(gemm(true), &[9, 5], &[3, 5]);
        check(gemm(false), &[9, 5], &[5, 3]);
    }

    #[test]
    fn rows_of_large_images_are_taken_in_turn() {
        let executor = layer(conv(1, 1, 1), &[1, 1, 64, 64], &[1, 1, 1, 1]);
        let layer = &executor.layers()[0];
        let reading = Reading::of(executor.graph(), layer, &[1, 1, 64, 64]).unwrap();
        assert_eq!(reading.row_step(1), 1);
        let step = reading.row_step(40);
        assert!(step > 1 && step < 64, "{step}");
        // The whole image once, in as many samples as there are steps.
        let image = numbers(&[1, 1, 64, 64], 5);
        let images = Tensor::cat(&vec![image.clone(); step], 0).unwrap();
        let output = numbers(&[step, 1, 67, 65], 2);
        let mut part = reading.sums();
        reading.add(&mut part, &images, &output, 0, step).unwrap();
        let rows = 67 / step * step;
        assert_eq!(part[0].windows, (rows * 65) as f64);
    }
}
