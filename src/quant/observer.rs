//! Statistics of an activation, gathered batch by batch in fixed memory.

use super::statistics::{extremes, sums};
use super::{Histogram, Range};

/// Bins of an observer's histogram.
const BINS: usize = 2048;
/// Weight of a new batch in the moving average, as in `PyTorch`'s `MovingAverageMinMaxObserver`.
const AVERAGING_CONSTANT: f64 = 0.01;
/// Numbers that are looked at together where some of them are left out.
const BLOCK: usize = 4096;

/// Gathers what calibration needs to know of an activation.
///
/// Memory is fixed: a histogram of 2,048 bins and a few sums. NaN and infinite numbers are counted
/// and otherwise left out. The order of the numbers within a batch changes at most the last digits
/// of the two sums; the order of the batches matters for the moving average and for where the bins
/// lie.
///
/// The histogram starts on the range of the first batch. When a batch exceeds it, bins move to
/// where they are needed or merge in pairs; no count is ever split. Any result read from it is
/// therefore exact to one bin, and what was observed spans at least 1,023 bins.
///
/// ```
/// use quantscope::quant::{Observer, QuantSpec, calibrate};
/// let mut observer = Observer::new();
/// observer.observe(&[0.5, -1.0]);
/// observer.observe(&[3.0]);
/// let range = calibrate(&observer, &QuantSpec::activation("8".parse()?))?;
/// assert_eq!((range.min(), range.max()), (-1.0, 3.0));
/// # Ok::<(), quantscope::quant::QuantError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observer {
    histogram: Option<Histogram>,
    range: Option<Range>,
    average: Option<(f64, f64)>,
    batches: u64,
    count: u64,
    zeros: u64,
    non_finite: u64,
    sum: f64,
    sum_squares: f64,
}

impl Observer {
    /// An observer that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the values of one batch.
    pub fn observe(&mut self, batch: &[f32]) {
        let seen = extremes(batch);
        self.non_finite += seen.non_finite;
        let Some(range) = seen.range else { return };
        self.batches += 1;
        self.count += batch.len() as u64 - seen.non_finite;
        self.zeros += seen.zeros;
        self.average_in(range);
        let known = self.range.unwrap_or(range);
        self.range = Some(Range::from_ordered(
            known.min().min(range.min()),
            known.max().max(range.max()),
        ));
        let (min, max) = (f64::from(range.min()), f64::from(range.max()));
        let mut histogram = self
            .histogram
            .take()
            .or_else(|| Histogram::new(min, max, BINS));
        if let Some(histogram) = &mut histogram {
            histogram.cover(min, max);
            histogram.add(batch);
        }
        self.histogram = histogram;
        if seen.non_finite == 0 {
            self.add_sums(batch);
        } else {
            self.add_finite_sums(batch);
        }
    }

    fn average_in(&mut self, range: Range) {
        let (min, max) = (f64::from(range.min()), f64::from(range.max()));
        let (low, high) = self.average.unwrap_or((min, max));
        self.average = Some((
            low + AVERAGING_CONSTANT * (min - low),
            high + AVERAGING_CONSTANT * (max - high),
        ));
    }

    fn add_sums(&mut self, values: &[f32]) {
        let (sum, sum_squares) = sums(values);
        self.sum += sum;
        self.sum_squares += sum_squares;
    }

    fn add_finite_sums(&mut self, batch: &[f32]) {
        let mut finite = Vec::with_capacity(BLOCK);
        for block in batch.chunks(BLOCK) {
            finite.clear();
            finite.extend(block.iter().filter(|x| x.is_finite()));
            self.add_sums(&finite);
        }
    }

    /// The counts of all finite values; `None` before the first.
    pub fn histogram(&self) -> Option<&Histogram> {
        self.histogram.as_ref()
    }

    /// The smallest and the largest finite value; `None` before the first.
    pub fn range(&self) -> Option<Range> {
        self.range
    }

    /// The moving averages of the smallest and largest values of the batches.
    ///
    /// ```text
    /// average += 0.01 · (batch - average), starting at the first batch
    /// ```
    pub fn average_range(&self) -> Option<Range> {
        self.average
            .map(|(min, max)| Range::from_ordered(min as f32, max as f32))
    }

