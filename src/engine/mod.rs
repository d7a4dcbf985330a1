//! Runs graphs: kernels, executor, calibration, evaluation.
