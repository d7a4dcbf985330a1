//! The allocator of the program.

#![expect(
    unsafe_code,
    reason = "an allocator promises what the compiler cannot check"
)]

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

/// Bytes from which on a block starts at a cache line.
const LARGE: usize = 1024;
/// Bytes of a cache line, and of the widest registers.
const LINE: usize = 64;

/// Mimalloc, with cache lines for numbers: a register that is loaded across two lines costs two loads,
/// and the vectors of a tensor promise no more than the alignment of a number.
pub(crate) struct CacheLines;

/// `mi_option_purge_delay` of mimalloc, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// How long freed memory is kept: long enough for the next layer or batch, which asks for as much again.
const PURGE_MILLISECONDS: std::ffi::c_long = 1000;

/// Settles how long freed memory is kept. To be called before there are threads.
pub(crate) fn keep_freed_memory() {
    // SAFETY: there are no other threads, and mimalloc refuses a number that is not an option.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_MILLISECONDS) }
}

fn aligned(layout: Layout) -> Layout {
    if layout.size() < LARGE {
        return layout;
    }
    layout.align_to(LINE).unwrap_or(layout)
}

// SAFETY: every call goes to mimalloc with a layout that depends on the given one alone, and whose
// alignment is at least that of the given one.
unsafe impl GlobalAlloc for CacheLines {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.alloc(aligned(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.dealloc(block, aligned(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.alloc_zeroed(aligned(layout)) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let larger = Layout::from_size_align(size, layout.align()).map(aligned);
        let align = larger.map_or(layout.align(), |layout| layout.align());
        let layout = Layout::from_size_align(layout.size(), align).unwrap_or(layout);
        // SAFETY: as the caller promises; mimalloc takes an alignment that the old block lacks.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}
