//! Exporting the plan of an open model, and checking what was exported.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SessionError;
use super::files::write_together;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::tuning::Tuned;
use crate::engine::{Arithmetic, Executor, PreparedPlan, Ranges, calibrate_values, equalized};
use crate::export::{
    ExportError, ModelFile, QuantizedLayer, Runtime, Simulation, StoredArithmetic, StoredNetwork,
    TunedNetwork, Verification, VerifyRequest, choose_matmul_nbits, companion_notes, companions,
    find_interpreter, model_file, nudged, quantize_layers, values_to_observe, verify,
};
use crate::jobs::CancelToken;
use crate::plan::{FileFormat, FittedPlan, Plan, PlanFile, TargetProfile};

/// What an export takes from calibration data: tuned weights and ranges.
#[derive(Clone, Debug)]
pub struct ExportSource {
    /// The network with what was tuned.
    pub network: TunedNetwork,
    /// Ranges, where inputs are quantized.
    pub ranges: Option<Arc<Ranges>>,
}

impl ExportSource {
    /// A plan that was tuned; values that only the target quantizes are observed for it.
    ///
    /// # Errors
    /// A calibration sample cannot be run, or the run is cancelled.
    pub fn of(
        tuned: &Tuned,
        profile: &TargetProfile,
        data: &OpenData,
        cancel: &CancelToken,
    ) -> Result<Self, SessionError> {
        let executor = &*tuned.executor;
        let more = values_to_observe(executor.graph(), profile);
        let ranges = if more.is_empty() {
            tuned.ranges.clone()
        } else {
            let batches = &data.calibration;
            let ranges = calibrate_values(executor, batches, &more, cancel, &mut |_| {})?;
            Some(Arc::new(ranges))
        };
        Ok(Self {
            network: TunedNetwork::new(executor, tuned.rounded.as_ref())?,
            ranges,
        })
    }

    /// A plan that takes nothing from calibration data; layers are equalized where it says so.
    ///
    /// What does take something is refused when it is exported, with the layer's name.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub fn without_data(model: &OpenModel, plan: &Plan) -> Result<Self, SessionError> {
        let (executor, _) = equalized(&model.executor, plan, None, &CancelToken::default())?;
        Ok(Self {
            network: TunedNetwork::new(&executor, None)?,
            ranges: None,
        })
    }
}

/// What to export, and where to.
#[derive(Clone, Copy, Debug)]
pub struct ExportRequest<'a> {
    /// The target.
    pub profile: &'a TargetProfile,
    /// The plan that the target can express.
    pub fitted: &'a FittedPlan,
    /// What the plan takes from calibration data.
    pub source: &'a ExportSource,
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
/// [`SessionError::Exists`] names the first of them.
pub fn check_free(files: &[PathBuf], replace: bool) -> Result<(), SessionError> {
    match files.iter().find(|file| file.exists()) {
        Some(file) if !replace => Err(SessionError::Exists(file.clone())),
        _ => Ok(()),
    }
}

/// The interpreter and the runtime that check exports for a target: its own, else ONNX Runtime where
/// that reads the file too.
///
/// # Errors
/// No interpreter has one of them; the message says how to get the target's own.
pub fn verifier(
    profile: &TargetProfile,
    asked: Option<&Path>,
) -> Result<(PathBuf, Runtime), SessionError> {
    let own = match (profile.file, profile.name) {
        (FileFormat::Tflite, _) => Runtime::LiteRt,
        (FileFormat::SafeTensors, _) => Runtime::Torch,
        (FileFormat::Onnx, "openvino") => Runtime::OpenVino,
        (FileFormat::Onnx, _) => Runtime::OnnxRuntime,
    };
    match find_interpreter(asked, own) {
        Ok(python) => Ok((python, own)),
        Err(error) if own.file() != FileFormat::Onnx => Err(error.into()),
        Err(error) => match find_interpreter(asked, Runtime::OnnxRuntime) {
            Ok(python) => Ok((python, Runtime::OnnxRuntime)),
            Err(_neither) => Err(error.into()),
        },
    }
}

/// The model file that an export for a target writes into a folder.
pub(super) fn exported_model(model: &OpenModel, profile: &TargetProfile, folder: &Path) -> PathBuf {
    let extension = profile.file.extension();
    folder.join(format!("{}-{}.{extension}", stem(model), profile.name))
}

