//! `quantscope export`: a plan as files for a runtime.

use std::path::PathBuf;

use serde::Serialize;

use super::Exit;
use super::args::ExportArguments;
use super::eval::{announce, thread_pool};
use super::number::{Decibel, bytes, percent};
use super::output::{self, Progress};
use super::tuning::tuned;
use crate::export::{LevelResult, Runtime, Verification};
use crate::jobs::CancelToken;
use crate::plan::{FittedPlan, Plan, PlanFile, TargetProfile, fit};
use crate::session::{
    ExportRequest, ExportSource, Exported, OpenData, OpenModel, SessionError, check_free,
    export_plan, needs_calibration, verifier, verify_export, write_atomically,
};

#[derive(Serialize)]
struct Report {
    target: &'static str,
    files: Vec<PathBuf>,
    size_bytes: Option<u64>,
    constant_bytes: Option<u64>,
    opset: Option<i64>,
    changes: Vec<ChangeReport>,
    notes: Vec<String>,
    verification: Option<VerificationReport>,
}

#[derive(Serialize)]
pub(super) struct ChangeReport {
    layer: String,
    part: &'static str,
    from: String,
    to: String,
    reason: String,
}

#[derive(Serialize)]
struct VerificationReport {
    runtime: Runtime,
    version: String,
    samples: usize,
    simulated_top1: Option<f64>,
    levels: Vec<LevelReport>,
    own_spread_sqnr_db: Decibel,
    own_spread_agreement: Option<f64>,
}

