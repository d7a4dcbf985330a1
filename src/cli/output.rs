//! Standard output for results, standard error for progress and problems.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use serde::Serialize;

use super::args::OutputOptions;
use crate::session::SessionError;

/// Writes a line to standard output; a closed pipe is no error.
pub(super) fn line(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}

/// Writes a note to standard error.
pub(super) fn note(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Writes an error to standard error.
pub(super) fn error(text: &str) {
    note(&format!("error: {text}"));
}

/// Writes one JSON document.
pub(super) fn json(document: &impl Serialize) -> Result<(), SessionError> {
    let text = serde_json::to_string_pretty(document).map_err(|error| {
        SessionError::Missing(format!("cannot write the result as JSON: {error}"))
    })?;
    line(&text);
    Ok(())
}

/// Progress on standard error: a line that is redrawn on a terminal, a few plain lines elsewhere.
#[derive(Debug)]
pub(super) struct Progress {
    name: &'static str,
    total: usize,
    quiet: bool,
    terminal: bool,
    started: Instant,
    last_tenth: usize,
}

impl Progress {
    pub(super) fn new(name: &'static str, total: usize, options: OutputOptions) -> Self {
        Self {
            name,
            total,
            quiet: options.quiet,
            terminal: std::io::stderr().is_terminal(),
            started: Instant::now(),
            last_tenth: 0,
        }
    }

    /// Shows that `done` steps are done; `detail` is what is known so far.
    pub(super) fn show(&mut self, done: usize, detail: &str) {
        if self.quiet {
            return;
        }
        let share = done as f64 / self.total.max(1) as f64;
        let elapsed = self.started.elapsed().as_secs_f64();
        let left = elapsed / share.max(1e-9) * (1.0 - share);
        let text = format!(
            "{}: {done}/{} ({:.0} %), {left:.0} s left {detail}",
            self.name,
            self.total,
            share * 100.0
        );
        if self.terminal {
            write!(std::io::stderr(), "\r\x1b[2K{text}").ok();
            std::io::stderr().flush().ok();
            if done >= self.total {
                note("");
            }
        } else {
            let tenth = (share * 10.0) as usize;
            if tenth > self.last_tenth || done >= self.total {
                self.last_tenth = tenth;
                note(&text);
            }
        }
    }
}
