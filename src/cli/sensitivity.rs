//! `quantscope sensitivity`: every layer at every width.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

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
    LayerSettings, Protocol, Ranges, Screens, SecondOrder, Sensitivity, SensitivityCell,
    SensitivityRequest, Subject, calibrate, screen_weights, second_order, sensitivity_part,
};
use crate::jobs::CancelToken;
use crate::plan::{Fingerprint, Plan, Widths};
use crate::quant::{NumberFormat, SliceErrors};
use crate::search::{SearchError, Shard, StoredSweep, studied};
use crate::session::{OpenData, OpenModel, SessionError, in_file, read_progress, write_json};

#[derive(Serialize)]
pub(super) struct Report {
    protocol: String,
    what: String,
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
    if let Some(granularity) = arguments.granularity {
        plan.set_weight_granularity(granularity);
    }
    let ranges = ranges_for(&request, &model, &data, arguments)?;
    let names: Vec<String> = model.layers().iter().map(|l| l.name.clone()).collect();
    let shard = arguments.part.shard.unwrap_or(Shard::WHOLE);
    let fingerprint = fingerprint(&model, &data, &plan, &request);
    let kept = kept_in(arguments);
    let earlier = match &kept {
        Some(path) => read_progress::<StoredSweep>(path)?
            .map(|sweep| match sweep.check(&fingerprint, shard) {
                Ok(()) => Ok(sweep),
                Err(error) => Err(in_file(path, &error)),
            })
            .transpose()?,
        None => None,
    };
    let seconds_before = earlier.as_ref().map_or(0.0, |sweep| sweep.seconds);
    let begun = earlier.as_ref().and_then(StoredSweep::sweep);
    let layers = model.layers().len();
    let known =
        begun.unwrap_or_else(|| Sensitivity::new(request.clone(), layers, data.evaluation.len()));
    let widths = &request.widths;
    let screens = {
        let cancel = CancelToken::default();
        screen_weights(model.graph(), model.layers(), &plan, widths, &cancel)?
    };
    let mut progress = Progress::new("Sensitivity", data.evaluation.len(), arguments.output);
    let mut failed = None;
    let cancel = CancelToken::default();
    let stored = |sweep: &_| {
        let seconds = seconds_before + started.elapsed().as_secs_f64();
        StoredSweep::new(sweep, shard, &fingerprint, &names, seconds).with_screens(&screens)
    };
    let settings = LayerSettings::new(
        &model.executor,
        &plan,
        ranges.as_ref(),
        request.subject,
        &request.widths,
        &cancel,
    )?;
    let result = sensitivity_part(
        &model.executor,
        &settings,
        known,
        &studied(shard),
        &data.evaluation,
        &cancel,
        &mut |so_far| {
            progress.show(so_far.samples, "");
            let written = kept.as_ref().map(|path| write_json(path, &stored(so_far)));
            if let Some(Err(error)) = written {
                // What cannot be stored is not worth computing.
                failed.get_or_insert(error);
                cancel.cancel();
            }
        },
    );
    if let Some(error) = failed {
        return Err(error);
    }
    let mut sweep = stored(&result?);
    // Unreadable samples are left out; the sweep is done nevertheless.
    sweep.total = sweep.samples;
    let scores = scores(&model, &data, &plan, ranges.as_ref(), arguments)?;
    finish(&sweep, scores.as_ref(), kept, arguments)
}

/// Writes and prints what was asked for.
fn finish(
    sweep: &StoredSweep,
    scores: Option<&Scores>,
    kept: Option<PathBuf>,
    arguments: &SensitivityArguments,
) -> Result<Exit, SessionError> {
    if let Some(path) = &kept {
        write_json(path, sweep)?;
    }
    if !sweep.shard.is_whole() {
        if !arguments.output.quiet {
            output::note(&format!(
                "Part {} is done; when all are, join them with `quantscope merge`",
                sweep.shard
            ));
        }
        return Ok(Exit::Done);
    }
    let report = report(sweep, scores)?;
    if let Some(path) = &arguments.out {
        write_json(path, &report)?;
    }
    if arguments.part.resume.is_none()
        && let Some(path) = kept
    {
        // The result is written; what led to it is not needed any more.
        std::fs::remove_file(path).ok();
    }
    if arguments.output.json {
        output::json(&report)?;
    } else {
        print(&report, &sweep.widths);
    }
    Ok(Exit::Done)
}

/// Where progress is kept: the part itself, or a file beside the result.
fn kept_in(arguments: &SensitivityArguments) -> Option<PathBuf> {
    let beside = || {
        let out = arguments.out.clone()?;
        if arguments.part.shard.is_some_and(|shard| !shard.is_whole()) {
            return Some(out);
        }
        let mut name = out.into_os_string();
        name.push(".progress");
        Some(PathBuf::from(name))
    };
    arguments.part.resume.clone().or_else(beside)
}

/// Identifies model, data, preprocessing and settings of a sweep.
fn fingerprint(
    model: &OpenModel,
    data: &OpenData,
    plan: &Plan,
    request: &SensitivityRequest,
) -> Fingerprint {
    let widths: Vec<String> = request.widths.iter().map(ToString::to_string).collect();
    let settings = format!(
        "{}|{}|{}|{}|{}",
        request.protocol.name(),
        request.subject.name(),
        widths.join(","),
        data.evaluation.batch_size(),
        data.evaluation.len()
    );
    Fingerprint::of_parts([
        b"sensitivity".as_slice(),
        model.identity().sha256.0.as_bytes(),
        data.fingerprint.0.as_bytes(),
        plan.fingerprint().0.as_bytes(),
        settings.as_bytes(),
    ])
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

/// Scores by gradients, or why there are none.
pub(super) struct Scores {
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

/// The document of a whole sweep.
///
/// # Errors
/// The protocol, what was quantized or a size in a stored sweep is not known.
pub(super) fn report(
    stored: &StoredSweep,
    scores: Option<&Scores>,
) -> Result<Report, SessionError> {
    let unknown = || SearchError::Foreign("it names no sweep that this program knows".to_owned());
    let sweep = stored.sweep().ok_or_else(unknown)?;
    let measured = Measured {
        sweep: &sweep,
        screens: &stored.weight_screens(),
        scores,
    };
    let widths = &stored.widths;
    Ok(Report {
        protocol: stored.protocol.clone(),
        what: stored.what.clone(),
        samples: stored.samples,
        float: Metrics::from(&sweep.float),
        layers: (stored.layers.iter().enumerate())
            .map(|(index, name)| {
                let screen = measured.screens.layers.get(index);
                let cells = (0..widths.len()).filter_map(|column| {
                    let report = cell_report(&measured, index, column)?;
                    Some((widths[column].to_string(), report))
                });
                LayerReport {
                    name: name.clone(),
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
        seconds: stored.seconds,
    })
}

fn cell_report(measured: &Measured<'_>, layer: usize, column: usize) -> Option<CellReport> {
    let cell: &SensitivityCell = measured.sweep.cells.get(layer)?.get(column)?;
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

pub(super) fn print(report: &Report, widths: &[NumberFormat]) {
    output::line(&format!(
        "{} of {}, {} samples, float top-1 {}; each cell: top-1, output SQNR in dB",
        report.protocol,
        report.what,
        report.samples,
        percent(report.float.top1)
    ));
    let widths: Vec<String> = widths.iter().map(ToString::to_string).collect();
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
