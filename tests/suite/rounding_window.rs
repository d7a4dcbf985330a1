//! Weights rounded on calibration data in an open document: the same numbers as on the command line, at
//! once when a choice comes back, and shown beside the nearest levels.

use std::sync::Arc;

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use quantscope::model::LayerId;
use quantscope::plan::{Correction, Preset, Rounding};
use quantscope::quant::QuantizedWeights;
use quantscope::session::{Action, LayerEdit, RoundingState, Session};

use crate::common::{self, quantscope, sample};
use crate::window::{Window, apply, measured, open_sample, session, tall_window, wait_until};

fn all(session: &Session) -> Vec<LayerId> {
    (0..session.plan().layers().len() as u32)
        .map(LayerId)
        .collect()
}

fn edit_all(session: &mut Session, edit: LayerEdit) {
    let layers = all(session);
    session.apply(Action::Edit { layers, edit });
}

fn wait_for_result(session: &mut Session) {
    common::wait_until(session, "the plan's result", measured);
}

fn opened(index: usize) -> Session {
    let mut session = common::session();
    session.apply(Action::OpenSample(index));
    wait_for_result(&mut session);
    session.apply(Action::ApplyPreset(Preset::by_name("W4A8").unwrap()));
    session
}

/// Accuracy and SQNR in dB of the command line on the same data.
fn on_the_command_line(model: &str, options: &[&str]) -> (f64, f64) {
    let [model, data, calibration] =
        [model, "signs/eval", "signs/calib"].map(|name| sample(name).display().to_string());
    let mut arguments = vec!["eval", &model, "--data", &data, "--calib", &calibration];
    arguments.extend(["--preset", "W4A8", "--json", "--quiet"]);
    arguments.extend(options);
    let (code, out, error) = quantscope(&arguments);
    assert_eq!(code, Some(0), "{error}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let top1 = report["plan"]["top1"].as_f64().unwrap();
    (top1, report["sqnr_db"].as_f64().unwrap())
}

fn in_the_session(session: &Session) -> (f64, f64) {
    let evaluation = &session.result().unwrap().evaluation;
    let sqnr_db = evaluation.comparison.sqnr_db().unwrap();
    (evaluation.plan.top1().unwrap(), sqnr_db)
}

fn rounded(session: &Session, layer: u32) -> Arc<QuantizedWeights> {
    Arc::clone(&session.rounded_layer(LayerId(layer)).unwrap().weights)
}

#[test]
fn rounding_gives_the_numbers_of_the_command_line_and_is_kept() {
    let mut session = opened(1);
    edit_all(&mut session, LayerEdit::Rounding(Rounding::Auto));
    assert_eq!(session.rounding_state(LayerId(0)), RoundingState::Waiting);
    wait_for_result(&mut session);
    // In the window calibrators are chosen by a command of their own.
    let options = ["--rounding", "auto", "--calibrator", "minmax"];
    let expected = on_the_command_line("signs-mobilenet.onnx", &options);
    assert_eq!(in_the_session(&session), expected);
    assert_eq!(session.rounding_state(LayerId(0)), RoundingState::Done);

    // The same widths to the nearest levels are measured beside it.
    common::wait_until(&mut session, "the counterpart", |session| {
        session.counterpart().is_some()
    });
    let counterpart = session.counterpart().unwrap();
    let (top1, sqnr_db) = on_the_command_line("signs-mobilenet.onnx", &[]);
    assert_eq!(counterpart.metrics.top1(), Some(top1));
    assert_eq!(counterpart.comparison.sqnr_db(), Some(sqnr_db));
    assert!(expected.1 > sqnr_db + 3.0, "{expected:?} {sqnr_db}");

    // Layers before one that changes are not rounded again, and neither is what comes back.
    let last = session.plan().layers().len() as u32 - 1;
    let [first, before] = [0, last].map(|layer| rounded(&session, layer));
    session.apply(Action::Edit {
        layers: vec![LayerId(last)],
        edit: LayerEdit::WeightFormat("5".parse().unwrap()),
    });
    wait_for_result(&mut session);
    assert!(Arc::ptr_eq(&first, &rounded(&session, 0)));
    assert!(!Arc::ptr_eq(&before, &rounded(&session, last)));
    session.apply(Action::Undo);
    wait_for_result(&mut session);
    assert!(Arc::ptr_eq(&before, &rounded(&session, last)));
    assert_eq!(in_the_session(&session), expected);
}

#[test]
fn equalized_layers_give_the_numbers_of_the_command_line() {
    let mut session = opened(0);
    edit_all(&mut session, LayerEdit::Rounding(Rounding::Gptq));
    edit_all(&mut session, LayerEdit::Correct(Correction::Equalize, true));
    wait_for_result(&mut session);
    let pairs = session.tuned().unwrap().equalized_pairs;
    assert!(pairs.is_some_and(|pairs| pairs > 0), "{pairs:?}");
    let options = ["--rounding", "gptq", "--correct", "equalize"];
    let (top1, sqnr_db) = on_the_command_line("signs-resnet.onnx", &options);
    let (own_top1, own_sqnr_db) = in_the_session(&session);
    // The command line compares with the equalized float network, which differs in the last bits.
    assert_eq!(own_top1, top1);
    assert!(
        (own_sqnr_db - sqnr_db).abs() < 0.01,
        "{own_sqnr_db} {sqnr_db}"
    );
}

#[test]
fn the_newest_choice_wins_and_cancelling_stops() {
    let mut session = opened(0);
    edit_all(&mut session, LayerEdit::Rounding(Rounding::Descent));
    let is_rounding = |session: &Session| {
        let jobs = session.running_jobs();
        jobs.iter().any(|job| job.name == "Rounding weights")
    };
    assert!(is_rounding(&session));
    session.apply(Action::CancelJobs);
    common::wait_until(&mut session, "the end of all jobs", |session| {
        session.running_jobs().is_empty()
    });
    assert!(session.tuned().is_none() && session.result().is_none());
    edit_all(&mut session, LayerEdit::Rounding(Rounding::Auto));
    edit_all(&mut session, LayerEdit::Rounding(Rounding::Nearest));
    wait_for_result(&mut session);
    assert!(session.tuned().is_none() && session.counterpart().is_none());
    let (top1, sqnr_db) = on_the_command_line("signs-resnet.onnx", &[]);
    assert_eq!(in_the_session(&session), (top1, sqnr_db));
}

#[test]
fn calibrators_are_chosen_as_on_the_command_line() {
    let mut session = opened(1);
    wait_for_result(&mut session);
    let before = session.plan().clone();
    session.apply(Action::ChooseCalibrators);
    common::wait_until(&mut session, "the calibrators", |session| {
        *session.plan() != before
    });
    wait_for_result(&mut session);
    let expected = on_the_command_line("signs-mobilenet.onnx", &["--calibrator", "auto"]);
    assert_eq!(in_the_session(&session), expected);
    session.apply(Action::Undo);
    assert_eq!(*session.plan(), before);
}

/// Opens a list by its name, and takes an entry of it.
#[track_caller]
fn choose(window: &mut Window, list: &str, entry: &str) {
    window.get_by_label(list).click();
    window.run_steps(3);
    let entries = window.query_all_by_label(entry);
    entries.last().unwrap().click();
    window.run_steps(3);
}

fn roundings(window: &Window) -> Vec<Rounding> {
    let layers = session(window).plan().layers().iter();
    layers.map(|layer| layer.rounding).collect()
}

#[test]
fn a_plan_is_rounded_by_hand_and_taken_back() {
    let mut window = tall_window(egui::Theme::Dark);
    open_sample(&mut window);
    window.key_press_modifiers(Modifiers::COMMAND, Key::A);
    window.run_steps(2);
    window.key_press(Key::Num3);
    window.run_steps(2);
    wait_until(&mut window, "the result at three bits", measured);
    choose(&mut window, "Rounding of the plan", "auto");
    assert!(roundings(&window).iter().all(|one| *one == Rounding::Auto));
    wait_until(&mut window, "the rounded result", measured);
    wait_until(&mut window, "the counterpart", |session| {
        session.counterpart().is_some()
    });
    window.get_by_label("Gain by rounding");
    wait_until(&mut window, "the layer as it was rounded", |session| {
        let inspection = session.inspection();
        inspection.is_some_and(|inspection| inspection.rounded.is_some())
    });
    let inspection = session(&window).inspection().unwrap();
    let rounded = inspection.rounded.as_ref().unwrap();
    let [nearest, now] = rounded.output_sqnr_db;
    assert!(now > nearest, "{nearest} {now}");
    let shown = format!("{now:.1} dB");
    window.get_by_label("output SQNR");
    assert!(
        window.query_all_by_label(&shown).next().is_some(),
        "{shown}"
    );

    choose(&mut window, "Weight rounding", "gptq");
    assert!(roundings(&window).iter().all(|one| *one == Rounding::Gptq));
    window.get_by_label("Correct bias").click();
    window.run_steps(2);
    let corrected = |window: &Window| {
        let mut layers = session(window).plan().layers().iter();
        layers.all(|layer| layer.corrections.bias)
    };
    assert!(corrected(&window));
    for expected in [Rounding::Gptq, Rounding::Auto, Rounding::Nearest] {
        window.get_by_label("Undo").click();
        window.run_steps(2);
        assert!(roundings(&window).iter().all(|one| *one == expected));
    }
    assert!(!corrected(&window));
}

#[test]
fn without_data_the_remedy_is_told_and_a_project_keeps_the_choice() {
    let mut window = tall_window(egui::Theme::Light);
    window.step();
    apply(&mut window, Action::OpenModel(sample("signs-resnet.onnx")));
    wait_until(&mut window, "the first layer", |session| {
        session.inspection().is_some()
    });
    choose(&mut window, "Weight rounding", "descent");
    assert_eq!(
        session(&window).rounding_state(LayerId(0)),
        RoundingState::NoData
    );
    let told = window.query_all_by_label_contains("open a data folder");
    assert!(told.count() >= 2, "in the inspector and as a message");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rounded.qscope");
    let plan = session(&window).plan().clone();
    apply(&mut window, Action::SaveProject(path.clone()));
    wait_until(&mut window, "the project", |session| {
        session.project_path().is_some()
    });
    let mut again = common::session();
    again.apply(Action::OpenProject(path));
    common::wait_until(&mut again, "the model", |session| {
        session.project_path().is_some()
    });
    assert_eq!(*again.plan(), plan);
}
