//! The exported file run by a real runtime, beside the simulation.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::error::ExportError;
use crate::data::{NpyArray, write_f32};
use crate::engine::{
    Batches, Classification, Comparison, Executor, PreparedPlan, RunError, compare, run_batches,
};
use crate::jobs::CancelToken;
use crate::quant::ErrorSum;

/// The script that runs a model outside of this program.
const SCRIPT: &str = include_str!("run_model.py");

/// How often a program that runs is looked after.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// A runtime that is reached through a Python interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// `onnxruntime` on the CPU.
    OnnxRuntime,
    /// `openvino` on the CPU.
    OpenVino,
}

impl Runtime {
    /// Name of the Python package.
    pub fn package(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::OpenVino => "openvino",
        }
    }

    /// How a model is run: without and with graph optimisations, where that can be chosen.
    fn levels(self) -> &'static [Level] {
        match self {
            Self::OnnxRuntime => &[Level::Plain, Level::Optimized],
            Self::OpenVino => &[Level::Optimized],
        }
    }

    /// The first of them, which is nearest to what was simulated.
    fn first_level(self) -> Level {
        match self {
            Self::OnnxRuntime => Level::Plain,
            Self::OpenVino => Level::Optimized,
        }
    }
}

/// Whether the runtime may rewrite the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it is in the file: quantize, dequantize, compute in float.
    Plain,
    /// With integer kernels, where the runtime has them.
    Optimized,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Optimized => "optimized",
        }
    }
}

/// What one way of running gave.
#[derive(Clone, Debug)]
pub struct LevelResult {
    /// Whether the runtime could rewrite the graph.
    pub level: Level,
    /// Each output: name, largest difference, and signal and noise against the simulation.
    pub outputs: Vec<OutputDifference>,
    /// The runtime's outputs against the simulated ones.
    pub comparison: Comparison,
    /// Accuracy of the runtime.
    pub accuracy: Classification,
}

/// How far an output of the runtime is from the simulated one.
#[derive(Clone, Debug)]
pub struct OutputDifference {
    /// Name of the output.
    pub name: String,
    /// Largest absolute difference of an element.
    pub largest: f64,
    /// Signal and noise over all elements.
    pub errors: ErrorSum,
}

impl OutputDifference {
    /// `‖y − ŷ‖ / ‖y‖` over all elements.
    pub fn relative(&self) -> f64 {
        if self.errors.noise == 0.0 {
            return 0.0;
        }
        (self.errors.noise / self.errors.signal).sqrt()
    }
}

/// What a runtime made of the exported file.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The runtime.
    pub runtime: Runtime,
    /// Its version.
    pub version: String,
    /// Samples that both ran.
    pub samples: usize,
    /// Accuracy of the simulation.
    pub simulated: Classification,
    /// Every way of running.
    pub levels: Vec<LevelResult>,
    /// The runtime against itself with every weight scale moved to the next number in `f32`.
    ///
    /// No simulation can be expected to be nearer to the runtime than that.
    pub own_spread: Comparison,
}

