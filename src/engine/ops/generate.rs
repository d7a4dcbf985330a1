//! `ConstantOfShape`, `Range` and `Cast`.

use candle_core::{DType, Tensor, WithDType};

use super::Inputs;
use super::elements::{MAX_ELEMENTS, checked_elements, tensor};
use super::elementwise::map;
use crate::engine::error::OpError;
use crate::model::{ElementType, Scalar};

/// A tensor of the shape in input 0, filled with `value`.
pub(super) fn constant_of_shape(value: Scalar, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let shape = inputs.lengths(0)?;
    let count = checked_elements(&shape)?;
    match value {
        Scalar::F32(v) => tensor(vec![v; count], &shape),
        Scalar::I64(v) => tensor(vec![v; count], &shape),
        Scalar::Bool(v) => tensor(vec![u8::from(v); count], &shape),
    }
}

/// The numbers from input 0 up to (not including) input 1 in steps of input 2.
///
/// ```text
/// count = max(⌈(limit − start) / step⌉, 0);  y[i] = start + i · step      (ONNX Range-11)
/// ```
pub(super) fn range(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    match inputs.required(0)?.dtype() {
        DType::F32 => {
            let [start, limit, step] = bounds::<f32>(inputs)?.map(f64::from);
            let count = range_count(((limit - start) / step).ceil(), [start, limit, step])?;
            let values = (0..count).map(|i| (start + i as f64 * step) as f32);
            tensor(values.collect(), &[count])
        }
        DType::I64 => {
            let [start, limit, step] = bounds::<i64>(inputs)?.map(i128::from);
            let ends = [start as f64, limit as f64, step as f64];
            if step == 0 {
                return range_count(f64::NAN, ends).and_then(|_| tensor(Vec::<i64>::new(), &[0]));
            }
            let distance = if step > 0 {
                limit - start
            } else {
                start - limit
            };
            let steps = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
            let count = range_count(steps as f64, ends)?;
            let values = (0..count).map(|i| (start + i as i128 * step) as i64);
            tensor(values.collect(), &[count])
        }
        _ => Err(inputs.wrong_type(0, "f32 or i64")),
    }
}

fn bounds<T: WithDType>(inputs: &Inputs<'_>) -> Result<[T; 3], OpError> {
    Ok([inputs.scalar(0)?, inputs.scalar(1)?, inputs.scalar(2)?])
}

fn range_count(steps: f64, [start, limit, step]: [f64; 3]) -> Result<usize, OpError> {
    if steps.is_nan() || steps > MAX_ELEMENTS as f64 {
        return Err(OpError::Message(format!(
            "a range from {start} to {limit} in steps of {step} does not end within {MAX_ELEMENTS} elements"
        )));
    }
    Ok(steps.max(0.0) as usize)
}

/// Input 0 with another element type.
///
/// Floats lose their fraction; what the integer type cannot hold is its nearest value. Integers that
/// are too long for the type lose their high bits. The engine's own types are wider than the file's.
pub(super) fn cast(to: ElementType, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let x = inputs.required(0)?;
    match (x.dtype(), to) {
        (DType::F32, ElementType::F32 | ElementType::F64) | (DType::U8, ElementType::Bool) => {
            Ok(x.contiguous()?)
        }
        (DType::F32, ElementType::F16) => map(x, |v: f32| half::f16::from_f32(v).to_f32()),
        (DType::F32, ElementType::BF16) => map(x, |v: f32| half::bf16::from_f32(v).to_f32()),
        (DType::F32, ElementType::Bool) => map(x, |v: f32| u8::from(v != 0.0)),
        (DType::F32, to) => {
            let (low, high) = integer_range(to);
            map(x, move |v: f32| (v as i64).clamp(low, high))
        }
        (DType::I64, ElementType::Bool) => map(x, |v: i64| u8::from(v != 0)),
        (DType::I64, to) if to.is_float() => map(x, |v: i64| v as f32),
        (DType::I64, to) => map(x, move |v: i64| low_bits(v, to)),
        (DType::U8, to) if to.is_float() => map(x, |v: u8| f32::from(u8::from(v != 0))),
        (DType::U8, _) => map(x, |v: u8| i64::from(v != 0)),
        _ => Err(inputs.wrong_type(0, "f32, i64 or bool")),
    }
}

fn integer_range(to: ElementType) -> (i64, i64) {
    match to {
        ElementType::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        ElementType::I16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        ElementType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        ElementType::U8 => (0, i64::from(u8::MAX)),
        ElementType::U16 => (0, i64::from(u16::MAX)),
        ElementType::U32 => (0, i64::from(u32::MAX)),
        ElementType::U64 => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    }
}

