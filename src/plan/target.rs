//! What a runtime can execute, and a plan made to fit it.
//!
//! A [`TargetProfile`] is data: which widths, schemes and granularities a runtime takes for which
//! operator, and how it stores the rest. [`fit`] changes a plan into one that the profile can express
//! and lists each change with its reason, so that nothing is changed in silence.

use std::collections::BTreeMap;

use super::error::PlanError;
use super::plan::{LayerPlan, Plan};
use crate::model::{Layer, LayerId, ValueId};
use crate::quant::{Granularity, NumberFormat, QuantSpec, Scheme};

/// What a runtime takes for one tensor of a layer.
#[derive(Clone, Copy, Debug)]
pub struct TensorRules {
    /// Floating formats that run, the preferred one first; none where everything must be integer.
    pub floats: &'static [NumberFormat],
    /// Schemes, the one that others become first.
    pub schemes: &'static [Scheme],
    /// Granularities, the one that others become first.
    pub granularities: &'static [GranularityRule],
    /// Whether grids of more than 8 bits must be symmetric.
    pub wide_is_symmetric: bool,
}

/// A granularity without its size.
#[expect(
    clippy::enum_variant_names,
    reason = "these are the names of the field"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GranularityRule {
    /// One grid for the tensor.
    PerTensor,
    /// One grid for each output channel.
    PerChannel,
    /// One grid for each run of weights of a channel.
    PerGroup,
}

impl GranularityRule {
    fn of(granularity: Granularity) -> Self {
        match granularity {
            Granularity::PerTensor => Self::PerTensor,
            Granularity::PerChannel => Self::PerChannel,
            Granularity::PerGroup(_) => Self::PerGroup,
        }
    }

    fn granularity(self) -> Granularity {
        match self {
            Self::PerTensor => Granularity::PerTensor,
            Self::PerChannel | Self::PerGroup => Granularity::PerChannel,
        }
    }
}

/// What a runtime takes for layers of some operators.
#[derive(Clone, Copy, Debug)]
pub struct OpRules {
    /// ONNX names of the operators; empty means all others.
    pub ops: &'static [&'static str],
    /// Integer widths of the input, ascending.
    pub activation_widths: &'static [u8],
    /// Integer widths of the weight beside an input of integers, ascending.
    pub weight_widths: &'static [u8],
    /// Integer widths of the weight beside a float input, ascending.
    pub weight_only_widths: &'static [u8],
    /// Whether a float weight may stand beside an input of integers.
    pub float_weight_beside_integers: bool,
    /// Rules of the weight.
    pub weight: TensorRules,
    /// Rules of the input.
    pub activation: TensorRules,
}

/// How a bias is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasStorage {
    /// As `f32`.
    Float,
    /// As `i32` with `scale = s_x · s_w`, where weight and input are of at most 8 bits.
    Int32,
}

/// Which tensors a runtime wants quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantizedTensors {
    /// The inputs and weights of layers.
    LayerInputs,
    /// Every edge between operators that compute on integers.
    EveryEdge,
}

/// Format of the file that a plan is exported to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// ONNX with `QuantizeLinear` and `DequantizeLinear`.
    Onnx,
    /// A `TFLite` flatbuffer.
    Tflite,
    /// Packed weights, with a script that computes with them.
    SafeTensors,
}

impl FileFormat {
    /// What follows the dot of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Tflite => "tflite",
            Self::SafeTensors => "safetensors",
        }
    }
}

/// How codes of an activation are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationCodes {
    /// `0..=2^b − 1` where the scheme is asymmetric.
    Unsigned,
    /// `−2^(b−1)..=2^(b−1) − 1`; codes and zero point of an asymmetric grid are moved down by `2^(b−1)`.
    Signed,
}

/// A statement about a runtime, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// What holds.
    pub text: &'static str,
    /// Where it is written, or how it was found.
    pub source: &'static str,
}

