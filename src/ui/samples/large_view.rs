//! One sample large, with the five best classes of both networks.

use egui::{Align2, FontId, Rect, RichText, Sense, pos2, vec2};

use super::filters::class_name;
use super::grid::fitted;
use super::marks::{change_name, cut, paint_mark};
use super::rows::{Pair, SampleRow};
use super::{LargeView, SamplesView};
use crate::engine::SamplePrediction;
use crate::session::{Action, Session};
use crate::ui::{format, theme};

/// Width from which the bars stand beside the picture.
const SIDE_BY_SIDE: f32 = 420.0;
/// Height of a bar in points.
const BAR: f32 = 22.0;

/// The sample that is shown large.
pub(super) fn large_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SamplesView,
    large: LargeView,
    actions: &mut Vec<Action>,
) {
    bar_ui(ui, view, large);
    let Some(large) = view.large else {
        return;
    };
    want_pictures(session, view, large, actions);
    let Some(row) = view.rows.find(large.sample).copied() else {
        ui.label("This sample has not been measured again yet");
        return;
    };
    title_ui(ui, session, &row);
    egui::ScrollArea::vertical()
        .id_salt("large sample")
        .auto_shrink(false)
        .show(ui, |ui| {
            let width = ui.available_width();
            if width >= SIDE_BY_SIDE {
                ui.horizontal_top(|ui| {
                    let side = (width - 260.0).min(width * 0.52);
                    let side = side.min(ui.available_height()).clamp(160.0, 620.0);
                    picture_ui(ui, session, view, &row, side);
                    ui.vertical(|ui| both_ui(ui, session, &view.pair, &row));
                });
            } else {
                picture_ui(ui, session, view, &row, width.min(360.0));
                both_ui(ui, session, &view.pair, &row);
            }
        });
    view.pictures.keep(4);
}

/// Ways out and to the neighbours.
fn bar_ui(ui: &mut egui::Ui, view: &mut SamplesView, large: LargeView) {
    let place = view.rows.place_of(large.sample);
    let count = view.rows.len();
    ui.horizontal_wrapped(|ui| {
        if ui.button("Back to all").on_hover_text("Escape").clicked() {
            view.close_large();
        }
        let first = place == Some(0) || count == 0;
        let last = place.is_some_and(|place| place + 1 == count) || count == 0;
        let previous = ui
            .add_enabled(!first, egui::Button::new("Previous"))
            .on_hover_text("Left arrow")
            .on_disabled_hover_text("This is the first sample of the filter");
        let next = ui
            .add_enabled(!last, egui::Button::new("Next"))
            .on_hover_text("Right arrow")
            .on_disabled_hover_text("This is the last sample of the filter");
        if previous.clicked() {
            view.step(false);
        }
        if next.clicked() {
            view.step(true);
        }
        let text = place.map_or_else(
            || "no longer one of the filter".to_owned(),
            |place| format!("{} of {count}", place + 1),
        );
        ui.label(text);
    });
}

/// Asks for the picture and for those on both sides of it.
fn want_pictures(
    session: &Session,
    view: &SamplesView,
    large: LargeView,
    actions: &mut Vec<Action>,
) {
    let place = view.rows.place_of(large.sample).unwrap_or(large.place);
    let neighbours = [Some(place + 1), place.checked_sub(1)];
    let neighbours = neighbours
        .into_iter()
        .flatten()
        .filter_map(|place| view.rows.get(place).map(SampleRow::sample));
    let wanted: Vec<usize> = std::iter::once(large.sample).chain(neighbours).collect();
    let is_missing = |sample: &usize| {
        session.picture(*sample).is_none() && session.why_no_picture(*sample).is_none()
    };
    if wanted.iter().any(is_missing) {
        actions.push(Action::WantPictures(wanted));
    }
}

fn title_ui(ui: &mut egui::Ui, session: &Session, row: &SampleRow) {
    let palette = theme::palette(ui);
    let data = session.data();
    let file = data.and_then(|data| data.dataset().samples.get(row.sample()));
    let file = file.map_or("", |file| file.name.as_str());
    ui.horizontal_wrapped(|ui| {
        ui.strong(format!("Sample {}", row.sample()));
        if let Some(label) = row.first.label {
            ui.label("is labelled");
            ui.strong(class_name(session, label));
        }
        let change = row.change();
        if let Some((text, color)) = change.and_then(|change| change_name(change, palette)) {
            ui.label(RichText::new(text).color(color).strong());
        }
    });
    ui.add(egui::Label::new(RichText::new(file).small().color(palette.weak)).truncate());
}

