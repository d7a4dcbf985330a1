//! The arithmetic of quantization: pure functions on slices.

mod error;
mod error_metrics;
mod fake_quantize;
mod format;
mod grid;
mod half;
mod histogram;
mod layout;
mod observer;
mod size;
mod spec;
mod statistics;
mod weights;

pub use error::QuantError;
pub use error_metrics::{
    ErrorSum, SliceErrors, cross_entropy, kl_divergence, mean_kl_divergence, sqnr_db,
    wilson_interval,
};
pub use format::{BitWidth, NumberFormat};
pub use grid::Grid;
pub use half::HalfFormat;
pub use histogram::Histogram;
pub use observer::Observer;
pub use size::{WeightStorage, packed_weight_bytes};
pub use spec::{Calibrator, Granularity, QuantSpec, Range, Scheme};
pub use statistics::{
    SliceStatistics, channel_ranges, error_histogram, histogram, slice_statistics,
};
pub use weights::{QuantizedWeights, grid_count, quantize_weights};
