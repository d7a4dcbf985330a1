//! The panels of the window, one view a file.

mod bars;
mod cards;
mod coverage;
mod heat_map;
mod history_plot;
mod inspector;
mod inspector_plots;
mod layer_keys;
mod layer_order;
mod layer_table;
mod messages;
mod names;
mod overview;
mod overview_history;
mod overview_plots;
mod plot_axes;
mod sensitivity;
mod start;
mod status_bar;
mod width_menu;

pub(crate) use bars::{CentreTab, ToolbarView, menu_bar_ui, tab_bar_ui, toolbar_ui};
pub(crate) use coverage::{CoverageView, coverage_ui};
pub(crate) use inspector::{InspectorView, inspector_ui};
pub(crate) use layer_order::local_error_db;
pub(crate) use layer_table::{LayerTableView, layer_table_ui};
pub(crate) use messages::messages_ui;
pub(crate) use names::shortened;
pub(crate) use overview::{OverviewView, overview_ui};
pub(crate) use sensitivity::{SensitivityView, sensitivity_ui};
pub(crate) use start::{StartView, start_ui};
pub(crate) use status_bar::status_bar_ui;
