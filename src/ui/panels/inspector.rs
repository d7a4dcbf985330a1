//! One layer in detail: its choice, its numbers and its distributions.

use egui::{ComboBox, DragValue, Label, RichText, ScrollArea};

use super::clip_handles::ClipDrag;
use super::inspector_change::change_ui;
use super::inspector_numbers::numbers_as_text;
use super::inspector_plots::{
    InspectorPlots, activation_plot_ui, channel_plot_ui, error_plot_ui, weight_plot_ui,
};
use super::inspector_rounding::rounding_ui;
use super::names::field_label_ui;
use crate::model::{Layer, LayerId};
use crate::plan::{LayerPlan, layer_cost};
use crate::quant::{Calibrator, Granularity, NumberFormat, Range, Scheme};
use crate::session::{Action, ActivationInspection, Inspection, LayerEdit, Levels, Session};
use crate::ui::{format, theme};

/// Looks of the inspector.
#[derive(Debug, Default)]
pub(crate) struct InspectorView {
    plots: InspectorPlots,
    /// A clip range while it is dragged or typed.
    clip: Option<ClipEdit>,
}

/// Ends of a clip range that were changed but not yet given to the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ClipEdit {
    layer: LayerId,
    min: f32,
    max: f32,
}

/// The inspector.
pub(crate) fn inspector_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut InspectorView,
    actions: &mut Vec<Action>,
) {
    let (Some(model), Some(id)) = (session.model(), session.selection().first().copied()) else {
        ui.label("Select a layer in the table to see its weights and activations");
        return;
    };
    let (Some(layer), Some(choice)) = (model.layers().get(id.index()), session.plan().layer(id))
    else {
        return;
    };
    ScrollArea::vertical()
        .id_salt("inspector")
        .auto_shrink(false)
        .show(ui, |ui| {
            head_ui(ui, layer, choice, session.selection().len());
            let inspection = session.inspection();
            copy_ui(ui, layer, choice, inspection);
            if let Some((before, after)) = session.inspection_before().zip(inspection) {
                change_ui(ui, before, after);
            }
            weight_ui(ui, session, (id, layer), choice, inspection, view, actions);
            activation_ui(ui, session, id, choice, inspection, view, actions);
        });
}

fn head_ui(ui: &mut egui::Ui, layer: &Layer, choice: &LayerPlan, selected: usize) {
    let weak = theme::palette(ui).weak;
    ui.add(Label::new(RichText::new(layer.name.as_str()).strong().size(15.0)).wrap());
    let output = layer
        .output_shape
        .as_deref()
        .map_or_else(|| "unknown".to_owned(), format::shape);
    ui.label(
        RichText::new(format!(
            "{} · weight {} · output {output}",
            layer.op,
            format::shape(&layer.weight_shape)
        ))
        .color(weak),
    );
    let cost = layer_cost(layer, choice);
    let macs = layer.macs.map_or_else(|| "–".to_owned(), format::count);
    ui.label(
        RichText::new(format!(
            "{} parameters · {macs} MACs · {}",
            format::count(layer.parameters),
            format::bytes(cost.size_bytes)
        ))
        .color(weak),
    );
    if selected > 1 {
        ui.label(format!(
            "Changes here apply to all {selected} selected layers"
        ));
    }
}

/// Puts the numbers of the layer on the clipboard.
fn copy_ui(ui: &mut egui::Ui, layer: &Layer, choice: &LayerPlan, inspection: Option<&Inspection>) {
    let button = egui::Button::new("Copy as numbers").small();
    let response = ui
        .add_enabled(inspection.is_some(), button)
        .on_hover_text("Copies this layer's numbers and a table of its channels, separated by tabs")
        .on_disabled_hover_text("The layer is still being looked into");
    if let Some(inspection) = inspection.filter(|_| response.clicked()) {
        ui.copy_text(numbers_as_text(layer, choice, inspection));
    }
}

/// Why the choices below cannot be made.
fn why_float_ui(ui: &mut egui::Ui, is_float: bool) {
    if is_float {
        let weak = theme::palette(ui).weak;
        let text = "A floating-point format has no scale: choose 1 to 16 bits first";
        ui.add(Label::new(RichText::new(text).small().color(weak)).wrap());
    }
}

/// How many levels are used of those that there are: `212 of 4080`.
pub(super) fn levels_text(levels: Levels) -> String {
    format!("{} of {}", levels.used, levels.available)
}

fn section_ui(ui: &mut egui::Ui, title: String) {
    ui.add_space(6.0);
    ui.separator();
    ui.label(RichText::new(title).strong().size(14.0));
}

