//! How live the session is: from an edit to the first measured accuracy, and from Cancel to rest.
//!
//! A frame of the window comes on top (see the bench `window`). Run it with the path of a model and of
//! its data in `QUANTSCOPE_BENCH_MODEL` and `QUANTSCOPE_BENCH_DATA`; without them it takes a bundled sample.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::Bencher;
use quantscope::engine::{Protocol, SensitivityRequest, Subject};
use quantscope::model::LayerId;
use quantscope::session::{Action, DataRequest, LayerEdit, Session};

fn main() {
    divan::main();
}

/// Changes one layer after another; ends when samples of the new plan are measured.
#[divan::bench(sample_count = 40, sample_size = 1)]
fn first_accuracy_after_an_edit(bencher: Bencher<'_, '_>) {
    let mut live = Live::open();
    live.finish();
    let layers = live.session.model().unwrap().layers().len() as u32;
    let mut edits = 0u32;
    bencher
        .with_inputs(|| {
            edits += 1;
            let width = if (edits / layers).is_multiple_of(2) {
                "4"
            } else {
                "6"
            };
            (LayerId(edits * 7 % layers), width)
        })
        .bench_local_values(|(layer, width)| {
            live.session.apply(Action::Edit {
                layers: vec![layer],
                edit: LayerEdit::WeightFormat(width.parse().unwrap()),
            });
            live.wait("samples of the new plan", |session| {
                let result = session.result();
                result.is_some_and(|result| result.evaluation.samples > 0)
            });
        });
}

/// Cancels a sweep, later after its start every time.
#[divan::bench(sample_count = 40, sample_size = 1)]
fn cancel_a_sweep(bencher: Bencher<'_, '_>) {
    let live = RefCell::new(Live::open());
    live.borrow_mut().finish();
    let mut delay = Duration::from_millis(20);
    bencher
        .with_inputs(|| {
            delay += Duration::from_millis(13);
            live.borrow_mut().sweep_for(delay);
        })
        .bench_local_values(|()| live.borrow_mut().cancel());
}

/// An open model with its data.
struct Live {
    session: Session,
}

impl Live {
    fn open() -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sample-models");
        let or = |name: &str, path: &str| {
            std::env::var_os(name).map_or_else(|| folder.join(path), PathBuf::from)
        };
        let model = or("QUANTSCOPE_BENCH_MODEL", "signs-resnet.onnx");
        let data = DataRequest::new(or("QUANTSCOPE_BENCH_DATA", "signs/eval"));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let wake = Arc::new(|| {});
        let mut session = Session::new(threads.saturating_sub(1).max(1), wake).unwrap();
        session.apply(Action::OpenModelWithData(model, data));
        Self { session }
    }

    /// Polls until `ready`.
    fn wait(&mut self, what: &str, ready: impl Fn(&Session) -> bool) {
        let started = Instant::now();
        loop {
            self.session.poll();
            if ready(&self.session) {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_mins(2),
                "no {what}: {:?}",
                self.session.messages()
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn finish(&mut self) {
        self.wait("result", |session| {
            session.result().is_some_and(|result| result.finished) && !session.is_busy()
        });
    }

    /// Starts a sweep and lets it run so long.
    fn sweep_for(&mut self, time: Duration) {
        self.session
            .apply(Action::RunSensitivity(SensitivityRequest {
                protocol: Protocol::OnlyOne,
                subject: Subject::Weights,
                widths: Session::screening_widths(),
            }));
        let started = Instant::now();
        while started.elapsed() < time {
            self.session.poll();
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn cancel(&mut self) {
        self.session.apply(Action::CancelJobs);
        self.wait("rest", |session| session.running_jobs().is_empty());
    }
}
