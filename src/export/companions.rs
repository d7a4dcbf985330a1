//! Files beside an exported model: scripts for the runtime's own tools, and tables.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::quantized::QuantizedLayer;
use super::tflite_recipe::tflite_recipe;
use crate::model::{Graph, Layer};
use crate::plan::{Plan, layer_cost};
use crate::quant::{ActivationQuantizer, Granularity, Grid, NumberFormat};

/// A text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// What follows the model's name in the file's name, for example `.layers.csv`.
    pub suffix: &'static str,
    /// The content.
    pub text: String,
}

/// A network and its layers as they are stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredNetwork<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Its layers.
    pub layers: &'a [Layer],
    /// What is chosen for them.
    pub plan: &'a Plan,
    /// What that makes of them.
    pub quantized: &'a [QuantizedLayer],
}

impl<'a> StoredNetwork<'a> {
    fn rows(&self) -> impl Iterator<Item = (&'a Layer, &'a QuantizedLayer)> {
        self.layers.iter().zip(self.quantized)
    }

    /// Whether any weight was rounded on calibration data.
    fn is_rounded(&self) -> bool {
        self.quantized.iter().any(|one| one.rounding.is_some())
    }

    /// Whether weights were equalized, so that they are not those of the original model.
    fn is_equalized(&self) -> bool {
        let mut choices = self.plan.layers().iter();
        choices.any(|choice| choice.corrections.equalize)
    }

    fn name(&self, id: crate::model::ValueId) -> &'a str {
        &self.graph.value(id).name
    }

    /// Names of the layers whose weight and input both stay float.
    fn float_layers(&self) -> Vec<&'a str> {
        self.rows()
            .filter(|(_, one)| {
                one.weight.is_none() && one.activation == ActivationQuantizer::Identity
            })
            .map(|(layer, _)| layer.name.as_str())
            .collect()
    }
}

/// What should be known of the files beside a model whose weights were tuned on calibration data.
///
/// Ranges alone do not say how weights are rounded, and those of equalized weights fit no others.
pub fn companion_notes(target: &str, network: &StoredNetwork<'_>) -> Vec<String> {
    let (file, tool) = match target {
        "generic" => (".encodings", "AIMET"),
        "onnxruntime" => (".overrides.json", "ONNX Runtime's quantizer"),
        _ => return Vec::new(),
    };
    if network.is_equalized() {
        return vec![format!(
            "there is no {file} for {tool}: ranges of equalized weights do not fit the weights of the original model; the exported model holds the equalized ones"
        )];
    }
    if network.is_rounded() {
        return vec![format!(
            "{file} holds ranges only: {tool} rounds the original weights to the nearest levels with them; the weights as they were rounded and corrected on calibration data are in the exported model"
        )];
    }
    Vec::new()
}

/// What belongs beside the model of a target.
pub fn companions(target: &str, network: &StoredNetwork<'_>) -> Vec<Companion> {
    let mut files = vec![Companion {
        suffix: ".layers.csv",
        text: layer_table(network),
    }];
    match target {
        "onnxruntime" if !network.is_equalized() => files.extend(onnx_runtime(network)),
        "openvino" => files.push(openvino(network)),
        "tensorrt" => files.push(tensorrt()),
        "tflite" | "tflite-dynamic" if !network.is_equalized() => {
            files.extend(tflite_recipe(network));
        }
        "generic" => {
            if !network.is_equalized() {
                files.push(aimet_encodings(network));
            }
            files.push(model_explorer(network));
        }
        _ => {}
    }
    files
}

