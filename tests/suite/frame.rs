//! The frame around the panels: layout, palette, list of keys, hints, log and toasts.

use std::collections::BTreeMap;

use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use quantscope::session::{Action, Recent};

use crate::common::sample;
use crate::window::{Window, session, wait_until, window, window_of};

/// A window with a model and no data: nothing runs.
fn with_model() -> Window {
    let mut window = window(egui::Theme::Dark);
    window.step();
    apply(&mut window, Action::OpenModel(sample("signs-resnet.onnx")));
    wait_until(&mut window, "the first layer", |session| {
        session.inspection().is_some()
    });
    window
}

fn apply(window: &mut Window, action: Action) {
    window.state_mut().as_mut().unwrap().apply(action);
}

/// Opens the palette, types, and draws the answer.
pub(crate) fn find_command(window: &mut Window, letters: &str) {
    window.key_press_modifiers(Modifiers::COMMAND, Key::K);
    window.run_steps(2);
    window.get_by_label("Find a command").type_text(letters);
    window.run_steps(2);
}

fn is_there(window: &Window, label: &str) -> bool {
    window.query_all_by_label(label).next().is_some()
}

/// What the window would write to disk.
#[derive(Default)]
pub(crate) struct Stored(BTreeMap<String, String>);

impl eframe::Storage for Stored {
    fn get_string(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn set_string(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }

    fn remove_string(&mut self, key: &str) {
        self.0.remove(key);
    }

    fn flush(&mut self) {}
}

pub(crate) fn stored(window: &mut Window) -> Stored {
    let mut stored = Stored::default();
    let app = window.state_mut().as_mut().unwrap();
    eframe::App::save(app, &mut stored);
    stored
}

/// A new window that remembers what was stored, with the same model.
fn reopened(stored: &Stored) -> Window {
    let mut window = with_model();
    let ctx = window.ctx.clone();
    let app = window.state_mut().as_mut().unwrap();
    app.restore(stored, &ctx);
    window.run_steps(3);
    window
}

#[test]
fn the_palette_runs_a_command_by_a_few_letters() {
    let mut window = with_model();
    find_command(&mut window, "preset w4a4");
    window.key_press(Key::Enter);
    window.run_steps(2);
    assert!(!is_there(&window, "Find a command"));
    let layers = session(&window).plan().layers();
    assert!(
        layers
            .iter()
            .all(|layer| layer.weight.format.to_string() == "4")
    );
}

#[test]
fn the_palette_offers_what_cannot_be_used_but_does_not_run_it() {
    let mut window = with_model();
    let before = session(&window).plan_fingerprint().clone();
    find_command(&mut window, "undo");
    window.key_press(Key::Enter);
    window.run_steps(2);
    assert!(is_there(&window, "Find a command"));
    assert_eq!(*session(&window).plan_fingerprint(), before);
    window.key_press(Key::Escape);
    window.run_steps(2);
    assert!(!is_there(&window, "Find a command"));
}

#[test]
fn arrows_choose_in_the_palette_and_not_in_the_table() {
    let mut window = with_model();
    let before = session(&window).selection().to_vec();
    find_command(&mut window, "theme");
    window.key_press(Key::ArrowDown);
    window.key_press(Key::ArrowUp);
    window.key_press(Key::Enter);
    window.run_steps(2);
    assert_eq!(session(&window).selection(), before);
}

#[test]
fn a_hidden_panel_comes_back_with_the_first_layout() {
    let mut window = with_model();
    assert!(is_there(&window, "Inspector"));
    window.key_press_modifiers(Modifiers::COMMAND | Modifiers::SHIFT, Key::I);
    window.run_steps(3);
    assert!(!is_there(&window, "Inspector"));
    let mut window = reopened(&stored(&mut window));
    assert!(!is_there(&window, "Inspector"), "the layout is remembered");
    find_command(&mut window, "reset layout");
    window.key_press(Key::Enter);
    window.run_steps(3);
    assert!(is_there(&window, "Inspector"));
}

#[test]
fn a_key_goes_to_each_panel() {
    let mut window = with_model();
    window.key_press_modifiers(Modifiers::COMMAND, Key::Num8);
    window.run_steps(3);
    window.get_by_label("Only what is not quantized");
}

#[test]
fn the_list_of_keys_opens_with_a_question_mark_and_closes_with_escape() {
    let mut window = with_model();
    window.key_press(Key::Questionmark);
    window.run_steps(3);
    window.get_by_label("Set that many bits");
    window.key_press(Key::Escape);
    window.run_steps(3);
    assert!(!is_there(&window, "Set that many bits"));
}

#[test]
fn a_question_mark_in_a_field_is_text() {
    let mut window = with_model();
    window.get_by_label("Filter layers").focus();
    window.run_steps(2);
    window.key_press(Key::Questionmark);
    window.run_steps(3);
    assert!(!is_there(&window, "Set that many bits"));
}

#[test]
fn a_dismissed_hint_stays_away_until_hints_are_asked_for() {
    let mut window = with_model();
    let hint = "Dismiss hint of Overview";
    window.get_by_label(hint).click();
    window.run_steps(2);
    assert!(!is_there(&window, hint) && is_there(&window, "Dismiss hint of Layers"));
    let mut window = reopened(&stored(&mut window));
    assert!(!is_there(&window, hint));
    find_command(&mut window, "show hints");
    window.key_press(Key::Enter);
    window.run_steps(2);
    assert!(is_there(&window, hint));
}

#[test]
fn zoom_is_remembered() {
    let mut window = with_model();
    for _ in 0..2 {
        window.key_press_modifiers(Modifiers::COMMAND, Key::Plus);
        window.run_steps(2);
    }
    assert_eq!(window.ctx.zoom_factor(), 1.25);
    let window = reopened(&stored(&mut window));
    assert_eq!(window.ctx.zoom_factor(), 1.25);
}

#[test]
fn a_dismissed_error_is_still_in_the_log() {
    let mut window = window(egui::Theme::Light);
    window.step();
    apply(&mut window, Action::OpenModel(sample("no-such-model.onnx")));
    wait_until(&mut window, "the message", |session| {
        !session.messages().is_empty()
    });
    window.get_by_label("Mend: Open model…");
    window.get_by_label("Dismiss").click();
    window.run_steps(2);
    assert!(!is_there(&window, "Failed: Open model"));
    window.get_by_label("Message log").click();
    window.run_steps(3);
    window.get_by_label("Failed: Open model");
    window.get_by_label("Close message log").click();
    window.run_steps(3);
    assert!(!is_there(&window, "Failed: Open model"));
}

#[test]
fn what_was_done_is_told_for_a_few_seconds() {
    let mut window = with_model();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    apply(&mut window, Action::ExportPlan(path));
    wait_until(&mut window, "the toast", |session| {
        !session.messages().is_empty()
    });
    window.get_by_label("Done: Export plan");
    // The clock of the harness goes a quarter of a second a step.
    window.run_steps(30);
    assert!(!is_there(&window, "Done: Export plan"));
    assert_eq!(session(&window).log().len(), 1);
}

#[test]
fn a_recent_model_that_is_gone_is_told_and_can_be_removed() {
    let mut window = window(egui::Theme::Light);
    window.step();
    let gone = Recent::of(sample("gone.onnx"));
    let looks = serde_json::json!({ "recent": [gone] }).to_string();
    let stored = Stored([("looks".to_owned(), looks)].into());
    let ctx = window.ctx.clone();
    let app = window.state_mut().as_mut().unwrap();
    app.restore(&stored, &ctx);
    wait_until(&mut window, "the look at the disk", |session| {
        session.is_missing(&sample("gone.onnx"))
    });
    window.get_by_label_contains("gone.onnx is missing");
    window
        .get_by_label("Remove gone.onnx from the list")
        .click();
    window.run_steps(2);
    assert!(session(&window).recent().is_empty());
}

#[test]
fn large_text_leaves_every_button_of_the_toolbar_in_the_window() {
    let size = [960.0, 540.0];
    let mut window = window_of(Harness::builder(), size, egui::Theme::Dark);
    window.step();
    apply(
        &mut window,
        Action::OpenModel(sample("signs-mobilenet.onnx")),
    );
    wait_until(&mut window, "the first layer", |session| {
        session.inspection().is_some()
    });
    let screen = egui::Rect::from_min_size(egui::Pos2::ZERO, size.into());
    let buttons = ["Undo", "Redo", "Run", "Cancel", "Preset of the plan"];
    let rects: Vec<egui::Rect> = buttons
        .iter()
        .map(|name| window.get_by_label(name).rect())
        .collect();
    for (index, (name, rect)) in buttons.iter().zip(&rects).enumerate() {
        assert!(screen.contains_rect(*rect), "{name} is at {rect:?}");
        for other in &rects[index + 1..] {
            assert!(!rect.intersects(*other), "{name} is covered");
        }
    }
}
