//! Operators on tensors, one family a file.
//!
//! Tensors are `F32` for all floats, `I64` for all integers and `U8` for booleans. Outputs are
//! contiguous, and the same for any number of threads.

mod binary;
mod blocked;
mod convolution;
mod einsum;
mod elements;
mod elementwise;
mod generate;
mod indexing;
pub(super) mod math;
mod matmul;
mod normalization;
mod onnx_runtime;
mod openvino;
mod pad;
mod pooling;
mod pytorch;
mod reduce;
mod shape;
mod strided;
#[cfg(test)]
mod testing;
mod variadic;

use candle_core::{DType, Tensor, WithDType};

use super::arithmetic::Arithmetic;
use super::error::OpError;
use super::kernels::blocked::ChannelAffine;
use super::value::Value;
use crate::model::Op;
use elements::Elements;

/// What a batch normalisation does to each channel, from scale, bias, mean and variance.
pub(super) fn affine_of(epsilon: f32, parameters: Vec<Tensor>) -> Option<ChannelAffine> {
    let channels = parameters.first()?.elem_count();
    let mut inputs = vec![None];
    inputs.extend(parameters.into_iter().map(Some));
    let [mean, factor, bias] =
        normalization::affine_of_batch_norm(epsilon, channels, &Inputs(&inputs)).ok()?;
    Some(ChannelAffine::new([&mean, &factor, &bias]))
}

/// The output of an operator in the way of the runtime that `arithmetic` follows; `None` where that is none
/// of its own. `constant` says whether input 1 is a constant of the file that the runtime executes.
///
/// # Errors
/// Inputs that do not fit the operator.
pub(super) fn evaluate_as(
    arithmetic: Arithmetic,
    op: &Op,
    inputs: &[Option<Tensor>],
    constant: bool,
) -> Result<Option<Tensor>, OpError> {
    match arithmetic {
        Arithmetic::OnnxRuntime => onnx_runtime::evaluate(op, inputs, constant),
        Arithmetic::OpenVino => openvino::evaluate(op, inputs),
        Arithmetic::PyTorch => pytorch::evaluate(op, inputs),
        Arithmetic::Auto | Arithmetic::Integer | Arithmetic::Float => Ok(None),
    }
}

/// Evaluates one operator on values, which stay in blocks where they can.
///
/// # Errors
/// As [`evaluate`].
pub(super) fn evaluate_values(
    op: &Op,
    inputs: &[Option<Value>],
    output_count: usize,
) -> Result<Vec<Value>, OpError> {
    if let Some(value) = blocked::evaluate(op, inputs)? {
        return Ok(vec![value]);
    }
    let plain: Result<Vec<Option<Tensor>>, candle_core::Error> = inputs
        .iter()
        .map(|input| input.as_ref().map(Value::plain).transpose())
        .collect();
    let outputs = evaluate(op, &plain?, output_count)?;
    Ok(outputs.into_iter().map(Value::from).collect())
}

/// Evaluates one operator on its inputs; `None` is an omitted optional input.
///
/// Returns the first `output_count` outputs, or all of them where the operator has fewer.
///
/// # Errors
/// An operator or attribute that the engine does not support, a missing input, or element types,
/// shapes and values that do not fit.
pub fn evaluate(
    op: &Op,
    inputs: &[Option<Tensor>],
    output_count: usize,
) -> Result<Vec<Tensor>, OpError> {
    let inputs = &Inputs(inputs);
    let outputs = match op {
        Op::Identity => shape::identity(inputs, output_count)?,
        Op::LayerNormalization { axis, epsilon } => {
            normalization::layer_normalization(*axis, *epsilon, inputs, output_count)?
        }
        Op::Split { axis } => indexing::split(*axis, inputs, output_count)?,
        _ => vec![evaluate_single(op, inputs)?],
    };
    if outputs.len() < output_count {
        return Err(OpError::Unsupported {
            reason: format!(
                "{} is supported with {} outputs, this node has {output_count}; export the model without the others",
                op.name(),
                outputs.len()
            ),
        });
    }
    Ok(outputs)
}

