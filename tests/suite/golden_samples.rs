//! Agreement with ONNX Runtime on the bundled models and pictures.

use quantscope::engine::{calibrate, evaluate_plan};
use quantscope::jobs::CancelToken;
use quantscope::plan::{Plan, Widths};
use quantscope::session::{DataRequest, OpenData, OpenModel};
use serde_json::Value;

use crate::common::{root, sample};

/// `W4A8` and `W4` as widths `4/8` and `4/f32`.
fn widths(name: &str) -> Widths {
    let (weight, activation) = match name[1..].split_once('A') {
        Some((weight, activation)) => (weight, activation),
        None => (&name[1..], "f32"),
    };
    format!("{weight}/{activation}").parse().unwrap()
}

#[test]
fn bundled_models_give_the_numbers_of_onnx_runtime() {
    let text = std::fs::read_to_string(root().join("tests/golden/sample_models.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    for entry in golden["models"].as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        for file in [file.to_owned(), file.replace(".onnx", ".safetensors")] {
            check(&file, entry);
        }
    }
}

fn check(file: &str, entry: &Value) {
    let model = OpenModel::open(&sample(file)).unwrap();
    let request = DataRequest {
        calibration: Some(sample("signs/calib")),
        ..DataRequest::new(sample("signs/eval"))
    };
    let data = OpenData::open(&model, request).unwrap();
    let (executor, cancel) = (&model.executor, CancelToken::default());
    let ranges = calibrate(executor, &data.calibration, &cancel, &mut |_| {}).unwrap();
    for (name, expected) in entry["quantized"].as_object().unwrap() {
        let plan = Plan::uniform(model.layers().len(), widths(name));
        let prepared = executor.prepare(&plan, Some(&ranges)).unwrap();
        let got = evaluate_plan(
            executor,
            &prepared,
            &data.evaluation,
            None,
            0,
            &cancel,
            &mut |_| {},
        )
        .unwrap();
        assert_eq!(got.float.top1(), entry["float_top1"].as_f64(), "{file}");
        let near = |what: &str, got: Option<f64>, tolerance: f64| {
            let expected = expected[what].as_f64().unwrap();
            let got = got.unwrap();
            assert!(
                (got - expected).abs() <= tolerance,
                "{file} {name} {what}: {got} instead of {expected} ± {tolerance}"
            );
        };
        // Activations near a rounding boundary fall to either side on different kernels.
        let tolerance = if name.contains('A') { 0.3 } else { 0.05 };
        near("top1", got.plan.top1(), 0.005);
        near("sqnr_db", got.comparison.sqnr_db(), tolerance);
    }
}
