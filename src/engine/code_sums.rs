//! Layers whose sums of 16-bit codes are integers to the last bit.
//!
//! An `f32` holds integers below `2^24`, and products of 16-bit and 8-bit codes sum up to more. The codes
//! of the input are therefore taken apart, and each part goes through the layer:
//!
//! ```text
//! q = 65536·t + 256·h + l, h in −128..=127, l in 0..=255;   Σ q·w = 65536 · Σ t·w + 256 · Σ h·w + Σ l·w
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
        let scale = f64::from(self.input);
        let code = |x: f32| (f64::from(x) / scale).round() as i32;
        let sums = in_parts(&plain, self.input, code, layer)?;
        Ok(self.levels(&sums)?.into())
    }

    fn levels(&self, sums: &[(f64, Tensor)]) -> Result<Tensor, OpError> {
        let (lowest, highest) = self.output.step_limits();
        let (lowest, highest) = (f64::from(lowest), f64::from(highest));
        let unit = |channel| self.scaling.unit(channel);
        joined(sums, unit, |channel, sum| {
            let bias = self.bias.get(channel).copied().unwrap_or(0) as f64;
            let code = self.scaling.code_of(sum + bias, channel);
            code.clamp(lowest, highest) as f32 * self.output.scale()
        })
    }
}

/// What one step of each part of a code counts. The first is needed where codes less their zero point have
/// more than 16 bits.
const PARTS: [i32; 3] = [65_536, 256, 1];

/// The parts of a code, in the order of [`PARTS`]: −1 to 1, −128 to 127, and 0 to 255.
fn parts_of(code: i32) -> [i32; 3] {
    let low = code.rem_euclid(256);
    let rest = (code - low) / 256;
    let top = (rest + 128).div_euclid(256);
    [top, rest - 256 * top, low]
}

/// The sums of a layer over each part of its input's codes; `layer` runs it without a bias.
///
/// The first part is left out where it is 0 everywhere.
fn in_parts(
    input: &Tensor,
    scale: f32,
    code: impl Fn(f32) -> i32,
    layer: impl Fn(&Value, &ActivationQuantizer) -> Result<Value, OpError>,
) -> Result<Vec<(f64, Tensor)>, OpError> {
    let failed = |error: crate::quant::QuantError| OpError::Message(error.to_string());
    let values = input.flatten_all()?.to_vec1::<f32>()?;
    let codes: Vec<[i32; 3]> = values.into_iter().map(|x| parts_of(code(x))).collect();
    let mut sums = Vec::with_capacity(PARTS.len());
    for (index, (step, [lowest, highest])) in PARTS
        .into_iter()
        .zip([[-1, 1], [-128, 127], [0, 255]])
        .enumerate()
    {
        if index == 0 && codes.iter().all(|parts| parts[0] == 0) {
            continue;
        }
        let scale = step as f32 * scale;
        let grid = Grid::new(scale, 0, lowest, highest).map_err(failed)?;
        let part = codes.iter().map(|parts| parts[index] as f32 * scale);
        let part = Tensor::from_vec(part.collect::<Vec<f32>>(), input.shape(), &Device::Cpu)?;
        let sum = layer(&part.into(), &ActivationQuantizer::Affine(grid))?.plain()?;
        sums.push((f64::from(step), sum));
    }
    Ok(sums)
}

/// A number for each place, from the integer that the parts of its sum add up to and the channel (axis 1);
/// `unit` gives what one step of a channel's sum stands for.
fn joined(
    sums: &[(f64, Tensor)],
    unit: impl Fn(usize) -> f64,
    number: impl Fn(usize, f64) -> f32,
) -> Result<Tensor, OpError> {
    let dims = sums.first().map_or(&[][..], |(_, sum)| sum.dims());
    let inner: usize = dims.iter().skip(2).product::<usize>().max(1);
    let channels = dims.get(1).copied().unwrap_or(1).max(1);
    let mut whole = vec![0.0; dims.iter().product()];
    for (step, sum) in sums {
        let parts = sum.flatten_all()?.to_vec1::<f32>()?;
        for (at, (whole, part)) in whole.iter_mut().zip(parts).enumerate() {
            let steps = f64::from(part) / (step * unit(at / inner % channels));
            *whole += step * steps.round();
        }
    }
    let numbers: Vec<f32> = whole
        .into_iter()
        .enumerate()
        .map(|(at, sum)| number(at / inner % channels, sum))
        .collect();
    Ok(Tensor::from_vec(numbers, dims, &Device::Cpu)?)
}

/// A layer of weights in steps of `scales` over an input of up to 16 bits, with exact sums.
///
/// ```text
/// y = Σ (q − z)·w · (s_w · s_x) + bias    rounded once; the product of the scales is an f32
/// ```
///
/// # Errors
/// The input is no tensor of `f32`, or the layer cannot run.
pub(super) fn exact_sums(
    input: &Value,
    grid: &Grid,
    scales: &[f32],
    bias: Option<&[f32]>,
    product: impl Fn(&Value, &ActivationQuantizer) -> Result<Value, OpError>,
) -> Result<Tensor, OpError> {
    let scale = grid.scale();
    let code = |x: f32| (f64::from(grid.fake_quantize(x)) / f64::from(scale)).round() as i32;
    let sums = in_parts(&input.plain()?, scale, code, product)?;
    let unit = |channel: usize| f64::from(scales.get(channel).copied().unwrap_or(1.0) * scale);
    joined(&sums, unit, |channel, sum| {
        let bias = bias.and_then(|bias| bias.get(channel)).copied();
        (sum * unit(channel) + f64::from(bias.unwrap_or(0.0))) as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::edges::ProductRounding;

    #[test]
    fn parts_make_up_the_code() {
        for code in [
            -65_535, -32_769, -32_768, -1, 0, 255, 32_767, 32_768, 65_535,
        ] {
            let parts = parts_of(code);
            let sum: i32 = parts
                .iter()
                .zip(PARTS)
                .map(|(part, step)| part * step)
                .sum();
            assert_eq!(sum, code);
            assert!(
                (-128..128).contains(&parts[1]) && (0..256).contains(&parts[2]),
                "{code}"
            );
            let is_short = (-32_768..32_768).contains(&code);
            assert_eq!(parts[0] == 0, is_short, "{code}");
        }
    }

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
