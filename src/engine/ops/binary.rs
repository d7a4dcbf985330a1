//! Element-wise operators of two inputs with broadcasting, and `Where`.

use candle_core::{DType, Tensor, WithDType};

use super::Inputs;
use super::elements::{Elements, buffer, fill_chunks, for_type, tensor};
use super::strided::{View, Walk, broadcast_shape};
use crate::engine::error::OpError;
use crate::model::Binary;

/// Applies a function to the elements of inputs 0 and 1, broadcast `NumPy` style.
pub(super) fn binary(op: Binary, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (a, b) = (inputs.required(0)?, inputs.required(1)?);
    match (op, a.dtype(), b.dtype()) {
        (Binary::Pow, _, _) => power(inputs),
        (Binary::PRelu, DType::F32, DType::F32) => parametric_relu(a, b),
        (_, DType::F32, DType::F32) => binary_f32(op, inputs),
        (_, DType::I64, DType::I64) => binary_i64(op, inputs),
        (_, DType::U8, DType::U8) => match op {
            Binary::And => zip(a, b, |x: u8, y: u8| u8::from(x != 0 && y != 0)),
            Binary::Or => zip(a, b, |x: u8, y: u8| u8::from(x != 0 || y != 0)),
            Binary::Equal => zip(a, b, |x: u8, y: u8| u8::from((x != 0) == (y != 0))),
            _ => Err(inputs.wrong_type(0, "f32 or i64")),
        },
        (_, DType::F32, _) => Err(inputs.wrong_type(1, "f32 as input 0")),
        (_, DType::I64, _) => Err(inputs.wrong_type(1, "i64 as input 0")),
        (_, DType::U8, _) => Err(inputs.wrong_type(1, "bool as input 0")),
        _ => Err(inputs.wrong_type(0, "f32, i64 or bool")),
    }
}

fn binary_f32(op: Binary, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (a, b) = (inputs.required(0)?, inputs.required(1)?);
    match op {
        Binary::Add => zip(a, b, |x: f32, y: f32| x + y),
        Binary::Sub => zip(a, b, |x: f32, y: f32| x - y),
        Binary::Mul => zip(a, b, |x: f32, y: f32| x * y),
        Binary::Div => zip(a, b, |x: f32, y: f32| x / y),
        Binary::Equal => zip(a, b, |x: f32, y: f32| u8::from(x == y)),
        Binary::Greater => zip(a, b, |x: f32, y: f32| u8::from(x > y)),
        Binary::GreaterOrEqual => zip(a, b, |x: f32, y: f32| u8::from(x >= y)),
        Binary::Less => zip(a, b, |x: f32, y: f32| u8::from(x < y)),
        Binary::LessOrEqual => zip(a, b, |x: f32, y: f32| u8::from(x <= y)),
        Binary::Mod { fmod: true } => zip(a, b, |x: f32, y: f32| x % y),
        Binary::Mod { fmod: false } => Err(OpError::Unsupported {
            reason: "Mod of floats is only defined with fmod=1; export the model with torch.fmod"
                .to_owned(),
        }),
        Binary::And | Binary::Or | Binary::Pow | Binary::PRelu => Err(inputs.wrong_type(0, "bool")),
    }
}

fn binary_i64(op: Binary, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (a, b) = (inputs.required(0)?, inputs.required(1)?);
    if matches!(op, Binary::Div | Binary::Mod { .. }) {
        refuse_zero_divisor(b)?;
    }
    match op {
        Binary::Add => zip(a, b, i64::wrapping_add),
        Binary::Sub => zip(a, b, i64::wrapping_sub),
        Binary::Mul => zip(a, b, i64::wrapping_mul),
        Binary::Div => zip(a, b, i64::wrapping_div),
        Binary::Equal => zip(a, b, |x: i64, y: i64| u8::from(x == y)),
        Binary::Greater => zip(a, b, |x: i64, y: i64| u8::from(x > y)),
        Binary::GreaterOrEqual => zip(a, b, |x: i64, y: i64| u8::from(x >= y)),
        Binary::Less => zip(a, b, |x: i64, y: i64| u8::from(x < y)),
        Binary::LessOrEqual => zip(a, b, |x: i64, y: i64| u8::from(x <= y)),
        Binary::Mod { fmod: true } => zip(a, b, i64::wrapping_rem),
        Binary::Mod { fmod: false } => zip(a, b, python_remainder),
        Binary::And | Binary::Or => Err(inputs.wrong_type(0, "bool")),
        Binary::Pow | Binary::PRelu => Err(inputs.wrong_type(0, "f32")),
    }
}

