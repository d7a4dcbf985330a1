//! The plans that were measured: a plot of size against accuracy, and a table to go back to them.

use egui::{Button, Label, RichText};
use egui_extras::{Column, TableBuilder, TableRow};
use egui_plot::{HLine, HoverPosition, LineStyle, MarkerShape, Points};

use super::overview::OverviewView;
use super::overview_plots::plot;
use super::plot_axes::legend_ui;
use crate::session::{Action, HistoryEntry, Session};
use crate::ui::{format, theme};

/// Screen distance in points within which a click hits a plan.
const HIT_DISTANCE: f32 = 12.0;

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

/// Size against accuracy of every measured plan; a click goes back to one.
pub(super) fn history_plot_ui(ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
    let palette = theme::palette(ui);
    ui.horizontal_wrapped(|ui| {
        ui.strong("Measured plans");
        let [plan, float, _, current, _] = palette.series;
        legend_ui(
            ui,
            &[("measured", plan), ("current", current), ("float", float)],
        );
    });
    let history = session.history();
    if history.is_empty() {
        ui.label("Every plan that is measured to the end becomes a point here");
        return;
    }
    let current = session.plan_fingerprint();
    let is_current = |entry: &&HistoryEntry| entry.fingerprint == *current;
    let point =
        |entry: &HistoryEntry| Some([entry.cost.size_bytes as f64 / 1024.0, quality(entry)?]);
    let others: Vec<[f64; 2]> = history
        .iter()
        .filter(|e| !is_current(e))
        .filter_map(point)
        .collect();
    let here: Vec<[f64; 2]> = history
        .iter()
        .filter(is_current)
        .filter_map(point)
        .collect();
    let names: Vec<(String, [f64; 2])> = history
        .iter()
        .filter_map(|entry| Some((entry.name.clone(), point(entry)?)))
        .collect();
    let float = session
        .float()
        .and_then(|(reference, _)| reference.metrics.top1());
    let clicked = plot(ui, "measured plans")
        .x_axis_label("size in KiB")
        .y_axis_label(quality_label(session))
        .label_formatter(move |position| match position {
            HoverPosition::NearDataPoint { position, .. } => {
                let (name, [size, quality]) = names
                    .iter()
                    .find(|(_, [size, quality])| *size == position.x && *quality == position.y)?;
                Some(format!(
                    "{name}\n{size:.1} KiB, {quality:.2}\nclick to go back to it"
                ))
            }
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, move |plot| {
            let [plan, float_color, _, current, _] = palette.series;
            if let Some(float) = float {
                plot.hline(
                    HLine::new("float", float * 100.0)
                        .color(float_color)
                        .style(LineStyle::dashed_loose()),
                );
            }
            plot.points(Points::new("measured", others).color(plan).radius(4.0));
            plot.points(
                Points::new("current", here)
                    .color(current)
                    .shape(MarkerShape::Diamond)
                    .radius(7.0),
            );
            let position = plot
                .response()
                .clicked()
                .then(|| plot.response().interact_pointer_pos())??;
            Some((position, *plot.transform()))
        })
        .inner;
    if let Some((position, transform)) = clicked {
        let distance = |entry: &HistoryEntry| {
            let [x, y] = point(entry)?;
            let on_screen = transform.position_from_point(&egui_plot::PlotPoint::new(x, y));
            Some(on_screen.distance(position))
        };
        let hit = (0..)
            .zip(history)
            .filter_map(|(index, entry)| Some((index, distance(entry)?)))
            .filter(|(_, distance)| *distance <= HIT_DISTANCE)
            .min_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((index, _)) = hit {
            actions.push(Action::Restore(index));
        }
    }
}

/// The table of measured plans, newest first.
pub(super) fn history_table_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut OverviewView,
    actions: &mut Vec<Action>,
) {
    let history = session.history();
    if history.is_empty() {
        return;
    }
    ui.add_space(6.0);
    let columns = [
        ("Size", 76.0),
        ("Top-1", 68.0),
        ("Plan − float", 84.0),
        ("Agreement", 76.0),
        ("SQNR", 66.0),
    ];
    egui::ScrollArea::horizontal()
        .id_salt("history columns")
        .show(ui, |ui| {
            let mut table = TableBuilder::new(ui)
                .id_salt("history")
                .striped(true)
                .vscroll(false)
                .column(Column::initial(92.0).at_least(60.0).clip(true))
                .column(Column::exact(70.0));
            for (_, width) in columns {
                table = table.column(Column::exact(width));
            }
            table
                .header(theme::ROW_HEIGHT, |mut header| {
                    header.col(|ui| {
                        ui.strong("Plan");
                    });
                    header.col(|_| {});
                    for (title, _) in columns {
                        header.col(|ui| {
                            ui.strong(title);
                        });
                    }
                })
                .body(|body| {
                    body.rows(theme::ROW_HEIGHT + 4.0, history.len(), |mut row| {
                        let index = history.len() - 1 - row.index();
                        if let Some(entry) = history.get(index) {
                            entry_ui(&mut row, session, view, index, entry, actions);
                        }
                    });
                });
        });
}

fn entry_ui(
    row: &mut TableRow<'_, '_>,
    session: &Session,
    view: &mut OverviewView,
    index: usize,
    entry: &HistoryEntry,
    actions: &mut Vec<Action>,
) {
    let is_current = entry.fingerprint == *session.plan_fingerprint();
    row.set_selected(is_current);
    row.col(|ui| name_ui(ui, view, index, entry, actions));
    row.col(|ui| {
        if is_current {
            ui.label(RichText::new("current").color(theme::palette(ui).accent));
        } else {
            let button = ui
                .push_id(index, |ui| ui.add(Button::new("Restore").small()))
                .inner
                .on_hover_text("Go back to this plan; can be undone")
                .accessible_name(format!("Restore {}", entry.name));
            if button.clicked() {
                actions.push(Action::Restore(index));
            }
        }
    });
    let dash = || "–".to_owned();
    let float = session
        .float()
        .and_then(|(reference, _)| reference.metrics.top1());
    let difference = entry
        .metrics
        .top1()
        .zip(float)
        .map(|(plan, float)| plan - float);
    let cells = [
        format::bytes(entry.cost.size_bytes),
        entry.metrics.top1().map_or_else(dash, format::percent),
        difference.map_or_else(dash, format::points),
        entry
            .comparison
            .agreement()
            .map_or_else(dash, format::percent),
        entry.comparison.sqnr_db().map_or_else(dash, format::db),
    ];
    for text in cells {
        row.col(|ui| {
            ui.label(text);
        });
    }
}

/// The name; a double click edits it.
fn name_ui(
    ui: &mut egui::Ui,
    view: &mut OverviewView,
    index: usize,
    entry: &HistoryEntry,
    actions: &mut Vec<Action>,
) {
    match &mut view.renaming {
        Some((edited, text)) if *edited == index => {
            let response = ui
                .text_edit_singleline(text)
                .accessible_name(format!("Name of {}", entry.name));
            response.request_focus();
            if response.lost_focus() || ui.input(|input| input.key_pressed(egui::Key::Enter)) {
                let name = text.trim().to_owned();
                view.renaming = None;
                if !name.is_empty() {
                    actions.push(Action::Rename(index, name));
                }
            }
        }
        _ => {
            let label = Label::new(entry.name.as_str())
                .truncate()
                .selectable(false)
                .sense(egui::Sense::click());
            let response = ui.add(label).on_hover_text("Double-click to rename");
            if response.double_clicked() {
                view.renaming = Some((index, entry.name.clone()));
            }
        }
    }
}
