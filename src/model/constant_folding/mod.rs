//! Evaluates the nodes whose inputs are all constants.
//!
//! Exporters compute shapes, paddings and rearranged weights with nodes; after folding, a convolution
//! sees its weight as an initializer, and a reshape its shape. Integers are computed exactly in `i64`
//! (`Div` truncates toward zero, as the operator does). A node that cannot be folded stays.
//!
//! The length of the first axis of an input is never taken for a constant, even where the file fixes
//! it: it is the batch, and the caller may choose another one.

mod elementwise;
mod movement;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::{
    Dim, ElementType, Graph, GraphBuilder, GraphError, Initializer, Node, Op, Scalar, Unary,
    ValueId,
};

/// Most elements that folding creates in one graph.
const ELEMENT_BUDGET: usize = 64 << 20;

/// Replaces every node that can be evaluated now by initializers.
///
/// A node that writes an output of the graph stays, so that every output is computed by a node.
///
/// # Errors
/// None that the graph did not have before.
pub(super) fn fold_constants(graph: Graph) -> Result<Graph, GraphError> {
    let metadata = graph.metadata().clone();
    let mut builder = graph.into_builder();
    let mut budget = ELEMENT_BUDGET;
    let mut known_lengths = known_lengths(&builder);
    let nodes = std::mem::take(&mut builder.nodes);
    let before = nodes.len();
    for node in nodes {
        let returned = node.outputs.iter().any(|id| builder.outputs.contains(id));
        let results = if returned {
            None
        } else {
            folded(&node, &builder, &known_lengths, budget)
        };
        let Some(results) = results else {
            known_lengths.note(&node);
            builder.nodes.push(node);
            continue;
        };
        for (id, tensor) in node.outputs.iter().zip(results) {
            budget = budget.saturating_sub(tensor.elem_count());
            set_constant(&mut builder, *id, tensor, &node.op);
        }
    }
    tracing::debug!(nodes = before - builder.nodes.len(), "folded constants");
    builder.finish(metadata)
}

fn set_constant(builder: &mut GraphBuilder, id: ValueId, tensor: Initializer, op: &Op) {
    let value = &mut builder.values[id.index()];
    value.shape = Some(tensor.dims().iter().copied().map(Dim::Fixed).collect());
    value.element_type = match (op, tensor.dtype()) {
        (Op::Cast { to }, _) => Some(*to),
        (_, DType::F32) => value.element_type.or(Some(ElementType::F32)),
        (_, DType::I64) => value.element_type.or(Some(ElementType::I64)),
        _ => Some(ElementType::Bool),
    };
    builder.initializers.insert(id, tensor);
}

/// Lengths of axes that are the same for every batch.
struct KnownLengths {
    /// Declared lengths of graph inputs, without the first axis.
    of_inputs: BTreeMap<ValueId, Vec<Option<usize>>>,
    /// Elements of the outputs of `Shape` nodes.
    of_shapes: BTreeMap<ValueId, Vec<Option<usize>>>,
}

fn known_lengths(builder: &GraphBuilder) -> KnownLengths {
    let lengths = |id: &ValueId| {
        let dims = builder.values[id.index()].shape.as_ref()?.iter();
        let known = dims.enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(length) if axis > 0 => Some(*length),
            _ => None,
        });
        Some((*id, known.collect()))
    };
    KnownLengths {
        of_inputs: builder.inputs.iter().filter_map(lengths).collect(),
        of_shapes: BTreeMap::new(),
    }
}

impl KnownLengths {
    /// What `Shape` gives for an input of the graph.
    fn shape_of(&self, x: ValueId, start: i64, end: Option<i64>) -> Option<&[Option<usize>]> {
        let lengths = self.of_inputs.get(&x)?;
        let range = movement::shape_range(lengths.len(), start, end);
        lengths.get(range)
    }

    /// Remembers what is known of the output of a `Shape` node.
    fn note(&mut self, node: &Node) {
        if let (Op::Shape { start, end }, Some(x)) = (&node.op, node.input(0))
            && let (Some(output), Some(lengths)) = (node.output(), self.shape_of(x, *start, *end))
        {
            let lengths = lengths.to_vec();
            self.of_shapes.insert(output, lengths);
        }
    }
}

