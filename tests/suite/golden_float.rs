//! Raw float outputs of six real networks against ONNX Runtime.

use candle_core::{Device, Tensor};
use quantscope::engine::forward;
use quantscope::jobs::CancelToken;
use quantscope::session::OpenModel;
use serde_json::Value;

use crate::common::{root, shared};

/// Largest difference, relative to the largest output.
const TOLERANCE: f64 = 1e-4;

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn shape(value: &Value) -> Vec<usize> {
    numbers(value)
        .into_iter()
        .map(|length| length as usize)
        .collect()
}

/// The input that the script of the golden file documents.
fn synthetic(case: &Value) -> Tensor {
    let shape = shape(&case["input"]["shape"]);
    let (scale, offset) = (
        case["scale"].as_f64().unwrap(),
        case["offset"].as_f64().unwrap(),
    );
    let values: Vec<f32> = (0..shape.iter().product::<usize>() as u64)
        .map(|i| {
            let hash = i.wrapping_mul(2_654_435_761) % (1 << 32);
            (hash as f64 / 4_294_967_296.0 * scale + offset) as f32
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn sampled(values: &[f32], count: usize) -> Vec<f64> {
    (0..count)
        .map(|k| f64::from(values[k * values.len() / count]))
        .collect()
}

#[test]
fn outputs_of_real_networks_are_those_of_onnx_runtime() {
    let text = std::fs::read_to_string(root().join("tests/golden/float_outputs.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let mut worst: Vec<String> = Vec::new();
    for entry in golden["models"].as_array().unwrap() {
        let file = entry["model"].as_str().unwrap();
        let Some(path) = shared(&format!("data/{file}")) else {
            continue;
        };
        let model = OpenModel::open(&path).unwrap();
        let prepared = model.executor.prepare_float().unwrap();
        for case in entry["cases"].as_array().unwrap() {
            if case["kind"] != "synthetic" {
                continue;
            }
            let input = model.graph().inputs()[0];
            let outputs = forward(
                &model.executor,
                &prepared,
                &[(input, synthetic(case))],
                &CancelToken::default(),
            )
            .unwrap();
            for (output, expected) in outputs.iter().zip(case["outputs"].as_array().unwrap()) {
                assert_eq!(output.dims(), shape(&expected["shape"]), "{file}");
                let values = output.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let expected = numbers(&expected["values"]);
                let largest = expected.iter().fold(0f64, |most, v| most.max(v.abs()));
                let difference = sampled(&values, expected.len())
                    .iter()
                    .zip(&expected)
                    .fold(0f64, |most, (a, b)| most.max((a - b).abs()));
                println!("{file}: {:.2e} of the largest output", difference / largest);
                if difference > TOLERANCE * largest {
                    worst.push(format!("{file}: {difference} of {largest}"));
                }
            }
        }
    }
    assert!(worst.is_empty(), "{worst:#?}");
}
