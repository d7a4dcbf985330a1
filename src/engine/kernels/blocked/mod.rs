//! Kernels on images whose channels lie in blocks of 16.
//!
//! A blocked image is a tensor `[batch, ⌈channels / 16⌉, height, width, 16]`: the 16 channels of one
//! pixel are one cache line. A convolution then reads one weight vector and one pixel's channel at a
//! time, without unrolled patches, without dropped columns, and at constant distances; what acts on
//! elements needs no change at all. Where the channels are no multiple of 16, the last lanes hold
//! numbers without meaning.

mod affine;
mod conv;
mod depthwise;
mod dft;
mod finish;
mod gram;
#[cfg(test)]
mod gram_tests;
mod integer;
mod layout;
mod pool;
mod products;
mod reading;
mod reduce;
mod regions;
mod spectral;
mod spectral_sums;
mod strips;
#[cfg(test)]
mod tests;
mod tile;
mod transpose;
mod units;
mod weights;
mod winograd;
mod winograd_transforms;

pub use affine::scale_and_shift_blocked;
pub use conv::{ConvInput, ConvOutput, conv2d_blocked};
pub use gram::{Patch, PatchGram, PatchWindows};
pub use integer::has_integer_dot_products;
pub use layout::{block_channels, concat_blocked, unblock_channels};
pub use pool::{average_pool_blocked, global_average_pool_blocked, max_pool_blocked};
pub use transpose::{BlockedConvTransposeWeights, conv_transpose2d_blocked};
pub use weights::{BlockedConvWeights, ChannelAffine};

/// Channels of a block.
pub const BLOCK: usize = 16;

/// The channels of one pixel in one block.
type Pixel = [f32; BLOCK];
