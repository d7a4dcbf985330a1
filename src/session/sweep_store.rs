//! What sweeps have measured, kept so that a later sweep goes on from there.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::{
    Batches, Classification, Comparison, Protocol, Sensitivity, SensitivityCell,
    SensitivityRequest, Spread, Subject,
};
use crate::model::Layer;
use crate::plan::{Fingerprint, LayerPlan, Plan, Widths};
use crate::quant::{ErrorSum, NumberFormat};

/// A number that is stored as text, so that it comes back to the last bit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Exact(f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(number))
    }
}

/// What a measured cell belongs to, apart from layer and width.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepKey {
    /// Fingerprint of data, split and preprocessing.
    data: Fingerprint,
    /// Fingerprint of the schemes and calibrators of all layers.
    settings: Fingerprint,
    protocol: String,
    what: String,
    /// Number of batches, and samples in all of them.
    batches: usize,
    samples: usize,
}

impl SweepKey {
    /// What a sweep over these batches with the schemes of a plan belongs to.
    pub fn new(
        request: &SensitivityRequest,
        plan: &Plan,
        data: &Fingerprint,
        batches: &Batches,
    ) -> Self {
        Self {
            data: data.clone(),
            settings: settings(plan, request.subject),
            protocol: request.protocol.name().to_owned(),
            what: request.subject.name().to_owned(),
            batches: batches.count(),
            samples: batches.len(),
        }
    }
}

/// Identifies what a sweep takes from a plan: everything but the widths, and of what it quantizes.
fn settings(plan: &Plan, subject: Subject) -> Fingerprint {
    let float = LayerPlan::with_widths(Widths::FLOAT);
    let layers = plan.layers().iter().map(|layer| {
        let mut kept = float.clone();
        if subject != Subject::Activations {
            kept.weight = layer.weight;
            kept.weight.format = NumberFormat::F32;
        }
        if subject != Subject::Weights {
            kept.activation = layer.activation;
            kept.activation.format = NumberFormat::F32;
        }
        kept
    });
    Plan::from_layers(layers.collect()).fingerprint()
}

/// The cells of one kind of sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredSweep {
    key: SweepKey,
    float_batches: u32,
    float_counts: [u64; 3],
    float_loss: Exact,
    cells: Vec<StoredCell>,
}

/// One layer at one width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StoredCell {
    layer: String,
    width: NumberFormat,
    batches: u32,
    /// Labelled, top-1 and top-5 hits; samples, classified, agreements, output elements; elements of
    /// the layer's output; labelled, lost and gained pairs, compared samples.
    counts: [u64; 12],
    /// Loss, KL; signal and noise of the outputs and of the layer; then the sums of the spread.
    sums: [Exact; 12],
}

impl StoredCell {
    fn new(layer: &str, width: NumberFormat, cell: &SensitivityCell) -> Self {
        let SensitivityCell {
            metrics,
            comparison,
            local,
            spread,
            batches,
        } = cell;
        Self {
            layer: layer.to_owned(),
            width,
            batches: *batches,
            counts: [
                metrics.labelled,
                metrics.top1_hits,
                metrics.top5_hits,
                comparison.samples,
                comparison.classified,
                comparison.agreements,
                comparison.outputs.count,
                local.count,
                spread.labelled,
                spread.lost,
                spread.gained,
                spread.compared,
            ],
            sums: [
                metrics.loss_sum,
                comparison.kl_sum,
                comparison.outputs.signal,
                comparison.outputs.noise,
                local.signal,
                local.noise,
                spread.loss_sum,
                spread.loss_squares,
                spread.kl_squares,
                spread.signal_squares,
                spread.noise_squares,
                spread.signal_noise,
            ]
            .map(Exact),
        }
    }

    fn cell(&self) -> SensitivityCell {
        let (n, s) = (self.counts, self.sums.map(|sum| sum.0));
        SensitivityCell {
            metrics: Classification {
                labelled: n[0],
                top1_hits: n[1],
                top5_hits: n[2],
                loss_sum: s[0],
            },
            comparison: Comparison {
                samples: n[3],
                classified: n[4],
                agreements: n[5],
                kl_sum: s[1],
                outputs: ErrorSum {
                    signal: s[2],
                    noise: s[3],
                    count: n[6],
                },
            },
            local: ErrorSum {
                signal: s[4],
                noise: s[5],
                count: n[7],
            },
            spread: Spread {
                labelled: n[8],
                lost: n[9],
                gained: n[10],
                loss_sum: s[6],
                loss_squares: s[7],
                kl_squares: s[8],
                compared: n[11],
                signal_squares: s[9],
                noise_squares: s[10],
                signal_noise: s[11],
            },
            batches: self.batches,
        }
    }
}

