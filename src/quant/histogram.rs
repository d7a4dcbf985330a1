//! Counts of numbers in bins of equal width.

use serde::{Deserialize, Serialize};

use super::fake_quantize::with_widest_vectors;
use super::statistics::all_finite;

/// The most bins of a histogram.
const MAX_BINS: usize = 1 << 20;
/// Numbers whose bins are computed side by side.
const BLOCK: usize = 256;

/// Counts of numbers in bins of equal width over `[lo, hi]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawHistogram", into = "RawHistogram")]
pub struct Histogram {
    lo: f64,
    hi: f64,
    counts: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHistogram {
    lo: f64,
    hi: f64,
    counts: Vec<u64>,
}

impl Histogram {
    /// An empty histogram.
    ///
    /// `None` for an end that is not finite, for `lo > hi`, without bins and beyond 2^20 bins.
    pub fn new(lo: f64, hi: f64, bins: usize) -> Option<Self> {
        let valid = lo.is_finite() && hi.is_finite() && lo <= hi && (1..=MAX_BINS).contains(&bins);
        valid.then(|| Self {
            lo,
            hi,
            counts: vec![0; bins],
        })
    }

    /// The lower end of the first bin.
    pub fn lo(&self) -> f64 {
        self.lo
    }

    /// The upper end of the last bin.
    pub fn hi(&self) -> f64 {
        self.hi
    }

    /// How many numbers fell into each bin.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The width of a bin; 0 where all numbers are equal.
    pub fn bin_width(&self) -> f64 {
        (self.hi - self.lo) / self.counts.len() as f64
    }

    /// The lower end of a bin.
    pub fn bin_start(&self, bin: usize) -> f64 {
        self.lo + bin as f64 * self.bin_width()
    }

    /// The same counts with so many neighbouring bins as one; the last bin may reach beyond the end.
    pub fn merged(&self, neighbours: usize) -> Self {
        let neighbours = neighbours.max(1);
        let counts: Vec<u64> = self
            .counts
            .chunks(neighbours)
            .map(|bins| bins.iter().sum())
            .collect();
        Self {
            lo: self.lo,
            hi: self.lo + self.bin_width() * (neighbours * counts.len()) as f64,
            counts,
        }
    }

    /// Counts the finite numbers; those beyond the ends go into the first or last bin.
    pub fn add(&mut self, values: &[f32]) {
        let (first, per_width) = (self.lo, self.bins_per_unit());
        let last = (self.counts.len() - 1) as f64;
        let counts = self.counts.as_mut_slice();
        with_widest_vectors(
            #[inline(always)]
            move || {
                let mut bins = [0u32; BLOCK];
                for block in values.chunks(BLOCK) {
                    for (bin, x) in bins.iter_mut().zip(block) {
                        let place = (f64::from(*x) - first) * per_width;
                        let place = if place > last { last } else { place };
                        *bin = if place > 0.0 { place as u32 } else { 0 };
                    }
                    let finite = all_finite(block);
                    for (bin, x) in bins.iter().zip(block) {
                        if let Some(count) = counts.get_mut(*bin as usize)
                            && (finite || x.is_finite())
                        {
                            *count += 1;
                        }
                    }
                }
            },
        );
    }

    fn bins_per_unit(&self) -> f64 {
        let width = self.bin_width();
        if width > 0.0 { 1.0 / width } else { 0.0 }
    }

    /// Widens the histogram until it holds `[min, max]`, without splitting the count of any bin.
    ///
    /// Empty bins at one end move to the other. When they do not suffice, neighbouring bins merge
    /// in pairs, which doubles the width of all. What has been counted then still spans at least
    /// half the bins, less one.
    pub(super) fn cover(&mut self, min: f64, max: f64) {
        if self.lo <= min && max <= self.hi {
            return;
        }
        if self.lo == self.hi {
            self.spread(min, max);
            return;
        }
        loop {
            let width = self.bin_width();
            let below = ((min - self.lo) / width).floor();
            let above = ((max - self.lo) / width).ceil() - 1.0;
            let first = below.min(self.first_used() as f64);
            let last = above.max(self.last_used() as f64);
            let spare = self.counts.len() as f64 - (last - first + 1.0);
            if spare >= 0.0 {
                // What is spare goes to the side that grew, since it may grow again.
                let share = match (min < self.lo, max > self.hi) {
                    (true, true) => (spare / 2.0).floor(),
                    (true, false) => spare,
                    (false, _) => 0.0,
                };
                self.shift((first - share) as i64);
                return;
            }
            self.merge_pairs();
        }
    }

    /// Gives a width to a histogram of equal numbers.
    fn spread(&mut self, min: f64, max: f64) {
        let (value, count) = (self.lo, self.counts.iter().sum::<u64>());
        self.lo = value.min(min);
        self.hi = value.max(max);
        self.counts.fill(0);
        let bin = ((value - self.lo) * self.bins_per_unit()) as usize;
        let last = self.counts.len() - 1;
        if let Some(slot) = self.counts.get_mut(bin.min(last)) {
            *slot = count;
        }
    }

