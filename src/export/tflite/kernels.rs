//! How the kernels of `LiteRT` round, as far as it differs from exact arithmetic.
//!
//! Found by comparing single operators of ai-edge-litert 2.3.0 on x86-64 with integer arithmetic, code by
//! code. By default the XNNPACK delegate runs int8 graphs:
//!
//! - Sums of products are integers, multiplied in `f32` by `s_x · s_w / s_y` and rounded once.
//! - `QUANTIZE` between two int8 grids and `LEAKY_RELU` multiply by factors of 8 bits behind the point.
//!
//! Built-in kernels run what XNNPACK has no operator for:
//!
//! - `CONV_2D` with int4 weights multiplies by a factor of 31 bits, rounds to the bits that are then
//!   shifted out, and rounds again.
//! - `QUANTIZE` from int16 to int8 does the same, with ties away from zero.
//! - Sums of products with int16 are multiplied by a factor of 15 bits, in `FULLY_CONNECTED` of 31, and
//!   rounded once (`MultiplyByQuantizedMultiplier` for `int64_t` in `kernels/internal/common`).
//! - `MEAN` of int16 rounds as `QUANTIZE` does; `ADD`, `SUB`, `MUL`, `LOGISTIC` and `LEAKY_RELU` of int16
//!   are computed from codes ([`CodeKernel`]).

use std::collections::BTreeMap;

use super::edges::Edges;
use super::factors::{in_15_bits, in_31_bits, in_256ths, is_taken, shifted_out};
use super::grid::StoredGrid;
use super::schema::{Builtin, ElementKind};
use super::weights::{StoredBias, StoredWeight};
use crate::engine::{
    CodeKernel, CodeOperator, CodeSum, EdgeGrids, EdgePass, EdgeRounding, IntegerScaling,
    ProductRounding,
};
use crate::export::error::ExportError;
use crate::model::{NodeId, ValueId};
use crate::quant::QuantError;

/// Grids of input and output, codes of the bias, and how the sum becomes a code.
type WideSum = ((StoredGrid, StoredGrid), Vec<i64>, IntegerScaling);

/// What is particular to the kernels of some operators.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelArithmetic {
    /// Values that a kernel makes from integers.
    written: BTreeMap<ValueId, IntegerScaling>,
    /// Values that are brought to another grid for one of their readers.
    read: BTreeMap<(NodeId, ValueId), EdgePass>,
    /// Layers that are summed up in codes of 16 bits.
    sums: BTreeMap<NodeId, WideSum>,
    /// Nodes that are computed from codes of 16 bits.
    from_codes: BTreeMap<NodeId, CodeKernel>,
    /// Slopes of `LEAKY_RELU` below zero, relative to the one above, as the kernel has them.
    pub slopes: Vec<(NodeId, f32)>,
}

impl KernelArithmetic {
    /// Notes how an operator rounds its sums of products with int8.
    ///
    /// ```text
    /// unit of a channel = s_x · s_w,   factor = s_x · s_w / s_y
    /// ```
    pub(super) fn product(
        &mut self,
        builtin: Builtin,
        output: ValueId,
        grids: (StoredGrid, StoredGrid),
        weight: &StoredWeight,
    ) {
        let (from, to) = grids;
        let mut scaling = exact_scaling(grids, weight);
        if weight.kind == ElementKind::I4 && builtin == Builtin::Conv2d {
            scaling.factors = scaling.factors.into_iter().map(in_31_bits).collect();
            scaling.rounding = ProductRounding::Twice {
                bits: scaling.factors.iter().copied().map(shifted_out).collect(),
                away_from_zero: false,
            };
        } else {
            let factors = weight.scales.iter();
            let factors = factors.map(|scale| f64::from(from.scale * scale / to.scale));
            scaling.factors = factors.collect();
            scaling.rounding = ProductRounding::Single;
        }
        self.written.insert(output, scaling);
    }

    /// Notes how a layer sums up products with int16.
    pub(super) fn sum(
        &mut self,
        builtin: Builtin,
        layer: NodeId,
        grids: (StoredGrid, StoredGrid),
        (weight, bias): (&StoredWeight, &StoredBias),
    ) {
        let mut scaling = exact_scaling(grids, weight);
        if builtin != Builtin::FullyConnected {
            scaling.factors = scaling.factors.into_iter().map(in_15_bits).collect();
        }
        let sum = (grids, bias.codes.clone(), scaling);
        self.sums.insert(layer, sum);
    }

    /// Notes how a normalisation, which is a product with one number for each channel, is rounded.
    pub(super) fn normalization(
        &mut self,
        output: ValueId,
        grids: (StoredGrid, StoredGrid),
        weight: &StoredWeight,
    ) {
        if !grids.0.wide {
            self.product(Builtin::DepthwiseConv2d, output, grids, weight);
            return;
        }
        let mut scaling = exact_scaling(grids, weight);
        scaling.factors = scaling.factors.into_iter().map(in_15_bits).collect();
        self.written.insert(output, scaling);
    }

    /// Notes how a mean over so many numbers of int16 is rounded.
    pub(super) fn mean(
        &mut self,
        output: ValueId,
        (from, to): (StoredGrid, StoredGrid),
        count: usize,
    ) {
        if !from.wide || !to.wide {
            return;
        }
        let factor = f64::from(from.scale / to.scale) / count as f64;
        let scaling = IntegerScaling {
            units: vec![f64::from(from.scale) / count as f64],
            factors: vec![in_31_bits(factor)],
            rounding: ProductRounding::Twice {
                bits: vec![shifted_out(factor)],
                away_from_zero: true,
            },
        };
        self.written.insert(output, scaling);
    }

