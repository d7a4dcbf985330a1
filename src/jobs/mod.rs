//! Background work with progress, cancellation and generations.
//!
//! [`spawn`] runs a closure on a named thread and returns a [`JobHandle`] that the owner polls.
//! A job publishes partial results of type `P` and ends with one result of type `T`:
//!
//! - the newest partial wins: an unread older one is replaced, so a slow reader never makes the job wait;
//! - the final result is always delivered, also when the job was cancelled or panicked;
//! - the wake closure is called after each of both, so that an idle owner looks again.
//!
//! This module knows nothing of models, data or screens.

mod progress;
mod workers;

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

pub use self::{progress::Progress, workers::start_workers, workers::worker_count};

/// Tells the owner of a job that there is something to poll.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The work was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Cancelled")]
pub struct Cancelled;

/// Asks running work to stop or to wait; clones share one state.
///
/// Both are cooperative: work calls [`Self::check`] at least once per batch and per layer.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    cancelled: AtomicBool,
    paused: AtomicBool,
}

/// How long paused work sleeps before it looks again.
const PAUSE_STEP: Duration = Duration::from_millis(2);

impl CancelToken {
    /// Raises the flag; it stays raised.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Makes [`Self::check`] wait on the job's own thread, or lets it go on.
    ///
    /// Worker threads never wait, because what the job waits for may need them.
    pub fn set_paused(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Relaxed);
    }

    /// Tells whether the work is made to wait.
    pub fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::Relaxed)
    }

    /// Tells whether [`Self::cancel`] was called on this token or a clone.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Stops a chain of `?` once the token is cancelled; waits while it is paused.
    ///
    /// # Errors
    /// [`Cancelled`] after [`Self::cancel`].
    pub fn check(&self) -> Result<(), Cancelled> {
        while self.is_paused() && !self.is_cancelled() && !workers::is_worker() {
            thread::sleep(PAUSE_STEP);
        }
        if self.is_cancelled() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Why a job ended without a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The job was cancelled; nothing needs to be shown.
    #[error("Cancelled")]
    Cancelled,
    /// The job failed; the text is meant for the user.
    #[error("{0}")]
    Failed(String),
    /// The job panicked: a defect of the program, with the panic's text.
    #[error("Internal error: {0}")]
    Panicked(String),
}

impl From<Cancelled> for JobError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// What both sides of a job share.
struct Mailbox<P, T> {
    partial: Mutex<Option<P>>,
    state: Mutex<Outcome<T>>,
    finished: Condvar,
}

/// The life of a result: not there yet, waiting to be read, read.
enum Outcome<T> {
    Running,
    Ready(Result<T, JobError>),
    Taken,
}

/// A panic of a job body must not take the mailbox with it, so a poisoned lock is used as it is.
fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the body of a job works with.
pub struct JobContext<P> {
    /// Checked by the body; cancelled by the owner.
    pub cancel: CancelToken,
    /// Written by the body; read by the owner.
    pub progress: Arc<Progress>,
    publish: Box<dyn Fn(P) + Send + Sync>,
}

impl<P> JobContext<P> {
    /// Publishes a partial result in place of an older unread one, and wakes the owner.
    pub fn publish(&self, partial: P) {
        (self.publish)(partial);
    }
}

impl<P> fmt::Debug for JobContext<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("cancel", &self.cancel)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

/// The owner's side of a job; dropping it cancels the job and forgets its result.
pub struct JobHandle<P, T> {
    /// Number given at the start; the owner ignores results older than its current generation.
    pub generation: u64,
    /// Stops the job early.
    pub cancel: CancelToken,
    /// How far the job is.
    pub progress: Arc<Progress>,
    mailbox: Arc<Mailbox<P, T>>,
}

impl<P, T> JobHandle<P, T> {
    /// Takes the newest unread partial result.
    pub fn poll_partial(&self) -> Option<P> {
        lock(&self.mailbox.partial).take()
    }

    /// Takes the final result; `Some` exactly once, after the job has ended.
    pub fn poll_done(&self) -> Option<Result<T, JobError>> {
        take_ready(&mut lock(&self.mailbox.state))
    }

