//! What the colour of a box says: the value of its layers, its colour, and its text.

use egui::Color32;

use crate::engine::{Sensitivity, Subject};
use crate::model::{Layer, LayerId};
use crate::plan::layer_cost;
use crate::quant::NumberFormat;
use crate::session::Session;
use crate::ui::panels::local_sqnr_db;
use crate::ui::{format, theme};

/// The quantity that boxes are coloured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tint {
    /// Bits of the weight.
    #[default]
    WeightBits,
    /// Bits of the input.
    ActivationBits,
    /// Local SQNR at the planned width.
    LocalSqnr,
    /// What the sweep measured at the planned width.
    Sensitivity,
    /// Bytes of the layer under the plan.
    Size,
}

impl Tint {
    pub(super) const ALL: [Self; 5] = [
        Self::WeightBits,
        Self::ActivationBits,
        Self::LocalSqnr,
        Self::Sensitivity,
        Self::Size,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::WeightBits => "Weight bits",
            Self::ActivationBits => "Activation bits",
            Self::LocalSqnr => "Local SQNR",
            Self::Sensitivity => "Sensitivity",
            Self::Size => "Size",
        }
    }

    pub(super) fn tooltip(self) -> &'static str {
        match self {
            Self::WeightBits => "Bits of each layer's weight in the plan",
            Self::ActivationBits => "Bits of each layer's input in the plan",
            Self::LocalSqnr => {
                "Output of each layer alone with its weight quantized as planned, against float; a block shows its worst layer"
            }
            Self::Sensitivity => {
                "What the network loses by each layer at its planned width, from the last sweep; a block shows its worst layer"
            }
            Self::Size => "Bytes of each layer as the plan stores it; a block shows the sum",
        }
    }
}

/// A value of one layer or of all layers of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading {
    /// Smallest and largest width.
    Widths(NumberFormat, NumberFormat),
    /// SQNR in dB.
    Sqnr(f64),
    /// Loss of accuracy, a share of one.
    Drop(f64),
    /// Bytes.
    Size(u64),
}

/// Reads the values of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    session: &'a Session,
    layers: &'a [Layer],
    tint: Tint,
}

impl<'a> Reader<'a> {
    pub(super) fn new(session: &'a Session, layers: &'a [Layer], tint: Tint) -> Self {
        Self {
            session,
            layers,
            tint,
        }
    }

    /// The value of some layers; `None` where nothing is known, or there is no layer.
    pub(super) fn read(&self, layers: &[LayerId]) -> Option<Reading> {
        layers
            .iter()
            .filter_map(|layer| self.read_one(*layer))
            .reduce(both)
    }

    fn read_one(&self, id: LayerId) -> Option<Reading> {
        let choice = self.session.plan().layer(id)?;
        match self.tint {
            Tint::WeightBits => Some(Reading::Widths(choice.weight.format, choice.weight.format)),
            Tint::ActivationBits => Some(Reading::Widths(
                choice.activation.format,
                choice.activation.format,
            )),
            Tint::LocalSqnr => local_sqnr_db(self.session, id).map(Reading::Sqnr),
            Tint::Sensitivity => self.sensitivity(id),
            Tint::Size => {
                let cost = layer_cost(self.layers.get(id.index())?, choice);
                Some(Reading::Size(cost.size_bytes))
            }
        }
    }

    fn sensitivity(&self, id: LayerId) -> Option<Reading> {
        let sweep = measured(self.session)?;
        let choice = self.session.plan().layer(id)?;
        let planned = match sweep.request.subject {
            Subject::Activations => choice.activation.format,
            _ => choice.weight.format,
        };
        let column = sweep
            .request
            .widths
            .iter()
            .position(|width| *width == planned)?;
        let cell = sweep.cells.get(id.index())?.get(column)?;
        match cell.spread.accuracy_drop() {
            Some(drop) => Some(Reading::Drop(drop.value)),
            None => cell.comparison.sqnr_db().map(Reading::Sqnr),
        }
    }

    /// Why nothing is coloured, if so.
    pub(super) fn nothing_known(&self) -> Option<&'static str> {
        match self.tint {
            Tint::LocalSqnr if self.session.data().is_none() => {
                Some("SQNR is measured on data: open a data folder (File, Open data folder)")
            }
            Tint::Sensitivity if measured(self.session).is_none() => {
                Some("No sweep yet: run one on the Sensitivity tab")
            }
            _ => None,
        }
    }
}

fn measured(session: &Session) -> Option<&Sensitivity> {
    session.sensitivity().filter(|sweep| sweep.samples > 0)
}

/// The worse of two values, the range of two widths, the sum of two sizes.
fn both(a: Reading, b: Reading) -> Reading {
    match (a, b) {
        (Reading::Widths(a_low, a_high), Reading::Widths(b_low, b_high)) => Reading::Widths(
            if b_low.bits() < a_low.bits() {
                b_low
            } else {
                a_low
            },
            if b_high.bits() > a_high.bits() {
                b_high
            } else {
                a_high
            },
        ),
        (Reading::Sqnr(a), Reading::Sqnr(b)) => Reading::Sqnr(a.min(b)),
        (Reading::Drop(a), Reading::Drop(b)) => Reading::Drop(a.max(b)),
        (Reading::Size(a), Reading::Size(b)) => Reading::Size(a + b),
        _ => a,
    }
}

