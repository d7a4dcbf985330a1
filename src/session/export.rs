//! Exporting the plan of an open model, and checking what was exported.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SessionError;
use super::files::write_atomically;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use crate::engine::{Executor, Ranges};
use crate::export::{
    QuantizedLayer, Runtime, StoredNetwork, Verification, as_stored, companions, model_file,
    nudged, quantize_layers, verify,
};
use crate::plan::{FittedPlan, Plan, PlanFile, TargetProfile};

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct ExportRequest<'a> {
    /// The target.
    pub profile: &'a TargetProfile,
    /// The plan that the target can express.
    pub fitted: &'a FittedPlan,
    /// Folder that the files go to; made if it is not there.
    pub folder: &'a Path,
    /// Whether files that are there already are replaced.
    pub replace: bool,
}

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// The model file.
    pub model: PathBuf,
    /// All files, the model first.
    pub files: Vec<PathBuf>,
    /// Bytes of the model file.
    pub size_bytes: u64,
    /// Bytes of the constants in it.
    pub constant_bytes: u64,
    /// Opset of the default domain, for ONNX.
    pub opset: Option<i64>,
    /// What differs from the original apart from the quantizers.
    pub notes: Vec<String>,
    /// Every layer as it was stored.
    pub layers: Vec<QuantizedLayer>,
}

/// Refuses files that are there already.
///
/// # Errors
/// [`SessionError::Missing`] names the first of them and the remedy.
pub fn check_free(files: &[PathBuf], replace: bool) -> Result<(), SessionError> {
    match files.iter().find(|file| file.exists()) {
        Some(file) if !replace => Err(SessionError::Missing(format!(
            "{} is there already; choose another folder, or replace it with --force",
            file.display()
        ))),
        _ => Ok(()),
    }
}

/// Writes the model with its quantizers, and the plan beside it.
///
/// # Errors
/// A file is there already, the network cannot be written for the target, or the folder cannot be
/// written to; then no file is left half-written.
pub fn export_plan(
    model: &OpenModel,
    ranges: Option<&Ranges>,
    request: &ExportRequest<'_>,
) -> Result<Exported, SessionError> {
    let ExportRequest {
        profile,
        fitted,
        folder,
        replace,
    } = *request;
    let stem = model.path.file_stem().unwrap_or_default().to_string_lossy();
    let named = |suffix: &str| folder.join(format!("{stem}-{}{suffix}", profile.name));
    let plan_path = named(".plan.json");
    let plan = &fitted.plan;
    let layers = quantize_layers(model.graph(), model.layers(), plan, ranges, profile)?;
    let network = StoredNetwork {
        graph: model.graph(),
        layers: model.layers(),
        plan,
        quantized: &layers,
    };
    let written = model_file(
        &model.path,
        model.graph(),
        model.layers(),
        &layers,
        profile,
        &origin(plan, profile),
    )?;
    let path = named(written.extension);
    let beside: Vec<(PathBuf, String)> = companions(profile.name, &network)
        .into_iter()
        .chain(written.beside)
        .map(|one| (named(one.suffix), one.text))
        .collect();
    let mut files = vec![path.clone(), plan_path.clone()];
    files.extend(beside.iter().map(|(path, _)| path.clone()));
    check_free(&files, replace)?;
    let mut plan_file = PlanFile::new(plan, model.layers(), model.identity(), None);
    profile.name.clone_into(&mut plan_file.target);
    std::fs::create_dir_all(folder).map_err(|source| SessionError::Write {
        path: folder.to_owned(),
        source,
    })?;
    write_atomically(&path, &written.bytes)?;
    write_atomically(&plan_path, plan_file.to_json()?.as_bytes())?;
    for (path, text) in &beside {
        write_atomically(path, text.as_bytes())?;
    }
    Ok(Exported {
        model: path,
        files,
        size_bytes: written.bytes.len() as u64,
        constant_bytes: written.constant_bytes,
        opset: written.opset,
        notes: written.notes,
        layers,
    })
}

/// A model as a target stores it, to be evaluated in place of the original.
#[derive(Debug)]
pub struct StoredModel {
    /// Runs the network with the target's biases.
    pub executor: Executor,
    /// Bytes of the file that an export would write.
    pub size_bytes: u64,
}

impl StoredModel {
    /// What a target makes of a plan that it can express.
    ///
    /// # Errors
    /// The network cannot be written for the target.
    pub fn of(
        model: &OpenModel,
        plan: &Plan,
        ranges: Option<&Ranges>,
        profile: &TargetProfile,
    ) -> Result<Self, SessionError> {
        let (graph, layers) = (model.graph(), model.layers());
        let quantized = quantize_layers(graph, layers, plan, ranges, profile)?;
        let origin = origin(plan, profile);
        let written = model_file(&model.path, graph, layers, &quantized, profile, &origin)?;
        Ok(Self {
            executor: Executor::new(Arc::new(as_stored(graph, layers, &quantized)?)),
            size_bytes: written.bytes.len() as u64,
        })
    }
}

/// What the file says of where it comes from.
fn origin(plan: &Plan, profile: &TargetProfile) -> String {
    format!(
        "target {}, plan {}",
        profile.name,
        plan.fingerprint().short()
    )
}

/// Runs the exported model in a runtime beside its simulation.
///
/// # Errors
/// The interpreter or the runtime fails, or a sample cannot be run.
pub fn verify_export(
    model: &OpenModel,
    exported: &Exported,
    (profile, fitted): (&TargetProfile, &FittedPlan),
    ranges: Option<&Ranges>,
    data: &OpenData,
    interpreter: (&Path, Runtime),
    on_batch: &mut dyn FnMut(usize),
) -> Result<Verification, SessionError> {
    let stored = as_stored(model.graph(), model.layers(), &exported.layers)?;
    let executor = Executor::new(Arc::new(stored));
    let prepared = executor.prepare(&fitted.plan, ranges)?;
    let moved = model_file(
        &model.path,
        model.graph(),
        model.layers(),
        &nudged(&exported.layers),
        profile,
        "a copy to compare with",
    )?;
    Ok(verify(
        &exported.model,
        &moved.bytes,
        &executor,
        &prepared,
        &data.evaluation,
        interpreter,
        on_batch,
    )?)
}
