//! A value on its way through the network.

use candle_core::{CpuStorage, DType, Result, Storage, Tensor};

use super::error::TensorSummary;
use super::kernels::blocked::{BLOCK, block_channels, unblock_channels};
use super::kernels::{Activation, activate_joined};

/// A tensor, or an image whose channels lie in blocks (see [`blocked`](super::kernels::blocked)).
///
/// Both mean the same numbers; the network's inputs and outputs are always plain. Cloning is cheap.
#[derive(Clone, Debug)]
pub enum Value {
    /// The tensor as the graph describes it.
    Plain(Tensor),
    /// The image `[batch, channels, height, width]` in blocks.
    Blocked {
        /// `[batch, ⌈channels / 16⌉, height, width, 16]`.
        image: Tensor,
        /// Channels that mean something.
        channels: usize,
    },
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Plain(tensor)
    }
}

impl Value {
    /// The tensor as the graph describes it.
    ///
    /// # Errors
    /// The image is larger than a kernel allocates.
    pub fn plain(&self) -> Result<Tensor> {
        match self {
            Self::Plain(tensor) => Ok(tensor.clone()),
            Self::Blocked { image, channels } => unblock_channels(image, *channels),
        }
    }

    /// A tensor of the same elements, each once, in any order that depends on the shape alone.
    ///
    /// # Errors
    /// As [`Value::plain`].
    pub fn elements(&self) -> Result<Tensor> {
        match self {
            Self::Blocked { image, channels } if channels.is_multiple_of(BLOCK) => {
                Ok(image.clone())
            }
            _ => self.plain(),
        }
    }

    /// The image in blocks; `None` if the value is no image of floats.
    ///
    /// # Errors
    /// The image is larger than a kernel allocates.
    pub(super) fn blocked(&self) -> Result<Option<(Tensor, usize)>> {
        match self {
            Self::Blocked { image, channels } => Ok(Some((image.clone(), *channels))),
            Self::Plain(tensor) => match *tensor.dims() {
                [_, channels, _, _] if tensor.dtype() == DType::F32 => {
                    Ok(Some((block_channels(tensor)?, channels)))
                }
                _ => Ok(None),
            },
        }
    }

    /// Shape of the value in the graph.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::Plain(tensor) => tensor.dims().to_vec(),
            Self::Blocked { image, channels } => match *image.dims() {
                [batch, _, height, width, _] => vec![batch, *channels, height, width],
                ref other => other.to_vec(),
            },
        }
    }

    /// Bytes that the value keeps from being freed: those of its storage, of which it may be a view.
    pub fn held_bytes(&self) -> usize {
        let tensor = self.tensor();
        let elements = match &*tensor.storage_and_layout().0 {
            Storage::Cpu(CpuStorage::F32(values)) => values.len(),
            Storage::Cpu(CpuStorage::I64(values)) => values.len(),
            Storage::Cpu(CpuStorage::U8(values)) => values.len(),
            _ => tensor.elem_count(),
        };
        elements * tensor.dtype().size_in_bytes()
    }

    pub(super) fn summary(&self) -> TensorSummary {
        TensorSummary {
            dtype: self.tensor().dtype(),
            shape: self.dims(),
        }
    }

    /// What holds the elements.
    fn tensor(&self) -> &Tensor {
        let (Self::Plain(tensor) | Self::Blocked { image: tensor, .. }) = self;
        tensor
    }

    /// Samples `start..start + len` along the first axis; shares the elements.
    ///
    /// # Errors
    /// The value has no such samples.
    pub(super) fn samples(&self, start: usize, len: usize) -> Result<Self> {
        self.map(|tensor| tensor.narrow(0, start, len))
    }

    /// The same layout with other elements.
    pub(super) fn map(&self, function: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(match self {
            Self::Plain(tensor) => Self::Plain(function(tensor)?),
            Self::Blocked { image, channels } => Self::Blocked {
                image: function(image)?,
                channels: *channels,
            },
        })
    }

    /// Joins pieces of a batch along the first axis.
    ///
    /// # Errors
    /// No pieces, or pieces of different layouts or shapes.
    pub(super) fn joined(pieces: &[&Self]) -> Result<Self> {
        Self::joined_and_activated(pieces, Activation::None)
    }

    /// As [`Value::joined`], with a function applied to every element.
    ///
    /// # Errors
    /// As [`Value::joined`], or elements that are no `f32`.
    pub(super) fn joined_and_activated(pieces: &[&Self], activation: Activation) -> Result<Self> {
        let tensors: Vec<&Tensor> = pieces.iter().map(|piece| piece.tensor()).collect();
        let joined = match (&tensors[..], activation) {
            ([only], Activation::None) => (*only).clone(),
            (_, Activation::None) => Tensor::cat(&tensors, 0)?,
            _ => activate_joined(&tensors, activation)?,
        };
        Ok(match pieces {
            [Self::Blocked { channels, .. }, ..] => Self::Blocked {
                image: joined,
                channels: *channels,
            },
            _ => Self::Plain(joined),
        })
    }
}
