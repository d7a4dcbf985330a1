//! What can be shown of every layer at every width: measured harm and cheap scores.

use crate::engine::{Estimate, SecondOrder, SensitivityCell, Subject};
use crate::model::LayerId;
use crate::quant::NumberFormat;
use crate::session::{Scored, Session};
use crate::ui::{format, theme};

/// A number of every layer and width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Quantity {
    /// SQNR of the layer alone, from the background job.
    #[default]
    LocalSqnr,
    /// SQNR of the weight, before any data is run.
    WeightSqnr,
    /// Second-order score, from gradients over the calibration data.
    SecondOrder,
    /// Loss of accuracy of the network, from a sweep.
    AccuracyDrop,
    /// Increase of the cross-entropy, from a sweep.
    Loss,
    /// KL divergence of the network's outputs, from a sweep.
    Kl,
    /// SQNR of the network's outputs, from a sweep.
    OutputSqnr,
}

/// Where a quantity comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Local,
    Weights,
    Gradients,
    Sweep,
}

impl Quantity {
    pub(super) const ALL: [Self; 7] = [
        Self::LocalSqnr,
        Self::WeightSqnr,
        Self::SecondOrder,
        Self::AccuracyDrop,
        Self::Loss,
        Self::Kl,
        Self::OutputSqnr,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::LocalSqnr => "Local SQNR",
            Self::WeightSqnr => "Weight SQNR",
            Self::SecondOrder => "Second order",
            Self::AccuracyDrop => "Accuracy drop",
            Self::Loss => "Loss",
            Self::Kl => "KL",
            Self::OutputSqnr => "Output SQNR",
        }
    }

    pub(super) fn tooltip(self) -> &'static str {
        match self {
            Self::LocalSqnr => {
                "Output of each layer alone with its weight quantized, against float; measured by itself in the background"
            }
            Self::WeightSqnr => "Each weight quantized, against float; needs no data",
            Self::SecondOrder => {
                "Half the mean squared product of the loss gradient and the error at the layer's output; from one pass forth and back over the calibration samples"
            }
            Self::AccuracyDrop => "Accuracy that the network loses; from a sweep",
            Self::Loss => "Increase of the cross-entropy; from a sweep",
            Self::Kl => "KL(float ‖ quantized) of the network's outputs; from a sweep",
            Self::OutputSqnr => "SQNR of the network's raw outputs; from a sweep",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::LocalSqnr => "Local SQNR of each layer",
            Self::WeightSqnr => "Weight SQNR of each layer",
            Self::SecondOrder => "Second-order score by layer and width",
            Self::AccuracyDrop => "Accuracy drop by layer and width",
            Self::Loss => "Loss increase by layer and width",
            Self::Kl => "KL divergence by layer and width",
            Self::OutputSqnr => "Output SQNR by layer and width",
        }
    }

    /// The quantity and its unit along an axis; see [`Quantity::in_units`].
    pub(super) fn axis(self) -> (&'static str, &'static str) {
        match self {
            Self::LocalSqnr => ("local SQNR", "dB"),
            Self::WeightSqnr => ("weight SQNR", "dB"),
            Self::SecondOrder => ("second-order score", ""),
            Self::AccuracyDrop => ("accuracy drop", "percentage points"),
            Self::Loss => ("loss increase", "nat"),
            Self::Kl => ("KL divergence", "nat"),
            Self::OutputSqnr => ("output SQNR", "dB"),
        }
    }

    /// The quantity and its unit as it is measured.
    pub(super) fn measured_axis(self) -> (&'static str, &'static str) {
        match self {
            Self::AccuracyDrop => ("accuracy drop", "share of one"),
            other => other.axis(),
        }
    }

    pub(super) fn source(self) -> Source {
        match self {
            Self::LocalSqnr => Source::Local,
            Self::WeightSqnr => Source::Weights,
            Self::SecondOrder => Source::Gradients,
            Self::AccuracyDrop | Self::Loss | Self::Kl | Self::OutputSqnr => Source::Sweep,
        }
    }

    /// Whether it is a level in dB, where more is better.
    pub(super) fn is_level(self) -> bool {
        matches!(self, Self::LocalSqnr | Self::WeightSqnr | Self::OutputSqnr)
    }

    /// What a value does to the network: more is worse.
    pub(super) fn harm(self, value: f64) -> f64 {
        if self.is_level() { -value } else { value }
    }

    /// A value in the unit of [`Quantity::axis`].
    pub(super) fn in_units(self, value: f64) -> f64 {
        match self {
            Self::AccuracyDrop => 100.0 * value,
            _ => value,
        }
    }

    /// The widths that it is known at.
    pub(super) fn widths(self, session: &Session) -> Option<&[NumberFormat]> {
        Some(match self.source() {
            Source::Local => &session.local_errors()?.widths,
            Source::Weights => &session.screens()?.widths,
            Source::Gradients => &scores(session)?.widths,
            Source::Sweep => &session.sensitivity()?.request.widths,
        })
    }

    /// What is quantized.
    pub(super) fn subject(self, session: &Session) -> Subject {
        match self.source() {
            Source::Local => session.local_errors().map(|errors| errors.subject),
            Source::Weights => None,
            Source::Gradients => scores(session).map(|scores| scores.subject),
            Source::Sweep => session.sensitivity().map(|sweep| sweep.request.subject),
        }
        .unwrap_or(Subject::Weights)
    }

    /// Samples done and to do.
    pub(super) fn progress(self, session: &Session) -> Option<(usize, usize)> {
        match self.source() {
            Source::Local => session
                .local_errors()
                .map(|found| (found.samples, found.total)),
            Source::Weights => None,
            Source::Gradients => scores(session).map(|found| (found.samples, found.total)),
            Source::Sweep => session
                .sensitivity()
                .map(|found| (found.samples, found.total)),
        }
    }

    /// The value of a layer at a width.
    pub(super) fn value(self, session: &Session, id: LayerId, column: usize) -> Option<f64> {
        match self {
            Self::LocalSqnr => {
                let sum = session.local_errors()?.cells.get(id.index())?.get(column)?;
                (sum.count > 0).then(|| sum.sqnr_db())
            }
            Self::WeightSqnr => {
                let layer = session.screens()?.layers.get(id.index())?;
                Some(layer.errors.get(column)?.sqnr_db())
            }
            Self::SecondOrder => scores(session)?.cells.get(id.index())?.get(column)?.score(),
            _ => Some(self.estimate(session, id, column)?.value),
        }
    }

    /// The value at a width by its format.
    pub(super) fn value_at(
        self,
        session: &Session,
        id: LayerId,
        width: NumberFormat,
    ) -> Option<f64> {
        let widths = self.widths(session)?;
        let column = widths.iter().position(|other| *other == width)?;
        self.value(session, id, column)
    }

    /// The value with its uncertainty; `None` where it has none.
    pub(super) fn estimate(
        self,
        session: &Session,
        id: LayerId,
        column: usize,
    ) -> Option<Estimate> {
        let cell: &SensitivityCell = session.sensitivity()?.cells.get(id.index())?.get(column)?;
        match self {
            Self::AccuracyDrop => cell.spread.accuracy_drop(),
            Self::Loss => cell.spread.loss_increase(),
            Self::Kl => cell.spread.kl(&cell.comparison),
            Self::OutputSqnr => cell.spread.sqnr_db(&cell.comparison),
            Self::LocalSqnr | Self::WeightSqnr | Self::SecondOrder => None,
        }
    }
}

