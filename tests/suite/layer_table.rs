//! The layer table, driven by the names that a screen reader would read.

use egui::Role;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use quantscope::engine::{Protocol, SensitivityRequest, Subject};
use quantscope::model::LayerId;
use quantscope::session::{Action, LayerEdit};

use crate::frame::Stored;
use crate::window::{Window, apply, open_sample, session, wait_until, window};

fn opened() -> Window {
    let mut window = window(egui::Theme::Dark);
    open_sample(&mut window);
    window
}

fn name(window: &Window, layer: usize) -> String {
    session(window).model().unwrap().layers()[layer]
        .name
        .clone()
}

fn weight_bits(window: &Window, layers: usize) -> Vec<String> {
    let plan = session(window).plan().layers();
    plan.iter()
        .take(layers)
        .map(|layer| layer.weight.format.to_string())
        .collect()
}

fn set_weights(window: &mut Window, layer: u32, bits: &str) {
    let edit = LayerEdit::WeightFormat(bits.parse().unwrap());
    let layers = vec![LayerId(layer)];
    apply(window, Action::Edit { layers, edit });
}

fn chip(window: &Window, layer: usize) -> egui::Rect {
    let label = format!("Weight bits of {}", name(window, layer));
    window.get_by_label(&label).rect()
}

fn open_menu(window: &mut Window, layer: usize) {
    let label = format!("Weight bits of {}", name(window, layer));
    window.get_by_label(&label).click_secondary();
    window.run_steps(3);
}

fn click_button(window: &mut Window, label: &str) {
    window.get_by_role_and_label(Role::Button, label).click();
    window.run_steps(3);
}

#[test]
fn a_width_that_is_dragged_over_rows_is_one_step_of_undo() {
    let mut window = opened();
    set_weights(&mut window, 1, "3");
    window.run_steps(2);
    let (from, to) = (chip(&window, 1).center(), chip(&window, 3).center());
    window.hover_at(from);
    window.drag_at(from);
    window.step();
    window.hover_at(to);
    window.run_steps(2);
    assert_eq!(
        weight_bits(&window, 5),
        ["8", "3", "8", "8", "8"],
        "nothing changes before the button is let go"
    );
    window.drop_at(to);
    window.run_steps(3);
    assert_eq!(weight_bits(&window, 5), ["8", "3", "3", "3", "8"]);
    window.get_by_label("Undo").click();
    window.run_steps(2);
    assert_eq!(weight_bits(&window, 5), ["8", "3", "8", "8", "8"]);
}

#[test]
fn a_click_on_a_chip_still_opens_its_menu() {
    let mut window = opened();
    let label = format!("Weight bits of {}", name(&window, 2));
    window.get_by_label(&label).click();
    window.run_steps(3);
    click_button(&mut window, "5 bits");
    assert_eq!(weight_bits(&window, 4), ["8", "8", "5", "8"]);
}

#[test]
fn columns_are_hidden_and_stay_so() {
    let mut first = opened();
    let titles = |window: &Window| window.query_all_by_label("Sort by SQNR").count();
    let before = titles(&first);
    click_button(&mut first, "Columns");
    first.get_by_label("Show column SQNR").click();
    first.run_steps(3);
    assert_eq!(titles(&first), before - 1);
    let mut stored = Stored::default();
    let app = first.state_mut().as_mut().unwrap();
    eframe::App::save(app, &mut stored);

    let mut second = opened();
    assert_eq!(titles(&second), before);
    let ctx = second.ctx.clone();
    let app = second.state_mut().as_mut().unwrap();
    app.restore(&stored, &ctx);
    second.run_steps(3);
    assert_eq!(titles(&second), before - 1);
    click_button(&mut second, "Columns");
    click_button(&mut second, "Reset columns");
    assert_eq!(titles(&second), before);
}

#[test]
fn the_menu_of_a_row_edits_and_selects() {
    let mut window = opened();
    open_menu(&mut window, 2);
    click_button(&mut window, "Lock");
    assert!(session(&window).plan().layers()[2].locked);
    open_menu(&mut window, 2);
    click_button(&mut window, "Unlock");
    assert!(!session(&window).plan().layers()[2].locked);

    open_menu(&mut window, 2);
    click_button(&mut window, "Weight bits");
    click_button(&mut window, "4 bits");
    assert_eq!(weight_bits(&window, 4), ["8", "8", "4", "8"]);
    set_weights(&mut window, 0, "4");
    open_menu(&mut window, 2);
    click_button(&mut window, "Select all with weights of 4 bits");
    assert_eq!(session(&window).selection(), [LayerId(2), LayerId(0)]);

    open_menu(&mut window, 2);
    window
        .get_by_role_and_label(Role::Button, "Copy name")
        .click();
    window.step();
    let copied = egui::OutputCommand::CopyText(name(&window, 2));
    assert!(window.output().platform_output.commands.contains(&copied));
}

#[test]
fn a_block_is_selected_by_the_beginning_of_its_name() {
    let mut window = opened();
    let count = session(&window).plan().layers().len();
    let in_block = (0..count)
        .find(|layer| name(&window, *layer).contains("layer1"))
        .unwrap();
    open_menu(&mut window, in_block);
    let label = {
        let node = window.get_all_by_label_contains("Select block").next();
        node.unwrap().accesskit_node().label().unwrap()
    };
    click_button(&mut window, &label);
    let selected = session(&window).selection();
    assert_eq!(selected[0].index(), in_block);
    assert!(selected.len() > 1 && selected.len() < count, "{label}");
    for id in selected {
        assert!(name(&window, id.index()).contains("layer1"), "{label}");
    }
}

#[test]
fn a_sweep_is_read_in_every_row() {
    let mut window = opened();
    let shown = |window: &Window| {
        window
            .query_all_by_label_contains("Sensitivity of ")
            .count()
    };
    assert_eq!(shown(&window), 0);
    let widths = ["8", "2"].map(|bits| bits.parse().unwrap()).to_vec();
    let request = SensitivityRequest {
        protocol: Protocol::OnlyOne,
        subject: Subject::Weights,
        widths,
    };
    apply(&mut window, Action::RunSensitivity(request));
    wait_until(&mut window, "the sweep", |session| {
        session
            .sensitivity()
            .is_some_and(|sweep| sweep.samples == sweep.total)
    });
    click_button(&mut window, "Columns");
    for column in ["SQNR", "Size", "Lock"] {
        let label = format!("Show column {column}");
        window.get_by_label(&label).click();
        window.run_steps(2);
    }
    window.key_press(egui::Key::Escape);
    window.run_steps(3);
    let first = format!("Sensitivity of {}: 8 bits: ", name(&window, 0));
    let node = window.get_by_label_contains(&first);
    let text = node.accesskit_node().label().unwrap();
    assert!(
        text.contains("; 2 bits: ") && text.contains(" dB"),
        "{text}"
    );
}
