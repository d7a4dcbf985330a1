//! Rounding against brute force and closed forms on problems small enough for both.

use super::*;

/// Numbers of no pattern in `-1..=1`.
fn number(seed: usize) -> f64 {
    let mut state = (seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66;
    state ^= state >> 31;
    state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state ^= state >> 29;
    (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Windows whose numbers depend on each other, and residuals that depend on them in part.
struct Sample {
    windows: Vec<Vec<f64>>,
    residuals: Vec<Vec<f64>>,
}

impl Sample {
    fn new(size: usize, outputs: usize, count: usize, seed: usize) -> Self {
        let windows: Vec<Vec<f64>> = (0..count)
            .map(|n| {
                let common = number(seed + 31 * n);
                (0..size)
                    .map(|k| 0.4 + common + 0.6 * number(seed + 977 * n + 13 * k + 7))
                    .collect()
            })
            .collect();
        let residual = |n: usize, o: usize| {
            let own = number(seed + 7919 * n + 101 * o) * 0.1;
            own + 0.2 * windows[n][o % size] + 0.3
        };
        let residuals = (0..count)
            .map(|n| (0..outputs).map(|o| residual(n, o)).collect())
            .collect();
        Self { windows, residuals }
    }

    fn sums(&self) -> WindowSums {
        let (size, outputs) = (self.windows[0].len(), self.residuals[0].len());
        let mut sums = WindowSums::new(size, outputs);
        for (x, r) in self.windows.iter().zip(&self.residuals) {
            sums.windows += 1.0;
            for at in 0..size * size {
                sums.products[at] += x[at / size] * x[at % size];
            }
            for at in 0..outputs * size {
                sums.residual_products[at] += r[at / size] * x[at % size];
            }
            for (sum, x) in sums.inputs.iter_mut().zip(x) {
                *sum += x;
            }
            let residuals = sums.residuals.iter_mut().zip(&mut sums.residual_squares);
            for ((sum, squares), r) in residuals.zip(r) {
                *sum += r;
                *squares += r * r;
            }
        }
        sums
    }

    /// `Σ (r - dᵀ x - b)²` of an output, window by window.
    fn error(&self, output: usize, change: &[f32], bias: f64) -> f64 {
        let left = |(x, r): (&Vec<f64>, &Vec<f64>)| {
            let moved: f64 = x.iter().zip(change).map(|(x, d)| x * f64::from(*d)).sum();
            r[output] - moved - bias
        };
        self.windows
            .iter()
            .zip(&self.residuals)
            .map(left)
            .map(|left| left * left)
            .sum()
    }
}

fn weights(outputs: usize, size: usize, seed: usize) -> Vec<f32> {
    (0..outputs * size)
        .map(|i| number(seed + 53 * i) as f32)
        .collect()
}

fn spec(bits: &str, calibrator: Calibrator) -> QuantSpec {
    QuantSpec {
        calibrator,
        ..QuantSpec::weight(bits.parse().unwrap())
    }
}

fn method(levels: LevelChoice) -> RoundingMethod {
    RoundingMethod {
        levels,
        damping: 0.01,
        refit: None,
        corrects_bias: false,
    }
}

fn changes(before: &[f32], after: &QuantizedWeights) -> Vec<f32> {
    differences(before, &after.dequantized)
}

/// All level combinations of one channel, and the least damped error among them.
fn least_error(matrix: &[f64], weights: &[f32], grid: &Grid) -> f64 {
    let size = weights.len();
    let codes = (grid.q_max() - grid.q_min() + 1) as usize;
    (0..codes.pow(size as u32))
        .map(|mut index| {
            let change: Vec<f64> = weights
                .iter()
                .map(|weight| {
                    let code = grid.q_min() + (index % codes) as i32;
                    index /= codes;
                    f64::from(grid.dequantize(code)) - f64::from(*weight)
                })
                .collect();
            quadratic(matrix, &change)
        })
        .fold(f64::INFINITY, f64::min)
}

fn quadratic(matrix: &[f64], change: &[f64]) -> f64 {
    let size = change.len();
    let cell = |at: usize| matrix[at] * change[at / size] * change[at % size];
    (0..size * size).map(cell).sum()
}

fn damped(sums: &WindowSums, damping: f64) -> Vec<f64> {
    let size = sums.size();
    let mut matrix: Vec<f64> = sums.products.iter().map(|sum| sum / sums.windows).collect();
    let mean = (0..size).map(|i| matrix[i * size + i]).sum::<f64>() / size as f64;
    for i in 0..size {
        matrix[i * size + i] += damping * mean;
    }
    matrix
}

/// GPTQ as it is published: column by column, the error of each spread by the inverse of what is left.
fn published_gptq(matrix: &[f64], weights: &[f32], grid: &Grid) -> Vec<f32> {
    let size = weights.len();
    let mut left: Vec<f64> = weights.iter().copied().map(f64::from).collect();
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|a, b| matrix[b * size + b].total_cmp(&matrix[a * size + a]));
    let mut rounded = vec![0.0; size];
    while let Some(&column) = order.first() {
        rounded[column] = grid.fake_quantize(left[column] as f32);
        let error = left[column] - f64::from(rounded[column]);
        let rest: Vec<usize> = order.drain(..).skip(1).collect();
        // The best change of the rest solves H[rest, rest] · c = H[rest, column] · error.
        let own: Vec<f64> = rest
            .iter()
            .flat_map(|i| rest.iter().map(move |j| matrix[i * size + j]))
            .collect();
        let mut change: Vec<f64> = rest
            .iter()
            .map(|i| matrix[i * size + column] * error)
            .collect();
        Cholesky::of(&own, rest.len()).unwrap().solve(&mut change);
        for (place, change) in rest.iter().zip(&change) {
            left[*place] += change;
        }
        order = rest;
    }
    rounded
}

#[test]
fn compensated_levels_are_those_of_gptq_and_close_to_the_best_there_are() {
    let mut totals = [0.0; 3];
    for (size, seed) in [(2, 1), (3, 2), (3, 40), (2, 77), (9, 5)] {
        let sample = Sample::new(size, 5, 200, seed);
        let sums = sample.sums();
        let weights = weights(5, size, seed + 1000);
        let spec = spec("3", Calibrator::MinMax);
        let round = |levels: LevelChoice| {
            let shape = [5, size];
            round_weights(
                &weights,
                &shape,
                0,
                &spec,
                std::slice::from_ref(&sums),
                &method(levels),
            )
            .unwrap()
            .weights
        };
        let (gptq, nearest) = (round(LevelChoice::Compensated), round(LevelChoice::Nearest));
        let matrix = damped(&sums, 0.01);
        for channel in 0..5 {
            let own = channel * size..(channel + 1) * size;
            let grid = gptq.grids[channel];
            assert_eq!(grid, nearest.grids[channel]);
            let expected = published_gptq(&matrix, &weights[own.clone()], &grid);
            assert_eq!(
                gptq.dequantized[own.clone()],
                expected,
                "{size} {seed} {channel}"
            );
            let error = |levels: &QuantizedWeights| {
                let change = differences(&weights[own.clone()], &levels.dequantized[own.clone()]);
                quadratic(
                    &matrix,
                    &change.iter().copied().map(f64::from).collect::<Vec<f64>>(),
                )
            };
            // Beyond a few columns there are too many combinations to try.
            if size <= 3 {
                let least = least_error(&matrix, &weights[own.clone()], &grid);
                assert!(error(&gptq) >= least - 1e-9);
                for (total, error) in totals
                    .iter_mut()
                    .zip([least, error(&gptq), error(&nearest)])
                {
                    *total += error;
                }
            }
        }
    }
    let [least, gptq, nearest] = totals;
    assert!(gptq < nearest && gptq <= 1.5 * least, "{totals:?}");
}

#[test]
fn descent_and_searched_ranges_lower_the_error_of_the_output() {
    let sample = Sample::new(12, 20, 400, 9);
    let sums = [sample.sums()];
    let weights = weights(20, 12, 3);
    for granularity in ["per-channel", "per-tensor", "per-group:5"] {
        for scheme in [
            super::super::Scheme::Symmetric,
            super::super::Scheme::Asymmetric,
        ] {
            let mut last = f64::INFINITY;
            for (levels, calibrator) in [
                (LevelChoice::Nearest, Calibrator::MinMax),
                (LevelChoice::Compensated, Calibrator::MinMax),
                (LevelChoice::Compensated, Calibrator::Mse),
                (LevelChoice::Relaxed, Calibrator::Mse),
                (LevelChoice::Descent, Calibrator::Mse),
            ] {
                let spec = QuantSpec {
                    granularity: granularity.parse().unwrap(),
                    scheme,
                    ..spec("2", calibrator)
                };
                // Without damping and ridge worth mentioning, what is lowered is the error itself.
                let method = RoundingMethod {
                    refit: Some(1e-6),
                    damping: 1e-6,
                    ..method(levels)
                };
                let rounded = round_weights(&weights, &[20, 12], 0, &spec, &sums, &method).unwrap();
                let error = output_error(&weights, &[20, 12], 0, &sums, &rounded).unwrap();
                assert!(
                    error <= last * 1.001,
                    "{granularity} {scheme} {levels:?}: {error} {last}"
                );
                // Gradients may find more than the descent does.
                if levels != LevelChoice::Relaxed {
                    last = error;
                }
                let weights = &rounded.weights;
                for (index, level) in weights.dequantized.iter().enumerate() {
                    let nearest = weights.grid_at(index).unwrap().fake_quantize(*level);
                    assert!(
                        (nearest - level).abs() <= 1e-6,
                        "{level} is no level, {nearest} is"
                    );
                }
            }
        }
    }
}

#[test]
fn a_refit_solves_the_ridge_equation() {
    let sample = Sample::new(4, 3, 60, 21);
    let sums = [sample.sums()];
    let before = weights(3, 4, 8);
    let spec = QuantSpec::weight(NumberFormat::F32);
    for ridge in [1e-6, 0.1] {
        let method = RoundingMethod {
            refit: Some(ridge),
            ..method(LevelChoice::Nearest)
        };
        let rounded = round_weights(&before, &[3, 4], 0, &spec, &sums, &method).unwrap();
        let change = changes(&before, &rounded.weights);
        let mean = (0..4).map(|i| sums[0].products[i * 5]).sum::<f64>() / 4.0;
        for output in 0..3 {
            let change = &change[output * 4..][..4];
            for i in 0..4 {
                let curved: f64 = (0..4)
                    .map(|j| sums[0].products[i * 4 + j] * f64::from(change[j]))
                    .sum();
                let left = curved + ridge * mean * f64::from(change[i]);
                let right = sums[0].residual_products[output * 4 + i];
                assert!(
                    (left - right).abs() < 1e-3 * mean,
                    "{ridge}: {left} {right}"
                );
            }
        }
    }
}

#[test]
fn a_corrected_bias_leaves_no_mean_error() {
    let sample = Sample::new(5, 4, 80, 33);
    let sums = [sample.sums()];
    let before = weights(4, 5, 2);
    for levels in [
        LevelChoice::Nearest,
        LevelChoice::Compensated,
        LevelChoice::Descent,
        LevelChoice::Relaxed,
    ] {
        let method = RoundingMethod {
            corrects_bias: true,
            ..method(levels)
        };
        let spec = spec("2", Calibrator::MinMax);
        let rounded = round_weights(&before, &[4, 5], 0, &spec, &sums, &method).unwrap();
        let change = changes(&before, &rounded.weights);
        let bias = rounded.bias_change.clone().unwrap();
        let mut total = 0.0;
        for output in 0..4 {
            let change = &change[output * 5..][..5];
            let mean: f64 = sample
                .windows
                .iter()
                .zip(&sample.residuals)
                .map(|(x, r)| {
                    let moved: f64 = x.iter().zip(change).map(|(x, d)| x * f64::from(*d)).sum();
                    r[output] - moved - f64::from(bias[output])
                })
                .sum::<f64>()
                / 80.0;
            assert!(mean.abs() < 1e-6, "{levels:?}: {mean}");
            total += sample.error(output, change, f64::from(bias[output]));
        }
        let measured = output_error(&before, &[4, 5], 0, &sums, &rounded).unwrap();
        assert!((measured / total - 1.0).abs() < 1e-5, "{measured} {total}");
    }
}

#[test]
fn groups_of_a_convolution_have_their_own_inputs() {
    let samples = [Sample::new(9, 1, 50, 3), Sample::new(9, 1, 50, 400)];
    let sums = samples.each_ref().map(Sample::sums);
    let before = weights(2, 9, 6);
    let spec = spec("3", Calibrator::Mse);
    let method = method(LevelChoice::Descent);
    let shape = [2, 1, 3, 3];
    let both = round_weights(&before, &shape, 0, &spec, &sums, &method).unwrap();
    for (group, sums) in sums.iter().enumerate() {
        let own = &before[group * 9..][..9];
        let shape = [1, 1, 3, 3];
        let one =
            round_weights(own, &shape, 0, &spec, std::slice::from_ref(sums), &method).unwrap();
        assert_eq!(
            both.weights.dequantized[group * 9..][..9],
            one.weights.dequantized
        );
    }
    // Output channels on the last axis, as in a matrix product.
    let turned: Vec<f32> = (0..9).flat_map(|k| [before[k], before[9 + k]]).collect();
    let sample = Sample::new(9, 2, 50, 3);
    let sums = [sample.sums()];
    let rows = round_weights(&before, &[2, 9], 0, &spec, &sums, &method)
        .unwrap()
        .weights;
    let columns = round_weights(&turned, &[9, 2], 1, &spec, &sums, &method)
        .unwrap()
        .weights;
    assert_eq!(rows.grids, columns.grids);
    for k in 0..9 {
        assert_eq!(rows.dequantized[k], columns.dequantized[2 * k]);
        assert_eq!(rows.dequantized[9 + k], columns.dequantized[2 * k + 1]);
    }
}

#[test]
fn inputs_that_cannot_be_used_are_refused_or_need_no_use() {
    let spec = spec("4", Calibrator::MinMax);
    let round = |sums: &WindowSums, damping: f64, levels: LevelChoice| {
        let method = RoundingMethod {
            damping,
            ..method(levels)
        };
        let sums = std::slice::from_ref(sums);
        round_weights(&[0.5, -0.25, 1.0, 0.1], &[2, 2], 0, &spec, sums, &method)
    };
    let mut same = WindowSums::new(2, 2);
    same.windows = 10.0;
    same.products = vec![4.0; 4];
    let refused = round(&same, 0.0, LevelChoice::Compensated);
    assert_eq!(refused, Err(QuantError::SingularSums));
    assert!(round(&same, 0.01, LevelChoice::Compensated).is_ok());
    let dead = WindowSums::new(2, 2);
    let levels = round(&dead, 0.01, LevelChoice::Compensated)
        .unwrap()
        .weights
        .dequantized;
    let nearest = round(&dead, 0.01, LevelChoice::Nearest)
        .unwrap()
        .weights
        .dequantized;
    assert_eq!(levels, nearest);
    let mut broken = same.clone();
    broken.products[1] = f64::NAN;
    let refused = round(&broken, 0.01, LevelChoice::Nearest);
    assert_eq!(refused, Err(QuantError::NonFiniteSums));
    let other = WindowSums::new(3, 2);
    let refused = round(&other, 0.01, LevelChoice::Compensated);
    assert!(
        matches!(refused, Err(QuantError::RoundingSums { .. })),
        "{refused:?}"
    );
}

#[test]
fn gradients_find_better_decisions_than_nearest_levels() {
    let sample = Sample::new(24, 16, 600, 5);
    let sums = [sample.sums()];
    let before = weights(16, 24, 7);
    let spec = spec("3", Calibrator::MinMax);
    let error = |levels| {
        // Fitted to the residual first, so that what is left comes from the levels.
        let method = RoundingMethod {
            refit: Some(1e-6),
            damping: 1e-6,
            ..method(levels)
        };
        let rounded = round_weights(&before, &[16, 24], 0, &spec, &sums, &method).unwrap();
        output_error(&before, &[16, 24], 0, &sums, &rounded).unwrap()
    };
    let fitted = RoundingMethod {
        refit: Some(1e-6),
        ..method(LevelChoice::Nearest)
    };
    let float = QuantSpec::weight(NumberFormat::F32);
    let fitted = round_weights(&before, &[16, 24], 0, &float, &sums, &fitted).unwrap();
    let least = output_error(&before, &[16, 24], 0, &sums, &fitted).unwrap();
    let [nearest, gptq, relaxed] = [
        LevelChoice::Nearest,
        LevelChoice::Compensated,
        LevelChoice::Relaxed,
    ]
    .map(|levels| error(levels) - least);
    assert!(relaxed < 0.8 * nearest, "{relaxed} {nearest}");
    assert!(relaxed <= gptq, "{relaxed} {gptq}");
}
