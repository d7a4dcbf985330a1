//! The arithmetic of quantization: pure functions on slices.
//!
//! A [`QuantSpec`] says what is chosen for a tensor. [`quantize_weights`] turns weights and such a
//! choice into [`QuantizedWeights`]. An [`Observer`] gathers an activation batch by batch in fixed
//! memory, [`calibrate`] finds a [`Range`] for it, and an [`ActivationQuantizer`] rounds it to the
//! levels of a [`Grid`]. [`ErrorSum`], [`SliceErrors`] and the functions beside them measure what
//! was lost.
//!
//! Nothing here knows of graphs, files or threads, and nothing depends on the processor: the loops
//! are compiled for several instruction sets, but sum in one order.
//!
//! ```
//! use quantscope::quant::{QuantSpec, quantize_weights};
//! let weights = [0.5, -1.0, 0.25, 3.0, 0.0, 1.4];
//! let quantized = quantize_weights(&weights, &[2, 3], 0, &QuantSpec::weight("2".parse()?))?;
//! assert_eq!(quantized.codes(), [0, -1, 0, 1, 0, 0]);
//! assert_eq!(quantized.dequantized, [0.0, -1.0, 0.0, 3.0, 0.0, 0.0]);
//! # Ok::<(), quantscope::quant::QuantError>(())
//! ```

mod activation;
mod calibrator;
mod correlation;
mod error;
mod error_metrics;
mod fake_quantize;
mod format;
mod grid;
mod half;
mod histogram;
mod layout;
mod observer;
mod rounding;
mod screens;
mod size;
mod spec;
mod statistics;
mod weights;

pub use activation::ActivationQuantizer;
pub use calibrator::calibrate;
pub use correlation::rank_correlation;
pub use error::QuantError;
pub use error_metrics::{
    ErrorSum, ReferenceRow, SliceErrors, kl_divergence, log_sum_exp, mean_kl_divergence, sqnr_db,
    wilson_interval,
};
pub(crate) use fake_quantize::with_widest_vectors;
pub use format::{BitWidth, NumberFormat};
pub use grid::Grid;
pub use half::HalfFormat;
pub use histogram::Histogram;
pub use observer::Observer;
pub use rounding::{
    LevelChoice, RoundedWeights, RoundingMethod, WindowSums, output_error, round_weights,
};
pub use screens::{WeightScreen, weight_screen};
pub use size::{WeightStorage, packed_weight_bytes};
pub use spec::{Calibrator, Granularity, QuantSpec, Range, Scheme};
pub use statistics::{
    SliceStatistics, channel_ranges, error_histogram, histogram, slice_statistics,
};
pub use weights::{ChannelSteps, QuantizedWeights, grid_count, quantize_weights};
