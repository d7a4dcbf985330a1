//! Exporting the plan of an open model, and checking what was exported.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SessionError;
use super::files::write_together;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use crate::engine::{Arithmetic, Executor, PreparedPlan, Ranges};
use crate::export::{
    ExportError, QuantizedLayer, Runtime, Simulation, StoredArithmetic, StoredNetwork,
    Verification, VerifyRequest, choose_matmul_nbits, companions, model_file, nudged,
    quantize_layers, verify,
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
    /// Whether products with quantized weights and float inputs become `MatMulNBits`.
    pub matmul_nbits: bool,
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
    /// How the file computes apart from what the plan says.
    pub arithmetic: StoredArithmetic,
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
/// Where the target has no operators for some nodes, the files beside the model are written all the
/// same: they tell the target's own tools what the plan is.
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
        matmul_nbits,
    } = *request;
    let stem = model.path.file_stem().unwrap_or_default().to_string_lossy();
    let named = |suffix: &str| folder.join(format!("{stem}-{}{suffix}", profile.name));
    let path = named(&format!(".{}", profile.file.extension()));
    let plan_path = named(".plan.json");
    let plan = &fitted.plan;
    let mut layers = quantize_layers(model.graph(), model.layers(), plan, ranges, profile)?;
    if matmul_nbits {
        choose_matmul_nbits(model.graph(), model.layers(), &mut layers)?;
    }
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
        ranges,
        profile,
        &origin(plan, profile),
    );
    let (written, refusal) = match written {
        Err(error @ ExportError::Unsupported(_)) => (None, Some(error)),
        other => (Some(other?), None),
    };
    let more = written.iter().flat_map(|written| written.beside.clone());
    let beside: Vec<(PathBuf, String)> = companions(profile.name, &network)
        .into_iter()
        .chain(more)
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
    let plan_text = plan_file.to_json()?;
    let mut contents: Vec<(&Path, &[u8])> = vec![(&plan_path, plan_text.as_bytes())];
    contents.extend(
        written
            .iter()
            .map(|written| (path.as_path(), &written.bytes[..])),
    );
    contents.extend(
        beside
            .iter()
            .map(|(path, text)| (path.as_path(), text.as_bytes())),
    );
    write_together(&contents)?;
    let written = match (written, refusal) {
        (Some(written), _) => written,
        (None, Some(error)) => return Err(refused(&error, &beside)),
        (None, None) => return Err(SessionError::Missing("no model was written".to_owned())),
    };
    Ok(Exported {
        model: path,
        files,
        size_bytes: written.bytes.len() as u64,
        constant_bytes: written.constant_bytes,
        opset: written.opset,
        notes: written.notes,
        layers,
        arithmetic: written.arithmetic,
    })
}

/// What is said of a model that is not written, and of what lies there in its place.
fn refused(error: &ExportError, beside: &[(PathBuf, String)]) -> SessionError {
    let scripts: Vec<String> = beside
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "py"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    SessionError::Missing(format!(
        "{error}\nNo model was written; {} converts the original with a maintained converter and quantizes it as the plan says",
        scripts.join(", ")
    ))
}

/// A model as a target stores it, to be evaluated in place of the original.
#[derive(Debug)]
pub struct StoredModel {
    /// Runs the network with the target's biases and constants.
    pub executor: Executor,
    arithmetic: StoredArithmetic,
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
        let path = &model.path;
        let written = model_file(path, graph, layers, &quantized, ranges, profile, &origin)?;
        Ok(Self {
            executor: stored_executor(model, &quantized, &written.arithmetic)?,
            size_bytes: written.bytes.len() as u64,
            arithmetic: written.arithmetic,
        })
    }

    /// The plan as the target computes it.
    ///
    /// # Errors
    /// As [`Executor::prepare`].
    pub fn prepare(
        &self,
        plan: &Plan,
        ranges: Option<&Ranges>,
    ) -> Result<PreparedPlan, SessionError> {
        let prepared = self.executor.prepare(plan, ranges)?;
        Ok(prepared.with_edges(self.executor.layers(), self.arithmetic.edges.clone()))
    }
}

/// Runs the network with what a target stores.
fn stored_executor(
    model: &OpenModel,
    quantized: &[QuantizedLayer],
    arithmetic: &StoredArithmetic,
) -> Result<Executor, SessionError> {
    let graph = arithmetic.graph(model.graph(), model.layers(), quantized)?;
    Ok(Executor::new(Arc::new(graph)))
}

/// What the file says of where it comes from.
fn origin(plan: &Plan, profile: &TargetProfile) -> String {
    format!(
        "target {}, plan {}",
        profile.name,
        plan.fingerprint().short()
    )
}

/// Runs the exported model beside its simulation, in a runtime where there is one, and in the runtime
/// that is part of this program.
///
/// # Errors
/// The interpreter or the runtime fails, or a sample cannot be run.
pub fn verify_export(
    model: &OpenModel,
    exported: &Exported,
    (profile, ranges): (&TargetProfile, Option<&Ranges>),
    data: &OpenData,
    interpreter: Result<(&Path, Runtime), String>,
    on_batch: &mut dyn FnMut(usize),
) -> Result<Verification, SessionError> {
    let executor = stored_executor(model, &exported.layers, &exported.arithmetic)?;
    let ordered =
        Executor::new(Arc::clone(executor.graph())).with_arithmetic(Arithmetic::OnnxRuntime);
    let levels = exported.layers.iter();
    let levels = levels.map(|layer| (layer.weight.as_ref(), layer.activation));
    let edges = exported.arithmetic.edges.clone();
    let prepared = executor.prepare_levels(levels.clone())?;
    let prepared = prepared.with_edges(executor.layers(), edges);
    let prepared_in_order = ordered.prepare_levels(levels)?;
    let moved = model_file(
        &model.path,
        model.graph(),
        model.layers(),
        &nudged(&exported.layers),
        ranges,
        profile,
        "a copy to compare with",
    )?;
    let request = VerifyRequest {
        model: &exported.model,
        nudged: &moved.bytes,
        arithmetic: &exported.arithmetic,
        simulation: Simulation {
            executor: &executor,
            prepared: &prepared,
        },
        in_order: Simulation {
            executor: &ordered,
            prepared: &prepared_in_order,
        },
        batches: &data.evaluation,
    };
    Ok(verify(&request, interpreter, on_batch)?)
}
