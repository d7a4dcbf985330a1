//! Layers whose sums of 16-bit codes are integers to the last bit.
//!
//! An `f32` holds integers below `2^24`, and products of 16-bit and 8-bit codes sum up to more. The codes
//! of the input are therefore taken apart, and both parts go through the layer:
//!
//! ```text
//! q = 256·h + l, l in 0..=255;   Σ q·w + b = 256 · Σ h·w + Σ l·w + b
//! ```

use candle_core::{Device, Tensor};

use super::edges::IntegerScaling;
use super::error::OpError;
use super::value::Value;
use crate::quant::{ActivationQuantizer, Grid};

/// How a kernel sums up products of 16-bit codes around zero.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeSum {
    /// Scale of the input.
    pub input: f32,
    /// The bias in steps of the sum, one number for each channel (axis 1); empty for none. The layer
    /// itself has none.
    pub bias: Vec<i64>,
    /// How the sum becomes a code.
    pub scaling: IntegerScaling,
    /// The grid of the output.
    pub output: Grid,
}

impl CodeSum {
    /// The levels of the output; `layer` runs the layer on an input with its quantizer.
    ///
    /// # Errors
    /// The input is no tensor of `f32`, or the layer cannot run.
    pub(super) fn evaluate(
        &self,
        input: &Value,
        layer: impl Fn(&Value, &ActivationQuantizer) -> Result<Value, OpError>,
    ) -> Result<Value, OpError> {
        let plain = input.plain()?;
        let values = plain.flatten_all()?.to_vec1::<f32>()?;
        let codes = values
            .iter()
            .map(|x| (f64::from(*x) / f64::from(self.input)).round() as i32);
        let parts: Vec<[f32; 2]> = codes
            .map(|code| {
                let low = code.rem_euclid(256);
                [(code - low) as f32 * self.input, low as f32 * self.input]
            })
            .collect();
        let failed = |error: crate::quant::QuantError| OpError::Message(error.to_string());
        let high = Grid::new(256.0 * self.input, 0, -128, 127).map_err(failed)?;
        let low = Grid::new(self.input, 0, 0, 255).map_err(failed)?;
        let mut sums = Vec::with_capacity(2);
        for (part, grid) in [high, low].into_iter().enumerate() {
            let values: Vec<f32> = parts.iter().map(|both| both[part]).collect();
            let tensor = Tensor::from_vec(values, plain.shape(), &Device::Cpu)?;
            let quantizer = ActivationQuantizer::Affine(grid);
            sums.push(layer(&tensor.into(), &quantizer)?.plain()?);
        }
        let [high, low] = sums.as_slice() else {
            return Err(OpError::Message("a part of a sum is missing".to_owned()));
        };
        Ok(self.levels(high, low)?.into())
    }

    fn levels(&self, high: &Tensor, low: &Tensor) -> Result<Tensor, OpError> {
        let dims = low.dims();
        let inner: usize = dims.iter().skip(2).product::<usize>().max(1);
        let channels = dims.get(1).copied().unwrap_or(1).max(1);
        let [high, low] = [high, low].map(|part| part.flatten_all()?.to_vec1::<f32>());
        let (lowest, highest) = self.output.step_limits();
        let (lowest, highest) = (f64::from(lowest), f64::from(highest));
        let pairs = high?.into_iter().zip(low?).enumerate();
        let levels: Vec<f32> = pairs
            .map(|(at, (high, low))| {
                let channel = at / inner % channels;
                let unit = self.scaling.unit(channel);
                let steps = |part: f32, unit: f64| (f64::from(part) / unit).round();
                let bias = self.bias.get(channel).copied().unwrap_or(0) as f64;
                let sum = 256.0 * steps(high, 256.0 * unit) + steps(low, unit) + bias;
                let code = self.scaling.code_of(sum, channel);
                code.clamp(lowest, highest) as f32 * self.output.scale()
            })
            .collect();
        Ok(Tensor::from_vec(levels, dims, &Device::Cpu)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::edges::ProductRounding;

    #[test]
    fn sums_of_wide_codes_are_exact() {
        let input = 0.125f32;
        let sum = CodeSum {
            input,
            bias: vec![-7, 1 << 30],
            scaling: IntegerScaling {
                units: vec![f64::from(input) * 0.5],
                factors: vec![1.0 / 4096.0],
                rounding: ProductRounding::Up,
            },
            output: Grid::new(1.0, 0, -0x8000, 0x7FFF).unwrap(),
        };
        let codes = [32767i64, -32768, 12345];
        let weights = [[127i64, -127, 3], [-1, 1, -127]];
        let x: Vec<f32> = codes.iter().map(|code| *code as f32 * input).collect();
        let x = Value::from(Tensor::from_vec(x, (1, 3), &Device::Cpu).unwrap());
        let found = sum.evaluate(&x, |part, quantizer| {
            let ActivationQuantizer::Affine(grid) = quantizer else {
                panic!("parts have grids");
            };
            let part = part.plain()?.flatten_all()?.to_vec1::<f32>()?;
            assert!(part.iter().all(|x| grid.fake_quantize(*x) == *x));
            let dot = |row: &[i64; 3]| -> f32 {
                row.iter()
                    .zip(&part)
                    .map(|(w, x)| *w as f32 * 0.5 * x)
                    .sum()
            };
            let sums: Vec<f32> = weights.iter().map(dot).collect();
            Ok(Tensor::from_vec(sums, (1, 2), &Device::Cpu)?.into())
        });
        let found: Vec<f32> = found
            .unwrap()
            .plain()
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let expected = weights.iter().zip([-7i64, 1 << 30]).map(|(row, bias)| {
            let sum: i64 = row.iter().zip(codes).map(|(w, x)| w * x).sum::<i64>() + bias;
            ((sum + 2048) >> 12).clamp(-0x8000, 0x7FFF) as f32
        });
        assert_eq!(found, expected.collect::<Vec<f32>>());
    }
}
