//! Every operator variant against ONNX Runtime, node by node.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use quantscope::engine::evaluate;
use quantscope::model::{Graph, ValueId, load, read_onnx};
use serde_json::Value;

use crate::common::root;

/// Largest difference of floats, absolute and relative; both sides round sums in their own order.
const TOLERANCE: f64 = 1e-5;

/// What the engine refuses, and a word of the reason that it gives.
const REFUSED: [(&str, &str); 4] = [
    ("resize_opset18_not_larger", "keep_aspect_ratio_policy"),
    ("quantize_linear_u8_ties", "already quantized"),
    ("quantize_linear_i8_channel", "already quantized"),
    ("dequantize_linear_u8", "already quantized"),
];

fn shape(record: &Value) -> Vec<usize> {
    let lengths = record["shape"].as_array().unwrap();
    lengths
        .iter()
        .map(|length| length.as_u64().unwrap() as usize)
        .collect()
}

fn is_float(record: &Value) -> bool {
    matches!(record["dtype"].as_str().unwrap(), "f32" | "f64")
}

/// A record as the engine stores it: floats `F32`, integers `I64`, booleans `U8`.
fn tensor(record: &Value) -> Tensor {
    let data = record["data"].as_array().unwrap().iter();
    let (shape, device) = (shape(record), &Device::Cpu);
    let integers = data.clone().filter_map(Value::as_i64);
    let made = if is_float(record) {
        let floats = data.map(|v| v.as_f64().unwrap() as f32);
        Tensor::from_vec(floats.collect::<Vec<_>>(), shape, device)
    } else if record["dtype"] == "bool" {
        let flags = integers.map(|v| u8::from(v != 0));
        Tensor::from_vec(flags.collect::<Vec<_>>(), shape, device)
    } else {
        Tensor::from_vec(integers.collect::<Vec<_>>(), shape, device)
    };
    made.unwrap()
}

/// Feeds the case's inputs by name and evaluates all nodes in order.
fn outputs(graph: &Graph, case: &Value) -> Result<Vec<Tensor>, String> {
    let mut values: BTreeMap<ValueId, Tensor> = graph
        .initializers()
        .iter()
        .map(|(id, initializer)| (*id, initializer.tensor().unwrap().clone()))
        .collect();
    for record in case["inputs"].as_array().unwrap() {
        let named = |id: &&ValueId| graph.value(**id).name == record["name"].as_str().unwrap();
        // An input that no node needs may have been folded away.
        if let Some(input) = graph.inputs().iter().find(named) {
            values.insert(*input, tensor(record));
        }
    }
    for node in graph.nodes() {
        let inputs: Vec<Option<Tensor>> = node
            .inputs
            .iter()
            .map(|input| input.and_then(|id| values.get(&id).cloned()))
            .collect();
        let results = evaluate(&node.op, &inputs, node.outputs.len())
            .map_err(|error| format!("node {:?}: {error}", node.name))?;
        values.extend(node.outputs.iter().copied().zip(results));
    }
    let held = |id: &ValueId| values.get(id).cloned();
    let held: Option<Vec<Tensor>> = graph.outputs().iter().map(held).collect();
    held.ok_or_else(|| "an output was not computed".to_owned())
}

fn check(found: &Tensor, record: &Value) -> Result<(), String> {
    let expected = tensor(record);
    if found.dtype() != expected.dtype() || found.dims() != expected.dims() {
        return Err(format!(
            "{:?}{:?}, expected {:?}{:?}",
            found.dtype(),
            found.dims(),
            expected.dtype(),
            expected.dims()
        ));
    }
    let tolerance = if is_float(record) { TOLERANCE } else { 0.0 };
    let flat = |t: &Tensor| {
        let wide = t.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
        wide.to_vec1::<f64>().unwrap()
    };
    for (index, (f, e)) in flat(found).into_iter().zip(flat(&expected)).enumerate() {
        let close = (f - e).abs() <= tolerance * e.abs().max(1.0);
        if !close && f != e {
            return Err(format!("element {index} is {f}, expected {e}"));
        }
    }
    Ok(())
}

fn golden() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("tests/golden/ops.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let cases = golden["cases"].as_array().unwrap().clone();
    assert!(cases.len() > 400, "only {} cases", cases.len());
    cases
}

/// Compares all cases and reports all that differ.
#[track_caller]
fn compare_all(read: impl Fn(&std::path::Path) -> Result<Graph, String>) {
    let cases = golden();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let path = root()
                .join("tests/golden")
                .join(case["file"].as_str().unwrap());
            let records = case["outputs"].as_array().unwrap();
            let compared = read(&path).and_then(|graph| {
                let found = outputs(&graph, case)?;
                assert_eq!(found.len(), records.len());
                found
                    .iter()
                    .zip(records)
                    .try_for_each(|(found, record)| check(found, record))
            });
            let name = case["name"].as_str().unwrap();
            let refusal = REFUSED.iter().find(|(refused, _)| *refused == name);
            match (compared, refusal) {
                (Ok(()), None) => None,
                (Ok(()), Some(_)) => Some(format!("{name}: expected a refusal")),
                (Err(reason), Some((_, word))) if reason.contains(word) => None,
                (Err(reason), _) => Some(format!("{name}: {reason}")),
            }
        })
        .collect();
    let (count, all) = (failures.len(), cases.len());
    assert!(
        failures.is_empty(),
        "{count} of {all} differ:\n{}",
        failures.join("\n")
    );
}

#[test]
fn every_operator_gives_the_numbers_of_onnx_runtime() {
    compare_all(|path| read_onnx(path).map_err(|error| error.to_string()));
}

#[test]
fn folding_on_loading_changes_no_number() {
    compare_all(|path| load(path).map_err(|error| error.to_string()));
}
