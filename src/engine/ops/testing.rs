//! Small tensors and comparisons for the tests of this module.

use candle_core::{DType, Tensor};

use super::elements::tensor;
use super::evaluate;
use crate::engine::error::OpError;
use crate::model::Op;

pub(super) fn f32s(shape: &[usize], data: &[f32]) -> Tensor {
    tensor(data.to_vec(), shape).expect("data fits the shape")
}

pub(super) fn i64s(shape: &[usize], data: &[i64]) -> Tensor {
    tensor(data.to_vec(), shape).expect("data fits the shape")
}

pub(super) fn bools(shape: &[usize], data: &[u8]) -> Tensor {
    tensor(data.to_vec(), shape).expect("data fits the shape")
}

#[track_caller]
pub(super) fn run_optional(op: &Op, inputs: &[Option<Tensor>]) -> Tensor {
    let mut outputs = evaluate(op, inputs, 1).expect("evaluates");
    let output = outputs.remove(0);
    assert!(output.is_contiguous());
    output
}

#[track_caller]
pub(super) fn run(op: &Op, inputs: &[Tensor]) -> Tensor {
    let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
    run_optional(op, &inputs)
}

#[track_caller]
pub(super) fn fail(op: &Op, inputs: &[Tensor]) -> OpError {
    let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
    evaluate(op, &inputs, 1).expect_err("fails")
}

/// Compares shapes and floats, to 1e-6 of their size; NaN equals NaN.
#[track_caller]
pub(super) fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims());
    assert_eq!(found.dtype(), DType::F32);
    let values = |t: &Tensor| {
        let flat = t.flatten_all().expect("flattens");
        flat.to_vec1::<f32>().expect("f32")
    };
    for (f, e) in values(found).into_iter().zip(values(expected)) {
        let close = (f - e).abs() <= 1e-6 * (1.0 + e.abs());
        assert!(
            close || f == e || (f.is_nan() && e.is_nan()),
            "{f} is not {e}\nfound {found}\nexpected {expected}"
        );
    }
}

/// Compares element types, shapes and values exactly.
#[track_caller]
pub(super) fn assert_same(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dtype(), expected.dtype());
    assert_eq!(found.dims(), expected.dims());
    let values = |t: &Tensor| {
        let flat = t.flatten_all().expect("flattens");
        let exact = flat.to_dtype(DType::I64).expect("casts");
        match t.dtype() {
            DType::F32 => flat
                .to_vec1::<f32>()
                .expect("f32")
                .into_iter()
                .map(|v| i64::from(v.to_bits()))
                .collect(),
            _ => exact.to_vec1::<i64>().expect("i64"),
        }
    };
    assert_eq!(values(found), values(expected));
}
