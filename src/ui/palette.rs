//! The command palette: any command by a few of its letters.

use egui::text::{LayoutJob, TextFormat};
use egui::{
    Align2, Area, FontId, Frame, Id, Key, Label, Modifiers, Order, Rect, RichText, Role,
    ScrollArea, Sense, Stroke, TextEdit, TextStyle, WidgetInfo, pos2, vec2,
};

use super::commands::{Command, key_text};
use super::fuzzy::fuzzy_match;
use super::theme;
use crate::session::Session;

/// Widest palette in points.
const WIDTH: f32 = 560.0;
/// Tallest list in points.
const LIST_HEIGHT: f32 = 380.0;
const ROW_HEIGHT: f32 = 26.0;

/// What is typed into the palette; it is closed where the app has none.
#[derive(Debug)]
pub(crate) struct Palette {
    query: String,
    /// Place of the marked entry in the list.
    marked: usize,
    found: Vec<Entry>,
    /// The list follows the marked entry.
    scroll: bool,
}

#[derive(Debug)]
struct Entry {
    command: Command,
    name: String,
    /// Characters of the name that were typed.
    places: Vec<usize>,
}

/// What became of the palette in a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It stays open.
    Open,
    /// It closes.
    Closed,
    /// It closes, and this is carried out.
    Chosen(Command),
}

impl Palette {
    pub(crate) fn new() -> Self {
        let mut palette = Self {
            query: String::new(),
            marked: 0,
            found: Vec::new(),
            scroll: true,
        };
        palette.search();
        palette
    }

    /// The commands that fit what is typed, best first.
    fn search(&mut self) {
        let mut found: Vec<(i32, Entry)> = Command::all()
            .into_iter()
            .filter(|command| *command != Command::Palette)
            .filter_map(|command| {
                let name = command.text().into_owned();
                let found = fuzzy_match(&self.query, &name)?;
                let places = found.places;
                Some((
                    found.score,
                    Entry {
                        command,
                        name,
                        places,
                    },
                ))
            })
            .collect();
        found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        self.found = found.into_iter().map(|(_, entry)| entry).collect();
        self.marked = 0;
        self.scroll = true;
    }

    fn move_mark(&mut self, down: bool) {
        let last = self.found.len().saturating_sub(1);
        self.marked = match (down, self.marked) {
            (true, marked) if marked >= last => 0,
            (true, marked) => marked + 1,
            (false, 0) => last,
            (false, marked) => marked - 1,
        };
        self.scroll = true;
    }

    /// Draws the palette over the window and takes its keys.
    pub(crate) fn ui(&mut self, ctx: &egui::Context, session: &Session) -> Outcome {
        let mut outcome = self.keys(ctx, session);
        let screen = ctx.content_rect();
        let width = WIDTH.min(screen.width() - 32.0);
        let area = Area::new(Id::unique("command palette"))
            .order(Order::Foreground)
            .anchor(Align2::CENTER_TOP, vec2(0.0, 56.0))
            .show(ctx, |ui| {
                Frame::popup(ui.style()).show(ui, |ui| {
                    ui.set_width(width);
                    if let Some(command) = self.content_ui(ui, session) {
                        outcome = Outcome::Chosen(command);
                    }
                });
            });
        if outcome == Outcome::Open && area.response.clicked_elsewhere() {
            outcome = Outcome::Closed;
        }
        outcome
    }

    fn keys(&mut self, ctx: &egui::Context, session: &Session) -> Outcome {
        let pressed = |key| ctx.input_mut(|input| input.consume_key(Modifiers::NONE, key));
        if pressed(Key::Escape) {
            return Outcome::Closed;
        }
        if pressed(Key::ArrowDown) {
            self.move_mark(true);
        }
        if pressed(Key::ArrowUp) {
            self.move_mark(false);
        }
        match self.found.get(self.marked) {
            Some(entry) if pressed(Key::Enter) && entry.command.why_disabled(session).is_none() => {
                Outcome::Chosen(entry.command)
            }
            _ => Outcome::Open,
        }
    }