pub(super) fn scores(session: &Session) -> Option<&SecondOrder> {
    match session.second_order()? {
        Scored::Found(found) => Some(found),
        Scored::Unavailable(_) => None,
    }
}

/// Colours and texts of values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    quantity: Quantity,
    /// The largest value; where large is bad, it is the dark end.
    worst: f64,
}

impl Scale {
    pub(super) fn new(quantity: Quantity, worst: f64) -> Self {
        // A scale that is not stretched over noise.
        let least = match quantity {
            Quantity::AccuracyDrop | Quantity::Loss => 0.02,
            Quantity::Kl => 0.01,
            Quantity::SecondOrder => f64::MIN_POSITIVE,
            Quantity::LocalSqnr | Quantity::WeightSqnr | Quantity::OutputSqnr => 0.0,
        };
        Self {
            quantity,
            worst: worst.max(least),
        }
    }

    pub(super) fn goodness(self, value: f64) -> f64 {
        match self.quantity {
            Quantity::LocalSqnr | Quantity::WeightSqnr | Quantity::OutputSqnr => {
                value / theme::SQNR_FULL_DB
            }
            Quantity::AccuracyDrop | Quantity::Loss => 1.0 - value / self.worst,
            // They grow with the square of the error, so their root is even.
            Quantity::Kl | Quantity::SecondOrder => 1.0 - (value.max(0.0) / self.worst).sqrt(),
        }
    }

