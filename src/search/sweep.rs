//! A sensitivity sweep in a form that is stored, split and joined.

use serde::{Deserialize, Serialize};

use super::effects::{Effects, PartEffects};
use super::error::SearchError;
use super::score::{Power, Score};
use super::shard::Shard;
use crate::engine::{
    LayerScreen, Protocol, Screens, Sensitivity, SensitivityCell, SensitivityRequest, Spread,
    Subject,
};
use crate::model::LayerId;
use crate::plan::Fingerprint;
use crate::quant::{NumberFormat, SliceErrors, WeightScreen};

/// Version that this program writes.
const VERSION: u32 = 1;

/// One part of a sweep, finished or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredSweep {
    /// Format version.
    pub version: u32,
    /// Identifies model, data, preprocessing and settings.
    pub fingerprint: Fingerprint,
    /// Which layers are studied.
    pub shard: Shard,
    /// Names of the layers.
    pub layers: Vec<String>,
    /// `only-one` or `all-but-one`.
    pub protocol: String,
    /// `weights`, `activations` or `both`.
    pub what: String,
    /// The widths, in the order of the columns.
    pub widths: Vec<NumberFormat>,
    /// Samples done.
    pub samples: usize,
    /// Samples to do.
    pub total: usize,
    /// Float on the same samples.
    pub float: Score,
    /// Batches that float was measured on, always the first ones.
    pub float_batches: u32,
    /// One row a layer; empty for layers of other parts.
    pub cells: Vec<Vec<StoredCell>>,
    /// What the weights alone say; empty where that was not asked for.
    #[serde(default)]
    pub screens: Vec<StoredScreen>,
    /// Seconds that were spent.
    pub seconds: f64,
}

/// What a layer's weight alone says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredScreen {
    /// Kurtosis, outlier ratio and range spread; those that are no finite number are absent.
    shape: Option<[Option<f64>; 3]>,
    /// Error of the weight at each width.
    errors: Vec<SliceErrors>,
}

impl From<&LayerScreen> for StoredScreen {
    fn from(screen: &LayerScreen) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        Self {
            shape: screen.weight.map(|weight| {
                [weight.kurtosis, weight.outlier_ratio, weight.range_spread].map(finite)
            }),
            errors: screen.errors.clone(),
        }
    }
}

impl From<&StoredScreen> for LayerScreen {
    fn from(stored: &StoredScreen) -> Self {
        Self {
            weight: stored.shape.map(|shape| {
                let [kurtosis, outlier_ratio, range_spread] =
                    shape.map(|value| value.unwrap_or(f64::NAN));
                WeightScreen {
                    kurtosis,
                    outlier_ratio,
                    range_spread,
                }
            }),
            errors: stored.errors.clone(),
        }
    }
}

/// One layer at one width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredCell {
    /// The network's outputs.
    pub score: Score,
    /// The layer's own output, on float inputs.
    pub local: Power,
    /// How certain that is.
    pub spread: Spread,
    /// Batches that it was measured on, always the first ones.
    pub batches: u32,
}

impl StoredSweep {
    /// The stored form of a sweep.
    pub fn new(
        sweep: &Sensitivity,
        shard: Shard,
        fingerprint: &Fingerprint,
        layers: &[String],
        seconds: f64,
    ) -> Self {
        let cell = |cell: &SensitivityCell| StoredCell {
            score: Score::of(&cell.metrics, &cell.comparison),
            local: cell.local.into(),
            spread: cell.spread,
            batches: cell.batches,
        };
        Self {
            version: VERSION,
            fingerprint: fingerprint.clone(),
            shard,
            layers: layers.to_vec(),
            protocol: sweep.request.protocol.name().to_owned(),
            what: sweep.request.subject.name().to_owned(),
            widths: sweep.request.widths.clone(),
            samples: sweep.samples,
            total: sweep.total,
            float: Score::of(&sweep.float, &Default::default()),
            float_batches: sweep.float_batches,
            cells: sweep
                .cells
                .iter()
                .enumerate()
                .map(|(layer, row)| {
                    let row = row.iter().filter(|_| shard.holds(layer));
                    row.map(cell).collect()
                })
                .collect(),
            screens: Vec::new(),
            seconds,
        }
    }

