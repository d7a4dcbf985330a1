//! Networks exported for `OpenVINO`, run by `OpenVINO`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::exporting::{
    DSCNN, MIXED_8_4, MIXED_16_8, MOBILENET, RESNET20, Subject, VIT, W8A8, WNET, YOLOX,
    adds_products_whole, bundled, number, python_with, real, script,
};

/// A Python interpreter with `OpenVINO`, if there is one.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| python_with("openvino, numpy", &["QUANTSCOPE_PYTHON"]))
        .as_deref()
}

/// Whether the processor has the kernels whose arithmetic is simulated.
fn has_simulated_kernels() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Exports, runs, and holds what `OpenVINO` computes against the simulation.
///
/// On integers the simulation follows the runtime's own arithmetic. Elsewhere codes next to a tie fall to
/// the other side now and then, and a network whose outputs hang on them (mobilenetv1 and yolox, where the
/// runtime is no nearer to itself after the smallest change of its scales) is not held to it there.
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
    println!("{name}: {verification}");
    assert_eq!(verification["runtime"], "openvino", "{name}");
    let hangs_on_ties = name.contains("mobilenetv1") || name.contains("yolox");
    for level in verification["levels"].as_array().unwrap() {
        if level["level"] == "plain" {
            if !hangs_on_ties {
                check_level(&name, verification, level);
            }
            continue;
        }
        let kernels = level["kernels"].as_str().unwrap();
        assert!(kernels.contains("layers on integers"), "{name}: {kernels}");
        assert!(
            adds_products_whole() || kernels.contains("VNNI"),
            "{name}: {kernels}"
        );
        if has_simulated_kernels() {
            check_level(&name, verification, level);
            // Sums of floats are added up in another order.
            let all_integers = kernels.contains("no layer is computed in float");
            if all_integers && !name.contains("vit") {
                assert_eq!(level["sqnr_db"], "inf", "{name}: {level}");
            }
        }
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
    for model in [RESNET20, VIT, DSCNN, WNET, MOBILENET, YOLOX] {
        let Some(subject) = real(model) else {
            return;
        };
        for plan in [W8A8, MIXED_8_4, MIXED_16_8] {
            check(&subject, plan);
        }
    }
}

#[test]
fn nncf_leaves_in_float_what_the_plan_leaves_in_float() {
    let Some(python) = python_with("openvino, nncf, numpy", &["QUANTSCOPE_PYTHON"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let subject = bundled("signs-mobilenet.onnx");
    let plan = ["--preset", "W8A8", "--set", "*blocks.1*=f32/f32"];
    let report = subject.export("openvino", folder.path(), &plan);
    let mut files = report["files"].as_array().unwrap().iter();
    let script_file = files
        .find_map(|file| {
            file.as_str()
                .filter(|file| file.ends_with(".requantize.py"))
        })
        .unwrap();
    let code = "
import numpy as np, openvino, subprocess, sys
script, model, folder = sys.argv[1:4]
inputs, out = folder + '/inputs.npy', folder + '/out.xml'
np.save(inputs, np.random.default_rng(0).normal(size=(8, 3, 32, 32)).astype(np.float32))
subprocess.run([sys.executable, script, model, inputs, out], check=True)
for op in openvino.Core().read_model(out).get_ops():
    if 'Convolution' in op.get_type_name():
        source = op.input_value(0).get_node().get_type_name()
        print(op.get_friendly_name(), source == 'FakeQuantize')
";
    let model = subject.model.display().to_string();
    let out = folder.path().display().to_string();
    let printed = script(&python, code, &[script_file, &model, &out]);
    let layers: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with('/'))
        .collect();
    assert_eq!(layers.len(), 15, "{printed}");
    for layer in layers {
        assert_eq!(
            layer.contains("blocks.1/"),
            layer.ends_with("False"),
            "{layer}"
        );
    }
}
