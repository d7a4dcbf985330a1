//! Values that a runtime of integers stores between its operators.

use std::collections::BTreeMap;

use candle_core::DType;

use super::error::RunError;
use super::kernels::fake_quantize;
use super::value::Value;
use crate::model::ValueId;
use crate::quant::{ActivationQuantizer, Grid};

/// The grids that values are stored on as they are computed, apart from those that layers read.
///
/// A value may pass several grids in turn, where a runtime stores it in one type first and converts it
/// to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeGrids {
    by_value: BTreeMap<ValueId, Vec<Grid>>,
}

impl EdgeGrids {
    /// Sets the grids that a value passes, the first one first.
    pub fn insert(&mut self, id: ValueId, grids: Vec<Grid>) {
        self.by_value.insert(id, grids);
    }

    /// The grid that readers of a value find it on.
    pub fn read_grid(&self, id: ValueId) -> Option<&Grid> {
        self.by_value.get(&id)?.last()
    }

    /// Whether a value is stored on a grid.
    pub fn contains(&self, id: ValueId) -> bool {
        self.by_value.contains_key(&id)
    }

    /// The value as it is stored.
    ///
    /// # Errors
    /// A value that is no tensor of `f32`.
    pub(super) fn stored(&self, id: ValueId, value: Value) -> Result<Value, RunError> {
        let mut value = value;
        for grid in self.by_value.get(&id).into_iter().flatten() {
            let quantizer = ActivationQuantizer::Affine(*grid);
            value = value.map(|tensor| fake_quantize(&tensor.to_dtype(DType::F32)?, &quantizer))?;
        }
        Ok(value)
    }
}
