//! Affine grids: the levels that integer codes stand for.

use serde::{Deserialize, Serialize};

use super::fake_quantize::{self, round_half_even};
use super::{BitWidth, QuantError, Range, SliceErrors};

/// The levels of an integer format: `(code - zero_point) * scale`.
///
/// ```text
/// q  = clamp(round_half_even(x / scale) + zero_point, q_min, q_max)
/// x̂ = (q - zero_point) * scale
/// ```
/// All in `f32`, dividing by the scale (ONNX `QuantizeLinear` and `DequantizeLinear`).
/// NaN stays NaN under [`fake_quantize`](Grid::fake_quantize), so that it can be seen, and has the
/// code of zero. Infinities take the end of the grid. A result of zero is `+0.0`.
///
/// ```
/// use quantscope::quant::{BitWidth, Grid, Range};
/// let grid = Grid::asymmetric(Range::new(-1.0, 3.0)?, BitWidth::new(2)?);
/// assert_eq!((grid.scale(), grid.zero_point()), (4.0 / 3.0, 1));
/// assert_eq!(grid.quantize(0.0), 1);
/// assert_eq!(grid.fake_quantize(100.0), 2.0 * grid.scale());
/// # Ok::<(), quantscope::quant::QuantError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawGrid", into = "RawGrid")]
pub struct Grid {
    scale: f32,
    zero_point: i32,
    q_min: i32,
    q_max: i32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrid {
    scale: f32,
    zero_point: i32,
    q_min: i32,
    q_max: i32,
}

impl Grid {
    /// Checks the parts of a grid.
    ///
    /// # Errors
    /// [`QuantError::Grid`] unless the scale is finite and above zero, `q_min <= zero_point <= q_max`,
    /// and the codes fit 16 bits, signed or unsigned.
    pub fn new(scale: f32, zero_point: i32, q_min: i32, q_max: i32) -> Result<Self, QuantError> {
        let scale_is_valid = scale.is_finite() && scale > 0.0;
        let codes_fit = (-0x8000..=0).contains(&q_min) && (0..=0xFFFF).contains(&q_max);
        if scale_is_valid && codes_fit && (q_min..=q_max).contains(&zero_point) {
            Ok(Self {
                scale,
                zero_point,
                q_min,
                q_max,
            })
        } else {
            Err(QuantError::Grid {
                scale,
                zero_point,
                q_min,
                q_max,
            })
        }
    }

    /// Spreads the codes `0..=2^bits - 1` over a range.
    ///
    /// ```text
    /// scale = (max - min) / (2^bits - 1)
    /// zero_point = clamp(round_half_even(-min / scale), 0, 2^bits - 1)
    /// ```
    /// The range is widened to contain zero, so that zero is exact (ONNX DynamicQuantizeLinear-11).
    /// A range of no width gives scale 1 and zero point 0.
    pub fn asymmetric(range: Range, bits: BitWidth) -> Self {
        let range = range.widened_to_zero();
        let q_max = bits.levels() as i32 - 1;
        let steps = q_max as f32;
        let span = range.max() - range.min();
        // The difference of two finite floats may be infinite; their shares are not.
        let scale = if span.is_finite() {
            span / steps
        } else {
            range.max() / steps - range.min() / steps
        };
        let scale = scale_or_one(scale.min(f32::MAX));
        let zero_point = round_half_even((-range.min() / scale).clamp(0.0, steps)) as i32;
        Self {
            scale,
            zero_point,
            q_min: 0,
            q_max,
        }
    }

