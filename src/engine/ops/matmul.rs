//! `MatMul` and `Gemm` on matrices that are both computed.
//!
//! Layers with constant weights have a faster way: [`crate::engine::kernels::matmul_packed`].

use candle_core::{DType, Tensor};
use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

use super::Inputs;
use super::binary::zip;
use super::elements::{Elements, buffer, tensor};
use super::strided::{View, Walk, broadcast_shape};
use crate::engine::error::OpError;

/// The product of the last two axes of inputs 0 and 1; leading axes broadcast.
///
/// A vector on the left is a row, on the right a column; its added axis is dropped from the result.
pub(super) fn matmul(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    inputs.expect_type(1, DType::F32, "f32")?;
    let (a, b) = (inputs.required(0)?, inputs.required(1)?);
    if a.rank() == 0 || b.rank() == 0 {
        return Err(OpError::Shape(format!(
            "cannot multiply {:?} and {:?}: a matrix product needs at least one axis",
            a.dims(),
            b.dims()
        )));
    }
    let left = if a.rank() == 1 {
        a.unsqueeze(0)?
    } else {
        a.clone()
    };
    let right = if b.rank() == 1 {
        b.unsqueeze(1)?
    } else {
        b.clone()
    };
    let product = batched_product(&left, &right)?;
    let mut shape = product.dims().to_vec();
    if b.rank() == 1 {
        shape.pop();
    }
    if a.rank() == 1 {
        shape.remove(shape.len() - if b.rank() == 1 { 1 } else { 2 });
    }
    Ok(product.reshape(shape)?)
}

/// `[…, m, k] · […, k, n]` with leading axes broadcast, both of rank 2 or more.
pub(super) fn batched_product(a: &Tensor, b: &Tensor) -> Result<Tensor, OpError> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let refuse = || {
        OpError::Shape(format!(
            "cannot multiply {:?} and {:?}: the inner lengths differ",
            a.dims(),
            b.dims()
        ))
    };
    let ([a_batch @ .., m, k], [b_batch @ .., depth, n]) = (a.dims(), b.dims()) else {
        return Err(refuse());
    };
    let (&m, &k, &n) = (m, k, n);
    if k != *depth {
        return Err(refuse());
    }
    let batch = broadcast_shape(a_batch, b_batch)?;
    let mut shape = batch.clone();
    shape.extend([m, n]);
    let mut out: Vec<f32> = buffer(&shape)?;
    if out.is_empty() || k == 0 {
        return tensor(out, &shape);
    }
    let (a_elements, b_elements) = (Elements::of(&a)?, Elements::of(&b)?);
    let (xs, ys): (&[f32], &[f32]) = (a_elements.as_slice()?, b_elements.as_slice()?);
    if ys.len() == k * n && xs.len() == out.len() / n * k {
        // One matrix on the right: all rows of the left are one matrix.
        let rows = out.len() / n;
        multiply(
            &mut out,
            view([rows, k], xs, false)?,
            view([k, n], ys, false)?,
            1.0,
        )?;
        return tensor(out, &shape);
    }
    let pairs = matrix_pairs(&batch, a_batch, b_batch)?;
    out.par_chunks_mut(m * n)
        .zip(pairs)
        .try_for_each(|(product, (i, j))| {
            let x = view([m, k], &xs[i * m * k..(i + 1) * m * k], false)?;
            let y = view([k, n], &ys[j * k * n..(j + 1) * k * n], false)?;
            multiply(product, x, y, 1.0)
        })?;
    tensor(out, &shape)
}

/// Which matrix of each side belongs to every matrix of the result.
fn matrix_pairs(batch: &[usize], a: &[usize], b: &[usize]) -> Result<Vec<(usize, usize)>, OpError> {
    let strides = [
        View::of(a).broadcast_to(batch)?.strides,
        View::of(b).broadcast_to(batch)?.strides,
    ];
    let walk = Walk::new(batch, [&strides[0], &strides[1]], [0, 0]);
    let [a_step, b_step] = walk.steps();
    let mut pairs = Vec::with_capacity(batch.iter().product());
    walk.for_each_run(0, batch.iter().product(), |run, [i, j]| {
        let places = (0..run.len() as isize).map(|k| (i + k * a_step, j + k * b_step));
        pairs.extend(places.map(|(i, j)| (i as usize, j as usize)));
    });
    Ok(pairs)
}

