//! Choosing how weights are rounded, and what is corrected with that.

use egui::containers::menu::{MenuConfig, SubMenuButton};
use egui::{Button, Popup, PopupCloseBehavior};

use crate::plan::{Correction, Corrections, LayerPlan, Rounding};
use crate::quant::NumberFormat;
use crate::session::LayerEdit;

/// What a way of rounding does, in a sentence.
pub(crate) fn rounding_hint(rounding: Rounding) -> &'static str {
    match rounding {
        Rounding::Nearest => "Each weight takes the nearest level; needs no data",
        Rounding::Gptq => {
            "Later weights make up for the rounding errors of earlier ones, on calibration data"
        }
        Rounding::Descent => {
            "GPTQ, then weights and scales are moved until the layer's output gets no better"
        }
        Rounding::AdaRound => {
            "Each weight is rounded up or down, as gradient descent on the layer's output decides; slower than the others"
        }
        Rounding::Auto => {
            "Tries all of it with and without corrections, and takes what gives the least error of the layer's output on calibration samples that were held out"
        }
    }
}

/// What a correction does, in a sentence.
pub(crate) fn correction_hint(one: Correction) -> &'static str {
    match one {
        Correction::Bias => "The bias takes up the mean error of the layer's output",
        Correction::Refit => {
            "Before rounding, weights are fitted to give the float output on the inputs as they are under the plan"
        }
        Correction::Equalize => {
            "Channels of this layer and of its neighbour are scaled to the same range; choose it for both"
        }
    }
}

/// A way of rounding as it is shown: `auto`, `gptq + bias, refit`.
pub(crate) fn rounding_text(choice: &LayerPlan) -> String {
    if choice.weight.format == NumberFormat::F32 {
        return "–".to_owned();
    }
    if choice.corrections == Corrections::NONE {
        return choice.rounding.to_string();
    }
    let names = Correction::ALL
        .into_iter()
        .filter(|one| choice.corrections.has(*one))
        .map(Correction::name);
    let names: Vec<&str> = names.collect();
    format!("{} + {}", choice.rounding, names.join(", "))
}

/// What all layers have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommonRounding {
    /// The way of rounding, if they agree.
    pub(crate) rounding: Option<Rounding>,
    /// What is corrected in all of them.
    pub(crate) corrections: Corrections,
}

impl CommonRounding {
    /// Of no layer, nothing.
    pub(crate) fn of<'a>(mut layers: impl Iterator<Item = &'a LayerPlan>) -> Self {
        let Some(first) = layers.next() else {
            return Self {
                rounding: None,
                corrections: Corrections::NONE,
            };
        };
        let mut common = Self {
            rounding: Some(first.rounding),
            corrections: first.corrections,
        };
        for layer in layers {
            common.rounding = common.rounding.filter(|same| *same == layer.rounding);
            for one in Correction::ALL {
                let both = common.corrections.has(one) && layer.corrections.has(one);
                common.corrections.set(one, both);
            }
        }
        common
    }
}

/// The entries of a menu of roundings; the one that was chosen.
pub(crate) fn rounding_items_ui(ui: &mut egui::Ui, common: CommonRounding) -> Option<LayerEdit> {
    let mut chosen = None;
    for rounding in Rounding::ALL {
        let response = ui
            .selectable_label(common.rounding == Some(rounding), rounding.name())
            .on_hover_text(rounding_hint(rounding));
        if response.clicked() {
            chosen = Some(LayerEdit::Rounding(rounding));
            ui.close();
        }
    }
    ui.separator();
    for one in Correction::ALL {
        let mut on = common.corrections.has(one);
        let text = format!("correct: {}", one.name());
        let response = ui
            .checkbox(&mut on, text)
            .on_hover_text(correction_hint(one));
        if response.changed() {
            chosen = Some(LayerEdit::Correct(one, on));
        }
    }
    chosen
}

/// A button with the rounding on it; it opens a menu, and what was chosen comes back.
///
/// `name` is for screen readers, for example `Rounding of conv1`.
pub(super) fn rounding_chip_ui(
    ui: &mut egui::Ui,
    name: &str,
    text: &str,
    choice: &LayerPlan,
) -> Option<LayerEdit> {
    let response = ui
        .scope(|ui| {
            ui.spacing_mut().button_padding = egui::vec2(3.0, 0.0);
            ui.spacing_mut().interact_size.y = 18.0;
            let width = ui.available_width();
            ui.add_sized([width, 18.0], Button::new(text).truncate())
        })
        .inner
        .on_hover_text(text)
        .accessible_name(name);
    let common = CommonRounding::of(std::iter::once(choice));
    Popup::menu(&response)
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .show(|ui| rounding_items_ui(ui, common))
        .and_then(|shown| shown.inner)
}

/// A submenu that stays open while corrections are ticked.
pub(super) fn rounding_submenu_ui(
    ui: &mut egui::Ui,
    title: &str,
    common: CommonRounding,
) -> Option<LayerEdit> {
    let stays_open = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let (_, inner) = SubMenuButton::new(title)
        .config(stays_open)
        .ui(ui, |ui| rounding_items_ui(ui, common));
    inner.and_then(|inner| inner.inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_in_common_what_all_of_them_have() {
        let layer = |rounding, corrections: &str| LayerPlan {
            rounding,
            corrections: corrections.parse().unwrap(),
            ..LayerPlan::with_widths("4/8".parse().unwrap())
        };
        let one = layer(Rounding::Auto, "none");
        let two = layer(Rounding::Gptq, "bias,refit");
        let three = layer(Rounding::Gptq, "bias");
        assert_eq!(rounding_text(&two), "gptq + bias, refit");
        let both = CommonRounding::of([&two, &three].into_iter());
        assert_eq!(both.rounding, Some(Rounding::Gptq));
        assert_eq!(both.corrections, "bias".parse().unwrap());
        let all = CommonRounding::of([&one, &two, &three].into_iter());
        assert_eq!(all.rounding, None);
        assert_eq!(all.corrections, Corrections::NONE);
    }
}
