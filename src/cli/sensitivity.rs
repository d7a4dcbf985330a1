//! `quantscope sensitivity`: every layer at every width.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Exit;
use super::args::SensitivityArguments;
use super::eval::{Metrics, announce, thread_pool};
use super::number::{Decibel, percent};
use super::output::{self, Progress};
use super::scores::{
    Agreement, Score, ScoreReport, ScreenReport, SecondOrderReport, Uncertainty, agreements,
    second_order_scores,
};
use crate::engine::{
    Protocol, Ranges, Screens, SecondOrder, Sensitivity, SensitivityRequest, Subject, calibrate,
    resume_sensitivity, screen_weights, second_order,
};
use crate::jobs::CancelToken;
use crate::plan::{Plan, Widths};
use crate::quant::SliceErrors;
use crate::session::{OpenData, OpenModel, SessionError, SweepFile, SweepKey};

/// How often a sweep is kept while it runs.
const KEEP_EVERY: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Report {
    protocol: &'static str,
    what: &'static str,
    samples: usize,
    float: Metrics,
    layers: Vec<LayerReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second_order: Option<SecondOrderReport>,
    /// Rank correlation of each cheap score with each measured harm, by width.
    correlation: BTreeMap<String, BTreeMap<&'static str, Agreement>>,
    seconds: f64,
}

#[derive(Serialize)]
struct LayerReport {
    name: String,
    screen: Option<ScreenReport>,
    bits: BTreeMap<String, CellReport>,
}

#[derive(Serialize)]
struct CellReport {
    #[serde(flatten)]
    metrics: Metrics,
    kl: Option<f64>,
    sqnr_db: Decibel,
    local_sqnr_db: Decibel,
    uncertainty: Uncertainty,
    weight_sqnr_db: Decibel,
    #[serde(skip_serializing_if = "Option::is_none")]
    second_order: Option<ScoreReport>,
}

pub(super) fn run(arguments: &SensitivityArguments) -> Result<Exit, SessionError> {
    thread_pool(arguments.compute)?.install(|| sweep(arguments))
}

fn sweep(arguments: &SensitivityArguments) -> Result<Exit, SessionError> {
    let started = Instant::now();
    let model = OpenModel::open_with(&arguments.model, arguments.compute.arithmetic.into())?;
    let request = arguments.data_options.request(arguments.data.clone());
    let data = OpenData::open(&model, request)?;
    announce(&data, arguments.output);
    let request = SensitivityRequest {
        protocol: Protocol::from(arguments.protocol),
        subject: Subject::from(arguments.what),
        widths: arguments.bits.clone(),
    };
    let mut plan = Plan::uniform(model.layers().len(), Widths::FLOAT);
    if let Some(calibrator) = arguments.calibrator {
        plan.set_activation_calibrator(calibrator);
    }
    let ranges = ranges_for(&request, &model, &data, arguments)?;
    let mut progress = Progress::new("Sensitivity", data.evaluation.len(), arguments.output);
    let mut kept = Kept::open(arguments, &model, &data, &plan, &request)?;
    let mut failed = None;
    let result = resume_sensitivity(
        &model.executor,
        &plan,
        ranges.as_ref(),
        kept.known(&model, &request),
        &data.evaluation,
        &CancelToken::default(),
        &mut |so_far| {
            progress.show(so_far.samples, "");
            failed = kept.write(&model, so_far, false).err().or(failed.take());
        },
    )?;
    kept.write(&model, &result, true)?;
    if let Some(error) = failed {
        output::note(&format!("Not kept in between: {error}"));
    }
    let widths = &request.widths;
    let cancel = CancelToken::default();
    let screens = screen_weights(model.graph(), model.layers(), &plan, widths, &cancel)?;
    let scores = scores(&model, &data, &plan, ranges.as_ref(), arguments)?;
    let measured = Measured {
        sweep: &result,
        screens: &screens,
        scores: scores.as_ref(),
    };
    let report = report(&model, &measured, started);
    if arguments.output.json {
        output::json(&report)?;
    } else {
        print(&report, arguments);
    }
    Ok(Exit::Done)
}

