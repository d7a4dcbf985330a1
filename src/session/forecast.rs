//! How long a sweep will take, from the speed that the float run had, and how much memory.

use super::session::{SWEEP_BATCH, Session};
use crate::engine::{Protocol, SensitivityRequest, sensitivity_bytes};
use crate::jobs::worker_count;

/// A pass forth that keeps everything, and one back, in passes of the float run.
const SCORE_PASSES: f64 = 4.0;

impl Session {
    /// Predicted seconds of a sweep; `None` until the float run has ended.
    ///
    /// Every layer and width runs what depends on the layer: with only one layer quantized that is the
    /// rest of the network, counted in MACs, else the whole of it.
    pub fn sweep_secs(&self, request: &SensitivityRequest) -> Option<f64> {
        let float_secs = self.float_secs?;
        let macs: Vec<u64> = self
            .model()?
            .layers()
            .iter()
            .map(|layer| layer.macs.unwrap_or(0))
            .collect();
        Some(float_secs * passes(&macs, request.widths.len(), request.protocol))
    }

    /// Predicted bytes that a sweep adds to the program's memory at its peak; `None` without data.
    pub fn sweep_bytes(&self, request: &SensitivityRequest) -> Option<u64> {
        let executor = &self.model()?.executor;
        let batch = self.data()?.evaluation.len().min(SWEEP_BATCH);
        Some(sensitivity_bytes(executor, request, batch, worker_count()))
    }
}

impl Session {
    /// Predicted seconds of second-order scores at so many widths; `None` until the float run has ended.
    pub fn score_secs(&self, widths: usize) -> Option<f64> {
        let data = self.data()?;
        let share = data.calibration.len() as f64 / (data.evaluation.len() as f64).max(1.0);
        Some(self.float_secs? * share * (SCORE_PASSES + widths as f64))
    }
}

/// How many passes over the whole network a sweep amounts to, the float pass included.
fn passes(macs: &[u64], widths: usize, protocol: Protocol) -> f64 {
    let total: u64 = macs.iter().sum();
    let each: f64 = match protocol {
        Protocol::OnlyOne if total > 0 => {
            let mut rest = total;
            let mut sum = 0.0;
            for layer in macs {
                sum += rest as f64 / total as f64;
                rest -= layer;
            }
            sum
        }
        _ => macs.len() as f64,
    };
    1.0 + widths as f64 * each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_runs_what_depends_on_each_layer() {
        for (macs, widths, protocol, expected) in [
            (&[1, 1][..], 1, Protocol::OnlyOne, 2.5),
            (&[3, 1], 2, Protocol::OnlyOne, 3.5),
            (&[3, 1], 2, Protocol::AllButOne, 5.0),
            (&[0, 0], 1, Protocol::OnlyOne, 3.0),
            (&[], 3, Protocol::OnlyOne, 1.0),
        ] {
            assert_eq!(passes(macs, widths, protocol), expected, "{macs:?}");
        }
    }
}
