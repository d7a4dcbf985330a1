//! The search of an open document: running it, what it found, and solving for a budget at once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::SessionError;
use super::messages::{Remedy, Severity};
use super::open_data::OpenData;
use super::open_model::OpenModel;
use super::search_setup::{SearchRequest, SearchSetup, run_search};
use super::session::Session;
use crate::engine::{Ranges, Subject};
use crate::jobs::{JobContext, JobError};
use crate::plan::{Plan, PlanFile};
use crate::search::{
    Axis, Effects, End, Meaning, Model, PartEffects, Prediction, Problem, SearchState, Shard,
    Space, SpaceRequest, Stage,
};

/// A search as far as it went.
#[derive(Clone, Debug)]
pub struct SearchNews {
    /// What it found.
    pub state: Arc<SearchState>,
    /// What it does, or did last.
    pub stage: Stage,
    /// What it expects of other plans; `None` until single layers are measured.
    expected: Option<Arc<(Model, Meaning)>>,
}

impl SearchNews {
    fn new(state: &SearchState, stage: Stage) -> Self {
        let expected = || Arc::new((state.models().1, state.meaning()));
        Self {
            state: Arc::new(state.clone()),
            stage,
            expected: state.is_scored().then(expected),
        }
    }
}

/// What a session knows of searches.
#[derive(Debug, Default)]
pub(super) struct SearchDesk {
    /// The search that was run last, with the plan that gave its schemes.
    setup: Option<(Arc<SearchSetup>, Plan)>,
    news: Option<SearchNews>,
    end: Option<End>,
    /// Counts changes, so that what follows from them is computed once.
    changes: u64,
    /// A search of a project whose data is still being opened.
    pending: Option<StoredSearch>,
}

/// A search in a project file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredSearch {
    /// Schemes, calibrators and locks of its plans.
    pub base: PlanFile,
    /// What could be chosen.
    pub space: SpaceRequest,
    /// Decided between plans that were mixed at random.
    pub seed: u64,
    /// What it found.
    pub state: SearchState,
}

/// Solves for budgets, live.
#[derive(Clone, Debug)]
pub struct Solver {
    /// What may be chosen.
    pub space: Space,
    /// The choice along one axis.
    pub problem: Problem,
    model: Model,
    meaning: Meaning,
    /// What the prediction stands on.
    pub basis: SolverBasis,
}

/// What a prediction stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolverBasis {
    /// Errors of each weight at the output of its own layer.
    LocalErrors,
    /// Effects of single weights and inputs on the outputs, corrected by measured plans.
    Search,
}

impl Solver {
    /// What is expected of a plan with this sum of effects.
    pub fn prediction(&self, sum: f64) -> Prediction {
        let harm = self.model.harm(sum);
        match self.basis {
            SolverBasis::Search => self.meaning.prediction(harm),
            // The harm is the ratio of noise to signal itself.
            SolverBasis::LocalErrors => Prediction {
                harm,
                sqnr_db: (harm > 0.0).then(|| -10.0 * harm.log10()),
                ..Prediction::default()
            },
        }
    }
}

impl Session {
    /// The last search as far as it went.
    pub fn search(&self) -> Option<&SearchNews> {
        self.search.news.as_ref()
    }

    /// The space of the last search.
    pub fn search_setup(&self) -> Option<&SearchSetup> {
        self.search.setup.as_ref().map(|(setup, _)| &**setup)
    }

    /// Why the last search ended by itself.
    pub fn search_end(&self) -> Option<End> {
        self.search.end
    }

    /// Whether a search runs.
    pub fn is_searching(&self) -> bool {
        self.jobs.search.is_running()
    }

    /// Counts changes of what [`Session::solver`] stands on.
    pub fn solver_generation(&self) -> (u64, usize) {
        let local = self.local_errors.as_ref().map_or(0, |e| e.samples);
        (self.search.changes, local)
    }

    /// The plan of a measured point, with the schemes that it was measured with.
    pub fn searched_plan(&self, index: usize) -> Option<Plan> {
        let (setup, _) = self.search.setup.as_ref()?;
        self.search()?.state.plan(&setup.space, index)
    }