/// Evaluates an operator that has one output.
fn evaluate_single(op: &Op, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    match op {
        Op::AveragePool(pool) => pooling::average_pool(pool, inputs),
        Op::BatchNormalization { epsilon } => normalization::batch_normalization(*epsilon, inputs),
        Op::Binary(op) => binary::binary(*op, inputs),
        Op::Cast { to } => generate::cast(*to, inputs),
        Op::Clip => elementwise::clip(inputs),
        Op::Concat { axis } => indexing::concat(*axis, inputs),
        Op::ConstantOfShape { value } => generate::constant_of_shape(*value, inputs),
        Op::Conv(conv) => convolution::conv(conv, inputs),
        Op::ConvTranspose(conv) => convolution::conv_transpose(conv, inputs),
        Op::Einsum { equation } => einsum::einsum(equation, inputs),
        Op::Expand => shape::expand(inputs),
        Op::Flatten { axis } => shape::flatten(*axis, inputs),
        Op::Gather { axis } => indexing::gather(*axis, inputs),
        Op::Gemm {
            alpha,
            beta,
            trans_a,
            trans_b,
        } => matmul::gemm(*alpha, *beta, [*trans_a, *trans_b], inputs),
        Op::GlobalAveragePool => pooling::global_average_pool(inputs),
        Op::GlobalMaxPool => pooling::global_max_pool(inputs),
        Op::LogSoftmax { axis, coerce_to_2d } => {
            normalization::softmax(*axis, *coerce_to_2d, true, inputs)
        }
        Op::Lrn {
            alpha,
            beta,
            bias,
            size,
        } => pooling::lrn([*alpha, *beta, *bias], *size, inputs),
        Op::MatMul => matmul::matmul(inputs),
        Op::MaxPool(pool) => pooling::max_pool(pool, inputs),
        Op::Pad { mode } => pad::pad(*mode, inputs),
        Op::Range => generate::range(inputs),
        Op::Reduce {
            reduction,
            keep_dims,
            noop_with_empty_axes,
        } => reduce::reduce(*reduction, *keep_dims, *noop_with_empty_axes, inputs),
        Op::Reshape { allow_zero } => shape::reshape(*allow_zero, inputs),
        Op::Resize(resize) => pooling::resize(*resize, inputs),
        Op::Shape { start, end } => shape::shape(*start, *end, inputs),
        Op::Slice => indexing::slice(inputs),
        Op::Softmax { axis, coerce_to_2d } => {
            normalization::softmax(*axis, *coerce_to_2d, false, inputs)
        }
        Op::Squeeze => shape::squeeze(inputs),
        Op::Tile => shape::tile(inputs),
        Op::Transpose { perm } => shape::transpose(perm.as_deref(), inputs),
        Op::Unary(op) => elementwise::unary(*op, inputs),
        Op::Unsqueeze => shape::unsqueeze(inputs),
        Op::Variadic(op) => variadic::variadic(*op, inputs),
        Op::Where => binary::select(inputs),
        Op::Unsupported { reason, .. } => Err(OpError::Unsupported {
            reason: reason.clone(),
        }),
        Op::Identity | Op::LayerNormalization { .. } | Op::Split { .. } => {
            Err(OpError::Unsupported {
                reason: format!("{} has more than one output", op.name()),
            })
        }
    }
}

/// The inputs of a node, in the order of the operator's definition.
struct Inputs<'a>(&'a [Option<Tensor>]);

impl<'a> Inputs<'a> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn optional(&self, index: usize) -> Option<&'a Tensor> {
        self.0.get(index)?.as_ref()
    }

    fn required(&self, index: usize) -> Result<&'a Tensor, OpError> {
        self.optional(index).ok_or(OpError::MissingInput(index))
    }

    fn expect_type(
        &self,
        index: usize,
        dtype: DType,
        expected: &'static str,
    ) -> Result<(), OpError> {
        if self.required(index)?.dtype() == dtype {
            Ok(())
        } else {
            Err(self.wrong_type(index, expected))
        }
    }

    /// The error for an input that has another element type than `expected`.
    fn wrong_type(&self, index: usize, expected: &'static str) -> OpError {
        match self.optional(index) {
            Some(tensor) => OpError::ElementType {
                what: format!("input {index}"),
                found: tensor.dtype(),
                expected,
            },
            None => OpError::MissingInput(index),
        }
    }

    /// All elements of an input that is a list.
    fn values<T: WithDType>(&self, index: usize) -> Result<Vec<T>, OpError> {
        let list = self.required(index)?.contiguous()?;
        let elements = Elements::of(&list)?;
        Ok(elements.as_slice::<T>()?.to_vec())
    }

    fn floats(&self, index: usize) -> Result<Vec<f32>, OpError> {
        self.expect_type(index, DType::F32, "f32")?;
        self.values(index)
    }

    fn integers(&self, index: usize) -> Result<Vec<i64>, OpError> {
        self.expect_type(index, DType::I64, "i64")?;
        self.values(index)
    }

    fn optional_integers(&self, index: usize) -> Result<Option<Vec<i64>>, OpError> {
        self.optional(index)
            .map(|_| self.integers(index))
            .transpose()
    }

    /// The elements of an integer input as lengths or counts, none of which may be negative.
    fn lengths(&self, index: usize) -> Result<Vec<usize>, OpError> {
        let values = self.integers(index)?;
        let lengths = values.iter().map(|&value| usize::try_from(value).ok());
        lengths.collect::<Option<_>>().ok_or_else(|| {
            OpError::Message(format!(
                "input {index} is {values:?}, and a length cannot be negative"
            ))
        })
    }

    /// The only element of an input.
    fn scalar<T: WithDType>(&self, index: usize) -> Result<T, OpError> {
        let input = self.required(index)?;
        if input.dtype() != T::DTYPE {
            return Err(self.wrong_type(index, "the type of input 0"));
        }
        match self.values::<T>(index)?[..] {
            [value] => Ok(value),
            _ => Err(OpError::Shape(format!(
                "input {index} has shape {:?}, expected a single element",
                input.dims()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn unsupported_operators_say_why() {
        let op = Op::Unsupported {
            op_type: "Loop".to_owned(),
            reason: "loops are not supported".to_owned(),
        };
        assert_eq!(fail(&op, &[]).to_string(), "loops are not supported");
    }

    #[test]
    fn outputs_that_the_engine_cannot_give_are_refused() {
        let x = [Some(f32s(&[1], &[1.0]))];
        let error = evaluate(&Op::Expand, &x, 1).expect_err("no shape");
        assert_eq!(error.to_string(), "input 1 is missing");
        let op = Op::Unary(crate::model::Unary::Neg);
        let error = evaluate(&op, &x, 2).expect_err("Neg has one output");
        assert!(error.to_string().contains("this node has 2"), "{error}");
    }
}
