//! Maximum and average over windows.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::depthwise::{ChannelBuffers, Reduction, reduce_channel, window_tile_width};
use super::geometry::PoolGeometry;
use super::planes::{Windows, planned};
use super::{checked_len, contiguous_f32};

/// Maximum over windows of `[batch, channels, height, width]`; padding never wins.
///
/// A window that holds nothing but padding gives the lowest finite number, as in ONNX Runtime.
///
/// # Errors
/// An input that is not four-dimensional `f32`, or a window that exceeds the padded input.
pub fn max_pool2d(x: &Tensor, geometry: &PoolGeometry) -> Result<Tensor> {
    x.contiguous()?.apply_op1(MaxPool(*geometry))
}

/// Average over windows of `[batch, channels, height, width]`.
///
/// ```text
/// y = Σ x / (elements of the window inside the input, or inside the padded input if padding counts)
/// ```
/// Source: ONNX AveragePool-19. What `ceil_mode` adds behind the padding never counts, and a window
/// without elements gives zero.
///
/// # Errors
/// An input that is not four-dimensional `f32`, or a window that exceeds the padded input.
pub fn average_pool2d(x: &Tensor, geometry: &PoolGeometry) -> Result<Tensor> {
    x.contiguous()?.apply_op1(AveragePool(*geometry))
}

/// Average over all axes from the third on; `[batch, channels, …]` gives `[batch, channels, 1, …]`.
///
/// # Errors
/// An input that is not `f32` or has fewer than three axes.
pub fn global_average_pool(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(GlobalPool {
        name: "global_average_pool",
        reduce: |plane| (sum(plane) / plane.len() as f64) as f32,
    })
}

/// Maximum over all axes from the third on; `[batch, channels, …]` gives `[batch, channels, 1, …]`.
///
/// # Errors
/// An input that is not `f32` or has fewer than three axes.
pub fn global_max_pool(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(GlobalPool {
        name: "global_max_pool",
        reduce: |plane| plane.iter().copied().fold(f32::MIN, f32::max),
    })
}

/// Sum in a fixed order with eight independent chains.
fn sum(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*value);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().copied().map(f64::from).sum::<f64>()
}

struct GlobalPool {
    name: &'static str,
    reduce: fn(&[f32]) -> f32,
}

impl CustomOp1 for GlobalPool {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let [batch, channels, spatial @ ..] = layout.dims() else {
            bail!("input {:?} has no channels", layout.dims());
        };
        let plane: usize = spatial.iter().product();
        if spatial.is_empty() || plane == 0 {
            bail!("input {:?} has no pixels", layout.dims());
        }
        let y: Vec<f32> = x.par_chunks_exact(plane).map(self.reduce).collect();
        let mut shape = vec![*batch, *channels];
        shape.resize(layout.dims().len(), 1);
        Ok((CpuStorage::F32(y), Shape::from(shape)))
    }
}

struct MaxPool(PoolGeometry);

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let dims = layout.shape().dims4()?.into();
        let (y, shape, _) = reduce_planes(&self.0, x, dims, Reduction::Max, f32::MIN)?;
        Ok((CpuStorage::F32(y), shape))
    }
}

struct AveragePool(PoolGeometry);

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "average_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let dims = layout.shape().dims4()?.into();
        let (mut y, shape, windows) = reduce_planes(&self.0, x, dims, Reduction::Sum, 0.0)?;
        let counts = window_counts(&windows, self.0.count_include_pad);
        y.par_chunks_exact_mut(counts.len()).for_each(|plane| {
            for (value, count) in plane.iter_mut().zip(&counts) {
                *value /= count;
            }
        });
        Ok((CpuStorage::F32(y), shape))
    }
}

/// Reduces the windows of each plane, in parallel.
fn reduce_planes(
    geometry: &PoolGeometry,
    x: &[f32],
    dims: [usize; 4],
    reduction: Reduction<'static>,
    padding: f32,
) -> Result<(Vec<f32>, Shape, Windows)> {
    let [batch, channels, height, width] = dims;
    let windows = pool_windows(geometry, [height, width])?;
    let output = windows.output;
    let layout = planned(&windows, window_tile_width(), 1)?;
    let shape = [batch, channels, output[0], output[1]];
    let mut y = vec![0.0; checked_len(&shape)?];
    y.par_chunks_exact_mut(layout.output_len())
        .zip(x.par_chunks_exact(height * width))
        .for_each_init(ChannelBuffers::default, |buffers, (output, image)| {
            reduce_channel(&layout, reduction, image, padding, buffers, output);
        });
    Ok((y, Shape::from_dims(&shape), windows))
}

