//! A quantization plan: every layer's choice, its size and its cost.
//!
//! Nothing here runs a network. A [`Plan`] is a small value that is cloned freely: undo, history and
//! background jobs all hold copies.

mod cost;
mod error;
mod file;
mod fingerprint;
mod groups;
mod latency;
mod pattern;
#[expect(
    clippy::module_inception,
    reason = "the file is named after its one type"
)]
mod plan;
mod preset;
mod rounding;
mod target;
mod target_profiles;
mod widths;

pub use cost::{Cost, LayerCost, cost, layer_cost};
pub use error::PlanError;
pub use file::{PLAN_VERSION, PlanFile, PlanModel, StoredLayer};
pub use fingerprint::Fingerprint;
pub use groups::input_groups;
pub use pattern::Assignment;
pub use plan::{LayerPlan, Plan};
pub use preset::Preset;
pub use rounding::{Correction, Corrections, Rounding};
pub use target::{
    ActivationCodes, BiasStorage, Claim, FileFormat, FittedPlan, GranularityRule, OpRules, Part,
    QuantizedTensors, TargetChange, TargetProfile, TensorRules, fit,
};
pub use widths::Widths;