    pub(super) fn short(self, value: f64) -> String {
        match self.quantity {
            Quantity::LocalSqnr | Quantity::WeightSqnr | Quantity::OutputSqnr => short_db(value),
            Quantity::AccuracyDrop => format!("{:.1}", 100.0 * value).replace('-', "−"),
            Quantity::Loss | Quantity::Kl => format!("{value:.2}").replace('-', "−"),
            Quantity::SecondOrder => format::value(value),
        }
    }

    pub(super) fn long(self, value: f64) -> String {
        match self.quantity {
            Quantity::LocalSqnr => format!("local SQNR {}", format::db(value)),
            Quantity::WeightSqnr => format!("weight SQNR {}", format::db(value)),
            Quantity::OutputSqnr => format!("output SQNR {}", format::db(value)),
            Quantity::AccuracyDrop => format!("accuracy {} against float", format::points(-value)),
            Quantity::Loss => format!("loss {} nat against float", signed(value)),
            Quantity::Kl => format!("KL {} nat", format::value(value)),
            Quantity::SecondOrder => format!("second-order score {}", format::value(value)),
        }
    }

    /// The 95 % interval in words.
    pub(super) fn interval(self, estimate: Estimate) -> Option<String> {
        let (low, high) = estimate.interval();
        if !low.is_finite() || !high.is_finite() {
            return None;
        }
        let text = |value: f64| match self.quantity {
            Quantity::AccuracyDrop => format::points(-value),
            Quantity::Loss => format!("{} nat", signed(value)),
            Quantity::Kl => format!("{} nat", format::value(value)),
            _ => format::db(value),
        };
        // The drop is told as a change of accuracy, whose lower end is the larger drop.
        let (first, last) = if self.quantity == Quantity::AccuracyDrop {
            (high, low)
        } else {
            (low, high)
        };
        Some(format!("95 % interval {} to {}", text(first), text(last)))
    }

    pub(super) fn ends(self) -> (String, String) {
        match self.quantity {
            Quantity::LocalSqnr | Quantity::WeightSqnr | Quantity::OutputSqnr => (
                "0 dB, worse".to_owned(),
                format!("better, {:.0} dB and more", theme::SQNR_FULL_DB),
            ),
            Quantity::AccuracyDrop => (
                format!("loses {:.1} points", 100.0 * self.worst),
                "loses nothing".to_owned(),
            ),
            Quantity::Loss => (
                format!("{:.2} nat more, worse", self.worst),
                "0, same as float".to_owned(),
            ),
            Quantity::Kl => (
                format!("{:.2} nat, worse", self.worst),
                "0, same as float".to_owned(),
            ),
            Quantity::SecondOrder => (
                format!("{}, worse", format::value(self.worst)),
                "0, no effect".to_owned(),
            ),
        }
    }
}

fn signed(value: f64) -> String {
    format!("{value:+.4}").replace('-', "−")
}

fn short_db(db: f64) -> String {
    if db.is_finite() {
        format!("{db:.0}")
    } else {
        "∞".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_values_are_lighter() {
        for (quantity, worse, better) in [
            (Quantity::OutputSqnr, 3.0, 30.0),
            (Quantity::AccuracyDrop, 0.4, 0.01),
            (Quantity::Loss, 0.4, -0.01),
            (Quantity::Kl, 2.0, 0.1),
            (Quantity::SecondOrder, 2.0, 0.1),
        ] {
            let scale = Scale::new(quantity, 2.0);
            assert!(
                scale.goodness(worse) < scale.goodness(better),
                "{quantity:?}"
            );
            assert!(quantity.harm(worse) > quantity.harm(better), "{quantity:?}");
        }
    }

    #[test]
    fn noise_is_not_stretched_over_the_scale() {
        let scale = Scale::new(Quantity::AccuracyDrop, 0.001);
        assert!(scale.goodness(0.001) > 0.9);
    }

    #[test]
    fn intervals_go_from_worse_to_better_accuracy() {
        let estimate = Estimate {
            value: 0.1,
            standard_error: 0.01,
        };
        let scale = Scale::new(Quantity::AccuracyDrop, 1.0);
        let text = scale.interval(estimate).unwrap();
        assert_eq!(text, "95 % interval −11.96 pt to −8.04 pt");
        let unknown = Estimate {
            standard_error: f64::NAN,
            ..estimate
        };
        assert_eq!(scale.interval(unknown), None);
    }
}
