//! Files made in memory, good and bad.

use std::path::PathBuf;

use candle_core::Tensor;
use prost::Message as _;
use prost::bytes::Bytes;

use super::proto::{
    AttributeProto, DATA_LOCATION_EXTERNAL, DimensionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type, data_type,
};
use super::{read_content, read_onnx};
use crate::model::{
    Binary, CoordinateTransform, Dim, ElementType, Graph, GraphErrorKind, LoadError, LoadErrorKind,
    NearestRounding, Op, Padding, ResizeMode, Scalar, Unary,
};

pub(crate) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        op_type: op_type.to_owned(),
        input: owned(inputs),
        output: owned(outputs),
        ..NodeProto::default()
    }
}

pub(crate) trait WithAttribute: Sized {
    fn with(self, attribute: AttributeProto) -> Self;
    fn int(self, name: &str, i: i64) -> Self {
        self.with(AttributeProto {
            name: name.to_owned(),
            kind: attribute_type::INT,
            i,
            ..AttributeProto::default()
        })
    }
    fn float(self, name: &str, f: f32) -> Self {
        self.with(AttributeProto {
            name: name.to_owned(),
            kind: attribute_type::FLOAT,
            f,
            ..AttributeProto::default()
        })
    }
    fn ints(self, name: &str, ints: &[i64]) -> Self {
        self.with(AttributeProto {
            name: name.to_owned(),
            kind: attribute_type::INTS,
            ints: ints.to_vec(),
            ..AttributeProto::default()
        })
    }
    fn floats(self, name: &str, floats: &[f32]) -> Self {
        self.with(AttributeProto {
            name: name.to_owned(),
            kind: attribute_type::FLOATS,
            floats: floats.to_vec(),
            ..AttributeProto::default()
        })
    }
    fn string(self, name: &str, s: &str) -> Self {
        self.with(AttributeProto {
            name: name.to_owned(),
            kind: attribute_type::STRING,
            s: s.as_bytes().to_vec(),
            ..AttributeProto::default()
        })
    }
    fn tensor(self, name: &str, t: TensorProto) -> Self {
        self.with(AttributeProto {
            name: name.to_owned(),
            kind: attribute_type::TENSOR,
            t: Some(t),
            ..AttributeProto::default()
        })
    }
}

impl WithAttribute for NodeProto {
    fn with(mut self, attribute: AttributeProto) -> Self {
        self.attribute.push(attribute);
        self
    }
}

pub(crate) fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        raw_data: Some(data.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

pub(crate) fn integers(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::INT64,
        int64_data: data.to_vec(),
        ..TensorProto::default()
    }
}

pub(crate) fn info(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = |length: &Option<i64>| DimensionProto {
        dim_value: *length,
        dim_param: length.is_none().then(|| "N".to_owned()),
    };
    let tensor_type = Some(TensorTypeProto {
        elem_type: data_type::FLOAT,
        shape: Some(TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        }),
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type }),
    }
}

