//! Nodes over constants, read from a file in memory.

use candle_core::{DType, Tensor};

use super::fold_constants;
use crate::model::onnx::proto::{NodeProto, TensorProto, data_type};
use crate::model::onnx::tests::{
    WithAttribute as _, floats, graph_mut, info, integers, model, node, read,
};
use crate::model::{Graph, Op};

/// Folds a graph whose value `c` is added to the input.
fn folded(mut nodes: Vec<NodeProto>, tensors: Vec<TensorProto>) -> Graph {
    nodes.push(node("Add", &["x", "c"], &["y"]));
    fold_constants(read(&model(18, nodes, tensors)).unwrap()).unwrap()
}

/// The constant `c`, if it could be folded.
fn result(nodes: Vec<NodeProto>, tensors: Vec<TensorProto>) -> Option<Tensor> {
    let graph = folded(nodes, tensors);
    let add = graph.nodes().last()?;
    graph.initializer(add.input(1)?).cloned()
}

#[track_caller]
fn check_integers(nodes: Vec<NodeProto>, tensors: Vec<TensorProto>, dims: &[usize], data: &[i64]) {
    let tensor = result(nodes, tensors).expect("it folds");
    assert_eq!(tensor.dims(), dims);
    assert_eq!(tensor.dtype(), DType::I64);
    let found: Vec<i64> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found, data);
}

#[track_caller]
fn check_floats(nodes: Vec<NodeProto>, tensors: Vec<TensorProto>, dims: &[usize], data: &[f32]) {
    let tensor = result(nodes, tensors).expect("it folds");
    assert_eq!(tensor.dims(), dims);
    let found: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(found, data);
}

fn binary(op_type: &str, a: &[i64], b: &[i64], expected: &[i64]) {
    let tensors = vec![
        integers("a", &[a.len() as i64], a),
        integers("b", &[b.len() as i64], b),
    ];
    let nodes = vec![node(op_type, &["a", "b"], &["c"])];
    check_integers(nodes, tensors, &[expected.len()], expected);
}

#[test]
fn integers_are_exact_and_divide_toward_zero() {
    let large = i64::MAX - 1;
    binary("Add", &[large, -3], &[1], &[i64::MAX, -2]);
    binary("Sub", &[1], &[2, 3], &[-1, -2]);
    binary(
        "Mul",
        &[3, 4],
        &[(1 << 53) + 1],
        &[3 * ((1 << 53) + 1), 4 * ((1 << 53) + 1)],
    );
    binary("Div", &[7, -7, 7, -7], &[2, 2, -2, -2], &[3, -3, -3, 3]);
    binary("Mod", &[7, -7, 7, -7], &[3, 3, -3, -3], &[1, 2, -2, -1]);
    binary("Pow", &[3, -2], &[3], &[27, -8]);
    binary("Max", &[1, 9], &[5], &[5, 9]);
    binary("Min", &[1, 9], &[5], &[1, 5]);
}

#[test]
fn what_has_no_result_stays() {
    let stays = |nodes: Vec<NodeProto>, tensors| {
        let before = nodes.len();
        let graph = folded(nodes, tensors);
        assert_eq!(graph.nodes().len(), before + 1);
    };
    let pair = |a: &[i64], b: &[i64]| {
        vec![
            integers("a", &[a.len() as i64], a),
            integers("b", &[b.len() as i64], b),
        ]
    };
    let op = |op_type: &str| vec![node(op_type, &["a", "b"], &["c"])];
    stays(op("Div"), pair(&[1], &[0]));
    stays(op("Mod"), pair(&[1], &[0]));
    stays(op("Div"), pair(&[i64::MIN], &[-1]));
    stays(op("Mul"), pair(&[i64::MAX], &[2]));
    stays(op("Add"), pair(&[1, 2], &[1, 2, 3]));
    stays(op("Gather"), pair(&[1, 2], &[2]));
    stays(op("Gather"), pair(&[1, 2], &[-3]));
    stays(op("Reshape"), pair(&[1, 2], &[3]));
    stays(op("Reshape"), pair(&[1, 2], &[-1, -1]));
    stays(op("Reshape"), pair(&[1, 2], &[0, 0, 0]));
    stays(op("Expand"), pair(&[1, 2], &[1 << 40, 2]));
    stays(op("Expand"), pair(&[1, 2], &[-1, 2]));
    stays(op("Tile"), pair(&[1, 2], &[i64::MAX]));
    stays(op("Unsqueeze"), pair(&[1, 2], &[5]));
    stays(
        vec![node("ConstantOfShape", &["a"], &["c"])],
        pair(&[i64::MAX, 4], &[]),
    );
    stays(
        vec![node("Range", &["a", "a", "a"], &["c"])],
        vec![integers("a", &[], &[0])],
    );
    let twice = vec![
        integers("a", &[2, 2], &[0; 4]),
        integers("s", &[2], &[0, 0]),
        integers("e", &[2], &[1, 1]),
        integers("axes", &[2], &[0, -2]),
    ];
    stays(vec![node("Slice", &["a", "s", "e", "axes"], &["c"])], twice);
    // One that depends on the input, and one that writes an output.
    stays(vec![node("Relu", &["x"], &["c"])], vec![]);
    let mut proto = model(
        18,
        vec![node("Identity", &["w"], &["y"])],
        vec![floats("w", &[1], &[2.0])],
    );
    graph_mut(&mut proto).input.clear();
    let graph = fold_constants(read(&proto).unwrap()).unwrap();
    assert_eq!(graph.nodes()[0].op, Op::Identity);
}

