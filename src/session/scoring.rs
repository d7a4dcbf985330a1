//! Sweeps that go on from what is known, and the cheap scores beside them.

use super::messages::{Remedy, Severity};
use super::session::{SWEEP_BATCH, Session};
use super::sweep_store::SweepKey;
use super::work;
use crate::engine::{
    Screens, SecondOrder, Sensitivity, SensitivityRequest, Subject, screen_weights, second_order,
};
use crate::jobs::JobError;
use crate::plan::Plan;
use crate::quant::NumberFormat;

/// Scores by gradients, or why there are none.
#[derive(Clone, Debug, PartialEq)]
pub enum Scored {
    /// The scores, as far as they are.
    Found(SecondOrder),
    /// The reason.
    Unavailable(String),
}

/// What gradients and weights say of the layers, and for which plan.
#[derive(Debug)]
pub(super) struct Scoring {
    pub(super) screens: Option<Screens>,
    /// The plan whose schemes the screens are for.
    screens_plan: Plan,
    pub(super) scored: Option<Scored>,
    scored_plan: Plan,
    /// What the running sweep belongs to.
    pub(super) sweep_key: Option<SweepKey>,
}

impl Default for Scoring {
    fn default() -> Self {
        let nothing = Plan::from_layers(Vec::new());
        Self {
            screens: None,
            screens_plan: nothing.clone(),
            scored: None,
            scored_plan: nothing,
            sweep_key: None,
        }
    }
}

impl Session {
    /// What the weights alone say under the schemes of the plan; known soon after a model has opened.
    pub fn screens(&self) -> Option<&Screens> {
        self.scoring.screens.as_ref()
    }

    /// The second-order scores, as far as they are, or why there are none; `None` before they are asked
    /// for.
    pub fn second_order(&self) -> Option<&Scored> {
        self.scoring.scored.as_ref()
    }

    pub(super) fn run_sensitivity(&mut self, request: &SensitivityRequest) {
        let (Some(model), Some(data)) = (self.model.clone(), self.data.clone()) else {
            self.tell_with(
                Severity::Error,
                "Sensitivity",
                "Open a model and choose a dataset folder first".to_owned(),
                Remedy::ChooseData,
            );
            return;
        };
        if self.lacks_ranges(request.subject, "Sensitivity") {
            return;
        }
        self.keep_sweep();
        let (plan, ranges) = (self.plan.clone(), self.ranges.clone());
        let batches = data.evaluation.in_batches_of(SWEEP_BATCH);
        let key = SweepKey::new(request, &plan, &data.fingerprint, &batches);
        let known = self.sweeps.known(&key, request, model.layers());
        self.sensitivity = (known.samples > 0).then(|| known.clone());
        self.sensitivity_plan = plan.clone();
        self.scoring.sweep_key = Some(key);
        self.jobs.sensitivity.start(&self.wake, move |context| {
            work::run_sensitivity(context, &model, &batches, &plan, ranges.as_deref(), known)
        });
        self.let_urgent_work_pass();
    }

    /// Puts what the last sweep has measured to what is kept.
    pub(super) fn keep_sweep(&mut self) {
        if let (Some(key), Some(sweep), Some(model)) =
            (&self.scoring.sweep_key, &self.sensitivity, &self.model)
        {
            self.sweeps.keep(key, sweep, model.layers());
        }
    }

    /// Shows the newest kept sweep that belongs to the open data and the schemes of the plan.
    pub(super) fn show_kept_sweep(&mut self) {
        let (Some(model), Some(data)) = (&self.model, &self.data) else {
            return;
        };
        let newest = self
            .sweeps
            .newest(&data.fingerprint, &self.plan, model.layers());
        if let Some(sweep) = newest {
            self.sensitivity_plan = self.plan.clone();
            self.sensitivity = Some(sweep);
        }
    }