/// What one runtime can execute.
#[derive(Clone, Copy, Debug)]
pub struct TargetProfile {
    /// Name on the command line and in plan files.
    pub name: &'static str,
    /// Name as it is shown.
    pub label: &'static str,
    /// What it is, in a sentence.
    pub description: &'static str,
    /// Format of the file.
    pub file: FileFormat,
    /// Rules by operator, the most particular first.
    pub rules: &'static [OpRules],
    /// Whether layers that read one tensor may quantize it differently.
    pub own_grid_per_reader: bool,
    /// How biases are stored.
    pub bias: BiasStorage,
    /// Which tensors must be quantized.
    pub tensors: QuantizedTensors,
    /// How codes of activations are stored.
    pub activation_codes: ActivationCodes,
    /// Bytes that packed weights of 4 bits are stored in: whether two share a byte.
    pub packs_4_bits: bool,
    /// Operators that run as one with the layer before them, so that nothing is quantized in between.
    pub fused_after_layer: &'static [&'static str],
    /// What the profile states, with sources.
    pub claims: &'static [Claim],
}

/// Which tensor of a layer was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The weight.
    Weight,
    /// The input.
    Activation,
}

impl Part {
    /// Name as it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Activation => "input",
        }
    }
}

/// One thing that a target forces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetChange {
    /// The layer.
    pub layer: LayerId,
    /// Its tensor.
    pub part: Part,
    /// What was chosen.
    pub from: String,
    /// What the target takes instead.
    pub to: String,
    /// Why.
    pub reason: String,
}

/// A plan that a target can express, and what was changed for it.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedPlan {
    /// The plan.
    pub plan: Plan,
    /// All changes, in layer order.
    pub changes: Vec<TargetChange>,
}

impl TargetProfile {
    /// The profile with this name, upper or lower case.
    ///
    /// # Errors
    /// [`PlanError::UnknownTarget`] lists the names.
    pub fn by_name(name: &str) -> Result<&'static Self, PlanError> {
        Self::ALL
            .iter()
            .find(|profile| profile.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|profile| profile.name).collect();
                PlanError::UnknownTarget(name.to_owned(), names.join(", "))
            })
    }

    /// The rules of an operator.
    pub fn rules_of(&self, op: &str) -> Option<&'static OpRules> {
        self.rules
            .iter()
            .find(|rules| rules.ops.is_empty() || rules.ops.contains(&op))
    }

    /// Whether the bias of a layer is stored as integers.
    pub fn stores_integer_bias(&self, choice: &LayerPlan) -> bool {
        let narrow =
            |format: NumberFormat| matches!(format, NumberFormat::Int(bits) if bits.get() <= 8);
        self.bias == BiasStorage::Int32
            && narrow(choice.weight.format)
            && narrow(choice.activation.format)
            && !matches!(choice.weight.granularity, Granularity::PerGroup(_))
    }
}

/// The nearest plan that a target can express.
///
/// Widths go up to the next that the target takes; a width above all of them becomes a float, or the
/// widest where the target has no floats. Schemes and granularities become the target's first. Where
/// layers must share the grid of a tensor they read, the widest choice wins. A plan that fits comes back
/// unchanged, and fitting twice changes nothing more.
pub fn fit(plan: &Plan, layers: &[Layer], profile: &TargetProfile) -> FittedPlan {
    let mut fitted: Vec<LayerPlan> = plan.layers().to_vec();
    let mut reasons: BTreeMap<(usize, Part), Vec<String>> = BTreeMap::new();
    // A tensor that is shared can make an input wider, and that may not go with the weight.
    for _ in 0..3 {
        for (index, (layer, choice)) in layers.iter().zip(&mut fitted).enumerate() {
            let mut note = |part, reason: String| {
                let list = reasons.entry((index, part)).or_default();
                if !list.contains(&reason) {
                    list.push(reason);
                }
            };
            fit_layer(layer, choice, profile, &mut note);
        }
        if !profile.own_grid_per_reader {
            share_inputs(layers, &mut fitted, profile, &mut reasons);
        }
    }
    let mut changes = Vec::new();
    for (index, (before, after)) in plan.layers().iter().zip(&fitted).enumerate() {
        let parts = [
            (Part::Weight, &before.weight, &after.weight),
            (Part::Activation, &before.activation, &after.activation),
        ];
        for (part, before, after) in parts {
            if before != after {
                let reason = reasons.get(&(index, part)).map(|list| list.join("; "));
                let (from, to) = described(before, after);
                changes.push(TargetChange {
                    layer: LayerId(index as u32),
                    part,
                    from,
                    to,
                    reason: reason.unwrap_or_default(),
                });
            }
        }
    }
    FittedPlan {
        plan: Plan::from_layers(fitted),
        changes,
    }
}

