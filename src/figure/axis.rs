//! Axes: what stands along them, and where their marks are.

use std::sync::Arc;

/// An axis, or what the cells of a map hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The quantity, for example `SQNR`.
    pub label: String,
    /// Its unit, for example `dB`; empty for a number, an index or a name.
    pub unit: String,
    /// Names of the whole numbers from 0 upwards, if the axis has places with names.
    pub names: Arc<[String]>,
    /// How values are spread along the axis.
    pub scale: Scale,
    /// The part that is shown; all where it is `None`.
    pub range: Option<[f64; 2]>,
    /// Values that are shown in any case where there is no range.
    pub includes: Vec<f64>,
}

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By `log10(1 + value)`, for counts, which may be 0.
    LogCount,
}

impl Scale {
    /// Where a value is along the axis.
    pub fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::LogCount => (1.0 + value.max(0.0)).log10(),
        }
    }

    /// The value at a place.
    pub fn value(self, place: f64) -> f64 {
        match self {
            Self::Linear => place,
            Self::LogCount => 10f64.powf(place) - 1.0,
        }
    }
}

impl Axis {
    /// An axis with a quantity and a unit; the unit may be empty.
    pub fn new(label: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            unit: unit.into(),
            names: Arc::default(),
            scale: Scale::Linear,
            range: None,
            includes: Vec::new(),
        }
    }

    /// The same axis that shows these values in any case.
    pub fn including(mut self, values: impl IntoIterator<Item = f64>) -> Self {
        self.includes.extend(values);
        self
    }

    /// The same axis with names at the whole numbers from 0 upwards.
    pub fn with_names(mut self, names: Arc<[String]>) -> Self {
        self.names = names;
        self
    }

    /// Quantity and unit: `SQNR in dB`.
    pub fn text(&self) -> String {
        if self.unit.is_empty() {
            self.label.clone()
        } else {
            format!("{} in {}", self.label, self.unit)
        }
    }

    /// Name of the place nearest to a value, if it has one.
    pub fn name(&self, value: f64) -> Option<&str> {
        let place = value.round();
        (place >= 0.0)
            .then(|| self.names.get(place as usize))
            .flatten()
            .map(String::as_str)
    }

    /// Marks between two places, as places and texts; about `lines` of them.
    pub fn marks(&self, [low, high]: [f64; 2], lines: f64) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => linear_marks([low, high], lines),
            Scale::LogCount => log_marks([low, high]),
        }
    }
}

fn linear_marks([low, high]: [f64; 2], lines: f64) -> Vec<(f64, String)> {
    let Some(step) = round_step(high - low, lines) else {
        return Vec::new();
    };
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last)
        .map(|multiple| {
            let value = multiple as f64 * step;
            (value, mark_text(value, step))
        })
        .collect()
}

/// 0 and the powers of ten, or some of them where there are many.
fn log_marks([low, high]: [f64; 2]) -> Vec<(f64, String)> {
    let decades = (high.clamp(0.0, 18.0).floor() as i32) + 1;
    let stride = (decades / 6 + 1) as usize;
    let powers = (0..decades)
        .step_by(stride)
        .map(|power| (Scale::LogCount.place(10f64.powi(power)), 10f64.powi(power)));
    std::iter::once((0.0, 0.0))
        .chain(powers)
        .filter(|(place, _)| (low..=high).contains(place))
        .map(|(place, value)| (place, mark_text(value, 1.0)))
        .collect()
}

/// A number beside a mark, with the digits that tell it from marks a step away; large ones in short.
pub fn mark_text(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let magnitude = value.abs();
    let text = if magnitude >= 1e15 || (magnitude > 0.0 && magnitude < 1e-9) {
        format!("{value:e}")
    } else if let Some((unit, letter)) = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(unit, _)| magnitude >= *unit && decimals == 0)
    {
        let short = format!("{:.3}", value / unit);
        format!(
            "{} {letter}",
            short.trim_end_matches('0').trim_end_matches('.')
        )
    } else {
        format!("{value:.decimals$}")
    };
    text.replace('-', "−")
}

/// A round step (1, 2 or 5 times a power of ten) that divides a span into about `lines` parts; `None`
/// for a span of nothing.
pub fn round_step(span: f64, lines: f64) -> Option<f64> {
    let rough = span / lines;
    if !rough.is_finite() || rough <= 0.0 {
        return None;
    }
    let power = 10f64.powf(rough.log10().floor());
    let factor = match rough / power {
        // Never more than seven lines: closer ones lose their numbers in a low plot.
        share if share < 1.42 => 1.0,
        share if share < 2.84 => 2.0,
        share if share < 7.1 => 5.0,
        _ => 10.0,
    };
    Some(factor * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (span, expected) in [
            (10.0, 2.0),
            (100.0, 20.0),
            (7.0, 1.0),
            (0.3, 0.05),
            (49.0, 10.0),
            (15.6, 5.0),
        ] {
            let step = round_step(span, 5.0).unwrap();
            assert!((step - expected).abs() < 1e-9 * expected, "{span}: {step}");
        }
        for span in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(round_step(span, 5.0), None);
        }
    }

    #[track_caller]
    fn check(axis: &Axis, range: [f64; 2], expected: &[&str]) {
        let texts: Vec<String> = axis
            .marks(range, 5.0)
            .into_iter()
            .map(|mark| mark.1)
            .collect();
        assert_eq!(texts, expected, "{range:?}");
    }

    #[test]
    fn marks_are_written_in_short() {
        let linear = Axis::new("x", "");
        check(
            &linear,
            [-0.2, 0.21],
            &["−0.2", "−0.1", "0.0", "0.1", "0.2"],
        );
        check(
            &linear,
            [0.0, 6100.0],
            &["0", "1 k", "2 k", "3 k", "4 k", "5 k", "6 k"],
        );
        check(&linear, [3.0, 3.0], &[]);
        check(&linear, [f64::NAN, 3.0], &[]);
        let counts = Axis {
            scale: Scale::LogCount,
            ..linear
        };
        check(&counts, [0.0, 3.2], &["0", "1", "10", "100", "1 k"]);
    }

    #[test]
    fn counts_are_spread_by_their_logarithm() {
        for count in [0.0, 1.0, 9.0, 1e6] {
            let there = Scale::LogCount.place(count);
            assert!((Scale::LogCount.value(there) - count).abs() <= 1e-9 * count);
        }
    }
}
