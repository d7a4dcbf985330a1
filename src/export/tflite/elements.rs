//! Operators on single elements, and softmax.

use super::file::{Options, Tensor};
use super::fusion::fused;
use super::grid::StoredGrid;
use super::layout::{CHANNELS_LAST, Layout, permuted, permuted_shape};
use super::lowering::{Call, Lowered, Lowering, StoredConstant, by_kind, input as data_input};
use super::schema::{Builtin, Fused};
use super::weights::{float_constant, packed};
use crate::engine::CodeOperator;
use crate::model::{Binary, Node, NodeId, Op, Unary, ValueId};
use crate::quant::Range;

/// `ADD`, `SUB` or `MUL` of two tensors, of which one may be constant.
pub(super) fn binary(lowering: &mut Lowering<'_>, id: NodeId, node: &Node) -> Lowered<()> {
    let (fused, output) = lowering.result(id, node)?;
    let rank = lowering.shape(output)?.len();
    let computed: Vec<ValueId> = (0..2)
        .filter_map(|index| node.input(index))
        .filter(|id| !lowering.graph.is_initializer(*id))
        .collect();
    let is_image = |id: &ValueId| lowering.layout(*id) == Layout::ChannelsLast;
    let layout = if computed.iter().any(is_image) {
        Layout::ChannelsLast
    } else {
        Layout::AsInGraph
    };
    let mut inputs = Vec::new();
    let mut grids = Vec::new();
    for index in 0..2 {
        let operand = data_input(node, index)?;
        if lowering.graph.is_initializer(operand) {
            let place = (id, node, index);
            let (tensor, grid) = constant_operand(lowering, place, (output, rank), layout)?;
            inputs.push(tensor);
            grids.extend(grid);
            continue;
        }
        if layout == Layout::ChannelsLast && lowering.shape(operand)?.len() != 4 {
            return Err("one of its inputs is an image and the other is not".to_owned());
        }
        let grid = lowering.operand_grid(operand, output);
        inputs.push(lowering.read(operand, layout, grid)?);
        grids.extend(grid);
    }
    let kind = lowering.kind(output);
    let (builtin, versions, options, operator) = match node.op {
        Op::Binary(Binary::Sub) => (
            Builtin::Sub,
            [1, 2, 5],
            Options::Sub { fused },
            CodeOperator::Subtract,
        ),
        Op::Binary(Binary::Mul) => (
            Builtin::Mul,
            [1, 3, 4],
            Options::Mul { fused },
            CodeOperator::Multiply,
        ),
        _ => (
            Builtin::Add,
            [1, 2, 3],
            Options::Add { fused },
            CodeOperator::Add,
        ),
    };
    if let (Some(written), 2) = (lowering.written(output), grids.len()) {
        let kernels = &mut lowering.kernels;
        kernels.compute_from_codes(id, operator, &grids, written);
    }
    let call = Call {
        builtin,
        version: by_kind(kind, versions),
        inputs,
        options,
    };
    lowering.emit(call, output, layout);
    Ok(())
}

/// A constant operand on a grid of its own; none in float.
fn constant_operand(
    lowering: &mut Lowering<'_>,
    (id, node, index): (NodeId, &Node, usize),
    (output, rank): (ValueId, usize),
    layout: Layout,
) -> Lowered<(usize, Option<StoredGrid>)> {
    let operand = data_input(node, index)?;
    let name = lowering.graph.value(operand).name.clone();
    let values = lowering.constant_floats(node, index)?;
    let mut shape = lowering.shape(operand)?;
    if layout == Layout::ChannelsLast {
        let missing = rank.saturating_sub(shape.len());
        shape = std::iter::repeat_n(1, missing).chain(shape).collect();
    }
    let in_file = |values: &[i32], shape: &[usize]| match layout {
        Layout::AsInGraph => (values.to_vec(), shape.to_vec()),
        Layout::ChannelsLast => (
            permuted(values, shape, &CHANNELS_LAST),
            permuted_shape(shape, &CHANNELS_LAST),
        ),
    };
    let Some(written) = lowering.written(output) else {
        let (values, shape) = match layout {
            Layout::AsInGraph => (values, shape),
            Layout::ChannelsLast => (
                permuted(&values, &shape, &CHANNELS_LAST),
                permuted_shape(&shape, &CHANNELS_LAST),
            ),
        };
        let tensor = float_constant(lowering, &name, shape, &values);
        return Ok((tensor, None));
    };
    let range = values.iter().fold((0f32, 0f32), |(min, max), value| {
        (min.min(*value), max.max(*value))
    });
    let failed = |error: crate::quant::QuantError| error.to_string();
    let range = Range::new(range.0, range.1).map_err(failed)?;
    let grid = StoredGrid::over(range, written.wide).map_err(failed)?;
    let own = grid.simulated().map_err(failed)?;
    let codes: Vec<i32> = values
        .iter()
        .map(|value| own.quantize(*value) - own.zero_point() + grid.zero_point)
        .collect();
    lowering.constants.push(StoredConstant {
        node: id,
        input: index,
        values: values
            .iter()
            .map(|value| own.fake_quantize(*value))
            .collect(),
    });
    let (codes, shape) = in_file(&codes, &shape);
    let tensor = lowering.constant(Tensor {
        name,
        shape,
        free_axes: Vec::new(),
        kind: grid.kind(),
        quantization: Some(grid.quantization()),
        data: Some(packed(&codes, grid.kind())),
    });
    Ok((tensor, Some(grid)))
}