    /// How many batches with finite values were observed.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// How many finite values were observed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many of them were zero.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// How many NaN and infinite values were left out.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// The mean of the finite values; NaN before the first.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The standard deviation of the finite values; NaN before the first.
    pub fn std(&self) -> f64 {
        let mean = self.mean();
        (self.sum_squares / self.count as f64 - mean * mean)
            .max(0.0)
            .sqrt()
    }

    /// The sum of the squares of the finite values.
    pub fn sum_squares(&self) -> f64 {
        self.sum_squares
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statistics_cover_all_batches() {
        let mut observer = Observer::new();
        observer.observe(&[1.0, 2.0, 0.0, f32::NAN]);
        observer.observe(&[]);
        observer.observe(&[f32::INFINITY]);
        observer.observe(&[-5.0, 4.0]);
        let range = observer.range().unwrap();
        assert_eq!((range.min(), range.max()), (-5.0, 4.0));
        assert_eq!(
            (
                observer.batches(),
                observer.count(),
                observer.zeros(),
                observer.non_finite()
            ),
            (2, 5, 1, 2)
        );
        assert_eq!((observer.mean(), observer.sum_squares()), (0.4, 46.0));
        assert!(
            (observer.std() - (9.2f64 - 0.16).sqrt()).abs() < 1e-12,
            "{}",
            observer.std()
        );
        let histogram = observer.histogram().unwrap();
        assert_eq!(histogram.counts().iter().sum::<u64>(), 5);
    }

    #[test]
    fn moving_average_follows_pytorch() {
        // torch.ao.quantization.MovingAverageMinMaxObserver on the same three batches.
        let mut observer = Observer::new();
        for batch in [[-1.0, 1.0], [-2.0, 3.0], [0.0, 11.0]] {
            observer.observe(&batch);
        }
        let average = observer.average_range().unwrap();
        assert!((average.min() + 0.9999).abs() < 1e-6, "{average:?}");
        assert!((average.max() - 1.1198).abs() < 1e-6, "{average:?}");
    }

    #[test]
    fn nothing_observed_leaves_nothing_to_read() {
        let mut observer = Observer::new();
        observer.observe(&[f32::NAN; 3]);
        assert!(
            observer.range().is_none()
                && observer.histogram().is_none()
                && observer.average_range().is_none()
        );
        assert_eq!((observer.count(), observer.non_finite()), (0, 3));
    }

    proptest! {
        #[test]
        fn order_within_a_batch_does_not_matter(
            batches in prop::collection::vec(prop::collection::vec(-1e4f32..1e4, 1..200), 1..6),
        ) {
            let (mut forward, mut backward) = (Observer::new(), Observer::new());
            for batch in &batches {
                forward.observe(batch);
                backward.observe(&batch.iter().rev().copied().collect::<Vec<_>>());
            }
            prop_assert_eq!(forward.histogram(), backward.histogram());
            prop_assert_eq!(forward.range(), backward.range());
            prop_assert_eq!(forward.average_range(), backward.average_range());
            prop_assert_eq!(forward.count(), backward.count());
        }

        #[test]
        fn count_and_extremes_do_not_depend_on_the_order_of_batches(
            batches in prop::collection::vec(prop::collection::vec(-1e4f32..1e4, 1..50), 1..8),
        ) {
            let (mut forward, mut backward) = (Observer::new(), Observer::new());
            for batch in &batches { forward.observe(batch); }
            for batch in batches.iter().rev() { backward.observe(batch); }
            let total = |o: &Observer| o.histogram().unwrap().counts().iter().sum::<u64>();
            prop_assert_eq!(forward.range(), backward.range());
            prop_assert_eq!(forward.count(), total(&forward));
            prop_assert_eq!(backward.count(), total(&backward));
        }

        #[test]
        fn what_was_observed_spans_half_the_bins(
            batches in prop::collection::vec(prop::collection::vec(-1e4f32..1e4, 2..20), 1..8),
        ) {
            let mut observer = Observer::new();
            for batch in &batches { observer.observe(batch); }
            let (range, histogram) = (observer.range().unwrap(), observer.histogram().unwrap());
            let width = f64::from(range.max()) - f64::from(range.min());
            prop_assume!(width > 0.0);
            prop_assert!(width / histogram.bin_width() >= 1022.0);
        }
    }
}
