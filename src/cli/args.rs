//! Arguments of the program and of every command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::data::Preprocess;
use crate::engine::{Arithmetic, Protocol, Subject};
use crate::plan::{Assignment, Corrections, Plan, Preset, Rounding, Widths};
use crate::quant::{Calibrator, Granularity, NumberFormat, QuantError, Scheme};
use crate::search::{Bound, Budget, Shard};
use crate::session::{DataRequest, OpenModel, SessionError, read_plan};

/// Explore neural-network quantization: bit-widths per layer, accuracy, size and error.
///
/// Without a command the window opens.
#[derive(Debug, Parser)]
#[command(name = "quantscope", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// A command; none opens the window.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What the window opens.
    #[command(flatten)]
    pub window: WindowArguments,
}

/// What the window opens at the start.
#[derive(Debug, Args)]
pub struct WindowArguments {
    /// Model to open: .onnx, .safetensors, zip .pth, or a .qscope project
    pub model: Option<PathBuf>,
    /// Evaluation data
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Calibration data; absent: a disjoint part of --data
    #[arg(long, value_name = "DIR")]
    pub calib: Option<PathBuf>,
    /// imagenet, unit, signed, raw, or fields `mean=…;std=…;scale=…;resize=…;crop=…;channels=…`
    #[arg(long, value_name = "SPEC")]
    pub preprocess: Option<Preprocess>,
    /// A saved plan
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Memory for activations that evaluations share, in MB; absent: a quarter of the machine's, at most 4000
    #[arg(long, value_name = "N")]
    pub cache_mb: Option<usize>,
}

/// The headless commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Layers, coverage, parameters and MACs of a model
    Info(InfoArguments),
    /// Float and plan: metrics, per-layer errors, size
    Eval(EvalArguments),
    /// How much every layer hurts at every width
    Sensitivity(SensitivityArguments),
    /// The best widths of every layer for a budget
    Search(SearchArguments),
    /// Join the parts of split sensitivity or search runs
    Merge(MergeArguments),
    /// Raw outputs for .npy inputs, float or under a plan
    Run(RunArguments),
    /// Write a plan for a target
    Export(ExportArguments),
    /// Write what was measured of a plan as one HTML page
    Report(ReportArguments),
    /// Images per second of float, plan and sensitivity
    Bench(BenchArguments),
}

/// Output of every command.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputOptions {
    /// Print one JSON document on standard output and nothing else there
    #[arg(long)]
    pub json: bool,
    /// No progress on standard error
    #[arg(long)]
    pub quiet: bool,
}

/// How every command that runs the network computes.
#[derive(Clone, Copy, Debug, Args)]
pub struct ComputeOptions {
    /// Number of threads; default: all cores
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// What layers are computed with; the numbers agree but for rounding
    #[arg(long, value_enum, default_value = "auto")]
    pub arithmetic: ArithmeticArgument,
}

/// Arithmetic as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArithmeticArgument {
    /// 8-bit integers where the processor has dot products of them
    Auto,
    /// 8-bit integers, or an error
    Integer,
    /// Floats
    Float,
    /// Floats, added up as ONNX Runtime does without graph optimisations: its numbers, slowly
    OnnxRuntime,
}

impl From<ArithmeticArgument> for Arithmetic {
    fn from(argument: ArithmeticArgument) -> Self {
        match argument {
            ArithmeticArgument::Auto => Self::Auto,
            ArithmeticArgument::Integer => Self::Integer,
            ArithmeticArgument::Float => Self::Float,
            ArithmeticArgument::OnnxRuntime => Self::OnnxRuntime,
        }
    }
}

/// Which data, and how it is read.
#[derive(Clone, Debug, Args)]
pub struct DataOptions {
    /// Calibration data; absent: a disjoint part of --data
    #[arg(long, value_name = "DIR")]
    pub calib: Option<PathBuf>,
    /// Number of calibration samples
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub calib_samples: usize,
    /// Number of evaluation samples; default: all, for `bench` 64
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Decides which samples are taken where not all are
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Samples per batch; default: chosen by memory
    #[arg(long, value_name = "N")]
    pub batch: Option<std::num::NonZeroUsize>,
    /// imagenet, unit, signed, raw, or fields `mean=…;std=…;scale=…;resize=…;crop=…;channels=…`; absent: guessed from the model
    #[arg(long, value_name = "SPEC")]
    pub preprocess: Option<Preprocess>,
}