    /// Spreads the codes `±(2^(bits - 1) - 1)` over `[-max_abs, max_abs]`.
    ///
    /// ```text
    /// scale = max_abs / (2^(bits - 1) - 1);  zero_point = 0
    /// ```
    /// This is the restricted range of the `LiteRT` quantization specification; 2 bits are the
    /// ternary codes `{-1, 0, 1}`. A magnitude of zero gives scale 1.
    ///
    /// # Errors
    /// [`QuantError::SymmetricOneBit`] for 1 bit, whose only code would be 0;
    /// [`QuantError::Range`] for a magnitude that is negative, NaN or infinite.
    pub fn symmetric_weight(max_abs: f32, bits: BitWidth) -> Result<Self, QuantError> {
        if bits == BitWidth::MIN {
            return Err(QuantError::SymmetricOneBit);
        }
        let range = Range::new(-max_abs, max_abs)?;
        let q_max = bits.levels() as i32 / 2 - 1;
        let scale = scale_or_one(range.max() / q_max as f32);
        Ok(Self {
            scale,
            zero_point: 0,
            q_min: -q_max,
            q_max,
        })
    }

    /// Spreads the codes `±(2^(bits - 1) - 1)` over the larger magnitude of a range.
    ///
    /// The codes stay signed for a range without negative values too, as in `TensorRT`,
    /// whose int8 is symmetric and signed for every tensor; half of them are then unused.
    ///
    /// # Errors
    /// [`QuantError::SymmetricOneBit`] for 1 bit, whose only code would be 0.
    pub fn symmetric_activation(range: Range, bits: BitWidth) -> Result<Self, QuantError> {
        Self::symmetric_weight(range.max_abs(), bits)
    }

    /// The two levels `±magnitude` of a 1-bit weight as codes -1 and 1.
    ///
    /// The grid has a level at zero as well, which 1-bit weights do not use.
    pub(crate) fn binary(magnitude: f32) -> Self {
        Self {
            scale: scale_or_one(magnitude),
            zero_point: 0,
            q_min: -1,
            q_max: 1,
        }
    }

    /// The same codes with other distances; a scale that is no scale leaves the grid as it is.
    pub(super) fn with_scale(self, scale: f32) -> Self {
        if scale.is_finite() && scale > 0.0 {
            Self { scale, ..self }
        } else {
            self
        }
    }

    /// The step between two levels, finite and above zero.
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    /// The code of zero.
    pub const fn zero_point(&self) -> i32 {
        self.zero_point
    }

    /// The lowest code.
    pub const fn q_min(&self) -> i32 {
        self.q_min
    }

    /// The highest code.
    pub const fn q_max(&self) -> i32 {
        self.q_max
    }

    /// The number of levels.
    pub const fn levels(&self) -> u32 {
        (self.q_max - self.q_min) as u32 + 1
    }

    /// The lowest and the highest level.
    pub fn range(&self) -> Range {
        let (lowest, highest) = self.step_limits();
        let level = |steps: f32| (steps * self.scale).clamp(f32::MIN, f32::MAX);
        Range::from_ordered(level(lowest), level(highest))
    }

    /// The lowest and the highest level in steps from zero.
    pub(crate) fn step_limits(&self) -> (f32, f32) {
        (
            (self.q_min - self.zero_point) as f32,
            (self.q_max - self.zero_point) as f32,
        )
    }

    /// The code of a number.
    pub fn quantize(&self, x: f32) -> i32 {
        let (lowest, highest) = self.step_limits();
        // The cast takes NaN to 0, which is the code of zero here.
        round_half_even((x / self.scale).clamp(lowest, highest)) as i32 + self.zero_point
    }

    /// The level of a code; codes outside the grid take its ends.
    pub fn dequantize(&self, code: i32) -> f32 {
        (code.clamp(self.q_min, self.q_max) - self.zero_point) as f32 * self.scale
    }

    /// The level nearest to a number.
    pub fn fake_quantize(&self, x: f32) -> f32 {
        let (lowest, highest) = self.step_limits();
        round_half_even((x / self.scale).clamp(lowest, highest)) * self.scale
    }

    /// True where a number lies more than half a step beyond the ends of the grid.
    pub fn saturates(&self, x: f32) -> bool {
        let (lowest, highest) = self.step_limits();
        let steps = x / self.scale;
        steps < lowest - 0.5 || steps > highest + 0.5
    }

