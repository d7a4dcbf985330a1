//! The looks of all panels, and which view draws which panel.

use super::commands::Command;
use super::graph::{GraphView, graph_ui};
use super::panel::Panel;
use super::panels::{
    CoverageView, InspectorView, LayerTableView, OverviewView, SensitivityView, StartView,
    ToolbarView, coverage_ui, inspector_ui, layer_table_ui, overview_ui, sensitivity_ui, start_ui,
};
use crate::session::{Action, Session, bundled_samples};

/// What the panels remember between frames.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) start: StartView,
    pub(crate) toolbar: ToolbarView,
    pub(crate) layer_table: LayerTableView,
    pub(crate) overview: OverviewView,
    sensitivity: SensitivityView,
    pub(crate) graph: GraphView,
    coverage: CoverageView,
    inspector: InspectorView,
}

impl Views {
    pub(crate) fn new() -> Self {
        Self {
            start: StartView::new(bundled_samples()),
            toolbar: ToolbarView::default(),
            layer_table: LayerTableView::default(),
            overview: OverviewView::default(),
            sensitivity: SensitivityView::default(),
            graph: GraphView::default(),
            coverage: CoverageView::default(),
            inspector: InspectorView::default(),
        }
    }

    /// Draws one panel.
    pub(crate) fn panel_ui(
        &mut self,
        ui: &mut egui::Ui,
        panel: Panel,
        session: &Session,
        actions: &mut Vec<Action>,
        commands: &mut Vec<Command>,
    ) {
        match panel {
            Panel::Layers => layer_table_ui(ui, session, &mut self.layer_table, actions),
            Panel::Overview => overview_ui(ui, session, &mut self.overview, actions, commands),
            Panel::Sensitivity => sensitivity_ui(ui, session, &mut self.sensitivity, actions),
            Panel::Graph => graph_ui(ui, session, &mut self.graph, actions),
            Panel::Coverage => coverage_ui(ui, session, &mut self.coverage),
            Panel::Open => start_ui(ui, session, &mut self.start, actions, commands),
            Panel::Inspector => inspector_ui(ui, session, &mut self.inspector, actions),
        }
    }
}