fn ranges_for(
    request: &SensitivityRequest,
    model: &OpenModel,
    data: &OpenData,
    arguments: &SensitivityArguments,
) -> Result<Option<Ranges>, SessionError> {
    if request.subject == Subject::Weights {
        return Ok(None);
    }
    let mut progress = Progress::new("Calibrating", data.calibration.len(), arguments.output);
    let ranges = calibrate(
        &model.executor,
        &data.calibration,
        &CancelToken::default(),
        &mut |samples| progress.show(samples, ""),
    )?;
    Ok(Some(ranges))
}

/// What was measured before, and where it is kept.
struct Kept {
    path: Option<PathBuf>,
    file: SweepFile,
    key: SweepKey,
    written: Instant,
}

impl Kept {
    fn open(
        arguments: &SensitivityArguments,
        model: &OpenModel,
        data: &OpenData,
        plan: &Plan,
        request: &SensitivityRequest,
    ) -> Result<Self, SessionError> {
        let path = arguments.keep.clone();
        let file = match &path {
            Some(path) if path.exists() => SweepFile::read(path, model)?,
            _ => SweepFile::new(model),
        };
        Ok(Self {
            path,
            file,
            key: SweepKey::new(request, plan, &data.fingerprint, &data.evaluation),
            written: Instant::now(),
        })
    }

    fn known(&self, model: &OpenModel, request: &SensitivityRequest) -> Sensitivity {
        self.file.sweeps.known(&self.key, request, model.layers())
    }

    /// Writes at the end, and in between every few seconds.
    fn write(
        &mut self,
        model: &OpenModel,
        sweep: &Sensitivity,
        is_last: bool,
    ) -> Result<(), SessionError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        if !is_last && self.written.elapsed() < KEEP_EVERY {
            return Ok(());
        }
        self.file.sweeps.keep(&self.key, sweep, model.layers());
        self.file.write(path)?;
        self.written = Instant::now();
        Ok(())
    }
}

/// Scores by gradients, or why there are none.
struct Scores {
    found: Result<SecondOrder, String>,
    seconds: f64,
}

fn scores(
    model: &OpenModel,
    data: &OpenData,
    plan: &Plan,
    ranges: Option<&Ranges>,
    arguments: &SensitivityArguments,
) -> Result<Option<Scores>, SessionError> {
    if !arguments.second_order {
        return Ok(None);
    }
    let mut progress = Progress::new("Second order", data.calibration.len(), arguments.output);
    let batches = data.calibration.in_memory()?;
    let started = Instant::now();
    let found = second_order(
        &model.executor,
        plan,
        ranges,
        Subject::from(arguments.what),
        &arguments.bits,
        &batches,
        &CancelToken::default(),
        &mut |so_far| progress.show(so_far.samples, ""),
    );
    let seconds = started.elapsed().as_secs_f64();
    let found = found.map_err(|error| error.to_string());
    if let Err(reason) = &found {
        output::note(reason);
    }
    Ok(Some(Scores { found, seconds }))
}

struct Measured<'a> {
    sweep: &'a Sensitivity,
    screens: &'a Screens,
    scores: Option<&'a Scores>,
}

