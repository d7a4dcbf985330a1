//! The current plan's weights rounded on calibration data, and the same plan without that.

use std::sync::Arc;

use super::messages::{Remedy, Severity};
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::session::Session;
use super::tuning::{Tuned, TuningMemory, TuningStage, tune_knowing};
use super::work;
use crate::engine::{Classification, Comparison, Evaluation, RoundedLayer};
use crate::jobs::JobContext;
use crate::model::LayerId;
use crate::plan::{Fingerprint, LayerPlan, Plan};

/// Plans whose counterpart without rounding is remembered.
const COUNTERPARTS: usize = 64;

/// What was taken from the calibration data for the plan.
#[derive(Debug, Default)]
pub(super) struct TuningDesk {
    /// What earlier plans on this data know; made when the ranges are known.
    memory: Option<Arc<TuningMemory>>,
    /// The last plan that was tuned.
    tuned: Option<(Fingerprint, Arc<Tuned>)>,
    /// It was told that no pair of layers can be equalized.
    warned: bool,
    /// Plans rounded to nearest, as they were measured, oldest first.
    counterparts: Vec<(Fingerprint, Counterpart)>,
}

/// What a plan without rounding on data was measured to give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counterpart {
    /// Its accuracy.
    pub metrics: Classification,
    /// Its outputs against float.
    pub comparison: Comparison,
}

/// Where the rounding of a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundingState {
    /// Nothing is taken from calibration data.
    Nearest,
    /// There is no data to round on.
    NoData,
    /// It is waited for.
    Waiting,
    /// The layer is rounded.
    Done,
    /// The layer cannot be read as windows or is too large, and is rounded to nearest.
    Unreadable,
}

impl Session {
    /// What the current plan takes from calibration data, once that is done.
    pub fn tuned(&self) -> Option<&Arc<Tuned>> {
        let (plan, tuned) = self.tuning.tuned.as_ref()?;
        (*plan == self.plan_fingerprint).then_some(tuned)
    }

    /// A layer of the current plan as it was rounded on calibration data.
    pub fn rounded_layer(&self, id: LayerId) -> Option<&RoundedLayer> {
        let rounded = self.tuned()?.rounded.as_ref()?;
        rounded.layers().get(id.index())?.as_ref()
    }

    /// Where the rounding of a layer stands.
    pub fn rounding_state(&self, id: LayerId) -> RoundingState {
        let choice = self.plan.layer(id);
        if !choice.is_some_and(LayerPlan::rounds_on_data) {
            RoundingState::Nearest
        } else if self.data.is_none() {
            RoundingState::NoData
        } else if self.rounded_layer(id).is_some() {
            RoundingState::Done
        } else if self.tuned().is_some() {
            RoundingState::Unreadable
        } else {
            RoundingState::Waiting
        }
    }

    /// What the current plan gives when its weights are rounded to nearest, once measured; `None` for a
    /// plan that does no more than that.
    pub fn counterpart(&self) -> Option<Counterpart> {
        let fingerprint = self.nearest.as_ref()?;
        let mut measured = self.history.iter();
        if let Some(entry) = measured.find(|entry| entry.fingerprint == *fingerprint) {
            return Some(Counterpart {
                metrics: entry.metrics,
                comparison: entry.comparison,
            });
        }
        let mut known = self.tuning.counterparts.iter();
        let found = known.find(|(plan, _)| plan == fingerprint)?;
        Some(found.1)
    }

    /// Rounds the plan; one that was rounded before is there at once.
    pub(super) fn start_tuning(&mut self, model: Arc<OpenModel>, data: Arc<OpenData>) {
        if self.jobs.tuning.is_running() {
            return;
        }
        let memory = self.tuning_memory(&model);
        let plan = self.plan.clone();
        self.jobs.tuning.start(&self.wake, move |context| {
            let tuned = tune_knowing(
                &memory,
                &model,
                plan,
                &data,
                false,
                &context.cancel,
                &mut |stage, done, total| show(context, stage, done, total),
            )?;
            Ok(Arc::new(tuned))
        });
    }

    /// What is known of the open model and data.
    pub(super) fn tuning_memory(&mut self, model: &OpenModel) -> Arc<TuningMemory> {
        let ranges = self.ranges.clone();
        let memory = self.tuning.memory.get_or_insert_with(|| {
            Arc::new(match ranges {
                Some(ranges) => TuningMemory::with_ranges(model, ranges),
                None => TuningMemory::default(),
            })
        });
        Arc::clone(memory)
    }

