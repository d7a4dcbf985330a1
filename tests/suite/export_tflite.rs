//! `.tflite` files, read back and run by `LiteRT`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::common::quantscope;
use crate::exporting::{
    DSCNN, MIXED_8_4, MIXED_16_8, RESNET20, Subject, VIT, W8A8, WNET, YOLOX, bundled, number,
    python_with, real, script,
};

/// A Python interpreter with `LiteRT`, if there is one.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| python_with("ai_edge_litert.interpreter, numpy", &["QUANTSCOPE_PYTHON"]))
        .as_deref()
}

fn file(report: &Value) -> &str {
    report["files"][0].as_str().unwrap()
}

/// Exports, runs in `LiteRT`, and holds its outputs against the simulated ones.
#[track_caller]
fn check(subject: &Subject, plan: &[&str]) {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let interpreter = python.display().to_string();
    let more = [plan, &["--verify", "--python", &interpreter]].concat();
    let report = subject.export("tflite", folder.path(), &more);
    let name = format!("{} {plan:?}", subject.model.display());
    let length = std::fs::metadata(file(&report)).unwrap().len();
    assert_eq!(report["size_bytes"].as_u64(), Some(length), "{name}");
    let verification = &report["verification"];
    println!("{name}: {verification}");
    let simulated = verification["simulated_top1"].as_f64();
    let levels = verification["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 2, "{name}");
    // The kernels that LiteRT takes by itself are simulated; its reference kernels round sums twice.
    for level in levels.iter().filter(|level| level["level"] == "optimized") {
        if let (Some(top1), Some(simulated)) = (level["top1"].as_f64(), simulated) {
            assert!(
                (top1 - simulated).abs() <= 0.003,
                "{name}: {top1} {simulated}"
            );
        }
        if let Some(agreement) = level["agreement"].as_f64() {
            assert!(agreement >= 0.995, "{name}: agreement {agreement}");
        } else {
            let sqnr = number(&level["sqnr_db"]);
            assert!(sqnr >= 40.0, "{name}: {sqnr} dB");
        }
    }
}

#[test]
fn bundled_models_run_in_litert_as_they_are_simulated() {
    for model in ["signs-resnet.onnx", "signs-mobilenet.onnx"] {
        for plan in [W8A8, MIXED_8_4, MIXED_16_8] {
            check(&bundled(model), plan);
        }
    }
}

#[test]
fn real_models_run_in_litert_as_they_are_simulated() {
    let imagenet = "--data @imagenet500 --calib-samples 64 --limit 100 --preprocess imagenet";
    for model in [
        RESNET20,
        DSCNN,
        WNET,
        ("mobilenetv1-025-imagenet.onnx", imagenet),
        YOLOX,
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
fn checkpoints_become_tflite_files() {
    check(&bundled("signs-resnet.safetensors"), W8A8);
    check(&bundled("signs-mobilenet.safetensors"), MIXED_8_4);
}

/// What `LiteRT`'s own reader finds in a file, as JSON.
const READ: &str = r#"
import json, sys
from ai_edge_litert import schema_py_generated as schema
model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(open(sys.argv[1], "rb").read(), 0))
names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
kinds = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
graph = model.subgraphs[0]
def listed(values):
    return [] if values is None else [float(value) for value in values]
def shown(tensor):
    grid = tensor.quantization
    return {
        "shape": [int(length) for length in tensor.shape],
        "signature": None if tensor.shapeSignature is None else [int(n) for n in tensor.shapeSignature],
        "type": kinds[tensor.type],
        "scale": listed(grid.scale) if grid else [],
        "zero_point": listed(grid.zeroPoint) if grid else [],
        "axis": grid.quantizedDimension if grid else 0,
        "constant": model.buffers[tensor.buffer].data is not None,
    }
def name(index):
    return graph.tensors[index].name.decode()
print(json.dumps({
    "tensors": {tensor.name.decode(): shown(tensor) for tensor in graph.tensors},
    "count": len(graph.tensors),
    "inputs": [name(index) for index in graph.inputs],
    "outputs": [name(index) for index in graph.outputs],
    "operators": [
        [names[model.operatorCodes[one.opcodeIndex].builtinCode]] + [name(index) for index in one.inputs]
        for one in graph.operators
    ],
    "pads": {
        name(one.inputs[0]): name(one.outputs[0])
        for one in graph.operators
        if names[model.operatorCodes[one.opcodeIndex].builtinCode] in ("PAD", "PADV2")
    },
}))
"#;

#[track_caller]
fn read(python: &Path, file: &str) -> Value {
    serde_json::from_str(&script(python, READ, &[file])).unwrap()
}

/// Cells of the table of layers that lies beside an exported model, by the names of its columns.
fn layer_rows(report: &Value) -> Vec<std::collections::BTreeMap<String, String>> {
    let files = report["files"].as_array().unwrap().iter();
    let mut files = files.map(|file| file.as_str().unwrap());
    let table = files.find(|file| file.ends_with(".layers.csv")).unwrap();
    let text = std::fs::read_to_string(table).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned));
    let names: Vec<String> = lines.next().unwrap().collect();
    lines
        .map(|cells| names.iter().cloned().zip(cells).collect())
        .collect()
}

