//! Which layer suffers at which width: the local map that is always there, and sweeps on request.

use egui::{ComboBox, Label, ProgressBar, RichText};

use super::heat_map::{HeatMap, MapEvent};
use crate::engine::{Protocol, Sensitivity, SensitivityRequest, Subject};
use crate::model::LayerId;
use crate::quant::NumberFormat;
use crate::session::{Action, LayerEdit, Session};
use crate::ui::commands::Command;
use crate::ui::{format, theme};

/// What the map shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quantity {
    /// SQNR of the layer alone, from the background job.
    #[default]
    LocalSqnr,
    /// Loss of accuracy of the network, from a sweep.
    AccuracyDrop,
    /// KL divergence of the network's outputs, from a sweep.
    Kl,
    /// SQNR of the network's outputs, from a sweep.
    OutputSqnr,
}

impl Quantity {
    const ALL: [Self; 4] = [
        Self::LocalSqnr,
        Self::AccuracyDrop,
        Self::Kl,
        Self::OutputSqnr,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::LocalSqnr => "Local SQNR",
            Self::AccuracyDrop => "Accuracy drop",
            Self::Kl => "KL",
            Self::OutputSqnr => "Output SQNR",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::LocalSqnr => "Local SQNR of each layer",
            Self::AccuracyDrop => "Accuracy drop by layer and width",
            Self::Kl => "KL divergence by layer and width",
            Self::OutputSqnr => "Output SQNR by layer and width",
        }
    }

    /// The quantity and its unit.
    fn axis(self) -> (&'static str, &'static str) {
        match self {
            Self::LocalSqnr => ("local SQNR", "dB"),
            Self::AccuracyDrop => ("accuracy drop", "share of one"),
            Self::Kl => ("KL divergence", "nat"),
            Self::OutputSqnr => ("output SQNR", "dB"),
        }
    }

    /// Whether the colours reach to the worst value; levels in dB have a fixed scale.
    fn is_stretched(self) -> bool {
        matches!(self, Self::AccuracyDrop | Self::Kl)
    }

    fn tooltip(self) -> &'static str {
        match self {
            Self::LocalSqnr => {
                "Output of each layer alone with its weight quantized, against float; measured by itself in the background"
            }
            Self::AccuracyDrop => "Accuracy that the network loses; from a sweep",
            Self::Kl => "KL(float ‖ quantized) of the network's outputs; from a sweep",
            Self::OutputSqnr => "SQNR of the network's raw outputs; from a sweep",
        }
    }
}

/// Looks of the sensitivity tab, and the sweep that Run starts.
#[derive(Debug)]
pub(crate) struct SensitivityView {
    quantity: Quantity,
    protocol: Protocol,
    subject: Subject,
    widths: Vec<(NumberFormat, bool)>,
    /// The layer that was brought into view, to follow the selection when it changes elsewhere.
    followed: Option<LayerId>,
}

