//! Plans from what other tools wrote: quantized ONNX files, AIMET encodings, and overrides.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::error::ExportError;
use super::import_overrides::{is_overrides, overrides_plan};
use crate::model::{Layer, StoredGrids, StoredLayer, stored_grids};
use crate::plan::{LayerPlan, Plan, Widths};
use crate::quant::{BitWidth, Granularity, NumberFormat, QuantSpec, Range, Scheme};

/// The plan that the quantizers of an ONNX file amount to; `None` for a float model.
///
/// Ranges of inputs are kept as they are in the file. Weights are float again, and quantizing them to
/// the same widths gives the codes of the file where its largest code is that of a restricted grid.
///
/// # Errors
/// The file cannot be read.
pub fn stored_plan(path: &Path, layers: &[Layer]) -> Result<Option<Plan>, ExportError> {
    let stored = stored_grids(path)?;
    let by_name: BTreeMap<&str, &StoredLayer> = stored
        .iter()
        .map(|layer| (layer.name.as_str(), layer))
        .collect();
    let mut any = false;
    let choices = layers.iter().map(|layer| {
        let mut choice = LayerPlan::with_widths(Widths::FLOAT);
        if let Some(found) = by_name.get(layer.name.as_str()) {
            if let Some(spec) = found.weight.as_ref().and_then(weight_spec) {
                choice.weight = spec;
                any = true;
            }
            if let Some(spec) = found.input.as_ref().and_then(input_spec) {
                choice.activation = spec;
                any = true;
            }
        }
        choice
    });
    let plan = Plan::from_layers(choices.collect());
    Ok(any.then_some(plan))
}

fn integer(bits: u32) -> Option<NumberFormat> {
    let bits = u8::try_from(bits).ok()?;
    BitWidth::new(bits).ok().map(NumberFormat::Int)
}

fn weight_spec(grids: &StoredGrids) -> Option<QuantSpec> {
    let symmetric = grids.signed && grids.zero_points.iter().all(|zero_point| *zero_point == 0);
    let (lowest, highest) = grids.codes;
    let largest = lowest.unsigned_abs().max(highest.unsigned_abs());
    let bits = match (symmetric, grids.signed) {
        // The largest code of b bits is 2^(b−1) − 1; a weight of the full range has one more.
        (true, _) => (largest.max(1).ilog2() + 2).min(u32::from(grids.bits)),
        (false, true) => u32::from(grids.bits),
        (false, false) => largest.max(1).ilog2() + 1,
    };
    let granularity = match grids.block {
        Some(size) => Granularity::PerGroup(size.try_into().ok()?),
        None if grids.scales.len() == 1 => Granularity::PerTensor,
        None => Granularity::PerChannel,
    };
    Some(QuantSpec {
        scheme: if symmetric {
            Scheme::Symmetric
        } else {
            Scheme::Asymmetric
        },
        granularity,
        ..QuantSpec::weight(integer(bits)?)
    })
}

fn input_spec(grids: &StoredGrids) -> Option<QuantSpec> {
    let (scale, zero_point) = (*grids.scales.first()?, *grids.zero_points.first()?);
    if grids.scales.len() != 1 {
        return None;
    }
    let (lowest, highest) = grids.codes;
    let level = |code: i32| (code - zero_point) as f32 * scale;
    let symmetric = grids.signed && zero_point == 0;
    let range = if symmetric {
        Range::new(-level(highest), level(highest))
    } else {
        Range::new(level(lowest), level(highest))
    };
    Some(QuantSpec {
        scheme: if symmetric {
            Scheme::Symmetric
        } else {
            Scheme::Asymmetric
        },
        range_override: Some(range.ok()?),
        ..QuantSpec::activation(integer(u32::from(grids.bits))?)
    })
}

#[derive(Deserialize)]
struct Encodings {
    activation_encodings: Vec<Encoding>,
    param_encodings: Vec<Encoding>,
}

#[derive(Deserialize)]
struct Encoding {
    name: String,
    dtype: String,
    bw: u32,
    enc_type: String,
    #[serde(default)]
    is_sym: bool,
    #[serde(default)]
    scale: Vec<f32>,
    #[serde(default)]
    offset: Vec<i32>,
    #[serde(default)]
    block_size: Option<usize>,
}

impl Encoding {
    fn format(&self) -> Option<NumberFormat> {
        match self.dtype.as_str() {
            "INT" => integer(self.bw),
            "FLOAT" if self.bw == 16 => Some(NumberFormat::F16),
            "FLOAT" => Some(NumberFormat::F32),
            _ => None,
        }
    }

    fn scheme(&self) -> Scheme {
        if self.is_sym {
            Scheme::Symmetric
        } else {
            Scheme::Asymmetric
        }
    }

    fn granularity(&self) -> Option<Granularity> {
        match self.enc_type.as_str() {
            "PER_TENSOR" => Some(Granularity::PerTensor),
            "PER_CHANNEL" => Some(Granularity::PerChannel),
            _ => Some(Granularity::PerGroup(self.block_size?.try_into().ok()?)),
        }
    }

