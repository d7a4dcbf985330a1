//! Error at every layer's output along the network: of the layer alone, and of the whole plan.

use std::sync::Arc;

use egui::Id;

use super::super::overview_plots::{layer_axis, layers_plot_ui, points};
use super::quantity::Quantity;
use crate::figure::{Axis, Content, Figure, Ink, Marker, Plot, Series, Shape};
use crate::model::LayerId;
use crate::session::{Action, Session};
use crate::ui::plots::{layers_group, plot_head_ui};

pub(super) fn along_ui(ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
    let layers = session.plan().layers().len() as u32;
    let levels = |level: &dyn Fn(LayerId) -> Option<f64>| {
        points((0..layers).map(|index| level(LayerId(index))))
    };
    let local = levels(&|id| {
        let width = session.plan().layer(id)?.weight.format;
        Quantity::LocalSqnr.value_at(session, id, width)
    });
    let cumulative = levels(&|id| {
        let errors = session.result()?.evaluation.layers.get(id.index())?.output;
        (errors.count > 0).then(|| errors.sqnr_db())
    });
    let height = (ui.available_height() / 2.0 - 40.0).max(120.0);
    let plots = [
        (
            "Error of each layer alone",
            "weight as in the plan, input in float",
            "The errors of single layers are measured once the plan is",
            local,
        ),
        (
            "Error with the whole plan",
            "with all error from the layers before",
            "The errors of the plan are measured with its accuracy",
            cumulative,
        ),
    ];
    for (title, note, missing, points) in plots {
        if points.is_empty() {
            ui.strong(title);
            ui.label(missing);
            continue;
        }
        let figure = figure(session, title, note, points);
        let id = Id::unique((title, layers_group(session)));
        plot_head_ui(ui, id, title, &figure, |_| {});
        layers_plot_ui(ui, session, id, (&figure, height), actions);
    }
}

fn figure(session: &Session, title: &str, note: &str, points: Vec<[f64; 2]>) -> Figure {
    let names: Arc<[String]> = session.model().map_or_else(Arc::default, |model| {
        let names = model.layers().iter().map(|layer| layer.name.clone());
        names.collect()
    });
    Figure {
        title: title.to_owned(),
        note: note.to_owned(),
        content: Content::Plot(Plot {
            x: layer_axis(names),
            y: Axis::new("output SQNR", "dB"),
            series: vec![Series {
                name: "layer's output".to_owned(),
                ink: Ink::Series(0),
                shape: Shape::Line {
                    points,
                    marker: Some(Marker::Circle),
                },
            }],
        }),
    }
}
