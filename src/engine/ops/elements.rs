//! Access to the elements of tensors, and creation of new ones.

use candle_core::{Device, Storage, StorageRef, Tensor, WithDType};

use crate::engine::error::OpError;
use crate::engine::kernels::parallel::for_each_chunk;

/// The most elements that a tensor computed from shapes in the file may have.
pub(super) const MAX_ELEMENTS: usize = 1 << 31;

/// Elements handled by one task. It is fixed, so that results do not depend on the number of threads.
pub(super) const CHUNK: usize = 1 << 14;

/// Read access to the elements of a contiguous tensor, in row-major order.
pub(super) struct Elements<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> Elements<'a> {
    /// Opens a tensor; call `contiguous()` on it first.
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self, OpError> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(OpError::Message("the tensor is not contiguous".to_owned()));
        };
        Ok(Self {
            storage,
            start,
            end,
        })
    }

    pub(super) fn as_slice<T: WithDType>(&self) -> Result<&[T], OpError> {
        match &*self.storage {
            Storage::Cpu(storage) => {
                let all = T::cpu_storage_as_slice(storage)?;
                all.get(self.start..self.end).ok_or_else(|| {
                    OpError::Message("the tensor is shorter than its shape".to_owned())
                })
            }
            _ => Err(OpError::Message("the tensor is not on the CPU".to_owned())),
        }
    }
}

/// Calls a generic function for the element type of a tensor: `for_type!(x.dtype(), copy(x))`.
macro_rules! for_type {
    ($dtype:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $dtype {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::I64 => $function::<i64>($($argument),*),
            candle_core::DType::U8 => $function::<u8>($($argument),*),
            other => Err($crate::engine::error::OpError::ElementType {
                what: "an input".to_owned(),
                found: other,
                expected: "f32, i64 or bool",
            }),
        }
    };
}
pub(super) use for_type;

/// A new CPU tensor.
/// A function of every element of a tensor of floats.
pub(super) fn mapped(x: &Tensor, function: fn(f32) -> f32) -> Result<Tensor, OpError> {
    let values = x.flatten_all()?.to_vec1::<f32>()?;
    tensor(values.into_iter().map(function).collect(), x.dims())
}

pub(super) fn tensor<T: WithDType>(data: Vec<T>, shape: &[usize]) -> Result<Tensor, OpError> {
    Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
}

/// Number of elements of a shape that comes from a file.
///
/// # Errors
/// [`OpError::TooLarge`] above [`MAX_ELEMENTS`].
pub(super) fn checked_elements(shape: &[usize]) -> Result<usize, OpError> {
    let too_large = || OpError::TooLarge {
        shape: shape.to_vec(),
        limit: MAX_ELEMENTS,
    };
    if shape.contains(&0) {
        return Ok(0);
    }
    let elements = shape
        .iter()
        .try_fold(1usize, |product, &length| product.checked_mul(length))
        .ok_or_else(too_large)?;
    if elements > MAX_ELEMENTS {
        return Err(too_large());
    }
    Ok(elements)
}

/// A zeroed buffer for a tensor of `shape`, within [`MAX_ELEMENTS`].
pub(super) fn buffer<T: WithDType>(shape: &[usize]) -> Result<Vec<T>, OpError> {
    Ok(vec![T::from_f64(0.0); checked_elements(shape)?])
}

/// Fills a buffer in chunks of [`CHUNK`] elements on the current thread pool.
///
/// `fill` gets the position of its first element and the chunk.
pub(super) fn fill_chunks<T: Send>(out: &mut [T], fill: impl Fn(usize, &mut [T]) + Sync) {
    fill_chunks_of(CHUNK, out, &fill);
}

/// Fills a buffer row by row; a task gets whole rows of `row_length` elements.
///
/// `fill` gets the index of its row and the row.
pub(super) fn fill_rows<T: Send>(
    row_length: usize,
    work_per_row: usize,
    out: &mut [T],
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    if row_length == 0 {
        return;
    }
    let rows_per_chunk = CHUNK.div_ceil(work_per_row.max(1));
    fill_chunks_of(rows_per_chunk * row_length, out, &|start, chunk| {
        let first = start / row_length;
        for (row, values) in chunk.chunks_mut(row_length).enumerate() {
            fill(first + row, values);
        }
    });
}

/// Takes a trait object, so that the parallel loop is compiled once and not for every operator.
fn fill_chunks_of<T: Send>(length: usize, out: &mut [T], fill: &(dyn Fn(usize, &mut [T]) + Sync)) {
    if out.len() <= length {
        fill(0, out);
    } else {
        for_each_chunk(out, length, |index, chunk| fill(index * length, chunk));
    }
}

/// The index of an axis that may count from the end.
pub(super) fn axis_index(axis: i64, rank: usize) -> Result<usize, OpError> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..rank as i64).contains(&from_start) {
        Ok(from_start as usize)
    } else {
        Err(OpError::Shape(format!(
            "axis {axis} does not exist in a tensor of rank {rank}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_counts_are_bounded() {
        assert_eq!(checked_elements(&[]).ok(), Some(1));
        assert_eq!(checked_elements(&[2, 3]).ok(), Some(6));
        assert_eq!(checked_elements(&[usize::MAX, 0, usize::MAX]).ok(), Some(0));
        assert_eq!(checked_elements(&[1 << 16, 1 << 15]).ok(), Some(1 << 31));
        for shape in [vec![1 << 16, (1 << 15) + 1], vec![1 << 40, 1 << 40]] {
            let error = checked_elements(&shape).expect_err("too large");
            assert!(error.to_string().contains(&format!("{shape:?}")), "{error}");
        }
    }

    #[test]
    fn axes_count_from_both_ends() {
        for (axis, rank, index) in [
            (0, 2, Some(0)),
            (1, 2, Some(1)),
            (-1, 2, Some(1)),
            (-2, 2, Some(0)),
            (2, 2, None),
            (-3, 2, None),
            (0, 0, None),
            (i64::MIN, 2, None),
        ] {
            assert_eq!(axis_index(axis, rank).ok(), index, "{axis} of {rank}");
        }
    }

    #[test]
    fn rows_are_filled_once_in_place() {
        let mut out = vec![0i64; 7 * 5000];
        fill_rows(7, 7, &mut out, |row, values| {
            for (column, value) in values.iter_mut().enumerate() {
                *value += (row * 7 + column) as i64;
            }
        });
        assert!((0i64..).zip(&out).all(|(index, value)| index == *value));
    }
}
