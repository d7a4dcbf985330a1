//! What a click on a box selects.

use egui::Modifiers;

use crate::model::LayerId;

/// The selection after a click on a box with these layers, the clicked ones first.
///
/// Ctrl adds the layers, or takes them out where all are selected; Shift adds them.
pub(super) fn after_click(
    selected: &[LayerId],
    clicked: &[LayerId],
    modifiers: Modifiers,
) -> Vec<LayerId> {
    let others = selected.iter().filter(|layer| !clicked.contains(layer));
    let all_selected = clicked.iter().all(|layer| selected.contains(layer));
    if modifiers.command && all_selected {
        others.copied().collect()
    } else if modifiers.command || modifiers.shift {
        clicked.iter().chain(others).copied().collect()
    } else {
        clicked.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_extend_the_selection() {
        let ids = |ids: &[u32]| ids.iter().copied().map(LayerId).collect::<Vec<_>>();
        for (selected, clicked, modifiers, expected) in [
            (vec![1, 2], vec![3], Modifiers::NONE, vec![3]),
            (vec![1, 2], vec![3], Modifiers::COMMAND, vec![3, 1, 2]),
            (vec![1, 2], vec![2], Modifiers::COMMAND, vec![1]),
            (vec![1, 2], vec![2], Modifiers::SHIFT, vec![2, 1]),
            (vec![1, 2], vec![2, 3], Modifiers::COMMAND, vec![2, 3, 1]),
            (vec![], vec![5, 6], Modifiers::SHIFT, vec![5, 6]),
        ] {
            assert_eq!(
                after_click(&ids(&selected), &ids(&clicked), modifiers),
                ids(&expected),
                "{selected:?} {clicked:?} {modifiers:?}"
            );
        }
    }
}
