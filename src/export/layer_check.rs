//! Layer after layer beside a runtime, each fed with the runtime's own numbers.
//!
//! Outputs of a whole network differ where one code of an early layer was rounded to the other side.
//! A single layer that is fed with what the runtime fed it differs by the last bits of its sums alone,
//! or it is computed in another way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::error::ExportError;
use super::onnx_message::{graph_field, model_field};
use super::protobuf::{Field, fields, message};
use super::verify::{Simulation, read_tensor};
use crate::data::write_f32;
use crate::engine::{Activations, Batches, Keep, RunError, RunOptions, compare};
use crate::jobs::CancelToken;
use crate::model::onnx_proto::{TensorTypeProto, TypeProto, ValueInfoProto, data_type};
use crate::model::{Graph, ValueId};
use crate::quant::{ActivationQuantizer, ErrorSum, Grid};

/// Samples that are looked at.
const SAMPLES: usize = 8;

/// One value of the network, computed from the runtime's numbers one layer before.
#[derive(Clone, Debug)]
pub struct LayerCheck {
    /// Layers that read the value; none for an output of the network.
    pub readers: Vec<String>,
    /// Name of the value.
    pub value: String,
    /// Signal and noise of the value before it is quantized.
    pub errors: ErrorSum,
    /// Numbers that the readers quantize.
    pub codes: u64,
    /// Codes that differ from the runtime's.
    pub differing: u64,
    /// Largest distance of a differing number from the middle between two codes, in steps.
    pub from_tie: f64,
}

impl LayerCheck {
    /// `‖y − ŷ‖ / ‖y‖`.
    pub fn relative(&self) -> f64 {
        if self.errors.noise == 0.0 {
            return 0.0;
        }
        (self.errors.noise / self.errors.signal).sqrt()
    }
}

/// What is looked at, and on which samples.
pub(super) struct LayerTaps {
    /// Inputs of layers that are computed, and outputs of the network.
    values: Vec<ValueId>,
    names: Vec<String>,
    input: (ValueId, Tensor),
}

impl LayerTaps {
    /// Every value that a layer reads, on the first samples.
    pub(super) fn of(simulation: Simulation<'_>, batches: &Batches) -> Result<Self, ExportError> {
        let executor = simulation.executor;
        let graph = executor.graph();
        let read = executor.layers().iter().map(|layer| layer.input);
        let wanted: BTreeSet<ValueId> = read
            .chain(graph.outputs().iter().copied())
            .filter(|id| !graph.inputs().contains(id) && !graph.is_initializer(*id))
            .collect();
        let batch = batches.first(SAMPLES).iter().next().transpose()?;
        let input = graph.inputs().first().copied();
        let fed = input.and_then(|id| Some((id, batch.as_ref()?.fed.get(id)?.plain())));
        let Some((id, tensor)) = fed else {
            return Err(ExportError::Message("there is no sample".to_owned()));
        };
        let values: Vec<ValueId> = wanted.into_iter().collect();
        Ok(Self {
            names: names_of(graph, &values),
            values,
            input: (id, tensor.map_err(RunError::from)?),
        })
    }

    /// Names of the values in the file.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// Writes the samples.
    pub(super) fn write_input(&self, folder: &Path) -> Result<PathBuf, ExportError> {
        let path = folder.join("tapped-input.npy");
        let tensor = &self.input.1;
        let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
        let values = values.map_err(RunError::from)?;
        write_f32(&path, tensor.dims(), &values)
            .map_err(|error| ExportError::Message(error.to_string()))?;
        Ok(path)
    }

