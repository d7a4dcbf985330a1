//! Keys of the layer table: arrows move the selection, digits and letters set widths.

use egui::{Event, Key, Modifiers};

use crate::model::LayerId;
use crate::quant::{BitWidth, NumberFormat};
use crate::session::{Action, LayerEdit, Session};

/// Which width the keys set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyTarget {
    /// The weight.
    #[default]
    Weights,
    /// The input activation.
    Activations,
    /// Both.
    Both,
}

impl KeyTarget {
    pub(crate) const ALL: [Self; 3] = [Self::Weights, Self::Activations, Self::Both];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Weights => "W",
            Self::Activations => "A",
            Self::Both => "W+A",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weights => "Keys set the weight bits",
            Self::Activations => "Keys set the activation bits",
            Self::Both => "Keys set weight and activation bits",
        }
    }

    /// With Shift the keys set the other width.
    fn other(self) -> Self {
        match self {
            Self::Weights => Self::Activations,
            Self::Activations => Self::Weights,
            Self::Both => Self::Both,
        }
    }

    pub(super) fn edit(self, format: NumberFormat) -> LayerEdit {
        match self {
            Self::Weights => LayerEdit::WeightFormat(format),
            Self::Activations => LayerEdit::ActivationFormat(format),
            Self::Both => LayerEdit::BothFormats(format),
        }
    }
}

/// Width that a key stands for: 1 to 9, 0 for 16, `f` for f32, `h` for f16, `b` for bf16.
fn format_of(key: Key) -> Option<NumberFormat> {
    let bits = match key {
        Key::F => return Some(NumberFormat::F32),
        Key::H => return Some(NumberFormat::F16),
        Key::B => return Some(NumberFormat::BF16),
        Key::Num0 => 16,
        Key::Num1 => 1,
        Key::Num2 => 2,
        Key::Num3 => 3,
        Key::Num4 => 4,
        Key::Num5 => 5,
        Key::Num6 => 6,
        Key::Num7 => 7,
        Key::Num8 => 8,
        Key::Num9 => 9,
        _ => return None,
    };
    BitWidth::new(bits).ok().map(NumberFormat::Int)
}

/// Turns the keys of this frame into actions; nothing while text is edited or a menu is open.
pub(crate) fn layer_keys(
    ui: &egui::Ui,
    session: &Session,
    rows: &[LayerId],
    target: KeyTarget,
    actions: &mut Vec<Action>,
) {
    if ui.ctx().text_edit_focused() || egui::Popup::is_any_open(ui.ctx()) {
        return;
    }
    let pressed: Vec<(Key, Modifiers)> = ui.input(|input| {
        input
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Key {
                    key,
                    physical_key,
                    pressed: true,
                    modifiers,
                    ..
                } if !modifiers.command && !modifiers.alt => {
                    // Shift turns a digit into another character on most keyboards.
                    let digit = physical_key.filter(|_| format_of(*key).is_none());
                    Some((digit.unwrap_or(*key), *modifiers))
                }
                _ => None,
            })
            .collect()
    });
    // A focused control keeps its arrows.
    let arrows_are_free = ui.memory(|memory| memory.focused().is_none());
    for (key, modifiers) in pressed {
        if let Some(format) = format_of(key) {
            let target = if modifiers.shift {
                target.other()
            } else {
                target
            };
            if !session.selection().is_empty() {
                actions.push(Action::Edit {
                    layers: session.selection().to_vec(),
                    edit: target.edit(format),
                });
            }
        } else if arrows_are_free
            && let Some(selection) = moved(session.selection(), rows, key, modifiers.shift)
        {
            actions.push(Action::Select(selection));
        }
    }
}

/// The selection after an arrow key; the first entry is the layer that is shown.
fn moved(selection: &[LayerId], rows: &[LayerId], key: Key, extend: bool) -> Option<Vec<LayerId>> {
    let last = rows.len().checked_sub(1)?;
    let current = selection
        .first()
        .and_then(|id| rows.iter().position(|row| row == id));
    let target = match (key, current) {
        (Key::Home, _) | (Key::ArrowDown, None) => 0,
        (Key::End, _) | (Key::ArrowUp, None) => last,
        (Key::ArrowDown, Some(row)) => (row + 1).min(last),
        (Key::ArrowUp, Some(row)) => row.saturating_sub(1),
        _ => return None,
    };
    let id = *rows.get(target)?;
    let mut moved = vec![id];
    if extend {
        moved.extend(selection.iter().filter(|other| **other != id));
    }
    Some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_move_along_the_rows_that_are_shown() {
        let rows = [4, 2, 7].map(LayerId);
        let select = |ids: &[u32]| ids.iter().copied().map(LayerId).collect::<Vec<_>>();
        for (selection, key, extend, expected) in [
            (vec![2], Key::ArrowDown, false, vec![7]),
            (vec![7], Key::ArrowDown, false, vec![7]),
            (vec![2], Key::ArrowUp, true, vec![4, 2]),
            (vec![], Key::ArrowDown, false, vec![4]),
            (vec![9], Key::ArrowUp, false, vec![7]),
            (vec![2], Key::End, false, vec![7]),
        ] {
            assert_eq!(
                moved(&select(&selection), &rows, key, extend),
                Some(select(&expected)),
                "{selection:?} {key:?}"
            );
        }
        assert_eq!(moved(&[], &[], Key::ArrowDown, false), None);
        assert_eq!(moved(&[], &rows, Key::A, false), None);
    }

    #[test]
    fn keys_stand_for_widths() {
        let text = |key| format_of(key).map(|format| format.to_string());
        assert_eq!(text(Key::Num8).as_deref(), Some("8"));
        assert_eq!(text(Key::Num0).as_deref(), Some("16"));
        assert_eq!(text(Key::F).as_deref(), Some("f32"));
        assert_eq!(text(Key::G), None);
    }
}
