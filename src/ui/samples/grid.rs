//! The grid of thumbnails; only what is in view is laid out and decoded.

use egui::{Align2, CornerRadius, FontId, Rect, ScrollArea, Sense, Stroke, StrokeKind, pos2, vec2};

use super::filters::class_name;
use super::marks::{change_name, cut, paint_mark, prediction_text, share};
use super::rows::{Filter, SampleRow};
use super::textures::Textures;
use super::{LargeView, SamplesView};
use crate::engine::SamplePrediction;
use crate::session::{Action, Session};
use crate::ui::theme;

/// Side of a picture in points.
const PICTURE: f32 = 104.0;
/// Height of a line of text in points.
const LINE: f32 = 15.0;
/// Space around the content of a cell.
const MARGIN: f32 = 6.0;
/// Least width of a cell.
const CELL_WIDTH: f32 = PICTURE + 2.0 * MARGIN;
/// Height of a cell with label and two predictions.
const CELL_HEIGHT: f32 = PICTURE + 3.0 * LINE + 2.0 * MARGIN + 2.0;
/// Screens of textures that are kept.
const SCREENS: usize = 6;

/// The thumbnails of the samples that the filter shows.
pub(super) fn grid_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SamplesView,
    actions: &mut Vec<Action>,
) {
    if view.rows.len() == 0 {
        ui.label(nothing_text(session, view));
        return;
    }
    let spacing = 6.0;
    ui.spacing_mut().item_spacing = vec2(spacing, spacing);
    let width = ui.available_width() - ui.spacing().scroll.allocated_width();
    let columns = (((width + spacing) / (CELL_WIDTH + spacing)) as usize).max(1);
    let cell_width = ((width + spacing) / columns as f32 - spacing).min(CELL_WIDTH * 1.6);
    let rows = view.rows.len().div_ceil(columns);
    let mut opened = None;
    let mut in_view = 0..0;
    let mut scroll = ScrollArea::vertical().id_salt("samples").auto_shrink(false);
    if let Some(place) = view.scroll_to.take() {
        let row = (place / columns) as f32;
        scroll = scroll.vertical_scroll_offset(row * (CELL_HEIGHT + spacing));
    }
    scroll.show_rows(ui, CELL_HEIGHT, rows, |ui, range| {
        in_view = range.start * columns..(range.end * columns).min(view.rows.len());
        for row in range {
            ui.horizontal(|ui| {
                for place in row * columns..((row + 1) * columns).min(view.rows.len()) {
                    let Some(sample) = view.rows.get(place).copied() else {
                        continue;
                    };
                    let cell = GridCell {
                        session,
                        row: &sample,
                        letters: view.pair.letters(),
                    };
                    if cell.show_ui(ui, &mut view.thumbnails, cell_width) {
                        opened = Some(LargeView {
                            sample: sample.sample(),
                            place,
                        });
                    }
                }
            });
        }
    });
    want_thumbnails(session, view, &in_view, actions);
    view.thumbnails.keep((in_view.len() * SCREENS).max(100));
    if opened.is_some() {
        view.large = opened;
    }
}

/// Asks for what is in view, then for the screen that follows.
fn want_thumbnails(
    session: &Session,
    view: &SamplesView,
    in_view: &std::ops::Range<usize>,
    actions: &mut Vec<Action>,
) {
    let wanted: Vec<usize> = (in_view.start..in_view.end + in_view.len())
        .filter_map(|place| view.rows.get(place).map(SampleRow::sample))
        .collect();
    let is_missing = |sample: &&usize| {
        !view.thumbnails.has(**sample)
            && session.thumbnail(**sample).is_none()
            && session.why_no_picture(**sample).is_none()
    };
    if wanted.iter().any(|sample| is_missing(&sample)) {
        actions.push(Action::WantThumbnails(wanted));
    }
}

