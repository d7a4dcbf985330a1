//! `quantscope bench`: what it measures, not how fast that is.

use quantscope::session::{DataRequest, OpenData, OpenModel};
use serde_json::Value;

use crate::common::{quantscope, sample};

fn bench(arguments: &[&str]) -> (Value, String) {
    let model = sample("signs-resnet.onnx");
    let mut words = vec!["bench", model.to_str().unwrap(), "--json", "--repeat", "2"];
    words.extend_from_slice(arguments);
    let (code, out, notes) = quantscope(&words);
    assert_eq!(code, Some(0), "{notes}");
    (serde_json::from_str(&out).unwrap(), notes)
}

#[test]
fn every_part_is_measured_on_the_samples_that_were_asked_for() {
    let data = sample("signs/eval");
    let (report, _) = bench(&[
        "--data",
        data.to_str().unwrap(),
        "--limit",
        "6",
        "--batch",
        "4",
        "--bits",
        "8,4",
        "--measure",
        "float,plan,sensitivity,quantizers,local-errors,reevaluation",
    ]);
    let layers = OpenModel::open(&sample("signs-resnet.onnx"))
        .unwrap()
        .layers()
        .len();
    assert_eq!(report["samples"], 6);
    assert_eq!(report["batch"], 4);
    assert_eq!(report["random_inputs"], false);
    assert_eq!(report["sensitivity"]["cells"], layers * 2);
    assert_eq!(report["quantizers"]["cells"], layers * 2);
    assert_eq!(report["reevaluation"]["changed_layers"], layers.div_ceil(3));
    assert_eq!(
        report["reevaluation"]["warm_runs"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for part in ["float", "plan", "sensitivity", "quantizers", "local_errors"] {
        let runs = report[part]["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2, "{part}");
        assert!(runs.iter().all(|run| run.as_f64() > Some(0.0)), "{part}");
    }
}

#[test]
fn without_data_random_inputs_are_fed_and_said_so() {
    let (report, notes) = bench(&["--limit", "3", "--measure", "plan"]);
    assert_eq!(report["samples"], 3);
    assert_eq!(report["random_inputs"], true);
    assert!(report["plan_over_float"].as_f64() > Some(0.0));
    assert_eq!(report["sensitivity"], Value::Null);
    assert!(notes.contains("3 random inputs"), "{notes}");
}

#[test]
fn batches_in_memory_are_those_that_are_read() {
    let model = OpenModel::open(&sample("signs-resnet.onnx")).unwrap();
    let request = DataRequest {
        limit: Some(10),
        batch_size: Some(4),
        ..DataRequest::new(sample("signs/eval"))
    };
    let batches = OpenData::open(&model, request).unwrap().evaluation;
    let held = batches.in_memory().unwrap();
    let input = model.graph().inputs()[0];
    let content = |batches: &quantscope::engine::Batches| -> Vec<_> {
        batches
            .iter()
            .map(|batch| {
                let batch = batch.unwrap();
                let values = batch.fed.get(input).unwrap().plain().unwrap();
                let values = values.flatten_all().unwrap();
                (
                    values.to_vec1::<f32>().unwrap(),
                    batch.samples,
                    batch.labels,
                )
            })
            .collect()
    };
    assert_eq!(content(&batches), content(&held));
    assert_eq!(content(&batches.first(3)), content(&held.first(3)));
}
