//! The search itself: scores single layers, then measures one plan after the other.

use std::time::{Duration, Instant};

use super::planner::{Planner, Proposal};
use super::score::Score;
use super::shard::Shard;
use super::state::{MeasuredPlan, SearchState};
use super::sweep::{StoredSweep, studied};
use crate::engine::{
    ActivationCache, Batches, Executor, FloatReference, LayerSettings, PreparedPlan, Protocol,
    RunError, Sensitivity, SensitivityRequest, Subject, evaluate_float, evaluate_plan_cached,
    sensitivity_part,
};
use crate::jobs::CancelToken;
use crate::plan::Plan;
use crate::quant::NumberFormat;

/// Makes the weights and quantizers of a plan; rounding and ranges are its business.
pub type Prepare<'a> = dyn Fn(&Plan) -> Result<PreparedPlan, RunError> + 'a;

/// Makes single weights or inputs ready at the widths that are scored.
pub type Settings<'a> = dyn Fn(Subject, &[NumberFormat]) -> Result<LayerSettings, RunError> + 'a;

/// When a search ends by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Measured plans, those of earlier runs included.
    pub plans: usize,
    /// Time of this run.
    pub time: Option<Duration>,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As many plans as asked for are measured.
    Plans,
    /// The time is up.
    Time,
    /// The widths allow no further plan around the front, or the part is done.
    NothingLeft,
}

/// What a search is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Measures single weights or inputs: samples done and in total.
    Scoring(usize, usize),
    /// Measures plans: how many are known, and how many at most.
    Measuring(usize, usize),
}

/// What a search runs on.
pub struct SearchRun<'a> {
    /// The network.
    pub executor: &'a Executor,
    /// The samples that score.
    pub batches: &'a Batches,
    /// Makes single weights and inputs ready to be scored.
    pub settings: &'a Settings<'a>,
    /// Makes plans ready to run.
    pub prepare: &'a Prepare<'a>,
    /// What may be chosen, and what for.
    pub planner: Planner<'a>,
    /// Memory for activations that evaluations share.
    pub cache_bytes: usize,
    /// Stops the search; what was found stays.
    pub cancel: &'a CancelToken,
}

impl std::fmt::Debug for SearchRun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchRun")
            .field("goal", &self.planner.goal)
            .finish_non_exhaustive()
    }
}