    /// Waits at most `timeout` for the final result, for owners without an event loop.
    ///
    /// Gives `None` when the time is over, or at once when the result was taken before.
    pub fn wait_done(&self, timeout: Duration) -> Option<Result<T, JobError>> {
        let state = lock(&self.mailbox.state);
        let (mut state, _) = self
            .mailbox
            .finished
            .wait_timeout_while(state, timeout, |s| matches!(s, Outcome::Running))
            .unwrap_or_else(PoisonError::into_inner);
        take_ready(&mut state)
    }

    /// Tells whether the job has ended, whether or not its result was taken.
    pub fn is_finished(&self) -> bool {
        !matches!(*lock(&self.mailbox.state), Outcome::Running)
    }
}

fn take_ready<T>(state: &mut Outcome<T>) -> Option<Result<T, JobError>> {
    match std::mem::replace(state, Outcome::Taken) {
        Outcome::Ready(result) => Some(result),
        Outcome::Running => {
            *state = Outcome::Running;
            None
        }
        Outcome::Taken => None,
    }
}

impl<P, T> Drop for JobHandle<P, T> {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl<P, T> fmt::Debug for JobHandle<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("generation", &self.generation)
            .field("cancel", &self.cancel)
            .field("progress", &self.progress)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// Runs `body` on a new thread called `name`.
///
/// `generation` is handed back in [`JobHandle::generation`]; `wake` is called from the new thread after every partial
/// result and after the end. A panic of `body` becomes [`JobError::Panicked`].
///
/// # Errors
/// When the operating system refuses a new thread, or `name` contains a NUL character.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use quantscope::jobs;
///
/// let job = jobs::spawn("sum", 1, Arc::new(|| ()), |job| {
///     job.progress.start_stage("Adding", 10);
///     let mut sum = 0;
///     for i in 1..=10 {
///         job.cancel.check()?;
///         sum += i;
///         job.publish(sum);
///         job.progress.advance(1);
///     }
///     Ok(sum)
/// })?;
/// assert_eq!(job.wait_done(Duration::MAX), Some(Ok(55)));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn spawn<P, T, F>(
    name: &str,
    generation: u64,
    wake: Wake,
    body: F,
) -> io::Result<JobHandle<P, T>>
where
    P: Send + 'static,
    T: Send + 'static,
    F: FnOnce(&JobContext<P>) -> Result<T, JobError> + Send + 'static,
{
    if name.contains('\0') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a thread name cannot contain a NUL character",
        ));
    }
    let mailbox = Arc::new(Mailbox {
        partial: Mutex::new(None),
        state: Mutex::new(Outcome::Running),
        finished: Condvar::new(),
    });
    let cancel = CancelToken::default();
    let progress = Arc::new(Progress::default());
    let context = job_context(
        &mailbox,
        cancel.clone(),
        Arc::clone(&progress),
        Arc::clone(&wake),
    );
    let outbox = Arc::clone(&mailbox);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            workers::yield_to_window();
            let result = catch_unwind(AssertUnwindSafe(|| body(&context)))
                .unwrap_or_else(|payload| Err(JobError::Panicked(panic_text(&*payload))));
            *lock(&outbox.state) = Outcome::Ready(result);
            outbox.finished.notify_all();
            wake();
        })?;
    Ok(JobHandle {
        generation,
        cancel,
        progress,
        mailbox,
    })
}

