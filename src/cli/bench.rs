//! `quantscope bench`: how fast this machine runs a model.
//!
//! Samples are read beforehand and held in memory, so reading and decoding is in no figure. What is
//! compared is run in turn, repeat by repeat.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tempfile::TempDir;

use super::Exit;
use super::args::{BenchArguments, BenchPart};
use super::eval::{announce, ranges_for, thread_pool};
use super::output::{self, Progress};
use super::random_inputs::random_inputs;
use super::timing::Timing;
use crate::engine::{
    ActivationCache, Batches, Executor, LayerSettings, PreparedPlan, Protocol, Ranges, RunError,
    Sensitivity, SensitivityRequest, Subject, evaluate_float, evaluate_plan, evaluate_plan_cached,
    local_errors, run_batches, sensitivity, sensitivity_part,
};
use crate::jobs::CancelToken;
use crate::model::LayerId;
use crate::plan::{Cost, Plan, cost};
use crate::quant::NumberFormat;
use crate::session::{LAYER_ERROR_SAMPLES, OpenData, OpenModel, SessionError, default_cache_bytes};

/// Samples where neither data nor a limit says how many.
const SAMPLES: usize = 64;

#[derive(Serialize)]
struct Report {
    model: String,
    threads: usize,
    batch: usize,
    samples: usize,
    random_inputs: bool,
    repeats: usize,
    float: Option<Speed>,
    plan: Option<PlanSpeed>,
    plan_over_float: Option<f64>,
    sensitivity: Option<SweepTime>,
    quantizers: Option<SweepTime>,
    local_errors: Option<LocalErrorTime>,
    reevaluation: Option<ReevaluationTime>,
}

/// Forward passes over all samples.
#[derive(Serialize)]
struct Speed {
    images_per_second: f64,
    median_images_per_second: f64,
    seconds: f64,
    median_seconds: f64,
    runs: Vec<f64>,
}

impl Speed {
    fn new(timing: &Timing, samples: usize) -> Self {
        Self {
            images_per_second: samples as f64 / timing.best(),
            median_images_per_second: samples as f64 / timing.median(),
            seconds: timing.best(),
            median_seconds: timing.median(),
            runs: timing.runs().to_vec(),
        }
    }
}

#[derive(Serialize)]
struct PlanSpeed {
    #[serde(flatten)]
    speed: Speed,
    average_weight_bits: f64,
    average_activation_bits: f64,
}

/// Measuring the whole network once for every cell, quantizing and packing included.
#[derive(Serialize)]
struct SweepTime {
    what: &'static str,
    widths: Vec<String>,
    samples: usize,
    cells: usize,
    seconds: f64,
    median_seconds: f64,
    runs: Vec<f64>,
    seconds_per_cell: f64,
}

#[derive(Serialize)]
struct LocalErrorTime {
    what: &'static str,
    widths: Vec<String>,
    samples: usize,
    seconds: f64,
    median_seconds: f64,
    runs: Vec<f64>,
    float_seconds: f64,
    float_runs: Vec<f64>,
    /// Seconds over those of a float pass over the same samples.
    float_passes: f64,
}

/// Measuring a changed plan with what the evaluation before it left, and from nothing.
///
/// Both have the float outputs, as the window has them by then, and both measure layer errors.
#[derive(Serialize)]
struct ReevaluationTime {
    changed_layers: usize,
    samples: usize,
    warm_seconds: f64,
    warm_runs: Vec<f64>,
    cold_seconds: f64,
    cold_runs: Vec<f64>,
    warm_over_cold: f64,
}

pub(super) fn run(arguments: &BenchArguments) -> Result<Exit, SessionError> {
    thread_pool(arguments.compute)?.install(|| measure(arguments))
}

