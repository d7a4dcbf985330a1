//! Choosing a width, and showing one as a coloured chip.

use egui::{Button, Popup, RichText, Sense, vec2};

use crate::quant::{BitWidth, NumberFormat};
use crate::ui::{format, theme};

/// Widths in the order of the menu, wide to narrow.
pub(crate) fn all_widths() -> Vec<NumberFormat> {
    let int = |bits| BitWidth::new(bits).ok().map(NumberFormat::Int);
    [NumberFormat::F32, NumberFormat::BF16, NumberFormat::F16]
        .into_iter()
        .chain([16, 8, 7, 6, 5, 4, 3, 2, 1].into_iter().filter_map(int))
        .collect()
}

/// The width that all have, if they agree.
pub(crate) fn common_width(mut widths: impl Iterator<Item = NumberFormat>) -> Option<NumberFormat> {
    let first = widths.next()?;
    widths.all(|width| width == first).then_some(first)
}

/// The entries of a width menu; the one that was chosen.
pub(crate) fn width_items_ui(
    ui: &mut egui::Ui,
    current: Option<NumberFormat>,
) -> Option<NumberFormat> {
    let mut chosen = None;
    for width in all_widths() {
        let response = ui.selectable_label(current == Some(width), format::width(width));
        if response.clicked() {
            chosen = Some(width);
            ui.close();
        }
    }
    chosen
}

/// A chip with the width on its colour; it opens a menu, and the width that was chosen comes back.
///
/// `name` is for screen readers, for example `Weight bits of conv1`.
pub(crate) fn width_chip_ui(
    ui: &mut egui::Ui,
    name: &str,
    current: NumberFormat,
) -> (egui::Response, Option<NumberFormat>) {
    let ground = theme::width_color(current);
    let text = RichText::new(current.to_string());
    let button = match ground {
        Some(ground) => Button::new(text.color(theme::text_on(ground)).strong()).fill(ground),
        None => Button::new(text),
    };
    let response = ui
        .scope(|ui| {
            ui.spacing_mut().button_padding = vec2(3.0, 0.0);
            ui.spacing_mut().interact_size.y = 18.0;
            // It is clicked for the menu, and dragged to carry its width over other rows.
            ui.add_sized(vec2(34.0, 18.0), button.sense(Sense::click_and_drag()))
        })
        .inner
        .accessible_name(name);
    let chosen = Popup::menu(&response)
        .show(|ui| width_items_ui(ui, Some(current)))
        .and_then(|shown| shown.inner);
    (response, chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_width_needs_agreement() {
        let [four, eight] = [4, 8].map(|bits| NumberFormat::Int(BitWidth::new(bits).unwrap()));
        assert_eq!(common_width([four, four].into_iter()), Some(four));
        assert_eq!(common_width([four, eight].into_iter()), None);
        assert_eq!(common_width(std::iter::empty()), None);
    }
}
