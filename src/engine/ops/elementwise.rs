//! Element-wise operators of one input, and `Clip`.

use candle_core::{DType, Tensor, WithDType};

use super::Inputs;
use super::elements::{Elements, buffer, fill_chunks, tensor};
use super::math;
use crate::engine::error::OpError;
use crate::engine::kernels::{Activation, activate, sigmoid_slice};
use crate::model::Unary;

/// Applies a function to every element of input 0.
pub(super) fn unary(op: Unary, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    match x.dtype() {
        DType::F32 => unary_f32(op, x),
        DType::I64 => match op {
            Unary::Abs => map(x, i64::wrapping_abs),
            Unary::Neg => map(x, i64::wrapping_neg),
            Unary::Relu => map(x, |v: i64| v.max(0)),
            Unary::Sign => map(x, i64::signum),
            _ => Err(inputs.wrong_type(0, "f32")),
        },
        DType::U8 => match op {
            Unary::Not => map(x, |v: u8| u8::from(v == 0)),
            _ => Err(inputs.wrong_type(0, "f32")),
        },
        _ => Err(inputs.wrong_type(0, "f32, i64 or bool")),
    }
}

fn unary_f32(op: Unary, x: &Tensor) -> Result<Tensor, OpError> {
    match op {
        Unary::Abs => map(x, f32::abs),
        Unary::Ceil => map(x, f32::ceil),
        Unary::Elu { alpha } => map(x, |v: f32| if v < 0.0 { alpha * v.exp_m1() } else { v }),
        Unary::Erf => map(x, math::erf),
        Unary::Exp => map(x, math::exp),
        Unary::Floor => map(x, f32::floor),
        Unary::Gelu {
            tanh_approximation: false,
        } => map(x, math::gelu),
        Unary::Gelu {
            tanh_approximation: true,
        } => map(x, math::gelu_tanh),
        Unary::HardSigmoid { alpha, beta } => map(x, |v: f32| (alpha * v + beta).clamp(0.0, 1.0)),
        Unary::HardSwish => map(x, |v: f32| v * (v * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)),
        Unary::LeakyRelu { alpha } => Ok(activate(x, Activation::LeakyRelu(alpha))?),
        Unary::Log => map(x, f32::ln),
        Unary::Neg => map(x, |v: f32| -v),
        Unary::Not => Err(OpError::ElementType {
            what: "input 0".to_owned(),
            found: x.dtype(),
            expected: "bool",
        }),
        Unary::Reciprocal => map(x, |v: f32| 1.0 / v),
        Unary::Relu => Ok(activate(x, Activation::Relu)?),
        Unary::Round => map(x, f32::round_ties_even),
        Unary::Sigmoid => sigmoid(x),
        Unary::Sign => map(x, sign),
        Unary::Softplus => map(x, math::softplus),
        Unary::Sqrt => map(x, f32::sqrt),
        Unary::Tanh => map(x, f32::tanh),
    }
}

/// By the function that a convolution applies, so that both give the same numbers.
fn sigmoid(x: &Tensor) -> Result<Tensor, OpError> {
    let x = x.contiguous()?;
    let elements = Elements::of(&x)?;
    let source: &[f32] = elements.as_slice()?;
    let mut out: Vec<f32> = buffer(x.dims())?;
    fill_chunks(&mut out, |start, chunk| {
        sigmoid_slice(&source[start..start + chunk.len()], chunk);
    });
    tensor(out, x.dims())
}

/// −1, 0 or 1; NaN for NaN.
fn sign(v: f32) -> f32 {
    if v > 0.0 {
        1.0
    } else if v < 0.0 {
        -1.0
    } else {
        v
    }
}

/// Limits input 0 to `[input 1, input 2]`; the upper bound wins where they contradict each other.
pub(super) fn clip(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    match x.dtype() {
        DType::F32 => {
            let min = bound(inputs, 1)?.unwrap_or(f32::NEG_INFINITY);
            let max = bound(inputs, 2)?.unwrap_or(f32::INFINITY);
            Ok(activate(x, Activation::Clip { min, max })?)
        }
        DType::I64 => {
            let low = bound(inputs, 1)?.unwrap_or(i64::MIN);
            let high = bound(inputs, 2)?.unwrap_or(i64::MAX);
            map(x, |v: i64| v.max(low).min(high))
        }
        _ => Err(inputs.wrong_type(0, "f32 or i64")),
    }
}

fn bound<T: WithDType>(inputs: &Inputs<'_>, index: usize) -> Result<Option<T>, OpError> {
    inputs
        .optional(index)
        .map(|_| inputs.scalar::<T>(index))
        .transpose()
}

