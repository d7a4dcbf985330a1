//! Matrix product with a right-hand side that is packed once.

use std::fmt;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::{checked_len, contiguous_f32};

/// The right-hand side of a matrix product `[depth, columns]`, laid out for the kernel.
pub struct MatMulWeights {
    packed: PackedBMatrix<f32>,
    bias: Option<Vec<f32>>,
}

impl fmt::Debug for MatMulWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatMulWeights")
            .field("depth", &self.packed.rows())
            .field("columns", &self.packed.cols())
            .finish_non_exhaustive()
    }
}

impl MatMulWeights {
    /// Packs a row-major matrix of `[depth, columns]` and a bias of one element per column.
    ///
    /// # Errors
    /// A matrix or bias of another length than the shape says.
    pub fn pack(
        matrix: &[f32],
        depth: usize,
        columns: usize,
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        Self::pack_strided(matrix, [depth, columns], [columns, 1], bias)
    }

    /// Like [`Self::pack`] for a matrix that is stored as its transpose `[columns, depth]`.
    ///
    /// # Errors
    /// A matrix or bias of another length than the shape says.
    pub fn pack_transposed(
        matrix: &[f32],
        depth: usize,
        columns: usize,
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        Self::pack_strided(matrix, [depth, columns], [1, depth], bias)
    }

    fn pack_strided(
        matrix: &[f32],
        shape: [usize; 2],
        strides: [usize; 2],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let [depth, columns] = shape;
        if checked_len(&shape)? != matrix.len() {
            bail!(
                "matrix has {} elements, expected shape {shape:?}",
                matrix.len()
            );
        }
        if depth == 0 || columns == 0 {
            bail!("matrix of shape {shape:?} is empty");
        }
        if let Some(bias) = bias
            && bias.len() != columns
        {
            bail!(
                "bias has {} elements, expected one for each of {columns} columns",
                bias.len()
            );
        }
        let view = NdTensorView::from_data_with_strides(shape, matrix, strides)
            .map_err(candle_core::Error::wrap)?;
        Ok(Self {
            packed: GemmExecutor::<f32>::default().prepack_b(view),
            bias: bias.map(<[f32]>::to_vec),
        })
    }

    /// `[depth, columns]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.packed.rows(), self.packed.cols()]
    }
}

/// Multiplies `[…, depth]` with a packed `[depth, columns]` and adds its bias.
///
/// ```text
/// y[r, j] = b[j] + Σ_k x[r, k] · w[k, j]
/// ```
/// The rows are all leading axes. The result is the same for any number of threads and rows.
///
/// # Errors
/// An input that is not `f32` or whose last axis is not the weight's depth.
pub fn matmul_packed(x: &Tensor, weights: &Arc<MatMulWeights>) -> Result<Tensor> {
    x.contiguous()?.apply_op1(MatMul(Arc::clone(weights)))
}

struct MatMul(Arc<MatMulWeights>);

impl CustomOp1 for MatMul {
    fn name(&self) -> &'static str {
        "matmul_packed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous_f32(storage, layout)?;
        let [depth, columns] = self.0.shape();
        let Some((last, leading)) = layout.dims().split_last() else {
            bail!("input is a scalar, expected {depth} elements in its last axis");
        };
        if *last != depth {
            bail!("last axis of the input has {last} elements, weight expects {depth}");
        }
        let rows: usize = leading.iter().product();
        let mut y = vec![0.0; checked_len(&[rows, columns])?];
        let view = NdTensorView::from_data([rows, depth], x);
        GemmExecutor::<f32>::default()
            .gemm(
                &mut y,
                GemmInputA::Unpacked(view),
                GemmInputB::Packed(&self.0.packed),
                GemmOptions {
                    bias: self.0.bias.as_deref().map(BiasVector::Row),
                    ..GemmOptions::default()
                },
            )
            .map_err(candle_core::Error::wrap)?;
        let mut shape = leading.to_vec();
        shape.push(columns);
        Ok((CpuStorage::F32(y), Shape::from(shape)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, assert_sums_close, on_one_and_two_threads, values};
    use super::*;

    fn transposed(matrix: &[f32], [depth, columns]: [usize; 2]) -> Vec<f32> {
        (0..columns * depth)
            .map(|i| matrix[i % depth * columns + i / depth])
            .collect()
    }

    #[test]
    fn agrees_with_the_definition_on_random_shapes() -> Result<()> {
        let mut random = Random::new(41);
        for (leading, depth, columns) in [
            (vec![1], 5, 3),
            (vec![7], 600, 130),
            (vec![1], 1000, 257),
            (vec![2, 3], 33, 17),
            (vec![0], 4, 4),
            (vec![], 8, 9),
        ] {
            let mut shape = leading.clone();
            shape.push(depth);
            let x = random.tensor(&shape)?;
            let w = random.floats(depth * columns);
            let bias = random.floats(columns);
            let weights = Arc::new(MatMulWeights::pack(&w, depth, columns, Some(&bias))?);
            let y = on_one_and_two_threads(|| matmul_packed(&x, &weights))?;
            let expected: Vec<_> = values(&x)?
                .chunks_exact(depth)
                .flat_map(|row| (0..columns).map(move |j| (row.to_vec(), j)))
                .map(|(row, j)| {
                    let products = row.iter().enumerate();
                    products.fold(
                        (f64::from(bias[j]), f64::from(bias[j]).abs()),
                        |(sum, magnitude), (k, x)| {
                            let product = f64::from(*x) * f64::from(w[k * columns + j]);
                            (sum + product, magnitude + product.abs())
                        },
                    )
                })
                .collect();
            assert_sums_close(&values(&y)?, &expected, &format!("{shape:?} {columns}"));

            let turned = transposed(&w, [depth, columns]);
            let turned = MatMulWeights::pack_transposed(&turned, depth, columns, Some(&bias))?;
            assert_eq!(values(&matmul_packed(&x, &Arc::new(turned))?)?, values(&y)?);
        }
        Ok(())
    }

    #[test]
    fn row_does_not_depend_on_the_others() -> Result<()> {
        let mut random = Random::new(42);
        let w = random.floats(700 * 45);
        let weights = Arc::new(MatMulWeights::pack(&w, 700, 45, None)?);
        let x = random.tensor(&[20, 700])?;
        let all = matmul_packed(&x, &weights)?.narrow(0, 13, 1)?;
        let one = matmul_packed(&x.narrow(0, 13, 1)?, &weights)?;
        assert_eq!(values(&all)?, values(&one)?);
        Ok(())
    }

    #[test]
    fn errors_name_what_does_not_fit() -> Result<()> {
        assert!(MatMulWeights::pack(&[0.0; 5], 2, 3, None).is_err());
        assert!(MatMulWeights::pack(&[0.0; 6], 2, 3, Some(&[0.0; 2])).is_err());
        let weights = Arc::new(MatMulWeights::pack(&[0.0; 6], 2, 3, None)?);
        let x = Tensor::zeros((4, 3), candle_core::DType::F32, &candle_core::Device::Cpu)?;
        let message = matmul_packed(&x, &weights).err().map(|e| e.to_string());
        let message = message.unwrap_or_default();
        assert!(
            message.contains("has 3 elements, weight expects 2"),
            "{message}"
        );
        Ok(())
    }
}
