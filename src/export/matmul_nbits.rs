//! Products with packed weights, as `MatMulNBits` of ONNX Runtime.
//!
//! Definition: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits>.

use super::error::ExportError;
use super::onnx_nodes::{Attributes as _, node};
use super::quantized::QuantizedLayer;
use super::tensors::{bytes, floats};
use crate::model::onnx_proto::{NodeProto, TensorProto};
use crate::model::{Graph, Layer, Op};
use crate::quant::{
    ActivationQuantizer, Granularity, Grid, NumberFormat, QuantSpec, QuantizedWeights,
};

/// Weights of a block where the plan has one grid for a channel.
const BLOCK: usize = 32;
/// Blocks are powers of two from here on.
const SMALLEST_BLOCK: usize = 16;
/// Inputs stay `f32` while the product is computed, as they are simulated.
const ACCURACY_LEVEL: i64 = 1;

/// Marks the layers that are written as `MatMulNBits`.
///
/// # Errors
/// There is none that can be, with what it takes.
pub fn choose_matmul_nbits(
    graph: &Graph,
    layers: &[Layer],
    quantized: &mut [QuantizedLayer],
) -> Result<(), ExportError> {
    let mut any = false;
    for (layer, one) in layers.iter().zip(quantized) {
        one.matmul_nbits = fits(graph, layer, one);
        any |= one.matmul_nbits;
    }
    if any {
        return Ok(());
    }
    Err(ExportError::Message(
        "no layer can be written as MatMulNBits: it takes Gemm and MatMul with weights of at most 8 bits, float inputs (f32), and groups of 16, 32, 64 … weights".to_owned(),
    ))
}

fn fits(graph: &Graph, layer: &Layer, one: &QuantizedLayer) -> bool {
    let product = match graph.node(layer.node).op {
        Op::MatMul => true,
        Op::Gemm {
            alpha,
            beta,
            trans_a,
            ..
        } => alpha == 1.0 && beta == 1.0 && !trans_a,
        _ => false,
    };
    let narrow = matches!(one.weight_spec.format, NumberFormat::Int(bits) if bits.get() <= 8);
    let grouped = match one.weight_spec.granularity {
        Granularity::PerGroup(size) => size.is_power_of_two() && size.get() >= SMALLEST_BLOCK,
        Granularity::PerTensor | Granularity::PerChannel => true,
    };
    product
        && narrow
        && grouped
        && one.weight.is_some()
        && layer.weight_shape.len() == 2
        && one.activation == ActivationQuantizer::Identity
}

/// A weight `[inner, outer]` in blocks along the inner axis, each with a scale.
pub(super) struct PackedProduct {
    bits: u8,
    block: usize,
    inner: usize,
    outer: usize,
    codes: Vec<u8>,
    scales: Vec<f32>,
    zero_points: Vec<u8>,
}

impl PackedProduct {
    /// Packs the codes of a layer.
    pub(super) fn of(layer: &Layer, spec: &QuantSpec, weight: &QuantizedWeights) -> Self {
        let length = |axis: usize| layer.weight_shape.get(axis).copied().unwrap_or(1);
        let by_rows = layer.channel_axis == 0;
        let (outer, inner) = if by_rows {
            (length(0), length(1))
        } else {
            (length(1), length(0))
        };
        let bits = if spec.format.bits() <= 4 { 4 } else { 8 };
        let block = match spec.granularity {
            Granularity::PerGroup(size) => size.get(),
            Granularity::PerTensor | Granularity::PerChannel => BLOCK,
        };
        let blocks = inner.div_ceil(block);
        let grids = &weight.grids;
        let grid_of = |channel: usize, index: usize| -> Option<&Grid> {
            match grids.len() {
                1 => grids.first(),
                count if count == outer => grids.get(channel),
                _ => grids.get(channel * blocks + index),
            }
        };
        let signed = grids.iter().any(|grid| grid.q_min() < 0);
        let shift = if signed { 1i32 << (bits - 1) } else { 0 };
        let values = weight.codes();
        let mut packed = Self {
            bits,
            block,
            inner,
            outer,
            codes: Vec::new(),
            scales: Vec::new(),
            zero_points: Vec::new(),
        };
        for channel in 0..outer {
            let mut own_zero_points = Vec::with_capacity(blocks);
            for index in 0..blocks {
                let Some(grid) = grid_of(channel, index) else {
                    continue;
                };
                let zero_point = (grid.zero_point() + shift) as u8;
                let codes: Vec<u8> = (index * block..(index + 1) * block)
                    .map(|k| {
                        let at = if by_rows {
                            channel * inner + k
                        } else {
                            k * outer + channel
                        };
                        let code = values.get(at).filter(|_| k < inner);
                        code.map_or(zero_point, |code| (code + shift) as u8)
                    })
                    .collect();
                packed.codes.extend(nibbles(bits, &codes));
                packed.scales.push(grid.scale());
                own_zero_points.push(zero_point);
            }
            packed.zero_points.extend(nibbles(bits, &own_zero_points));
        }
        packed
    }

