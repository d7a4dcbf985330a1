//! The main job: open, measure, change, undo, export, reload.

use quantscope::engine::{Protocol, SensitivityRequest, Subject};
use quantscope::model::LayerId;
use quantscope::plan::Preset;
use quantscope::session::{Action, Basis, LayerEdit, Session};

use crate::common::{quantscope, sample, session, shared, wait_until};

fn open_sample() -> Session {
    open(0)
}

fn open(sample: usize) -> Session {
    let mut session = session();
    session.apply(Action::OpenSample(sample));
    wait_for_result(&mut session);
    session
}

fn wait_for_result(session: &mut Session) {
    wait_until(session, "the plan's result", |session| {
        session.result().is_some_and(|result| result.finished)
    });
}

#[test]
fn a_sample_opens_and_is_measured_by_itself() {
    let session = open_sample();
    let (float, finished) = session.float().unwrap();
    assert!(finished);
    let top1 = float.metrics.top1().unwrap();
    assert!((0.90..=0.98).contains(&top1), "float top-1 {top1}");
    let result = session.result().unwrap();
    assert_eq!(result.evaluation.samples, float.samples);
    assert_eq!(session.history().len(), 1);
}

#[test]
fn inputs_that_kernels_read_in_one_type_change_together() {
    let Some(detector) = shared("data/models/yolox-nano-coco.onnx") else {
        return;
    };
    let mut session = session();
    session.apply(Action::OpenModel(detector));
    wait_until(&mut session, "the model", |session| {
        session.model().is_some()
    });
    let preset = Preset::by_name("W8A8").unwrap();
    session.apply(Action::ApplyPreset(preset));
    let groups = session.model().unwrap().groups.clone();
    let tied = groups.iter().find(|group| group.len() > 1);
    let tied = tied.unwrap().clone();
    let widths = |session: &Session| -> Vec<String> {
        let layers = session.plan().layers().iter();
        layers
            .map(|layer| layer.activation.format.to_string())
            .collect()
    };
    session.apply(Action::Edit {
        layers: vec![tied[0]],
        edit: LayerEdit::ActivationFormat("4".parse().unwrap()),
    });
    for (index, width) in (0u32..).zip(widths(&session)) {
        let expected = if tied.contains(&LayerId(index)) {
            "4"
        } else {
            "8"
        };
        assert_eq!(width, expected, "layer {index}");
    }
    let weights = session.plan().layers().iter();
    assert!(
        weights
            .clone()
            .all(|layer| layer.weight.format.to_string() == "8")
    );
    session.apply(Action::Undo);
    assert!(widths(&session).iter().all(|width| width == "8"));
    // A locked layer keeps its width.
    session.apply(Action::Edit {
        layers: vec![tied[1]],
        edit: LayerEdit::Locked(true),
    });
    session.apply(Action::Edit {
        layers: vec![tied[0]],
        edit: LayerEdit::BothFormats("6".parse().unwrap()),
    });
    let locked = &session.plan().layers()[tied[1].index()];
    assert_eq!(locked.activation.format.to_string(), "8");
    let edited = &session.plan().layers()[tied[0].index()];
    assert_eq!(edited.activation.format.to_string(), "6");
}

#[test]
fn a_changed_width_updates_the_size_at_once_and_never_shows_the_old_result() {
    let mut session = open_sample();
    let before = *session.cost().unwrap();
    let layers: Vec<LayerId> = (0..3).map(LayerId).collect();
    session.apply(Action::Edit {
        layers,
        edit: LayerEdit::WeightFormat("4".parse().unwrap()),
    });
    assert!(session.cost().unwrap().size_bytes < before.size_bytes);
    assert!(
        session
            .result()
            .is_none_or(|result| result.evaluation.samples == 0)
    );
    wait_for_result(&mut session);
    assert_eq!(session.history().len(), 2);
    session.apply(Action::Undo);
    assert_eq!(*session.cost().unwrap(), before);
    session.apply(Action::Redo);
    assert!(session.cost().unwrap().size_bytes < before.size_bytes);
}

