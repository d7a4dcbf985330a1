//! Plans from the tensor overrides of ONNX Runtime's quantizer.
//!
//! Format: `TensorQuantOverrides` of `quantize_static`
//! (<https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/python/tools/quantization/quantize.py>),
//! as JSON: for each tensor a list of one entry, or of one for each channel along `axis`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::ExportError;
use crate::model::{Layer, ValueId};
use crate::plan::{LayerPlan, Plan, Widths};
use crate::quant::{Granularity, NumberFormat, QuantSpec, Range, Scheme};

type Overrides = BTreeMap<String, Vec<Override>>;

/// What is written beside a model: overrides, layers that stay float, and widths of narrow grids.
#[derive(Deserialize)]
struct OverridesFile {
    tensor_quant_overrides: Overrides,
    #[serde(default)]
    nodes_to_exclude: Vec<String>,
    /// Bits of tensors whose grid is narrower than their type.
    #[serde(default)]
    narrow_bits: BTreeMap<String, u8>,
}

#[derive(Deserialize)]
struct Override {
    quant_type: Option<String>,
    #[serde(default)]
    scale: Option<Number>,
    #[serde(default)]
    zero_point: Option<Number>,
    #[serde(default)]
    symmetric: Option<bool>,
    #[serde(default)]
    rmin: Option<f32>,
    #[serde(default)]
    rmax: Option<f32>,
    #[serde(default)]
    axis: Option<i64>,
}

/// A number, alone or in a list of one.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Number {
    Alone(f64),
    Listed([f64; 1]),
}

impl Number {
    fn get(self) -> f32 {
        let (Self::Alone(value) | Self::Listed([value])) = self;
        value as f32
    }
}

/// An integer type as the quantizer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct QuantType {
    bits: u8,
    signed: bool,
}

impl QuantType {
    fn named(name: &str) -> Option<Self> {
        let (signed, bits) = match name.strip_prefix("QUInt") {
            Some(bits) => (false, bits),
            None => (true, name.strip_prefix("QInt")?),
        };
        let bits = bits.parse().ok()?;
        matches!(bits, 4 | 8 | 16).then_some(Self { bits, signed })
    }

    /// The lowest and the highest code.
    fn limits(self) -> (i32, i32) {
        let count = 1i32 << self.bits;
        if self.signed {
            (-count / 2, count / 2 - 1)
        } else {
            (0, count - 1)
        }
    }
}

/// Whether a text is a file of overrides.
pub(super) fn is_overrides(text: &str) -> bool {
    text.contains("\"tensor_quant_overrides\"")
        || text.contains("\"quant_type\"") && !text.contains("\"param_encodings\"")
}

/// The plan that overrides amount to; names are those of tensors.
///
/// Tensors without an entry stay float. Ranges of inputs are kept; weights are quantized anew, since
/// overrides have no codes.
///
/// # Errors
/// The text is not such a file, an entry has a type that is not known, or most tensors are not in the
/// model.
pub(super) fn overrides_plan(
    text: &str,
    layers: &[Layer],
    names: &dyn Fn(ValueId) -> String,
) -> Result<Plan, ExportError> {
    let file = parsed(text)?;
    let overrides = &file.tensor_quant_overrides;
    let mut matched = std::collections::BTreeSet::new();
    let mut choices = Vec::new();
    for layer in layers {
        let mut choice = LayerPlan::with_widths(Widths::FLOAT);
        let mut find = |id| {
            let name = names(id);
            let found = overrides
                .get_key_value(&name)
                .filter(|(_, list)| !list.is_empty());
            found.map(|(name, list)| {
                matched.insert(name.clone());
                Tensor {
                    name,
                    entries: list,
                    narrow_bits: file.narrow_bits.get(name).copied(),
                }
            })
        };
        let (weight, input) = (find(layer.weight), find(layer.input));
        if !file.nodes_to_exclude.contains(&layer.name) {
            if let Some(tensor) = weight {
                choice.weight = tensor.weight_spec()?;
            }
            if let Some(tensor) = input {
                choice.activation = tensor.input_spec()?;
            }
        }
        choices.push(choice);
    }
    // Networks of one maker share a few names.
    if matched.len() * 2 < overrides.len() {
        return Err(ExportError::Message(
            "most tensors of the overrides are not inputs or weights of this model's layers; open the model that they were made for".to_owned(),
        ));
    }
    Ok(Plan::from_layers(choices))
}

fn parsed(text: &str) -> Result<OverridesFile, ExportError> {
    let refused = |error: serde_json::Error| {
        ExportError::Message(format!(
            "these are not overrides for ONNX Runtime's quantizer: {error}; write TensorQuantOverrides as JSON, with names such as \"QInt8\" for the types"
        ))
    };
    if text.contains("\"tensor_quant_overrides\"") {
        return serde_json::from_str(text).map_err(refused);
    }
    let overrides = serde_json::from_str(text).map_err(refused)?;
    Ok(OverridesFile {
        tensor_quant_overrides: overrides,
        nodes_to_exclude: Vec::new(),
        narrow_bits: BTreeMap::new(),
    })
}

/// The entries of one tensor.
struct Tensor<'a> {
    name: &'a str,
    entries: &'a [Override],
    narrow_bits: Option<u8>,
}

