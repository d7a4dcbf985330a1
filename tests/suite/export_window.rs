//! Exporting in the window, and files and work that are not lost without a question.

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable as _;
use quantscope::export::RuntimeOutcome;
use quantscope::plan::{Preset, TargetProfile};
use quantscope::session::{Action, ExportEnd, ExportReport, Session};

use crate::common::sample;
use crate::frame::find_command;
use crate::window::{Window, apply, measured, open_sample, session, tall_window, wait_until};

fn opened() -> Window {
    let mut window = tall_window(egui::Theme::Dark);
    open_sample(&mut window);
    window
}

#[track_caller]
fn click(window: &mut Window, label: &str) {
    window.get_by_label(label).click();
    window.run_steps(3);
}

fn shows(window: &Window, text: &str) -> bool {
    window.query_all_by_label_contains(text).next().is_some()
}

/// Replaces the text of a field.
fn type_into(window: &mut Window, field: &str, text: &str) {
    window.get_by_label(field).focus();
    window.run_steps(2);
    window.key_press_modifiers(Modifiers::COMMAND, Key::A);
    window.run_steps(2);
    window.get_by_label(field).type_text(text);
    window.run_steps(2);
}

fn written(session: &Session) -> Option<&ExportReport> {
    match session.export_end()? {
        ExportEnd::Written(report) => Some(report),
        ExportEnd::Exists(..) | ExportEnd::Failed(_) => None,
    }
}

fn runtime(name: &str) -> &'static TargetProfile {
    TargetProfile::by_name(name).unwrap()
}

#[test]
fn a_plan_is_exported_and_nothing_is_replaced_without_a_question() {
    let mut window = opened();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    click(&mut window, "Export…");
    assert!(shows(&window, "ONNX Runtime takes this plan as it is"));
    type_into(&mut window, "Folder", &out.display().to_string());
    wait_until(&mut window, "the size", |session| {
        session.export_forecast(runtime("onnxruntime")).is_some()
    });
    let forecast = session(&window).export_forecast(runtime("onnxruntime"));
    let expected = forecast.unwrap().size_bytes.clone().unwrap();
    click(&mut window, "Export now");
    wait_until(&mut window, "the files", |session| {
        written(session).is_some()
    });
    let report = written(session(&window)).unwrap();
    assert_eq!(report.exported.size_bytes, expected);
    let model = report.exported.model.clone();
    assert_eq!(std::fs::metadata(&model).unwrap().len(), expected);
    assert!(shows(&window, "Written for ONNX Runtime"));

    std::fs::write(&model, "mine").unwrap();
    click(&mut window, "Export now");
    wait_until(&mut window, "the question", |session| {
        matches!(session.export_end(), Some(ExportEnd::Exists(..)))
    });
    assert!(shows(&window, "is there already"));
    click(&mut window, "Keep them");
    assert!(session(&window).export_end().is_none());
    assert_eq!(std::fs::read(&model).unwrap(), b"mine");
    click(&mut window, "Export now");
    wait_until(&mut window, "the question", |session| {
        matches!(session.export_end(), Some(ExportEnd::Exists(..)))
    });
    click(&mut window, "Replace the files");
    wait_until(&mut window, "the files", |session| {
        written(session).is_some()
    });
    assert_eq!(std::fs::metadata(&model).unwrap().len(), expected);
    window.key_press(Key::Escape);
    window.run_steps(3);
    assert!(!shows(&window, "Written for ONNX Runtime"), "Esc closes it");
}

#[test]
fn what_a_target_would_change_is_listed_before_it_is_written() {
    let mut window = opened();
    let preset = Preset::by_name("W4A8").unwrap();
    apply(&mut window, Action::ApplyPreset(preset));
    wait_until(&mut window, "the result", measured);
    window.key_press_modifiers(Modifiers::COMMAND | Modifiers::SHIFT, Key::E);
    window.run_steps(3);
    click(&mut window, "Target TensorRT");
    let layers = session(&window).plan().layers().len();
    let count = format!("cannot express this plan; {} changes", 2 * layers);
    assert!(shows(&window, &count), "{count}");
    assert!(shows(&window, "4-bit to 8-bit"));
    // A folder that cannot be made is told with the remedy, and nothing is written.
    let inside_a_file = sample("signs-resnet.onnx").join("out");
    type_into(&mut window, "Folder", &inside_a_file.display().to_string());
    click(&mut window, "Export now");
    wait_until(&mut window, "the failure", |session| {
        matches!(session.export_end(), Some(ExportEnd::Failed(_)))
    });
    assert!(shows(&window, "choose a folder that exists"));
}

