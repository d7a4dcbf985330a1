//! Products with a constant matrix.

use super::file::Options;
use super::layout::Layout;
use super::lowering::{Call, Lowered, Lowering};
use super::schema::{Builtin, ElementKind};
use super::weights::{WeightForm, bias, weight};
use crate::model::{Node, NodeId, Op};

/// `FULLY_CONNECTED`, whose weight is `[out, in]`.
pub(super) fn fully_connected(lowering: &mut Lowering<'_>, id: NodeId, node: &Node) -> Lowered<()> {
    let (layer, one) = lowering
        .layer(id)
        .ok_or_else(|| "its second matrix is computed".to_owned())?;
    let (fused, output) = lowering.result(id, node)?;
    if layer.weight_shape.len() != 2 {
        return Err(format!("its weight has {} axes", layer.weight_shape.len()));
    }
    if let Op::Gemm {
        alpha,
        beta,
        trans_a,
        ..
    } = node.op
    {
        if trans_a {
            return Err("its input is transposed".to_owned());
        }
        if alpha != 1.0 || (beta != 1.0 && layer.bias.is_some()) {
            return Err(format!("its factors are {alpha} and {beta}"));
        }
        if node.input(2).is_some() && layer.bias.is_none() {
            return Err("its bias is computed".to_owned());
        }
    }
    let outputs = layer.weight_shape.get(layer.channel_axis).copied();
    let outputs = outputs.unwrap_or_default();
    let grid = lowering.operand_grid(layer.input, output);
    let x = lowering.read(layer.input, Layout::AsInGraph, grid)?;
    let form = WeightForm {
        shape: layer.weight_shape.clone(),
        axes: if layer.channel_axis == 0 {
            vec![0, 1]
        } else {
            vec![1, 0]
        },
        channel_axis: 0,
        takes_4_bits: true,
    };
    let w = weight(lowering, layer, one, &form, grid)?;
    let b = bias(lowering, layer, one, (grid, &w), outputs)?;
    lowering.note_sums(Builtin::FullyConnected, (id, output), grid, (&w, &b));
    let call = Call {
        builtin: Builtin::FullyConnected,
        version: version(lowering.kind(output), w.kind),
        inputs: vec![x, w.tensor, b.tensor],
        options: Options::FullyConnected {
            fused,
            asymmetric: grid.is_none() && w.kind != ElementKind::F32,
        },
    };
    lowering.emit(call, output, Layout::AsInGraph);
    Ok(())
}

/// Keeping the rank needs version 5.
fn version(input: ElementKind, weight: ElementKind) -> i32 {
    match (input, weight) {
        (ElementKind::F32, ElementKind::F32) => 5,
        (ElementKind::F32, _) => 12,
        (_, ElementKind::I4) => 10,
        (ElementKind::I16, _) => 7,
        _ => 5,
    }
}