    pub(super) fn run_second_order(&mut self, subject: Subject, widths: Vec<NumberFormat>) {
        let (Some(model), Some(data)) = (self.model.clone(), self.data.clone()) else {
            self.tell_with(
                Severity::Error,
                "Second-order score",
                "Open a model and choose a dataset folder first".to_owned(),
                Remedy::ChooseData,
            );
            return;
        };
        if self.lacks_ranges(subject, "Second-order score") {
            return;
        }
        let (plan, ranges) = (self.plan.clone(), self.ranges.clone());
        self.scoring.scored = None;
        self.scoring.scored_plan = plan.clone();
        self.jobs.second_order.start(&self.wake, move |context| {
            let batches = data.calibration.in_batches_of(2 * SWEEP_BATCH);
            context.progress.start_stage("", batches.len() as u64);
            Ok(second_order(
                &model.executor,
                &plan,
                ranges.as_deref(),
                subject,
                &widths,
                &batches.stopped_by(&context.cancel),
                &context.cancel,
                &mut |so_far| {
                    context.progress.set_done(so_far.samples as u64);
                    context.publish(so_far.clone());
                },
            )?)
        });
        self.let_urgent_work_pass();
    }

    fn lacks_ranges(&mut self, subject: Subject, title: &str) -> bool {
        let lacks = subject != Subject::Weights && self.ranges.is_none();
        if lacks {
            self.tell_with(
                Severity::Error,
                title,
                "Activations need ranges: wait until calibration has ended, or press Run"
                    .to_owned(),
                Remedy::RunAgain,
            );
        }
        lacks
    }

    /// Screens the weights under the schemes of the plan, unless that is done.
    pub(super) fn screen(&mut self) {
        let Some(model) = self.model.clone() else {
            return;
        };
        let mut layers = self
            .plan
            .layers()
            .iter()
            .zip(self.scoring.screens_plan.layers());
        let same = self.plan.layers().len() == self.scoring.screens_plan.layers().len()
            && layers.all(|(now, then)| now.weight.same_but_format(&then.weight));
        if same {
            return;
        }
        let plan = self.plan.clone();
        self.scoring.screens = None;
        self.scoring.screens_plan = plan.clone();
        self.jobs.screens.start(&self.wake, move |context| {
            Ok(screen_weights(
                model.graph(),
                model.layers(),
                &plan,
                &Self::screening_widths(),
                &context.cancel,
            )?)
        });
    }

    /// Scores of other schemes than the plan's would be stale.
    pub(super) fn forget_scores_of_other_schemes(&mut self) {
        let mut layers = self
            .plan
            .layers()
            .iter()
            .zip(self.scoring.scored_plan.layers());
        let same = layers.all(|(now, then)| {
            now.weight.same_but_format(&then.weight)
                && now.activation.same_but_format(&then.activation)
        });
        if !same {
            self.scoring.scored = None;
            self.jobs.second_order.clear();
        }
    }

    /// Forgets everything of the model that was open.
    pub(super) fn forget_scores(&mut self) {
        self.scoring = Scoring::default();
        self.jobs.second_order.clear();
        self.jobs.screens.clear();
    }

    pub(super) fn poll_scores(&mut self) -> bool {
        let mut changed = false;
        if let Some(outcome) = self.jobs.screens.outcome() {
            changed = true;
            // A weight that cannot be quantized is reported where it is used.
            self.scoring.screens = outcome.ok();
        }
        if let Some(partial) = self.jobs.second_order.partial() {
            self.scoring.scored = Some(Scored::Found(partial));
            changed = true;
        }
        if let Some(outcome) = self.jobs.second_order.outcome() {
            changed = true;
            match outcome {
                Ok(found) => self.scoring.scored = Some(Scored::Found(found)),
                Err(JobError::Cancelled) => {}
                Err(error) => {
                    self.scoring.scored = Some(Scored::Unavailable(error.to_string()));
                }
            }
        }
        changed | self.poll_sweep()
    }

    fn poll_sweep(&mut self) -> bool {
        let mut changed = false;
        if let Some(partial) = self.jobs.sensitivity.partial() {
            self.sensitivity = Some(partial);
            changed = true;
        }
        if let Some(outcome) = self.jobs.sensitivity.outcome() {
            changed = true;
            let ended: Option<Sensitivity> = self.finished("Sensitivity", outcome);
            if let Some(sweep) = ended {
                self.sensitivity = Some(sweep);
            }
            self.keep_sweep();
        }
        changed
    }

    /// As [`Session::close_data`] forgets data, what was measured on it is kept for later.
    pub(super) fn close_sweeps(&mut self) {
        self.keep_sweep();
        self.sensitivity = None;
        self.scoring.sweep_key = None;
        self.scoring.scored = None;
        self.jobs.sensitivity.clear();
        self.jobs.second_order.clear();
    }
}
