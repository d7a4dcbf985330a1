//! How a runtime keeps the values between its operators, apart from what layers are told.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};

use super::code_kernels::CodeKernel;
use super::code_sums::CodeSum;
use super::error::RunError;
use super::factor_rounding::{ChannelForm, Factors, form_of};
use super::kernels::fake_quantize;
use super::value::Value;
use crate::model::{NodeId, ValueId};
use crate::quant::{ActivationQuantizer, BitWidth, Grid, Range};

/// How a kernel comes to a code.
#[derive(Clone, Debug, PartialEq)]
pub enum EdgeRounding {
    /// The nearest code to the number itself, ties to even codes.
    Nearest,
    /// From the integer that the number is in steps of a unit, such as a sum of products of codes.
    Integer(IntegerScaling),
    /// By a factor and an offset in `f32`, in a form for each run of channels.
    Factor(Vec<ChannelForm>),
}

/// How a kernel multiplies an integer to get a code.
///
/// ```text
/// n = round(x / unit);  q = round(n · factor)        (one unit and factor, or one for each channel, axis 1)
/// ```
/// Integers below `2^22` are found exactly from an `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerScaling {
    /// What one step of the integer stands for.
    pub units: Vec<f64>,
    /// Codes for one step, as the kernel has them.
    pub factors: Vec<f64>,
    /// How the product is rounded.
    pub rounding: ProductRounding,
}

/// How a kernel rounds the product of an integer and a factor.
#[derive(Clone, Debug, PartialEq)]
pub enum ProductRounding {
    /// The product is an `f32`; ties go to even codes.
    Single,
    /// The product is exact; ties go up.
    Up,
    /// First to so many bits behind the point, one number or one for each channel, and then to the
    /// nearest code; ties of the second step go up, or away from zero.
    Twice {
        /// Bits behind the point.
        bits: Vec<u8>,
        /// Where ties go.
        away_from_zero: bool,
    },
}

impl IntegerScaling {
    /// What one step of the integer stands for in a channel.
    pub(super) fn unit(&self, channel: usize) -> f64 {
        of_channel(&self.units, channel).unwrap_or(1.0)
    }

    /// The code that a number becomes, without the zero point and before it is cut to the grid.
    fn code(&self, x: f32, channel: usize) -> f64 {
        self.code_of((f64::from(x) / self.unit(channel)).round(), channel)
    }

    /// The code that an integer becomes.
    pub(super) fn code_of(&self, integer: f64, channel: usize) -> f64 {
        let factor = of_channel(&self.factors, channel).unwrap_or(1.0);
        match &self.rounding {
            ProductRounding::Single => f64::from(integer as f32 * factor as f32).round_ties_even(),
            ProductRounding::Up => (integer * factor + 0.5).floor(),
            ProductRounding::Twice {
                bits,
                away_from_zero,
            } => {
                let bits = of_channel(bits, channel).unwrap_or(0);
                let unit = f64::from(1u32 << bits.min(31));
                let once = (integer * factor * unit).round() / unit;
                if *away_from_zero {
                    once.round()
                } else {
                    (once + 0.5).floor()
                }
            }
        }
    }
}

/// A step in which a value is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgePass {
    /// The grid.
    pub grid: Grid,
    /// How the kernel rounds.
    pub rounding: EdgeRounding,
}

impl EdgePass {
    /// A step that does nothing but quantize.
    pub fn exact(grid: Grid) -> Self {
        Self {
            grid,
            rounding: EdgeRounding::Nearest,
        }
    }

    fn apply(&self, value: &Value) -> Result<Value, RunError> {
        match &self.rounding {
            EdgeRounding::Nearest => {
                let quantizer = ActivationQuantizer::Affine(self.grid);
                let stored =
                    |tensor: &Tensor| fake_quantize(&tensor.to_dtype(DType::F32)?, &quantizer);
                Ok(value.map(stored)?)
            }
            EdgeRounding::Integer(scaling) => {
                let (lowest, highest) = self.grid.step_limits();
                let (lowest, highest) = (f64::from(lowest), f64::from(highest));
                self.by_channel(value, |x, channel| {
                    scaling.code(x, channel).clamp(lowest, highest) as f32
                })
            }
            EdgeRounding::Factor(forms) => {
                let factors = Factors::of(&self.grid);
                let zero = (self.grid.zero_point() - self.grid.q_min()) as f32;
                self.by_channel(value, |x, channel| {
                    factors.code(form_of(forms, channel), x) - zero
                })
            }
        }
    }

    /// The levels of a value, from the steps that a number of a channel (axis 1) becomes.
    fn by_channel(
        &self,
        value: &Value,
        steps: impl Fn(f32, usize) -> f32,
    ) -> Result<Value, RunError> {
        let tensor = value.plain()?;
        let dims = tensor.dims().to_vec();
        let inner: usize = dims.iter().skip(2).product();
        let channels = dims.get(1).copied().unwrap_or(1).max(1);
        let mut values = tensor.flatten_all()?.to_vec1::<f32>()?;
        for (index, run) in values.chunks_mut(inner.max(1)).enumerate() {
            for x in run {
                *x = steps(*x, index % channels) * self.grid.scale();
            }
        }
        Ok(Tensor::from_vec(values, dims, tensor.device())?.into())
    }
}

