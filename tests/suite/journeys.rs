//! What people come for, from the first click to the last, by the names that a screen reader would read.

use egui::{Key, Modifiers, Pos2, Vec2, ViewportCommand, ViewportEvent, ViewportId, vec2};
use egui_kittest::kittest::Queryable as _;
use quantscope::model::LayerId;
use quantscope::session::{Action, DataRequest, HistoryEntry, Session, bundled_samples};

use crate::common::sample;
use crate::frame::{Stored, find_command, stored};
use crate::window::{
    Window, apply, measured, open_sample, session, tall_window, wait_until, window,
};

/// The sample, measured to the end, in a window that shows all of the inspector.
fn opened() -> Window {
    let mut window = tall_window(egui::Theme::Dark);
    open_sample(&mut window);
    window
}

#[track_caller]
fn click(window: &mut Window, label: &str) {
    click_with(window, label, Modifiers::NONE);
}

#[track_caller]
fn click_with(window: &mut Window, label: &str, modifiers: Modifiers) {
    window.get_by_label(label).click_modifiers(modifiers);
    window.run_steps(3);
}

/// Opens a menu or a list by its name, and takes an entry of it.
#[track_caller]
fn choose(window: &mut Window, list: &str, entry: &str) {
    click(window, list);
    let entries = window.query_all_by_label(entry);
    entries.last().unwrap().click();
    window.run_steps(3);
}

fn press(window: &mut Window, modifiers: Modifiers, key: Key) {
    window.key_press_modifiers(modifiers, key);
    window.run_steps(2);
}

/// Presses at a point, moves in two strides and stays there with the button down.
fn drag(window: &mut Window, from: Pos2, by: Vec2) {
    window.hover_at(from);
    window.step();
    window.drag_at(from);
    window.step();
    for share in [0.5, 1.0] {
        window.hover_at(from + share * by);
        window.run_steps(2);
    }
}

fn let_go(window: &mut Window, at: Pos2) {
    window.drop_at(at);
    window.run_steps(3);
}

fn name(window: &Window, layer: usize) -> String {
    let layers = session(window).model().unwrap().layers();
    layers[layer].name.clone()
}

/// Names of the layers as the table shows them, from top to bottom.
fn rows(window: &Window) -> Vec<String> {
    let layers = session(window).model().unwrap().layers().iter();
    let mut rows: Vec<(f32, String)> = layers
        .filter_map(|layer| {
            let label = format!("Layer {}", layer.name);
            let top = window.query_by_label(&label)?.rect().top();
            Some((top, layer.name.clone()))
        })
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.into_iter().map(|(_, name)| name).collect()
}

/// Selects rows of the table: a click, then clicks with Ctrl.
fn select(window: &mut Window, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        let modifiers = if index == 0 {
            Modifiers::NONE
        } else {
            Modifiers::COMMAND
        };
        click_with(window, &format!("Layer {name}"), modifiers);
    }
}

fn accuracy(session: &Session) -> f64 {
    session.result().unwrap().evaluation.plan.top1().unwrap()
}

/// Waits until the inspector shows the plan as it is.
fn wait_for_inspector(window: &mut Window) {
    wait_until(window, "the layer", |session| {
        session.inspection().is_some_and(|inspection| {
            session.plan().layer(inspection.layer) == Some(&inspection.choice)
                && inspection.activation.is_some()
                && session.tried_clip().is_none()
        })
    });
}

/// Asks the window to close, as its frame does; what the program answers in the same frame.
fn ask_to_close(window: &mut Window) -> Vec<ViewportCommand> {
    let viewports = &mut window.input_mut().viewports;
    let root = viewports.entry(ViewportId::ROOT).or_default();
    root.events.push(ViewportEvent::Close);
    window.step();
    let answer = commands(window);
    window.run_steps(2);
    answer
}

fn commands(window: &Window) -> Vec<ViewportCommand> {
    let output = window.output().viewport_output.get(&ViewportId::ROOT);
    output.map_or_else(Vec::new, |root| root.commands.clone())
}

#[test]
fn first_open() {
    let mut window = window(egui::Theme::Light);
    window.run_steps(3);
    let first = bundled_samples().remove(0);
    click(&mut window, &format!("Open sample {}", first.name));
    wait_until(&mut window, "the first result", measured);
    for label in [
        "Float accuracy (top-1)",
        "Plan accuracy (top-1)",
        "Size",
        "Is the preprocessing right?",
        "Dismiss hint of Layers",
    ] {
        assert!(window.query_all_by_label(label).next().is_some(), "{label}");
    }
    assert_eq!(rows(&window)[0], name(&window, 0));
    assert!(session(&window).inspection().is_some());
    assert!(session(&window).messages().is_empty());
    assert!(!session(&window).is_modified());
}