#[test]
fn litert_reads_what_the_program_says() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let subject = bundled("signs-mobilenet.onnx");
    let plan = ["--preset", "W8A8", "--set", "*blocks.0/point*=4/8"];
    let report = subject.export("tflite", folder.path(), &plan);
    let model = read(python, file(&report));
    let tensors = &model["tensors"];
    let names = tensors.as_object().unwrap().len() as u64;
    assert_eq!(
        model["count"].as_u64(),
        Some(names),
        "every name is there once"
    );
    assert_eq!(model["inputs"], serde_json::json!(["image"]));
    let image = &tensors["image"];
    assert_eq!(image["shape"], serde_json::json!([1, 32, 32, 3]));
    assert_eq!(image["signature"], serde_json::json!([-1, 32, 32, 3]));
    assert_eq!(image["type"], "INT8");
    let rows = layer_rows(&report);
    assert_eq!(rows.len(), 16);
    let operators = model["operators"].as_array().unwrap();
    for row in &rows {
        // The input of every layer lies on the grid of the plan, moved to signed codes.
        let input = &tensors[&row["input"]];
        let number = |name: &str| row[name].parse::<f32>().unwrap();
        assert_eq!(input["type"], "INT8", "{row:?}");
        let scale = input["scale"][0].as_f64().unwrap() as f32;
        assert_eq!(scale, number("input_scale"), "{row:?}");
        let zero_point = input["zero_point"][0].as_f64().unwrap() as f32;
        assert_eq!(zero_point, number("input_zero_point") - 128.0, "{row:?}");
        // Exactly one operator reads it with a weight of the layer's shape and scales.
        let lengths =
            |text: &str| -> Vec<u64> { text.split('x').map(|n| n.parse().unwrap()).collect() };
        let mut shape = lengths(&row["weight_shape"]);
        shape.sort_unstable();
        let own = row["input"].as_str();
        let padded = model["pads"][own].as_str();
        let found: Vec<&Value> = operators
            .iter()
            .filter(|one| one[1] == own || padded.is_some_and(|padded| one[1] == padded))
            .filter_map(|one| tensors.get(one[2].as_str()?))
            .filter(|weight| {
                let lengths = weight["shape"].as_array().unwrap();
                let mut lengths: Vec<u64> = lengths.iter().map(|n| n.as_u64().unwrap()).collect();
                lengths.sort_unstable();
                lengths == shape
            })
            .collect();
        let [weight] = found[..] else {
            panic!("{row:?}: {found:?}");
        };
        let scales: Vec<f32> = weight["scale"]
            .as_array()
            .unwrap()
            .iter()
            .map(|scale| scale.as_f64().unwrap() as f32)
            .collect();
        assert_eq!(scales.len(), number("weight_scales") as usize, "{row:?}");
        let least = scales.iter().copied().fold(f32::INFINITY, f32::min);
        assert_eq!(least, number("weight_scale_min"), "{row:?}");
        let most = scales.iter().copied().fold(0.0, f32::max);
        assert_eq!(most, number("weight_scale_max"), "{row:?}");
        let axis = weight["axis"].as_u64().unwrap() as usize;
        assert_eq!(
            weight["shape"][axis].as_u64(),
            Some(scales.len() as u64),
            "{row:?}"
        );
        let kind = if row["weight_format"] == "4" {
            "INT4"
        } else {
            "INT8"
        };
        assert_eq!(weight["type"], kind, "{row:?}");
    }
}

#[test]
fn equal_exports_are_equal_bytes() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let content = folders.each_ref().map(|folder| {
        let subject = bundled("signs-resnet.onnx");
        let report = subject.export("tflite", folder.path(), W8A8);
        std::fs::read(file(&report)).unwrap()
    });
    assert_eq!(content[0], content[1]);
    assert_eq!(content[0].get(4..8), Some(&b"TFL3"[..]));
}

#[test]
fn narrow_weights_are_named_and_nothing_is_changed_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let subject = bundled("signs-mobilenet.onnx");
    let plan = ["--weights", "6", "--activations", "4"];
    let report = subject.export("tflite", folder.path(), &plan);
    let changes = report["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 16, "the input of every layer: {changes:?}");
    for change in changes {
        assert_eq!(
            (&change["from"], &change["to"]),
            (&"4-bit".into(), &"8-bit".into())
        );
    }
    let notes = report["notes"].to_string();
    assert!(
        notes.contains("16 weights of 6 bits are stored in int8"),
        "{notes}"
    );
    let strict = [&plan[..], &["--strict", "--force"]].concat();
    let (code, _, error) = subject.command("tflite", folder.path(), &strict);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--strict forbids"), "{error}");
    let (code, _, error) = subject.command("tflite", folder.path(), &plan);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--force"), "{error}");
    let float = ["--weights", "8", "--activations", "8"];
    let no_data = Subject {
        model: subject.model.clone(),
        options: Vec::new(),
    };
    let (code, _, error) = no_data.command(
        "tflite",
        folder.path(),
        &[&float[..], &["--force"]].concat(),
    );
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("give calibration data"), "{error}");
}

