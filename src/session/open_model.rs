//! A model that is open and ready to run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SessionError;
use crate::engine::{Arithmetic, Executor};
use crate::export::stored_plan;
use crate::model::{self, CoverageRow, Graph, Layer, LayerId, ModelFormat};
use crate::plan::{Fingerprint, Plan, PlanModel, input_groups};

/// A loaded network with its layers and its coverage.
#[derive(Clone, Debug)]
pub struct OpenModel {
    /// The file.
    pub path: PathBuf,
    /// Runs the network.
    pub executor: Arc<Executor>,
    /// Which operators are quantized, float or unsupported, and why.
    pub coverage: Vec<CoverageRow>,
    /// The layers in groups whose inputs have one width; most are alone.
    pub groups: Vec<Vec<LayerId>>,
    /// Float parameters that belong to no layer.
    pub other_parameters: u64,
    /// The plan that the file's own quantizers amount to, if it has any.
    pub stored_plan: Option<Plan>,
}

impl OpenModel {
    /// Reads a model file.
    ///
    /// # Errors
    /// [`SessionError::Load`], or [`SessionError::Missing`] if nothing in it can be quantized.
    pub fn open(path: &Path) -> Result<Self, SessionError> {
        Self::open_with(path, Arithmetic::default())
    }

    /// Reads a model file to be run with other arithmetic.
    ///
    /// # Errors
    /// As [`OpenModel::open`], and [`SessionError::Missing`] if the processor cannot compute so.
    pub fn open_with(path: &Path, arithmetic: Arithmetic) -> Result<Self, SessionError> {
        if !arithmetic.is_available() {
            return Err(SessionError::Missing(
                "This processor has no dot products of 8-bit integers; leave the arithmetic to auto, which gives the same numbers".to_owned(),
            ));
        }
        let graph = Arc::new(model::load(path)?);
        let executor = Arc::new(Executor::new(Arc::clone(&graph)).with_arithmetic(arithmetic));
        if executor.layers().is_empty() {
            return Err(SessionError::Missing(format!(
                "The model has no layer that can be quantized: no Conv, ConvTranspose, Gemm or MatMul with a constant weight\nFile: {}",
                path.display()
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            coverage: model::coverage(&graph, executor.layers()),
            groups: input_groups(&graph, executor.layers()),
            other_parameters: other_parameters(&graph, executor.layers()),
            stored_plan: match graph.metadata().format {
                ModelFormat::Onnx => stored_plan(path, executor.layers())?,
                ModelFormat::SafeTensors | ModelFormat::Pth => None,
            },
            executor,
        })
    }

    /// The network.
    pub fn graph(&self) -> &Graph {
        self.executor.graph()
    }

    /// The layers in topological order.
    pub fn layers(&self) -> &[Layer] {
        self.executor.layers()
    }

    /// The other layers whose inputs have the width of a layer's input: they read the same tensor, or the
    /// tensors are added or joined, which integer kernels do in one type.
    pub fn tied_to(&self, id: LayerId) -> impl Iterator<Item = LayerId> {
        let group = self.groups.iter().find(|group| group.contains(&id));
        let all = group.into_iter().flatten().copied();
        all.filter(move |other| *other != id)
    }

    /// What a plan file says of this model.
    pub fn identity(&self) -> PlanModel {
        PlanModel {
            name: self.graph().metadata().name.clone(),
            sha256: Fingerprint(self.graph().metadata().sha256.clone()),
        }
    }

    /// All float parameters.
    pub fn parameters(&self) -> u64 {
        self.other_parameters
            + self
                .layers()
                .iter()
                .map(|layer| layer.parameters)
                .sum::<u64>()
    }

    /// Multiply–accumulates of one sample in all layers whose shapes are known.
    pub fn macs(&self) -> u64 {
        self.layers().iter().filter_map(|layer| layer.macs).sum()
    }
}

fn other_parameters(graph: &Graph, layers: &[Layer]) -> u64 {
    let owned: std::collections::BTreeSet<_> = layers
        .iter()
        .flat_map(|layer| [Some(layer.weight), layer.bias])
        .flatten()
        .collect();
    graph
        .initializers()
        .iter()
        .filter(|(id, tensor)| tensor.dtype().is_float() && !owned.contains(id))
        .map(|(_, tensor)| tensor.elem_count() as u64)
        .sum()
}