    /// Chooses the calibrator of every input by what it does to the outputs; one step of undo.
    pub(super) fn start_choosing_calibrators(&mut self) {
        let (Some(model), Some(data)) = (self.model.clone(), self.data.clone()) else {
            self.tell_with(
                Severity::Error,
                "Choose calibrators",
                "Calibrators are chosen on calibration data: open a data folder first".to_owned(),
                Remedy::ChooseData,
            );
            return;
        };
        self.halted = false;
        let memory = self.tuning_memory(&model);
        // Calibrators are chosen with float weights, so that nothing has to be rounded for it.
        let (plan, original) = (self.plan.nearest(), self.plan.clone());
        self.jobs.calibrators.start(&self.wake, move |context| {
            let tuned = tune_knowing(
                &memory,
                &model,
                plan,
                &data,
                true,
                &context.cancel,
                &mut |stage, done, total| show(context, stage, done, total),
            )?;
            let mut chosen = original;
            for (index, layer) in (0u32..).zip(tuned.plan.layers()) {
                let calibrator = layer.activation.calibrator;
                chosen.edit(&[LayerId(index)], |layer| {
                    layer.activation.calibrator = calibrator;
                });
            }
            Ok(chosen)
        });
    }

    /// Measures the plan rounded to nearest, to be shown beside it.
    pub(super) fn start_counterpart(&mut self, model: Arc<OpenModel>, data: Arc<OpenData>) {
        let plan = self.plan.nearest();
        let (ranges, reference) = (self.ranges.clone(), self.float.clone());
        self.jobs.counterpart.start(&self.wake, move |context| {
            let evaluation = work::run_counterpart(
                context,
                &model,
                &data.evaluation,
                &plan,
                ranges.as_deref(),
                reference.as_deref(),
            )?;
            Ok((plan, evaluation))
        });
    }

    pub(super) fn poll_tuning(&mut self) -> bool {
        let mut changed = false;
        if let Some(outcome) = self.jobs.tuning.outcome() {
            changed = true;
            if let Some(tuned) = self.finished("Round weights", outcome) {
                self.take_tuned(tuned);
            }
        }
        if let Some(outcome) = self.jobs.calibrators.outcome() {
            changed = true;
            if let Some(plan) = self.finished("Choose calibrators", outcome) {
                self.take_calibrators(plan);
            }
        }
        if let Some(outcome) = self.jobs.counterpart.outcome() {
            changed = true;
            if let Some((plan, evaluation)) = self.finished("Evaluate nearest", outcome) {
                self.take_counterpart(&plan, &evaluation);
            }
        }
        changed
    }

    /// The job is cleared whenever the plan changes, so what it gives is of this plan.
    fn take_tuned(&mut self, tuned: Arc<Tuned>) {
        if tuned.equalized_pairs == Some(0) && !self.tuning.warned {
            self.tuning.warned = true;
            self.tell(
                Severity::Warning,
                "Equalize",
                "Nothing was equalized: no layer passes its output to another one through Relu, LeakyRelu or pools alone, or not both of them are to be equalized".to_owned(),
            );
        }
        self.tuning.tuned = Some((self.plan_fingerprint.clone(), tuned));
        self.inspect();
    }

    fn take_calibrators(&mut self, plan: Plan) {
        if plan == self.plan {
            self.tell(
                Severity::Info,
                "Choose calibrators",
                "Every input has the calibrator that suits it best already".to_owned(),
            );
        }
        self.change_plan(plan);
    }

    fn take_counterpart(&mut self, plan: &Plan, evaluation: &Evaluation) {
        let counterpart = Counterpart {
            metrics: evaluation.plan,
            comparison: evaluation.comparison,
        };
        let known = &mut self.tuning.counterparts;
        known.push((plan.fingerprint(), counterpart));
        if known.len() > COUNTERPARTS {
            known.remove(0);
        }
    }

    /// How often something that evaluations may still hold was let go.
    pub(super) fn tuning_let_go(&self) -> u64 {
        let memory = self.tuning.memory.as_ref();
        memory.map_or(0, |memory| memory.let_go())
    }

    /// Forgets what belongs to other data.
    pub(super) fn forget_tuning(&mut self) {
        self.tuning = TuningDesk::default();
        self.jobs.tuning.clear();
        self.jobs.calibrators.clear();
        self.jobs.counterpart.clear();
    }
}

/// Tells a job's progress.
pub(super) fn show<P>(context: &JobContext<P>, stage: TuningStage, done: usize, total: usize) {
    let name = match stage {
        TuningStage::Calibrating => "Calibrating",
        TuningStage::ChoosingCalibrators => "Choosing calibrators",
        TuningStage::Rounding => "Rounding weights",
    };
    if context.progress.stage() != name {
        context.progress.start_stage(name, total as u64);
    }
    context.progress.set_done(done as u64);
}
