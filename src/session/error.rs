//! Errors of a session: what went wrong below, or what a step still lacks.

use std::path::PathBuf;

use crate::data::DataError;
use crate::engine::RunError;
use crate::export::ExportError;
use crate::model::LoadError;
use crate::plan::PlanError;
use crate::search::SearchError;

/// Why an action could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The model cannot be opened.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The data cannot be opened or read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network cannot run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The plan does not fit or cannot be read.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// There is nothing to search, or no plan for a budget.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// A file cannot be written.
    #[error("cannot write the file: {source}; choose a folder that exists and that you may write to\nFile: {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read the file: {source}\nFile: {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("{reason}\nFile: {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file is there already.
    #[error("{} is there already; choose another folder, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The step needs something that is not there.
    #[error("{0}")]
    Missing(String),
}

impl SessionError {
    /// Whether the run was stopped on request, which is no failure.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Run(error) | Self::Export(ExportError::Run(error)) => error.is_cancelled(),
            _ => false,
        }
    }
}