/// The model's name without its extension, which names of exported files begin with.
fn stem(model: &OpenModel) -> String {
    let stem = model.path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
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
    request: &ExportRequest<'_>,
) -> Result<Exported, SessionError> {
    let ExportRequest {
        profile,
        fitted,
        source,
        folder,
        replace,
        matmul_nbits,
    } = *request;
    let stem = stem(model);
    let named = |suffix: &str| folder.join(format!("{stem}-{}{suffix}", profile.name));
    let path = exported_model(model, profile, folder);
    let plan_path = named(".plan.json");
    let plan = &fitted.plan;
    let (graph, known) = (&source.network.graph, &source.network.layers);
    let mut layers = source.quantized(plan, profile)?;
    if matmul_nbits {
        choose_matmul_nbits(graph, known, &mut layers)?;
    }
    let network = StoredNetwork {
        graph,
        layers: known,
        plan,
        quantized: &layers,
    };
    let (written, refusal) = match source.written(model, &layers, profile, &origin(plan, profile)) {
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
    let mut notes = companion_notes(profile.name, &network);
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
    notes.splice(..0, written.notes);
    Ok(Exported {
        model: path,
        files,
        size_bytes: written.bytes.len() as u64,
        constant_bytes: written.constant_bytes,
        opset: written.opset,
        notes,
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

impl ExportSource {
    /// Every layer as a target stores it.
    fn quantized(
        &self,
        plan: &Plan,
        profile: &TargetProfile,
    ) -> Result<Vec<QuantizedLayer>, SessionError> {
        let ranges = self.ranges.as_deref();
        Ok(quantize_layers(&self.network, plan, ranges, profile)?)
    }

    /// The model file in memory.
    fn written(
        &self,
        model: &OpenModel,
        layers: &[QuantizedLayer],
        profile: &TargetProfile,
        origin: &str,
    ) -> Result<ModelFile, ExportError> {
        let (graph, known) = (&self.network.graph, &self.network.layers);
        let ranges = self.ranges.as_deref();
        model_file(&model.path, graph, known, layers, ranges, profile, origin)
    }

    /// What runs the network as it is stored.
    fn executor(
        &self,
        layers: &[QuantizedLayer],
        arithmetic: &StoredArithmetic,
    ) -> Result<Executor, SessionError> {
        let (graph, known) = (&self.network.graph, &self.network.layers);
        let stored = arithmetic.graph(graph, known, layers)?;
        Ok(Executor::new(Arc::new(stored)).with_arithmetic(arithmetic.runtime))
    }
}

/// The layers as they are stored, ready to run.
fn prepare_stored(
    executor: &Executor,
    layers: &[QuantizedLayer],
    arithmetic: &StoredArithmetic,
) -> Result<PreparedPlan, SessionError> {
    let levels = layers.iter();
    let levels = levels.map(|layer| (layer.weight.as_ref(), layer.activation));
    let prepared = executor.prepare_levels(levels)?;
    Ok(prepared.with_edges(executor.layers(), arithmetic.edges.clone()))
}

/// A model as a target stores it, to be evaluated in place of the original.
#[derive(Debug)]
pub struct StoredModel {
    /// Runs the network with the target's biases and constants.
    pub executor: Executor,
    /// The plan ready to run on it.
    pub prepared: PreparedPlan,
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
        source: &ExportSource,
        profile: &TargetProfile,
    ) -> Result<Self, SessionError> {
        let layers = source.quantized(plan, profile)?;
        let written = source.written(model, &layers, profile, &origin(plan, profile))?;
        let executor = source.executor(&layers, &written.arithmetic)?;
        Ok(Self {
            prepared: prepare_stored(&executor, &layers, &written.arithmetic)?,
            executor,
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

/// Runs the exported model beside its simulation, in a runtime where there is one, and in the runtime
/// that is part of this program.
///
/// # Errors
/// The interpreter or the runtime fails, a sample cannot be run, or the run is cancelled.
pub fn verify_export(
    model: &OpenModel,
    exported: &Exported,
    request: &ExportRequest<'_>,
    data: &OpenData,
    interpreter: Result<(&Path, Runtime), String>,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(usize),
) -> Result<Verification, SessionError> {
    let ExportRequest {
        source, profile, ..
    } = *request;
    let Exported {
        layers, arithmetic, ..
    } = exported;
    let executor = source.executor(layers, arithmetic)?;
    let ordered =
        Executor::new(Arc::clone(executor.graph())).with_arithmetic(Arithmetic::OnnxRuntime);
    let prepared = prepare_stored(&executor, layers, arithmetic)?;
    let prepared_in_order = prepare_stored(&ordered, layers, arithmetic)?;
    let moved = source.written(model, &nudged(layers), profile, "a copy to compare with")?;
    let request = VerifyRequest {
        model: &exported.model,
        nudged: &moved.bytes,
        arithmetic,
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
    Ok(verify(&request, interpreter, cancel, on_batch)?)
}
