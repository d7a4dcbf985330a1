//! The window: views that read a [`Session`](crate::session::Session) and ask for actions.
//!
//! Every view is a function of the session and its own looks that pushes
//! [`Action`](crate::session::Action)s; [`App`] collects them while it draws and applies them
//! afterwards. Nothing here reads files or runs networks.

mod app;
mod carry_out;
mod closing;
mod color_bar;
mod commands;
mod compare;
mod dialogs;
mod dock;
mod export;
mod format;
mod fuzzy;
mod graph;
mod hints;
mod looks;
mod palette;
mod panel;
mod panels;
mod pareto;
mod plots;
mod samples;
mod shortcuts;
mod theme;
mod views;
mod window;

pub use app::App;
pub use commands::Command;
pub use panel::Panel;
pub use plots::pointed as pointed_layer;
pub use theme::apply as apply_theme;
pub use window::{WindowError, WindowOptions, run_window};