/// A model from `x [N, 3, 8, 8]` to `y`.
pub(crate) fn model(opset: i64, nodes: Vec<NodeProto>, tensors: Vec<TensorProto>) -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: opset,
        }],
        graph: Some(GraphProto {
            node: nodes,
            initializer: tensors,
            input: vec![info("x", &[None, Some(3), Some(8), Some(8)])],
            output: vec![info("y", &[])],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

pub(crate) fn read(model: &ModelProto) -> Result<Graph, LoadError> {
    let bytes = Bytes::from(model.encode_to_vec());
    read_content(&bytes.into(), &PathBuf::from("model.onnx"))
}

pub(crate) fn graph_mut(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn constant_i64(graph: &Graph, node: usize, input: usize) -> Vec<i64> {
    let id = graph.nodes()[node]
        .input(input)
        .expect("the input is there");
    let tensor: &Tensor = graph.initializer(id).expect("it is a constant");
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn constant_f32(graph: &Graph, node: usize, input: usize) -> Vec<f32> {
    let id = graph.nodes()[node]
        .input(input)
        .expect("the input is there");
    let tensor: &Tensor = graph.initializer(id).expect("it is a constant");
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn check_refused(opset: i64, node: NodeProto, expected: &str) {
    let graph = read(&model(opset, vec![node], vec![])).expect("the model still opens");
    match &graph.nodes()[0].op {
        Op::Unsupported { reason, .. } => {
            assert!(reason.contains(expected), "{reason:?} lacks {expected:?}");
        }
        op => panic!("expected a refusal that names {expected:?}, got {op:?}"),
    }
}

#[track_caller]
fn check_fails(model: &ModelProto, at: Option<&str>, expected: &str) {
    let error = read(model).expect_err("the model is broken");
    assert_eq!(error.at.as_deref(), at, "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn opens_a_small_model_with_names_types_and_metadata() {
    let mut proto = model(
        17,
        vec![
            node("Conv", &["x", "w"], &["a"]).ints("pads", &[1, 1, 1, 1]),
            node("Relu", &["a"], &["y"]),
        ],
        vec![floats("w", &[2, 3, 3, 3], &[0.5; 54])],
    );
    proto.producer_name = "unit".to_owned();
    graph_mut(&mut proto).node[1].name = "act".to_owned();
    let graph = read(&proto).unwrap();

    let names: Vec<_> = graph.nodes().iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["a", "act"]);
    let Op::Conv(conv) = &graph.nodes()[0].op else {
        panic!("expected Conv, got {:?}", graph.nodes()[0].op);
    };
    assert_eq!(conv.padding, Padding::Explicit(vec![1; 4]));
    assert_eq!(conv.groups, 1);
    assert_eq!(constant_f32(&graph, 0, 1), [0.5; 54]);
    let x = graph.value(graph.inputs()[0]);
    assert_eq!(x.element_type, Some(ElementType::F32));
    let fixed = [3, 8, 8].map(Dim::Fixed);
    assert_eq!(x.shape.as_ref().unwrap()[0], Dim::Symbol("N".to_owned()));
    assert_eq!(x.shape.as_ref().unwrap()[1..], fixed);
    let metadata = graph.metadata();
    assert_eq!(metadata.name, "model.onnx");
    assert_eq!(metadata.producer.as_deref(), Some("unit"));
    assert_eq!(metadata.opset, Some(17));
    assert_eq!(metadata.sha256.len(), 64);
}

#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    let proto = model(
        17,
        vec![node("Add", &["x", "w"], &["y"])],
        vec![floats("w", &[3, 1, 1], &[1.0, 2.0, 3.0])],
    );
    let bytes = proto.encode_to_vec();
    let path = PathBuf::from("model.onnx");
    assert!(read_content(&Bytes::from(bytes.clone()).into(), &path).is_ok());
    for length in 0..bytes.len() {
        assert!(
            read_content(&Bytes::copy_from_slice(&bytes[..length]).into(), &path).is_err(),
            "cut off at {length} of {}",
            bytes.len()
        );
    }
    let mut state = 1u64;
    for _ in 0..2000 {
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let mut damaged = bytes.clone();
        for _ in 0..3 {
            let at = next() % damaged.len();
            damaged[at] = next() as u8;
        }
        // A changed name is still a model; only the absence of a panic matters.
        read_content(&Bytes::from(damaged).into(), &path).ok();
        let random: Vec<u8> = (0..64).map(|_| next() as u8).collect();
        assert!(read_content(&Bytes::from(random).into(), &path).is_err());
    }
}

#[test]
fn broken_models_name_what_is_at_fault() {
    let relu = || node("Relu", &["x"], &["y"]);
    let add = || node("Add", &["x", "w"], &["y"]);

    check_fails(&model(17, vec![], vec![]), None, "no nodes");
    check_fails(&model(6, vec![relu()], vec![]), None, "version_converter");
    let mut no_opset = model(17, vec![relu()], vec![]);
    no_opset.opset_import.clear();
    check_fails(&no_opset, None, "no opset version");

    let mut huge = floats("w", &[i64::MAX, i64::MAX, 4], &[1.0]);
    check_fails(
        &model(17, vec![add()], vec![huge.clone()]),
        Some("w"),
        "more elements",
    );
    huge.dims = vec![1 << 40];
    check_fails(
        &model(17, vec![add()], vec![huge.clone()]),
        Some("w"),
        "does not fit",
    );
    huge.dims = vec![-1];
    check_fails(&model(17, vec![add()], vec![huge]), Some("w"), "negative");
    let short = floats("w", &[3], &[1.0, 2.0]);
    check_fails(&model(17, vec![add()], vec![short]), Some("w"), "8 bytes");
    let typed = integers("w", &[3], &[1, 2]);
    check_fails(
        &model(17, vec![add()], vec![typed]),
        Some("w"),
        "needs 3 elements",
    );
    let twice = vec![floats("w", &[1], &[1.0]), floats("w", &[1], &[1.0])];
    check_fails(&model(17, vec![add()], twice), Some("w"), "two tensors");
    check_fails(
        &model(17, vec![add()], vec![]),
        None,
        "\"w\" is read but no",
    );
}

#[test]
fn cycles_and_double_writes_are_graph_errors() {
    let cyclic = vec![
        node("Add", &["x", "b"], &["y"]),
        node("Relu", &["y"], &["b"]),
    ];
    let error = read(&model(17, cyclic, vec![])).unwrap_err();
    assert!(
        matches!(&error.kind, LoadErrorKind::Graph(graph) if graph.kind == GraphErrorKind::Cycle),
        "{error}"
    );
    let twice = vec![node("Relu", &["x"], &["y"]), node("Abs", &["x"], &["y"])];
    let error = read(&model(17, twice, vec![])).unwrap_err();
    assert!(
        error.to_string().contains("more than one source"),
        "{error}"
    );
    let constants = vec![
        node("Constant", &[], &["c"]).float("value_float", 1.0),
        node("Constant", &[], &["c"]).float("value_float", 2.0),
        node("Add", &["x", "c"], &["y"]),
    ];
    let error = read(&model(17, constants, vec![])).unwrap_err();
    assert!(
        error.to_string().contains("more than one source"),
        "{error}"
    );
}

#[test]
fn tensors_of_every_type_become_the_engines_types() {
    let raw = |data_type: i32, bytes: &[u8]| TensorProto {
        name: "c".to_owned(),
        dims: vec![2],
        data_type,
        raw_data: Some(Bytes::copy_from_slice(bytes)),
        ..TensorProto::default()
    };
    let narrow = |data_type: i32, values: [i32; 2]| TensorProto {
        name: "c".to_owned(),
        dims: vec![2],
        data_type,
        int32_data: values.to_vec(),
        ..TensorProto::default()
    };
    let wide = |data_type: i32, values: [u64; 2]| TensorProto {
        name: "c".to_owned(),
        dims: vec![2],
        data_type,
        uint64_data: values.to_vec(),
        ..TensorProto::default()
    };
    let double = TensorProto {
        name: "c".to_owned(),
        dims: vec![2],
        data_type: data_type::DOUBLE,
        double_data: vec![0.1, -2.0],
        ..TensorProto::default()
    };
    use ElementType as E;
    use data_type as d;
    let cases = [
        (
            E::F16,
            raw(d::FLOAT16, &[0x00, 0x3c, 0x00, 0xc1]),
            [1.0, -2.5],
        ),
        (E::F16, narrow(d::FLOAT16, [0x3c00, 0xc100]), [1.0, -2.5]),
        (
            E::BF16,
            raw(d::BFLOAT16, &[0x80, 0x3f, 0x20, 0xc0]),
            [1.0, -2.5],
        ),
        (E::I8, raw(d::INT8, &[0xff, 0x7f]), [-1.0, 127.0]),
        (E::U8, raw(d::UINT8, &[0xff, 0x7f]), [255.0, 127.0]),
        (
            E::I16,
            raw(d::INT16, &[0xfe, 0xff, 0x00, 0x01]),
            [-2.0, 256.0],
        ),
        (E::U16, narrow(d::UINT16, [65535, 1]), [65535.0, 1.0]),
        (
            E::I32,
            raw(d::INT32, &[0xfe, 0xff, 0xff, 0xff, 0, 1, 0, 0]),
            [-2.0, 256.0],
        ),
        (
            E::U32,
            wide(d::UINT32, [4294967295, 1]),
            [4294967295.0, 1.0],
        ),
        (
            E::U64,
            wide(d::UINT64, [7, u64::MAX]),
            [7.0, i64::MAX as f64],
        ),
        (E::Bool, raw(d::BOOL, &[0, 7]), [0.0, 1.0]),
        (E::F64, double, [f64::from(0.1f32), -2.0]),
    ];
    for (declared, tensor, expected) in cases {
        let nodes = vec![node("Add", &["x", "c"], &["y"])];
        let graph = read(&model(17, nodes, vec![tensor])).unwrap();
        let id = graph.nodes()[0].input(1).unwrap();
        assert_eq!(graph.value(id).element_type, Some(declared));
        let tensor = graph.initializer(id).unwrap();
        let numbers: Vec<f64> = tensor
            .to_dtype(candle_core::DType::F64)
            .unwrap()
            .to_vec1()
            .unwrap();
        assert_eq!(numbers, expected, "{declared:?}");
        let integers = !declared.is_float() && declared != ElementType::Bool;
        assert_eq!(tensor.dtype() == candle_core::DType::I64, integers);
    }
}

#[test]
fn initializers_among_the_inputs_are_not_inputs() {
    let mut proto = model(
        9,
        vec![node("Add", &["x", "w"], &["y"])],
        vec![floats("w", &[1], &[1.0])],
    );
    proto.ir_version = 3;
    graph_mut(&mut proto).input.push(info("w", &[Some(1)]));
    let graph = read(&proto).unwrap();
    assert_eq!(graph.inputs().len(), 1);
    graph_mut(&mut proto).initializer.clear();
    assert_eq!(read(&proto).unwrap().inputs().len(), 2);
}

#[test]
fn names_are_kept_and_made_unique() {
    let mut nodes = vec![
        node("Relu", &["x"], &["a"]),
        node("Relu", &["a"], &["b"]),
        node("Relu", &["b"], &["c"]),
        node("Relu", &["c"], &["d"]),
        node("Relu", &["d"], &["y"]),
    ];
    for (node, name) in nodes.iter_mut().zip(["act", "act", "act_1", "act", ""]) {
        node.name = name.to_owned();
    }
    let graph = read(&model(17, nodes, vec![])).unwrap();
    let names: Vec<_> = graph.nodes().iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["act", "act_2", "act_1", "act_3", "y"]);
}

#[test]
fn constants_of_every_form_become_initializers() {
    let nodes = vec![
        node("Concat", &["a", "b", "c", "d", "e"], &["y"]).int("axis", 0),
        node("Constant", &[], &["a"]).float("value_float", 1.5),
        node("Constant", &[], &["b"]).floats("value_floats", &[1.0, 2.0]),
        node("Constant", &[], &["c"]).int("value_int", -3),
        node("Constant", &[], &["d"]).ints("value_ints", &[4, 5]),
        node("Constant", &[], &["e"]).tensor("value", integers("", &[1, 2], &[6, 7])),
    ];
    let graph = read(&model(17, nodes, vec![])).unwrap();
    assert_eq!(graph.nodes().len(), 1);
    assert_eq!(constant_f32(&graph, 0, 0), [1.5]);
    assert_eq!(constant_f32(&graph, 0, 1), [1.0, 2.0]);
    assert_eq!(constant_i64(&graph, 0, 2), [-3]);
    assert_eq!(constant_i64(&graph, 0, 3), [4, 5]);
    let e = graph
        .initializer(graph.nodes()[0].input(4).unwrap())
        .unwrap();
    assert_eq!(e.dims(), [1, 2]);
}

#[test]
fn attributes_of_older_opsets_become_inputs() {
    let check = |opset: i64, proto: NodeProto, input: usize, expected: &[i64]| {
        let op_type = proto.op_type.clone();
        let graph = read(&model(opset, vec![proto], vec![])).unwrap();
        assert_eq!(graph.nodes()[0].op.name(), op_type);
        assert_eq!(
            constant_i64(&graph, 0, input),
            expected,
            "{op_type} {opset}"
        );
    };
    let make = |op_type: &str| node(op_type, &["x"], &["y"]);
    check(11, make("Squeeze").ints("axes", &[0]), 1, &[0]);
    check(11, make("Unsqueeze").ints("axes", &[0, -1]), 1, &[0, -1]);
    check(12, make("ReduceSum").ints("axes", &[2, 3]), 1, &[2, 3]);
    check(17, make("ReduceMean").ints("axes", &[2, 3]), 1, &[2, 3]);
    check(
        10,
        make("Pad").ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]),
        1,
        &[0, 0, 1, 1, 0, 0, 1, 1],
    );
    check(
        12,
        make("Split").ints("split", &[1, 2]).int("axis", 1),
        1,
        &[1, 2],
    );
    let slice = || {
        let slice = make("Slice").ints("starts", &[1]).ints("ends", &[i64::MAX]);
        slice.ints("axes", &[2])
    };
    check(9, slice(), 1, &[1]);
    check(9, slice(), 2, &[i64::MAX]);
    check(9, slice(), 3, &[2]);

    let clip = make("Clip").float("max", 6.0);
    let graph = read(&model(10, vec![clip], vec![])).unwrap();
    assert_eq!(graph.nodes()[0].input(1), None);
    assert_eq!(constant_f32(&graph, 0, 2), [6.0]);
    // An invented name stays clear of names that come later in the file.
    let nodes = vec![
        node("Squeeze", &["x"], &["a"]).ints("axes", &[0]),
        node("Relu", &["a"], &["a_axes"]),
        node("Relu", &["a_axes"], &["y"]),
    ];
    let graph = read(&model(11, nodes, vec![])).unwrap();
    assert_eq!(constant_i64(&graph, 0, 1), [0]);
    assert!(
        graph
            .initializer(graph.nodes()[1].output().unwrap())
            .is_none()
    );
}