#[test]
fn evaluation_shows_what_the_file_computes() {
    let folder = tempfile::tempdir().unwrap();
    let subject = bundled("signs-resnet.onnx");
    let report = subject.export("tflite", folder.path(), W8A8);
    let model = subject.model.display().to_string();
    let mut arguments = vec!["eval", &model, "--json", "--quiet", "--target", "tflite"];
    arguments.extend(subject.options.iter().map(String::as_str));
    arguments.extend(W8A8);
    let (code, text, error) = quantscope(&arguments);
    assert_eq!(code, Some(0), "{error}");
    let evaluation: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(evaluation["size_bytes"], report["size_bytes"]);
    let Some(python) = python() else { return };
    let interpreter = python.display().to_string();
    let more = [W8A8, &["--force", "--verify", "--python", &interpreter]].concat();
    let verified = subject.export("tflite", folder.path(), &more);
    assert_eq!(
        evaluation["plan"]["top1"],
        verified["verification"]["simulated_top1"]
    );
}

#[test]
fn a_graph_with_other_operators_is_refused_with_their_names() {
    let Some(subject) = real(VIT) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (code, _, error) = subject.command("tflite", folder.path(), W8A8);
    assert_eq!(code, Some(2), "{error}");
    for part in ["LayerNormalization", "Erf", "MatMul", "Gather"] {
        assert!(error.contains(part), "{error}");
    }
    let model = folder.path().join("vit-mnist-tflite.tflite");
    assert!(!model.exists());
    // What the target's own tools need lies there all the same.
    let recipe = folder.path().join("vit-mnist-tflite.recipe.json");
    let recipe: Value = serde_json::from_slice(&std::fs::read(recipe).unwrap()).unwrap();
    assert_eq!(recipe["layers"].as_array().unwrap().len(), 27);
    assert!(error.contains("vit-mnist-tflite.convert.py"), "{error}");
}

/// The recipe is taken by ai-edge-quantizer: the scales of its weights are those of the plan.
#[test]
fn ai_edge_quantizer_takes_the_recipe() {
    let Some(python) = python() else { return };
    let installed = Command::new(python)
        .args(["-c", "import ai_edge_quantizer"])
        .output()
        .unwrap();
    if !installed.status.success() {
        println!("skipped: {} has no ai-edge-quantizer", python.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let subject = bundled("signs-mobilenet.onnx");
    let plan = ["--preset", "W8A8", "--set", "*blocks.1/point*=4/8"];
    let report = subject.export("tflite", folder.path(), &plan);
    let float = ["--weights", "f32", "--activations", "f32"];
    let converted = subject.export("tflite-dynamic", folder.path(), &float);
    let beside = |end: &str| {
        let files = report["files"].as_array().unwrap().iter();
        let mut files = files.map(|file| file.as_str().unwrap());
        files.find(|file| file.ends_with(end)).unwrap().to_owned()
    };
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (samples, out) = (path("samples.npy"), path("out.tflite"));
    let code = "
import numpy as np, sys
np.save(sys.argv[1], np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32))
";
    script(python, code, &[&samples]);
    let output = Command::new(python)
        .args([
            &beside(".convert.py"),
            "model.onnx",
            &beside(".recipe.json"),
        ])
        .args([&samples, &out, "--float", file(&converted)])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let scales = |file: &str| -> Vec<(String, Value)> {
        let model = read(python, file);
        let mut found = Vec::new();
        for one in model["operators"].as_array().unwrap() {
            let kind = one[0].as_str().unwrap();
            if ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"].contains(&kind) {
                let weight = &model["tensors"][one[2].as_str().unwrap()];
                found.push((kind.to_owned(), weight["scale"].clone()));
            }
        }
        found
    };
    let (ours, theirs) = (scales(file(&report)), scales(&out));
    assert_eq!(ours.len(), 16);
    assert_eq!(theirs.len(), 16);
    for ((kind, ours), (other, theirs)) in ours.iter().zip(&theirs) {
        assert_eq!(kind, other);
        let pairs = ours
            .as_array()
            .unwrap()
            .iter()
            .zip(theirs.as_array().unwrap());
        for (one, other) in pairs {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            assert!((one / other - 1.0).abs() < 1e-4, "{kind}: {one} {other}");
        }
    }
}
