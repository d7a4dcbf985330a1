//! A recipe for ai-edge-quantizer, for models that a converter brings to `TFLite`.
//!
//! A converter names tensors as it likes. So a rule has the name that the layer's output has in the
//! graph, and the script beside the recipe puts in its place the name that the converted file has for
//! the operator with the layer's weight.

use serde_json::{Value, json};

use super::companions::{Companion, StoredNetwork};
use crate::model::Layer;
use crate::plan::LayerPlan;
use crate::quant::{Granularity, NumberFormat};

/// The recipe, and the script that converts the model and applies it.
pub(super) fn tflite_recipe(network: &StoredNetwork<'_>) -> [Companion; 2] {
    let layers = network.layers.iter().zip(network.plan.layers());
    let integers = network
        .plan
        .layers()
        .iter()
        .any(|layer| matches!(layer.activation.format, NumberFormat::Int(_)));
    let mut rules = Vec::new();
    if integers {
        rules.push(rule(".*", "*", Some(&config(8, "CHANNELWISE", Some(8)))));
    }
    let mut listed = Vec::new();
    for (layer, choice) in layers {
        let output = &network.graph.value(layer.output).name;
        let regex = format!("^{};?$", regex::escape(output));
        rules.push(rule(
            &regex,
            operation(layer),
            layer_config(choice).as_ref(),
        ));
        listed.push(json!({
            "regex": regex,
            "name": layer.name,
            "operation": operation(layer),
            "weight_shape": layer.weight_shape,
        }));
    }
    let document = json!({"recipe": rules, "layers": listed});
    [
        Companion {
            suffix: ".recipe.json",
            text: format!("{document:#}\n"),
        },
        Companion {
            suffix: ".convert.py",
            text: include_str!("convert_tflite.py").to_owned(),
        },
    ]
}

fn rule(regex: &str, operation: &str, config: Option<&Value>) -> Value {
    match config {
        Some(config) => json!({
            "regex": regex,
            "operation": operation,
            "algorithm_key": "min_max_uniform_quantize",
            "op_config": config,
        }),
        None => json!({
            "regex": regex,
            "operation": operation,
            "algorithm_key": "no_quantize",
            "op_config": {},
        }),
    }
}

/// Name of the operator in recipes.
fn operation(layer: &Layer) -> &'static str {
    match layer.op.as_str() {
        "Conv" if layer.groups > 1 && layer.weight_shape.get(1) == Some(&1) => "DEPTHWISE_CONV_2D",
        "Conv" => "CONV_2D",
        "ConvTranspose" => "CONV_2D_TRANSPOSE",
        _ => "FULLY_CONNECTED",
    }
}

/// `None` for a layer that stays float.
fn layer_config(choice: &LayerPlan) -> Option<Value> {
    let NumberFormat::Int(bits) = choice.weight.format else {
        return None;
    };
    let granularity = match choice.weight.granularity {
        Granularity::PerTensor => "TENSORWISE",
        Granularity::PerChannel | Granularity::PerGroup(_) => "CHANNELWISE",
    };
    let stored = |bits: u8, least: u8| if bits <= least { least } else { 2 * least };
    let activation = match choice.activation.format {
        NumberFormat::Int(bits) => Some(stored(bits.get(), 8)),
        _ => None,
    };
    Some(config(stored(bits.get(), 4), granularity, activation))
}

fn config(weight_bits: u8, granularity: &str, activation_bits: Option<u8>) -> Value {
    let weight = json!({
        "num_bits": weight_bits, "symmetric": true, "granularity": granularity, "dtype": "INT",
    });
    let mut config = json!({
        "weight_tensor_config": weight,
        "compute_precision": "INTEGER",
        "explicit_dequantize": false,
        "skip_checks": false,
        "min_weight_elements": 0,
    });
    if let Some(bits) = activation_bits {
        config["activation_tensor_config"] = json!({
            "num_bits": bits, "symmetric": bits > 8, "granularity": "TENSORWISE", "dtype": "INT",
        });
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Widths};

    #[test]
    fn narrow_widths_take_the_next_type_of_a_recipe() {
        let config = |widths: &str| {
            let plan = Plan::uniform(1, widths.parse::<Widths>().unwrap());
            layer_config(&plan.layers()[0])
        };
        for (widths, weight, activation) in [
            ("3/8", 4, Some(8)),
            ("6/8", 8, Some(8)),
            ("8/16", 8, Some(16)),
            ("4/f32", 4, None),
        ] {
            let found = config(widths).unwrap();
            assert_eq!(
                found["weight_tensor_config"]["num_bits"], weight,
                "{widths}"
            );
            let bits = found["activation_tensor_config"]["num_bits"].as_u64();
            assert_eq!(bits, activation, "{widths}");
        }
        assert_eq!(config("f32/f32"), None);
    }
}
