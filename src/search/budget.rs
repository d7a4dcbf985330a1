//! What a plan may take.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::SearchError;
use crate::model::Layer;
use crate::plan::{LayerPlan, Plan, Preset, Widths, layer_cost};
use crate::quant::NumberFormat;

/// The quantity that is limited; sums over layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Axis {
    /// Bytes of the parameters.
    #[default]
    Bytes,
    /// Bits of all weights, without scales.
    WeightBits,
    /// Bit operations per sample.
    Bops,
}

impl Axis {
    /// What a layer takes.
    pub fn amount(self, layer: &Layer, choice: &LayerPlan) -> f64 {
        match self {
            Self::Bytes => layer_cost(layer, choice).size_bytes as f64,
            Self::WeightBits => {
                layer.weight_elements as f64 * f64::from(choice.weight.format.bits())
            }
            Self::Bops => layer_cost(layer, choice).bops as f64,
        }
    }

    /// What belongs to no layer takes; `other_parameters` are stored as `f32`.
    pub fn outside_layers(self, other_parameters: u64) -> f64 {
        match self {
            Self::Bytes => 4.0 * other_parameters as f64,
            Self::WeightBits | Self::Bops => 0.0,
        }
    }

    /// What a plan takes.
    pub fn of_plan(self, layers: &[Layer], plan: &Plan, other_parameters: u64) -> f64 {
        let choices = layers.iter().zip(plan.layers());
        let inside: f64 = choices.map(|(l, choice)| self.amount(l, choice)).sum();
        self.outside_layers(other_parameters) + inside
    }

    /// An amount in words.
    pub fn text(self, amount: f64, layers: &[Layer]) -> String {
        match self {
            Self::Bytes => format!("{amount:.0} bytes"),
            Self::WeightBits => {
                let weights: u64 = layers.iter().map(|layer| layer.weight_elements).sum();
                // Rounded up, so that the number can be typed as a budget.
                let bits = (amount / weights.max(1) as f64 * 1e4).ceil() / 1e4;
                format!("{bits} bits a weight")
            }
            Self::Bops => format!("{amount:.0} bit operations"),
        }
    }
}

/// What is asked of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Goal {
    /// The least harm within a limit.
    Within {
        /// What is limited.
        axis: Axis,
        /// The limit in units of the axis.
        limit: f64,
    },
    /// The fewest bytes with at most this loss of top-1, as a share; of agreement where there are no labels.
    Drop(f64),
}

/// A budget as it is typed.
///
/// | text | meaning |
/// |---|---|
/// | `size=120000`, `size=120KB`, `size=118KiB`, `size=25%` | bytes, or a share of the float size |
/// | `size=W4`, `size=W4A8` | the bytes of that preset |
/// | `bits=2.5` | average bits of a weight |
/// | `bops=1.2G`, `bops=10%`, `bops=W4A8` | bit operations, also as a share of float, or those of a preset |
/// | `drop=1.5` | at most so many points of accuracy less than float |
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Amount(Axis, f64),
    /// A share of what float takes.
    Share(Axis, f64),
    /// What a uniform plan takes.
    Uniform(Axis, Widths),
    /// Average bits of a weight.
    AverageBits(f64),
    Drop(f64),
}

impl Budget {
    /// What the budget asks for with a model; `base` gives the schemes.
    pub fn goal(&self, layers: &[Layer], base: &Plan, other_parameters: u64) -> Goal {
        let uniform = |widths: Widths| base.with_widths(&vec![widths; layers.len()]);
        let within = |axis: Axis, limit: f64| Goal::Within { axis, limit };
        match self.kind {
            Kind::Amount(axis, limit) => within(axis, limit),
            Kind::Share(axis, share) => {
                let float = uniform(Widths::FLOAT);
                within(axis, share * axis.of_plan(layers, &float, other_parameters))
            }
            Kind::Uniform(axis, widths) => within(
                axis,
                axis.of_plan(layers, &uniform(widths), other_parameters),
            ),
            Kind::AverageBits(bits) => {
                let weights: u64 = layers.iter().map(|layer| layer.weight_elements).sum();
                within(Axis::WeightBits, bits * weights as f64)
            }
            Kind::Drop(share) => Goal::Drop(share),
        }
    }
}

impl Goal {
    /// Whether a plan keeps the limit; a goal of accuracy limits nothing that is known beforehand.
    pub fn allows(&self, layers: &[Layer], plan: &Plan, other_parameters: u64) -> bool {
        match *self {
            Self::Within { axis, limit } => axis.of_plan(layers, plan, other_parameters) <= limit,
            Self::Drop(_) => true,
        }
    }

