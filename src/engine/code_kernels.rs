//! Operators that a runtime computes from 16-bit codes in its own way.
//!
//! The built-in kernels of `LiteRT` work with factors of 31 bits, and look the logistic function up in a
//! table (`kernels/internal/common`, `kernels/internal/reference/add`, `…/leaky_relu`, `…/integer_ops/mul`
//! and `…/integer_ops/logistic`).

use candle_core::{Shape, Tensor};

use super::error::RunError;
use super::value::Value;

/// An operator between tensors of 16-bit codes around zero.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeKernel {
    /// The operator.
    pub operator: CodeOperator,
    /// Scales of its inputs.
    pub inputs: Vec<f32>,
    /// Scale of its output.
    pub output: f32,
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CodeOperator {
    /// `a + b`.
    Add,
    /// `a − b`.
    Subtract,
    /// `a · b`.
    Multiply,
    /// `1 / (1 + e^−x)`; its output has the scale `2^−15`.
    Logistic,
    /// `x`, or `alpha · x` below zero.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
}

impl CodeKernel {
    /// The levels of the output.
    ///
    /// # Errors
    /// An input is missing, no tensor of `f32`, or does not fit the others.
    pub(super) fn evaluate(&self, inputs: &[Option<Value>]) -> Result<Value, RunError> {
        let mut tensors = Vec::with_capacity(inputs.len());
        for value in inputs.iter().flatten().take(self.inputs.len()) {
            tensors.push(value.plain()?);
        }
        let mut shape = Shape::from(());
        for tensor in &tensors {
            shape = shape.broadcast_shape_binary_op(tensor.shape(), "codes")?;
        }
        let mut codes = Vec::with_capacity(tensors.len());
        for (tensor, scale) in tensors.iter().zip(&self.inputs) {
            let values = tensor.broadcast_as(&shape)?.flatten_all()?;
            let values = values.to_vec1::<f32>()?.into_iter();
            let levels = values.map(|x| (f64::from(x) / f64::from(*scale)).round() as i32);
            codes.push(levels.collect::<Vec<i32>>());
        }
        let result = match (self.operator, codes.as_slice()) {
            (CodeOperator::Add, [a, b]) => self.sums(a, b, 1),
            (CodeOperator::Subtract, [a, b]) => self.sums(a, b, -1),
            (CodeOperator::Multiply, [a, b]) => self.products(a, b),
            (CodeOperator::Logistic, [x]) => self.logistic(x),
            (CodeOperator::LeakyRelu { alpha }, [x]) => self.leaky(x, alpha),
            _ => {
                return Err(RunError::message(
                    "an input of an operator is missing".to_owned(),
                ));
            }
        };
        let limits = (f32::from(i16::MIN), f32::from(i16::MAX));
        let levels = result
            .into_iter()
            .map(|code| (code as f32).clamp(limits.0, limits.1) * self.output)
            .collect();
        let device = &candle_core::Device::Cpu;
        Ok(Tensor::from_vec(levels, shape, device)?.into())
    }

    fn scale(&self, index: usize) -> f32 {
        self.inputs.get(index).copied().unwrap_or(1.0)
    }

    /// Both inputs are brought to steps of `2·max(s_a, s_b) / 2^15`, added, and brought to those of the
    /// output; only the latter is rounded twice.
    fn sums(&self, a: &[i32], b: &[i32], sign: i32) -> Vec<i32> {
        const SHIFT: u32 = 15;
        let scales = [0, 1].map(|index| f64::from(self.scale(index)));
        let common = 2.0 * scales[0].max(scales[1]);
        let factors = scales.map(|scale| FixedFactor::of(scale / common));
        let steps = f64::from(1u32 << SHIFT);
        let back = FixedFactor::of(common / (steps * f64::from(self.output)));
        let pairs = a.iter().zip(b);
        pairs
            .map(|(a, b)| {
                let a = factors[0].times_once(a << SHIFT);
                let b = factors[1].times_once(b << SHIFT);
                back.times(a + sign * b)
            })
            .collect()
    }

    fn products(&self, a: &[i32], b: &[i32]) -> Vec<i32> {
        let factor = FixedFactor::of(f64::from(self.scale(0) * self.scale(1) / self.output));
        a.iter().zip(b).map(|(a, b)| factor.times(a * b)).collect()
    }

    fn leaky(&self, codes: &[i32], alpha: f32) -> Vec<i32> {
        let above = FixedFactor::of(f64::from(self.scale(0) / self.output));
        let below = FixedFactor::of(f64::from(self.scale(0) * alpha / self.output));
        let factor = |code: i32| if code >= 0 { above } else { below };
        codes
            .iter()
            .map(|code| factor(*code).times(*code))
            .collect()
    }

    /// Interpolates between `σ(i / 24)` of `|x|`, with 9 bits behind the place in the table.
    fn logistic(&self, codes: &[i32]) -> Vec<i32> {
        let table = logistic_table();
        // The factor to steps of 1 / (3·4096) has 15 bits, and what is beyond them is cut off.
        let mut factor = f64::from(self.scale(0)) * 4096.0 * 3.0;
        let mut shift = 0;
        while factor <= 32767.0 / 2.0 && shift <= 30 {
            shift += 1;
            factor *= 2.0;
        }
        let factor = factor as i32;
        let half = if shift > 0 { 1 << (shift - 1) } else { 0 };
        codes
            .iter()
            .map(|code| {
                let steps = (code * factor + half) >> shift;
                let place = steps.unsigned_abs();
                let at = (place >> 9) as usize;
                let found = if at >= 255 {
                    0x7FFF << 10
                } else {
                    (table[at] << 9) + (place & 0x1FF) * (table[at + 1] - table[at])
                };
                let found = if steps >= 0 {
                    found + (1 << 9)
                } else {
                    (1 << 25) - found + (1 << 9) - 1
                };
                (found >> 10) as i32
            })
            .collect()
    }
}

