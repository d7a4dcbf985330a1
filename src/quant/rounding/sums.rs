//! What rounding needs to know of the inputs of a layer.

use super::lanes::dot;
use crate::quant::QuantError;

/// Sums over windows of a layer's input, and over what its output lacks there.
///
/// A window `x` is what one output element is computed from, `size` numbers; the residual `r` is what
/// the float network gives there minus what the layer gives with its float weights on this input, one
/// number for each of `outputs` channels.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowSums {
    size: usize,
    outputs: usize,
    /// Windows that were summed.
    pub windows: f64,
    /// `Σ x xᵀ`, `[size, size]`.
    pub products: Vec<f64>,
    /// `Σ r xᵀ`, `[outputs, size]`.
    pub residual_products: Vec<f64>,
    /// `Σ x`.
    pub inputs: Vec<f64>,
    /// `Σ r`.
    pub residuals: Vec<f64>,
    /// `Σ r²`.
    pub residual_squares: Vec<f64>,
}

impl WindowSums {
    /// Nothing summed yet.
    pub fn new(size: usize, outputs: usize) -> Self {
        Self {
            size,
            outputs,
            windows: 0.0,
            products: vec![0.0; size * size],
            residual_products: vec![0.0; outputs * size],
            inputs: vec![0.0; size],
            residuals: vec![0.0; outputs],
            residual_squares: vec![0.0; outputs],
        }
    }

    /// Numbers of a window.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Output channels that read the windows.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Adds the sums over other windows of the same layer.
    pub fn add(&mut self, other: &Self) {
        self.windows += other.windows;
        for (own, other) in [
            (&mut self.products, &other.products),
            (&mut self.residual_products, &other.residual_products),
            (&mut self.inputs, &other.inputs),
            (&mut self.residuals, &other.residuals),
            (&mut self.residual_squares, &other.residual_squares),
        ] {
            for (own, other) in own.iter_mut().zip(other) {
                *own += other;
            }
        }
    }

    /// The sums of the differences from the means, which is what is left where a bias takes up the means.
    ///
    /// ```text
    /// Σ (x - x̄)(x - x̄)ᵀ = Σ x xᵀ - Σx Σxᵀ / n
    /// ```
    pub fn centred(&self) -> Self {
        let mut centred = self.clone();
        let count = self.windows.max(1.0);
        let size = self.size.max(1);
        for (row, x) in centred.products.chunks_mut(size).zip(&self.inputs) {
            for (sum, y) in row.iter_mut().zip(&self.inputs) {
                *sum -= x * y / count;
            }
        }
        let rows = centred.residual_products.chunks_mut(size);
        for (row, r) in rows.zip(&self.residuals) {
            for (sum, x) in row.iter_mut().zip(&self.inputs) {
                *sum -= r * x / count;
            }
        }
        for (squares, r) in centred.residual_squares.iter_mut().zip(&self.residuals) {
            *squares -= r * r / count;
        }
        centred.inputs.fill(0.0);
        centred.residuals.fill(0.0);
        centred
    }

    /// The mean of what an output channel lacks when its weights change by `change`.
    ///
    /// Added to the bias, it leaves no mean error.
    pub fn mean_residual(&self, output: usize, change: &[f32]) -> f64 {
        let change: Vec<f64> = change.iter().copied().map(f64::from).collect();
        let moved = dot(&self.inputs, &change);
        (self.residuals[output] - moved) / self.windows.max(1.0)
    }

    /// The sum of the squared errors of an output channel whose weights change by `change` and whose
    /// bias by `bias`.
    ///
    /// ```text
    /// Σ (r - dᵀx - b)² = Σr² - 2 dᵀ Σrx + dᵀ Σxxᵀ d - 2b (Σr - dᵀ Σx) + n b²
    /// ```
    pub fn squared_error(&self, output: usize, change: &[f32], bias: f64) -> f64 {
        let change: Vec<f64> = change.iter().copied().map(f64::from).collect();
        let crossed = &self.residual_products[output * self.size..];
        let mut sum = self.residual_squares[output] - 2.0 * dot(crossed, &change);
        for (row, d) in self.products.chunks(self.size.max(1)).zip(&change) {
            sum += d * dot(row, &change);
        }
        let open = self.residuals[output] - dot(&self.inputs, &change);
        (sum - 2.0 * bias * open + self.windows * bias * bias).max(0.0)
    }

    /// Checks that every sum is finite.
    ///
    /// # Errors
    /// [`QuantError::NonFiniteSums`].
    pub(super) fn check(&self) -> Result<(), QuantError> {
        let all = [&self.products, &self.residual_products];
        let finite = all.into_iter().flatten().all(|sum| sum.is_finite());
        if finite {
            Ok(())
        } else {
            Err(QuantError::NonFiniteSums)
        }
    }
}
