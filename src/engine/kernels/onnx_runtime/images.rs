//! Convolutions as products with the columns of an image.

use rten_simd::SimdOp as _;

use super::product::{Columns, PANEL, Product, RowProduct, block};
use crate::engine::kernels::ConvGeometry;

/// An image or a filter bank by rows, with four lengths.
type Shaped<'a> = (&'a [f32], [usize; 4]);

/// Convolves images `[batch, channels, height, width]` with filters `[out, channels / groups, kh, kw]`.
///
/// The bias is added last. `output` is `[height, width]` of the result.
pub fn convolved(
    (input, [batch, channels, height, width]): Shaped<'_>,
    (weight, [outputs, per_group, kernel_height, kernel_width]): Shaped<'_>,
    bias: Option<&[f32]>,
    geometry: &ConvGeometry,
    output: [usize; 2],
) -> Vec<f32> {
    let groups = geometry.groups;
    let depth = per_group * kernel_height * kernel_width;
    let (pixels, filters) = (output[0] * output[1], outputs / groups);
    let mut out = vec![0.0; batch * outputs * pixels];
    let mut panel = vec![[0.0; PANEL]; depth];
    let mut sums = vec![[0.0; PANEL]; filters];
    let plane = height * width;
    let images = input.chunks_exact((channels / groups * plane).max(1));
    let places = out.chunks_exact_mut((filters * pixels).max(1));
    for (index, (image, out)) in images.zip(places).enumerate() {
        let group = index % groups;
        let weight = &weight[group * filters * depth..][..filters * depth];
        let image = Image {
            values: image,
            size: [height, width],
            kernel: [kernel_height, kernel_width],
            geometry,
            output_width: output[1],
        };
        for first in (0..pixels).step_by(PANEL) {
            image.columns(first, &mut panel);
            multiply(weight, &panel, block(depth, pixels), &mut sums);
            let count = PANEL.min(pixels - first);
            for (filter, sums) in sums.iter().enumerate() {
                let add = bias.map_or(0.0, |bias| bias[group * filters + filter]);
                let place = &mut out[filter * pixels + first..][..count];
                for (y, sum) in place.iter_mut().zip(sums) {
                    *y = if bias.is_some() { sum + add } else { *sum };
                }
            }
        }
    }
    out
}

fn multiply(left: &[f32], right: &Columns, block: usize, out: &mut Columns) {
    if let [out] = out {
        *out = [0.0; PANEL];
        RowProduct { left, right, out }.dispatch();
    } else {
        let adds = false;
        Product {
            left,
            right,
            block,
            adds,
            out,
        }
        .dispatch();
    }
}

/// One group of an image, whose windows are read.
struct Image<'a> {
    values: &'a [f32],
    size: [usize; 2],
    kernel: [usize; 2],
    geometry: &'a ConvGeometry,
    output_width: usize,
}

impl Image<'_> {
    /// Windows of the output pixels from `first` on, a column each, zero beside the image.
    fn columns(&self, first: usize, panel: &mut Columns) {
        let [height, width] = self.size;
        let geometry = self.geometry;
        let corner: [[isize; 2]; PANEL] = std::array::from_fn(|column| {
            let pixel = first + column;
            let place = [pixel / self.output_width, pixel % self.output_width];
            let at = |axis: usize| {
                (place[axis] * geometry.strides[axis]) as isize - geometry.pads[axis] as isize
            };
            [at(0), at(1)]
        });
        let mut rows = panel.iter_mut();
        for plane in self.values.chunks_exact((height * width).max(1)) {
            for i in 0..self.kernel[0] {
                for j in 0..self.kernel[1] {
                    let Some(row) = rows.next() else { return };
                    let step = [i * geometry.dilations[0], j * geometry.dilations[1]];
                    for (value, [y, x]) in row.iter_mut().zip(&corner) {
                        let (y, x) = (y + step[0] as isize, x + step[1] as isize);
                        let inside =
                            (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
                        *value = if inside {
                            plane[y as usize * width + x as usize]
                        } else {
                            0.0
                        };
                    }
                }
            }
        }
    }
}

/// Applies the transpose of a convolution with filters `[channels, out / groups, kh, kw]`.
///
/// Contributions of one kernel element after the other are added to the output, then the bias.
pub fn transposed_convolved(
    (input, [batch, channels, height, width]): Shaped<'_>,
    (weight, [_, per_group, kernel_height, kernel_width]): Shaped<'_>,
    bias: Option<&[f32]>,
    geometry: &ConvGeometry,
    output: [usize; 2],
) -> Vec<f32> {
    let groups = geometry.groups;
    let depth = channels / groups;
    let (pixels, rows) = (height * width, per_group * kernel_height * kernel_width);
    let plane = output[0] * output[1];
    let mut out = vec![0.0f32; batch * groups * per_group * plane];
    let images = input.chunks_exact((depth * pixels).max(1));
    let places = out.chunks_exact_mut((per_group * plane).max(1));
    for (index, (image, out)) in images.zip(places).enumerate() {
        let weight = &weight[index % groups * depth * rows..][..depth * rows];
        let left: Vec<f32> = (0..rows * depth)
            .map(|at| weight[at % depth * rows + at / depth])
            .collect();
        let products = all_columns(&left, image, depth, pixels);
        for (row, products) in products.chunks_exact(pixels.max(1)).enumerate() {
            let (channel, element) = (
                row / (kernel_height * kernel_width),
                row % (kernel_height * kernel_width),
            );
            let step = [element / kernel_width, element % kernel_width];
            let out = &mut out[channel * plane..][..plane];
            for (pixel, product) in products.iter().enumerate() {
                let place = [pixel / width, pixel % width];
                let at = |axis: usize| {
                    let from = place[axis] * geometry.strides[axis]
                        + step[axis] * geometry.dilations[axis];
                    from.checked_sub(geometry.pads[axis])
                        .filter(|at| *at < output[axis])
                };
                if let (Some(y), Some(x)) = (at(0), at(1)) {
                    out[y * output[1] + x] += product;
                }
            }
        }
        if let Some(bias) = bias {
            let first = index % groups * per_group;
            for (channel, out) in out.chunks_exact_mut(plane.max(1)).enumerate() {
                let add = bias[first + channel];
                for y in out {
                    *y += add;
                }
            }
        }
    }
    out
}

/// `left · image` by rows, for an image `[depth, pixels]`.
fn all_columns(left: &[f32], image: &[f32], depth: usize, pixels: usize) -> Vec<f32> {
    let rows = left.len() / depth.max(1);
    let mut all = vec![0.0; rows * pixels];
    let mut panel = vec![[0.0; PANEL]; depth];
    let mut sums = vec![[0.0; PANEL]; rows];
    for first in (0..pixels).step_by(PANEL) {
        let count = PANEL.min(pixels - first);
        for (row, values) in panel.iter_mut().zip(image.chunks_exact(pixels)) {
            row[..count].copy_from_slice(&values[first..first + count]);
        }
        Product {
            left,
            right: &panel,
            block: block(depth, pixels),
            adds: false,
            out: &mut sums,
        }
        .dispatch();
        for (row, sums) in all.chunks_exact_mut(pixels).zip(&sums) {
            row[first..first + count].copy_from_slice(&sums[..count]);
        }
    }
    all
}
