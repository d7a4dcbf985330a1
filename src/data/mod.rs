//! Dataset folders, preprocessing and batches.
//!
//! [`Dataset::open`] recognises how a folder is laid out and lists its samples in a fixed order;
//! [`split_calibration`] and [`select`] choose among them by a seed; [`Preprocess`] says how a picture becomes numbers;
//! [`Loader`] reads the chosen samples and hands them out as `f32` batches.
//! [`NpyArray`] reads and writes NumPy's `.npy` files.
//!
//! Nothing here depends on the number of threads or on the order in which the file system lists its entries.
//! A file that cannot be read is left out and listed with the reason, it never ends an evaluation.
//! The layer knows neither models nor quantization.

mod class_folders;
mod dataset;
mod error;
mod fingerprint;
mod folder;
mod geometry;
mod guess;
mod input_check;
mod labels_csv;
mod loader;
mod npy;
mod npy_dataset;
mod picture;
mod preprocess;
mod resample;
mod split;

pub use self::{
    dataset::{Dataset, DatasetKind, Sample, Skipped},
    error::DataError,
    loader::{Batch, Loader, Thumbnail},
    npy::{NpyArray, NpyData, NpyRows, NpyType, write_f32, write_i64},
    preprocess::{Channels, Preprocess},
    split::{Split, select, split_calibration},
};
