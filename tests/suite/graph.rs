//! The graph, driven by the names that a screen reader would read.

use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use quantscope::session::Action;

use crate::common::{sample, shared};
use crate::window::{Window, open_sample, session, wait_until, window};

/// Some frames, in which the camera comes to rest.
const AT_REST: usize = 12;

/// The graph of the sample.
fn graph() -> Window {
    let mut window = window(egui::Theme::Light);
    open_sample(&mut window);
    window.get_by_label("Graph").click();
    window.run_steps(3);
    window
}

fn selected(window: &Window) -> Vec<String> {
    let layers = session(window).model().unwrap().layers();
    let selection = session(window).selection().iter();
    selection
        .map(|layer| layers[layer.index()].name.clone())
        .collect()
}

/// Clicks a box of the graph, or the head of a block.
#[track_caller]
fn click(window: &mut Window, name: &str, modifiers: Modifiers) {
    let node = window.get_by_role_and_label(Role::Button, name);
    node.click_modifiers(modifiers);
    window.run_steps(3);
}

fn is_shown(window: &Window, name: &str) -> bool {
    window.query_by_role_and_label(Role::Button, name).is_some()
}

#[test]
fn a_click_on_a_node_selects_its_layer_everywhere() {
    let mut window = graph();
    click(&mut window, "/layer1/layer1.0/conv1/Conv", Modifiers::NONE);
    assert_eq!(selected(&window), ["/layer1/layer1.0/conv1/Conv"]);
    click(
        &mut window,
        "/layer1/layer1.0/conv2/Conv",
        Modifiers::COMMAND,
    );
    assert_eq!(
        selected(&window),
        ["/layer1/layer1.0/conv2/Conv", "/layer1/layer1.0/conv1/Conv"]
    );
    window.key_press(Key::Num4);
    window.step();
    let four = session(&window).plan().layers().iter();
    let four = four.filter(|layer| layer.weight.format.bits() == 4);
    assert_eq!(four.count(), 2);
    click(
        &mut window,
        "/layer1/layer1.0/conv2/Conv",
        Modifiers::COMMAND,
    );
    assert_eq!(selected(&window), ["/layer1/layer1.0/conv1/Conv"]);
}

#[test]
fn a_block_collapses_into_one_box_that_stands_for_its_layers() {
    let mut window = graph();
    click(&mut window, "Collapse layer1.0", Modifiers::NONE);
    assert!(!is_shown(&window, "/layer1/layer1.0/conv1/Conv"));
    click(&mut window, "layer1.0", Modifiers::NONE);
    assert_eq!(
        selected(&window),
        ["/layer1/layer1.0/conv1/Conv", "/layer1/layer1.0/conv2/Conv"]
    );
    click(&mut window, "Expand layer1.0", Modifiers::NONE);
    assert!(is_shown(&window, "/layer1/layer1.0/conv1/Conv"));
    click(&mut window, "Collapse all", Modifiers::NONE);
    for block in ["layer1", "layer2", "layer3"] {
        assert!(is_shown(&window, block), "{block}");
    }
    click(&mut window, "Expand all", Modifiers::NONE);
    assert!(is_shown(&window, "/layer1/layer1.0/conv1/Conv"));
}

#[test]
fn colours_say_what_is_chosen() {
    let mut window = graph();
    for (tint, legend) in [
        ("Activation bits", "bits"),
        (
            "Sensitivity",
            "No sweep yet: run one on the Sensitivity tab",
        ),
        ("Weight bits", "bits"),
    ] {
        window.get_by_label("What colours show").click();
        window.run_steps(3);
        let choices = window.query_all_by_role_and_label(Role::Button, tint);
        choices.last().unwrap().click();
        window.run_steps(3);
        window.get_by_label(legend);
    }
}

#[test]
fn a_selection_made_elsewhere_is_found_even_in_a_collapsed_block() {
    let mut window = graph();
    click(&mut window, "Collapse all", Modifiers::NONE);
    let layers = session(&window).model().unwrap().layers();
    let last = layers
        .iter()
        .position(|layer| layer.name == "/layer3/layer3.1/conv2/Conv");
    let last = quantscope::model::LayerId(last.unwrap() as u32);
    let app = window.state_mut().as_mut().unwrap();
    app.apply(Action::Select(vec![last]));
    window.run_steps(2);
    assert!(!is_shown(&window, "/layer3/layer3.1/conv2/Conv"));
    window.get_by_label("Show selection").click();
    window.run_steps(AT_REST);
    assert!(is_shown(&window, "/layer3/layer3.1/conv2/Conv"));
}

#[test]
fn keys_zoom_while_the_pointer_is_over_the_graph_and_set_widths_otherwise() {
    let mut window = graph();
    click(&mut window, "/conv1/Conv", Modifiers::NONE);
    let canvas = window.get_by_label("Network graph").rect();
    window.hover_at(canvas.center());
    window.run_steps(2);
    window.key_press(Key::Num0);
    window.run_steps(AT_REST);
    let bits = |window: &Window| session(window).plan().layers()[0].weight.format.bits();
    assert_eq!(bits(&window), 8);
    // All of the network is in view, too small to be read.
    assert!(!is_shown(&window, "/conv1/Conv"));
    window.hover_at(egui::pos2(200.0, 600.0));
    window.run_steps(2);
    window.key_press(Key::Num0);
    window.run_steps(2);
    assert_eq!(bits(&window), 16);
}

#[test]
fn every_real_network_has_a_graph() {
    for name in [
        "dscnn-kws.onnx",
        "mobilenetv1-025-imagenet.safetensors",
        "resnet20-cifar10.pth",
        "vit-mnist.onnx",
        "wnet-drive.onnx",
        "yolox-nano-coco.onnx",
    ] {
        let Some(path) = shared(&format!("data/models/{name}")) else {
            continue;
        };
        let mut window = window(egui::Theme::Dark);
        window.step();
        let app = window.state_mut().as_mut().unwrap();
        app.apply(Action::OpenModel(path));
        wait_until(&mut window, "the first layer", |session| {
            session.inspection().is_some()
        });
        window.get_by_label("Graph").click();
        window.run_steps(2);
        window.get_by_label("Show selection").click();
        window.run_steps(AT_REST);
        let first = selected(&window).remove(0);
        assert!(is_shown(&window, &first), "{name}");
    }
}

#[test]
fn a_window_without_a_model_has_no_graph_to_show() {
    let mut window = window(egui::Theme::Light);
    window.run_steps(2);
    assert!(window.query_by_label("Network graph").is_none());
    let app = window.state_mut().as_mut().unwrap();
    app.apply(Action::OpenModel(sample("signs-mobilenet.onnx")));
    wait_until(&mut window, "the model", |session| {
        session.model().is_some()
    });
    window.get_by_label("Graph").click();
    window.run_steps(2);
    window.get_by_label("Network graph");
}