    /// The same with what the weights alone say.
    #[must_use]
    pub fn with_screens(mut self, screens: &Screens) -> Self {
        self.screens = screens.layers.iter().map(StoredScreen::from).collect();
        self
    }

    /// What the weights alone say.
    pub fn weight_screens(&self) -> Screens {
        Screens {
            widths: self.widths.clone(),
            layers: self.screens.iter().map(LayerScreen::from).collect(),
        }
    }

    /// The sweep that was stored; `None` if the names or sizes in it are not known.
    pub fn sweep(&self) -> Option<Sensitivity> {
        let protocols = [Protocol::OnlyOne, Protocol::AllButOne];
        let subjects = [Subject::Weights, Subject::Activations, Subject::Both];
        let cells = self.cells.iter().map(|row| {
            if row.is_empty() {
                return Some(vec![SensitivityCell::default(); self.widths.len()]);
            }
            let cell = |cell: &StoredCell| SensitivityCell {
                metrics: cell.score.metrics(),
                comparison: cell.score.comparison(),
                local: cell.local.into(),
                spread: cell.spread,
                batches: cell.batches,
            };
            (row.len() == self.widths.len()).then(|| row.iter().map(cell).collect())
        });
        Some(Sensitivity {
            request: SensitivityRequest {
                protocol: protocols.into_iter().find(|p| p.name() == self.protocol)?,
                subject: subjects.into_iter().find(|s| s.name() == self.what)?,
                widths: self.widths.clone(),
            },
            samples: self.samples,
            total: self.total,
            float: self.float.metrics(),
            float_batches: self.float_batches,
            cells: cells.collect::<Option<_>>()?,
        })
    }

    /// Whether all layers of the part were studied on all samples.
    pub fn is_finished(&self) -> bool {
        self.samples >= self.total
    }

    /// Goes on from this one only if it is of the same work.
    ///
    /// # Errors
    /// [`SearchError::Foreign`] says what differs.
    pub fn check(&self, fingerprint: &Fingerprint, shard: Shard) -> Result<(), SearchError> {
        check_version(self.version)?;
        if self.fingerprint != *fingerprint {
            return Err(foreign());
        }
        if self.shard != shard {
            return Err(SearchError::Foreign(format!(
                "it holds part {}, but part {shard} was asked for; choose another file for each part",
                self.shard
            )));
        }
        Ok(())
    }

    /// Joins the parts of one sweep into the whole.
    ///
    /// # Errors
    /// [`SearchError::Foreign`] names parts that are missing, not finished, twice there or of other work.
    pub fn merge(parts: &[Self]) -> Result<Self, SearchError> {
        let Some(first) = parts.first() else {
            return Err(SearchError::Foreign(
                "there are no parts to join".to_owned(),
            ));
        };
        for part in parts {
            check_version(part.version)?;
            if part.fingerprint != first.fingerprint || part.cells.len() != first.cells.len() {
                return Err(SearchError::Foreign(format!(
                    "part {} belongs to another model, data or settings than part {}; join parts of one job",
                    part.shard, first.shard
                )));
            }
            if !part.is_finished() {
                return Err(SearchError::Foreign(format!(
                    "part {} is not finished: {} of {} samples; run it again with the same arguments, it goes on",
                    part.shard, part.samples, part.total
                )));
            }
        }
        complete(parts.iter().map(|part| part.shard))?;
        let mut whole = first.clone();
        whole.shard = Shard::WHOLE;
        whole.seconds = parts.iter().map(|part| part.seconds).sum();
        for part in parts {
            for (layer, row) in part.cells.iter().enumerate() {
                if part.shard.holds(layer) {
                    whole.cells[layer].clone_from(row);
                }
            }
        }
        Ok(whole)
    }

    /// The scores of all cells.
    pub(super) fn scores(&self) -> impl Iterator<Item = Score> + '_ {
        self.cells.iter().flatten().map(|cell| cell.score)
    }

    /// Effects in layer order.
    fn effects(&self) -> Vec<PartEffects> {
        let row = |row: &Vec<StoredCell>| {
            let harms = row.iter().map(|cell| cell.score.harm());
            PartEffects::new(self.widths.iter().copied().zip(harms).collect())
        };
        self.cells.iter().map(row).collect()
    }
}

