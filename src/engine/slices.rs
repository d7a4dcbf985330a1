//! Reading tensors as slices, and comparing them chunk by chunk.

use std::borrow::Cow;

use candle_core::{CpuStorage, Storage, Tensor};

use super::kernels::blocked::BLOCK;
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
        (Value::Blocked { image, channels }, Value::Blocked { image: other, .. })
            if !channels.is_multiple_of(BLOCK) =>
        {
            compare_lanes(image, other, *channels)
        }
        (Value::Blocked { image, .. }, Value::Blocked { image: other, .. }) => {
            compare(image, other)
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

/// As [`compare`] for images in blocks, without the lanes beyond the last channel.
fn compare_lanes(
    reference: &Tensor,
    approximation: &Tensor,
    channels: usize,
) -> candle_core::Result<ErrorSum> {
    let &[_, blocks, height, width, BLOCK] = reference.dims() else {
        candle_core::bail!("expected an image in blocks, got {:?}", reference.dims());
    };
    if reference.dims() != approximation.dims() {
        candle_core::bail!(
            "cannot compare shapes {:?} and {:?}",
            reference.dims(),
            approximation.dims()
        );
    }
    let plane = (height * width * BLOCK).max(1);
    with_f32(reference, |reference| {
        with_f32(approximation, |approximation| {
            let mut parts = vec![ErrorSum::default(); reference.len() / plane];
            for_each_chunk(&mut parts, 1, |index, parts| {
                let lanes = BLOCK.min(channels - index % blocks * BLOCK);
                let [reference, approximation] = [reference, approximation]
                    .map(|image| first_lanes(&image[index * plane..][..plane], lanes));
                for part in parts {
                    part.add(&reference, &approximation);
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

/// The first lanes of every pixel.
fn first_lanes(pixels: &[f32], lanes: usize) -> Cow<'_, [f32]> {
    if lanes == BLOCK {
        return Cow::Borrowed(pixels);
    }
    let mut first = Vec::with_capacity(pixels.len() / BLOCK * lanes);
    for pixel in pixels.chunks_exact(BLOCK) {
        first.extend_from_slice(&pixel[..lanes]);
    }
    Cow::Owned(first)
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
    fn lanes_beyond_the_last_channel_do_not_count() -> candle_core::Result<()> {
        let image = |shift: f32| -> candle_core::Result<Value> {
            let values: Vec<f32> = (0..2 * 19 * 6).map(|i| i as f32 * 0.25 + shift).collect();
            Ok(Tensor::from_vec(values, (2, 19, 2, 3), &Device::Cpu)?.into())
        };
        let (plain, other) = (image(0.0)?, image(0.5)?);
        let blocked = |value: &Value| -> candle_core::Result<Value> {
            let (image, channels) = value.blocked()?.unwrap();
            // What lies in the other lanes does not matter.
            let filled = image.maximum(&image.ones_like()?)?;
            Ok(Value::Blocked {
                image: filled,
                channels,
            })
        };
        let expected = compare_values(
            &blocked(&plain)?.plain()?.into(),
            &blocked(&other)?.plain()?.into(),
        )?;
        let found = compare_values(&blocked(&plain)?, &blocked(&other)?)?;
        assert_eq!(found.count, 2 * 19 * 6);
        assert!((found.signal - expected.signal).abs() <= 1e-9 * expected.signal);
        assert!((found.noise - expected.noise).abs() <= 1e-9 * expected.noise);
        Ok(())
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
