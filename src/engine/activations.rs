//! The values of one run, indexed by [`ValueId`].

use candle_core::Tensor;

use crate::model::ValueId;

/// Tensors of a run: what was fed, and what was computed and kept.
///
/// Cloning is cheap: tensors are reference counted.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    slots: Vec<Option<Tensor>>,
}

impl Activations {
    /// No values yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value.
    pub fn insert(&mut self, id: ValueId, tensor: Tensor) {
        if self.slots.len() <= id.index() {
            self.slots.resize(id.index() + 1, None);
        }
        if let Some(slot) = self.slots.get_mut(id.index()) {
            *slot = Some(tensor);
        }
    }

    /// The tensor of a value, if it is held.
    pub fn get(&self, id: ValueId) -> Option<&Tensor> {
        self.slots.get(id.index()).and_then(Option::as_ref)
    }

    /// Whether the value is held.
    pub fn contains(&self, id: ValueId) -> bool {
        self.get(id).is_some()
    }

    /// Takes a value out.
    pub fn remove(&mut self, id: ValueId) -> Option<Tensor> {
        self.slots.get_mut(id.index()).and_then(Option::take)
    }
}