/// Why the grid is empty, and what to do.
fn nothing_text(session: &Session, view: &SamplesView) -> &'static str {
    let is_waiting = session.result().is_none_or(|result| !result.finished);
    match view.choice.filter {
        Filter::All => "No sample has been measured yet",
        _ if view.rows.all().iter().all(|row| row.second.is_none()) => {
            "The plan has not been measured yet: samples appear here batch by batch"
        }
        _ if is_waiting => "None so far: more samples are being measured",
        _ => "No sample is of this kind",
    }
}

/// One thumbnail with its texts.
struct GridCell<'a> {
    session: &'a Session,
    row: &'a SampleRow,
    letters: [&'static str; 2],
}

impl GridCell<'_> {
    /// Draws the cell; `true` when it was clicked.
    fn show_ui(&self, ui: &mut egui::Ui, textures: &mut Textures, width: f32) -> bool {
        let sample = self.row.sample();
        let (rect, response) = ui.allocate_exact_size(vec2(width, CELL_HEIGHT), Sense::click());
        let name = self.accessible_name();
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, &name));
        if ui.is_rect_visible(rect) {
            self.paint_ground(ui, rect, &response);
            let picture = Rect::from_center_size(
                pos2(rect.center().x, rect.top() + MARGIN + PICTURE / 2.0),
                vec2(PICTURE, PICTURE),
            );
            let texture = textures.of(ui.ctx(), sample, || self.session.thumbnail(sample));
            self.paint_picture(ui, picture, texture.as_ref());
            self.paint_change(ui, picture);
            self.paint_texts(ui, rect, picture.bottom() + 3.0);
        }
        response.on_hover_ui(|ui| self.tooltip_ui(ui)).clicked()
    }

    fn name(&self, class: u32) -> String {
        class_name(self.session, class)
    }

    fn accessible_name(&self) -> String {
        let [first, second] = self.letters;
        let label = self.row.first.label;
        let label = label.map_or_else(String::new, |label| format!(", label {}", self.name(label)));
        let name = |class| self.name(class);
        format!(
            "Sample {}{label}, {first} {}, {second} {}",
            self.row.sample(),
            prediction_text(Some(&self.row.first), &name),
            prediction_text(self.row.second.as_ref(), &name),
        )
    }

    fn paint_ground(&self, ui: &egui::Ui, rect: Rect, response: &egui::Response) {
        let palette = theme::palette(ui);
        let edge = self
            .row
            .change()
            .and_then(|change| change_name(change, palette))
            .map_or(palette.card_edge, |(_, color)| color);
        let (edge, thickness) = if response.hovered() || response.has_focus() {
            (palette.accent, 2.0)
        } else {
            (edge, 1.0)
        };
        ui.painter().rect(
            rect,
            CornerRadius::same(4),
            palette.card,
            Stroke::new(thickness, edge),
            StrokeKind::Inside,
        );
    }

    fn paint_picture(&self, ui: &egui::Ui, rect: Rect, texture: Option<&egui::TextureHandle>) {
        let palette = theme::palette(ui);
        let Some(texture) = texture else {
            ui.painter().rect_filled(rect, 2, palette.empty_cell);
            if self.session.why_no_picture(self.row.sample()).is_some() {
                ui.painter().text(
                    rect.center(),
                    Align2::CENTER_CENTER,
                    "no picture",
                    FontId::proportional(12.0),
                    palette.weak,
                );
            }
            return;
        };
        ui.painter().image(
            texture.id(),
            fitted(rect, texture.size_vec2()),
            Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0)),
            egui::Color32::WHITE,
        );
    }

    /// The change in words over the foot of the picture.
    fn paint_change(&self, ui: &egui::Ui, picture: Rect) {
        let palette = theme::palette(ui);
        let change = self.row.change();
        let Some((text, color)) = change.and_then(|change| change_name(change, palette)) else {
            return;
        };
        let strip = Rect::from_min_max(
            pos2(picture.left(), picture.bottom() - LINE - 1.0),
            picture.max,
        );
        ui.painter().rect_filled(strip, 0, color);
        ui.painter().text(
            strip.center(),
            Align2::CENTER_CENTER,
            text,
            FontId::proportional(12.0),
            theme::text_on(color),
        );
    }

    fn paint_texts(&self, ui: &egui::Ui, cell: Rect, top: f32) {
        let painter = ui.painter();
        let inner = cell.shrink2(vec2(MARGIN, 0.0));
        let label = match self.row.first.label {
            Some(label) => self.name(label),
            None => format!("sample {}", self.row.sample()),
        };
        let strong = ui.visuals().strong_text_color();
        let font = FontId::proportional(12.5);
        let galley = cut(painter, &label, font, strong, inner.width());
        painter.galley(pos2(inner.left(), top), galley, strong);
        if self.row.first.best().is_none() {
            return;
        }
        let predictions = [Some(&self.row.first), self.row.second.as_ref()];
        for (line, (letter, prediction)) in self.letters.into_iter().zip(predictions).enumerate() {
            let top = top + LINE * (line + 1) as f32;
            let line = Rect::from_min_size(pos2(inner.left(), top), vec2(inner.width(), LINE));
            self.paint_prediction(ui, line, letter, prediction);
        }
    }

    /// Letter, mark, class and probability on one line.
    fn paint_prediction(
        &self,
        ui: &egui::Ui,
        line: Rect,
        letter: &str,
        prediction: Option<&SamplePrediction>,
    ) {
        let palette = theme::palette(ui);
        let painter = ui.painter();
        let font = FontId::proportional(11.5);
        let color = ui.visuals().text_color();
        let middle = line.center().y;
        painter.text(
            pos2(line.left(), middle),
            Align2::LEFT_CENTER,
            letter,
            font.clone(),
            palette.weak,
        );
        let best = prediction.and_then(|prediction| Some((prediction, prediction.best()?)));
        let Some((prediction, best)) = best else {
            painter.text(
                pos2(line.left() + 12.0, middle),
                Align2::LEFT_CENTER,
                "…",
                font,
                palette.weak,
            );
            return;
        };
        let mark = pos2(line.left() + 17.0, middle);
        paint_mark(painter, mark, 4.5, prediction.is_right(), palette);
        let share = painter.text(
            pos2(line.right(), middle),
            Align2::RIGHT_CENTER,
            share(best.probability),
            font.clone(),
            color,
        );
        let left = line.left() + 26.0;
        let galley = cut(
            painter,
            &self.name(best.class),
            font,
            color,
            share.left() - left - 4.0,
        );
        painter.galley(pos2(left, middle - galley.size().y / 2.0), galley, color);
    }

    fn tooltip_ui(&self, ui: &mut egui::Ui) {
        let sample = self.row.sample();
        let data = self.session.data();
        if let Some(file) = data.and_then(|data| data.dataset().samples.get(sample)) {
            ui.strong(&file.name);
        }
        if let Some(why) = self.session.why_no_picture(sample) {
            ui.label(format!("There is no picture: {why}"));
        }
        if let Some(label) = self.row.first.label {
            ui.label(format!("Label {}", self.name(label)));
        }
        if self.row.first.best().is_some() {
            let name = |class| self.name(class);
            let predictions = [Some(&self.row.first), self.row.second.as_ref()];
            for (letter, prediction) in self.letters.into_iter().zip(predictions) {
                let text = prediction_text(prediction, &name);
                ui.label(format!("{letter}: {text}"));
            }
        }
        ui.label("Click to see it large");
    }
}

/// The largest rectangle of a picture's proportions within another.
pub(super) fn fitted(rect: Rect, size: egui::Vec2) -> Rect {
    let scale = (rect.width() / size.x.max(1.0)).min(rect.height() / size.y.max(1.0));
    Rect::from_center_size(rect.center(), size * scale)
}
