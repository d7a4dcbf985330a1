//! Which layer suffers at which width: maps and bars of measured harm and of cheap scores.

mod along;
mod bars;
mod bridge;
mod controls;
mod heat_map;
mod quantity;
mod screens;

use egui::{ProgressBar, RichText};

use crate::engine::{Protocol, SensitivityRequest, Subject};
use crate::model::LayerId;
use crate::quant::NumberFormat;
use crate::session::{Action, LayerEdit, Session};
use crate::ui::commands::Command;
use crate::ui::format;
use bridge::BridgeView;
use heat_map::{HeatMap, MapEvent};
use quantity::{Quantity, Scale, Source};

/// How the tab shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sight {
    /// Layers × widths.
    #[default]
    Map,
    /// One width, layer by layer, with intervals.
    Bars,
    /// Error of each layer alone, and of all together.
    Along,
    /// Cheap scores against measured harm.
    Trust,
    /// What the weights alone say.
    Weights,
}

impl Sight {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Map, "Map", "All layers at all widths"),
        (
            Self::Bars,
            "Bars",
            "All layers at one width, with 95 % intervals",
        ),
        (
            Self::Along,
            "Along the network",
            "Error of each layer alone, and with the whole plan before it, at the layer's output",
        ),
        (
            Self::Trust,
            "Scores",
            "How well each cheap score tells what a sweep measures",
        ),
        (
            Self::Weights,
            "Weights",
            "What the weights alone say, before any data is run",
        ),
    ];
}

/// The order of the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    /// As in the network.
    #[default]
    Depth,
    /// The most harmful first.
    Harm,
}

/// Looks of the sensitivity tab, and the sweep that Run starts.
#[derive(Debug)]
pub(crate) struct SensitivityView {
    sight: Sight,
    order: Order,
    quantity: Quantity,
    protocol: Protocol,
    subject: Subject,
    widths: Vec<(NumberFormat, bool)>,
    /// The width of bars, scores and the order by harm; `None` is the second narrowest.
    width: Option<NumberFormat>,
    bridge: BridgeView,
    /// The layer that was brought into view, to follow the selection when it changes elsewhere.
    followed: Option<LayerId>,
}

impl Default for SensitivityView {
    fn default() -> Self {
        Self {
            sight: Sight::default(),
            order: Order::default(),
            quantity: Quantity::default(),
            protocol: Protocol::OnlyOne,
            subject: Subject::Weights,
            widths: Session::screening_widths()
                .into_iter()
                .map(|width| (width, matches!(width.bits(), 8 | 4 | 3 | 2)))
                .collect(),
            width: None,
            bridge: BridgeView::default(),
            followed: None,
        }
    }
}

impl SensitivityView {
    fn request(&self) -> SensitivityRequest {
        SensitivityRequest {
            protocol: self.protocol,
            subject: self.subject,
            widths: self
                .widths
                .iter()
                .filter(|(_, on)| *on)
                .map(|(width, _)| *width)
                .collect(),
        }
    }

    /// The width that is looked at, among those that are known.
    fn width_among(&self, widths: &[NumberFormat]) -> Option<NumberFormat> {
        let chosen = self.width.filter(|width| widths.contains(width));
        let second_narrowest = widths.get(widths.len().saturating_sub(2)).copied();
        chosen.or(second_narrowest)
    }
}

/// The sensitivity tab.
pub(crate) fn sensitivity_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SensitivityView,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    if session.data().is_none() {
        ui.label("Each layer is quantized alone, at each width, and measured on data: the map fills once there is some");
        if Command::OpenData.button_ui(ui, session) {
            commands.push(Command::OpenData);
        }
        // What the weights alone say is known without data.
        let chosen = std::mem::replace(&mut view.quantity, Quantity::WeightSqnr);
        map_ui(ui, session, view, actions);
        view.quantity = chosen;
        return;
    }
    controls::sweep_controls_ui(ui, session, view, actions);
    ui.separator();
    ui.horizontal_wrapped(|ui| {
        for (sight, text, tooltip) in Sight::ALL {
            ui.selectable_value(&mut view.sight, sight, text)
                .on_hover_text(tooltip);
        }
    });
    match view.sight {
        Sight::Map => {
            quantity_ui(ui, session, view);
            if is_known_ui(ui, session, view.quantity, commands) {
                ui.label(note(session, view.quantity));
            }
            map_ui(ui, session, view, actions);
        }
        Sight::Bars => {
            quantity_ui(ui, session, view);
            if is_known_ui(ui, session, view.quantity, commands) {
                bars::bars_ui(ui, session, view, actions);
            }
        }
        Sight::Along => along::along_ui(ui, session, actions),
        Sight::Trust => bridge::bridge_ui(ui, session, view, actions),
        Sight::Weights => screens::screens_ui(ui, session, actions),
    }
}