fn job_context<P, T>(
    mailbox: &Arc<Mailbox<P, T>>,
    cancel: CancelToken,
    progress: Arc<Progress>,
    wake: Wake,
) -> JobContext<P>
where
    P: Send + 'static,
    T: Send + 'static,
{
    let outbox = Arc::clone(mailbox);
    let publish = Box::new(move |partial| {
        let unread = lock(&outbox.partial).replace(partial);
        // Freed outside the lock, for it may be large.
        drop(unread);
        wake();
    });
    JobContext {
        cancel,
        progress,
        publish,
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{atomic::AtomicUsize, mpsc::sync_channel};

    use super::*;

    fn quiet() -> Wake {
        Arc::new(|| ())
    }

    #[test]
    fn the_newest_partial_wins_and_the_end_is_delivered_once() {
        let (go, started) = sync_channel::<()>(0);
        let job = spawn("t", 7, quiet(), move |job| {
            for i in 0..1000 {
                job.publish(i);
            }
            started.recv().ok();
            Ok("end")
        })
        .unwrap();
        assert_eq!(job.generation, 7);
        assert!(!job.is_finished());
        assert_eq!(job.poll_done(), None);
        go.send(()).unwrap();
        assert_eq!(job.wait_done(Duration::MAX), Some(Ok("end")));
        assert_eq!(job.poll_partial(), Some(999));
        assert_eq!(job.poll_partial(), None);
        assert!(job.is_finished());
        assert_eq!(job.poll_done(), None, "the result is handed out once");
        assert_eq!(
            job.wait_done(Duration::MAX),
            None,
            "and waiting for it again returns at once"
        );
    }

    #[test]
    fn wake_follows_every_partial_and_the_end() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let (tell, told) = sync_channel::<()>(8);
        let wake: Wake = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            tell.send(()).ok();
        });
        let job = spawn("t", 0, wake, |job| {
            job.publish(1);
            job.publish(2);
            Ok(())
        })
        .unwrap();
        for _ in 0..3 {
            told.recv().unwrap();
        }
        assert_eq!(wakes.load(Ordering::SeqCst), 3);
        assert_eq!(
            job.poll_done(),
            Some(Ok(())),
            "the result is there when the last wake arrives"
        );
    }

    #[test]
    fn cancelling_stops_the_body() {
        let job = spawn::<(), (), _>("t", 0, quiet(), |job| {
            loop {
                job.cancel.check()?;
                thread::yield_now();
            }
        })
        .unwrap();
        job.cancel.cancel();
        assert_eq!(job.wait_done(Duration::MAX), Some(Err(JobError::Cancelled)));
    }

    #[test]
    fn paused_work_waits_on_its_own_thread_and_never_on_a_worker() {
        let token = CancelToken::default();
        token.set_paused(true);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert_eq!(pool.install(|| token.check()), Ok(()));
        let (go, started) = sync_channel::<()>(0);
        let job = spawn::<(), (), _>("t", 0, quiet(), move |job| {
            started.recv().ok();
            Ok(job.cancel.check()?)
        })
        .unwrap();
        job.cancel.set_paused(true);
        go.send(()).unwrap();
        assert_eq!(job.wait_done(10 * PAUSE_STEP), None);
        job.cancel.set_paused(false);
        assert_eq!(job.wait_done(Duration::MAX), Some(Ok(())));
    }

    #[test]
    fn dropping_the_handle_cancels() {
        let (tell, told) = sync_channel(1);
        let job = spawn::<(), (), _>("t", 0, quiet(), move |job| {
            while !job.cancel.is_cancelled() {
                thread::yield_now();
            }
            tell.send(thread::current().name().map(str::to_owned)).ok();
            Ok(())
        })
        .unwrap();
        drop(job);
        assert_eq!(told.recv().unwrap().as_deref(), Some("t"));
    }

    #[test]
    fn failures_and_panics_arrive_as_errors() {
        type Body = fn(&JobContext<()>) -> Result<(), JobError>;
        let cases: [(Body, JobError); 4] = [
            (
                |_| Err(JobError::Failed("disk full".to_owned())),
                JobError::Failed("disk full".to_owned()),
            ),
            (|_| panic!("plain"), JobError::Panicked("plain".to_owned())),
            (
                |_| panic!("number {}", 3),
                JobError::Panicked("number 3".to_owned()),
            ),
            (
                |_| std::panic::panic_any(5_u8),
                JobError::Panicked("a panic without a text".to_owned()),
            ),
        ];
        for (body, expected) in cases {
            let job = spawn("t", 0, quiet(), body).unwrap();
            assert_eq!(job.wait_done(Duration::MAX), Some(Err(expected)));
        }
    }

    #[test]
    fn a_panic_while_publishing_keeps_the_last_partial_readable() {
        let job = spawn::<i32, (), _>("t", 0, quiet(), |job| {
            job.publish(4);
            panic!("later");
        })
        .unwrap();
        assert!(matches!(
            job.wait_done(Duration::MAX),
            Some(Err(JobError::Panicked(_)))
        ));
        assert_eq!(job.poll_partial(), Some(4));
    }

    #[test]
    fn a_bad_thread_name_is_an_error() {
        assert!(spawn::<(), (), _>("a\0b", 0, quiet(), |_| Ok(())).is_err());
    }
}
