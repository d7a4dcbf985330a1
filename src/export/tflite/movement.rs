//! Operators that move numbers: reshapes, transposes, joins, cuts, borders, resizing.

use super::file::Options;
use super::layout::Layout;
use super::lowering::{Call, Lowered, Lowering, by_kind, input as data_input};
use super::pools::from_end;
use super::schema::Builtin;
use crate::model::{CoordinateTransform, NearestRounding, Node, NodeId, Resize, ResizeMode};

/// `RESHAPE`, for all operators that only see the numbers in another shape.
pub(super) fn reshape(lowering: &mut Lowering<'_>, id: NodeId, node: &Node) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let same_shape = lowering.shape(input)? == lowering.shape(output)?;
    let is_output = lowering.graph.outputs().contains(&output);
    if same_shape && !is_output && lowering.written(output) == lowering.grid(output) {
        lowering.alias(output, input);
        return Ok(());
    }
    // Where all but one axis behind the batch have one element, the order of axes does not matter.
    let from = lowering.shape(input)?;
    let in_order = from.iter().skip(1).filter(|length| **length > 1).count() <= 1;
    let layout = if in_order {
        lowering.layout(input)
    } else {
        Layout::AsInGraph
    };
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, layout, grid)?;
    let form = lowering.form(output, Layout::AsInGraph, None);
    let free = &form.free_axes;
    if free.len() > 1 {
        return Err("the batch decides several of its lengths".to_owned());
    }
    let lengths = form.shape.iter().enumerate();
    let shape: Vec<i32> = lengths
        .map(|(axis, length)| {
            if free.contains(&axis) {
                -1
            } else {
                *length as i32
            }
        })
        .collect();
    let name = format!("{}_shape", node.name);
    let target = lowering.signed_integers(&name, &[shape.len()], &shape);
    let call = Call {
        builtin: Builtin::Reshape,
        version: 1,
        inputs: vec![x, target],
        options: Options::Reshape { shape },
    };
    lowering.emit(call, output, Layout::AsInGraph);
    Ok(())
}

/// `TRANSPOSE`; that of an image is made one with the change of its layout.
pub(super) fn transpose(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    perm: Option<&[usize]>,
) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let rank = lowering.shape(input)?.len();
    let axes: Vec<usize> = match perm {
        Some(perm) => perm.to_vec(),
        None => (0..rank).rev().collect(),
    };
    let layout = lowering.layout(input);
    let places: Vec<usize> = axes.iter().map(|axis| layout.axis(*axis)).collect();
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, layout, grid)?;
    let name = format!("{}_axes", node.name);
    let axes = lowering.integers(&name, &[rank], &places);
    let call = Call {
        builtin: Builtin::Transpose,
        version: by_kind(lowering.kind(output), [1, 2, 5]),
        inputs: vec![x, axes],
        options: Options::Empty,
    };
    lowering.emit(call, output, Layout::AsInGraph);
    Ok(())
}

/// `CONCATENATION`; all inputs are brought to the grid of the output.
pub(super) fn concat(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    axis: i64,
) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let rank = lowering.shape(output)?.len();
    let axis = from_end(axis, rank).ok_or_else(|| "it has an axis that is not there".to_owned())?;
    let inputs: Vec<_> = node.inputs.iter().flatten().copied().collect();
    if inputs.iter().any(|id| lowering.graph.is_initializer(*id)) {
        return Err("one of its inputs is constant".to_owned());
    }
    let images = inputs
        .iter()
        .any(|id| lowering.layout(*id) == Layout::ChannelsLast);
    let layout = if images && rank == 4 {
        Layout::ChannelsLast
    } else {
        Layout::AsInGraph
    };
    let grid = lowering.written(output);
    let inputs: Lowered<Vec<usize>> = inputs
        .into_iter()
        .map(|input| lowering.read(input, layout, grid))
        .collect();
    let call = Call {
        builtin: Builtin::Concatenation,
        version: by_kind(lowering.kind(output), [1, 2, 3]),
        inputs: inputs?,
        options: Options::Concatenation {
            axis: layout.axis(axis),
        },
    };
    lowering.emit(call, output, layout);
    Ok(())
}

