//! Resampling along any axes.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{checked_len, contiguous_f32};
use crate::model::{CoordinateTransform, NearestRounding, Resize, ResizeMode};

/// Coefficient of the cubic kernel, the default of ONNX.
const CUBIC_COEFFICIENT: f32 = -0.75;

/// Resamples `x` to the shape `output`; `scales` has one factor (output over input) per axis.
///
/// Axes are independent: each output is a weighted sum of one (nearest), two (linear) or four (cubic)
/// inputs per axis, at the coordinates of ONNX Resize-13. Coordinates outside take the nearest edge.
///
/// # Errors
/// An input that is not `f32`, other numbers of lengths or scales than axes, an empty axis, or a scale
/// that is not positive.
pub fn resize(x: &Tensor, output: &[usize], scales: &[f32], parameters: Resize) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Resample {
        output: output.to_vec(),
        scales: scales.to_vec(),
        parameters,
    })
}

struct Resample {
    output: Vec<usize>,
    scales: Vec<f32>,
    parameters: Resize,
}

impl CustomOp1 for Resample {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let input = layout.dims();
        if self.output.len() != input.len() || self.scales.len() != input.len() {
            bail!(
                "sizes {:?} and scales {:?} do not fit an input of shape {input:?}",
                self.output,
                self.scales
            );
        }
        let mut shape = input.to_vec();
        let mut values = x.to_vec();
        for (axis, (length, scale)) in self.output.iter().zip(&self.scales).enumerate() {
            let from = shape[axis];
            if from == *length && *scale == 1.0 {
                continue;
            }
            if from == 0 || !(*scale > 0.0 && scale.is_finite()) {
                bail!("axis {axis} of length {from} cannot be scaled by {scale}");
            }
            shape[axis] = *length;
            checked_len(&shape)?;
            let taps = self.taps(from, *length, *scale);
            let inner: usize = shape[axis + 1..].iter().product();
            values = resample_axis(&values, from, inner, &taps, checked_len(&shape)?);
        }
        Ok((CpuStorage::F32(values), Shape::from(shape)))
    }
}

/// Inputs and weights of one output position.
type Taps = Vec<(usize, f32)>;

impl Resample {
    fn taps(&self, input: usize, output: usize, scale: f32) -> Vec<Taps> {
        (0..output)
            .map(|position| {
                let coordinate = self.coordinate(position, input, output, scale);
                match self.parameters.mode {
                    ResizeMode::Nearest => {
                        let index = nearest(coordinate, self.parameters.rounding);
                        vec![(clamped(index, input), 1.0)]
                    }
                    ResizeMode::Linear => linear(coordinate, input),
                    ResizeMode::Cubic => cubic(coordinate, input),
                }
            })
            .collect()
    }

    /// Input coordinate of an output position (ONNX Resize-13, `coordinate_transformation_mode`).
    fn coordinate(&self, position: usize, input: usize, output: usize, scale: f32) -> f32 {
        let position = position as f32;
        match self.parameters.coordinates {
            CoordinateTransform::Asymmetric => position / scale,
            CoordinateTransform::HalfPixel => (position + 0.5) / scale - 0.5,
            CoordinateTransform::PytorchHalfPixel if output > 1 => (position + 0.5) / scale - 0.5,
            CoordinateTransform::AlignCorners if output > 1 => {
                position * (input - 1) as f32 / (output - 1) as f32
            }
            CoordinateTransform::PytorchHalfPixel | CoordinateTransform::AlignCorners => 0.0,
        }
    }
}

fn nearest(coordinate: f32, rounding: NearestRounding) -> f32 {
    match rounding {
        NearestRounding::Ceil => coordinate.ceil(),
        NearestRounding::Floor => coordinate.floor(),
        NearestRounding::RoundPreferFloor => (coordinate - 0.5).ceil(),
        NearestRounding::RoundPreferCeil => (coordinate + 0.5).floor(),
    }
}

fn clamped(index: f32, length: usize) -> usize {
    (index.max(0.0) as usize).min(length - 1)
}

fn linear(coordinate: f32, length: usize) -> Taps {
    let coordinate = coordinate.clamp(0.0, (length - 1) as f32);
    let low = clamped(coordinate.floor(), length);
    let share = coordinate - low as f32;
    if share == 0.0 {
        return vec![(low, 1.0)];
    }
    vec![(low, 1.0 - share), ((low + 1).min(length - 1), share)]
}

/// Keys' kernel with four inputs, edges repeated.
fn cubic(coordinate: f32, length: usize) -> Taps {
    let a = CUBIC_COEFFICIENT;
    let base = coordinate.floor();
    let s = coordinate - base;
    let near = |d: f32| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    let weights = [far(s + 1.0), near(s), near(1.0 - s), far(2.0 - s)];
    [-1.0, 0.0, 1.0, 2.0]
        .iter()
        .zip(weights)
        .map(|(shift, weight)| (clamped(base + shift, length), weight))
        .collect()
}

