//! The values of one run, indexed by [`ValueId`].

use super::value::Value;
use crate::model::ValueId;

/// Values of a run: what was fed, and what was computed and kept.
///
/// Cloning is cheap: tensors are reference counted.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    slots: Vec<Option<Value>>,
}

impl Activations {
    /// No values yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value.
    pub fn insert(&mut self, id: ValueId, value: impl Into<Value>) {
        if self.slots.len() <= id.index() {
            self.slots.resize(id.index() + 1, None);
        }
        if let Some(slot) = self.slots.get_mut(id.index()) {
            *slot = Some(value.into());
        }
    }

    /// The value, if it is held.
    pub fn get(&self, id: ValueId) -> Option<&Value> {
        self.slots.get(id.index()).and_then(Option::as_ref)
    }

    /// Whether the value is held.
    pub fn contains(&self, id: ValueId) -> bool {
        self.get(id).is_some()
    }

    /// Takes a value out.
    pub fn remove(&mut self, id: ValueId) -> Option<Value> {
        self.slots.get_mut(id.index()).and_then(Option::take)
    }

    /// The values that are held.
    pub fn iter(&self) -> impl Iterator<Item = (ValueId, &Value)> {
        (0u32..)
            .zip(&self.slots)
            .filter_map(|(index, slot)| Some((ValueId(index), slot.as_ref()?)))
    }
}
