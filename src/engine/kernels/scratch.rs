//! Buffers that a thread keeps between kernels.

use std::cell::RefCell;

thread_local! {
    static FLOATS: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
    static CODES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Elements that have buffers.
pub(super) trait Element: Copy + Default + 'static {
    fn take() -> Option<Vec<Self>>;
    fn give_back(buffer: Vec<Self>);
}

impl Element for f32 {
    fn take() -> Option<Vec<Self>> {
        FLOATS.with_borrow_mut(Vec::pop)
    }
    fn give_back(buffer: Vec<Self>) {
        FLOATS.with_borrow_mut(|kept| kept.push(buffer));
    }
}

impl Element for u8 {
    fn take() -> Option<Vec<Self>> {
        CODES.with_borrow_mut(Vec::pop)
    }
    fn give_back(buffer: Vec<Self>) {
        CODES.with_borrow_mut(|kept| kept.push(buffer));
    }
}

/// Lends a buffer of `len` elements with what it held before, and an empty-handed second one.
///
/// A thread that waits inside `work` may lend another; each call has buffers of its own.
pub(super) fn with_scratch<T: Element, R>(
    len: usize,
    work: impl FnOnce(&mut [T], &mut Vec<T>) -> R,
) -> R {
    let mut buffer = T::take().unwrap_or_default();
    let mut second = T::take().unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    let result = work(&mut buffer[..len], &mut second);
    // In this order, so that the large one is the next that is taken.
    T::give_back(second);
    T::give_back(buffer);
    result
}