/// An interpreter that has the runtime: the one that is asked for, else one that is found.
///
/// Looks at `QUANTSCOPE_PYTHON`, the active virtual environment, and `python3` and `python` on the path.
///
/// # Errors
/// None has it; the message says how to get one.
pub fn find_interpreter(asked: Option<&Path>, runtime: Runtime) -> Result<PathBuf, ExportError> {
    let package = runtime.package();
    let has_runtime = |python: &Path| {
        let import = format!("import {package}, numpy");
        let output = Command::new(python).args(["-c", &import]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if let Some(python) = asked {
        return if has_runtime(python) {
            Ok(python.to_owned())
        } else {
            Err(ExportError::Message(format!(
                "{} cannot import {package} and numpy; run `{} -m pip install {package} numpy`, or give another interpreter with --python",
                python.display(),
                python.display()
            )))
        };
    }
    let environment = std::env::var_os("VIRTUAL_ENV").map(|folder| {
        let folder = PathBuf::from(folder);
        if cfg!(windows) {
            folder.join("Scripts").join("python.exe")
        } else {
            folder.join("bin").join("python")
        }
    });
    let named = std::env::var_os("QUANTSCOPE_PYTHON").map(PathBuf::from);
    let on_path = ["python3", "python"].map(PathBuf::from);
    named
        .into_iter()
        .chain(environment)
        .chain(on_path)
        .find(|python| has_runtime(python))
        .ok_or_else(|| {
            ExportError::Message(format!(
                "no Python interpreter with {package} and numpy was found; make one with `python3 -m venv venv && venv/bin/pip install {package} numpy` and give it with --python venv/bin/python"
            ))
        })
}

#[derive(Serialize)]
struct Job<'a> {
    runtime: Runtime,
    inputs: Vec<PathBuf>,
    input: &'a str,
    outputs: Vec<&'a str>,
    folder: &'a Path,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Run {
    name: &'static str,
    model: PathBuf,
    optimize: bool,
}

/// Name of the run of the nudged model.
const NUDGED: &str = "nudged";

#[derive(Deserialize)]
struct Answer {
    version: String,
}

/// One batch as it was simulated.
struct Simulated {
    input: PathBuf,
    outputs: Vec<Tensor>,
    labels: Vec<Option<u32>>,
    len: usize,
}

/// Runs the exported file on evaluation samples, and compares it with the simulation.
///
/// `nudged` is the model with every weight scale moved a little (see [`nudged`](super::nudged)).
/// `executor` and `prepared` are the network as it is stored. `on_batch` is told how many samples were simulated.
///
/// # Errors
/// The interpreter or the runtime fails, with its last words; or a sample cannot be run here.
pub fn verify(
    model: &Path,
    nudged: &[u8],
    executor: &Executor,
    prepared: &PreparedPlan,
    batches: &Batches,
    (python, runtime): (&Path, Runtime),
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(usize),
) -> Result<Verification, ExportError> {
    let failed = |error: std::io::Error| ExportError::Message(format!("cannot verify: {error}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    let simulated = simulate(executor, prepared, batches, folder.path(), cancel, on_batch)?;
    let moved = folder.path().join("nudged.onnx");
    std::fs::write(&moved, nudged).map_err(failed)?;
    let model = std::path::absolute(model).map_err(failed)?;
    let run = |name, model: &PathBuf, level| Run {
        name,
        model: model.clone(),
        optimize: level == Level::Optimized,
    };
    let levels = runtime.levels().iter();
    let mut runs: Vec<Run> = levels
        .map(|level| run(level.name(), &model, *level))
        .collect();
    runs.push(run(NUDGED, &moved, runtime.first_level()));
    let graph = executor.graph();
    let names = |ids: &[crate::model::ValueId]| -> Vec<&str> {
        ids.iter()
            .map(|id| graph.value(*id).name.as_str())
            .collect()
    };
    let job = Job {
        runtime,
        inputs: simulated.iter().map(|batch| batch.input.clone()).collect(),
        input: names(graph.inputs()).first().copied().unwrap_or_default(),
        outputs: names(graph.outputs()),
        folder: folder.path(),
        runs,
    };
    let version = run_script(python, folder.path(), &job, cancel)?;
    let levels: Result<Vec<LevelResult>, ExportError> = runtime
        .levels()
        .iter()
        .map(|level| judge(*level, &simulated, &job))
        .collect();
    let mut accuracy = Classification::default();
    for batch in &simulated {
        if let Some(logits) = batch.outputs.first() {
            accuracy.add(logits, &batch.labels)?;
        }
    }
    Ok(Verification {
        runtime,
        version,
        samples: simulated.iter().map(|batch| batch.len).sum(),
        simulated: accuracy,
        levels: levels?,
        own_spread: own_spread(runtime.first_level(), &simulated, &job)?,
    })
}

fn simulate(
    executor: &Executor,
    prepared: &PreparedPlan,
    batches: &Batches,
    folder: &Path,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(usize),
) -> Result<Vec<Simulated>, ExportError> {
    let mut simulated = Vec::new();
    let mut samples = 0;
    let batches = &batches.stopped_by(cancel);
    run_batches(executor, prepared, batches, cancel, |batch, held| {
        let input = folder.join(format!("input-{}.npy", simulated.len()));
        let fed = executor
            .graph()
            .inputs()
            .first()
            .and_then(|id| batch.fed.get(*id));
        let fed = fed.map(|value| value.plain()).transpose()?;
        let fed = fed.ok_or_else(|| RunError::message("a batch has no input".to_owned()))?;
        let values = fed.flatten_all()?.to_vec1::<f32>()?;
        write_f32(&input, fed.dims(), &values)
            .map_err(|error| RunError::message(error.to_string()))?;
        let outputs = crate::engine::outputs_of(executor, held, batch.len)?;
        simulated.push(Simulated {
            input,
            outputs,
            labels: batch.labels.clone(),
            len: batch.len,
        });
        samples += batch.len;
        on_batch(samples);
        Ok(())
    })?;
    Ok(simulated)
}

fn run_script(
    python: &Path,
    folder: &Path,
    job: &Job<'_>,
    cancel: &CancelToken,
) -> Result<String, ExportError> {
    let failed = |error: std::io::Error| {
        ExportError::Message(format!("cannot run {}: {error}", python.display()))
    };
    let script = folder.join("run_model.py");
    std::fs::write(&script, SCRIPT).map_err(failed)?;
    let text = serde_json::to_string(job)
        .map_err(|error| ExportError::Message(format!("cannot verify: {error}")))?;
    let manifest = folder.join("job.json");
    std::fs::write(&manifest, text).map_err(failed)?;
    let output = output_of(
        Command::new(python).args([&script, &manifest]),
        folder,
        cancel,
    )?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<&str> = words
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = lines
            .get(lines.len().saturating_sub(3)..)
            .unwrap_or_default();
        return Err(ExportError::Message(format!(
            "{} could not run the exported model:\n{}",
            job.runtime.package(),
            last.join("\n")
        )));
    }
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = words.lines().last().unwrap_or_default();
    serde_json::from_str::<Answer>(answer)
        .map(|answer| answer.version)
        .map_err(|error| ExportError::Message(format!("the runtime's answer is not JSON: {error}")))
}

/// What a program says; it is ended where the run is cancelled.
///
/// Both streams go to files in `folder`, which hold whatever it says without making it wait.
fn output_of(
    command: &mut Command,
    folder: &Path,
    cancel: &CancelToken,
) -> Result<Output, ExportError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed =
        |error: std::io::Error| ExportError::Message(format!("cannot run {program}: {error}"));
    let paths = ["stdout", "stderr"].map(|name| folder.join(name));
    let [stdout, stderr] = paths.each_ref().map(std::fs::File::create);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.map_err(failed)?)
        .stderr(stderr.map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if let Err(cancelled) = cancel.check() {
            // It may have ended by itself in the meantime.
            child.kill().ok();
            child.wait().map_err(failed)?;
            return Err(RunError::from(cancelled).into());
        }
        std::thread::sleep(WAIT_STEP);
    };
    let [stdout, stderr] = paths.map(std::fs::read);
    Ok(Output {
        status,
        stdout: stdout.map_err(failed)?,
        stderr: stderr.map_err(failed)?,
    })
}