    /// The exported file with all of these values as outputs.
    pub(super) fn tapped_model(&self, model: &Path) -> Result<Vec<u8>, ExportError> {
        let bytes = std::fs::read(model)
            .map_err(|error| ExportError::Message(format!("cannot verify: {error}")))?;
        let mut all = fields(&bytes.into())?;
        for field in &mut all {
            if field.number != model_field::GRAPH {
                continue;
            }
            let mut graph = fields(&field.content)?;
            graph.retain(|field| field.number != graph_field::OUTPUT);
            let outputs = self.names.iter().map(|name| {
                let tensor_type = TensorTypeProto {
                    elem_type: data_type::FLOAT,
                    shape: None,
                };
                let info = ValueInfoProto {
                    name: name.clone(),
                    r#type: Some(TypeProto {
                        tensor_type: Some(tensor_type),
                    }),
                };
                Field::of_message(graph_field::OUTPUT, &info)
            });
            graph.extend(outputs);
            *field = Field::of_bytes(model_field::GRAPH, message(&graph));
        }
        Ok(message(&all).to_vec())
    }

    /// Computes every value from the runtime's, and compares. `file` is where a value of the runtime is.
    pub(super) fn check(
        &self,
        simulation: Simulation<'_>,
        file: &dyn Fn(usize) -> PathBuf,
    ) -> Result<Vec<LayerCheck>, ExportError> {
        let found: Result<Vec<Tensor>, ExportError> = (0..self.values.len())
            .map(|index| read_tensor(&file(index)))
            .collect();
        let found = found?;
        let mut all = Activations::new();
        all.insert(self.input.0, self.input.1.clone());
        for (id, tensor) in self.values.iter().zip(&found) {
            all.insert(*id, tensor.clone());
        }
        let pairs = self.values.iter().zip(&self.names).zip(&found);
        pairs
            .map(|((id, name), theirs)| {
                let mut fed = all.clone();
                fed.remove(*id);
                let options = RunOptions {
                    keep: Keep::Values(std::slice::from_ref(id)),
                    cancel: &CancelToken::default(),
                    tap: None,
                };
                let held = simulation
                    .executor
                    .run(simulation.prepared, &fed, options)?;
                let ours = held.get(*id).map(|value| value.plain()).transpose();
                let ours = ours.map_err(RunError::from)?.ok_or_else(|| {
                    ExportError::node(name, "the simulation does not compute this value")
                })?;
                Self::compared(simulation, (*id, name.as_str()), &ours, theirs)
            })
            .collect()
    }

    fn compared(
        Simulation { executor, prepared }: Simulation<'_>,
        (id, name): (ValueId, &str),
        ours: &Tensor,
        theirs: &Tensor,
    ) -> Result<LayerCheck, ExportError> {
        let mut check = LayerCheck {
            readers: Vec::new(),
            value: name.to_owned(),
            errors: compare(theirs, ours).map_err(RunError::from)?,
            codes: 0,
            differing: 0,
            from_tie: 0.0,
        };
        let values = |tensor: &Tensor| -> Result<Vec<f32>, RunError> {
            Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
        };
        let (ours, theirs) = (values(ours)?, values(theirs)?);
        for (layer, setting) in executor.layers().iter().zip(prepared.layers()) {
            if layer.input != id {
                continue;
            }
            check.readers.push(layer.name.clone());
            if let ActivationQuantizer::Affine(grid) = setting.activation {
                check.add_codes(&grid, &ours, &theirs);
            }
        }
        Ok(check)
    }
}

impl LayerCheck {
    fn add_codes(&mut self, grid: &Grid, ours: &[f32], theirs: &[f32]) {
        let codes = |values: &[f32]| {
            let mut codes = vec![0; values.len()];
            grid.quantize_slice(values, &mut codes);
            codes
        };
        self.codes += ours.len() as u64;
        let pairs = codes(ours).into_iter().zip(codes(theirs));
        for ((one, other), value) in pairs.zip(theirs) {
            if one != other {
                self.differing += 1;
                let steps = f64::from(*value) / f64::from(grid.scale());
                let from_tie = ((steps - steps.floor()) - 0.5).abs();
                self.from_tie = self.from_tie.max(from_tie);
            }
        }
    }
}

fn names_of(graph: &Graph, values: &[ValueId]) -> Vec<String> {
    let names = values.iter().map(|id| graph.value(*id).name.clone());
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_differ_are_told_with_their_distance_from_a_tie() {
        let grid = Grid::new(0.5, 3, 0, 255).unwrap();
        let mut check = LayerCheck {
            readers: Vec::new(),
            value: "x".to_owned(),
            errors: ErrorSum::default(),
            codes: 0,
            differing: 0,
            from_tie: 0.0,
        };
        check.add_codes(&grid, &[1.0, 0.251, 2.0], &[1.0, 0.249, 2.0]);
        assert_eq!((check.codes, check.differing), (3, 1));
        assert!((check.from_tie - 0.002).abs() < 1e-6, "{check:?}");
        check.add_codes(&grid, &[5.0], &[6.1]);
        assert!(check.from_tie > 0.2, "two codes apart is no tie: {check:?}");
    }
}
