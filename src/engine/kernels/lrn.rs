//! Local response normalization.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::contiguous_f32;

/// Parameters of [`lrn`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrnParameters {
    /// Factor of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Constant under the exponent.
    pub bias: f32,
    /// Number of channels in the window.
    pub size: usize,
}

/// Divides each element by a power of the mean square of its neighbours across channels.
///
/// ```text
/// y[n, c, …] = x[n, c, …] / (bias + alpha / size · Σ x[n, i, …]²)^beta
/// i from max(0, c − floor((size − 1) / 2)) to min(C − 1, c + ceil((size − 1) / 2))
/// ```
/// Source: ONNX LRN-13. The input is `[batch, channels, …]`.
///
/// # Errors
/// An input that is not `f32` or has no channel axis, or a window of size 0.
pub fn lrn(x: &Tensor, parameters: &LrnParameters) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Lrn(*parameters))
}

struct Lrn(LrnParameters);

impl CustomOp1 for Lrn {
    fn name(&self) -> &'static str {
        "lrn"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let LrnParameters {
            alpha,
            beta,
            bias,
            size,
        } = self.0;
        let [_, channels, spatial @ ..] = layout.dims() else {
            bail!("input {:?} has no channels", layout.dims());
        };
        if size == 0 {
            bail!("size is 0, expected at least 1");
        }
        let plane: usize = spatial.iter().product();
        let mut y = x.to_vec();
        if plane == 0 {
            return Ok((CpuStorage::F32(y), layout.shape().clone()));
        }
        let (before, after) = ((size - 1) / 2, size / 2);
        y.par_chunks_exact_mut(plane).enumerate().for_each_init(
            Vec::new,
            |squares: &mut Vec<f32>, (index, output)| {
                let channel = index % channels;
                let first = index - channel.min(before);
                let last = index + (channels - 1 - channel).min(after);
                squares.clear();
                squares.resize(plane, 0.0);
                for neighbour in x[first * plane..(last + 1) * plane].chunks_exact(plane) {
                    for (sum, value) in squares.iter_mut().zip(neighbour) {
                        *sum += value * value;
                    }
                }
                for (value, sum) in output.iter_mut().zip(squares) {
                    *value /= (bias + alpha / size as f32 * *sum).powf(beta);
                }
            },
        );
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, on_one_and_two_threads, values};
    use super::*;

    #[test]
    fn agrees_with_the_definition() -> Result<()> {
        let mut random = Random::new(21);
        for size in 1..=7usize {
            let parameters = LrnParameters {
                alpha: 0.7,
                beta: 0.75,
                bias: 1.5,
                size,
            };
            let [batch, channels, plane] = [2, 5, 6];
            let x = random.tensor(&[batch, channels, 2, 3])?;
            let y = values(&on_one_and_two_threads(|| lrn(&x, &parameters))?)?;
            let x = values(&x)?;
            for (index, (y, value)) in y.iter().zip(&x).enumerate() {
                let (n, c, p) = (
                    index / plane / channels,
                    index / plane % channels,
                    index % plane,
                );
                let low = c as isize - ((size - 1) / 2) as isize;
                let high = c as isize + (size as isize - 1 - (size as isize - 1) / 2);
                let sum: f32 = (0..channels)
                    .filter(|i| (low..=high).contains(&(*i as isize)))
                    .map(|i| x[(n * channels + i) * plane + p].powi(2))
                    .sum();
                let expected = value / (1.5 + 0.7 / size as f32 * sum).powf(0.75);
                assert!((y - expected).abs() < 1e-6, "size {size} element {index}");
            }
        }
        Ok(())
    }
}
