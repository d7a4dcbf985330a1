//! What was measured of each single sample and layer under evaluated plans.

use super::session::Session;
use crate::engine::{LayerErrors, Predictions};
use crate::plan::Fingerprint;

/// Records are kept up to this many bytes.
const BUDGET_BYTES: usize = 64 << 20;

/// Details of one evaluated plan on the open data.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanRecord {
    /// The plan.
    pub plan: Fingerprint,
    /// What it predicts for each sample.
    pub predictions: Predictions,
    /// Errors in layer order.
    pub layers: Vec<LayerErrors>,
}

impl PlanRecord {
    fn bytes(&self) -> usize {
        self.predictions.bytes() + self.layers.len() * size_of::<LayerErrors>()
    }
}

/// Records, oldest first.
#[derive(Debug, Default)]
pub(super) struct PlanRecords(Vec<PlanRecord>);

impl PlanRecords {
    fn of(&self, plan: &Fingerprint) -> Option<&PlanRecord> {
        self.0.iter().find(|record| record.plan == *plan)
    }

    /// Keeps a record in place of an older one of its plan; beyond the budget the oldest go, pinned ones last.
    pub(super) fn keep(
        &mut self,
        record: PlanRecord,
        budget_bytes: usize,
        is_pinned: impl Fn(&Fingerprint) -> bool,
    ) {
        self.0.retain(|other| other.plan != record.plan);
        self.0.push(record);
        let mut used: usize = self.0.iter().map(PlanRecord::bytes).sum();
        while used > budget_bytes && self.0.len() > 1 {
            let older = self.0.len() - 1;
            let oldest = self.0.iter().take(older);
            let place = oldest
                .into_iter()
                .position(|record| !is_pinned(&record.plan))
                .unwrap_or(0);
            used -= self.0.remove(place).bytes();
        }
    }
}

impl Session {
    /// What was measured of the samples and layers of an evaluated plan.
    ///
    /// `None` if the plan was not measured since the data was opened, or so long ago that its record made room.
    pub fn record(&self, plan: &Fingerprint) -> Option<&PlanRecord> {
        self.records.of(plan)
    }

    pub(super) fn keep_record(&mut self, record: PlanRecord) {
        let history = &self.history;
        self.records.keep(record, BUDGET_BYTES, |plan| {
            let mut entries = history.iter();
            entries.any(|entry| entry.pinned && entry.fingerprint == *plan)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> PlanRecord {
        PlanRecord {
            plan: Fingerprint(name.to_owned()),
            predictions: Predictions::default(),
            layers: vec![LayerErrors::default(); 10],
        }
    }

    #[test]
    fn the_oldest_records_make_room_and_pinned_ones_last() {
        let budget = 2 * record("").bytes();
        for (pinned, expected) in [("", ["c", "d"]), ("a", ["a", "d"])] {
            let mut records = PlanRecords::default();
            for name in ["a", "b", "c", "d"] {
                records.keep(record(name), budget, |plan| plan.0 == pinned);
            }
            let kept: Vec<&str> = records.0.iter().map(|r| r.plan.0.as_str()).collect();
            assert_eq!(kept, expected);
        }
    }
}
