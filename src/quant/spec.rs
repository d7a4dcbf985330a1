//! What is chosen for one tensor: scheme, granularity, calibrator and range.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NumberFormat, QuantError};

/// Whether the grid lies evenly around zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scheme {
    /// Zero point 0 and as many levels below zero as above.
    Symmetric,
    /// Codes `0..=2^bits - 1` spread over `[min, max]`.
    Asymmetric,
}

/// How many numbers share one grid.
///
/// Written `per-tensor`, `per-channel` or `per-group:N`.
#[expect(
    clippy::enum_variant_names,
    reason = "these are the names of the field"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Granularity {
    /// One grid for the whole tensor.
    PerTensor,
    /// One grid for each output channel.
    PerChannel,
    /// One grid for each run of so many weights of an output channel.
    PerGroup(NonZeroUsize),
}

/// How the range of a grid is found.
///
/// Written `minmax`, `moving-average`, `percentile:P`, `mse` or `entropy`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Calibrator {
    /// The smallest and the largest value seen.
    MinMax,
    /// The moving average of the smallest and largest values of the batches.
    MovingAverage,
    /// The range that holds this percentage of the values, 50 to 100.
    Percentile(f32),
    /// The range with the least mean squared error of quantization.
    Mse,
    /// The range with the least Kullback-Leibler divergence.
    Entropy,
}

impl Calibrator {
    /// Checks the percentage of a percentile.
    ///
    /// # Errors
    /// [`QuantError::Percentile`] outside `50..=100`, or for NaN.
    pub fn validate(self) -> Result<(), QuantError> {
        match self {
            Self::Percentile(p) if !(50.0..=100.0).contains(&p) => Err(QuantError::Percentile(p)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Symmetric => "symmetric",
            Self::Asymmetric => "asymmetric",
        })
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerTensor => f.pad("per-tensor"),
            Self::PerChannel => f.pad("per-channel"),
            Self::PerGroup(size) => write!(f, "per-group:{size}"),
        }
    }
}

impl fmt::Display for Calibrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.pad("minmax"),
            Self::MovingAverage => f.pad("moving-average"),
            Self::Percentile(p) => write!(f, "percentile:{p}"),
            Self::Mse => f.pad("mse"),
            Self::Entropy => f.pad("entropy"),
        }
    }
}

impl FromStr for Scheme {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Self, QuantError> {
        match text {
            "symmetric" => Ok(Self::Symmetric),
            "asymmetric" => Ok(Self::Asymmetric),
            _ => Err(parse_error("scheme", text, "symmetric or asymmetric")),
        }
    }
}

impl FromStr for Granularity {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Self, QuantError> {
        let group = || text.strip_prefix("per-group:")?.parse().ok();
        match text {
            "per-tensor" => Ok(Self::PerTensor),
            "per-channel" => Ok(Self::PerChannel),
            _ => group().map(Self::PerGroup).ok_or_else(|| {
                let expected = "per-tensor, per-channel or per-group:N with N of 1 or more";
                parse_error("granularity", text, expected)
            }),
        }
    }
}

impl FromStr for Calibrator {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Self, QuantError> {
        let percentile = || text.strip_prefix("percentile:")?.parse().ok();
        let calibrator = match text {
            "minmax" => Self::MinMax,
            "moving-average" => Self::MovingAverage,
            "mse" => Self::Mse,
            "entropy" => Self::Entropy,
            _ => percentile().map(Self::Percentile).ok_or_else(|| {
                let expected =
                    "minmax, moving-average, percentile:P with P from 50 to 100, mse or entropy";
                parse_error("calibrator", text, expected)
            })?,
        };
        calibrator.validate()?;
        Ok(calibrator)
    }
}

fn parse_error(what: &'static str, text: &str, expected: &'static str) -> QuantError {
    QuantError::Parse {
        what,
        text: text.to_owned(),
        expected,
    }
}

/// Reads and writes the type as the text of `FromStr` and `Display`.
macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = QuantError;

            fn try_from(text: String) -> Result<Self, QuantError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

serde_as_text!(Scheme, Granularity, Calibrator);

/// Two finite ends of an interval, the lower first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRange", into = "RawRange")]
pub struct Range {
    min: f32,
    max: f32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    min: f32,
    max: f32,
}

impl Range {
    /// The range that holds zero alone.
    pub const ZERO: Self = Self { min: 0.0, max: 0.0 };

    /// Checks two ends.
    ///
    /// # Errors
    /// [`QuantError::Range`] for an end that is NaN or infinite, or for `min > max`.
    pub fn new(min: f32, max: f32) -> Result<Self, QuantError> {
        if min.is_finite() && max.is_finite() && min <= max {
            Ok(Self { min, max })
        } else {
            Err(QuantError::Range { min, max })
        }
    }

    /// The range from `min` to `max`, for ends known to be finite and in order.
    pub(crate) fn from_ordered(min: f32, max: f32) -> Self {
        debug_assert!(
            min.is_finite() && max.is_finite() && min <= max,
            "[{min}, {max}]"
        );
        Self { min, max }
    }

    /// The lower end.
    pub const fn min(self) -> f32 {
        self.min
    }

    /// The upper end.
    pub const fn max(self) -> f32 {
        self.max
    }

