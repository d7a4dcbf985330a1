//! Samples with what two networks predict for them, and which of them a filter shows.

use std::collections::BTreeMap;

use crate::engine::{Predictions, SamplePrediction};
use crate::plan::Fingerprint;
use crate::session::Session;

/// Margin below which a prediction counts as uncertain.
const UNCERTAIN: f32 = 0.2;

/// Whose predictions are set side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pair {
    /// Float, and the current plan.
    #[default]
    FloatAndPlan,
    /// Two evaluated plans, A and B.
    Plans(Fingerprint, Fingerprint),
}

impl Pair {
    /// The two predictions of the session; `None` if the first of them is not known.
    pub(super) fn predictions<'a>(
        &self,
        session: &'a Session,
    ) -> Option<(&'a Predictions, Option<&'a Predictions>)> {
        match self {
            Self::FloatAndPlan => {
                let (float, _) = session.float()?;
                let plan = session
                    .result()
                    .map(|result| &result.evaluation.predictions);
                Some((&float.predictions, plan))
            }
            Self::Plans(a, b) => {
                let a = &session.record(a)?.predictions;
                Some((a, session.record(b).map(|record| &record.predictions)))
            }
        }
    }

    /// One letter for each of the two.
    pub(super) fn letters(&self) -> [&'static str; 2] {
        match self {
            Self::FloatAndPlan => ["F", "P"],
            Self::Plans(..) => ["A", "B"],
        }
    }

    /// One word for each of the two.
    pub(super) fn words(&self) -> [&'static str; 2] {
        match self {
            Self::FloatAndPlan => ["float", "plan"],
            Self::Plans(..) => ["A", "B"],
        }
    }
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SampleRow {
    pub(super) first: SamplePrediction,
    /// `None` until the second network has seen the sample.
    pub(super) second: Option<SamplePrediction>,
}

/// What became of a sample from the first network to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    RightToWrong,
    WrongToRight,
    StillWrong,
    StillRight,
    /// Without a label: another class.
    Changed,
    /// Without a label: the same class.
    Same,
}

impl SampleRow {
    pub(super) fn sample(&self) -> usize {
        self.first.sample as usize
    }

    /// `None` while the second prediction is missing, or if there are no classes.
    pub(super) fn change(&self) -> Option<Change> {
        let second = self.second?;
        let (a, b) = (self.first.best()?.class, second.best()?.class);
        Some(match (self.first.is_right(), second.is_right()) {
            (Some(true), Some(false)) => Change::RightToWrong,
            (Some(false), Some(true)) => Change::WrongToRight,
            (Some(false), Some(false)) => Change::StillWrong,
            (Some(true), Some(true)) => Change::StillRight,
            _ if a == b => Change::Same,
            _ => Change::Changed,
        })
    }

    fn has_changed(&self) -> bool {
        let class = |prediction: &SamplePrediction| prediction.best().map(|best| best.class);
        self.second
            .is_some_and(|second| class(&second) != class(&self.first))
    }

    /// Margin between the second network's best two.
    fn margin(&self) -> Option<f32> {
        self.second?.margin()
    }
}

/// Which samples are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Filter {
    /// All of them.
    #[default]
    All,
    /// Right in the first, wrong in the second.
    RightToWrong,
    /// Wrong in the first, right in the second.
    WrongToRight,
    /// Wrong in both.
    StillWrong,
    /// Another class in the second than in the first.
    Changed,
    /// The second network hesitates between two classes; the closest come first.
    LeastCertain,
}

impl Filter {
    pub(super) const ALL: [Self; 6] = [
        Self::All,
        Self::RightToWrong,
        Self::WrongToRight,
        Self::StillWrong,
        Self::Changed,
        Self::LeastCertain,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::RightToWrong => "Right to wrong",
            Self::WrongToRight => "Wrong to right",
            Self::StillWrong => "Still wrong",
            Self::Changed => "Changed",
            Self::LeastCertain => "Least certain",
        }
    }

    pub(super) fn needs_labels(self) -> bool {
        matches!(
            self,
            Self::RightToWrong | Self::WrongToRight | Self::StillWrong
        )
    }

    pub(super) fn matches(self, row: &SampleRow) -> bool {
        match self {
            Self::All => true,
            Self::RightToWrong => row.change() == Some(Change::RightToWrong),
            Self::WrongToRight => row.change() == Some(Change::WrongToRight),
            Self::StillWrong => row.change() == Some(Change::StillWrong),
            Self::Changed => row.has_changed(),
            Self::LeastCertain => row.margin().is_some_and(|margin| margin < UNCERTAIN),
        }
    }
}

