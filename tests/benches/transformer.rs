//! An encoder of any number of blocks, 22 nodes each.

use std::path::Path;

use crate::synthetic::{CLASSES, OnnxWriter};

/// Tokens of a sample.
const TOKENS: usize = 4;

/// A transformer encoder with `blocks` blocks of width `width`, and a classifier of its mean token.
pub(crate) fn transformer(path: &Path, blocks: usize, width: usize) {
    let mut model = OnnxWriter::default();
    let mut stream = "x".to_owned();
    for block in 0..blocks {
        let mut writer = Block {
            model: &mut model,
            prefix: format!("/encoder/layer.{block}"),
            width,
        };
        stream = writer.attention(&stream);
        stream = writer.feed_forward(&stream);
    }
    model.node(
        "ReduceMean",
        "/pooler/ReduceMean",
        &[&stream],
        "mean",
        &[("keepdims", &[0])],
    );
    model.weight("w", &[width, CLASSES], 1.0);
    model.node("MatMul", "/classifier/MatMul", &["mean", "w"], "y", &[]);
    model.write(path, &[TOKENS, width]);
}

struct Block<'a> {
    model: &'a mut OnnxWriter,
    prefix: String,
    width: usize,
}

impl Block<'_> {
    /// A node below the prefix of the block; returns its output.
    fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[(&str, &[i64])],
    ) -> String {
        let name = format!("{}/{name}/{op}", self.prefix);
        let output = format!("{name}_output");
        self.model.node(op, &name, inputs, &output, attributes);
        output
    }

    fn linear(&mut self, name: &str, input: &str, inner: usize, outer: usize) -> String {
        let [weight, bias] =
            ["weight", "bias"].map(|part| format!("{}/{name}/{part}", self.prefix));
        self.model.weight(&weight, &[inner, outer], 0.3);
        self.model.weight(&bias, &[outer], 0.1);
        let product = self.node("MatMul", name, &[input, &weight], &[]);
        self.node("Add", name, &[&product, &bias], &[])
    }

    fn normalized(&mut self, name: &str, branch: &str, stream: &str) -> String {
        let scale = format!("{}/{name}/scale", self.prefix);
        self.model.weight(&scale, &[self.width], 1.0);
        let sum = self.node("Add", name, &[branch, stream], &[]);
        self.node("LayerNormalization", name, &[&sum, &scale], &[])
    }

    /// Fifteen nodes.
    fn attention(&mut self, stream: &str) -> String {
        let width = self.width;
        let [query, key, value] = ["query", "key", "value"]
            .map(|part| self.linear(&format!("attention/self/{part}"), stream, width, width));
        let keys = self.node(
            "Transpose",
            "attention/self",
            &[&key],
            &[("perm", &[0, 2, 1])],
        );
        let scores = self.node("MatMul", "attention/self/scores", &[&query, &keys], &[]);
        let shares = self.node("Softmax", "attention/self", &[&scores], &[]);
        let context = self.node("MatMul", "attention/self/context", &[&shares, &value], &[]);
        let output = self.linear("attention/output/dense", &context, width, width);
        self.normalized("attention/output", &output, stream)
    }

    /// Seven nodes.
    fn feed_forward(&mut self, stream: &str) -> String {
        let width = self.width;
        let inner = self.linear("intermediate/dense", stream, width, 2 * width);
        let active = self.node("Relu", "intermediate", &[&inner], &[]);
        let output = self.linear("output/dense", &active, 2 * width, width);
        self.normalized("output", &output, stream)
    }
}
