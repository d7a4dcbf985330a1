//! From what an observer has seen to the range of a grid.

mod density;
mod entropy;
mod mse;

use self::density::Density;
use super::{
    Calibrator, Granularity, Grid, NumberFormat, Observer, QuantError, QuantSpec, Range, Scheme,
};

/// Finds the range of an activation's grid.
///
/// A range given by hand comes back as it is. All others contain zero and do not exceed what was
/// observed, itself widened to zero. The floating-point formats have no use for a range and get
/// the observed one. The calibrators:
/// - `minmax`: the smallest and largest value.
/// - `moving-average`: their averages over the batches, see [`Observer::average_range`].
/// - `percentile:P`: the range that holds `P` percent of the values, from the histogram, linear
///   within a bin. The symmetric scheme takes the percentile of the magnitude; the asymmetric one
///   cuts half of the rest off each side, or all of it off the one side there is.
/// - `mse`: the range with the least expected squared error of the grid that it gives.
/// - `entropy`: the range with the least Kullback-Leibler divergence between the histogram and its
///   quantized form.
///
/// # Errors
/// [`QuantError::NothingObserved`] without a finite value, [`QuantError::Percentile`], and
/// [`QuantError::SymmetricOneBit`] where `mse` is asked for a grid that does not exist.
pub fn calibrate(observer: &Observer, spec: &QuantSpec) -> Result<Range, QuantError> {
    if let Some(range) = spec.range_override {
        return Ok(range);
    }
    spec.calibrator.validate()?;
    let (Some(seen), Some(histogram)) = (observer.range(), observer.histogram()) else {
        return Err(QuantError::NothingObserved);
    };
    let full = seen.widened_to_zero();
    let NumberFormat::Int(bits) = spec.format else {
        return Ok(full);
    };
    if seen.min() == seen.max() {
        return Ok(full);
    }
    let density = || Density::new(histogram, seen);
    let without_zeros = || Density::without_zeros(histogram, seen, observer.zeros());
    let range = match spec.calibrator {
        Calibrator::MinMax => full,
        Calibrator::MovingAverage => observer.average_range().unwrap_or(full),
        Calibrator::Percentile(p) => percentile_range(&density(), full, spec.scheme, p),
        Calibrator::Mse => mse::least_squares_range(&without_zeros(), full, |range| {
            affine_grid(spec.scheme, range, bits)
        })?,
        Calibrator::Entropy => {
            entropy::least_divergence_range(&without_zeros(), full, spec.scheme, bits)
        }
    };
    let inside = |end: f32| end.clamp(full.min(), full.max());
    Ok(Range::from_ordered(inside(range.min()), inside(range.max())).widened_to_zero())
}

/// The grid of an activation.
///
/// # Errors
/// [`QuantError::SymmetricOneBit`] for the symmetric scheme at 1 bit.
pub(super) fn affine_grid(
    scheme: Scheme,
    range: Range,
    bits: super::BitWidth,
) -> Result<Grid, QuantError> {
    match scheme {
        Scheme::Asymmetric => Ok(Grid::asymmetric(range, bits)),
        Scheme::Symmetric => Grid::symmetric_activation(range, bits),
    }
}

/// Refuses a granularity that activations do not have.
pub(super) fn check_granularity(granularity: Granularity) -> Result<(), QuantError> {
    if granularity == Granularity::PerTensor {
        Ok(())
    } else {
        Err(QuantError::ActivationGranularity {
            granularity: granularity.to_string(),
        })
    }
}