/// Both choices in the words that tell them apart.
fn described(before: &QuantSpec, after: &QuantSpec) -> (String, String) {
    let mut texts = [Vec::new(), Vec::new()];
    let mut compare = |one: String, other: String, always: bool| {
        if always || one != other {
            texts[0].push(one);
            texts[1].push(other);
        }
    };
    compare(shown(before.format), shown(after.format), true);
    if !before.format.is_float() && !after.format.is_float() {
        compare(before.scheme.to_string(), after.scheme.to_string(), false);
        let granularity = (
            before.granularity.to_string(),
            after.granularity.to_string(),
        );
        compare(granularity.0, granularity.1, false);
        let range = |spec: &QuantSpec| match spec.range_override {
            Some(range) => format!("{} .. {}", range.min(), range.max()),
            None => spec.calibrator.to_string(),
        };
        compare(range(before), range(after), false);
    }
    let [from, to] = texts;
    (from.join(" "), to.join(" "))
}

fn shown(format: NumberFormat) -> String {
    match format {
        NumberFormat::Int(bits) => format!("{bits}-bit"),
        float => float.to_string(),
    }
}

fn fit_layer(
    layer: &Layer,
    choice: &mut LayerPlan,
    profile: &TargetProfile,
    note: &mut dyn FnMut(Part, String),
) {
    let label = profile.label;
    let Some(rules) = profile.rules_of(&layer.op) else {
        for (part, spec) in [
            (Part::Weight, &mut choice.weight),
            (Part::Activation, &mut choice.activation),
        ] {
            if !spec.format.is_float() {
                spec.format = NumberFormat::F32;
                note(part, format!("{label} runs {} in float only", layer.op));
            }
        }
        return;
    };
    fit_format(
        &mut choice.activation,
        rules.activation_widths,
        &rules.activation,
        &mut |reason| {
            note(
                Part::Activation,
                format!("{label} {reason} for inputs of {}", layer.op),
            );
        },
    );
    let beside_integers = !choice.activation.format.is_float();
    let widths = if beside_integers {
        rules.weight_widths
    } else {
        rules.weight_only_widths
    };
    let beside = if beside_integers { "integer" } else { "float" };
    fit_format(&mut choice.weight, widths, &rules.weight, &mut |reason| {
        let what = format!("weights of {} beside a {beside} input", layer.op);
        note(Part::Weight, format!("{label} {reason} for {what}"));
    });
    if choice.weight.format.is_float()
        && beside_integers
        && !rules.float_weight_beside_integers
        && let Some(float) = rules.activation.floats.first()
    {
        choice.activation.format = *float;
        let reason = format!("{label} takes no integer input beside a float weight");
        note(Part::Activation, reason);
    }
    fit_grid(&mut choice.activation, &rules.activation, &mut |reason| {
        note(
            Part::Activation,
            format!("{label} {reason} for inputs of {}", layer.op),
        );
    });
    fit_grid(&mut choice.weight, &rules.weight, &mut |reason| {
        note(
            Part::Weight,
            format!("{label} {reason} for weights of {}", layer.op),
        );
    });
}

