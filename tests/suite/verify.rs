//! What `--verify` says of an exported file, and how strictly it holds.

use std::path::Path;

use serde_json::Value;

use crate::common::{quantscope, sample};
use crate::export::python;
use crate::exporting::{MIXED_8_4, MIXED_16_8, Subject, W8A8, bundled, number, real};

/// Exports for ONNX Runtime, runs it there, and gives the verification.
#[track_caller]
fn verified(subject: &Subject, target: &str, plan: &[&str]) -> Option<Value> {
    let interpreter = python()?.display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut more = vec!["--verify", "--python", &interpreter];
    more.extend(plan);
    let report = subject.export(target, folder.path(), &more);
    Some(report["verification"].clone())
}

/// The largest difference of an output, relative to its size.
fn largest(outputs: &Value) -> f64 {
    let outputs = outputs.as_array().unwrap().iter();
    let differences = outputs.map(|output| number(&output["relative_difference"]));
    differences.fold(0.0, f64::max)
}

#[test]
fn sums_in_the_runtimes_order_give_its_bits() {
    for model in ["signs-resnet.onnx", "signs-mobilenet.onnx"] {
        for plan in [W8A8, MIXED_8_4, MIXED_16_8] {
            let Some(verification) = verified(&bundled(model), "onnxruntime", plan) else {
                return;
            };
            let plain = &verification["levels"][0];
            assert_eq!(plain["level"], "plain");
            let outputs = &plain["in_order"]["outputs"];
            assert_eq!(largest(outputs), 0.0, "{model} {plan:?}: {outputs}");
        }
    }
}

#[test]
fn a_runtime_inside_the_program_gives_a_second_opinion() {
    for (model, plan, spelled_out) in [
        ("signs-resnet.onnx", W8A8, 0),
        ("signs-mobilenet.onnx", MIXED_8_4, 1),
        ("signs-mobilenet.onnx", MIXED_16_8, 1),
        ("signs-mobilenet.safetensors", W8A8, 0),
    ] {
        let Some(verification) = verified(&bundled(model), "onnxruntime", plan) else {
            return;
        };
        let opinion = &verification["second_opinion"];
        assert_eq!(opinion["runtime"], "rten");
        assert!(opinion["agreement"].as_f64().unwrap() >= 0.99, "{opinion}");
        let (theirs, ours) = (&opinion["top1"], &verification["simulated_top1"]);
        let difference = theirs.as_f64().unwrap() - ours.as_f64().unwrap();
        assert!(difference.abs() <= 0.003, "{model} {plan:?}: {opinion}");
        let changes = opinion["spelled_out"].as_array().unwrap().len();
        assert!(changes >= spelled_out, "{model} {plan:?}: {opinion}");
    }
}

#[test]
fn without_an_interpreter_the_program_asks_its_own_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let model = sample("signs-resnet.onnx").display().to_string();
    let data = sample("signs").join("eval").display().to_string();
    let calib = sample("signs").join("calib").display().to_string();
    let out = folder.path().display().to_string();
    let base = ["export", &model, "--target", "onnxruntime", "--out", &out];
    let base = [&base[..], &["--data", &data, "--calib", &calib, "--quiet"]].concat();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_quantscope"))
        .args([&base[..], &["--limit", "60", "--verify", "--json"]].concat())
        .env("PATH", "")
        .env_remove("QUANTSCOPE_PYTHON")
        .env_remove("VIRTUAL_ENV")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{error}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verification = &report["verification"];
    let absent = verification["runtime_absent"].as_str().unwrap();
    assert!(absent.contains("pip install onnxruntime"), "{absent}");
    let agreement = verification["second_opinion"]["agreement"].as_f64();
    assert!(agreement.unwrap() >= 0.98, "{verification}");
    // An interpreter that is asked for and has no runtime is an error.
    let wrong = [
        &base[..],
        &["--force", "--verify", "--python", "/nowhere/python"],
    ]
    .concat();
    let (code, _, error) = quantscope(&wrong);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("/nowhere/python cannot import onnxruntime"),
        "{error}"
    );
}

