//! The arithmetic of quantization: pure functions on slices.
