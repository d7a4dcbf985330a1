//! `quantscope sensitivity`: every layer at every width.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::Exit;
use super::args::SensitivityArguments;
use super::eval::{Metrics, announce, thread_pool};
use super::number::{Decibel, percent};
use super::output::{self, Progress};
use crate::engine::{
    Protocol, Ranges, Sensitivity, SensitivityCell, SensitivityRequest, Subject, calibrate,
    sensitivity,
};
use crate::jobs::CancelToken;
use crate::plan::{Plan, Widths};
use crate::session::{OpenData, OpenModel, SessionError};

#[derive(Serialize)]
struct Report {
    protocol: &'static str,
    what: &'static str,
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
    let mut progress = Progress::new("Sensitivity", data.evaluation.len(), arguments.output);
    let result = sensitivity(
        &model.executor,
        &plan,
        ranges.as_ref(),
        &request,
        &data.evaluation,
        &CancelToken::default(),
        &mut |so_far| progress.show(so_far.samples, ""),
    )?;
    let report = report(&model, &result, started.elapsed().as_secs_f64());
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

fn report(model: &OpenModel, result: &Sensitivity, seconds: f64) -> Report {
    let only_one = result.request.protocol == Protocol::OnlyOne;
    Report {
        protocol: result.request.protocol.name(),
        what: result.request.subject.name(),
        samples: result.samples,
        float: Metrics::from(&result.float),
        layers: model
            .layers()
            .iter()
            .zip(&result.cells)
            .map(|(layer, row)| LayerReport {
                name: layer.name.clone(),
                bits: result
                    .request
                    .widths
                    .iter()
                    .zip(row)
                    .map(|(width, cell)| (width.to_string(), cell_report(cell, only_one)))
                    .collect(),
            })
            .collect(),
        seconds,
    }
}

fn cell_report(cell: &SensitivityCell, only_one: bool) -> CellReport {
    CellReport {
        metrics: Metrics::from(&cell.metrics),
        kl: cell.comparison.kl(),
        sqnr_db: Decibel(cell.comparison.sqnr_db()),
        local_sqnr_db: Decibel(only_one.then(|| cell.local.sqnr_db())),
    }
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
