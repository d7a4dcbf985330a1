//! The inspector, driven by the names that a screen reader would read.

use egui_kittest::kittest::Queryable as _;
use quantscope::model::LayerId;
use quantscope::session::{Action, LayerEdit, Session};

use crate::window::{Window, apply, open_sample, session, tall_window, wait_until};

/// The sample with a layer selected and looked into.
fn inspected(layer: u32) -> Window {
    let mut window = tall_window(egui::Theme::Dark);
    open_sample(&mut window);
    apply(&mut window, Action::Select(vec![LayerId(layer)]));
    wait_for_choice(&mut window);
    window
}

/// Waits until what is shown belongs to the plan as it is.
fn wait_for_choice(window: &mut Window) {
    let is_current = |session: &Session| {
        session.inspection().is_some_and(|inspection| {
            session.plan().layer(inspection.layer) == Some(&inspection.choice)
                && inspection.activation.is_some()
        })
    };
    wait_until(window, "the layer", is_current);
}

fn set_weights(window: &mut Window, layer: u32, bits: &str) {
    let edit = LayerEdit::WeightFormat(bits.parse().unwrap());
    let layers = vec![LayerId(layer)];
    apply(window, Action::Edit { layers, edit });
    wait_for_choice(window);
}

#[test]
fn a_changed_width_shows_its_numbers_beside_those_before() {
    let mut window = inspected(1);
    let is_shown = |window: &Window| {
        window
            .query_all_by_label_contains("Before and after")
            .next()
            .is_some()
    };
    assert!(!is_shown(&window));
    set_weights(&mut window, 1, "3");
    assert!(is_shown(&window));
    window.get_by_label("8, 8");
    window.get_by_label("3, 8");
    let sqnr = |session: &Session| {
        let before = session.inspection_before().unwrap();
        let after = session.inspection().unwrap();
        [before, after].map(|inspection| inspection.weight.errors.unwrap().sqnr_db())
    };
    let [before, after] = sqnr(session(&window));
    assert!(
        before > after + 20.0,
        "five bits less: {before} and {after} dB"
    );
    for shown in [before, after] {
        let shown = format!("{shown:.1} dB");
        assert!(
            window.query_all_by_label(&shown).next().is_some(),
            "{shown}"
        );
    }
    window.get_by_label("Undo").click();
    window.run_steps(2);
    wait_for_choice(&mut window);
    assert_eq!(sqnr(session(&window)), [after, before]);
    apply(&mut window, Action::Select(vec![LayerId(2)]));
    wait_for_choice(&mut window);
    assert!(!is_shown(&window), "another layer has no numbers before");
}

#[test]
fn the_numbers_of_a_layer_are_copied_as_a_table() {
    let mut window = inspected(1);
    window.get_by_label("Copy as numbers").click();
    window.step();
    let commands = &window.output().platform_output.commands;
    let text = commands
        .iter()
        .find_map(|command| match command {
            egui::OutputCommand::CopyText(text) => Some(text),
            _ => None,
        })
        .unwrap();
    let inspection = session(&window).inspection().unwrap();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim_start().to_owned()
    };
    let errors = inspection.weight.errors.unwrap();
    assert_eq!(value("weight SQNR dB\t"), errors.sqnr_db().to_string());
    let levels = inspection.weight.levels.unwrap();
    assert_eq!(
        value("weight levels available\t"),
        levels.available.to_string()
    );
    let rows: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("channel\t"))
        .skip(1)
        .collect();
    assert_eq!(rows.len(), inspection.weight.channels.len());
    let first = inspection.weight.channels[0];
    let fields: Vec<&str> = rows[0].split('\t').collect();
    assert_eq!(fields.len(), 6);
    assert_eq!(fields[1], first.range.min().to_string());
    assert_eq!(fields[3], first.scale.unwrap().to_string());
}

#[test]
fn levels_are_counted_among_those_that_the_grids_offer() {
    let mut window = inspected(1);
    set_weights(&mut window, 1, "2");
    let weight = &session(&window).inspection().unwrap().weight;
    let levels = weight.levels.unwrap();
    assert!(
        levels.used > 0 && levels.used <= levels.available,
        "{levels:?}"
    );
    let text = format!("{} of {} levels used", levels.used, levels.available);
    window.get_by_label(&text);
}