pub(super) fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OnlyOne => "only one layer quantized",
        Protocol::AllButOne => "all but one quantized",
    }
}

/// What is shown, in which order, and at which width.
fn quantity_ui(ui: &mut egui::Ui, session: &Session, view: &mut SensitivityView) {
    ui.horizontal_wrapped(|ui| {
        ui.strong("Show");
        for quantity in Quantity::ALL {
            ui.selectable_value(&mut view.quantity, quantity, quantity.text())
                .on_hover_text(quantity.tooltip());
        }
    });
    ui.horizontal_wrapped(|ui| {
        ui.strong("Order");
        ui.selectable_value(&mut view.order, Order::Depth, "Depth")
            .on_hover_text("As in the network");
        ui.selectable_value(&mut view.order, Order::Harm, "Harm")
            .on_hover_text("The most harmful layer first, at the width beside");
        if view.order == Order::Harm || view.sight == Sight::Bars {
            width_ui(ui, session, view, view.quantity);
        }
    });
}

/// Chooses the width of bars, scores and order.
fn width_ui(ui: &mut egui::Ui, session: &Session, view: &mut SensitivityView, of: Quantity) {
    let widths = of.widths(session).unwrap_or_default();
    let current = view.width_among(widths);
    ui.label("at");
    for width in widths {
        let response = ui
            .selectable_label(current == Some(*width), width.to_string())
            .on_hover_text(format::width(*width));
        if response.clicked() {
            view.width = Some(*width);
        }
        response.accessible_name(format!("Look at {}", format::width(*width)));
    }
    ui.label("bits");
}

/// Whether there is something to show; says what to do where there is not.
fn is_known_ui(
    ui: &mut egui::Ui,
    session: &Session,
    quantity: Quantity,
    commands: &mut Vec<Command>,
) -> bool {
    let runs = |name| session.running_jobs().iter().any(|job| job.name == name);
    match quantity.source() {
        Source::Local
            if session
                .local_errors()
                .is_none_or(|errors| errors.samples == 0) =>
        {
            before_local_ui(ui, session, commands);
        }
        Source::Weights if session.screens().is_none() => {
            ui.label("The weights are being screened");
        }
        Source::Gradients if quantity::scores(session).is_none() => {
            ui.label(controls::why_no_scores(session, runs("Second-order score")));
        }
        Source::Sweep if session.sensitivity().is_none_or(|sweep| sweep.samples == 0) => {
            ui.label(if runs("Sensitivity") {
                "The sweep runs: results appear after the first batch"
            } else {
                "No sweep yet: choose what to quantize above and press Run sweep. Results appear after the first batch and can be cancelled at any time"
            });
        }
        _ => {
            progress_ui(ui, session, quantity);
            return true;
        }
    }
    false
}

/// What comes before the map of local errors, and how far that is.
fn before_local_ui(ui: &mut egui::Ui, session: &Session, commands: &mut Vec<Command>) {
    let jobs = session.running_jobs();
    ui.horizontal_wrapped(|ui| {
        if let Some(job) = jobs.first() {
            let share = format!("{}: {:.0} %", job.name, 100.0 * job.fraction);
            let text = if job.total > 0 { share.as_str() } else { job.name };
            ui.strong(text);
            ui.label("then the map fills by itself: each layer alone with its weight at each width, against float");
        } else {
            ui.label("Nothing runs now. Run measures the plan, then this map: each layer alone with its weight at each width, against float");
            if Command::Run.button_ui(ui, session) {
                commands.push(Command::Run);
            }
        }
    });
}

/// What a quantity was measured on and under.
fn note(session: &Session, quantity: Quantity) -> String {
    let samples = quantity.progress(session).map_or(0, |(samples, _)| samples);
    let subject = quantity.subject(session).name();
    match quantity.source() {
        Source::Local => format!("{subject} quantized alone, on {samples} samples"),
        Source::Weights => "weights alone".to_owned(),
        Source::Gradients => format!("{subject}, on {samples} calibration samples"),
        Source::Sweep => session.sensitivity().map_or_else(String::new, |sweep| {
            let protocol = protocol_text(sweep.request.protocol);
            format!("{protocol}, {subject}, on {samples} samples")
        }),
    }
}