#[test]
fn an_estimate_stands_in_until_the_first_samples_are_measured() {
    let mut session = open_sample();
    wait_until(&mut session, "the local errors", |session| {
        session
            .local_errors()
            .is_some_and(|errors| errors.samples == errors.total)
    });
    assert!(!session.plan_sqnr_db().unwrap().is_predicted());
    let all: Vec<LayerId> = (0..session.plan().layers().len() as u32)
        .map(LayerId)
        .collect();
    let count = all.len();
    let mut estimates = Vec::new();
    for width in ["4", "3"] {
        session.apply(Action::Edit {
            layers: all.clone(),
            edit: LayerEdit::WeightFormat(width.parse().unwrap()),
        });
        let estimate = session.plan_sqnr_db().unwrap();
        let parts = 2 * count;
        assert_eq!(
            estimate.basis,
            Basis::Predicted {
                known: count,
                parts
            }
        );
        estimates.push(estimate.value);
    }
    assert!(estimates[1] < estimates[0] - 3.0, "{estimates:?}");
    assert_eq!(session.plan_top1(), None, "no sweep tells of accuracy");
    wait_for_result(&mut session);
    let samples = session.result().unwrap().evaluation.samples;
    let total = samples;
    let measured = Basis::Measured { samples, total };
    assert_eq!(session.plan_sqnr_db().unwrap().basis, measured);
    assert_eq!(session.plan_top1().unwrap().basis, measured);
}

#[test]
fn a_sweep_waits_while_an_edit_is_measured_and_goes_on_afterwards() {
    let mut session = open_sample();
    let is_paused = |session: &Session| {
        let jobs = session.running_jobs();
        jobs.iter()
            .find(|job| job.name == "Sensitivity")
            .map(|job| job.paused)
    };
    session.apply(Action::RunSensitivity(SensitivityRequest {
        protocol: Protocol::OnlyOne,
        subject: Subject::Weights,
        widths: vec!["8".parse().unwrap(), "4".parse().unwrap()],
    }));
    assert_eq!(is_paused(&session), Some(false));
    session.apply(Action::ApplyPreset(Preset::by_name("W4A8").unwrap()));
    assert_eq!(is_paused(&session), Some(true));
    wait_for_result(&mut session);
    wait_until(&mut session, "the sweep", |session| {
        session
            .sensitivity()
            .is_some_and(|sweep| sweep.samples >= 32)
    });
    session.apply(Action::CancelJobs);
    wait_until(&mut session, "the end of all jobs", |session| {
        session.running_jobs().is_empty()
    });
    assert!(session.sensitivity().unwrap().samples >= 32);
}

#[test]
fn low_widths_hurt_visibly() {
    // The depthwise-separable network loses at 4 bits, the residual one at 3.
    for (sample, width) in [(1, "4"), (0, "3")] {
        let mut session = open(sample);
        let eight = session.result().unwrap().evaluation.plan.top1().unwrap();
        let layers = (0..session.plan().layers().len() as u32)
            .map(LayerId)
            .collect();
        session.apply(Action::Edit {
            layers,
            edit: LayerEdit::WeightFormat(width.parse().unwrap()),
        });
        wait_for_result(&mut session);
        let few = session.result().unwrap().evaluation.plan.top1().unwrap();
        assert!(few < eight - 0.02, "8 bits: {eight}, {width} bits: {few}");
    }
}

#[test]
fn locked_layers_keep_their_widths_under_a_preset() {
    let mut session = open_sample();
    session.apply(Action::Edit {
        layers: vec![LayerId(1)],
        edit: LayerEdit::Locked(true),
    });
    session.apply(Action::ApplyPreset(Preset::by_name("W4A4").unwrap()));
    let widths = |id| session.plan().layer(id).unwrap().widths().to_string();
    assert_eq!(
        (widths(LayerId(0)), widths(LayerId(1))),
        ("4/4".to_owned(), "8/8".to_owned())
    );
}