/// A tensor of `f` of every element.
pub(super) fn map<T: WithDType, U: WithDType>(
    x: &Tensor,
    f: impl Fn(T) -> U + Sync,
) -> Result<Tensor, OpError> {
    let x = x.contiguous()?;
    let elements = Elements::of(&x)?;
    let source: &[T] = elements.as_slice()?;
    let mut out: Vec<U> = buffer(x.dims())?;
    fill_chunks(&mut out, |start, chunk| {
        for (value, &v) in chunk.iter_mut().zip(&source[start..]) {
            *value = f(v);
        }
    });
    tensor(out, x.dims())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::Op;

    #[test]
    fn floats_follow_the_definitions() {
        let x = [-3.5, -1.0, -0.5, 0.0, 0.5, 1.5, 2.5];
        let cases: [(Unary, [f32; 7]); 11] = [
            (Unary::Round, [-4.0, -1.0, -0.0, 0.0, 0.0, 2.0, 2.0]),
            (Unary::Sign, [-1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0]),
            (Unary::Relu, [0.0, 0.0, 0.0, 0.0, 0.5, 1.5, 2.5]),
            (
                Unary::LeakyRelu { alpha: 0.1 },
                [-0.35, -0.1, -0.05, 0.0, 0.5, 1.5, 2.5],
            ),
            (
                Unary::HardSigmoid {
                    alpha: 0.25,
                    beta: 0.5,
                },
                [0.0, 0.25, 0.375, 0.5, 0.625, 0.875, 1.0],
            ),
            (
                Unary::HardSwish,
                [
                    0.0,
                    -1.0 / 3.0,
                    -0.5 * 2.5 / 6.0,
                    0.0,
                    0.5 * 3.5 / 6.0,
                    1.5 * 4.5 / 6.0,
                    2.5 * 5.5 / 6.0,
                ],
            ),
            (Unary::Ceil, [-3.0, -1.0, -0.0, 0.0, 1.0, 2.0, 3.0]),
            (Unary::Floor, [-4.0, -1.0, -1.0, 0.0, 0.0, 1.0, 2.0]),
            (Unary::Neg, [3.5, 1.0, 0.5, 0.0, -0.5, -1.5, -2.5]),
            (Unary::Abs, [3.5, 1.0, 0.5, 0.0, 0.5, 1.5, 2.5]),
            (
                Unary::Elu { alpha: 2.0 },
                [-1.939_605_2, -1.264_241_1, -0.786_938_7, 0.0, 0.5, 1.5, 2.5],
            ),
        ];
        for (op, expected) in cases {
            let y = run(&Op::Unary(op), &[f32s(&[7], &x)]);
            assert_close(&y, &f32s(&[7], &expected));
        }
    }

    #[test]
    fn nan_passes_through_the_activations() {
        for op in [Unary::Relu, Unary::HardSwish, Unary::Sigmoid, Unary::Sign] {
            let y = run(&Op::Unary(op), &[f32s(&[1], &[f32::NAN])]);
            let values = y.to_vec1::<f32>().expect("f32");
            assert!(values[0].is_nan(), "{op:?}");
        }
    }

    #[test]
    fn integers_and_booleans_are_kept() {
        let x = i64s(&[3], &[-5, 0, 7]);
        for (op, expected) in [
            (Unary::Abs, [5, 0, 7]),
            (Unary::Neg, [5, 0, -7]),
            (Unary::Relu, [0, 0, 7]),
            (Unary::Sign, [-1, 0, 1]),
        ] {
            assert_same(
                &run(&Op::Unary(op), std::slice::from_ref(&x)),
                &i64s(&[3], &expected),
            );
        }
        let y = run(&Op::Unary(Unary::Not), &[bools(&[3], &[0, 1, 2])]);
        assert_same(&y, &bools(&[3], &[1, 0, 0]));
        let error = fail(&Op::Unary(Unary::Sqrt), &[x]);
        assert_eq!(
            error.to_string(),
            "input 0 has elements of type i64, expected f32"
        );
    }

    #[test]
    fn shapes_of_any_rank_and_layout_are_kept() {
        for shape in [&[][..], &[0], &[3, 0, 2], &[1, 2, 3]] {
            let count = shape.iter().product();
            let y = run(&Op::Unary(Unary::Neg), &[f32s(shape, &vec![1.0; count])]);
            assert_close(&y, &f32s(shape, &vec![-1.0; count]));
        }
        let transposed = f32s(&[2, 3], &[1., 2., 3., 4., 5., 6.]).t().expect("2-D");
        let y = run(&Op::Unary(Unary::Neg), &[transposed]);
        assert_close(&y, &f32s(&[3, 2], &[-1., -4., -2., -5., -3., -6.]));
    }

    #[test]
    fn clip_takes_either_bound() {
        let x = f32s(&[4], &[-2.0, 0.0, 3.0, f32::NAN]);
        let one = f32s(&[], &[1.0]);
        let cases = [
            (None, None, [-2.0, 0.0, 3.0, f32::NAN]),
            (Some(&one), None, [1.0, 1.0, 3.0, f32::NAN]),
            (None, Some(&one), [-2.0, 0.0, 1.0, f32::NAN]),
        ];
        for (low, high, expected) in cases {
            let inputs = [Some(x.clone()), low.cloned(), high.cloned()];
            assert_close(&run_optional(&Op::Clip, &inputs), &f32s(&[4], &expected));
        }
        let contradiction = run(&Op::Clip, &[x, f32s(&[1], &[2.0]), one]);
        assert_close(&contradiction, &f32s(&[4], &[1.0, 1.0, 1.0, f32::NAN]));
        let ints = run(
            &Op::Clip,
            &[i64s(&[3], &[-9, 1, 9]), i64s(&[], &[-1]), i64s(&[], &[2])],
        );
        assert_same(&ints, &i64s(&[3], &[-1, 1, 2]));
    }
}