    fn content_ui(&mut self, ui: &mut egui::Ui, session: &Session) -> Option<Command> {
        let response = ui
            .add(
                TextEdit::singleline(&mut self.query)
                    .hint_text("Type a few letters of a command")
                    .desired_width(f32::INFINITY),
            )
            .accessible_name("Find a command");
        response.request_focus();
        if response.changed() {
            self.search();
        }
        if self.found.is_empty() {
            ui.label("No command has these letters");
        }
        let mut chosen = None;
        let height = LIST_HEIGHT.min(ui.ctx().content_rect().height() - 140.0);
        ScrollArea::vertical()
            .max_height(height)
            .auto_shrink([false, true])
            .show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                for (row, entry) in self.found.iter().enumerate() {
                    let marked = row == self.marked;
                    let response = entry_ui(ui, entry, marked, session);
                    if marked && self.scroll {
                        response.scroll_to_me(None);
                    }
                    if response.clicked() {
                        chosen = Some(entry.command);
                    }
                }
            });
        self.scroll = false;
        if let Some(entry) = self.found.get(self.marked) {
            let weak = theme::palette(ui).weak;
            ui.separator();
            let text = RichText::new(entry.command.tooltip()).small().color(weak);
            ui.add(Label::new(text).truncate());
        }
        chosen
    }
}

/// One command: its name with the typed letters underlined, and its keys or why it is off.
fn entry_ui(ui: &mut egui::Ui, entry: &Entry, marked: bool, session: &Session) -> egui::Response {
    let why_disabled = entry.command.why_disabled(session);
    let enabled = why_disabled.is_none();
    let sense = if enabled {
        Sense::click()
    } else {
        Sense::hover()
    };
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW_HEIGHT), sense);
    response.widget_info(|| WidgetInfo::selected(Role::Button, enabled, marked, &entry.name));
    if ui.is_rect_visible(rect) {
        if !marked && response.hovered() {
            let ground = ui.visuals().widgets.inactive.weak_bg_fill;
            ui.painter().rect_filled(rect, 4.0, ground);
        }
        paint_entry(ui, rect, entry, marked, why_disabled);
    }
    response
}

fn paint_entry(ui: &egui::Ui, rect: Rect, entry: &Entry, marked: bool, why_disabled: Option<&str>) {
    let visuals = ui.visuals();
    let weak = theme::palette(ui).weak;
    let mut text = if why_disabled.is_some() {
        weak
    } else {
        visuals.text_color()
    };
    let mut aside_color = weak;
    if marked {
        let selection = visuals.selection;
        ui.painter().rect_filled(rect, 4.0, selection.bg_fill);
        text = selection.stroke.color;
        aside_color = selection.stroke.color;
    }
    let aside = match (why_disabled, entry.command.shortcuts().first()) {
        (Some(why), _) => why.to_owned(),
        (None, Some(keys)) => key_text(ui.ctx(), *keys),
        (None, None) => String::new(),
    };
    let inner = rect.shrink2(vec2(8.0, 0.0));
    let small = TextStyle::Small.resolve(ui.style());
    let aside = ui.painter().text(
        pos2(inner.right(), inner.center().y),
        Align2::RIGHT_CENTER,
        aside,
        small,
        aside_color,
    );
    let mut job = marked_letters(entry, &TextStyle::Body.resolve(ui.style()), text);
    job.wrap = egui::text::TextWrapping::truncate_at_width(inner.width() - aside.width() - 12.0);
    let galley = ui.painter().layout_job(job);
    let place = pos2(inner.left(), inner.center().y - galley.size().y / 2.0);
    ui.painter().galley(place, galley, text);
}

fn marked_letters(entry: &Entry, font: &FontId, color: egui::Color32) -> LayoutJob {
    let mut job = LayoutJob::default();
    for (place, letter) in entry.name.chars().enumerate() {
        let underline = if entry.places.contains(&place) {
            Stroke::new(2.0, color)
        } else {
            Stroke::NONE
        };
        let format = TextFormat {
            underline,
            ..TextFormat::simple(font.clone(), color)
        };
        job.append(letter.encode_utf8(&mut [0; 4]), 0.0, format);
    }
    job
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::panel::Panel;

    fn first(query: &str) -> Command {
        let mut palette = Palette::new();
        palette.query = query.to_owned();
        palette.search();
        palette.found[0].command
    }

    #[test]
    fn a_few_letters_find_the_command() {
        for (query, command) in [
            ("undo", Command::Undo),
            ("reset lay", Command::ResetLayout),
            ("rl", Command::ResetLayout),
            ("sens", Command::ShowPanel(Panel::Sensitivity)),
            ("dark", Command::ThemeDark),
            ("short", Command::Shortcuts),
        ] {
            assert_eq!(first(query), command, "{query}");
        }
    }

    #[test]
    fn the_mark_goes_round() {
        let mut palette = Palette::new();
        palette.move_mark(false);
        assert_eq!(palette.marked, palette.found.len() - 1);
        palette.move_mark(true);
        assert_eq!(palette.marked, 0);
    }
}