#[test]
fn five_layers_are_tuned_to_meet_a_size() {
    let mut window = opened();
    let budget = session(&window).cost().unwrap().size_bytes * 2 / 3;
    click(&mut window, "Sort by Size");
    click(&mut window, "Sort by Size");
    let largest = rows(&window)[..5].to_vec();
    select(&mut window, &largest);
    let mut bits = Vec::new();
    for key in [Key::Num6, Key::Num5, Key::Num4] {
        press(&mut window, Modifiers::NONE, key);
        let cost = session(&window).cost().unwrap();
        bits.push(cost.average_weight_bits);
        if cost.size_bytes <= budget {
            break;
        }
    }
    assert!(
        session(&window).cost().unwrap().size_bytes <= budget,
        "{bits:?}"
    );
    wait_until(&mut window, "the smaller plan", measured);
    let plan = session(&window).plan().layers();
    let narrow = plan.iter().filter(|layer| layer.weight.format.bits() < 8);
    assert_eq!(narrow.count(), 5);
    let agreement = session(&window).result().unwrap().evaluation.comparison;
    assert!(agreement.agreement().unwrap() > 0.8, "{agreement:?}");
}

#[test]
fn a_collapsed_accuracy_is_traced_to_its_two_worst_layers() {
    let mut window = tall_window(egui::Theme::Light);
    window.step();
    let request = DataRequest {
        calibration: Some(sample("signs/calib")),
        calibration_samples: 16,
        limit: Some(192),
        ..DataRequest::new(sample("signs/eval"))
    };
    let action = Action::OpenModelWithData(sample("signs-resnet.onnx"), request);
    apply(&mut window, action);
    wait_until(&mut window, "the first result", measured);
    let at_eight = accuracy(session(&window));
    press(&mut window, Modifiers::COMMAND, Key::A);
    press(&mut window, Modifiers::NONE, Key::Num3);
    wait_until(&mut window, "the result at three bits", measured);
    let at_three = accuracy(session(&window));
    assert!(at_three < at_eight - 0.08, "{at_eight} to {at_three}");

    click(&mut window, "Sensitivity");
    click(&mut window, "Run sweep");
    wait_until(&mut window, "the sweep", |session| {
        session
            .sensitivity()
            .is_some_and(|sweep| sweep.samples == sweep.total)
    });
    click(&mut window, "Sort by Sweep");
    let worst = rows(&window)[..2].to_vec();
    select(&mut window, &worst);
    press(&mut window, Modifiers::NONE, Key::Num8);
    wait_until(&mut window, "the result with two layers raised", measured);
    let raised = accuracy(session(&window));
    assert!(
        raised > at_three + 0.04,
        "{at_three} to {raised}: {worst:?}"
    );
}

#[test]
fn a_clip_handle_is_dragged() {
    let mut window = opened();
    let second = name(&window, 1);
    select(&mut window, &[second]);
    wait_for_inspector(&mut window);
    let clip = |session: &Session| {
        let measured = session.inspection().unwrap().activation.as_ref();
        session.tried_clip().or(measured).unwrap().clone()
    };
    let before = clip(session(&window));
    let plan = session(&window).plan().clone();
    let handle = window.get_by_label("Upper clip handle").rect().center();
    drag(&mut window, handle, vec2(-80.0, 0.0));
    let tried = clip(session(&window));
    assert!(tried.clip.max() < before.clip.max());
    assert!(
        tried.clipped > before.clipped,
        "{} is clipped",
        tried.clipped
    );
    assert_ne!(tried.sqnr_db, before.sqnr_db);
    assert_eq!(
        session(&window).plan(),
        &plan,
        "nothing is chosen before the end is let go"
    );

    let_go(&mut window, handle + vec2(-80.0, 0.0));
    let chosen = session(&window).plan().layers()[1]
        .activation
        .range_override;
    assert_eq!(chosen, Some(tried.clip));
    wait_until(&mut window, "the result", measured);
    wait_for_inspector(&mut window);
    assert_eq!(clip(session(&window)).sqnr_db, tried.sqnr_db);
    assert_eq!(session(&window).history().len(), 2);
    press(&mut window, Modifiers::COMMAND, Key::Z);
    assert_eq!(session(&window).plan(), &plan, "a drag is one step");
}

