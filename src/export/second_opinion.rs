//! The exported file run by `rten`, a runtime inside this program with operators of its own.

use std::path::Path;

use super::error::ExportError;
use super::verify::{OutputDifference, Simulated, difference_of, fitting};
use crate::engine::{Classification, Comparison};

/// What another runtime inside this program says of the exported file.
#[derive(Clone, Debug)]
pub enum SecondOpinion {
    /// It ran the file.
    Ran(Box<Opinion>),
    /// It cannot run the file, in a sentence.
    Unable(String),
}

/// What the other runtime gave.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// What of the file was written in other operators because the runtime has no type for it, a
    /// phrase each.
    pub spelled_out: Vec<&'static str>,
    /// Each output against the simulated one.
    pub outputs: Vec<OutputDifference>,
    /// All outputs against the simulated ones.
    pub comparison: Comparison,
    /// Accuracy of the runtime.
    pub accuracy: Classification,
}

/// Runs the exported file on the samples that were simulated.
///
/// # Errors
/// The file or a sample cannot be read back. What the runtime lacks is no error.
pub(super) fn second_opinion(
    model: &Path,
    simulated: &[Simulated],
    input: &str,
    outputs: &[&str],
) -> Result<SecondOpinion, ExportError> {
    if model
        .extension()
        .is_none_or(|extension| extension != "onnx")
    {
        return Ok(SecondOpinion::Unable(
            "rten, the runtime inside this program, runs ONNX files".to_owned(),
        ));
    }
    let file = super::spelled_out::spelled_out(model)?;
    let mut other = match rten_model::OtherModel::load(file.bytes, input, outputs) {
        Ok(other) => other,
        Err(reason) => return Ok(SecondOpinion::Unable(reason)),
    };
    let mut opinion = Opinion {
        spelled_out: file.changes.into_iter().collect(),
        outputs: outputs
            .iter()
            .map(|name| OutputDifference::none(name))
            .collect(),
        comparison: Comparison::default(),
        accuracy: Classification::default(),
    };
    for batch in simulated {
        let array = batch.read_input()?;
        let found = match other.run(array) {
            Ok(found) => found,
            Err(reason) => return Ok(SecondOpinion::Unable(reason)),
        };
        let found: Result<Vec<_>, ExportError> = found
            .into_iter()
            .zip(&batch.outputs)
            .map(|(tensor, expected)| fitting(tensor, expected))
            .collect();
        let found = found?;
        difference_of(batch, &found, &mut opinion.outputs)?;
        if let Some(logits) = found.first() {
            opinion.accuracy.add(logits, &batch.labels)?;
        }
        opinion.comparison.add(&batch.outputs, &found, batch.len)?;
    }
    Ok(SecondOpinion::Ran(Box::new(opinion)))
}

#[cfg(feature = "second-opinion")]
mod rten_model {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use candle_core::{Device, Tensor};
    use rten::{Model, ModelOptions, NodeId, Value, ValueOrView};
    use rten_tensor::{AsView as _, Layout as _};

    use crate::data::NpyArray;

    /// A model that `rten` has loaded.
    pub(super) struct OtherModel {
        model: Model,
        input: NodeId,
        outputs: Vec<NodeId>,
    }

    fn refused(error: &dyn std::fmt::Display) -> String {
        format!("rten cannot run the file: {error}")
    }

    /// A panic of the runtime is one more thing that it cannot do.
    fn caught<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_panic| Err("rten stopped in the middle of the file".to_owned()))
    }

    impl OtherModel {
        pub(super) fn load(bytes: Vec<u8>, input: &str, outputs: &[&str]) -> Result<Self, String> {
            caught(|| {
                let model = ModelOptions::with_all_ops()
                    .enable_optimization(false)
                    .load(bytes)
                    .map_err(|error| refused(&error))?;
                let id = |name: &str| model.node_id(name).map_err(|error| refused(&error));
                let input = id(input)?;
                let outputs: Result<Vec<NodeId>, String> =
                    outputs.iter().map(|name| id(name)).collect();
                let outputs = outputs?;
                Ok(Self {
                    model,
                    input,
                    outputs,
                })
            })
        }

        pub(super) fn run(&mut self, array: NpyArray) -> Result<Vec<Tensor>, String> {
            caught(|| {
                let value = Value::from_shape(array.shape, array.data.into_f32())
                    .map_err(|error| refused(&error))?;
                let inputs = vec![(self.input, ValueOrView::from(value))];
                let values = self
                    .model
                    .run(inputs, &self.outputs, None)
                    .map_err(|error| refused(&error))?;
                values.into_iter().map(tensor).collect()
            })
        }
    }

    fn tensor(value: Value) -> Result<Tensor, String> {
        let values = value
            .into_tensor::<f32>()
            .ok_or_else(|| "rten gives an output that is no f32".to_owned())?;
        let shape: Vec<usize> = values.shape().to_vec();
        Tensor::from_vec(values.to_vec(), shape, &Device::Cpu).map_err(|error| refused(&error))
    }
}

#[cfg(not(feature = "second-opinion"))]
mod rten_model {
    use candle_core::Tensor;

    use crate::data::NpyArray;

    /// Stands for a model where the runtime is left out of the build.
    pub(super) enum OtherModel {}

    impl OtherModel {
        pub(super) fn load(_: Vec<u8>, _: &str, _: &[&str]) -> Result<Self, String> {
            Err("this program was built without the second opinion".to_owned())
        }

        pub(super) fn run(&mut self, _: NpyArray) -> Result<Vec<Tensor>, String> {
            match *self {}
        }
    }
}