    /// Writes the codes of `src` to `dst`, as far as the shorter of the two goes.
    pub fn quantize_slice(&self, src: &[f32], dst: &mut [i32]) {
        fake_quantize::quantize_slice(self, src, dst);
    }

    /// Writes the steps from zero of the nearest levels, `code - zero_point`, as far as the shorter goes.
    pub fn steps_slice(&self, src: &[f32], dst: &mut [f32]) {
        fake_quantize::steps_slice(self, src, dst);
    }

    /// Writes `code - q_min` of `src` to `dst`, as far as the shorter of the two goes.
    ///
    /// For grids of at most 256 codes; of others the low 8 bits are written.
    pub fn codes_slice(&self, src: &[f32], dst: &mut [u8]) {
        fake_quantize::codes_slice(self, src, dst);
    }

    /// Writes the nearest levels of `src` to `dst`, as far as the shorter of the two goes.
    pub fn fake_quantize_slice(&self, src: &[f32], dst: &mut [f32]) {
        fake_quantize::levels(self, src, dst);
    }

    /// Replaces every number by its nearest level.
    pub fn fake_quantize_in_place(&self, values: &mut [f32]) {
        fake_quantize::levels_in_place(self, values);
    }

    /// Writes the nearest levels of `src` to `dst` and measures the error in the same pass.
    ///
    /// Goes as far as the shorter of the two. The sums do not depend on the processor.
    pub fn fake_quantize_observed(&self, src: &[f32], dst: &mut [f32]) -> SliceErrors {
        fake_quantize::levels_observed(self, src, dst)
    }

    /// The error that this grid makes on `src`.
    pub fn measure(&self, src: &[f32]) -> SliceErrors {
        fake_quantize::measure_levels(self, src)
    }
}

fn scale_or_one(scale: f32) -> f32 {
    if scale > 0.0 { scale } else { 1.0 }
}

impl TryFrom<RawGrid> for Grid {
    type Error = QuantError;