/// `α · op(A) · op(B) + β · C`, where `op` transposes if asked and `C` broadcasts to the result.
pub(super) fn gemm(
    alpha: f32,
    beta: f32,
    [trans_a, trans_b]: [bool; 2],
    inputs: &Inputs<'_>,
) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    inputs.expect_type(1, DType::F32, "f32")?;
    let (a, b) = (inputs.required(0)?, inputs.required(1)?);
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let oriented = |dims: &[usize], transposed: bool| match *dims {
        [rows, columns] if transposed => Some([columns, rows]),
        [rows, columns] => Some([rows, columns]),
        _ => None,
    };
    let sides = (oriented(a.dims(), trans_a), oriented(b.dims(), trans_b));
    let (Some([m, k]), Some([depth, n])) = sides else {
        return Err(OpError::Shape(format!(
            "Gemm multiplies matrices, not {:?} and {:?}",
            a.dims(),
            b.dims()
        )));
    };
    if k != depth {
        return Err(OpError::Shape(format!(
            "cannot multiply {:?} and {:?}: the inner lengths are {k} and {depth}",
            a.dims(),
            b.dims()
        )));
    }
    let mut out: Vec<f32> = buffer(&[m, n])?;
    if !out.is_empty() && k > 0 {
        let (a_elements, b_elements) = (Elements::of(&a)?, Elements::of(&b)?);
        let left = view([m, k], a_elements.as_slice()?, trans_a)?;
        let right = view([k, n], b_elements.as_slice()?, trans_b)?;
        multiply(&mut out, left, right, alpha)?;
    }
    let product = tensor(out, &[m, n])?;
    let Some(c) = inputs.optional(2).filter(|_| beta != 0.0) else {
        return Ok(product);
    };
    inputs.expect_type(2, DType::F32, "f32")?;
    if broadcast_shape(product.dims(), c.dims()).ok().as_deref() != Some(product.dims()) {
        return Err(OpError::Shape(format!(
            "input 2 has shape {:?}, which does not broadcast to the product's [{m}, {n}]",
            c.dims()
        )));
    }
    zip(&product, c, |y: f32, c: f32| y + beta * c)
}

/// A matrix of `shape` over elements that are stored row by row, or column by column if transposed.
fn view(
    [rows, columns]: [usize; 2],
    elements: &[f32],
    transposed: bool,
) -> Result<NdTensorView<'_, f32, 2>, OpError> {
    let strides = if transposed { [1, rows] } else { [columns, 1] };
    NdTensorView::from_data_with_strides([rows, columns], elements, strides)
        .map_err(|error| OpError::Message(error.to_string()))
}

