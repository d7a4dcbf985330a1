//! Quantization and dequantization of whole tensors.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::contiguous_f32;
use super::parallel::for_each_chunk;
use crate::quant::{ActivationQuantizer, SliceErrors};

/// Elements of one task. Error sums are added in the order of the chunks, on any number of threads.
const CHUNK: usize = 1 << 14;

/// Quantizes and dequantizes each element of an `f32` tensor.
///
/// # Errors
/// A tensor of another element type.
pub fn fake_quantize(x: &Tensor, quantizer: &ActivationQuantizer) -> Result<Tensor> {
    if matches!(quantizer, ActivationQuantizer::Identity) {
        return Ok(x.clone());
    }
    x.contiguous()?.apply_op1(FakeQuantize(*quantizer))
}

/// Like [`fake_quantize`], and measures the error in the same pass.
///
/// The sums are the same for any number of threads.
///
/// # Errors
/// A tensor of another element type.
pub fn fake_quantize_observed(
    x: &Tensor,
    quantizer: &ActivationQuantizer,
) -> Result<(Tensor, SliceErrors)> {
    let operation = Observed {
        quantizer: *quantizer,
        errors: OnceLock::new(),
    };
    let y = x.contiguous()?.apply_op1_no_bwd(&operation)?;
    match operation.errors.into_inner() {
        Some(errors) => Ok((y, errors)),
        None => bail!("the error was not measured on this device"),
    }
}

/// The error of quantizing a tensor, for a caller that quantizes it elsewhere.
///
/// # Errors
/// A tensor of another element type.
pub fn quantization_errors(x: &Tensor, quantizer: &ActivationQuantizer) -> Result<SliceErrors> {
    Ok(fake_quantize_observed(x, quantizer)?.1)
}

struct FakeQuantize(ActivationQuantizer);

impl CustomOp1 for FakeQuantize {
    fn name(&self) -> &'static str {
        "fake_quantize"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let mut y = vec![0.0; x.len()];
        for_each_chunk(&mut y, CHUNK, |index, y| {
            self.0.apply(&x[index * CHUNK..], y);
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

struct Observed {
    quantizer: ActivationQuantizer,
    errors: OnceLock<SliceErrors>,
}

impl CustomOp1 for Observed {
    fn name(&self) -> &'static str {
        "fake_quantize_observed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let mut y = vec![0.0; x.len()];
        let chunks: Vec<SliceErrors> = y
            .par_chunks_mut(CHUNK)
            .zip(x.par_chunks(CHUNK))
            .map(|(y, x)| self.quantizer.apply_observed(x, y))
            .collect();
        self.errors.get_or_init(|| {
            let mut total = SliceErrors::default();
            for chunk in &chunks {
                total.merge(chunk);
            }
            total
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, on_one_and_two_threads, values};
    use super::*;
    use crate::quant::{QuantSpec, Range};

    fn quantizer(format: &str) -> ActivationQuantizer {
        let format = format.parse().unwrap();
        let range = Range::new(-0.5, 0.75).unwrap();
        ActivationQuantizer::from_range(&QuantSpec::activation(format), range).unwrap()
    }

    #[test]
    fn tensors_are_quantized_like_slices() -> Result<()> {
        let mut random = Random::new(61);
        let x = random.tensor(&[3, 5, 2 * CHUNK / 10 + 7])?;
        for format in ["4", "8", "bf16", "f32"] {
            let rule = quantizer(format);
            let plain = on_one_and_two_threads(|| fake_quantize(&x, &rule))?;
            let observed = on_one_and_two_threads(|| Ok(fake_quantize_observed(&x, &rule)?.0))?;
            let x = values(&x)?;
            let mut expected = vec![0.0; x.len()];
            rule.apply(&x, &mut expected);
            assert_eq!(values(&plain)?, expected, "{format}");
            assert_eq!(values(&observed)?, expected, "{format}");
        }
        Ok(())
    }

    #[test]
    fn error_sums_do_not_depend_on_the_number_of_threads() -> Result<()> {
        let mut random = Random::new(62);
        let x = random.tensor(&[5 * CHUNK + 123])?;
        let rule = quantizer("4");
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.map_err(candle_core::Error::wrap)?;
            Ok::<_, candle_core::Error>(pool.install(|| fake_quantize_observed(&x, &rule))?.1)
        };
        let errors = on(1)?;
        assert_eq!(errors, on(2)?);
        let all = values(&x)?;
        let expected = rule.apply_observed(&all, &mut vec![0.0; all.len()]);
        assert_eq!(errors.saturated, expected.saturated);
        assert_eq!(errors.count, all.len() as u64);
        assert!((errors.noise / expected.noise - 1.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn views_are_quantized_in_their_own_order() -> Result<()> {
        let mut random = Random::new(63);
        let x = random.tensor(&[7, 9])?;
        let rule = quantizer("3");
        let view = values(&fake_quantize(&x.t()?, &rule)?)?;
        let copy = values(&fake_quantize(&x, &rule)?.t()?.contiguous()?)?;
        assert_eq!(view, copy);
        Ok(())
    }
}