/// A labelled choice; what was chosen.
pub(super) fn choice_ui<T: PartialEq + Clone>(
    ui: &mut egui::Ui,
    name: &str,
    short: &str,
    current: &T,
    options: &[(T, String)],
) -> Option<T> {
    let mut chosen = None;
    let text = options
        .iter()
        .find(|(option, _)| option == current)
        .map_or_else(|| "other".to_owned(), |(_, text)| text.clone());
    ui.horizontal(|ui| {
        field_label_ui(ui, short, 76.0);
        let response = ComboBox::from_id_salt(name)
            .selected_text(text)
            .width((ui.available_width() - 8.0).clamp(80.0, 190.0))
            .show_ui(ui, |ui| {
                for (option, text) in options {
                    if ui
                        .selectable_label(option == current, text.as_str())
                        .clicked()
                    {
                        chosen = Some(option.clone());
                    }
                }
            })
            .response;
        response.accessible_name(name);
    });
    chosen
}

fn schemes() -> [(Scheme, String); 2] {
    [Scheme::Symmetric, Scheme::Asymmetric].map(|scheme| (scheme, scheme.to_string()))
}

fn calibrators(current: Calibrator) -> Vec<(Calibrator, String)> {
    let mut all = vec![
        Calibrator::MinMax,
        Calibrator::MovingAverage,
        Calibrator::Percentile(99.99),
        Calibrator::Percentile(99.9),
        Calibrator::Mse,
        Calibrator::Entropy,
    ];
    if !all.contains(&current) {
        all.push(current);
    }
    all.into_iter()
        .map(|calibrator| (calibrator, calibrator.to_string()))
        .collect()
}

fn granularities(current: Granularity) -> Vec<(Granularity, String)> {
    let group = |size| std::num::NonZero::new(size).map(Granularity::PerGroup);
    let mut all = vec![Granularity::PerTensor, Granularity::PerChannel];
    all.extend([32, 64, 128].into_iter().filter_map(group));
    if !all.contains(&current) {
        all.push(current);
    }
    all.into_iter()
        .map(|granularity| (granularity, granularity.to_string()))
        .collect()
}

fn weight_ui(
    ui: &mut egui::Ui,
    session: &Session,
    (id, layer): (LayerId, &Layer),
    choice: &LayerPlan,
    inspection: Option<&Inspection>,
    view: &mut InspectorView,
    actions: &mut Vec<Action>,
) {
    section_ui(
        ui,
        format!("Weight, {}", format::width(choice.weight.format)),
    );
    let is_float = choice.weight.format.is_float();
    why_float_ui(ui, is_float);
    ui.add_enabled_ui(!is_float, |ui| {
        let spec = &choice.weight;
        let mut edits = Vec::new();
        edits.extend(
            choice_ui(ui, "Weight scheme", "Scheme", &spec.scheme, &schemes())
                .map(LayerEdit::WeightScheme),
        );
        let granularities = granularities(spec.granularity);
        edits.extend(
            choice_ui(
                ui,
                "Weight granularity",
                "Granularity",
                &spec.granularity,
                &granularities,
            )
            .map(LayerEdit::WeightGranularity),
        );
        let weight_calibrators: Vec<_> = calibrators(spec.calibrator)
            .into_iter()
            .filter(|(calibrator, _)| {
                matches!(calibrator, Calibrator::MinMax | Calibrator::Mse)
                    || *calibrator == spec.calibrator
            })
            .collect();
        edits.extend(
            choice_ui(
                ui,
                "Weight calibrator",
                "Range",
                &spec.calibrator,
                &weight_calibrators,
            )
            .map(LayerEdit::WeightCalibrator),
        );
        push_edits(session, edits, actions);
    })
    .response
    .on_disabled_hover_text("A float weight has no grid; choose a width first");
    if choice.weight.format != NumberFormat::F32 {
        rounding_ui(ui, session, id, choice, inspection, actions);
    }
    let Some(inspection) = inspection else {
        ui.label("Looking into the weight…");
        return;
    };
    weight_plot_ui(ui, inspection, layer, &mut view.plots);
    weight_numbers_ui(ui, inspection);
    error_plot_ui(ui, inspection, layer);
    channel_plot_ui(ui, inspection, layer);
}

pub(super) fn push_edits(session: &Session, edits: Vec<LayerEdit>, actions: &mut Vec<Action>) {
    let layers = session.selection().to_vec();
    actions.extend(edits.into_iter().map(|edit| Action::Edit {
        layers: layers.clone(),
        edit,
    }));
}

/// Space between the columns of numbers, in points.
const NUMBER_SPACING: f32 = 10.0;

