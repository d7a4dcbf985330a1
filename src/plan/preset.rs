//! Uniform starting points.

use super::error::PlanError;
use super::plan::{LayerPlan, Plan};
use super::widths::Widths;
use crate::quant::{BitWidth, NumberFormat};

/// A named uniform plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Name as it is shown, for example `W4A8`.
    pub name: &'static str,
    /// What it is for.
    pub description: &'static str,
    weight: Choice,
    activation: Choice,
    /// First and last layer keep at least 8 bits.
    protects_ends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Bits(u8),
    F16,
    Bf16,
    F32,
}

impl Choice {
    fn format(self) -> NumberFormat {
        match self {
            Self::Bits(bits) => BitWidth::new(bits).map_or(NumberFormat::F32, NumberFormat::Int),
            Self::F16 => NumberFormat::F16,
            Self::Bf16 => NumberFormat::BF16,
            Self::F32 => NumberFormat::F32,
        }
    }
}

const fn preset(
    name: &'static str,
    description: &'static str,
    weight: Choice,
    activation: Choice,
    protects_ends: bool,
) -> Preset {
    Preset {
        name,
        description,
        weight,
        activation,
        protects_ends,
    }
}

impl Preset {
    /// All presets in the order of the menu.
    pub const ALL: [Self; 12] = [
        preset(
            "F32",
            "Everything in float",
            Choice::F32,
            Choice::F32,
            false,
        ),
        preset("F16", "Half precision", Choice::F16, Choice::F16, false),
        preset("BF16", "Brain float", Choice::Bf16, Choice::Bf16, false),
        preset(
            "W8A8",
            "8-bit weights and activations",
            Choice::Bits(8),
            Choice::Bits(8),
            false,
        ),
        preset(
            "W8A16",
            "8-bit weights, 16-bit activations",
            Choice::Bits(8),
            Choice::Bits(16),
            false,
        ),
        preset(
            "W4A16",
            "4-bit weights, 16-bit activations",
            Choice::Bits(4),
            Choice::Bits(16),
            false,
        ),
        preset(
            "W4A8",
            "4-bit weights, 8-bit activations",
            Choice::Bits(4),
            Choice::Bits(8),
            false,
        ),
        preset(
            "W4A8 ends 8",
            "W4A8 with the first and last layer at 8 bits",
            Choice::Bits(4),
            Choice::Bits(8),
            true,
        ),
        preset(
            "W4A4",
            "4-bit weights and activations",
            Choice::Bits(4),
            Choice::Bits(4),
            false,
        ),
        preset(
            "W4A4 ends 8",
            "W4A4 with the first and last layer at 8 bits",
            Choice::Bits(4),
            Choice::Bits(4),
            true,
        ),
        preset(
            "W8",
            "8-bit weights only",
            Choice::Bits(8),
            Choice::F32,
            false,
        ),
        preset(
            "W4",
            "4-bit weights only",
            Choice::Bits(4),
            Choice::F32,
            false,
        ),
    ];

    /// Finds a preset by name, upper or lower case.
    ///
    /// # Errors
    /// [`PlanError::UnknownPreset`] lists the names.
    pub fn by_name(name: &str) -> Result<Self, PlanError> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|preset| preset.name).collect();
                PlanError::UnknownPreset(name.to_owned(), names.join(", "))
            })
    }

    /// The widths of the inner layers.
    pub fn widths(self) -> Widths {
        Widths {
            weight: self.weight.format(),
            activation: self.activation.format(),
        }
    }

    /// Applies the preset to every layer that is not locked; schemes and calibrators stay.
    pub fn apply(self, plan: &Plan) -> Plan {
        let last = plan.layers().len().saturating_sub(1);
        let layers = plan
            .layers()
            .iter()
            .enumerate()
            .map(|(index, layer)| {
                let at_an_end = index == 0 || index == last;
                self.applied_to(layer, self.protects_ends && at_an_end)
            })
            .collect();
        Plan::from_layers(layers)
    }

    fn applied_to(self, layer: &LayerPlan, protected: bool) -> LayerPlan {
        let mut changed = layer.clone();
        if !layer.locked {
            let at_least_8 = |format: NumberFormat| match format {
                NumberFormat::Int(bits) if protected && bits.get() < 8 => Choice::Bits(8).format(),
                other => other,
            };
            changed.weight.format = at_least_8(self.weight.format());
            changed.activation.format = at_least_8(self.activation.format());
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LayerId;

    #[test]
    fn ends_keep_8_bits_and_locked_layers_stay() {
        let mut plan = Plan::uniform(4, Widths::FLOAT);
        plan.edit(&[LayerId(2)], |layer| layer.locked = true);
        let plan = Preset::by_name("w4a4 ENDS 8").unwrap().apply(&plan);
        let got: Vec<String> = plan
            .layers()
            .iter()
            .map(|layer| layer.widths().to_string())
            .collect();
        assert_eq!(got, ["8/8", "4/4", "f32/f32", "8/8"]);
    }

    #[test]
    fn an_unknown_preset_lists_the_known_ones() {
        let error = Preset::by_name("W5").unwrap_err().to_string();
        assert!(error.contains("W4A8"), "{error}");
    }
}
