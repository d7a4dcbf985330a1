//! `quantscope run`: raw outputs for `.npy` inputs.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::Exit;
use super::args::RunArguments;
use super::eval::{announce, thread_pool};
use super::output;
use super::tuning::tuned;
use crate::data::{NpyArray, NpyData, write_f32, write_i64};
use crate::engine::{Executor, PreparedPlan, RunError, equalized, forward};
use crate::jobs::CancelToken;
use crate::model::ValueId;
use crate::session::{OpenData, OpenModel, SessionError, needs_calibration};

#[derive(Serialize)]
struct Report {
    outputs: Vec<OutputReport>,
}

#[derive(Serialize)]
struct OutputReport {
    name: String,
    shape: Vec<usize>,
    file: PathBuf,
}

pub(super) fn run(arguments: &RunArguments) -> Result<Exit, SessionError> {
    thread_pool(arguments.compute)?.install(|| run_model(arguments))
}

fn run_model(arguments: &RunArguments) -> Result<Exit, SessionError> {
    let model = OpenModel::open_with(&arguments.model, arguments.compute.arithmetic.into())?;
    let inputs: Result<Vec<(ValueId, Tensor)>, SessionError> = arguments
        .input
        .iter()
        .map(|argument| read_input(&model, argument))
        .collect();
    let inputs = inputs?;
    check_inputs(&model, &inputs)?;
    let (executor, prepared) = prepare(&model, arguments)?;
    let outputs = forward(&executor, &prepared, &inputs, &CancelToken::default())?;
    std::fs::create_dir_all(&arguments.out).map_err(|source| SessionError::Write {
        path: arguments.out.clone(),
        source,
    })?;
    let mut reports = Vec::new();
    for (id, tensor) in model.graph().outputs().iter().zip(&outputs) {
        let name = model.graph().value(*id).name.clone();
        let file = arguments.out.join(format!("{}.npy", file_stem(&name)));
        write_output(&file, tensor)?;
        reports.push(OutputReport {
            name,
            shape: tensor.dims().to_vec(),
            file,
        });
    }
    let report = Report { outputs: reports };
    if arguments.output.json {
        output::json(&report)?;
    } else {
        for one in &report.outputs {
            output::line(&format!(
                "{} {:?} {}",
                one.name,
                one.shape,
                one.file.display()
            ));
        }
    }
    Ok(Exit::Done)
}

/// Float, or the plan that the options ask for, and what runs it.
fn prepare(
    model: &OpenModel,
    arguments: &RunArguments,
) -> Result<(Arc<Executor>, PreparedPlan), SessionError> {
    let executor = Arc::clone(&model.executor);
    if !arguments.plan.is_given() {
        let prepared = executor.prepare_float()?;
        return Ok((executor, prepared));
    }
    let plan = arguments.plan.plan_for(model)?;
    match &arguments.data_options.calib {
        Some(folder) => {
            let mut options = arguments.data_options.clone();
            options.calib = Some(folder.clone());
            let data = OpenData::open(model, options.request(folder.clone()))?;
            announce(&data, arguments.output);
            let tuned = tuned(model, plan, &data, &arguments.plan, arguments.output)?;
            Ok((tuned.executor, tuned.prepared))
        }
        None if needs_calibration(&plan) => Err(SessionError::Missing(
            "the plan quantizes activations or rounds weights on calibration data; give that with --calib DIR, or --activations f32 and nearest rounding".to_owned(),
        )),
        None => {
            let (executor, _) = equalized(&executor, &plan, None, &CancelToken::default())?;
            let prepared = executor.prepare(&plan, None)?;
            Ok((executor, prepared))
        }
    }
}

fn read_input(model: &OpenModel, argument: &str) -> Result<(ValueId, Tensor), SessionError> {
    let graph = model.graph();
    let by_name = |name: &str| {
        graph
            .inputs()
            .iter()
            .copied()
            .find(|id| graph.value(*id).name == name)
    };
    let named = argument
        .match_indices('=')
        .find_map(|(at, _)| Some((by_name(&argument[..at])?, &argument[at + 1..])));
    let (id, path) = match (named, graph.inputs()) {
        (Some(found), _) => found,
        (None, &[only]) => (only, argument),
        (None, several) => {
            let names: Vec<&str> = several
                .iter()
                .map(|id| graph.value(*id).name.as_str())
                .collect();
            return Err(SessionError::Missing(format!(
                "input {argument:?} names no input of the model; expected NAME=FILE.npy with one of {names:?}"
            )));
        }
    };
    let NpyArray { shape, data } = NpyArray::read(path.as_ref())?;
    let tensor = match data {
        NpyData::F32(_) | NpyData::F64(_) => Tensor::from_vec(data.into_f32(), shape, &Device::Cpu),
        NpyData::I32(_) | NpyData::I64(_) | NpyData::U8(_) => {
            let values = data.into_i64().unwrap_or_default();
            Tensor::from_vec(values, shape, &Device::Cpu)
        }
    };
    Ok((id, tensor.map_err(RunError::from)?))
}

fn check_inputs(model: &OpenModel, inputs: &[(ValueId, Tensor)]) -> Result<(), SessionError> {
    for id in model.graph().inputs() {
        let value = model.graph().value(*id);
        let Some((_, tensor)) = inputs.iter().find(|(other, _)| other == id) else {
            return Err(SessionError::Missing(format!(
                "input {:?} of the model is missing; give it as --input {}=FILE.npy",
                value.name, value.name
            )));
        };
        let declared = value.shape.as_deref().unwrap_or_default();
        let fits = value.shape.is_none()
            || declared.len() == tensor.rank()
                && declared
                    .iter()
                    .zip(tensor.dims())
                    .skip(1)
                    .all(|(dim, length)| match dim {
                        crate::model::Dim::Fixed(fixed) => fixed == length,
                        crate::model::Dim::Symbol(_) => true,
                    });
        if !fits {
            let declared: Vec<String> = declared.iter().map(ToString::to_string).collect();
            return Err(SessionError::Missing(format!(
                "input {:?} has shape {:?}, but the model expects [{}]",
                value.name,
                tensor.dims(),
                declared.join(", ")
            )));
        }
    }
    Ok(())
}

fn write_output(path: &std::path::Path, tensor: &Tensor) -> Result<(), SessionError> {
    let flat = tensor.flatten_all().map_err(RunError::from)?;
    if tensor.dtype() == DType::F32 {
        let values = flat.to_vec1::<f32>().map_err(RunError::from)?;
        write_f32(path, tensor.dims(), &values)?;
    } else {
        let values = flat
            .to_dtype(DType::I64)
            .and_then(|flat| flat.to_vec1::<i64>())
            .map_err(RunError::from)?;
        write_i64(path, tensor.dims(), &values)?;
    }
    Ok(())
}

/// Value names may hold slashes; file names may not.
fn file_stem(name: &str) -> String {
    name.trim_start_matches('/').replace(['/', '\\', ':'], "_")
}
