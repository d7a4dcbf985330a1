//! The range with the least expected squared error.

use super::density::Density;
use crate::quant::{Grid, QuantError, Range};

/// Equal parts of the full range that are tried first.
const PARTS: i32 = 100;
/// Equal parts of such a part that are tried next.
const FINE_PARTS: i32 = 10;
/// How often both ends of a two-sided range are tried again.
const ROUNDS: usize = 4;

/// Searches the range whose grid has the least expected squared error.
///
/// Both ends are first scaled together, then each by itself in turn until neither gets better.
/// The error is that of the grid itself, with its rounded zero point, over the histogram, taken as
/// even within each bin (see [`expected_noise`]).
pub(super) fn least_squares_range(
    density: &Density,
    full: Range,
    grid_of: impl Fn(Range) -> Result<Grid, QuantError>,
) -> Result<Range, QuantError> {
    // What can fail does so for any range.
    grid_of(full)?;
    let scaled = |low: f64, high: f64| {
        let end = |end: f32, ratio: f64| (f64::from(end) * ratio) as f32;
        Range::from_ordered(end(full.min(), low), end(full.max(), high))
    };
    let noise = |low: f64, high: f64| {
        grid_of(scaled(low, high)).map_or(f64::INFINITY, |grid| expected_noise(density, &grid))
    };
    let (both, mut least) = best_ratio(1.0, noise(1.0, 1.0), |ratio| noise(ratio, ratio));
    let (mut low, mut high) = (both, both);
    if full.min() == 0.0 || full.max() == 0.0 {
        return Ok(scaled(low, high));
    }
    for _ in 0..ROUNDS {
        let before = least;
        (high, least) = best_ratio(high, least, |ratio| noise(low, ratio));
        (low, least) = best_ratio(low, least, |ratio| noise(ratio, high));
        if least >= before {
            break;
        }
    }
    Ok(scaled(low, high))
}

/// The ratio of `0.001..=1` with the least noise, found in two steps, and that noise.
fn best_ratio(known: f64, known_noise: f64, noise: impl Fn(f64) -> f64) -> (f64, f64) {
    let mut best = (known, known_noise);
    let coarse = (1..=PARTS)
        .rev()
        .map(|part| f64::from(part) / f64::from(PARTS));
    attempt(&mut best, coarse, &noise);
    let middle = best.0;
    let fine = (1 - FINE_PARTS..FINE_PARTS)
        .map(|part| middle + f64::from(part) / f64::from(PARTS * FINE_PARTS));
    attempt(
        &mut best,
        fine.filter(|ratio| *ratio > 0.0 && *ratio <= 1.0),
        &noise,
    );
    best
}

/// Keeps the first ratio with the least noise.
fn attempt(best: &mut (f64, f64), ratios: impl Iterator<Item = f64>, noise: impl Fn(f64) -> f64) {
    for ratio in ratios {
        let noise = noise(ratio);
        if noise < best.1 {
            *best = (ratio, noise);
        }
    }
}

/// 1.5 · 2^52, whose sum with a smaller number has no bits for a fraction.
const ROUNDING_SHIFT: f64 = 6_755_399_441_055_744.0;

/// The expected sum of squared errors of a grid.
///
/// ```text
/// Σ mass · scale² · (F(end / scale) - F(start / scale)) / (end / scale - start / scale)
/// F(u) = n / 12 + ((u - n)³ + 1/8) / 3,   n = clamp(round(u), q_min - zero_point, q_max - zero_point)
/// ```
/// `F` is the integral of the squared distance to the nearest level, in steps: every step inside
/// the grid adds 1/12, and beyond its ends the distance grows. The formula is our own derivation;
/// unlike the error at the middle of each bin it also holds where a bin is wider than a step.
fn expected_noise(density: &Density, grid: &Grid) -> f64 {
    let scale = f64::from(grid.scale());
    let (lowest, highest) = grid.step_limits();
    let (lowest, highest) = (f64::from(lowest), f64::from(highest));
    let integral = |u: f64| {
        let level = (u.max(lowest).min(highest) + ROUNDING_SHIFT) - ROUNDING_SHIFT;
        let distance = u - level;
        level / 12.0 + (distance * distance * distance + 0.125) / 3.0
    };
    let Some((first, _, _)) = density.intervals().next() else {
        return 0.0;
    };
    let mut start = first / scale;
    let mut integral_at_start = integral(start);
    let mut noise = 0.0;
    for (end, mass) in density.ends().iter().zip(density.masses()) {
        let end = end / scale;
        let integral_at_end = integral(end);
        if *mass > 0.0 {
            noise += mass * (integral_at_end - integral_at_start) / (end - start);
        }
        (start, integral_at_start) = (end, integral_at_end);
    }
    noise * scale * scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{BitWidth, Histogram};

    #[test]
    fn expected_noise_is_that_of_evenly_spread_numbers() {
        let values = (0..200_000)
            .map(|i| (i as f32 + 0.5) / 100_000.0 - 0.7)
            .collect::<Vec<_>>();
        let seen = Range::new(values[0], values[values.len() - 1]).unwrap();
        for bins in [7, 64, 2048] {
            let mut histogram =
                Histogram::new(f64::from(seen.min()), f64::from(seen.max()), bins).unwrap();
            histogram.add(&values);
            let density = Density::new(&histogram, seen);
            for bits in [1, 2, 3, 5, 8, 11] {
                for (min, max) in [(-0.7, 1.3), (-0.2, 0.9), (-2.0, 0.1)] {
                    let grid = Grid::asymmetric(
                        Range::new(min, max).unwrap(),
                        BitWidth::new(bits).unwrap(),
                    );
                    let (expected, actual) =
                        (grid.measure(&values).noise, expected_noise(&density, &grid));
                    let difference = (expected - actual).abs();
                    assert!(
                        difference < 0.01 * expected,
                        "{bins} bins, {bits} bits: {actual} is not {expected}"
                    );
                }
            }
        }
    }
}
