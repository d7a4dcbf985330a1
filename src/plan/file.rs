//! The plan file: versioned JSON that names its model.

use serde::{Deserialize, Serialize};

use super::error::PlanError;
use super::fingerprint::Fingerprint;
use super::plan::{LayerPlan, Plan};
use super::rounding::{Corrections, Rounding};
use crate::model::Layer;
use crate::quant::QuantSpec;

/// Newest version of the file.
///
/// Version 2 adds rounding and corrections; a plan without them is written as version 1.
pub const PLAN_VERSION: u32 = 2;

/// A plan as it is stored, with what it was made for.
///
/// ```text
/// { "version": 1 | 2, "model": {"name", "sha256"}, "data": "<sha256>" | null, "target": "generic",
///   "layers": [ {"name", "weight": SPEC, "activation": SPEC, "rounding", "corrections", "locked"} ] }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Format version.
    pub version: u32,
    /// The model that the plan fits.
    pub model: PlanModel,
    /// Fingerprint of the calibration data, if the plan was calibrated.
    pub data: Option<Fingerprint>,
    /// Target profile; `generic` is the arithmetic of this program.
    pub target: String,
    /// Layers in the order of the network.
    pub layers: Vec<StoredLayer>,
}

/// The model that a plan file is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanModel {
    /// File name of the model.
    pub name: String,
    /// Fingerprint of the model file.
    pub sha256: Fingerprint,
}

/// One layer of a plan file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredLayer {
    /// Name of the layer.
    pub name: String,
    /// How its weight is quantized.
    pub weight: QuantSpec,
    /// How its input is quantized.
    pub activation: QuantSpec,
    /// How the levels of its weight are chosen; `nearest` where absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rounding: Rounding,
    /// What else is corrected; `none` where absent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub corrections: Corrections,
    /// Whether presets and searches leave it alone.
    #[serde(default)]
    pub locked: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The oldest version that can say what a plan says.
fn version_of(plan: &Plan) -> u32 {
    let is_plain =
        |layer: &LayerPlan| is_default(&layer.rounding) && is_default(&layer.corrections);
    if plan.layers().iter().all(is_plain) {
        1
    } else {
        PLAN_VERSION
    }
}

impl PlanFile {
    /// The file of a plan.
    pub fn new(plan: &Plan, layers: &[Layer], model: PlanModel, data: Option<Fingerprint>) -> Self {
        Self {
            version: version_of(plan),
            model,
            data,
            target: "generic".to_owned(),
            layers: layers
                .iter()
                .zip(plan.layers())
                .map(|(layer, choice)| StoredLayer {
                    name: layer.name.clone(),
                    weight: choice.weight,
                    activation: choice.activation,
                    rounding: choice.rounding,
                    corrections: choice.corrections,
                    locked: choice.locked,
                })
                .collect(),
        }
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// Malformed JSON, an illegal width, or a newer version.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |error: serde_json::Error| PlanError::Malformed(error.to_string());
        let Versioned { version } = serde_json::from_str(text).map_err(malformed)?;
        if version > PLAN_VERSION {
            return Err(PlanError::Version {
                found: version,
                known: PLAN_VERSION,
            });
        }
        serde_json::from_str(text).map_err(malformed)
    }

    /// Writes the JSON text.
    ///
    /// # Errors
    /// A value that JSON cannot hold, which a checked plan never has.
    pub fn to_json(&self) -> Result<String, PlanError> {
        serde_json::to_string_pretty(self).map_err(|error| PlanError::Malformed(error.to_string()))
    }

    /// The plan for a model, if it is the one that the file was made for.
    ///
    /// # Errors
    /// [`PlanError::OtherModel`] or [`PlanError::LayerMismatch`].
    pub fn plan_for(&self, layers: &[Layer], model: &PlanModel) -> Result<Plan, PlanError> {
        if self.model.sha256 != model.sha256 {
            return Err(PlanError::OtherModel {
                plan_model: self.model.name.clone(),
                plan_fingerprint: self.model.sha256.short().to_owned(),
                model: model.name.clone(),
                model_fingerprint: model.sha256.short().to_owned(),
            });
        }
        let mismatch = |layer: &str, where_missing| PlanError::LayerMismatch {
            layer: layer.to_owned(),
            where_missing,
        };
        if let Some(extra) = self
            .layers
            .iter()
            .find(|stored| !layers.iter().any(|layer| layer.name == stored.name))
        {
            return Err(mismatch(&extra.name, "in the plan but not in the model"));
        }
        let choices: Result<Vec<LayerPlan>, PlanError> = layers
            .iter()
            .map(|layer| {
                self.layers
                    .iter()
                    .find(|stored| stored.name == layer.name)
                    .map(|stored| LayerPlan {
                        weight: stored.weight,
                        activation: stored.activation,
                        rounding: stored.rounding,
                        corrections: stored.corrections,
                        locked: stored.locked,
                    })
                    .ok_or_else(|| mismatch(&layer.name, "in the model but not in the plan"))
            })
            .collect();
        Ok(Plan::from_layers(choices?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;
    use crate::plan::Widths;

    fn model(sha256: &str) -> PlanModel {
        PlanModel {
            name: "net.onnx".to_owned(),
            sha256: Fingerprint(sha256.to_owned()),
        }
    }

    fn saved() -> (Vec<Layer>, Plan, PlanFile) {
        let layers = layers_named(&["conv1", "fc"]);
        let mut plan = Plan::uniform(2, "4/8".parse::<Widths>().unwrap());
        plan.edit(&[crate::model::LayerId(1)], |layer| layer.locked = true);
        let file = PlanFile::new(&plan, &layers, model("aa"), None);
        (layers, plan, file)
    }

    #[test]
    fn a_plan_survives_its_file() {
        let (layers, plan, file) = saved();
        let read = PlanFile::from_json(&file.to_json().unwrap()).unwrap();
        assert_eq!(read.plan_for(&layers, &model("aa")).unwrap(), plan);
    }

    #[test]
    fn rounding_survives_and_asks_for_a_newer_program() {
        let (layers, mut plan, file) = saved();
        assert_eq!(file.version, 1);
        assert!(!file.to_json().unwrap().contains("rounding"));
        plan.set_rounding(Rounding::Gptq);
        plan.edit(&[crate::model::LayerId(0)], |layer| {
            layer.corrections = "bias,equalize".parse().unwrap();
        });
        let file = PlanFile::new(&plan, &layers, model("aa"), None);
        assert_eq!(file.version, 2);
        let read = PlanFile::from_json(&file.to_json().unwrap()).unwrap();
        assert_eq!(read.plan_for(&layers, &model("aa")).unwrap(), plan);
    }

    #[test]
    fn a_plan_for_another_model_is_refused() {
        let (layers, _, file) = saved();
        let error = file.plan_for(&layers, &model("bb")).unwrap_err();
        assert!(matches!(error, PlanError::OtherModel { .. }), "{error}");
    }

    #[test]
    fn a_missing_layer_is_named() {
        let (_, _, file) = saved();
        let layers = layers_named(&["conv1", "fc", "head"]);
        let error = file.plan_for(&layers, &model("aa")).unwrap_err();
        assert!(error.to_string().contains("\"head\""), "{error}");
    }

    #[test]
    fn bad_files_are_refused_with_the_reason() {
        let (_, _, file) = saved();
        let json = file.to_json().unwrap();
        for (text, part) in [
            ("{".to_owned(), "not a plan file"),
            (json.replace("\"version\": 1", "\"version\": 99"), "99"),
            (json.replace("\"4\"", "\"17\""), "17"),
        ] {
            let error = PlanFile::from_json(&text).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
