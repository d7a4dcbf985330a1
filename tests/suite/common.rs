//! What the tests share: where things are, and a session that is driven to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quantscope::session::Session;

/// The project's own folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A path among the real models and data that lie beside the project, if they are there.
///
/// Says so where they are not, so that a skipped test is seen.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let full = root().join("../shared").join(path);
    if full.exists() {
        Some(full)
    } else {
        println!("skipped: ../shared/{path} is not there");
        None
    }
}

/// The bundled model and its data folders.
pub(crate) fn sample(name: &str) -> PathBuf {
    root().join("sample-models").join(name)
}

/// An empty session on two threads.
pub(crate) fn session() -> Session {
    Session::new(2, Arc::new(|| {})).unwrap()
}

/// Polls until the condition holds; fails after two minutes, far beyond what any test needs.
#[track_caller]
pub(crate) fn wait_until(session: &mut Session, what: &str, holds: impl Fn(&Session) -> bool) {
    let started = Instant::now();
    loop {
        session.poll();
        if holds(session) {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_mins(2),
            "waited in vain for {what}; messages: {:?}",
            session.messages()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs the program with arguments and returns exit code, standard output and standard error.
pub(crate) fn quantscope(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_quantscope"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}
