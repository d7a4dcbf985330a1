//! Confusion matrices of two networks on the same samples.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::SampleRow;

/// Classes that are shown all; of more, only those that are taken for another one.
const ALL_CLASSES: usize = 40;

/// Counts of two confusion matrices, label by prediction.
#[derive(Debug, Default)]
pub(super) struct Confusion {
    generation: u64,
    /// Classes of the rows and columns.
    pub(super) classes: Vec<u32>,
    /// Classes that there are.
    pub(super) class_count: usize,
    counts: BTreeMap<(u32, u32), [u32; 2]>,
    /// Samples of each label.
    labelled: BTreeMap<u32, [u32; 2]>,
}

impl Confusion {
    /// Counts again when the samples changed.
    pub(super) fn follow(&mut self, rows: &[SampleRow], generation: u64, class_count: usize) {
        if self.generation != generation || self.class_count != class_count {
            *self = Self::of(rows, class_count);
            self.generation = generation;
        }
    }

    fn of(rows: &[SampleRow], class_count: usize) -> Self {
        let mut confusion = Self {
            class_count,
            ..Self::default()
        };
        let second_runs = rows.iter().any(|row| row.second.is_some());
        for row in rows {
            let Some(label) = row.first.label else {
                continue;
            };
            // As soon as the second network is measured, both matrices count the same samples.
            if second_runs && row.second.is_none() {
                continue;
            }
            let both = [Some(row.first), row.second];
            for (network, prediction) in both.into_iter().enumerate() {
                let best = prediction.and_then(|prediction| prediction.best());
                if let Some(best) = best {
                    let cell = confusion.counts.entry((label, best.class)).or_default();
                    cell[network] += 1;
                    confusion.labelled.entry(label).or_default()[network] += 1;
                }
            }
        }
        confusion.classes = confusion.shown_classes();
        confusion
    }

    fn shown_classes(&self) -> Vec<u32> {
        if self.class_count <= ALL_CLASSES {
            return (0..self.class_count as u32).collect();
        }
        let confused: BTreeSet<u32> = self
            .counts
            .keys()
            .filter(|(label, predicted)| label != predicted)
            .flat_map(|(label, predicted)| [*label, *predicted])
            .collect();
        confused.into_iter().collect()
    }

    /// Samples with this label and this prediction, in the first and in the second network.
    pub(super) fn count(&self, label: u32, predicted: u32) -> [u32; 2] {
        let count = self.counts.get(&(label, predicted));
        count.copied().unwrap_or_default()
    }

    /// Samples with this label that the first and the second network have seen.
    pub(super) fn labelled(&self, label: u32) -> [u32; 2] {
        self.labelled.get(&label).copied().unwrap_or_default()
    }
}
