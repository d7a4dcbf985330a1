//! What PyTorch's own quantizers can make of a plan.

use serde_json::{Value, json};

use crate::export::companions::Companion;
use crate::export::quantized::QuantizedLayer;
use crate::model::Layer;
use crate::quant::{ActivationQuantizer, Granularity, NumberFormat, Scheme};

/// A script with the layers that each of them takes, and the reasons for the others.
pub(super) fn settings(
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    paths: &[Option<String>],
) -> Companion {
    let mut pt2e = Vec::new();
    let mut weight_only = serde_json::Map::new();
    let mut left = serde_json::Map::new();
    for ((layer, one), path) in layers.iter().zip(quantized).zip(paths) {
        let Some(path) = path else { continue };
        match choice(layer, one) {
            Choice::Integer => pt2e.push(path.clone()),
            Choice::WeightOnly => {
                weight_only.insert(path.clone(), json!(8));
            }
            Choice::Left(reason) => {
                left.insert(path.clone(), Value::from(reason));
            }
            Choice::Float => {}
        }
    }
    let mut text = include_str!("requantize.py").to_owned();
    for (name, empty, value) in [
        ("PT2E_LAYERS", "[]", json!(pt2e)),
        ("WEIGHT_ONLY_LAYERS", "{}", Value::Object(weight_only)),
        ("LEFT_FLOAT", "{}", Value::Object(left)),
    ] {
        text = text.replace(&format!("{name} = {empty}"), &format!("{name} = {value:#}"));
    }
    Companion {
        suffix: ".requantize.py",
        text,
    }
}

/// What becomes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// 8-bit kernels for input and weight.
    Integer,
    /// An 8-bit weight beside a float input.
    WeightOnly,
    /// Float in the plan, and so here.
    Float,
    /// Quantized in the plan, for which there is no kernel.
    Left(&'static str),
}

fn choice(layer: &Layer, one: &QuantizedLayer) -> Choice {
    let spec = one.weight_spec;
    let is_8 = |format: NumberFormat| matches!(format, NumberFormat::Int(bits) if bits.get() == 8);
    if spec.format.is_float() && one.activation == ActivationQuantizer::Identity {
        return Choice::Float;
    }
    if !is_8(spec.format) {
        return Choice::Left("its weight is not of 8 bits");
    }
    if spec.scheme != Scheme::Symmetric || matches!(spec.granularity, Granularity::PerGroup(_)) {
        return Choice::Left("its weight is not symmetric with a grid for each channel");
    }
    let is_linear = matches!(layer.op.as_str(), "Gemm" | "MatMul");
    match &one.activation {
        ActivationQuantizer::Identity if is_linear => Choice::WeightOnly,
        ActivationQuantizer::Identity => {
            Choice::Left("a weight alone is quantized in linear layers only")
        }
        ActivationQuantizer::Half(_) => Choice::Left("its input is of half precision"),
        ActivationQuantizer::Affine(grid) if grid.levels() != 256 || grid.q_min() < 0 => {
            Choice::Left("its input is not of 8 bits without a sign")
        }
        ActivationQuantizer::Affine(_) if is_linear || layer.op == "Conv" => Choice::Integer,
        ActivationQuantizer::Affine(_) => Choice::Left("its operator has no kernel on integers"),
    }
}
