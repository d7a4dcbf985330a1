//! Exporting the plan of an open model, and checking what was exported.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SessionError;
use super::files::write_atomically;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::tuning::Tuned;
use crate::engine::{Executor, PreparedPlan, Ranges, equalized};
use crate::export::{
    OnnxModel, QuantizedLayer, Runtime, StoredNetwork, TunedNetwork, Verification, as_stored,
    companion_notes, companions, find_interpreter, nudged, onnx_model, prepare_stored,
    quantize_layers, verify,
};
use crate::jobs::CancelToken;
use crate::plan::{FittedPlan, Plan, PlanFile, TargetProfile};

/// What an export takes from calibration data: tuned weights and ranges.
#[derive(Clone, Debug)]
pub struct ExportSource {
    /// The network with what was tuned.
    pub network: TunedNetwork,
    /// Ranges, where inputs are quantized.
    pub ranges: Option<Arc<Ranges>>,
}

impl ExportSource {
    /// A plan that was tuned.
    ///
    /// # Errors
    /// None that the network did not have before.
    pub fn of(tuned: &Tuned) -> Result<Self, SessionError> {
        Ok(Self {
            network: TunedNetwork::new(&tuned.executor, tuned.rounded.as_ref())?,
            ranges: tuned.ranges.clone(),
        })
    }

    /// A plan that takes nothing from calibration data; layers are equalized where it says so.
    ///
    /// What does take something is refused when it is exported, with the layer's name.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub fn without_data(model: &OpenModel, plan: &Plan) -> Result<Self, SessionError> {
        let (executor, _) = equalized(&model.executor, plan)?;
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
    /// Opset of the default domain.
    pub opset: i64,
    /// What differs from the original apart from the quantizers.
    pub notes: Vec<String>,
    /// Every layer as it was stored.
    pub layers: Vec<QuantizedLayer>,
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

/// The interpreter and the runtime that check exports for a target: its own, else ONNX Runtime.
///
/// # Errors
/// No interpreter has one of them; the message says how to get the target's own.
pub fn verifier(
    profile: &TargetProfile,
    asked: Option<&Path>,
) -> Result<(PathBuf, Runtime), SessionError> {
    let own = match profile.name {
        "openvino" => Runtime::OpenVino,
        _ => Runtime::OnnxRuntime,
    };
    match find_interpreter(asked, own) {
        Ok(python) => Ok((python, own)),
        Err(error) => match find_interpreter(asked, Runtime::OnnxRuntime) {
            Ok(python) => Ok((python, Runtime::OnnxRuntime)),
            Err(_neither) => Err(error.into()),
        },
    }
}

/// The model file that an export for a target writes into a folder.
pub(super) fn model_file(model: &OpenModel, profile: &TargetProfile, folder: &Path) -> PathBuf {
    folder.join(format!("{}-{}.onnx", stem(model), profile.name))
}

/// Writes the model with its quantizers, and the plan beside it.
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
    } = *request;
    let stem = stem(model);
    let path = model_file(model, profile, folder);
    let plan_path = folder.join(format!("{stem}-{}.plan.json", profile.name));
    let plan = &fitted.plan;
    let layers = source.quantized(plan, profile)?;
    let network = StoredNetwork {
        graph: &source.network.graph,
        layers: &source.network.layers,
        plan,
        quantized: &layers,
    };
    let beside: Vec<(PathBuf, String)> = companions(profile.name, &network)
        .into_iter()
        .map(|one| {
            let name = format!("{stem}-{}{}", profile.name, one.suffix);
            (folder.join(name), one.text)
        })
        .collect();
    let mut files = vec![path.clone(), plan_path.clone()];
    files.extend(beside.iter().map(|(path, _)| path.clone()));
    check_free(&files, replace)?;
    let mut notes = companion_notes(profile.name, &network);
    let written = source.written(model, &layers, profile, &origin(plan, profile))?;
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
    notes.splice(..0, written.notes);
    Ok(Exported {
        model: path,
        files,
        size_bytes: written.bytes.len() as u64,
        constant_bytes: written.constant_bytes,
        opset: written.opset,
        notes,
        layers,
    })
}

/// The model's name without its extension, which names of exported files begin with.
fn stem(model: &OpenModel) -> String {
    let stem = model.path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
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
    ) -> Result<OnnxModel, SessionError> {
        let TunedNetwork {
            graph,
            layers: known,
            ..
        } = &self.network;
        Ok(onnx_model(
            &model.path,
            graph,
            known,
            layers,
            profile,
            origin,
        )?)
    }

    /// What runs the network as it is stored.
    fn simulation(
        &self,
        layers: &[QuantizedLayer],
    ) -> Result<(Executor, PreparedPlan), SessionError> {
        let network = &self.network;
        let stored = as_stored(&network.graph, &network.layers, layers)?;
        let executor = Executor::new(Arc::new(stored));
        let prepared = prepare_stored(&executor, layers)?;
        Ok((executor, prepared))
    }
}

/// A model as a target stores it, to be evaluated in place of the original.
#[derive(Debug)]
pub struct StoredModel {
    /// Runs the network with the target's biases.
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
        let (executor, prepared) = source.simulation(&layers)?;
        Ok(Self {
            executor,
            prepared,
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
/// The interpreter or the runtime fails, a sample cannot be run, or the run is cancelled.
pub fn verify_export(
    model: &OpenModel,
    exported: &Exported,
    request: &ExportRequest<'_>,
    data: &OpenData,
    interpreter: (&Path, Runtime),
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(usize),
) -> Result<Verification, SessionError> {
    let ExportRequest {
        source, profile, ..
    } = *request;
    let (executor, prepared) = source.simulation(&exported.layers)?;
    let layers = nudged(&exported.layers);
    let moved = source.written(model, &layers, profile, "a copy to compare with")?;
    Ok(verify(
        &exported.model,
        &moved.bytes,
        &executor,
        &prepared,
        &data.evaluation,
        interpreter,
        cancel,
        on_batch,
    )?)
}