#[test]
fn slices_clamp_and_step_as_the_operator_does() {
    let slice = |start: i64, end: i64, step: i64, expected: &[i64]| {
        let tensors = vec![
            integers("a", &[5], &[0, 1, 2, 3, 4]),
            integers("s", &[1], &[start]),
            integers("e", &[1], &[end]),
            integers("axes", &[1], &[-1]),
            integers("t", &[1], &[step]),
        ];
        let nodes = vec![node("Slice", &["a", "s", "e", "axes", "t"], &["c"])];
        check_integers(nodes, tensors, &[expected.len()], expected);
    };
    slice(1, 3, 1, &[1, 2]);
    slice(-2, i64::MAX, 1, &[3, 4]);
    slice(i64::MIN, i64::MAX, 2, &[0, 2, 4]);
    slice(-1, i64::MIN, -1, &[4, 3, 2, 1, 0]);
    slice(i64::MAX, -6, -2, &[4, 2, 0]);
    slice(3, 3, 1, &[]);
    slice(4, 1, 1, &[]);
    slice(0, 5, i64::MAX, &[0]);
    slice(4, i64::MIN, i64::MIN, &[4]);
    let matrix = floats("a", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let tensors = vec![
        matrix,
        integers("s", &[2], &[1, 0]),
        integers("e", &[2], &[2, -1]),
    ];
    let nodes = vec![node("Slice", &["a", "s", "e"], &["c"])];
    check_floats(nodes, tensors, &[1, 2], &[3.0, 4.0]);
}

#[test]
fn elements_move_as_the_operators_say() {
    let matrix = || floats("a", &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let with = |data: &[i64]| vec![matrix(), integers("b", &[data.len() as i64], data)];
    check_floats(
        vec![node("Transpose", &["a"], &["c"])],
        vec![matrix()],
        &[3, 2],
        &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0],
    );
    check_floats(
        vec![node("Gather", &["a", "b"], &["c"]).int("axis", 1)],
        with(&[2, -3]),
        &[2, 2],
        &[2.0, 0.0, 5.0, 3.0],
    );
    check_floats(
        vec![node("Tile", &["a", "b"], &["c"])],
        with(&[1, 2]),
        &[2, 6],
        &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0],
    );
    let doubled = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].repeat(2);
    check_floats(
        vec![node("Expand", &["a", "b"], &["c"])],
        with(&[2, 1, 1]),
        &[2, 2, 3],
        &doubled,
    );
    check_floats(
        vec![node("Concat", &["a", "a"], &["c"]).int("axis", -1)],
        vec![matrix()],
        &[2, 6],
        &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0],
    );
    check_floats(
        vec![node("Split", &["a", "b"], &["other", "c"]).int("axis", 1)],
        with(&[1, 2]),
        &[2, 2],
        &[1.0, 2.0, 4.0, 5.0],
    );
    let plain = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    check_floats(
        vec![node("Reshape", &["a", "b"], &["c"])],
        with(&[0, -1, 1]),
        &[2, 3, 1],
        &plain,
    );
    check_floats(
        vec![node("Flatten", &["a"], &["c"]).int("axis", 2)],
        vec![matrix()],
        &[6, 1],
        &plain,
    );
    check_floats(
        vec![node("Unsqueeze", &["a", "b"], &["c"])],
        with(&[0, -1]),
        &[1, 2, 3, 1],
        &plain,
    );
}

