//! What is known of the current plan: measured, or predicted until it is.

use super::session::Session;
use crate::engine::{Known, Predicted, predict_sqnr_db, predict_top1};
use crate::quant::NumberFormat;
use crate::search::Prediction;

/// What a number of the current plan stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Measured on `samples` of `total` samples.
    Measured {
        /// Samples so far.
        samples: usize,
        /// Samples in the end.
        total: usize,
    },
    /// Predicted from the effect of single weights and inputs, of which `known` of `parts` are known.
    Predicted {
        /// Quantized weights and inputs whose effect is known.
        known: usize,
        /// All quantized weights and inputs.
        parts: usize,
    },
}

/// A number of the current plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// The number.
    pub value: f64,
    /// What it stands on.
    pub basis: Basis,
}

impl Standing {
    /// Whether the number was not measured.
    pub fn is_predicted(&self) -> bool {
        matches!(self.basis, Basis::Predicted { .. })
    }
}

impl From<Predicted> for Standing {
    fn from(predicted: Predicted) -> Self {
        Self {
            value: predicted.value,
            basis: Basis::Predicted {
                known: predicted.known,
                parts: predicted.parts,
            },
        }
    }
}

impl Session {
    /// Share of right answers of the current plan; predicted as long as no sample is measured.
    pub fn plan_top1(&self) -> Option<Standing> {
        if let Some(basis) = self.measured() {
            let value = self.result()?.evaluation.plan.top1()?;
            return Some(Standing { value, basis });
        }
        let float = self.float.as_ref()?.metrics.top1()?;
        if let Some(share) = self.searched(|prediction| prediction.top1) {
            return Some(share);
        }
        if self.plan.is_tuned() {
            // Sweeps are measured on weights that are rounded to nearest.
            return None;
        }
        let sensitivity = Known {
            found: self.sensitivity.as_ref()?,
            plan: &self.sensitivity_plan,
        };
        predict_top1(&self.plan, float, &sensitivity).map(Standing::from)
    }

    /// SQNR of the outputs of the current plan in dB; predicted as long as no sample is measured.
    pub fn plan_sqnr_db(&self) -> Option<Standing> {
        if let Some(basis) = self.measured() {
            let value = self.result()?.evaluation.comparison.sqnr_db()?;
            return Some(Standing { value, basis });
        }
        self.data.as_ref()?;
        if let Some(db) = self.searched(|prediction| prediction.sqnr_db) {
            return Some(db);
        }
        if self.plan.is_tuned() {
            return None;
        }
        let sensitivity = self.sensitivity.as_ref().map(|found| Known {
            found,
            plan: &self.sensitivity_plan,
        });
        let local_errors = self.local_errors.as_ref().map(|found| Known {
            found,
            plan: &self.local_errors_plan,
        });
        predict_sqnr_db(&self.plan, sensitivity.as_ref(), local_errors.as_ref()).map(Standing::from)
    }

    /// What the last search expects of the current plan.
    fn searched(&self, of: fn(&Prediction) -> Option<f64>) -> Option<Standing> {
        let value = of(&self.search_prediction()?)?;
        let widths = self.plan.widths();
        let quantized = |format: NumberFormat| usize::from(format != NumberFormat::F32);
        let layers = widths.iter();
        let parts = layers
            .map(|layer| quantized(layer.weight) + quantized(layer.activation))
            .sum();
        let known = parts;
        let basis = Basis::Predicted { known, parts };
        Some(Standing { value, basis })
    }

    /// How far the current plan is measured; `None` before the first sample.
    fn measured(&self) -> Option<Basis> {
        let evaluation = &self.result()?.evaluation;
        (evaluation.samples > 0).then_some(Basis::Measured {
            samples: evaluation.samples,
            total: evaluation.total,
        })
    }
}
