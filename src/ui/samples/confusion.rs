//! Confusion matrices of two networks on the same samples.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{SampleRow, Table};

/// Classes that are shown all; of more, only those that are taken for another one.
const ALL_CLASSES: usize = 40;

/// Counts of two confusion matrices, label by prediction.
#[derive(Debug, Default)]
pub(super) struct Confusion {
    generation: u64,
    /// Classes of the rows and columns of each matrix.
    classes: [Vec<u32>; 3],
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
        confusion.classes = [
            confusion.shown_classes(|[first, _]| first > 0),
            confusion.shown_classes(|[_, second]| second > 0),
            confusion.shown_classes(|[first, second]| first != second),
        ];
        confusion
    }

    /// All classes if they are few, else those of the cells beside the diagonal that matter.
    fn shown_classes(&self, matters: impl Fn([u32; 2]) -> bool) -> Vec<u32> {
        if self.class_count <= ALL_CLASSES {
            return (0..self.class_count as u32).collect();
        }
        let confused: BTreeSet<u32> = self
            .counts
            .iter()
            .filter(|((label, predicted), count)| label != predicted && matters(**count))
            .flat_map(|((label, predicted), _)| [*label, *predicted])
            .collect();
        confused.into_iter().collect()
    }

    /// Classes of the rows and columns of a matrix.
    pub(super) fn classes(&self, table: Table) -> &[u32] {
        let [first, second, difference] = &self.classes;
        match table {
            Table::First => first,
            Table::Second => second,
            Table::Difference => difference,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::SamplePrediction;

    fn row(label: u32, first: u32, second: Option<u32>) -> SampleRow {
        let of = |class| SamplePrediction::certain(0, Some(label), class);
        SampleRow {
            first: of(first),
            second: second.map(of),
        }
    }

    #[test]
    fn both_matrices_count_the_samples_that_both_have_seen() {
        let rows = [
            row(0, 0, Some(1)),
            row(0, 0, Some(0)),
            row(1, 0, Some(0)),
            row(1, 1, None),
        ];
        let confusion = Confusion::of(&rows, 2);
        assert_eq!(confusion.count(0, 0), [2, 1]);
        assert_eq!(confusion.count(0, 1), [0, 1]);
        assert_eq!(confusion.count(1, 0), [1, 1]);
        assert_eq!(confusion.count(1, 1), [0, 0]);
        assert_eq!(confusion.labelled(0), [2, 2]);
    }

    #[test]
    fn of_many_classes_those_that_are_confused_are_shown() {
        let rows = [row(7, 7, Some(9)), row(3, 4, Some(4)), row(5, 5, Some(5))];
        let confusion = Confusion::of(&rows, 1000);
        assert_eq!(confusion.classes(Table::First), [3, 4]);
        assert_eq!(confusion.classes(Table::Second), [3, 4, 7, 9]);
        assert_eq!(confusion.classes(Table::Difference), [7, 9]);
    }
}
