//! Nodes as expressions of PyTorch.

use super::paths::{float, list, quoted, tuple};
use super::resampling::interpolate;
use super::scope::{Reason, Scope};
use super::windows::{convolution, convolution_attributes, padded, pool, transposed_attributes};
use crate::model::{Binary, Node, Op, PadMode, Reduction, Scalar, Unary, Variadic};

/// The class of a layer with the arguments of its constructor.
///
/// # Errors
/// What PyTorch cannot do.
pub(super) fn layer_class(node: &Node) -> Result<(&'static str, String), Reason> {
    Ok(match &node.op {
        Op::Conv(conv) => ("Conv", convolution_attributes(conv)),
        Op::ConvTranspose(transposed) => ("ConvTranspose", transposed_attributes(transposed)?),
        Op::Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b: true,
        } => ("Linear", String::new()),
        Op::Gemm {
            alpha,
            beta,
            trans_a,
            trans_b,
        } => {
            let [trans_a, trans_b] = [*trans_a, *trans_b].map(boolean);
            let (alpha, beta) = (float(*alpha), float(*beta));
            let attributes =
                format!("alpha={alpha}, beta={beta}, trans_a={trans_a}, trans_b={trans_b}");
            ("Gemm", attributes)
        }
        Op::MatMul => ("MatMul", String::new()),
        Op::Einsum { equation } => ("Einsum", format!("equation={}", quoted(equation))),
        other => return Err(format!("{} is not a layer here", other.name())),
    })
}

/// The call of a layer's module at `module`.
///
/// # Errors
/// An input that is missing.
pub(super) fn layer_call(
    scope: &mut Scope<'_>,
    node: &Node,
    module: &str,
    has_bias: bool,
) -> Result<String, Reason> {
    let x = scope.tensor(node, 0)?;
    let x = match &node.op {
        Op::Conv(conv) => padded(scope, node, conv, &x)?,
        _ => x,
    };
    // A bias that the network computes is no part of the layer.
    if !has_bias && node.input(2).is_some() {
        let bias = scope.tensor(node, 2)?;
        return Ok(format!("{module}({x}, {bias})"));
    }
    Ok(format!("{module}({x})"))
}

/// What a node that is no layer computes.
///
/// # Errors
/// What PyTorch, or this translation, cannot do.
pub(super) fn call(scope: &mut Scope<'_>, node: &Node) -> Result<String, Reason> {
    Ok(match &node.op {
        Op::AveragePool(_) | Op::MaxPool(_) => pool(scope, node)?,
        Op::Conv(_) | Op::ConvTranspose(_) => convolution(scope, node)?,
        Op::Unary(unary) => unary_call(*unary, &scope.tensor(node, 0)?),
        Op::Binary(binary) => binary_call(scope, node, *binary)?,
        Op::Variadic(variadic) => variadic_call(scope, node, *variadic)?,
        Op::Reduce {
            reduction,
            keep_dims,
            noop_with_empty_axes,
        } => reduce(scope, node, *reduction, *keep_dims, *noop_with_empty_axes)?,
        Op::Resize(resize) => interpolate(scope, node, *resize)?,
        Op::BatchNormalization { epsilon } => {
            let [x, gamma, beta, mean, variance] = scope.tensors(node)?;
            let epsilon = float(*epsilon);
            format!("F.batch_norm({x}, {mean}, {variance}, {gamma}, {beta}, eps={epsilon})")
        }
        Op::LayerNormalization { axis, epsilon } => {
            let x = scope.tensor(node, 0)?;
            let gamma = scope.tensor(node, 1)?;
            let beta = scope.optional(node, 2)?;
            let epsilon = float(*epsilon);
            format!("F.layer_norm({x}, {x}.shape[{axis}:], {gamma}, {beta}, eps={epsilon})")
        }
        Op::Lrn {
            alpha,
            beta,
            bias,
            size,
        } if size % 2 == 1 => {
            let x = scope.tensor(node, 0)?;
            let [alpha, beta, bias] = [*alpha, *beta, *bias].map(float);
            format!("F.local_response_norm({x}, {size}, alpha={alpha}, beta={beta}, k={bias})")
        }
        Op::Lrn { size, .. } => {
            return Err(format!(
                "a window of {size} channels has no middle in PyTorch"
            ));
        }
        Op::GlobalAveragePool => {
            let x = scope.tensor(node, 0)?;
            let axes = spatial_axes(scope, node)?;
            format!("{x}.mean({axes}, keepdim=True)")
        }
        Op::GlobalMaxPool => {
            let x = scope.tensor(node, 0)?;
            let axes = spatial_axes(scope, node)?;
            format!("{x}.amax({axes}, keepdim=True)")
        }
        Op::MatMul => {
            let [a, b] = scope.tensors(node)?;
            format!("{a} @ {b}")
        }
        Op::Gemm {
            alpha,
            beta,
            trans_a,
            trans_b,
        } => {
            let a = scope.tensor(node, 0)?;
            let b = scope.tensor(node, 1)?;
            let c = scope.optional(node, 2)?;
            let (alpha, beta) = (float(*alpha), float(*beta));
            let [trans_a, trans_b] = [*trans_a, *trans_b].map(boolean);
            format!("gemm({a}, {b}, {c}, {alpha}, {beta}, {trans_a}, {trans_b})")
        }
        Op::Einsum { equation } => {
            let operands: Result<Vec<String>, Reason> = (0..node.inputs.len())
                .map(|at| scope.tensor(node, at))
                .collect();
            format!(
                "torch.einsum({}, {})",
                quoted(equation),
                operands?.join(", ")
            )
        }
        Op::Softmax { axis, coerce_to_2d } => {
            softmax(scope, node, "softmax", *axis, *coerce_to_2d)?
        }
        Op::LogSoftmax { axis, coerce_to_2d } => {
            softmax(scope, node, "log_softmax", *axis, *coerce_to_2d)?
        }
        Op::Clip => {
            let x = scope.tensor(node, 0)?;
            let least = scope.optional(node, 1)?;
            let most = scope.optional(node, 2)?;
            format!("torch.clamp({x}, {least}, {most})")
        }
        Op::Where => {
            let [condition, a, b] = scope.tensors(node)?;
            format!("torch.where({condition}, {a}, {b})")
        }
        other => shaping(scope, node, other)?,
    })
}

