//! Networks written for PyTorch, rebuilt and run by PyTorch.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::common::sample;
use crate::exporting::{
    CIFAR, DSCNN, MIXED_8_4, MIXED_16_8, Subject, VIT, W8A8, WNET, YOLOX, bundled, number,
    python_with, real, script,
};

/// A Python interpreter with PyTorch, if there is one.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            python_with(
                "torch, numpy",
                &["QUANTSCOPE_TORCH_PYTHON", "QUANTSCOPE_PYTHON"],
            )
        })
        .as_deref()
}

/// Exports, and holds what PyTorch computes against the simulation.
///
/// Codes next to a tie may be rounded to either side, as in any other runtime: outputs agree as well as
/// PyTorch does with itself after the smallest change of its scales (3 dB of tolerance), or to 60 dB.
#[track_caller]
fn check(subject: &Subject, plan: &[&str]) -> Option<Value> {
    let python = python()?;
    let folder = tempfile::tempdir().unwrap();
    let interpreter = python.display().to_string();
    let mut more = vec!["--verify", "--python", &interpreter];
    more.extend(plan);
    let report = subject.export("pytorch", folder.path(), &more);
    let name = format!("{} {plan:?}", subject.model.display());
    let length = std::fs::metadata(report["files"][0].as_str().unwrap())
        .unwrap()
        .len();
    assert_eq!(report["size_bytes"].as_u64(), Some(length), "{name}");
    assert!(
        report["changes"].as_array().unwrap().is_empty(),
        "{name}: {}",
        report["changes"]
    );
    let verification = &report["verification"];
    println!("{name}: {verification}");
    assert_eq!(verification["runtime"], "torch", "{name}");
    let level = &verification["levels"][0];
    if let (Some(top1), Some(simulated)) = (
        level["top1"].as_f64(),
        verification["simulated_top1"].as_f64(),
    ) {
        assert!(
            (top1 - simulated).abs() <= 0.003,
            "{name}: {top1} {simulated}"
        );
    }
    if let Some(agreement) = level["agreement"].as_f64() {
        assert!(agreement >= 0.995, "{name}: agreement {agreement}");
    }
    let least = f64::min(60.0, number(&verification["own_spread_sqnr_db"]) - 3.0);
    let sqnr = number(&level["sqnr_db"]);
    assert!(sqnr >= least, "{name}: {sqnr} dB, at least {least} dB");
    Some(report)
}

#[test]
fn bundled_models_are_rebuilt_as_they_are_simulated() {
    for model in [
        "signs-resnet.onnx",
        "signs-mobilenet.onnx",
        "signs-resnet.safetensors",
        "signs-mobilenet.safetensors",
    ] {
        for plan in [W8A8, MIXED_8_4, MIXED_16_8] {
            check(&bundled(model), plan);
        }
    }
}

#[test]
fn real_models_are_rebuilt_as_they_are_simulated() {
    for model in [
        ("resnet20-cifar10.safetensors", CIFAR),
        (
            "mobilenetv1-025-imagenet.safetensors",
            "--data @imagenet500 --calib-samples 64 --limit 300",
        ),
        VIT,
        DSCNN,
    ] {
        let Some(subject) = real(model) else {
            return;
        };
        for plan in [W8A8, MIXED_8_4, MIXED_16_8] {
            check(&subject, plan);
        }
    }
}

#[test]
fn networks_without_classes_are_rebuilt_too() {
    for model in [WNET, YOLOX] {
        let Some(subject) = real(model) else {
            return;
        };
        for plan in [W8A8, MIXED_8_4, MIXED_16_8] {
            let Some(report) = check(&subject, plan) else {
                return;
            };
            let level = &report["verification"]["levels"][0];
            let sqnr = number(&level["sqnr_db"]);
            assert!(sqnr >= 40.0, "{model:?} {plan:?}: {level}");
        }
    }
}

/// Layers of the bundled `MobileNet` with a format each.
fn formats_of_blocks(formats: &[&str], input: bool) -> Vec<String> {
    let blocks = (0..7).flat_map(|block| ["depth", "point"].map(|part| (block, part)));
    blocks
        .zip(formats)
        .map(|((block, part), format)| {
            let widths = if input {
                format!("f32/{format}")
            } else {
                format!("{format}/f32")
            };
            format!("*blocks.{block}/{part}*={widths}")
        })
        .collect()
}