#[test]
fn two_plans_are_compared() {
    let mut window = opened();
    press(&mut window, Modifiers::COMMAND, Key::A);
    press(&mut window, Modifiers::NONE, Key::Num2);
    wait_until(&mut window, "the second plan", measured);
    let layers = session(&window).plan().layers().len();
    click(&mut window, "More for W8 A8");
    click(&mut window, "Compare with current");
    window.get_by_label(&format!("{layers} of {layers} differ"));
    let widths = |text| window.query_all_by_label(text).count();
    assert_eq!(widths("W 8 to 2"), layers);
    click(&mut window, "Swap A and B");
    assert_eq!(window.query_all_by_label("W 2 to 8").count(), layers);
    window.get_by_label_contains(" changed").click();
    window.run_steps(3);
    window.get_by_label_contains("Comparing A, W2 A8");
}

/// One change of the plan, by one of the ways that there are.
type Step = (&'static str, fn(&mut Window));

/// Twenty changes, no two of a kind.
const STEPS: [Step; 20] = [
    ("a digit", |window| {
        press(window, Modifiers::NONE, Key::Num4);
    }),
    ("a digit with Shift", |window| {
        press(window, Modifiers::SHIFT, Key::Num5);
    }),
    ("a letter", |window| press(window, Modifiers::NONE, Key::H)),
    ("the chip of the weight", |window| {
        let chip = format!("Weight bits of {}", name(window, 1));
        choose(window, &chip, "5 bits");
    }),
    ("the chip of the activation", |window| {
        let chip = format!("Activation bits of {}", name(window, 2));
        choose(window, &chip, "6 bits");
    }),
    ("a chip dragged over rows", |window| {
        let place = |row| format!("Weight bits of {}", name(window, row));
        let [from, to] = [1, 4].map(|row| window.get_by_label(&place(row)).rect().center());
        drag(window, from, to - from);
        let_go(window, to);
    }),
    ("the menu of a row", |window| {
        let chip = format!("Weight bits of {}", name(window, 5));
        window.get_by_label(&chip).click_secondary();
        window.run_steps(3);
        click(window, "Lock");
    }),
    ("a tick", |window| {
        let tick = format!("Lock {}", name(window, 6));
        click(window, &tick);
    }),
    ("the toolbar, weights", |window| {
        choose(window, "Weight bits of the selected layers", "7 bits");
    }),
    ("the toolbar, activations", |window| {
        choose(window, "Activation bits of the selected layers", "7 bits");
    }),
    ("a preset", |window| {
        choose(window, "Preset of the plan", "W4A8");
    }),
    ("the palette", |window| {
        find_command(window, "set weights to 6 bits");
        press(window, Modifiers::NONE, Key::Enter);
    }),
    ("the scheme of the weight", |window| {
        choose(window, "Weight scheme", "asymmetric");
    }),
    ("the granularity", |window| {
        choose(window, "Weight granularity", "per-tensor");
    }),
    ("the range of the weight", |window| {
        choose(window, "Weight calibrator", "mse");
    }),
    ("the scheme of the activation", |window| {
        choose(window, "Activation scheme", "symmetric");
    }),
    ("the calibrator of the activation", |window| {
        choose(window, "Activation calibrator", "entropy");
    }),
    ("a clip handle", |window| {
        let handle = window.get_by_label("Upper clip handle").rect().center();
        drag(window, handle, vec2(-60.0, 0.0));
        let_go(window, handle + vec2(-60.0, 0.0));
    }),
    ("the clip range reset", |window| click(window, "Reset")),
    ("a plan of the history", |window| {
        // A result that comes in meanwhile would move the rows.
        wait_until(window, "the result", measured);
        click(window, "Restore W8 A8");
    }),
];

#[test]
fn twenty_steps_of_every_kind_are_undone_and_redone() {
    let mut window = opened();
    let mut plans = vec![session(&window).plan().clone()];
    for (what, step) in STEPS {
        wait_for_inspector(&mut window);
        step(&mut window);
        let plan = session(&window).plan().clone();
        assert_ne!(plans.last(), Some(&plan), "{what} changed nothing");
        plans.push(plan);
    }
    for index in (0..STEPS.len()).rev() {
        press(&mut window, Modifiers::COMMAND, Key::Z);
        assert_eq!(
            session(&window).plan(),
            &plans[index],
            "{} back",
            STEPS[index].0
        );
    }
    assert!(!session(&window).can_undo());
    for (index, (what, _)) in STEPS.iter().enumerate() {
        press(&mut window, Modifiers::COMMAND, Key::Y);
        assert_eq!(session(&window).plan(), &plans[index + 1], "{what} again");
    }
    assert!(!session(&window).can_redo());
}

#[test]
fn nothing_is_asked_before_closing_if_nothing_changed() {
    let mut window = opened();
    assert!(ask_to_close(&mut window).is_empty());
    assert!(window.query_by_label("Keep working").is_none());
}

#[test]
fn closing_with_unsaved_work_is_asked_about() {
    let mut window = opened();
    press(&mut window, Modifiers::NONE, Key::Num4);
    let plan = session(&window).plan().clone();
    let held = [ViewportCommand::CancelClose];
    assert_eq!(ask_to_close(&mut window), held);
    press(&mut window, Modifiers::NONE, Key::Num2);
    assert_eq!(
        session(&window).plan(),
        &plan,
        "keys belong to the question"
    );
    click(&mut window, "Keep working");
    assert!(window.query_by_label("Keep working").is_none());

    assert_eq!(ask_to_close(&mut window), held);
    window.get_by_label("Close without saving").click();
    window.run_steps(1);
    assert_eq!(commands(&window), [ViewportCommand::Close]);
    assert!(ask_to_close(&mut window).is_empty());
}

#[test]
fn work_that_cannot_be_saved_keeps_the_window_open() {
    let mut window = opened();
    press(&mut window, Modifiers::NONE, Key::Num4);
    ask_to_close(&mut window);
    type_over(&mut window, "Project file", "/no/such/folder/work.qscope");
    click(&mut window, "Save and close");
    wait_until(&mut window, "the message", |session| {
        !session.messages().is_empty()
    });
    assert!(commands(&window).is_empty());
    window.get_by_label_contains("Failed: ");
    assert_eq!(ask_to_close(&mut window), [ViewportCommand::CancelClose]);
}

/// Replaces the text of a field.
fn type_over(window: &mut Window, field: &str, text: &str) {
    window.get_by_label(field).focus();
    window.run_steps(2);
    press(window, Modifiers::COMMAND, Key::A);
    window.get_by_label(field).type_text(text);
    window.run_steps(2);
}

#[test]
fn work_is_saved_closed_reopened_and_found_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("signs.qscope");
    let (looks, plan, history) = work_and_close(&project);

    let mut window = tall_window(egui::Theme::Dark);
    window.run_steps(2);
    let ctx = window.ctx.clone();
    let app = window.state_mut().as_mut().unwrap();
    app.restore(&looks, &ctx);
    window.run_steps(3);
    window.get_by_label_contains("signs.qscope  in ").click();
    wait_until(&mut window, "the result of the plan", measured);

    let session = session(&window);
    assert_eq!(session.plan(), &plan);
    assert_eq!(session.history(), history);
    assert_eq!(session.selection(), [LayerId(2), LayerId(0)]);
    assert!(!session.is_modified());
    window.get_by_label("pinned");
    assert!(
        window.query_by_label("Sort by SQNR").is_none(),
        "a hidden column"
    );
    assert!(window.query_by_label("Dismiss hint of Layers").is_none());
    assert!(window.query_by_label("Compare").is_none(), "a hidden panel");
    assert_eq!(window.ctx.theme(), egui::Theme::Light);
}