impl Tensor<'_> {
    fn quant_type(&self) -> Result<QuantType, ExportError> {
        let name = self
            .entries
            .first()
            .and_then(|one| one.quant_type.as_deref());
        name.and_then(QuantType::named).ok_or_else(|| {
            ExportError::node(
                self.name,
                "this override names no type of 4, 8 or 16 bits, such as \"QInt8\" or \"QUInt8\"",
            )
        })
    }

    fn format(&self, stored: QuantType) -> Result<NumberFormat, ExportError> {
        let bits = self.narrow_bits.unwrap_or(stored.bits).min(stored.bits);
        NumberFormat::int(bits).map_err(|error| ExportError::node(self.name, error.to_string()))
    }

    fn scheme(&self, stored: QuantType) -> Scheme {
        let centred = |one: &Override| one.zero_point.is_none_or(|zero| zero.get() == 0.0);
        let asked = self.entries.first().and_then(|one| one.symmetric);
        let symmetric = asked.unwrap_or(stored.signed) && stored.signed;
        if symmetric && self.entries.iter().all(centred) {
            Scheme::Symmetric
        } else {
            Scheme::Asymmetric
        }
    }

    fn weight_spec(&self) -> Result<QuantSpec, ExportError> {
        let stored = self.quant_type()?;
        let per_channel =
            self.entries.len() > 1 || self.entries.iter().any(|one| one.axis.is_some());
        Ok(QuantSpec {
            scheme: self.scheme(stored),
            granularity: if per_channel {
                Granularity::PerChannel
            } else {
                Granularity::PerTensor
            },
            ..QuantSpec::weight(self.format(stored)?)
        })
    }

    fn input_spec(&self) -> Result<QuantSpec, ExportError> {
        let stored = self.quant_type()?;
        let format = self.format(stored)?;
        let scheme = self.scheme(stored);
        Ok(QuantSpec {
            scheme,
            range_override: self.range(stored, scheme),
            ..QuantSpec::activation(format)
        })
    }

    /// The range that the entry fixes; `None` where it is to be calibrated.
    fn range(&self, stored: QuantType, scheme: Scheme) -> Option<Range> {
        let one = self.entries.first()?;
        if let (Some(min), Some(max)) = (one.rmin, one.rmax) {
            return Range::new(min, max).ok();
        }
        let scale = one.scale?.get();
        let zero_point = one.zero_point.map_or(0.0, Number::get);
        let (mut lowest, mut highest) = stored.limits();
        if let Some(bits) = self.narrow_bits.filter(|bits| *bits < stored.bits) {
            let narrow = QuantType { bits, ..stored };
            (lowest, highest) = narrow.limits();
        }
        let level = |code: i32| (code as f32 - zero_point) * scale;
        let limits = match scheme {
            Scheme::Symmetric => (-level(highest), level(highest)),
            Scheme::Asymmetric => (level(lowest), level(highest)),
        };
        Range::new(limits.0, limits.1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;

    fn plan(text: &str) -> Result<Plan, ExportError> {
        let mut layers = layers_named(&["conv"]);
        layers[0].input = ValueId(7);
        let (input, weight) = (layers[0].input, layers[0].weight);
        let names = move |id: ValueId| {
            match id {
                id if id == input => "x",
                id if id == weight => "w",
                _ => "other",
            }
            .to_owned()
        };
        overrides_plan(text, &layers, &names)
    }

    #[test]
    fn entries_become_widths_schemes_and_ranges() {
        struct Case {
            text: &'static str,
            widths: &'static str,
            range: Option<(f32, f32)>,
            granularity: Granularity,
        }
        for case in [
            Case {
                text: r#"{"x": [{"quant_type": "QUInt8", "scale": 0.5, "zero_point": 10}],
                          "w": [{"quant_type": "QInt4", "scale": 1, "zero_point": 0, "axis": 0}]}"#,
                widths: "4/8",
                range: Some((-5.0, 122.5)),
                granularity: Granularity::PerChannel,
            },
            Case {
                text: r#"{"tensor_quant_overrides":
                          {"x": [{"quant_type": "QUInt8", "scale": [0.5], "zero_point": [3]}],
                           "w": [{"quant_type": "QInt8"}]},
                          "narrow_bits": {"x": 6}}"#,
                widths: "8/6",
                range: Some((-1.5, 30.0)),
                granularity: Granularity::PerTensor,
            },
            Case {
                text: r#"{"x": [{"quant_type": "QInt16", "rmin": -2, "rmax": 2}],
                          "w": [{"quant_type": "QInt8", "symmetric": true}]}"#,
                widths: "8/16",
                range: Some((-2.0, 2.0)),
                granularity: Granularity::PerTensor,
            },
            Case {
                text: r#"{"x": [{"quant_type": "QUInt16"}], "w": []}"#,
                widths: "f32/16",
                range: None,
                granularity: Granularity::PerChannel,
            },
            Case {
                text: r#"{"tensor_quant_overrides": {"x": [{"quant_type": "QUInt8"}]},
                          "nodes_to_exclude": ["conv"]}"#,
                widths: "f32/f32",
                range: None,
                granularity: Granularity::PerChannel,
            },
        ] {
            assert!(is_overrides(case.text), "{}", case.text);
            let plan = plan(case.text).unwrap();
            let layer = &plan.layers()[0];
            assert_eq!(layer.widths().to_string(), case.widths, "{}", case.text);
            let range = layer.activation.range_override;
            let range = range.map(|range| (range.min(), range.max()));
            assert_eq!(range, case.range, "{}", case.text);
            assert_eq!(layer.weight.granularity, case.granularity, "{}", case.text);
        }
    }

    #[test]
    fn what_is_no_override_is_refused_with_the_remedy() {
        for (text, words) in [
            (r#"{"x": [{"quant_type": "QFloat8"}]}"#, "names no type"),
            (r#"{"x": {"quant_type": "QInt8"}}"#, "as JSON"),
            (
                r#"{"a": [{"quant_type": "QInt8"}], "b": [], "c": [], "x": []}"#,
                "open the model",
            ),
        ] {
            let error = plan(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