fn measure(arguments: &BenchArguments) -> Result<Exit, SessionError> {
    let model = OpenModel::open_with(&arguments.model, arguments.compute.arithmetic.into())?;
    let inputs = Inputs::open(&model, arguments)?;
    let plan = arguments.plan.fixed_plan_for(&model)?;
    let ranges = ranges_for(&plan, &model, &inputs.data, &[], arguments.output)?;
    let batches = inputs.data.evaluation.in_memory()?;
    let bench = Bench {
        arguments,
        model: &model,
        plan: &plan,
        ranges: ranges.as_ref(),
        samples: readable(&batches)?,
        batches,
    };
    let report = bench.report(inputs.is_random())?;
    if arguments.output.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    Ok(Exit::Done)
}

/// Number of samples that could be read.
fn readable(batches: &Batches) -> Result<usize, SessionError> {
    let lengths: Result<Vec<usize>, RunError> =
        batches.iter().map(|batch| Ok(batch?.len)).collect();
    let samples = lengths?.iter().sum();
    if samples == 0 {
        return Err(SessionError::Missing(
            "No sample could be read; choose a folder with readable samples".to_owned(),
        ));
    }
    Ok(samples)
}

/// The samples, and the folder of random ones while it is needed.
struct Inputs {
    data: OpenData,
    random: Option<TempDir>,
}

impl Inputs {
    fn open(model: &OpenModel, arguments: &BenchArguments) -> Result<Self, SessionError> {
        let mut options = arguments.data_options.clone();
        let samples = *options.limit.get_or_insert(SAMPLES);
        let (folder, random): (PathBuf, _) = if let Some(folder) = &arguments.data {
            (folder.clone(), None)
        } else {
            let made = random_inputs(model, samples, options.seed)?;
            let folder = made.path().to_owned();
            options.calib.get_or_insert_with(|| folder.clone());
            (folder, Some(made))
        };
        let data = OpenData::open(model, options.request(folder))?;
        if random.is_none() {
            announce(&data, arguments.output);
        } else if !arguments.output.quiet {
            output::note(&format!(
                "No --data: {samples} random inputs are fed, and calibrate the plan"
            ));
        }
        Ok(Self { data, random })
    }

    fn is_random(&self) -> bool {
        self.random.is_some()
    }
}

/// What is measured, and on what.
struct Bench<'a> {
    arguments: &'a BenchArguments,
    model: &'a OpenModel,
    plan: &'a Plan,
    ranges: Option<&'a Ranges>,
    batches: Batches,
    samples: usize,
}