/// Operators that move or make elements.
fn shaping(scope: &mut Scope<'_>, node: &Node, op: &Op) -> Result<String, Reason> {
    Ok(match op {
        Op::Identity => scope.tensor(node, 0)?,
        Op::Cast { to } => {
            let kind = match to {
                to if to.is_float() => "torch.float32",
                crate::model::ElementType::Bool => "torch.bool",
                _ => "torch.int64",
            };
            format!("{}.to({kind})", scope.tensor(node, 0)?)
        }
        Op::Concat { axis } => {
            let parts: Result<Vec<String>, Reason> = (0..node.inputs.len())
                .map(|at| scope.tensor(node, at))
                .collect();
            format!("torch.cat({}, {axis})", list(parts?))
        }
        Op::ConstantOfShape { value } => {
            let value = match value {
                Scalar::F32(value) => float(*value),
                Scalar::I64(value) => value.to_string(),
                Scalar::Bool(value) => boolean(*value).to_owned(),
            };
            format!("torch.full(numbers({}), {value})", scope.integers(node, 0)?)
        }
        Op::Expand => format!(
            "expand({}, {})",
            scope.tensor(node, 0)?,
            scope.integers(node, 1)?
        ),
        Op::Flatten { axis: 1 } if scope.rank(node, 0).is_some_and(|rank| rank >= 2) => {
            format!("{}.flatten(1)", scope.tensor(node, 0)?)
        }
        Op::Flatten { axis } => format!("flatten_from({}, {axis})", scope.tensor(node, 0)?),
        Op::Gather { axis } => {
            let x = scope.tensor(node, 0)?;
            if let Some(index) = scope.known_integer(node, 1) {
                return Ok(format!("{x}.select({axis}, {index})"));
            }
            let indices = scope.tensor(node, 1)?;
            format!("gather({x}, {indices}, {axis})")
        }
        Op::Pad { mode } => pad(scope, node, *mode)?,
        Op::Range => {
            let [start, limit, delta] = scope.tensors(node)?;
            format!("arange({start}, {limit}, {delta})")
        }
        Op::Reshape { allow_zero } => reshape(scope, node, *allow_zero)?,
        Op::Shape { start, end } => {
            let x = scope.tensor(node, 0)?;
            let part = match (start, end) {
                (0, None) => String::new(),
                (start, None) => format!("[{start}:]"),
                (start, Some(end)) => format!("[{start}:{end}]"),
            };
            format!("torch.tensor({x}.shape{part})")
        }
        Op::Slice => slice(scope, node)?,
        Op::Split { axis } => {
            let x = scope.tensor(node, 0)?;
            match scope.known_integers(node, 1) {
                Some(lengths) => format!("{x}.split({}, {axis})", list(lengths)),
                None if node.input(1).is_some() => {
                    format!("{x}.split(numbers({}), {axis})", scope.tensor(node, 1)?)
                }
                None => format!("split({x}, {}, {axis})", node.outputs.len()),
            }
        }
        Op::Squeeze => {
            let x = scope.tensor(node, 0)?;
            match scope.known_integers(node, 1) {
                Some(axes) => format!("{x}.squeeze({})", tuple(axes)),
                None if node.input(1).is_none() => format!("{x}.squeeze()"),
                None => return Err("its axes are not constant".to_owned()),
            }
        }
        Op::Unsqueeze => unsqueeze(scope, node)?,
        Op::Tile => format!(
            "{}.tile(numbers({}))",
            scope.tensor(node, 0)?,
            scope.integers(node, 1)?
        ),
        Op::Transpose { perm } => {
            let x = scope.tensor(node, 0)?;
            match perm {
                Some(perm) => format!("{x}.permute({})", tuple(perm)),
                None => format!("{x}.permute(tuple(range({x}.dim() - 1, -1, -1)))"),
            }
        }
        other => return Err(format!("{} has no counterpart", other.name())),
    })
}