/// The remainder with the sign of the divisor.
fn python_remainder(x: i64, y: i64) -> i64 {
    let remainder = x.wrapping_rem(y);
    if remainder != 0 && (remainder < 0) != (y < 0) {
        remainder + y
    } else {
        remainder
    }
}

fn refuse_zero_divisor(divisor: &Tensor) -> Result<(), OpError> {
    let divisor = divisor.contiguous()?;
    if Elements::of(&divisor)?.as_slice::<i64>()?.contains(&0) {
        return Err(OpError::Message(
            "integer division by zero: input 1 contains 0".to_owned(),
        ));
    }
    Ok(())
}

/// `base ^ exponent` in the type of the base.
fn power(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (base, exponent) = (inputs.required(0)?, inputs.required(1)?);
    match (base.dtype(), exponent.dtype()) {
        (DType::F32, DType::F32) if exponent.elem_count() == 1 => match inputs.scalar::<f32>(1)? {
            2.0 => zip(base, exponent, |x: f32, _: f32| x * x),
            3.0 => zip(base, exponent, |x: f32, _: f32| x * x * x),
            0.5 => zip(base, exponent, |x: f32, _: f32| x.sqrt()),
            _ => zip(base, exponent, f32::powf),
        },
        (DType::F32, DType::F32) => zip(base, exponent, f32::powf),
        (DType::F32, DType::I64) => zip(base, exponent, |x: f32, y: i64| {
            i32::try_from(y).map_or_else(|_| x.powf(y as f32), |y| f64::from(x).powi(y) as f32)
        }),
        (DType::I64, DType::I64) => zip(base, exponent, integer_power),
        (DType::I64, DType::F32) => zip(base, exponent, |x: i64, y: f32| {
            (x as f64).powf(f64::from(y)) as i64
        }),
        (DType::F32 | DType::I64, _) => Err(inputs.wrong_type(1, "f32 or i64")),
        _ => Err(inputs.wrong_type(0, "f32 or i64")),
    }
}

fn integer_power(x: i64, y: i64) -> i64 {
    match u32::try_from(y) {
        Ok(y) => x.wrapping_pow(y),
        Err(_) => (x as f64).powf(y as f64) as i64,
    }
}

fn parametric_relu(x: &Tensor, slope: &Tensor) -> Result<Tensor, OpError> {
    let shape = broadcast_shape(x.dims(), slope.dims())?;
    if shape != x.dims() {
        return Err(OpError::Shape(format!(
            "the slope has shape {:?}, which does not broadcast to the input's {:?}",
            slope.dims(),
            x.dims()
        )));
    }
    zip(x, slope, |v: f32, s: f32| if v < 0.0 { s * v } else { v })
}

/// A tensor of `f` of the elements of `a` and `b`, broadcast to each other.
pub(super) fn zip<A: WithDType, B: WithDType, U: WithDType>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(A, B) -> U + Sync,
) -> Result<Tensor, OpError> {
    let shape = broadcast_shape(a.dims(), b.dims())?;
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let a_view = View::of(a.dims()).broadcast_to(&shape)?;
    let b_view = View::of(b.dims()).broadcast_to(&shape)?;
    let (a_elements, b_elements) = (Elements::of(&a)?, Elements::of(&b)?);
    let (a, b): (&[A], &[B]) = (a_elements.as_slice()?, b_elements.as_slice()?);
    let mut out: Vec<U> = buffer(&shape)?;
    let walk = Walk::new(&shape, [&a_view.strides, &b_view.strides], [0, 0]);
    let steps = walk.steps();
    fill_chunks(&mut out, |start, chunk| {
        walk.for_each_run(start, chunk.len(), |run, [i, j]| {
            let (i, j) = (i as usize, j as usize);
            let target = &mut chunk[run];
            match steps {
                [1, 1] => {
                    for ((value, &x), &y) in target.iter_mut().zip(&a[i..]).zip(&b[j..]) {
                        *value = f(x, y);
                    }
                }
                [1, 0] => {
                    let y = b[j];
                    for (value, &x) in target.iter_mut().zip(&a[i..]) {
                        *value = f(x, y);
                    }
                }
                [0, 1] => {
                    let x = a[i];
                    for (value, &y) in target.iter_mut().zip(&b[j..]) {
                        *value = f(x, y);
                    }
                }
                // Broadcast contiguous tensors have no other step; a single element has both 0.
                _ => target.fill(f(a[i], b[j])),
            }
        });
    });
    tensor(out, &shape)
}

