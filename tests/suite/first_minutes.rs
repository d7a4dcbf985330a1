//! What a newcomer meets first: the guess at the preprocessing, and how long a sweep will take.

use egui_kittest::kittest::Queryable as _;

use crate::window::{Window, begin_sample, open_sample, session, wait_until, window};

fn is_there(window: &Window, label: &str) -> bool {
    window.query_all_by_label(label).next().is_some()
}

#[test]
fn the_guess_at_the_preprocessing_is_shown_with_pictures_until_it_is_confirmed() {
    let mut window = window(egui::Theme::Dark);
    open_sample(&mut window);
    wait_until(&mut window, "the pictures", |session| {
        session.previews().len() == 3
    });
    for preview in session(&window).previews() {
        let pixels = preview.picture.width * preview.picture.height;
        assert_eq!(preview.picture.rgba.len(), 4 * pixels as usize);
        assert!(preview.class.is_some(), "{}", preview.name);
    }
    assert!(!session(&window).is_near_chance());
    window.get_by_label("Is the preprocessing right?");
    window.get_by_label("The preprocessing is right").click();
    window.run_steps(3);
    assert!(!is_there(&window, "Is the preprocessing right?"));
}

#[test]
fn another_preprocessing_is_chosen_on_the_card() {
    let mut window = window(egui::Theme::Light);
    open_sample(&mut window);
    window.get_by_label("Change preprocessing…").click();
    window.run_steps(3);
    window.get_by_label_contains("raw: 0 to 255").click();
    window.run_steps(2);
    wait_until(&mut window, "the data read anew", |session| {
        session
            .data()
            .is_some_and(|data| data.preprocess.to_string() == "raw")
    });
}

#[test]
fn accuracy_near_chance_is_flagged_even_if_the_preprocessing_was_chosen() {
    let mut window = window(egui::Theme::Light);
    begin_sample(&mut window, Some("mean=100;std=0.01".parse().unwrap()));
    wait_until(&mut window, "float accuracy", |session| {
        session.float().is_some_and(|(_, finished)| finished)
    });
    assert!(session(&window).is_near_chance());
    window.get_by_label_contains("hardly better than guessing");
}

#[test]
fn the_time_of_a_sweep_is_told_before_it_starts() {
    let mut window = window(egui::Theme::Dark);
    open_sample(&mut window);
    window.get_by_label("Sensitivity").click();
    window.run_steps(3);
    let told = window
        .query_all_by_label_contains("about ")
        .next()
        .is_some()
        || is_there(&window, "less than 1 s");
    assert!(told);
}
