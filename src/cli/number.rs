//! Numbers as JSON and as text.

use serde::{Serialize, Serializer};

/// A level in decibels: a number, `"inf"` where there is no error, `null` where it is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decibel(pub(super) Option<f64>);

impl Serialize for Decibel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(level) if level == f64::INFINITY => serializer.serialize_str("inf"),
            Some(level) if level == f64::NEG_INFINITY => serializer.serialize_str("-inf"),
            Some(level) if level.is_finite() => serializer.serialize_f64(level),
            _ => serializer.serialize_none(),
        }
    }
}

impl std::fmt::Display for Decibel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(level) if level == f64::INFINITY => f.pad("inf"),
            Some(level) => f.pad(&format!("{level:.2}")),
            None => f.pad("-"),
        }
    }
}

/// A share as a percentage with two decimals.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0))
}

/// A count with a unit prefix, for example `40.8 M`.
pub(super) fn count(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1e9 => (v / 1e9, " G"),
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " k"),
        v => return format!("{v}"),
    };
    format!("{scaled:.2}{unit}")
}

/// Bytes with a binary unit.
pub(super) fn bytes(value: u64) -> String {
    match value {
        v if v >= 1 << 20 => format!("{:.2} MiB", v as f64 / f64::from(1 << 20)),
        v if v >= 1 << 10 => format!("{:.1} KiB", v as f64 / 1024.0),
        v => format!("{v} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_numbers_inf_or_null() {
        for (level, json) in [
            (Some(36.5), "36.5"),
            (Some(f64::INFINITY), "\"inf\""),
            (Some(f64::NAN), "null"),
            (None, "null"),
        ] {
            assert_eq!(serde_json::to_string(&Decibel(level)).unwrap(), json);
        }
    }
}
