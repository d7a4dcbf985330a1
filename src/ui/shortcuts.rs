//! The list of keys, made from the table of commands.

use egui::{Align2, Grid, Id, RichText, ScrollArea, Window};

use super::commands::{Command, Group, TABLE_KEYS, key_text};
use super::theme;

/// Groups from top to bottom, column by column.
const COLUMNS: [&[Group]; 2] = [
    &[Group::File, Group::Plan, Group::Help],
    &[Group::Layers, Group::View],
];

/// The list in a window over the others; `open` becomes `false` when it is closed.
pub(crate) fn shortcuts_ui(ctx: &egui::Context, open: &mut bool) {
    let screen = ctx.content_rect();
    Window::new("Keyboard shortcuts")
        .id(Id::unique("keyboard shortcuts"))
        .open(open)
        .collapsible(false)
        .resizable(false)
        .pivot(Align2::CENTER_CENTER)
        .default_pos(screen.center())
        .show(ctx, |ui| {
            let height = (screen.height() - 120.0).max(120.0);
            let list = ScrollArea::vertical()
                .max_height(height)
                .min_scrolled_height(height);
            list.show(ui, |ui| {
                ui.horizontal_top(|ui| {
                    for groups in COLUMNS {
                        ui.vertical(|ui| {
                            for group in groups {
                                group_ui(ui, *group);
                            }
                        });
                        ui.add_space(24.0);
                    }
                });
            });
        });
}

fn group_ui(ui: &mut egui::Ui, group: Group) {
    ui.add_space(4.0);
    ui.label(RichText::new(group.text()).strong().size(15.0));
    Grid::new(("shortcuts", group.text()))
        .num_columns(2)
        .spacing([16.0, 3.0])
        .show(ui, |ui| {
            for command in Command::with_keys().filter(|command| command.group() == group) {
                let keys: Vec<String> = command
                    .shortcuts()
                    .iter()
                    .map(|keys| key_text(ui.ctx(), *keys))
                    .collect();
                row_ui(ui, &keys.join(", "), &command.text());
            }
            if group == Group::Layers {
                for (keys, what) in TABLE_KEYS {
                    row_ui(ui, keys, what);
                }
            }
        });
}

fn row_ui(ui: &mut egui::Ui, keys: &str, what: &str) {
    let weak = theme::palette(ui).weak;
    ui.label(what);
    ui.label(RichText::new(keys).color(weak));
    ui.end_row();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_one_of_the_columns() {
        for command in Command::with_keys() {
            let columns = COLUMNS.iter().flat_map(|groups| groups.iter());
            let places = columns.filter(|group| **group == command.group()).count();
            assert_eq!(places, 1, "{command:?}");
        }
    }
}