/// The logistic function at `i / 24` in steps of `2^−16`.
///
/// Half of what a chord lies below the curve in its middle is added, so that interpolated numbers err to
/// both sides: `t_i = round(σ_i − (σ_{i−1} − 2σ_i + σ_{i+1}) / 16)`, and the last one is the largest.
fn logistic_table() -> [u32; 256] {
    let curve = |at: f64| 65536.0 / (1.0 + (-at / 24.0).exp());
    std::array::from_fn(|index| {
        let at = index as f64;
        let bend = curve(at - 1.0) - 2.0 * curve(at) + curve(at + 1.0);
        let value = (curve(at) - bend / 16.0).round() as u32;
        if index == 255 { 65535 } else { value }
    })
}

/// A factor as built-in kernels multiply by it.
///
/// ```text
/// factor = m · 2^e, m in 0.5..1 with 31 bits;  x · factor is rounded to −e bits behind the point first
/// ```
#[derive(Clone, Copy, Debug)]
struct FixedFactor {
    multiplier: i64,
    /// `e`.
    shift: i32,
}

impl FixedFactor {
    fn of(factor: f64) -> Self {
        let mut shift = 0;
        let mut mantissa = factor;
        while mantissa < 0.5 && shift > -31 {
            mantissa *= 2.0;
            shift -= 1;
        }
        while mantissa >= 1.0 {
            mantissa /= 2.0;
            shift += 1;
        }
        let mut multiplier = (mantissa * f64::from(1u32 << 31)).round() as i64;
        if multiplier == 1 << 31 {
            multiplier /= 2;
            shift += 1;
        }
        Self { multiplier, shift }
    }

    /// The product, rounded once with ties up.
    fn times_once(self, x: i32) -> i32 {
        let bits = 31 - self.shift;
        ((i64::from(x) * self.multiplier + (1 << (bits - 1))) >> bits) as i32
    }

    /// The product, rounded twice with ties away from zero.
    fn times(self, x: i32) -> i32 {
        let product = (i64::from(x) << self.shift.max(0)) * self.multiplier;
        let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
        let high = (product + nudge) / (1 << 31);
        let bits = (-self.shift).max(0);
        if bits == 0 {
            return high as i32;
        }
        let half = 1i64 << (bits - 1);
        let rounded = if high >= 0 {
            (high + half) >> bits
        } else {
            -((-high + half) >> bits)
        };
        rounded as i32
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn levels(kernel: &CodeKernel, inputs: &[&[f32]]) -> Vec<f32> {
        let values: Vec<Option<Value>> = inputs
            .iter()
            .map(|values| Some(Tensor::new(*values, &Device::Cpu).unwrap().into()))
            .collect();
        let result = kernel.evaluate(&values).unwrap().plain().unwrap();
        result.to_vec1().unwrap()
    }

    #[test]
    fn results_lie_within_a_code_of_the_numbers() {
        let (a, b) = ([0.5f32, -1.0, 3.0, 0.001], [0.25f32, 0.75, -3.0, 0.002]);
        let scale = 1.0 / 8192.0;
        for (operator, expected) in [
            (CodeOperator::Add, [0.75, -0.25, 0.0, 0.003]),
            (CodeOperator::Subtract, [0.25, -1.75, 6.0, -0.001]),
            (CodeOperator::Multiply, [0.125, -0.75, -9.0, 0.0]),
        ] {
            let kernel = CodeKernel {
                operator,
                inputs: vec![scale, 2.0 * scale],
                output: 3e-4,
            };
            for (found, expected) in levels(&kernel, &[&a, &b]).iter().zip(expected) {
                assert!((found - expected).abs() <= 3e-4, "{operator:?}: {found}");
            }
        }
    }

    #[test]
    fn below_zero_there_is_a_slope() {
        let kernel = CodeKernel {
            operator: CodeOperator::LeakyRelu { alpha: 0.1 },
            inputs: vec![0.5],
            output: 0.25,
        };
        assert_eq!(
            levels(&kernel, &[&[3.0, -5.0, -0.5, 0.0]]),
            [3.0, -0.5, 0.0, 0.0]
        );
    }

    #[test]
    fn the_logistic_function_is_interpolated() {
        let kernel = CodeKernel {
            operator: CodeOperator::Logistic,
            inputs: vec![1e-3],
            output: 1.0 / 32768.0,
        };
        let x = [0.0f32, 0.5, -0.5, 4.0, -4.0, 20.0, -20.0];
        for (x, found) in x.iter().zip(levels(&kernel, &[&x])) {
            let exact = 1.0 / (1.0 + (-x).exp());
            assert!((found - exact).abs() < 1e-4, "{x}: {found} {exact}");
        }
        let table = logistic_table();
        let known = [
            (0, 32768),
            (1, 33451),
            (4, 35493),
            (33, 52311),
            (128, 65221),
            (255, 65535),
        ];
        assert!(known.iter().all(|(at, value)| table[*at] == *value));
    }

    #[test]
    fn factors_round_twice_with_ties_away_from_zero() {
        let quarter = FixedFactor::of(0.25);
        assert_eq!([2, -2, 1, 5].map(|x| quarter.times(x)), [1, -1, 1, 2]);
        assert_eq!(FixedFactor::of(3.0).times(-7), -21);
        // 0.47 · 1 is rounded to a bit behind the point first: 0.5, and then 1.
        assert_eq!(FixedFactor::of(0.47).times(1), 1);
        assert_eq!(FixedFactor::of(0.47).times_once(1), 0);
    }
}