fn percentile_range(density: &Density, full: Range, scheme: Scheme, percentile: f32) -> Range {
    let outside = 1.0 - f64::from(percentile) / 100.0;
    let (low, high) = match scheme {
        Scheme::Symmetric => {
            let top = density.magnitude().quantile(1.0 - outside);
            (-top, top)
        }
        Scheme::Asymmetric if full.min() == 0.0 => (0.0, density.quantile(1.0 - outside)),
        Scheme::Asymmetric if full.max() == 0.0 => (density.quantile(outside), 0.0),
        Scheme::Asymmetric => (
            density.quantile(outside / 2.0),
            density.quantile(1.0 - outside / 2.0),
        ),
    };
    Range::from_ordered((low as f32).min(0.0), (high as f32).max(0.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sum of uniform numbers: nearly normal, mean 0, deviation 1, the same on every run.
    fn normal(len: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..len)
            .map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0)
            .collect()
    }

    fn observe(values: &[f32]) -> Observer {
        let mut observer = Observer::new();
        for batch in values.chunks(1000) {
            observer.observe(batch);
        }
        observer
    }

    fn spec(scheme: Scheme, calibrator: Calibrator, bits: u8) -> QuantSpec {
        QuantSpec {
            scheme,
            calibrator,
            ..QuantSpec::activation(NumberFormat::int(bits).unwrap())
        }
    }

    fn noise(values: &[f32], spec: &QuantSpec, range: Range) -> f64 {
        let NumberFormat::Int(bits) = spec.format else {
            return 0.0;
        };
        affine_grid(spec.scheme, range, bits)
            .unwrap()
            .measure(values)
            .noise
    }

    const ALL: [Calibrator; 5] = [
        Calibrator::MinMax,
        Calibrator::MovingAverage,
        Calibrator::Percentile(99.0),
        Calibrator::Mse,
        Calibrator::Entropy,
    ];

    #[test]
    fn minmax_is_exact_and_contains_zero() {
        for (values, min, max) in [
            (vec![-0.3, 0.2, 5.1], -0.3, 5.1),
            (vec![2.0, 3.0], 0.0, 3.0),
            (vec![-4.0, -2.0], -4.0, 0.0),
        ] {
            let range = calibrate(
                &observe(&values),
                &spec(Scheme::Asymmetric, Calibrator::MinMax, 8),
            )
            .unwrap();
            assert_eq!((range.min(), range.max()), (min, max));
        }
    }

    #[test]
    fn percentiles_cut_off_their_share() {
        let values = normal(50_000);
        let positive = values.iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
        let negative = values.iter().map(|x| x.min(0.0)).collect::<Vec<_>>();
        for p in [99.99f32, 99.9, 99.0, 90.0, 60.0] {
            let outside = 1.0 - f64::from(p) / 100.0;
            let check = |scheme, values: &[f32], below: f64, above: f64| {
                let range = calibrate(
                    &observe(values),
                    &spec(scheme, Calibrator::Percentile(p), 8),
                )
                .unwrap();
                let share = |f: &dyn Fn(f32) -> bool| {
                    values.iter().filter(|x| f(**x)).count() as f64 / values.len() as f64
                };
                for (actual, expected) in [
                    (share(&|x| x < range.min()), below),
                    (share(&|x| x > range.max()), above),
                ] {
                    let close = (actual - expected).abs() <= 5e-5 + 0.03 * outside;
                    assert!(close, "{p} {scheme}: {actual} is cut off, not {expected}");
                }
            };
            check(Scheme::Asymmetric, &values, outside / 2.0, outside / 2.0);
            check(Scheme::Symmetric, &values, outside / 2.0, outside / 2.0);
            for scheme in [Scheme::Asymmetric, Scheme::Symmetric] {
                check(scheme, &positive, 0.0, outside);
                check(scheme, &negative, outside, 0.0);
            }
        }
        let observer = observe(&values);
        let whole = calibrate(
            &observer,
            &spec(Scheme::Asymmetric, Calibrator::Percentile(100.0), 8),
        );
        assert_eq!(whole.ok(), observer.range());
    }

    #[test]
    fn mse_of_a_normal_is_at_the_published_clipping() {
        // Optimal clipping of a normal distribution in deviations: Banner et al., Post training
        // 4-bit quantization of convolutional networks (2019): 1.71 at 2 bits, 2.15 at 3, 2.55 at 4.
        // Their grid has 2^b levels, as the asymmetric one has, but no rounding of the ends.
        let observer = observe(&normal(200_000));
        for (bits, clipping) in [(3, 2.15f32), (4, 2.55)] {
            let range =
                calibrate(&observer, &spec(Scheme::Asymmetric, Calibrator::Mse, bits)).unwrap();
            let half_width = (range.max() - range.min()) / 2.0;
            assert!(
                (half_width - clipping).abs() < 0.35,
                "{bits} bits: {range:?}"
            );
        }
    }

    #[test]
    fn mse_finds_less_error_than_the_others() {
        let mut two_sided = normal(60_000);
        two_sided[17] = 20.0;
        let relu = two_sided.iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
        let shifted = two_sided.iter().map(|x| x + 2.0).collect::<Vec<_>>();
        for (name, values) in [
            ("two-sided", &two_sided),
            ("relu", &relu),
            ("shifted", &shifted),
        ] {
            let observer = observe(values);
            for scheme in [Scheme::Symmetric, Scheme::Asymmetric] {
                for bits in [2, 3, 4, 6, 8, 12] {
                    let of = |calibrator| {
                        let spec = spec(scheme, calibrator, bits);
                        noise(values, &spec, calibrate(&observer, &spec).unwrap())
                    };
                    let least = of(Calibrator::Mse);
                    for other in ALL {
                        assert!(
                            least <= of(other) * 1.02,
                            "{name} {scheme} {bits} bits: {least} against {other} {}",
                            of(other)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn entropy_clips_an_outlier_and_keeps_a_plain_range() {
        let mut values = normal(60_000);
        let clean = observe(&values);
        values[17] = 60.0;
        let dirty = observe(&values);
        for scheme in [Scheme::Symmetric, Scheme::Asymmetric] {
            let spec = spec(scheme, Calibrator::Entropy, 8);
            let clipped = calibrate(&dirty, &spec).unwrap();
            assert!(
                clipped.max() < 12.0 && clipped.max() > 2.0,
                "{scheme} {clipped:?}"
            );
            let kept = calibrate(&clean, &spec).unwrap();
            assert!(kept.max_abs() > 2.5, "{scheme} {kept:?}");
        }
        // More levels than bins lose nothing, so nothing is clipped.
        let wide = calibrate(&dirty, &spec(Scheme::Asymmetric, Calibrator::Entropy, 16)).unwrap();
        assert_eq!(wide.max(), 60.0);
    }

    #[test]
    fn special_requests() {
        let empty = Observer::new();
        let plain = spec(Scheme::Asymmetric, Calibrator::MinMax, 8);
        assert_eq!(calibrate(&empty, &plain), Err(QuantError::NothingObserved));
        let by_hand = QuantSpec {
            range_override: Range::new(1.0, 2.0).ok(),
            ..plain
        };
        assert_eq!(calibrate(&empty, &by_hand).ok(), by_hand.range_override);
        let one_bit = spec(Scheme::Symmetric, Calibrator::Mse, 1);
        assert_eq!(
            calibrate(&observe(&[1.0, 2.0]), &one_bit),
            Err(QuantError::SymmetricOneBit)
        );
        let percentile = spec(Scheme::Symmetric, Calibrator::Percentile(f32::NAN), 8);
        assert!(calibrate(&observe(&[1.0, 2.0]), &percentile).is_err());
        for calibrator in ALL {
            for (value, min, max) in [(0.0, 0.0, 0.0), (3.0, 0.0, 3.0), (-3.0, -3.0, 0.0)] {
                let range = calibrate(
                    &observe(&[value; 5]),
                    &spec(Scheme::Asymmetric, calibrator, 4),
                )
                .unwrap();
                assert_eq!((range.min(), range.max()), (min, max), "{calibrator}");
            }
            // Far from zero, the histogram has its bins where the values are.
            let far = observe(&(0..5000).map(|i| 1e4 + i as f32 * 1e-3).collect::<Vec<_>>());
            let range = calibrate(&far, &spec(Scheme::Asymmetric, calibrator, 4)).unwrap();
            assert!(
                range.min() == 0.0 && range.max() > 9_000.0,
                "{calibrator} {range:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn ranges_contain_zero_and_stay_within_the_observed(
            batches in prop::collection::vec(prop::collection::vec(-1e3f32..1e3, 1..60), 1..5),
            symmetric in any::<bool>(), bits in 2..=16u8, choice in 0..5usize, shift in -2e3f32..2e3,
        ) {
            let mut observer = Observer::new();
            for batch in &batches {
                observer.observe(&batch.iter().map(|x| x + shift).collect::<Vec<_>>());
            }
            let scheme = if symmetric { Scheme::Symmetric } else { Scheme::Asymmetric };
            let range = calibrate(&observer, &spec(scheme, ALL[choice], bits)).unwrap();
            let full = observer.range().unwrap().widened_to_zero();
            prop_assert!(range.min() <= 0.0 && range.max() >= 0.0, "{:?}", range);
            prop_assert!(full.min() <= range.min() && range.max() <= full.max(), "{:?} {:?}", range, full);
        }
    }
}
