//! Pools and means over an image.

use super::edges::averages_everything;
use super::file::{Options, Window};
use super::layout::Layout;
use super::lowering::{Call, Lowered, Lowering, by_kind, input as data_input};
use super::padding::{borders, implicit};
use super::schema::{Builtin, ElementKind, WindowPadding};
use super::weights::{float_constant, packed};
use super::windows::{axis_windows, border_constant, bordered, pair, with_border, written_border};
use crate::model::{Node, NodeId, Padding, Pool};

/// `MAX_POOL_2D`; a border that it cannot have itself is filled with the lowest number before.
pub(super) fn max_pool(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    pool: &Pool,
) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let (image, pooled) = (lowering.image(input)?, lowering.image(output)?);
    let (kernel, strides) = (pair(&pool.kernel), undilated(pool)?);
    let windows = axis_windows(image, kernel, strides, [1, 1]);
    let mut borders = borders(&pool.padding, windows);
    for axis in 0..2 {
        // Rounding up adds what the last window lacks.
        let reach = (pooled[axis + 2].saturating_sub(1)) * strides[axis] + kernel[axis];
        let [before, after] = borders[axis];
        borders[axis][1] = reach
            .saturating_sub(image[axis + 2] + before)
            .max(if pool.ceil_mode { 0 } else { after });
    }
    let grid = lowering.operand_grid(input, output);
    let mut x = lowering.read(input, Layout::ChannelsLast, grid)?;
    let kind = lowering.kind(output);
    let padding = implicit(borders, windows).unwrap_or(WindowPadding::Valid);
    if implicit(borders, windows).is_none() {
        let name = lowering.graph.value(input).name.clone();
        let pads = border_constant(lowering, &name, borders);
        let lowest = lowest(lowering, &name, kind, grid);
        let form = with_border(&lowering.form(input, Layout::ChannelsLast, grid), borders);
        let call = Call {
            builtin: Builtin::PadV2,
            version: by_kind(kind, [1, 2, 3]),
            inputs: vec![x, pads, lowest],
            options: Options::Empty,
        };
        x = lowering.add(call, &format!("{name}_padded"), &form);
    }
    let call = Call {
        builtin: Builtin::MaxPool2d,
        version: by_kind(kind, [1, 2, 3]),
        inputs: vec![x],
        options: Options::Pool {
            window: Window { padding, strides },
            kernel,
        },
    };
    lowering.emit(call, output, Layout::ChannelsLast);
    Ok(())
}

/// A constant of the lowest number of a type.
fn lowest(
    lowering: &mut Lowering<'_>,
    name: &str,
    kind: ElementKind,
    grid: Option<super::grid::StoredGrid>,
) -> usize {
    let name = format!("{name}_lowest");
    let Some(grid) = grid else {
        return float_constant(lowering, &name, vec![1], &[f32::MIN]);
    };
    let code = if grid.wide { -0x8000 } else { -0x80 };
    lowering.constant(super::file::Tensor {
        name,
        shape: vec![1],
        free_axes: Vec::new(),
        kind,
        quantization: Some(grid.quantization()),
        data: Some(packed(&[code], kind)),
    })
}

/// `AVERAGE_POOL_2D`, or `MEAN` where the window is the whole image.
pub(super) fn average_pool(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    pool: &Pool,
) -> Lowered<()> {
    if averages_everything(node, &lowering.shapes) {
        return global_average(lowering, id, node);
    }
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let (image, pooled) = (lowering.image(input)?, lowering.image(output)?);
    let (kernel, strides) = (pair(&pool.kernel), undilated(pool)?);
    let windows = axis_windows(image, kernel, strides, [1, 1]);
    let borders = borders(&pool.padding, windows);
    for axis in 0..2 {
        let [before, after] = borders[axis];
        let padded = image[axis + 2] + before + after;
        if (padded.saturating_sub(kernel[axis])) / strides[axis] + 1 != pooled[axis + 2] {
            return Err("its windows reach over the border by rounding up".to_owned());
        }
    }
    let no_border = borders == [[0, 0]; 2];
    let grid = lowering.operand_grid(input, output);
    // The kernel does not count the border.
    let counted = pool.count_include_pad && !no_border;
    if !counted && implicit(borders, windows).is_none() {
        return Err("its border is neither SAME nor VALID and is not counted".to_owned());
    }
    let x = if counted {
        written_border(lowering, input, grid, borders)?
    } else {
        bordered(lowering, input, grid, (borders, windows))?
    };
    let call = Call {
        builtin: Builtin::AveragePool2d,
        version: by_kind(lowering.kind(output), [1, 2, 3]),
        inputs: vec![x.tensor],
        options: Options::Pool {
            window: Window {
                padding: x.padding,
                strides,
            },
            kernel,
        },
    };
    lowering.emit(call, output, Layout::ChannelsLast);
    Ok(())
}

