//! A search on an open model and its data: what window and command line share.

use std::time::Duration;

use super::error::SessionError;
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::search_folds::{SearchFold, SearchFolds, rounds_on_data, scores_in_folds};
use crate::engine::{
    Batches, LayerSettings, PreparedPlan, Ranges, RoundedLayers, RunError, Subject,
    choose_calibrators, round_alone, round_plan_knowing,
};
use crate::jobs::CancelToken;
use crate::plan::{Fingerprint, LayerPlan, Plan, Widths};
use crate::quant::NumberFormat;
use crate::search::{
    End, Fold, Goal, Limits, Planner, SearchError, SearchRun, SearchState, Shard, Space,
    SpaceRequest, Stage,
};

/// What a search is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// Widths to choose from.
    pub space: SpaceRequest,
    /// What the plan is for; without a goal the whole front counts alike.
    pub goal: Option<Goal>,
    /// Plans to measure, those of earlier runs included.
    pub plans: usize,
    /// Time after which no further plan is begun.
    pub time: Option<Duration>,
    /// Decides between plans that are mixed at random.
    pub seed: u64,
}

impl SearchRequest {
    /// Plans that a search measures unless told otherwise.
    pub const PLANS: usize = 64;

    /// Weights of 8 to 2 bits and inputs of 8 bits.
    pub fn widths() -> SpaceRequest {
        let formats = |bits: &[u8]| {
            let bits = bits.iter().filter_map(|bits| NumberFormat::int(*bits).ok());
            bits.collect()
        };
        SpaceRequest {
            weights: formats(&[8, 6, 5, 4, 3, 2]),
            activations: formats(&[8]),
            bounds: Vec::new(),
        }
    }
}

/// A search that fits its model and data.
#[derive(Clone, Debug)]
pub struct SearchSetup {
    /// What may be chosen.
    pub space: Space,
    /// What was asked for.
    pub request: SearchRequest,
    /// Identifies model, data, preprocessing and settings; goal and limits may change.
    pub fingerprint: Fingerprint,
}

impl SearchSetup {
    /// Checks a request against a model; `base` gives schemes, calibrators, rounding and locks.
    ///
    /// # Errors
    /// There is nothing to choose, a bound fits no layer, or no plan can keep the goal.
    pub fn new(
        model: &OpenModel,
        data: &OpenData,
        base: &Plan,
        request: SearchRequest,
    ) -> Result<Self, SessionError> {
        if base.layers().iter().any(|layer| layer.corrections.equalize) {
            return Err(SessionError::Missing(
                "a search does not equalize layers; leave out equalize, and equalize the plan that it finds"
                    .to_owned(),
            ));
        }
        let space = Space::new(model.graph(), model.layers(), base, &request.space)?;
        let widths = serde_json::to_string(&request.space)
            .map_err(|error| SessionError::Missing(format!("cannot name the search: {error}")))?;
        let locks: Vec<u8> = base.layers().iter().map(|l| u8::from(l.locked)).collect();
        // Locked layers keep their widths; those of the others do not matter.
        let schemes = base.with_widths(&space.uniform(Widths::FLOAT));
        let samples = format!(
            "{}|{}|{}",
            data.search.len(),
            data.search.batch_size(),
            request.seed
        );
        let scored: &[u8] = match (rounds_on_data(base), scores_in_folds(data, base)) {
            (true, true) => b"search with layers rounded on other samples",
            (true, false) => b"search with rounded layers",
            (false, _) => b"search",
        };
        let fingerprint = Fingerprint::of_parts([
            scored,
            model.identity().sha256.0.as_bytes(),
            data.fingerprint.0.as_bytes(),
            widths.as_bytes(),
            schemes.fingerprint().0.as_bytes(),
            &locks,
            samples.as_bytes(),
        ]);
        let setup = Self {
            space,
            request,
            fingerprint,
        };
        setup.check_goal(model)?;
        Ok(setup)
    }

    /// Whether any input is quantized, so that ranges are needed.
    pub fn needs_ranges(&self) -> bool {
        let layers = self.space.layers().iter();
        layers
            .flat_map(|layer| &layer.activations)
            .any(|format| *format != NumberFormat::F32)
    }

    /// What gives the schemes, with the calibrator that suits each input best; the widest that may be
    /// chosen decides. `on_layer` is called with the number of layers done, of twice as many as there are.
    ///
    /// # Errors
    /// As [`choose_calibrators`].
    pub fn with_chosen_calibrators(
        &self,
        model: &OpenModel,
        data: &OpenData,
        ranges: &Ranges,
        on_layer: &mut dyn FnMut(usize),
    ) -> Result<Plan, SessionError> {
        let widest = self.space.layers().iter().map(|layer| Widths {
            weight: NumberFormat::F32,
            activation: layer
                .activations
                .first()
                .copied()
                .unwrap_or(NumberFormat::F32),
        });
        let base = self.space.base();
        let plan = base.with_widths(&widest.collect::<Vec<_>>());
        let cancel = CancelToken::default();
        let batches = &data.calibration;
        let executor = &model.executor;
        let chosen = choose_calibrators(executor, &plan, ranges, batches, &cancel, on_layer)?;
        Ok(chosen.with_widths(&base.widths()))
    }

