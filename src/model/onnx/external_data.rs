//! Tensor data in files beside the model.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::proto::StringStringEntryProto;
use crate::model::error::LoadErrorKind;
use crate::model::file_content::FileContent;

/// The files beside a model that its tensors refer to, each opened once.
#[derive(Debug)]
pub(crate) struct ExternalData {
    folder: PathBuf,
    files: BTreeMap<String, FileContent>,
}

impl ExternalData {
    /// Data beside a model in `folder`; nothing is opened yet.
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self {
            folder,
            files: BTreeMap::new(),
        }
    }

    /// The bytes that `entries` (`location`, `offset`, `length`) point at.
    ///
    /// # Errors
    /// A location that is not a file inside the model's folder, or a range outside of the file.
    pub(crate) fn bytes(
        &mut self,
        entries: &[StringStringEntryProto],
    ) -> Result<FileContent, LoadErrorKind> {
        let entry = |key: &str| {
            let found = entries.iter().find(|entry| entry.key == key);
            found.map(|entry| entry.value.as_str())
        };
        let location = entry("location")
            .ok_or_else(|| malformed("external data without a location".to_owned()))?;
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text.parse::<usize>().map(Some).map_err(|_not_a_number| {
                malformed(format!("external data {location:?} has {key} {text:?}"))
            }),
        };
        let start = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        let file = self.file(location)?;
        let bytes = file.bytes();
        let end = match length {
            Some(length) => start.checked_add(length),
            None => Some(bytes.len()),
        };
        match end {
            Some(end) if start <= end && end <= bytes.len() => {
                Ok(file.part(bytes.slice(start..end)))
            }
            _ => Err(malformed(format!(
                "external data {location:?} has {} bytes, but the tensor starts at {start} and has {length:?}; the file is cut off, download it again",
                bytes.len()
            ))),
        }
    }

    /// Adds the content of every file, in the order of their names, to a hash.
    ///
    /// # Errors
    /// Another program wrote to a file in the meantime.
    pub(crate) fn hash_into(&self, hasher: &mut Sha256) -> io::Result<()> {
        let mut files = self.files.values();
        files.try_for_each(|content| content.read(|bytes| hasher.update(bytes)))
    }

    fn file(&mut self, location: &str) -> Result<FileContent, LoadErrorKind> {
        if let Some(content) = self.files.get(location) {
            return Ok(content.clone());
        }
        let path = self.resolved(location)?;
        let content = FileContent::open(&path)?;
        self.files.insert(location.to_owned(), content.clone());
        Ok(content)
    }

    /// The path of a data file, which must lie inside the model's folder, links resolved.
    fn resolved(&self, location: &str) -> Result<PathBuf, LoadErrorKind> {
        let relative = Path::new(location);
        let plain = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain || location.is_empty() {
            return Err(outside(location));
        }
        let folder = fs::canonicalize(&self.folder)?;
        let path = fs::canonicalize(folder.join(relative)).map_err(|error| {
            malformed(format!(
                "the tensor data are in the file {location:?} beside the model, which cannot be opened ({error}); put it into the model's folder"
            ))
        })?;
        if !path.starts_with(&folder) {
            return Err(outside(location));
        }
        if !path.is_file() {
            return Err(malformed(format!("{location:?} is not a file")));
        }
        Ok(path)
    }
}

fn outside(location: &str) -> LoadErrorKind {
    malformed(format!(
        "external data {location:?} lies outside of the model's folder; put the file beside the model and save the model with a relative location"
    ))
}

fn malformed(reason: String) -> LoadErrorKind {
    LoadErrorKind::Malformed {
        format: "ONNX",
        reason,
    }
}
