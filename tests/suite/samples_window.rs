//! Samples, history and comparison in the window, driven by the names that a screen reader would read.

use egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use quantscope::model::LayerId;
use quantscope::session::{Action, DataRequest, HistoryEntry, LayerEdit, Session};

use crate::common::{sample, shared};
use crate::window::{Window, apply, measured, open_sample, session, tall_window, wait_until};

/// The sample with weights of so many bits, with the Samples tab open.
fn samples_tab(bits: &str) -> Window {
    let mut window = tall_window(egui::Theme::Dark);
    open_sample(&mut window);
    let count = session(&window).plan().layers().len() as u32;
    set_weights(&mut window, (0..count).map(LayerId).collect(), bits);
    wait_until(&mut window, "the plan", measured);
    click(&mut window, "Samples");
    window
}

fn set_weights(window: &mut Window, layers: Vec<LayerId>, bits: &str) {
    let edit = LayerEdit::WeightFormat(bits.parse().unwrap());
    apply(window, Action::Edit { layers, edit });
}

fn click(window: &mut Window, label: &str) {
    window.get_by_label(label).click();
    window.run_steps(3);
}

/// Accessible names of the thumbnails that are drawn.
fn thumbnails(window: &Window) -> Vec<String> {
    names_with(window, "Sample ")
}

fn names_with(window: &Window, start: &str) -> Vec<String> {
    window
        .query_all_by_label_contains(start)
        .filter_map(|node| {
            let node = node.accesskit_node();
            node.label().or_else(|| node.value())
        })
        .filter(|text| text.starts_with(start))
        .collect()
}

/// Samples that are right in float and wrong under the plan.
fn right_to_wrong(session: &Session) -> usize {
    let (float, _) = session.float().unwrap();
    let plan = &session.result().unwrap().evaluation.predictions;
    float
        .predictions
        .iter()
        .zip(plan.iter())
        .filter(|(a, b)| a.is_right() == Some(true) && b.is_right() == Some(false))
        .count()
}

#[test]
fn each_filter_shows_as_many_samples_as_its_count_says() {
    let mut window = samples_tab("2");
    let expected = right_to_wrong(session(&window));
    assert!(
        expected > 0,
        "two bits must do harm for this test to tell anything"
    );
    for filter in [
        "Right to wrong",
        "Wrong to right",
        "Still wrong",
        "Changed",
        "Least certain",
        "All",
    ] {
        let text = names_with(&window, &format!("{filter} ")).remove(0);
        let count: usize = text.rsplit(' ').next().unwrap().parse().unwrap();
        click(&mut window, &text);
        let shown = thumbnails(&window);
        if filter == "Right to wrong" {
            assert_eq!(count, expected);
        }
        // Forty-eight thumbnails are more than the window holds.
        assert!(
            shown.len() == count || filter == "All" && shown.len() < count,
            "{filter}: {count} counted, {} shown",
            shown.len()
        );
    }
    wait_until(&mut window, "the thumbnails", |session| {
        let (float, _) = session.float().unwrap();
        let first = float.predictions.iter().take(8);
        first
            .into_iter()
            .all(|row| session.thumbnail(row.sample as usize).is_some())
    });
}

#[test]
fn a_sample_opens_large_and_arrows_step_through_the_filter() {
    let mut window = samples_tab("2");
    let count = right_to_wrong(session(&window));
    assert!(count > 1, "two samples are needed to step");
    click(&mut window, &format!("Right to wrong {count}"));
    let first = thumbnails(&window).remove(0);
    click(&mut window, &first);
    window.get_by_label(&format!("1 of {count}"));
    assert_eq!(names_with(&window, "Float: ").len(), 5);
    assert_eq!(names_with(&window, "Plan: ").len(), 5);
    for (key, expected) in [
        (Key::ArrowRight, 2),
        (Key::ArrowLeft, 1),
        (Key::ArrowLeft, 1),
    ] {
        window.key_press(key);
        window.run_steps(2);
        window.get_by_label(&format!("{expected} of {count}"));
    }
    let plan = session(&window).plan_fingerprint().clone();
    window.key_press(Key::Escape);
    window.run_steps(3);
    assert_eq!(thumbnails(&window).len(), count);
    assert_eq!(*session(&window).plan_fingerprint(), plan);
}

#[test]
fn a_cell_of_the_confusion_matrix_shows_its_samples() {
    let mut window = samples_tab("2");
    click(&mut window, "Confusion matrix");
    click(&mut window, "plan alone");
    let (_, cell, count) = window
        .query_all_by_label_contains(": float ")
        .filter_map(|node| {
            let name = node.accesskit_node().label()?;
            let (classes, counts) = name.split_once(": float ")?;
            let (label, predicted) = classes.split_once(" as ")?;
            let plan: usize = counts.rsplit(' ').next()?.parse().ok()?;
            (label != predicted && plan > 0).then_some((plan, name.clone(), plan))
        })
        .max()
        .unwrap();
    click(&mut window, &cell);
    assert_eq!(thumbnails(&window).len(), count);
    click(&mut window, "Show all cells");
    assert!(thumbnails(&window).len() > count);
}

