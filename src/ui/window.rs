//! Opening the window.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Memory for activations that evaluations share; `None` takes the default.
    pub cache_bytes: Option<usize>,
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
    /// No renderer works.
    #[error(
        "no window could be opened: {0}. Start from a desktop session, or use the commands that need no window (quantscope --help)"
    )]
    NoDisplay(String),
}

/// Names the renderer for a program that is started again: `wgpu` or `opengl`.
const RENDERER_VARIABLE: &str = "QUANTSCOPE_RENDERER";

/// Opens the window and returns when it is closed.
///
/// `started` is when the program began; the time to the first frame is logged at the level debug.
///
/// Draws with wgpu. Where that cannot start, the program is started once more to draw with OpenGL,
/// because a process can make only one event loop.
///
/// # Errors
/// [`WindowError`] if the session cannot start, or no renderer finds a display.
pub fn run_window(options: WindowOptions, started: Instant) -> Result<(), WindowError> {
    let chosen = std::env::var(RENDERER_VARIABLE).ok();
    let renderer = match chosen.as_deref() {
        Some("opengl") => Renderer::Glow,
        _ => Renderer::Wgpu,
    };
    match run_with(renderer, options, started) {
        Ok(()) => Ok(()),
        Err(eframe::Error::AppCreation(error)) => Err(WindowError::Start(error.to_string())),
        Err(error) if chosen.is_none() => start_again_with_opengl(&error.to_string()),
        Err(error) => Err(WindowError::NoDisplay(error.to_string())),
    }
}

fn start_again_with_opengl(wgpu: &str) -> Result<(), WindowError> {
    tracing::warn!("wgpu cannot start ({wgpu}), trying OpenGL");
    let status = std::env::current_exe().and_then(|program| {
        std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(RENDERER_VARIABLE, "opengl")
            .status()
    });
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(WindowError::NoDisplay(wgpu.to_owned())),
    }
}

fn run_with(renderer: Renderer, options: WindowOptions, started: Instant) -> eframe::Result {
    let mut viewport = egui::ViewportBuilder::default()
        .with_title("Quantscope")
        .with_app_id("quantscope")
        .with_inner_size([1280.0, 800.0])
        .with_min_inner_size([900.0, 540.0]);
    match eframe::icon_data::from_png_bytes(include_bytes!("../../assets/icon.png")) {
        Ok(icon) => viewport = viewport.with_icon(icon),
        Err(error) => tracing::warn!("the window has no icon: {error}"),
    }
    let native = NativeOptions {
        viewport,
        renderer,
        ..NativeOptions::default()
    };
    let threads = threads();
    eframe::run_native(
        "quantscope",
        native,
        Box::new(move |creation| {
            tracing::debug!(
                "renderer ready {} ms after the start",
                started.elapsed().as_millis()
            );
            let ctx = creation.egui_ctx.clone();
            theme::apply(&ctx);
            let pause = software_pause(creation);
            let wake = move || ctx.request_repaint_after(pause.unwrap_or_default());
            let mut session = Session::new(threads, Arc::new(wake))?;
            if let Some(bytes) = options.cache_bytes {
                session.set_cache_bytes(bytes);
            }
            let mut app = App::new(&creation.egui_ctx, session);
            app.busy_pause = pause.unwrap_or(app.busy_pause);
            if let Some(storage) = creation.storage {
                app.restore(storage, &creation.egui_ctx);
            }
            app.start(options, started);
            Ok(Box::new(app))
        }),
    )
}

/// How long the window rests between two frames of a running job where the processor draws them, which
/// would otherwise take the time of the job.
fn software_pause(creation: &eframe::CreationContext<'_>) -> Option<Duration> {
    let state = creation.wgpu_render_state.as_ref()?;
    let kind = state.adapter.get_info().device_type;
    (kind == eframe::wgpu::DeviceType::Cpu).then_some(Duration::from_millis(300))
}

/// All cores compute: the priority of the workers leaves the window its share.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}
