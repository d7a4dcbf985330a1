//! A pair of widths, as it is typed: `4/8`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::PlanError;
use crate::quant::NumberFormat;

/// Number formats of a layer's weight and of its input activation, written `W/A`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Widths {
    /// Format of the weight.
    pub weight: NumberFormat,
    /// Format of the input activation.
    pub activation: NumberFormat,
}

impl Widths {
    /// Neither weight nor activation is quantized.
    pub const FLOAT: Self = Self {
        weight: NumberFormat::F32,
        activation: NumberFormat::F32,
    };
}

impl fmt::Display for Widths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.weight, self.activation)
    }
}

impl From<Widths> for String {
    fn from(widths: Widths) -> Self {
        widths.to_string()
    }
}

impl TryFrom<String> for Widths {
    type Error = PlanError;

    fn try_from(text: String) -> Result<Self, PlanError> {
        text.parse()
    }
}

impl FromStr for Widths {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let invalid = |reason: String| PlanError::Widths {
            text: text.to_owned(),
            reason,
        };
        let (weight, activation) = text
            .split_once('/')
            .ok_or_else(|| invalid("the slash is missing".to_owned()))?;
        let parse = |part: &str| {
            part.trim()
                .parse::<NumberFormat>()
                .map_err(|error| invalid(error.to_string()))
        };
        Ok(Self {
            weight: parse(weight)?,
            activation: parse(activation)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_read_and_written_the_same_way() {
        for text in ["8/8", "4/8", "1/16", "f32/8", "bf16/f16"] {
            assert_eq!(text.parse::<Widths>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_widths_say_what_is_wrong() {
        for (text, part) in [("8", "slash"), ("17/8", "17"), ("8/", "8/"), ("8/x", "x")] {
            let message = text.parse::<Widths>().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