/// The number of a channel, of one number for all or one for each.
fn of_channel<T: Copy>(numbers: &[T], channel: usize) -> Option<T> {
    numbers.get(channel % numbers.len().max(1)).copied()
}

/// The grids that values are stored on as they are computed, apart from those that layers read.
///
/// A value may pass several grids in turn, where a runtime stores it in one type first and converts it
/// to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeGrids {
    by_value: BTreeMap<ValueId, Vec<EdgePass>>,
    by_reader: BTreeMap<(NodeId, ValueId), EdgePass>,
    kernels: BTreeMap<NodeId, CodeKernel>,
    sums: BTreeMap<NodeId, CodeSum>,
    dynamic: BTreeSet<NodeId>,
}

impl EdgeGrids {
    /// Sets the steps that a value passes, the first one first.
    pub fn insert(&mut self, id: ValueId, passes: Vec<EdgePass>) {
        self.by_value.insert(id, passes);
    }

    /// Sets the step that a value passes before one of its readers reads it.
    pub fn insert_for_reader(&mut self, reader: NodeId, id: ValueId, pass: EdgePass) {
        self.by_reader.insert((reader, id), pass);
    }

    /// Lets a node be computed from codes.
    pub fn insert_kernel(&mut self, id: NodeId, kernel: CodeKernel) {
        self.kernels.insert(id, kernel);
    }

    /// Lets a layer be summed up in codes.
    pub fn insert_sum(&mut self, layer: NodeId, sum: CodeSum) {
        self.sums.insert(layer, sum);
    }

    /// How a layer is summed up in codes, if it is.
    pub(super) fn sum(&self, layer: NodeId) -> Option<&CodeSum> {
        self.sums.get(&layer)
    }

    /// What computes a node from codes, if that is known.
    pub(super) fn kernel(&self, id: NodeId) -> Option<&CodeKernel> {
        self.kernels.get(&id)
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

    /// A value as one of its readers reads it.
    ///
    /// # Errors
    /// A value that is no tensor of `f32`.
    pub(super) fn as_read(
        &self,
        reader: NodeId,
        id: ValueId,
        value: Value,
    ) -> Result<Value, RunError> {
        match self.by_reader.get(&(reader, id)) {
            Some(pass) => pass.apply(&value),
            None => Ok(value),
        }
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
        let codes = |rounding: ProductRounding, values: &[f32]| -> Vec<f32> {
            let pass = EdgePass {
                grid,
                rounding: EdgeRounding::Integer(IntegerScaling {
                    units: vec![0.005],
                    factors: vec![0.01],
                    rounding,
                }),
            };
            let x = Tensor::new(values, &Device::Cpu).unwrap();
            let x = x.reshape((1, values.len(), 1, 1)).unwrap();
            let stored = self::values(&pass.apply(&x.into()).unwrap());
            stored.iter().map(|level| level / 0.5).collect()
        };
        // In steps of 0.5 these are 2.5, -2.5, 2.49 and -2.51.
        let ties = [1.25, -1.25, 1.245, -1.255];
        for (rounding, expected) in [
            (ProductRounding::Single, [2.0, -2.0, 2.0, -3.0]),
            (ProductRounding::Up, [3.0, -2.0, 2.0, -3.0]),
        ] {
            assert_eq!(codes(rounding, &ties), expected);
        }
        let twice = |bits: &[u8], away_from_zero| ProductRounding::Twice {
            bits: bits.to_vec(),
            away_from_zero,
        };
        // 2.49 is 2.5 in quarters, and then 3; in 16 bits it stays below.
        assert_eq!(codes(twice(&[2], false), &ties), [3.0, -2.0, 3.0, -2.0]);
        assert_eq!(codes(twice(&[2], true), &ties), [3.0, -3.0, 3.0, -3.0]);
        assert_eq!(
            codes(twice(&[2, 2, 16, 16], false), &ties),
            [3.0, -2.0, 2.0, -3.0]
        );
        assert_eq!(codes(ProductRounding::Up, &[100.0, -0.1]), [127.0, 0.0]);
    }

    #[test]
    fn a_reader_may_ask_for_another_grid() {
        let mut edges = EdgeGrids::default();
        let (reader, id) = (NodeId(1), ValueId(2));
        let grid = Grid::new(1.0, 0, -4, 3).unwrap();
        edges.insert_for_reader(reader, id, EdgePass::exact(grid));
        let x = Value::from(Tensor::new(&[0.6f32, 9.0], &Device::Cpu).unwrap());
        let read = |reader| values(&edges.as_read(reader, id, x.clone()).unwrap());
        assert_eq!(read(reader), [1.0, 3.0]);
        assert_eq!(read(NodeId(0)), [0.6, 9.0]);
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
