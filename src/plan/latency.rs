//! An estimate of how long one sample takes on a small processor, without running anything.

use super::plan::LayerPlan;
use crate::model::Layer;
use crate::quant::NumberFormat;

/// What one core computes and reads, at best.
///
/// It stands for the phones and boards that 8-bit networks are deployed on; a plan is compared with
/// another by it, a device is not described.
struct Core {
    clock_hz: f64,
    f32_macs_per_cycle: f64,
    f16_macs_per_cycle: f64,
    /// Dot products of integers of at most 8 bits.
    int8_macs_per_cycle: f64,
    bytes_per_second: f64,
}

/// Arm Cortex-A76 at 2.4 GHz: two 128-bit pipelines, each of which takes one FMLA or SDOT a cycle
/// (Arm, Cortex-A76 Software Optimization Guide). The 8 GB/s stand for what one core gets of the
/// LPDDR4X memory.
const CORE: Core = Core {
    clock_hz: 2.4e9,
    f32_macs_per_cycle: 8.0,
    f16_macs_per_cycle: 16.0,
    int8_macs_per_cycle: 32.0,
    bytes_per_second: 8e9,
};

impl Core {
    /// The arithmetic that a runtime has for a layer: both operands in the wider of their formats.
    fn macs_per_cycle(&self, choice: &LayerPlan) -> f64 {
        let formats = [choice.weight.format, choice.activation.format];
        let is_int8 =
            |format: &NumberFormat| matches!(format, NumberFormat::Int(bits) if bits.get() <= 8);
        if formats.iter().all(is_int8) {
            self.int8_macs_per_cycle
        } else if formats.iter().all(|format| format.bits() <= 16) {
            self.f16_macs_per_cycle
        } else {
            self.f32_macs_per_cycle
        }
    }
}

/// Least seconds that a layer takes for one sample: the roofline of its multiplications and of its
/// weights, which are read once.
///
/// ```text
/// seconds = max(MACs / (MACs per cycle · clock), bytes / (bytes per second))
/// ```
///
/// Source: Williams, Waterman, Patterson, "Roofline", CACM 52 (2009). A layer whose MACs are not known
/// counts its weights alone.
pub(super) fn layer_latency_secs(layer: &Layer, choice: &LayerPlan, size_bytes: u64) -> f64 {
    let macs = layer.macs.unwrap_or(0) as f64;
    let compute = macs / (CORE.macs_per_cycle(choice) * CORE.clock_hz);
    compute.max(size_bytes as f64 / CORE.bytes_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;
    use crate::plan::{Widths, layer_cost};

    #[test]
    fn a_layer_is_as_fast_as_its_arithmetic_or_its_memory_allows() {
        let mut layer = layers_named(&["conv"]).remove(0);
        for (macs, widths, expected) in [
            (76_800_000, "8/8", 1e-3),
            (76_800_000, "4/4", 1e-3),
            (76_800_000, "16/8", 2e-3),
            (76_800_000, "f16/f16", 2e-3),
            (76_800_000, "8/f32", 4e-3),
            (0, "f32/f32", 288.0 * 4.0 / 8e9),
        ] {
            layer.macs = Some(macs);
            let choice = LayerPlan::with_widths(widths.parse::<Widths>().unwrap());
            let bytes = layer_cost(&layer, &choice).size_bytes;
            let secs = layer_latency_secs(&layer, &choice, bytes);
            assert!((secs / expected - 1.0).abs() < 1e-9, "{widths}: {secs}");
        }
    }
}
