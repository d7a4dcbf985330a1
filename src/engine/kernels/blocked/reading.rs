//! What becomes of the numbers of an input while they are laid out.

use super::strips::Fill;
use crate::quant::{ActivationQuantizer, Grid};

/// The input as it is.
pub(super) struct Copied;

impl Fill for Copied {
    type Element = f32;
    fn zero(&self) -> f32 {
        0.0
    }
    fn convert(&self, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

/// The input quantized and dequantized.
pub(super) struct Quantized(pub ActivationQuantizer);

impl Fill for Quantized {
    type Element = f32;
    fn zero(&self) -> f32 {
        0.0
    }
    fn convert(&self, from: &[f32], to: &mut [f32]) {
        self.0.apply(from, to);
    }
}

/// The input in steps of its grid.
pub(super) struct Steps(pub Grid);

impl Fill for Steps {
    type Element = f32;
    fn zero(&self) -> f32 {
        0.0
    }
    fn convert(&self, from: &[f32], to: &mut [f32]) {
        self.0.steps_slice(from, to);
    }
}
