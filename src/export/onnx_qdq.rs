//! A network with its quantizers as an ONNX file.
//!
//! Where the model was an ONNX file, it is that file: nodes, names, attributes, texts and metadata are
//! kept byte for byte, and only what the plan needs is added or replaced. Batch normalisation is folded
//! as it was for the simulation, since a layer's weight is quantized with it. A quantizer that is newer
//! than the file's opset raises the opset to 21; then every node is written anew in that opset.
//! Checkpoints without a graph get one.

use std::collections::{BTreeMap, BTreeSet};

use prost::bytes::Bytes;

use super::error::ExportError;
use super::insertion::{Insertion, LayerEdit, Names};
use super::liveness::{Written, defined_names, live_flags, live_nodes, names_read};
use super::model_file::{ModelFile, StoredArithmetic};
use super::onnx_message::{
    graph_field, graph_message, ir_version, metadata, model_field, model_message, node_field,
    node_fields, opset_import, with_microsoft_domain,
};
use super::onnx_nodes::{OPSET, nodes_of, type_number};
use super::protobuf::{Field, fields, message};
use super::quantized::QuantizedLayer;
use super::tensors::constant;
use crate::model::onnx_proto::{
    DimensionProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, data_type,
};
use crate::model::{
    ElementType, Graph, Layer, NodeId, OnnxFile, Op, Shapes, ValueId, fixed_batch, infer_shapes,
    node_names,
};
use crate::plan::TargetProfile;

/// A message must stay below this many bytes.
const LARGEST_FILE: usize = (1 << 31) - 1;

/// Writes the network with the quantizers of every layer.
///
/// `file` is the model's own file, where it is an ONNX file.
///
/// # Errors
/// A layer that is not in the file, an operator that cannot be written in a newer opset, a network that
/// computes in half precision, or more than 2 GB.
pub(crate) fn onnx_qdq(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
    file: Option<&mut OnnxFile>,
    profile: &TargetProfile,
    origin: &str,
) -> Result<ModelFile, ExportError> {
    check_types(graph, layers, quantized)?;
    let mut writer = Writer::new(graph, layers, quantized, profile);
    let written = match file {
        Some(file) => writer.edited_file(file, origin)?,
        None => writer.new_file(origin)?,
    };
    if written.bytes.len() > LARGEST_FILE {
        return Err(ExportError::Message(format!(
            "the exported model has {} bytes, and a file of this format at most 2 GB; give more layers fewer bits",
            written.bytes.len()
        )));
    }
    Ok(written)
}

/// Scales are `f32`, and so must be what they multiply.
fn check_types(
    graph: &Graph,
    layers: &[Layer],
    quantized: &[QuantizedLayer],
) -> Result<(), ExportError> {
    for (layer, _) in layers
        .iter()
        .zip(quantized)
        .filter(|(_, one)| one.weight.is_some())
    {
        let declared = graph.value(layer.weight).element_type;
        if declared.is_some_and(|declared| declared != ElementType::F32) {
            let reason = "its weight is not f32 in the file, and neither are the values around it; export the model itself in f32 first";
            return Err(ExportError::node(&layer.name, reason));
        }
    }
    Ok(())
}