    fn first_used(&self) -> usize {
        self.counts.iter().position(|c| *c > 0).unwrap_or(0)
    }

    fn last_used(&self) -> usize {
        self.counts.iter().rposition(|c| *c > 0).unwrap_or(0)
    }

    /// Makes bin `first` the first one; the bins that fall off are empty.
    fn shift(&mut self, first: i64) {
        let width = self.bin_width();
        let bins = self.counts.len();
        let by = usize::try_from(first.unsigned_abs()).unwrap_or(bins) % bins;
        if first >= 0 {
            self.counts.rotate_left(by);
        } else {
            self.counts.rotate_right(by);
        }
        self.lo += first as f64 * width;
        self.hi = self.lo + bins as f64 * width;
    }

    fn merge_pairs(&mut self) {
        let merged = self
            .counts
            .chunks(2)
            .map(|pair| pair.iter().sum::<u64>())
            .collect::<Vec<_>>();
        self.counts.fill(0);
        for (slot, count) in self.counts.iter_mut().zip(merged) {
            *slot = count;
        }
        self.hi = self.lo + 2.0 * (self.hi - self.lo);
    }
}

impl TryFrom<RawHistogram> for Histogram {
    type Error = &'static str;

    fn try_from(raw: RawHistogram) -> Result<Self, Self::Error> {
        let empty = Self::new(raw.lo, raw.hi, raw.counts.len());
        let empty = empty.ok_or("a histogram needs finite ends in order, and 1 to 2^20 bins")?;
        Ok(Self {
            counts: raw.counts,
            ..empty
        })
    }
}

impl From<Histogram> for RawHistogram {
    fn from(histogram: Histogram) -> Self {
        let Histogram { lo, hi, counts } = histogram;
        Self { lo, hi, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_into_their_bins() {
        let mut histogram = Histogram::new(-1.0, 1.0, 4).unwrap();
        histogram.add(&[
            -1.0,
            -0.51,
            -0.5,
            -0.0,
            0.0,
            0.49,
            0.5,
            0.99,
            1.0,
            7.0,
            -7.0,
            f32::NAN,
            f32::INFINITY,
        ]);
        assert_eq!(histogram.counts(), [3, 1, 3, 4]);
        assert_eq!((histogram.bin_width(), histogram.bin_start(3)), (0.5, 0.5));
    }

    #[test]
    fn equal_numbers_have_one_bin() {
        let mut histogram = Histogram::new(2.0, 2.0, 4).unwrap();
        histogram.add(&[2.0; 9]);
        assert_eq!(histogram.counts(), [9, 0, 0, 0]);
        histogram.cover(0.0, 2.0);
        assert_eq!(
            (histogram.counts(), histogram.lo(), histogram.hi()),
            ([0, 0, 0, 9].as_slice(), 0.0, 2.0)
        );
    }

    #[test]
    fn growing_keeps_every_count_in_its_place() {
        let batches: [&[f32]; 6] = [
            &[0.1, 0.9, 0.5],
            &[1.5, 0.2],
            &[-0.3, 0.0],
            &[40.0, -3.0],
            &[-1e6],
            &[1e9, 2e9],
        ];
        let mut histogram = Histogram::new(0.1f32.into(), 0.9f32.into(), 64).unwrap();
        let mut seen = Vec::new();
        for batch in batches {
            let min = batch.iter().copied().fold(f32::MAX, f32::min);
            let max = batch.iter().copied().fold(f32::MIN, f32::max);
            histogram.cover(min.into(), max.into());
            histogram.add(batch);
            seen.extend_from_slice(batch);
            assert!(
                histogram.lo() <= min.into() && histogram.hi() >= max.into(),
                "{histogram:?}"
            );
            let mut fresh = Histogram {
                counts: vec![0; 64],
                ..histogram.clone()
            };
            fresh.add(&seen);
            // A number on the upper end counts for the last bin and stays in it when bins merge.
            let mut missing = 0i64;
            for (grown, fresh) in histogram.counts.iter().zip(&fresh.counts) {
                missing += *grown as i64 - *fresh as i64;
                assert!((0..=1).contains(&missing), "after {batch:?}");
            }
            assert_eq!(missing, 0, "after {batch:?}");
            assert!(
                histogram.last_used() - histogram.first_used() >= 30,
                "{histogram:?}"
            );
        }
    }

    #[test]
    fn untrusted_histograms_are_checked() {
        for json in [
            r#"{"lo":1.0,"hi":0.0,"counts":[1]}"#,
            r#"{"lo":0.0,"hi":1.0,"counts":[]}"#,
        ] {
            assert!(serde_json::from_str::<Histogram>(json).is_err(), "{json}");
        }
        let histogram = Histogram::new(0.0, 1.0, 3).unwrap();
        let json = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&json).unwrap(), histogram);
    }
}
