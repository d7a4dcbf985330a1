//! The panels of the window, one view a file.

mod cards;
mod coverage;
mod heat_map;
mod inspector;
mod inspector_plots;
mod layer_keys;
mod layer_order;
mod layer_table;
mod log;
mod menus;
mod messages;
mod names;
mod overview;
mod overview_history;
mod overview_plots;
mod plot_axes;
mod preprocess_card;
mod sensitivity;
mod start;
mod status_bar;
mod toasts;
mod toolbar;
mod width_menu;

pub(crate) use coverage::{CoverageView, coverage_ui};
pub(crate) use inspector::{InspectorView, inspector_ui};
pub(crate) use layer_table::{LayerTableView, layer_table_ui};
pub(crate) use log::log_ui;
pub(crate) use menus::{MenuLooks, menu_bar_ui};
pub(crate) use messages::{lasting, messages_ui};
pub(crate) use overview::{OverviewView, overview_ui};
pub(crate) use sensitivity::{SensitivityView, sensitivity_ui};
pub(crate) use start::{StartView, start_ui};
pub(crate) use status_bar::status_bar_ui;
pub(crate) use toasts::{ToastsView, toasts_ui};
pub(crate) use toolbar::{ToolbarView, toolbar_ui};
pub(crate) use width_menu::all_widths;