    /// The axis that is limited, or made small.
    pub fn axis(&self) -> Axis {
        match self {
            Self::Within { axis, .. } => *axis,
            Self::Drop(_) => Axis::Bytes,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Budget {
    type Err = SearchError;

    fn from_str(text: &str) -> Result<Self, SearchError> {
        let wrong = |reason: &str| SearchError::Spelling {
            what: "budget",
            text: text.to_owned(),
            reason: format!(
                "{reason}; expected size=120KiB, size=25%, size=W4, bits=2.5, bops=1.2G or drop=1.5"
            ),
        };
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| wrong("the equals sign is missing"))?;
        let value = value.trim();
        let positive = |text: &str| {
            let number = text.trim().parse::<f64>().ok();
            number
                .filter(|number| number.is_finite() && *number > 0.0)
                .ok_or_else(|| wrong("that is no number above zero"))
        };
        let kind = match name.trim() {
            "size" | "bytes" => amount(Axis::Bytes, value, &positive)?,
            "bops" => amount(Axis::Bops, value, &positive)?,
            "bits" => Kind::AverageBits(positive(value)?),
            "drop" => {
                let points = value.trim_end_matches('%').trim().parse::<f64>().ok();
                let points = points.filter(|points| (0.0..100.0).contains(points));
                Kind::Drop(points.ok_or_else(|| wrong("that is no number of points"))? / 100.0)
            }
            _ => return Err(wrong("that is no budget")),
        };
        Ok(Self {
            text: text.to_owned(),
            kind,
        })
    }
}

/// A number with a unit, a share, or a uniform plan.
fn amount(
    axis: Axis,
    value: &str,
    positive: &impl Fn(&str) -> Result<f64, SearchError>,
) -> Result<Kind, SearchError> {
    if let Some(widths) = uniform(value) {
        return Ok(Kind::Uniform(axis, widths));
    }
    if let Some(percent) = value.strip_suffix('%') {
        return Ok(Kind::Share(axis, positive(percent)? / 100.0));
    }
    let units = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("KB", 1e3),
        ("kB", 1e3),
        ("MB", 1e6),
        ("K", 1e3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("B", 1.0),
    ];
    for (unit, factor) in units {
        if let Some(number) = value.strip_suffix(unit) {
            return Ok(Kind::Amount(axis, factor * positive(number)?));
        }
    }
    Ok(Kind::Amount(axis, positive(value)?))
}

/// `W4` or `W4A8`; without `A` the inputs are float.
fn uniform(text: &str) -> Option<Widths> {
    if let Ok(preset) = Preset::by_name(text) {
        return Some(preset.widths());
    }
    let (weight, activation) = match text.strip_prefix('W')?.split_once('A') {
        Some((weight, activation)) => (weight, activation.parse().ok()?),
        None => (text.strip_prefix('W')?, NumberFormat::F32),
    };
    Some(Widths {
        weight: weight.parse().ok()?,
        activation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;

    #[test]
    fn budgets_are_read_in_every_form() {
        let layers = layers_named(&["a", "b"]);
        let base = Plan::uniform(2, Widths::FLOAT);
        let within = |axis, limit| Goal::Within { axis, limit };
        let w4a8 = base.with_widths(&["4/8".parse().unwrap(); 2]);
        for (text, expected) in [
            ("size=1000", within(Axis::Bytes, 1000.0)),
            ("size=2KiB", within(Axis::Bytes, 2048.0)),
            ("bytes=1.5 kB", within(Axis::Bytes, 1500.0)),
            // 2 · 288 weights and 10 others in float are 2344 bytes.
            ("size=25%", within(Axis::Bytes, 586.0)),
            // Packed weights and 8 scales each.
            ("size=W4", within(Axis::Bytes, 2.0 * 176.0 + 40.0)),
            ("bits=2.5", within(Axis::WeightBits, 1440.0)),
            ("bops=1.2G", within(Axis::Bops, 1.2e9)),
            (
                "bops=W4A8",
                within(Axis::Bops, Axis::Bops.of_plan(&layers, &w4a8, 10)),
            ),
            ("drop=1.5", Goal::Drop(0.015)),
        ] {
            let budget: Budget = text.parse().unwrap();
            assert_eq!(budget.goal(&layers, &base, 10), expected, "{text}");
        }
    }

    #[test]
    fn wrong_budgets_say_what_is_expected() {
        for text in [
            "", "120", "size=", "size=-1", "size=W99", "speed=3", "drop=x",
        ] {
            let message = text.parse::<Budget>().unwrap_err().to_string();
            assert!(message.contains("size=120KiB"), "{message}");
        }
    }
}
