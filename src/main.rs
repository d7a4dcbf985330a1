//! The `quantscope` binary: arguments, logging, and the choice between window and terminal.

mod allocator;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use quantscope::cli::{self, Arguments, WindowArguments};
use quantscope::ui::{WindowOptions, run_window};

#[global_allocator]
static ALLOCATOR: allocator::CacheLines = allocator::CacheLines;

fn main() -> ExitCode {
    let started = Instant::now();
    allocator::keep_freed_memory();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("QUANTSCOPE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error")),
        )
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let exit = match arguments.command {
        Some(command) => cli::run_command(command),
        None => open_window(arguments.window, started),
    };
    ExitCode::from(exit.code())
}

/// Opens the window; without a display the same job runs in the terminal.
fn open_window(arguments: WindowArguments, started: Instant) -> cli::Exit {
    if !has_display() {
        return cli::run_sample();
    }
    let options = WindowOptions {
        model: arguments.model,
        data: arguments.data,
        calibration: arguments.calib,
        preprocess: arguments.preprocess,
        plan: arguments.plan,
        cache_bytes: arguments.cache_mb.map(|mb| mb.saturating_mul(1_000_000)),
    };
    match run_window(options, started) {
        Ok(()) => cli::Exit::Done,
        Err(error) => cli::report_error(&error.to_string()),
    }
}

/// Whether a window can be shown; only X11 and Wayland systems can lack a display.
fn has_display() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(all(unix, not(target_os = "macos"))) || set("DISPLAY") || set("WAYLAND_DISPLAY")
}
