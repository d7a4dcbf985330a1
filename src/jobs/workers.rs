//! The threads that all parallel work of the program shares.

use std::io;

use thread_priority::{ThreadPriority, ThreadPriorityValue};

/// Priority of computing threads, from 0 to 99; half of that is normal, and this is nice 9 on Linux.
const COMPUTING: u8 = 25;

/// Starts the program's one pool of worker threads, unless it runs already.
///
/// The workers have a priority below that of the window, so that they take what it leaves.
/// Jobs do not run on them: a job stays on its own thread and hands them its loops. So a job that
/// waits holds none of them, and the loops of several jobs take turns.
///
/// # Errors
/// The operating system refuses a thread.
pub fn start_workers(threads: usize) -> io::Result<()> {
    let built = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("worker-{index}"))
        .start_handler(|_| yield_to_window())
        .build_global();
    match built {
        // The pool is there already.
        Err(error) if std::error::Error::source(&error).is_none() => Ok(()),
        Err(error) => Err(io::Error::other(error)),
        Ok(()) => Ok(()),
    }
}

/// Threads of the pool that [`start_workers`] started.
pub fn worker_count() -> usize {
    rayon::current_num_threads()
}

/// Lets the current thread compute only where the window does not.
pub(super) fn yield_to_window() {
    let set = ThreadPriorityValue::try_from(COMPUTING)
        .map(|priority| ThreadPriority::Crossplatform(priority).set_for_current());
    if !matches!(set, Ok(Ok(()))) {
        tracing::debug!("the priority of a thread stays as it is: {set:?}");
    }
}

/// Whether this thread is a worker, which must never wait for another job.
pub(super) fn is_worker() -> bool {
    rayon::current_thread_index().is_some()
}
