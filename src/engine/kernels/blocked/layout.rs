//! From rows of channels to blocks of channels, and back.

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::super::parallel::for_each_chunk;
use super::super::written::written;
use super::super::{checked_len, contiguous_f32};
use super::{BLOCK, Pixel};

/// `[batch, channels, height, width]` in blocks; the lanes beyond the last channel are zero.
///
/// # Errors
/// A tensor that is not four-dimensional `f32`.
pub fn block_channels(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Block)
}

/// The first `channels` of a blocked image as `[batch, channels, height, width]`.
///
/// # Errors
/// A tensor that is not a blocked image, or has fewer channels.
pub fn unblock_channels(x: &Tensor, channels: usize) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&Unblock { channels })
}

/// `[batch, blocks, height, width]` of a blocked image.
pub(super) fn blocked_dims(layout: &Layout) -> Result<[usize; 4]> {
    match *layout.dims() {
        [batch, blocks, height, width, BLOCK] => Ok([batch, blocks, height, width]),
        ref other => bail!("expected a blocked image [N, C/16, H, W, 16], got {other:?}"),
    }
}

struct Block;

impl CustomOp1 for Block {
    fn name(&self) -> &'static str {
        "block_channels"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let blocks = channels.div_ceil(BLOCK);
        let (pixels, shape) = (height * width, [batch, blocks, height, width, BLOCK]);
        let mut y = vec![0.0; checked_len(&shape)?];
        if !y.is_empty() {
            for_each_chunk(&mut y, pixels * BLOCK, |index, block| {
                let (sample, first) = (index / blocks, index % blocks * BLOCK);
                let lanes = BLOCK.min(channels - first);
                let planes = &x[(sample * channels + first) * pixels..][..lanes * pixels];
                interleave(planes, block.as_chunks_mut().0);
            });
        }
        Ok((CpuStorage::F32(y), Shape::from_dims(&shape)))
    }
}

/// Writes planes, one after another, into the lanes of pixels.
pub(super) fn interleave(planes: &[f32], pixels: &mut [Pixel]) {
    for (lane, plane) in planes.chunks_exact(pixels.len().max(1)).enumerate() {
        for (pixel, value) in pixels.iter_mut().zip(plane) {
            pixel[lane] = *value;
        }
    }
}

struct Unblock {
    channels: usize,
}

impl CustomOp1 for Unblock {
    fn name(&self) -> &'static str {
        "unblock_channels"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let [batch, blocks, height, width] = blocked_dims(layout)?;
        let channels = self.channels;
        if channels.div_ceil(BLOCK) != blocks {
            bail!("{channels} channels do not fill {blocks} blocks");
        }
        let (pixels, shape) = (height * width, [batch, channels, height, width]);
        let mut y = vec![0.0; checked_len(&shape)?];
        if !y.is_empty() {
            let source = x.as_chunks::<BLOCK>().0;
            for_each_chunk(&mut y, channels * pixels, |sample, planes| {
                for (index, plane) in planes.chunks_exact_mut(pixels).enumerate() {
                    let first = (sample * blocks + index / BLOCK) * pixels;
                    let lane = index % BLOCK;
                    for (value, pixel) in plane.iter_mut().zip(&source[first..]) {
                        *value = pixel[lane];
                    }
                }
            });
        }
        Ok((CpuStorage::F32(y), Shape::from_dims(&shape)))
    }
}

/// A pixel that is written for the first time.
type Target = [MaybeUninit<f32>; BLOCK];

/// Joins blocked images along their channels.
///
/// # Errors
/// No image, images of other batches or sizes, or fewer lanes than channels.
pub fn concat_blocked(images: &[(&Tensor, usize)]) -> Result<Tensor> {
    let Some((first, _)) = images.first() else {
        bail!("nothing to join");
    };
    let [batch, _, height, width] = blocked_dims(first.layout())?;
    let channels: usize = images.iter().map(|(_, channels)| channels).sum();
    let (blocks, pixels) = (channels.div_ceil(BLOCK), height * width);
    let shape = [batch, blocks, height, width, BLOCK];
    let y = written(checked_len(&shape)?, |y| {
        if !channels.is_multiple_of(BLOCK) {
            y.fill(MaybeUninit::new(0.0));
        }
        let mut at = 0;
        for (image, count) in images {
            let [samples, own_blocks, own_height, own_width] = blocked_dims(image.layout())?;
            if [samples, own_height, own_width] != [batch, height, width]
                || count.div_ceil(BLOCK) != own_blocks
            {
                bail!("cannot join {:?} with {:?}", image.dims(), first.dims());
            }
            crate::engine::slices::with_f32(image, |x| {
                let source = x.as_chunks::<BLOCK>().0;
                let per_sample = own_blocks * pixels;
                for_each_chunk(y, blocks * pixels * BLOCK, |sample, target| {
                    let source = &source[sample * per_sample..][..per_sample];
                    copy_lanes(source, *count, target.as_chunks_mut().0, at, pixels);
                });
                Ok(())
            })?;
            at += count;
        }
        Ok(())
    })?;
    Tensor::from_vec(y, &shape, first.device())
}

/// Copies the first `count` channels of one sample behind the first `at` of another.
fn copy_lanes(source: &[Pixel], count: usize, target: &mut [Target], at: usize, pixels: usize) {
    let mut done = 0;
    while done < count {
        let (from, to) = (done % BLOCK, (at + done) % BLOCK);
        let length = (BLOCK - from).min(BLOCK - to).min(count - done);
        let source = &source[done / BLOCK * pixels..][..pixels];
        let target = &mut target[(at + done) / BLOCK * pixels..][..pixels];
        match (length, from % 4, to % 4) {
            (BLOCK, ..) => {
                target
                    .as_flattened_mut()
                    .write_copy_of_slice(source.as_flattened());
            }
            // Runs of known size are copied without a call.
            (8, 0, 0) => copy_run::<8>(source, from, target, to),
            (4 | 12, 0, 0) => {
                for part in (0..length).step_by(4) {
                    copy_run::<4>(source, from + part, target, to + part);
                }
            }
            _ => {
                for lane in 0..length {
                    copy_run::<1>(source, from + lane, target, to + lane);
                }
            }
        }
        done += length;
    }
}

/// Copies `N` lanes of every pixel.
fn copy_run<const N: usize>(source: &[Pixel], from: usize, target: &mut [Target], to: usize) {
    let (from, to) = (from.min(BLOCK - N), to.min(BLOCK - N));
    for (to_pixel, from_pixel) in target.iter_mut().zip(source) {
        let run: [f32; N] = std::array::from_fn(|lane| from_pixel[from + lane]);
        to_pixel[to..to + N].write_copy_of_slice(&run);
    }
}