#[test]
fn an_exported_plan_gives_the_same_numbers_on_the_command_line() {
    let mut session = open_sample();
    session.apply(Action::ApplyPreset(Preset::by_name("W4A8").unwrap()));
    wait_for_result(&mut session);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    session.apply(Action::ExportPlan(path.clone()));
    wait_until(&mut session, "the file", |session| {
        session
            .messages()
            .iter()
            .any(|message| message.title == "Export plan")
    });
    let (code, out, err) = quantscope(&[
        "eval",
        sample("signs-resnet.onnx").to_str().unwrap(),
        "--data",
        sample("signs/eval").to_str().unwrap(),
        "--calib",
        sample("signs/calib").to_str().unwrap(),
        "--plan",
        path.to_str().unwrap(),
        "--json",
        "--quiet",
    ]);
    assert_eq!(code, Some(0), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let evaluation = &session.result().unwrap().evaluation;
    assert_eq!(report["plan"]["top1"].as_f64(), evaluation.plan.top1());
    assert_eq!(report["sqnr_db"].as_f64(), evaluation.comparison.sqnr_db());
    assert_eq!(
        report["size_bytes"].as_u64(),
        Some(session.cost().unwrap().size_bytes)
    );
}

#[test]
fn a_project_brings_back_plan_and_history() {
    let mut session = open_sample();
    session.apply(Action::ApplyPreset(Preset::by_name("W4A8").unwrap()));
    wait_for_result(&mut session);
    session.apply(Action::Rename(0, "all eight".to_owned()));
    session.apply(Action::Pin(0, true));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signs.qscope");
    session.apply(Action::SaveProject(path.clone()));
    wait_until(&mut session, "the project", |session| {
        session.project_path().is_some()
    });
    assert!(!session.is_modified());
    session.apply(Action::Pin(1, true));
    assert!(session.is_modified(), "a pin is worth saving");
    session.apply(Action::Pin(1, false));
    let (plan, history) = (session.plan().clone(), session.history().to_vec());

    let mut again = crate::common::session();
    again.apply(Action::OpenProject(path.clone()));
    wait_until(&mut again, "the history", |session| {
        session.history().len() == 2
    });
    assert_eq!(again.plan(), &plan);
    assert_eq!(again.history(), history);
    assert_eq!(again.history()[0].name, "all eight");

    // A file from before there were pins.
    let text = std::fs::read_to_string(&path).unwrap();
    let mut project: serde_json::Value = serde_json::from_str(&text).unwrap();
    for entry in project["history"].as_array_mut().unwrap() {
        let entry = entry.as_object_mut().unwrap();
        entry.remove("pinned").unwrap();
        entry.remove("measured_secs").unwrap();
    }
    std::fs::write(&path, project.to_string()).unwrap();
    let mut old = crate::common::session();
    old.apply(Action::OpenProject(path));
    wait_until(&mut old, "the old history", |session| {
        session.history().len() == 2
    });
    assert!(old.history().iter().all(|entry| !entry.pinned));
}

#[test]
fn a_pinned_plan_stays_and_a_deleted_one_comes_back() {
    let mut session = open_sample();
    session.apply(Action::Pin(0, true));
    session.apply(Action::Forget(0));
    assert_eq!(session.history().len(), 1);
    session.apply(Action::Pin(0, false));
    session.apply(Action::Forget(0));
    assert!(session.history().is_empty());
    session.apply(Action::Recall);
    session.apply(Action::Recall);
    assert_eq!(session.history().len(), 1);
    assert!(session.record(session.plan_fingerprint()).is_some());
}

#[test]
fn predictions_belong_to_the_current_plan_and_agree_with_its_counts() {
    let mut session = open_sample();
    let evaluation = &session.result().unwrap().evaluation;
    let right = evaluation.predictions.iter();
    let right = right.filter(|row| row.is_right() == Some(true)).count();
    assert_eq!(right as u64, evaluation.plan.top1_hits);
    let (float, _) = session.float().unwrap();
    let pairs = float.predictions.iter().zip(evaluation.predictions.iter());
    let class = |row: &quantscope::engine::SamplePrediction| row.best().unwrap().class;
    let agreements = pairs.filter(|(a, b)| a.sample == b.sample && class(a) == class(b));
    assert_eq!(agreements.count() as u64, evaluation.comparison.agreements);
    session.apply(Action::ApplyPreset(Preset::by_name("W4A8").unwrap()));
    assert!(
        session.result().is_none(),
        "nothing of the old plan is shown"
    );
    wait_for_result(&mut session);
    assert_eq!(
        session
            .record(session.plan_fingerprint())
            .unwrap()
            .predictions,
        session.result().unwrap().evaluation.predictions
    );
}

#[test]
fn cancelling_keeps_what_was_found_and_stops_quickly() {
    let mut session = open_sample();
    session.apply(Action::ApplyPreset(Preset::by_name("W4A8").unwrap()));
    session.apply(Action::CancelJobs);
    wait_until(&mut session, "the end of all jobs", |session| {
        session.running_jobs().is_empty()
    });
    assert_eq!(session.history().len(), 1);
    session.apply(Action::Evaluate);
    wait_for_result(&mut session);
    assert_eq!(session.history().len(), 2);
}
