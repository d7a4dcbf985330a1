//! Layer names that are too long for their place, and labels in front of fields.

use egui::{Align, FontId, Label, Layout, vec2};

/// A name that fits a width: one that is too long loses its beginning, which it shares with others.
pub(crate) fn shortened(ui: &egui::Ui, name: &str, font: &FontId, width: f32) -> String {
    let fits = |text: &str| {
        let galley =
            ui.painter()
                .layout_no_wrap(text.to_owned(), font.clone(), egui::Color32::PLACEHOLDER);
        galley.size().x <= width
    };
    without_beginning(name, fits)
}

fn without_beginning(name: &str, fits: impl Fn(&str) -> bool) -> String {
    if fits(name) {
        return name.to_owned();
    }
    let starts: Vec<usize> = name.char_indices().map(|(start, _)| start).collect();
    let tail = |start: &usize| format!("…{}", name.get(*start..).unwrap_or_default());
    let cut = starts.partition_point(|start| !fits(&tail(start)));
    starts.get(cut).map_or_else(|| "…".to_owned(), tail)
}

/// A label of fixed width in front of a field, so that fields below each other line up.
pub(super) fn field_label_ui(ui: &mut egui::Ui, text: &str, width: f32) -> egui::Response {
    let size = vec2(width, ui.spacing().interact_size.y);
    ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
        ui.set_min_size(size);
        ui.add(Label::new(text).truncate())
    })
    .inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_end() {
        let fits = |length| move |text: &str| text.chars().count() <= length;
        assert_eq!(without_beginning("conv1", fits(5)), "conv1");
        assert_eq!(without_beginning("/layer1/conv1", fits(6)), "…conv1");
        assert_eq!(without_beginning("ébène", fits(4)), "…ène");
        assert_eq!(without_beginning("conv1", fits(0)), "…");
    }
}
