//! `quantscope search`: the best widths for a budget.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Exit;
use super::args::SearchArguments;
use super::eval::{announce, calibrated, thread_pool};
use super::front_report::within_uniform;
use super::output::{self, Progress};
use super::search_report::{self, Final};
use crate::engine::{evaluate_float, evaluate_plan};
use crate::jobs::CancelToken;
use crate::plan::{Plan, PlanFile};
use crate::search::{End, Goal, Prepare, SearchState, Shard, SpaceRequest, Stage};
use crate::session::{
    OpenData, OpenModel, SearchRequest, SearchSetup, SessionError, default_cache_bytes, in_file,
    prepare_plan, read_progress, run_search, scores_in_folds, write_atomically, write_json,
};

/// At most so many plans of the front are measured on the evaluation samples, besides the uniform ones.
const FINAL_PLANS: usize = 12;

pub(super) fn run(arguments: &SearchArguments) -> Result<Exit, SessionError> {
    thread_pool(arguments.compute)?.install(|| search(arguments))
}

fn search(arguments: &SearchArguments) -> Result<Exit, SessionError> {
    let model = OpenModel::open_with(&arguments.model, arguments.compute.arithmetic.into())?;
    let request = arguments.data_options.request(arguments.data.clone());
    let data = OpenData::open(&model, request)?;
    announce(&data, arguments.output);
    let base = arguments.base(&model)?;
    announce_samples(&data, &base, arguments);
    let request = request_of(arguments, &model, &base);
    let mut setup = SearchSetup::new(&model, &data, &base, request.clone())?;
    let ranges = if setup.needs_ranges() {
        Some(calibrated(&model, &data, &[], arguments.output)?)
    } else {
        None
    };
    if let (Some(ranges), true) = (&ranges, arguments.chooses_calibrators()) {
        let total = 2 * model.layers().len();
        let mut progress = Progress::new("Choosing calibrators", total, arguments.output);
        let base = setup.with_chosen_calibrators(&model, &data, ranges, &mut |done| {
            progress.show(done, "");
        })?;
        setup = SearchSetup::new(&model, &data, &base, request)?;
    }
    let shard = arguments.part.shard.unwrap_or(Shard::WHOLE);
    let kept = kept_in(arguments, shard);
    let mut state = match read_progress::<SearchState>(&kept)? {
        Some(stored) => setup
            .resume(stored, shard)
            .map_err(|error| in_file(&kept, &error))?,
        None => setup.state(&model, shard),
    };
    state.shard = shard;
    let cancel = CancelToken::default();
    let prepare = |plan: &Plan| prepare_plan(&model, &data, plan, ranges.as_ref(), &cancel);
    let mut shown = Shown::new(arguments);
    let end = run_search(
        &model,
        &data,
        &setup,
        ranges.as_ref(),
        default_cache_bytes(),
        &cancel,
        &mut state,
        &mut |state, stage| {
            shown.show(stage);
            write_json(&kept, state)
        },
    )?;
    if !shard.is_whole() {
        return finish_part(&state, end, &kept, arguments);
    }
    let last = measure_last(&model, &data, &setup, &state, &prepare, arguments)?;
    finish(&model, &data, &setup, &state, &last, end, arguments)
}

fn request_of(arguments: &SearchArguments, model: &OpenModel, base: &Plan) -> SearchRequest {
    let goal = arguments
        .budget
        .goal(model.layers(), base, model.other_parameters);
    SearchRequest {
        space: SpaceRequest {
            weights: arguments.bits.clone(),
            activations: arguments.activations.clone(),
            bounds: arguments.bounds.clone(),
        },
        goal: Some(goal),
        plans: arguments.plans,
        time: arguments
            .time
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        seed: arguments.data_options.seed,
    }
}

/// Says which samples score the search.
fn announce_samples(data: &OpenData, base: &Plan, arguments: &SearchArguments) {
    if arguments.output.quiet {
        return;
    }
    let which = if data.search_is_apart {
        "samples of the calibration folder that do not calibrate"
    } else if scores_in_folds(data, base) {
        "the calibration samples, for there are too few others beside the evaluation data; each half is scored with weights that are rounded without it"
    } else {
        "the calibration samples, for there are too few others beside the evaluation data"
    };
    output::note(&format!(
        "The search scores on {} samples: {which}; evaluation samples choose nothing",
        data.search.len()
    ));
}

/// Where progress is kept: the part itself, or a file beside the plan.
fn kept_in(arguments: &SearchArguments, shard: Shard) -> PathBuf {
    let beside = || {
        if !shard.is_whole() {
            return arguments.out.clone();
        }
        let mut name = arguments.out.clone().into_os_string();
        name.push(".search");
        PathBuf::from(name)
    };
    arguments.part.resume.clone().unwrap_or_else(beside)
}

/// Progress of both stages.
struct Shown<'a> {
    arguments: &'a SearchArguments,
    scoring: Option<Progress>,
    measuring: Option<Progress>,
}

impl<'a> Shown<'a> {
    fn new(arguments: &'a SearchArguments) -> Self {
        Self {
            arguments,
            scoring: None,
            measuring: None,
        }
    }

