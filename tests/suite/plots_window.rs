//! Plots in the window: their menus, and the layer under the pointer.

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use quantscope::session::Session;

use crate::window::{Window, begin_sample, open_sample, session, tall_window, wait_until, window};

/// The sample, measured, on a desktop without file dialogs.
fn measured_window() -> Window {
    let mut window = tall_window(egui::Theme::Light);
    open_sample(&mut window);
    window.state_mut().as_mut().unwrap().do_without_dialogs();
    wait_until(&mut window, "quiet", |session| !session.is_busy());
    window
}

fn choose(window: &mut Window, plot: &str, entry: &str) {
    let menu = format!("Plot menu of {plot}");
    window.get_by_label(&menu).click();
    window.run_steps(2);
    window.get_by_label(entry).click();
    // A new window is measured in the first frame and shown in the next.
    window.run_steps(4);
}

fn copied(window: &Window) -> Option<String> {
    let commands = &window.output().platform_output.commands;
    commands.iter().find_map(|command| match command {
        egui::OutputCommand::CopyText(text) => Some(text.clone()),
        _ => None,
    })
}

#[test]
fn the_menu_of_a_plot_writes_it_where_the_path_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = measured_window();
    for (entry, file, begins) in [
        ("Save as SVG…", "errors.svg", &b"<svg"[..]),
        ("Save as PNG…", "errors.png", &b"\x89PNG"[..]),
        ("Save as CSV…", "errors", &b"series,layer name"[..]),
    ] {
        choose(&mut window, "Error along the network", entry);
        let path = folder.path().join(file);
        let field = window.get_by_label("Path of the plot");
        field.focus();
        window.step();
        window.key_press_modifiers(Modifiers::COMMAND, Key::A);
        window.step();
        window
            .get_by_label("Path of the plot")
            .type_text(path.to_str().unwrap());
        window.run_steps(2);
        window.get_by_label("Save plot").click();
        window.run_steps(2);
        let path = if file == "errors" {
            path.with_extension("csv")
        } else {
            path
        };
        let told = path.display().to_string();
        let written = |session: &Session| {
            session
                .log()
                .any(|message| message.title == "Save plot" && message.text.ends_with(&told))
        };
        wait_until(&mut window, "the file", written);
        let content = std::fs::read(&path).unwrap();
        assert!(content.starts_with(begins), "{file}");
        assert!(window.query_by_label("Path of the plot").is_none());
    }
    let layers = session(&window).plan().layers().len();
    let table = std::fs::read_to_string(folder.path().join("errors.csv")).unwrap();
    assert!(table.lines().count() > layers, "a line for every layer");
}

#[test]
fn a_plot_that_cannot_be_written_says_so() {
    let mut window = measured_window();
    choose(&mut window, "Measured plans", "Save as SVG…");
    window.get_by_label("Path of the plot").focus();
    window.step();
    window.key_press_modifiers(Modifiers::COMMAND, Key::A);
    window.step();
    window
        .get_by_label("Path of the plot")
        .type_text("/nowhere/at all/plans.svg");
    window.run_steps(2);
    window.key_press(Key::Enter);
    window.run_steps(2);
    let failed = |session: &Session| {
        session
            .log()
            .any(|message| message.title == "Save plot" && message.text.contains("plans.svg"))
    };
    wait_until(&mut window, "the message", failed);
}

#[test]
fn data_of_plots_and_maps_is_copied_as_csv() {
    let mut window = measured_window();
    let layers = session(&window).plan().layers().len();
    let menu = "Plot menu of Error along the network";
    window.get_by_label(menu).click();
    window.run_steps(2);
    window.get_by_label("Copy data as CSV").click();
    window.step();
    let table = copied(&window).unwrap();
    assert!(
        table.starts_with("series,layer name,layer number,SQNR in dB\n"),
        "{table}"
    );
    window.run_steps(2);
    window.get_by_label("Sensitivity").click();
    window.run_steps(3);
    window
        .get_by_label("Plot menu of Local SQNR of each layer")
        .click();
    window.run_steps(2);
    window.get_by_label("Copy data as CSV").click();
    window.step();
    let table = copied(&window).unwrap();
    assert_eq!(table.lines().count(), layers + 1);
    assert!(
        table.starts_with("layer,8 bits: local SQNR in dB,"),
        "{table}"
    );
}

#[test]
fn a_menu_opens_by_keyboard() {
    let mut window = measured_window();
    window.get_by_label("Plot menu of Measured plans").focus();
    window.step();
    window.key_press(Key::Enter);
    window.run_steps(2);
    window.get_by_label("Reset view");
}

#[test]
fn the_layer_under_the_pointer_is_shown_by_every_view() {
    let mut window = measured_window();
    window.get_by_label("Sensitivity").click();
    window.run_steps(3);
    let pointed = |window: &Window| quantscope::ui::pointed_layer(&window.ctx);
    assert_eq!(pointed(&window), None);
    let second = session(&window).model().unwrap().layers()[1].name.clone();
    let row = window
        .get_all_by_role_and_label(egui::accesskit::Role::Button, &second)
        .next()
        .unwrap();
    row.hover();
    window.run_steps(3);
    assert_eq!(pointed(&window), Some(quantscope::model::LayerId(1)));
}

#[test]
fn the_map_shows_its_frame_before_it_fills() {
    let mut window = window(egui::Theme::Dark);
    begin_sample(&mut window, None);
    wait_until(&mut window, "the model", |session| session.data().is_some());
    window.get_by_label("Sensitivity").click();
    window.run_steps(2);
    let first = session(&window).model().unwrap().layers()[0].name.clone();
    let row = window
        .query_all_by_role_and_label(egui::accesskit::Role::Button, &first)
        .next();
    assert!(row.is_some(), "the row of {first}");
}
