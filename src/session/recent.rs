//! Models that were opened before, and which of them are still there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::session::Session;
use crate::data::Thumbnail;

/// Entries of the list of recent files.
const RECENT_LENGTH: usize = 10;

/// A model that was open before, with its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// The model, or a project.
    pub model: PathBuf,
    /// The evaluation folder.
    pub data: Option<PathBuf>,
    /// The calibration folder.
    pub calibration: Option<PathBuf>,
    /// The first evaluation sample, where it is a picture.
    #[serde(default, with = "super::recent_picture")]
    pub picture: Option<Thumbnail>,
}

impl Recent {
    /// A model without data.
    pub fn of(model: PathBuf) -> Self {
        Self {
            model,
            data: None,
            calibration: None,
            picture: None,
        }
    }
}

impl Session {
    /// Models that were opened, newest first.
    pub fn recent(&self) -> &[Recent] {
        &self.recent
    }

    /// Sets the list of recent models, as it was stored by the window.
    pub fn set_recent(&mut self, recent: Vec<Recent>) {
        self.recent = recent;
        self.look_for_recent();
    }

    /// Whether a file or folder of the list was not there when it was last looked for.
    pub fn is_missing(&self, path: &Path) -> bool {
        self.missing.contains(path)
    }

    pub(super) fn remember(&mut self, recent: Recent) {
        self.recent.retain(|other| other.model != recent.model);
        self.recent.insert(0, recent);
        self.recent.truncate(RECENT_LENGTH);
        self.look_for_recent();
    }

    /// Gives the model that was opened last its picture.
    pub(super) fn picture_recent(&mut self, picture: Option<Thumbnail>) {
        if let (Some(recent), Some(data)) = (self.recent.first_mut(), &self.data)
            && recent.data.as_ref() == Some(&data.request.data)
        {
            recent.picture = picture;
        }
    }

    /// Puts a project at the top of the list.
    pub(super) fn remember_project(&mut self, path: &Path) {
        self.remember(Recent::of(path.to_owned()));
    }

    pub(super) fn forget_recent(&mut self, model: &Path) {
        self.recent.retain(|recent| recent.model != model);
    }

    /// Looks in the background which files and folders of the list are there; a disk may be slow.
    pub(super) fn look_for_recent(&mut self) {
        let paths: Vec<PathBuf> = self
            .recent
            .iter()
            .flat_map(|recent| [Some(recent.model.clone()), recent.data.clone()])
            .flatten()
            .collect();
        self.jobs.recent.start(&self.wake, move |_| {
            let missing = paths.into_iter().filter(|path| !path.exists());
            Ok(missing.collect::<BTreeSet<PathBuf>>())
        });
    }

    pub(super) fn poll_recent(&mut self) -> bool {
        let Some(outcome) = self.jobs.recent.outcome() else {
            return false;
        };
        self.missing = outcome.unwrap_or_default();
        true
    }
}
