//! Convolutions, transposed convolutions, and normalisations as depthwise convolutions.

use super::file::{Options, Window};
use super::grid::StoredGrid;
use super::layout::Layout;
use super::lowering::{
    Call, Form, Lowered, Lowering, StoredConstant, by_kind, input as data_input,
};
use super::padding::{AxisWindow, Border, borders, implicit};
use super::schema::{Builtin, ElementKind, Fused, WindowPadding};
use super::weights::{StoredWeight, WeightForm, bias, float_constant, packed, stored_bias, weight};
use crate::model::{Conv, ConvTranspose, Node, NodeId, Padding, ValueId};

/// Two lengths, of which absent ones are 1.
pub(super) fn pair(values: &[usize]) -> [usize; 2] {
    let at = |index: usize| values.get(index).copied().unwrap_or(1);
    [at(0), at(1)]
}

/// The windows of both axes over an image `[batch, channels, height, width]`.
pub(super) fn axis_windows(
    image: [usize; 4],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
) -> [AxisWindow; 2] {
    [0, 1].map(|axis| AxisWindow {
        input: image[axis + 2],
        kernel: kernel[axis],
        stride: strides[axis],
        dilation: dilations[axis],
    })
}

/// An image in the file with its border, and how the operator is told of it.
pub(super) struct Bordered {
    pub tensor: usize,
    pub padding: WindowPadding,
}

/// Brings an image to the operator; a border that the operator cannot add itself is added before.
pub(super) fn bordered(
    lowering: &mut Lowering<'_>,
    input: ValueId,
    grid: Option<StoredGrid>,
    (borders, windows): ([Border; 2], [AxisWindow; 2]),
) -> Lowered<Bordered> {
    let tensor = lowering.read(input, Layout::ChannelsLast, grid)?;
    if let Some(padding) = implicit(borders, windows) {
        return Ok(Bordered { tensor, padding });
    }
    written_border(lowering, input, grid, borders)
}

/// An image with a border of zeros that is added before the operator.
pub(super) fn written_border(
    lowering: &mut Lowering<'_>,
    input: ValueId,
    grid: Option<StoredGrid>,
    borders: [Border; 2],
) -> Lowered<Bordered> {
    let tensor = lowering.read(input, Layout::ChannelsLast, grid)?;
    let form = lowering.form(input, Layout::ChannelsLast, grid);
    let name = lowering.graph.value(input).name.clone();
    let pads = border_constant(lowering, &name, borders);
    let call = Call {
        builtin: Builtin::Pad,
        version: by_kind(
            form.grid.map_or(ElementKind::F32, StoredGrid::kind),
            [1, 2, 3],
        ),
        inputs: vec![tensor, pads],
        options: Options::Empty,
    };
    let form = with_border(&form, borders);
    Ok(Bordered {
        tensor: lowering.add(call, &format!("{name}_padded"), &form),
        padding: WindowPadding::Valid,
    })
}

/// The constant that says where a border is added to an image with channels last.
pub(super) fn border_constant(
    lowering: &mut Lowering<'_>,
    name: &str,
    borders: [Border; 2],
) -> usize {
    let [[top, bottom], [left, right]] = borders;
    let pads = [0, 0, top, bottom, left, right, 0, 0];
    lowering.integers(&format!("{name}_pads"), &[4, 2], &pads)
}

/// The form of an image with channels last and a border.
pub(super) fn with_border(form: &Form, borders: [Border; 2]) -> Form {
    let mut form = form.clone();
    for (length, [before, after]) in form.shape.iter_mut().skip(1).zip(borders) {
        *length += before + after;
    }
    form
}

