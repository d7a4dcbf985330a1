//! What is written on boxes and in their tooltips.

use super::scene::{Item, ItemKind};
use super::tint::{self, Reading, Tint};
use crate::model::{Graph, Layer, LayerId, NodeId, Shapes, ValueId};
use crate::plan::layer_cost;
use crate::session::{OpenModel, Session};
use crate::ui::format;
use crate::ui::panels::local_sqnr_db;

/// The full name of a box, by which screen readers know it.
pub(super) fn name(item: &Item, model: &OpenModel) -> String {
    match item.kind {
        ItemKind::Node(node) => model.graph().node(node).name.clone(),
        _ => item.label.clone(),
    }
}

/// The second line of a box; `None` for boxes with one line.
pub(super) fn detail(
    item: &Item,
    model: &OpenModel,
    session: &Session,
    tint: Tint,
    reading: Option<Reading>,
) -> Option<String> {
    let value = reading
        .filter(|_| !matches!(tint, Tint::WeightBits | Tint::ActivationBits))
        .map(tint::text);
    match item.kind {
        ItemKind::Block(_) => {
            let layers = item.layers.len();
            let count = format!("{layers} layer{}", if layers == 1 { "" } else { "s" });
            let widths = reading
                .filter(|_| matches!(tint, Tint::WeightBits | Tint::ActivationBits))
                .map(|reading| {
                    let letter = if tint == Tint::WeightBits { "W" } else { "A" };
                    format!("{letter} {}", tint::text(reading))
                });
            Some(joined(&[Some(count), widths, value]))
        }
        ItemKind::Node(node) => {
            let id = *item.layers.first()?;
            let choice = session.plan().layer(id)?;
            let value = value.or_else(|| local_sqnr_db(session, id).map(format::db));
            Some(joined(&[
                Some(model.graph().node(node).op.name().to_owned()),
                Some(format!("W {}", choice.weight.format)),
                Some(format!("A {}", choice.activation.format)),
                value,
            ]))
        }
        _ => None,
    }
}

fn joined(parts: &[Option<String>]) -> String {
    let parts: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
    parts.join(" · ")
}

/// Name, operator, shapes, widths and error of a box.
pub(super) fn tooltip_ui(
    ui: &mut egui::Ui,
    item: &Item,
    model: &OpenModel,
    session: &Session,
    shapes: &Shapes,
) {
    ui.strong(name(item, model));
    for line in lines(item, model, session, shapes) {
        ui.label(line);
    }
}

fn lines(item: &Item, model: &OpenModel, session: &Session, shapes: &Shapes) -> Vec<String> {
    match item.kind {
        ItemKind::Node(node) => {
            let mut lines = node_lines(model.graph(), node, shapes);
            let layer = item.layers.first();
            match layer.and_then(|id| Some((*id, model.layers().get(id.index())?))) {
                Some((id, layer)) => lines.extend(layer_lines(id, layer, session)),
                None => lines.push("Not quantized: it has no weight of its own".to_owned()),
            }
            lines
        }
        ItemKind::Block(_) | ItemKind::Frame(_) => block_lines(item, model, session),
        ItemKind::Input(value) | ItemKind::Output(value) => vec![shape(shapes, value)],
    }
}

fn node_lines(graph: &Graph, node: NodeId, shapes: &Shapes) -> Vec<String> {
    let node = graph.node(node);
    let inputs: Vec<String> = node
        .inputs
        .iter()
        .flatten()
        .filter(|value| !graph.is_initializer(**value))
        .map(|value| shape(shapes, *value))
        .collect();
    let outputs = node.outputs.iter().map(|value| shape(shapes, *value));
    let mut lines = vec![node.op.name().to_owned()];
    if !inputs.is_empty() {
        lines.push(format!("Input {}", inputs.join(", ")));
    }
    lines.push(format!("Output {}", outputs.collect::<Vec<_>>().join(", ")));
    lines
}

fn shape(shapes: &Shapes, value: ValueId) -> String {
    match shapes.get(value) {
        Some([]) => "scalar".to_owned(),
        Some(shape) => format::shape(shape),
        None => "shape not known".to_owned(),
    }
}

fn layer_lines(id: LayerId, layer: &Layer, session: &Session) -> Vec<String> {
    let mut lines = vec![format!(
        "Weight {}, {} parameters",
        format::shape(&layer.weight_shape),
        format::count(layer.parameters)
    )];
    if let Some(macs) = layer.macs {
        lines.push(format!("{} MACs per sample", format::count(macs)));
    }
    if let Some(choice) = session.plan().layer(id) {
        lines.push(format!(
            "Weight {}, activation {}{}",
            format::width(choice.weight.format),
            format::width(choice.activation.format),
            if choice.locked { ", locked" } else { "" }
        ));
        lines.push(format::bytes(layer_cost(layer, choice).size_bytes));
    }
    if let Some(db) = local_sqnr_db(session, id) {
        lines.push(format!("Local SQNR {}", format::db(db)));
    }
    lines
}

fn block_lines(item: &Item, model: &OpenModel, session: &Session) -> Vec<String> {
    let layers = || {
        item.layers
            .iter()
            .filter_map(|id| Some((model.layers().get(id.index())?, session.plan().layer(*id)?)))
    };
    let parameters: u64 = layers().map(|(layer, _)| layer.parameters).sum();
    let bytes: u64 = layers()
        .map(|(layer, choice)| layer_cost(layer, choice).size_bytes)
        .sum();
    vec![
        format!(
            "{} layers, {} parameters, {}",
            item.layers.len(),
            format::count(parameters),
            format::bytes(bytes)
        ),
        "Click to select them, double-click to zoom".to_owned(),
    ]
}
