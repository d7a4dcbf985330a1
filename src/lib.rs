//! Quantscope explores neural-network quantization interactively.
//!
//! # Bird's-eye view
//!
//! ```text
//! file → model::load → Graph → engine::calibrate → Ranges → Plan → engine::evaluate_plan → Evaluation → picture
//! ```
//!
//! A model file becomes an immutable [`model::Graph`]. Calibration samples from [`data`] run through
//! the float network and leave [`engine::Ranges`], histograms of fixed size. A [`plan::Plan`] says for
//! every layer how weight and input are quantized; [`engine::Executor`] runs it batch by batch.
//! [`session::Session`] holds all of it as one document, which the window ([`ui`]) and the command
//! line ([`cli`]) share.
//!
//! # Code map
//!
//! | folder | what lives there |
//! |---|---|
//! | [`model`] | what a network is, and the readers of model files |
//! | [`data`] | what a dataset folder is: readers, preprocessing, split |
//! | [`quant`] | the arithmetic of quantization, pure functions on slices |
//! | [`plan`] | every layer's choice, presets, size and cost |
//! | [`engine`] | kernels, operators, executor, calibration, evaluation, sensitivity |
//! | [`export`] | plans as files that runtimes execute, and the check that they do |
//! | [`search`] | allocation for a budget, measured search, what is stored of both |
//! | [`jobs`] | background work: progress, cancellation, generations |
//! | [`figure`] | what a plot shows, and its writers: SVG, PNG, CSV |
//! | [`session`] | one open document; the only place that changes the plan |
//! | [`cli`] | headless commands |
//! | [`ui`] | the window: functions of the session that push actions |
//!
//! # Invariants
//!
//! **A layer uses those to its left**: model, quant → plan → engine → search, export → session → cli, ui; `data` stands
//! beside model, `jobs` and `figure` alone. A test keeps the arrows.
//!
//! **The graph does not change after loading.** Batch normalisation is folded before anything is shown.
//!
//! **Only [`session::Session::apply`] changes the document**; views get a shared reference.
//!
//! **A result belongs to one (model, data, preprocessing, plan)** and is shown for nothing else.
//!
//! **Sums do not depend on the number of threads**: they are added in chunks of fixed size and order.

pub mod cli;
pub mod data;
pub mod engine;
pub mod export;
pub mod figure;
pub mod jobs;
pub mod model;
pub mod plan;
pub mod quant;
pub mod search;
pub mod session;
pub mod ui;