    /// Limits of an input's grid.
    fn range(&self) -> Option<Range> {
        let (scale, offset) = (*self.scale.first()?, *self.offset.first()?);
        let steps = 2f32.powi(i32::try_from(self.bw).ok()?) - 1.0;
        if self.is_sym {
            let highest = ((steps - 1.0) / 2.0) * scale;
            return Range::new(-highest, highest).ok();
        }
        let offset = offset as f32;
        Range::new(offset * scale, (steps + offset) * scale).ok()
    }
}

/// The plan of a text that another tool wrote; `None` for other texts.
///
/// # Errors
/// The text cannot be read as what it seems to be, or was made for another model.
pub fn foreign_plan(
    text: &str,
    layers: &[Layer],
    names: &dyn Fn(crate::model::ValueId) -> String,
) -> Option<Result<Plan, ExportError>> {
    if is_aimet_encodings(text) {
        return Some(aimet_plan(text, layers, names));
    }
    is_overrides(text).then(|| overrides_plan(text, layers, names))
}

/// Whether a text is an AIMET encodings file.
fn is_aimet_encodings(text: &str) -> bool {
    text.contains("\"param_encodings\"") && text.contains("\"activation_encodings\"")
}

/// The plan of an AIMET encodings file of version 1.0.0; names are those of tensors.
///
/// # Errors
/// The text is not such a file, an entry cannot be expressed, or most weights are not in the model.
fn aimet_plan(
    text: &str,
    layers: &[Layer],
    names: &dyn Fn(crate::model::ValueId) -> String,
) -> Result<Plan, ExportError> {
    let encodings: Encodings = serde_json::from_str(text).map_err(|error| {
        ExportError::Message(format!(
            "not AIMET encodings of version 1.0.0: {error}; export them with `encoding_version=\"1.0.0\"`"
        ))
    })?;
    let by_name = |list: &[Encoding]| -> BTreeMap<String, usize> {
        (0..)
            .zip(list)
            .map(|(at, one)| (one.name.clone(), at))
            .collect()
    };
    let activations = by_name(&encodings.activation_encodings);
    let parameters = by_name(&encodings.param_encodings);
    let mut matched = 0;
    let mut choices = Vec::new();
    for layer in layers {
        let mut choice = LayerPlan::with_widths(Widths::FLOAT);
        let unclear = |one: &Encoding| {
            ExportError::node(
                &one.name,
                "this encoding has a type, width or granularity that is not known here",
            )
        };
        if let Some(at) = parameters.get(&names(layer.weight)) {
            let one = &encodings.param_encodings[*at];
            choice.weight = QuantSpec {
                scheme: one.scheme(),
                granularity: one.granularity().ok_or_else(|| unclear(one))?,
                ..QuantSpec::weight(one.format().ok_or_else(|| unclear(one))?)
            };
            matched += 1;
        }
        if let Some(at) = activations.get(&names(layer.input)) {
            let one = &encodings.activation_encodings[*at];
            let format = one.format().ok_or_else(|| unclear(one))?;
            choice.activation = QuantSpec {
                scheme: one.scheme(),
                range_override: if format.is_float() { None } else { one.range() },
                ..QuantSpec::activation(format)
            };
        }
        choices.push(choice);
    }
    // Networks of one maker share a few names.
    if matched * 2 < encodings.param_encodings.len() {
        return Err(ExportError::Message(
            "most weights of the encodings are not in this model; open the model that they were made for"
                .to_owned(),
        ));
    }
    Ok(Plan::from_layers(choices))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grids(bits: u8, signed: bool, zero_point: i32, codes: (i32, i32)) -> StoredGrids {
        StoredGrids {
            bits,
            signed,
            scales: vec![0.5],
            zero_points: vec![zero_point],
            block: None,
            codes,
        }
    }

    #[test]
    fn widths_follow_from_the_codes_of_a_weight() {
        for (bits, signed, zero_point, codes, text, scheme) in [
            (8, true, 0, (-127, 100), "8", Scheme::Symmetric),
            (8, true, 0, (-128, 127), "8", Scheme::Symmetric),
            (8, true, 0, (-15, 15), "5", Scheme::Symmetric),
            (4, true, 0, (-3, 2), "3", Scheme::Symmetric),
            (4, true, 0, (-1, 1), "2", Scheme::Symmetric),
            (8, false, 31, (0, 63), "6", Scheme::Asymmetric),
        ] {
            let spec = weight_spec(&grids(bits, signed, zero_point, codes)).unwrap();
            assert_eq!(spec.format.to_string(), text, "{codes:?}");
            assert_eq!(
                (spec.scheme, spec.granularity),
                (scheme, Granularity::PerTensor)
            );
        }
    }

    #[test]
    fn an_input_keeps_its_range() {
        let range = |bits, signed, zero_point, codes| {
            let range = input_spec(&grids(bits, signed, zero_point, codes))
                .unwrap()
                .range_override;
            range.map(|range| (range.min(), range.max())).unwrap()
        };
        assert_eq!(range(8, false, 10, (0, 255)), (-5.0, 122.5));
        assert_eq!(range(8, true, -118, (-128, 127)), (-5.0, 122.5));
        assert_eq!(range(8, true, 0, (-128, 127)), (-63.5, 63.5));
    }
}