/// The outputs of a node, or `None` if it cannot be evaluated.
fn folded(
    node: &Node,
    builder: &GraphBuilder,
    known: &KnownLengths,
    budget: usize,
) -> Option<Vec<Initializer>> {
    if let Some(lengths) = folded_lengths(node, builder, known) {
        return Some(vec![lengths.into()]);
    }
    let constant = |id: &Option<ValueId>| match id {
        None => Some(None),
        Some(id) => builder.initializers.get(id).map(Some),
    };
    let inputs: Vec<Option<&Initializer>> =
        node.inputs.iter().map(constant).collect::<Option<_>>()?;
    let inputs = Inputs { inputs, budget };
    let results = evaluated(&node.op, &inputs, node.outputs.len())?;
    (results.len() == node.outputs.len()).then_some(results)
}

/// Lengths of the graph's inputs that a node picks out.
fn folded_lengths(node: &Node, builder: &GraphBuilder, known: &KnownLengths) -> Option<Tensor> {
    match &node.op {
        Op::Shape { start, end } => {
            let lengths = known.shape_of(node.input(0)?, *start, *end)?;
            let lengths: Vec<i64> = lengths
                .iter()
                .map(|l| l.map(|l| l as i64))
                .collect::<Option<_>>()?;
            Tensor::new(lengths, &Device::Cpu).ok()
        }
        Op::Gather { axis: 0 | -1 } => {
            let lengths = known.of_shapes.get(&node.input(0)?)?;
            let indices = builder.initializers.get(&node.input(1)?)?;
            let picked: Vec<i64> = movement::integers(indices)?
                .into_iter()
                .map(|index| {
                    let axis = movement::position(index, lengths.len())?;
                    lengths[axis].map(|length| length as i64)
                })
                .collect::<Option<_>>()?;
            Tensor::from_vec(picked, indices.dims(), &Device::Cpu).ok()
        }
        _ => None,
    }
}

/// Constant inputs of a node, and how many elements its outputs may have.
struct Inputs<'a> {
    inputs: Vec<Option<&'a Initializer>>,
    budget: usize,
}

impl<'a> Inputs<'a> {
    /// An input whose elements need not be read.
    fn initializer(&self, index: usize) -> Option<&'a Initializer> {
        self.inputs.get(index).copied().flatten()
    }

    fn get(&self, index: usize) -> Option<&'a Tensor> {
        self.initializer(index)?.tensor().ok()
    }

    /// All inputs, if none is omitted.
    fn all(&self) -> Option<Vec<&'a Tensor>> {
        let tensor = |input: Option<&'a Initializer>| input?.tensor().ok();
        self.inputs.iter().copied().map(tensor).collect()
    }

    /// The elements of an integer input.
    fn integers(&self, index: usize) -> Option<Vec<i64>> {
        movement::integers(self.initializer(index)?)
    }

    /// The elements of an optional integer input, or `default` if it is omitted.
    fn integers_or(&self, index: usize, default: impl FnOnce() -> Vec<i64>) -> Option<Vec<i64>> {
        match self.initializer(index) {
            None => Some(default()),
            Some(initializer) => movement::integers(initializer),
        }
    }

    /// The shape if its elements fit the budget.
    fn affordable(&self, dims: Vec<usize>) -> Option<Vec<usize>> {
        let elements = dims.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
        (elements <= self.budget).then_some(dims)
    }
}

fn evaluated(op: &Op, inputs: &Inputs<'_>, outputs: usize) -> Option<Vec<Initializer>> {
    let x = inputs.initializer(0);
    // Views of the same elements cost nothing; everything else is paid for.
    let view = match op {
        Op::Identity => x?.clone(),
        Op::Cast { to } if x?.dtype() == DType::F32 && to.is_float() => x?.clone(),
        Op::Flatten { axis } => movement::flatten(x?, *axis)?,
        Op::Reshape { allow_zero } => movement::reshape(x?, &inputs.integers(1)?, *allow_zero)?,
        Op::Squeeze => movement::squeeze(inputs)?,
        Op::Unsqueeze => movement::unsqueeze(x?, &inputs.integers(1)?)?,
        _ => return computed(op, inputs, outputs),
    };
    Some(vec![view])
}