/// Which of the confusion matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Table {
    First,
    Second,
    #[default]
    Difference,
}

/// A cell of a confusion matrix, as a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) table: Table,
    pub(super) label: u32,
    pub(super) predicted: u32,
}

impl Cell {
    fn matches(&self, row: &SampleRow) -> bool {
        if row.first.label != Some(self.label) {
            return false;
        }
        let is_in = |prediction: Option<SamplePrediction>| {
            prediction
                .and_then(|prediction| prediction.best())
                .is_some_and(|best| best.class == self.predicted)
        };
        match self.table {
            Table::First => is_in(Some(row.first)),
            Table::Second => is_in(row.second),
            Table::Difference => {
                row.second.is_some() && is_in(Some(row.first)) != is_in(row.second)
            }
        }
    }
}

/// What narrows the samples down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) filter: Filter,
    /// Samples of this class: by label, or by the first network's prediction where there are no labels.
    pub(super) class: Option<u32>,
    pub(super) cell: Option<Cell>,
}

impl Choice {
    fn is_in_class(&self, row: &SampleRow) -> bool {
        let class = row
            .first
            .label
            .or_else(|| row.first.best().map(|best| best.class));
        self.class.is_none_or(|wanted| class == Some(wanted))
            && self.cell.is_none_or(|cell| cell.matches(row))
    }
}

/// What the rows were made from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    pair: Pair,
    data: Fingerprint,
    plan: Fingerprint,
    seen: [usize; 2],
}

/// The samples and those that are shown; computed again only when something changed.
#[derive(Debug, Default)]
pub(super) struct SampleRows {
    source: Option<Source>,
    choice: Choice,
    all: Vec<SampleRow>,
    /// Places in `all` of the samples that are shown, in their order.
    shown: Vec<usize>,
    counts: [usize; Filter::ALL.len()],
    /// Counts the times that `all` changed.
    generation: u64,
}

impl SampleRows {
    /// Brings the rows up to date.
    pub(super) fn follow(&mut self, session: &Session, pair: &Pair, choice: Choice) {
        let predictions = pair.predictions(session);
        let source = session
            .data()
            .zip(predictions)
            .map(|(data, (a, b))| Source {
                pair: pair.clone(),
                data: data.fingerprint.clone(),
                plan: session.plan_fingerprint().clone(),
                seen: [a.len(), b.map_or(0, Predictions::len)],
            });
        let is_new = source != self.source;
        if is_new {
            self.all = predictions.map_or_else(Vec::new, |(a, b)| joined(a, b));
            self.source = source;
            self.generation += 1;
        }
        if is_new || choice != self.choice {
            self.choice = choice;
            self.choose();
        }
    }

    fn choose(&mut self) {
        let choice = self.choice;
        self.counts = [0; Filter::ALL.len()];
        self.shown.clear();
        for (place, row) in self.all.iter().enumerate() {
            if !choice.is_in_class(row) {
                continue;
            }
            for (count, filter) in self.counts.iter_mut().zip(Filter::ALL) {
                *count += usize::from(filter.matches(row));
            }
            if choice.filter.matches(row) {
                self.shown.push(place);
            }
        }
        if choice.filter == Filter::LeastCertain {
            let margin = |place: &usize| {
                let row = self.all.get(*place);
                row.and_then(SampleRow::margin).unwrap_or(1.0)
            };
            self.shown.sort_by(|a, b| margin(a).total_cmp(&margin(b)));
        }
    }

