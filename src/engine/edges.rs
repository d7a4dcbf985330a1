//! How a runtime keeps the values between its operators, apart from what layers are told.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};

use super::error::RunError;
use super::kernels::fake_quantize;
use super::value::Value;
use crate::model::{NodeId, ValueId};
use crate::quant::{ActivationQuantizer, BitWidth, Grid, Range};

/// How a kernel rounds to a code.
#[derive(Clone, Debug, PartialEq)]
pub enum EdgeRounding {
    /// To the nearest code, ties to even codes.
    Nearest,
    /// To the nearest code, ties up; for products of integers that are exact to 8 bits.
    Up,
    /// First to so many bits behind the point, one number or one for each channel (axis 1), and then to
    /// the nearest code; ties of the second step go up, or away from zero.
    Twice {
        /// Bits behind the point.
        bits: Vec<u8>,
        /// Where ties go.
        away_from_zero: bool,
    },
}

/// A step in which a value is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgePass {
    /// The grid.
    pub grid: Grid,
    /// Factor on the value before, where a kernel's factor is coarser than the ratio of two scales.
    pub gain: f32,
    /// How the kernel rounds.
    pub rounding: EdgeRounding,
}

impl EdgePass {
    /// A step that does nothing but quantize.
    pub fn exact(grid: Grid) -> Self {
        Self {
            grid,
            gain: 1.0,
            rounding: EdgeRounding::Nearest,
        }
    }

    fn apply(&self, value: &Value) -> Result<Value, RunError> {
        if self.rounding == EdgeRounding::Nearest && self.gain == 1.0 {
            let quantizer = ActivationQuantizer::Affine(self.grid);
            let stored = |tensor: &Tensor| fake_quantize(&tensor.to_dtype(DType::F32)?, &quantizer);
            return Ok(value.map(stored)?);
        }
        let tensor = value.plain()?;
        let dims = tensor.dims().to_vec();
        let inner: usize = dims.iter().skip(2).product();
        let channels = dims.get(1).copied().unwrap_or(1).max(1);
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let stored: Vec<f32> = values
            .iter()
            .enumerate()
            .map(|(at, x)| self.level(*x, at / inner.max(1) % channels))
            .collect();
        Ok(Tensor::from_vec(stored, dims, tensor.device())?.into())
    }

    /// The level that a number is stored as.
    fn level(&self, x: f32, channel: usize) -> f32 {
        let scale = f64::from(self.grid.scale());
        let steps = f64::from(x) * f64::from(self.gain) / scale;
        let code = match &self.rounding {
            EdgeRounding::Nearest => steps.round_ties_even(),
            // Products are multiples of 1/256, and a float is a little off.
            EdgeRounding::Up => (steps + 0.5 + 1.0 / 1024.0).floor(),
            EdgeRounding::Twice {
                bits,
                away_from_zero,
            } => {
                let bits = bits.get(channel % bits.len().max(1)).copied().unwrap_or(0);
                let unit = f64::from(1u32 << bits.min(31));
                let once = (steps * unit).round() / unit;
                if *away_from_zero {
                    once.round()
                } else {
                    (once + 0.5).floor()
                }
            }
        };
        let (lowest, highest) = self.grid.step_limits();
        code.clamp(f64::from(lowest), f64::from(highest)) as f32 * self.grid.scale()
    }
}

/// The grids that values are stored on as they are computed, apart from those that layers read.
///
/// A value may pass several grids in turn, where a runtime stores it in one type first and converts it
/// to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeGrids {
    by_value: BTreeMap<ValueId, Vec<EdgePass>>,
    dynamic: BTreeSet<NodeId>,
}

impl EdgeGrids {
    /// Sets the steps that a value passes, the first one first.
    pub fn insert(&mut self, id: ValueId, passes: Vec<EdgePass>) {
        self.by_value.insert(id, passes);
    }

    /// The grid that readers of a value find it on.
    pub fn read_grid(&self, id: ValueId) -> Option<&Grid> {
        self.by_value.get(&id)?.last().map(|pass| &pass.grid)
    }

    /// Whether a value is stored on a grid.
    pub fn contains(&self, id: ValueId) -> bool {
        self.by_value.contains_key(&id)
    }

    /// Lets a layer quantize its input to 8 bits while it runs, each sample over its own range.
    pub fn quantize_each_sample(&mut self, layer: NodeId) {
        self.dynamic.insert(layer);
    }

    /// The input of a layer as the layer quantizes it while it runs.
    ///
    /// ```text
    /// scale = (max − min) / 255 of one sample, zero included;  q = round(x / scale) + zero_point
    /// ```
    /// (Hybrid kernels of `LiteRT`, `AsymmetricQuantizeFloats` in `kernels/internal/tensor_utils`.)
    ///
    /// # Errors
    /// A value that is no tensor of finite `f32`.
    pub(super) fn read_by(&self, layer: NodeId, value: Value) -> Result<Value, RunError> {
        if !self.dynamic.contains(&layer) {
            return Ok(value);
        }
        let tensor = value.plain()?;
        let mut samples = Vec::new();
        for index in 0..tensor.dims().first().copied().unwrap_or(0) {
            let sample = tensor.narrow(0, index, 1)?;
            let quantizer = ActivationQuantizer::Affine(own_grid(&sample)?);
            samples.push(fake_quantize(&sample, &quantizer)?);
        }
        Ok(Tensor::cat(&samples, 0)?.into())
    }