#[test]
fn products_are_packed_for_the_runtimes_own_operator() {
    let Some(python) = python() else { return };
    let options = "--data @mnist/test --limit 100 --preprocess mean=.1307;std=.3081;channels=gray";
    let Some(vit) = real(("vit-mnist.onnx", options)) else {
        return;
    };
    for (weights, granularity) in [
        ("4", "per-group:32"),
        ("4", "per-channel"),
        ("8", "per-group:16"),
        ("3", "per-tensor"),
        ("8", "per-channel"),
    ] {
        for scheme in ["symmetric", "asymmetric"] {
            let plan = ["--weights", weights, "--activations", "f32"];
            let grids = ["--granularity", granularity, "--scheme", scheme];
            let plan = [&plan[..], &grids, &["--matmul-nbits"]].concat();
            check_packed(&vit, python, &plan);
        }
    }
}

#[track_caller]
fn check_packed(subject: &Subject, python: &Path, plan: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let interpreter = python.display().to_string();
    let more = [plan, &["--verify", "--python", &interpreter]].concat();
    let report = subject.export("onnxruntime", folder.path(), &more);
    let verification = &report["verification"];
    for level in verification["levels"].as_array().unwrap() {
        // The packed form has no other order of sums to follow: floats are near, and stay near.
        let difference = largest(&level["outputs"]);
        assert!(difference <= 1e-4, "{plan:?}: {level}");
    }
    let file = report["files"][0].as_str().unwrap();
    let code = "
import onnx, sys
model = onnx.load(sys.argv[1])
onnx.checker.check_model(model)
packed = [node for node in model.graph.node if node.op_type == 'MatMulNBits']
assert len(packed) >= 20, len(packed)
left = [node.name for node in model.graph.node if node.op_type == 'DequantizeLinear']
assert not left, left
";
    let output = std::process::Command::new(python)
        .args(["-c", code, file])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{plan:?}: {error}");
}

#[test]
fn packed_products_are_refused_where_they_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let model = sample("signs-resnet.onnx").display().to_string();
    let base = ["export", &model, "--out", &out, "--quiet", "--matmul-nbits"];
    let refused = |more: &[&str]| {
        let (code, _, error) = quantscope(&[&base[..], more].concat());
        assert_eq!(code, Some(2), "{error}");
        error
    };
    let floats = ["--activations", "f32"];
    let other = [&["--target", "openvino", "--weights", "4"], &floats[..]].concat();
    assert!(refused(&other).contains("--target onnxruntime"));
    let wide = [&["--target", "onnxruntime", "--weights", "12"], &floats[..]].concat();
    assert!(refused(&wide).contains("no layer can be written as MatMulNBits"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn overrides_that_were_exported_are_read_as_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let subject = bundled("signs-mobilenet.onnx");
    let plan = [
        "--preset",
        "W8A8",
        "--set",
        "*2*=4/6",
        "--set",
        "*blocks.1*=f32/f32",
    ];
    let report = subject.export("onnxruntime", folder.path(), &plan);
    let files = report["files"].as_array().unwrap().iter();
    let mut files = files.map(|file| file.as_str().unwrap());
    let overrides = files
        .find(|file| file.ends_with(".overrides.json"))
        .unwrap();
    let evaluated = |plan: &[&str]| -> Value {
        let model = subject.model.display().to_string();
        let mut arguments = vec!["eval", &model, "--json", "--quiet"];
        arguments.extend(subject.options.iter().map(String::as_str));
        arguments.extend(plan);
        let (code, text, error) = quantscope(&arguments);
        assert_eq!(code, Some(0), "{error}");
        serde_json::from_str(&text).unwrap()
    };
    let (before, after) = (evaluated(&plan), evaluated(&["--plan", overrides]));
    for (one, other) in before["layers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(after["layers"].as_array().unwrap())
    {
        for field in ["name", "weight_bits", "activation_bits"] {
            assert_eq!(one[field], other[field], "{one}");
        }
        let error = |layer: &Value| number(&layer["weight_sqnr_db"]);
        let same = (error(one) - error(other)).abs() < 1e-3 || error(one) == error(other);
        assert!(same, "{one} {other}");
    }
    let top1 = |report: &Value| report["plan"]["top1"].as_f64().unwrap();
    assert!((top1(&before) - top1(&after)).abs() <= 0.003);
    let other = sample("signs-resnet.onnx").display().to_string();
    let wrong = [
        "eval",
        &other,
        "--data",
        &subject.options[1],
        "--plan",
        overrides,
    ];
    let (code, _, error) = quantscope(&wrong);
    assert_eq!(code, Some(2));
    assert!(error.contains("most tensors of the overrides"), "{error}");
}
