//! `Max`, `Min`, `Sum` and `Mean` of any number of inputs.

use candle_core::{DType, Tensor};

use super::Inputs;
use super::binary::zip;
use super::elementwise::map;
use super::math;
use crate::engine::error::OpError;
use crate::model::Variadic;

/// Combines all inputs element by element, broadcast `NumPy` style, from left to right.
pub(super) fn variadic(op: Variadic, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let first = inputs.required(0)?;
    let mut result = first.contiguous()?;
    for index in 1..inputs.len() {
        let next = inputs.required(index)?;
        if next.dtype() != first.dtype() {
            return Err(inputs.wrong_type(index, "the type of input 0"));
        }
        result = match (op, first.dtype()) {
            (Variadic::Max, DType::F32) => zip(&result, next, math::max)?,
            (Variadic::Min, DType::F32) => zip(&result, next, math::min)?,
            (Variadic::Sum | Variadic::Mean, DType::F32) => {
                zip(&result, next, |a: f32, b: f32| a + b)?
            }
            (Variadic::Max, DType::I64) => zip(&result, next, |a: i64, b: i64| a.max(b))?,
            (Variadic::Min, DType::I64) => zip(&result, next, |a: i64, b: i64| a.min(b))?,
            (Variadic::Sum, DType::I64) => zip(&result, next, i64::wrapping_add)?,
            _ => return Err(inputs.wrong_type(0, "f32")),
        };
    }
    if op == Variadic::Mean && inputs.len() > 1 {
        let count = inputs.len() as f32;
        result = map(&result, |v: f32| v / count)?;
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::Op;

    #[test]
    fn all_inputs_take_part() {
        let inputs = [
            f32s(&[2, 2], &[1., 8., 3., 4.]),
            f32s(&[2], &[5., 2.]),
            f32s(&[], &[3.]),
        ];
        for (op, expected) in [
            (Variadic::Max, [5., 8., 5., 4.]),
            (Variadic::Min, [1., 2., 3., 2.]),
            (Variadic::Sum, [9., 13., 11., 9.]),
            (Variadic::Mean, [3., 13. / 3., 11. / 3., 3.]),
        ] {
            let y = run(&Op::Variadic(op), &inputs);
            assert_close(&y, &f32s(&[2, 2], &expected));
            let one = run(&Op::Variadic(op), &inputs[..1]);
            assert_close(&one, &inputs[0]);
        }
    }

    #[test]
    fn integers_work_and_mixed_types_do_not() {
        let (a, b) = (i64s(&[2], &[1, 5]), i64s(&[2], &[4, 2]));
        let y = run(&Op::Variadic(Variadic::Max), &[a.clone(), b]);
        assert_same(&y, &i64s(&[2], &[4, 5]));
        let error = fail(&Op::Variadic(Variadic::Sum), &[a, f32s(&[2], &[0., 0.])]);
        assert_eq!(
            error.to_string(),
            "input 1 has elements of type f32, expected the type of input 0"
        );
        let none = fail(&Op::Variadic(Variadic::Sum), &[]);
        assert_eq!(none.to_string(), "input 0 is missing");
    }
}