fn computed(op: &Op, inputs: &Inputs<'_>, outputs: usize) -> Option<Vec<Initializer>> {
    let x = || inputs.get(0);
    let result = match op {
        Op::Shape { start, end } => {
            let x = inputs.initializer(0)?;
            let dims: Vec<i64> = x.dims().iter().map(|dim| *dim as i64).collect();
            let range = movement::shape_range(dims.len(), *start, *end);
            Tensor::new(dims.get(range)?, &Device::Cpu).ok()?
        }
        Op::Binary(op) => elementwise::binary(*op, inputs)?,
        Op::Cast { to } => elementwise::cast(x()?, *to, inputs)?,
        Op::Unary(op) => elementwise::unary(*op, x()?, inputs)?,
        Op::Variadic(op) => elementwise::variadic(*op, inputs)?,
        Op::Where => elementwise::select(inputs)?,
        Op::Concat { axis } => movement::concat(inputs, *axis)?,
        Op::ConstantOfShape { value } => constant_of_shape(inputs, *value)?,
        Op::Expand => movement::expand(inputs)?,
        Op::Gather { axis } => movement::gather(inputs, *axis)?,
        Op::Range => range(inputs)?,
        Op::Slice => movement::slice(inputs)?,
        Op::Split { axis } => {
            let parts = movement::split(inputs, *axis, outputs)?;
            return Some(parts.into_iter().map(Initializer::from).collect());
        }
        Op::Tile => movement::tile(inputs)?,
        Op::Transpose { perm } => movement::transpose(inputs, perm.as_deref())?,
        _ => return None,
    };
    Some(vec![result.into()])
}

fn constant_of_shape(inputs: &Inputs<'_>, value: Scalar) -> Option<Tensor> {
    let lengths = inputs.integers(0)?.into_iter().map(usize::try_from);
    let dims = inputs.affordable(lengths.collect::<Result<_, _>>().ok()?)?;
    match value {
        Scalar::F32(value) => Tensor::full(value, dims, &Device::Cpu),
        Scalar::I64(value) => Tensor::full(value, dims, &Device::Cpu),
        Scalar::Bool(value) => Tensor::full(u8::from(value), dims, &Device::Cpu),
    }
    .ok()
}

fn range(inputs: &Inputs<'_>) -> Option<Tensor> {
    let scalar = |index| {
        let tensor = inputs.get(index)?;
        (tensor.elem_count() == 1)
            .then_some(tensor)?
            .reshape(())
            .ok()
    };
    let (start, limit, delta) = (scalar(0)?, scalar(1)?, scalar(2)?);
    if start.dtype() == DType::I64 {
        let integer = |tensor: &Tensor| tensor.to_scalar::<i64>().ok();
        let (start, limit, delta) = (integer(&start)?, integer(&limit)?, integer(&delta)?);
        let steps = movement::steps(start.into(), limit.into(), delta.into())?;
        let count = inputs.affordable(vec![usize::try_from(steps).ok()?])?[0];
        let element = |index: usize| start.wrapping_add((index as i64).wrapping_mul(delta));
        return Tensor::from_vec((0..count).map(element).collect(), count, &Device::Cpu).ok();
    }
    let float = |tensor: &Tensor| tensor.to_scalar::<f32>().ok();
    let (start, limit, delta) = (float(&start)?, float(&limit)?, float(&delta)?);
    let steps = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil();
    if !steps.is_finite() {
        return None;
    }
    // A negative number of steps saturates to none.
    let count = inputs.affordable(vec![steps as usize])?[0];
    let element = |index: usize| start + index as f32 * delta;
    Tensor::from_vec((0..count).map(element).collect(), count, &Device::Cpu).ok()
}

#[cfg(test)]
mod tests;
