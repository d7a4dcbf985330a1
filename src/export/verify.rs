//! The exported file run by a real runtime, beside the simulation.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::error::ExportError;
use super::layer_check::{LayerCheck, LayerTaps};
use super::model_file::StoredArithmetic;
use super::runtime::{Job, Level, Run, Runtime, run_script};
use super::runtime_kernels::{Kernels, executed};
use super::second_opinion::{SecondOpinion, second_opinion};
use crate::data::{NpyArray, write_f32};
use crate::engine::{
    Batches, Classification, Comparison, Executor, PreparedPlan, RunError, compare, run_batches,
};
use crate::jobs::CancelToken;
use crate::quant::ErrorSum;

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
    /// The same against a simulation that adds up in the runtime's own order, where that is known.
    pub in_order: Option<OrderedComparison>,
    /// What the runtime computes with, in sentences, where it tells.
    pub kernels: Option<String>,
}

/// The runtime's outputs against those of a simulation in its own order of sums.
#[derive(Clone, Debug)]
pub struct OrderedComparison {
    /// Each output.
    pub outputs: Vec<OutputDifference>,
    /// All outputs.
    pub comparison: Comparison,
    /// Accuracy of that simulation.
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
    /// No difference yet.
    pub(super) fn none(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            largest: 0.0,
            errors: ErrorSum::default(),
        }
    }

    /// `‖y − ŷ‖ / ‖y‖` over all elements.
    pub fn relative(&self) -> f64 {
        if self.errors.noise == 0.0 {
            return 0.0;
        }
        (self.errors.noise / self.errors.signal).sqrt()
    }
}

/// What became of the exported file where it was run.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Samples that everything ran.
    pub samples: usize,
    /// Accuracy of the simulation.
    pub simulated: Classification,
    /// The runtime that the file is for.
    pub runtime: RuntimeOutcome,
    /// A runtime inside this program.
    pub second_opinion: SecondOpinion,
}

/// Whether the runtime that the file is for could be asked.
#[derive(Clone, Debug)]
pub enum RuntimeOutcome {
    /// It ran the file.
    Ran(Box<RuntimeResult>),
    /// There is none; how to get one.
    Absent(String),
}

/// What a runtime made of the exported file.
#[derive(Clone, Debug)]
pub struct RuntimeResult {
    /// The runtime.
    pub runtime: Runtime,
    /// Its version.
    pub version: String,
    /// Every way of running.
    pub levels: Vec<LevelResult>,
    /// The runtime against itself with every weight scale moved to the next number in `f32`.
    ///
    /// How far the order of sums alone can take two exact computations of one plan apart.
    pub own_spread: Comparison,
    /// Layer after layer, each fed with the runtime's own inputs; only as the graph is written.
    pub layers: Vec<LayerCheck>,
}

/// A network as a target stores it, ready to run.
#[derive(Clone, Copy, Debug)]
pub struct Simulation<'a> {
    /// Runs the network.
    pub executor: &'a Executor,
    /// Weights and input quantizers.
    pub prepared: &'a PreparedPlan,
}

/// What is to be run and compared.
#[derive(Clone, Copy, Debug)]
pub struct VerifyRequest<'a> {
    /// The exported file.
    pub model: &'a Path,
    /// The file with every weight scale moved a little (see [`nudged`](super::nudged)).
    pub nudged: &'a [u8],
    /// How the file computes apart from what the plan says.
    pub arithmetic: &'a StoredArithmetic,
    /// The network as it is stored.
    pub simulation: Simulation<'a>,
    /// The same in the order of sums of ONNX Runtime.
    pub in_order: Simulation<'a>,
    /// The samples.
    pub batches: &'a Batches,
}

/// What the file is called that differs by one step in every scale.
fn nudged_file(model: &Path) -> PathBuf {
    Path::new(NUDGED).with_extension(model.extension().unwrap_or_default())
}

/// Name of the run of the nudged model.
const NUDGED: &str = "nudged";
/// Name of the run that gives every layer's input.
const TAPPED: &str = "tapped";

/// One batch as it was simulated.
pub(super) struct Simulated {
    input: PathBuf,
    /// The simulated outputs.
    pub outputs: Vec<Tensor>,
    /// Labels of the samples.
    pub labels: Vec<Option<u32>>,
    /// Number of samples.
    pub len: usize,
}

impl Simulated {
    /// What was fed.
    pub(super) fn read_input(&self) -> Result<NpyArray, ExportError> {
        NpyArray::read(&self.input).map_err(|error| ExportError::Message(error.to_string()))
    }
}