impl Measured<'_> {
    fn second_order(&self) -> Option<&SecondOrder> {
        self.scores?.found.as_ref().ok()
    }

    fn agreements(&self, column: usize) -> BTreeMap<&'static str, Agreement> {
        let screens = &self.screens.layers;
        let mut scores: Vec<Score<'_>> = vec![
            (
                "weight_sqnr_db",
                Box::new(move |layer| Some(-screens.get(layer)?.errors.get(column)?.sqnr_db())),
            ),
            (
                "local_sqnr_db",
                Box::new(move |layer| {
                    let local = self.sweep.cells.get(layer)?.get(column)?.local;
                    (local.count > 0).then(|| -local.sqnr_db())
                }),
            ),
            (
                "kurtosis",
                Box::new(move |layer| Some(screens.get(layer)?.weight?.kurtosis)),
            ),
            (
                "outlier_ratio",
                Box::new(move |layer| Some(screens.get(layer)?.weight?.outlier_ratio)),
            ),
            (
                "range_spread",
                Box::new(move |layer| Some(screens.get(layer)?.weight?.range_spread)),
            ),
        ];
        if let Some(found) = self.second_order() {
            scores.extend(second_order_scores(found, column));
        }
        agreements(self.sweep, column, &scores)
    }
}

fn report(model: &OpenModel, measured: &Measured<'_>, started: Instant) -> Report {
    let result = measured.sweep;
    let widths = &result.request.widths;
    let layers = model.layers().iter().enumerate();
    Report {
        protocol: result.request.protocol.name(),
        what: result.request.subject.name(),
        samples: result.samples,
        float: Metrics::from(&result.float),
        layers: layers
            .map(|(index, layer)| {
                let screen = measured.screens.layers.get(index);
                let cells = (0..widths.len()).filter_map(|column| {
                    let report = cell_report(measured, index, column)?;
                    Some((widths[column].to_string(), report))
                });
                LayerReport {
                    name: layer.name.clone(),
                    screen: screen.and_then(|screen| screen.weight.map(ScreenReport::from)),
                    bits: cells.collect(),
                }
            })
            .collect(),
        second_order: measured.scores.map(|scores| {
            let found = scores.found.as_ref();
            SecondOrderReport {
                objective: found.ok().map(|found| found.objective.name()),
                samples: found.map_or(0, |found| found.samples),
                seconds: scores.seconds,
                unavailable: found.err().cloned(),
            }
        }),
        correlation: (0..widths.len())
            .map(|column| (widths[column].to_string(), measured.agreements(column)))
            .collect(),
        seconds: started.elapsed().as_secs_f64(),
    }
}

fn cell_report(measured: &Measured<'_>, layer: usize, column: usize) -> Option<CellReport> {
    let cell = measured.sweep.cells.get(layer)?.get(column)?;
    let only_one = measured.sweep.request.protocol == Protocol::OnlyOne;
    let errors = measured.screens.layers.get(layer)?.errors.get(column);
    let scored = measured.second_order();
    let scored = scored.and_then(|found| found.cells.get(layer)?.get(column));
    Some(CellReport {
        metrics: Metrics::from(&cell.metrics),
        kl: cell.comparison.kl(),
        sqnr_db: Decibel(cell.comparison.sqnr_db()),
        local_sqnr_db: Decibel(only_one.then(|| cell.local.sqnr_db())),
        uncertainty: Uncertainty::from(cell),
        weight_sqnr_db: Decibel(errors.map(SliceErrors::sqnr_db)),
        second_order: scored.and_then(ScoreReport::of),
    })
}

fn print(report: &Report, arguments: &SensitivityArguments) {
    output::line(&format!(
        "{} of {}, {} samples, float top-1 {}; each cell: top-1, output SQNR in dB",
        report.protocol,
        report.what,
        report.samples,
        percent(report.float.top1)
    ));
    let widths: Vec<String> = arguments.bits.iter().map(ToString::to_string).collect();
    let header: Vec<String> = widths.iter().map(|width| format!("{width:>18}")).collect();
    output::line(&format!("{:<48}{}", "layer", header.concat()));
    for layer in &report.layers {
        let cells: Vec<String> = widths
            .iter()
            .filter_map(|width| layer.bits.get(width))
            .map(|cell| format!("{:>9}{:>9}", percent(cell.metrics.top1), cell.sqnr_db))
            .collect();
        output::line(&format!("{:<48}{}", layer.name, cells.concat()));
    }
}