    /// Codes, scales and zero points with the ends of their names; their own names are empty.
    pub(super) fn tensors(&self) -> Vec<(&'static str, TensorProto)> {
        let blocks = self.inner.div_ceil(self.block);
        let width = usize::from(self.bits);
        let dims = [self.outer, blocks, self.block * width / 8];
        vec![
            ("quantized", bytes("", &dims, self.codes.clone())),
            ("scale", floats("", &[self.outer * blocks], &self.scales)),
            (
                "zero_point",
                bytes("", &[self.zero_points.len()], self.zero_points.clone()),
            ),
        ]
    }

    /// The node.
    pub(super) fn node(&self, name: &str, inputs: &[&str], output: &str) -> NodeProto {
        let node = node(name, "MatMulNBits", inputs, &[output])
            .int("K", self.inner as i64)
            .int("N", self.outer as i64)
            .int("bits", i64::from(self.bits))
            .int("block_size", self.block as i64)
            .int("accuracy_level", ACCURACY_LEVEL);
        NodeProto {
            domain: "com.microsoft".to_owned(),
            ..node
        }
    }
}

/// Two codes of 4 bits in a byte, the first one lower; each channel begins with a new byte.
fn nibbles(bits: u8, codes: &[u8]) -> Vec<u8> {
    if bits == 8 {
        return codes.to_vec();
    }
    let pair = |pair: &[u8]| {
        let nibble = |at: usize| pair.get(at).map_or(0, |code| code & 15);
        nibble(0) | nibble(1) << 4
    };
    codes.chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::layers_named;
    use crate::quant::quantize_weights;

    fn packed(shape: [usize; 2], axis: usize, bits: &str, granularity: &str) -> PackedProduct {
        let mut layers = layers_named(&["product"]);
        let layer = &mut layers[0];
        layer.weight_shape = shape.to_vec();
        layer.channel_axis = axis;
        let spec = QuantSpec {
            granularity: granularity.parse().unwrap(),
            ..QuantSpec::weight(bits.parse().unwrap())
        };
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| i as f32 - 7.0).collect();
        let weight = quantize_weights(&values, &shape, axis, &spec).unwrap();
        PackedProduct::of(layer, &spec, &weight)
    }

    #[test]
    fn codes_lie_by_channels_in_blocks() {
        // Column 0 holds −7, −5, … and column 1 holds −6, −4, ….
        let by_columns = packed([8, 2], 1, "4", "per-tensor");
        assert_eq!((by_columns.inner, by_columns.outer), (8, 2));
        assert_eq!(by_columns.codes.len(), 2 * 16);
        // The scale is 8 / 7; −7 is code −6, which is stored as 2; −5 is −4, stored as 4.
        assert_eq!(by_columns.codes[0], 2 | 4 << 4);
        assert_eq!(by_columns.codes[4], 0x88, "the block is filled with zeros");
        assert_eq!(by_columns.scales.len(), 2);
        assert_eq!(by_columns.zero_points, [8, 8]);
        let by_rows = packed([2, 8], 0, "8", "per-channel");
        assert_eq!((by_rows.inner, by_rows.outer), (8, 2));
        assert_eq!(by_rows.codes[0], 1, "−7 of 7 is −127");
        assert_eq!(by_rows.zero_points, [128, 128]);
    }

    #[test]
    fn groups_are_blocks() {
        let packed = packed([40, 3], 1, "4", "per-group:16");
        assert_eq!(packed.block, 16);
        assert_eq!(packed.scales.len(), 3 * 3);
        assert_eq!(packed.codes.len(), 3 * 3 * 8);
        assert_eq!(packed.zero_points.len(), 3 * 2);
        let tensors = packed.tensors();
        assert_eq!(tensors[0].1.dims, [3, 3, 8]);
    }
}