impl DataOptions {
    /// The request for a session.
    pub fn request(&self, data: PathBuf) -> DataRequest {
        DataRequest {
            data,
            calibration: self.calib.clone(),
            preprocess: self.preprocess,
            calibration_samples: self.calib_samples,
            limit: self.limit,
            seed: self.seed,
            batch_size: self.batch.map(std::num::NonZeroUsize::get),
        }
    }
}

/// Calibrator as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CalibratorArgument {
    /// The one with the least error of the network's output, for each tensor.
    Auto,
    /// This one for all.
    Named(Calibrator),
}

impl std::str::FromStr for CalibratorArgument {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Self, QuantError> {
        match text {
            "auto" => Ok(Self::Auto),
            other => other.parse().map(Self::Named),
        }
    }
}

fn chooses_calibrators(calibrator: Option<CalibratorArgument>, rounding: Option<Rounding>) -> bool {
    match calibrator {
        Some(named) => named == CalibratorArgument::Auto,
        None => rounding == Some(Rounding::Auto),
    }
}

/// Which plan.
#[derive(Clone, Debug, Args)]
pub struct PlanOptions {
    /// Width of every weight: 1..16, f32, f16, bf16 [default: 8]
    #[arg(long, value_name = "B", conflicts_with = "plan")]
    pub weights: Option<NumberFormat>,
    /// Width of every layer's input: 1..16, f32, f16, bf16 [default: 8]
    #[arg(long, value_name = "B", conflicts_with = "plan")]
    pub activations: Option<NumberFormat>,
    /// Widths of matching layers, as GLOB=W/A; repeatable, later wins
    #[arg(long = "set", value_name = "GLOB=W/A", conflicts_with = "plan")]
    pub assignments: Vec<Assignment>,
    /// A preset such as W4A8, instead of --weights and --activations
    #[arg(long, value_name = "NAME", conflicts_with_all = ["plan", "weights", "activations"])]
    pub preset: Option<String>,
    /// A saved plan
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// How activation ranges are chosen: minmax, moving-average, percentile:99.99, mse, entropy, or auto for what suits each tensor best [default: minmax, with --rounding auto: auto]
    #[arg(long, value_name = "NAME")]
    pub calibrator: Option<CalibratorArgument>,
    /// How weight ranges are chosen: minmax, percentile:99.99, mse [default: minmax, with gptq, descent and adaround mse]
    #[arg(long, value_name = "NAME")]
    pub weight_calibrator: Option<Calibrator>,
    /// How weights are rounded: nearest, or on calibration data gptq, descent, adaround, or auto for what suits each layer best
    #[arg(long, value_name = "NAME")]
    pub rounding: Option<Rounding>,
    /// What is corrected on calibration data: bias, refit and equalize, separated by commas, or none
    #[arg(long, value_name = "LIST")]
    pub correct: Option<Corrections>,
    /// Scheme of the weights: symmetric or asymmetric
    #[arg(long, value_name = "NAME")]
    pub scheme: Option<Scheme>,
    /// Granularity of the weights: per-tensor, per-channel, per-group:N
    #[arg(long, value_name = "NAME")]
    pub granularity: Option<Granularity>,
}

impl PlanOptions {
    /// Whether any option asks for a plan.
    pub fn is_given(&self) -> bool {
        self.weights.is_some()
            || self.activations.is_some()
            || !self.assignments.is_empty()
            || self.preset.is_some()
            || self.plan.is_some()
            || self.rounding.is_some()
            || self.correct.is_some()
    }

    /// Whether the calibrator of each activation is to be chosen: by name, or with all else that
    /// `--rounding auto` chooses.
    pub fn chooses_calibrators(&self) -> bool {
        chooses_calibrators(self.calibrator, self.rounding)
    }

    fn set_rounding(&self, plan: &mut Plan) {
        if let Some(rounding) = self.rounding {
            plan.set_rounding(rounding);
            if rounding.searches_ranges() {
                plan.set_weight_calibrator(Calibrator::Mse);
            }
        }
        if let Some(calibrator) = self.weight_calibrator {
            plan.set_weight_calibrator(calibrator);
        }
        if let Some(corrections) = self.correct {
            plan.set_corrections(corrections);
        }
    }

    /// The plan for a model, for a command that chooses no calibrators.
    ///
    /// # Errors
    /// As [`PlanOptions::plan_for`], and where calibrators are to be chosen.
    pub fn fixed_plan_for(&self, model: &OpenModel) -> Result<Plan, SessionError> {
        if self.calibrator == Some(CalibratorArgument::Auto) {
            return Err(SessionError::Missing(
                "this command does not choose calibrators; see with `quantscope eval --calibrator auto --json` which suit, and name one".to_owned(),
            ));
        }
        self.plan_for(model)
    }

