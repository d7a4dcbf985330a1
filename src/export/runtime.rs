//! Runtimes outside of this program, reached through a Python interpreter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ExportError;
use super::runtime_kernels::ExecutedLayer;
use crate::engine::RunError;
use crate::jobs::CancelToken;
use crate::plan::FileFormat;

/// The script that runs a model outside of this program.
const SCRIPT: &str = include_str!("run_model.py");

/// How often a program that runs is looked after.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// A runtime that is reached through a Python interpreter.
#[expect(
    clippy::enum_variant_names,
    reason = "one of them is called so by its makers"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// `onnxruntime` on the CPU.
    OnnxRuntime,
    /// `openvino` on the CPU.
    OpenVino,
    /// `ai-edge-litert` on the CPU.
    LiteRt,
    /// The script that was exported, run by `torch` on the CPU.
    Torch,
}

impl Runtime {
    /// Name of the Python package.
    pub fn package(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::OpenVino => "openvino",
            Self::LiteRt => "ai_edge_litert",
            Self::Torch => "torch",
        }
    }

    /// What the package is called where it is installed from.
    fn distribution(self) -> &'static str {
        match self {
            Self::LiteRt => "ai-edge-litert",
            Self::OnnxRuntime | Self::OpenVino | Self::Torch => self.package(),
        }
    }

    /// Format of the files that it runs.
    pub fn file(self) -> FileFormat {
        match self {
            Self::LiteRt => FileFormat::Tflite,
            Self::Torch => FileFormat::SafeTensors,
            Self::OnnxRuntime | Self::OpenVino => FileFormat::Onnx,
        }
    }

    /// How a model is run: without and with graph optimisations, where that can be chosen.
    pub(super) fn levels(self) -> &'static [Level] {
        match self {
            Self::OnnxRuntime | Self::OpenVino => &[Level::Plain, Level::Kept, Level::Optimized],
            Self::LiteRt => &[Level::Plain, Level::Optimized],
            Self::Torch => &[Level::Plain],
        }
    }

    /// Whether its sums can be followed in their order, and its layers looked at one by one.
    pub(super) fn follows_sums(self) -> bool {
        self == Self::OnnxRuntime
    }
}

/// Whether the runtime may rewrite the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it is in the file: quantize, dequantize, compute in float; for `LiteRT` the reference kernels,
    /// for `OpenVINO` without its low-precision transformations.
    Plain,
    /// Rewritten, but with nothing quantized that the file does not quantize.
    Kept,
    /// As the runtime does without being asked otherwise.
    Optimized,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Kept => "kept",
            Self::Optimized => "optimized",
        }
    }
}

/// An interpreter that has the runtime: the one that is asked for, else one that is found.
///
/// Looks at `QUANTSCOPE_PYTHON`, the active virtual environment, and `python3` and `python` on the path.
///
/// # Errors
/// None has it; the message says how to get one.
pub fn find_interpreter(asked: Option<&Path>, runtime: Runtime) -> Result<PathBuf, ExportError> {
    let (package, distribution) = (runtime.package(), runtime.distribution());
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
                "{} cannot import {package} and numpy; run `{} -m pip install {distribution} numpy`, or give another interpreter with --python",
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
                "No Python interpreter with {package} and numpy was found; make one with `python3 -m venv venv && venv/bin/pip install {distribution} numpy` and give it with --python venv/bin/python"
            ))
        })
}

/// What a runtime is asked to do.
#[derive(Serialize)]
pub(super) struct Job<'a> {
    pub(super) runtime: Runtime,
    pub(super) input: &'a str,
    pub(super) folder: &'a Path,
    /// The script beside the model that `torch` runs; others read the model themselves.
    pub(super) script: PathBuf,
    pub(super) inputs_channels_last: bool,
    pub(super) outputs_channels_last: &'a [bool],
    pub(super) runs: Vec<Run>,
}

/// One file on some inputs.
#[derive(Serialize)]
pub(super) struct Run {
    pub(super) name: &'static str,
    pub(super) model: PathBuf,
    pub(super) level: Level,
    pub(super) inputs: Vec<PathBuf>,
    pub(super) outputs: Vec<String>,
    /// Where the rewritten graph is to be saved.
    pub(super) optimized_model: Option<PathBuf>,
}

/// What a runtime says about itself.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) version: String,
    /// The layers of each run, where the runtime tells.
    pub(super) layers: BTreeMap<String, Vec<ExecutedLayer>>,
}

/// Does a job, and gives what the runtime says about itself.
///
/// # Errors
/// The interpreter or the runtime fails, with its last words, or the run is cancelled.
pub(super) fn run_script(
    python: &Path,
    folder: &Path,
    job: &Job<'_>,
    cancel: &CancelToken,
) -> Result<Answer, ExportError> {
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
    serde_json::from_str(answer)
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