    /// The value as it is stored.
    ///
    /// # Errors
    /// A value that is no tensor of `f32`.
    pub(super) fn stored(&self, id: ValueId, value: Value) -> Result<Value, RunError> {
        let mut value = value;
        for pass in self.by_value.get(&id).into_iter().flatten() {
            value = pass.apply(&value)?;
        }
        Ok(value)
    }
}

/// 8 bits over everything that a tensor has.
fn own_grid(tensor: &Tensor) -> Result<Grid, RunError> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let (min, max) = values.iter().fold((0f32, 0f32), |(min, max), value| {
        (min.min(*value), max.max(*value))
    });
    let failed = |error: crate::quant::QuantError| RunError::message(error.to_string());
    let bits = BitWidth::new(8).map_err(failed)?;
    Ok(Grid::asymmetric(
        Range::new(min, max).map_err(failed)?,
        bits,
    ))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn values(value: &Value) -> Vec<f32> {
        value
            .plain()
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    #[test]
    fn values_pass_their_grids_in_turn() {
        let coarse = Grid::new(0.5, 0, -4, 3).unwrap();
        let coarser = Grid::new(1.0, 0, -4, 3).unwrap();
        let mut edges = EdgeGrids::default();
        let id = ValueId(3);
        edges.insert(id, vec![EdgePass::exact(coarse), EdgePass::exact(coarser)]);
        let x = Tensor::new(&[0.6f32, 0.8, 9.0], &Device::Cpu).unwrap();
        let stored = edges.stored(id, x.clone().into()).unwrap();
        // 0.6 is 0.5 first, and that is 0 by rounding to even; 9 is cut to 1.5 and then 2.
        assert_eq!(values(&stored), [0.0, 1.0, 2.0]);
        assert_eq!(edges.read_grid(id), Some(&coarser));
        let other = edges.stored(ValueId(4), x.into()).unwrap();
        assert_eq!(values(&other), [0.6, 0.8, 9.0]);
    }

    #[test]
    fn kernels_round_in_their_own_ways() {
        let grid = Grid::new(0.5, 0, -128, 127).unwrap();
        let codes = |gain: f32, rounding: EdgeRounding, values: &[f32]| -> Vec<f32> {
            let pass = EdgePass {
                grid,
                gain,
                rounding,
            };
            let x = Tensor::new(values, &Device::Cpu).unwrap();
            let x = x.reshape((1, values.len(), 1, 1)).unwrap();
            let stored = self::values(&pass.apply(&x.into()).unwrap());
            stored.iter().map(|level| level / 0.5).collect()
        };
        // In steps of 0.5 these are 2.5, -2.5, 2.49 and -2.51.
        let ties = [1.25, -1.25, 1.245, -1.255];
        assert_eq!(
            codes(1.0, EdgeRounding::Nearest, &ties),
            [2.0, -2.0, 2.0, -3.0]
        );
        assert_eq!(codes(1.0, EdgeRounding::Up, &ties), [3.0, -2.0, 2.0, -3.0]);
        let twice = |bits: &[u8], away_from_zero| EdgeRounding::Twice {
            bits: bits.to_vec(),
            away_from_zero,
        };
        // 2.49 is 2.5 in quarters, and then 3; in 16 bits it stays below.
        assert_eq!(
            codes(1.0, twice(&[2], false), &ties),
            [3.0, -2.0, 3.0, -2.0]
        );
        assert_eq!(codes(1.0, twice(&[2], true), &ties), [3.0, -3.0, 3.0, -3.0]);
        assert_eq!(
            codes(1.0, twice(&[2, 2, 16, 16], false), &ties),
            [3.0, -2.0, 2.0, -3.0]
        );
        assert_eq!(
            codes(2.0, EdgeRounding::Nearest, &[1.3, 100.0]),
            [5.0, 127.0]
        );
    }

    #[test]
    fn each_sample_has_its_own_range() {
        let mut edges = EdgeGrids::default();
        edges.quantize_each_sample(NodeId(0));
        let x = Tensor::new(&[[0.0f32, 2.55, 1.004], [-1.0, 0.0, 254.0]], &Device::Cpu).unwrap();
        let read = edges.read_by(NodeId(0), x.clone().into()).unwrap();
        let expected = [0.0, 2.55, 1.0, -1.0, 0.0, 254.0];
        for (found, expected) in values(&read).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert_eq!(
            values(&edges.read_by(NodeId(1), x.clone().into()).unwrap()),
            values(&x.into())
        );
    }
}
