//! What integer kernels ask of the grids around an operator.

use super::grid::StoredGrid;
use crate::model::{
    Binary, Graph, Node, Op, PadMode, Pool, Reduction, ResizeMode, Unary, Variadic,
};

/// How the grid of an output depends on those of the inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// The output has a grid of its own.
    Computes,
    /// The output has the grid of the inputs, and quantizing before or after is the same.
    Keeps,
    /// The output has the grid of the input, but its numbers are new.
    Averages,
    /// The output has a given grid: `scale` and `zero_point` in 8 bits, and the scale in 16.
    Fixed {
        scale: f32,
        zero_point: i32,
        wide_scale: f32,
    },
}

/// The role of a node; that of nodes without kernels does not matter.
pub(super) fn role(node: &Node, whole_window: bool) -> Role {
    match &node.op {
        Op::AveragePool(_) if !whole_window => Role::Averages,
        Op::Resize(resize) if resize.mode != ResizeMode::Nearest => Role::Averages,
        // The kernel demands 1/256 and −128, and 1/32768 in 16 bits, for what lies in 0..1.
        Op::Softmax { .. } | Op::Unary(Unary::Sigmoid) => Role::Fixed {
            scale: 1.0 / 256.0,
            zero_point: -128,
            wide_scale: 1.0 / 32768.0,
        },
        Op::Unary(Unary::Tanh) => Role::Fixed {
            scale: 1.0 / 128.0,
            zero_point: 0,
            wide_scale: 1.0 / 32768.0,
        },
        Op::MaxPool(_)
        | Op::GlobalMaxPool
        | Op::Reshape { .. }
        | Op::Flatten { .. }
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Transpose { .. }
        | Op::Slice
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Identity
        | Op::Resize(_) => Role::Keeps,
        _ => Role::Computes,
    }
}

impl Role {
    /// The given grid, where there is one.
    pub(super) fn fixed(self, wide: bool) -> Option<StoredGrid> {
        match self {
            Self::Fixed {
                scale,
                zero_point,
                wide_scale,
            } => Some(StoredGrid {
                scale: if wide { wide_scale } else { scale },
                zero_point: if wide { 0 } else { zero_point },
                wide,
            }),
            _ => None,
        }
    }
}

/// Whether an average is over the whole image without a border.
pub(super) fn is_whole_window(pool: &Pool, spatial: &[usize]) -> bool {
    let no_border = match &pool.padding {
        crate::model::Padding::Explicit(pads) => pads.iter().all(|pad| *pad == 0),
        _ => true,
    };
    pool.kernel == spatial && no_border && pool.dilations.iter().all(|dilation| *dilation == 1)
}

/// Whether an operator can be written at all, as far as its kind says.
pub(super) fn has_kernel(graph: &Graph, node: &Node) -> bool {
    let constant = |index: usize| {
        let input = node.input(index);
        input.is_some_and(|id| graph.is_initializer(id))
    };
    match &node.op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm { .. } | Op::MatMul => constant(1),
        Op::BatchNormalization { .. } => (1..5).all(constant),
        Op::Binary(op) => matches!(op, Binary::Add | Binary::Sub | Binary::Mul),
        Op::Variadic(Variadic::Sum) => node.inputs.len() == 2,
        Op::Unary(op) => matches!(
            op,
            Unary::Relu | Unary::LeakyRelu { .. } | Unary::Sigmoid | Unary::Tanh | Unary::HardSwish
        ),
        Op::Clip => super::fusion::fused(graph, node).is_some(),
        Op::Reduce { reduction, .. } => *reduction == Reduction::Mean,
        Op::Pad { mode } => *mode == PadMode::Constant,
        Op::Resize(resize) => resize.mode != ResizeMode::Cubic,
        Op::AveragePool(_)
        | Op::MaxPool(_)
        | Op::GlobalAveragePool
        | Op::GlobalMaxPool
        | Op::Softmax { .. }
        | Op::Reshape { .. }
        | Op::Flatten { .. }
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Transpose { .. }
        | Op::Slice
        | Op::Concat { .. }
        | Op::Identity => true,
        _ => false,
    }
}