/// Runs the exported file on evaluation samples, and compares it with the simulation.
///
/// `interpreter` says what to run it in, or why there is none. `on_batch` is told how many samples were
/// simulated.
///
/// # Errors
/// The interpreter or the runtime fails, with its last words; or a sample cannot be run here.
pub fn verify(
    request: &VerifyRequest<'_>,
    interpreter: Result<(&Path, Runtime), String>,
    cancel: &CancelToken,
    on_batch: &mut dyn FnMut(usize),
) -> Result<Verification, ExportError> {
    let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
    let (simulation, batches) = (request.simulation, request.batches);
    let simulated = simulate(simulation, batches, folder.path(), cancel, on_batch)?;
    let graph = request.simulation.executor.graph();
    let names = |ids: &[crate::model::ValueId]| -> Vec<&str> {
        ids.iter()
            .map(|id| graph.value(*id).name.as_str())
            .collect()
    };
    let (inputs, outputs) = (names(graph.inputs()), names(graph.outputs()));
    let input = inputs.first().copied().unwrap_or_default();
    let runtime = match interpreter {
        Ok(interpreter) => {
            let run = RuntimeRun {
                request,
                folder: folder.path(),
                simulated: &simulated,
                input,
                outputs: &outputs,
                cancel,
            };
            RuntimeOutcome::Ran(Box::new(run.result(interpreter)?))
        }
        Err(reason) => RuntimeOutcome::Absent(reason),
    };
    let mut accuracy = Classification::default();
    for batch in &simulated {
        if let Some(logits) = batch.outputs.first() {
            accuracy.add(logits, &batch.labels)?;
        }
    }
    Ok(Verification {
        samples: simulated.iter().map(|batch| batch.len).sum(),
        simulated: accuracy,
        runtime,
        second_opinion: second_opinion(request.model, &simulated, input, &outputs)?,
    })
}

/// The script that was exported beside a model.
fn script_of(model: &Path) -> Result<PathBuf, ExportError> {
    let model = std::path::absolute(model).map_err(|error| failed(&error))?;
    Ok(model.with_extension("py"))
}

fn failed(error: &std::io::Error) -> ExportError {
    ExportError::Message(format!("cannot verify: {error}"))
}

/// The runs of one runtime.
struct RuntimeRun<'a> {
    request: &'a VerifyRequest<'a>,
    folder: &'a Path,
    simulated: &'a [Simulated],
    input: &'a str,
    outputs: &'a [&'a str],
    cancel: &'a CancelToken,
}

