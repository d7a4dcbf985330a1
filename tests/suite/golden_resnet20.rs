//! Agreement with ONNX Runtime on a real network and real data, within stated tolerances.
//!
//! The reference numbers lie beside the project; they were made by ONNX Runtime alone, with the
//! fake-quantization written out as operators.

use std::sync::{Arc, OnceLock};

use quantscope::data::Preprocess;
use quantscope::engine::{
    Evaluation, Protocol, Ranges, SensitivityRequest, Subject, calibrate, evaluate_plan,
    sensitivity,
};
use quantscope::jobs::CancelToken;
use quantscope::plan::{Plan, Widths};
use quantscope::session::{DataRequest, OpenData, OpenModel};
use serde_json::Value;

use crate::common::shared;

struct Fixture {
    model: OpenModel,
    data: OpenData,
    ranges: Ranges,
}

fn reference() -> Option<Value> {
    let text = std::fs::read_to_string(shared("golden/resnet20-cifar10.json")?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

fn open(file: &str) -> Option<Fixture> {
    let model = OpenModel::open(&shared(&format!("data/models/{file}"))?).unwrap();
    let request = DataRequest {
        calibration: Some(shared("data/cifar10/calib")?),
        preprocess: Some(Preprocess::IMAGENET),
        calibration_samples: 500,
        ..DataRequest::new(shared("data/cifar10/test")?)
    };
    let data = OpenData::open(&model, request).unwrap();
    let ranges = calibrate(
        &model.executor,
        &data.calibration,
        &CancelToken::default(),
        &mut |_| {},
    )
    .unwrap();
    Some(Fixture {
        model,
        data,
        ranges,
    })
}

fn onnx() -> Option<Arc<Fixture>> {
    static FIXTURE: OnceLock<Option<Arc<Fixture>>> = OnceLock::new();
    FIXTURE
        .get_or_init(|| open("resnet20-cifar10.onnx").map(Arc::new))
        .clone()
}

fn evaluate(fixture: &Fixture, widths: &str) -> Evaluation {
    let widths: Widths = widths.parse().unwrap();
    let plan = Plan::uniform(fixture.model.layers().len(), widths);
    let executor = &fixture.model.executor;
    let prepared = executor.prepare(&plan, Some(&fixture.ranges)).unwrap();
    evaluate_plan(
        executor,
        &prepared,
        &fixture.data.evaluation,
        None,
        0,
        &CancelToken::default(),
        &mut |_| {},
    )
    .unwrap()
}

#[track_caller]
fn near(what: &str, got: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (got - expected).abs() <= tolerance,
        "{what}: {got} instead of {expected} ± {tolerance}"
    );
}

#[test]
fn float_accuracy_is_equal() {
    let (Some(reference), Some(fixture)) = (reference(), onnx()) else {
        return;
    };
    let evaluation = evaluate(&fixture, "f32/f32");
    assert_eq!(evaluation.float.top1(), reference["float"]["top1"].as_f64());
    near(
        "loss",
        evaluation.float.loss().unwrap(),
        &reference["float"]["loss"],
        1e-4,
    );
}

#[test]
fn calibrated_ranges_are_equal() {
    let (Some(reference), Some(fixture)) = (reference(), onnx()) else {
        return;
    };
    for layer in fixture.model.layers() {
        let name = &fixture.model.graph().value(layer.input).name;
        let range = fixture
            .ranges
            .observer(layer.input)
            .unwrap()
            .range()
            .unwrap();
        let range = range.widened_to_zero();
        near(
            name,
            f64::from(range.min()),
            &reference["ranges"][name][0],
            1e-4,
        );
        near(
            name,
            f64::from(range.max()),
            &reference["ranges"][name][1],
            1e-4,
        );
    }
}

#[test]
fn quantized_weights_give_the_same_accuracy_and_error() {
    let (Some(reference), Some(fixture)) = (reference(), onnx()) else {
        return;
    };
    for bits in [8, 6, 5, 4, 3] {
        let expected = &reference["weights_only"][bits.to_string()];
        let got = evaluate(&fixture, &format!("{bits}/f32"));
        near(
            &format!("W{bits} top-1"),
            got.plan.top1().unwrap(),
            &expected["top1"],
            0.0015,
        );
        near(
            &format!("W{bits} SQNR"),
            got.comparison.sqnr_db().unwrap(),
            &expected["sqnr_db"],
            0.05,
        );
    }
}

#[test]
fn quantized_activations_give_the_same_accuracy_and_error() {
    let (Some(reference), Some(fixture)) = (reference(), onnx()) else {
        return;
    };
    for widths in ["8/8", "4/8", "6/6", "4/4"] {
        let expected = &reference["weights_and_activations"][widths];
        let got = evaluate(&fixture, widths);
        near(
            &format!("{widths} top-1"),
            got.plan.top1().unwrap(),
            &expected["top1"],
            0.005,
        );
        near(
            &format!("{widths} SQNR"),
            got.comparison.sqnr_db().unwrap(),
            &expected["sqnr_db"],
            0.3,
        );
    }
}

#[test]
fn single_layers_give_the_same_error() {
    let (Some(reference), Some(fixture)) = (reference(), onnx()) else {
        return;
    };
    for (subject, table, bits) in [
        (
            Subject::Weights,
            "only_one_layer_weights",
            vec!["8", "4", "3"],
        ),
        (
            Subject::Activations,
            "only_one_layer_activation",
            vec!["8", "4"],
        ),
    ] {
        let request = SensitivityRequest {
            protocol: Protocol::OnlyOne,
            subject,
            widths: bits.iter().map(|bits| bits.parse().unwrap()).collect(),
        };
        let plan = Plan::uniform(fixture.model.layers().len(), Widths::FLOAT);
        let result = sensitivity(
            &fixture.model.executor,
            &plan,
            Some(&fixture.ranges),
            &request,
            &fixture.data.evaluation,
            &CancelToken::default(),
            &mut |_| {},
        )
        .unwrap();
        for (layer, row) in fixture.model.layers().iter().zip(&result.cells) {
            for (bits, cell) in bits.iter().zip(row) {
                let expected = &reference[table][&layer.name][*bits];
                let what = format!("{table} {} at {bits}", layer.name);
                near(
                    &what,
                    cell.comparison.sqnr_db().unwrap(),
                    &expected["sqnr_db"],
                    0.1,
                );
            }
        }
    }
}

#[test]
fn checkpoints_give_the_numbers_of_the_onnx_file() {
    let Some(onnx) = onnx() else { return };
    for file in ["resnet20-cifar10.safetensors", "resnet20-cifar10.pth"] {
        let Some(checkpoint) = open(file) else { return };
        for widths in ["8/f32", "4/f32", "8/8", "4/4"] {
            let expected = evaluate(&onnx, widths);
            let got = evaluate(&checkpoint, widths);
            let difference =
                expected.comparison.sqnr_db().unwrap() - got.comparison.sqnr_db().unwrap();
            assert!(
                difference.abs() <= 0.01,
                "{file} {widths}: {difference} dB apart"
            );
        }
    }
}

#[test]
fn one_and_two_threads_give_the_same_numbers() {
    let Some(fixture) = onnx() else { return };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut evaluation = pool.install(|| evaluate(&fixture, "4/8"));
        (evaluation.float_secs, evaluation.plan_secs) = (0.0, 0.0);
        evaluation
    };
    assert_eq!(on(1), on(2));
}
