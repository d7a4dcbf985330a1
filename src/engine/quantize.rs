//! Fake-quantization of a layer's input.

use candle_core::Tensor;

use super::kernels::{fake_quantize, fake_quantize_observed};
use crate::quant::{ActivationQuantizer, SliceErrors};

/// Quantizes and dequantizes a tensor; measures the error where asked.
pub(super) fn quantize_activation(
    input: &Tensor,
    quantizer: &ActivationQuantizer,
    measure: bool,
) -> candle_core::Result<(Tensor, Option<SliceErrors>)> {
    match (quantizer, measure) {
        (ActivationQuantizer::Identity, _) => Ok((input.clone(), None)),
        (_, true) => {
            let (quantized, errors) = fake_quantize_observed(input, quantizer)?;
            Ok((quantized, Some(errors)))
        }
        (_, false) => Ok((fake_quantize(input, quantizer)?, None)),
    }
}
