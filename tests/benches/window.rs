//! One frame of the window on models of 50 to 10,000 layers, and of the graph on as many nodes:
//! laying out, painting, tessellating.
//!
//! The graphics card's part is not in it. Frames come back to back here; the window itself draws
//! only when there is news.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "what cannot be set up cannot be measured, and the memory is told beside the times"
)]

mod residual_network;
mod synthetic;
mod transformer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::Bencher;
use egui::{Event, Key, Modifiers, PointerButton, Pos2, RawInput, Rect, pos2, vec2};
use quantscope::engine::{Protocol, SensitivityRequest, Subject};
use quantscope::model::LayerId;
use quantscope::session::{Action, DataRequest, Session, process_bytes};
use quantscope::ui::{App, apply_theme};
use tempfile::TempDir;

const LAYERS: [usize; 4] = [50, 1000, 5000, 10_000];
/// Blocks of a transformer of 22 nodes each: 264, 1,012 and 10,010 nodes.
const TRANSFORMERS: [usize; 3] = [12, 46, 455];
const CHANNELS: usize = 4;
const SIDE: usize = 4;
const SAMPLES: usize = 64;

fn main() {
    divan::main();
}

/// The overview with a measured plan, nothing running.
#[divan::bench(args = LAYERS, sample_count = 200, sample_size = 1)]
fn overview(bencher: Bencher<'_, '_>, layers: usize) {
    let mut window = Window::measured(layers);
    window.app.apply(Action::CancelJobs);
    window.settle();
    bencher.bench_local(|| window.frame(Vec::new()));
}

/// The overview with every layer selected.
#[divan::bench(args = LAYERS, sample_count = 200, sample_size = 1)]
fn overview_all_selected(bencher: Bencher<'_, '_>, layers: usize) {
    let mut window = Window::measured(layers);
    window.app.apply(Action::CancelJobs);
    let all = (0..layers as u32).map(LayerId).collect();
    window.app.apply(Action::Select(all));
    window.settle();
    bencher.bench_local(|| window.frame(Vec::new()));
}

/// The overview while a sweep runs in the background.
#[divan::bench(args = LAYERS, sample_count = 200, sample_size = 1)]
fn overview_during_sweep(bencher: Bencher<'_, '_>, layers: usize) {
    let mut window = Window::measured(layers);
    window.start_sweep();
    window.settle();
    bencher.bench_local(|| window.frame(Vec::new()));
}

/// The map of the sweep while it runs.
#[divan::bench(args = LAYERS, sample_count = 200, sample_size = 1)]
fn sensitivity_during_sweep(bencher: Bencher<'_, '_>, layers: usize) {
    let mut window = Window::measured(layers);
    window.click("Sensitivity");
    window.start_sweep();
    window.settle();
    bencher.bench_local(|| window.frame(Vec::new()));
}

/// The graph of a transformer, opened as it opens by itself.
#[divan::bench(args = TRANSFORMERS, sample_count = 200, sample_size = 1)]
fn graph(bencher: Bencher<'_, '_>, blocks: usize) {
    let mut window = Window::of_transformer(blocks);
    bencher.bench_local(|| window.frame(Vec::new()));
}

/// The graph with all its nodes in view, as spots.
#[divan::bench(args = TRANSFORMERS, sample_count = 200, sample_size = 1)]
fn graph_whole(bencher: Bencher<'_, '_>, blocks: usize) {
    let mut window = Window::of_transformer(blocks);
    window.click("Expand all");
    window.press_over_the_graph(Key::Num0);
    window.settle();
    bencher.bench_local(|| window.frame(Vec::new()));
}

/// The graph with all its nodes, dragged at a size that can be read.
#[divan::bench(args = TRANSFORMERS, sample_count = 200, sample_size = 1)]
fn graph_dragged(bencher: Bencher<'_, '_>, blocks: usize) {
    let mut window = Window::of_transformer(blocks);
    window.click("Expand all");
    window.settle();
    let mut place = window.over_the_graph();
    window.frame(vec![Event::PointerMoved(place), button(place, true)]);
    bencher.bench_local(|| {
        place.y -= 7.0;
        window.frame(vec![Event::PointerMoved(place)])
    });
}

