//! The sensitivity tab, driven by the names that a screen reader would read.

use egui::accesskit::Role;
use egui_kittest::kittest::Queryable as _;
use quantscope::engine::{Protocol, SensitivityRequest, Subject};
use quantscope::session::{Action, Scored};

use crate::window::{apply, open_sample, session, wait_until, window};

#[test]
fn harm_is_sorted_and_scores_are_judged_by_a_sweep() {
    let mut window = window(egui::Theme::Light);
    open_sample(&mut window);
    window.get_by_label("Sensitivity").click();
    window.run_steps(3);
    apply(
        &mut window,
        Action::RunSensitivity(SensitivityRequest {
            protocol: Protocol::OnlyOne,
            subject: Subject::Weights,
            widths: vec!["4".parse().unwrap(), "2".parse().unwrap()],
        }),
    );
    wait_until(&mut window, "the sweep", |session| {
        session
            .sensitivity()
            .is_some_and(|sweep| sweep.samples >= 32)
    });
    window.get_by_label("Score layers by gradients").click();
    wait_until(
        &mut window,
        "the scores",
        |session| matches!(session.second_order(), Some(Scored::Found(found)) if found.samples == found.total),
    );
    window.run_steps(3);
    // Harm: the first row is the layer with the largest score.
    window.get_by_label("Harm").click();
    window.run_steps(3);
    window.get_by_label("Look at 2 bits").click();
    window.run_steps(3);
    let Some(Scored::Found(found)) = session(&window).second_order() else {
        panic!("no scores");
    };
    let column = found
        .widths
        .iter()
        .position(|width| width.bits() == 2)
        .unwrap();
    let score = |layer: usize| found.cells[layer][column].score().unwrap();
    let mut order: Vec<usize> = (0..found.cells.len()).collect();
    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
    let layers = session(&window).model().unwrap().layers();
    let heights: Vec<f32> = order
        .iter()
        .take(3)
        .map(|layer| {
            let name = &layers[*layer].name;
            let rows = window.get_all_by_role_and_label(Role::Button, name);
            // The map is the only list of layers whose rows are buttons.
            rows.map(|row| row.rect().top())
                .fold(f32::INFINITY, f32::min)
        })
        .collect();
    assert!(heights.is_sorted(), "{heights:?}");
    // Every cheap score is judged against every harm.
    window.get_by_label("Scores").click();
    window.run_steps(3);
    for pair in [
        "Second order against KL",
        "Weight SQNR against Accuracy drop",
        "Kurtosis against Output SQNR",
    ] {
        window.get_by_label(pair).click();
        window.run_steps(2);
    }
    for sight in ["Along the network", "Weights", "Bars", "Map"] {
        window.get_by_label(sight).click();
        window.run_steps(2);
    }
}