/// Brings the format to one that is taken.
fn fit_format(
    spec: &mut QuantSpec,
    widths: &[u8],
    rules: &TensorRules,
    note: &mut dyn FnMut(String),
) {
    let fitting = match spec.format {
        NumberFormat::Int(bits) if widths.contains(&bits.get()) => return,
        float if float.is_float() && rules.floats.contains(&float) => return,
        NumberFormat::Int(bits) => {
            let wider = widths.iter().copied().find(|width| *width > bits.get());
            wider
                .and_then(|width| NumberFormat::int(width).ok())
                .or(rules.floats.first().copied())
                .or_else(|| widest(widths))
        }
        _ => {
            let float = rules
                .floats
                .iter()
                .copied()
                .max_by_key(|float| float.bits());
            float.or_else(|| {
                widest(
                    &widths
                        .iter()
                        .copied()
                        .filter(|w| *w <= 8)
                        .collect::<Vec<_>>(),
                )
            })
        }
    };
    if let Some(format) = fitting {
        spec.format = format;
        note(format!("takes {}", taken(widths, rules.floats)));
    }
}

fn widest(widths: &[u8]) -> Option<NumberFormat> {
    NumberFormat::int(*widths.last()?).ok()
}

/// The formats that are taken, in words.
fn taken(widths: &[u8], floats: &[NumberFormat]) -> String {
    let mut names: Vec<String> = widths.iter().map(|width| format!("{width}-bit")).collect();
    if widths.is_empty() {
        names.push("no integers".to_owned());
    }
    names.extend(floats.iter().map(ToString::to_string));
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [only] => format!("only {only}"),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Brings scheme and granularity of an integer format to what is taken.
fn fit_grid(spec: &mut QuantSpec, rules: &TensorRules, note: &mut dyn FnMut(String)) {
    let NumberFormat::Int(bits) = spec.format else {
        return;
    };
    if bits.get() > 8 && rules.wide_is_symmetric && spec.scheme != Scheme::Symmetric {
        spec.scheme = Scheme::Symmetric;
        note("takes only symmetric grids of more than 8 bits".to_owned());
    }
    if let (false, Some(scheme)) = (rules.schemes.contains(&spec.scheme), rules.schemes.first()) {
        spec.scheme = *scheme;
        note(format!("takes only {scheme} grids"));
    }
    let granularity = GranularityRule::of(spec.granularity);
    if !rules.granularities.contains(&granularity)
        && let Some(rule) = rules.granularities.first()
    {
        spec.granularity = rule.granularity();
        note(format!("takes only {} grids", spec.granularity));
    }
}

/// Gives all layers that read one tensor the widest of their choices.
fn share_inputs(
    layers: &[Layer],
    fitted: &mut [LayerPlan],
    profile: &TargetProfile,
    reasons: &mut BTreeMap<(usize, Part), Vec<String>>,
) {
    let mut readers: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    for (index, layer) in layers.iter().enumerate().take(fitted.len()) {
        readers.entry(layer.input).or_default().push(index);
    }
    for indices in readers.values() {
        let widest = indices
            .iter()
            .max_by_key(|index| {
                let format = fitted[**index].activation.format;
                (format.bits(), std::cmp::Reverse(**index))
            })
            .map(|index| fitted[*index].activation);
        let Some(widest) = widest else { continue };
        for index in indices {
            if fitted[*index].activation != widest {
                fitted[*index].activation = widest;
                let reason = format!(
                    "{} quantizes a tensor once for all layers that read it",
                    profile.label
                );
                let list = reasons.entry((*index, Part::Activation)).or_default();
                if !list.contains(&reason) {
                    list.push(reason);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;
    use crate::plan::Widths;

    fn fitted(target: &str, widths: &str) -> FittedPlan {
        let profile = TargetProfile::by_name(target).unwrap();
        let plan = Plan::uniform(1, widths.parse::<Widths>().unwrap());
        fit(&plan, &layers_named(&["conv"]), profile)
    }

    #[test]
    fn widths_become_those_that_the_target_takes() {
        for (target, asked, got) in [
            ("generic", "3/5", "3/5"),
            ("generic", "bf16/f16", "bf16/f16"),
            ("onnxruntime", "4/8", "4/8"),
            ("onnxruntime", "8/16", "8/16"),
            ("onnxruntime", "f32/8", "f32/f32"),
            ("openvino", "4/8", "8/8"),
            ("openvino", "8/16", "8/f32"),
            ("openvino", "4/f32", "4/f32"),
            ("tensorrt", "8/8", "8/8"),
            ("tensorrt", "4/8", "8/8"),
            ("tensorrt", "8/16", "f16/f16"),
            ("tflite", "f32/f32", "8/8"),
            ("tflite", "8/16", "8/16"),
            ("tflite", "3/16", "3/16"),
            ("tflite", "9/8", "8/8"),
            ("tflite-dynamic", "4/8", "4/f32"),
            ("tflite-dynamic", "8/8", "8/f32"),
            ("pytorch", "3/16", "3/16"),
        ] {
            let fitted = fitted(target, asked);
            let widths = fitted.plan.layers()[0].widths().to_string();
            assert_eq!(widths, got, "{target} {asked}: {:?}", fitted.changes);
            let changed = !fitted.changes.is_empty();
            let may_change =
                asked != got || matches!(target, "tensorrt" | "tflite" | "tflite-dynamic");
            assert!(
                !changed || may_change,
                "{target} {asked}: {:?}",
                fitted.changes
            );
        }
    }

    #[test]
    fn every_change_says_what_and_why_and_fitting_again_changes_nothing() {
        let layers = layers_named(&["a", "b"]);
        for profile in &TargetProfile::ALL {
            for widths in ["1/1", "3/5", "8/16", "16/4", "f16/8", "8/bf16", "f32/f32"] {
                let mut plan = Plan::uniform(2, widths.parse::<Widths>().unwrap());
                plan.set_weight_scheme(Scheme::Asymmetric);
                plan.set_weight_granularity("per-group:16".parse().unwrap());
                let once = fit(&plan, &layers, profile);
                for change in &once.changes {
                    assert_ne!(change.from, change.to, "{} {widths}", profile.name);
                    let reason = &change.reason;
                    assert!(
                        reason.contains(profile.label),
                        "{}: {change:?}",
                        profile.name
                    );
                }
                let twice = fit(&once.plan, &layers, profile);
                assert_eq!(twice.changes, [], "{} {widths}", profile.name);
            }
        }
    }

    #[test]
    fn readers_of_one_tensor_share_its_grid_where_the_target_wants_it() {
        let mut layers = layers_named(&["query", "key"]);
        layers[1].input = layers[0].input;
        let mut plan = Plan::uniform(2, "8/8".parse().unwrap());
        plan.set_activation_format(&[LayerId(1)], "16".parse().unwrap());
        let own = fit(
            &plan,
            &layers,
            TargetProfile::by_name("onnxruntime").unwrap(),
        );
        assert_eq!(own.changes, []);
        let shared = fit(&plan, &layers, TargetProfile::by_name("tflite").unwrap());
        let widths: Vec<_> = shared
            .plan
            .layers()
            .iter()
            .map(|l| l.widths().to_string())
            .collect();
        assert_eq!(widths, ["8/16", "8/16"]);
        assert!(
            shared.changes[0].reason.contains("once for all layers"),
            "{:?}",
            shared.changes
        );
    }

    #[test]
    fn an_operator_without_integer_kernels_stays_float() {
        let mut layers = layers_named(&["product"]);
        layers[0].op = "Einsum".to_owned();
        let plan = Plan::uniform(1, "8/8".parse().unwrap());
        let fitted = fit(
            &plan,
            &layers,
            TargetProfile::by_name("tflite-dynamic").unwrap(),
        );
        assert!(fitted.plan.layers()[0].is_float());
        assert!(fitted.changes[0].reason.contains("Einsum in float only"));
    }
}