/// Names and values in two pairs of columns, or in one where the panel is too narrow for two.
fn numbers_ui(ui: &mut egui::Ui, id: &str, numbers: &[(&str, String)]) {
    let weak = theme::palette(ui).weak;
    let pairs = if numbers_width(ui, numbers) <= ui.available_width() {
        2
    } else {
        1
    };
    egui::Grid::new((id, pairs))
        .num_columns(2 * pairs)
        .spacing([NUMBER_SPACING, 2.0])
        .show(ui, |ui| {
            for row in numbers.chunks(pairs) {
                for (name, value) in row {
                    ui.label(RichText::new(*name).color(weak));
                    ui.label(value.as_str());
                }
                ui.end_row();
            }
        });
}

/// Width in points of the numbers in two pairs of columns.
fn numbers_width(ui: &egui::Ui, numbers: &[(&str, String)]) -> f32 {
    let font = egui::TextStyle::Body.resolve(ui.style());
    let width = |text: &str| {
        let color = egui::Color32::PLACEHOLDER;
        let galley = ui
            .painter()
            .layout_no_wrap(text.to_owned(), font.clone(), color);
        galley.size().x
    };
    let mut columns = [0.0_f32; 4];
    for row in numbers.chunks(2) {
        let texts = row.iter().flat_map(|(name, value)| [*name, value.as_str()]);
        for (column, text) in columns.iter_mut().zip(texts) {
            *column = column.max(width(text));
        }
    }
    columns.iter().sum::<f32>() + 3.0 * NUMBER_SPACING
}

fn weight_numbers_ui(ui: &mut egui::Ui, inspection: &Inspection) {
    let weight = &inspection.weight;
    let value = |number: f32| format::value(f64::from(number));
    let mut numbers = Vec::new();
    if let Some(statistics) = &weight.statistics {
        numbers.extend([
            ("min", value(statistics.min)),
            ("max", value(statistics.max)),
            ("mean", format::value(statistics.mean)),
            ("std", format::value(statistics.std)),
            ("kurtosis", format::value(statistics.kurtosis)),
        ]);
    }
    if let Some(errors) = &weight.errors {
        numbers.push(("SQNR", format::db(errors.sqnr_db())));
        numbers.push(("saturated", format::small_percent(errors.saturation())));
        numbers.push(("max error", value(errors.max_abs_error)));
    }
    if let [grid] = weight.grids.as_slice() {
        numbers.push(("scale", value(grid.scale())));
        numbers.push(("zero point", grid.zero_point().to_string()));
    } else if let Some((smallest, largest)) = scale_extremes(&weight.grids) {
        numbers.push(("scales", weight.grids.len().to_string()));
        numbers.push(("least scale", value(smallest)));
        numbers.push(("largest scale", value(largest)));
    }
    numbers_ui(ui, "weight numbers", &numbers);
    if let Some(levels) = weight.levels {
        // On a line of its own, because it would push the other numbers out of a narrow panel.
        ui.label(format!("{} levels used", levels_text(levels)))
            .on_hover_text("Levels that at least one weight takes, of those that the grids have; summed over the grids");
    }
}

fn scale_extremes(grids: &[crate::quant::Grid]) -> Option<(f32, f32)> {
    let scales = || grids.iter().map(crate::quant::Grid::scale);
    Some((scales().reduce(f32::min)?, scales().reduce(f32::max)?))
}