/// Turns values into colours: dark hurts, or costs, more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scale {
    largest_size: u64,
    worst_drop: f64,
}

impl Scale {
    /// A scale that reaches to the largest of these values.
    pub(super) fn over(readings: impl Iterator<Item = Reading>) -> Self {
        // A scale that is not stretched over noise.
        let smallest = Self {
            largest_size: 1,
            worst_drop: 0.02,
        };
        readings.fold(smallest, |scale, reading| match reading {
            Reading::Size(bytes) => Self {
                largest_size: scale.largest_size.max(bytes),
                ..scale
            },
            Reading::Drop(drop) => Self {
                worst_drop: scale.worst_drop.max(drop),
                ..scale
            },
            _ => scale,
        })
    }

    /// The colour of a value; `None` for float widths, which have no place on the scale.
    pub(super) fn color(self, reading: Reading) -> Option<Color32> {
        match reading {
            Reading::Widths(low, _) => theme::width_color(low),
            Reading::Sqnr(db) => Some(theme::scale_color(db / theme::SQNR_FULL_DB)),
            Reading::Drop(drop) => Some(theme::scale_color(1.0 - drop / self.worst_drop)),
            // Sizes differ by powers, so their root is more even.
            Reading::Size(bytes) => {
                let share = bytes as f64 / self.largest_size as f64;
                Some(theme::scale_color(1.0 - share.sqrt()))
            }
        }
    }

    /// Texts at the dark end, in the middle and at the light end; `None` for widths, which are single colours.
    pub(super) fn ticks(self, tint: Tint, reading: Option<Reading>) -> Option<[String; 3]> {
        let decibels = || {
            let middle = theme::SQNR_FULL_DB / 2.0;
            [
                "0 dB".to_owned(),
                format!("{middle:.0} dB"),
                format!("{:.0} dB and more", theme::SQNR_FULL_DB),
            ]
        };
        match (tint, reading) {
            (Tint::WeightBits | Tint::ActivationBits, _) => None,
            (Tint::Sensitivity, Some(Reading::Drop(_)) | None) => Some([
                format::points(-self.worst_drop),
                format::points(-self.worst_drop / 2.0),
                "no loss".to_owned(),
            ]),
            (Tint::Size, _) => Some([
                format::bytes(self.largest_size),
                format::bytes(self.largest_size / 4),
                "0 B".to_owned(),
            ]),
            _ => Some(decibels()),
        }
    }
}

/// A value in words, short enough for a box.
pub(super) fn text(reading: Reading) -> String {
    match reading {
        Reading::Widths(low, high) if low == high => format::width(low),
        Reading::Widths(low, high) => format!("{low}–{high} bits"),
        Reading::Sqnr(db) => format::db(db),
        Reading::Drop(drop) => format::points(-drop),
        Reading::Size(bytes) => format::bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(text: &str) -> NumberFormat {
        text.parse().unwrap()
    }

    #[test]
    fn a_block_shows_its_worst_layer_or_its_sum() {
        let widths = |low: &str, high: &str| Reading::Widths(width(low), width(high));
        for (a, b, expected) in [
            (widths("8", "8"), widths("4", "4"), "4–8 bits"),
            (widths("8", "8"), widths("8", "8"), "8 bits"),
            (Reading::Sqnr(31.25), Reading::Sqnr(12.0), "12.0 dB"),
            (Reading::Drop(0.01), Reading::Drop(0.05), "−5.00 pt"),
            (Reading::Size(1024), Reading::Size(2048), "3.00 KiB"),
        ] {
            assert_eq!(text(both(a, b)), expected);
        }
    }

    #[test]
    fn what_hurts_or_costs_more_is_darker() {
        let scale = Scale::over([Reading::Size(4096), Reading::Drop(0.3)].into_iter());
        let brightness = |reading| {
            let color = scale.color(reading).unwrap();
            u32::from(color.r()) + u32::from(color.g()) + u32::from(color.b())
        };
        for (worse, better) in [
            (Reading::Size(4000), Reading::Size(100)),
            (Reading::Drop(0.3), Reading::Drop(0.0)),
            (Reading::Sqnr(3.0), Reading::Sqnr(45.0)),
            (
                Reading::Widths(width("2"), width("8")),
                Reading::Widths(width("8"), width("8")),
            ),
        ] {
            assert!(brightness(worse) < brightness(better), "{worse:?}");
        }
        assert_eq!(
            scale.color(Reading::Widths(width("f32"), width("f32"))),
            None
        );
    }

    #[test]
    fn the_legend_names_the_ends_with_units() {
        let scale = Scale::over([Reading::Size(40_960)].into_iter());
        assert_eq!(
            scale.ticks(Tint::Size, None).unwrap(),
            ["40.0 KiB", "10.0 KiB", "0 B"]
        );
        assert_eq!(
            scale.ticks(Tint::LocalSqnr, None).unwrap()[2],
            "50 dB and more"
        );
        assert_eq!(scale.ticks(Tint::WeightBits, None), None);
    }
}
