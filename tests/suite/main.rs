//! Behaviour tests of the whole program, one area a file.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test, and a skipped test says so"
)]

mod architecture;
mod arithmetic;
mod bad_files;
mod bench_command;
mod cancelling;
mod common;
mod export;
mod export_openvino;
mod export_pytorch;
mod export_tflite;
mod export_window;
mod exporting;
mod figures;
mod first_minutes;
mod frame;
#[cfg(target_os = "linux")]
mod full_disk;
mod golden_float;
mod golden_ops;
mod golden_resnet20;
mod golden_samples;
mod golden_sensitivity;
mod graph;
mod inspector;
mod journeys;
mod layer_table;
#[cfg(target_os = "linux")]
mod loading;
mod local_errors;
mod pareto;
mod plots_window;
mod report;
mod resumed_sweeps;
mod reuse;
mod rounding;
mod rounding_window;
mod samples_window;
mod search;
mod sensitivity_tab;
mod snapshots;
mod verify;
mod window;
mod workflow;
