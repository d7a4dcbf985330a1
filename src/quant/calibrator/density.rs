//! A histogram as a distribution that is even within each bin.

use crate::quant::{Histogram, Range};

/// The most bins of a distribution of magnitudes.
const MAX_MAGNITUDE_BINS: f64 = 4096.0;

/// Masses of neighbouring intervals that cover the observed range.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Density {
    /// Ends of the intervals in rising order, one more than there are masses.
    edges: Vec<f64>,
    masses: Vec<f64>,
}

impl Density {
    /// The distribution of what was observed, whose exact extremes end the first and last interval.
    pub(super) fn new(histogram: &Histogram, seen: Range) -> Self {
        let masses = histogram
            .counts()
            .iter()
            .map(|count| *count as f64)
            .collect();
        Self::within(histogram, masses, seen)
    }

    /// The distribution of what was observed, less the zeros.
    ///
    /// Zero is exact on every grid, so that its number says nothing about the grid.
    pub(super) fn without_zeros(histogram: &Histogram, seen: Range, zeros: u64) -> Self {
        let mut masses = histogram
            .counts()
            .iter()
            .map(|count| *count as f64)
            .collect::<Vec<_>>();
        let bin = (-histogram.lo() / histogram.bin_width()).max(0.0) as usize;
        // Zeros on the upper end of the histogram may count for the bin before.
        let mut left = zeros as f64;
        for bin in [Some(bin.min(masses.len() - 1)), bin.checked_sub(1)]
            .into_iter()
            .flatten()
        {
            if let Some(mass) = masses.get_mut(bin) {
                let taken = mass.min(left);
                *mass -= taken;
                left -= taken;
            }
        }
        Self::within(histogram, masses, seen)
    }

    fn within(histogram: &Histogram, masses: Vec<f64>, seen: Range) -> Self {
        let (min, max) = (f64::from(seen.min()), f64::from(seen.max()));
        let mut density = Self {
            edges: vec![min],
            masses: Vec::with_capacity(masses.len()),
        };
        let mut start = min;
        for (bin, mass) in masses.into_iter().enumerate() {
            let end = histogram.bin_start(bin + 1).clamp(min, max);
            if end > start {
                density.edges.push(end);
                density.masses.push(mass);
                start = end;
            } else if let Some(last) = density.masses.last_mut() {
                // The maximum itself may lie on the lower end of its bin.
                *last += mass;
            }
        }
        density
    }

    /// The intervals: start, end and mass of each.
    pub(super) fn intervals(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let starts = self.edges.iter().zip(self.edges.iter().skip(1));
        starts
            .zip(&self.masses)
            .map(|((start, end), mass)| (*start, *end, *mass))
    }

    /// The masses of the intervals.
    pub(super) fn masses(&self) -> &[f64] {
        &self.masses
    }

    /// The upper ends of the intervals.
    pub(super) fn ends(&self) -> &[f64] {
        self.edges.get(1..).unwrap_or_default()
    }

    /// The value with a share `q` of the mass below it.
    pub(super) fn quantile(&self, q: f64) -> f64 {
        let total = self.masses.iter().sum::<f64>();
        let (first, last) = (self.edges.first().copied(), self.edges.last().copied());
        if q <= 0.0 {
            return first.unwrap_or_default();
        }
        let mut wanted = q * total;
        for (start, end, mass) in self.intervals() {
            if wanted < mass {
                return start + (end - start) * wanted / mass;
            }
            wanted -= mass;
        }
        last.unwrap_or_default()
    }

    /// The distribution of the magnitude, in intervals of equal width that start at zero.
    pub(super) fn magnitude(&self) -> Self {
        let (min, max) = (
            self.edges.first().copied().unwrap_or(0.0),
            self.edges.last().copied().unwrap_or(0.0),
        );
        let top = max.max(-min);
        let width = (max - min) / self.masses.len().max(1) as f64;
        let bins = (top / width).ceil().clamp(1.0, MAX_MAGNITUDE_BINS);
        let edges = (0..=bins as usize).map(|i| {
            if i as f64 == bins {
                top
            } else {
                top * i as f64 / bins
            }
        });
        let edges = edges.collect::<Vec<_>>();
        let below = self.cumulative();
        let up_to = |x: f64| self.mass_below(&below, x) - self.mass_below(&below, -x);
        let sums = edges.iter().map(|edge| up_to(*edge)).collect::<Vec<_>>();
        let masses = sums
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).max(0.0))
            .collect();
        Self { edges, masses }
    }

    fn cumulative(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let mut below = vec![0.0];
        below.extend(self.masses.iter().map(|mass| {
            sum += mass;
            sum
        }));
        below
    }

    fn mass_below(&self, cumulative: &[f64], x: f64) -> f64 {
        let interval = self.edges.partition_point(|edge| *edge <= x);
        let Some(before) = interval.checked_sub(1) else {
            return 0.0;
        };
        let at =
            |values: &[f64], i: usize| values.get(i).or(values.last()).copied().unwrap_or_default();
        let (start, end) = (at(&self.edges, before), at(&self.edges, interval));
        let (low, high) = (at(cumulative, before), at(cumulative, interval));
        if end > start {
            low + (high - low) * (x - start) / (end - start)
        } else {
            high
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn density(values: &[f32], lo: f64, hi: f64, bins: usize) -> Density {
        let mut histogram = Histogram::new(lo, hi, bins).unwrap();
        histogram.add(values);
        let min = values.iter().copied().fold(f32::MAX, f32::min);
        let max = values.iter().copied().fold(f32::MIN, f32::max);
        Density::new(&histogram, Range::new(min, max).unwrap())
    }

    #[test]
    fn intervals_end_at_the_extremes() {
        let density = density(&[-1.5, 0.5, 0.5, 2.5], -4.0, 4.0, 8);
        let intervals = density.intervals().collect::<Vec<_>>();
        assert_eq!(
            intervals,
            [
                (-1.5, -1.0, 1.0),
                (-1.0, 0.0, 0.0),
                (0.0, 1.0, 2.0),
                (1.0, 2.0, 0.0),
                (2.0, 2.5, 1.0)
            ]
        );
        assert_eq!(
            [0.0, 0.25, 0.5, 0.75, 0.875, 1.0].map(|q| density.quantile(q)),
            [-1.5, 0.0, 0.5, 2.0, 2.25, 2.5]
        );
    }

    #[test]
    fn a_maximum_on_an_edge_is_kept() {
        let density = density(&[0.5, 2.0, 2.0], 0.0, 4.0, 4);
        assert_eq!(
            density.intervals().collect::<Vec<_>>(),
            [(0.5, 1.0, 1.0), (1.0, 2.0, 2.0)]
        );
    }

    #[test]
    fn magnitudes_fold_both_sides() {
        let density = density(&[-2.0, -1.5, 0.5, 1.5, 2.0, -0.5], -2.0, 2.0, 4);
        let magnitude = density.magnitude();
        assert_eq!(
            magnitude.intervals().collect::<Vec<_>>(),
            [(0.0, 1.0, 2.0), (1.0, 2.0, 4.0)]
        );
    }

    #[test]
    fn zeros_can_be_left_out() {
        let values = [0.0, 0.0, 0.0, 0.2, 1.0];
        let mut histogram = Histogram::new(0.0, 1.0, 4).unwrap();
        histogram.add(&values);
        let density = Density::without_zeros(&histogram, Range::new(0.0, 1.0).unwrap(), 3);
        assert_eq!(density.masses(), [1.0, 0.0, 0.0, 1.0]);
    }
}