/// Replaces an axis of length `from`, with `inner` elements a step, by one of `taps.len()`.
fn resample_axis(x: &[f32], from: usize, inner: usize, taps: &[Taps], len: usize) -> Vec<f32> {
    let mut y = vec![0.0; len];
    if len == 0 {
        return y;
    }
    y.par_chunks_exact_mut(taps.len() * inner)
        .zip(x.par_chunks_exact(from * inner))
        .for_each(|(output, input)| {
            for (row, taps) in output.chunks_exact_mut(inner).zip(taps) {
                for (index, weight) in taps {
                    let source = &input[index * inner..(index + 1) * inner];
                    for (out, value) in row.iter_mut().zip(source) {
                        *out += weight * value;
                    }
                }
            }
        });
    y
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::testing::{Random, on_one_and_two_threads, values};
    use super::*;

    fn resized(
        x: &[f32],
        output: usize,
        scale: f32,
        mode: ResizeMode,
        coordinates: CoordinateTransform,
        rounding: NearestRounding,
    ) -> Result<Vec<f32>> {
        let x = Tensor::from_slice(x, (1, 1, 1, x.len()), &Device::Cpu)?;
        let parameters = Resize {
            mode,
            coordinates,
            rounding,
        };
        values(&resize(
            &x,
            &[1, 1, 1, output],
            &[1.0, 1.0, 1.0, scale],
            parameters,
        )?)
    }

    #[test]
    fn nearest_rounds_in_four_ways() -> Result<()> {
        use CoordinateTransform::{Asymmetric, HalfPixel};
        use NearestRounding::{Ceil, Floor, RoundPreferCeil, RoundPreferFloor};
        let x = [0.0, 1.0, 2.0, 3.0];
        for (output, scale, coordinates, rounding, expected) in [
            // Coordinates 0, ½, 1, 1½, 2, 2½, 3, 3½.
            (
                8,
                2.0,
                Asymmetric,
                Floor,
                vec![0., 0., 1., 1., 2., 2., 3., 3.],
            ),
            (
                8,
                2.0,
                Asymmetric,
                Ceil,
                vec![0., 1., 1., 2., 2., 3., 3., 3.],
            ),
            (
                8,
                2.0,
                Asymmetric,
                RoundPreferFloor,
                vec![0., 0., 1., 1., 2., 2., 3., 3.],
            ),
            (
                8,
                2.0,
                Asymmetric,
                RoundPreferCeil,
                vec![0., 1., 1., 2., 2., 3., 3., 3.],
            ),
            // Coordinates ½, 2½.
            (2, 0.5, HalfPixel, RoundPreferFloor, vec![0., 2.]),
            (2, 0.5, HalfPixel, RoundPreferCeil, vec![1., 3.]),
        ] {
            let actual = resized(
                &x,
                output,
                scale,
                ResizeMode::Nearest,
                coordinates,
                rounding,
            )?;
            assert_eq!(actual, expected, "{coordinates:?} {rounding:?}");
        }
        Ok(())
    }

    #[test]
    fn linear_follows_each_coordinate_transform() -> Result<()> {
        use CoordinateTransform::{AlignCorners, Asymmetric, HalfPixel, PytorchHalfPixel};
        let x = [1.0, 2.0, 4.0];
        for (output, scale, coordinates, expected) in [
            (6, 2.0, Asymmetric, vec![1.0, 1.5, 2.0, 3.0, 4.0, 4.0]),
            (6, 2.0, HalfPixel, vec![1.0, 1.25, 1.75, 2.5, 3.5, 4.0]),
            (
                6,
                2.0,
                PytorchHalfPixel,
                vec![1.0, 1.25, 1.75, 2.5, 3.5, 4.0],
            ),
            (5, 5.0 / 3.0, AlignCorners, vec![1.0, 1.5, 2.0, 3.0, 4.0]),
            (1, 1.0 / 3.0, AlignCorners, vec![1.0]),
            (1, 1.0 / 3.0, PytorchHalfPixel, vec![1.0]),
            (1, 1.0 / 3.0, HalfPixel, vec![2.0]),
        ] {
            let rounding = NearestRounding::Floor;
            let actual = resized(&x, output, scale, ResizeMode::Linear, coordinates, rounding)?;
            for (actual, expected) in actual.iter().zip(&expected) {
                assert!(
                    (actual - expected).abs() < 1e-6,
                    "{coordinates:?}: {actual} {expected}"
                );
            }
            assert_eq!(actual.len(), expected.len());
        }
        Ok(())
    }

    #[test]
    fn cubic_reproduces_lines_and_constants() -> Result<()> {
        let x: Vec<f32> = (0..8u8).map(f32::from).collect();
        let rounding = NearestRounding::Floor;
        let coordinates = CoordinateTransform::Asymmetric;
        let y = resized(&x, 16, 2.0, ResizeMode::Cubic, coordinates, rounding)?;
        for (position, value) in y.iter().enumerate().take(12).skip(2) {
            assert!(
                (value - position as f32 / 2.0).abs() < 1e-5,
                "{position}: {value}"
            );
        }
        Ok(())
    }

    #[test]
    fn axes_are_independent_and_threads_do_not_matter() -> Result<()> {
        let mut random = Random::new(31);
        let parameters = Resize {
            mode: ResizeMode::Linear,
            coordinates: CoordinateTransform::HalfPixel,
            rounding: NearestRounding::Floor,
        };
        let x = random.tensor(&[2, 3, 5, 7])?;
        let both = on_one_and_two_threads(|| {
            resize(&x, &[2, 3, 10, 21], &[1.0, 1.0, 2.0, 3.0], parameters)
        })?;
        let rows = resize(&x, &[2, 3, 10, 7], &[1.0, 1.0, 2.0, 1.0], parameters)?;
        let transposed = rows.transpose(2, 3)?;
        let columns = resize(
            &transposed,
            &[2, 3, 21, 10],
            &[1.0, 1.0, 3.0, 1.0],
            parameters,
        )?;
        for (a, b) in values(&both)?
            .iter()
            .zip(values(&columns.transpose(2, 3)?)?)
        {
            assert!((a - b).abs() < 1e-6);
        }
        assert!(resize(&x, &[2, 3, 10], &[1.0, 1.0, 2.0], parameters).is_err());
        assert!(resize(&x, &[2, 3, 10, 7], &[1.0, 1.0, 0.0, 1.0], parameters).is_err());
        Ok(())
    }
}
