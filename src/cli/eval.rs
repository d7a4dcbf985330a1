//! `quantscope eval`: float and plan on a dataset.

use std::time::Instant;

use serde::Serialize;

use super::Exit;
use super::args::{ComputeOptions, EvalArguments, OutputOptions};
use super::export::{change_lines, change_reports};
use super::memory::peak_memory_bytes;
use super::number::{Decibel, bytes, count, percent};
use super::output::{self, Progress};
use super::tuning::tuned;
use crate::engine::{
    Classification, Evaluation, LayerErrors, Ranges, calibrate_values, evaluate_plan,
};
use crate::jobs::CancelToken;
use crate::model::ValueId;
use crate::plan::{LayerPlan, Plan, TargetProfile, cost, fit, layer_cost};
use crate::quant::{Calibrator, NumberFormat, SliceErrors};
use crate::session::{ExportSource, OpenData, OpenModel, SessionError, StoredModel, Tuned};

#[derive(Serialize)]
struct Report {
    samples: usize,
    calibration_samples: usize,
    skipped: Vec<SkippedFile>,
    float: Metrics,
    plan: Metrics,
    agreement: Option<f64>,
    kl: Option<f64>,
    sqnr_db: Decibel,
    float_size_bytes: u64,
    size_bytes: u64,
    average_weight_bits: f64,
    average_activation_bits: f64,
    macs: u64,
    bops: u64,
    layers: Vec<LayerReport>,
    seconds: Seconds,
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct SkippedFile {
    file: String,
    reason: String,
}

/// Metrics of a classifier; all absent without labels.
#[derive(Serialize)]
pub(super) struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top1: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top5: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<f64>,
}

impl From<&Classification> for Metrics {
    fn from(counts: &Classification) -> Self {
        Self {
            top1: counts.top1(),
            top5: counts.top5(),
            loss: counts.loss(),
        }
    }
}

#[derive(Serialize)]
struct LayerReport {
    name: String,
    weight_bits: u32,
    activation_bits: u32,
    weight_sqnr_db: Decibel,
    activation_sqnr_db: Decibel,
    output_sqnr_db: Decibel,
    saturation: Option<f64>,
    size_bytes: u64,
    /// How the range of the input was chosen.
    calibrator: Calibrator,
    /// How the weight was rounded, where that took calibration data.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<String>,
}

#[derive(Serialize)]
struct Seconds {
    load: f64,
    decode: f64,
    calibrate: f64,
    float: f64,
    plan: f64,
    total: f64,
}

pub(super) fn run(arguments: &EvalArguments) -> Result<Exit, SessionError> {
    thread_pool(arguments.compute)?.install(|| evaluate(arguments))
}

/// The pool that a command computes on.
pub(super) fn thread_pool(options: ComputeOptions) -> Result<rayon::ThreadPool, SessionError> {
    let threads = options.threads.map_or(0, std::num::NonZeroUsize::get);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| SessionError::Missing(format!("cannot start {threads} threads: {error}")))
}

fn evaluate(arguments: &EvalArguments) -> Result<Exit, SessionError> {
    let started = Instant::now();
    let model = OpenModel::open_with(&arguments.model, arguments.compute.arithmetic.into())?;
    let mut plan = arguments.plan.plan_for(&model)?;
    let target = arguments.target.as_deref().map(TargetProfile::by_name);
    let target = target.transpose()?;
    if let Some(profile) = target {
        let fitted = fit(&plan, model.layers(), profile);
        for line in change_lines(&change_reports(&model, &fitted)) {
            output::note(&format!("changed for {}: {line}", profile.label));
        }
        plan = fitted.plan;
    }
    let load = started.elapsed().as_secs_f64();
    let data = open_data(&model, arguments)?;
    let before_calibration = Instant::now();
    let tuned = tuned(&model, plan, &data, &arguments.plan, arguments.output)?;
    let calibrate = before_calibration.elapsed().as_secs_f64();
    let plan = &tuned.plan;
    let stored = target
        .map(|profile| stored_model(&model, &tuned, &data, profile))
        .transpose()?;
    let (executor, prepared) = match &stored {
        Some(stored) => (&stored.executor, stored.prepared.clone()),
        None => (&*tuned.executor, tuned.prepared.clone()),
    };
    let mut progress = Progress::new("Evaluating", data.evaluation.len(), arguments.output);
    let evaluation = evaluate_plan(
        executor,
        &prepared,
        &data.evaluation,
        None,
        usize::MAX,
        &CancelToken::default(),
        &mut |so_far| progress.show(so_far.samples, &accuracy_so_far(so_far)),
    )?;
    let cost = cost(model.layers(), plan, model.other_parameters);
    let report = Report {
        samples: evaluation.samples,
        calibration_samples: calibration_samples(&tuned),
        skipped: skipped_files(&data),
        float: Metrics::from(&evaluation.float),
        plan: Metrics::from(&evaluation.plan),
        agreement: evaluation.comparison.agreement(),
        kl: evaluation.comparison.kl(),
        sqnr_db: Decibel(evaluation.comparison.sqnr_db()),
        float_size_bytes: cost.float_size_bytes,
        size_bytes: stored
            .as_ref()
            .map_or(cost.size_bytes, |stored| stored.size_bytes),
        average_weight_bits: cost.average_weight_bits,
        average_activation_bits: cost.average_activation_bits,
        macs: cost.macs,
        bops: cost.bops,
        layers: layer_reports(&model, &tuned, &evaluation),
        seconds: Seconds {
            load,
            decode: data.evaluation.decode_secs() + data.calibration.decode_secs(),
            calibrate,
            float: evaluation.float_secs,
            plan: evaluation.plan_secs,
            total: started.elapsed().as_secs_f64(),
        },
        peak_memory_bytes: peak_memory_bytes(),
    };
    if arguments.output.json {
        output::json(&report)?;
    } else {
        print(&report, &evaluation);
    }
    Ok(check(arguments, &report))
}

