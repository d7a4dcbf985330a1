//! A file that keeps what sweeps over one model have measured.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::SessionError;
use super::files::{read_text, write_atomically};
use super::open_model::OpenModel;
use super::sweep_store::SweepStore;
use crate::plan::PlanModel;

/// Version that this program writes.
const VERSION: u32 = 1;

/// Measured cells with the model that they belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepFile {
    version: u32,
    model: PlanModel,
    /// The cells.
    pub sweeps: SweepStore,
}

impl SweepFile {
    /// Nothing measured yet.
    pub fn new(model: &OpenModel) -> Self {
        Self {
            version: VERSION,
            model: model.identity(),
            sweeps: SweepStore::default(),
        }
    }

    /// Reads what was kept for a model.
    ///
    /// # Errors
    /// The file cannot be read, keeps no sweeps, is newer than this program, or is of another model.
    pub fn read(path: &Path, model: &OpenModel) -> Result<Self, SessionError> {
        let malformed = |reason: String| SessionError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let file: Self = serde_json::from_str(&read_text(path)?)
            .map_err(|error| malformed(format!("no kept sweep: {error}")))?;
        if file.version > VERSION {
            return Err(malformed(format!(
                "version {} is newer than {VERSION}; update quantscope",
                file.version
            )));
        }
        if file.model.sha256 != model.identity().sha256 {
            return Err(malformed(format!(
                "it keeps sweeps of another model, {:?}; choose another file",
                file.model.name
            )));
        }
        Ok(file)
    }

    /// Writes the file whole or leaves it as it was.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), SessionError> {
        let json = serde_json::to_string(self).map_err(|error| SessionError::Malformed {
            path: path.to_owned(),
            reason: format!("the sweeps cannot be written as JSON: {error}"),
        })?;
        write_atomically(path, json.as_bytes())
    }
}
