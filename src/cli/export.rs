//! `quantscope export`: a plan as files for a runtime.

use std::path::PathBuf;

use serde::Serialize;

use super::Exit;
use super::args::ExportArguments;
use super::eval::{announce, thread_pool};
use super::number::bytes;
use super::output::{self, Progress};
use super::tuning::tuned;
use super::verification::{VerificationReport, print_verification};
use crate::export::{Runtime, Verification};
use crate::jobs::CancelToken;
use crate::plan::{FileFormat, FittedPlan, Plan, PlanFile, TargetProfile, fit};
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
    if arguments.matmul_nbits && profile.name != "onnxruntime" {
        return Err(SessionError::Missing(format!(
            "MatMulNBits is an operator of ONNX Runtime alone, and {} does not have it; take --target onnxruntime or leave --matmul-nbits out",
            profile.label
        )));
    }
    let fitted = fit(&plan, model.layers(), profile);
    let changes = change_reports(&model, &fitted);
    if arguments.strict && !changes.is_empty() {
        return Err(SessionError::Missing(format!(
            "{} cannot express this plan, and --strict forbids to change it:\n{}",
            profile.label,
            change_lines(&changes).join("\n")
        )));
    }
    let verifies = verifies(arguments)?;
    let interpreter = interpreter(arguments, profile)?;
    let data = open_data(arguments, &model, &fitted.plan)?;
    let cancel = CancelToken::default();
    let source = match &data {
        Some(data) => {
            let plan = fitted.plan.clone();
            let tuned = tuned(&model, plan, data, &arguments.plan, arguments.output)?;
            ExportSource::of(&tuned, profile, data, &cancel)?
        }
        None => ExportSource::without_data(&model, &fitted.plan)?,
    };
    let request = ExportRequest {
        profile,
        fitted: &fitted,
        source: &source,
        folder: &arguments.out,
        replace: arguments.force,
        matmul_nbits: arguments.matmul_nbits,
    };
    let exported = export_plan(&model, &request)?;
    let verification = match &data {
        Some(data) if verifies => {
            let interpreter = interpreter.as_ref();
            let interpreter = interpreter
                .map(|(python, runtime)| (python.as_path(), *runtime))
                .map_err(Clone::clone);
            let mut progress = Progress::new("Verifying", data.evaluation.len(), arguments.output);
            Some(verify_export(
                &model,
                &exported,
                &request,
                data,
                interpreter,
                &cancel,
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

/// Whether the exported file is to be run.
///
/// # Errors
/// It is, and there is no data to run it on.
fn verifies(arguments: &ExportArguments) -> Result<bool, SessionError> {
    if arguments.verify && arguments.data.is_none() {
        return Err(SessionError::Missing(
            "--verify runs samples; give evaluation data with --data DIR".to_owned(),
        ));
    }
    Ok(arguments.verify)
}

/// The interpreter to verify with, found before anything is computed; or why there is none.
///
/// # Errors
/// The interpreter that was asked for has no runtime, or nothing else reads the target's files.
fn interpreter(
    arguments: &ExportArguments,
    profile: &TargetProfile,
) -> Result<Result<(PathBuf, Runtime), String>, SessionError> {
    if !arguments.verify {
        return Ok(Err(String::new()));
    }
    match verifier(profile, arguments.python.as_deref()) {
        Err(error) if arguments.python.is_some() || profile.file != FileFormat::Onnx => Err(error),
        found => Ok(found.map_err(|error| error.to_string())),
    }
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
            opset: exported.opset,
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
    let opset = exported.opset;
    output::line(&format!(
        "size {}, of which constants {}{}",
        bytes(exported.size_bytes),
        bytes(exported.constant_bytes),
        opset.map_or_else(String::new, |opset| format!("; opset {opset}"))
    ));
    if let Some(verification) = verification {
        print_verification(verification);
    }
    Ok(())
}