/// Which other inputs have the same width.
fn tied_ui(ui: &mut egui::Ui, session: &Session, id: LayerId) {
    let Some(model) = session.model() else { return };
    let layers = model
        .tied_to(id)
        .filter_map(|id| model.layers().get(id.index()));
    let names: Vec<&str> = layers.map(|layer| layer.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let text = match names.as_slice() {
        [one] => format!("One width with the input of {one}"),
        all => format!("One width with the inputs of {} other layers", all.len()),
    };
    let weak = theme::palette(ui).weak;
    ui.add(Label::new(RichText::new(text).small().color(weak)).wrap())
        .on_hover_text(format!(
            "Integer kernels read tensors that are added or joined, and those that several layers read, in one type: a width that is set here is set there too\n{}",
            names.join("\n")
        ));
}

fn activation_ui(
    ui: &mut egui::Ui,
    session: &Session,
    id: LayerId,
    choice: &LayerPlan,
    inspection: Option<&Inspection>,
    view: &mut InspectorView,
    actions: &mut Vec<Action>,
) {
    section_ui(
        ui,
        format!(
            "Input activation, {}",
            format::width(choice.activation.format)
        ),
    );
    tied_ui(ui, session, id);
    let is_float = choice.activation.format.is_float();
    why_float_ui(ui, is_float);
    ui.add_enabled_ui(!is_float, |ui| {
        let spec = &choice.activation;
        let mut edits = Vec::new();
        edits.extend(
            choice_ui(ui, "Activation scheme", "Scheme", &spec.scheme, &schemes())
                .map(LayerEdit::ActivationScheme),
        );
        edits.extend(
            choice_ui(
                ui,
                "Activation calibrator",
                "Calibrator",
                &spec.calibrator,
                &calibrators(spec.calibrator),
            )
            .map(LayerEdit::ActivationCalibrator),
        );
        push_edits(session, edits, actions);
    })
    .response
    .on_disabled_hover_text("A float input has no grid; choose a width first");
    let measured = || inspection?.activation.as_ref();
    let Some(activation) = session.tried_clip().or_else(measured) else {
        ui.label(if session.data().is_some() {
            "Activations appear once calibration has ended"
        } else {
            "Open a data folder to see activations"
        });
        return;
    };
    clip_ui(ui, session, id, choice, activation, view, actions);
    let Some(layer) = session
        .model()
        .and_then(|model| model.layers().get(id.index()))
    else {
        return;
    };
    match activation_plot_ui(ui, activation, (id, layer), is_float, &mut view.plots) {
        Some(ClipDrag::Trying(range)) => actions.push(Action::TryClip(range)),
        Some(ClipDrag::Chosen(range)) => {
            push_edits(
                session,
                vec![LayerEdit::ActivationRange(Some(range))],
                actions,
            );
        }
        None => {}
    }
    activation_numbers_ui(ui, session, id, activation);
}

/// The clip range as two numbers; a drag becomes one step of undo when it ends.
fn clip_ui(
    ui: &mut egui::Ui,
    session: &Session,
    id: LayerId,
    choice: &LayerPlan,
    activation: &ActivationInspection,
    view: &mut InspectorView,
    actions: &mut Vec<Action>,
) {
    let in_force = ClipEdit {
        layer: id,
        min: activation.clip.min(),
        max: activation.clip.max(),
    };
    let mut edit = view
        .clip
        .filter(|edit| edit.layer == id)
        .unwrap_or(in_force);
    let span = f64::from(activation.observed.max() - activation.observed.min());
    let speed = (span / 300.0).max(1e-6);
    let mut finished = false;
    let mut active = false;
    ui.horizontal(|ui| {
        ui.add_enabled_ui(!choice.activation.format.is_float(), |ui| {
            ui.label("Clip");
            for (value, name) in [
                (&mut edit.min, "Lower end of the clip range"),
                (&mut edit.max, "Upper end of the clip range"),
            ] {
                let response = ui
                    .add(DragValue::new(value).speed(speed).max_decimals(4))
                    .on_hover_text(name)
                    .accessible_name(name);
                finished |= response.drag_stopped() || response.lost_focus();
                active |= response.dragged() || response.has_focus() || response.changed();
            }
        });
        let by_hand = choice.activation.range_override.is_some();
        let reset = ui
            .add_enabled(by_hand, egui::Button::new("Reset").small())
            .on_hover_text("Use the calibrator's range again")
            .on_disabled_hover_text("The range is the calibrator's");
        if reset.clicked() {
            push_edits(session, vec![LayerEdit::ActivationRange(None)], actions);
        }
    });
    view.clip = active.then_some(edit);
    if finished && edit != in_force {
        view.clip = None;
        // Ends in the wrong order are left as they were.
        if let Ok(range) = Range::new(edit.min, edit.max) {
            push_edits(
                session,
                vec![LayerEdit::ActivationRange(Some(range))],
                actions,
            );
        }
    }
}

fn activation_numbers_ui(
    ui: &mut egui::Ui,
    session: &Session,
    id: LayerId,
    activation: &ActivationInspection,
) {
    let value = |number: f32| format::value(f64::from(number));
    let mut numbers = vec![
        ("observed min", value(activation.observed.min())),
        ("observed max", value(activation.observed.max())),
    ];
    if let Some(grid) = &activation.grid {
        numbers.push(("clip min", value(grid.range().min())));
        numbers.push(("clip max", value(grid.range().max())));
        numbers.push(("clipped", format::small_percent(activation.clipped)));
        numbers.push(("scale", value(grid.scale())));
        numbers.push(("zero point", grid.zero_point().to_string()));
    }
    if let Some(sqnr_db) = activation.sqnr_db {
        numbers.push(("SQNR, estimate", format::db(sqnr_db)));
    }
    let errors = session
        .result()
        .and_then(|result| result.evaluation.layers.get(id.index())?.activation)
        .filter(|errors| errors.count > 0);
    if let Some(errors) = errors {
        numbers.push(("SQNR", format::db(errors.sqnr_db())));
        numbers.push(("saturated", format::small_percent(errors.saturation())));
    }
    numbers_ui(ui, "activation numbers", &numbers);
}