/// Two frames that lay the graph out again: all blocks collapsed, and all open.
#[divan::bench(args = TRANSFORMERS, sample_count = 20, sample_size = 1)]
fn graph_laid_out(bencher: Bencher<'_, '_>, blocks: usize) {
    let mut window = Window::of_transformer(blocks);
    let [collapse, expand] = ["Collapse all", "Expand all"].map(|label| window.position_of(label));
    bencher.bench_local(|| {
        for place in [collapse, expand] {
            window.frame(vec![Event::PointerMoved(place), button(place, true)]);
            window.frame(vec![button(place, false)]);
        }
    });
}

/// The graph of a residual network without blocks, with all its nodes in view.
#[divan::bench(args = LAYERS, sample_count = 200, sample_size = 1)]
fn graph_whole_residual(bencher: Bencher<'_, '_>, layers: usize) {
    let mut window = Window::measured(layers);
    window.app.apply(Action::CancelJobs);
    window.click("Graph");
    // Large pictures are made in the background.
    window.settle();
    window.press_over_the_graph(Key::Num0);
    window.settle();
    bencher.bench_local(|| window.frame(Vec::new()));
}

/// The layer table while it is scrolled.
#[divan::bench(args = LAYERS, sample_count = 200, sample_size = 1)]
fn scrolled_table(bencher: Bencher<'_, '_>, layers: usize) {
    let mut window = Window::measured(layers);
    window.app.apply(Action::CancelJobs);
    window.settle();
    let over_the_table = Event::PointerMoved(pos2(200.0, 500.0));
    window.frame(vec![over_the_table]);
    bencher.bench_local(|| {
        window.frame(vec![Event::MouseWheel {
            source: egui::MouseWheelSource::Unknown,
            unit: egui::MouseWheelUnit::Point,
            delta: vec2(0.0, -7.0),
            phase: egui::TouchPhase::Move,
            modifiers: Modifiers::NONE,
        }])
    });
}

/// Ten thousand frames while a sweep runs again and again; tells what they added to the memory.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn ten_thousand_frames(bencher: Bencher<'_, '_>) {
    let mut window = Window::measured(50);
    window.click("Sensitivity");
    let mut frames = |count: usize| {
        for frame in 0..count {
            if frame % 100 == 0 && window.app.session().running_jobs().is_empty() {
                window.start_sweep();
            }
            let place = pos2((frame % 1280) as f32, (frame / 3 % 800) as f32);
            window.frame(vec![Event::PointerMoved(place)]);
        }
        process_bytes().unwrap_or(0) as f64 / f64::from(1 << 20)
    };
    let before = frames(1000);
    bencher.bench_local(|| {
        let after = frames(10_000);
        eprintln!("resident memory: {before:.1} MiB before, {after:.1} MiB after 10,000 frames");
    });
}

/// The window on a synthetic network, without a screen.
struct Window {
    ctx: egui::Context,
    app: App,
    started: Instant,
    _folder: TempDir,
}

impl Window {
    /// Opens a network of so many layers and waits for the accuracy of its plan.
    fn measured(layers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("network.onnx");
        residual_network::residual_network(&model, layers, CHANNELS, SIDE);
        let data = synthetic::random_data(folder.path(), SAMPLES, &[CHANNELS, SIDE, SIDE]);
        let ctx = egui::Context::default();
        apply_theme(&ctx);
        let app = App::new(&ctx, Session::new(1, Arc::new(|| {})).unwrap());
        let mut window = Self {
            ctx,
            app,
            started: Instant::now(),
            _folder: folder,
        };
        let request = DataRequest {
            calibration_samples: 16,
            ..DataRequest::new(data)
        };
        window.app.apply(Action::OpenModelWithData(model, request));
        while !window.is_measured() {
            window.frame(Vec::new());
            std::thread::sleep(Duration::from_millis(20));
            assert!(
                window.started.elapsed() < Duration::from_mins(5),
                "no result: {:?}",
                window.app.session().messages()
            );
        }
        window
    }

