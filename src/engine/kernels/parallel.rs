//! Whether kernels split their work.
//!
//! A batch is best cut into pieces that each go through the whole network on one thread: their
//! activations stay in that thread's cache, and no thread waits for another between two nodes. Inside
//! such a piece the kernels must not split again.

use std::cell::Cell;

use rayon::prelude::*;

thread_local! {
    static UNDIVIDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs work whose kernels stay on this thread.
pub fn undivided<R>(work: impl FnOnce() -> R) -> R {
    /// Sets the flag back also when the work panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            UNDIVIDED.set(self.0);
        }
    }
    let _restore = Restore(UNDIVIDED.replace(true));
    work()
}

/// Whether kernels may use more threads than their own.
pub fn is_divided() -> bool {
    !UNDIVIDED.get() && rayon::current_num_threads() > 1
}

/// Calls `work` for each item, on all threads where the work is divided.
///
/// A task that waits inside `work` may run others of this thread's pool, so the flag of
/// [`undivided`] does not reach them; only the caller's own thread keeps it.
pub fn for_each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync + Send) {
    if is_divided() && items.len() > 1 {
        items.into_par_iter().for_each(work);
    } else {
        items.into_iter().for_each(work);
    }
}

/// Calls `work` with the index of each chunk, on all threads where the work is divided.
pub fn for_each_chunk<T: Send>(
    values: &mut [T],
    chunk: usize,
    work: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if is_divided() && values.len() > chunk {
        values
            .par_chunks_mut(chunk)
            .enumerate()
            .for_each(|(index, part)| work(index, part));
    } else {
        for (index, part) in values.chunks_mut(chunk).enumerate() {
            work(index, part);
        }
    }
}
