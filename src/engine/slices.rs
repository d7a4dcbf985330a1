//! Reading tensors as slices, and comparing them chunk by chunk.

use candle_core::{CpuStorage, Storage, Tensor};

use super::kernels::parallel::for_each_chunk;
use super::value::Value;
use crate::quant::ErrorSum;

/// Elements a task handles; a fixed length keeps sums independent of the number of threads.
const CHUNK: usize = 1 << 15;

/// Calls `read` with the elements of a float tensor in row-major order.
///
/// # Errors
/// The tensor is not `f32`, or not on the CPU.
pub fn with_f32<R>(
    tensor: &Tensor,
    read: impl FnOnce(&[f32]) -> candle_core::Result<R>,
) -> candle_core::Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(values)) = &*storage else {
        candle_core::bail!("expected f32 values on the CPU, got {:?}", tensor.dtype());
    };
    let start = layout.start_offset();
    let Some(slice) = values.get(start..start + tensor.elem_count()) else {
        candle_core::bail!("the tensor's layout does not fit its storage");
    };
    read(slice)
}

/// Sums signal and noise of two values of the same shape.
///
/// # Errors
/// The shapes differ, or a value is not `f32`.
pub fn compare_values(reference: &Value, approximation: &Value) -> candle_core::Result<ErrorSum> {
    match (reference, approximation) {
        (Value::Blocked { .. }, Value::Blocked { .. }) => {
            compare(&reference.elements()?, &approximation.elements()?)
        }
        _ => compare(&reference.plain()?, &approximation.plain()?),
    }
}

/// Sums signal and noise of two tensors of the same shape.
///
/// # Errors
/// The shapes differ, or a tensor is not `f32`.
pub fn compare(reference: &Tensor, approximation: &Tensor) -> candle_core::Result<ErrorSum> {
    if reference.dims() != approximation.dims() {
        candle_core::bail!(
            "cannot compare shapes {:?} and {:?}",
            reference.dims(),
            approximation.dims()
        );
    }
    with_f32(reference, |reference| {
        with_f32(approximation, |approximation| {
            let mut parts = vec![ErrorSum::default(); reference.len().div_ceil(CHUNK)];
            for_each_chunk(&mut parts, 1, |index, parts| {
                let chunk = index * CHUNK..((index + 1) * CHUNK).min(reference.len());
                for part in parts {
                    part.add(&reference[chunk.clone()], &approximation[chunk.clone()]);
                }
            });
            let mut total = ErrorSum::default();
            for part in &parts {
                total.merge(part);
            }
            Ok(total)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_view_is_read_in_its_own_order() {
        let tensor = Tensor::from_vec(vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0], (2, 3), &Device::Cpu)
            .unwrap()
            .t()
            .unwrap();
        let values = with_f32(&tensor, |values| Ok(values.to_vec())).unwrap();
        assert_eq!(values, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn signal_and_noise_are_summed() {
        let reference = Tensor::from_vec(vec![3f32, 4.0], 2, &Device::Cpu).unwrap();
        let other = Tensor::from_vec(vec![3f32, 5.0], 2, &Device::Cpu).unwrap();
        let sum = compare(&reference, &other).unwrap();
        assert_eq!((sum.signal, sum.noise), (25.0, 1.0));
        let longer = Tensor::from_vec(vec![0f32; 3], 3, &Device::Cpu).unwrap();
        assert!(compare(&reference, &longer).is_err());
    }
}
