//! How the levels of a weight are chosen, and what else is corrected with them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::PlanError;

/// How the levels of a layer's weight are chosen.
///
/// Written `nearest`, `gptq`, `descent`, `adaround` or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// The nearest level of each weight.
    #[default]
    Nearest,
    /// Weights make up for the rounding errors of others (GPTQ).
    Gptq,
    /// GPTQ, then weights and scales are moved until the output gets no better.
    Descent,
    /// Each weight is rounded up or down, as gradient descent on the output decides.
    AdaRound,
    /// What gives the least error of the layer's output on held-out calibration samples.
    Auto,
}

impl Rounding {
    /// Whether ranges are searched with the levels, for the error of the output.
    pub fn searches_ranges(self) -> bool {
        matches!(self, Self::Gptq | Self::Descent | Self::AdaRound)
    }

    /// All of them in the order of menus.
    pub const ALL: [Self; 5] = [
        Self::Nearest,
        Self::Gptq,
        Self::Descent,
        Self::AdaRound,
        Self::Auto,
    ];

    /// Name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Gptq => "gptq",
            Self::Descent => "descent",
            Self::AdaRound => "adaround",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Rounding {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let known = Self::ALL
            .into_iter()
            .find(|rounding| rounding.name() == text);
        known.ok_or_else(|| PlanError::UnknownRounding(text.to_owned()))
    }
}

/// One of the things that are corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correction {
    /// The bias.
    Bias,
    /// The weights before rounding.
    Refit,
    /// The ranges of channels.
    Equalize,
}

impl Correction {
    /// All of them in the order of menus.
    pub const ALL: [Self; 3] = [Self::Bias, Self::Refit, Self::Equalize];

    /// Name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bias => "bias",
            Self::Refit => "refit",
            Self::Equalize => "equalize",
        }
    }
}

/// What is corrected on calibration data besides the levels.
///
/// Written as a list of `bias`, `refit` and `equalize`, separated by commas, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Corrections {
    /// The bias takes up the mean error of the output.
    pub bias: bool,
    /// Before rounding, the weights are fitted to give the float output on the inputs under the plan.
    pub refit: bool,
    /// Channels of the layer and of its neighbour are scaled to the same range.
    pub equalize: bool,
}

impl Corrections {
    /// Nothing is corrected.
    pub const NONE: Self = Self {
        bias: false,
        refit: false,
        equalize: false,
    };

    /// Whether one of them is corrected.
    pub fn has(self, one: Correction) -> bool {
        match one {
            Correction::Bias => self.bias,
            Correction::Refit => self.refit,
            Correction::Equalize => self.equalize,
        }
    }

    /// Switches one of them on or off.
    pub fn set(&mut self, one: Correction, on: bool) {
        let slot = match one {
            Correction::Bias => &mut self.bias,
            Correction::Refit => &mut self.refit,
            Correction::Equalize => &mut self.equalize,
        };
        *slot = on;
    }

    /// The names of what is corrected.
    fn names(self) -> impl Iterator<Item = &'static str> {
        let all = Correction::ALL.into_iter();
        all.filter(move |one| self.has(*one)).map(Correction::name)
    }
}

impl fmt::Display for Corrections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.pad("none");
        }
        f.pad(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Corrections {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut corrections = Self::NONE;
        if text == "none" {
            return Ok(corrections);
        }
        for name in text.split(',') {
            let name = name.trim();
            let known = Correction::ALL.into_iter().find(|one| one.name() == name);
            let one = known.ok_or_else(|| PlanError::UnknownCorrection(name.to_owned()))?;
            corrections.set(one, true);
        }
        Ok(corrections)
    }
}

impl TryFrom<String> for Corrections {
    type Error = PlanError;

    fn try_from(text: String) -> Result<Self, PlanError> {
        text.parse()
    }
}

impl From<Corrections> for String {
    fn from(corrections: Corrections) -> Self {
        corrections.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for rounding in Rounding::ALL {
            assert_eq!(rounding.to_string().parse::<Rounding>().unwrap(), rounding);
            let json = serde_json::to_string(&rounding).unwrap();
            assert_eq!(json, format!("\"{rounding}\""));
        }
        for (text, written) in [
            ("none", "none"),
            ("bias", "bias"),
            ("equalize, refit,bias", "bias,refit,equalize"),
        ] {
            let corrections: Corrections = text.parse().unwrap();
            assert_eq!(corrections.to_string(), written);
            let json = serde_json::to_string(&corrections).unwrap();
            assert_eq!(
                serde_json::from_str::<Corrections>(&json).unwrap(),
                corrections
            );
        }
    }

    #[test]
    fn other_names_are_refused_with_those_that_there_are() {
        let error = "stochastic".parse::<Rounding>().unwrap_err().to_string();
        assert!(
            error.contains("stochastic") && error.contains("gptq"),
            "{error}"
        );
        for text in ["", "bias,", "none,bias", "Bias"] {
            let error = text.parse::<Corrections>().unwrap_err().to_string();
            assert!(error.contains("equalize"), "{error}");
        }
    }
}