/// `CONV_2D`, or `DEPTHWISE_CONV_2D` where every group has one input channel.
pub(super) fn conv(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    conv: &Conv,
) -> Lowered<()> {
    let (layer, one) = lowering
        .layer(id)
        .ok_or_else(|| "its weight is computed".to_owned())?;
    let (fused, output) = lowering.result(id, node)?;
    let image = lowering.image(layer.input)?;
    let &[outputs, group_inputs, height, width] = layer.weight_shape.as_slice() else {
        return Err(format!("its weight has {} axes", layer.weight_shape.len()));
    };
    let (strides, dilations) = (pair(&conv.strides), pair(&conv.dilations));
    let windows = axis_windows(image, [height, width], strides, dilations);
    let grid = lowering.operand_grid(layer.input, output);
    let borders = borders(&conv.padding, windows);
    let x = bordered(lowering, layer.input, grid, (borders, windows))?;
    let depthwise = conv.groups > 1 && group_inputs == 1 && conv.groups == image[1];
    let form = WeightForm {
        shape: layer.weight_shape.clone(),
        axes: if depthwise {
            vec![1, 2, 3, 0]
        } else {
            vec![0, 2, 3, 1]
        },
        channel_axis: if depthwise { 3 } else { 0 },
        takes_4_bits: conv.groups == 1,
    };
    let w = weight(lowering, layer, one, &form, grid)?;
    let b = bias(lowering, layer, one, (grid, &w), outputs)?;
    let builtin = if depthwise {
        Builtin::DepthwiseConv2d
    } else {
        Builtin::Conv2d
    };
    lowering.note_sums(builtin, (id, output), grid, (&w, &b));
    let window = Window {
        padding: x.padding,
        strides,
    };
    let grouped = conv.groups > 1 && !depthwise;
    let inputs = vec![x.tensor, w.tensor, b.tensor];
    let call = if depthwise {
        Call {
            builtin,
            version: depthwise_version(lowering.kind(output), w.kind, dilations),
            inputs,
            options: Options::DepthwiseConv {
                window,
                multiplier: outputs / conv.groups,
                dilations,
                fused,
            },
        }
    } else {
        Call {
            builtin,
            version: conv_version(lowering.kind(output), w.kind, grouped),
            inputs,
            options: Options::Conv {
                window,
                dilations,
                fused,
            },
        }
    };
    lowering.emit(call, output, Layout::ChannelsLast);
    Ok(())
}

fn conv_version(input: ElementKind, weight: ElementKind, grouped: bool) -> i32 {
    let version = match (input, weight) {
        (ElementKind::F32, ElementKind::F32) => 1,
        (ElementKind::F32, _) => 5,
        (_, ElementKind::I4) => 7,
        (ElementKind::I16, _) => 4,
        _ => 3,
    };
    if grouped { version.max(6) } else { version }
}

fn depthwise_version(input: ElementKind, weight: ElementKind, dilations: [usize; 2]) -> i32 {
    match (input, weight) {
        (ElementKind::F32, ElementKind::F32) if dilations == [1, 1] => 1,
        (ElementKind::F32, ElementKind::F32) => 2,
        (ElementKind::F32, _) => 6,
        (ElementKind::I16, _) => 5,
        _ => 3,
    }
}