impl SearchRun<'_> {
    /// Searches until a limit is reached, going on from what is in `state`.
    ///
    /// `news` sees the state after every batch of scoring and every measured plan; it may store it.
    ///
    /// # Errors
    /// The network cannot run, the search is cancelled, or `news` fails.
    pub fn run<E: From<RunError>>(
        &self,
        state: &mut SearchState,
        limits: &Limits,
        news: &mut dyn FnMut(&SearchState, Stage) -> Result<(), E>,
    ) -> Result<End, E> {
        let started = Instant::now();
        self.score(state, Subject::Weights, news)?;
        self.score(state, Subject::Activations, news)?;
        let mut reference = FloatReference::default();
        if state.measured.len() < limits.plans {
            let nothing = &mut |_: &FloatReference| {};
            reference = evaluate_float(self.executor, self.batches, self.cancel, nothing)?;
            state.float = Score::of(&reference.metrics, &Default::default());
        }
        let unmeasured = SearchState {
            measured: Vec::new(),
            ..state.clone()
        };
        let first = self
            .planner
            .first_plans(&unmeasured.models().0, &unmeasured.meaning());
        let cache = ActivationCache::new(self.executor, self.batches, 0, self.cache_bytes);
        loop {
            news(state, Stage::Measuring(state.measured.len(), limits.plans))?;
            if state.measured.len() >= limits.plans {
                return Ok(End::Plans);
            }
            if limits.time.is_some_and(|time| started.elapsed() >= time) {
                return Ok(End::Time);
            }
            let before = Instant::now();
            let proposal = self.planner.next(state, &first);
            state.seconds.solve += before.elapsed().as_secs_f64();
            let Some(proposal) = proposal else {
                return Ok(End::NothingLeft);
            };
            let before = Instant::now();
            let plan = self.measure(proposal, &cache, &reference)?;
            state.seconds.measure += before.elapsed().as_secs_f64();
            state.measured.push(plan);
        }
    }

    /// Measures single weights or inputs at all widths, going on where an earlier run stopped.
    fn score<E: From<RunError>>(
        &self,
        state: &mut SearchState,
        subject: Subject,
        news: &mut dyn FnMut(&SearchState, Stage) -> Result<(), E>,
    ) -> Result<(), E> {
        let slot = |state: &mut SearchState| match subject {
            Subject::Activations => std::mem::take(&mut state.activations),
            _ => std::mem::take(&mut state.weights),
        };
        let earlier = slot(state);
        if earlier.as_ref().is_some_and(StoredSweep::is_finished) {
            put(state, subject, earlier);
            return Ok(());
        }
        let request = SensitivityRequest {
            protocol: Protocol::OnlyOne,
            subject,
            widths: self.widths(subject),
        };
        let begun = earlier.as_ref().and_then(StoredSweep::sweep);
        let known = begun
            .unwrap_or_else(|| Sensitivity::new(request, state.layers.len(), self.batches.len()));
        let seconds_before = earlier.as_ref().map_or(0.0, |sweep| sweep.seconds);
        let (fingerprint, layers) = (state.fingerprint.clone(), state.layers.clone());
        let started = Instant::now();
        let stored = |sweep: &Sensitivity| {
            let seconds = seconds_before + started.elapsed().as_secs_f64();
            StoredSweep::new(sweep, Shard::WHOLE, &fingerprint, &layers, seconds)
        };
        let mut failed = None;
        let settings = (self.settings)(subject, &known.request.widths)?;
        let result = sensitivity_part(
            self.executor,
            &settings,
            known,
            &studied(Shard::WHOLE),
            &self.batches.stopped_by(self.cancel),
            self.cancel,
            &mut |so_far| {
                put(state, subject, Some(stored(so_far)));
                let stage = Stage::Scoring(so_far.samples, so_far.total);
                if let Err(error) = news(state, stage) {
                    // What cannot be stored is not worth computing.
                    failed.get_or_insert(error);
                    self.cancel.cancel();
                }
            },
        );
        if let Some(error) = failed {
            return Err(error);
        }
        let mut sweep = stored(&result?);
        // Unreadable samples are left out; the sweep is done nevertheless.
        sweep.total = sweep.samples;
        state.seconds.score += started.elapsed().as_secs_f64();
        put(state, subject, Some(sweep));
        Ok(())
    }

    /// The widths that are scored; float needs no score.
    fn widths(&self, subject: Subject) -> Vec<NumberFormat> {
        let mut widths: Vec<NumberFormat> = Vec::new();
        for layer in self.planner.space.layers() {
            let own = match subject {
                Subject::Activations => &layer.activations,
                _ => &layer.weights,
            };
            for width in own {
                if *width != NumberFormat::F32 && !widths.contains(width) {
                    widths.push(*width);
                }
            }
        }
        widths
    }

    fn measure(
        &self,
        proposal: Proposal,
        cache: &ActivationCache,
        reference: &FloatReference,
    ) -> Result<MeasuredPlan, RunError> {
        let plan = self.planner.space.plan(&proposal.widths);
        let prepared = (self.prepare)(&plan)?;
        let evaluation = evaluate_plan_cached(
            self.executor,
            &prepared,
            cache,
            Some(reference),
            self.cancel,
            &mut |_| {},
        )?;
        let score = Score::of(&evaluation.plan, &evaluation.comparison);
        let harms = evaluation.harms.iter().collect();
        Ok(self.planner.measured(proposal, score, harms))
    }
}

fn put(state: &mut SearchState, subject: Subject, sweep: Option<StoredSweep>) {
    match subject {
        Subject::Activations => state.activations = sweep,
        _ => state.weights = sweep,
    }
}
