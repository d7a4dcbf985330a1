//! What `export --verify` found, as text and as JSON.

use serde::Serialize;

use super::number::{Decibel, percent};
use super::output;
use crate::export::{
    LayerCheck, Level, LevelResult, Opinion, OrderedComparison, OutputDifference, Runtime,
    RuntimeOutcome, RuntimeResult, SecondOpinion, Verification,
};

/// Layers that are named where they differ most.
const NAMED_LAYERS: usize = 3;

#[derive(Serialize)]
pub(super) struct VerificationReport {
    samples: usize,
    simulated_top1: Option<f64>,
    #[serde(flatten)]
    runtime: Option<RuntimeReport>,
    runtime_absent: Option<String>,
    second_opinion: OpinionReport,
}

#[derive(Serialize)]
struct RuntimeReport {
    runtime: Runtime,
    version: String,
    levels: Vec<LevelReport>,
    own_spread_sqnr_db: Decibel,
    own_spread_agreement: Option<f64>,
    layers: Vec<LayerReport>,
}

#[derive(Serialize)]
struct LevelReport {
    level: Level,
    top1: Option<f64>,
    agreement: Option<f64>,
    sqnr_db: Decibel,
    outputs: Vec<OutputReport>,
    in_order: Option<OrderedReport>,
    kernels: Option<String>,
}

/// The runtime against a simulation in its own order of sums.
#[derive(Serialize)]
struct OrderedReport {
    simulated_top1: Option<f64>,
    agreement: Option<f64>,
    sqnr_db: Decibel,
    outputs: Vec<OutputReport>,
}

#[derive(Serialize)]
struct OutputReport {
    name: String,
    largest_difference: f64,
    relative_difference: f64,
    sqnr_db: Decibel,
}