/// The outputs of the runtime in one of its runs.
fn read_outputs(
    run: &str,
    (index, batch): (usize, &Simulated),
    job: &Job<'_>,
) -> Result<Vec<Tensor>, ExportError> {
    (0..job.outputs.len())
        .zip(&batch.outputs)
        .map(|(output, expected)| {
            let name = format!("{run}-{index}-{output}.npy");
            read_output(&job.folder.join(name), expected)
        })
        .collect()
}

/// How far the runtime is from itself after a nudge.
fn own_spread(
    level: Level,
    simulated: &[Simulated],
    job: &Job<'_>,
) -> Result<Comparison, ExportError> {
    let mut comparison = Comparison::default();
    for (index, batch) in simulated.iter().enumerate() {
        let before = read_outputs(level.name(), (index, batch), job)?;
        let after = read_outputs(NUDGED, (index, batch), job)?;
        comparison.add(&before, &after, batch.len)?;
    }
    Ok(comparison)
}

fn judge(level: Level, simulated: &[Simulated], job: &Job<'_>) -> Result<LevelResult, ExportError> {
    let mut result = LevelResult {
        level,
        outputs: job
            .outputs
            .iter()
            .map(|name| OutputDifference {
                name: (*name).to_owned(),
                largest: 0.0,
                errors: ErrorSum::default(),
            })
            .collect(),
        comparison: Comparison::default(),
        accuracy: Classification::default(),
    };
    for (index, batch) in simulated.iter().enumerate() {
        let outputs = read_outputs(level.name(), (index, batch), job)?;
        for ((difference, expected), found) in
            result.outputs.iter_mut().zip(&batch.outputs).zip(&outputs)
        {
            difference
                .errors
                .merge(&compare(expected, found).map_err(RunError::from)?);
            difference.largest = difference.largest.max(largest_difference(expected, found)?);
        }
        if let Some(logits) = outputs.first() {
            result.accuracy.add(logits, &batch.labels)?;
        }
        result.comparison.add(&batch.outputs, &outputs, batch.len)?;
    }
    Ok(result)
}

/// An output without the samples that only filled up a fixed batch.
fn read_output(path: &Path, expected: &Tensor) -> Result<Tensor, ExportError> {
    let array = NpyArray::read(path).map_err(|error| ExportError::Message(error.to_string()))?;
    let tensor = Tensor::from_vec(array.data.into_f32(), array.shape, &Device::Cpu)
        .map_err(RunError::from)?;
    let rows = expected.dims().first().copied().unwrap_or(0);
    let tensor = match tensor.dims().first() {
        Some(&found) if found > rows => tensor.narrow(0, 0, rows).map_err(RunError::from)?,
        _ => tensor,
    };
    if tensor.dims() != expected.dims() {
        return Err(ExportError::Message(format!(
            "the runtime gave an output of shape {:?}, the simulation {:?}",
            tensor.dims(),
            expected.dims()
        )));
    }
    tensor
        .contiguous()
        .map_err(|error| RunError::from(error).into())
}

fn largest_difference(one: &Tensor, other: &Tensor) -> Result<f64, RunError> {
    let values = |tensor: &Tensor| -> Result<Vec<f32>, RunError> {
        Ok(tensor
            .to_dtype(candle_core::DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?)
    };
    let pairs = values(one)?.into_iter().zip(values(other)?);
    Ok(pairs
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, f64::max))
}