/// Makes a plan, names, pins, selects, arranges the window, and saves on the way out.
fn work_and_close(
    project: &std::path::Path,
) -> (Stored, quantscope::plan::Plan, Vec<HistoryEntry>) {
    let mut window = opened();
    let [first, third] = [0, 2].map(|layer| name(&window, layer));
    select(&mut window, &[first, third]);
    press(&mut window, Modifiers::NONE, Key::Num3);
    wait_until(&mut window, "the second plan", measured);
    click(&mut window, "More for W8 A8");
    click(&mut window, "Rename…");
    type_over(&mut window, "Name of W8 A8", "all eight");
    press(&mut window, Modifiers::NONE, Key::Enter);
    click(&mut window, "More for all eight");
    click(&mut window, "Pin");
    click(&mut window, "Dismiss hint of Layers");
    click(&mut window, "Columns");
    click(&mut window, "Show column SQNR");
    press(&mut window, Modifiers::NONE, Key::Escape);
    for letters in ["light theme", "show or hide compare"] {
        find_command(&mut window, letters);
        press(&mut window, Modifiers::NONE, Key::Enter);
    }

    ask_to_close(&mut window);
    type_over(&mut window, "Project file", project.to_str().unwrap());
    window.get_by_label("Save and close").click();
    while commands(&window) != [ViewportCommand::Close] {
        assert!(session(&window).messages().is_empty(), "it was not saved");
        window.step();
    }
    let looks = stored(&mut window);
    let session = session(&window);
    (looks, session.plan().clone(), session.history().to_vec())
}
