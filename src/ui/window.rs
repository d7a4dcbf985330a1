//! Opening the window.

use std::path::PathBuf;
use std::sync::Arc;

use eframe::{NativeOptions, Renderer};

use super::app::App;
use super::theme;
use crate::data::Preprocess;
use crate::session::{DataRequest, Session};

/// What the window opens with.
#[derive(Clone, Debug, Default)]
pub struct WindowOptions {
    /// A model file, or a project (`.qscope`); without one the first bundled sample opens.
    pub model: Option<PathBuf>,
    /// Evaluation folder for the model.
    pub data: Option<PathBuf>,
    /// Calibration folder; `None` takes a disjoint part of the evaluation data.
    pub calibration: Option<PathBuf>,
    /// How samples become inputs; `None` guesses from the model.
    pub preprocess: Option<Preprocess>,
    /// A plan file for the model.
    pub plan: Option<PathBuf>,
}

impl WindowOptions {
    /// The data to open with the model, if a folder was named.
    pub(crate) fn data_request(&self) -> Option<DataRequest> {
        self.data.as_ref().map(|folder| DataRequest {
            calibration: self.calibration.clone(),
            preprocess: self.preprocess,
            ..DataRequest::new(folder.clone())
        })
    }
}

/// Why no window could be opened.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// The session cannot start.
    #[error("{0}")]
    Start(String),
    /// Neither renderer works.
    #[error(
        "no window could be opened: {wgpu}; with OpenGL: {opengl}. Start from a desktop session, or use the commands that need no window (quantscope --help)"
    )]
    NoDisplay {
        /// Why wgpu failed.
        wgpu: String,
        /// Why OpenGL failed.
        opengl: String,
    },
}

/// Opens the window and returns when it is closed.
///
/// Draws with wgpu, and with OpenGL where that cannot start.
///
/// # Errors
/// [`WindowError`] if the session cannot start, or no renderer finds a display.
pub fn run_window(options: WindowOptions) -> Result<(), WindowError> {
    let wgpu = match run_with(Renderer::Wgpu, options.clone()) {
        Ok(()) => return Ok(()),
        Err(eframe::Error::AppCreation(error)) => {
            return Err(WindowError::Start(error.to_string()));
        }
        Err(error) => error.to_string(),
    };
    tracing::warn!("wgpu cannot start ({wgpu}), trying OpenGL");
    run_with(Renderer::Glow, options).map_err(|error| WindowError::NoDisplay {
        wgpu,
        opengl: error.to_string(),
    })
}

fn run_with(renderer: Renderer, options: WindowOptions) -> eframe::Result {
    let native = NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("Quantscope")
            .with_app_id("quantscope")
            .with_inner_size([1280.0, 800.0])
            .with_min_inner_size([900.0, 600.0]),
        renderer,
        ..NativeOptions::default()
    };
    let threads = threads();
    eframe::run_native(
        "quantscope",
        native,
        Box::new(move |creation| {
            let ctx = creation.egui_ctx.clone();
            theme::apply(&ctx);
            let session = Session::new(threads, Arc::new(move || ctx.request_repaint()))?;
            let mut app = App::new(&creation.egui_ctx, session);
            if let Some(storage) = creation.storage {
                app.restore(storage, &creation.egui_ctx);
            }
            app.start(options);
            Ok(Box::new(app))
        }),
    )
}

/// One core is left to draw.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    cores.saturating_sub(1).max(1)
}
