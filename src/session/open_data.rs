//! Evaluation and calibration data for an open model.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::SessionError;
use super::open_model::OpenModel;
use crate::data::{Dataset, Loader, Preprocess, select, split_calibration};
use crate::engine::Batches;
use crate::model;
use crate::plan::Fingerprint;

/// Decoded evaluation samples are kept up to this many bytes.
const CACHE_BYTES: usize = 512 << 20;
/// Samples that a search scores on.
const SEARCH_SAMPLES: usize = 256;
/// With fewer samples than this that do not calibrate, a search scores on those that do.
const FEWEST_SEARCH_SAMPLES: usize = 64;
/// Decoded calibration samples are kept up to this many bytes: few, since they are read once or twice.
const CALIBRATION_CACHE_BYTES: usize = 32 << 20;

/// Which data to open, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct DataRequest {
    /// Evaluation data.
    pub data: PathBuf,
    /// Calibration data; `None` takes a disjoint part of the evaluation data.
    pub calibration: Option<PathBuf>,
    /// How samples become inputs; `None` guesses from the model.
    pub preprocess: Option<Preprocess>,
    /// Number of calibration samples.
    pub calibration_samples: usize,
    /// Number of evaluation samples; `None` takes all.
    pub limit: Option<usize>,
    /// Decides which samples are taken where not all are.
    pub seed: u64,
    /// Samples per batch; `None` chooses by memory.
    pub batch_size: Option<usize>,
}

impl DataRequest {
    /// A folder with default settings.
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            calibration: None,
            preprocess: None,
            calibration_samples: 256,
            limit: None,
            seed: 0,
            batch_size: None,
        }
    }
}

/// Open data: which samples evaluate, which calibrate, and how they become inputs.
#[derive(Clone, Debug)]
pub struct OpenData {
    /// What was asked for.
    pub request: DataRequest,
    /// Samples that report accuracy.
    pub evaluation: Batches,
    /// Samples that tune ranges; disjoint from the evaluation samples.
    pub calibration: Batches,
    /// Samples that a search scores on; disjoint from the evaluation samples.
    pub search: Batches,
    /// Whether the samples of a search are disjoint from those that calibrate, too.
    pub search_is_apart: bool,
    /// How samples become inputs.
    pub preprocess: Preprocess,
    /// Why this preprocessing; `None` if it was chosen by the user.
    pub preprocess_guess: Option<String>,
    /// Identifies data, split and preprocessing.
    pub fingerprint: Fingerprint,
}

impl OpenData {
    /// Opens folders for a model.
    ///
    /// # Errors
    /// [`SessionError`] if a folder is empty, the model's input shape is not known, or samples do not fit it.
    pub fn open(model: &OpenModel, request: DataRequest) -> Result<Self, SessionError> {
        let shape = sample_shape(model)?;
        let (preprocess, preprocess_guess) = if let Some(chosen) = &request.preprocess {
            (*chosen, None)
        } else {
            let (guess, why) = guess(&shape, &model.graph().metadata().name);
            (guess, Some(why))
        };
        let dataset = Arc::new(Dataset::open(&request.data)?);
        let loader = Arc::new(Loader::new(
            Arc::clone(&dataset),
            preprocess,
            &shape,
            CACHE_BYTES,
        )?);
        let (calibration_loader, calibration, evaluation) =
            if let Some(folder) = &request.calibration {
                let other = Arc::new(Dataset::open(folder)?);
                let count = Some(request.calibration_samples);
                let chosen = select(&other, &all(&other), count, request.seed);
                let loader = Loader::new(other, preprocess, &shape, CALIBRATION_CACHE_BYTES)?;
                (Arc::new(loader), chosen, all(&dataset))
            } else {
                let split = split_calibration(&dataset, request.calibration_samples, request.seed);
                (Arc::clone(&loader), split.calibration, split.evaluation)
            };
        let evaluation = select(&dataset, &evaluation, request.limit, request.seed);
        let fingerprint = fingerprint(&request, &preprocess, &loader, &calibration_loader);
        let graph = model.graph();
        let (search, search_is_apart) = search_samples(&request, &calibration_loader, &calibration);
        let search_data = Arc::clone(calibration_loader.dataset());
        let search_loader = Arc::new(Loader::new(search_data, preprocess, &shape, CACHE_BYTES)?);
        Ok(Self {
            evaluation: Batches::new(graph, loader, &evaluation, request.batch_size)?
                .with_early_start(),
            calibration: Batches::new(graph, calibration_loader, &calibration, request.batch_size)?,
            search: Batches::new(graph, search_loader, &search, request.batch_size)?,
            search_is_apart,
            preprocess,
            preprocess_guess,
            fingerprint,
            request,
        })
    }

    /// The dataset that evaluates.
    pub fn dataset(&self) -> &Dataset {
        self.evaluation.loader().dataset()
    }
}

/// Which samples score a search, and whether none of them calibrates.
///
/// What a calibration folder holds beyond the samples that calibrate; where that is too little, or there
/// is no such folder, the samples that calibrate.
fn search_samples(
    request: &DataRequest,
    loader: &Loader,
    calibration: &[usize],
) -> (Vec<usize>, bool) {
    let dataset = loader.dataset();
    let (count, seed) = (Some(SEARCH_SAMPLES), request.seed);
    if request.calibration.is_some() {
        let mut others = all(dataset);
        others.retain(|index| calibration.binary_search(index).is_err());
        if others.len() >= FEWEST_SEARCH_SAMPLES {
            return (select(dataset, &others, count, seed), true);
        }
    }
    (select(dataset, calibration, count, seed), false)
}

/// The guess from channels, height and width; inputs of other ranks are arrays, taken as they are.
fn guess(shape: &[usize], name: &str) -> (Preprocess, String) {
    match *shape {
        [channels, height, width] => Preprocess::guess(channels, height, width, &[name]),
        _ => Preprocess::guess(0, 1, 1, &[name]),
    }
}

fn all(dataset: &Dataset) -> Vec<usize> {
    (0..dataset.samples.len()).collect()
}

/// The model's input without the batch axis.
fn sample_shape(model: &OpenModel) -> Result<Vec<usize>, SessionError> {
    model::input_shape(model.graph())
        .ok_or_else(|| {
            let inputs: Vec<String> = model
                .graph()
                .inputs()
                .iter()
                .map(|id| {
                    let value = model.graph().value(*id);
                    let dims: Vec<String> =
                        value.shape.iter().flatten().map(ToString::to_string).collect();
                    format!("{:?} [{}]", value.name, dims.join(", "))
                })
                .collect();
            SessionError::Missing(format!(
                "The model's inputs are {}; a dataset needs one input whose shape is known but for the batch. Export the model with fixed sizes\nFile: {}",
                inputs.join(", "),
                model.path.display()
            ))
        })
}

fn fingerprint(
    request: &DataRequest,
    preprocess: &Preprocess,
    evaluation: &Loader,
    calibration: &Loader,
) -> Fingerprint {
    let settings = format!(
        "{preprocess}|{}|{:?}|{}",
        request.calibration_samples, request.limit, request.seed
    );
    Fingerprint::of_parts([
        evaluation.dataset().fingerprint().as_bytes(),
        calibration.dataset().fingerprint().as_bytes(),
        settings.as_bytes(),
    ])
}