    /// Notes that a value is brought to another grid before a node reads it.
    pub(super) fn requantize_for(
        &mut self,
        reader: NodeId,
        id: ValueId,
        (from, to): (StoredGrid, StoredGrid),
    ) -> Result<(), QuantError> {
        let is_exact = to.wide && from.scale == to.scale;
        if !is_exact {
            self.read.insert((reader, id), requantized(from, to)?);
        }
        Ok(())
    }

    /// Notes an operator between codes of 16 bits.
    pub(super) fn compute_from_codes(
        &mut self,
        node: NodeId,
        operator: CodeOperator,
        inputs: &[StoredGrid],
        output: StoredGrid,
    ) {
        if output.wide {
            let kernel = CodeKernel {
                operator,
                inputs: inputs.iter().map(|grid| grid.scale).collect(),
                output: output.scale,
            };
            self.from_codes.insert(node, kernel);
        }
    }

    /// Notes the factors of a `LEAKY_RELU`.
    pub(super) fn leaky(
        &mut self,
        (node, output): (NodeId, ValueId),
        alpha: f32,
        (from, to): (StoredGrid, StoredGrid),
    ) {
        let operator = CodeOperator::LeakyRelu { alpha };
        self.compute_from_codes(node, operator, &[from], to);
        let ratio = f64::from(from.scale) / f64::from(to.scale);
        let (above, below) = (in_256ths(ratio), in_256ths(ratio * f64::from(alpha)));
        if from.wide || to.wide || !is_taken(ratio) || !is_taken(ratio * f64::from(alpha.abs())) {
            return;
        }
        // Above zero a code counts `above` of these units, below zero `below` of them.
        let scaling = IntegerScaling {
            units: vec![f64::from(from.scale) / above],
            factors: vec![1.0 / 256.0],
            rounding: ProductRounding::Up,
        };
        self.written.insert(output, scaling);
        self.slopes.push((node, (below / above) as f32));
    }
}

/// ```text
/// unit of a channel = s_x · s_w,   factor = s_x · s_w / s_y;   rounded once, with ties up
/// ```
fn exact_scaling((from, to): (StoredGrid, StoredGrid), weight: &StoredWeight) -> IntegerScaling {
    let units = weight.scales.iter();
    let units: Vec<f64> = units
        .map(|scale| f64::from(from.scale) * f64::from(*scale))
        .collect();
    IntegerScaling {
        factors: units
            .iter()
            .map(|unit| unit / f64::from(to.scale))
            .collect(),
        units,
        rounding: ProductRounding::Up,
    }
}

/// The grids as the engine simulates them.
///
/// # Errors
/// None for grids that came from the program.
pub(super) fn simulated(
    edges: &Edges,
    kernels: &KernelArithmetic,
) -> Result<EdgeGrids, ExportError> {
    let mut grids = EdgeGrids::default();
    let failed = |error: QuantError| ExportError::Message(error.to_string());
    for (id, written, read) in edges.all() {
        let own = kernels.written.get(&id).cloned();
        let mut passes = vec![EdgePass {
            grid: written.unwrap_or(read).simulated().map_err(failed)?,
            rounding: own.map_or(EdgeRounding::Nearest, EdgeRounding::Integer),
        }];
        if let Some(written) = written {
            passes.push(requantized(written, read).map_err(failed)?);
        }
        grids.insert(id, passes);
    }
    for ((reader, id), pass) in &kernels.read {
        grids.insert_for_reader(*reader, *id, pass.clone());
    }
    for (layer, ((from, to), bias, scaling)) in &kernels.sums {
        let sum = CodeSum {
            input: from.scale,
            bias: bias.clone(),
            scaling: scaling.clone(),
            output: to.simulated().map_err(failed)?,
        };
        grids.insert_sum(*layer, sum);
    }
    for (node, kernel) in &kernels.from_codes {
        grids.insert_kernel(*node, kernel.clone());
    }
    Ok(grids)
}

/// `QUANTIZE` from one grid to another.
fn requantized(from: StoredGrid, to: StoredGrid) -> Result<EdgePass, QuantError> {
    let ratio = f64::from(from.scale) / f64::from(to.scale);
    let (factor, rounding) = if !from.wide && !to.wide && is_taken(ratio) {
        (in_256ths(ratio) / 256.0, ProductRounding::Up)
    } else {
        let rounding = ProductRounding::Twice {
            bits: vec![shifted_out(ratio)],
            away_from_zero: true,
        };
        (in_31_bits(ratio), rounding)
    };
    Ok(EdgePass {
        grid: to.simulated()?,
        rounding: EdgeRounding::Integer(IntegerScaling {
            units: vec![f64::from(from.scale)],
            factors: vec![factor],
            rounding,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requantizing_has_factors_of_eight_bits() {
        let narrow = |scale| StoredGrid {
            scale,
            zero_point: 0,
            wide: false,
        };
        let scaling = |from, to| match requantized(from, to).unwrap().rounding {
            EdgeRounding::Integer(scaling) => scaling,
            other => panic!("codes are integers, not {other:?}"),
        };
        let pass = scaling(narrow(0.9), narrow(1.0));
        // 0.9 · 256 = 230.4, of which the kernel has 230.
        assert_eq!(pass.factors, [230.0 / 256.0]);
        assert_eq!(pass.rounding, ProductRounding::Up);
        let wide = scaling(narrow(0.9).lifted(), narrow(1.0));
        assert!((wide.factors[0] - f64::from(0.9f32)).abs() < 1e-9);
    }
}