/// The effects that sweeps of weights and of inputs measured.
pub fn effects(weights: Option<&StoredSweep>, activations: Option<&StoredSweep>) -> Effects {
    Effects {
        weights: weights.map(StoredSweep::effects).unwrap_or_default(),
        activations: activations.map(StoredSweep::effects).unwrap_or_default(),
    }
}

/// Which layers of a sweep a part studies.
pub fn studied(shard: Shard) -> impl Fn(LayerId) -> bool + Sync {
    move |id: LayerId| shard.holds(id.index())
}

/// Checks that all parts of a split are there, each once.
pub(super) fn complete(shards: impl Iterator<Item = Shard>) -> Result<(), SearchError> {
    let mut found: Vec<Shard> = shards.collect();
    found.sort_unstable();
    let Some(first) = found.first().copied() else {
        return Err(SearchError::Foreign(
            "there are no parts to join".to_owned(),
        ));
    };
    if let Some(other) = found.iter().find(|shard| shard.count() != first.count()) {
        return Err(SearchError::Foreign(format!(
            "parts {first} and {other} are of different splits; join the parts of one split"
        )));
    }
    let mut pairs = found.iter().zip(found.iter().skip(1));
    if let Some((twice, _)) = pairs.find(|(one, next)| one == next) {
        return Err(SearchError::Foreign(format!(
            "part {twice} is there twice; name each part once"
        )));
    }
    let missing: Vec<String> = first
        .all()
        .filter(|shard| !found.contains(shard))
        .map(|shard| shard.to_string())
        .collect();
    if !missing.is_empty() {
        return Err(SearchError::Foreign(format!(
            "parts are missing: {}; run them, or name their files",
            missing.join(", ")
        )));
    }
    Ok(())
}

pub(super) fn check_version(version: u32) -> Result<(), SearchError> {
    if version > VERSION {
        return Err(SearchError::Foreign(format!(
            "version {version} is newer than {VERSION}; update quantscope"
        )));
    }
    Ok(())
}

pub(super) fn foreign() -> SearchError {
    SearchError::Foreign(
        "it was made for another model, data, preprocessing or settings; delete it or choose another file"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(shard: &str, fingerprint: &str) -> StoredSweep {
        let shard: Shard = shard.parse().unwrap();
        let cell = |layer: usize| StoredCell {
            score: Score {
                kl_sum: layer as f64 + 0.1,
                ..Score::default()
            },
            ..StoredCell::default()
        };
        StoredSweep {
            version: 1,
            fingerprint: Fingerprint(fingerprint.to_owned()),
            shard,
            layers: vec![String::new(); 5],
            protocol: "only-one".to_owned(),
            what: "weights".to_owned(),
            widths: vec!["4".parse().unwrap()],
            samples: 10,
            total: 10,
            float: Score::default(),
            float_batches: 1,
            screens: Vec::new(),
            cells: (0..5)
                .map(|layer| {
                    shard
                        .holds(layer)
                        .then(|| cell(layer))
                        .into_iter()
                        .collect()
                })
                .collect(),
            seconds: 1.0,
        }
    }

    #[test]
    fn parts_in_any_order_make_the_whole() {
        let whole = part("1/1", "a");
        let merged = StoredSweep::merge(&[part("2/3", "a"), part("3/3", "a"), part("1/3", "a")]);
        assert_eq!(merged.unwrap().cells, whole.cells);
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<StoredSweep>(&json).unwrap(), whole);
        assert_eq!(whole.sweep().unwrap().cells.len(), 5);
    }

    #[test]
    fn what_cannot_be_joined_is_named() {
        let mut half = part("2/2", "a");
        half.samples = 5;
        for (parts, said) in [
            (vec![], "no parts"),
            (vec![part("1/3", "a")], "missing: 2/3, 3/3"),
            (
                vec![part("1/2", "a"), part("1/2", "a")],
                "1/2 is there twice",
            ),
            (vec![part("1/2", "a"), part("2/2", "b")], "another model"),
            (vec![part("1/2", "a"), part("2/3", "a")], "different splits"),
            (vec![part("1/2", "a"), half], "2/2 is not finished"),
        ] {
            let message = StoredSweep::merge(&parts).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }
}
