//! ONNX files node by node, and random data for them, made in a temporary folder.

use std::path::{Path, PathBuf};

use quantscope::data::{write_f32, write_i64};

/// Classes of every synthetic classifier.
pub(crate) const CLASSES: usize = 10;

/// A model in the making.
#[derive(Default)]
pub(crate) struct OnnxWriter {
    nodes: Vec<u8>,
    initializers: Vec<u8>,
    random: u64,
}

impl OnnxWriter {
    /// Adds a node with one output and attributes of integers.
    pub(crate) fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, &[i64])],
    ) {
        let mut node = Vec::new();
        for input in inputs {
            bytes(&mut node, 1, input.as_bytes());
        }
        bytes(&mut node, 2, output.as_bytes());
        bytes(&mut node, 3, name.as_bytes());
        bytes(&mut node, 4, op.as_bytes());
        for (name, values) in attributes {
            let mut attribute = Vec::new();
            bytes(&mut attribute, 1, name.as_bytes());
            // A single number is an INT, several are INTS.
            if let [value] = values {
                number(&mut attribute, 3, *value as u64);
                number(&mut attribute, 20, 2);
            } else {
                for value in *values {
                    number(&mut attribute, 8, *value as u64);
                }
                number(&mut attribute, 20, 7);
            }
            bytes(&mut node, 5, &attribute);
        }
        bytes(&mut self.nodes, 1, &node);
    }

    /// Adds a constant of random values in `-scale..scale`.
    pub(crate) fn weight(&mut self, name: &str, shape: &[usize], scale: f32) {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| self.uniform() * scale)
            .collect();
        let mut tensor = Vec::new();
        for length in shape {
            number(&mut tensor, 1, *length as u64);
        }
        number(&mut tensor, 2, 1);
        bytes(&mut tensor, 8, name.as_bytes());
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes(&mut tensor, 9, &raw);
        bytes(&mut self.initializers, 5, &tensor);
    }

    /// Uniform in `-1..1`.
    fn uniform(&mut self) -> f32 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Writes the model: input `x` of shape `[batch, …]`, output `y`.
    pub(crate) fn write(self, path: &Path, sample_shape: &[usize]) {
        let mut graph = self.nodes;
        bytes(&mut graph, 2, b"synthetic");
        graph.extend(self.initializers);
        bytes(&mut graph, 11, &value_info("x", Some(sample_shape)));
        bytes(&mut graph, 12, &value_info("y", None));
        let mut opset = Vec::new();
        number(&mut opset, 2, 17);
        let mut model = Vec::new();
        number(&mut model, 1, 8);
        bytes(&mut model, 7, &graph);
        bytes(&mut model, 8, &opset);
        std::fs::write(path, model).unwrap();
    }
}

fn value_info(name: &str, sample_shape: Option<&[usize]>) -> Vec<u8> {
    let mut tensor = Vec::new();
    number(&mut tensor, 1, 1);
    if let Some(sample_shape) = sample_shape {
        let mut shape = Vec::new();
        let mut batch = Vec::new();
        bytes(&mut batch, 2, b"batch");
        bytes(&mut shape, 1, &batch);
        for length in sample_shape {
            let mut dim = Vec::new();
            number(&mut dim, 1, *length as u64);
            bytes(&mut shape, 1, &dim);
        }
        bytes(&mut tensor, 2, &shape);
    }
    let mut kind = Vec::new();
    bytes(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    bytes(&mut info, 1, name.as_bytes());
    bytes(&mut info, 2, &kind);
    info
}

/// A field of variable length in the encoding of protocol buffers.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A field that is a number.
fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `inputs.npy` and `labels.npy` in a new folder below `folder`.
pub(crate) fn random_data(folder: &Path, samples: usize, sample_shape: &[usize]) -> PathBuf {
    let target = folder.join(format!("data-{samples}"));
    std::fs::create_dir_all(&target).unwrap();
    let mut random = OnnxWriter::default();
    let shape = [&[samples], sample_shape].concat();
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| 2.0 * random.uniform())
        .collect();
    write_f32(&target.join("inputs.npy"), &shape, &values).unwrap();
    let labels: Vec<i64> = (0..samples).map(|i| (i % CLASSES) as i64).collect();
    write_i64(&target.join("labels.npy"), &[samples], &labels).unwrap();
    target
}
