//! Choosing samples by a seed.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014), the
//! shuffle is Fisher-Yates from the last place down:
//!
//! ```text
//! state += 0x9E3779B97F4A7C15;  z = state
//! z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;  next = z ^ (z >> 31)
//! for i in (1..n).rev():  swap(i, (next * (i + 1)) >> 64)
//! ```
//!
//! Samples are chosen in proportion to their classes: within a class of `m` samples the one at place `k` of the shuffle
//! gets the key `(2k + 1) / 2m`, and the samples with the smallest keys are taken, equal keys in shuffled order.
//! A smaller choice with the same seed is always part of a larger one.

use std::{cmp::Ordering, collections::BTreeMap};

use super::Dataset;

/// Samples for calibration and for evaluation, disjoint, each in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Indices of the samples that ranges are taken from.
    pub calibration: Vec<usize>,
    /// Indices of the samples that results are measured on.
    pub evaluation: Vec<usize>,
}

/// Sets `count` samples aside for calibration and leaves the others for evaluation.
///
/// At most half of the samples are set aside, so a small dataset gives fewer than `count`, and a single sample none.
pub fn split_calibration(dataset: &Dataset, count: usize, seed: u64) -> Split {
    let mut order = ranked(
        dataset,
        &(0..dataset.samples.len()).collect::<Vec<_>>(),
        seed,
    );
    let mut evaluation = order.split_off(count.min(order.len() / 2));
    order.sort_unstable();
    evaluation.sort_unstable();
    Split {
        calibration: order,
        evaluation,
    }
}

/// Chooses at most `limit` of the samples `indices` by `seed`, in ascending order; all of them without a limit.
///
/// Indices outside the dataset are treated as samples without a label.
pub fn select(dataset: &Dataset, indices: &[usize], limit: Option<usize>, seed: u64) -> Vec<usize> {
    let mut chosen = match limit {
        Some(limit) if limit < indices.len() => {
            let mut order = ranked(dataset, indices, seed);
            order.truncate(limit);
            order
        }
        _ => indices.to_vec(),
    };
    chosen.sort_unstable();
    chosen
}

/// All of `indices` in the order in which they are taken.
fn ranked(dataset: &Dataset, indices: &[usize], seed: u64) -> Vec<usize> {
    let label = |index: usize| dataset.samples.get(index).and_then(|sample| sample.label);
    let mut order = indices.to_vec();
    order.sort_unstable();
    SplitMix64(seed).shuffle(&mut order);
    let mut class_sizes: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    let places: Vec<u64> = order
        .iter()
        .map(|&index| {
            let size = class_sizes.entry(label(index)).or_default();
            *size += 1;
            *size - 1
        })
        .collect();
    let mut keyed: Vec<(u64, u64, usize)> = order
        .into_iter()
        .zip(places)
        .map(|(index, place)| {
            (
                2 * place + 1,
                class_sizes.get(&label(index)).copied().unwrap_or(1),
                index,
            )
        })
        .collect();
    // A stable sort keeps the shuffled order of equal keys.
    keyed.sort_by(|a, b| compare_fractions((a.0, a.1), (b.0, b.1)));
    keyed.into_iter().map(|(_, _, index)| index).collect()
}

fn compare_fractions(a: (u64, u64), b: (u64, u64)) -> Ordering {
    (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1)))
}

struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            let j = (u128::from(self.next()) * (i as u128 + 1)) >> 64;
            items.swap(i, j as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        super::{DatasetKind, Sample},
        *,
    };

    fn dataset(labels: &[Option<u32>]) -> Dataset {
        let samples = labels
            .iter()
            .enumerate()
            .map(|(i, &label)| Sample {
                name: format!("{i:05}.png"),
                label,
                size_bytes: 1,
            })
            .collect();
        Dataset::new(
            Path::new("x"),
            DatasetKind::Pictures,
            samples,
            Vec::new(),
            Vec::new(),
        )
    }

    fn all(dataset: &Dataset) -> Vec<usize> {
        (0..dataset.samples.len()).collect()
    }

    #[test]
    fn generator_matches_its_publication() {
        let mut generator = SplitMix64(1234567);
        let first: Vec<u64> = (0..3).map(|_| generator.next()).collect();
        assert_eq!(
            first,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423
            ]
        );
    }

    #[test]
    fn shuffle_is_a_permutation_that_depends_on_the_seed() {
        let shuffled = |seed| {
            let mut items: Vec<usize> = (0..100).collect();
            SplitMix64(seed).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(0), shuffled(0));
        assert_ne!(shuffled(0), shuffled(1));
        let mut sorted = shuffled(0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn split_is_disjoint_complete_and_capped_at_half() {
        for (len, count, expected) in [
            (0, 5, 0),
            (1, 5, 0),
            (2, 5, 1),
            (10, 3, 3),
            (10, 5, 5),
            (11, 256, 5),
            (10, 0, 0),
        ] {
            let dataset = dataset(&vec![None; len]);
            let split = split_calibration(&dataset, count, 0);
            assert_eq!(split.calibration.len(), expected, "{count} of {len}");
            let mut both = [split.calibration.clone(), split.evaluation.clone()].concat();
            both.sort_unstable();
            assert_eq!(both, all(&dataset));
            assert!(split.calibration.is_sorted() && split.evaluation.is_sorted());
        }
    }

    #[test]
    fn choice_is_in_proportion_to_the_classes() {
        let labels: Vec<Option<u32>> = (0..1000).map(|i| Some(u32::from(i % 10 == 0))).collect();
        let dataset = dataset(&labels);
        for limit in [10, 50, 100, 500] {
            let chosen = select(&dataset, &all(&dataset), Some(limit), 3);
            let rare = chosen
                .iter()
                .filter(|&&i| dataset.samples[i].label == Some(1))
                .count();
            assert_eq!((chosen.len(), rare), (limit, limit / 10));
        }
    }

    #[test]
    fn choices_are_nested_and_seeded() {
        let dataset = dataset(
            &(0..97)
                .map(|i| (i % 5 > 0).then_some(i % 3))
                .collect::<Vec<_>>(),
        );
        let choose = |limit, seed| select(&dataset, &all(&dataset), limit, seed);
        let large = choose(Some(40), 1);
        assert!(choose(Some(15), 1).iter().all(|i| large.contains(i)));
        assert_ne!(choose(Some(40), 2), large);
        assert_eq!(choose(None, 1), all(&dataset));
        assert_eq!(choose(Some(97), 1), all(&dataset));
        assert_eq!(choose(Some(1000), 1), all(&dataset));
        assert_eq!(select(&dataset, &[9, 3, 500], None, 0), [3, 9, 500]);
    }
}
