//! Operators that are exactly a few of the others.

use super::{NodeReader, Reading, Refusal};
use crate::model::{Binary, Op, Reduction, Unary, ValueId};

pub(super) fn read(reader: &mut NodeReader<'_>) -> Reading {
    let op = match reader.proto.op_type.as_str() {
        "DepthToSpace" => depth_to_space(reader)?,
        "Mish" => mish(reader)?,
        "ReduceL1" => reduce_l1(reader)?,
        "Selu" => selu(reader)?,
        "Size" => size(reader)?,
        "Softsign" => softsign(reader)?,
        "SpaceToDepth" => space_to_depth(reader)?,
        _ => return Ok(None),
    };
    Ok(Some(op))
}

fn only_input(reader: &NodeReader<'_>) -> Result<ValueId, Refusal> {
    reader.expect_inputs(1, 1)?;
    let missing = || Refusal("its input 0 is missing".to_owned());
    reader.input(0).ok_or_else(missing)
}

/// `x · tanh(softplus(x))`
fn mish(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let x = only_input(reader)?;
    let softplus = reader.add_node("softplus", Op::Unary(Unary::Softplus), &[x]);
    let tanh = reader.add_node("tanh", Op::Unary(Unary::Tanh), &[softplus]);
    reader.inputs = vec![Some(x), Some(tanh)];
    Ok(Op::Binary(Binary::Mul))
}

/// `x / (1 + |x|)`
fn softsign(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let x = only_input(reader)?;
    let one = reader.constant("one", 1f32)?;
    let magnitude = reader.add_node("abs", Op::Unary(Unary::Abs), &[x]);
    let divisor = reader.add_node("divisor", Op::Binary(Binary::Add), &[magnitude, one]);
    reader.inputs = vec![Some(x), Some(divisor)];
    Ok(Op::Binary(Binary::Div))
}

/// `γ · x` above zero, `γ · α · (eˣ − 1)` below.
fn selu(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let x = only_input(reader)?;
    let alpha = reader.attributes.float_or("alpha", 1.673_263_2)?;
    let gamma = reader.attributes.float_or("gamma", 1.050_701)?;
    let gamma = reader.constant("gamma", gamma)?;
    let elu = reader.add_node("elu", Op::Unary(Unary::Elu { alpha }), &[x]);
    reader.inputs = vec![Some(elu), Some(gamma)];
    Ok(Op::Binary(Binary::Mul))
}

fn reduce_l1(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let op = super::linear::reduce(reader, Reduction::Sum, 18)?;
    if let Some(x) = reader.input(0) {
        let magnitude = reader.add_node("abs", Op::Unary(Unary::Abs), &[x]);
        reader.inputs[0] = Some(magnitude);
    }
    Ok(op)
}

/// The product of the shape.
fn size(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let x = only_input(reader)?;
    let whole = Op::Shape {
        start: 0,
        end: None,
    };
    let shape = reader.add_node("shape", whole, &[x]);
    reader.inputs = vec![Some(shape)];
    Ok(Op::Reduce {
        reduction: Reduction::Prod,
        keep_dims: false,
        noop_with_empty_axes: false,
    })
}

fn block_size(reader: &mut NodeReader<'_>) -> Result<i64, Refusal> {
    let block = reader.attributes.int_or("blocksize", 0)?;
    // A larger block could not be the side of any picture.
    if (1..=1 << 16).contains(&block) {
        Ok(block)
    } else {
        Err(Refusal(format!("attribute \"blocksize\" is {block}")))
    }
}

fn lengths(start: i64, end: i64) -> Op {
    Op::Shape {
        start,
        end: Some(end),
    }
}

fn reshape() -> Op {
    Op::Reshape { allow_zero: false }
}

fn transpose(perm: [usize; 6]) -> Op {
    Op::Transpose {
        perm: Some(perm.to_vec()),
    }
}

/// `[N, C, H, W]` to `[N, C / b², H · b, W · b]`.
fn depth_to_space(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let x = only_input(reader)?;
    let block = block_size(reader)?;
    let (split, perm) = match reader.attributes.string_or("mode", "DCR")?.as_str() {
        "DCR" => ([0, block, block, -1], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([0, -1, block, block], [0, 1, 4, 2, 5, 3]),
        other => return Err(Refusal(format!("attribute \"mode\" is {other:?}"))),
    };
    let split = reader.constant("split", split.as_slice())?;
    let kept = reader.constant("kept", [0i64, 0].as_slice())?;
    let factor = reader.constant("factor", [block].as_slice())?;
    let sides = reader.add_node("sides", lengths(2, 4), &[x]);
    let concat = Op::Concat { axis: 0 };
    let shape = reader.add_node("blocks_shape", concat.clone(), &[split, sides]);
    let blocks = reader.add_node("blocks", reshape(), &[x, shape]);
    let spread = reader.add_node("spread", transpose(perm), &[blocks]);
    let larger = reader.add_node("larger_sides", Op::Binary(Binary::Mul), &[sides, factor]);
    let shape = reader.add_node("output_shape", concat, &[kept, larger]);
    reader.inputs = vec![Some(spread), Some(shape)];
    Ok(reshape())
}

/// `[N, C, H, W]` to `[N, b² · C, H / b, W / b]`.
fn space_to_depth(reader: &mut NodeReader<'_>) -> Result<Op, Refusal> {
    let x = only_input(reader)?;
    let block = block_size(reader)?;
    let kept = reader.constant("kept", [0i64, 0].as_slice())?;
    let depth = reader.constant("depth", [0i64, -1].as_slice())?;
    let factor = reader.constant("factor", [block].as_slice())?;
    let divided = Op::Binary(Binary::Div);
    let height = reader.add_node("height", lengths(2, 3), &[x]);
    let height = reader.add_node("smaller_height", divided.clone(), &[height, factor]);
    let width = reader.add_node("width", lengths(3, 4), &[x]);
    let width = reader.add_node("smaller_width", divided, &[width, factor]);
    let concat = Op::Concat { axis: 0 };
    let parts = [kept, height, factor, width, factor];
    let shape = reader.add_node("blocks_shape", concat.clone(), &parts);
    let blocks = reader.add_node("blocks", reshape(), &[x, shape]);
    let gathered = reader.add_node("gathered", transpose([0, 3, 5, 1, 2, 4]), &[blocks]);
    let shape = reader.add_node("output_shape", concat, &[depth, height, width]);
    reader.inputs = vec![Some(gathered), Some(shape)];
    Ok(reshape())
}