    /// Decides what is measured next.
    pub fn planner<'a>(&'a self, model: &'a OpenModel) -> Planner<'a> {
        Planner {
            layers: model.layers(),
            space: &self.space,
            other_parameters: model.other_parameters,
            goal: self.request.goal,
            seed: self.request.seed,
        }
    }

    /// A search that has found nothing yet.
    pub fn state(&self, model: &OpenModel, shard: Shard) -> SearchState {
        let names = model.layers().iter().map(|layer| layer.name.clone());
        SearchState::new(
            self.fingerprint.clone(),
            shard,
            self.request.goal,
            names.collect(),
        )
    }

    /// Goes on from a stored search.
    ///
    /// # Errors
    /// It belongs to another model, data or settings.
    pub fn resume(&self, stored: SearchState, shard: Shard) -> Result<SearchState, SearchError> {
        stored.check(&self.fingerprint, shard)?;
        Ok(SearchState {
            goal: self.request.goal,
            ..stored
        })
    }

    /// Tells before anything is measured that no plan can keep the goal.
    fn check_goal(&self, model: &OpenModel) -> Result<(), SearchError> {
        let Some(goal @ Goal::Within { axis, .. }) = &self.request.goal else {
            return Ok(());
        };
        let problem = crate::search::Problem::new(
            &self.space,
            &crate::search::Model::default(),
            model.layers(),
            model.other_parameters,
            *axis,
        );
        problem.solve(goal, None, model.layers()).map(|_| ())
    }
}

/// Runs a search until one of its limits is reached.
///
/// # Errors
/// The network cannot run, the search is cancelled, or `news` fails.
pub fn run_search(
    model: &OpenModel,
    data: &OpenData,
    setup: &SearchSetup,
    ranges: Option<&Ranges>,
    cache_bytes: usize,
    cancel: &CancelToken,
    state: &mut SearchState,
    news: &mut dyn FnMut(&SearchState, Stage) -> Result<(), SessionError>,
) -> Result<End, SessionError> {
    let parts = SearchFolds::of(data, setup.space.base());
    let work = Work {
        model,
        base: setup.space.base(),
        identity: &data.fingerprint,
        ranges,
        cancel,
    };
    let folds = parts.folds.iter().map(|fold| work.fold(fold));
    let run = SearchRun {
        executor: &model.executor,
        batches: &parts.batches,
        folds: folds.collect(),
        planner: setup.planner(model),
        cache_bytes,
        cancel,
    };
    let limits = Limits {
        plans: setup.request.plans,
        time: setup.request.time,
    };
    run.run(state, &limits, news)
}

/// What making plans ready needs besides the samples.
#[derive(Clone, Copy)]
struct Work<'a> {
    model: &'a OpenModel,
    /// Schemes, rounding and corrections.
    base: &'a Plan,
    identity: &'a Fingerprint,
    ranges: Option<&'a Ranges>,
    cancel: &'a CancelToken,
}

impl<'a> Work<'a> {
    fn fold(self, fold: &'a SearchFold) -> Fold<'a> {
        let known = RoundedLayers::default();
        Fold {
            samples: fold.places.len(),
            settings: Box::new(move |subject, widths| {
                self.settings(&fold.rounding, subject, widths)
            }),
            prepare: Box::new(move |plan| self.prepare(&known, &fold.rounding, plan)),
        }
    }

    fn settings(
        &self,
        samples: &Batches,
        subject: Subject,
        widths: &[NumberFormat],
    ) -> Result<LayerSettings, RunError> {
        let (executor, base) = (&self.model.executor, self.base);
        if subject == Subject::Weights && rounds_on_data(base) {
            return round_alone(executor, base, widths, samples, self.cancel, &mut |_| {});
        }
        LayerSettings::new(executor, base, self.ranges, subject, widths, self.cancel)
    }

    fn prepare(
        &self,
        known: &RoundedLayers,
        samples: &Batches,
        plan: &Plan,
    ) -> Result<PreparedPlan, RunError> {
        let executor = &self.model.executor;
        if !plan.layers().iter().any(LayerPlan::rounds_on_data) {
            return executor.prepare_cancellable(plan, self.ranges, self.cancel);
        }
        let rounded = round_plan_knowing(
            known,
            executor,
            plan,
            self.ranges,
            samples,
            self.identity,
            self.cancel,
            &mut |_| {},
        )?;
        rounded.prepare(executor, plan, self.ranges, self.identity)
    }
}

/// Makes a plan ready to run as its layers say; what is taken from data is taken from calibration samples.
///
/// # Errors
/// As [`crate::engine::Executor::prepare`] and [`round_plan_knowing`], or cancelled.
pub fn prepare_plan(
    model: &OpenModel,
    data: &OpenData,
    plan: &Plan,
    ranges: Option<&Ranges>,
    cancel: &CancelToken,
) -> Result<PreparedPlan, RunError> {
    let work = Work {
        model,
        base: plan,
        identity: &data.fingerprint,
        ranges,
        cancel,
    };
    work.prepare(&RoundedLayers::default(), &data.calibration, plan)
}
