//! Which layers the table shows, and in which order.

use std::cmp::Ordering;

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

use super::sparkline::worst_sqnr_db;
use crate::model::{Layer, LayerId};
use crate::plan::layer_cost;
use crate::quant::NumberFormat;
use crate::session::Session;

/// Columns of the layer table, in the order on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum LayerColumn {
    Name,
    WeightBits,
    ActivationBits,
    Sqnr,
    Size,
    Lock,
    Sensitivity,
    Rounding,
    Op,
    Shape,
    Parameters,
    Macs,
    Scheme,
}

impl LayerColumn {
    pub(crate) const ALL: [Self; 13] = [
        Self::Name,
        Self::WeightBits,
        Self::ActivationBits,
        Self::Sqnr,
        Self::Size,
        Self::Lock,
        Self::Sensitivity,
        Self::Rounding,
        Self::Op,
        Self::Shape,
        Self::Parameters,
        Self::Macs,
        Self::Scheme,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Name => "Layer",
            Self::WeightBits => "W",
            Self::ActivationBits => "A",
            Self::Sqnr => "SQNR",
            Self::Size => "Size",
            Self::Lock => "Lock",
            Self::Sensitivity => "Sweep",
            Self::Rounding => "Rounding",
            Self::Op => "Op",
            Self::Shape => "Weight",
            Self::Parameters => "Params",
            Self::Macs => "MACs",
            Self::Scheme => "Scheme",
        }
    }

    pub(crate) fn tooltip(self) -> &'static str {
        match self {
            Self::Name => "Name of the node in the file, in the order of the network",
            Self::WeightBits => "Bits of the weight",
            Self::ActivationBits => "Bits of the layer's input",
            Self::Sqnr => {
                "Local SQNR: the layer's output with only its weight quantized, against float; higher is better"
            }
            Self::Size => "Weight, scales, zero points and bias as the plan stores them",
            Self::Lock => "Presets and searches leave locked layers as they are",
            Self::Sensitivity => {
                "SQNR of the network's output at each width of the last sweep, one bar a width; a short bar is a layer that hurts"
            }
            Self::Rounding => {
                "How the levels of the weight are chosen, and what is corrected on calibration data"
            }
            Self::Op => "Operator",
            Self::Shape => "Shape of the weight",
            Self::Parameters => "Weights and biases",
            Self::Macs => "Multiply-accumulates per sample",
            Self::Scheme => "Scheme and granularity of the weight",
        }
    }
}

/// What decides on rows and order; as long as it stays the same, the rows do.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    model: String,
    plan: crate::plan::Fingerprint,
    filter: String,
    sort: (LayerColumn, bool),
    errors: Option<usize>,
    sweep: Option<usize>,
}

/// The rows of the table, computed again only when something changed.
#[derive(Debug)]
pub(crate) struct LayerOrder {
    /// Sorted by this column, ascending or not.
    pub(crate) sort: (LayerColumn, bool),
    /// Text or regular expression that names must contain.
    pub(crate) filter: String,
    key: Option<Key>,
    rows: Vec<LayerId>,
    filter_is_text: bool,
}

impl Default for LayerOrder {
    fn default() -> Self {
        Self {
            sort: (LayerColumn::Name, true),
            filter: String::new(),
            key: None,
            rows: Vec::new(),
            filter_is_text: false,
        }
    }
}

impl LayerOrder {
    /// The rows for the session as it is.
    pub(crate) fn rows(&mut self, session: &Session) -> &[LayerId] {
        let Some(model) = session.model() else {
            self.rows.clear();
            self.key = None;
            return &self.rows;
        };
        let key = Key {
            model: model.graph().metadata().sha256.clone(),
            plan: session.plan_fingerprint().clone(),
            filter: self.filter.clone(),
            sort: self.sort,
            errors: session.local_errors().map(|errors| errors.samples),
            sweep: session.sensitivity().map(|sweep| sweep.samples),
        };
        if self.key.as_ref() != Some(&key) {
            self.compute(session, model.layers());
            self.key = Some(key);
        }
        &self.rows
    }

    /// Whether the filter is no regular expression and so is searched as it is written.
    pub(crate) fn filter_is_text(&self) -> bool {
        self.filter_is_text
    }

    fn compute(&mut self, session: &Session, layers: &[Layer]) {
        let filter = Filter::new(&self.filter);
        self.filter_is_text = filter.is_text();
        self.rows = (0..)
            .map(LayerId)
            .zip(layers)
            .filter(|(_, layer)| filter.matches(&layer.name) || filter.matches(&layer.op))
            .map(|(id, _)| id)
            .collect();
        let (column, ascending) = self.sort;
        self.rows.sort_by(|a, b| {
            let order = compare(session, layers, column, *a, *b).then(Ordering::Equal);
            if ascending { order } else { order.reverse() }
        });
    }

