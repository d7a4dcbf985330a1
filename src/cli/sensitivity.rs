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
use crate::engine::{
    Protocol, Ranges, SensitivityRequest, Subject, SweepPart, calibrate, sensitivity_part,
};
use crate::jobs::CancelToken;
use crate::plan::{Fingerprint, Plan, Widths};
use crate::quant::{ErrorSum, NumberFormat};
use crate::search::{Shard, StoredCell, StoredSweep, studied};
use crate::session::{OpenData, OpenModel, SessionError, in_file, read_progress, write_json};

#[derive(Serialize)]
pub(super) struct Report {
    protocol: String,
    what: String,
    samples: usize,
    float: Metrics,
    layers: Vec<LayerReport>,
    seconds: f64,
}

#[derive(Serialize)]
struct LayerReport {
    name: String,
    bits: BTreeMap<String, CellReport>,
}

#[derive(Serialize)]
struct CellReport {
    #[serde(flatten)]
    metrics: Metrics,
    kl: Option<f64>,
    sqnr_db: Decibel,
    local_sqnr_db: Decibel,
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
    let mut progress = Progress::new("Sensitivity", data.evaluation.len(), arguments.output);
    let mut failed = None;
    let cancel = CancelToken::default();
    let stored = |sweep: &_| {
        let seconds = seconds_before + started.elapsed().as_secs_f64();
        StoredSweep::new(sweep, shard, &fingerprint, &names, seconds)
    };
    let result = sensitivity_part(
        &model.executor,
        &plan,
        ranges.as_ref(),
        &request,
        SweepPart {
            layers: &studied(shard),
            earlier: begun.as_ref(),
        },
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
    finish(&sweep, kept, arguments)
}

/// Writes and prints what was asked for.
fn finish(
    sweep: &StoredSweep,
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
    let report = report(sweep);
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

/// The document of a whole sweep.
pub(super) fn report(sweep: &StoredSweep) -> Report {
    let only_one = sweep.protocol == Protocol::OnlyOne.name();
    Report {
        protocol: sweep.protocol.clone(),
        what: sweep.what.clone(),
        samples: sweep.samples,
        float: Metrics::from(&sweep.float.metrics()),
        layers: sweep
            .layers
            .iter()
            .zip(&sweep.cells)
            .map(|(name, row)| LayerReport {
                name: name.clone(),
                bits: sweep
                    .widths
                    .iter()
                    .zip(row)
                    .map(|(width, cell)| (width.to_string(), cell_report(cell, only_one)))
                    .collect(),
            })
            .collect(),
        seconds: sweep.seconds,
    }
}

fn cell_report(cell: &StoredCell, only_one: bool) -> CellReport {
    let comparison = cell.score.comparison();
    CellReport {
        metrics: Metrics::from(&cell.score.metrics()),
        kl: comparison.kl(),
        sqnr_db: Decibel(comparison.sqnr_db()),
        local_sqnr_db: Decibel(only_one.then(|| ErrorSum::from(cell.local).sqnr_db())),
    }
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
