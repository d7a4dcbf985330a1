//! Large models open without a copy of their weights.

use std::io::Write as _;
use std::path::Path;

use crate::common::root;

const LAYERS: usize = 16;
const SIDE: usize = 1024;

/// A field of a protobuf message that holds bytes, text or another message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    bytes.extend(varint(content.len()));
    bytes.extend(content);
    bytes
}

/// A field that holds a number.
fn number(number: u8, value: usize) -> Vec<u8> {
    [vec![number << 3], varint(value)].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A chain of `LAYERS` matrix products of 4 MiB of weights each, field by field as in `onnx.proto3`.
fn chain() -> Vec<u8> {
    let mut graph = Vec::new();
    for layer in 0..LAYERS {
        let (input, output) = (format!("x{layer}"), format!("x{}", layer + 1));
        let weight = format!("w{layer}");
        let node = [
            field(1, input.as_bytes()),
            field(1, weight.as_bytes()),
            field(2, output.as_bytes()),
            field(4, b"MatMul"),
        ];
        graph.extend(field(1, &node.concat()));
        let tensor = [
            number(1, SIDE),
            number(1, SIDE),
            number(2, 1),
            field(8, weight.as_bytes()),
            field(9, &0.25f32.to_le_bytes().repeat(SIDE * SIDE)),
        ];
        graph.extend(field(5, &tensor.concat()));
    }
    let dims = [1, SIDE]
        .map(|length| field(1, &number(1, length)))
        .concat();
    let tensor_type = [number(1, 1), field(2, &dims)].concat();
    let input = [field(1, b"x0"), field(2, &field(1, &tensor_type))].concat();
    graph.extend(field(11, &input));
    graph.extend(field(12, &field(1, format!("x{LAYERS}").as_bytes())));
    let opset = field(8, &number(2, 17));
    [number(1, 8), opset, field(7, &graph)].concat()
}

/// Runs `quantscope info` with at most this much memory of its own; mapped files do not count.
fn info_within(kibibytes: usize, model: &Path) -> std::process::Output {
    std::process::Command::new("sh")
        .args(["-c", "ulimit -d \"$0\" && exec \"$@\""])
        .arg(kibibytes.to_string())
        .arg(env!("CARGO_BIN_EXE_quantscope"))
        .arg("info")
        .arg(model)
        .current_dir(root())
        .output()
        .unwrap()
}

#[test]
fn a_model_of_64_mib_opens_in_32_mib_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.onnx");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&chain()).unwrap();
    let output = info_within(32 << 10, &path);
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(text.contains("16 layers"), "{text}");
}