/// `TRANSPOSE_CONV`. Weight `[in, out, kh, kw]` becomes `[out, kh, kw, in]`.
pub(super) fn conv_transpose(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    transpose: &ConvTranspose,
) -> Lowered<()> {
    let (layer, one) = lowering
        .layer(id)
        .ok_or_else(|| "its weight is computed".to_owned())?;
    let conv = &transpose.conv;
    let (fused, output) = lowering.result(id, node)?;
    let [_, _, in_height, in_width] = lowering.image(layer.input)?;
    let image = lowering.image(output)?;
    let &[_, outputs, height, width] = layer.weight_shape.as_slice() else {
        return Err(format!("its weight has {} axes", layer.weight_shape.len()));
    };
    if conv.groups != 1 {
        return Err(format!("it has {} groups", conv.groups));
    }
    if pair(&conv.dilations) != [1, 1] {
        return Err("it is dilated".to_owned());
    }
    let strides = pair(&conv.strides);
    // Seen from its output, it is the convolution whose transpose it is.
    let windows = axis_windows(image, [height, width], strides, [1, 1]);
    let padding = transposed_padding(transpose, windows, [in_height, in_width])?;
    let grid = lowering.operand_grid(layer.input, output);
    let x = lowering.read(layer.input, Layout::ChannelsLast, grid)?;
    let form = WeightForm {
        shape: layer.weight_shape.clone(),
        axes: vec![1, 2, 3, 0],
        channel_axis: 0,
        takes_4_bits: false,
    };
    let w = weight(lowering, layer, one, &form, grid)?;
    let b = bias(lowering, layer, one, (grid, &w), outputs)?;
    lowering.note_sums(Builtin::TransposeConv, (id, output), grid, (&w, &b));
    let lengths = Layout::ChannelsLast.lengths(&image);
    let shape = lowering.integers(&format!("{}_shape", layer.name), &[4], &lengths);
    let call = Call {
        builtin: Builtin::TransposeConv,
        version: if fused == Fused::None { 3 } else { 4 },
        inputs: vec![shape, w.tensor, x, b.tensor],
        options: Options::TransposeConv {
            window: Window { padding, strides },
            fused,
        },
    };
    lowering.emit(call, output, Layout::ChannelsLast);
    Ok(())
}

/// The padding whose transposed convolution gives the output; `windows` go over the output.
fn transposed_padding(
    transpose: &ConvTranspose,
    windows: [AxisWindow; 2],
    inputs: [usize; 2],
) -> Lowered<WindowPadding> {
    let borders = match &transpose.conv.padding {
        Padding::Explicit(_) if transpose.output_shape.is_none() => {
            borders(&transpose.conv.padding, windows)
        }
        _ => return Err("its padding follows from its output's shape".to_owned()),
    };
    let extra = transpose.output_padding.iter().any(|extra| *extra > 0);
    let covers = |input: usize, window: AxisWindow| {
        window.input == (input.saturating_sub(1)) * window.stride + window.kernel
    };
    let is_valid = (0..2).all(|axis| covers(inputs[axis], windows[axis]));
    if borders == [[0, 0]; 2] && is_valid {
        return Ok(WindowPadding::Valid);
    }
    let is_same = (0..2).all(|axis| {
        let window = windows[axis];
        inputs[axis] == window.input.div_ceil(window.stride.max(1))
    });
    // What is cut off at the end may be more than the border says, by the extra length.
    let begins = (0..2).all(|axis| windows[axis].same()[0] == borders[axis][0]);
    if is_same && begins {
        return Ok(WindowPadding::Same);
    }
    let extra = if extra { " with extra length" } else { "" };
    Err(format!(
        "its border {borders:?}{extra} is neither SAME nor VALID"
    ))
}

