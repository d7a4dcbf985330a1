//! The messages of an ONNX file, put together from what is kept and what is new.

use std::collections::BTreeSet;

use prost::bytes::Bytes;

use super::error::ExportError;
use super::liveness::Written;
use super::protobuf::{Field, fields, message};
use crate::model::OnnxFile;
use crate::model::onnx_proto::{
    GraphProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};

/// Numbers of the fields of `ModelProto`.
pub(super) mod model_field {
    pub(in crate::export) const IR_VERSION: u64 = 1;
    pub(in crate::export) const PRODUCER: u64 = 2;
    pub(in crate::export) const PRODUCER_VERSION: u64 = 3;
    pub(in crate::export) const GRAPH: u64 = 7;
    pub(in crate::export) const OPSET_IMPORT: u64 = 8;
    pub(in crate::export) const METADATA: u64 = 14;
}

/// Numbers of the fields of `GraphProto`.
pub(super) mod graph_field {
    pub(in crate::export) const NODE: u64 = 1;
    pub(in crate::export) const NAME: u64 = 2;
    pub(in crate::export) const INITIALIZER: u64 = 5;
    pub(in crate::export) const INPUT: u64 = 11;
    pub(in crate::export) const OUTPUT: u64 = 12;
    pub(in crate::export) const VALUE_INFO: u64 = 13;
}

/// Numbers of the fields of `NodeProto`.
pub(super) mod node_field {
    pub(in crate::export) const INPUT: u64 = 1;
    pub(in crate::export) const OUTPUT: u64 = 2;
}

/// The graph of the file with other nodes and constants.
pub(super) fn graph_message(
    file: &mut OnnxFile,
    proto: &GraphProto,
    live: Vec<Written>,
    needed: &BTreeSet<String>,
    own: &[TensorProto],
) -> Result<Bytes, ExportError> {
    let written: BTreeSet<String> = live.iter().flat_map(|node| node.writes.clone()).collect();
    let was_constant: BTreeSet<&str> = proto.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut all: Vec<Field> = live.into_iter().map(|node| node.field).collect();
    // Constants that nodes compute now, because the graph knows them, are not written twice.
    let own: Vec<&TensorProto> = own
        .iter()
        .filter(|tensor| !written.contains(&tensor.name))
        .collect();
    let mut tensors = proto.initializer.iter();
    for field in graph_fields(&file.bytes)? {
        match field.number {
            graph_field::NODE => {}
            graph_field::INITIALIZER => {
                let Some(tensor) = tensors.next() else {
                    continue;
                };
                if needed.contains(&tensor.name) && !written.contains(&tensor.name) {
                    all.push(inlined(file, tensor, field)?);
                }
            }
            graph_field::INPUT => {
                let name = name_of_info(&field)?;
                if !was_constant.contains(name.as_str()) || needed.contains(&name) {
                    all.push(field);
                }
            }
            graph_field::VALUE_INFO => {
                let name = name_of_info(&field)?;
                if written.contains(&name) {
                    all.push(field);
                }
            }
            _ => all.push(field),
        }
    }
    for tensor in own {
        all.push(Field::of_message(graph_field::INITIALIZER, tensor));
    }
    Ok(message(&all))
}

/// A constant of the file with its data in it.
fn inlined(file: &mut OnnxFile, tensor: &TensorProto, field: Field) -> Result<Field, ExportError> {
    let data = file
        .external_bytes(tensor)
        .map_err(|error| ExportError::node(&tensor.name, error.to_string()))?;
    let Some(data) = data else { return Ok(field) };
    let inside = TensorProto {
        raw_data: Some(data),
        data_location: 0,
        external_data: Vec::new(),
        ..tensor.clone()
    };
    Ok(Field::of_message(graph_field::INITIALIZER, &inside))
}

/// The version of the format that an opset needs.
pub(super) fn ir_version(opset: i64) -> i64 {
    // <https://github.com/onnx/onnx/blob/main/docs/Versioning.md>
    match opset {
        ..=10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        _ => 10,
    }
}

pub(super) fn opset_import(version: i64) -> Field {
    let import = OperatorSetIdProto {
        domain: String::new(),
        version,
    };
    Field::of_message(model_field::OPSET_IMPORT, &import)
}

/// The model with the operators of ONNX Runtime declared, if they are not.
pub(super) fn with_microsoft_domain(model: &Bytes) -> Result<Bytes, ExportError> {
    const DOMAIN: &str = "com.microsoft";
    let mut all = fields(model)?;
    for field in &all {
        if field.number == model_field::OPSET_IMPORT
            && decoded::<OperatorSetIdProto>(&field.content)?.domain == DOMAIN
        {
            return Ok(model.clone());
        }
    }
    let import = OperatorSetIdProto {
        domain: DOMAIN.to_owned(),
        version: 1,
    };
    all.push(Field::of_message(model_field::OPSET_IMPORT, &import));
    Ok(message(&all))
}

pub(super) fn metadata(origin: &str) -> Field {
    let entry = StringStringEntryProto {
        key: "quantscope".to_owned(),
        value: origin.to_owned(),
    };
    Field::of_message(model_field::METADATA, &entry)
}

/// The file with another graph.
pub(super) fn model_message(
    file: &OnnxFile,
    graph: &Bytes,
    opset: i64,
    raised: bool,
    origin: &str,
) -> Result<Bytes, ExportError> {
    let ir = file.model.ir_version.max(ir_version(opset));
    let mut all = vec![Field::of_integer(model_field::IR_VERSION, ir)];
    for field in fields(&file.bytes)? {
        match field.number {
            model_field::IR_VERSION => {}
            model_field::GRAPH => all.push(Field::of_bytes(model_field::GRAPH, graph.clone())),
            model_field::OPSET_IMPORT if raised => {
                let import: OperatorSetIdProto = decoded(&field.content)?;
                if matches!(import.domain.as_str(), "" | "ai.onnx") {
                    all.push(opset_import(opset));
                } else {
                    all.push(field);
                }
            }
            model_field::METADATA => {
                let entry: StringStringEntryProto = decoded(&field.content)?;
                if entry.key != "quantscope" {
                    all.push(field);
                }
            }
            _ => all.push(field),
        }
    }
    all.push(metadata(origin));
    Ok(message(&all))
}

fn decoded<M: prost::Message + Default>(bytes: &Bytes) -> Result<M, ExportError> {
    M::decode(bytes.clone()).map_err(|_damaged| ExportError::damaged())
}

fn name_of_info(field: &Field) -> Result<String, ExportError> {
    decoded::<ValueInfoProto>(&field.content).map(|info| info.name)
}

/// Fields of the graph of a file.
fn graph_fields(file: &Bytes) -> Result<Vec<Field>, ExportError> {
    let all = fields(file)?;
    let graph = all
        .iter()
        .rev()
        .find(|field| field.number == model_field::GRAPH);
    graph.map_or_else(|| Ok(Vec::new()), |graph| fields(&graph.content))
}

/// The nodes of a file as they are stored.
pub(super) fn node_fields(file: &Bytes) -> Result<Vec<Field>, ExportError> {
    let mut all = graph_fields(file)?;
    all.retain(|field| field.number == graph_field::NODE);
    Ok(all)
}
