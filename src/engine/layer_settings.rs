//! Every layer ready to run at every width.

use super::error::RunError;
use super::executor::Executor;
use super::prepare::{PreparedLayer, PreparedPlan};
use super::ranges::Ranges;
use super::sensitivity::Subject;
use crate::jobs::CancelToken;
use crate::model::LayerId;
use crate::plan::Plan;
use crate::quant::NumberFormat;

/// What a sweep puts into the float network: one row a layer, one column a width.
#[derive(Clone, Debug)]
pub struct LayerSettings(Vec<Vec<PreparedLayer>>);

impl LayerSettings {
    /// Weights rounded to nearest, inputs with the ranges of the plan's calibrators.
    ///
    /// # Errors
    /// As [`Executor::prepare_layer`], or cancelled.
    pub fn new(
        executor: &Executor,
        plan: &Plan,
        ranges: Option<&Ranges>,
        subject: Subject,
        widths: &[NumberFormat],
        cancel: &CancelToken,
    ) -> Result<Self, RunError> {
        let mut rows = Vec::with_capacity(plan.layers().len());
        for (index, choice) in (0u32..).zip(plan.layers()) {
            cancel.check()?;
            let row: Result<Vec<PreparedLayer>, RunError> = widths
                .iter()
                .map(|width| {
                    let changed = subject.applied_to(choice, *width);
                    executor.prepare_layer(LayerId(index), &changed, ranges)
                })
                .collect();
            rows.push(row?);
        }
        Ok(Self(rows))
    }

    /// The columns of both, those of `self` first: a sweep over weights and inputs apart then runs what lies
    /// beyond a layer for both together.
    pub fn beside(mut self, other: Self) -> Self {
        for (row, other) in self.0.iter_mut().zip(other.0) {
            row.extend(other);
        }
        self
    }

    /// Settings that were made in another way, in layer order.
    pub(super) fn of_rows(rows: Vec<Vec<PreparedLayer>>) -> Self {
        Self(rows)
    }

    /// One row a layer.
    pub(super) fn rows(&self) -> &[Vec<PreparedLayer>] {
        &self.0
    }

    /// All layers at one width.
    pub(super) fn column(&self, float: &PreparedPlan, width: usize) -> PreparedPlan {
        let mut prepared = float.clone();
        for (index, row) in (0u32..).zip(&self.0) {
            if let Some(layer) = row.get(width) {
                prepared = prepared.with_layer(LayerId(index), layer.clone());
            }
        }
        prepared
    }
}