    /// The plan for a model.
    ///
    /// # Errors
    /// A glob matches nothing, the preset is unknown, or the plan file does not fit.
    pub fn plan_for(&self, model: &OpenModel) -> Result<Plan, SessionError> {
        let layers = model.layers();
        let stored = model.stored_plan.as_ref().filter(|_| !self.is_given());
        let mut plan = match (&self.plan, &self.preset, stored) {
            (Some(path), _, _) => read_plan(path, model)?,
            (None, None, Some(stored)) => stored.clone(),
            (None, Some(name), _) => {
                let float = Plan::uniform(layers.len(), Widths::FLOAT);
                Preset::by_name(name)?.apply(&float)
            }
            (None, None, None) => {
                let eight = Preset::by_name("W8A8")?.widths();
                let widths = Widths {
                    weight: self.weights.unwrap_or(eight.weight),
                    activation: self.activations.unwrap_or(eight.activation),
                };
                Plan::uniform(layers.len(), widths)
            }
        };
        plan.assign(layers, &self.assignments)?;
        if let Some(CalibratorArgument::Named(calibrator)) = self.calibrator {
            plan.set_activation_calibrator(calibrator);
        }
        self.set_rounding(&mut plan);
        if let Some(scheme) = self.scheme {
            plan.set_weight_scheme(scheme);
        }
        if let Some(granularity) = self.granularity {
            plan.set_weight_granularity(granularity);
        }
        Ok(plan)
    }
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct InfoArguments {
    /// The model
    pub model: PathBuf,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub struct EvalArguments {
    /// The model
    pub model: PathBuf,
    /// Evaluation data
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    #[command(flatten)]
    pub data_options: DataOptions,
    #[command(flatten)]
    pub plan: PlanOptions,
    #[command(flatten)]
    pub compute: ComputeOptions,
    /// Evaluate what a target makes of the plan: generic, onnxruntime, openvino, tensorrt, tflite, tflite-dynamic, pytorch
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Exit with 1 if the plan's top-1 (0..1) is lower
    #[arg(long, value_name = "SHARE")]
    pub min_top1: Option<f64>,
    /// Exit with 1 if the agreement with float (0..1) is lower
    #[arg(long, value_name = "SHARE")]
    pub min_agreement: Option<f64>,
    /// Exit with 1 if the SQNR of the outputs in dB is lower
    #[arg(long, value_name = "DB")]
    pub min_sqnr_db: Option<f64>,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Protocol of a sweep, as on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArgument {
    /// Only the studied layer is quantized
    OnlyOne,
    /// Every layer but the studied one is quantized
    AllButOne,
}

impl From<ProtocolArgument> for Protocol {
    fn from(argument: ProtocolArgument) -> Self {
        match argument {
            ProtocolArgument::OnlyOne => Self::OnlyOne,
            ProtocolArgument::AllButOne => Self::AllButOne,
        }
    }
}

/// What a sweep quantizes, as on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SubjectArgument {
    /// The weight
    Weights,
    /// The input activation
    Activations,
    /// Both
    Both,
}

impl From<SubjectArgument> for Subject {
    fn from(argument: SubjectArgument) -> Self {
        match argument {
            SubjectArgument::Weights => Self::Weights,
            SubjectArgument::Activations => Self::Activations,
            SubjectArgument::Both => Self::Both,
        }
    }
}

/// Arguments of `sensitivity`.
#[derive(Debug, Args)]
pub struct SensitivityArguments {
    /// The model
    pub model: PathBuf,
    /// Evaluation data
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Widths, separated by commas
    #[arg(
        long,
        value_name = "B,B,…",
        value_delimiter = ',',
        default_value = "8,4,2"
    )]
    pub bits: Vec<NumberFormat>,
    /// Which layers are quantized together
    #[arg(long, value_enum, default_value = "only-one")]
    pub protocol: ProtocolArgument,
    /// What of a layer is quantized
    #[arg(long, value_enum, default_value = "weights")]
    pub what: SubjectArgument,
    /// Also score every layer by gradients over the calibration data
    #[arg(long, conflicts_with = "shard")]
    pub second_order: bool,
    /// File for the JSON document; with --shard for the part
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub part: PartOptions,
    #[command(flatten)]
    pub data_options: DataOptions,
    /// How activation ranges are chosen: minmax, moving-average, percentile:99.99, mse, entropy
    #[arg(long, value_name = "NAME")]
    pub calibrator: Option<Calibrator>,
    /// Granularity of the weights: per-tensor, per-channel, per-group:N
    #[arg(long, value_name = "NAME")]
    pub granularity: Option<Granularity>,
    #[command(flatten)]
    pub compute: ComputeOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Splitting work among machines, and going on after a stop.
#[derive(Clone, Debug, Args)]
pub struct PartOptions {
    /// Compute part I of N only and write it to --out; `merge` joins the parts
    #[arg(long, value_name = "I/N", requires = "out")]
    pub shard: Option<Shard>,
    /// Keep progress in this file, and go on from it if it is there [default: beside --out]
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
}

/// Arguments of `search`.
#[derive(Debug, Args)]
pub struct SearchArguments {
    /// The model
    pub model: PathBuf,
    /// Evaluation data; the search itself never sees it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// size=120KiB, size=25%, size=W4A8 (the bytes of that plan), bits=2.5 (average of weights), bops=1.2G, or drop=1.5 (points of accuracy)
    #[arg(long, value_name = "SPEC")]
    pub budget: Budget,
    /// File for the chosen plan; with --shard for the part
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Widths of weights to choose from, separated by commas
    #[arg(
        long,
        value_name = "B,B,…",
        value_delimiter = ',',
        default_value = "8,6,5,4,3,2"
    )]
    pub bits: Vec<NumberFormat>,
    /// Widths of layer inputs to choose from, separated by commas; f32 leaves them in float
    #[arg(long, value_name = "B,B,…", value_delimiter = ',', default_value = "8")]
    pub activations: Vec<NumberFormat>,
    /// Lowest and highest weight width of matching layers, as GLOB=LOW..HIGH; repeatable, later wins
    #[arg(long = "bound", value_name = "GLOB=LOW..HIGH")]
    pub bounds: Vec<Bound>,
    /// Plans to measure, those of earlier runs included
    #[arg(long, value_name = "N", default_value_t = crate::session::SearchRequest::PLANS)]
    pub plans: usize,
    /// Begin no further plan after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub time: Option<f64>,
    /// A saved plan whose schemes are used and whose locked layers stay
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// How activation ranges are chosen: minmax, moving-average, percentile:99.99, mse, entropy, or auto for what suits each tensor best [default: minmax, with --rounding auto: auto]
    #[arg(long, value_name = "NAME")]
    pub calibrator: Option<CalibratorArgument>,
    /// How weight ranges are chosen: minmax, percentile:99.99, mse [default: minmax, with gptq, descent and adaround mse]
    #[arg(long, value_name = "NAME")]
    pub weight_calibrator: Option<Calibrator>,
    /// How weights are rounded: nearest, or on calibration data gptq, descent, adaround, or auto for what suits each layer best; a plan takes seconds then
    #[arg(long, value_name = "NAME")]
    pub rounding: Option<Rounding>,
    /// What is corrected on calibration data: bias and refit, separated by commas, or none
    #[arg(long, value_name = "LIST")]
    pub correct: Option<Corrections>,
    /// Scheme of the weights: symmetric or asymmetric
    #[arg(long, value_name = "NAME")]
    pub scheme: Option<Scheme>,
    /// Granularity of the weights: per-tensor, per-channel, per-group:N
    #[arg(long, value_name = "NAME")]
    pub granularity: Option<Granularity>,
    #[command(flatten)]
    pub part: PartOptions,
    #[command(flatten)]
    pub data_options: DataOptions,
    #[command(flatten)]
    pub compute: ComputeOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

