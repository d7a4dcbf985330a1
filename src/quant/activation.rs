//! What happens to an activation before a layer reads it.

use super::calibrator::{affine_grid, check_granularity};
use super::fake_quantize::signal_and_noise;
use super::{
    Grid, HalfFormat, NumberFormat, Observer, QuantError, QuantSpec, Range, SliceErrors, calibrate,
};

/// The rule by which an activation is quantized and dequantized.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ActivationQuantizer {
    /// Leaves the activation as it is.
    Identity,
    /// Rounds to the levels of a grid.
    Affine(Grid),
    /// Rounds to a half-precision format.
    Half(HalfFormat),
}

impl ActivationQuantizer {
    /// The rule that a choice gives for an observed activation.
    ///
    /// The floating-point formats need no observation.
    ///
    /// # Errors
    /// [`QuantError::ActivationGranularity`] for anything but one grid for the tensor,
    /// [`QuantError::SymmetricOneBit`], and the errors of [`calibrate`].
    pub fn from_spec(spec: &QuantSpec, observer: &Observer) -> Result<Self, QuantError> {
        match spec.format {
            NumberFormat::Int(_) => Self::from_range(spec, calibrate(observer, spec)?),
            NumberFormat::F16 | NumberFormat::BF16 | NumberFormat::F32 => {
                Self::from_range(spec, Range::ZERO)
            }
        }
    }

    /// The rule that a choice gives for a range that is already known.
    ///
    /// # Errors
    /// [`QuantError::ActivationGranularity`] for anything but one grid for the tensor, and
    /// [`QuantError::SymmetricOneBit`].
    pub fn from_range(spec: &QuantSpec, range: Range) -> Result<Self, QuantError> {
        match spec.format {
            NumberFormat::Int(bits) => {
                check_granularity(spec.granularity)?;
                affine_grid(spec.scheme, range, bits).map(Self::Affine)
            }
            NumberFormat::F16 => Ok(Self::Half(HalfFormat::F16)),
            NumberFormat::BF16 => Ok(Self::Half(HalfFormat::BF16)),
            NumberFormat::F32 => Ok(Self::Identity),
        }
    }

    /// The grid, where there is one.
    pub const fn grid(&self) -> Option<&Grid> {
        match self {
            Self::Affine(grid) => Some(grid),
            Self::Identity | Self::Half(_) => None,
        }
    }

    /// Writes the quantized `src` to `dst`, as far as the shorter of the two goes.
    pub fn apply(&self, src: &[f32], dst: &mut [f32]) {
        match self {
            Self::Identity => copy(src, dst),
            Self::Affine(grid) => grid.fake_quantize_slice(src, dst),
            Self::Half(format) => format.round_slice(src, dst),
        }
    }

    /// Writes the quantized `src` to `dst` and measures the error in the same pass.
    pub fn apply_observed(&self, src: &[f32], dst: &mut [f32]) -> SliceErrors {
        match self {
            Self::Identity => {
                copy(src, dst);
                let src = &src[..src.len().min(dst.len())];
                let (signal, _) = signal_and_noise(src, src);
                SliceErrors {
                    signal,
                    count: src.len() as u64,
                    ..SliceErrors::default()
                }
            }
            Self::Affine(grid) => grid.fake_quantize_observed(src, dst),
            Self::Half(format) => format.round_observed(src, dst),
        }
    }
}

fn copy(src: &[f32], dst: &mut [f32]) {
    for (x, y) in src.iter().zip(dst) {
        *y = *x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{Granularity, Scheme};

    #[test]
    fn rules_follow_the_format() {
        let mut observer = Observer::new();
        let src = [-1.0, 0.1, 0.5, 3.0];
        observer.observe(&src);
        let cases = [
            ("f32", src, f64::INFINITY),
            ("bf16", [-1.0, 0.100097656, 0.5, 3.0], 90.0),
            ("f16", [-1.0, 0.099975586, 0.5, 3.0], 102.0),
            ("1", [0.0, 0.0, 0.0, 4.0], 7.0),
            ("2", [-4.0 / 3.0, 0.0, 0.0, 8.0 / 3.0], 13.0),
        ];
        for (format, expected, sqnr_db) in cases {
            let rule = ActivationQuantizer::from_spec(
                &QuantSpec::activation(format.parse().unwrap()),
                &observer,
            )
            .unwrap();
            let (mut plain, mut observed) = ([0.0; 4], [0.0; 4]);
            rule.apply(&src, &mut plain);
            let errors = rule.apply_observed(&src, &mut observed);
            assert_eq!(plain, observed, "{format}");
            for (actual, expected) in plain.iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-6, "{format}: {plain:?}");
            }
            let close = errors.sqnr_db() == sqnr_db || (errors.sqnr_db() - sqnr_db).abs() < 3.0;
            assert!(
                close && errors.count == 4,
                "{format}: {errors:?} {}",
                errors.sqnr_db()
            );
            assert_eq!(rule.grid().is_some(), format.len() == 1, "{format}");
        }
    }

    #[test]
    fn requests_without_an_answer_are_refused() {
        let spec = QuantSpec::activation("8".parse().unwrap());
        let empty = Observer::new();
        assert_eq!(
            ActivationQuantizer::from_spec(&spec, &empty),
            Err(QuantError::NothingObserved)
        );
        let float = QuantSpec::activation(NumberFormat::F16);
        assert!(ActivationQuantizer::from_spec(&float, &empty).is_ok());
        let range = Range::new(-1.0, 1.0).unwrap();
        let channels = QuantSpec {
            granularity: Granularity::PerChannel,
            ..spec
        };
        let refused = ActivationQuantizer::from_range(&channels, range);
        assert!(matches!(
            refused,
            Err(QuantError::ActivationGranularity { .. })
        ));
        let one_bit = QuantSpec {
            scheme: Scheme::Symmetric,
            ..QuantSpec::activation("1".parse().unwrap())
        };
        assert_eq!(
            ActivationQuantizer::from_range(&one_bit, range),
            Err(QuantError::SymmetricOneBit)
        );
    }
}
