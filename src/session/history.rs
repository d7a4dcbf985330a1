//! Plans that were evaluated to the end.

use std::time::{SystemTime, UNIX_EPOCH};

use super::session::Session;
use crate::engine::{Classification, Comparison};
use crate::plan::{Cost, Fingerprint, Plan, Rounding};

/// An evaluated plan with what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// Name, at first the widths; can be changed.
    pub name: String,
    /// Identifies the plan.
    pub fingerprint: Fingerprint,
    /// The plan itself.
    pub plan: Plan,
    /// Whether it is kept at the top.
    pub pinned: bool,
    /// When it was measured, in seconds since 1970; 0 if that is not known.
    pub measured_secs: u64,
    /// What it costs.
    pub cost: Cost,
    /// Samples it was measured on.
    pub samples: usize,
    /// Its accuracy.
    pub metrics: Classification,
    /// Its outputs against float.
    pub comparison: Comparison,
}

/// A short name for a plan: `W4 A8` where uniform, else the average bits; with how weights are rounded.
pub(super) fn describe(plan: &Plan, cost: &Cost) -> String {
    let mut widths = plan.layers().iter().map(crate::plan::LayerPlan::widths);
    let widths = match widths.next() {
        Some(first) if widths.all(|other| other == first) => {
            format!("W{} A{}", first.weight, first.activation)
        }
        _ => format!(
            "mixed W{:.1} A{:.1}",
            cost.average_weight_bits, cost.average_activation_bits
        ),
    };
    match rounding_of(plan) {
        Some(rounding) => format!("{widths} {rounding}"),
        None => widths,
    }
}

/// How all weights are rounded, in a word; `None` for nearest.
fn rounding_of(plan: &Plan) -> Option<&'static str> {
    if !plan.is_tuned() {
        return None;
    }
    let mut roundings = plan.layers().iter().map(|layer| layer.rounding);
    let first = roundings.next()?;
    Some(match first {
        _ if roundings.any(|other| other != first) => "rounded",
        Rounding::Nearest => "corrected",
        all => all.name(),
    })
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// Counts changes of names and pins, so that unsaved ones are told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HistoryChanges {
    made: u64,
    /// Those that the file being written holds.
    saving: u64,
    saved: u64,
}

impl HistoryChanges {
    pub(super) fn are_unsaved(self) -> bool {
        self.made != self.saved
    }

    pub(super) fn saving(&mut self) {
        self.saving = self.made;
    }

    pub(super) fn saved(&mut self) {
        self.saved = self.saving;
    }
}

impl Session {
    /// The plan that [`super::Action::Recall`] puts back into the history.
    pub fn forgotten(&self) -> Option<&HistoryEntry> {
        self.forgotten.as_ref().map(|(_, entry)| entry)
    }

    pub(super) fn rename(&mut self, index: usize, name: String) {
        if let Some(entry) = self.history.get_mut(index) {
            entry.name = name;
            self.history_changes.made += 1;
        }
    }

    pub(super) fn pin(&mut self, index: usize, pinned: bool) {
        if let Some(entry) = self.history.get_mut(index) {
            entry.pinned = pinned;
            self.history_changes.made += 1;
        }
    }

    /// A pinned plan stays.
    pub(super) fn forget(&mut self, index: usize) {
        if self.history.get(index).is_some_and(|entry| !entry.pinned) {
            self.forgotten = Some((index, self.history.remove(index)));
            self.history_changes.made += 1;
        }
    }

    pub(super) fn recall(&mut self) {
        if let Some((index, entry)) = self.forgotten.take() {
            let measured_again = |other: &HistoryEntry| other.fingerprint == entry.fingerprint;
            if !self.history.iter().any(measured_again) {
                self.history.insert(index.min(self.history.len()), entry);
                self.history_changes.made += 1;
            }
        }
    }
}
