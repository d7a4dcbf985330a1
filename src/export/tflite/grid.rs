//! Grids of activations as `TFLite` stores them.

use super::file::Quantization;
use super::schema::ElementKind;
use crate::quant::{Grid, QuantError, Range};

/// A grid of an activation: int8 with a zero point, or int16 around zero.
///
/// ```text
/// int8:   −128..=127, zero point in it          int16:  −32768..=32767, zero point 0
/// ```
/// (`LiteRT` 8-bit quantization specification, and its 16x8 mode.) Kernels write all codes of the type,
/// so that a grid has all of them whatever the plan's has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StoredGrid {
    pub scale: f32,
    pub zero_point: i32,
    /// Whether codes are of 16 bits.
    pub wide: bool,
}

impl StoredGrid {
    /// How a grid of a plan is stored.
    pub(super) fn of(grid: &Grid) -> Self {
        let wide = grid.levels() > 256;
        let unsigned = grid.q_min() == 0;
        let shift = if unsigned && !wide { 128 } else { 0 };
        Self {
            scale: grid.scale(),
            zero_point: grid.zero_point() - shift,
            wide,
        }
    }

    /// A grid over a range.
    ///
    /// # Errors
    /// None for a range of finite numbers.
    pub(super) fn over(range: Range, wide: bool) -> Result<Self, QuantError> {
        let bits = |bits| crate::quant::BitWidth::new(bits);
        let grid = if wide {
            Grid::symmetric_activation(range, bits(16)?)?
        } else {
            Grid::asymmetric(range, bits(8)?)
        };
        Ok(Self::of(&grid))
    }

    /// The grid in the program's own form.
    ///
    /// # Errors
    /// None for a grid that came from one.
    pub(super) fn simulated(self) -> Result<Grid, QuantError> {
        if self.wide {
            Grid::new(self.scale, 0, -0x8000, 0x7FFF)
        } else {
            Grid::new(self.scale, self.zero_point + 128, 0, 255)
        }
    }

    /// The same levels in 16 bits: `q − zero_point` of an int8 code is a code around zero.
    pub(super) fn lifted(self) -> Self {
        Self {
            zero_point: 0,
            wide: true,
            ..self
        }
    }

    /// 16 bits over the range of an int8 grid.
    pub(super) fn refined(self) -> Self {
        let farthest = (127 - self.zero_point).max(self.zero_point + 128);
        Self {
            scale: self.scale * farthest as f32 / 32767.0,
            zero_point: 0,
            wide: true,
        }
    }

    /// Type of the codes.
    pub(super) fn kind(self) -> ElementKind {
        if self.wide {
            ElementKind::I16
        } else {
            ElementKind::I8
        }
    }

    pub(super) fn quantization(self) -> Quantization {
        Quantization {
            scales: vec![self.scale],
            zero_points: vec![i64::from(self.zero_point)],
            axis: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_of_plans_are_stored_with_signs() {
        let asymmetric = Grid::new(0.5, 3, 0, 255).unwrap();
        let stored = StoredGrid::of(&asymmetric);
        assert_eq!((stored.zero_point, stored.wide), (-125, false));
        assert_eq!(stored.simulated().unwrap(), asymmetric);
        let symmetric = StoredGrid::of(&Grid::new(0.5, 0, -127, 127).unwrap());
        assert_eq!((symmetric.zero_point, symmetric.wide), (0, false));
        // Kernels write −128 too.
        let all = symmetric.simulated().unwrap();
        assert_eq!(all.range().min(), -64.0);
        let wide = StoredGrid::of(&Grid::new(0.25, 0, -32767, 32767).unwrap());
        assert_eq!((wide.zero_point, wide.wide), (0, true));
    }

    #[test]
    fn sixteen_bits_hold_the_levels_of_eight() {
        let narrow = StoredGrid {
            scale: 0.1,
            zero_point: -100,
            wide: false,
        };
        let (own, lifted) = (
            narrow.simulated().unwrap(),
            narrow.lifted().simulated().unwrap(),
        );
        for code in 0..256 {
            let level = own.dequantize(code);
            assert_eq!(lifted.fake_quantize(level), level, "code {code}");
        }
        let refined = narrow.refined().simulated().unwrap().range();
        assert!(refined.max() >= own.range().max() && refined.min() <= own.range().min());
    }
}