/// `STRIDED_SLICE`.
pub(super) fn slice(lowering: &mut Lowering<'_>, id: NodeId, node: &Node) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let shape = lowering.shape(input)?;
    let rank = shape.len();
    let parameter = |index: usize| lowering.constant_integers(node, index);
    let starts = parameter(1)?.unwrap_or_default();
    let ends = parameter(2)?.unwrap_or_default();
    let axes = parameter(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = parameter(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let free = lowering.free_axes(input);
    let layout = lowering.layout(input);
    let mut begins = vec![0i32; rank];
    let mut stops: Vec<i32> = layout.lengths(&shape).iter().map(|n| *n as i32).collect();
    let mut strides = vec![1i32; rank];
    let mut whole = (1i32 << rank) - 1;
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis =
            from_end(*axis, rank).ok_or_else(|| "it cuts an axis that is not there".to_owned())?;
        if *step <= 0 {
            return Err(format!("it goes backwards, by {step}"));
        }
        let length = shape.get(axis).copied().unwrap_or(0) as i64;
        let clamped = |at: i64| if at < 0 { at + length } else { at }.clamp(0, length);
        let (start, end) = (clamped(*start), clamped(*end));
        if (start, end, *step) == (0, length, 1) {
            continue;
        }
        if free.contains(&axis) {
            return Err("it cuts the batch".to_owned());
        }
        let place = layout.axis(axis);
        begins[place] = start as i32;
        stops[place] = end as i32;
        strides[place] = *step as i32;
        whole &= !(1 << place);
    }
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, layout, grid)?;
    let mut constant = |what: &str, values: &[i32]| {
        lowering.signed_integers(&format!("{}_{what}", node.name), &[rank], values)
    };
    let parameters = [
        constant("begin", &begins),
        constant("end", &stops),
        constant("strides", &strides),
    ];
    let call = Call {
        builtin: Builtin::StridedSlice,
        version: by_kind(lowering.kind(output), [1, 2, 4]),
        inputs: std::iter::once(x).chain(parameters).collect(),
        options: Options::StridedSlice {
            begin_mask: whole,
            end_mask: whole,
        },
    };
    lowering.emit(call, output, layout);
    Ok(())
}

/// `PAD` with zeros.
pub(super) fn pad(lowering: &mut Lowering<'_>, id: NodeId, node: &Node) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let rank = lowering.shape(input)?.len();
    let pads = lowering.constant_integers(node, 1)?.unwrap_or_default();
    if node.input(2).is_some() {
        let value = lowering.constant_floats(node, 2)?;
        if value.iter().any(|value| *value != 0.0) {
            return Err("it fills with something else than zero".to_owned());
        }
    }
    let axes = lowering.constant_integers(node, 3)?;
    let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
    if pads.len() != 2 * axes.len() {
        return Err(format!(
            "it has {} lengths for {} axes",
            pads.len(),
            axes.len()
        ));
    }
    let layout = lowering.layout(input);
    let mut lengths = vec![[0usize; 2]; rank];
    for (index, axis) in axes.iter().enumerate() {
        let axis =
            from_end(*axis, rank).ok_or_else(|| "it pads an axis that is not there".to_owned())?;
        let length = |at: usize| {
            let pad = pads.get(at).copied().unwrap_or(0);
            usize::try_from(pad).map_err(|_| format!("it cuts off {} elements", -pad))
        };
        lengths[layout.axis(axis)] = [length(index)?, length(index + axes.len())?];
    }
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, layout, grid)?;
    let pads: Vec<usize> = lengths.into_iter().flatten().collect();
    let pads = lowering.integers(&format!("{}_pads", node.name), &[rank, 2], &pads);
    let call = Call {
        builtin: Builtin::Pad,
        version: by_kind(lowering.kind(output), [1, 2, 3]),
        inputs: vec![x, pads],
        options: Options::Empty,
    };
    lowering.emit(call, output, layout);
    Ok(())
}

/// `RESIZE_NEAREST_NEIGHBOR` or `RESIZE_BILINEAR`.
pub(super) fn resize(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    resize: Resize,
) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let (from, to) = (lowering.image(input)?, lowering.image(output)?);
    if from[..2] != to[..2] {
        return Err("it resizes more than height and width".to_owned());
    }
    let axes = [(from[2], to[2]), (from[3], to[3])];
    let kind = lowering.kind(output);
    let (builtin, version, options) = if resize.mode == ResizeMode::Nearest {
        let (align_corners, half_pixel_centers) = nearest_mode(resize, axes)
            .ok_or_else(|| "no mode of TFLite takes the same neighbours".to_owned())?;
        let newer = align_corners || half_pixel_centers;
        (
            Builtin::ResizeNearestNeighbor,
            by_kind(kind, if newer { [3, 3, 4] } else { [1, 2, 4] }),
            Options::ResizeNearest {
                align_corners,
                half_pixel_centers,
            },
        )
    } else {
        let align_corners = resize.coordinates == CoordinateTransform::AlignCorners;
        let half_pixel_centers = match resize.coordinates {
            CoordinateTransform::HalfPixel => true,
            CoordinateTransform::PytorchHalfPixel => {
                if axes.iter().any(|(_, to)| *to == 1) {
                    return Err("it resizes to one element".to_owned());
                }
                true
            }
            CoordinateTransform::AlignCorners | CoordinateTransform::Asymmetric => false,
        };
        (
            Builtin::ResizeBilinear,
            by_kind(
                kind,
                if half_pixel_centers {
                    [3, 3, 4]
                } else {
                    [1, 2, 4]
                },
            ),
            Options::ResizeBilinear {
                align_corners,
                half_pixel_centers,
            },
        )
    };
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, Layout::ChannelsLast, grid)?;
    let size = lowering.integers(&format!("{}_size", node.name), &[2], &[to[2], to[3]]);
    let call = Call {
        builtin,
        version,
        inputs: vec![x, size],
        options,
    };
    lowering.emit(call, output, Layout::ChannelsLast);
    Ok(())
}