struct Writer<'a> {
    graph: &'a Graph,
    layers: &'a [Layer],
    quantized: &'a [QuantizedLayer],
    profile: &'a TargetProfile,
    notes: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(
        graph: &'a Graph,
        layers: &'a [Layer],
        quantized: &'a [QuantizedLayer],
        profile: &'a TargetProfile,
    ) -> Self {
        Self {
            graph,
            layers,
            quantized,
            profile,
            notes: Vec::new(),
        }
    }

    fn name_of(&self, id: ValueId) -> String {
        self.graph.value(id).name.clone()
    }

    /// Whether operators of ONNX Runtime are written, which other runtimes do not have.
    fn has_own_operators(&self) -> bool {
        self.quantized.iter().any(|one| one.matmul_nbits)
    }

    /// All layers' edits, made in order.
    fn edits(&self, names: Names) -> (Insertion<'a>, Vec<LayerEdit>) {
        let mut insertion = Insertion::new(self.graph, self.profile, names);
        let layers = self.layers.iter().zip(self.quantized);
        let edits = layers
            .map(|(layer, quantized)| insertion.layer(layer, quantized))
            .collect();
        (insertion, edits)
    }

    /// Names that the graph uses, whether the file has them or not.
    fn taken(&self) -> Names {
        let mut names = Names::default();
        let values = self.graph.values().iter().map(|value| &value.name);
        let nodes = self.graph.nodes().iter().map(|node| &node.name);
        for name in values.chain(nodes) {
            names.take(name);
        }
        names
    }

    fn edited_file(&mut self, file: &mut OnnxFile, origin: &str) -> Result<ModelFile, ExportError> {
        let proto = file.model.graph.clone().unwrap_or_default();
        let mut names = self.taken();
        for info in proto.input.iter().chain(&proto.output) {
            names.take(&info.name);
        }
        for node in &proto.node {
            names.take(&node.name);
            for name in &node.output {
                names.take(name);
            }
        }
        let (insertion, edits) = self.edits(names);
        let opset = self.graph.metadata().opset.unwrap_or(OPSET);
        let raised = opset < needed_opset(&edits, &insertion.tensors);
        let (nodes, insertion) = if raised {
            self.notes.push(format!(
                "the opset was raised from {opset} to {OPSET}, and what is constant was computed"
            ));
            (self.new_nodes(edits)?, insertion)
        } else {
            self.edited_nodes(file, &proto, edits, insertion)?
        };
        let opset = if raised { OPSET } else { opset };
        let live = live_nodes(nodes, &proto);
        let needed = names_read(&live, &proto);
        let mut own = self.constants(&needed, &insertion.tensors, &proto)?;
        own.extend(insertion.tensors);
        let graph_bytes = graph_message(file, &proto, live, &needed, &own)?;
        let mut model = model_message(file, &graph_bytes, opset, raised, origin)?;
        if self.has_own_operators() {
            model = with_microsoft_domain(&model)?;
        }
        Ok(self.finished(model, &graph_bytes, opset))
    }

    /// A file for a graph that has none.
    fn new_file(&mut self, origin: &str) -> Result<ModelFile, ExportError> {
        let (insertion, edits) = self.edits(self.taken());
        let nodes = self.new_nodes(edits)?;
        let shapes = infer_shapes(self.graph, 1);
        let proto = GraphProto {
            input: self.declared(self.graph.inputs(), &shapes),
            output: self.declared(self.graph.outputs(), &shapes),
            ..GraphProto::default()
        };
        let live = live_nodes(nodes, &proto);
        let needed = names_read(&live, &proto);
        let mut constants = self.constants(&needed, &insertion.tensors, &proto)?;
        constants.extend(insertion.tensors);
        let mut all: Vec<Field> = live.into_iter().map(|node| node.field).collect();
        let name = &self.graph.metadata().name;
        all.push(Field::of_bytes(graph_field::NAME, name.clone()));
        for tensor in &constants {
            all.push(Field::of_message(graph_field::INITIALIZER, tensor));
        }
        for input in &proto.input {
            all.push(Field::of_message(graph_field::INPUT, input));
        }
        for output in &proto.output {
            all.push(Field::of_message(graph_field::OUTPUT, output));
        }
        let graph_bytes = message(&all);
        let model = message(&[
            Field::of_integer(model_field::IR_VERSION, ir_version(OPSET)),
            Field::of_bytes(model_field::PRODUCER, "quantscope"),
            Field::of_bytes(model_field::PRODUCER_VERSION, env!("CARGO_PKG_VERSION")),
            Field::of_bytes(model_field::GRAPH, graph_bytes.clone()),
            opset_import(OPSET),
            metadata(origin),
        ]);
        let model = if self.has_own_operators() {
            with_microsoft_domain(&model)?
        } else {
            model
        };
        self.notes.push(format!(
            "the checkpoint has no graph; it was written as {}",
            self.graph
                .metadata()
                .architecture
                .as_deref()
                .unwrap_or("a graph")
        ));
        Ok(self.finished(model, &graph_bytes, OPSET))
    }

    fn finished(&mut self, bytes: Bytes, graph: &Bytes, opset: i64) -> ModelFile {
        let constants = fields(graph).unwrap_or_default();
        let constant_bytes = constants
            .iter()
            .filter(|field| field.number == graph_field::INITIALIZER)
            .map(|field| field.content.len() as u64)
            .sum();
        ModelFile {
            bytes,
            constant_bytes,
            opset: Some(opset),
            notes: std::mem::take(&mut self.notes),
            beside: Vec::new(),
            arithmetic: StoredArithmetic::default(),
        }
    }

    /// Every node of the graph in the newest opset.
    fn new_nodes(&self, edits: Vec<LayerEdit>) -> Result<Vec<Written>, ExportError> {
        let batch = fixed_batch(self.graph).unwrap_or(1);
        let shapes = infer_shapes(self.graph, batch);
        let mut edits: BTreeMap<NodeId, LayerEdit> = self
            .layers
            .iter()
            .map(|layer| layer.node)
            .zip(edits)
            .collect();
        let mut written = Vec::new();
        for id in self.graph.node_ids() {
            let mut nodes = nodes_of(self.graph, &shapes, self.graph.node(id))?;
            if let (Some(edit), [node]) = (edits.remove(&id), nodes.as_mut_slice()) {
                written.extend(edit.before.iter().chain(&edit.instead).map(Written::new));
                if !edit.instead.is_empty() {
                    continue;
                }
                for (slot, name) in node.input.iter_mut().zip(edit.inputs) {
                    if let Some(name) = name {
                        *slot = name;
                    }
                }
            }
            written.extend(nodes.iter().map(Written::new));
        }
        Ok(written)
    }

    /// The nodes of the file, layers with their quantizers.
    fn edited_nodes(
        &mut self,
        file: &OnnxFile,
        proto: &GraphProto,
        edits: Vec<LayerEdit>,
        mut insertion: Insertion<'a>,
    ) -> Result<(Vec<Written>, Insertion<'a>), ExportError> {
        let originals = node_fields(&file.bytes)?;
        let names = node_names(&proto.node);
        let place: BTreeMap<&str, usize> = (0..)
            .zip(&names)
            .map(|(at, name)| (name.as_str(), at))
            .collect();
        let defined = defined_names(proto);
        let live_before = live_flags(&proto.node, proto);
        let mut by_place = BTreeMap::new();
        let mut folded = 0;
        for (layer, mut edit) in self.layers.iter().zip(edits) {
            let at = place.get(layer.name.as_str()).copied().ok_or_else(|| {
                ExportError::node(
                    &layer.name,
                    "this layer is not a node of the model file; export the model again",
                )
            })?;
            self.complete(layer, &defined, &mut edit, &mut insertion)?;
            let output = self.name_of(layer.output);
            let moved = proto.node.get(at).and_then(|node| node.output.first()) != Some(&output);
            folded += usize::from(moved);
            by_place.insert(at, (layer, edit, moved.then_some(output)));
        }
        if folded > 0 {
            self.notes.push(format!(
                "{folded} batch normalisations were folded into the layer before them, since the weights are quantized with them"
            ));
        }
        let taken_over: BTreeSet<String> = by_place
            .values()
            .filter_map(|(_, _, output)| output.clone())
            .collect();
        let mut written = Vec::new();
        for (at, (node, field)) in proto.node.iter().zip(originals).enumerate() {
            let Some((layer, edit, output)) = by_place.remove(&at) else {
                if !node.output.iter().any(|name| taken_over.contains(name)) {
                    let mut one = Written::with_field(field, node);
                    one.kept_anyway = !live_before[at];
                    written.push(one);
                }
                continue;
            };
            written.extend(edit.before.iter().chain(&edit.instead).map(Written::new));
            if !edit.instead.is_empty() {
                continue;
            }
            written.push(self.edited_node(node, &field, layer, edit, output.as_ref())?);
        }
        Ok((written, insertion))
    }

    /// Adds what the graph computed beforehand and the file does not have.
    fn complete(
        &self,
        layer: &Layer,
        defined: &BTreeSet<&str>,
        edit: &mut LayerEdit,
        insertion: &mut Insertion<'_>,
    ) -> Result<(), ExportError> {
        for (slot, id) in [(1, Some(layer.weight)), (2, layer.bias)] {
            let Some(id) = id else { continue };
            let name = self.name_of(id);
            if edit.inputs[slot].is_some() || defined.contains(name.as_str()) {
                continue;
            }
            if let Some(found) = self.graph.initializers().get(&id) {
                let declared = self.graph.value(id).element_type;
                if !insertion.tensors.iter().any(|tensor| tensor.name == name) {
                    insertion.tensors.push(constant(&name, found, declared)?);
                }
                edit.inputs[slot] = Some(name);
            }
        }
        Ok(())
    }

    fn edited_node(
        &self,
        node: &NodeProto,
        field: &Field,
        layer: &Layer,
        edit: LayerEdit,
        output: Option<&String>,
    ) -> Result<Written, ExportError> {
        let mut changed = node.clone();
        for (at, name) in edit.inputs.into_iter().enumerate() {
            if let Some(name) = name {
                if changed.input.len() <= at {
                    changed.input.resize(at + 1, String::new());
                }
                changed.input[at] = name;
            }
        }
        if let (Some(output), Some(slot)) = (output, changed.output.first_mut()) {
            slot.clone_from(output);
        }
        let source = self.graph.node(layer.node);
        if output.is_some() && matches!(source.op, Op::Gemm { .. }) {
            // Folding changes the factor of the bias.
            let shapes = Shapes::default();
            let mut nodes = nodes_of(self.graph, &shapes, source)?;
            if let Some(new) = nodes.pop() {
                changed.attribute = new.attribute;
            }
            return Ok(Written::new(&changed));
        }
        let mut kept = fields(&field.content)?;
        kept.retain(|field| ![node_field::INPUT, node_field::OUTPUT].contains(&field.number));
        let inputs = changed.input.iter().map(|name| (node_field::INPUT, name));
        let outputs = changed.output.iter().map(|name| (node_field::OUTPUT, name));
        let mut all: Vec<Field> = inputs
            .chain(outputs)
            .map(|(number, name)| Field::of_bytes(number, name.clone()))
            .collect();
        all.extend(kept);
        let field = Field::of_bytes(graph_field::NODE, message(&all));
        Ok(Written::with_field(field, &changed))
    }

    /// Constants of the graph that are read and that neither the file nor the insertion has.
    fn constants(
        &self,
        needed: &BTreeSet<String>,
        added: &[TensorProto],
        proto: &GraphProto,
    ) -> Result<Vec<TensorProto>, ExportError> {
        let present: BTreeSet<&str> = proto
            .initializer
            .iter()
            .chain(added)
            .map(|tensor| tensor.name.as_str())
            .collect();
        let mut constants = Vec::new();
        for (id, initializer) in self.graph.initializers() {
            let value = self.graph.value(*id);
            if needed.contains(&value.name) && !present.contains(value.name.as_str()) {
                constants.push(constant(&value.name, initializer, value.element_type)?);
            }
        }
        Ok(constants)
    }

    /// Declarations of graph inputs or outputs; the first axis is the batch.
    fn declared(&self, ids: &[ValueId], shapes: &Shapes) -> Vec<ValueInfoProto> {
        let fixed = fixed_batch(self.graph).is_some();
        let dim = |(axis, length): (usize, &usize)| {
            let is_batch = axis == 0 && !fixed;
            DimensionProto {
                dim_value: (!is_batch).then_some(*length as i64),
                dim_param: is_batch.then(|| "N".to_owned()),
            }
        };
        let declared = |id: &ValueId| {
            let value = self.graph.value(*id);
            let dims = shapes.get(*id).unwrap_or_default();
            let tensor_type = TensorTypeProto {
                elem_type: value.element_type.map_or(data_type::FLOAT, type_number),
                shape: Some(TensorShapeProto {
                    dim: dims.iter().enumerate().map(dim).collect(),
                }),
            };
            ValueInfoProto {
                name: value.name.clone(),
                r#type: Some(TypeProto {
                    tensor_type: Some(tensor_type),
                }),
            }
        };
        ids.iter().map(declared).collect()
    }
}

/// The lowest opset that has every quantizer.
fn needed_opset(edits: &[LayerEdit], tensors: &[TensorProto]) -> i64 {
    let nodes = edits.iter().flat_map(|edit| &edit.before);
    let by_node = nodes.map(|node| {
        let has = |name: &str| {
            node.attribute
                .iter()
                .any(|attribute| attribute.name == name)
        };
        match node.op_type.as_str() {
            "DequantizeLinear" if has("block_size") => 21,
            "DequantizeLinear" if has("axis") => 13,
            "Clip" => 11,
            "Cast" => 13,
            _ => 10,
        }
    });
    let by_type = tensors.iter().map(|tensor| match tensor.data_type {
        data_type::FLOAT
        | data_type::INT8
        | data_type::UINT8
        | data_type::INT32
        | data_type::INT64 => 1,
        data_type::FLOAT16 | data_type::BFLOAT16 => 13,
        _ => 21,
    });
    by_node.chain(by_type).max().unwrap_or(1)
}