/// Where the windows of a pool lie in an input `[height, width]`.
///
/// # Errors
/// An input without pixels, or a window that exceeds the padded input.
pub(super) fn pool_windows(
    geometry: &PoolGeometry,
    [height, width]: [usize; 2],
) -> Result<Windows> {
    let output = match geometry.output_size([height, width]) {
        Some(output) if !output.contains(&0) => output,
        _ => bail!(
            "window {:?} exceeds the input [{height}, {width}] with pads {:?}",
            geometry.kernel,
            geometry.pads
        ),
    };
    if height * width == 0 {
        bail!("input [{height}, {width}] has no pixels");
    }
    Ok(Windows {
        kernel: geometry.kernel,
        strides: geometry.strides,
        pads: geometry.pads,
        dilations: geometry.dilations,
        input: [height, width],
        output,
    })
}

/// Number of window elements that count, at least 1, for each output pixel.
pub(super) fn window_counts(windows: &Windows, include_pad: bool) -> Vec<f32> {
    let [heights, widths] = [0, 1].map(|axis| element_counts(windows, axis, include_pad));
    heights
        .iter()
        .flat_map(|height| {
            widths
                .iter()
                .map(move |width| (height * width).max(1) as f32)
        })
        .collect()
}

/// Number of window elements that count, for each output along an axis.
fn element_counts(windows: &Windows, axis: usize, include_pad: bool) -> Vec<usize> {
    let begin = windows.pads[axis];
    let end = begin + windows.input[axis];
    let counted = if include_pad {
        0..end + windows.pads[axis + 2]
    } else {
        begin..end
    };
    (0..windows.output[axis])
        .map(|i| {
            (0..windows.kernel[axis])
                .map(|k| i * windows.strides[axis] + k * windows.dilations[axis])
                .filter(|position| counted.contains(position))
                .count()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, assert_sums_close, on_one_and_two_threads, values};
    use super::*;

    fn random_geometry(random: &mut Random) -> PoolGeometry {
        PoolGeometry {
            kernel: [random.between(1, 4), random.between(1, 4)],
            strides: [random.between(1, 3), random.between(1, 3)],
            pads: [(); 4].map(|()| random.between(0, 2)),
            dilations: [random.between(1, 2), random.between(1, 2)],
            ceil_mode: random.choose(&[false, true]),
            count_include_pad: random.choose(&[false, true]),
        }
    }

    /// The input elements of each window and the number of padded elements, by the definition.
    fn windows(geometry: &PoolGeometry, x: &[f32], dims: [usize; 4]) -> Vec<(Vec<f32>, usize)> {
        let [batch, channels, height, width] = dims;
        let Some([out_height, out_width]) = geometry.output_size([height, width]) else {
            return Vec::new();
        };
        let mut windows = Vec::new();
        for index in 0..batch * channels * out_height * out_width {
            let (plane, i, j) = (
                index / (out_height * out_width),
                index / out_width % out_height,
                index % out_width,
            );
            let (mut inside, mut padded) = (Vec::new(), 0);
            for k in 0..geometry.kernel[0] {
                for l in 0..geometry.kernel[1] {
                    let y = (i * geometry.strides[0] + k * geometry.dilations[0]) as isize
                        - geometry.pads[0] as isize;
                    let x_ = (j * geometry.strides[1] + l * geometry.dilations[1]) as isize
                        - geometry.pads[1] as isize;
                    let is_inside =
                        (0..height as isize).contains(&y) && (0..width as isize).contains(&x_);
                    if is_inside {
                        inside.push(x[(plane * height + y as usize) * width + x_ as usize]);
                    }
                    let (bottom, right) = (geometry.pads[2], geometry.pads[3]);
                    if y < (height + bottom) as isize && x_ < (width + right) as isize {
                        padded += 1;
                    }
                }
            }
            windows.push((inside, padded));
        }
        windows
    }

    #[test]
    fn pools_agree_with_the_definition_on_random_shapes() -> Result<()> {
        let mut random = Random::new(11);
        for _ in 0..200 {
            let dims = [
                random.between(1, 2),
                random.between(1, 4),
                random.between(7, 13),
                random.between(7, 13),
            ];
            let geometry = random_geometry(&mut random);
            let context = format!("{dims:?} {geometry:?}");
            let x = random.tensor(&dims)?;
            let windows = windows(&geometry, &values(&x)?, dims);

            let max = on_one_and_two_threads(|| max_pool2d(&x, &geometry))?;
            let expected: Vec<f32> = windows
                .iter()
                .map(|(inside, _)| inside.iter().copied().fold(f32::MIN, f32::max))
                .collect();
            assert_eq!(values(&max)?, expected, "{context}");

            let average = on_one_and_two_threads(|| average_pool2d(&x, &geometry))?;
            let expected: Vec<_> = windows
                .iter()
                .map(|(inside, padded)| {
                    let count = if geometry.count_include_pad {
                        *padded
                    } else {
                        inside.len()
                    };
                    let mean = |values: &mut dyn Iterator<Item = f64>| {
                        values.sum::<f64>() / count.max(1) as f64
                    };
                    (
                        mean(&mut inside.iter().map(|x| f64::from(*x))),
                        mean(&mut inside.iter().map(|x| f64::from(x.abs()))),
                    )
                })
                .collect();
            assert_sums_close(&values(&average)?, &expected, &context);
        }
        Ok(())
    }

    #[test]
    fn ceil_mode_counts_what_lies_in_the_padded_input() -> Result<()> {
        let x = Tensor::new(
            &[[[[1.0f32, 2.0, 3.0, 4.0, 5.0]]]],
            &candle_core::Device::Cpu,
        )?;
        let geometry = PoolGeometry {
            kernel: [1, 2],
            strides: [1, 2],
            pads: [0; 4],
            dilations: [1, 1],
            ceil_mode: true,
            count_include_pad: true,
        };
        let average = average_pool2d(&x, &geometry)?;
        assert_eq!(values(&average)?, [1.5, 3.5, 5.0]);
        let floor = PoolGeometry {
            ceil_mode: false,
            ..geometry
        };
        assert_eq!(values(&average_pool2d(&x, &floor)?)?, [1.5, 3.5]);
        Ok(())
    }

    #[test]
    fn output_length_leaves_out_windows_that_start_in_the_trailing_padding() {
        // Input, kernel, stride, pads, ceil mode, output length.
        for (input, kernel, stride, pads, ceil_mode, expected) in [
            (4, 3, 2, [0, 0], false, Some(1)),
            (4, 3, 2, [0, 0], true, Some(2)),
            (5, 1, 3, [0, 1], true, Some(2)),
            (2, 1, 3, [0, 2], true, Some(1)),
            (112, 3, 2, [0, 0], true, Some(56)),
            (2, 3, 1, [0, 0], true, None),
        ] {
            let geometry = PoolGeometry {
                kernel: [1, kernel],
                strides: [1, stride],
                pads: [0, pads[0], 0, pads[1]],
                dilations: [1, 1],
                ceil_mode,
                count_include_pad: false,
            };
            let actual = geometry.output_size([1, input]).map(|[_, width]| width);
            assert_eq!(actual, expected, "{geometry:?}");
        }
    }

    #[test]
    fn global_pools_reduce_each_channel() -> Result<()> {
        let mut random = Random::new(12);
        for shape in [vec![2, 3, 7, 5], vec![1, 4, 9], vec![2, 2, 3, 3, 3]] {
            let x = random.tensor(&shape)?;
            let average = on_one_and_two_threads(|| global_average_pool(&x))?;
            let max = on_one_and_two_threads(|| global_max_pool(&x))?;
            let flat = x.flatten_from(2)?;
            let mut pooled = shape.clone();
            pooled[2..].fill(1);
            assert_eq!(average.dims(), pooled);
            let expected: Vec<f32> = values(&flat.mean(2)?)?;
            for (actual, expected) in values(&average)?.iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-6);
            }
            assert_eq!(values(&max)?, values(&flat.max(2)?)?);
        }
        Ok(())
    }

    #[test]
    fn attributes_that_would_exhaust_memory_are_refused() -> Result<()> {
        let x = Tensor::zeros(
            (1, 1, 4, 4),
            candle_core::DType::F32,
            &candle_core::Device::Cpu,
        )?;
        let plain = PoolGeometry {
            kernel: [2, 2],
            strides: [1, 1],
            pads: [0; 4],
            dilations: [1, 1],
            ceil_mode: true,
            count_include_pad: true,
        };
        let huge = 1 << 40;
        for geometry in [
            PoolGeometry {
                pads: [huge; 4],
                ..plain
            },
            PoolGeometry {
                kernel: [huge, 1],
                pads: [huge, 0, 0, 0],
                ..plain
            },
            PoolGeometry {
                dilations: [huge, huge],
                pads: [huge; 4],
                ..plain
            },
            PoolGeometry {
                pads: [usize::MAX; 4],
                ..plain
            },
            PoolGeometry {
                kernel: [usize::MAX, 2],
                dilations: [usize::MAX, 1],
                ..plain
            },
        ] {
            assert!(max_pool2d(&x, &geometry).is_err(), "{geometry:?}");
            assert!(average_pool2d(&x, &geometry).is_err(), "{geometry:?}");
        }
        let empty = x.narrow(0, 0, 0)?;
        let padded = PoolGeometry {
            pads: [huge; 4],
            ..plain
        };
        assert!(max_pool2d(&empty, &padded).is_err());
        Ok(())
    }
}
