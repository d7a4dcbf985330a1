//! How far a job is.

use std::{
    borrow::Cow,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Steps done of steps in total for the current stage of a job.
///
/// Counting is lock-free, so that workers on many threads can report every batch.
#[derive(Debug)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    stage: Mutex<Stage>,
}

#[derive(Debug)]
struct Stage {
    text: Cow<'static, str>,
    started: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        let stage = Stage {
            text: Cow::Borrowed(""),
            started: Instant::now(),
        };
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stage: Mutex::new(stage),
        }
    }
}

impl Progress {
    /// Begins a stage of `total` steps: the count and the clock start again.
    ///
    /// `total` is 0 when the number of steps is not known.
    pub fn start_stage(&self, text: impl Into<Cow<'static, str>>, total: u64) {
        let mut stage = self.lock_stage();
        *stage = Stage {
            text: text.into(),
            started: Instant::now(),
        };
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Changes the text of the stage and keeps the count.
    pub fn set_stage(&self, text: impl Into<Cow<'static, str>>) {
        self.lock_stage().text = text.into();
    }

    /// Changes the number of steps, for instance once it is known.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Adds `steps` to the count.
    pub fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
    }

    /// Sets the count, for work that knows its total so far.
    pub fn set_done(&self, steps: u64) {
        self.done.store(steps, Ordering::Relaxed);
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Steps in total; 0 while unknown.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The text of the stage, empty before the first.
    pub fn stage(&self) -> Cow<'static, str> {
        self.lock_stage().text.clone()
    }

    /// Done over total, in `0.0..=1.0`; 0 while the total is unknown.
    pub fn fraction(&self) -> f32 {
        let total = self.total();
        if total == 0 {
            0.0
        } else {
            (self.done() as f64 / total as f64).min(1.0) as f32
        }
    }

    /// Seconds since the stage began.
    pub fn elapsed_secs(&self) -> f64 {
        self.lock_stage().started.elapsed().as_secs_f64()
    }

    /// Estimated seconds to the end of the stage; `None` before the first step or without a total.
    ///
    /// ```text
    /// eta = elapsed / done * (total - done)
    /// ```
    pub fn eta_secs(&self) -> Option<f64> {
        eta_secs(self.elapsed_secs(), self.done(), self.total())
    }

    fn lock_stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn eta_secs(elapsed_secs: f64, done: u64, total: u64) -> Option<f64> {
    if done == 0 || total == 0 {
        return None;
    }
    Some(elapsed_secs / done as f64 * total.saturating_sub(done) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fraction_follows_the_count() {
        let progress = Progress::default();
        assert_eq!((progress.fraction(), progress.eta_secs()), (0.0, None));
        progress.start_stage("Evaluating", 4);
        progress.advance(1);
        assert_eq!(progress.fraction(), 0.25);
        assert!(progress.eta_secs().is_some());
        progress.advance(5);
        assert_eq!(
            progress.fraction(),
            1.0,
            "more steps than announced never show more than all"
        );
        progress.set_total(12);
        assert_eq!(progress.fraction(), 0.5);
    }

    #[test]
    fn a_new_stage_starts_the_count_again() {
        let progress = Progress::default();
        progress.start_stage("One", 2);
        progress.advance(2);
        progress.set_stage(format!("One, layer {}", 3));
        assert_eq!(
            (progress.stage().as_ref(), progress.done()),
            ("One, layer 3", 2)
        );
        progress.start_stage("Two", 0);
        assert_eq!(
            (
                progress.stage().as_ref(),
                progress.done(),
                progress.fraction()
            ),
            ("Two", 0, 0.0)
        );
    }

    #[test]
    fn eta_is_linear() {
        for (elapsed, done, total, expected) in [
            (10.0, 1, 5, Some(40.0)),
            (10.0, 5, 5, Some(0.0)),
            (10.0, 7, 5, Some(0.0)),
            (10.0, 0, 5, None),
            (10.0, 3, 0, None),
        ] {
            assert_eq!(
                eta_secs(elapsed, done, total),
                expected,
                "{done} of {total}"
            );
        }
    }
}
