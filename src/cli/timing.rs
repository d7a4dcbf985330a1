//! Seconds of something that was run several times.

use std::time::Instant;

/// Seconds of every repeat; never empty once something was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Timing {
    seconds: Vec<f64>,
}

impl Timing {
    /// Runs `work` once more and remembers its seconds.
    pub(super) fn time<T, E>(&mut self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = Instant::now();
        let made = work()?;
        self.seconds.push(started.elapsed().as_secs_f64());
        Ok(made)
    }

    /// Seconds of every repeat, in their order.
    pub(super) fn runs(&self) -> &[f64] {
        &self.seconds
    }

    /// The shortest repeat.
    pub(super) fn best(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The middle repeat; of two in the middle their mean.
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let half = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            f64::midpoint(middle(half.saturating_sub(1)), middle(half))
        } else {
            middle(half)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_and_median_of_repeats() {
        for (seconds, best, median) in [
            (vec![3.0, 1.0, 2.0], 1.0, 2.0),
            (vec![4.0, 1.0, 2.0, 3.0], 1.0, 2.5),
            (vec![5.0], 5.0, 5.0),
        ] {
            let timing = Timing { seconds };
            assert_eq!((timing.best(), timing.median()), (best, median));
        }
    }
}