impl SearchArguments {
    /// Schemes, calibrators and locks of the plans.
    ///
    /// # Errors
    /// The plan file does not fit.
    pub fn base(&self, model: &OpenModel) -> Result<Plan, SessionError> {
        let options = PlanOptions {
            weights: None,
            activations: None,
            assignments: Vec::new(),
            preset: None,
            plan: self.plan.clone(),
            calibrator: self.calibrator,
            weight_calibrator: self.weight_calibrator,
            rounding: self.rounding,
            correct: self.correct,
            scheme: self.scheme,
            granularity: self.granularity,
        };
        options.plan_for(model)
    }

    /// Whether the calibrator of each activation is to be chosen before the search.
    pub fn chooses_calibrators(&self) -> bool {
        chooses_calibrators(self.calibrator, self.rounding)
    }
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArguments {
    /// The parts, as `--shard` wrote them
    #[arg(required = true, value_name = "PART")]
    pub parts: Vec<PathBuf>,
    /// File for the whole: the JSON document of `sensitivity`, or a state for `search --resume`
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The model
    pub model: PathBuf,
    /// An input: NAME=FILE.npy, or FILE.npy if the model has one input
    #[arg(long, value_name = "NAME=FILE.npy", required = true)]
    pub input: Vec<String>,
    /// Folder for one OUTPUT.npy each
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub plan: PlanOptions,
    #[command(flatten)]
    pub data_options: DataOptions,
    #[command(flatten)]
    pub compute: ComputeOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The model
    pub model: PathBuf,
    #[command(flatten)]
    pub plan: PlanOptions,
    /// Target: plan (the plan file alone), generic, onnxruntime, openvino, tensorrt, tflite, tflite-dynamic, pytorch
    #[arg(long, value_name = "NAME", default_value = "plan")]
    pub target: String,
    /// Folder that the files go to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Refuse a plan that the target cannot express, instead of changing it
    #[arg(long)]
    pub strict: bool,
    /// Replace files that are there already
    #[arg(long)]
    pub force: bool,
    /// With onnxruntime: write products of quantized weights and float inputs as `MatMulNBits`
    #[arg(long)]
    pub matmul_nbits: bool,
    /// Run the exported model on --data in a real runtime and in one of its own, and compare both with the simulation
    #[arg(long)]
    pub verify: bool,
    /// Python interpreter that has the runtime; absent: one that is found
    #[arg(long, value_name = "FILE")]
    pub python: Option<PathBuf>,
    /// Data for ranges, and to verify with
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub data_options: DataOptions,
    #[command(flatten)]
    pub compute: ComputeOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The model
    pub model: PathBuf,
    /// Evaluation data; absent: only what the plan itself says
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub data_options: DataOptions,
    #[command(flatten)]
    pub plan: PlanOptions,
    /// Measure what a target makes of the plan: generic, onnxruntime, openvino, tensorrt, tflite, tflite-dynamic, pytorch
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Measure every layer at these weight widths too, separated by commas
    #[arg(long, value_name = "B,B,…", value_delimiter = ',', requires = "data")]
    pub sensitivity: Vec<NumberFormat>,
    /// File for the page
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if it is there already
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub compute: ComputeOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// What `bench` can measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchPart {
    /// The float network
    Float,
    /// The plan, and the float network in turn with it
    Plan,
    /// Every layer at every width, only one quantized at a time
    Sensitivity,
    /// Every weight and every input on its own, at the widths of the plan's first layer
    Quantizers,
    /// The output error of every layer alone at every width, and float passes in turn with it
    LocalErrors,
    /// Evaluating again after the last third of the layers changed, and from nothing in turn with it
    Reevaluation,
}

/// Arguments of `bench`.
///
/// Samples are read before anything is timed, and stay in memory.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// The model
    pub model: PathBuf,
    /// Evaluation data; absent: random inputs in the model's shape
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What to measure, separated by commas
    #[arg(
        long,
        value_enum,
        value_name = "PART,…",
        value_delimiter = ',',
        default_value = "float,plan,sensitivity"
    )]
    pub measure: Vec<BenchPart>,
    /// How often each is measured; best and median are told
    #[arg(long, value_name = "N", default_value = "3")]
    pub repeat: std::num::NonZeroUsize,
    /// Widths of sensitivity and local errors, separated by commas
    #[arg(
        long,
        value_name = "B,B,…",
        value_delimiter = ',',
        default_value = "8,6,4,3,2"
    )]
    pub bits: Vec<NumberFormat>,
    /// What of a layer sensitivity and local errors quantize
    #[arg(long, value_enum, default_value = "weights")]
    pub what: SubjectArgument,
    #[command(flatten)]
    pub data_options: DataOptions,
    #[command(flatten)]
    pub plan: PlanOptions,
    #[command(flatten)]
    pub compute: ComputeOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn widths_beyond_16_are_refused() {
        let error = Arguments::try_parse_from([
            "quantscope",
            "eval",
            "m.onnx",
            "--data",
            "d",
            "--weights",
            "17",
        ])
        .unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("17"), "{error}");
    }

    #[test]
    fn a_plan_excludes_widths() {
        let error = Arguments::try_parse_from([
            "quantscope",
            "eval",
            "m.onnx",
            "--data",
            "d",
            "--plan",
            "p.json",
            "--weights",
            "4",
        ])
        .unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