    /// The larger of the two magnitudes.
    pub fn max_abs(self) -> f32 {
        self.min.abs().max(self.max.abs())
    }

    /// The smallest range that holds this one and zero.
    pub fn widened_to_zero(self) -> Self {
        Self {
            min: self.min.min(0.0),
            max: self.max.max(0.0),
        }
    }
}

impl TryFrom<RawRange> for Range {
    type Error = QuantError;

    fn try_from(raw: RawRange) -> Result<Self, QuantError> {
        Self::new(raw.min, raw.max)
    }
}

impl From<Range> for RawRange {
    fn from(range: Range) -> Self {
        Self {
            min: range.min,
            max: range.max,
        }
    }
}

/// Everything that is chosen about the quantization of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantSpec {
    /// How one number is stored.
    pub format: NumberFormat,
    /// Whether the grid lies evenly around zero.
    pub scheme: Scheme,
    /// How many numbers share one grid.
    pub granularity: Granularity,
    /// How the range is found.
    pub calibrator: Calibrator,
    /// The range to use in place of the calibrated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_override: Option<Range>,
}

impl QuantSpec {
    /// Whether two choices differ in how one number is stored at most.
    pub fn same_but_format(&self, other: &Self) -> bool {
        let format = other.format;
        Self { format, ..*self } == *other
    }

    /// The usual choice for a weight: symmetric, per channel, min-max.
    pub const fn weight(format: NumberFormat) -> Self {
        Self {
            format,
            scheme: Scheme::Symmetric,
            granularity: Granularity::PerChannel,
            calibrator: Calibrator::MinMax,
            range_override: None,
        }
    }

    /// The usual choice for an activation: asymmetric, per tensor, min-max.
    pub const fn activation(format: NumberFormat) -> Self {
        Self {
            format,
            scheme: Scheme::Asymmetric,
            granularity: Granularity::PerTensor,
            calibrator: Calibrator::MinMax,
            range_override: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written_alike() {
        #[track_caller]
        fn check<T>(texts: &[&str])
        where
            T: FromStr<Err = QuantError>
                + fmt::Display
                + Serialize
                + for<'de> Deserialize<'de>
                + PartialEq
                + fmt::Debug,
        {
            for text in texts {
                let value = text.parse::<T>().unwrap();
                assert_eq!(value.to_string(), *text);
                let json = serde_json::to_string(&value).unwrap();
                assert_eq!(json, format!("{text:?}"));
                assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
            }
        }
        check::<Scheme>(&["symmetric", "asymmetric"]);
        check::<Granularity>(&["per-tensor", "per-channel", "per-group:1", "per-group:128"]);
        check::<Calibrator>(&[
            "minmax",
            "moving-average",
            "percentile:99.99",
            "percentile:50",
            "mse",
            "entropy",
        ]);
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        for text in ["", "sym", "Symmetric"] {
            assert!(text.parse::<Scheme>().is_err(), "{text:?}");
        }
        for text in [
            "",
            "per-group",
            "per-group:",
            "per-group:0",
            "per-group:-1",
            "per-channel:3",
        ] {
            assert!(text.parse::<Granularity>().is_err(), "{text:?}");
        }
        for text in [
            "",
            "percentile",
            "percentile:",
            "percentile:x",
            "percentile:49.9",
            "percentile:101",
            "percentile:NaN",
        ] {
            assert!(text.parse::<Calibrator>().is_err(), "{text:?}");
        }
        let error = "sym".parse::<Scheme>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"sym\" is not a scheme. Expected symmetric or asymmetric"
        );
    }

    #[test]
    fn ranges_are_finite_and_in_order() {
        let range = Range::new(-1.0, 3.0).unwrap();
        assert_eq!(
            (range.min(), range.max(), range.max_abs()),
            (-1.0, 3.0, 3.0)
        );
        assert_eq!(
            Range::new(1.0, 3.0).unwrap().widened_to_zero(),
            Range::new(0.0, 3.0).unwrap()
        );
        assert_eq!(
            Range::new(-4.0, -3.0).unwrap().widened_to_zero(),
            Range::new(-4.0, 0.0).unwrap()
        );
        for (min, max) in [
            (1.0, 0.0),
            (f32::NAN, 0.0),
            (0.0, f32::NAN),
            (f32::NEG_INFINITY, 0.0),
            (0.0, f32::INFINITY),
        ] {
            assert!(Range::new(min, max).is_err(), "[{min}, {max}]");
        }
        assert!(serde_json::from_str::<Range>(r#"{"min":2.0,"max":1.0}"#).is_err());
        assert!(serde_json::from_str::<Range>(r#"{"min":0.0,"max":1e39}"#).is_err());
    }

    #[test]
    fn specs_survive_json() {
        let mut spec = QuantSpec::activation("4".parse().unwrap());
        spec.calibrator = Calibrator::Percentile(99.9);
        spec.range_override = Some(Range::new(-0.1, 6.0).unwrap());
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<QuantSpec>(&json).unwrap(), spec);
        let plain = serde_json::to_value(QuantSpec::weight(NumberFormat::F16)).unwrap();
        let expected = serde_json::json!({
            "format": "f16", "scheme": "symmetric", "granularity": "per-channel", "calibrator": "minmax"
        });
        assert_eq!(plain, expected);
    }
}
