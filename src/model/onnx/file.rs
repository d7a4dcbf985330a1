//! A model file as it is, for writing another one from it.

use std::path::Path;

use prost::Message as _;
use prost::bytes::Bytes;

use super::external_data::ExternalData;
use super::proto::{DATA_LOCATION_EXTERNAL, ModelProto, TensorProto};
use super::{folder_of, malformed, sha256};
use crate::model::error::{LoadError, LoadErrorKind};
use crate::model::file_content::FileContent;

/// The bytes of a model file, and of the files beside it that its tensors refer to.
#[derive(Debug)]
pub(crate) struct OnnxFile {
    /// The file itself.
    pub(crate) bytes: Bytes,
    /// What this program understands of it.
    pub(crate) model: ModelProto,
    external: ExternalData,
}

impl OnnxFile {
    /// Reads the file that a graph with this fingerprint was read from.
    ///
    /// # Errors
    /// It cannot be read, or is another one by now.
    pub(crate) fn open(path: &Path, fingerprint: &str) -> Result<Self, LoadError> {
        let content = FileContent::open(path).map_err(|error| LoadError::new(path, error))?;
        let bytes = content
            .read(Bytes::copy_from_slice)
            .map_err(|error| LoadError::new(path, error))?;
        let model = ModelProto::decode(bytes.clone())
            .map_err(|error| LoadError::new(path, malformed(&error.to_string())))?;
        let mut file = Self {
            bytes,
            model,
            external: ExternalData::in_folder(folder_of(path)),
        };
        let graph = file.model.graph.clone().unwrap_or_default();
        for tensor in &graph.initializer {
            file.external_bytes(tensor)
                .map_err(|kind| LoadError::new(path, kind))?;
        }
        let found =
            sha256(&content, &file.external).map_err(|error| LoadError::new(path, error))?;
        if found != fingerprint {
            let reason = "the model file is another one than was opened; open the model again";
            return Err(LoadError::new(path, malformed(reason)));
        }
        Ok(file)
    }

    /// The elements of a tensor that lie in a file beside the model; `None` for all others.
    pub(crate) fn external_bytes(
        &mut self,
        tensor: &TensorProto,
    ) -> Result<Option<Bytes>, LoadErrorKind> {
        if tensor.data_location != DATA_LOCATION_EXTERNAL {
            return Ok(None);
        }
        let content = self.external.bytes(&tensor.external_data)?;
        Ok(Some(content.read(Bytes::copy_from_slice)?))
    }
}