    /// Solves budgets for the current plan's schemes and locks; `None` as long as nothing is known of
    /// any layer, or if the widths leave no choice.
    pub fn solver(&self, request: &SpaceRequest, axis: Axis) -> Option<Solver> {
        let model = self.model.as_ref()?;
        let space = Space::new(model.graph(), model.layers(), &self.plan, request).ok()?;
        let (effects, meaning, basis) = self.known_effects()?;
        let problem = Problem::new(
            &space,
            &effects,
            model.layers(),
            model.other_parameters,
            axis,
        );
        Some(Solver {
            space,
            problem,
            model: effects,
            meaning,
            basis,
        })
    }

    /// Why there is no solver for these widths; `None` if there is one.
    pub fn why_no_solver(&self, request: &SpaceRequest) -> Option<String> {
        let Some(model) = &self.model else {
            return Some("Open a model first".to_owned());
        };
        if self.data.is_none() {
            return Some(
                "Open a data folder: what a width costs is measured on samples".to_owned(),
            );
        }
        let space = Space::new(model.graph(), model.layers(), &self.plan, request);
        if let Err(error) = space {
            return Some(error.to_string());
        }
        self.known_effects().is_none().then(|| {
            "The errors of single layers are being measured; the slider follows by itself"
                .to_owned()
        })
    }

    fn known_effects(&self) -> Option<(Model, Meaning, SolverBasis)> {
        if let Some(expected) = self.search().and_then(|news| news.expected.as_deref()) {
            let (model, meaning) = expected.clone();
            return Some((model, meaning, SolverBasis::Search));
        }
        let errors = self.local_errors.as_ref()?;
        if errors.samples == 0 || errors.subject != Subject::Weights {
            return None;
        }
        let row = |row: &Vec<crate::quant::ErrorSum>| {
            let harm = row.iter().map(|sum| match sum.noise {
                0.0 => 0.0,
                noise => noise / sum.signal.max(f64::MIN_POSITIVE),
            });
            PartEffects::new(errors.widths.iter().copied().zip(harm).collect())
        };
        let effects = Effects {
            weights: errors.cells.iter().map(row).collect(),
            activations: Vec::new(),
        };
        let model = Model::new(effects);
        Some((model, Meaning::default(), SolverBasis::LocalErrors))
    }

    /// Starts a search, or goes on with the last one if it fits.
    pub(super) fn start_search(&mut self, request: SearchRequest) {
        let (Some(model), Some(data)) = (self.model.clone(), self.data.clone()) else {
            self.tell_with(
                Severity::Error,
                "Search",
                "Open a model and choose a dataset folder first".to_owned(),
                Remedy::ChooseData,
            );
            return;
        };
        let base = self.plan.clone();
        let setup = match SearchSetup::new(&model, &data, &base, request) {
            Ok(setup) => Arc::new(setup),
            Err(error) => {
                self.tell(Severity::Error, "Search", error.to_string());
                return;
            }
        };
        if setup.needs_ranges() && self.ranges.is_none() {
            self.tell_with(
                Severity::Error,
                "Search",
                "Quantized inputs need ranges: wait until calibration has ended, or press Run"
                    .to_owned(),
                Remedy::RunAgain,
            );
            return;
        }
        let earlier = self.search().map(|news| (*news.state).clone());
        let resumed = earlier.and_then(|state| setup.resume(state, Shard::WHOLE).ok());
        let state = resumed.unwrap_or_else(|| setup.state(&model, Shard::WHOLE));
        let (ranges, cache_bytes) = (self.ranges.clone(), self.cache_bytes / 2);
        self.search.begin(Arc::clone(&setup), base, &state);
        self.jobs.search.start(&self.wake, move |context| {
            work(
                context,
                &model,
                &data,
                &setup,
                ranges.as_deref(),
                cache_bytes,
                state,
            )
        });
        self.let_urgent_work_pass();
    }

    pub(super) fn stop_search(&mut self) {
        self.jobs.search.cancel();
    }

    pub(super) fn poll_search(&mut self) -> bool {
        let mut changed = false;
        if let Some(news) = self.jobs.search.partial() {
            self.search.take(news);
            changed = true;
        }
        if let Some(outcome) = self.jobs.search.outcome() {
            changed = true;
            match outcome {
                Ok((news, end)) => {
                    self.search.take(news);
                    self.search.end = Some(end);
                }
                Err(JobError::Cancelled) => {}
                Err(error) => {
                    self.tell(Severity::Error, "Search", error.to_string());
                }
            }
        }
        changed
    }

