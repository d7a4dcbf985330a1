//! `quantscope report`: a plan and what was measured of it as one page.

use super::Exit;
use super::args::ReportArguments;
use super::eval::{announce, skipped_files, stored_model, thread_pool};
use super::export::{change_lines, change_reports};
use super::output::{self, Progress};
use super::tuning::tuned;
use crate::engine::{
    Evaluation, Protocol, Sensitivity, SensitivityRequest, Subject, evaluate_plan, sensitivity,
};
use crate::jobs::CancelToken;
use crate::plan::{FittedPlan, Plan, TargetProfile, fit};
use crate::session::{
    MeasuredPlan, OpenData, OpenModel, ReportRequest, SessionError, StoredModel, Tuned, check_free,
    write_report,
};

pub(super) fn run(arguments: &ReportArguments) -> Result<Exit, SessionError> {
    thread_pool(arguments.compute)?.install(|| report(arguments))
}

fn report(arguments: &ReportArguments) -> Result<Exit, SessionError> {
    check_free(std::slice::from_ref(&arguments.out), arguments.force)?;
    let model = OpenModel::open_with(&arguments.model, arguments.compute.arithmetic.into())?;
    let chosen = arguments.plan.plan_for(&model)?;
    let profile = arguments.target.as_deref().map(TargetProfile::by_name);
    let profile = profile.transpose()?;
    let fitted = profile.map(|profile| fit(&chosen, model.layers(), profile));
    if let (Some(profile), Some(fitted)) = (profile, &fitted) {
        for line in change_lines(&change_reports(&model, fitted)) {
            output::note(&format!("changed for {}: {line}", profile.label));
        }
    }
    let plan = fitted
        .as_ref()
        .map_or(&chosen, |fitted| &fitted.plan)
        .clone();
    let data = open_data(&model, arguments)?;
    let target = profile.zip(fitted.as_ref());
    let measured = match &data {
        Some(data) => Some(Measured::of(&model, &plan, data, target, arguments)?),
        None => None,
    };
    let request = ReportRequest {
        model: &model,
        plan: measured
            .as_ref()
            .map_or(&plan, |measured| &measured.tuned.plan),
        measured: measured
            .as_ref()
            .zip(data.as_ref())
            .map(|(measured, data)| MeasuredPlan {
                data,
                tuned: &measured.tuned,
                evaluation: &measured.evaluation,
                sensitivity: measured.sweep.as_ref(),
                skipped: skipped_files(data).len(),
            }),
        target,
        file_bytes: measured.as_ref().and_then(|measured| measured.file_bytes),
        command: Some(command_line()),
    };
    write_report(&arguments.out, &request)?;
    if arguments.output.json {
        output::json(&serde_json::json!({"files": [arguments.out]}))?;
    } else {
        output::line(&format!("{}", arguments.out.display()));
    }
    Ok(Exit::Done)
}

/// A plan with what was measured of it.
struct Measured {
    tuned: Tuned,
    evaluation: Evaluation,
    sweep: Option<Sensitivity>,
    /// Bytes of the file that the target reads.
    file_bytes: Option<u64>,
}

impl Measured {
    fn of(
        model: &OpenModel,
        plan: &Plan,
        data: &OpenData,
        target: Option<(&TargetProfile, &FittedPlan)>,
        arguments: &ReportArguments,
    ) -> Result<Self, SessionError> {
        let tuned = tuned(model, plan.clone(), data, &arguments.plan, arguments.output)?;
        let stored = target
            .map(|(profile, _)| stored_model(model, &tuned, data, profile))
            .transpose()?;
        Ok(Self {
            evaluation: evaluation(&tuned, stored.as_ref(), data, arguments)?,
            sweep: swept(&tuned, data, arguments)?,
            file_bytes: stored.map(|stored| stored.size_bytes),
            tuned,
        })
    }
}

fn open_data(
    model: &OpenModel,
    arguments: &ReportArguments,
) -> Result<Option<OpenData>, SessionError> {
    let Some(folder) = &arguments.data else {
        return Ok(None);
    };
    let data = OpenData::open(model, arguments.data_options.request(folder.clone()))?;
    announce(&data, arguments.output);
    Ok(Some(data))
}

fn evaluation(
    tuned: &Tuned,
    stored: Option<&StoredModel>,
    data: &OpenData,
    arguments: &ReportArguments,
) -> Result<Evaluation, SessionError> {
    let (executor, prepared) = match stored {
        Some(stored) => (&stored.executor, stored.prepared.clone()),
        None => (&*tuned.executor, tuned.prepared.clone()),
    };
    let mut progress = Progress::new("Evaluating", data.evaluation.len(), arguments.output);
    let cancel = CancelToken::default();
    let evaluation = evaluate_plan(
        executor,
        &prepared,
        &data.evaluation,
        None,
        usize::MAX,
        &cancel,
        &mut |so_far| progress.show(so_far.samples, ""),
    )?;
    Ok(evaluation)
}

/// How much every weight hurts, if widths were asked for.
fn swept(
    tuned: &Tuned,
    data: &OpenData,
    arguments: &ReportArguments,
) -> Result<Option<Sensitivity>, SessionError> {
    if arguments.sensitivity.is_empty() {
        return Ok(None);
    }
    let request = SensitivityRequest {
        protocol: Protocol::OnlyOne,
        subject: Subject::Weights,
        widths: arguments.sensitivity.clone(),
    };
    let mut progress = Progress::new("Sensitivity", data.evaluation.len(), arguments.output);
    let sweep = sensitivity(
        &tuned.executor,
        &tuned.plan,
        tuned.ranges.as_deref(),
        &request,
        &data.evaluation,
        &CancelToken::default(),
        &mut |so_far| progress.show(so_far.samples, ""),
    )?;
    Ok(Some(sweep))
}

/// The command as it was given, in the words of a shell.
fn command_line() -> String {
    let words = std::env::args_os().skip(1);
    let quoted = words.map(|word| shell_word(&word.to_string_lossy()));
    std::iter::once("quantscope".to_owned())
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a shell takes it, in quotes where it needs them.
fn shell_word(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        for (word, quoted) in [
            ("--set", "--set"),
            ("*2*=4/8", "'*2*=4/8'"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("mean=.5;std=.2", "'mean=.5;std=.2'"),
        ] {
            assert_eq!(shell_word(word), quoted);
        }
    }
}
