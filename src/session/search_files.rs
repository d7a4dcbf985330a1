//! Files of sweeps and searches: progress that survives a kill, and parts of split work.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::SessionError;
use super::files::{read_text, write_atomically};
use crate::search::{SearchState, StoredSweep};

/// What a file of a sweep or a search holds.
#[derive(Clone, Debug, PartialEq)]
pub enum PartFile {
    /// A part of a sensitivity sweep.
    Sweep(Box<StoredSweep>),
    /// A part of a search.
    Search(Box<SearchState>),
}

impl PartFile {
    /// Reads a file that `--shard` or `--resume` wrote.
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, SessionError> {
        let text = read_text(path)?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| malformed(path, &error))?;
        // Search states hold sweeps, sweeps hold no measured plans.
        if value.get("measured").is_some() {
            parsed(path, &text).map(|state| Self::Search(Box::new(state)))
        } else {
            parsed(path, &text).map(|sweep| Self::Sweep(Box::new(sweep)))
        }
    }
}

/// Reads what an interrupted run left; `None` if there is no such file.
///
/// # Errors
/// The file cannot be read or holds something else.
pub fn read_progress<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SessionError> {
    if !path.exists() {
        return Ok(None);
    }
    parsed(path, &read_text(path)?).map(Some)
}

/// Writes a document so that the file is either there whole or as it was before.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, document: &impl Serialize) -> Result<(), SessionError> {
    let text = serde_json::to_string(document).map_err(|error| SessionError::Malformed {
        path: path.to_owned(),
        reason: format!("the result cannot be written as JSON: {error}"),
    })?;
    write_atomically(path, text.as_bytes())
}

/// Says which file does not fit.
pub fn in_file(path: &Path, error: &crate::search::SearchError) -> SessionError {
    SessionError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn parsed<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, SessionError> {
    serde_json::from_str(text).map_err(|error| malformed(path, &error))
}

fn malformed(path: &Path, error: &serde_json::Error) -> SessionError {
    SessionError::Malformed {
        path: path.to_owned(),
        reason: format!(
            "not a part or progress file of sensitivity or search: {error}; delete it or choose another file"
        ),
    }
}
