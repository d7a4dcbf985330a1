//! Errors of making, reading and applying plans.

/// A plan that cannot be read or does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A pair of widths is not `W/A`.
    #[error(
        "widths {text:?}: {reason}; expected W/A with 1..16, f16, bf16 or f32 on each side, for example 4/8"
    )]
    Widths {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An assignment is not `GLOB=W/A`.
    #[error("assignment {text:?}: {reason}; expected GLOB=W/A, for example \"layer1*=4/8\"")]
    Assignment {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A glob selects nothing.
    #[error(
        "no layer matches {glob:?}; expected a glob over layer names such as {example:?} (list them with `quantscope info`)"
    )]
    NoMatch {
        /// The glob.
        glob: String,
        /// Name of one layer of the model.
        example: String,
    },
    /// A preset name is not known.
    #[error("unknown preset {0:?}; expected one of {1}")]
    UnknownPreset(String, String),
    /// The plan file is not JSON of the expected form.
    #[error("not a plan file: {0}; expected JSON as written by `quantscope export --target plan`")]
    Malformed(String),
    /// The plan file is newer than this program.
    #[error(
        "plan version {found} is newer than {known}, the newest that this program reads; update quantscope"
    )]
    Version {
        /// Version in the file.
        found: u32,
        /// Newest version that is known.
        known: u32,
    },
    /// The plan was made for another model.
    #[error(
        "the plan was made for model {plan_model:?} ({plan_fingerprint}), but the open model is {model:?} ({model_fingerprint}); open that model, or make a new plan"
    )]
    OtherModel {
        /// Model name in the plan.
        plan_model: String,
        /// Short fingerprint in the plan.
        plan_fingerprint: String,
        /// Name of the open model.
        model: String,
        /// Short fingerprint of the open model.
        model_fingerprint: String,
    },
    /// A layer of the plan is not in the model, or the other way round.
    #[error("layer {layer:?} is {where_missing}; the plan does not fit this model")]
    LayerMismatch {
        /// The layer.
        layer: String,
        /// On which side it is missing.
        where_missing: &'static str,
    },
    /// A rounding method is not known.
    #[error("unknown rounding {0:?}; expected nearest, gptq, descent or auto")]
    UnknownRounding(String),
    /// A correction is not known.
    #[error(
        "unknown correction {0:?}; expected bias, refit and equalize, separated by commas, or none"
    )]
    UnknownCorrection(String),
}