    pub(super) fn forget_search(&mut self) {
        self.jobs.search.clear();
        let changes = self.search.changes + 1;
        let pending = self.search.pending.take();
        self.search = SearchDesk {
            changes,
            pending,
            ..SearchDesk::default()
        };
    }

    /// Remembers the search of a project until its data is open.
    pub(super) fn expect_search(&mut self, stored: Option<StoredSearch>) {
        self.search.pending = stored;
    }

    /// Takes over the stored search if it belongs to this model and data.
    pub(super) fn adopt_search(&mut self, model: &OpenModel, data: &OpenData) {
        let Some(stored) = self.search.pending.take() else {
            return;
        };
        let request = SearchRequest {
            space: stored.space,
            goal: None,
            plans: SearchRequest::PLANS,
            time: None,
            seed: stored.seed,
        };
        let base = stored.base.plan_for(model.layers(), &model.identity());
        let Ok(base) = base else { return };
        if let Ok(setup) = SearchSetup::new(model, data, &base, request)
            && let Ok(state) = setup.resume(stored.state, Shard::WHOLE)
        {
            self.search.begin(Arc::new(setup), base, &state);
        }
    }

    /// The last search as a project stores it.
    pub(super) fn stored_search(&self) -> Option<StoredSearch> {
        let (setup, base) = self.search.setup.as_ref()?;
        Some(StoredSearch {
            base: self.plan_file(base)?,
            space: setup.request.space.clone(),
            seed: setup.request.seed,
            state: (*self.search()?.state).clone(),
        })
    }

    /// What the last search expects of the current plan; `None` if that has other schemes or widths.
    pub(super) fn search_prediction(&self) -> Option<Prediction> {
        let (setup, base) = self.search.setup.as_ref()?;
        let (model, meaning) = self.search()?.expected.as_deref()?;
        let widths = self.plan.widths();
        if !setup.space.holds(&widths) || !has_schemes_of(&self.plan, base) {
            return None;
        }
        Some(meaning.prediction(model.harm(model.sum(&widths))))
    }

    /// The measured point that the current plan is.
    pub fn search_point(&self) -> Option<usize> {
        let (_, base) = self.search.setup.as_ref()?;
        let point = self.search()?.state.find(&self.plan.widths())?;
        has_schemes_of(&self.plan, base).then_some(point)
    }
}

/// Whether two plans differ in widths and locks only.
fn has_schemes_of(plan: &Plan, base: &Plan) -> bool {
    let mut layers = plan.layers().iter().zip(base.layers());
    layers.all(|(now, then)| {
        let alike = now.weight.same_but_format(&then.weight)
            && now.activation.same_but_format(&then.activation);
        alike && now.rounding == then.rounding && now.corrections == then.corrections
    })
}

impl SearchDesk {
    fn begin(&mut self, setup: Arc<SearchSetup>, base: Plan, state: &SearchState) {
        let plans = setup.request.plans;
        self.setup = Some((setup, base));
        self.end = None;
        let stage = Stage::Measuring(state.measured.len(), plans);
        self.take(SearchNews::new(state, stage));
    }

    fn take(&mut self, news: SearchNews) {
        self.news = Some(news);
        self.changes += 1;
    }
}

/// The body of the job.
fn work(
    context: &JobContext<SearchNews>,
    model: &OpenModel,
    data: &OpenData,
    setup: &SearchSetup,
    ranges: Option<&Ranges>,
    cache_bytes: usize,
    mut state: SearchState,
) -> Result<(SearchNews, End), SessionError> {
    let mut begun = None;
    let mut last = Stage::Scoring(0, 0);
    let end = run_search(
        model,
        data,
        setup,
        ranges,
        cache_bytes,
        &context.cancel,
        &mut state,
        &mut |state, stage| {
            let (name, done, total) = match stage {
                Stage::Scoring(done, total) => ("Scoring layers", done, total),
                Stage::Measuring(done, total) => ("Measuring plans", done, total),
            };
            if begun != Some(name) {
                begun = Some(name);
                context.progress.start_stage(name, total as u64);
            }
            context.progress.set_done(done as u64);
            last = stage;
            context.publish(SearchNews::new(state, stage));
            Ok(())
        },
    )?;
    Ok((SearchNews::new(&state, last), end))
}