#[test]
fn upsample_and_early_resize_become_resize() {
    let scales = || floats("s", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let cases = [
        (
            7,
            node("Upsample", &["x"], &["y"]).floats("scales", &[1.0, 1.0, 2.0, 2.0]),
            vec![],
        ),
        (9, node("Upsample", &["x", "s"], &["y"]), vec![scales()]),
        (10, node("Resize", &["x", "s"], &["y"]), vec![scales()]),
    ];
    for (opset, proto, tensors) in cases {
        let proto = proto.string("mode", "linear");
        let graph = read(&model(opset, vec![proto], tensors)).unwrap();
        let Op::Resize(resize) = &graph.nodes()[0].op else {
            panic!("opset {opset}: {:?}", graph.nodes()[0].op);
        };
        assert_eq!(resize.mode, ResizeMode::Linear);
        assert_eq!(resize.coordinates, CoordinateTransform::Asymmetric);
        assert_eq!(resize.rounding, NearestRounding::Floor);
        assert_eq!(graph.nodes()[0].input(1), None);
        assert_eq!(constant_f32(&graph, 0, 2), [1.0, 1.0, 2.0, 2.0]);
    }
    // Empty tensors stand for inputs that are not given.
    let resize = node("Resize", &["x", "e", "e", "n"], &["y"]);
    let tensors = vec![floats("e", &[0], &[]), integers("n", &[4], &[1, 3, 16, 16])];
    let graph = read(&model(11, vec![resize], tensors)).unwrap();
    assert_eq!(graph.nodes()[0].input(2), None);
    assert_eq!(constant_i64(&graph, 0, 3), [1, 3, 16, 16]);
}

#[test]
fn softmax_keeps_the_meaning_of_its_opset() {
    let softmax = || node("Softmax", &["x"], &["y"]);
    let op = |opset| {
        read(&model(opset, vec![softmax()], vec![]))
            .unwrap()
            .nodes()[0]
            .op
            .clone()
    };
    let expected = |axis, coerce_to_2d| Op::Softmax { axis, coerce_to_2d };
    assert_eq!(op(12), expected(1, true));
    assert_eq!(op(13), expected(-1, false));
    assert_eq!(op(30), expected(-1, false));
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    let make = |op_type: &str| node(op_type, &["x"], &["y"]);
    let resize = || node("Resize", &["x", "", "x"], &["y"]);
    check_refused(17, make("Frobnicate"), "not supported");
    check_refused(17, make("DequantizeLinear"), "already quantized");
    check_refused(17, make("Loop"), "control flow");
    check_refused(17, make("Cast").int("to", 8), "string");
    check_refused(
        17,
        make("Relu").int("slope", 3),
        "\"slope\" is not supported (value 3)",
    );
    check_refused(
        17,
        make("Relu").with(AttributeProto::default()),
        "not supported",
    );
    check_refused(17, make("LeakyRelu").int("alpha", 1), "\"alpha\" has type");
    check_refused(18, resize().int("antialias", 1), "\"antialias\" is \"1\"");
    check_refused(18, resize().ints("axes", &[1, 2]), "\"axes\"");
    check_refused(18, resize().ints("axes", &[3, 2]), "\"axes\"");
    check_refused(18, resize().ints("axes", &[i64::MIN; 5]), "\"axes\"");
    check_refused(
        18,
        resize().string("keep_aspect_ratio_policy", "not_larger"),
        "not_larger",
    );
    check_refused(
        18,
        resize().string("coordinate_transformation_mode", "tf_crop_and_resize"),
        "tf_crop_and_resize",
    );
    check_refused(
        17,
        resize().int("exclude_outside", 1),
        "\"exclude_outside\"",
    );
    check_refused(17, make("Conv"), "input 1 is missing");
    check_refused(17, make("MaxPool"), "\"kernel_shape\" is missing");
    check_refused(17, make("MaxPool").ints("kernel_shape", &[0, 2]), "[0, 2]");
    check_refused(
        17,
        make("AveragePool")
            .ints("kernel_shape", &[2, 2])
            .ints("pads", &[-1, 0, 0, 0]),
        "[-1, 0, 0, 0]",
    );
    check_refused(
        17,
        make("Transpose").ints("perm", &[0, 0]),
        "every axis once",
    );
    check_refused(
        17,
        node("Concat", &["x", "x"], &["y"]),
        "\"axis\" is missing",
    );
    check_refused(
        17,
        make("Concat").int("axis", 0).ints("pad", &[1]),
        "\"pad\"",
    );
    check_refused(20, make("Gelu").string("approximate", "fast"), "fast");
    let string = make("Relu").string("mode", "x");
    check_refused(17, string, "(value \"x\")");
    let mut fused = make("FusedConv");
    fused.domain = "com.microsoft".to_owned();
    check_refused(17, fused, "com.microsoft");
    let training = node("BatchNormalization", &["x", "x", "x", "x", "x"], &["y"]);
    check_refused(17, training.int("training_mode", 1), "inference mode");
}

#[test]
fn further_outputs_matter_only_if_they_are_used() {
    let pool = || node("MaxPool", &["x"], &["p", "i"]).ints("kernel_shape", &[2, 2]);
    let graph = read(&model(
        17,
        vec![pool(), node("Relu", &["p"], &["y"])],
        vec![],
    ))
    .unwrap();
    assert!(matches!(graph.nodes()[0].op, Op::MaxPool(_)));
    assert_eq!(graph.nodes()[0].outputs.len(), 1);
    let graph = read(&model(
        17,
        vec![pool(), node("Add", &["p", "i"], &["y"])],
        vec![],
    ))
    .unwrap();
    assert!(
        matches!(&graph.nodes()[0].op, Op::Unsupported { reason, .. } if reason.contains("\"i\""))
    );

    let dropout = node("Dropout", &["x"], &["y", "mask"]).float("ratio", 0.5);
    let graph = read(&model(10, vec![dropout], vec![])).unwrap();
    assert_eq!(graph.nodes()[0].op, Op::Identity);
    assert_eq!(graph.nodes()[0].inputs.len(), 1);

    let split = node("Split", &["x"], &["", "y"]).int("axis", 1);
    let graph = read(&model(13, vec![split], vec![])).unwrap();
    assert_eq!(graph.nodes()[0].op, Op::Split { axis: 1 });
    assert_eq!(graph.nodes()[0].outputs.len(), 2);
}

#[test]
fn subgraphs_keep_what_they_read_alive() {
    let inner = GraphProto {
        node: vec![node("Add", &["a", "inner"], &["inner_y"])],
        ..GraphProto::default()
    };
    let branch = node("If", &["x"], &["y"]).with(AttributeProto {
        name: "then_branch".to_owned(),
        kind: 5,
        g: Some(inner),
        ..AttributeProto::default()
    });
    let graph = read(&model(
        17,
        vec![node("Relu", &["x"], &["a"]), branch],
        vec![],
    ))
    .unwrap();
    let read_by_branch = &graph.nodes()[1].inputs;
    assert_eq!(read_by_branch.len(), 2);
    assert_eq!(graph.nodes()[0].op, Op::Unary(Unary::Relu));
    assert_eq!(read_by_branch[1], graph.nodes()[0].output());
}

#[test]
fn weights_of_an_unknown_type_leave_the_model_open() {
    let mut int4 = integers("w", &[2], &[]);
    int4.data_type = 22;
    let mut add = node("Add", &["x", "w"], &["y"]);
    add.name = "w".to_owned();
    let graph = read(&model(21, vec![add], vec![int4])).unwrap();
    assert_eq!(graph.nodes()[0].name, "w_1");
    assert_eq!(graph.nodes()[1].op, Op::Binary(Binary::Add));
    assert!(
        matches!(&graph.nodes()[0].op, Op::Unsupported { reason, .. } if reason.contains("int4"))
    );
}

#[test]
fn constant_of_shape_takes_the_type_of_its_value() {
    let op = |value: Option<TensorProto>| {
        let proto = node("ConstantOfShape", &["x"], &["y"]);
        let proto = match value {
            Some(value) => proto.tensor("value", value),
            None => proto,
        };
        read(&model(17, vec![proto], vec![])).unwrap().nodes()[0]
            .op
            .clone()
    };
    let expected = |value| Op::ConstantOfShape { value };
    assert_eq!(op(None), expected(Scalar::F32(0.0)));
    assert_eq!(
        op(Some(integers("", &[1], &[-1]))),
        expected(Scalar::I64(-1))
    );
    assert_eq!(
        op(Some(floats("", &[1], &[0.5]))),
        expected(Scalar::F32(0.5))
    );
    assert!(matches!(
        op(Some(floats("", &[2], &[0.5; 2]))),
        Op::Unsupported { .. }
    ));
}

fn external(location: &str, offset: &str, length: &str, dims: &[i64]) -> ModelProto {
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let tensor = TensorProto {
        name: "w".to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        data_location: DATA_LOCATION_EXTERNAL,
        external_data: vec![
            entry("location", location),
            entry("offset", offset),
            entry("length", length),
        ],
        ..TensorProto::default()
    };
    model(17, vec![node("Add", &["x", "w"], &["y"])], vec![tensor])
}

#[test]
fn external_data_stay_inside_the_folder_and_inside_the_file() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let numbers: Vec<u8> = [1.0f32, 2.0, 3.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    std::fs::write(folder.join("data/w.bin"), &numbers).unwrap();
    std::fs::write(outer.path().join("secret.bin"), &numbers).unwrap();
    let secret = outer
        .path()
        .join("secret.bin")
        .to_string_lossy()
        .into_owned();
    let path = folder.join("model.onnx");
    let open = |proto: &ModelProto| {
        std::fs::write(&path, proto.encode_to_vec()).unwrap();
        read_onnx(&path)
    };

    let graph = open(&external("data/w.bin", "4", "8", &[2])).unwrap();
    assert_eq!(constant_f32(&graph, 0, 1), [2.0, 3.0]);
    let before = graph.metadata().sha256.clone();
    std::fs::write(folder.join("data/w.bin"), [&numbers[..11], &[9]].concat()).unwrap();
    let graph = open(&external("data/w.bin", "4", "8", &[2])).unwrap();
    assert_ne!(
        graph.metadata().sha256,
        before,
        "the data are part of the model"
    );

    let mut bad = vec![
        ("../secret.bin".to_owned(), "0", "12"),
        ("data/../../secret.bin".to_owned(), "0", "12"),
        (secret, "0", "12"),
        (String::new(), "0", "12"),
        ("data".to_owned(), "0", "12"),
        ("missing.bin".to_owned(), "0", "12"),
        ("data/w.bin".to_owned(), "4", "12"),
        ("data/w.bin".to_owned(), "18446744073709551615", "12"),
        ("data/w.bin".to_owned(), "-4", "12"),
        ("data/w.bin".to_owned(), "0", "8"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outer.path(), folder.join("link")).unwrap();
        bad.push(("link/secret.bin".to_owned(), "0", "12"));
    }
    for (location, offset, length) in bad {
        let error = open(&external(&location, offset, length, &[3])).expect_err(&location);
        assert_eq!(error.at.as_deref(), Some("w"), "{location}: {error}");
    }
}

#[test]
fn a_folder_or_missing_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = read_onnx(folder.path()).unwrap_err();
    assert!(error.to_string().contains("not a file"), "{error}");
    let error = read_onnx(&folder.path().join("none.onnx")).unwrap_err();
    assert!(matches!(error.kind, LoadErrorKind::Io(_)), "{error}");
}

