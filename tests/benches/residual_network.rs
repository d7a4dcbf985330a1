//! A network of any number of layers.

use std::path::Path;

use crate::synthetic::{CLASSES, OnnxWriter};

/// A residual classifier of 3 × 3 convolutions with `layers` layers in all, on `[channels, side, side]`.
pub(crate) fn residual_network(path: &Path, layers: usize, channels: usize, side: usize) {
    let mut model = OnnxWriter::default();
    let mut stream = "x".to_owned();
    for layer in 0..layers - 1 {
        let weight = format!("w{layer}");
        let name = format!("/stage{}/block{}/conv/Conv", layer / 100, layer % 100);
        let [conv, relu, sum] = ["conv", "relu", "sum"].map(|part| format!("{part}{layer}"));
        // Small beside the stream that it is added to, so that a thousand layers stay finite.
        let scale = 0.2 / (channels as f32 * 9.0).sqrt() / (layers as f32).sqrt();
        model.weight(&weight, &[channels, channels, 3, 3], scale);
        let attributes: [(&str, &[i64]); 2] = [("kernel_shape", &[3, 3]), ("pads", &[1, 1, 1, 1])];
        model.node("Conv", &name, &[&stream, &weight], &conv, &attributes);
        model.node("Relu", &relu, &[&conv], &relu, &[]);
        model.node("Add", &sum, &[&stream, &relu], &sum, &[]);
        stream = sum;
    }
    model.weight("w", &[CLASSES, channels], 1.0);
    model.node("GlobalAveragePool", "pool", &[&stream], "pooled", &[]);
    model.node("Flatten", "flatten", &["pooled"], "features", &[]);
    let transposed: [(&str, &[i64]); 1] = [("transB", &[1])];
    model.node("Gemm", "classifier", &["features", "w"], "y", &transposed);
    model.write(path, &[channels, side, side]);
}