/// Measured cells of all kinds of sweeps over one model, the newest sweep last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepStore(Vec<StoredSweep>);

impl SweepStore {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A sweep with all that is known of what was asked for.
    pub fn known(
        &self,
        key: &SweepKey,
        request: &SensitivityRequest,
        layers: &[Layer],
    ) -> Sensitivity {
        let mut sweep = Sensitivity::new(request.clone(), layers.len(), key.samples);
        let Some(stored) = self.0.iter().find(|stored| stored.key == *key) else {
            return sweep;
        };
        let is_possible = |batches: u32| batches as usize <= key.batches;
        if is_possible(stored.float_batches) {
            let [labelled, top1_hits, top5_hits] = stored.float_counts;
            sweep.float_batches = stored.float_batches;
            sweep.float = Classification {
                labelled,
                top1_hits,
                top5_hits,
                loss_sum: stored.float_loss.0,
            };
        }
        for (layer, row) in layers.iter().zip(&mut sweep.cells) {
            for (width, cell) in request.widths.iter().zip(row) {
                let found = stored.cells.iter().find(|stored| {
                    stored.layer == layer.name
                        && stored.width == *width
                        && is_possible(stored.batches)
                });
                if let Some(found) = found {
                    *cell = found.cell();
                    sweep.samples = sweep.samples.max(found.counts[3] as usize);
                }
            }
        }
        sweep
    }

    /// Keeps what a sweep has measured, unless more is known already.
    pub fn keep(&mut self, key: &SweepKey, sweep: &Sensitivity, layers: &[Layer]) {
        let place = self.0.iter().position(|stored| stored.key == *key);
        let mut stored = match place {
            Some(place) => self.0.remove(place),
            None => StoredSweep {
                key: key.clone(),
                float_batches: 0,
                float_counts: [0; 3],
                float_loss: Exact(0.0),
                cells: Vec::new(),
            },
        };
        if sweep.float_batches >= stored.float_batches {
            stored.float_batches = sweep.float_batches;
            let float = &sweep.float;
            stored.float_counts = [float.labelled, float.top1_hits, float.top5_hits];
            stored.float_loss = Exact(float.loss_sum);
        }
        let mut others = std::mem::take(&mut stored.cells);
        for (layer, row) in layers.iter().zip(&sweep.cells) {
            for (width, cell) in sweep.request.widths.iter().zip(row) {
                let own = StoredCell::new(&layer.name, *width, cell);
                let place = others
                    .iter()
                    .position(|other| other.layer == own.layer && other.width == own.width);
                let older = place.map(|place| others.swap_remove(place));
                let best = match older {
                    Some(older) if older.batches > own.batches => older,
                    _ => own,
                };
                if best.batches > 0 {
                    stored.cells.push(best);
                }
            }
        }
        stored.cells.append(&mut others);
        self.0.push(stored);
    }

    /// The newest sweep that belongs to this data and has the schemes of a plan, with all its widths.
    pub fn newest(&self, data: &Fingerprint, plan: &Plan, layers: &[Layer]) -> Option<Sensitivity> {
        self.0.iter().rev().find_map(|stored| {
            let key = &stored.key;
            let protocol = [Protocol::OnlyOne, Protocol::AllButOne]
                .into_iter()
                .find(|protocol| protocol.name() == key.protocol)?;
            let subject = [Subject::Weights, Subject::Activations, Subject::Both]
                .into_iter()
                .find(|subject| subject.name() == key.what)?;
            if key.data != *data || key.settings != settings(plan, subject) {
                return None;
            }
            let mut widths: Vec<NumberFormat> = Vec::new();
            for cell in &stored.cells {
                if !widths.contains(&cell.width) {
                    widths.push(cell.width);
                }
            }
            widths.sort_by_key(|width| std::cmp::Reverse(width.bits()));
            let request = SensitivityRequest {
                protocol,
                subject,
                widths,
            };
            let known = self.known(key, &request, layers);
            (known.samples > 0).then_some(known)
        })
    }
}
