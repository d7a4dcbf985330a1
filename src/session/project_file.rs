//! The project file: where everything is, what was chosen, and what was measured.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::SessionError;
use super::files::{read_text, write_atomically};
use super::history::HistoryEntry;
use super::open_data::DataRequest;
use super::search_desk::StoredSearch;
use super::sweep_store::SweepStore;
use crate::data::Preprocess;
use crate::engine::{Classification, Comparison};
use crate::plan::{Fingerprint, PlanFile};
use crate::quant::ErrorSum;

/// Version that this program writes.
pub const PROJECT_VERSION: u32 = 1;

/// A project as it is stored (`.qscope`, JSON).
///
/// Paths inside the project's folder are stored relative to it, so that the folder can move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProjectFile {
    /// Format version.
    pub version: u32,
    /// The model file.
    pub model: PathBuf,
    /// The data, if any was open.
    pub data: Option<StoredData>,
    /// The current plan.
    pub plan: PlanFile,
    /// Plans that were evaluated.
    pub history: Vec<StoredResult>,
    /// Names of the selected layers, the one that is shown first; none in older files.
    #[serde(default)]
    pub selection: Vec<String>,
    /// What sweeps have measured; absent in older files.
    #[serde(default, skip_serializing_if = "SweepStore::is_empty")]
    pub sweeps: SweepStore,
    /// The last search, with every plan that it measured.
    #[serde(default)]
    pub search: Option<StoredSearch>,
}

/// Data settings of a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredData {
    /// Evaluation folder.
    pub data: PathBuf,
    /// Calibration folder, if it is another one.
    pub calibration: Option<PathBuf>,
    /// Preprocessing, as on the command line; `None` if it was guessed.
    pub preprocess: Option<String>,
    /// Number of calibration samples.
    pub calibration_samples: usize,
    /// Number of evaluation samples, if not all.
    pub limit: Option<usize>,
    /// Seed of the choice of samples.
    pub seed: u64,
}

/// An evaluated plan of a project; it holds for one (model, data, preprocessing) only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredResult {
    /// Name that the user sees.
    pub name: String,
    /// Fingerprint of data, split and preprocessing.
    pub data: Fingerprint,
    /// The plan.
    pub plan: PlanFile,
    /// Whether it is kept at the top of the history.
    #[serde(default)]
    pub pinned: bool,
    /// When it was measured, in seconds since 1970; 0 in older files.
    #[serde(default)]
    pub measured_secs: u64,
    /// Samples it was measured on.
    pub samples: usize,
    /// Samples with a label.
    pub labelled: u64,
    /// Samples whose label is the largest output.
    pub top1_hits: u64,
    /// Samples whose label is among the five largest.
    pub top5_hits: u64,
    /// Sum of the cross-entropy in nats.
    pub loss_sum: f64,
    /// Samples of a classifier that were compared with float.
    pub classified: u64,
    /// Samples on which float and plan agree.
    pub agreements: u64,
    /// Sum of `KL(float ‖ plan)` in nats.
    pub kl_sum: f64,
    /// Σ y² of the raw outputs.
    pub signal: f64,
    /// Σ (y − ŷ)² of the raw outputs.
    pub noise: f64,
    /// Number of output elements.
    pub count: u64,
}

impl StoredResult {
    /// What an evaluated plan stores; `None` without samples.
    pub(super) fn new(entry: &HistoryEntry, data: &Fingerprint, plan: PlanFile) -> Option<Self> {
        (entry.samples > 0).then(|| Self {
            name: entry.name.clone(),
            data: data.clone(),
            plan,
            pinned: entry.pinned,
            measured_secs: entry.measured_secs,
            samples: entry.samples,
            labelled: entry.metrics.labelled,
            top1_hits: entry.metrics.top1_hits,
            top5_hits: entry.metrics.top5_hits,
            loss_sum: entry.metrics.loss_sum,
            classified: entry.comparison.classified,
            agreements: entry.comparison.agreements,
            kl_sum: entry.comparison.kl_sum,
            signal: entry.comparison.outputs.signal,
            noise: entry.comparison.outputs.noise,
            count: entry.comparison.outputs.count,
        })
    }

    /// The accuracy counts.
    pub fn metrics(&self) -> Classification {
        Classification {
            labelled: self.labelled,
            top1_hits: self.top1_hits,
            top5_hits: self.top5_hits,
            loss_sum: self.loss_sum,
        }
    }

    /// The comparison with float.
    pub fn comparison(&self) -> Comparison {
        Comparison {
            samples: self.samples as u64,
            classified: self.classified,
            agreements: self.agreements,
            kl_sum: self.kl_sum,
            outputs: ErrorSum {
                signal: self.signal,
                noise: self.noise,
                count: self.count,
            },
        }
    }
}

impl StoredData {
    /// What a data request stores.
    pub fn new(request: &DataRequest) -> Self {
        Self {
            data: request.data.clone(),
            calibration: request.calibration.clone(),
            preprocess: request.preprocess.as_ref().map(ToString::to_string),
            calibration_samples: request.calibration_samples,
            limit: request.limit,
            seed: request.seed,
        }
    }

    /// The data request that was stored.
    ///
    /// # Errors
    /// The preprocessing is not legal.
    pub fn request(&self) -> Result<DataRequest, SessionError> {
        let preprocess = self
            .preprocess
            .as_ref()
            .map(|text| text.parse::<Preprocess>())
            .transpose()?;
        Ok(DataRequest {
            calibration: self.calibration.clone(),
            preprocess,
            calibration_samples: self.calibration_samples,
            limit: self.limit,
            seed: self.seed,
            ..DataRequest::new(self.data.clone())
        })
    }
}

impl ProjectFile {
    /// Writes the project atomically, with paths relative to its folder where they lie inside.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), SessionError> {
        let mut stored = self.clone();
        if let Some(folder) = absolute(path).parent() {
            stored.each_path(|inner| {
                let full = absolute(inner);
                full.strip_prefix(folder).unwrap_or(&full).clone_into(inner);
            });
        }
        let json =
            serde_json::to_string_pretty(&stored).map_err(|error| SessionError::Malformed {
                path: path.to_owned(),
                reason: format!("the project cannot be written as JSON: {error}"),
            })?;
        write_atomically(path, json.as_bytes())
    }

    /// Reads a project and makes its paths absolute.
    ///
    /// # Errors
    /// The file cannot be read, is not a project, or is newer than this program.
    pub fn read(path: &Path) -> Result<Self, SessionError> {
        let malformed = |reason: String| SessionError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let text = read_text(path)?;
        let value: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| malformed(format!("not a project file: {error}")))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version <= u64::from(PROJECT_VERSION) => {}
            Some(version) => {
                return Err(malformed(format!(
                    "project version {version} is newer than {PROJECT_VERSION}; update quantscope"
                )));
            }
            None => {
                return Err(malformed(
                    "not a project file: it has no version".to_owned(),
                ));
            }
        }
        let mut project: Self = serde_json::from_value(value)
            .map_err(|error| malformed(format!("not a project file: {error}")))?;
        if let Some(folder) = absolute(path).parent() {
            project.each_path(|inner| *inner = folder.join(&*inner));
        }
        Ok(project)
    }

    fn each_path(&mut self, mut change: impl FnMut(&mut PathBuf)) {
        change(&mut self.model);
        if let Some(data) = &mut self.data {
            change(&mut data.data);
            if let Some(calibration) = &mut data.calibration {
                change(calibration);
            }
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