/// An operator of one input that leaves the layout as it is.
pub(super) fn unary(lowering: &mut Lowering<'_>, id: NodeId, node: &Node) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let kind = lowering.kind(output);
    let (builtin, versions, options) = match (&node.op, fused(lowering.graph, node)) {
        (_, Some(Fused::Relu6)) => (Builtin::Relu6, [1, 2, 3], Options::Empty),
        (_, Some(Fused::ReluN1To1)) => (Builtin::ReluN1To1, [1, 1, 1], Options::Empty),
        (_, Some(_)) => (Builtin::Relu, [1, 2, 3], Options::Empty),
        (Op::Unary(Unary::LeakyRelu { alpha }), _) => (
            Builtin::LeakyRelu,
            [1, 1, 2],
            Options::LeakyRelu { alpha: *alpha },
        ),
        (Op::Unary(Unary::Sigmoid), _) => (Builtin::Logistic, [1, 2, 3], Options::Empty),
        (Op::Unary(Unary::Tanh), _) => (Builtin::Tanh, [1, 2, 3], Options::Empty),
        (Op::Unary(Unary::HardSwish), _) => (Builtin::HardSwish, [1, 1, 1], Options::Empty),
        _ => return Err("TFLite has no kernel for it".to_owned()),
    };
    let layout = lowering.layout(input);
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, layout, grid)?;
    if let (Op::Unary(Unary::LeakyRelu { alpha }), Some(from), Some(to)) =
        (&node.op, grid, lowering.written(output))
    {
        lowering.kernels.leaky((id, output), *alpha, (from, to));
    }
    if let (Builtin::Logistic, Some(from), Some(to)) = (builtin, grid, lowering.written(output)) {
        let kernels = &mut lowering.kernels;
        kernels.compute_from_codes(id, CodeOperator::Logistic, &[from], to);
    }
    let call = Call {
        builtin,
        version: by_kind(kind, versions),
        inputs: vec![x],
        options,
    };
    lowering.emit(call, output, layout);
    Ok(())
}

/// `SOFTMAX`, which goes over the last axis.
pub(super) fn softmax(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    node: &Node,
    axis: i64,
    coerce_to_2d: bool,
) -> Lowered<()> {
    let (_, output) = lowering.result(id, node)?;
    let input = data_input(node, 0)?;
    let shape = lowering.shape(input)?;
    let rank = shape.len();
    let axis = super::pools::from_end(axis, rank)
        .ok_or_else(|| "it has an axis that its input lacks".to_owned())?;
    if coerce_to_2d && shape.iter().skip(axis + 1).any(|length| *length != 1) {
        return Err("it goes over several axes".to_owned());
    }
    let layout = lowering.layout(input);
    let layout = if layout.axis(axis) + 1 == rank {
        layout
    } else {
        Layout::AsInGraph
    };
    if layout.axis(axis) + 1 != rank {
        return Err("it does not go over the last axis".to_owned());
    }
    let grid = lowering.operand_grid(input, output);
    let x = lowering.read(input, layout, grid)?;
    let call = Call {
        builtin: Builtin::Softmax,
        version: by_kind(lowering.kind(output), [1, 2, 3]),
        inputs: vec![x],
        options: Options::Softmax,
    };
    lowering.emit(call, output, layout);
    Ok(())
}
