//! What can go wrong with a folder of data.

use std::{io, path::PathBuf};

/// A dataset, a `.npy` file or a preprocessing text that cannot be used.
///
/// Messages say what failed, what was expected and what to do; a single unreadable picture is not an error but a
/// [`Skipped`](super::Skipped) entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused an access.
    #[error("Cannot {action}: {source}\nFile: {}", path.display())]
    Io {
        /// What was tried, as in "read the folder".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The path does not name a folder.
    #[error(
        "A dataset is a folder, and this is {found}. {remedy}\nPath: {}",
        path.display()
    )]
    NotAFolder {
        /// The path as given.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The folder matches no known layout.
    #[error(
        "No dataset was recognised in this folder. Looked for {looked_for}. Found {found}. {remedy}\nFolder: {}",
        path.display()
    )]
    Unrecognised {
        /// The folder.
        path: PathBuf,
        /// The layouts that were tried.
        looked_for: String,
        /// A summary of what the folder holds.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A `.npy` file is damaged or of a kind that is not supported.
    #[error("The array cannot be used: {reason}\nFile: {}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A table of labels cannot be understood.
    #[error("The table of labels cannot be used, line {line}: {reason}\nFile: {}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The labels do not fit the samples.
    #[error("The labels cannot be used: {reason}\nFile: {}", path.display())]
    Labels {
        /// The file of labels.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The samples do not have the shape that the model takes.
    #[error(
        "The data does not fit the model: {found}, and the model takes {expected:?} for one sample. {remedy}"
    )]
    Shape {
        /// What the data offers, with its shape.
        found: String,
        /// Shape of one sample of the model's input, without the batch axis.
        expected: Vec<usize>,
        /// What to do.
        remedy: String,
    },
    /// A field of a preprocessing text is unknown or has an illegal value.
    #[error("Preprocessing field {field:?} cannot be {value:?}: expected {expected}")]
    Preprocess {
        /// Name of the field.
        field: String,
        /// The value as given.
        value: String,
        /// The legal values.
        expected: String,
    },
    /// A sample number outside the dataset was asked for.
    #[error("Sample {index} was asked for, and the dataset has {len}")]
    Index {
        /// The number asked for.
        index: usize,
        /// Samples in the dataset.
        len: usize,
    },
    /// A sample cannot be shown as a picture.
    #[error("Sample {name:?} cannot be shown: {reason}")]
    Thumbnail {
        /// Name of the sample.
        name: String,
        /// Why.
        reason: String,
    },
}
