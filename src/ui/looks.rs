//! What the window remembers from one start to the next: looks, and the list of recent models.

use serde::{Deserialize, Serialize};

use crate::session::Recent;

/// Key in the storage of the window.
pub(crate) const STORAGE_KEY: &str = "looks";

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

/// Looks, as they are stored (JSON).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Looks {
    pub(crate) theme: ThemeChoice,
    pub(crate) recent: Vec<Recent>,
}
