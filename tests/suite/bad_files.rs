//! Bad input gives a clear message and leaves the open session as it was.

use std::path::{Path, PathBuf};

use quantscope::plan::{Plan, Widths};
use quantscope::session::{Action, DataRequest, Session};

use crate::common::{quantscope, root, sample, session, shared, wait_until};

/// A message must name the file and hold this.
struct Case {
    name: &'static str,
    file: PathBuf,
    says: &'static str,
}

fn write(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn bad_models(folder: &Path) -> Vec<Case> {
    let good = std::fs::read(sample("signs-resnet.onnx")).unwrap();
    let case = |name, file, says| Case { name, file, says };
    let mut cases = vec![
        case(
            "truncated",
            write(folder, "truncated.onnx", &good[..good.len() / 2]),
            "not a valid",
        ),
        case(
            "text",
            write(folder, "text.onnx", b"this is not a model"),
            "not a valid",
        ),
        case("empty", write(folder, "empty.onnx", b""), "not a valid"),
        case("unknown format", write(folder, "model.xyz", b"?"), "xyz"),
        case("missing", folder.join("missing.onnx"), "cannot read"),
        case(
            "broken safetensors",
            write(
                folder,
                "broken.safetensors",
                b"\xff\xff\xff\xff\xff\xff\xff\x7f{",
            ),
            "safetensors",
        ),
        case(
            "broken checkpoint",
            write(folder, "broken.pth", b"PK\x03\x04 nonsense"),
            "pth",
        ),
    ];
    cases.push(case("NaN weights", golden("nan_weight.onnx"), "\"w\""));
    cases.push(case("huge weights", golden("huge_weight.onnx"), "\"w\""));
    if let Some(legacy) = shared("data/models/resnet20-cifar10-legacy-pickle.th") {
        cases.push(case("legacy pickle", legacy, "torch.save"));
    }
    cases
}

fn golden(name: &str) -> PathBuf {
    root().join("tests/golden/bad").join(name)
}

#[test]
fn an_unsupported_operator_opens_and_stops_the_run_by_name() {
    let model = golden("unsupported_op.onnx");
    let model = model.to_str().unwrap();
    let (code, out, err) = quantscope(&["info", model]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("Hardmax") && out.contains("unsupported"),
        "{out}"
    );
    let data = sample("signs/eval");
    let data = data.to_str().unwrap();
    let (code, _, err) = quantscope(&["eval", model, "--data", data, "--activations", "f32"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("the_hardmax"), "{err}");
}

#[test]
fn bad_models_are_refused_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    for Case { name, file, says } in bad_models(folder.path()) {
        let (code, out, err) = quantscope(&["info", file.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{name}: {err}");
        assert!(out.is_empty(), "{name}: {out}");
        assert!(err.contains(says), "{name}: {err}");
        assert!(
            err.contains(file.file_name().unwrap().to_str().unwrap()),
            "{name}: {err}"
        );
        assert!(!err.contains("panicked"), "{name}: {err}");
    }
}

fn open_sample() -> Session {
    let mut session = session();
    session.apply(Action::OpenSample(0));
    wait_until(&mut session, "the first result", |session| {
        session.result().is_some_and(|result| result.finished)
    });
    session
}

#[test]
fn bad_models_leave_the_session_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = open_sample();
    let plan = session.plan().clone();
    for Case { name, file, says } in bad_models(folder.path()) {
        let before = session.messages().len();
        session.apply(Action::OpenModel(file));
        wait_until(&mut session, name, |session| {
            session.messages().len() > before
        });
        let message = session.messages().last().unwrap();
        assert!(message.text.contains(says), "{name}: {}", message.text);
        assert_eq!(session.plan(), &plan, "{name}");
        assert!(
            session.result().is_some_and(|result| result.finished),
            "{name}"
        );
    }
}

#[test]
fn bad_data_is_refused_and_the_open_data_stays() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let texts = folder.path().join("texts");
    std::fs::create_dir_all(texts.join("class")).unwrap();
    write(&texts.join("class"), "notes.txt", b"no picture");
    let mut session = open_sample();
    for path in [empty, texts, folder.path().join("missing")] {
        let before = session.messages().len();
        session.apply(Action::OpenData(DataRequest::new(path.clone())));
        wait_until(&mut session, "a message", |session| {
            session.messages().len() > before
        });
        let text = &session.messages().last().unwrap().text;
        assert!(
            text.contains(path.file_name().unwrap().to_str().unwrap()),
            "{text}"
        );
        assert!(session.data().is_some());
        assert!(session.result().is_some_and(|result| result.finished));
    }
}

#[test]
fn unreadable_pictures_are_skipped_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("stop");
    std::fs::create_dir(&class).unwrap();
    let source = std::fs::read_dir(sample("signs/eval"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    for (index, entry) in std::fs::read_dir(source).unwrap().take(4).enumerate() {
        std::fs::copy(entry.unwrap().path(), class.join(format!("{index}.png"))).unwrap();
    }
    write(&class, "broken.jpg", b"\xff\xd8\xff\xe0 and then nothing");
    write(&class, "notes.txt", b"no picture");
    let (code, out, err) = quantscope(&[
        "eval",
        sample("signs-resnet.onnx").to_str().unwrap(),
        "--data",
        folder.path().to_str().unwrap(),
        "--calib",
        sample("signs/calib").to_str().unwrap(),
        "--json",
        "--quiet",
    ]);
    assert_eq!(code, Some(0), "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["samples"], 4);
    let skipped = report["skipped"].to_string();
    assert!(
        skipped.contains("broken.jpg") && skipped.contains("notes.txt"),
        "{skipped}"
    );
}

#[test]
fn a_plan_for_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let resnet = sample("signs-resnet.onnx");
    let (code, _, err) = quantscope(&[
        "export",
        resnet.to_str().unwrap(),
        "--weights",
        "4",
        "--out",
        out,
    ]);
    assert_eq!(code, Some(0), "{err}");
    let plan = folder.path().join("plan.json");
    let (code, _, err) = quantscope(&[
        "eval",
        sample("signs-mobilenet.onnx").to_str().unwrap(),
        "--data",
        sample("signs/eval").to_str().unwrap(),
        "--plan",
        plan.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("signs-resnet.onnx"), "{err}");
}

#[test]
fn wrong_usage_is_told_with_the_legal_values() {
    let resnet = sample("signs-resnet.onnx");
    let (model, data) = (resnet.to_str().unwrap(), sample("signs/eval"));
    let data = data.to_str().unwrap();
    for (arguments, says) in [
        (vec!["--weights", "0"], "1"),
        (vec!["--weights", "17"], "16"),
        (vec!["--set", "nothing*=4/4"], "nothing*"),
        (vec!["--calibrator", "best"], "minmax"),
        (vec!["--preprocess", "scale=0"], "scale"),
        (vec!["--plan", "missing.json"], "missing.json"),
    ] {
        let mut all = vec!["eval", model, "--data", data];
        all.extend(&arguments);
        let (code, _, err) = quantscope(&all);
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn pictures_for_a_model_of_another_shape_are_refused() {
    let Some(vit) = shared("data/models/dscnn-kws.onnx") else {
        return;
    };
    let data = sample("signs/eval");
    let (code, _, err) = quantscope(&[
        "eval",
        vit.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ]);
    // One channel of 49 × 10: the pictures are read as grey, but their labels go beyond the model's classes.
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn an_unwritable_export_path_is_named() {
    let mut session = open_sample();
    let path = std::env::temp_dir().join("no-such-folder-for-quantscope/plan.json");
    let before = session.messages().len();
    session.apply(Action::ExportPlan(path));
    wait_until(&mut session, "a message", |session| {
        session.messages().len() > before
    });
    let text = session.messages().last().unwrap().text.clone();
    assert!(text.contains("no-such-folder-for-quantscope"), "{text}");
}

#[test]
fn a_quantized_input_without_calibration_says_so() {
    let model = quantscope::session::OpenModel::open(&sample("signs-resnet.onnx")).unwrap();
    let plan = Plan::uniform(model.layers().len(), "8/8".parse::<Widths>().unwrap());
    let error = model.executor.prepare(&plan, None).unwrap_err().to_string();
    assert!(error.contains("calibrate first"), "{error}");
}

#[test]
fn the_window_names_the_operator_that_stops_the_run() {
    let mut session = session();
    let data = DataRequest::new(sample("signs/eval"));
    session.apply(Action::OpenModelWithData(
        golden("unsupported_op.onnx"),
        data,
    ));
    wait_until(&mut session, "the failed run", |session| {
        session.messages().len() >= 2
    });
    let texts: Vec<&str> = session
        .messages()
        .iter()
        .map(|message| message.text.as_str())
        .collect();
    assert!(texts[0].contains("Hardmax"), "{texts:?}");
    assert!(texts[1].contains("the_hardmax"), "{texts:?}");
    assert!(session.model().is_some());
}

#[test]
fn a_plan_for_another_model_leaves_the_plan_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let other = sample("signs-mobilenet.onnx");
    let (code, _, err) = quantscope(&["export", other.to_str().unwrap(), "--out", out]);
    assert_eq!(code, Some(0), "{err}");
    let mut session = open_sample();
    let (plan, before) = (session.plan().clone(), session.messages().len());
    session.apply(Action::ImportPlan(folder.path().join("plan.json")));
    wait_until(&mut session, "a message", |session| {
        session.messages().len() > before
    });
    let text = &session.messages().last().unwrap().text;
    assert!(text.contains("signs-mobilenet.onnx"), "{text}");
    assert_eq!(session.plan(), &plan);
}

#[test]
fn grey_pictures_for_a_colour_model_are_refused_with_both_numbers() {
    let mut session = open_sample();
    let before = session.messages().len();
    session.apply(Action::SetPreprocess("unit;channels=gray".parse().unwrap()));
    wait_until(&mut session, "a message", |session| {
        session.messages().len() > before
    });
    let text = &session.messages().last().unwrap().text;
    assert!(
        text.contains("1 channels") && text.contains("[3, 32, 32]"),
        "{text}"
    );
    assert!(session.result().is_some_and(|result| result.finished));
}
