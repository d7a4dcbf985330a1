//! Pooling, resizing and local response normalisation.

use candle_core::{DType, Tensor};

use super::Inputs;
use super::convolution::{image, with_rank_of};
use super::elements::checked_elements;
use crate::engine::error::OpError;
use crate::engine::kernels::{self, LrnParameters, PoolGeometry};
use crate::model::{Pool, Resize};

/// The maximum of every window of input 0.
pub(super) fn max_pool(pool: &Pool, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (x, geometry) = windows(pool, inputs)?;
    with_rank_of(inputs, kernels::max_pool2d(&x, &geometry)?)
}

/// The average of every window of input 0.
pub(super) fn average_pool(pool: &Pool, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    let (x, geometry) = windows(pool, inputs)?;
    with_rank_of(inputs, kernels::average_pool2d(&x, &geometry)?)
}

fn windows(pool: &Pool, inputs: &Inputs<'_>) -> Result<(Tensor, PoolGeometry), OpError> {
    let x = image(inputs, 0)?;
    let (_, _, height, width) = x.dims4()?;
    let geometry = PoolGeometry::resolve(pool, [height, width])?;
    Ok((x, geometry))
}

/// The average of every channel of input 0.
pub(super) fn global_average_pool(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    Ok(kernels::global_average_pool(inputs.required(0)?)?)
}

/// The maximum of every channel of input 0.
pub(super) fn global_max_pool(inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    Ok(kernels::global_max_pool(inputs.required(0)?)?)
}

/// Normalises input 0 over neighbouring channels.
pub(super) fn lrn(
    [alpha, beta, bias]: [f32; 3],
    size: usize,
    inputs: &Inputs<'_>,
) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    let parameters = LrnParameters {
        alpha,
        beta,
        bias,
        size,
    };
    Ok(kernels::lrn(inputs.required(0)?, &parameters)?)
}

/// Resamples input 0 by the scales in input 2 or to the sizes in input 3.
///
/// ```text
/// sizes given:   scale = size / length
/// scales given:  size = ⌊length · scale⌋          (ONNX Resize-13)
/// ```
pub(super) fn resize(resize: Resize, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
    inputs.expect_type(0, DType::F32, "f32")?;
    let x = inputs.required(0)?;
    let given = |index: usize| inputs.optional(index).filter(|list| list.elem_count() > 0);
    let (sizes, scales): (Vec<usize>, Vec<f32>) = if given(3).is_some() {
        let sizes = inputs.lengths(3)?;
        let pairs = sizes.iter().zip(x.dims());
        let scales = pairs.map(|(&to, &from)| to as f32 / from as f32).collect();
        (sizes, scales)
    } else if given(2).is_some() {
        let scales = inputs.floats(2)?;
        let pairs = scales.iter().zip(x.dims());
        let sizes = pairs.map(|(&scale, &from)| (scale * from as f32) as usize);
        (sizes.collect(), scales)
    } else {
        return Err(OpError::Message(
            "neither scales (input 2) nor sizes (input 3) are given".to_owned(),
        ));
    };
    if sizes.len() != x.rank() || scales.len() != x.rank() {
        return Err(OpError::Shape(format!(
            "{} sizes and {} scales for the {} axes of {:?}",
            sizes.len(),
            scales.len(),
            x.rank(),
            x.dims()
        )));
    }
    checked_elements(&sizes)?;
    Ok(kernels::resize(x, &sizes, &scales, resize)?)
}

#[cfg(test)]
mod tests {
    use super::super::evaluate;
    use super::super::testing::*;
    use super::*;
    use crate::model::{CoordinateTransform, NearestRounding, Op, Padding, ResizeMode};

    fn pool(kernel: &[usize], strides: &[usize], ceil_mode: bool) -> Pool {
        Pool {
            kernel: kernel.to_vec(),
            strides: strides.to_vec(),
            padding: Padding::Explicit(Vec::new()),
            dilations: Vec::new(),
            ceil_mode,
            count_include_pad: false,
        }
    }

    #[test]
    fn windows_of_one_and_two_axes() {
        let row = f32s(&[1, 1, 5], &[1., 3., 2., 7., 5.]);
        let max = Op::MaxPool(pool(&[2], &[2], true));
        let y = run(&max, std::slice::from_ref(&row));
        assert_close(&y, &f32s(&[1, 1, 3], &[3., 7., 5.]));
        let average = Op::AveragePool(pool(&[2], &[2], false));
        let y = run(&average, std::slice::from_ref(&row));
        assert_close(&y, &f32s(&[1, 1, 2], &[2., 4.5]));
        let image = f32s(&[1, 1, 2, 2], &[1., 2., 3., 6.]);
        let average = Op::AveragePool(pool(&[2, 2], &[], false));
        assert_close(&run(&average, &[image]), &f32s(&[1, 1, 1, 1], &[3.]));
        let error = evaluate(&max, &[Some(row)], 2).expect_err("indices");
        assert!(error.to_string().contains("this node has 2"), "{error}");
    }

    #[test]
    fn global_pools_keep_the_rank() {
        let x = f32s(&[1, 2, 2], &[1., 3., -5., -7.]);
        let y = run(&Op::GlobalAveragePool, std::slice::from_ref(&x));
        assert_close(&y, &f32s(&[1, 2, 1], &[2., -6.]));
        let y = run(&Op::GlobalMaxPool, &[x]);
        assert_close(&y, &f32s(&[1, 2, 1], &[3., -5.]));
    }

    #[test]
    fn resize_takes_scales_or_sizes() {
        let op = Op::Resize(Resize {
            mode: ResizeMode::Nearest,
            coordinates: CoordinateTransform::Asymmetric,
            rounding: NearestRounding::Floor,
        });
        let x = f32s(&[1, 1, 1, 2], &[1., 2.]);
        let expected = f32s(&[1, 1, 1, 4], &[1., 1., 2., 2.]);
        let scales = f32s(&[4], &[1., 1., 1., 2.]);
        let none = f32s(&[0], &[]);
        let sizes = i64s(&[4], &[1, 1, 1, 4]);
        for (scales, sizes) in [
            (Some(scales), None),
            (None, Some(&sizes)),
            (Some(none), Some(&sizes)),
        ] {
            let inputs = [Some(x.clone()), None, scales, sizes.cloned()];
            assert_close(&run_optional(&op, &inputs), &expected);
        }
        let error = fail(&op, &[x.clone(), x.clone(), f32s(&[2], &[2.0, 2.0])]);
        assert_eq!(
            error.to_string(),
            "2 sizes and 2 scales for the 4 axes of [1, 1, 1, 2]"
        );
        fail(&op, std::slice::from_ref(&x));
        let huge = f32s(&[4], &[1., 1., 1e9, 1e9]);
        let error = fail(&op, &[x.clone(), x, huge]).to_string();
        assert!(error.contains("more than 2147483648 elements"), "{error}");
    }
}