/// Picks from input 1 where input 0 is true, from input 2 elsewhere.
pub(super) fn select(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::U8, "bool")?;
    let (x, y) = (inputs.required(1)?, inputs.required(2)?);
    if x.dtype() != y.dtype() {
        return Err(inputs.wrong_type(2, "the type of input 1"));
    }
    for_type!(x.dtype(), select_typed(inputs.required(0)?, x, y))
}

fn select_typed<T: WithDType>(
    condition: &Tensor,
    x: &Tensor,
    y: &Tensor,
) -> Result<Tensor, OpError> {
    let branches = broadcast_shape(x.dims(), y.dims())?;
    let shape = broadcast_shape(condition.dims(), &branches)?;
    let (condition, x, y) = (condition.contiguous()?, x.contiguous()?, y.contiguous()?);
    let strides = |t: &Tensor| View::of(t.dims()).broadcast_to(&shape);
    let views = [strides(&condition)?, strides(&x)?, strides(&y)?];
    let (c, x, y) = (
        Elements::of(&condition)?,
        Elements::of(&x)?,
        Elements::of(&y)?,
    );
    let (c, x, y): (&[u8], &[T], &[T]) = (c.as_slice()?, x.as_slice()?, y.as_slice()?);
    let mut out: Vec<T> = buffer(&shape)?;
    let walk = Walk::new(&shape, views.each_ref().map(|v| &v.strides[..]), [0; 3]);
    let steps = walk.steps();
    fill_chunks(&mut out, |start, chunk| {
        walk.for_each_run(start, chunk.len(), |run, mut at| {
            for value in &mut chunk[run] {
                *value = if c[at[0] as usize] == 0 {
                    y[at[2] as usize]
                } else {
                    x[at[1] as usize]
                };
                for (position, step) in at.iter_mut().zip(steps) {
                    *position += step;
                }
            }
        });
    });
    tensor(out, &shape)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::Op;

    fn op(op: Binary) -> Op {
        Op::Binary(op)
    }

    #[test]
    fn shapes_broadcast_both_ways() {
        let a = f32s(&[2, 1, 2], &[1., 2., 3., 4.]);
        let b = f32s(&[3, 1], &[10., 20., 30.]);
        let y = run(&op(Binary::Sub), &[b, a]);
        let expected = [9., 8., 19., 18., 29., 28., 7., 6., 17., 16., 27., 26.];
        assert_close(&y, &f32s(&[2, 3, 2], &expected));
        let empty = run(
            &op(Binary::Add),
            &[f32s(&[0, 3], &[]), f32s(&[3], &[1., 2., 3.])],
        );
        assert_eq!(empty.dims(), [0, 3]);
        let scalars = run(&op(Binary::Mul), &[f32s(&[], &[3.]), f32s(&[], &[4.])]);
        assert_close(&scalars, &f32s(&[], &[12.]));
    }

    #[test]
    fn large_channel_broadcast_is_exact() {
        let (batch, channels, pixels) = (2, 5, 9001);
        let count = batch * channels * pixels;
        let x: Vec<f32> = (0..count).map(|i| (i % 1000) as f32).collect();
        let scale: Vec<f32> = (0..channels).map(|c| c as f32 + 1.0).collect();
        let y = run(
            &op(Binary::Mul),
            &[
                f32s(&[batch, channels, pixels], &x),
                f32s(&[channels, 1], &scale),
            ],
        );
        let expected: Vec<f32> = (0..count)
            .map(|i| (i % 1000) as f32 * scale[i / pixels % channels])
            .collect();
        assert_close(&y, &f32s(&[batch, channels, pixels], &expected));
    }

    #[test]
    fn integer_rules() {
        let a = [7, -7, 7, -7, 0];
        let b = [2, 2, -2, -2, 5];
        for (kind, expected) in [
            (Binary::Div, [3, -3, -3, 3, 0]),
            (Binary::Mod { fmod: false }, [1, 1, -1, -1, 0]),
            (Binary::Mod { fmod: true }, [1, -1, 1, -1, 0]),
            (Binary::Sub, [5, -9, 9, -5, -5]),
        ] {
            let y = run(&op(kind), &[i64s(&[5], &a), i64s(&[5], &b)]);
            assert_same(&y, &i64s(&[5], &expected));
        }
        let smallest = i64s(&[1], &[i64::MIN]);
        let y = run(&op(Binary::Div), &[smallest, i64s(&[1], &[-1])]);
        assert_same(&y, &i64s(&[1], &[i64::MIN]));
        let error = fail(&op(Binary::Div), &[i64s(&[1], &[1]), i64s(&[2], &[1, 0])]);
        assert!(error.to_string().contains("division by zero"), "{error}");
    }

    #[test]
    fn powers_keep_the_type_of_the_base() {
        let x = [-2.0, 0.0, 3.0];
        for (exponent, expected) in [
            (f32s(&[], &[2.0]), [4.0, 0.0, 9.0]),
            (f32s(&[], &[3.0]), [-8.0, 0.0, 27.0]),
            (f32s(&[3], &[1.0, 5.0, -1.0]), [-2.0, 0.0, 1.0 / 3.0]),
            (i64s(&[], &[3]), [-8.0, 0.0, 27.0]),
        ] {
            let y = run(&op(Binary::Pow), &[f32s(&[3], &x), exponent]);
            assert_close(&y, &f32s(&[3], &expected));
        }
        let root = run(
            &op(Binary::Pow),
            &[f32s(&[2], &[4.0, 9.0]), f32s(&[], &[0.5])],
        );
        assert_close(&root, &f32s(&[2], &[2.0, 3.0]));
        let y = run(
            &op(Binary::Pow),
            &[i64s(&[3], &[2, -3, 2]), i64s(&[3], &[10, 3, -1])],
        );
        assert_same(&y, &i64s(&[3], &[1024, -27, 0]));
    }

    #[test]
    fn comparisons_give_booleans() {
        let a = f32s(&[3], &[1.0, 2.0, f32::NAN]);
        let b = f32s(&[], &[2.0]);
        for (kind, expected) in [
            (Binary::Equal, [0, 1, 0]),
            (Binary::Greater, [0, 0, 0]),
            (Binary::GreaterOrEqual, [0, 1, 0]),
            (Binary::Less, [1, 0, 0]),
            (Binary::LessOrEqual, [1, 1, 0]),
        ] {
            let y = run(&op(kind), &[a.clone(), b.clone()]);
            assert_same(&y, &bools(&[3], &expected));
        }
        let (p, q) = (bools(&[4], &[0, 0, 1, 2]), bools(&[4], &[0, 1, 0, 1]));
        for (kind, expected) in [
            (Binary::And, [0, 0, 0, 1]),
            (Binary::Or, [0, 1, 1, 1]),
            (Binary::Equal, [1, 0, 0, 1]),
        ] {
            let y = run(&op(kind), &[p.clone(), q.clone()]);
            assert_same(&y, &bools(&[4], &expected));
        }
    }

    #[test]
    fn slopes_broadcast_one_way() {
        let x = f32s(&[1, 2, 2], &[-1., 2., -3., 4.]);
        let y = run(&op(Binary::PRelu), &[x.clone(), f32s(&[2, 1], &[0.5, 0.1])]);
        assert_close(&y, &f32s(&[1, 2, 2], &[-0.5, 2., -0.3, 4.]));
        let error = fail(&op(Binary::PRelu), &[x, f32s(&[3, 1, 1], &[0.; 3])]);
        assert_eq!(
            error.to_string(),
            "the slope has shape [3, 1, 1], which does not broadcast to the input's [1, 2, 2]"
        );
    }

    #[test]
    fn mixed_types_and_shapes_are_refused_with_numbers() {
        for (a, b, part) in [
            (
                f32s(&[1], &[1.]),
                i64s(&[1], &[1]),
                "input 1 has elements of type i64",
            ),
            (
                bools(&[1], &[1]),
                bools(&[1], &[1]),
                "input 0 has elements of type bool",
            ),
            (f32s(&[2], &[1., 2.]), f32s(&[3], &[1.; 3]), "[2] and [3]"),
        ] {
            let error = fail(&op(Binary::Add), &[a, b]).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn where_broadcasts_three_ways() {
        let condition = bools(&[2, 1], &[1, 0]);
        let x = i64s(&[3], &[1, 2, 3]);
        let y = i64s(&[], &[-1]);
        let z = run(&Op::Where, &[condition, x, y]);
        assert_same(&z, &i64s(&[2, 3], &[1, 2, 3, -1, -1, -1]));
    }
}