/// A batch normalisation behind something else than a layer, as `DEPTHWISE_CONV_2D` of 1×1.
///
/// ```text
/// a = γ / √(σ² + ε),  b = β − μ·a;  code of a: ±127 in steps of |a| / 127, so that a is exact
/// ```
pub(super) fn normalization(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    epsilon: f32,
) -> Lowered<()> {
    let (fused, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let [_, channels, ..] = lowering.image(input)?;
    let parameter = |index: usize| {
        let values = lowering.constant_floats(node, index)?;
        let fits = values.len() == channels;
        fits.then_some(values)
            .ok_or_else(|| format!("input {index} does not fit its channels"))
    };
    let (gamma, beta) = (parameter(1)?, parameter(2)?);
    let (mean, variance) = (parameter(3)?, parameter(4)?);
    let factors: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| {
            f64::from(*gamma) / (f64::from(*variance) + f64::from(epsilon)).sqrt()
        })
        .collect();
    let offsets: Vec<f32> = (beta.iter().zip(&mean))
        .zip(&factors)
        .map(|((beta, mean), factor)| (f64::from(*beta) - f64::from(*mean) * factor) as f32)
        .collect();
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, Layout::ChannelsLast, grid)?;
    let name = lowering.graph.value(data_input(node, 1)?).name.clone();
    let w = match grid {
        None => {
            let values: Vec<f32> = factors.iter().map(|factor| *factor as f32).collect();
            StoredWeight {
                tensor: float_constant(lowering, &name, vec![1, 1, 1, channels], &values),
                kind: ElementKind::F32,
                scales: Vec::new(),
            }
        }
        Some(grid) => exact_factors(lowering, &name, &factors, &offsets, grid),
    };
    if let Some(grid) = grid {
        note_stored(
            lowering,
            (id, epsilon),
            &factors,
            &offsets,
            (grid, &w.scales),
        );
    }
    if let (Some(from), Some(to)) = (grid, lowering.written(output)) {
        let kernels = &mut lowering.kernels;
        kernels.normalization(output, (from, to), &w);
    }
    let bias_name = lowering.graph.value(data_input(node, 2)?).name.clone();
    let b = stored_bias(lowering, &bias_name, &offsets, (grid, &w.scales), channels)?;
    let call = Call {
        builtin: Builtin::DepthwiseConv2d,
        version: depthwise_version(lowering.kind(output), w.kind, [1, 1]),
        inputs: vec![x, w.tensor, b.tensor],
        options: Options::DepthwiseConv {
            window: Window {
                padding: WindowPadding::Valid,
                strides: [1, 1],
            },
            multiplier: 1,
            dilations: [1, 1],
            fused,
        },
    };
    lowering.emit(call, output, Layout::ChannelsLast);
    Ok(())
}

/// Notes the normalisation that the file computes: `a` and `b` in steps of the scales.
fn note_stored(
    lowering: &mut Lowering<'_>,
    (id, epsilon): (NodeId, f32),
    factors: &[f64],
    offsets: &[f32],
    (input, scales): (StoredGrid, &[f32]),
) {
    let rounded = |value: f64, step: f64| (value / step).round_ties_even() * step;
    let steps = scales.iter().map(|scale| f64::from(*scale));
    let stored = factors.iter().zip(steps.clone());
    let factors: Vec<f32> = stored.map(|(a, step)| rounded(*a, step) as f32).collect();
    let stored = offsets.iter().zip(steps);
    let offsets: Vec<f32> = stored
        .map(|(b, step)| rounded(f64::from(*b), step * f64::from(input.scale)) as f32)
        .collect();
    let count = factors.len();
    let parameters = [
        factors,
        offsets,
        vec![0.0; count],
        vec![1.0 - epsilon; count],
    ];
    for (index, values) in (1..).zip(parameters) {
        lowering.constants.push(StoredConstant {
            node: id,
            input: index,
            values,
        });
    }
}

fn exact_factors(
    lowering: &mut Lowering<'_>,
    name: &str,
    factors: &[f64],
    offsets: &[f32],
    input: StoredGrid,
) -> StoredWeight {
    let scales: Vec<f32> = factors
        .iter()
        .zip(offsets)
        .map(|(factor, offset)| {
            // A bias must fit 31 bits in steps of both scales.
            let least = f64::from(offset.abs()) / f64::from(input.scale) / f64::from(1 << 30);
            (factor.abs() / 127.0).max(least).max(1e-12) as f32
        })
        .collect();
    let codes: Vec<i32> = factors
        .iter()
        .zip(&scales)
        .map(|(factor, scale)| (factor / f64::from(*scale)).round().clamp(-127.0, 127.0) as i32)
        .collect();
    let tensor = lowering.constant(super::file::Tensor {
        name: name.to_owned(),
        shape: vec![1, 1, 1, factors.len()],
        free_axes: Vec::new(),
        kind: ElementKind::I8,
        quantization: Some(super::file::Quantization {
            scales: scales.clone(),
            zero_points: vec![0; scales.len()],
            axis: 3,
        }),
        data: Some(packed(&codes, ElementKind::I8)),
    });
    StoredWeight {
        tensor,
        kind: ElementKind::I8,
        scales,
    }
}
