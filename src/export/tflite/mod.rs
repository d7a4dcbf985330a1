//! A network as a `.tflite` file for `LiteRT`.
//!
//! [`lowering`] walks through the graph and collects tensors and operators, [`edges`] chooses the grids
//! between integer kernels, [`writer`] makes the flatbuffer. Images have their channels last in the
//! file, inputs and outputs of the network included, and in an integer file both are integers.

mod data_flow;
mod edges;
mod elements;
mod factors;
mod file;
mod fusion;
mod grid;
mod kernels;
mod layout;
mod lowering;
mod movement;
mod padding;
mod pools;
mod products;
mod role;
mod schema;
mod weights;
mod windows;
mod writer;

use std::collections::BTreeMap;

use layout::Layout;
pub use lowering::{Refusal, StoredConstant};

use super::error::ExportError;
use super::model_file::{ModelFile, StoredArithmetic};
use super::quantized::QuantizedLayer;
use crate::engine::{Arithmetic, EdgeGrids, Ranges};
use crate::model::{Graph, Layer, ValueId, infer_shapes};
use crate::plan::{QuantizedTensors, TargetProfile};
use crate::quant::NumberFormat;
use lowering::Lowering;

/// Values for which an integer file needs ranges beside those of the layers' inputs.
pub(super) fn values_to_observe(graph: &Graph) -> Vec<ValueId> {
    edges::stored_values(graph)
}

/// Writes the network.
///
/// # Errors
/// [`ExportError::Unsupported`] with all nodes that have no kernel, or a value without a range.
pub(super) fn tflite_file(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    ranges: Option<&Ranges>,
    profile: &TargetProfile,
    origin: &str,
) -> Result<ModelFile, ExportError> {
    refuse_unwritable(graph, layers, quantized)?;
    let chosen = match profile.tensors {
        QuantizedTensors::LayerInputs => None,
        QuantizedTensors::EveryEdge => {
            let ranges = ranges.ok_or_else(|| {
                ExportError::Message(format!(
                    "{} stores every value as integers, and no range is known; give calibration data with --calib DIR or --data DIR",
                    profile.label
                ))
            })?;
            let shapes = infer_shapes(graph, 1);
            Some(edges::edges(graph, layers, quantized, ranges, &shapes)?)
        }
    };
    let mut lowering = Lowering::new(graph, layers, quantized, chosen.as_ref());
    lowering.run();
    if !lowering.refusals.is_empty() {
        return Err(ExportError::Unsupported(lowering.refusals));
    }
    graph.metadata().name.clone_into(&mut lowering.file.name);
    lowering.file.description = format!("Quantscope, {origin}");
    let channels_last = lowering.output_layouts();
    Ok(ModelFile {
        bytes: writer::bytes(&lowering.file).into(),
        constant_bytes: lowering.file.constant_bytes(),
        opset: None,
        notes: notes(graph, layers, quantized, &lowering),
        beside: Vec::new(),
        arithmetic: StoredArithmetic {
            runtime: Arithmetic::Auto,
            edges: match &chosen {
                Some(edges) => kernels::simulated(edges, &lowering.kernels)?,
                None => hybrid(layers, quantized),
            },
            constants: lowering.constants,
            slopes: lowering.kernels.slopes,
            inputs_channels_last: true,
            outputs_channels_last: channels_last
                .into_iter()
                .map(|layout| layout == Layout::ChannelsLast)
                .collect(),
        },
    })
}

/// Layers with integer weights beside float inputs quantize these while they run.
fn hybrid(layers: &[Layer], quantized: &[QuantizedLayer]) -> EdgeGrids {
    let mut edges = EdgeGrids::default();
    for (layer, one) in layers.iter().zip(quantized) {
        if let (Some(_), NumberFormat::Int(_)) = (&one.weight, one.weight_spec.format) {
            edges.quantize_each_sample(layer.node);
        }
    }
    edges
}

/// Finds the nodes that cannot be written whatever their grids, before anything is asked of ranges.
fn refuse_unwritable(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
) -> Result<(), ExportError> {
    let mut lowering = Lowering::new(graph, layers, quantized, None);
    lowering.run();
    if lowering.refusals.is_empty() {
        Ok(())
    } else {
        Err(ExportError::Unsupported(lowering.refusals))
    }
}

/// What the file differs in from the original, a sentence each.
fn notes(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    lowering: &Lowering<'_>,
) -> Vec<String> {
    let mut notes = vec![
        "images have their channels last in the file: [batch, height, width, channels]".to_owned(),
    ];
    let mut narrow: BTreeMap<(u8, &str), usize> = BTreeMap::new();
    for (layer, one) in layers.iter().zip(quantized) {
        let (Some(_), NumberFormat::Int(bits)) = (&one.weight, one.weight_spec.format) else {
            continue;
        };
        let name = &graph.value(layer.weight).name;
        let stored = lowering.file.tensors.iter().find(|one| one.name == *name);
        let held = match stored.map(|one| one.kind) {
            Some(schema::ElementKind::I4) => (4, "int4"),
            _ => (8, "int8"),
        };
        if bits.get() < held.0 {
            *narrow.entry((bits.get(), held.1)).or_default() += 1;
        }
    }
    for ((bits, held), count) in narrow {
        notes.push(format!(
            "{count} weights of {bits} bits are stored in {held}, since kernels have no narrower type; their codes keep to the narrower grid"
        ));
    }
    notes
}