/// What a target makes of the plan.
pub(super) fn stored_model(
    model: &OpenModel,
    tuned: &Tuned,
    data: &OpenData,
    profile: &TargetProfile,
) -> Result<StoredModel, SessionError> {
    let source = ExportSource::of(tuned, profile, data, &CancelToken::default())?;
    StoredModel::of(model, &tuned.plan, &source, profile)
}

fn open_data(model: &OpenModel, arguments: &EvalArguments) -> Result<OpenData, SessionError> {
    let request = arguments.data_options.request(arguments.data.clone());
    let data = OpenData::open(model, request)?;
    announce(&data, arguments.output);
    Ok(data)
}

/// Says aloud what was guessed.
pub(super) fn announce(data: &OpenData, options: OutputOptions) {
    if let (Some(why), false) = (&data.preprocess_guess, options.quiet) {
        output::note(&format!(
            "Preprocessing guessed: {} ({why}); choose another with --preprocess",
            data.preprocess
        ));
    }
}

/// Whether the plan needs ranges.
pub(super) fn quantizes_activations(plan: &Plan) -> bool {
    let quantizes = |layer: &LayerPlan| layer.activation.format != NumberFormat::F32;
    plan.layers().iter().any(quantizes)
}

/// Calibrates if the plan quantizes any activation.
pub(super) fn ranges_for(
    plan: &Plan,
    model: &OpenModel,
    data: &OpenData,
    more: &[ValueId],
    options: OutputOptions,
) -> Result<Option<Ranges>, SessionError> {
    if quantizes_activations(plan) {
        calibrated(model, data, more, options).map(Some)
    } else {
        Ok(None)
    }
}

/// Statistics of the layers' inputs, and of `more` values, on the calibration samples.
pub(super) fn calibrated(
    model: &OpenModel,
    data: &OpenData,
    more: &[ValueId],
    options: OutputOptions,
) -> Result<Ranges, SessionError> {
    let mut progress = Progress::new("Calibrating", data.calibration.len(), options);
    let ranges = calibrate_values(
        &model.executor,
        &data.calibration,
        more,
        &CancelToken::default(),
        &mut |samples| progress.show(samples, ""),
    )?;
    Ok(ranges)
}

/// Samples that ranges and weights were made on.
fn calibration_samples(tuned: &Tuned) -> usize {
    let ranges = tuned.ranges.as_ref().map_or(0, |ranges| ranges.samples);
    let rounded = tuned.rounded.as_ref().map_or(0, |rounded| rounded.samples);
    ranges.max(rounded)
}

fn accuracy_so_far(evaluation: &Evaluation) -> String {
    match (evaluation.float.top1(), evaluation.plan.top1()) {
        (Some(float), Some(plan)) => format!(
            "- top-1 float {:.2} %, plan {:.2} %",
            float * 100.0,
            plan * 100.0
        ),
        _ => String::new(),
    }
}

