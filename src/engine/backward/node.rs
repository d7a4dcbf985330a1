//! What the forward run left of a node, and sums of gradients.

use candle_core::Tensor;

use crate::engine::activations::Activations;
use crate::engine::error::OpError;
use crate::engine::slices::with_f32;
use crate::engine::value::Value;
use crate::model::{Graph, Node};

/// A node that the forward run passed, with the gradients of its outputs.
pub(super) struct Passed<'a> {
    pub(super) graph: &'a Graph,
    pub(super) held: &'a Activations,
    pub(super) node: &'a Node,
    pub(super) gradients: &'a [Option<Value>],
}

impl Passed<'_> {
    /// The gradient of the first output.
    pub(super) fn gradient(&self) -> Result<&Value, OpError> {
        match self.gradients {
            [Some(gradient), ..] => Ok(gradient),
            _ => Err(OpError::Message(
                "its first output has no gradient".to_owned(),
            )),
        }
    }

    /// An input as it was held, or a constant.
    pub(super) fn input(&self, index: usize) -> Result<Value, OpError> {
        self.optional(index).ok_or(OpError::MissingInput(index))
    }

    /// As [`Passed::input`]; `None` for an omitted one.
    pub(super) fn optional(&self, index: usize) -> Option<Value> {
        let id = self.node.input(index)?;
        let constant = || self.graph.initializer(id).cloned().map(Value::from);
        self.held.get(id).cloned().or_else(constant)
    }

    pub(super) fn plain(&self, index: usize) -> Result<Tensor, OpError> {
        Ok(self.input(index)?.plain()?)
    }

    /// The first output of the forward run.
    pub(super) fn output(&self) -> Result<Value, OpError> {
        self.node
            .output()
            .and_then(|id| self.held.get(id).cloned())
            .ok_or_else(|| OpError::Message("its output was not kept".to_owned()))
    }

    /// All inputs as plain tensors.
    pub(super) fn plain_inputs(&self) -> Result<Vec<Option<Tensor>>, OpError> {
        let inputs = (0..self.node.inputs.len()).map(|index| self.optional(index));
        inputs
            .map(|input| Ok(input.map(|value| value.plain()).transpose()?))
            .collect()
    }
}

/// The elements of two values side by side, in the layout that both get: in blocks if one of them is,
/// which is what convolutions go back through fastest.
pub(super) fn zip(a: &Value, b: &Value, f: impl Fn(f32, f32) -> f32) -> candle_core::Result<Value> {
    let in_blocks = |value: &Value| matches!(value, Value::Blocked { .. });
    if (in_blocks(a) || in_blocks(b))
        && let (Some((first, channels)), Some((second, _))) = (a.blocked()?, b.blocked()?)
    {
        return Ok(Value::Blocked {
            image: zip_tensors(&first, &second, f)?,
            channels,
        });
    }
    Ok(zip_tensors(&a.plain()?, &b.plain()?, f)?.into())
}

pub(super) fn zip_tensors(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(f32, f32) -> f32,
) -> candle_core::Result<Tensor> {
    if a.dims() != b.dims() {
        candle_core::bail!("shapes {:?} and {:?} differ", a.dims(), b.dims());
    }
    with_f32(a, |xs| {
        with_f32(b, |ys| {
            let values: Vec<f32> = xs.iter().zip(ys).map(|(x, y)| f(*x, *y)).collect();
            Tensor::from_vec(values, a.dims(), a.device())
        })
    })
}

/// A tensor of `f` of every element.
pub(super) fn map(x: &Tensor, f: impl Fn(f32) -> f32) -> candle_core::Result<Tensor> {
    with_f32(x, |xs| {
        let values: Vec<f32> = xs.iter().map(|x| f(*x)).collect();
        Tensor::from_vec(values, x.dims(), x.device())
    })
}

/// The sum of two gradients of one value.
pub(super) fn sum(a: &Value, b: &Value) -> candle_core::Result<Value> {
    zip(a, b, |x, y| x + y)
}

/// A gradient summed over the axes along which an operand of shape `dims` was repeated.
pub(super) fn summed_to(gradient: &Tensor, dims: &[usize]) -> candle_core::Result<Tensor> {
    let mut sum = gradient.clone();
    while sum.rank() > dims.len() {
        sum = sum.sum(0)?;
    }
    for (axis, length) in dims.iter().enumerate() {
        if *length == 1 && sum.dims()[axis] != 1 {
            sum = sum.sum_keepdim(axis)?;
        }
    }
    sum.contiguous()
}
