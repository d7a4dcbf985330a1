//! Models and data that come with the program.

use std::path::{Path, PathBuf};

use super::open_data::DataRequest;

/// A bundled model with its dataset.
#[derive(Clone, Debug)]
pub struct BundledSample {
    /// Title.
    pub name: &'static str,
    /// One sentence on what it shows.
    pub description: &'static str,
    /// The model file.
    pub model: PathBuf,
    /// Evaluation and calibration folders.
    pub data: DataRequest,
}

/// The bundled samples whose files are there.
pub fn bundled_samples() -> Vec<BundledSample> {
    let Some(folder) = samples_folder() else {
        return Vec::new();
    };
    let sample = |name, description, file: &str| BundledSample {
        name,
        description,
        model: folder.join(file),
        data: DataRequest {
            calibration: Some(folder.join("signs/calib")),
            ..DataRequest::new(folder.join("signs/eval"))
        },
    };
    [
        sample(
            "Road signs, residual CNN",
            "Robust at 8 bits; shows which layers suffer at 4 and 3",
            "signs-resnet.onnx",
        ),
        sample(
            "Road signs, depthwise-separable CNN",
            "Hard to quantize: its depthwise layers lose most at low widths",
            "signs-mobilenet.onnx",
        ),
    ]
    .into_iter()
    .filter(|sample| sample.model.is_file())
    .collect()
}

/// `sample-models` beside the executable, in the working folder, or in the source tree.
fn samples_folder() -> Option<PathBuf> {
    let beside_executable = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_path_buf));
    let working = std::env::current_dir().ok();
    let source = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    [beside_executable, working, source]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("sample-models"))
        .find(|folder| folder.is_dir())
}