fn multiply(
    out: &mut [f32],
    a: NdTensorView<'_, f32, 2>,
    b: NdTensorView<'_, f32, 2>,
    alpha: f32,
) -> Result<(), OpError> {
    let options = GemmOptions {
        alpha,
        ..GemmOptions::default()
    };
    GemmExecutor::<f32>::default()
        .gemm(
            out,
            GemmInputA::Unpacked(a),
            GemmInputB::Unpacked(b),
            options,
        )
        .map_err(|error| OpError::Message(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::model::Op;

    fn ramp(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
        f32s(shape, &values)
    }

    #[test]
    fn shapes_follow_numpy() {
        type Case = (&'static [usize], &'static [usize], &'static [usize]);
        let cases: [Case; 10] = [
            (&[3, 4], &[4, 5], &[3, 5]),
            (&[4], &[4, 5], &[5]),
            (&[3, 4], &[4], &[3]),
            (&[4], &[4], &[]),
            (&[2, 3, 4], &[4, 5], &[2, 3, 5]),
            (&[3, 4], &[2, 4, 5], &[2, 3, 5]),
            (&[2, 1, 3, 4], &[3, 4, 2], &[2, 3, 3, 2]),
            (&[2, 3, 4], &[4], &[2, 3]),
            (&[4], &[2, 4, 3], &[2, 3]),
            (&[1, 3, 4], &[1, 4, 2], &[1, 3, 2]),
        ];
        for (a, b, shape) in cases {
            let (x, y) = (ramp(a), ramp(b));
            let product = run(&Op::MatMul, &[x.clone(), y.clone()]);
            assert_eq!(product.dims(), shape, "{a:?} {b:?}");
            let left = if a.len() == 1 { x.unsqueeze(0) } else { Ok(x) };
            let right = if b.len() == 1 { y.unsqueeze(1) } else { Ok(y) };
            let expected = left.expect("2-D").broadcast_matmul(&right.expect("2-D"));
            let expected = expected.expect("multiplies").reshape(shape).expect("shape");
            assert_close(&product, &expected);
        }
    }

    #[test]
    fn empty_products_are_zero() {
        let y = run(&Op::MatMul, &[ramp(&[2, 0]), ramp(&[0, 3])]);
        assert_close(&y, &f32s(&[2, 3], &[0.0; 6]));
        let y = run(&Op::MatMul, &[ramp(&[0, 2, 3]), ramp(&[3, 4])]);
        assert_eq!(y.dims(), [0, 2, 4]);
    }

    #[test]
    fn mismatches_say_the_shapes() {
        let error = fail(&Op::MatMul, &[ramp(&[2, 3]), ramp(&[4, 5])]).to_string();
        assert_eq!(
            error,
            "cannot multiply [2, 3] and [4, 5]: the inner lengths differ"
        );
        fail(&Op::MatMul, &[ramp(&[2, 3, 3]), ramp(&[4, 3, 5])]);
        fail(&Op::MatMul, &[ramp(&[]), ramp(&[1])]);
        let gemm = Op::Gemm {
            alpha: 1.0,
            beta: 1.0,
            trans_a: false,
            trans_b: true,
        };
        let error = fail(&gemm, &[ramp(&[2, 3]), ramp(&[3, 5])]).to_string();
        assert!(error.ends_with("the inner lengths are 3 and 5"), "{error}");
        let error = fail(&gemm, &[ramp(&[2, 3]), ramp(&[5, 3]), ramp(&[2])]);
        assert!(error.to_string().contains("[2, 5]"), "{error}");
        fail(&gemm, &[ramp(&[2, 3, 1]), ramp(&[5, 3])]);
    }

    #[test]
    fn gemm_transposes_scales_and_adds() {
        let a = f32s(&[2, 2], &[1., 2., 3., 4.]);
        let b = f32s(&[2, 2], &[1., 0., 1., 1.]);
        let c = f32s(&[2, 1], &[10., 20.]);
        // A·B = [3 2; 7 4], Aᵀ·B = [4 3; 6 4], A·Bᵀ = [1 3; 3 7], Aᵀ·Bᵀ = [1 4; 2 6]
        for (trans_a, trans_b, expected) in [
            (false, false, [3., 2., 7., 4.]),
            (true, false, [4., 3., 6., 4.]),
            (false, true, [1., 3., 3., 7.]),
            (true, true, [1., 4., 2., 6.]),
        ] {
            let op = |alpha, beta| Op::Gemm {
                alpha,
                beta,
                trans_a,
                trans_b,
            };
            let y = run(&op(1.0, 1.0), &[a.clone(), b.clone()]);
            assert_close(&y, &f32s(&[2, 2], &expected));
            let [p, q, r, s] = expected.map(|v| 2.0 * v);
            let y = run(&op(2.0, 0.5), &[a.clone(), b.clone(), c.clone()]);
            assert_close(&y, &f32s(&[2, 2], &[p + 5., q + 5., r + 10., s + 10.]));
            let nan = f32s(&[], &[f32::NAN]);
            let y = run(&op(2.0, 0.0), &[a.clone(), b.clone(), nan]);
            assert_close(&y, &f32s(&[2, 2], &[p, q, r, s]));
        }
    }

    #[test]
    fn products_do_not_depend_on_the_number_of_threads() {
        let (a, b) = (ramp(&[3, 200, 301]), ramp(&[3, 301, 130]));
        let results: Vec<Vec<f32>> = [1, 4]
            .into_iter()
            .map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let product = pool
                    .expect("a pool")
                    .install(|| batched_product(&a, &b).expect("multiplies"));
                product
                    .flatten_all()
                    .and_then(|y| y.to_vec1())
                    .expect("f32")
            })
            .collect();
        assert_eq!(results[0], results[1]);
    }
}
