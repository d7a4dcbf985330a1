//! Opening the window.

use std::path::PathBuf;
use std::sync::Arc;

use eframe::{NativeOptions, Renderer};

use super::app::App;
use super::theme;
use crate::session::{DataRequest, Session, SessionError};

/// What the window opens with.
#[derive(Clone, Debug, Default)]
pub struct WindowOptions {
    /// A model file, or a project (`.qscope`); without one the first bundled sample opens.
    pub model: Option<PathBuf>,
    /// Evaluation data for the model.
    pub data: Option<DataRequest>,
    /// A plan file for the model.
    pub plan: Option<PathBuf>,
    /// Threads to compute on; `None` takes all cores but one, which draws.
    pub threads: Option<usize>,
}

/// Why no window could be opened.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// The session cannot start.
    #[error(transparent)]
    Session(#[from] SessionError),
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
    let threads = options.threads.unwrap_or_else(default_threads);
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
fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    cores.saturating_sub(1).max(1)
}
