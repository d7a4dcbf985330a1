//! Plots: figures on the screen, their menu, and what plots share with one another.

mod axes;
mod linked;
mod menu;
mod save;
mod view;

pub use linked::pointed;
pub(crate) use linked::{follow_pointed, layers_group, paint_pointed, point_at};
pub(crate) use menu::{MapMenu, SaveRequest, plot_head_ui, take_save_requests};
pub(crate) use save::{PathAnswer, PathWindow};
pub(crate) use view::{PlotView, exact, layer_at};