#[test]
fn an_export_is_verified_where_a_runtime_is_found() {
    let mut window = opened();
    let folder = tempfile::tempdir().unwrap();
    click(&mut window, "Export…");
    type_into(&mut window, "Folder", &folder.path().display().to_string());
    type_into(&mut window, "Python", "no-such-python");
    window.key_press(Key::Tab);
    let asked = |session: &Session| {
        let found = session.runtime_found(runtime("onnxruntime"))?;
        Some(found.asked.is_some())
    };
    wait_until(&mut window, "the answer", |session| {
        asked(session) == Some(true)
    });
    assert!(shows(&window, "no-such-python cannot import"));
    assert!(shows(&window, "type another interpreter above"));
    type_into(&mut window, "Python", " ");
    window.key_press(Key::Tab);
    wait_until(&mut window, "the search", |session| {
        asked(session) == Some(false)
    });
    let found = session(&window).runtime_found(runtime("onnxruntime"));
    if found.unwrap().found.is_err() {
        println!("skipped: no Python interpreter with onnxruntime and numpy");
        return;
    }
    click(&mut window, "Export and verify");
    wait_until(&mut window, "the verification", |session| {
        written(session).is_some()
    });
    let report = written(session(&window)).unwrap();
    assert_eq!(report.unverified, None);
    let verification = report.verification.as_ref().unwrap();
    assert_eq!(verification.samples, 48);
    let RuntimeOutcome::Ran(ran) = &verification.runtime else {
        panic!("not run: {:?}", verification.runtime);
    };
    for level in &ran.levels {
        assert!(level.comparison.agreement().unwrap() >= 0.995);
    }
    assert!(shows(&window, "graph as written"));
    assert!(shows(&window, "relative difference"));
}

#[test]
fn a_typed_path_never_replaces_a_file_without_a_question() {
    let mut window = opened();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.qscope");
    std::fs::write(&path, "mine").unwrap();
    click(&mut window, "Open");
    type_into(&mut window, "Project", &path.display().to_string());
    click(&mut window, "Save project by path");
    wait_until(&mut window, "the question", |session| {
        session.occupied().is_some()
    });
    assert!(shows(&window, "Replace the file that is there?"));
    click(&mut window, "Keep the file");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    click(&mut window, "Save project by path");
    wait_until(&mut window, "the question", |session| {
        session.occupied().is_some()
    });
    click(&mut window, "Replace it");
    wait_until(&mut window, "the project", |session| {
        session.project_path().is_some()
    });
    assert_ne!(std::fs::read(&path).unwrap(), b"mine");
    // The project's own file is written again without a question.
    click(&mut window, "Save project by path");
    assert!(session(&window).occupied().is_none());
}

#[test]
fn a_report_of_the_plan_is_written_from_the_window() {
    let mut window = opened();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    click(&mut window, "Open");
    type_into(&mut window, "Report", &path.display().to_string());
    click(&mut window, "Save report by path");
    wait_until(&mut window, "the report", |_| path.exists());
    let page = std::fs::read_to_string(&path).unwrap();
    let top1 = session(&window).result().unwrap().evaluation.plan.top1();
    let shown = format!("{:.2}", 100.0 * top1.unwrap());
    assert!(page.contains("signs-resnet") && page.contains(&shown));
    assert!(!page.contains("This command writes the report again"));
    wait_until(&mut window, "the end", |session| !session.is_busy());
    click(&mut window, "Save report by path");
    wait_until(&mut window, "the question", |session| {
        session.occupied().is_some()
    });
    click(&mut window, "Keep the file");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page);
}

#[test]
fn another_model_opens_only_when_the_work_is_saved_or_given_up() {
    let mut window = opened();
    let preset = Preset::by_name("W4A8").unwrap();
    apply(&mut window, Action::ApplyPreset(preset));
    let name = |window: &Window| {
        let model = session(window).model().unwrap();
        model.graph().metadata().name.clone()
    };
    let before = name(&window);
    let ask = |window: &mut Window| {
        find_command(window, "open sample depthwise");
        window.key_press(Key::Enter);
        window.run_steps(3);
        assert!(shows(window, "before opening another model?"));
    };
    ask(&mut window);
    click(&mut window, "Keep working");
    assert_eq!(name(&window), before);
    assert!(session(&window).is_modified());

    ask(&mut window);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("work.qscope");
    type_into(&mut window, "Project file", &path.display().to_string());
    click(&mut window, "Save and open");
    wait_until(&mut window, "the other model", |session| {
        let model = session.model().unwrap();
        model.graph().metadata().name != before
    });
    assert!(path.is_file());
    assert!(!session(&window).is_modified());
}