fn low_bits(v: i64, to: ElementType) -> i64 {
    match to {
        ElementType::I8 => i64::from(v as i8),
        ElementType::I16 => i64::from(v as i16),
        ElementType::I32 => i64::from(v as i32),
        ElementType::U8 => i64::from(v as u8),
        ElementType::U16 => i64::from(v as u16),
        ElementType::U32 => i64::from(v as u32),
        _ => v,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::Op;

    #[test]
    fn constants_have_the_type_of_their_value() {
        let shape = i64s(&[2], &[2, 1]);
        for (value, expected) in [
            (Scalar::F32(1.5), f32s(&[2, 1], &[1.5, 1.5])),
            (Scalar::I64(-3), i64s(&[2, 1], &[-3, -3])),
            (Scalar::Bool(true), bools(&[2, 1], &[1, 1])),
        ] {
            let y = run(&Op::ConstantOfShape { value }, std::slice::from_ref(&shape));
            assert_same(&y, &expected);
        }
        let op = Op::ConstantOfShape {
            value: Scalar::F32(0.0),
        };
        assert_same(&run(&op, &[i64s(&[0], &[])]), &f32s(&[], &[0.0]));
        for (shape, part) in [
            ([1i64 << 31, 2], "more than 2147483648 elements"),
            ([i64::MAX, i64::MAX], "more than 2147483648 elements"),
            ([-1, 2], "[-1, 2]"),
        ] {
            let error = fail(&op, &[i64s(&[2], &shape)]).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn ranges_stop_before_the_limit() {
        let cases: [([i64; 3], &[i64]); 5] = [
            ([2, 11, 3], &[2, 5, 8]),
            ([5, -2, -3], &[5, 2, -1]),
            ([1, 1, 1], &[]),
            ([1, 5, -1], &[]),
            (
                [i64::MIN, i64::MAX, i64::MAX],
                &[i64::MIN, -1, i64::MAX - 1],
            ),
        ];
        for (bounds, expected) in cases {
            let y = run(&Op::Range, &bounds.map(|v| i64s(&[], &[v])));
            assert_same(&y, &i64s(&[expected.len()], expected));
        }
        let y = run(&Op::Range, &[0.0, 1.0, 0.25].map(|v| f32s(&[], &[v])));
        assert_close(&y, &f32s(&[4], &[0.0, 0.25, 0.5, 0.75]));
        for bounds in [[0, 1, 0], [i64::MIN, i64::MAX, 1]] {
            let error = fail(&Op::Range, &bounds.map(|v| i64s(&[], &[v])));
            assert!(error.to_string().contains("does not end"), "{error}");
        }
        fail(
            &Op::Range,
            &[0.0, f32::INFINITY, 1.0].map(|v| f32s(&[], &[v])),
        );
    }

    #[test]
    fn casts_truncate_saturate_and_wrap() {
        use ElementType as To;
        let floats = f32s(&[5], &[-2.7, -0.5, 0.0, 300.9, f32::NAN]);
        let ints = i64s(&[3], &[-1, 0, 300]);
        let flags = bools(&[2], &[0, 1]);
        let cases = [
            (&floats, To::I64, i64s(&[5], &[-2, 0, 0, 300, 0])),
            (&floats, To::I32, i64s(&[5], &[-2, 0, 0, 300, 0])),
            (&floats, To::I8, i64s(&[5], &[-2, 0, 0, 127, 0])),
            (&floats, To::U8, i64s(&[5], &[0, 0, 0, 255, 0])),
            (&floats, To::Bool, bools(&[5], &[1, 1, 0, 1, 1])),
            (&ints, To::F32, f32s(&[3], &[-1.0, 0.0, 300.0])),
            (&ints, To::I8, i64s(&[3], &[-1, 0, 44])),
            (&ints, To::U16, i64s(&[3], &[65535, 0, 300])),
            (&ints, To::Bool, bools(&[3], &[1, 0, 1])),
            (&flags, To::F16, f32s(&[2], &[0.0, 1.0])),
            (&flags, To::I32, i64s(&[2], &[0, 1])),
            (&flags, To::Bool, flags.clone()),
        ];
        for (x, to, expected) in cases {
            let y = run(&Op::Cast { to }, std::slice::from_ref(x));
            assert_same(&y, &expected);
        }
        let third = f32s(&[1], &[1.0 / 3.0]);
        let y = run(&Op::Cast { to: To::F16 }, std::slice::from_ref(&third));
        assert_same(&y, &f32s(&[1], &[0.333_251_95]));
        let y = run(&Op::Cast { to: To::F64 }, std::slice::from_ref(&third));
        assert_same(&y, &third);
    }
}
