//! What the window remembers from one start to the next: looks, and the list of recent models.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::panel::Panel;
use crate::session::Recent;

/// Key in the storage of the window.
pub(crate) const STORAGE_KEY: &str = "looks";

/// Sizes of text and controls in percent.
const ZOOM_STEPS: [u16; 6] = [100, 110, 125, 150, 175, 200];

/// The theme that was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ThemeChoice {
    /// As the system.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl From<ThemeChoice> for egui::ThemePreference {
    fn from(choice: ThemeChoice) -> Self {
        match choice {
            ThemeChoice::System => Self::System,
            ThemeChoice::Light => Self::Light,
            ThemeChoice::Dark => Self::Dark,
        }
    }
}

/// Size of text and controls, one of a few steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Zoom {
    percent: u16,
}

impl Default for Zoom {
    fn default() -> Self {
        Self { percent: 100 }
    }
}

impl Zoom {
    /// The next larger step; the largest stays.
    pub(crate) fn larger(self) -> Self {
        let step = ZOOM_STEPS.into_iter().find(|step| *step > self.percent);
        Self {
            percent: step.unwrap_or(200),
        }
    }

    /// The next smaller step; the smallest stays.
    pub(crate) fn smaller(self) -> Self {
        let mut steps = ZOOM_STEPS.into_iter().rev();
        let step = steps.find(|step| *step < self.percent);
        Self {
            percent: step.unwrap_or(100),
        }
    }

    /// 1 is the first size; what was stored beyond the range is brought into it.
    pub(crate) fn factor(self) -> f32 {
        f32::from(self.percent.clamp(100, 200)) / 100.0
    }
}

/// Looks, as they are stored (JSON).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Looks {
    pub(crate) theme: ThemeChoice,
    pub(crate) recent: Vec<Recent>,
    pub(crate) zoom: Zoom,
    pub(crate) hints_dismissed: BTreeSet<Panel>,
    /// Fingerprints of data whose preprocessing was found right.
    pub(crate) preprocess_confirmed: Vec<String>,
    /// Read apart, so that a layout of another version loses nothing else.
    pub(crate) layout: Option<serde_json::Value>,
    /// Columns of the layer table, read apart for the same reason.
    pub(crate) layer_columns: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zoom_goes_in_steps_and_stays_in_its_range() {
        let mut zoom = Zoom::default();
        assert_eq!(zoom.smaller(), zoom);
        for expected in [1.1, 1.25, 1.5, 1.75, 2.0, 2.0] {
            zoom = zoom.larger();
            assert_eq!(zoom.factor(), expected);
        }
        assert_eq!(zoom.smaller().factor(), 1.75);
    }

    #[test]
    fn looks_of_an_earlier_version_are_read() {
        let looks: Looks = serde_json::from_str(r#"{"theme":"Dark","recent":[]}"#).unwrap();
        assert_eq!(looks.theme, ThemeChoice::Dark);
        assert_eq!(looks.zoom, Zoom::default());
    }
}
