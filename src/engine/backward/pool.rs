//! Gradients of pools.

use candle_core::Tensor;

use super::node::Passed;
use crate::engine::error::OpError;
use crate::engine::kernels::PoolGeometry;
use crate::engine::slices::with_f32;
use crate::engine::value::Value;
use crate::model::{Op, Pool};

/// The gradient of input 0.
pub(super) fn pool(passed: &Passed<'_>) -> Result<Value, OpError> {
    let x = passed.plain(0)?;
    let gradient = passed.gradient()?.plain()?;
    let Some(&[batch, channels, ref spatial @ ..]) = Some(x.dims()) else {
        return Err(OpError::Shape(format!(
            "expected an image, got {:?}",
            x.dims()
        )));
    };
    let size = match *spatial {
        [height, width] => [height, width],
        [width] => [1, width],
        _ => {
            return Err(OpError::Shape(format!(
                "expected an image, got {:?}",
                x.dims()
            )));
        }
    };
    let windows = match &passed.node.op {
        Op::AveragePool(pool) => Windows::of(pool, size, false)?,
        Op::MaxPool(pool) => Windows::of(pool, size, true)?,
        op => Windows::whole(size, matches!(op, Op::GlobalMaxPool)),
    };
    let planes = batch * channels;
    let out = windows.output[0] * windows.output[1];
    if gradient.elem_count() != planes * out {
        return Err(OpError::Shape(format!(
            "a gradient {:?} does not fit an input {:?}",
            gradient.dims(),
            x.dims()
        )));
    }
    let image = size[0] * size[1];
    Ok(with_f32(&x, |xs| {
        with_f32(&gradient, |gs| {
            let mut values = vec![0.0; xs.len()];
            for ((plane, x), g) in values
                .chunks_mut(image.max(1))
                .zip(xs.chunks(image.max(1)))
                .zip(gs.chunks(out.max(1)))
            {
                windows.plane(x, g, plane);
            }
            Tensor::from_vec(values, x.dims(), x.device())
        })
    })?
    .into())
}

/// Where the windows of a pool lie.
struct Windows {
    geometry: PoolGeometry,
    size: [usize; 2],
    output: [usize; 2],
    is_max: bool,
}

impl Windows {
    fn of(pool: &Pool, size: [usize; 2], is_max: bool) -> Result<Self, OpError> {
        let geometry = PoolGeometry::resolve(pool, size)?;
        let output = geometry
            .output_size(size)
            .ok_or_else(|| OpError::Shape("the window exceeds the input".to_owned()))?;
        Ok(Self {
            geometry,
            size,
            output,
            is_max,
        })
    }

    /// One window over everything.
    fn whole(size: [usize; 2], is_max: bool) -> Self {
        Self {
            geometry: PoolGeometry {
                kernel: size,
                strides: [1, 1],
                pads: [0; 4],
                dilations: [1, 1],
                ceil_mode: false,
                count_include_pad: false,
            },
            size,
            output: [1, 1],
            is_max,
        }
    }

    /// The input positions along an axis of the window at `place`, and how many it counts with padding.
    fn reach(&self, axis: usize, place: usize) -> (Vec<usize>, usize) {
        let g = &self.geometry;
        let mut inside = Vec::with_capacity(g.kernel[axis]);
        let mut counted = 0;
        for k in 0..g.kernel[axis] {
            let at = place * g.strides[axis] + k * g.dilations[axis];
            if at < g.pads[axis] + self.size[axis] + g.pads[axis + 2] {
                counted += 1;
            }
            if let Some(at) = at
                .checked_sub(g.pads[axis])
                .filter(|at| *at < self.size[axis])
            {
                inside.push(at);
            }
        }
        (inside, counted)
    }

    fn plane(&self, x: &[f32], gradient: &[f32], out: &mut [f32]) {
        let columns: Vec<(Vec<usize>, usize)> = (0..self.output[1])
            .map(|place| self.reach(1, place))
            .collect();
        for (row, line) in gradient.chunks(self.output[1].max(1)).enumerate() {
            let (rows, counted_rows) = self.reach(0, row);
            for (g, (columns, counted_columns)) in line.iter().zip(&columns) {
                let cells = rows
                    .iter()
                    .flat_map(|r| columns.iter().map(move |c| r * self.size[1] + c));
                if self.is_max {
                    // The first of equals, as the forward run takes it.
                    let best = cells.reduce(|best, at| if x[at] > x[best] { at } else { best });
                    if let Some(best) = best {
                        out[best] += g;
                    }
                    continue;
                }
                let count = if self.geometry.count_include_pad {
                    counted_rows * counted_columns
                } else {
                    rows.len() * columns.len()
                };
                let share = g / count.max(1) as f32;
                for at in cells {
                    out[at] += share;
                }
            }
        }
    }
}
