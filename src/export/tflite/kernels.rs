//! How the kernels of `LiteRT` round, as far as it differs from exact arithmetic.
//!
//! By default the XNNPACK delegate runs int8 graphs: it rounds a sum of products once, from a float, so
//! that the simulation need do nothing else. Found by comparing single operators of ai-edge-litert 2.3.0
//! on x86-64 with integer arithmetic, code by code:
//!
//! - `QUANTIZE` between two int8 grids and `LEAKY_RELU` multiply by factors of 8 bits behind the point.
//! - `CONV_2D` with int4 weights is no operator of XNNPACK. The built-in kernel multiplies by a factor
//!   of 31 bits, rounds to the bits that are then shifted out, and rounds again.
//! - `QUANTIZE` from int16 to int8 does the same, with ties away from zero.

use std::collections::BTreeMap;

use super::edges::Edges;
use super::grid::StoredGrid;
use crate::engine::{EdgeGrids, EdgePass, EdgeRounding};
use crate::export::error::ExportError;
use crate::model::{NodeId, ValueId};
use crate::quant::QuantError;

/// What is particular to the kernels of some operators.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelArithmetic {
    /// Values whose kernel rounds in its own way, with the factor before it.
    written: BTreeMap<ValueId, (f32, EdgeRounding)>,
    /// Slopes of `LEAKY_RELU` below zero, relative to the one above, as the kernel has them.
    pub slopes: Vec<(NodeId, f32)>,
}

impl KernelArithmetic {
    /// Notes the rounding of a built-in convolution: `factors` are those of its channels.
    ///
    /// ```text
    /// factor = s_x · s_w / s_y = m · 2^e, m in 0.5..1;  bits that are shifted out: max(−e, 0)
    /// ```
    pub(super) fn round_twice(&mut self, output: ValueId, factors: &[f64]) {
        let rounding = EdgeRounding::Twice {
            bits: factors.iter().copied().map(shifted_out).collect(),
            away_from_zero: false,
        };
        self.written.insert(output, (1.0, rounding));
    }

    /// Notes the factors of a `LEAKY_RELU`.
    pub(super) fn leaky(
        &mut self,
        (node, output): (NodeId, ValueId),
        alpha: f32,
        (from, to): (StoredGrid, StoredGrid),
    ) {
        let ratio = f64::from(from.scale) / f64::from(to.scale);
        let (above, below) = (in_256ths(ratio), in_256ths(ratio * f64::from(alpha)));
        if from.wide || to.wide || !is_taken(ratio) || !is_taken(ratio * f64::from(alpha.abs())) {
            return;
        }
        let gain = above / 256.0 / ratio;
        self.written.insert(output, (gain as f32, EdgeRounding::Up));
        self.slopes.push((node, (below / above) as f32));
    }
}

/// Factors that XNNPACK takes: `2^−8 .. 2^7`.
fn is_taken(ratio: f64) -> bool {
    (1.0 / 256.0..=128.0).contains(&ratio)
}

fn in_256ths(ratio: f64) -> f64 {
    (ratio * 256.0).round_ties_even()
}

/// Bits behind the point that a built-in kernel shifts out last.
fn shifted_out(factor: f64) -> u8 {
    let mut bits = 0;
    let mut scaled = factor * 2.0;
    while scaled < 1.0 && bits < 31 {
        scaled *= 2.0;
        bits += 1;
    }
    bits
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
        let (gain, rounding) = own.unwrap_or((1.0, EdgeRounding::Nearest));
        let mut passes = vec![EdgePass {
            grid: written.unwrap_or(read).simulated().map_err(failed)?,
            gain,
            rounding,
        }];
        if let Some(written) = written {
            passes.push(requantized(written, read).map_err(failed)?);
        }
        grids.insert(id, passes);
    }
    Ok(grids)
}

/// `QUANTIZE` from one grid to another.
fn requantized(from: StoredGrid, to: StoredGrid) -> Result<EdgePass, QuantError> {
    let ratio = f64::from(from.scale) / f64::from(to.scale);
    let grid = to.simulated()?;
    if !from.wide && !to.wide && is_taken(ratio) {
        return Ok(EdgePass {
            grid,
            gain: (in_256ths(ratio) / 256.0 / ratio) as f32,
            rounding: EdgeRounding::Up,
        });
    }
    Ok(EdgePass {
        grid,
        gain: 1.0,
        rounding: EdgeRounding::Twice {
            bits: vec![shifted_out(ratio)],
            away_from_zero: true,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_exponent() {
        for (factor, bits) in [
            (0.75, 0),
            (0.5, 0),
            (0.49, 1),
            (0.25, 1),
            (0.005, 7),
            (3.0, 0),
        ] {
            assert_eq!(shifted_out(factor), bits, "{factor}");
        }
    }

    #[test]
    fn requantizing_has_factors_of_eight_bits() {
        let narrow = |scale| StoredGrid {
            scale,
            zero_point: 0,
            wide: false,
        };
        let pass = requantized(narrow(0.9), narrow(1.0)).unwrap();
        // 0.9 · 256 = 230.4, of which the kernel has 230.
        assert!((f64::from(pass.gain) - 230.0 / 230.4).abs() < 1e-6);
        assert_eq!(pass.rounding, EdgeRounding::Up);
        let wide = requantized(narrow(0.9).lifted(), narrow(1.0)).unwrap();
        assert_eq!(wide.gain, 1.0);
    }
}