    fn try_from(raw: RawGrid) -> Result<Self, QuantError> {
        Self::new(raw.scale, raw.zero_point, raw.q_min, raw.q_max)
    }
}

impl From<Grid> for RawGrid {
    fn from(grid: Grid) -> Self {
        let Grid {
            scale,
            zero_point,
            q_min,
            q_max,
        } = grid;
        Self {
            scale,
            zero_point,
            q_min,
            q_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(bits: u8) -> BitWidth {
        BitWidth::new(bits).unwrap()
    }

    fn asymmetric(min: f32, max: f32, width: u8) -> Grid {
        Grid::asymmetric(Range::new(min, max).unwrap(), bits(width))
    }

    /// numpy: `s = f4(f4(hi - lo) / f4(2**b - 1)); z = rint(f4(-lo) / s); clip(rint(x / s) + z, 0, 2**b - 1)`
    /// over the range [-0.9, 2.6], in float32.
    #[test]
    fn asymmetric_codes_agree_with_numpy() {
        let x = [
            -1.0, -0.7, -0.1, 0.0, 0.1, 0.25, 0.5, 0.9, 1.25, 2.5, 3.0, 4.0,
        ];
        let cases = [
            (
                8,
                0.01372549,
                66,
                [0, 15, 59, 66, 73, 84, 102, 132, 157, 248, 255, 255],
                0x40260606,
            ),
            (
                6,
                0.055555556,
                16,
                [0, 3, 14, 16, 18, 20, 25, 32, 38, 61, 63, 63],
                0x40271c72,
            ),
            (
                5,
                0.11290322,
                8,
                [0, 2, 7, 8, 9, 10, 12, 16, 19, 30, 31, 31],
                0x4026318c,
            ),
            (
                4,
                0.23333333,
                4,
                [0, 1, 4, 4, 4, 5, 6, 8, 9, 15, 15, 15],
                0x40244444,
            ),
            (3, 0.5, 2, [0, 1, 2, 2, 2, 2, 3, 4, 4, 7, 7, 7], 0x40200000),
            (
                2,
                1.1666666,
                1,
                [0, 0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3],
                0x40155555,
            ),
            (1, 3.5, 0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1], 0x40600000),
        ];
        for (width, scale, zero_point, codes, top_level) in cases {
            let grid = asymmetric(-0.9, 2.6, width);
            assert_eq!(
                (grid.scale(), grid.zero_point()),
                (scale, zero_point),
                "{width} bits"
            );
            let mut actual = [0; 12];
            grid.quantize_slice(&x, &mut actual);
            assert_eq!(actual, codes, "{width} bits");
            assert_eq!(grid.fake_quantize(4.0).to_bits(), top_level, "{width} bits");
        }
    }

    #[test]
    fn ties_go_to_the_even_code() {
        let x = [
            0.5,
            1.5,
            2.5,
            -0.5,
            3.5,
            0.499_999_97,
            2.499_999_8,
            2.500_000_2,
        ];
        for (width, last) in [(8, 4), (4, 4), (2, 3)] {
            let grid = asymmetric(0.0, (1 << width) as f32 - 1.0, width);
            let codes = x.map(|x| grid.quantize(x));
            assert_eq!(codes, [0, 2, 2, 0, last, 0, 2, 3], "{width} bits");
        }
    }

    #[test]
    fn degenerate_and_huge_ranges_still_make_grids() {
        let cases = [
            (asymmetric(0.0, 0.0, 8), 1.0, 0),
            (asymmetric(0.0, 1e-45, 8), 1.0, 0),
            (asymmetric(3.0, 6.0, 2), 2.0, 0),
            (asymmetric(-6.0, -3.0, 2), 2.0, 3),
            (Grid::symmetric_weight(0.0, bits(8)).unwrap(), 1.0, 0),
            (Grid::symmetric_weight(254.0, bits(8)).unwrap(), 2.0, 0),
            (Grid::symmetric_weight(3.0, bits(2)).unwrap(), 3.0, 0),
        ];
        for (grid, scale, zero_point) in cases {
            assert_eq!(
                (grid.scale(), grid.zero_point()),
                (scale, zero_point),
                "{grid:?}"
            );
        }
        for width in 1..=16 {
            let grid = asymmetric(f32::MIN, f32::MAX, width);
            assert!(
                Grid::new(grid.scale(), grid.zero_point(), grid.q_min(), grid.q_max()).is_ok(),
                "{grid:?}"
            );
            assert!(
                grid.range().min() <= 0.0 && grid.range().max() >= 0.0,
                "{grid:?}"
            );
        }
        assert_eq!(
            Grid::symmetric_weight(1.0, bits(1)),
            Err(QuantError::SymmetricOneBit)
        );
        assert!(Grid::symmetric_weight(f32::NAN, bits(8)).is_err());
        assert!(Grid::symmetric_weight(-1.0, bits(8)).is_err());
    }

    #[test]
    fn special_values_have_a_place() {
        let grid = asymmetric(-1.0, 2.0, 4);
        assert!(grid.fake_quantize(f32::NAN).is_nan());
        assert_eq!(grid.quantize(f32::NAN), grid.zero_point());
        assert_eq!(grid.quantize(f32::INFINITY), 15);
        assert_eq!(grid.quantize(f32::NEG_INFINITY), 0);
        assert_eq!(grid.fake_quantize(-0.01).to_bits(), 0, "zero has no sign");
        let (top, step) = (grid.range().max(), grid.scale());
        let cases = [
            (top + 0.49 * step, false),
            (top + 0.51 * step, true),
            (f32::INFINITY, true),
            (f32::NAN, false),
        ];
        for (x, saturates) in cases {
            assert_eq!(grid.saturates(x), saturates, "{x}");
        }
    }

    #[test]
    fn untrusted_grids_are_checked() {
        let grid = asymmetric(-1.0, 2.0, 4);
        let json = serde_json::to_string(&grid).unwrap();
        assert_eq!(serde_json::from_str::<Grid>(&json).unwrap(), grid);
        for (scale, zero_point, q_min, q_max) in [
            (0.0, 0, 0, 255),
            (-1.0, 0, 0, 255),
            (f32::NAN, 0, 0, 255),
            (1.0, 256, 0, 255),
            (1.0, 0, 5, 0),
            (1.0, 0, 0, 65536),
        ] {
            assert!(
                Grid::new(scale, zero_point, q_min, q_max).is_err(),
                "{scale} {zero_point} {q_min} {q_max}"
            );
        }
        assert!(
            serde_json::from_str::<Grid>(r#"{"scale":0.0,"zero_point":0,"q_min":0,"q_max":1}"#)
                .is_err()
        );
    }

    fn any_range() -> impl Strategy<Value = Range> {
        (-1e3f32..1e3, 0f32..1e3).prop_map(|(min, width)| Range::new(min, min + width).unwrap())
    }

    fn any_grid() -> impl Strategy<Value = Grid> {
        (any_range(), 1..=16u8, any::<bool>()).prop_map(|(range, width, symmetric)| {
            if symmetric && width > 1 {
                Grid::symmetric_activation(range, bits(width)).unwrap()
            } else {
                Grid::asymmetric(range, bits(width))
            }
        })
    }

    proptest! {
        #[test]
        fn error_is_at_most_half_a_step(grid in any_grid(), at in 0f32..=1.0) {
            let range = grid.range();
            let x = range.min() + at * (range.max() - range.min());
            let slack = 1e-6 * range.max_abs();
            prop_assert!((x - grid.fake_quantize(x)).abs() <= 0.5 * grid.scale() + slack);
        }

        #[test]
        fn calibrated_range_is_met_within_a_step(range in any_range(), width in 1..=16u8, at in 0f32..=1.0) {
            let grid = Grid::asymmetric(range, bits(width));
            let wide = range.widened_to_zero();
            let x = wide.min() + at * (wide.max() - wide.min());
            prop_assert!((x - grid.fake_quantize(x)).abs() <= grid.scale() * (1.0 + 1e-3));
        }

        #[test]
        fn codes_stay_in_range_and_name_their_level(grid in any_grid(), x in any::<f32>()) {
            let code = grid.quantize(x);
            prop_assert!((grid.q_min()..=grid.q_max()).contains(&code));
            if !x.is_nan() {
                prop_assert_eq!(grid.dequantize(code), grid.fake_quantize(x));
            }
        }

        #[test]
        fn every_code_is_its_own(grid in any_grid(), at in 0f64..=1.0) {
            let code = grid.q_min() + (at * f64::from(grid.q_max() - grid.q_min())) as i32;
            prop_assert_eq!(grid.quantize(grid.dequantize(code)), code);
        }

        #[test]
        fn zero_is_exact(grid in any_grid()) {
            prop_assert_eq!(grid.fake_quantize(0.0), 0.0);
            prop_assert_eq!(grid.quantize(0.0), grid.zero_point());
        }

        #[test]
        fn quantization_is_monotone(grid in any_grid(), a in -2e3f32..2e3, b in -2e3f32..2e3) {
            prop_assert!(grid.quantize(a.min(b)) <= grid.quantize(a.max(b)));
        }

        #[test]
        fn scale_falls_as_bits_rise(range in any_range(), width in 1..16u8) {
            prop_assume!(range.max_abs() > 0.0);
            let scale = |width| Grid::asymmetric(range, bits(width)).scale();
            prop_assert!(scale(width + 1) < scale(width));
            let scale = |width| Grid::symmetric_activation(range, bits(width)).map_or(f32::INFINITY, |g| g.scale());
            prop_assert!(scale(width + 1) < scale(width));
        }
    }
}