/// `(align_corners, half_pixel_centers)` that take the same neighbours along both axes.
fn nearest_mode(resize: Resize, axes: [(usize, usize); 2]) -> Option<(bool, bool)> {
    [(false, false), (false, true), (true, false)]
        .into_iter()
        .find(|mode| {
            axes.iter().all(|(from, to)| {
                (0..*to).all(|at| {
                    onnx_neighbour(resize, at, *from, *to)
                        == kernel_neighbour(*mode, at, *from, *to)
                })
            })
        })
}

/// The element that ONNX takes (operator `Resize`, attributes as they are named there).
fn onnx_neighbour(resize: Resize, at: usize, from: usize, to: usize) -> usize {
    let scale = to as f32 / from as f32;
    let place = at as f32;
    let x = match resize.coordinates {
        CoordinateTransform::AlignCorners | CoordinateTransform::PytorchHalfPixel if to == 1 => 0.0,
        CoordinateTransform::AlignCorners => place * (from as f32 - 1.0) / (to as f32 - 1.0),
        CoordinateTransform::Asymmetric => place / scale,
        CoordinateTransform::HalfPixel | CoordinateTransform::PytorchHalfPixel => {
            (place + 0.5) / scale - 0.5
        }
    };
    let x = match resize.rounding {
        NearestRounding::Ceil => x.ceil(),
        NearestRounding::Floor => x.floor(),
        NearestRounding::RoundPreferCeil => (x + 0.5).floor(),
        NearestRounding::RoundPreferFloor => (x - 0.5).ceil(),
    };
    (x.max(0.0) as usize).min(from.saturating_sub(1))
}

/// The element that the kernel takes (`GetNearestNeighbor` in `kernels/internal/reference`).
fn kernel_neighbour(
    (align_corners, half_pixel_centers): (bool, bool),
    at: usize,
    from: usize,
    to: usize,
) -> usize {
    let scale = if align_corners && to > 1 {
        (from as f32 - 1.0) / (to as f32 - 1.0)
    } else {
        from as f32 / to as f32
    };
    let offset = if half_pixel_centers { 0.5 } else { 0.0 };
    let x = (at as f32 + offset) * scale;
    let x = if align_corners { x.round() } else { x.floor() };
    (x.max(0.0) as usize).min(from.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_decide_the_mode() {
        let resize = |coordinates, rounding| Resize {
            mode: ResizeMode::Nearest,
            coordinates,
            rounding,
        };
        use CoordinateTransform::{AlignCorners, Asymmetric, HalfPixel};
        use NearestRounding::{Ceil, Floor, RoundPreferFloor};
        let twice = [(4, 8), (5, 10)];
        for (coordinates, rounding, axes, mode) in [
            (Asymmetric, Floor, twice, Some((false, false))),
            (HalfPixel, RoundPreferFloor, twice, Some((false, false))),
            (HalfPixel, RoundPreferFloor, [(8, 4), (9, 3)], None),
            (
                HalfPixel,
                RoundPreferFloor,
                [(9, 3), (9, 3)],
                Some((false, true)),
            ),
            (
                AlignCorners,
                RoundPreferFloor,
                [(4, 7), (4, 7)],
                Some((false, false)),
            ),
            (Asymmetric, Ceil, twice, None),
        ] {
            let found = nearest_mode(resize(coordinates, rounding), axes);
            assert_eq!(found, mode, "{coordinates:?} {rounding:?} {axes:?}");
        }
    }

    #[test]
    fn axes_are_counted_from_either_end() {
        assert_eq!(from_end(-1, 3), Some(2));
        assert_eq!(from_end(3, 3), None);
    }
}
