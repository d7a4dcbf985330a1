//! The Pareto tab: a live budget, a search that can be stopped, and points that stay.

use egui::Key;
use egui_kittest::kittest::Queryable as _;
use quantscope::search::{Axis, Goal, MeasuredPlan};
use quantscope::session::Action;

use crate::window::{Window, apply, measured, open_sample, session, wait_until, window};

fn open_tab(window: &mut Window) {
    open_sample(window);
    wait_until(window, "the errors of single layers", |session| {
        session
            .local_errors()
            .is_some_and(|errors| errors.samples > 0)
    });
    window.get_by_label("Pareto").click();
    window.run_steps(3);
}

fn lower_budget(window: &mut Window, steps: usize) {
    window.get_by_label("Budget of the plan").focus();
    window.step();
    for _ in 0..steps {
        window.key_press(Key::ArrowLeft);
        window.run_steps(2);
    }
}

#[test]
fn the_budget_is_solved_at_once_and_letting_go_makes_it_the_plan() {
    let mut window = window(egui::Theme::Dark);
    open_tab(&mut window);
    window.get_by_label_contains("No plan is measured yet");
    let before = session(&window).cost().unwrap().size_bytes;
    lower_budget(&mut window, 12);
    let after = session(&window).cost().unwrap();
    assert!(
        after.size_bytes < before,
        "{} of {before}",
        after.size_bytes
    );
    assert!(after.average_weight_bits < 8.0);
    assert!(session(&window).can_undo());
}

#[test]
fn a_search_can_aim_at_the_size_of_the_plan() {
    let mut window = window(egui::Theme::Light);
    open_tab(&mut window);
    lower_budget(&mut window, 6);
    let size = session(&window).cost().unwrap().size_bytes;
    window.get_by_label("at the plan's size").click();
    window.step();
    window.get_by_label("Start search").click();
    window.step();
    wait_until(&mut window, "plans around the goal", |session| {
        let news = session.search();
        news.is_some_and(|news| {
            let within = |plan: &&MeasuredPlan| plan.size_bytes <= size;
            let found = news.state.measured.iter().filter(within);
            found.count() > 0 && news.state.measured.len() >= 8
        })
    });
    let goal = session(&window).search_setup().unwrap().request.goal;
    let (axis, limit) = (Axis::Bytes, size as f64);
    assert_eq!(goal, Some(Goal::Within { axis, limit }));
}

#[test]
fn a_search_measures_plans_that_can_be_stopped_adopted_and_saved() {
    let mut window = window(egui::Theme::Light);
    open_tab(&mut window);
    window.get_by_label("Start search").click();
    window.step();
    wait_until(&mut window, "some measured plans", |session| {
        let news = session.search();
        news.is_some_and(|news| news.state.measured.len() >= 8)
    });
    window.get_by_label("Stop search").click();
    wait_until(&mut window, "the search to stop", |session| {
        !session.is_searching()
    });
    window.get_by_label_contains("Start search goes on from there");
    window.get_by_label("Predicted against measured");
    // A point becomes the plan, with what was predicted of it at once.
    let points = session(&window).search().unwrap().state.measured.len();
    let w4 = session(&window).search().unwrap().state.measured.iter();
    let w4 = w4
        .clone()
        .position(|plan| plan.name.as_deref() == Some("W4A8"));
    let plan = session(&window).searched_plan(w4.unwrap()).unwrap();
    apply(&mut window, Action::Adopt(plan));
    assert_eq!(session(&window).search_point(), w4);
    assert!(session(&window).plan_top1().is_some());
    wait_until(&mut window, "the plan on evaluation samples", measured);
    // The project brings the points back.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signs.qscope");
    apply(&mut window, Action::SaveProject(path.clone()));
    wait_until(&mut window, "the saved project", |_| path.exists());
    let mut again = crate::window::window(egui::Theme::Light);
    again.step();
    apply(&mut again, Action::OpenProject(path));
    wait_until(&mut again, "the points of the project", |session| {
        let news = session.search();
        news.is_some_and(|news| news.state.measured.len() == points)
    });
}