fn progress_ui(ui: &mut egui::Ui, session: &Session, quantity: Quantity) {
    if let Some((samples, total)) = quantity.progress(session)
        && samples < total
    {
        let share = samples as f32 / total.max(1) as f32;
        ui.add(
            ProgressBar::new(share)
                .desired_height(14.0)
                .text(RichText::new(format!("{samples} of {total} samples")).small()),
        )
        .accessible_name("Progress of the map");
    }
}

/// The layers in the order that is asked for.
fn ordered(session: &Session, view: &SensitivityView) -> Vec<LayerId> {
    let layers = session.model().map_or(0, |model| model.layers().len());
    let mut rows: Vec<LayerId> = (0..layers as u32).map(LayerId).collect();
    let quantity = view.quantity;
    let width = quantity
        .widths(session)
        .and_then(|widths| view.width_among(widths));
    if let (Order::Harm, Some(width)) = (view.order, width) {
        let harm = |id: &LayerId| {
            let value = quantity.value_at(session, *id, width);
            value.map_or(f64::NEG_INFINITY, |value| quantity.harm(value))
        };
        rows.sort_by_cached_key(|id| std::cmp::Reverse(Total(harm(id))));
    }
    rows
}

/// A float in its total order.
#[derive(PartialEq)]
struct Total(f64);

impl Eq for Total {}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Total {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

fn map_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SensitivityView,
    actions: &mut Vec<Action>,
) {
    let quantity = view.quantity;
    let Some(model) = session.model() else {
        return;
    };
    // Before anything is measured the map has its layers and widths, with empty cells.
    let fallback = match quantity.source() {
        Source::Local | Source::Weights => Session::screening_widths(),
        Source::Gradients | Source::Sweep => view.request().widths,
    };
    let widths = quantity.widths(session).unwrap_or(&fallback);
    let rows = ordered(session, view);
    let value = |id: LayerId, column: usize| quantity.value(session, id, column);
    let worst = if quantity.is_level() {
        0.0
    } else {
        rows.iter()
            .flat_map(|id| (0..widths.len()).filter_map(|column| value(*id, column)))
            .filter(|value| value.is_finite())
            .fold(0.0, f64::max)
    };
    let scale = Scale::new(quantity, worst);
    let subject = quantity.subject(session);
    let planned = |id: LayerId| {
        let layer = session.plan().layer(id)?;
        let format = match subject {
            Subject::Activations => layer.activation.format,
            Subject::Weights | Subject::Both => layer.weight.format,
        };
        widths.iter().position(|width| *width == format)
    };
    let long = |id: LayerId, column: usize| {
        let mut lines = vec![scale.long(value(id, column)?)];
        let estimate = quantity.estimate(session, id, column);
        lines.extend(estimate.and_then(|estimate| scale.interval(estimate)));
        Some(lines)
    };
    let selected = session.selection().first().copied();
    let scroll_to = selected
        .filter(|_| selected != view.followed)
        .and_then(|selected| rows.iter().position(|row| *row == selected));
    view.followed = selected;
    let event = HeatMap {
        title: quantity.title(),
        note: note(session, quantity),
        quantity: quantity.measured_axis(),
        names: rows
            .iter()
            .map(|id| model.layers()[id.index()].name.as_str())
            .collect(),
        rows,
        widths,
        value: &value,
        goodness: &|value| scale.goodness(value),
        short: &|value| scale.short(value),
        long: &long,
        selection: session.selection(),
        planned: &planned,
        ends: scale.ends(),
        scroll_to,
    }
    .show_ui(ui, "sensitivity map");
    match event {
        Some(MapEvent::Select(id)) => {
            view.followed = Some(id);
            actions.push(Action::Select(vec![id]));
        }
        Some(MapEvent::Choose(id, column)) => {
            if let Some(width) = widths.get(column) {
                let edit = match subject {
                    Subject::Weights => LayerEdit::WeightFormat(*width),
                    Subject::Activations => LayerEdit::ActivationFormat(*width),
                    Subject::Both => LayerEdit::BothFormats(*width),
                };
                actions.push(Action::Edit {
                    layers: vec![id],
                    edit,
                });
            }
        }
        None => {}
    }
}
