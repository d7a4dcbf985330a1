//! Runs graphs: kernels, executor, calibration, evaluation.

pub mod kernels;
