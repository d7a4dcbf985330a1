//! What a plan costs: bytes, average bits and bit operations.

use super::latency::layer_latency_secs;
use super::plan::{LayerPlan, Plan};
use crate::model::Layer;
use crate::quant::{Granularity, NumberFormat, Scheme, packed_weight_bytes};

/// Bytes of an `f32` bias element or scale.
const F32_BYTES: u64 = 4;

/// Cost of one layer under a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerCost {
    /// Packed weight, scales, zero points and bias in bytes.
    pub size_bytes: u64,
    /// `MACs × weight bits × activation bits` per sample; 0 while the shapes are unknown.
    pub bops: u64,
}

/// Cost of a whole plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Parameters as the plan stores them, in bytes; what no layer owns counts as `f32`.
    pub size_bytes: u64,
    /// All parameters as `f32`, in bytes.
    pub float_size_bytes: u64,
    /// Mean weight width, weighted by the number of weights; 32 for float.
    pub average_weight_bits: f64,
    /// Mean input-activation width, weighted by MACs where they are known, else per layer.
    pub average_activation_bits: f64,
    /// Multiply–accumulates per sample in all layers whose shapes are known.
    pub macs: u64,
    /// Bit operations per sample, `Σ MACs × weight bits × activation bits`.
    pub bops: u64,
    /// Estimated seconds per sample on one Arm Cortex-A76 core at 2.4 GHz: a sum of rooflines, never measured.
    pub latency_secs: f64,
}

impl Cost {
    /// How many times smaller the plan is than float.
    pub fn compression(&self) -> f64 {
        self.float_size_bytes as f64 / (self.size_bytes.max(1)) as f64
    }
}

/// Number of scales of a weight under its specification.
fn grid_count(layer: &Layer, granularity: Granularity) -> u64 {
    let channels = layer
        .weight_shape
        .get(layer.channel_axis)
        .copied()
        .unwrap_or(1)
        .max(1) as u64;
    match granularity {
        Granularity::PerTensor => 1,
        Granularity::PerChannel => channels,
        Granularity::PerGroup(size) => {
            channels * (layer.weight_elements / channels).div_ceil(size.get() as u64)
        }
    }
}

fn zero_point_bytes(format: NumberFormat, scheme: Scheme) -> u64 {
    match (format, scheme) {
        (NumberFormat::Int(bits), Scheme::Asymmetric) => u64::from(bits.get()).div_ceil(8),
        _ => 0,
    }
}

/// Cost of one layer.
///
/// ```text
/// bytes = ⌈weights · bits / 8⌉ + grids · (scale + zero point) + 4 · bias + activation scale and zero point
/// ```
pub fn layer_cost(layer: &Layer, choice: &LayerPlan) -> LayerCost {
    let weight = &choice.weight;
    let activation = &choice.activation;
    let mut size_bytes = packed_weight_bytes(layer.weight_elements, weight.format)
        + (layer.parameters - layer.weight_elements.min(layer.parameters)) * F32_BYTES;
    if matches!(weight.format, NumberFormat::Int(_)) {
        size_bytes += grid_count(layer, weight.granularity)
            * (F32_BYTES + zero_point_bytes(weight.format, weight.scheme));
    }
    if matches!(activation.format, NumberFormat::Int(_)) {
        size_bytes += F32_BYTES + zero_point_bytes(activation.format, activation.scheme);
    }
    let bit_product = u64::from(weight.format.bits()) * u64::from(activation.format.bits());
    LayerCost {
        size_bytes,
        bops: layer.macs.unwrap_or(0).saturating_mul(bit_product),
    }
}

/// Cost of a plan; `other_parameters` are those that belong to no layer.
pub fn cost(layers: &[Layer], plan: &Plan, other_parameters: u64) -> Cost {
    let mut size_bytes = other_parameters * F32_BYTES;
    let mut parameters = other_parameters;
    let (mut macs, mut bops) = (0u64, 0u64);
    let (mut weights, mut weight_bits) = (0.0, 0.0);
    let (mut activations, mut activation_bits) = (0.0, 0.0);
    let mut latency_secs = 0.0;
    for (layer, choice) in layers.iter().zip(plan.layers()) {
        let one = layer_cost(layer, choice);
        size_bytes += one.size_bytes;
        latency_secs += layer_latency_secs(layer, choice, one.size_bytes);
        bops = bops.saturating_add(one.bops);
        parameters += layer.parameters;
        macs += layer.macs.unwrap_or(0);
        weights += layer.weight_elements as f64;
        weight_bits += layer.weight_elements as f64 * f64::from(choice.weight.format.bits());
        let share = layer.macs.map_or(1.0, |macs| macs as f64);
        activations += share;
        activation_bits += share * f64::from(choice.activation.format.bits());
    }
    Cost {
        size_bytes,
        float_size_bytes: parameters * F32_BYTES,
        average_weight_bits: weight_bits / f64::max(weights, 1.0),
        average_activation_bits: activation_bits / f64::max(activations, 1.0),
        macs,
        bops,
        latency_secs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;
    use crate::plan::Widths;

    fn choice(widths: &str) -> LayerPlan {
        LayerPlan::with_widths(widths.parse::<Widths>().unwrap())
    }

    #[test]
    fn a_layer_counts_packed_weights_scales_and_zero_points() {
        // 288 weights in 8 channels, no bias.
        struct Case {
            widths: &'static str,
            size_bytes: u64,
        }
        let layer = &layers_named(&["conv"])[0];
        for case in [
            Case {
                widths: "f32/f32",
                size_bytes: 288 * 4,
            },
            Case {
                widths: "f16/f32",
                size_bytes: 288 * 2,
            },
            Case {
                widths: "8/f32",
                size_bytes: 288 + 8 * 4,
            },
            Case {
                widths: "4/f32",
                size_bytes: 144 + 8 * 4,
            },
            Case {
                widths: "3/f32",
                size_bytes: 108 + 8 * 4,
            },
            Case {
                widths: "4/8",
                size_bytes: 144 + 8 * 4 + 5,
            },
            Case {
                widths: "4/16",
                size_bytes: 144 + 8 * 4 + 6,
            },
        ] {
            let got = layer_cost(layer, &choice(case.widths)).size_bytes;
            assert_eq!(got, case.size_bytes, "{}", case.widths);
        }
    }

    #[test]
    fn groups_have_their_own_scales() {
        let layer = &layers_named(&["conv"])[0];
        let mut grouped = choice("4/f32");
        grouped.weight.granularity = "per-group:16".parse().unwrap();
        // 36 weights a channel are three groups: 8 · 3 scales.
        assert_eq!(layer_cost(layer, &grouped).size_bytes, 144 + 24 * 4);
    }

    #[test]
    fn averages_and_bops_follow_the_widths() {
        let layers = layers_named(&["a", "b"]);
        let mut plan = Plan::uniform(2, "8/8".parse().unwrap());
        plan.set_weight_format(&[crate::model::LayerId(1)], "4".parse().unwrap());
        let total = cost(&layers, &plan, 10);
        assert_eq!(total.average_weight_bits, 6.0);
        assert_eq!(total.average_activation_bits, 8.0);
        assert_eq!(total.float_size_bytes, (2 * 288 + 10) * 4);
        assert_eq!(total.bops, 288 * 64 * (8 * 8 + 4 * 8));
    }
}
