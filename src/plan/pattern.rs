//! Assignments of widths by layer name, as on the command line: `GLOB=W/A`.

use std::str::FromStr;

use super::error::PlanError;
use super::widths::Widths;

/// Widths for every layer whose name matches a glob.
///
/// `*` matches any run of characters, `/` included; `?` one character; `[…]` a set.
#[derive(Clone, Debug)]
pub struct Assignment {
    glob: glob::Pattern,
    /// What the matching layers get.
    pub widths: Widths,
}

impl Assignment {
    /// Whether a layer is meant.
    pub fn matches(&self, layer: &str) -> bool {
        self.glob.matches(layer)
    }

    /// The glob as it was written.
    pub fn glob(&self) -> &str {
        self.glob.as_str()
    }
}

impl FromStr for Assignment {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        // Layer names may hold `=`, widths cannot.
        let (glob, widths) = text.rsplit_once('=').ok_or_else(|| PlanError::Assignment {
            text: text.to_owned(),
            reason: "the equals sign is missing".to_owned(),
        })?;
        let glob = glob::Pattern::new(glob).map_err(|error| PlanError::Assignment {
            text: text.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            glob,
            widths: widths.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_across_slashes() {
        let assignment: Assignment = "/layer1/*=4/8".parse().unwrap();
        assert!(assignment.matches("/layer1/layer1.0/conv1/Conv"));
        assert!(!assignment.matches("/layer2/layer2.0/conv1/Conv"));
        assert_eq!(assignment.widths.to_string(), "4/8");
    }

    #[test]
    fn errors_repeat_what_was_typed() {
        for text in ["conv1", "[=8/8", "conv1=8"] {
            let message = text.parse::<Assignment>().unwrap_err().to_string();
            assert!(message.contains("expected"), "{message}");
        }
    }
}