#[test]
fn conditions_casts_and_ranges() {
    let a = || integers("a", &[3], &[-1, 0, 5]);
    let nodes = vec![
        node("Cast", &["a"], &["flags"]).int("to", i64::from(data_type::BOOL)),
        node("Not", &["flags"], &["inverse"]),
        node("Neg", &["a"], &["b"]),
        node("Where", &["inverse", "a", "b"], &["c"]),
    ];
    check_integers(nodes, vec![a()], &[3], &[1, 0, -5]);
    let nodes = vec![node("Cast", &["f"], &["c"]).int("to", i64::from(data_type::INT64))];
    check_integers(
        nodes,
        vec![floats("f", &[3], &[-1.9, 0.9, 3e30])],
        &[3],
        &[-1, 0, i64::MAX],
    );
    let scalars = |start, limit, delta| {
        vec![
            integers("s", &[], &[start]),
            integers("l", &[], &[limit]),
            integers("d", &[], &[delta]),
        ]
    };
    let range = || vec![node("Range", &["s", "l", "d"], &["c"])];
    check_integers(range(), scalars(1, 8, 3), &[3], &[1, 4, 7]);
    check_integers(range(), scalars(3, -1, -2), &[2], &[3, 1]);
    check_integers(range(), scalars(3, 9, -2), &[0], &[]);
    let float = |name, value| floats(name, &[], &[value]);
    check_floats(
        range(),
        vec![float("s", 0.0), float("l", 1.0), float("d", 0.4)],
        &[3],
        &[0.0, 0.4, 0.8],
    );
}

#[test]
fn the_batch_is_never_a_constant() {
    let mut proto = model(
        18,
        vec![
            node("Shape", &["x"], &["s"]),
            node("Gather", &["s", "batch"], &["n"]),
            node("Gather", &["s", "height"], &["h"]),
            node("Concat", &["n", "h"], &["shape"]).int("axis", 0),
            node("Reshape", &["x", "shape"], &["y"]),
        ],
        vec![
            integers("batch", &[1], &[0]),
            integers("height", &[1], &[-2]),
        ],
    );
    graph_mut(&mut proto).input = vec![info("x", &[Some(1), Some(3), Some(8), Some(8)])];
    let graph = fold_constants(read(&proto).unwrap()).unwrap();
    let names: Vec<_> = graph
        .nodes()
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(names, ["s", "n", "shape", "y"], "only the height is known");
    let height = graph.nodes()[2]
        .input(1)
        .and_then(|id| graph.initializer(id));
    assert_eq!(height.unwrap().to_vec1::<i64>().unwrap(), [8]);

    let shape = node("Shape", &["x"], &["c"]).int("start", 1).int("end", 3);
    check_integers(vec![shape], vec![], &[2], &[3, 8]);
}

#[test]
fn padding_computed_by_nodes_becomes_a_constant() {
    // What the PyTorch exporter writes for `F.pad`.
    let nodes = vec![
        node("ConstantOfShape", &["four"], &["zeros"]).tensor("value", integers("", &[1], &[0])),
        node("Concat", &["pads", "zeros"], &["all"]).int("axis", 0),
        node("Reshape", &["all", "pairs"], &["rows"]),
        node(
            "Slice",
            &["rows", "last", "first", "axis", "back"],
            &["reversed"],
        ),
        node("Transpose", &["reversed"], &["columns"]).ints("perm", &[1, 0]),
        node("Reshape", &["columns", "flat"], &["c"]),
    ];
    let tensors = vec![
        integers("four", &[1], &[4]),
        integers("pads", &[4], &[1, 2, 3, 4]),
        integers("pairs", &[2], &[-1, 2]),
        integers("last", &[1], &[-1]),
        integers("first", &[1], &[-9223372036854775807]),
        integers("axis", &[1], &[0]),
        integers("back", &[1], &[-1]),
        integers("flat", &[1], &[-1]),
    ];
    check_integers(nodes, tensors, &[8], &[0, 0, 3, 1, 0, 0, 4, 2]);
}