/// One value, computed from the runtime's own numbers one layer before.
#[derive(Serialize)]
struct LayerReport {
    value: String,
    readers: Vec<String>,
    relative_difference: f64,
    codes: u64,
    differing_codes: u64,
    from_tie: f64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OpinionReport {
    Ran {
        runtime: &'static str,
        top1: Option<f64>,
        agreement: Option<f64>,
        sqnr_db: Decibel,
        spelled_out: Vec<&'static str>,
        outputs: Vec<OutputReport>,
    },
    Unable {
        runtime: &'static str,
        unable: String,
    },
}

/// Prints what was found.
pub(super) fn print_verification(verification: &Verification) {
    output::line(&format!(
        "{} samples; simulated top-1 {}",
        verification.samples,
        percent(verification.simulated.top1())
    ));
    match &verification.runtime {
        RuntimeOutcome::Ran(result) => print_runtime(result),
        RuntimeOutcome::Absent(reason) => {
            output::note(&format!("not run in the runtime itself: {reason}"));
        }
    }
    match &verification.second_opinion {
        SecondOpinion::Ran(opinion) => print_opinion(opinion),
        SecondOpinion::Unable(reason) => output::line(&format!("no second opinion: {reason}")),
    }
}

fn print_runtime(result: &RuntimeResult) {
    output::line(&format!("{} {}", result.runtime.package(), result.version));
    for level in &result.levels {
        let how = match level.level {
            Level::Plain => "graph as written",
            Level::Kept => "graph optimised, nothing quantized beyond the file",
            Level::Optimized => "graph optimised",
        };
        output::line(&format!(
            "{how}: top-1 {}, agreement with the simulation {}, SQNR against it {} dB",
            percent(level.accuracy.top1()),
            percent(level.comparison.agreement()),
            Decibel(level.comparison.sqnr_db())
        ));
        print_outputs(&level.outputs);
        if let Some(ordered) = &level.in_order {
            output::line(&format!(
                "  against the simulation with sums in the runtime's order: agreement {}, SQNR {} dB",
                percent(ordered.comparison.agreement()),
                Decibel(ordered.comparison.sqnr_db())
            ));
            print_outputs(&ordered.outputs);
        }
        if let Some(kernels) = &level.kernels {
            output::line(&format!("  {kernels}"));
        }
    }
    if !result.layers.is_empty() {
        print_layers(&result.layers);
    }
    output::line(&format!(
        "for comparison, the runtime against itself with every weight scale moved to the next number in f32: agreement {}, SQNR {} dB",
        percent(result.own_spread.agreement()),
        Decibel(result.own_spread.sqnr_db())
    ));
}

fn print_outputs(outputs: &[OutputDifference]) {
    for one in outputs {
        output::line(&format!(
            "  {}: relative difference {:.2e}, largest {:.2e}",
            one.name,
            one.relative(),
            one.largest
        ));
    }
}

fn print_layers(layers: &[LayerCheck]) {
    let sum = |count: fn(&LayerCheck) -> u64| layers.iter().map(count).sum::<u64>();
    let largest = |measure: fn(&LayerCheck) -> f64| layers.iter().map(measure).fold(0.0, f64::max);
    output::line(&format!(
        "layer by layer, each fed with the runtime's own numbers: {} values, largest relative difference {:.2e}; {} of {} codes differ, all within {:.1e} steps of the middle between two",
        layers.len(),
        largest(LayerCheck::relative),
        sum(|layer| layer.differing),
        sum(|layer| layer.codes),
        largest(|layer| layer.from_tie)
    ));
    let mut worst: Vec<&LayerCheck> = layers
        .iter()
        .filter(|layer| layer.relative() > 1e-5)
        .collect();
    worst.sort_by(|one, other| other.relative().total_cmp(&one.relative()));
    for layer in worst.iter().take(NAMED_LAYERS) {
        output::line(&format!(
            "  {}: relative difference {:.2e}",
            layer.value,
            layer.relative()
        ));
    }
}

fn print_opinion(opinion: &Opinion) {
    output::line(&format!(
        "second opinion, rten: top-1 {}, agreement with the simulation {}, SQNR against it {} dB",
        percent(opinion.accuracy.top1()),
        percent(opinion.comparison.agreement()),
        Decibel(opinion.comparison.sqnr_db())
    ));
    for change in &opinion.spelled_out {
        output::line(&format!("  rten has no type for it: {change}"));
    }
    print_outputs(&opinion.outputs);
}

impl From<&Verification> for VerificationReport {
    fn from(verification: &Verification) -> Self {
        let (runtime, runtime_absent) = match &verification.runtime {
            RuntimeOutcome::Ran(result) => (Some(RuntimeReport::from(&**result)), None),
            RuntimeOutcome::Absent(reason) => (None, Some(reason.clone())),
        };
        Self {
            samples: verification.samples,
            simulated_top1: verification.simulated.top1(),
            runtime,
            runtime_absent,
            second_opinion: OpinionReport::from(&verification.second_opinion),
        }
    }
}

impl From<&RuntimeResult> for RuntimeReport {
    fn from(result: &RuntimeResult) -> Self {
        Self {
            runtime: result.runtime,
            version: result.version.clone(),
            levels: result.levels.iter().map(LevelReport::from).collect(),
            own_spread_sqnr_db: Decibel(result.own_spread.sqnr_db()),
            own_spread_agreement: result.own_spread.agreement(),
            layers: result.layers.iter().map(LayerReport::from).collect(),
        }
    }
}

impl From<&LevelResult> for LevelReport {
    fn from(result: &LevelResult) -> Self {
        Self {
            level: result.level,
            top1: result.accuracy.top1(),
            agreement: result.comparison.agreement(),
            sqnr_db: Decibel(result.comparison.sqnr_db()),
            outputs: result.outputs.iter().map(OutputReport::from).collect(),
            in_order: result.in_order.as_ref().map(OrderedReport::from),
            kernels: result.kernels.clone(),
        }
    }
}

impl From<&OrderedComparison> for OrderedReport {
    fn from(ordered: &OrderedComparison) -> Self {
        Self {
            simulated_top1: ordered.accuracy.top1(),
            agreement: ordered.comparison.agreement(),
            sqnr_db: Decibel(ordered.comparison.sqnr_db()),
            outputs: ordered.outputs.iter().map(OutputReport::from).collect(),
        }
    }
}

impl From<&OutputDifference> for OutputReport {
    fn from(one: &OutputDifference) -> Self {
        Self {
            name: one.name.clone(),
            largest_difference: one.largest,
            relative_difference: one.relative(),
            sqnr_db: Decibel(Some(one.errors.sqnr_db())),
        }
    }
}

impl From<&LayerCheck> for LayerReport {
    fn from(check: &LayerCheck) -> Self {
        Self {
            value: check.value.clone(),
            readers: check.readers.clone(),
            relative_difference: check.relative(),
            codes: check.codes,
            differing_codes: check.differing,
            from_tie: check.from_tie,
        }
    }
}

impl From<&SecondOpinion> for OpinionReport {
    fn from(opinion: &SecondOpinion) -> Self {
        match opinion {
            SecondOpinion::Ran(opinion) => Self::Ran {
                runtime: "rten",
                top1: opinion.accuracy.top1(),
                agreement: opinion.comparison.agreement(),
                sqnr_db: Decibel(opinion.comparison.sqnr_db()),
                spelled_out: opinion.spelled_out.clone(),
                outputs: opinion.outputs.iter().map(OutputReport::from).collect(),
            },
            SecondOpinion::Unable(reason) => Self::Unable {
                runtime: "rten",
                unable: reason.clone(),
            },
        }
    }
}