    /// Sorts by a column; a second click turns the order round.
    pub(crate) fn sort_by(&mut self, column: LayerColumn) {
        self.sort = if self.sort.0 == column {
            (column, !self.sort.1)
        } else {
            (column, true)
        };
    }
}

fn compare(
    session: &Session,
    layers: &[Layer],
    column: LayerColumn,
    a: LayerId,
    b: LayerId,
) -> Ordering {
    let (Some(layer_a), Some(layer_b)) = (layers.get(a.index()), layers.get(b.index())) else {
        return Ordering::Equal;
    };
    let plan = session.plan();
    let choices = || Some((plan.layer(a)?, plan.layer(b)?));
    match column {
        LayerColumn::Name => a.cmp(&b),
        LayerColumn::Op => layer_a.op.cmp(&layer_b.op),
        LayerColumn::Shape | LayerColumn::Parameters => layer_a.parameters.cmp(&layer_b.parameters),
        LayerColumn::Macs => layer_a.macs.cmp(&layer_b.macs),
        LayerColumn::WeightBits => by(choices(), |layer| layer.weight.format.bits()),
        LayerColumn::ActivationBits => by(choices(), |layer| layer.activation.format.bits()),
        LayerColumn::Scheme => by(choices(), |layer| {
            (
                layer.weight.scheme.to_string(),
                layer.weight.granularity.to_string(),
            )
        }),
        LayerColumn::Rounding => by(choices(), |layer| {
            (layer.rounding.name(), layer.corrections.to_string())
        }),
        LayerColumn::Lock => by(choices(), |layer| !layer.locked),
        LayerColumn::Size => choices().map_or(Ordering::Equal, |(choice_a, choice_b)| {
            layer_cost(layer_a, choice_a)
                .size_bytes
                .cmp(&layer_cost(layer_b, choice_b).size_bytes)
        }),
        LayerColumn::Sqnr => {
            // Layers without a value come last.
            let value = |id| local_sqnr_db(session, id).unwrap_or(f64::INFINITY);
            value(a).total_cmp(&value(b))
        }
        LayerColumn::Sensitivity => {
            let value = |id| worst_sqnr_db(session, id).unwrap_or(f64::INFINITY);
            value(a).total_cmp(&value(b))
        }
    }
}

fn by<T, K: Ord>(pair: Option<(&T, &T)>, key: impl Fn(&T) -> K) -> Ordering {
    pair.map_or(Ordering::Equal, |(a, b)| key(a).cmp(&key(b)))
}

/// SQNR in dB that quantizing its weight as planned leaves a layer; `None` while it is not known.
///
/// It is the local error at the planned width where that was measured, else the weight's own.
pub(crate) fn local_sqnr_db(session: &Session, id: LayerId) -> Option<f64> {
    let format = session.plan().layer(id)?.weight.format;
    if format == NumberFormat::F32 {
        return None;
    }
    local_error_db(session, id, format).or_else(|| {
        let layers = &session.result()?.evaluation.layers;
        Some(layers.get(id.index())?.weight?.sqnr_db())
    })
}

/// Local SQNR in dB of a layer at a width, if it was measured.
pub(crate) fn local_error_db(session: &Session, id: LayerId, width: NumberFormat) -> Option<f64> {
    let errors = session.local_errors()?;
    let column = errors.widths.iter().position(|other| *other == width)?;
    let sum = errors.cells.get(id.index())?.get(column)?;
    (sum.count > 0).then(|| sum.sqnr_db())
}

/// A text or regular expression, upper or lower case.
enum Filter {
    All,
    Text(String),
    Pattern(regex::Regex),
}

impl Filter {
    fn new(filter: &str) -> Self {
        let filter = filter.trim();
        if filter.is_empty() {
            return Self::All;
        }
        RegexBuilder::new(filter)
            .case_insensitive(true)
            .size_limit(1 << 20)
            .build()
            .map_or_else(|_| Self::Text(filter.to_lowercase()), Self::Pattern)
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Text(text) => name.to_lowercase().contains(text),
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_text_or_regular_expressions() {
        for (filter, name, expected) in [
            ("", "conv1", true),
            ("CONV", "/layer1/conv1/Conv", true),
            ("layer[12]", "/layer3/conv1", false),
            ("conv1$", "layer1.conv1", true),
            ("layer1.conv", "layer1.conv1", true),
            ("conv(", "conv(1)", true),
            ("conv(", "conv1", false),
        ] {
            assert_eq!(
                Filter::new(filter).matches(name),
                expected,
                "{filter:?} on {name:?}"
            );
        }
    }

    #[test]
    fn a_second_click_turns_the_order_round() {
        let mut order = LayerOrder::default();
        order.sort_by(LayerColumn::Size);
        assert_eq!(order.sort, (LayerColumn::Size, true));
        order.sort_by(LayerColumn::Size);
        assert_eq!(order.sort, (LayerColumn::Size, false));
    }
}
