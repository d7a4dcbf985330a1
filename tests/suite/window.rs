//! The window, driven by the names that a screen reader would read.
//!
//! The harness fails by itself when an input has no name or a character has no glyph.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use egui_kittest::{Harness, HarnessBuilder};
use quantscope::data::Preprocess;
use quantscope::session::{Action, DataRequest, Session};
use quantscope::ui::{App, apply_theme};

use crate::common::sample;

pub(crate) type Window = Harness<'static, Option<App>>;

/// A window of 1280 × 800 points on an empty session.
pub(crate) fn window(theme: egui::Theme) -> Window {
    window_of(Harness::builder(), [1280.0, 800.0], theme)
}

/// A window that holds many thumbnails.
pub(crate) fn tall_window(theme: egui::Theme) -> Window {
    window_of(Harness::builder(), [1600.0, 1800.0], theme)
}

pub(crate) fn apply(window: &mut Window, action: Action) {
    window.state_mut().as_mut().unwrap().apply(action);
    window.step();
}

pub(crate) fn window_of(
    builder: HarnessBuilder<Option<App>>,
    size: [f32; 2],
    theme: egui::Theme,
) -> Window {
    builder
        .with_size(size)
        .with_theme(theme)
        .with_context_setup(apply_theme)
        .build_ui_state(
            |ui, app: &mut Option<App>| {
                let app = app.get_or_insert_with(|| {
                    App::new(ui.ctx(), Session::new(2, Arc::new(|| {})).unwrap())
                });
                app.logic(ui.ctx());
                app.show(ui);
            },
            None,
        )
}

pub(crate) fn session(window: &Window) -> &Session {
    window.state().as_ref().unwrap().session()
}

/// Draws frames until the condition holds; fails after two minutes.
#[track_caller]
pub(crate) fn wait_until(window: &mut Window, what: &str, holds: impl Fn(&Session) -> bool) {
    let started = Instant::now();
    while !holds(session(window)) {
        assert!(
            started.elapsed() < Duration::from_mins(2),
            "waited in vain for {what}; messages: {:?}",
            session(window).messages()
        );
        window.step();
        std::thread::sleep(Duration::from_millis(5));
    }
    window.run_steps(2);
}

/// The sample on a few pictures, measured to the end.
pub(crate) fn open_sample(window: &mut Window) {
    begin_sample(window, None);
    wait_until(window, "the first result", measured);
}

/// Opens the sample on a few pictures without waiting for anything.
pub(crate) fn begin_sample(window: &mut Window, preprocess: Option<Preprocess>) {
    window.step();
    let request = DataRequest {
        preprocess,
        calibration: Some(sample("signs/calib")),
        calibration_samples: 16,
        limit: Some(48),
        ..DataRequest::new(sample("signs/eval"))
    };
    let action = Action::OpenModelWithData(sample("signs-resnet.onnx"), request);
    window.state_mut().as_mut().unwrap().apply(action);
}

pub(crate) fn measured(session: &Session) -> bool {
    session.result().is_some_and(|result| result.finished)
}

fn weight_bits(window: &Window) -> Vec<String> {
    let layers = session(window).plan().layers();
    layers
        .iter()
        .map(|layer| layer.weight.format.to_string())
        .collect()
}

#[test]
fn an_empty_window_offers_ways_to_begin() {
    for theme in [egui::Theme::Light, egui::Theme::Dark] {
        let mut window = window(theme);
        window.run_steps(3);
        for label in ["Open model…", "Model", "Data folder", "Calibration folder"] {
            assert!(window.query_all_by_label(label).next().is_some(), "{label}");
        }
        window.get_by_label_contains("Open a model to begin");
    }
}

#[test]
fn keys_set_the_widths_of_all_layers_and_undo_takes_them_back() {
    let mut window = window(egui::Theme::Dark);
    open_sample(&mut window);
    let before = session(&window).cost().unwrap().size_bytes;
    window.key_press_modifiers(Modifiers::COMMAND, Key::A);
    window.step();
    assert_eq!(
        session(&window).selection().len(),
        session(&window).plan().layers().len()
    );
    window.key_press(Key::Num4);
    window.step();
    assert!(
        weight_bits(&window).iter().all(|bits| bits == "4"),
        "{:?}",
        weight_bits(&window)
    );
    assert!(session(&window).cost().unwrap().size_bytes < before);
    wait_until(&mut window, "the result at four bits", measured);
    assert_eq!(session(&window).history().len(), 2);
    window.get_by_label("Undo").click();
    window.run_steps(2);
    assert!(weight_bits(&window).iter().all(|bits| bits == "8"));
    window.key_press_modifiers(Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    window.step();
    assert!(weight_bits(&window).iter().all(|bits| bits == "4"));
}

#[test]
fn a_plan_that_was_exported_comes_back() {
    let mut window = window(egui::Theme::Light);
    open_sample(&mut window);
    window.key_press(Key::Num3);
    window.step();
    let plan = session(&window).plan_fingerprint().clone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    let app = window.state_mut().as_mut().unwrap();
    app.apply(Action::ExportPlan(path.clone()));
    wait_until(&mut window, "the plan file", |_| path.is_file());
    window.get_by_label("Undo").click();
    window.run_steps(2);
    assert_ne!(*session(&window).plan_fingerprint(), plan);
    let app = window.state_mut().as_mut().unwrap();
    app.apply(Action::ImportPlan(path));
    wait_until(&mut window, "the imported plan", |session| {
        *session.plan_fingerprint() == plan
    });
}

#[test]
fn every_tab_draws_before_and_after_the_sweep() {
    let mut window = window(egui::Theme::Light);
    open_sample(&mut window);
    for tab in ["Coverage", "Open", "Graph", "Overview", "Sensitivity"] {
        window.get_by_label(tab).click();
        window.run_steps(3);
    }
    window.get_by_label("Run sweep").click();
    window.step();
    wait_until(&mut window, "the sweep", |session| {
        session
            .sensitivity()
            .is_some_and(|sweep| sweep.samples == sweep.total)
    });
    window.get_by_label("Output SQNR").click();
    window.run_steps(3);
}

#[test]
fn a_model_that_cannot_be_read_is_told_in_the_window() {
    let mut window = window(egui::Theme::Dark);
    window.step();
    let app = window.state_mut().as_mut().unwrap();
    app.apply(Action::OpenModel(sample("no-such-model.onnx")));
    wait_until(&mut window, "the message", |session| {
        !session.messages().is_empty()
    });
    window.get_by_label("Failed: Open model");
    window.get_by_label("Dismiss").click();
    window.run_steps(2);
    assert!(session(&window).messages().is_empty());
}