/// The table of layers as comma-separated values (RFC 4180), a line for each layer.
pub fn layer_table(network: &StoredNetwork<'_>) -> String {
    let mut text = "name,op,weight_shape,parameters,macs,weight_format,weight_scheme,weight_granularity,weight_scales,weight_scale_min,weight_scale_max,weight_sqnr_db,input,input_format,input_scale,input_zero_point,input_min,input_max,bias,size_bytes,rounding\r\n".to_owned();
    for ((layer, one), choice) in network.rows().zip(network.plan.layers()) {
        let shape: Vec<String> = layer.weight_shape.iter().map(ToString::to_string).collect();
        let scales = one.weight.iter().flat_map(|weight| &weight.grids);
        let scales: Vec<f32> = scales.map(Grid::scale).collect();
        let number = |value: Option<f32>| value.map_or_else(String::new, |value| value.to_string());
        let grid = one.activation.grid();
        let sqnr = one.weight.as_ref().map(|weight| weight.errors.sqnr_db());
        let bias = match (&one.bias, layer.bias) {
            (Some(_), _) => "i32",
            (None, Some(_)) => "f32",
            (None, None) => "",
        };
        let cells = [
            layer.name.clone(),
            layer.op.clone(),
            shape.join("x"),
            layer.parameters.to_string(),
            layer.macs.map_or_else(String::new, |macs| macs.to_string()),
            choice.weight.format.to_string(),
            choice.weight.scheme.to_string(),
            choice.weight.granularity.to_string(),
            scales.len().to_string(),
            number(scales.iter().copied().reduce(f32::min)),
            number(scales.iter().copied().reduce(f32::max)),
            sqnr.map_or_else(String::new, |sqnr| format!("{sqnr:.2}")),
            network.name(layer.input).to_owned(),
            choice.activation.format.to_string(),
            number(grid.map(Grid::scale)),
            grid.map_or_else(String::new, |grid| grid.zero_point().to_string()),
            number(grid.map(|grid| grid.range().min())),
            number(grid.map(|grid| grid.range().max())),
            bias.to_owned(),
            layer_cost(layer, choice).size_bytes.to_string(),
            rounding_of(one),
        ];
        let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// How a weight was rounded; nothing for a float weight.
fn rounding_of(one: &QuantizedLayer) -> String {
    match (&one.weight, one.rounding) {
        (None, _) => String::new(),
        (Some(_), Some(method)) => method.to_string(),
        (Some(_), None) => "nearest".to_owned(),
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// AIMET encodings, version 1.0.0.
///
/// Offsets are those of AIMET, `offset = −zero_point` on codes that start at 0: a symmetric grid of `b`
/// bits has the offset `−2^(b−1)` (`Docs/techniques/encoding_spec.rst` in qualcomm/aimet).
pub fn aimet_encodings(network: &StoredNetwork<'_>) -> Companion {
    let mut activations = Map::new();
    let mut parameters = Map::new();
    for (layer, one) in network.rows() {
        if let Some(encoding) = activation_encoding(network.name(layer.input), &one.activation) {
            activations.insert(network.name(layer.input).to_owned(), encoding);
        }
        let name = network.name(layer.weight);
        let encoding = match (&one.weight, one.weight_spec.format) {
            (Some(weight), NumberFormat::Int(bits)) => {
                let grids: Vec<&Grid> = weight.grids.iter().collect();
                let channels = layer.weight_shape.get(layer.channel_axis).copied();
                let kind = match grids.len() {
                    1 => "PER_TENSOR",
                    count if Some(count) == channels => "PER_CHANNEL",
                    _ => "PER_BLOCK",
                };
                let mut encoding = integer_encoding(name, kind, u32::from(bits.get()), &grids);
                if let Granularity::PerGroup(size) = one.weight_spec.granularity {
                    encoding["block_size"] = json!(size.get());
                }
                Some(encoding)
            }
            (Some(_), _) => Some(float_encoding(name)),
            (None, _) => None,
        };
        if let Some(encoding) = encoding {
            parameters.insert(name.to_owned(), encoding);
        }
    }
    let values = |map: Map<String, Value>| map.into_iter().map(|(_, value)| value).collect();
    let document = json!({
        "version": "1.0.0",
        "activation_encodings": Value::Array(values(activations)),
        "param_encodings": Value::Array(values(parameters)),
        "excluded_layers": network.float_layers(),
    });
    Companion {
        suffix: ".encodings",
        text: format!("{document:#}\n"),
    }
}

fn activation_encoding(name: &str, quantizer: &ActivationQuantizer) -> Option<Value> {
    match quantizer {
        ActivationQuantizer::Identity => None,
        ActivationQuantizer::Half(_) => Some(float_encoding(name)),
        ActivationQuantizer::Affine(grid) => {
            let bits = (grid.levels() - 1).ilog2() + 1;
            Some(integer_encoding(name, "PER_TENSOR", bits, &[grid]))
        }
    }
}

fn float_encoding(name: &str) -> Value {
    json!({"name": name, "dtype": "FLOAT", "enc_type": "PER_TENSOR", "bw": 16})
}

fn integer_encoding(name: &str, kind: &str, bits: u32, grids: &[&Grid]) -> Value {
    let symmetric = grids.iter().all(|grid| grid.q_min() < 0);
    let half = if symmetric { 1i32 << (bits - 1) } else { 0 };
    let scales: Vec<f32> = grids.iter().map(|grid| grid.scale()).collect();
    let offsets: Vec<i32> = grids
        .iter()
        .map(|grid| -(grid.zero_point() + half))
        .collect();
    json!({
        "name": name, "dtype": "INT", "enc_type": kind, "bw": bits, "is_sym": symmetric,
        "scale": scales, "offset": offsets,
    })
}

/// Node data of Model Explorer: weight bits of every layer, as a heat map.
///
/// The form is that of `ModelNodeData.to_json_string` in google-ai-edge/model-explorer.
pub fn model_explorer(network: &StoredNetwork<'_>) -> Companion {
    let layers = network.rows().zip(network.plan.layers());
    let results: Map<String, Value> = layers
        .map(|((layer, _), choice)| {
            let value = json!({"value": choice.weight.format.bits()});
            (layer.name.clone(), value)
        })
        .collect();
    let document = json!({
        "main": {
            "name": "Weight bits",
            "results": results,
            "gradient": [
                {"stop": 0, "bgColor": "#fde725"},
                {"stop": 0.5, "bgColor": "#21918c"},
                {"stop": 1, "bgColor": "#440154"},
            ],
        }
    });
    Companion {
        suffix: ".node-data.json",
        text: format!("{document:#}\n"),
    }
}

/// Overrides for ONNX Runtime's own quantizer, and a script that calls it.
fn onnx_runtime(network: &StoredNetwork<'_>) -> [Companion; 2] {
    let mut overrides = Map::new();
    let mut narrow_bits = Map::new();
    let mut note_width = |name: &str, bits: u8| {
        if stored_bits(bits) != bits {
            narrow_bits.insert(name.to_owned(), json!(bits));
        }
    };
    for (layer, one) in network.rows() {
        if let Some(grid) = one.activation.grid() {
            let signed = grid.q_min() < 0;
            let bits = (grid.levels() - 1).ilog2() as u8 + 1;
            let entry = override_entry(grid, bits, signed);
            note_width(network.name(layer.input), bits);
            overrides.insert(network.name(layer.input).to_owned(), json!([entry]));
        }
        let NumberFormat::Int(bits) = one.weight_spec.format else {
            continue;
        };
        let channels = layer.weight_shape.get(layer.channel_axis).copied();
        let Some(weight) = &one.weight else { continue };
        let per_channel = Some(weight.grids.len()) == channels;
        if weight.grids.len() != 1 && !per_channel {
            continue;
        }
        let signed = weight.grids.iter().any(|grid| grid.q_min() < 0);
        let mut entries: Vec<Value> = weight
            .grids
            .iter()
            .map(|grid| override_entry(grid, bits.get(), signed))
            .collect();
        if let (true, Some(first)) = (per_channel, entries.first_mut()) {
            first["axis"] = json!(layer.channel_axis);
        }
        note_width(network.name(layer.weight), bits.get());
        overrides.insert(network.name(layer.weight).to_owned(), Value::Array(entries));
    }
    let document = json!({
        "tensor_quant_overrides": overrides,
        "narrow_bits": narrow_bits,
        "nodes_to_exclude": network.float_layers(),
    });
    [
        Companion {
            suffix: ".overrides.json",
            text: format!("{document:#}\n"),
        },
        Companion {
            suffix: ".requantize.py",
            text: include_str!("requantize_onnxruntime.py").to_owned(),
        },
    ]
}

/// Bits of the narrowest type that holds a width.
fn stored_bits(bits: u8) -> u8 {
    match bits {
        ..=4 => 4,
        5..=8 => 8,
        _ => 16,
    }
}

fn override_entry(grid: &Grid, bits: u8, signed: bool) -> Value {
    let prefix = if signed { "QInt" } else { "QUInt" };
    let stored = stored_bits(bits);
    json!({
        "quant_type": format!("{prefix}{stored}"),
        "scale": grid.scale(),
        "zero_point": grid.zero_point(),
    })
}

/// A script for NNCF that quantizes all but the layers that the plan leaves in float.
fn openvino(network: &StoredNetwork<'_>) -> Companion {
    let names = json!(network.float_layers());
    let mut text = include_str!("requantize_openvino.py").to_owned();
    text = text.replace("FLOAT_LAYERS = []", &format!("FLOAT_LAYERS = {names:#}"));
    Companion {
        suffix: ".requantize.py",
        text,
    }
}

/// How an engine is built from the model.
fn tensorrt() -> Companion {
    let mut text = String::new();
    // A network with Q/DQ nodes states its types, so that no precision flags are needed.
    for line in [
        "#!/bin/sh",
        "# Builds a TensorRT engine from the model with quantizers beside this script.",
        "# Types follow the model (strongly typed network); the batch axis is set by the shapes.",
        "set -eu",
        "folder=$(dirname \"$0\")",
        "model=$(ls \"$folder\"/*-tensorrt.onnx)",
        "exec trtexec --onnx=\"$model\" --stronglyTyped --saveEngine=\"${model%.onnx}.engine\" \"$@\"",
    ] {
        writeln!(text, "{line}").ok();
    }
    Companion {
        suffix: ".build.sh",
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_are_quoted() {
        assert_eq!(quoted("conv1"), "conv1");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }

    #[test]
    fn aimet_offsets_start_at_the_lowest_code() {
        let asymmetric = Grid::new(0.5, 3, 0, 255).unwrap();
        let encoding = integer_encoding("x", "PER_TENSOR", 8, &[&asymmetric]);
        assert_eq!(encoding["offset"], json!([-3]));
        assert_eq!(encoding["is_sym"], json!(false));
        let symmetric = Grid::new(0.5, 0, -7, 7).unwrap();
        let encoding = integer_encoding("w", "PER_CHANNEL", 4, &[&symmetric, &symmetric]);
        assert_eq!(encoding["offset"], json!([-8, -8]));
        assert_eq!(encoding["is_sym"], json!(true));
    }

    #[test]
    fn overrides_name_the_stored_type() {
        let grid = Grid::new(0.5, 3, 0, 63).unwrap();
        assert_eq!(
            override_entry(&grid, 6, false)["quant_type"],
            json!("QUInt8")
        );
        assert_eq!(override_entry(&grid, 3, true)["quant_type"], json!("QInt4"));
        assert_eq!(
            override_entry(&grid, 9, false)["quant_type"],
            json!("QUInt16")
        );
    }
}