#[test]
fn every_format_is_stored_exactly() {
    let formats = [
        "1", "2", "3", "4", "5", "6", "7", "8", "9", "12", "16", "f16", "bf16",
    ];
    for grids in [
        ["symmetric", "per-channel"],
        ["asymmetric", "per-channel"],
        ["symmetric", "per-tensor"],
        ["asymmetric", "per-group:20"],
    ] {
        let assignments = formats_of_blocks(&formats, false);
        let mut plan = vec!["--weights", "4", "--activations", "f32", "--limit", "40"];
        plan.extend(["--scheme", grids[0], "--granularity", grids[1]]);
        plan.extend(assignments.iter().flat_map(|one| ["--set", one.as_str()]));
        let Some(report) = check(&bundled("signs-mobilenet.onnx"), &plan) else {
            return;
        };
        // Without quantized inputs nothing lies next to a tie.
        let relative = &report["verification"]["levels"][0]["outputs"][0]["relative_difference"];
        assert!(number(relative) < 1e-5, "{grids:?}: {relative}");
    }
    let assignments = formats_of_blocks(&["7", "8", "9", "12", "16", "f16", "bf16"], true);
    let mut plan = vec!["--weights", "f32", "--activations", "f32", "--limit", "40"];
    plan.extend(assignments.iter().flat_map(|one| ["--set", one.as_str()]));
    check(&bundled("signs-mobilenet.onnx"), &plan);
}

/// Loads an exported script as the module `exported`.
const LOAD: &str = "
import importlib.util, json, re, sys
from pathlib import Path
import torch
script = Path(sys.argv[1])
spec = importlib.util.spec_from_file_location('exported', script)
exported = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exported)
";

/// Exports without running anything, and gives the path of the script.
#[track_caller]
fn exported_script(subject: &Subject, folder: &Path, plan: &[&str]) -> String {
    let report = subject.export("pytorch", folder, plan);
    let files = report["files"].as_array().unwrap().iter();
    let mut scripts = files
        .filter_map(Value::as_str)
        .filter(|file| file.ends_with("-pytorch.py"));
    scripts.next().unwrap().to_owned()
}

#[test]
fn names_are_those_of_the_state_dict_and_of_the_checkpoint() {
    let Some(python) = python() else { return };
    let code = format!(
        "{LOAD}
store = exported.Store(script.with_suffix('.safetensors'))
network = exported.load()
assert set(network.state_dict()) == set(store.tensors), set(network.state_dict()) ^ set(store.tensors)
for name, tensor in network.state_dict().items():
    assert tensor.equal(store.tensors[name]), name
modules = dict(network.named_modules())
text = script.with_suffix('.requantize.py').read_text()
named = re.findall(r'^PT2E_LAYERS = (\\[.*?\\])', text, re.M | re.S)
named = json.loads(named[0])
assert named and set(named) <= set(modules), named
for path, layer in store.layers.items():
    assert isinstance(modules[path], exported.Layer), path
if len(sys.argv) > 2:
    content = Path(sys.argv[2]).read_bytes()
    header = json.loads(content[8:8 + int.from_bytes(content[:8], 'little')])
    for layer in store.layers.values():
        assert layer['name'] + '.weight' in header, layer['name']
        assert layer['name'] == layer['module'], layer
"
    );
    let folder = tempfile::tempdir().unwrap();
    for model in ["signs-resnet", "signs-mobilenet"] {
        let path = sample(&format!("{model}.safetensors"));
        let exported = exported_script(
            &bundled(&format!("{model}.safetensors")),
            folder.path(),
            W8A8,
        );
        script(python, &code, &[&exported, &path.display().to_string()]);
        let exported = exported_script(
            &bundled(&format!("{model}.onnx")),
            &folder.path().join("onnx"),
            W8A8,
        );
        script(python, &code, &[&exported]);
    }
}

#[test]
fn a_tensor_of_another_name_is_missed() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let exported = exported_script(&bundled("signs-resnet.safetensors"), folder.path(), W8A8);
    let file = Path::new(&exported).with_extension("safetensors");
    let content = std::fs::read(&file).unwrap();
    let (old, new) = (b"\"conv1.weight.codes\"", b"\"conv7.weight.codes\"");
    let at = content
        .windows(old.len())
        .position(|part| part == old)
        .unwrap();
    let mut renamed = content;
    renamed[at..at + new.len()].copy_from_slice(new);
    std::fs::write(&file, renamed).unwrap();
    let code = format!(
        "{LOAD}
try:
    exported.load()
except KeyError as error:
    print('missed', error)
"
    );
    let said = script(python, &code, &[&exported]);
    assert!(said.contains("missed 'conv1.weight.codes'"), "{said}");
}

/// The packages' own reader takes the file, and sees packed codes.
#[test]
fn the_file_is_a_safetensors_file_with_packed_codes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = ["--weights", "3", "--activations", "8"];
    let exported = exported_script(&bundled("signs-resnet.safetensors"), folder.path(), &plan);
    let bytes = std::fs::read(Path::new(&exported).with_extension("safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let original = std::fs::read(sample("signs-resnet.safetensors")).unwrap();
    let original = safetensors::SafeTensors::deserialize(&original).unwrap();
    let mut layers = 0;
    for name in file.names() {
        let Some(weight) = name.strip_suffix(".codes") else {
            continue;
        };
        let elements: usize = original.tensor(weight).unwrap().shape().iter().product();
        let codes = file.tensor(name).unwrap();
        assert_eq!(codes.dtype(), safetensors::Dtype::U8, "{name}");
        assert_eq!(codes.data().len(), (3 * elements).div_ceil(8), "{name}");
        layers += 1;
    }
    assert!(layers > 5, "{layers} layers");
}