impl RuntimeRun<'_> {
    fn result(&self, (python, runtime): (&Path, Runtime)) -> Result<RuntimeResult, ExportError> {
        let follows = runtime.follows_sums();
        let taps = if follows {
            Some(LayerTaps::of(
                self.request.simulation,
                self.request.batches,
            )?)
        } else {
            None
        };
        let job = Job {
            runtime,
            input: self.input,
            folder: self.folder,
            script: script_of(self.request.model)?,
            inputs_channels_last: self.request.arithmetic.inputs_channels_last,
            outputs_channels_last: &self.request.arithmetic.outputs_channels_last,
            runs: self.runs(runtime, taps.as_ref())?,
        };
        let answer = run_script(python, self.folder, &job, self.cancel)?;
        let ordered = if follows {
            let (simulation, batches) = (self.request.in_order, self.request.batches);
            Some(simulate(
                simulation,
                batches,
                self.folder,
                self.cancel,
                &mut |_| {},
            )?)
        } else {
            None
        };
        let levels: Result<Vec<LevelResult>, ExportError> = runtime
            .levels()
            .iter()
            .map(|level| {
                let ordered = ordered.as_deref().filter(|_| *level == Level::Plain);
                let mut result = self.judge(*level, ordered)?;
                if let Some(layers) = answer.layers.get(level.name()) {
                    result.kernels = Some(executed(layers));
                }
                Ok(result)
            })
            .collect();
        let layers = taps.map(|taps| {
            let file = |index: usize| self.folder.join(format!("{TAPPED}-0-{index}.npy"));
            taps.check(self.request.simulation, &file)
        });
        Ok(RuntimeResult {
            runtime,
            version: answer.version,
            levels: levels?,
            own_spread: self.own_spread()?,
            layers: layers.transpose()?.unwrap_or_default(),
        })
    }

    /// Every run that is asked of the runtime.
    fn runs(&self, runtime: Runtime, taps: Option<&LayerTaps>) -> Result<Vec<Run>, ExportError> {
        let model = std::path::absolute(self.request.model).map_err(|error| failed(&error))?;
        let run = |name, model: &Path, level| Run {
            name,
            model: model.to_owned(),
            level,
            inputs: self.simulated.iter().map(|one| one.input.clone()).collect(),
            outputs: self.outputs.iter().map(|name| (*name).to_owned()).collect(),
            optimized_model: None,
        };
        let mut runs: Vec<Run> = runtime
            .levels()
            .iter()
            .map(|level| {
                let tells = runtime == Runtime::OnnxRuntime && *level == Level::Optimized;
                Run {
                    optimized_model: tells.then(|| self.optimized_model()),
                    ..run(level.name(), &model, *level)
                }
            })
            .collect();
        let moved = self.written(nudged_file(&model), self.request.nudged)?;
        runs.push(run(NUDGED, &moved, Level::Plain));
        if let Some(taps) = taps {
            let tapped = self.written("tapped.onnx", &taps.tapped_model(&model)?)?;
            runs.push(Run {
                inputs: vec![taps.write_input(self.folder)?],
                outputs: taps.names(),
                ..run(TAPPED, &tapped, Level::Plain)
            });
        }
        Ok(runs)
    }

    /// Where the runtime saves the graph that it made.
    fn optimized_model(&self) -> PathBuf {
        self.folder.join("optimized.onnx")
    }

    fn written(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<PathBuf, ExportError> {
        let path = self.folder.join(name);
        std::fs::write(&path, bytes).map_err(|error| failed(&error))?;
        Ok(path)
    }

    /// The outputs of the runtime in one of its runs.
    fn read_outputs(
        &self,
        run: &str,
        (index, batch): (usize, &Simulated),
    ) -> Result<Vec<Tensor>, ExportError> {
        (0..self.outputs.len())
            .zip(&batch.outputs)
            .map(|(output, expected)| {
                let name = format!("{run}-{index}-{output}.npy");
                fitting(read_tensor(&self.folder.join(name))?, expected)
            })
            .collect()
    }

    /// How far the runtime is from itself after a nudge.
    fn own_spread(&self) -> Result<Comparison, ExportError> {
        let mut comparison = Comparison::default();
        for (index, batch) in self.simulated.iter().enumerate() {
            let before = self.read_outputs(Level::Plain.name(), (index, batch))?;
            let after = self.read_outputs(NUDGED, (index, batch))?;
            comparison.add(&before, &after, batch.len)?;
        }
        Ok(comparison)
    }

    fn judge(
        &self,
        level: Level,
        ordered: Option<&[Simulated]>,
    ) -> Result<LevelResult, ExportError> {
        let none = || -> Vec<OutputDifference> {
            let names = self.outputs.iter();
            names.map(|name| OutputDifference::none(name)).collect()
        };
        let mut result = LevelResult {
            level,
            outputs: none(),
            comparison: Comparison::default(),
            accuracy: Classification::default(),
            in_order: ordered.map(|_| OrderedComparison {
                outputs: none(),
                comparison: Comparison::default(),
                accuracy: Classification::default(),
            }),
            kernels: None,
        };
        if level == Level::Optimized && self.optimized_model().exists() {
            let kernels = Kernels::of(self.request.model, &self.optimized_model())?;
            result.kernels = Some(kernels.explained());
        }
        for (index, batch) in self.simulated.iter().enumerate() {
            let outputs = self.read_outputs(level.name(), (index, batch))?;
            difference_of(batch, &outputs, &mut result.outputs)?;
            if let Some(logits) = outputs.first() {
                result.accuracy.add(logits, &batch.labels)?;
            }
            result.comparison.add(&batch.outputs, &outputs, batch.len)?;
            let ordered = ordered.and_then(|ordered| ordered.get(index));
            if let (Some(found), Some(batch)) = (&mut result.in_order, ordered) {
                difference_of(batch, &outputs, &mut found.outputs)?;
                if let Some(logits) = batch.outputs.first() {
                    found.accuracy.add(logits, &batch.labels)?;
                }
                found.comparison.add(&batch.outputs, &outputs, batch.len)?;
            }
        }
        Ok(result)
    }
}

/// Adds the differences of one batch, output by output.
pub(super) fn difference_of(
    batch: &Simulated,
    found: &[Tensor],
    differences: &mut [OutputDifference],
) -> Result<(), ExportError> {
    for ((difference, expected), found) in differences.iter_mut().zip(&batch.outputs).zip(found) {
        let errors = compare(expected, found).map_err(RunError::from)?;
        difference.errors.merge(&errors);
        difference.largest = difference.largest.max(largest_difference(expected, found)?);
    }
    Ok(())
}

fn simulate(
    Simulation { executor, prepared }: Simulation<'_>,
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

/// An array of the runtime.
pub(super) fn read_tensor(path: &Path) -> Result<Tensor, ExportError> {
    let array = NpyArray::read(path).map_err(|error| ExportError::Message(error.to_string()))?;
    let tensor = Tensor::from_vec(array.data.into_f32(), array.shape, &Device::Cpu);
    Ok(tensor.map_err(RunError::from)?)
}

/// An output without the samples that only filled up a fixed batch.
pub(super) fn fitting(tensor: Tensor, expected: &Tensor) -> Result<Tensor, ExportError> {
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
