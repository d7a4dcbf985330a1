//! Plans that were evaluated to the end.

use crate::engine::{Classification, Comparison};
use crate::plan::{Cost, Fingerprint, Plan};

/// An evaluated plan with what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// Name, at first the widths; can be changed.
    pub name: String,
    /// Identifies the plan.
    pub fingerprint: Fingerprint,
    /// The plan itself.
    pub plan: Plan,
    /// What it costs.
    pub cost: Cost,
    /// Samples it was measured on.
    pub samples: usize,
    /// Its accuracy.
    pub metrics: Classification,
    /// Its outputs against float.
    pub comparison: Comparison,
}

/// A short name for a plan: `W4 A8` where uniform, else the average bits.
pub(super) fn describe(plan: &Plan, cost: &Cost) -> String {
    let mut widths = plan.layers().iter().map(crate::plan::LayerPlan::widths);
    match widths.next() {
        Some(first) if widths.all(|other| other == first) => {
            format!("W{} A{}", first.weight, first.activation)
        }
        _ => format!(
            "mixed W{:.1} A{:.1}",
            cost.average_weight_bits, cost.average_activation_bits
        ),
    }
}
