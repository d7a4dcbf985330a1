//! A few samples as the network sees them, and whether float accuracy says that it sees them right.

use super::open_data::OpenData;
use super::recent_picture;
use super::session::Session;
use crate::data::Thumbnail;

/// Samples that are shown.
const COUNT: usize = 3;
/// Longest side of a preview in pixels.
const SIDE: u32 = 96;
/// Share of the way from chance to a perfect score that a trained network surely covers.
const SURELY_LEARNT: f64 = 0.1;

/// A sample as the network sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// File or row that it comes from.
    pub name: String,
    /// Its class, where it has one.
    pub class: Option<String>,
    /// Its picture.
    pub picture: Thumbnail,
}

/// What is shown of the first evaluation samples.
#[derive(Debug, Default)]
pub(super) struct Previews {
    pub(super) previews: Vec<Preview>,
    /// The first of them, for the list of recent models.
    pub(super) smallest: Option<Thumbnail>,
}

/// The first evaluation samples that are pictures.
pub(super) fn previews(data: &OpenData) -> Previews {
    let batches = data.evaluation.first(COUNT);
    let Some(Ok(batch)) = batches.iter().next() else {
        return Previews::default();
    };
    let (loader, dataset) = (batches.loader(), data.dataset());
    let smallest = batch.samples.first().and_then(|index| {
        let picture = loader.thumbnail(*index, recent_picture::SIDE);
        picture.ok()
    });
    let samples = batch.samples.iter().take(COUNT);
    let previews = samples
        .filter_map(|index| {
            let sample = dataset.samples.get(*index)?;
            let class = sample.label.map(|label| {
                let name = dataset.classes.get(label as usize);
                name.cloned().unwrap_or_else(|| format!("class {label}"))
            });
            Some(Preview {
                name: sample.name.clone(),
                class,
                picture: loader.thumbnail(*index, SIDE).ok()?,
            })
        })
        .collect();
    Previews { previews, smallest }
}

impl Session {
    /// Three evaluation samples as the network sees them, once decoded; none if they are no pictures.
    pub fn previews(&self) -> &[Preview] {
        &self.previews
    }

    /// Share of right answers by chance, in `0.0..=1.0`; `None` without labels.
    pub fn chance(&self) -> Option<f64> {
        let dataset = self.data()?.dataset();
        let classes = dataset.class_count();
        (dataset.has_labels() && classes > 1).then(|| 1.0 / classes as f64)
    }

    /// Whether float accuracy, measured to the end, is hardly above chance: the samples are then most
    /// likely not prepared as they were in training, or the labels are those of other classes.
    pub fn is_near_chance(&self) -> bool {
        let float = self
            .float()
            .filter(|(_, finished)| *finished)
            .and_then(|(reference, _)| reference.metrics.top1());
        float
            .zip(self.chance())
            .is_some_and(|(top1, chance)| near_chance(top1, chance))
    }
}

fn near_chance(top1: f64, chance: f64) -> bool {
    top1 < chance + SURELY_LEARNT * (1.0 - chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_learnt_is_above_chance() {
        for (top1, classes, near) in [
            (0.001, 1000, true),
            (0.5, 1000, false),
            (0.12, 10, true),
            (0.4, 10, false),
            (0.52, 2, true),
            (0.7, 2, false),
        ] {
            assert_eq!(near_chance(top1, 1.0 / f64::from(classes)), near, "{top1}");
        }
    }
}
