//! Weights and biases of layers as constants of the file.

use super::file::{Quantization, Tensor};
use super::grid::StoredGrid;
use super::layout::{permuted, permuted_shape};
use super::lowering::{Lowered, Lowering};
use super::schema::ElementKind;
use crate::export::quantized::QuantizedLayer;
use crate::model::{Layer, ValueId};
use crate::quant::{Grid, NumberFormat};

/// How a weight lies in the file.
#[derive(Clone, Debug)]
pub(super) struct WeightForm {
    /// Lengths in the graph, where they are to be seen otherwise than they are declared.
    pub shape: Vec<usize>,
    /// Axes of the graph in the order of the file.
    pub axes: Vec<usize>,
    /// The axis of output channels in the file.
    pub channel_axis: usize,
    /// Whether the kernel takes codes of 4 bits beside an int8 input.
    pub takes_4_bits: bool,
}

/// A weight in the file.
#[derive(Clone, Debug)]
pub(super) struct StoredWeight {
    pub tensor: usize,
    pub kind: ElementKind,
    /// One scale, or one for each output channel; none for floats.
    pub scales: Vec<f32>,
}

/// A bias in the file.
#[derive(Clone, Debug)]
pub(super) struct StoredBias {
    pub tensor: usize,
    /// Codes in steps of the scales of input and weight; none for floats.
    pub codes: Vec<i64>,
}

/// Adds the weight of a layer. `input` is the grid of the layer's input.
pub(super) fn weight(
    lowering: &mut Lowering<'_>,
    layer: &Layer,
    one: &QuantizedLayer,
    form: &WeightForm,
    input: Option<StoredGrid>,
) -> Lowered<StoredWeight> {
    let name = lowering.graph.value(layer.weight).name.clone();
    let shape = permuted_shape(&form.shape, &form.axes);
    let integers = match (&one.weight, one.weight_spec.format) {
        (Some(weight), NumberFormat::Int(bits)) => Some((weight, bits.get())),
        _ => None,
    };
    let Some((weight, bits)) = integers else {
        if input.is_some() {
            return Err("its weight is float beside an input of integers".to_owned());
        }
        let values = match &one.weight {
            Some(weight) => weight.dequantized.clone(),
            None => floats(lowering, layer.weight)?,
        };
        let values = permuted(&values, &form.shape, &form.axes);
        let tensor = float_constant(lowering, &name, shape, &values);
        return Ok(StoredWeight {
            tensor,
            kind: ElementKind::F32,
            scales: Vec::new(),
        });
    };
    let channels = layer.weight_shape.get(layer.channel_axis).copied();
    if weight.grids.len() != 1 && Some(weight.grids.len()) != channels {
        return Err("its weight has a grid for each group".to_owned());
    }
    let narrow = input.is_some_and(|grid| !grid.wide);
    let kind = if bits <= 4 && form.takes_4_bits && narrow {
        ElementKind::I4
    } else if bits <= 8 {
        ElementKind::I8
    } else {
        return Err(format!("its weight has {bits} bits"));
    };
    let codes = permuted(&weight.codes(), &form.shape, &form.axes);
    let scales: Vec<f32> = weight.grids.iter().map(Grid::scale).collect();
    let tensor = lowering.constant(Tensor {
        name,
        shape,
        free_axes: Vec::new(),
        kind,
        quantization: Some(Quantization {
            zero_points: vec![0; scales.len()],
            scales: scales.clone(),
            axis: if scales.len() > 1 {
                form.channel_axis
            } else {
                0
            },
        }),
        data: Some(packed(&codes, kind)),
    });
    Ok(StoredWeight {
        tensor,
        kind,
        scales,
    })
}

/// Codes as bytes; of two with 4 bits the first is lower.
pub(super) fn packed(codes: &[i32], kind: ElementKind) -> Vec<u8> {
    match kind {
        ElementKind::I4 => codes
            .chunks(2)
            .map(|pair| {
                let nibble = |at: usize| pair.get(at).map_or(0, |code| (*code as u8) & 15);
                nibble(0) | nibble(1) << 4
            })
            .collect(),
        ElementKind::I16 => codes
            .iter()
            .flat_map(|code| (*code as i16).to_le_bytes())
            .collect(),
        ElementKind::I32 => codes.iter().flat_map(|code| code.to_le_bytes()).collect(),
        _ => codes.iter().map(|code| *code as u8).collect(),
    }
}