#[derive(Serialize)]
struct LevelReport {
    level: crate::export::Level,
    top1: Option<f64>,
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

pub(super) fn run(arguments: &ExportArguments) -> Result<Exit, SessionError> {
    thread_pool(arguments.compute)?.install(|| export(arguments))
}

fn export(arguments: &ExportArguments) -> Result<Exit, SessionError> {
    let model = OpenModel::open_with(&arguments.model, arguments.compute.arithmetic.into())?;
    let plan = arguments.plan.fixed_plan_for(&model)?;
    if arguments.target == "plan" {
        return export_plan_file(arguments, &model, &plan);
    }
    let profile = TargetProfile::by_name(&arguments.target)?;
    let fitted = fit(&plan, model.layers(), profile);
    let changes = change_reports(&model, &fitted);
    if arguments.strict && !changes.is_empty() {
        return Err(SessionError::Missing(format!(
            "{} cannot express this plan, and --strict forbids to change it:\n{}",
            profile.label,
            change_lines(&changes).join("\n")
        )));
    }
    let verified_with = interpreter(arguments, profile)?;
    let data = open_data(arguments, &model, &fitted.plan)?;
    let source = match &data {
        Some(data) => {
            let plan = fitted.plan.clone();
            let tuned = tuned(&model, plan, data, &arguments.plan, arguments.output)?;
            ExportSource::of(&tuned)?
        }
        None => ExportSource::without_data(&model, &fitted.plan)?,
    };
    let request = ExportRequest {
        profile,
        fitted: &fitted,
        source: &source,
        folder: &arguments.out,
        replace: arguments.force,
    };
    let exported = export_plan(&model, &request)?;
    let verification = match (&verified_with, &data) {
        (Some((python, runtime)), Some(data)) => {
            let mut progress = Progress::new("Verifying", data.evaluation.len(), arguments.output);
            Some(verify_export(
                &model,
                &exported,
                &request,
                data,
                (python, *runtime),
                &CancelToken::default(),
                &mut |samples| progress.show(samples, ""),
            )?)
        }
        _ => None,
    };
    report(
        arguments,
        profile,
        &exported,
        changes,
        verification.as_ref(),
    )?;
    Ok(Exit::Done)
}

fn export_plan_file(
    arguments: &ExportArguments,
    model: &OpenModel,
    plan: &Plan,
) -> Result<Exit, SessionError> {
    let file = PlanFile::new(plan, model.layers(), model.identity(), None);
    let path = arguments.out.join("plan.json");
    check_free(std::slice::from_ref(&path), arguments.force)?;
    std::fs::create_dir_all(&arguments.out).map_err(|source| SessionError::Write {
        path: arguments.out.clone(),
        source,
    })?;
    write_atomically(&path, file.to_json()?.as_bytes())?;
    if arguments.output.json {
        output::json(&Report {
            target: "plan",
            files: vec![path],
            size_bytes: None,
            constant_bytes: None,
            opset: None,
            changes: Vec::new(),
            notes: Vec::new(),
            verification: None,
        })?;
    } else {
        output::line(&format!("{}", path.display()));
    }
    Ok(Exit::Done)
}

/// The interpreter to verify with, found before anything is computed.
fn interpreter(
    arguments: &ExportArguments,
    profile: &TargetProfile,
) -> Result<Option<(PathBuf, Runtime)>, SessionError> {
    if !arguments.verify {
        return Ok(None);
    }
    if arguments.data.is_none() {
        return Err(SessionError::Missing(
            "--verify runs samples; give evaluation data with --data DIR".to_owned(),
        ));
    }
    verifier(profile, arguments.python.as_deref()).map(Some)
}

fn open_data(
    arguments: &ExportArguments,
    model: &OpenModel,
    plan: &Plan,
) -> Result<Option<OpenData>, SessionError> {
    if !arguments.verify && !needs_calibration(plan) {
        return Ok(None);
    }
    let folder = arguments
        .data
        .as_ref()
        .or(arguments.data_options.calib.as_ref());
    let Some(folder) = folder else {
        return Ok(None);
    };
    let data = OpenData::open(model, arguments.data_options.request(folder.clone()))?;
    announce(&data, arguments.output);
    Ok(Some(data))
}

pub(super) fn change_reports(model: &OpenModel, fitted: &FittedPlan) -> Vec<ChangeReport> {
    let layers = model.layers();
    fitted
        .changes
        .iter()
        .map(|change| ChangeReport {
            layer: layers
                .get(change.layer.index())
                .map(|layer| layer.name.clone())
                .unwrap_or_default(),
            part: change.part.name(),
            from: change.from.clone(),
            to: change.to.clone(),
            reason: change.reason.clone(),
        })
        .collect()
}

pub(super) fn change_lines(changes: &[ChangeReport]) -> Vec<String> {
    changes
        .iter()
        .map(|change| {
            format!(
                "{} of {}: {} → {} ({})",
                change.part, change.layer, change.from, change.to, change.reason
            )
        })
        .collect()
}

fn report(
    arguments: &ExportArguments,
    profile: &TargetProfile,
    exported: &Exported,
    changes: Vec<ChangeReport>,
    verification: Option<&Verification>,
) -> Result<(), SessionError> {
    if arguments.output.json {
        return output::json(&Report {
            target: profile.name,
            files: exported.files.clone(),
            size_bytes: Some(exported.size_bytes),
            constant_bytes: Some(exported.constant_bytes),
            opset: Some(exported.opset),
            changes,
            notes: exported.notes.clone(),
            verification: verification.map(VerificationReport::from),
        });
    }
    for line in change_lines(&changes) {
        output::note(&format!("changed for {}: {line}", profile.label));
    }
    for note in &exported.notes {
        output::note(note);
    }
    for file in &exported.files {
        output::line(&format!("{}", file.display()));
    }
    output::line(&format!(
        "size {}, of which constants {}; opset {}",
        bytes(exported.size_bytes),
        bytes(exported.constant_bytes),
        exported.opset
    ));
    if let Some(verification) = verification {
        print_verification(verification);
    }
    Ok(())
}

fn print_verification(verification: &Verification) {
    output::line(&format!(
        "{} {} on {} samples; simulated top-1 {}",
        verification.runtime.package(),
        verification.version,
        verification.samples,
        percent(verification.simulated.top1())
    ));
    for result in &verification.levels {
        let how = match result.level {
            crate::export::Level::Plain => "graph as written",
            crate::export::Level::Optimized => "graph optimised",
        };
        output::line(&format!(
            "{how}: top-1 {}, agreement with the simulation {}, SQNR against it {} dB",
            percent(result.accuracy.top1()),
            percent(result.comparison.agreement()),
            Decibel(result.comparison.sqnr_db())
        ));
        for one in &result.outputs {
            output::line(&format!(
                "  {}: relative difference {:.2e}, largest {:.2e}",
                one.name,
                one.relative(),
                one.largest
            ));
        }
    }
    output::line(&format!(
        "for comparison, the runtime against itself with every weight scale moved to the next number in f32: agreement {}, SQNR {} dB",
        percent(verification.own_spread.agreement()),
        Decibel(verification.own_spread.sqnr_db())
    ));
}

impl From<&Verification> for VerificationReport {
    fn from(verification: &Verification) -> Self {
        Self {
            runtime: verification.runtime,
            version: verification.version.clone(),
            samples: verification.samples,
            simulated_top1: verification.simulated.top1(),
            levels: verification.levels.iter().map(LevelReport::from).collect(),
            own_spread_sqnr_db: Decibel(verification.own_spread.sqnr_db()),
            own_spread_agreement: verification.own_spread.agreement(),
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
            outputs: result
                .outputs
                .iter()
                .map(|one| OutputReport {
                    name: one.name.clone(),
                    largest_difference: one.largest,
                    relative_difference: one.relative(),
                    sqnr_db: Decibel(Some(one.errors.sqnr_db())),
                })
                .collect(),
        }
    }
}
