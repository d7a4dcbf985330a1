//! Networks exported for `OpenVINO`, run by `OpenVINO`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::exporting::{
    MIXED_8_4, MIXED_16_8, Subject, W8A8, adds_products_whole, bundled, number, python_with, real,
};

/// A Python interpreter with `OpenVINO`, if there is one.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| python_with("openvino, numpy", &["QUANTSCOPE_PYTHON"]))
        .as_deref()
}

/// Exports, runs, and holds what `OpenVINO` computes against the simulation.
#[track_caller]
fn check(subject: &Subject, plan: &[&str]) {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let interpreter = python.display().to_string();
    let mut more = vec!["--verify", "--python", &interpreter];
    more.extend(plan);
    let report = subject.export("openvino", folder.path(), &more);
    let name = format!("{} {plan:?}", subject.model.display());
    let verification = &report["verification"];
    println!(
        "{name}: {} changes",
        report["changes"].as_array().unwrap().len()
    );
    println!("{verification}");
    assert_eq!(verification["runtime"], "openvino", "{name}");
    for level in verification["levels"].as_array().unwrap() {
        if level["level"] == "optimized" {
            let kernels = level["kernels"].as_str().unwrap();
            assert!(kernels.contains("layers on integers"), "{name}: {kernels}");
            // The difference is explained, and the level before shows the graph without it.
            if !adds_products_whole() {
                assert!(kernels.contains("VNNI"), "{name}: {kernels}");
                continue;
            }
        }
        check_level(&name, verification, level);
    }
}

#[track_caller]
fn check_level(name: &str, verification: &Value, level: &Value) {
    let simulated = &verification["simulated_top1"];
    if let (Some(top1), Some(simulated)) = (level["top1"].as_f64(), simulated.as_f64()) {
        assert!((top1 - simulated).abs() <= 0.003, "{name}: {level}");
    }
    match level["agreement"].as_f64() {
        Some(agreement) => assert!(agreement >= 0.995, "{name}: {level}"),
        None => assert!(number(&level["sqnr_db"]) >= 40.0, "{name}: {level}"),
    }
}

#[test]
fn bundled_models_run_in_openvino_as_they_are_simulated() {
    for model in ["signs-resnet.onnx", "signs-mobilenet.onnx"] {
        for plan in [W8A8, MIXED_8_4, MIXED_16_8] {
            check(&bundled(model), plan);
        }
    }
}

#[test]
fn real_models_run_in_openvino_as_they_are_simulated() {
    for (model, options) in [
        (
            "resnet20-cifar10.onnx",
            "--data @cifar10/test --calib @cifar10/calib --limit 500 --preprocess mean=.485,.456,.406;std=.229,.224,.225",
        ),
        (
            "vit-mnist.onnx",
            "--data @mnist/test --limit 400 --preprocess mean=.1307;std=.3081;channels=gray",
        ),
        ("dscnn-kws.onnx", "--data @kws"),
        (
            "wnet-drive.onnx",
            "--data @drive --calib-samples 3 --limit 2 --preprocess unit",
        ),
        (
            "mobilenetv1-025-imagenet.onnx",
            "--data @imagenet500 --calib-samples 64 --limit 250 --preprocess imagenet",
        ),
        (
            "yolox-nano-coco.onnx",
            "--data @coco128 --calib-samples 8 --limit 4 --preprocess raw;letterbox=114;channels=bgr",
        ),
    ] {
        let Some(subject) = real(model, options) else {
            return;
        };
        for plan in [W8A8, MIXED_8_4, MIXED_16_8] {
            check(&subject, plan);
        }
    }
}
