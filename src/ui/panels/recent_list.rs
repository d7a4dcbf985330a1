//! Models that were opened before, with a picture of their data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use egui::{
    Align, Button, ColorImage, Image, Label, Layout, RichText, Sense, TextureHandle,
    TextureOptions, vec2,
};

use crate::data::Thumbnail;
use crate::session::{Action, DataRequest, Recent, Session};
use crate::ui::theme;

/// Side of a picture in points.
const SIDE: f32 = 28.0;

/// The pictures of the list on the graphics card.
#[derive(Default)]
pub(super) struct RecentPictures(BTreeMap<PathBuf, (Thumbnail, TextureHandle)>);

impl std::fmt::Debug for RecentPictures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RecentPictures")
            .field(&self.0.len())
            .finish()
    }
}

impl RecentPictures {
    /// The texture of an entry, loaded once for each picture.
    fn of(&mut self, ui: &egui::Ui, recent: &Recent) -> Option<&TextureHandle> {
        let picture = recent.picture.as_ref()?;
        let known = self.0.get(&recent.model);
        if known.is_none_or(|(of, _)| of != picture) {
            let size = [picture.width as usize, picture.height as usize];
            let image = ColorImage::from_rgba_unmultiplied(size, &picture.rgba);
            let name = recent.model.to_string_lossy();
            let texture = ui.ctx().load_texture(name, image, TextureOptions::NEAREST);
            self.0
                .insert(recent.model.clone(), (picture.clone(), texture));
        }
        self.0.get(&recent.model).map(|(_, texture)| texture)
    }
}

/// The list, newest first.
pub(super) fn recent_ui(
    ui: &mut egui::Ui,
    session: &Session,
    pictures: &mut RecentPictures,
    actions: &mut Vec<Action>,
) {
    for (index, recent) in session.recent().iter().enumerate() {
        ui.push_id(("recent", index), |ui| {
            recent_item_ui(ui, session, recent, pictures, actions);
        });
    }
}

fn recent_item_ui(
    ui: &mut egui::Ui,
    session: &Session,
    recent: &Recent,
    pictures: &mut RecentPictures,
    actions: &mut Vec<Action>,
) {
    let name = file_name(&recent.model);
    let gone = session.is_missing(&recent.model);
    let data_gone = recent
        .data
        .as_ref()
        .is_some_and(|data| session.is_missing(data));
    let row = vec2(ui.available_width(), SIDE.max(ui.spacing().interact_size.y));
    ui.allocate_ui_with_layout(row, Layout::right_to_left(Align::Center), |ui| {
        let remove = ui
            .small_button("Remove")
            .on_hover_text("Take it out of this list; the file stays where it is")
            .accessible_name(format!("Remove {name} from the list"));
        if remove.clicked() {
            actions.push(Action::ForgetRecent(recent.model.clone()));
        }
        let palette = theme::palette(ui);
        if data_gone && !gone {
            ui.label(RichText::new("data missing").color(palette.warn));
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            picture_ui(ui, recent, pictures);
            if gone {
                let text = format!("{name} is missing: {}", recent.model.display());
                ui.add(Label::new(RichText::new(text).color(palette.weak)).truncate());
            } else {
                open_recent_ui(ui, recent, &name, actions);
            }
        });
    });
}

/// The picture, or its empty place, so that the names stand below each other.
fn picture_ui(ui: &mut egui::Ui, recent: &Recent, pictures: &mut RecentPictures) {
    let size = vec2(SIDE, SIDE);
    match pictures.of(ui, recent) {
        Some(texture) => {
            let image = Image::new(texture).maintain_aspect_ratio(true);
            ui.add_sized(size, image.fit_to_exact_size(size));
        }
        None => {
            ui.allocate_exact_size(size, Sense::hover());
        }
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn open_recent_ui(ui: &mut egui::Ui, recent: &Recent, name: &str, actions: &mut Vec<Action>) {
    let detail = match &recent.data {
        Some(data) => format!("{name}  on {}", data.display()),
        None => format!(
            "{name}  in {}",
            recent.model.parent().unwrap_or(&recent.model).display()
        ),
    };
    let response = ui
        .add(Button::new(detail).frame(false).truncate())
        .on_hover_text(recent.model.display().to_string());
    if response.clicked() {
        actions.push(match &recent.data {
            _ if recent
                .model
                .extension()
                .is_some_and(|extension| extension == "qscope") =>
            {
                Action::OpenProject(recent.model.clone())
            }
            Some(data) => Action::OpenModelWithData(
                recent.model.clone(),
                DataRequest {
                    calibration: recent.calibration.clone(),
                    ..DataRequest::new(data.clone())
                },
            ),
            None => Action::OpenModel(recent.model.clone()),
        });
    }
}
