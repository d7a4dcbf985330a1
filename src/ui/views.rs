//! The looks of all panels, and which view draws which panel.

use super::commands::Command;
use super::compare::{CompareView, compare_ui};
use super::graph::{GraphView, graph_ui};
use super::panel::Panel;
use super::panels::{
    CoverageView, InspectorView, LayerTableView, OverviewView, SensitivityView, StartView,
    ToolbarView, coverage_ui, inspector_ui, layer_table_ui, overview_ui, sensitivity_ui, start_ui,
};
use super::pareto::{ParetoView, pareto_ui};
use super::samples::{SamplesView, samples_ui};
use crate::session::{Action, Session, bundled_samples};

/// What the panels remember between frames.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) start: StartView,
    pub(crate) toolbar: ToolbarView,
    pub(crate) layer_table: LayerTableView,
    pub(crate) overview: OverviewView,
    sensitivity: SensitivityView,
    pareto: ParetoView,
    pub(crate) graph: GraphView,
    pub(crate) samples: SamplesView,
    compare: CompareView,
    coverage: CoverageView,
    inspector: InspectorView,
    /// A panel that another one leads to.
    request: Option<Panel>,
}

impl Views {
    pub(crate) fn new() -> Self {
        Self {
            start: StartView::new(bundled_samples()),
            toolbar: ToolbarView::default(),
            layer_table: LayerTableView::default(),
            overview: OverviewView::default(),
            sensitivity: SensitivityView::default(),
            pareto: ParetoView::default(),
            graph: GraphView::default(),
            samples: SamplesView::default(),
            compare: CompareView::default(),
            coverage: CoverageView::default(),
            inspector: InspectorView::default(),
            request: None,
        }
    }

    /// The panel that was asked for since the last call.
    pub(crate) fn take_request(&mut self) -> Option<Panel> {
        self.request.take()
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
            Panel::Overview => {
                overview_ui(ui, session, &mut self.overview, actions, commands);
                if let Some((a, b)) = self.overview.plans_to_compare.take() {
                    self.compare.choose(a, b);
                    self.request = Some(Panel::Compare);
                }
            }
            Panel::Sensitivity => {
                sensitivity_ui(ui, session, &mut self.sensitivity, actions, commands);
            }
            Panel::Pareto => pareto_ui(ui, session, &mut self.pareto, actions),
            Panel::Graph => graph_ui(ui, session, &mut self.graph, actions),
            Panel::Samples => samples_ui(ui, session, &mut self.samples, actions, commands),
            Panel::Compare => {
                if let Some((pair, filter)) = compare_ui(ui, session, &mut self.compare, actions) {
                    self.samples.show(pair, filter);
                    self.request = Some(Panel::Samples);
                }
            }
            Panel::Coverage => coverage_ui(ui, session, &mut self.coverage),
            Panel::Open => start_ui(ui, session, &mut self.start, actions, commands),
            Panel::Inspector => inspector_ui(ui, session, &mut self.inspector, actions),
        }
    }
}