impl Bench<'_> {
    fn report(&self, random_inputs: bool) -> Result<Report, SessionError> {
        let (float, plan) = self.speeds()?;
        let plan_over_float = float
            .as_ref()
            .zip(plan.as_ref())
            .map(|(float, plan)| plan.speed.seconds / float.seconds);
        Ok(Report {
            model: self.model.graph().metadata().name.clone(),
            threads: rayon::current_num_threads(),
            batch: self.batches.batch_size().min(self.samples),
            samples: self.samples,
            random_inputs,
            repeats: self.arguments.repeat.get(),
            float,
            plan,
            plan_over_float,
            sensitivity: self.sensitivity()?,
            quantizers: self.quantizers()?,
            local_errors: self.local_errors()?,
            reevaluation: self.reevaluation()?,
        })
    }

    fn wants(&self, part: BenchPart) -> bool {
        self.arguments.measure.contains(&part)
    }

    /// Progress that counts repeats.
    fn progress(&self, name: &'static str) -> Progress {
        Progress::new(name, self.arguments.repeat.get(), self.arguments.output)
    }

    /// Float and plan in turn.
    fn speeds(&self) -> Result<(Option<Speed>, Option<PlanSpeed>), SessionError> {
        let with_plan = self.wants(BenchPart::Plan);
        if !with_plan && !self.wants(BenchPart::Float) {
            return Ok((None, None));
        }
        let executor = &self.model.executor;
        let float = executor.prepare_float()?;
        let plan = with_plan
            .then(|| executor.prepare(self.plan, self.ranges))
            .transpose()?;
        let (mut float_timing, mut plan_timing) = (Timing::default(), Timing::default());
        let warm = self.batches.first(self.batches.batch_size()).in_memory()?;
        for prepared in [Some(&float), plan.as_ref()].into_iter().flatten() {
            forward_pass(executor, prepared, &warm)?;
        }
        let mut progress = self.progress("Forward passes");
        for repeat in 1..=self.arguments.repeat.get() {
            float_timing.time(|| forward_pass(executor, &float, &self.batches))?;
            if let Some(plan) = &plan {
                plan_timing.time(|| forward_pass(executor, plan, &self.batches))?;
            }
            progress.show(repeat, "");
        }
        let plan = plan.map(|_| {
            let Cost {
                average_weight_bits,
                average_activation_bits,
                ..
            } = cost(self.model.layers(), self.plan, self.model.other_parameters);
            PlanSpeed {
                speed: Speed::new(&plan_timing, self.samples),
                average_weight_bits,
                average_activation_bits,
            }
        });
        Ok((Some(Speed::new(&float_timing, self.samples)), plan))
    }

    fn sensitivity(&self) -> Result<Option<SweepTime>, SessionError> {
        if !self.wants(BenchPart::Sensitivity) {
            return Ok(None);
        }
        let subject = Subject::from(self.arguments.what);
        let ranges = self.ranges_for_inputs(subject)?;
        let mut timing = Timing::default();
        let mut progress = self.progress("Sensitivity");
        for repeat in 1..=self.arguments.repeat.get() {
            let executor = self.cold_executor();
            timing
                .time(|| self.sweep(&executor, ranges.as_ref(), subject, &self.arguments.bits))?;
            progress.show(repeat, "");
        }
        Ok(Some(self.sweep_time(
            &timing,
            subject.name(),
            &self.arguments.bits,
            self.model.layers().len() * self.arguments.bits.len(),
        )))
    }

    /// Every weight and every input, each alone, at the widths of the plan's first layer.
    fn quantizers(&self) -> Result<Option<SweepTime>, SessionError> {
        if !self.wants(BenchPart::Quantizers) {
            return Ok(None);
        }
        let ranges = self.ranges_for_inputs(Subject::Activations)?;
        let widths = self.plan.layers().first().map_or_else(Vec::new, |layer| {
            vec![
                (Subject::Weights, layer.weight.format),
                (Subject::Activations, layer.activation.format),
            ]
        });
        let mut timing = Timing::default();
        let mut progress = self.progress("Quantizers");
        for repeat in 1..=self.arguments.repeat.get() {
            let executor = self.cold_executor();
            timing.time(|| self.sweep_apart(&executor, ranges.as_ref(), &widths))?;
            progress.show(repeat, "");
        }
        let formats: Vec<NumberFormat> = widths.iter().map(|(_, format)| *format).collect();
        Ok(Some(self.sweep_time(
            &timing,
            "weights and activations apart",
            &formats,
            2 * self.model.layers().len(),
        )))
    }

    fn local_errors(&self) -> Result<Option<LocalErrorTime>, SessionError> {
        if !self.wants(BenchPart::LocalErrors) {
            return Ok(None);
        }
        let subject = Subject::from(self.arguments.what);
        let ranges = self.ranges_for_inputs(subject)?;
        let float = self.model.executor.prepare_float()?;
        let (mut timing, mut float_timing) = (Timing::default(), Timing::default());
        let mut progress = self.progress("Local errors");
        for repeat in 1..=self.arguments.repeat.get() {
            float_timing.time(|| forward_pass(&self.model.executor, &float, &self.batches))?;
            let executor = self.cold_executor();
            timing.time(|| {
                local_errors(
                    &executor,
                    self.plan,
                    ranges.as_ref(),
                    subject,
                    &self.arguments.bits,
                    &self.batches,
                    &CancelToken::default(),
                    &mut |_| {},
                )
            })?;
            progress.show(repeat, "");
        }
        Ok(Some(LocalErrorTime {
            what: subject.name(),
            widths: names(&self.arguments.bits),
            samples: self.samples,
            seconds: timing.best(),
            median_seconds: timing.median(),
            runs: timing.runs().to_vec(),
            float_seconds: float_timing.best(),
            float_runs: float_timing.runs().to_vec(),
            float_passes: timing.best() / float_timing.best(),
        }))
    }

    fn reevaluation(&self) -> Result<Option<ReevaluationTime>, SessionError> {
        if !self.wants(BenchPart::Reevaluation) {
            return Ok(None);
        }
        let executor = &self.model.executor;
        let (changed, changed_layers) = self.plan_with_last_third_changed();
        let before = executor.prepare(self.plan, self.ranges)?;
        let after = executor.prepare(&changed, self.ranges)?;
        let cancel = CancelToken::default();
        let reference = evaluate_float(executor, &self.batches, &cancel, &mut |_| {})?;
        let cache =
            |bytes| ActivationCache::new(executor, &self.batches, LAYER_ERROR_SAMPLES, bytes);
        let evaluate = |plan, cache: &ActivationCache| {
            evaluate_plan_cached(
                executor,
                plan,
                cache,
                Some(&reference),
                &cancel,
                &mut |_| {},
            )
        };
        let (mut warm, mut cold) = (Timing::default(), Timing::default());
        let mut progress = self.progress("Evaluating again");
        for repeat in 1..=self.arguments.repeat.get() {
            cold.time(|| {
                let executor = self.cold_executor();
                let plan = executor.prepare(&changed, self.ranges)?;
                let reference = evaluate_float(&executor, &self.batches, &cancel, &mut |_| {})?;
                evaluate_plan(
                    &executor,
                    &plan,
                    &self.batches,
                    Some(&reference),
                    LAYER_ERROR_SAMPLES,
                    &cancel,
                    &mut |_| {},
                )
            })?;
            let filled = cache(default_cache_bytes());
            evaluate(&before, &filled)?;
            warm.time(|| evaluate(&after, &filled))?;
            progress.show(repeat, "");
        }
        Ok(Some(ReevaluationTime {
            changed_layers,
            samples: self.samples,
            warm_seconds: warm.best(),
            warm_runs: warm.runs().to_vec(),
            cold_seconds: cold.best(),
            cold_runs: cold.runs().to_vec(),
            warm_over_cold: warm.best() / cold.best(),
        }))
    }

    /// The plan with other weights in the last third of its layers, and how many these are.
    fn plan_with_last_third_changed(&self) -> (Plan, usize) {
        let layers = self.plan.layers().len() as u32;
        let count = layers.div_ceil(3);
        let last: Vec<LayerId> = (layers - count..layers).map(LayerId).collect();
        let mut changed = self.plan.clone();
        changed.edit(&last, |choice| {
            let width = if choice.weight.format.bits() == 4 {
                8
            } else {
                4
            };
            if let Ok(format) = NumberFormat::int(width) {
                choice.weight.format = format;
            }
        });
        (changed, count as usize)
    }

    /// Ranges where inputs are quantized, also for a plan that quantizes none.
    fn ranges_for_inputs(&self, subject: Subject) -> Result<Option<Ranges>, SessionError> {
        if subject == Subject::Weights {
            return Ok(None);
        }
        self.ranges.cloned().map(Some).ok_or_else(|| {
            SessionError::Missing(
                "the plan quantizes no input, so none was calibrated; give --activations B"
                    .to_owned(),
            )
        })
    }

    /// An executor that has quantized and packed nothing yet.
    fn cold_executor(&self) -> Executor {
        Executor::new(Arc::clone(self.model.executor.graph()))
    }

    fn sweep(
        &self,
        executor: &Executor,
        ranges: Option<&Ranges>,
        subject: Subject,
        widths: &[NumberFormat],
    ) -> Result<(), RunError> {
        let request = SensitivityRequest {
            protocol: Protocol::OnlyOne,
            subject,
            widths: widths.to_vec(),
        };
        sensitivity(
            executor,
            self.plan,
            ranges,
            &request,
            &self.batches,
            &CancelToken::default(),
            &mut |_| {},
        )?;
        Ok(())
    }

    /// Each part of each layer alone, in one pass over the samples.
    fn sweep_apart(
        &self,
        executor: &Executor,
        ranges: Option<&Ranges>,
        columns: &[(Subject, NumberFormat)],
    ) -> Result<(), RunError> {
        let cancel = CancelToken::default();
        let mut settings: Option<LayerSettings> = None;
        for (subject, width) in columns {
            let own =
                LayerSettings::new(executor, self.plan, ranges, *subject, &[*width], &cancel)?;
            settings = Some(match settings {
                None => own,
                Some(before) => before.beside(own),
            });
        }
        let Some(settings) = settings else {
            return Ok(());
        };
        let request = SensitivityRequest {
            protocol: Protocol::OnlyOne,
            subject: Subject::Both,
            widths: columns.iter().map(|(_, width)| *width).collect(),
        };
        let layers = executor.layers().len();
        let known = Sensitivity::new(request, layers, self.batches.len());
        let (all, ignored) = (|_| true, &mut |_: &Sensitivity| {});
        sensitivity_part(
            executor,
            &settings,
            known,
            &all,
            &self.batches,
            &cancel,
            ignored,
        )?;
        Ok(())
    }

    fn sweep_time(
        &self,
        timing: &Timing,
        what: &'static str,
        widths: &[NumberFormat],
        cells: usize,
    ) -> SweepTime {
        SweepTime {
            what,
            widths: names(widths),
            samples: self.samples,
            cells,
            seconds: timing.best(),
            median_seconds: timing.median(),
            runs: timing.runs().to_vec(),
            seconds_per_cell: timing.best() / cells.max(1) as f64,
        }
    }
}

