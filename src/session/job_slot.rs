//! Where the background jobs of a session run: one slot a kind.

use std::borrow::Cow;
use std::sync::Arc;

use super::error::SessionError;
use crate::jobs::{JobContext, JobError, JobHandle, Wake, spawn};

/// What the status bar says of a running job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobStatus {
    /// What runs, for example `Evaluating plan`.
    pub name: &'static str,
    /// What of it is done now; empty where it has no stages.
    pub stage: Cow<'static, str>,
    /// Steps done and in total; a total of 0 is unknown.
    pub done: u64,
    /// Steps in total.
    pub total: u64,
    /// Done over total, in `0.0..=1.0`.
    pub fraction: f32,
    /// Estimated seconds to the end.
    pub eta_secs: Option<f64>,
    /// It waits for a more urgent job.
    pub paused: bool,
}

/// A job's outcome with the error as it is shown.
pub(super) type Outcome<T> = Result<T, JobError>;

/// One kind of job: at most one runs, and a newer one replaces it.
#[derive(Debug)]
pub(super) struct Slot<P, T> {
    name: &'static str,
    running: Option<JobHandle<P, T>>,
}

impl<P: Send + 'static, T: Send + 'static> Slot<P, T> {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            running: None,
        }
    }

    /// Starts a job; one that runs is cancelled and its result forgotten.
    pub(super) fn start(
        &mut self,
        wake: &Wake,
        body: impl FnOnce(&JobContext<P>) -> Result<T, SessionError> + Send + 'static,
    ) {
        self.running = None;
        let started = spawn(self.name, 0, Arc::clone(wake), move |context| {
            body(context).map_err(|error| {
                if error.is_cancelled() {
                    JobError::Cancelled
                } else {
                    JobError::Failed(error.to_string())
                }
            })
        });
        match started {
            Ok(handle) => self.running = Some(handle),
            Err(error) => tracing::error!("cannot start a thread for {:?}: {error}", self.name),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Asks the job to stop; its outcome still arrives.
    pub(super) fn cancel(&self) {
        if let Some(handle) = &self.running {
            handle.cancel.cancel();
        }
    }

    /// Stops the job and forgets it.
    pub(super) fn clear(&mut self) {
        self.running = None;
    }

    pub(super) fn set_paused(&self, paused: bool) {
        if let Some(handle) = &self.running {
            handle.cancel.set_paused(paused);
        }
    }

    pub(super) fn partial(&self) -> Option<P> {
        self.running.as_ref().and_then(JobHandle::poll_partial)
    }

    /// The outcome, once; the slot is free afterwards.
    pub(super) fn outcome(&mut self) -> Option<Outcome<T>> {
        let outcome = self.running.as_ref()?.poll_done()?;
        self.running = None;
        Some(outcome)
    }

    /// Seconds since the job began.
    pub(super) fn elapsed_secs(&self) -> Option<f64> {
        self.running
            .as_ref()
            .map(|handle| handle.progress.elapsed_secs())
    }

    pub(super) fn status(&self) -> Option<JobStatus> {
        let handle = self.running.as_ref()?;
        Some(JobStatus {
            name: self.name,
            stage: handle.progress.stage(),
            done: handle.progress.done(),
            total: handle.progress.total(),
            fraction: handle.progress.fraction(),
            eta_secs: handle.progress.eta_secs(),
            paused: handle.cancel.is_paused(),
        })
    }
}