pub(super) fn boolean(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

fn spatial_axes(scope: &Scope<'_>, node: &Node) -> Result<String, Reason> {
    let rank = scope.rank(node, 0);
    let rank = rank.ok_or_else(|| "the number of axes of its input is not known".to_owned())?;
    Ok(tuple(2..rank))
}

fn unary_call(unary: Unary, x: &str) -> String {
    match unary {
        Unary::Abs => format!("{x}.abs()"),
        Unary::Ceil => format!("{x}.ceil()"),
        Unary::Elu { alpha } => format!("F.elu({x}, {})", float(alpha)),
        Unary::Erf => format!("torch.erf({x})"),
        Unary::Exp => format!("{x}.exp()"),
        Unary::Floor => format!("{x}.floor()"),
        Unary::Gelu {
            tanh_approximation: false,
        } => format!("F.gelu({x})"),
        Unary::Gelu { .. } => format!("F.gelu({x}, approximate=\"tanh\")"),
        Unary::HardSigmoid { alpha, beta } => {
            format!(
                "torch.clamp({} * {x} + {}, 0.0, 1.0)",
                float(alpha),
                float(beta)
            )
        }
        Unary::HardSwish => format!("F.hardswish({x})"),
        Unary::LeakyRelu { alpha } => format!("F.leaky_relu({x}, {})", float(alpha)),
        Unary::Log => format!("{x}.log()"),
        Unary::Neg => format!("-{x}"),
        Unary::Not => format!("~{x}"),
        Unary::Reciprocal => format!("{x}.reciprocal()"),
        Unary::Relu => format!("F.relu({x})"),
        Unary::Round => format!("{x}.round()"),
        Unary::Sigmoid => format!("torch.sigmoid({x})"),
        Unary::Sign => format!("{x}.sign()"),
        Unary::Softplus => format!("F.softplus({x})"),
        Unary::Sqrt => format!("{x}.sqrt()"),
        Unary::Tanh => format!("torch.tanh({x})"),
    }
}

fn binary_call(scope: &mut Scope<'_>, node: &Node, binary: Binary) -> Result<String, Reason> {
    if matches!(binary, Binary::PRelu) {
        let [x, slope] = scope.tensors(node)?;
        return Ok(format!("torch.where({x} < 0, {x} * {slope}, {x})"));
    }
    let a = scope.operand(node, 0)?;
    let b = scope.operand(node, 1)?;
    let sign = match binary {
        Binary::Add => "+",
        Binary::And => "&",
        Binary::Div => {
            let is_float = scope.is_float(node, 0) || scope.is_float(node, 1);
            return Ok(if is_float {
                format!("{a} / {b}")
            } else {
                format!("divide({a}, {b})")
            });
        }
        Binary::Equal => "==",
        Binary::Greater => ">",
        Binary::GreaterOrEqual => ">=",
        Binary::Less => "<",
        Binary::LessOrEqual => "<=",
        Binary::Mod { fmod: true } => return Ok(format!("torch.fmod({a}, {b})")),
        Binary::Mod { fmod: false } => "%",
        Binary::Mul => "*",
        Binary::Or => "|",
        Binary::Pow => "**",
        Binary::PRelu | Binary::Sub => "-",
    };
    Ok(format!("{a} {sign} {b}"))
}

fn variadic_call(scope: &mut Scope<'_>, node: &Node, op: Variadic) -> Result<String, Reason> {
    let mut operands = Vec::new();
    for at in 0..node.inputs.len() {
        operands.push(scope.tensor(node, at)?);
    }
    let folded = |function: &str| {
        let mut all = operands.iter();
        let first = all.next().cloned().unwrap_or_default();
        all.fold(first, |left, right| format!("{function}({left}, {right})"))
    };
    Ok(match op {
        Variadic::Max => folded("torch.maximum"),
        Variadic::Min => folded("torch.minimum"),
        Variadic::Sum => operands.join(" + "),
        Variadic::Mean => format!("({}) / {}.0", operands.join(" + "), operands.len()),
    })
}

fn reduce(
    scope: &mut Scope<'_>,
    node: &Node,
    reduction: Reduction,
    keep_dims: bool,
    noop_with_empty_axes: bool,
) -> Result<String, Reason> {
    let x = scope.tensor(node, 0)?;
    let axes = match scope.known_integers(node, 1).unwrap_or_default() {
        axes if !axes.is_empty() => tuple(axes),
        _ if node.input(1).is_some_and(|id| !scope.is_constant(id)) => {
            return Err("its axes are not constant".to_owned());
        }
        _ if noop_with_empty_axes => return Ok(x),
        _ => format!("tuple(range({x}.dim()))"),
    };
    let keep = if keep_dims { ", keepdim=True" } else { "" };
    Ok(match reduction {
        Reduction::L2 => format!("torch.linalg.vector_norm({x}, dim={axes}{keep})"),
        Reduction::Max => format!("{x}.amax({axes}{keep})"),
        Reduction::Mean => format!("{x}.mean({axes}{keep})"),
        Reduction::Min => format!("{x}.amin({axes}{keep})"),
        Reduction::Sum => format!("{x}.sum({axes}{keep})"),
        Reduction::SumSquare => format!("({x} * {x}).sum({axes}{keep})"),
        Reduction::Prod => match scope.known_integers(node, 1).as_deref() {
            Some([axis]) => format!("{x}.prod({axis}{keep})"),
            _ => return Err("PyTorch multiplies along one axis at a time".to_owned()),
        },
    })
}

fn softmax(
    scope: &mut Scope<'_>,
    node: &Node,
    function: &str,
    axis: i64,
    coerce_to_2d: bool,
) -> Result<String, Reason> {
    let x = scope.tensor(node, 0)?;
    let is_last = axis == -1
        || scope
            .rank(node, 0)
            .is_some_and(|rank| axis == rank as i64 - 1);
    Ok(if coerce_to_2d && !is_last {
        format!("softmax_from({x}, {axis}, F.{function})")
    } else {
        format!("F.{function}({x}, dim={axis})")
    })
}

fn pad(scope: &mut Scope<'_>, node: &Node, mode: PadMode) -> Result<String, Reason> {
    let x = scope.tensor(node, 0)?;
    let (Some(pads), Some(rank)) = (scope.known_integers(node, 1), scope.rank(node, 0)) else {
        return Err("its padding is not constant".to_owned());
    };
    let axes: Vec<i64> = match scope.known_integers(node, 3) {
        Some(axes) => axes
            .iter()
            .map(|axis| axis.rem_euclid(rank as i64))
            .collect(),
        None => (0..rank as i64).collect(),
    };
    let mut by_axis = vec![(0, 0); rank];
    for (at, axis) in axes.iter().enumerate() {
        let ends = (pads.get(at), pads.get(axes.len() + at));
        if let (Some(slot), (Some(begin), Some(end))) = (by_axis.get_mut(*axis as usize), ends) {
            *slot = (*begin, *end);
        }
    }
    let unpadded = by_axis.iter().take_while(|pads| **pads == (0, 0)).count();
    let lengths = by_axis[unpadded..]
        .iter()
        .rev()
        .flat_map(|(begin, end)| [*begin, *end]);
    let lengths = tuple(lengths);
    let mode = match mode {
        PadMode::Constant => {
            let value = if node.input(2).is_some() {
                scope.operand(node, 2)?
            } else {
                "0.0".to_owned()
            };
            return Ok(format!("F.pad({x}, {lengths}, value={value})"));
        }
        PadMode::Edge => "replicate",
        PadMode::Reflect => "reflect",
        PadMode::Wrap => "circular",
    };
    Ok(format!("F.pad({x}, {lengths}, mode=\"{mode}\")"))
}

fn reshape(scope: &mut Scope<'_>, node: &Node, allow_zero: bool) -> Result<String, Reason> {
    let x = scope.tensor(node, 0)?;
    if let Some(lengths) = scope.known_integers(node, 1) {
        let lengths = lengths.iter().enumerate().map(|(axis, length)| {
            if *length == 0 && !allow_zero {
                format!("{x}.shape[{axis}]")
            } else {
                length.to_string()
            }
        });
        return Ok(format!("{x}.reshape({})", tuple(lengths)));
    }
    let shape = scope.tensor(node, 1)?;
    Ok(format!("reshape({x}, {shape}, {})", boolean(allow_zero)))
}

fn unsqueeze(scope: &mut Scope<'_>, node: &Node) -> Result<String, Reason> {
    let mut x = scope.tensor(node, 0)?;
    let (Some(mut axes), Some(rank)) = (scope.known_integers(node, 1), scope.rank(node, 0)) else {
        return Err("its axes are not constant".to_owned());
    };
    let rank = (rank + axes.len()) as i64;
    for axis in &mut axes {
        *axis = axis.rem_euclid(rank.max(1));
    }
    axes.sort_unstable();
    for axis in axes {
        x = format!("{x}.unsqueeze({axis})");
    }
    Ok(x)
}

fn slice(scope: &mut Scope<'_>, node: &Node) -> Result<String, Reason> {
    let x = scope.tensor(node, 0)?;
    let known = |at: usize| match node.input(at) {
        Some(_) => scope.known_integers(node, at).map(Some),
        None => Some(None),
    };
    let rank = scope.rank(node, 0);
    if let (Some(Some(starts)), Some(Some(ends)), Some(axes), Some(steps), Some(rank)) =
        (known(1), known(2), known(3), known(4), rank)
    {
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if steps.iter().all(|step| *step > 0) {
            let parts = subscripts(rank, &starts, &ends, &axes, &steps);
            return Ok(format!("{x}[{}]", parts.join(", ")));
        }
    }
    let mut arguments = vec![x];
    for at in 1..5 {
        let argument = match node.input(at) {
            Some(_) => scope.integers(node, at)?,
            None => "None".to_owned(),
        };
        arguments.push(argument);
    }
    Ok(format!("slice_axes({})", arguments.join(", ")))
}

/// One slice for each axis up to the last that is cut.
fn subscripts(
    rank: usize,
    starts: &[i64],
    ends: &[i64],
    axes: &[i64],
    steps: &[i64],
) -> Vec<String> {
    let mut parts = vec![":".to_owned(); rank];
    for (((start, end), axis), step) in starts.iter().zip(ends).zip(axes).zip(steps) {
        let axis = axis.rem_euclid(rank.max(1) as i64) as usize;
        let start = if *start == 0 {
            String::new()
        } else {
            start.to_string()
        };
        let open = *end >= i64::from(i32::MAX);
        let end = if open { String::new() } else { end.to_string() };
        let step = if *step == 1 {
            String::new()
        } else {
            format!(":{step}")
        };
        if let Some(part) = parts.get_mut(axis) {
            *part = format!("{start}:{end}{step}");
        }
    }
    while parts.len() > 1 && parts.last().is_some_and(|part| part == ":") {
        parts.pop();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_written_as_subscripts() {
        let open = i64::MAX;
        let parts = subscripts(4, &[0, 0], &[open, open], &[2, 3], &[2, 2]);
        assert_eq!(parts.join(", "), ":, :, ::2, ::2");
        let parts = subscripts(3, &[1], &[-1], &[-2], &[1]);
        assert_eq!(parts.join(", "), ":, 1:-1");
        let parts = subscripts(2, &[0], &[open], &[0], &[1]);
        assert_eq!(parts.join(", "), ":");
    }

    #[test]
    fn functions_of_one_input_are_those_of_pytorch() {
        let elu = unary_call(Unary::Elu { alpha: 0.5 }, "x");
        assert_eq!(elu, "F.elu(x, 0.5)");
        let gelu = Unary::Gelu {
            tanh_approximation: true,
        };
        assert_eq!(unary_call(gelu, "x"), "F.gelu(x, approximate=\"tanh\")");
    }
}