fn names(widths: &[NumberFormat]) -> Vec<String> {
    widths.iter().map(ToString::to_string).collect()
}

/// Runs all batches and lets go of the outputs.
fn forward_pass(
    executor: &Executor,
    prepared: &PreparedPlan,
    batches: &Batches,
) -> Result<(), RunError> {
    let cancel = CancelToken::default();
    run_batches(executor, prepared, batches, &cancel, |_, _| Ok(()))
}

fn print(report: &Report) {
    output::line(&format!(
        "{}: {} samples in batches of {}, {} threads, best (median) of {}",
        report.model, report.samples, report.batch, report.threads, report.repeats
    ));
    let speed = |name: &str, speed: &Speed| {
        output::line(&format!(
            "{name:<14} {:>10.1} ({:.1}) images/s",
            speed.images_per_second, speed.median_images_per_second
        ));
    };
    if let Some(float) = &report.float {
        speed("float", float);
    }
    if let Some(plan) = &report.plan {
        speed("plan", &plan.speed);
    }
    if let Some(ratio) = report.plan_over_float {
        output::line(&format!("plan / float   {ratio:>10.2} of the time"));
    }
    for (name, sweep) in [
        ("sensitivity", &report.sensitivity),
        ("quantizers", &report.quantizers),
    ] {
        let Some(sweep) = sweep else { continue };
        output::line(&format!(
            "{name:<14} {:>10.3} ({:.3}) s for {} cells, {} at {} bits",
            sweep.seconds,
            sweep.median_seconds,
            sweep.cells,
            sweep.what,
            sweep.widths.join(", ")
        ));
    }
    if let Some(local) = &report.local_errors {
        output::line(&format!(
            "local errors   {:>10.3} ({:.3}) s, {:.2} float passes, {} at {} bits",
            local.seconds,
            local.median_seconds,
            local.float_passes,
            local.what,
            local.widths.join(", ")
        ));
    }
    if let Some(again) = &report.reevaluation {
        output::line(&format!(
            "evaluating again {:>7.3} s with {} layers changed, {:.0} % of {:.3} s from nothing",
            again.warm_seconds,
            again.changed_layers,
            100.0 * again.warm_over_cold,
            again.cold_seconds
        ));
    }
}