    fn show(&mut self, stage: Stage) {
        let output = self.arguments.output;
        match stage {
            Stage::Scoring(done, total) => self
                .scoring
                .get_or_insert_with(|| Progress::new("Scoring layers", total, output))
                .show(done, ""),
            Stage::Measuring(done, total) => self
                .measuring
                .get_or_insert_with(|| Progress::new("Measuring plans", total, output))
                .show(done, ""),
        }
    }
}

fn finish_part(
    state: &SearchState,
    end: End,
    kept: &Path,
    arguments: &SearchArguments,
) -> Result<Exit, SessionError> {
    if kept != arguments.out {
        write_json(&arguments.out, state)?;
    }
    if !arguments.output.quiet {
        let done = match end {
            End::NothingLeft => "is done; when all are, join them with `quantscope merge`",
            End::Plans | End::Time => {
                "is not done; run it again with more --plans or --time, it goes on"
            }
        };
        output::note(&format!("Part {} {done}", state.shard));
    }
    Ok(Exit::Done)
}

/// Measures the chosen plan, the uniform ones and the front on samples that the search never saw.
fn measure_last(
    model: &OpenModel,
    data: &OpenData,
    setup: &SearchSetup,
    state: &SearchState,
    prepare: &Prepare<'_>,
    arguments: &SearchArguments,
) -> Result<Final, SessionError> {
    let front = search_report::front(state);
    let mut wanted: Vec<usize> = search_report::chosen(state).into_iter().collect();
    for index in search_report::uniform(state) {
        wanted.push(index);
        wanted.extend(within_uniform(state, &state.measured[index]));
    }
    // Evenly along the front.
    let count = front.len().min(FINAL_PLANS);
    wanted.extend((0..count).map(|at| front[at * (front.len() - 1) / (count - 1).max(1)]));
    let mut plans: Vec<usize> = Vec::new();
    for index in wanted {
        if !plans.contains(&index) {
            plans.push(index);
        }
    }
    let mut progress = Progress::new("Final evaluation", plans.len(), arguments.output);
    let cancel = CancelToken::default();
    let nothing = &mut |_: &_| {};
    let float = evaluate_float(&model.executor, &data.evaluation, &cancel, nothing)?;
    let mut last = Final {
        float: float.metrics,
        samples: float.samples,
        ..Final::default()
    };
    for (done, index) in plans.into_iter().enumerate() {
        let Some(plan) = state.plan(&setup.space, index) else {
            continue;
        };
        let prepared = prepare(&plan)?;
        let evaluation = evaluate_plan(
            &model.executor,
            &prepared,
            &data.evaluation,
            Some(&float),
            0,
            &cancel,
            &mut |_| {},
        )?;
        last.plans.insert(index, evaluation);
        progress.show(done + 1, "");
    }
    Ok(last)
}

fn finish(
    model: &OpenModel,
    data: &OpenData,
    setup: &SearchSetup,
    state: &SearchState,
    last: &Final,
    end: End,
    arguments: &SearchArguments,
) -> Result<Exit, SessionError> {
    let chosen = search_report::chosen(state);
    if let Some(plan) = chosen.and_then(|index| state.plan(&setup.space, index)) {
        let fingerprint = Some(data.fingerprint.clone());
        let file = PlanFile::new(&plan, model.layers(), model.identity(), fingerprint);
        write_atomically(&arguments.out, file.to_json()?.as_bytes())?;
    }
    let report = search_report::report(state, Some(last));
    if arguments.output.json {
        output::json(&report)?;
    } else {
        search_report::print(&report);
    }
    if !arguments.output.quiet {
        for line in remarks(state, end, model.layers().len()) {
            output::note(&line);
        }
    }
    if chosen.is_none() {
        output::note(&unmet(state));
        return Ok(Exit::CheckFailed);
    }
    if !arguments.output.json {
        output::line(&format!("Plan written to {}", arguments.out.display()));
    }
    Ok(Exit::Done)
}

/// What a reader of the numbers should know.
fn remarks(state: &SearchState, end: End, layers: usize) -> Vec<String> {
    let mut remarks = Vec::new();
    if layers == 1 {
        remarks.push("The model has one layer, so every plan is uniform".to_owned());
    }
    if end == End::NothingLeft {
        remarks.push("All plans that the widths allow around the front are measured".to_owned());
    }
    if state.float.labelled == 0 {
        let is_classifier = state.measured.iter().any(|plan| plan.score.classified > 0);
        let remark = if is_classifier {
            "The samples of the search have no labels: agreement and KL against float stand in for accuracy"
        } else {
            "The model is no classifier: the SQNR of its outputs stands in for accuracy"
        };
        remarks.push(remark.to_owned());
    }
    remarks
}

/// Why no plan was chosen, and what to do.
fn unmet(state: &SearchState) -> String {
    let least = state
        .measured
        .iter()
        .filter_map(|plan| plan.score.drop(&state.float))
        .min_by(f64::total_cmp);
    match (state.goal, least) {
        (Some(Goal::Drop(most)), Some(least)) => format!(
            "check failed: no measured plan loses at most {:.2} points; the best loses {:.2}. Allow wider widths with --bits and --activations, or more plans",
            100.0 * most,
            100.0 * least
        ),
        (Some(Goal::Drop(_)), None) => "check failed: accuracy and agreement are not known for this model; give the budget as size, bits or bops".to_owned(),
        _ => "check failed: no measured plan keeps the budget; measure more plans with --plans".to_owned(),
    }
}
