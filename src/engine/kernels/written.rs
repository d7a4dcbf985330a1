//! Vectors that a kernel writes for the first time.

use std::mem::MaybeUninit;

use candle_core::Result;

/// A vector of `len` numbers that `write` writes, without zeros being written first.
///
/// A kernel that writes as many bytes as it reads would feel a pass of zeros over its output. The
/// tasks of such a kernel divide all of the output among them, and a task writes every number of its
/// part.
#[expect(unsafe_code, reason = "the compiler cannot see that all is written")]
pub(super) fn written(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<()>,
) -> Result<Vec<f32>> {
    let mut values = Vec::with_capacity(len);
    write(&mut values.spare_capacity_mut()[..len])?;
    // SAFETY: `write` has written the first `len` numbers, which the capacity holds.
    unsafe { values.set_len(len) };
    Ok(values)
}