    pub(super) fn all(&self) -> &[SampleRow] {
        &self.all
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of samples that are shown.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// A sample by its place among those that are shown.
    pub(super) fn get(&self, place: usize) -> Option<&SampleRow> {
        self.all.get(*self.shown.get(place)?)
    }

    /// The place of a sample among those that are shown.
    pub(super) fn place_of(&self, sample: usize) -> Option<usize> {
        self.shown.iter().position(|place| {
            self.all
                .get(*place)
                .is_some_and(|row| row.sample() == sample)
        })
    }

    /// A sample, shown or not.
    pub(super) fn find(&self, sample: usize) -> Option<&SampleRow> {
        self.all.iter().find(|row| row.sample() == sample)
    }

    /// How many samples a filter would show.
    pub(super) fn count(&self, filter: Filter) -> usize {
        let mut counts = self.counts.iter().zip(Filter::ALL);
        counts
            .find(|(_, other)| *other == filter)
            .map_or(0, |(count, _)| *count)
    }

    pub(super) fn have_labels(&self) -> bool {
        self.all.iter().any(|row| row.first.label.is_some())
    }

    pub(super) fn have_classes(&self) -> bool {
        self.all.iter().any(|row| row.first.best().is_some())
    }
}

/// Both predictions of every sample, in the order of the first.
fn joined(first: &Predictions, second: Option<&Predictions>) -> Vec<SampleRow> {
    let second: BTreeMap<u32, SamplePrediction> = second
        .into_iter()
        .flat_map(Predictions::iter)
        .map(|prediction| (prediction.sample, *prediction))
        .collect();
    first
        .iter()
        .map(|prediction| SampleRow {
            first: *prediction,
            second: second.get(&prediction.sample).copied(),
        })
        .collect()
}

/// How many samples two evaluated plans predict differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlanDifference {
    /// Samples that both plans have seen.
    pub(crate) samples: usize,
    /// Samples with another class.
    pub(crate) changed: usize,
    /// Right in A, wrong in B.
    pub(crate) right_to_wrong: usize,
    /// Wrong in A, right in B.
    pub(crate) wrong_to_right: usize,
}

impl PlanDifference {
    /// Compares the predictions of two plans.
    pub(crate) fn of(a: &Predictions, b: &Predictions) -> Self {
        let rows = joined(a, Some(b));
        let count = |filter: Filter| rows.iter().filter(|row| filter.matches(row)).count();
        Self {
            samples: rows.iter().filter(|row| row.second.is_some()).count(),
            changed: count(Filter::Changed),
            right_to_wrong: count(Filter::RightToWrong),
            wrong_to_right: count(Filter::WrongToRight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: Option<u32>, first: u32, second: Option<u32>) -> SampleRow {
        let of = |class| SamplePrediction::certain(0, label, class);
        SampleRow {
            first: of(first),
            second: second.map(of),
        }
    }

    #[test]
    fn a_sample_is_shown_by_the_filters_that_it_belongs_to() {
        use Filter::{All, Changed, RightToWrong, StillWrong, WrongToRight};
        for (row, expected) in [
            (row(Some(1), 1, Some(2)), vec![All, RightToWrong, Changed]),
            (row(Some(1), 2, Some(1)), vec![All, WrongToRight, Changed]),
            (row(Some(1), 2, Some(2)), vec![All, StillWrong]),
            (row(Some(1), 2, Some(3)), vec![All, StillWrong, Changed]),
            (row(Some(1), 1, Some(1)), vec![All]),
            (row(None, 1, Some(2)), vec![All, Changed]),
            (row(Some(1), 2, None), vec![All]),
        ] {
            let filters = Filter::ALL
                .into_iter()
                .filter(|filter| filter.matches(&row));
            assert_eq!(filters.collect::<Vec<_>>(), expected, "{row:?}");
        }
    }

    #[test]
    fn a_cell_of_the_difference_holds_what_came_or_went() {
        let cell = |table| Cell {
            table,
            label: 1,
            predicted: 2,
        };
        for (row, expected) in [
            (row(Some(1), 2, Some(2)), [true, true, false]),
            (row(Some(1), 2, Some(3)), [true, false, true]),
            (row(Some(1), 1, Some(2)), [false, true, true]),
            (row(Some(0), 2, Some(2)), [false, false, false]),
            (row(Some(1), 2, None), [true, false, false]),
        ] {
            let tables = [Table::First, Table::Second, Table::Difference];
            assert_eq!(tables.map(|table| cell(table).matches(&row)), expected);
        }
    }
}