pub(super) fn skipped_files(data: &OpenData) -> Vec<SkippedFile> {
    let mut skipped = data.evaluation.loader().skipped();
    skipped.extend(data.calibration.loader().skipped());
    let mut files: Vec<SkippedFile> = Vec::new();
    for one in skipped {
        if !files
            .iter()
            .any(|file| file.file == one.file && file.reason == one.reason)
        {
            files.push(SkippedFile {
                file: one.file,
                reason: one.reason,
            });
        }
    }
    files
}

fn layer_reports(model: &OpenModel, tuned: &Tuned, evaluation: &Evaluation) -> Vec<LayerReport> {
    let rounded = |index: usize| tuned.rounded.as_ref()?.layers().get(index)?.as_ref();
    model
        .layers()
        .iter()
        .zip(tuned.plan.layers())
        .zip(&evaluation.layers)
        .enumerate()
        .map(|(index, ((layer, choice), errors))| {
            let LayerErrors {
                weight,
                activation,
                output,
            } = errors;
            let level = |errors: &Option<SliceErrors>| {
                Decibel(Some(
                    errors.as_ref().map_or(f64::INFINITY, SliceErrors::sqnr_db),
                ))
            };
            LayerReport {
                name: layer.name.clone(),
                weight_bits: choice.weight.format.bits(),
                activation_bits: choice.activation.format.bits(),
                weight_sqnr_db: level(weight),
                activation_sqnr_db: level(activation),
                output_sqnr_db: Decibel(Some(output.sqnr_db())),
                saturation: activation.as_ref().map(SliceErrors::saturation),
                size_bytes: layer_cost(layer, choice).size_bytes,
                calibrator: choice.activation.calibrator,
                rounding: rounded(index).map(|rounded| rounded.method.to_string()),
            }
        })
        .collect()
}

fn print(report: &Report, evaluation: &Evaluation) {
    output::line(&format!(
        "{:<10} {:>9} {:>9} {:>8}",
        "", "top-1", "top-5", "loss"
    ));
    for (name, metrics) in [("float", &report.float), ("plan", &report.plan)] {
        output::line(&format!(
            "{name:<10} {:>9} {:>9} {:>8}",
            percent(metrics.top1),
            percent(metrics.top5),
            metrics
                .loss
                .map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}")),
        ));
    }
    if let Some((low, high)) = evaluation.plan.top1_interval() {
        output::line(&format!(
            "plan top-1 95 % interval {:.2} .. {:.2} % on {} samples",
            low * 100.0,
            high * 100.0,
            report.samples
        ));
    }
    output::line(&format!(
        "agreement {}, KL {}, output SQNR {} dB",
        percent(report.agreement),
        report
            .kl
            .map_or_else(|| "-".to_owned(), |kl| format!("{kl:.5} nats")),
        report.sqnr_db
    ));
    output::line(&format!(
        "size {} of {} ({:.2} times smaller), average bits W {:.2} A {:.2}, {} BOPs",
        bytes(report.size_bytes),
        bytes(report.float_size_bytes),
        report.float_size_bytes as f64 / report.size_bytes.max(1) as f64,
        report.average_weight_bits,
        report.average_activation_bits,
        count(report.bops as f64)
    ));
    output::line(&format!(
        "{:<48} {:>4} {:>4} {:>10} {:>10} {:>10}",
        "layer", "W", "A", "W SQNR dB", "A SQNR dB", "out dB"
    ));
    for layer in &report.layers {
        output::line(&format!(
            "{:<48} {:>4} {:>4} {:>10} {:>10} {:>10}",
            layer.name,
            layer.weight_bits,
            layer.activation_bits,
            layer.weight_sqnr_db,
            layer.activation_sqnr_db,
            layer.output_sqnr_db
        ));
        if let Some(rounding) = &layer.rounding {
            output::line(&format!("  rounded: {rounding}"));
        }
    }
    for file in &report.skipped {
        output::note(&format!("skipped {}: {}", file.file, file.reason));
    }
}

fn check(arguments: &EvalArguments, report: &Report) -> Exit {
    let checks = [
        ("top-1", report.plan.top1, arguments.min_top1),
        ("agreement", report.agreement, arguments.min_agreement),
        ("SQNR in dB", report.sqnr_db.0, arguments.min_sqnr_db),
    ];
    let mut exit = Exit::Done;
    for (name, value, least) in checks {
        let Some(least) = least else { continue };
        if value.is_none_or(|value| value < least) {
            let value = value.map_or_else(|| "not known".to_owned(), |value| format!("{value:.4}"));
            output::note(&format!(
                "check failed: {name} is {value}, at least {least} was asked for"
            ));
            exit = Exit::CheckFailed;
        }
    }
    exit
}
