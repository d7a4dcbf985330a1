//! The search itself: scores single layers, then measures one plan after the other.

use std::time::{Duration, Instant};

use super::planner::{Planner, Proposal};
use super::score::Score;
use super::shard::Shard;
use super::state::{MeasuredPlan, SearchState};
use super::sweep::{StoredSweep, studied};
use crate::engine::{
    ActivationCache, Batches, Classification, Comparison, Executor, FloatReference, LayerSettings,
    PreparedPlan, Protocol, RunError, Sensitivity, SensitivityRequest, Subject, evaluate_float,
    evaluate_plan_cached, sensitivity_part,
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

/// Samples that score what was made ready without them.
///
/// Weights that are rounded on data fit these samples better than any other, the more so the fewer they
/// are, so that they say nothing of a plan; two folds that are rounded without each other do.
pub struct Fold<'a> {
    /// The number of samples, whole batches but in the last fold.
    pub samples: usize,
    /// Makes single weights and inputs ready to be scored.
    pub settings: Box<Settings<'a>>,
    /// Makes plans ready to run.
    pub prepare: Box<Prepare<'a>>,
}

impl std::fmt::Debug for Fold<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fold")
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

/// What a search runs on.
pub struct SearchRun<'a> {
    /// The network.
    pub executor: &'a Executor,
    /// The samples that score.
    pub batches: &'a Batches,
    /// They are scored in these folds, in their order.
    pub folds: Vec<Fold<'a>>,
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
        let mut rulers = Vec::new();
        if state.measured.len() < limits.plans {
            rulers = self.rulers()?;
            state.float = float_score(&rulers);
        }
        let unmeasured = SearchState {
            measured: Vec::new(),
            ..state.clone()
        };
        let first = self
            .planner
            .first_plans(&unmeasured.models().0, &unmeasured.meaning());
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
            let plan = self.measure(proposal, &rulers)?;
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
        let mut known = known;
        for (fold, end) in self.folds.iter().zip(self.ends()) {
            let settings = (fold.settings)(subject, &known.request.widths)?;
            let result = sensitivity_part(
                self.executor,
                &settings,
                known,
                &studied(Shard::WHOLE),
                // The batches of earlier folds are known by now.
                &self.batches.first(end).stopped_by(self.cancel),
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
            known = result?;
        }
        let mut sweep = stored(&known);
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

    /// Where each fold ends in the order of the samples.
    fn ends(&self) -> impl Iterator<Item = usize> + '_ {
        self.folds.iter().scan(0, |end, fold| {
            *end += fold.samples;
            Some(*end)
        })
    }

    fn rulers(&self) -> Result<Vec<Ruler>, RunError> {
        let folds = self.folds.iter().zip(self.ends());
        folds
            .map(|(fold, end)| {
                let batches = self.batches.part(end - fold.samples..end);
                let nothing = &mut |_: &FloatReference| {};
                let float = evaluate_float(self.executor, &batches, self.cancel, nothing)?;
                let bytes = self.cache_bytes / self.folds.len().max(1);
                let cache = ActivationCache::new(self.executor, &batches, 0, bytes);
                Ok(Ruler { cache, float })
            })
            .collect()
    }

    fn measure(&self, proposal: Proposal, rulers: &[Ruler]) -> Result<MeasuredPlan, RunError> {
        let plan = self.planner.space.plan(&proposal.widths);
        let mut metrics = Classification::default();
        let mut comparison = Comparison::default();
        let mut harms = Vec::new();
        for (fold, ruler) in self.folds.iter().zip(rulers) {
            let prepared = (fold.prepare)(&plan)?;
            let evaluation = evaluate_plan_cached(
                self.executor,
                &prepared,
                &ruler.cache,
                Some(&ruler.float),
                self.cancel,
                &mut |_| {},
            )?;
            metrics.merge(&evaluation.plan);
            comparison.merge(&evaluation.comparison);
            harms.extend(evaluation.harms.iter());
        }
        let score = Score::of(&metrics, &comparison);
        Ok(self.planner.measured(proposal, score, harms))
    }
}

/// What plans are measured with on the samples of one fold.
struct Ruler {
    cache: ActivationCache,
    float: FloatReference,
}

fn float_score(rulers: &[Ruler]) -> Score {
    let mut metrics = Classification::default();
    for ruler in rulers {
        metrics.merge(&ruler.float.metrics);
    }
    Score::of(&metrics, &Comparison::default())
}

fn put(state: &mut SearchState, subject: Subject, sweep: Option<StoredSweep>) {
    match subject {
        Subject::Activations => state.activations = sweep,
        _ => state.weights = sweep,
    }
}
