//! Quantscope explores neural-network quantization interactively.

pub mod data;
pub mod engine;
pub mod jobs;
pub mod model;
pub mod quant;
