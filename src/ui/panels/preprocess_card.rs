//! The guess at the preprocessing, beside what says whether it is right: pictures and float accuracy.

use egui::containers::menu::{MenuButton, MenuConfig};
use egui::{
    ColorImage, Image, Label, PopupCloseBehavior, RichText, TextEdit, TextureHandle,
    TextureOptions, vec2,
};

use crate::data::Preprocess;
use crate::plan::Fingerprint;
use crate::session::{Action, OpenData, Preview, Session};
use crate::ui::{format, theme};

/// Side of a picture in points.
const SIDE: f32 = 56.0;
/// Data whose preprocessing was confirmed, that is remembered.
const CONFIRMED_LENGTH: usize = 50;

/// Preprocessings that have a name, with what they are.
const NAMED: [(&str, &str); 4] = [
    (
        "imagenet",
        "ImageNet's mean and deviation, as torchvision takes them",
    ),
    ("unit", "0 to 1"),
    ("signed", "−1 to 1"),
    ("raw", "0 to 255, as in the file"),
];

/// What the card remembers.
#[derive(Default)]
pub(crate) struct PreprocessCard {
    /// Fingerprints of data whose preprocessing the user found right, oldest first.
    pub(crate) confirmed: Vec<String>,
    /// The pictures of the open data.
    pictures: Option<(Fingerprint, Vec<TextureHandle>)>,
    /// What is typed instead.
    typed: String,
    problem: Option<String>,
}

impl std::fmt::Debug for PreprocessCard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreprocessCard")
            .field("confirmed", &self.confirmed.len())
            .finish_non_exhaustive()
    }
}

impl PreprocessCard {
    fn is_confirmed(&self, data: &OpenData) -> bool {
        self.confirmed.contains(&data.fingerprint.0)
    }

    fn confirm(&mut self, data: &OpenData) {
        self.confirmed.push(data.fingerprint.0.clone());
        if self.confirmed.len() > CONFIRMED_LENGTH {
            self.confirmed.remove(0);
        }
    }

    /// The pictures as textures, loaded once.
    fn textures(
        &mut self,
        ui: &egui::Ui,
        data: &OpenData,
        previews: &[Preview],
    ) -> &[TextureHandle] {
        let known = self.pictures.as_ref().is_some_and(|(of, pictures)| {
            *of == data.fingerprint && pictures.len() == previews.len()
        });
        if !known {
            let pictures = previews
                .iter()
                .map(|preview| texture(ui, preview))
                .collect();
            self.pictures = Some((data.fingerprint.clone(), pictures));
        }
        self.pictures
            .as_ref()
            .map_or(&[], |(_, pictures)| pictures.as_slice())
    }
}

fn texture(ui: &egui::Ui, preview: &Preview) -> TextureHandle {
    let picture = &preview.picture;
    let size = [picture.width as usize, picture.height as usize];
    let image = ColorImage::from_rgba_unmultiplied(size, &picture.rgba);
    ui.ctx()
        .load_texture(preview.name.as_str(), image, TextureOptions::NEAREST)
}

/// The card; nothing where the preprocessing was chosen or confirmed and accuracy does not speak against it.
pub(super) fn preprocess_card_ui(
    ui: &mut egui::Ui,
    session: &Session,
    card: &mut PreprocessCard,
    actions: &mut Vec<Action>,
) {
    let Some(data) = session.data() else {
        return;
    };
    let doubtful = session.is_near_chance();
    let guessed = data.preprocess_guess.is_some();
    if card.is_confirmed(data) || !(guessed || doubtful) {
        return;
    }
    theme::card(ui).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal_top(|ui| {
            pictures_ui(ui, session, card, data);
            ui.vertical(|ui| {
                text_ui(ui, session, data, doubtful);
                ui.horizontal_wrapped(|ui| {
                    change_ui(ui, card, actions);
                    if ui
                        .button("It is right")
                        .on_hover_text("Hide this card for these data")
                        .accessible_name("The preprocessing is right")
                        .clicked()
                    {
                        card.confirm(data);
                    }
                });
            });
        });
    });
    ui.add_space(4.0);
}

fn pictures_ui(ui: &mut egui::Ui, session: &Session, card: &mut PreprocessCard, data: &OpenData) {
    let previews = session.previews();
    for (texture, preview) in card.textures(ui, data, previews).iter().zip(previews) {
        let class = preview.class.as_deref().unwrap_or("no label");
        ui.add(Image::new(texture).fit_to_exact_size(vec2(SIDE, SIDE)))
            .on_hover_text(format!("{class}\n{}\nas the network sees it", preview.name));
    }
}

fn text_ui(ui: &mut egui::Ui, session: &Session, data: &OpenData, doubtful: bool) {
    let palette = theme::palette(ui);
    let title = RichText::new("Is the preprocessing right?").strong();
    ui.label(if doubtful {
        title.color(palette.warn)
    } else {
        title
    });
    let accuracy = match (session.float(), session.chance()) {
        (Some((reference, _)), Some(chance)) => reference.metrics.top1().map(|top1| {
            format!(
                "Float accuracy {}, chance {}",
                format::percent(top1),
                format::percent(chance)
            )
        }),
        _ => None,
    };
    let accuracy = match (accuracy, doubtful) {
        (Some(text), true) => format!("{text}: hardly better than guessing"),
        (Some(text), false) => text,
        (None, _) => "Float accuracy is not known yet".to_owned(),
    };
    let color = if doubtful {
        palette.warn
    } else {
        ui.visuals().text_color()
    };
    ui.add(Label::new(RichText::new(accuracy).color(color)).wrap());
    let guess = data.preprocess_guess.as_deref().unwrap_or("Chosen");
    let text = format!("{}. {guess}", data.preprocess);
    ui.add(Label::new(RichText::new(text).small().color(palette.weak)).wrap());
}

/// Other preprocessings: those with a name, and any other as text.
fn change_ui(ui: &mut egui::Ui, card: &mut PreprocessCard, actions: &mut Vec<Action>) {
    let behavior = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let menu = MenuButton::new("Change preprocessing…").config(behavior);
    menu.ui(ui, |ui| {
        ui.set_max_width(360.0);
        for (name, what) in NAMED {
            if ui.button(format!("{name}: {what}")).clicked()
                && let Ok(preprocess) = name.parse()
            {
                actions.push(Action::SetPreprocess(preprocess));
                ui.close();
            }
        }
        ui.separator();
        let field = ui
            .add(
                TextEdit::singleline(&mut card.typed)
                    .hint_text("mean=0.5;std=0.5;channels=bgr")
                    .desired_width(240.0),
            )
            .accessible_name("Other preprocessing");
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        if ui.button("Apply").clicked() || entered {
            match card.typed.trim().parse::<Preprocess>() {
                Ok(preprocess) => {
                    card.problem = None;
                    actions.push(Action::SetPreprocess(preprocess));
                    ui.close();
                }
                Err(error) => card.problem = Some(error.to_string()),
            }
        }
        if let Some(problem) = &card.problem {
            let bad = theme::palette(ui).bad;
            ui.add(Label::new(RichText::new(problem.as_str()).color(bad)).wrap());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_preprocessing() {
        for (name, _) in NAMED {
            let preprocess: Preprocess = name.parse().unwrap();
            assert_eq!(preprocess.to_string(), name);
        }
    }
}