/// Adds the bias of a layer, zero where it has none.
///
/// ```text
/// q = round(b / scale),  scale = s_x · s_w
/// ```
/// as `int32` beside an int8 input and as `int64` beside an int16 one.
pub(super) fn bias(
    lowering: &mut Lowering<'_>,
    layer: &Layer,
    one: &QuantizedLayer,
    (input, weight): (Option<StoredGrid>, &StoredWeight),
    channels: usize,
) -> Lowered<StoredBias> {
    let name = match layer.bias {
        Some(id) => lowering.graph.value(id).name.clone(),
        None => format!("{}_bias", layer.name),
    };
    let values = match (&one.bias, layer.bias) {
        (Some(stored), _) => stored.values(),
        (None, Some(id)) => floats(lowering, id)?,
        (None, None) => vec![0.0; channels],
    };
    stored_bias(lowering, &name, &values, (input, &weight.scales), channels)
}

/// Adds a bias of one number for each channel.
pub(super) fn stored_bias(
    lowering: &mut Lowering<'_>,
    name: &str,
    values: &[f32],
    (input, weight_scales): (Option<StoredGrid>, &[f32]),
    channels: usize,
) -> Lowered<StoredBias> {
    if values.len() != channels {
        return Err(format!(
            "its bias has {} numbers for {channels} channels",
            values.len()
        ));
    }
    let Some(input) = input else {
        return Ok(StoredBias {
            tensor: float_constant(lowering, name, vec![channels], values),
            codes: Vec::new(),
        });
    };
    let scales: Vec<f32> = weight_scales.iter().map(|s| input.scale * s).collect();
    let codes: Option<Vec<i64>> = values
        .iter()
        .enumerate()
        .map(|(channel, value)| {
            let scale = scales.get(channel % scales.len().max(1))?;
            code(*value, *scale, input.wide)
        })
        .collect();
    let codes = codes.ok_or_else(|| {
        "its bias is too large for integers in steps of the scales of input and weight".to_owned()
    })?;
    let (kind, data): (ElementKind, Vec<u8>) = if input.wide {
        let data = codes.iter().flat_map(|code| code.to_le_bytes());
        (ElementKind::I64, data.collect())
    } else {
        let data = codes.iter().flat_map(|code| (*code as i32).to_le_bytes());
        (ElementKind::I32, data.collect())
    };
    let tensor = lowering.constant(Tensor {
        name: name.to_owned(),
        shape: vec![channels],
        free_axes: Vec::new(),
        kind,
        quantization: Some(Quantization {
            zero_points: vec![0; scales.len()],
            scales,
            axis: 0,
        }),
        data: Some(data),
    });
    Ok(StoredBias { tensor, codes })
}

/// `None` if the code does not fit; 40 bits are what 16x8 kernels add to.
fn code(value: f32, scale: f32, wide: bool) -> Option<i64> {
    let largest = if wide {
        (1i64 << 39) as f64
    } else {
        f64::from(i32::MAX)
    };
    let code = (f64::from(value) / f64::from(scale)).round_ties_even();
    (scale > 0.0 && code.abs() <= largest).then_some(code as i64)
}

/// Adds a constant of `f32`.
pub(super) fn float_constant(
    lowering: &mut Lowering<'_>,
    name: &str,
    shape: Vec<usize>,
    values: &[f32],
) -> usize {
    lowering.constant(Tensor {
        name: name.to_owned(),
        shape,
        free_axes: Vec::new(),
        kind: ElementKind::F32,
        quantization: None,
        data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    })
}

fn floats(lowering: &Lowering<'_>, id: ValueId) -> Lowered<Vec<f32>> {
    let constant = lowering.graph.initializers().get(&id);
    let constant = constant.ok_or_else(|| "its weight is computed".to_owned())?;
    constant.to_floats().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_packed_by_their_type() {
        assert_eq!(packed(&[1, -1, 7], ElementKind::I4), [0xF1, 0x07]);
        assert_eq!(packed(&[1, -1], ElementKind::I8), [0x01, 0xFF]);
        assert_eq!(
            packed(&[0x1234, -1], ElementKind::I16),
            [0x34, 0x12, 0xFF, 0xFF]
        );
    }

    #[test]
    fn biases_are_whole_steps_of_both_scales() {
        assert_eq!(code(1.0, 0.125, false), Some(8));
        assert_eq!(code(-0.3, 0.05, false), Some(-6));
        assert_eq!(code(1.0, 1e-12, false), None);
        assert_eq!(code(1.0, 1e-11, true), Some(100_000_000_400));
    }
}
