//! `Resize` and `Upsample`.

use candle_core::{Device, Tensor};

use super::{NodeReader, Reading, Refusal, not_supported};
use crate::model::{CoordinateTransform, NearestRounding, Op, Resize, ResizeMode};

pub(super) fn read(reader: &mut NodeReader<'_>) -> Reading {
    match reader.proto.op_type.as_str() {
        "Resize" => resize(reader).map(Some),
        "Upsample" => upsample(reader).map(Some),
        _ => Ok(None),
    }
}

/// `Upsample` is the `Resize` whose coordinates are `output / scale`, rounded down for `nearest`.
fn upsample(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    if reader.opset < 9 {
        reader.expect_inputs(1, 1)?;
        if let Some(scales) = reader.attributes.floats("scales")? {
            let tensor = Tensor::new(scales, &Device::Cpu)?;
            reader.set_input(1, "scales", tensor);
        }
    }
    scaled_from_origin(reader)
}

/// The form of `Upsample` and of `Resize` in opset 10: inputs `X, scales`.
fn scaled_from_origin(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    reader.expect_inputs(2, 2)?;
    reader.inputs.insert(1, None);
    let mode = resize_mode(reader)?;
    if mode == ResizeMode::Cubic {
        return Err(not_supported("mode", "cubic"));
    }
    Ok(Op::Resize(Resize {
        mode,
        coordinates: CoordinateTransform::Asymmetric,
        rounding: NearestRounding::Floor,
    }))
}

fn resize(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    if reader.opset < 11 {
        return scaled_from_origin(reader);
    }
    reader.expect_inputs(1, 4)?;
    for index in 1..reader.inputs.len() {
        // Exporters of opset 11 write an empty tensor for an input that is not given.
        if reader
            .constant_input(index)
            .is_some_and(|t| t.elem_count() == 0)
        {
            reader.inputs[index] = None;
        }
    }
    let mode = resize_mode(reader)?;
    let coordinates = coordinates(reader)?;
    // The region of interest has a meaning for `tf_crop_and_resize` alone, which is refused.
    if let Some(roi) = reader.inputs.get_mut(1) {
        *roi = None;
    }
    reader.attributes.ignore("extrapolation_value");
    let coefficient = reader.attributes.float_or("cubic_coeff_a", -0.75)?;
    if mode == ResizeMode::Cubic && coefficient != -0.75 {
        return Err(not_supported("cubic_coeff_a", &coefficient.to_string()));
    }
    for flag in ["exclude_outside", "antialias"] {
        if reader.attributes.flag_or(flag, false)? {
            return Err(not_supported(flag, "1"));
        }
    }
    let policy = reader
        .attributes
        .string_or("keep_aspect_ratio_policy", "stretch")?;
    if policy != "stretch" {
        return Err(not_supported("keep_aspect_ratio_policy", &policy));
    }
    let rounding = nearest_rounding(reader)?;
    if let Some(axes) = reader.attributes.ints("axes")? {
        cover_all_axes(reader, axes)?;
    }
    Ok(Op::Resize(Resize {
        mode,
        coordinates,
        rounding,
    }))
}

fn resize_mode(reader: &mut NodeReader<'_>) -> Result<ResizeMode, Refusal> {
    match reader.attributes.string_or("mode", "nearest")?.as_str() {
        "nearest" => Ok(ResizeMode::Nearest),
        // The name of early drafts, for a linear interpolation over two axes.
        "linear" | "bilinear" => Ok(ResizeMode::Linear),
        "cubic" => Ok(ResizeMode::Cubic),
        other => Err(not_supported("mode", other)),
    }
}

fn coordinates(reader: &mut NodeReader<'_>) -> Result<CoordinateTransform, Refusal> {
    const NAME: &str = "coordinate_transformation_mode";
    match reader.attributes.string_or(NAME, "half_pixel")?.as_str() {
        "align_corners" => Ok(CoordinateTransform::AlignCorners),
        "asymmetric" => Ok(CoordinateTransform::Asymmetric),
        "half_pixel" => Ok(CoordinateTransform::HalfPixel),
        "pytorch_half_pixel" => Ok(CoordinateTransform::PytorchHalfPixel),
        other => Err(not_supported(NAME, other)),
    }
}

fn nearest_rounding(reader: &mut NodeReader<'_>) -> Result<NearestRounding, Refusal> {
    const NAME: &str = "nearest_mode";
    let name = reader.attributes.string_or(NAME, "round_prefer_floor")?;
    match name.as_str() {
        "ceil" => Ok(NearestRounding::Ceil),
        "floor" => Ok(NearestRounding::Floor),
        "round_prefer_ceil" => Ok(NearestRounding::RoundPreferCeil),
        "round_prefer_floor" => Ok(NearestRounding::RoundPreferFloor),
        other => Err(not_supported(NAME, other)),
    }
}

/// Rewrites scales or sizes that are given for the last axes alone.
fn cover_all_axes(reader: &mut NodeReader<'_>, axes: &[i64]) -> Result<(), Refusal> {
    let refusal = || {
        Refusal(format!(
            "attribute \"axes\" is {axes:?}; only the last axes in ascending order are supported"
        ))
    };
    let x = reader.input(0).ok_or_else(refusal)?;
    let shape = reader.builder.values[x.index()].shape.as_ref();
    let rank = match (shape, axes.last()) {
        (Some(shape), _) => shape.len() as i64,
        // Without a declared shape, the last named axis is taken for the last there is.
        (None, Some(last)) => last.saturating_add(1),
        (None, None) => 0,
    };
    let first = rank - axes.len() as i64;
    let last_axes = (0i64..).zip(axes).all(|(index, axis)| {
        let axis = if *axis < 0 {
            axis.saturating_add(rank)
        } else {
            *axis
        };
        axis == first + index
    });
    if first < 0 || !last_axes {
        return Err(refusal());
    }
    if let Some(sizes) = reader.input(3) {
        let leading = Op::Shape {
            start: 0,
            end: Some(first),
        };
        let leading = reader.add_node("leading_sizes", leading, &[x]);
        let all = reader.add_node("sizes", Op::Concat { axis: 0 }, &[leading, sizes]);
        reader.inputs[3] = Some(all);
    } else if let Some(scales) = reader.input(2) {
        let ones = vec![1f32; usize::try_from(first).map_err(|_negative| refusal())?];
        let ones = reader.constant("leading_scales", ones.as_slice())?;
        let all = reader.add_node("scales", Op::Concat { axis: 0 }, &[ones, scales]);
        reader.inputs[2] = Some(all);
    }
    Ok(())
}
