//! The menu of a row of the layer table.

use super::rounding_menu::{CommonRounding, rounding_submenu_ui};
use super::width_menu::width_items_ui;
use crate::model::{Layer, LayerId};
use crate::plan::LayerPlan;
use crate::quant::NumberFormat;
use crate::session::{Action, LayerEdit, Session};
use crate::ui::{format, theme};

/// The row that was clicked, and the layers that its edits are meant for.
#[derive(Debug)]
pub(super) struct MenuTarget<'a> {
    pub(super) id: LayerId,
    pub(super) layer: &'a Layer,
    pub(super) choice: &'a LayerPlan,
    /// The whole selection where the row belongs to it.
    pub(super) layers: Vec<LayerId>,
}

/// Widths, lock, selections that begin at this row, and its name for the clipboard.
pub(super) fn layer_menu_ui(
    ui: &mut egui::Ui,
    session: &Session,
    target: &MenuTarget<'_>,
    actions: &mut Vec<Action>,
) {
    let heading = match target.layers.len() {
        1 => target.layer.name.clone(),
        count => format!("{count} selected layers"),
    };
    ui.label(egui::RichText::new(heading).color(theme::palette(ui).weak));
    let mut edit = None;
    ui.menu_button("Weight bits", |ui| {
        let current = Some(target.choice.weight.format);
        edit = width_items_ui(ui, current).map(LayerEdit::WeightFormat);
    });
    ui.menu_button("Activation bits", |ui| {
        let current = Some(target.choice.activation.format);
        if let Some(format) = width_items_ui(ui, current) {
            edit = Some(LayerEdit::ActivationFormat(format));
        }
    });
    if target.choice.weight.format != NumberFormat::F32 {
        let common = CommonRounding::of(std::iter::once(target.choice));
        edit = edit.or(rounding_submenu_ui(ui, "Rounding", common));
    }
    let locked = target.choice.locked;
    if ui.button(if locked { "Unlock" } else { "Lock" }).clicked() {
        edit = Some(LayerEdit::Locked(!locked));
        ui.close();
    }
    if let Some(edit) = edit {
        actions.push(Action::Edit {
            layers: target.layers.clone(),
            edit,
        });
    }
    ui.separator();
    if let Some(selection) = selections_ui(ui, session, target) {
        actions.push(Action::Select(selection));
    }
    ui.separator();
    if ui.button("Copy name").clicked() {
        ui.copy_text(target.layer.name.clone());
        ui.close();
    }
}

/// What was chosen to be selected, with the row's layer in front.
fn selections_ui(
    ui: &mut egui::Ui,
    session: &Session,
    target: &MenuTarget<'_>,
) -> Option<Vec<LayerId>> {
    let width = target.choice.weight.format;
    let mut chosen = None;
    let text = format!("Select all with weights of {}", format::width(width));
    if ui.button(text).clicked() {
        let layers = (0..).map(LayerId).zip(session.plan().layers());
        chosen = Some(
            layers
                .filter(|(_, choice)| choice.weight.format == width)
                .map(|(id, _)| id)
                .collect::<Vec<_>>(),
        );
        ui.close();
    }
    let layers = session.model()?.layers();
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    for (block, members) in blocks(&target.layer.name, &names) {
        let text = format!("Select block {block} ({} layers)", members.len());
        if ui.button(text).clicked() {
            chosen = Some(members);
            ui.close();
        }
    }
    let mut selection = vec![target.id];
    selection.extend(chosen?.into_iter().filter(|id| *id != target.id));
    Some(selection)
}

/// Beginnings of a name that it shares with some of the others, but not with all, outer ones first.
fn blocks<'a>(name: &'a str, names: &[&str]) -> Vec<(&'a str, Vec<LayerId>)> {
    let separator = if name.contains('/') { '/' } else { '.' };
    let mut blocks: Vec<(&str, Vec<LayerId>)> = Vec::new();
    for (end, _) in name.match_indices(separator).filter(|(end, _)| *end > 0) {
        // With its separator, so that `layer1` is no beginning of `layer10`.
        let Some((block, beginning)) = name.get(..end).zip(name.get(..=end)) else {
            continue;
        };
        let members: Vec<LayerId> = (0..)
            .map(LayerId)
            .zip(names)
            .filter(|(_, other)| other.starts_with(beginning))
            .map(|(id, _)| id)
            .collect();
        let is_known = blocks.last().is_some_and(|(_, outer)| *outer == members);
        if members.len() > 1 && members.len() < names.len() && !is_known {
            blocks.push((block, members));
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_beginnings_that_some_share() {
        let names = [
            "/net/layer1/a/conv",
            "/net/layer1/b/conv",
            "/net/layer1/b/add",
            "/net/layer10/conv",
        ];
        let ids = |ids: &[u32]| ids.iter().copied().map(LayerId).collect::<Vec<_>>();
        assert_eq!(
            blocks(names[1], &names),
            [
                ("/net/layer1", ids(&[0, 1, 2])),
                ("/net/layer1/b", ids(&[1, 2]))
            ]
        );
        assert_eq!(blocks(names[3], &names), []);
        assert_eq!(
            blocks("l1.conv", &["l1.conv", "l1.fc", "fc"]),
            [("l1", ids(&[0, 1]))]
        );
    }
}