#[test]
fn data_without_labels_has_agreement_filters_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut copied = 0;
    for class in std::fs::read_dir(sample("signs/eval")).unwrap().flatten() {
        if let Some(file) = std::fs::read_dir(class.path())
            .into_iter()
            .flatten()
            .flatten()
            .next()
        {
            std::fs::copy(file.path(), folder.path().join(format!("{copied}.png"))).unwrap();
            copied += 1;
        }
    }
    let mut window = tall_window(egui::Theme::Light);
    window.step();
    let request = DataRequest {
        calibration: Some(sample("signs/calib")),
        calibration_samples: 16,
        ..DataRequest::new(folder.path().to_owned())
    };
    apply(
        &mut window,
        Action::OpenModelWithData(sample("signs-resnet.onnx"), request),
    );
    wait_until(&mut window, "the first result", measured);
    click(&mut window, "Samples");
    window.get_by_label_contains("The data has no labels");
    assert!(window.query_by_label_contains("Right to wrong").is_none());
    assert!(window.query_by_label("Confusion matrix").is_none());
    assert_eq!(names_with(&window, "Changed ").len(), 1);
    assert_eq!(thumbnails(&window).len(), copied);
}

#[test]
fn without_data_the_tab_says_what_to_do() {
    let mut window = tall_window(egui::Theme::Light);
    window.step();
    apply(&mut window, Action::OpenModel(sample("signs-resnet.onnx")));
    wait_until(&mut window, "the model", |session| {
        session.model().is_some()
    });
    click(&mut window, "Samples");
    window.get_by_label("Samples need data");
    click(&mut window, "Compare");
    window.get_by_label_contains("Two measured plans are compared here");
}

#[test]
fn a_plan_is_named_pinned_restored_and_deleted() {
    let mut window = samples_tab("4");
    click(&mut window, "Overview");
    click(&mut window, "More for W8 A8");
    click(&mut window, "Rename…");
    let name = window.get_by_label("Name of W8 A8");
    name.type_text(" first");
    window.run_steps(2);
    window.key_press(Key::Enter);
    window.run_steps(3);
    assert_eq!(session(&window).history()[0].name, "W8 A8 first");
    assert!(session(&window).is_modified());

    click(&mut window, "More for W8 A8 first");
    click(&mut window, "Pin");
    assert!(session(&window).history()[0].pinned);
    window.get_by_label("pinned");

    let before = session(&window).plan_fingerprint().clone();
    click(&mut window, "Restore W8 A8 first");
    assert_eq!(
        *session(&window).plan_fingerprint(),
        session(&window).history()[0].fingerprint
    );
    window.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    window.run_steps(2);
    assert_eq!(*session(&window).plan_fingerprint(), before);

    wait_until(&mut window, "the plan again", measured);
    click(&mut window, "More for W4 A8");
    click(&mut window, "Delete");
    assert_eq!(session(&window).history().len(), 1);
    click(&mut window, "Bring it back");
    assert_eq!(session(&window).history()[1].name, "W4 A8");
}

#[test]
fn two_plans_are_compared_layer_by_layer_and_sample_by_sample() {
    let mut window = samples_tab("2");
    let layers = session(&window).model().unwrap().layers().to_vec();
    let rest = (4..layers.len() as u32).map(LayerId);
    set_weights(&mut window, rest.collect(), "8");
    wait_until(&mut window, "the mixed plan", measured);
    let changed = {
        let session = session(&window);
        let [_, a, b] = session.history() else {
            panic!("three plans were measured");
        };
        let of = |entry: &HistoryEntry| {
            let record = session.record(&entry.fingerprint).unwrap();
            let best = record
                .predictions
                .iter()
                .map(|row| row.best().unwrap().class);
            best.collect::<Vec<u32>>()
        };
        of(a).iter().zip(of(b)).filter(|(a, b)| **a != *b).count()
    };
    click(&mut window, "Compare");
    window.get_by_label(&format!("{} of {} differ", layers.len() - 4, layers.len()));
    assert_eq!(names_with(&window, "W 2 to 8").len(), layers.len() - 4);
    click(&mut window, "Differences only");
    assert!(window.query_by_label("same").is_none());
    assert!(
        changed > 0,
        "most layers from two to eight bits change predictions"
    );
    click(&mut window, &format!("Show {changed} changed"));
    window.get_by_label_contains("Comparing A, W2 A8");
    assert_eq!(thumbnails(&window).len(), changed);
    assert!(thumbnails(&window)[0].contains(", A "));
    click(&mut window, "Back to float and plan");
    assert!(thumbnails(&window)[0].contains(", F "));
}

#[test]
fn a_network_without_classes_still_shows_what_it_sees() {
    let (Some(model), Some(data)) = (shared("data/models/wnet-drive.onnx"), shared("data/drive"))
    else {
        return;
    };
    let mut window = tall_window(egui::Theme::Dark);
    window.step();
    let request = DataRequest {
        calibration_samples: 2,
        limit: Some(2),
        ..DataRequest::new(data)
    };
    apply(&mut window, Action::OpenModelWithData(model, request));
    wait_until(&mut window, "the first samples", |session| {
        session.float().is_some_and(|(float, _)| float.samples > 0)
    });
    click(&mut window, "Samples");
    window.get_by_label_contains("no list of classes");
    assert!(!thumbnails(&window).is_empty());
}
