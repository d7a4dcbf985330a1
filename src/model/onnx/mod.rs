//! Reads ONNX files, opset 7 and newer.
//!
//! Older forms of an operator are brought to that of the newest opset (see [`Op`](crate::model::Op)). An operator or
//! attribute that cannot be expressed becomes [`Op::Unsupported`](crate::model::Op::Unsupported) with the reason, so that the rest
//! of the model can still be looked at. Nothing here rewrites the network, except that quantizers are
//! taken out of it: a plan says what they do.
//!
//! Names are those of the file. A node without a name is named after its first output, and a name
//! that was already given to an earlier node gets the suffix `_1`, `_2`, ….

mod attributes;
mod external_data;
mod file;
mod names;
mod ops;
pub(crate) mod proto;
mod quantizers;
mod reader;
mod tensor;
#[cfg(test)]
pub(crate) mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use self::external_data::ExternalData;
pub(crate) use self::file::OnnxFile;
pub(crate) use self::names::{captured_values, node_names};
use self::proto::ModelProto;
pub(crate) use self::quantizers::dequantized_file;
pub use self::quantizers::{StoredGrids, StoredLayer, stored_grids};
use self::reader::GraphReader;
use super::error::{LoadError, LoadErrorKind};
use super::file_content::FileContent;
use super::{Graph, Metadata, ModelFormat};

/// Oldest opset whose operators are read.
const OLDEST_OPSET: i64 = 7;

/// Newest opset whose operators are known; those of a newer file are read as if they were of this one.
const NEWEST_OPSET: i64 = 22;

/// Reads an ONNX file as it is, without folding anything.
///
/// # Errors
/// A file that cannot be read or is damaged, tensor data outside of the model's folder, an opset
/// older than 7, or nodes that do not form a graph. Unknown operators are no error.
pub fn read_onnx(path: &Path) -> Result<Graph, LoadError> {
    let not_readable = |error: std::io::Error| LoadError::new(path, error);
    if !fs::metadata(path).map_err(not_readable)?.is_file() {
        return Err(LoadError::new(
            path,
            malformed("the path is not a file; choose the .onnx file itself"),
        ));
    }
    let content = FileContent::open(path).map_err(not_readable)?;
    read_content(&content, path)
}

/// Reads the content of an ONNX file whose path is `path`.
fn read_content(content: &FileContent, path: &Path) -> Result<Graph, LoadError> {
    let mut model = ModelProto::decode(content.bytes().clone()).map_err(|error| {
        let reason =
            format!("{error}; the file is damaged or cut off, download or export it again");
        LoadError::new(path, malformed(&reason))
    })?;
    let at_fault = |(at, kind): Fault| LoadError {
        path: path.to_owned(),
        at,
        kind,
    };
    let opset = default_opset(&model).map_err(|kind| LoadError::new(path, kind))?;
    let graph = model.graph.take().filter(|graph| !graph.node.is_empty());
    let mut graph = graph.ok_or_else(|| {
        let reason = "it has no nodes; choose a file that was written by an ONNX exporter";
        LoadError::new(path, malformed(reason))
    })?;
    let mut external = ExternalData::in_folder(folder_of(path));
    quantizers::without_quantizers(&mut graph, content, &mut external);
    let tensors = std::mem::take(&mut graph.initializer);
    let opset_read = opset.min(NEWEST_OPSET);
    let reader = GraphReader::new(&model, &graph, opset_read, content, &mut external);
    let builder = reader.read(tensors).map_err(at_fault)?;
    let sha256 = sha256(content, &external).map_err(|error| LoadError::new(path, error))?;
    let metadata = Metadata {
        name: file_name(path),
        format: ModelFormat::Onnx,
        sha256,
        producer: producer(&model),
        opset: Some(opset),
        architecture: None,
    };
    let graph = builder.finish(metadata);
    graph.map_err(|error| LoadError::new(path, error))
}

/// Hash of the file and of those beside it, which must still be what was read.
fn sha256(content: &FileContent, external: &ExternalData) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    content.read(|bytes| hasher.update(bytes))?;
    external.hash_into(&mut hasher)?;
    Ok(hexadecimal(&hasher.finalize()))
}

/// Name of the tensor or node at fault, and what is wrong with it.
type Fault = (Option<String>, LoadErrorKind);

fn malformed(reason: &str) -> LoadErrorKind {
    LoadErrorKind::Malformed {
        format: "ONNX",
        reason: reason.to_owned(),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn producer(model: &ModelProto) -> Option<String> {
    let producer = format!("{} {}", model.producer_name, model.producer_version);
    Some(producer.trim().to_owned()).filter(|producer| !producer.is_empty())
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

fn is_default_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn default_opset(model: &ModelProto) -> Result<i64, LoadErrorKind> {
    let opset = model
        .opset_import
        .iter()
        .find(|import| is_default_domain(&import.domain))
        .map(|import| import.version)
        .ok_or_else(|| {
            malformed(
                "it states no opset version; choose a file that was written by an ONNX exporter",
            )
        })?;
    if opset < OLDEST_OPSET {
        return Err(LoadErrorKind::OldOpset {
            opset,
            oldest: OLDEST_OPSET,
        });
    }
    Ok(opset)
}