#[test]
fn composed_operators_become_several_nodes_with_free_names() {
    let ops = |proto: NodeProto| {
        let mut first = node("Relu", &["x"], &["n_shape"]);
        first.name = "n_sides".to_owned();
        let mut composed = proto;
        composed.input = vec!["n_shape".to_owned()];
        composed.name = "n".to_owned();
        let graph = read(&model(17, vec![first, composed], vec![])).unwrap();
        let mut names: Vec<_> = graph.nodes().iter().map(|n| n.name.clone()).collect();
        let last = graph.nodes().last().unwrap();
        assert_eq!(last.name, "n");
        assert_eq!(graph.value(last.output().unwrap()).name, "y");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), graph.nodes().len(), "{names:?}");
        let ops = graph.nodes().iter().skip(1).map(|n| n.op.name().to_owned());
        ops.collect::<Vec<_>>()
    };
    let make = |op_type: &str| node(op_type, &["x"], &["y"]);
    assert_eq!(ops(make("Size")), ["Shape", "ReduceProd"]);
    assert_eq!(ops(make("Mish")), ["Softplus", "Tanh", "Mul"]);
    assert_eq!(
        ops(make("ReduceL1").ints("axes", &[1])),
        ["Abs", "ReduceSum"]
    );
    assert_eq!(ops(make("Selu")), ["Elu", "Mul"]);
    assert_eq!(ops(make("Softsign")), ["Abs", "Add", "Div"]);
    let depth = ops(make("DepthToSpace").int("blocksize", 2));
    assert_eq!(
        depth,
        [
            "Shape",
            "Concat",
            "Reshape",
            "Transpose",
            "Mul",
            "Concat",
            "Reshape"
        ]
    );
    let space = ops(make("SpaceToDepth").int("blocksize", 2));
    assert_eq!(space.iter().filter(|op| *op == "Reshape").count(), 2);
    check_refused(17, make("SpaceToDepth"), "blocksize");
    check_refused(
        17,
        make("DepthToSpace").int("blocksize", 2).string("mode", "X"),
        "\"X\"",
    );
}

#[test]
fn resize_of_the_last_axes_covers_all_of_them() {
    let resize = |inputs: &[&str], axes: &[i64]| {
        let proto = node("Resize", inputs, &["y"]).ints("axes", axes);
        let tensors = vec![
            floats("s", &[2], &[2.0, 3.0]),
            integers("n", &[2], &[16, 24]),
        ];
        read(&model(18, vec![proto], tensors)).unwrap()
    };
    let graph = resize(&["x", "", "s"], &[-2, -1]);
    assert_eq!(graph.nodes()[0].op, Op::Concat { axis: 0 });
    assert_eq!(constant_f32(&graph, 0, 0), [1.0, 1.0]);
    assert_eq!(graph.nodes()[1].input(2), graph.nodes()[0].output());
    let graph = resize(&["x", "", "", "n"], &[2, 3]);
    assert_eq!(
        graph.nodes()[0].op,
        Op::Shape {
            start: 0,
            end: Some(2)
        }
    );
    assert_eq!(graph.nodes()[2].input(3), graph.nodes()[1].output());
}