fn picture_ui(
    ui: &mut egui::Ui,
    session: &Session,
    view: &mut SamplesView,
    row: &SampleRow,
    side: f32,
) {
    let palette = theme::palette(ui);
    let sample = row.sample();
    let (rect, _) = ui.allocate_exact_size(vec2(side, side), Sense::hover());
    let picture = session.picture(sample);
    let texture = view.pictures.of(ui.ctx(), sample, || picture);
    if let Some(texture) = texture {
        ui.painter().image(
            texture.id(),
            fitted(rect, texture.size_vec2()),
            Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0)),
            egui::Color32::WHITE,
        );
        return;
    }
    ui.painter().rect_filled(rect, 4, palette.empty_cell);
    if session.why_no_picture(sample).is_some() {
        ui.painter().text(
            rect.center(),
            Align2::CENTER_CENTER,
            "This sample is no picture",
            FontId::proportional(13.0),
            palette.weak,
        );
    }
}

/// The best classes of both networks, one below the other.
fn both_ui(ui: &mut egui::Ui, session: &Session, pair: &Pair, row: &SampleRow) {
    if row.first.best().is_none() {
        return;
    }
    let [plan_color, float_color, ..] = theme::palette(ui).series;
    let [first, second] = match pair {
        Pair::FloatAndPlan => ["Float", "Plan"],
        Pair::Plans(..) => ["Plan A", "Plan B"],
    };
    for (title, prediction, color) in [
        (first, Some(&row.first), float_color),
        (second, row.second.as_ref(), plan_color),
    ] {
        ui.strong(title);
        match prediction {
            Some(prediction) => {
                for ranked in prediction.top() {
                    let bar = Bar {
                        owner: title,
                        name: class_name(session, ranked.class),
                        probability: ranked.probability,
                        is_label: prediction.label == Some(ranked.class),
                        color,
                    };
                    bar.show_ui(ui);
                }
                margin_ui(ui, prediction);
            }
            None => {
                ui.label("Not measured yet: the sample's batch is still to come");
            }
        }
        ui.add_space(10.0);
    }
}

fn margin_ui(ui: &mut egui::Ui, prediction: &SamplePrediction) {
    if let Some(margin) = prediction.margin().filter(|margin| margin.is_finite()) {
        let text = format!("margin between the best two {:.1} pt", 100.0 * margin);
        ui.label(RichText::new(text).small().color(theme::palette(ui).weak));
    }
}

/// One class with its probability.
struct Bar {
    owner: &'static str,
    name: String,
    probability: f32,
    is_label: bool,
    color: egui::Color32,
}

impl Bar {
    fn show_ui(&self, ui: &mut egui::Ui) {
        let palette = theme::palette(ui);
        let width = ui.available_width().min(420.0);
        let (rect, response) = ui.allocate_exact_size(vec2(width, BAR), Sense::hover());
        let percent = format::small_percent(f64::from(self.probability));
        let label = if self.is_label { ", the label" } else { "" };
        let text = format!("{}: {} {percent}{label}", self.owner, self.name);
        response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, &text));
        let name_width = (width * 0.42).clamp(60.0, 180.0);
        let painter = ui.painter();
        let (font, color) = (FontId::proportional(13.0), ui.visuals().text_color());
        if self.is_label {
            let center = pos2(rect.left() + 6.0, rect.center().y);
            paint_mark(painter, center, 5.0, Some(true), palette);
        }
        let galley = cut(painter, &self.name, font.clone(), color, name_width - 18.0);
        let top = rect.center().y - galley.size().y / 2.0;
        painter.galley(pos2(rect.left() + 15.0, top), galley, color);
        let track = Rect::from_min_max(
            pos2(rect.left() + name_width, rect.top() + 4.0),
            pos2(rect.right() - 62.0, rect.bottom() - 4.0),
        );
        painter.rect_filled(track, 2, palette.empty_cell);
        let filled = track.width() * self.probability.clamp(0.0, 1.0);
        painter.rect_filled(
            Rect::from_min_size(track.min, vec2(filled, track.height())),
            2,
            self.color,
        );
        painter.text(
            pos2(rect.right(), rect.center().y),
            Align2::RIGHT_CENTER,
            if self.probability.is_nan() {
                "–".to_owned()
            } else {
                percent
            },
            font,
            color,
        );
        if self.is_label {
            response.on_hover_text("This class is the label");
        }
    }
}
