//! Resizing with an antialiased triangle filter, in the fixed-point arithmetic of Pillow.
//!
//! Pillow's result is what most networks saw in training, so it is met exactly (`Image.resize(…, BILINEAR)`, file
//! `src/libImaging/Resample.c`): weights with 22 fractional bits, first along rows, then along columns, with rounding
//! to 8 bits after each. (Pillow 13 takes columns first for some tall pictures, which moves a few pixels by one step.)
//!
//! ```text
//! scale = source / target;  reach = max(scale, 1);  centre = (i + 0.5) * scale
//! w[j] = triangle((j - centre + 0.5) / reach), normalised, for j from centre - reach to centre + reach
//! ```
//!
//! Only the wanted window of the target is computed; a pixel does not depend on the window it is computed in.

use std::ops::Range;

use super::picture::Pixels;

const PRECISION_BITS: u32 = 22;

/// Contributions to one target position along one axis.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// The window `columns` x `rows` of `source` resized to `target` (width, height).
///
/// The window must lie within the target.
pub(super) fn window(
    source: &Pixels,
    target: (u64, u64),
    columns: Range<u64>,
    rows: Range<u64>,
) -> Pixels {
    let across = axis_taps(source.width as usize, target.0, columns);
    let down = axis_taps(source.height as usize, target.1, rows);
    let first_row = down.iter().map(|taps| taps.first).min().unwrap_or(0);
    let end_row = down
        .iter()
        .map(|taps| taps.first + taps.weights.len())
        .max()
        .unwrap_or(0);
    let channels = source.channels;
    let row_len = across.len() * channels;
    let mut narrowed = vec![0; (end_row - first_row) * row_len];
    if row_len > 0 {
        let source_rows = source
            .data
            .chunks_exact((source.width as usize * channels).max(1))
            .skip(first_row);
        for (row, out) in source_rows.zip(narrowed.chunks_exact_mut(row_len)) {
            resample_row(row, &across, channels, out);
        }
    }
    let mut data = vec![0; down.len() * row_len];
    if row_len > 0 {
        for (taps, out) in down.iter().zip(data.chunks_exact_mut(row_len)) {
            resample_column(&narrowed, taps.first - first_row, &taps.weights, out);
        }
    }
    Pixels {
        width: across.len() as u32,
        height: down.len() as u32,
        channels,
        data,
    }
}

fn resample_row(row: &[u8], across: &[Taps], channels: usize, out: &mut [u8]) {
    for (taps, pixel) in across.iter().zip(out.chunks_exact_mut(channels)) {
        let inputs = row.get(taps.first * channels..).unwrap_or(&[]);
        if let [out] = pixel {
            *out = to_byte(
                inputs
                    .iter()
                    .zip(&taps.weights)
                    .map(|(&x, &w)| i32::from(x) * w)
                    .sum(),
            );
        } else {
            let mut sums = [0; 3];
            for (input, &weight) in inputs.chunks_exact(channels).zip(&taps.weights) {
                for (sum, &x) in sums.iter_mut().zip(input) {
                    *sum += i32::from(x) * weight;
                }
            }
            for (out, sum) in pixel.iter_mut().zip(sums) {
                *out = to_byte(sum);
            }
        }
    }
}

fn resample_column(narrowed: &[u8], first: usize, weights: &[i32], out: &mut [u8]) {
    let mut sums = vec![0_i32; out.len()];
    for (row, &weight) in narrowed.chunks_exact(out.len()).skip(first).zip(weights) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum += i32::from(x) * weight;
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = to_byte(sum);
    }
}

/// Rounds a fixed-point sum half up to a byte.
fn to_byte(sum: i32) -> u8 {
    ((sum + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS).clamp(0, 255) as u8
}

fn axis_taps(source: usize, target: u64, window: Range<u64>) -> Vec<Taps> {
    let scale = source as f64 / target as f64;
    let reach = scale.max(1.0);
    let taps = |position: u64| {
        if source as u64 == target {
            return Taps {
                first: position as usize,
                weights: vec![1 << PRECISION_BITS],
            };
        }
        let centre = (position as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(source);
        let raw: Vec<f64> = (first..end)
            .map(|j| (1.0 - ((j as f64 - centre + 0.5) * (1.0 / reach)).abs()).max(0.0))
            .collect();
        let total: f64 = raw.iter().sum();
        let one = f64::from(1 << PRECISION_BITS);
        // Pillow multiplies by the reciprocal; dividing would differ in the last bit.
        let factor = if total == 0.0 { 1.0 } else { 1.0 / total };
        Taps {
            first,
            weights: raw
                .into_iter()
                .map(|w| (0.5 + w * factor * one) as i32)
                .collect(),
        }
    };
    window.map(taps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture without symmetry, from integers alone.
    fn pattern(width: u32, height: u32, channels: usize) -> Pixels {
        let data = (0..width as usize * height as usize * channels)
            .map(|i| ((i * i * 31 + i * 17 + (i >> 3) * 101) % 256) as u8)
            .collect();
        Pixels {
            width,
            height,
            channels,
            data,
        }
    }

    fn whole(source: &Pixels, width: u64, height: u64) -> Pixels {
        window(source, (width, height), 0..width, 0..height)
    }

    /// FNV-1a, short enough to note down.
    fn digest(bytes: &[u8]) -> u32 {
        bytes.iter().fold(0x811c_9dc5, |hash: u32, &byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
    }

    #[test]
    fn results_are_those_of_pillow() {
        // Pillow 13.0: Image.fromarray(pattern).resize((w, h), Image.Resampling.BILINEAR), digests of tobytes().
        for (source, target, expected) in PILLOW {
            let pixels = pattern(source.0, source.1, source.2);
            let resized = whole(&pixels, target.0, target.1);
            assert_eq!(digest(&resized.data), expected, "{source:?} to {target:?}");
        }
    }

    type PillowCase = ((u32, u32, usize), (u64, u64), u32);
    const PILLOW: [PillowCase; 7] = [
        ((37, 23, 3), (20, 31), 0xc59209f3),
        ((37, 23, 3), (74, 46), 0x5ed2bbbd),
        ((500, 375, 3), (256, 192), 0xf80d5c86),
        ((64, 64, 1), (28, 28), 0x87384b63),
        ((5, 7, 1), (30, 42), 0xfd331650),
        ((640, 427, 3), (416, 277), 0xeaffe3b9),
        ((1000, 31, 1), (225, 7), 0x4a0e016c),
    ];

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let source = pattern(37, 23, 3);
        let all = whole(&source, 20, 31);
        let part = window(&source, (20, 31), 4..11, 9..30);
        assert_eq!((part.width, part.height), (7, 21));
        for y in 0..21 {
            let row = &all.data[((y + 9) * 20 + 4) * 3..][..7 * 3];
            assert_eq!(&part.data[y * 21..][..21], row, "row {y}");
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture_and_flat_stays_flat() {
        let source = pattern(9, 5, 3);
        assert_eq!(whole(&source, 9, 5).data, source.data);
        let flat = Pixels {
            width: 50,
            height: 40,
            channels: 1,
            data: vec![201; 2000],
        };
        for (width, height) in [(1, 1), (7, 99), (300, 3)] {
            assert!(whole(&flat, width, height).data.iter().all(|&x| x == 201));
        }
    }

    #[test]
    fn a_window_of_a_huge_target_needs_little_memory() {
        let source = pattern(2, 2, 3);
        let part = window(&source, (1 << 40, 1 << 40), (1 << 39)..(1 << 39) + 2, 0..2);
        assert_eq!(part.data.len(), 12);
    }
}
