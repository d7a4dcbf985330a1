//! The table of measured plans: names, pins, and ways to go back, compare and delete.

use egui::{Align, Button, Label, Layout, RichText};
use egui_extras::{Column, TableBuilder, TableRow};

use super::overview::OverviewView;
use crate::session::{Action, HistoryEntry, Session};
use crate::ui::{format, theme};

/// The table of measured plans: pinned ones first, then the newest.
pub(super) fn history_table_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut OverviewView,
    actions: &mut Vec<Action>,
) {
    forgotten_ui(ui, session, actions);
    let history = session.history();
    if history.is_empty() {
        return;
    }
    ui.add_space(6.0);
    let mut order: Vec<usize> = (0..history.len()).rev().collect();
    order.sort_by_key(|index| history.get(*index).is_none_or(|entry| !entry.pinned));
    let columns = [
        ("Size", 66.0),
        ("Top-1", 62.0),
        ("Plan − float", 82.0),
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
                .cell_layout(Layout::left_to_right(Align::Center))
                .column(Column::initial(104.0).at_least(60.0).clip(true))
                .column(Column::exact(128.0));
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
                    body.rows(theme::ROW_HEIGHT + 4.0, order.len(), |mut row| {
                        let index = order.get(row.index()).copied().unwrap_or(0);
                        if let Some(entry) = history.get(index) {
                            let entry = EntryRow {
                                session,
                                index,
                                entry,
                            };
                            entry.show_ui(&mut row, view, actions);
                        }
                    });
                });
        });
}

/// The plan that was deleted last can be brought back.
fn forgotten_ui(ui: &mut egui::Ui, session: &Session, actions: &mut Vec<Action>) {
    let Some(entry) = session.forgotten() else {
        return;
    };
    ui.horizontal_wrapped(|ui| {
        ui.label(format!("{} was deleted from the history", entry.name));
        if ui.button("Bring it back").clicked() {
            actions.push(Action::Recall);
        }
    });
}

/// One plan of the table.
struct EntryRow<'a> {
    session: &'a Session,
    index: usize,
    entry: &'a HistoryEntry,
}

impl EntryRow<'_> {
    fn is_current(&self) -> bool {
        self.entry.fingerprint == *self.session.plan_fingerprint()
    }

    fn show_ui(
        &self,
        row: &mut TableRow<'_, '_>,
        view: &mut OverviewView,
        actions: &mut Vec<Action>,
    ) {
        row.set_selected(self.is_current());
        row.col(|ui| self.name_ui(ui, view, actions));
        row.col(|ui| {
            ui.push_id(self.entry.fingerprint.short(), |ui| {
                self.restore_ui(ui, actions);
                self.menu_ui(ui, view, actions);
            });
        });
        let entry = self.entry;
        let dash = || "–".to_owned();
        let float = self
            .session
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

    fn restore_ui(&self, ui: &mut egui::Ui, actions: &mut Vec<Action>) {
        let size = egui::vec2(64.0, 18.0);
        if self.is_current() {
            let text = RichText::new("current").color(theme::palette(ui).accent);
            ui.add_sized(size, Label::new(text));
            return;
        }
        let button = ui
            .add_sized(size, Button::new("Restore").small())
            .on_hover_text("Go back to this plan; can be undone")
            .accessible_name(format!("Restore {}", self.entry.name));
        if button.clicked() {
            actions.push(Action::Restore(self.index));
        }
    }

    /// All that can be done with the plan.
    fn menu_ui(&self, ui: &mut egui::Ui, view: &mut OverviewView, actions: &mut Vec<Action>) {
        let entry = self.entry;
        let pin = if entry.pinned { "Unpin" } else { "Pin" };
        let menu = ui.menu_button("More", |ui| {
            if ui.button("Rename…").clicked() {
                view.renaming = Some((entry.fingerprint.clone(), entry.name.clone()));
            }
            let hover = "Pinned plans stand first, are named in the plot, and cannot be deleted";
            if ui.button(pin).on_hover_text(hover).clicked() {
                actions.push(Action::Pin(self.index, !entry.pinned));
            }
            let compare = ui
                .add_enabled(
                    !self.is_current() && self.current_is_measured(),
                    Button::new("Compare with current"),
                )
                .on_disabled_hover_text(if self.is_current() {
                    "This is the current plan: choose another row"
                } else {
                    "The current plan is not measured to the end yet"
                });
            if compare.clicked() {
                let current = self.session.plan_fingerprint().clone();
                view.plans_to_compare = Some((entry.fingerprint.clone(), current));
            }
            let delete = ui
                .add_enabled(!entry.pinned, Button::new("Delete"))
                .on_hover_text("Take the plan out of the history; it can be brought back")
                .on_disabled_hover_text("Pinned plans stay: unpin it first");
            if delete.clicked() {
                actions.push(Action::Forget(self.index));
            }
        });
        menu.response
            .accessible_name(format!("More for {}", entry.name));
    }

    fn current_is_measured(&self) -> bool {
        let current = self.session.plan_fingerprint();
        let mut history = self.session.history().iter();
        history.any(|entry| entry.fingerprint == *current)
    }

    /// The name; a double click edits it.
    fn name_ui(&self, ui: &mut egui::Ui, view: &mut OverviewView, actions: &mut Vec<Action>) {
        let entry = self.entry;
        match &mut view.renaming {
            Some((edited, text)) if *edited == entry.fingerprint => {
                let response = ui
                    .text_edit_singleline(text)
                    .accessible_name(format!("Name of {}", entry.name));
                if response.lost_focus() {
                    let name = text.trim().to_owned();
                    let given_up = ui.input(|input| input.key_pressed(egui::Key::Escape));
                    view.renaming = None;
                    if !name.is_empty() && !given_up {
                        actions.push(Action::Rename(self.index, name));
                    }
                } else {
                    response.request_focus();
                }
            }
            _ => {
                if entry.pinned {
                    let text = RichText::new("pinned").small();
                    ui.label(text.color(theme::palette(ui).accent));
                }
                let label = Label::new(entry.name.as_str())
                    .truncate()
                    .selectable(false)
                    .sense(egui::Sense::click());
                let when = format::time_ago(entry.measured_secs);
                let response = ui
                    .add(label)
                    .on_hover_text(format!("Measured {when}. Double-click to rename"));
                if response.double_clicked() {
                    view.renaming = Some((entry.fingerprint.clone(), entry.name.clone()));
                }
            }
        }
    }
}