impl Default for SensitivityView {
    fn default() -> Self {
        Self {
            quantity: Quantity::default(),
            protocol: Protocol::OnlyOne,
            subject: Subject::Weights,
            widths: Session::screening_widths()
                .into_iter()
                .map(|width| (width, matches!(width.bits(), 8 | 4 | 3 | 2)))
                .collect(),
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
}

/// The sensitivity tab.
pub(crate) fn sensitivity_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SensitivityView,
    actions: &mut Vec<Action>,
    commands: &mut Vec<Command>,
) {
    let selected = session.selection().first().copied();
    let scroll_to = selected
        .filter(|_| selected != view.followed)
        .map(LayerId::index);
    view.followed = selected;
    if session.data().is_none() {
        ui.label("Each layer is quantized alone, at each width, and measured on data: the map fills once there is some");
        if Command::OpenData.button_ui(ui, session) {
            commands.push(Command::OpenData);
        }
        let event = empty_map_ui(ui, session, Quantity::LocalSqnr, &screening(), scroll_to);
        if let Some(MapEvent::Select(id) | MapEvent::Choose(id, _)) = event {
            view.followed = Some(id);
            actions.push(Action::Select(vec![id]));
        }
        return;
    }
    sweep_controls_ui(ui, session, view, actions);
    ui.separator();
    ui.horizontal_wrapped(|ui| {
        ui.strong("Show");
        for quantity in Quantity::ALL {
            ui.selectable_value(&mut view.quantity, quantity, quantity.text())
                .on_hover_text(quantity.tooltip());
        }
    });
    let event = match view.quantity {
        Quantity::LocalSqnr => local_ui(ui, session, scroll_to, commands),
        _ => sweep_ui(ui, session, view, scroll_to),
    };
    let widths = match view.quantity {
        Quantity::LocalSqnr => session
            .local_errors()
            .map(|errors| errors.widths.as_slice()),
        _ => session
            .sensitivity()
            .map(|sweep| sweep.request.widths.as_slice()),
    };
    match event {
        Some(MapEvent::Select(id)) => {
            view.followed = Some(id);
            actions.push(Action::Select(vec![id]));
        }
        Some(MapEvent::Choose(id, column)) => {
            if let Some(width) = widths.and_then(|widths| widths.get(column)) {
                let edit = match shown_subject(session, view.quantity) {
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

fn shown_subject(session: &Session, quantity: Quantity) -> Subject {
    match quantity {
        Quantity::LocalSqnr => session.local_errors().map(|errors| errors.subject),
        _ => session.sensitivity().map(|sweep| sweep.request.subject),
    }
    .unwrap_or(Subject::Weights)
}

pub(super) fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OnlyOne => "only one layer quantized",
        Protocol::AllButOne => "all but one quantized",
    }
}

fn sweep_controls_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SensitivityView,
    actions: &mut Vec<Action>,
) {
    ui.horizontal_wrapped(|ui| {
        ui.strong("Sweep");
        let response = ComboBox::from_id_salt("protocol")
            .selected_text(protocol_text(view.protocol))
            .width(170.0)
            .show_ui(ui, |ui| {
                for protocol in [Protocol::OnlyOne, Protocol::AllButOne] {
                    ui.selectable_value(&mut view.protocol, protocol, protocol_text(protocol));
                }
            })
            .response;
        response.accessible_name("Protocol of the sweep");
        let response = ComboBox::from_id_salt("subject")
            .selected_text(view.subject.name())
            .width(90.0)
            .show_ui(ui, |ui| {
                for subject in [Subject::Weights, Subject::Activations, Subject::Both] {
                    ui.selectable_value(&mut view.subject, subject, subject.name());
                }
            })
            .response;
        response.accessible_name("What the sweep quantizes");
        ui.label("at");
        for (width, on) in &mut view.widths {
            ui.toggle_value(on, width.to_string())
                .on_hover_text(format::width(*width))
                .accessible_name(format!("Sweep at {}", format::width(*width)));
        }
        ui.label("bits");
        run_ui(ui, session, view, actions);
    });
}

fn run_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SensitivityView,
    actions: &mut Vec<Action>,
) {
    let request = view.request();
    let why_disabled = if request.widths.is_empty() {
        Some("Choose at least one width")
    } else if request.subject != Subject::Weights && session.ranges().is_none() {
        Some("Activations need ranges: wait until calibration has ended")
    } else {
        None
    };
    let response = ui
        .add_enabled(why_disabled.is_none(), egui::Button::new("Run sweep"))
        .on_hover_text(
            "Measure the whole network for every layer and width; results appear as they come",
        );
    if let (None, Some(secs)) = (why_disabled, session.sweep_secs(&request)) {
        let weak = theme::palette(ui).weak;
        let bytes = session
            .sweep_bytes(&request)
            .map_or_else(String::new, |bytes| {
                format!(", {} of memory", format::bytes(bytes))
            });
        let text = format!("{}{bytes}", format::about(secs));
        ui.add(Label::new(RichText::new(text).color(weak)).extend())
            .on_hover_text("Time: predicted from what the float run took, for this protocol and these widths; other jobs go first. Memory: what the sweep holds at its peak, on top of what is open");
    }
    if response.clicked() {
        actions.push(Action::RunSensitivity(request));
        if view.quantity == Quantity::LocalSqnr {
            view.quantity = Quantity::AccuracyDrop;
        }
    }
    response.on_disabled_hover_text(why_disabled.unwrap_or_default());
}

/// Rows and names of the map, in the order of the network.
fn all_layers(session: &Session) -> (Vec<LayerId>, Vec<&str>) {
    session.model().map_or_else(Default::default, |model| {
        (0..)
            .map(LayerId)
            .zip(model.layers())
            .map(|(id, layer)| (id, layer.name.as_str()))
            .unzip()
    })
}

/// The map before anything is measured: its layers and widths, with empty cells.
fn empty_map_ui(
    ui: &mut egui::Ui,
    session: &Session,
    quantity: Quantity,
    widths: &[NumberFormat],
    scroll_to: Option<usize>,
) -> Option<MapEvent> {
    let (rows, names) = all_layers(session);
    let scale = Scale::new(quantity, 0.0);
    let planned = |id: LayerId| {
        let format = session.plan().layer(id)?.weight.format;
        widths.iter().position(|width| *width == format)
    };
    HeatMap {
        title: quantity.title(),
        note: "nothing is measured yet".to_owned(),
        quantity: quantity.axis(),
        names,
        rows,
        widths,
        value: &|_, _| None,
        goodness: &|value| scale.goodness(value),
        short: &|value| scale.short(value),
        long: &|value| scale.long(value),
        selection: session.selection(),
        planned: &planned,
        ends: match quantity {
            Quantity::LocalSqnr | Quantity::OutputSqnr => scale.ends(),
            Quantity::AccuracyDrop | Quantity::Kl => {
                ("loses most".to_owned(), "loses nothing".to_owned())
            }
        },
        scroll_to,
    }
    .show_ui(ui, "empty map")
}

fn screening() -> Vec<NumberFormat> {
    Session::screening_widths()
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

fn local_ui(
    ui: &mut egui::Ui,
    session: &Session,
    scroll_to: Option<usize>,
    commands: &mut Vec<Command>,
) -> Option<MapEvent> {
    let measured = session.local_errors().filter(|errors| errors.samples > 0);
    let Some(errors) = measured else {
        before_local_ui(ui, session, commands);
        return empty_map_ui(ui, session, Quantity::LocalSqnr, &screening(), scroll_to);
    };
    progress_ui(ui, errors.samples, errors.total);
    let (rows, names) = all_layers(session);
    let value = |id: LayerId, column: usize| {
        let sum = errors.cells.get(id.index())?.get(column)?;
        (sum.count > 0).then(|| sum.sqnr_db())
    };
    let planned = |id: LayerId| {
        let format = session.plan().layer(id)?.weight.format;
        errors.widths.iter().position(|width| *width == format)
    };
    HeatMap {
        title: Quantity::LocalSqnr.title(),
        note: format!(
            "{} quantized alone, on {} samples",
            errors.subject.name(),
            errors.samples
        ),
        quantity: Quantity::LocalSqnr.axis(),
        scroll_to,
        names,
        rows,
        widths: &errors.widths,
        value: &value,
        goodness: &|db| db / theme::SQNR_FULL_DB,
        short: &short_db,
        long: &|db| format!("local SQNR {}", format::db(db)),
        selection: session.selection(),
        planned: &planned,
        ends: (
            "0 dB, worse".to_owned(),
            format!("better, {:.0} dB and more", theme::SQNR_FULL_DB),
        ),
    }
    .show_ui(ui, "local errors")
}

fn short_db(db: f64) -> String {
    if db.is_finite() {
        format!("{db:.0}")
    } else {
        "∞".to_owned()
    }
}

fn progress_ui(ui: &mut egui::Ui, samples: usize, total: usize) {
    if samples < total {
        let share = samples as f32 / total.max(1) as f32;
        ui.add(
            ProgressBar::new(share)
                .desired_height(14.0)
                .text(RichText::new(format!("{samples} of {total} samples")).small()),
        )
        .accessible_name("Progress of the map");
    }
}

fn sweep_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &SensitivityView,
    scroll_to: Option<usize>,
) -> Option<MapEvent> {
    let quantity = view.quantity;
    let Some(sweep) = session.sensitivity().filter(|sweep| sweep.samples > 0) else {
        ui.label(if session.running_jobs().iter().any(|job| job.name == "Sensitivity") {
            "The sweep runs: results appear after the first batch"
        } else {
            "No sweep yet: choose what to quantize above and press Run sweep. Results appear after the first batch and can be cancelled at any time"
        });
        return empty_map_ui(ui, session, quantity, &view.request().widths, scroll_to);
    };
    progress_ui(ui, sweep.samples, sweep.total);
    let value = |id: LayerId, column: usize| cell_value(sweep, quantity, id, column);
    let (rows, names) = all_layers(session);
    let worst = if quantity.is_stretched() {
        rows.iter()
            .flat_map(|id| (0..sweep.request.widths.len()).filter_map(|column| value(*id, column)))
            .filter(|value| value.is_finite())
            .fold(0.0, f64::max)
    } else {
        0.0
    };
    let scale = Scale::new(quantity, worst);
    let note = format!(
        "{}, {}, on {} samples",
        protocol_text(sweep.request.protocol),
        sweep.request.subject.name(),
        sweep.samples
    );
    ui.label(note.as_str());
    let planned = |id: LayerId| {
        let layer = session.plan().layer(id)?;
        let format = match sweep.request.subject {
            Subject::Activations => layer.activation.format,
            _ => layer.weight.format,
        };
        sweep
            .request
            .widths
            .iter()
            .position(|width| *width == format)
    };
    HeatMap {
        title: quantity.title(),
        note,
        quantity: quantity.axis(),
        scroll_to,
        names,
        rows,
        widths: &sweep.request.widths,
        value: &value,
        goodness: &|value| scale.goodness(value),
        short: &|value| scale.short(value),
        long: &|value| scale.long(value),
        selection: session.selection(),
        planned: &planned,
        ends: scale.ends(),
    }
    .show_ui(ui, "sweep")
}

fn cell_value(sweep: &Sensitivity, quantity: Quantity, id: LayerId, column: usize) -> Option<f64> {
    let cell = sweep.cells.get(id.index())?.get(column)?;
    match quantity {
        Quantity::LocalSqnr => (cell.local.count > 0).then(|| cell.local.sqnr_db()),
        Quantity::AccuracyDrop => Some(sweep.float.top1()? - cell.metrics.top1()?),
        Quantity::Kl => cell.comparison.kl(),
        Quantity::OutputSqnr => cell.comparison.sqnr_db(),
    }
}

/// Colours and texts of a sweep's values.
#[derive(Clone, Copy, Debug)]
struct Scale {
    quantity: Quantity,
    /// The largest value; where large is bad, it is the dark end.
    worst: f64,
}

impl Scale {
    fn new(quantity: Quantity, worst: f64) -> Self {
        // A scale that is not stretched over noise.
        let least = match quantity {
            Quantity::AccuracyDrop => 0.02,
            Quantity::Kl => 0.01,
            Quantity::LocalSqnr | Quantity::OutputSqnr => 0.0,
        };
        Self {
            quantity,
            worst: worst.max(least),
        }
    }

    fn goodness(self, value: f64) -> f64 {
        match self.quantity {
            Quantity::LocalSqnr | Quantity::OutputSqnr => value / theme::SQNR_FULL_DB,
            Quantity::AccuracyDrop => 1.0 - value / self.worst,
            // KL grows with the square of the error, so its root is even.
            Quantity::Kl => 1.0 - (value.max(0.0) / self.worst).sqrt(),
        }
    }

    fn short(self, value: f64) -> String {
        match self.quantity {
            Quantity::LocalSqnr | Quantity::OutputSqnr => short_db(value),
            Quantity::AccuracyDrop => format!("{:.1}", 100.0 * value).replace('-', "−"),
            Quantity::Kl => format!("{value:.2}"),
        }
    }

    fn long(self, value: f64) -> String {
        match self.quantity {
            Quantity::LocalSqnr => format!("local SQNR {}", format::db(value)),
            Quantity::OutputSqnr => format!("output SQNR {}", format::db(value)),
            Quantity::AccuracyDrop => format!("accuracy {} against float", format::points(-value)),
            Quantity::Kl => format!("KL {} nat", format::value(value)),
        }
    }

    fn ends(self) -> (String, String) {
        match self.quantity {
            Quantity::LocalSqnr | Quantity::OutputSqnr => (
                "0 dB, worse".to_owned(),
                format!("better, {:.0} dB and more", theme::SQNR_FULL_DB),
            ),
            Quantity::AccuracyDrop => (
                format!("loses {:.1} points", 100.0 * self.worst),
                "loses nothing".to_owned(),
            ),
            Quantity::Kl => (
                format!("{:.2} nat, worse", self.worst),
                "0, same as float".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_values_are_lighter() {
        for (quantity, worse, better) in [
            (Quantity::OutputSqnr, 3.0, 30.0),
            (Quantity::AccuracyDrop, 0.4, 0.01),
            (Quantity::Kl, 2.0, 0.1),
        ] {
            let scale = Scale::new(quantity, 2.0);
            assert!(
                scale.goodness(worse) < scale.goodness(better),
                "{quantity:?}"
            );
        }
    }

    #[test]
    fn noise_is_not_stretched_over_the_scale() {
        let scale = Scale::new(Quantity::AccuracyDrop, 0.001);
        assert!(scale.goodness(0.001) > 0.9);
    }
}
