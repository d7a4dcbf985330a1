//! How the pages of the window look: light at 1280 × 800 points, dark at 1920 × 1080.

use egui::{Key, Modifiers, Theme};
use egui_kittest::kittest::Queryable as _;
use egui_kittest::wgpu::WgpuTestRenderer;
use egui_kittest::{Harness, SnapshotOptions, SnapshotResults};
use quantscope::model::LayerId;
use quantscope::session::Action;

use crate::window::{Window, apply, measured, open_sample, session, wait_until, window_of};

/// Pixels that may differ where all numbers are the same on every machine.
const FEW: usize = 300;
/// Share of the pixels that may differ where a plot shows how batches came in, which no two runs share.
const OF_A_CURVE: f32 = 0.02;

/// What draws the pictures; `None`, said aloud, where there is no adapter to draw with.
fn renderer() -> Option<WgpuTestRenderer> {
    let renderer = std::panic::catch_unwind(WgpuTestRenderer::new).ok();
    if renderer.is_none() {
        println!("skipped: no graphics adapter, not even a software one");
    }
    renderer
}

/// A window whose pictures are compared.
struct Pictures {
    window: Window,
    /// Stands at the end of the file names.
    theme: &'static str,
    size: [f32; 2],
    results: SnapshotResults,
}

impl Pictures {
    fn new(theme: Theme, name: &'static str, size: [f32; 2]) -> Option<Self> {
        let builder = Harness::builder().renderer(renderer()?);
        Some(Self {
            window: window_of(builder, size, theme),
            theme: name,
            size,
            results: SnapshotResults::new(),
        })
    }

    /// Waits until nothing moves any more, and compares.
    fn take(&mut self, page: &str, differing: usize) {
        let window = &mut self.window;
        window.remove_cursor();
        window.run_steps(12);
        wait_until(window, "rest", |session| !session.is_busy());
        window.run_steps(4);
        let options = SnapshotOptions::new().max_failed_pixels(differing);
        let name = format!("{page}_{}", self.theme);
        self.results
            .add(window.try_snapshot_options(name, &options));
    }

    fn click(&mut self, label: &str) {
        self.window.get_by_label(label).click();
        self.window.run_steps(3);
    }
}

fn all_pages(mut pictures: Pictures) {
    pictures.window.run_steps(3);
    pictures.take("start", FEW);
    apply(
        &mut pictures.window,
        Action::OpenModel("no-such-model.onnx".into()),
    );
    wait_until(&mut pictures.window, "the message", |session| {
        !session.messages().is_empty()
    });
    pictures.take("error", FEW);
    pictures.click("Dismiss");

    let [width, height] = pictures.size;
    let of_a_curve = (OF_A_CURVE * width * height) as usize;
    open_sample(&mut pictures.window);
    let window = &mut pictures.window;
    window.key_press_modifiers(Modifiers::COMMAND, Key::A);
    window.step();
    window.key_press(Key::Num2);
    window.step();
    wait_until(window, "the result at two bits", measured);
    pictures.take("main", of_a_curve);
    for (tab, page) in [
        ("Graph", "graph"),
        ("Samples", "samples"),
        ("Compare", "compare"),
    ] {
        pictures.click(tab);
        pictures.take(page, FEW);
    }
    let window = &mut pictures.window;
    apply(window, Action::Select(vec![LayerId(1)]));
    wait_until(window, "the layer", |session| {
        session.inspection().is_some()
    });
    assert!(session(window).inspection().is_some());
    pictures.click("Coverage");
    let handle = "Upper clip handle";
    pictures.window.get_by_label(handle).scroll_to_me();
    pictures.take("inspector", FEW);
}

#[test]
fn the_pages_look_as_they_did_in_light() {
    if let Some(pictures) = Pictures::new(Theme::Light, "light", [1280.0, 800.0]) {
        all_pages(pictures);
    }
}

#[test]
fn the_pages_look_as_they_did_in_dark() {
    if let Some(pictures) = Pictures::new(Theme::Dark, "dark", [1920.0, 1080.0]) {
        all_pages(pictures);
    }
}