    /// Opens a transformer of so many blocks without data, and its graph.
    fn of_transformer(blocks: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("network.onnx");
        transformer::transformer(&model, blocks, 8);
        let ctx = egui::Context::default();
        apply_theme(&ctx);
        let app = App::new(&ctx, Session::new(1, Arc::new(|| {})).unwrap());
        let mut window = Self {
            ctx,
            app,
            started: Instant::now(),
            _folder: folder,
        };
        window.app.apply(Action::OpenModel(model));
        while window.app.session().inspection().is_none() {
            window.frame(Vec::new());
            std::thread::sleep(Duration::from_millis(20));
            assert!(
                window.started.elapsed() < Duration::from_mins(5),
                "no model: {:?}",
                window.app.session().messages()
            );
        }
        window.click("Graph");
        window.settle();
        window
    }

    fn over_the_graph(&mut self) -> Pos2 {
        self.position_of("Network graph")
    }

    fn press_over_the_graph(&mut self, key: Key) {
        let place = self.over_the_graph();
        self.frame(vec![Event::PointerMoved(place)]);
        self.frame(vec![Event::Key {
            key,
            physical_key: None,
            pressed: true,
            repeat: false,
            modifiers: Modifiers::NONE,
        }]);
    }

    fn is_measured(&self) -> bool {
        let result = self.app.session().result();
        result.is_some_and(|result| result.finished)
    }

    fn start_sweep(&mut self) {
        let request = SensitivityRequest {
            protocol: Protocol::OnlyOne,
            subject: Subject::Weights,
            widths: Session::screening_widths(),
        };
        self.app.apply(Action::RunSensitivity(request));
    }

    /// Frames until animations have ended.
    fn settle(&mut self) {
        for _ in 0..30 {
            self.frame(Vec::new());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Draws a frame of 1280 × 800 points; returns the number of its meshes.
    fn frame(&mut self, events: Vec<Event>) -> usize {
        let input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, vec2(1280.0, 800.0))),
            time: Some(self.started.elapsed().as_secs_f64()),
            events,
            ..RawInput::default()
        };
        let app = &mut self.app;
        let output = self.ctx.run_ui(input, |ui| {
            app.logic(ui.ctx());
            app.show(ui);
        });
        self.ctx
            .tessellate(output.shapes, output.pixels_per_point)
            .len()
    }

    /// Clicks what a screen reader would call `label`.
    fn click(&mut self, label: &str) {
        let position = self.position_of(label);
        self.frame(vec![Event::PointerMoved(position)]);
        for pressed in [true, false] {
            self.frame(vec![button(position, pressed)]);
        }
        self.frame(vec![Event::PointerGone]);
    }

    fn position_of(&mut self, label: &str) -> Pos2 {
        self.ctx.enable_accesskit();
        let input = RawInput {
            screen_rect: Some(Rect::from_min_size(Pos2::ZERO, vec2(1280.0, 800.0))),
            ..RawInput::default()
        };
        let app = &mut self.app;
        let output = self.ctx.run_ui(input, |ui| app.show(ui));
        self.ctx.disable_accesskit();
        let update = output.platform_output.accesskit_update.unwrap();
        let bounds = update
            .nodes
            .iter()
            .find(|(_, node)| node.label() == Some(label))
            .and_then(|(_, node)| node.bounds())
            .unwrap();
        pos2(
            f64::midpoint(bounds.x0, bounds.x1) as f32,
            f64::midpoint(bounds.y0, bounds.y1) as f32,
        )
    }
}

/// The left button, pressed or let go.
fn button(pos: Pos2, pressed: bool) -> Event {
    Event::PointerButton {
        pos,
        button: PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    }
}