fn undilated(pool: &Pool) -> Lowered<[usize; 2]> {
    if pair(&pool.dilations) != [1, 1] {
        return Err("its window is dilated".to_owned());
    }
    if pool.kernel.len() != 2 {
        return Err(format!("its window has {} axes", pool.kernel.len()));
    }
    Ok(pair(&pool.strides))
}

/// `MEAN` over height and width.
pub(super) fn global_average(lowering: &mut Lowering<'_>, id: NodeId, node: &Node) -> Lowered<()> {
    let input = data_input(node, 0)?;
    lowering.image(input)?;
    mean_over(lowering, id, node, (&[2, 3], true))
}

/// `MAX_POOL_2D` with a window over the whole image.
pub(super) fn global_max(lowering: &mut Lowering<'_>, id: NodeId, node: &Node) -> Lowered<()> {
    let [_, _, height, width] = lowering.image(data_input(node, 0)?)?;
    let pool = Pool {
        kernel: vec![height, width],
        strides: vec![1, 1],
        padding: Padding::Explicit(Vec::new()),
        dilations: Vec::new(),
        ceil_mode: false,
        count_include_pad: false,
    };
    max_pool(lowering, id, node, &pool)
}

/// `MEAN` over the axes of a `ReduceMean`.
pub(super) fn mean(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    keep_dims: bool,
) -> Lowered<()> {
    let rank = lowering.shape(data_input(node, 0)?)?.len();
    let axes = lowering.constant_integers(node, 1)?;
    let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
    let axes: Option<Vec<usize>> = axes.iter().map(|axis| from_end(*axis, rank)).collect();
    let mut axes = axes.ok_or_else(|| "it has an axis that its input lacks".to_owned())?;
    axes.sort_unstable();
    mean_over(lowering, id, node, (&axes, keep_dims))
}

/// An axis that may be counted from the end.
pub(super) fn from_end(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}

fn mean_over(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    (axes, keep_dims): (&[usize], bool),
) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let rank = lowering.shape(input)?.len();
    // Without the reduced axes, what is left must be in the order of the graph.
    let left = (0..rank).filter(|axis| !axes.contains(axis)).count();
    let images = rank == 4 && (keep_dims || axes == [2, 3] || left <= 1);
    let layout = if images {
        lowering.layout(input)
    } else {
        Layout::AsInGraph
    };
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, layout, grid)?;
    let mut places: Vec<usize> = axes.iter().map(|axis| layout.axis(*axis)).collect();
    places.sort_unstable();
    let name = format!("{}_axes", node.name);
    if let (Some(from), Some(to)) = (grid, lowering.written(output)) {
        let shape = lowering.shape(input)?;
        let count = axes.iter().filter_map(|axis| shape.get(*axis)).product();
        lowering.kernels.mean(output, (from, to), count);
    }
    let axes = lowering.integers(&name, &[places.len()], &places);
    let call = Call {
        builtin: Builtin::Mean,
        version: by_kind(lowering.kind(output), [1, 2, 3]),
        inputs: vec![x, axes],
        options: Options::Mean { keep_dims },
    };
    let layout = if keep_dims { layout } else { Layout::AsInGraph };
    lowering.emit(call, output, layout);
    Ok(())
}
