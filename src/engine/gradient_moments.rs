//! Sums of gradient times error of a layer's output, channel by channel.
#![expect(
    clippy::inline_always,
    reason = "a loop gets the instruction set of its caller only if it is inlined"
)]

use candle_core::Tensor;

use super::kernels::blocked::BLOCK;
use super::second_order::SecondOrderCell;
use super::slices::with_f32;
use super::value::Value;
use crate::quant::with_widest_vectors;

/// Sums of gradient times error; channels are the second axis of an image and else the last one.
pub(super) fn moments(
    gradient: &Value,
    float: &Value,
    changed: &Value,
    channels_first: bool,
) -> candle_core::Result<SecondOrderCell> {
    if let (Value::Blocked { image: y, .. }, Value::Blocked { image: q, .. }) = (float, changed)
        && let Some((g, _)) = gradient.blocked()?
    {
        let pixels = y.dims().iter().skip(2).take(2).product();
        return sum_of(&g, y, q, pixels, BLOCK);
    }
    let (g, y, q) = (gradient.plain()?, float.plain()?, changed.plain()?);
    let dims = y.dims();
    let (places, lanes) = if channels_first {
        (dims.iter().skip(2).product(), 1)
    } else {
        let lanes = dims.last().copied().unwrap_or(1);
        let per_sample: usize = dims.iter().skip(1).product();
        (per_sample / lanes.max(1), lanes)
    };
    sum_of(&g, &y, &q, places, lanes)
}

/// Elements are `[…, places, lanes]`; a channel of a sample is one lane over all places.
fn sum_of(
    gradient: &Tensor,
    float: &Tensor,
    changed: &Tensor,
    places: usize,
    lanes: usize,
) -> candle_core::Result<SecondOrderCell> {
    if gradient.dims() != float.dims() || float.dims() != changed.dims() {
        candle_core::bail!(
            "gradient {:?}, float {:?} and quantized output {:?} do not fit",
            gradient.dims(),
            float.dims(),
            changed.dims()
        );
    }
    with_f32(gradient, |g| {
        with_f32(float, |y| {
            with_f32(changed, |q| {
                let mut cell = SecondOrderCell::default();
                let block = (places * lanes).max(1);
                let mut sums = vec![0.0f32; lanes.max(1)];
                let mut squares = vec![0.0f32; lanes.max(1)];
                for ((g, y), q) in g.chunks(block).zip(y.chunks(block)).zip(q.chunks(block)) {
                    sums.fill(0.0);
                    squares.fill(0.0);
                    with_widest_vectors(|| {
                        add_lanes([g, y, q], lanes.max(1), &mut sums, &mut squares);
                    });
                    for (sum, square) in sums.iter().zip(&squares) {
                        cell.first += f64::from(*sum);
                        cell.second += 0.5 * f64::from(*sum) * f64::from(*sum);
                        cell.diagonal += 0.5 * f64::from(*square);
                    }
                }
                Ok(cell)
            })
        })
    })
}

/// Lanes that the compiler turns into wide instructions.
const WIDE: usize = 16;

#[inline(always)]
fn add_lanes([g, y, q]: [&[f32]; 3], lanes: usize, sums: &mut [f32], squares: &mut [f32]) {
    if lanes == 1 {
        // Neighbours are summed side by side.
        let (mut wide, mut wide_squares) = ([0.0; WIDE], [0.0; WIDE]);
        add_rows([g, y, q], &mut wide, &mut wide_squares);
        sums[0] += wide.iter().sum::<f32>();
        squares[0] += wide_squares.iter().sum::<f32>();
        let done = g.len() / WIDE * WIDE;
        add_products([&g[done..], &y[done..], &q[done..]], 1, sums, squares);
    } else if let (Ok(sums), Ok(squares)) = (sums.try_into(), squares.try_into()) {
        add_rows([g, y, q], sums, squares);
    } else {
        add_products([g, y, q], lanes, sums, squares);
    }
}

/// Rows of [`WIDE`] lanes; what is left of the last one is not counted.
#[inline(always)]
fn add_rows([g, y, q]: [&[f32]; 3], sums: &mut [f32; WIDE], squares: &mut [f32; WIDE]) {
    let (mut own_sums, mut own_squares) = (*sums, *squares);
    let rows = g.as_chunks::<WIDE>().0.iter();
    for ((g, y), q) in rows
        .zip(y.as_chunks::<WIDE>().0)
        .zip(q.as_chunks::<WIDE>().0)
    {
        for lane in 0..WIDE {
            let product = g[lane] * (q[lane] - y[lane]);
            own_sums[lane] += product;
            own_squares[lane] += product * product;
        }
    }
    (*sums, *squares) = (own_sums, own_squares);
}

fn add_products([g, y, q]: [&[f32]; 3], lanes: usize, sums: &mut [f32], squares: &mut [f32]) {
    for ((g, y), q) in g.chunks(lanes).zip(y.chunks(lanes)).zip(q.chunks(lanes)) {
        for ((((g, y), q), sum), square) in
            g.iter().zip(y).zip(q).zip(&mut *sums).zip(&mut *squares)
        {
            let product = g * (q - y);
            *sum += product;
            *square += product * product;
        }
    }
}
