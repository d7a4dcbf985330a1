//! The plans that were measured: size, or the order of measuring, against accuracy.

use egui::Align2;
use egui_plot::{HLine, HoverPosition, Line, LineStyle, MarkerShape, PlotPoint, Points, Text};

use super::overview_plots::plot;
use super::plot_axes::legend_ui;
use crate::session::{Action, HistoryEntry, Session};
use crate::ui::{format, theme};

/// Screen distance in points within which a click hits a plan.
const HIT_DISTANCE: f32 = 12.0;

/// What stands below the plot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HistoryAxis {
    /// Size of the plan.
    #[default]
    Size,
    /// The first plan that was measured, the second, and so on.
    Order,
}

impl HistoryAxis {
    fn text(self) -> &'static str {
        match self {
            Self::Size => "Size",
            Self::Order => "Time",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Size => "size in KiB",
            Self::Order => "order of measuring",
        }
    }
}

/// A plan as a point of the plot.
struct Mark<'a> {
    index: usize,
    entry: &'a HistoryEntry,
    position: [f64; 2],
}

/// Accuracy in percent, or agreement or SQNR where there are no labels.
fn quality(entry: &HistoryEntry) -> Option<f64> {
    let percent = |share: f64| 100.0 * share;
    entry
        .metrics
        .top1()
        .map(percent)
        .or_else(|| entry.comparison.agreement().map(percent))
        .or_else(|| entry.comparison.sqnr_db().filter(|db| db.is_finite()))
}

fn quality_label(session: &Session) -> &'static str {
    match session.history().first() {
        Some(entry) if entry.metrics.top1().is_some() => "top-1 in %",
        Some(entry) if entry.comparison.agreement().is_some() => "agreement in %",
        Some(_) => "SQNR in dB",
        None => "top-1 in %",
    }
}

fn marks(history: &[HistoryEntry], axis: HistoryAxis) -> Vec<Mark<'_>> {
    history
        .iter()
        .enumerate()
        .filter_map(|(index, entry)| {
            let x = match axis {
                HistoryAxis::Size => entry.cost.size_bytes as f64 / 1024.0,
                HistoryAxis::Order => (index + 1) as f64,
            };
            Some(Mark {
                index,
                entry,
                position: [x, quality(entry)?],
            })
        })
        .collect()
}

/// Every measured plan as a point; a click goes back to one.
pub(super) fn history_plot_ui(
    ui: &mut egui::Ui,
    session: &Session,
    axis: &mut HistoryAxis,
    actions: &mut Vec<Action>,
) {
    let palette = theme::palette(ui);
    let [plan_color, float_color, _, current_color, _] = palette.series;
    ui.horizontal_wrapped(|ui| {
        ui.strong("Measured plans");
        for choice in [HistoryAxis::Size, HistoryAxis::Order] {
            ui.selectable_value(axis, choice, choice.text())
                .on_hover_text(format!("The axis below is the {}", choice.label()));
        }
        legend_ui(
            ui,
            &[
                ("measured", plan_color),
                ("current", current_color),
                ("float", float_color),
            ],
        );
    });
    let axis = *axis;
    let marks = marks(session.history(), axis);
    if marks.is_empty() {
        ui.label("Every plan that is measured to the end becomes a point here");
        return;
    }
    let current = session.plan_fingerprint();
    let (here, others): (Vec<&Mark<'_>>, Vec<&Mark<'_>>) = marks
        .iter()
        .partition(|mark| mark.entry.fingerprint == *current);
    let positions = |marks: &[&Mark<'_>]| marks.iter().map(|m| m.position).collect::<Vec<_>>();
    let (here, others) = (positions(&here), positions(&others));
    let in_order: Vec<[f64; 2]> = marks.iter().map(|mark| mark.position).collect();
    let float = session
        .float()
        .and_then(|(reference, _)| reference.metrics.top1());
    let clicked = plot(ui, axis.text())
        .x_axis_label(axis.label())
        .y_axis_label(quality_label(session))
        .label_formatter(|position| hover_text(&marks, position))
        .show(ui, |plot| {
            if let Some(float) = float {
                plot.hline(
                    HLine::new("float", float * 100.0)
                        .color(float_color)
                        .style(LineStyle::dashed_loose()),
                );
            }
            if axis == HistoryAxis::Order {
                let line = Line::new("", in_order).color(plan_color.gamma_multiply(0.5));
                plot.line(line.width(1.0).allow_hover(false));
            }
            plot.points(
                Points::new("measured", others)
                    .color(plan_color)
                    .radius(4.0),
            );
            plot.points(
                Points::new("current", here)
                    .color(current_color)
                    .shape(MarkerShape::Diamond)
                    .radius(7.0),
            );
            for mark in marks.iter().filter(|mark| mark.entry.pinned) {
                let [x, y] = mark.position;
                let text = Text::new("", PlotPoint::new(x, y), format!("  {}", mark.entry.name));
                plot.text(text.anchor(Align2::LEFT_CENTER).allow_hover(false));
            }
            let position = plot
                .response()
                .clicked()
                .then(|| plot.response().interact_pointer_pos())??;
            Some((position, *plot.transform()))
        })
        .inner;
    let Some((position, transform)) = clicked else {
        return;
    };
    let distance = |mark: &Mark<'_>| {
        let [x, y] = mark.position;
        let on_screen = transform.position_from_point(&PlotPoint::new(x, y));
        on_screen.distance(position)
    };
    let nearest = marks
        .iter()
        .map(|mark| (mark.index, distance(mark)))
        .filter(|(_, distance)| *distance <= HIT_DISTANCE)
        .min_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((index, _)) = nearest {
        actions.push(Action::Restore(index));
    }
}

fn hover_text(marks: &[Mark<'_>], position: &HoverPosition<'_>) -> Option<String> {
    let HoverPosition::NearDataPoint { position, .. } = position else {
        return None;
    };
    let mark = marks
        .iter()
        .find(|mark| mark.position == [position.x, position.y])?;
    let entry = mark.entry;
    Some(format!(
        "{}\n{}, {:.2}\nmeasured {}\nclick to go back to it",
        entry.name,
        format::bytes(entry.cost.size_bytes),
        position.y,
        format::time_ago(entry.measured_secs),
    ))
}
