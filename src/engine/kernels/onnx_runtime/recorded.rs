//! What ONNX Runtime gave for single operators; see `tests/golden/make_onnx_runtime_bits.py`.

use serde_json::Value;

/// One operator with its numbers.
#[derive(Debug)]
pub(super) struct Recorded(Value);

/// All cases of an operator.
pub(super) fn recorded(op: &str) -> Vec<Recorded> {
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("tests/golden/onnx_runtime_bits.json");
    let text = std::fs::read_to_string(path).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let cases = document["cases"].as_array().unwrap().iter();
    let cases = cases.filter(|case| case["op"] == op).cloned();
    let cases: Vec<Recorded> = cases.map(Recorded).collect();
    assert!(!cases.is_empty(), "{op}");
    cases
}

impl Recorded {
    pub(super) fn rows(&self) -> usize {
        self.0["rows"].as_u64().unwrap() as usize
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.0[name].as_bool().unwrap()
    }

    pub(super) fn numbers(&self, name: &str) -> Vec<f32> {
        let numbers = self.0[name].as_array().unwrap().iter();
        numbers.map(|x| x.as_f64().unwrap() as f32).collect()
    }

    #[track_caller]
    pub(super) fn assert_same(&self, found: &[f32]) {
        let expected = self.numbers("y");
        assert_eq!(found.len(), expected.len());
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let bits = (found.to_bits(), expected.to_bits());
            assert!(
                bits.0 == bits.1,
                "{at}: {found} is not {expected}: {:?}",
                self.0
            );
        }
    }
}
