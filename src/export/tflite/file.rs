//! A `TFLite` model before it is written: tensors and operators of its one subgraph.

use super::schema::{Builtin, ElementKind, Fused, WindowPadding};

/// What codes of a tensor stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantization {
    /// One scale, or one for each index of `axis`.
    pub scales: Vec<f32>,
    /// As many zero points.
    pub zero_points: Vec<i64>,
    /// The axis that several scales run over (`quantized_dimension`).
    pub axis: usize,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub name: String,
    /// Lengths for a batch of 1, or of the batch that the model fixes.
    pub shape: Vec<usize>,
    /// Axes whose length the batch decides.
    pub free_axes: Vec<usize>,
    pub kind: ElementKind,
    pub quantization: Option<Quantization>,
    /// Little-endian elements of a constant.
    pub data: Option<Vec<u8>>,
}

/// What an operator is told beside its inputs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Options {
    /// An empty table.
    Empty,
    Conv {
        window: Window,
        dilations: [usize; 2],
        fused: Fused,
    },
    DepthwiseConv {
        window: Window,
        multiplier: usize,
        dilations: [usize; 2],
        fused: Fused,
    },
    Pool {
        window: Window,
        kernel: [usize; 2],
    },
    FullyConnected {
        fused: Fused,
        /// Whether float inputs are quantized over their own range, not around zero.
        asymmetric: bool,
    },
    TransposeConv {
        window: Window,
        fused: Fused,
    },
    Softmax,
    Concatenation {
        axis: usize,
    },
    Add {
        fused: Fused,
    },
    Sub {
        fused: Fused,
    },
    Mul {
        fused: Fused,
    },
    Reshape {
        shape: Vec<i32>,
    },
    ResizeBilinear {
        align_corners: bool,
        half_pixel_centers: bool,
    },
    ResizeNearest {
        align_corners: bool,
        half_pixel_centers: bool,
    },
    Mean {
        keep_dims: bool,
    },
    StridedSlice {
        begin_mask: i32,
        end_mask: i32,
    },
    LeakyRelu {
        alpha: f32,
    },
}

/// Step and border of a window, height first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub padding: WindowPadding,
    pub strides: [usize; 2],
}

/// An operator applied to tensors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operator {
    pub builtin: Builtin,
    /// The least version of the kernel that takes these types.
    pub version: i32,
    /// Indices of tensors; `None` is an omitted optional input.
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<usize>,
    pub options: Options,
}

/// The model.
#[derive(Clone, Debug, Default)]
pub(super) struct TfliteFile {
    /// Where the file comes from.
    pub description: String,
    /// Name of the graph.
    pub name: String,
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

impl TfliteFile {
    /// Adds a tensor and gives its index.
    pub(super) fn tensor(&mut self, tensor: Tensor) -> usize {
        self.tensors.push(tensor);
        self.tensors.len() - 1
    }

    /// Bytes of all constants.
    pub(super) fn constant_bytes(&self) -> u64 {
        let data = self
            .tensors
            .iter()
            .filter_map(|tensor| tensor.data.as_ref());
        data.map(|data| data.len() as u64).sum()
    }
}
