"""One tiny ONNX model per operator variant, with inputs and the outputs of ONNX Runtime.

Run:  pip install onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
      python tests/golden/make_ops.py

Writes tests/golden/ops/*.onnx and tests/golden/ops.json:

    {"onnxruntime": "...", "cases": [{"name", "file", "op", "opset",
        "inputs":  [{"name", "dtype", "shape", "data"}],
        "outputs": [{"name", "dtype", "shape", "data"}]}]}

`op` is the operator under test, `data` the flat row-major values; f32 round-trips, bool is 0 or 1. Every case has its
own seed (CRC-32 of its name), so that adding one leaves the others as they are. Models with opset 8 or lower use IR
version 3, in which initializers are listed among the graph inputs too; `inputs` names only those that must be fed.
Cases that ONNX Runtime refuses are listed by the script and left out.

In the lists below `C(...)` is an initializer, a plain array is fed at run time and None is an input left out.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx import numpy_helper

HERE = Path(__file__).resolve().parent
OPS = HERE / "ops"
I64_MAX = np.iinfo(np.int64).max
I64_MIN = np.iinfo(np.int64).min

cases = []
refused = []
rng = np.random.default_rng(0)


@dataclass
class C:
    """An initializer; `typed` stores it in the typed field (`float_data`, ...) and not in `raw_data`."""

    array: np.ndarray
    typed: bool = False


def f(*shape, low=-2.0, high=2.0):
    """Uniform f32 values with three decimals."""
    return np.round(rng.uniform(low, high, shape), 3).astype(np.float32)


def i64(*values):
    """A 1-D int64 array."""
    return np.array(values, np.int64)


def f32(*values):
    """A 1-D f32 array."""
    return np.array(values, np.float32)


def scalar(value, dtype=np.float32):
    """A 0-D array."""
    return np.array(value, dtype)


def initializer(name, const):
    """Turns `C` into a tensor, in its typed field where asked."""
    if not const.typed:
        return numpy_helper.from_array(np.asarray(const.array), name)
    a = np.asarray(const.array)
    return helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape, a.reshape(-1).tolist())


def onnx_type(array):
    return helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)


def tensor_record(name, array):
    """The JSON form of one tensor."""
    array = np.asarray(array)
    names = {"float32": "f32", "float64": "f64", "int64": "i64", "int32": "i32", "bool": "bool", "uint8": "u8", "int8": "i8"}
    flat = array.reshape(-1)
    if array.dtype == np.float32:
        data = [float(str(v)) for v in flat]
    elif array.dtype == bool:
        data = [int(v) for v in flat]
    else:
        data = flat.tolist()
    assert all(np.isfinite(data)), name
    return {"name": name, "dtype": names[array.dtype.name], "shape": list(array.shape), "data": data}


def model_of(name, opset, nodes, feeds, constants, outputs, external=False):
    """Builds a checked model; the outputs get their shapes from nobody, so a reader has to infer them."""
    ir = 3 if opset <= 8 else 8 if opset <= 18 else 10
    inputs = [helper.make_tensor_value_info(n, onnx_type(a), a.shape) for n, a in feeds.items()]
    if ir == 3:
        inputs += [helper.make_tensor_value_info(n, onnx_type(c.array), np.shape(c.array)) for n, c in constants.items()]
    outs = [helper.make_tensor_value_info(n, t, None) for n, t in outputs.items()]
    tensors = [initializer(n, c) for n, c in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    model.producer_name = "make_ops"
    path = OPS / f"{name}.onnx"
    if external:
        onnx.save_model(model, path, save_as_external_data=True, location=f"{name}.bin", size_threshold=0)
    else:
        onnx.save_model(model, path)
    return path


def graph_case(name, op, opset, nodes, feeds, constants=None, outputs=None, external=False):
    """Adds a case of several nodes; `outputs` maps names to ONNX element types."""
    outputs = outputs or {"y": TensorProto.FLOAT}
    path = model_of(name, opset, nodes, feeds, constants or {}, outputs, external)
    try:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        results = ort.InferenceSession(path, options).run(list(outputs), feeds)
    except Exception as error:  # ONNX Runtime has several unrelated error types.
        refused.append((name, str(error).split("\n")[0][:160]))
        path.unlink()
        return
    cases.append({
        "name": name,
        "file": f"ops/{path.name}",
        "op": op,
        "opset": opset,
        "inputs": [tensor_record(n, a) for n, a in feeds.items()],
        "outputs": [tensor_record(n, a) for n, a in zip(outputs, results)],
    })


def case(name, op, opset, make_args, n_out=1, out_type=TensorProto.FLOAT, **attributes):
    """Adds a case of one node; `make_args` returns the node's inputs (drawn after seeding)."""
    global rng
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    feeds, constants, names = {}, {}, []
    for k, arg in enumerate(make_args()):
        if arg is None:
            names.append("")
        elif isinstance(arg, C):
            names.append(f"c{k}")
            constants[f"c{k}"] = arg
        else:
            names.append(f"x{k}")
            feeds[f"x{k}"] = np.asarray(arg)
    outs = ["y"] if n_out == 1 else [f"y{k}" for k in range(n_out)]
    node = helper.make_node(op, names, outs, name=f"{name}_node", **attributes)
    graph_case(name, op, opset, [node], feeds, constants, {o: out_type for o in outs})


def convolutions():
    def conv(name, opset, x, w, bias=True, typed=False, **attributes):
        def make_args():
            args = [f(*x), C(f(*w), typed)]
            return [*args, C(f(w[0]), typed)] if bias else args

        case(f"conv_{name}", "Conv", opset, make_args, **attributes)

    conv("1d", 11, (2, 3, 9), (4, 3, 3), pads=[1, 1])
    conv("1d_stride_dilation", 13, (1, 2, 12), (3, 2, 3), strides=[2], dilations=[2], pads=[2, 1])
    conv("1d_depthwise", 17, (1, 4, 8), (4, 1, 3), group=4, pads=[1, 1], kernel_shape=[3])
    conv("2d_default", 7, (1, 2, 5, 6), (3, 2, 3, 3))
    conv("2d_no_bias", 11, (2, 2, 5, 5), (3, 2, 3, 3), bias=False, pads=[1, 1, 1, 1])
    conv("2d_1x1", 13, (2, 3, 4, 5), (4, 3, 1, 1), typed=True)
    conv("2d_1x1_stride2", 13, (1, 3, 5, 5), (4, 3, 1, 1), strides=[2, 2])
    conv("2d_groups", 11, (1, 4, 5, 5), (6, 2, 3, 3), group=2, pads=[1, 1, 1, 1])
    conv("2d_depthwise", 13, (2, 4, 6, 6), (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1])
    conv("2d_depthwise_stride2", 13, (1, 3, 7, 8), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1], strides=[2, 2])
    conv("2d_depthwise_5x5_dilated", 17, (1, 3, 9, 9), (3, 1, 5, 5), group=3, pads=[4, 4, 4, 4], dilations=[2, 2])
    conv("2d_depth_multiplier", 11, (1, 3, 5, 5), (6, 1, 3, 3), group=3, pads=[1, 1, 1, 1])
    conv("2d_depth_multiplier_stride", 11, (1, 2, 6, 6), (6, 1, 2, 3), bias=False, group=2, strides=[2, 1])
    conv("2d_stride_per_axis", 13, (1, 2, 7, 9), (3, 2, 3, 3), strides=[1, 2], pads=[1, 1, 1, 1])
    conv("2d_asymmetric_pads", 13, (1, 2, 5, 5), (3, 2, 3, 3), pads=[0, 1, 2, 0])
    conv("2d_asymmetric_pads_stride2", 13, (1, 3, 6, 6), (4, 3, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2])
    conv("2d_dilation_per_axis", 11, (1, 2, 8, 9), (3, 2, 3, 3), dilations=[1, 3], pads=[1, 3, 1, 3])
    conv("2d_kernel_per_axis", 11, (1, 2, 6, 7), (3, 2, 1, 5), pads=[0, 2, 0, 2])
    conv("2d_same_upper", 11, (1, 2, 5, 6), (3, 2, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    conv("2d_same_lower", 11, (1, 2, 5, 6), (3, 2, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2])
    conv("2d_same_upper_even_kernel", 13, (1, 1, 5, 5), (2, 1, 2, 4), auto_pad="SAME_UPPER")
    conv("2d_same_lower_even_kernel", 13, (1, 1, 5, 5), (2, 1, 2, 4), auto_pad="SAME_LOWER")
    conv("2d_same_upper_dilated", 13, (1, 2, 7, 7), (2, 2, 3, 3), auto_pad="SAME_UPPER", dilations=[2, 2])
    conv("2d_valid", 11, (1, 2, 6, 6), (3, 2, 3, 3), auto_pad="VALID", strides=[2, 2])
    conv("2d_notset", 22, (1, 2, 5, 5), (3, 2, 3, 3), auto_pad="NOTSET", pads=[1, 0, 1, 0])
    conv("2d_kernel_covers_input", 13, (2, 3, 4, 4), (5, 3, 4, 4))
    conv("2d_ten_kernel", 13, (1, 1, 12, 6), (2, 1, 10, 4), strides=[2, 2], pads=[4, 1, 5, 1])

    def transpose(name, opset, x, w, group=1, bias=True, **attributes):
        def make_args():
            args = [f(*x), C(f(*w))]
            return [*args, C(f(w[1] * group))] if bias else args

        case(f"conv_transpose_{name}", "ConvTranspose", opset, make_args, group=group, **attributes)

    transpose("default", 11, (1, 2, 3, 3), (2, 3, 3, 3))
    transpose("no_bias", 11, (2, 2, 3, 4), (2, 3, 2, 2), bias=False, strides=[2, 2])
    transpose("stride2", 11, (1, 3, 3, 4), (3, 2, 2, 2), strides=[2, 2])
    transpose("stride2_pads", 11, (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    transpose("output_padding", 11, (1, 2, 4, 4), (2, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    transpose("asymmetric_pads", 11, (1, 2, 4, 4), (2, 2, 3, 3), strides=[2, 1], pads=[0, 1, 1, 0])
    transpose("groups", 13, (1, 4, 3, 3), (4, 2, 3, 3), group=2, strides=[2, 2])
    transpose("depthwise", 13, (1, 3, 3, 3), (3, 1, 4, 4), group=3, strides=[2, 2], pads=[1, 1, 1, 1])
    transpose("dilation", 11, (1, 2, 4, 4), (2, 2, 3, 3), dilations=[2, 2])
    transpose("1d", 11, (1, 2, 5), (2, 3, 4), strides=[2], pads=[1, 1])
    transpose("same_upper", 11, (1, 2, 3, 3), (2, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER")
    transpose("output_shape", 11, (1, 2, 3, 3), (2, 2, 3, 3), strides=[2, 2], output_shape=[6, 6])


def products():
    case("gemm_default", "Gemm", 13, lambda: [f(3, 4), C(f(4, 5)), C(f(5))])
    case("gemm_trans_b", "Gemm", 9, lambda: [f(3, 4), C(f(5, 4)), C(f(5))], transB=1)
    case("gemm_trans_a", "Gemm", 11, lambda: [f(4, 3), C(f(4, 5)), C(f(5), True)], transA=1)
    case("gemm_trans_both", "Gemm", 13, lambda: [f(4, 3), C(f(5, 4)), C(f(1, 5))], transA=1, transB=1)
    case("gemm_alpha_beta", "Gemm", 11, lambda: [f(3, 4), C(f(4, 5)), C(f(5))], alpha=0.5, beta=2.0)
    case("gemm_alpha_beta_trans_b", "Gemm", 7, lambda: [f(3, 4), C(f(5, 4)), C(f(5))], alpha=-1.5, beta=0.25, transB=1)
    case("gemm_bias_full", "Gemm", 11, lambda: [f(3, 4), C(f(4, 5)), C(f(3, 5))])
    case("gemm_bias_column", "Gemm", 11, lambda: [f(3, 4), C(f(4, 5)), C(f(3, 1))])
    case("gemm_bias_scalar", "Gemm", 11, lambda: [f(3, 4), C(f(4, 5)), C(f())])
    case("gemm_no_bias", "Gemm", 11, lambda: [f(3, 4), C(f(5, 4))], transB=1)
    case("gemm_beta_zero", "Gemm", 13, lambda: [f(3, 4), C(f(4, 5)), C(f(5))], beta=0.0)
    case("gemm_two_activations", "Gemm", 13, lambda: [f(3, 4), f(4, 2)])

    case("matmul_2d", "MatMul", 9, lambda: [f(3, 4), C(f(4, 5))])
    case("matmul_3d_weight", "MatMul", 13, lambda: [f(2, 3, 4), C(f(4, 5))])
    case("matmul_batched", "MatMul", 13, lambda: [f(2, 3, 4), f(2, 4, 5)])
    case("matmul_4d", "MatMul", 13, lambda: [f(2, 2, 3, 4), f(2, 2, 4, 3)])
    case("matmul_broadcast", "MatMul", 13, lambda: [f(2, 1, 3, 4), f(3, 4, 2)])
    case("matmul_broadcast_left", "MatMul", 13, lambda: [f(3, 4), f(2, 4, 3)])
    case("matmul_1d_left", "MatMul", 13, lambda: [f(4), f(4, 3)])
    case("matmul_1d_right", "MatMul", 13, lambda: [f(2, 3, 4), C(f(4))])
    case("matmul_1d_both", "MatMul", 13, lambda: [f(4), f(4)])
    case("matmul_weight_left", "MatMul", 13, lambda: [C(f(3, 4)), f(2, 4, 5)])

    for equation, shapes in [
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("ij,jk", [(3, 4), (4, 5)]),
        ("bhid,bhjd->bhij", [(1, 2, 3, 4), (1, 2, 5, 4)]),
        ("bij,kj->bik", [(2, 3, 4), (5, 4)]),
        ("bhij,bhjd->bihd", [(1, 2, 3, 4), (1, 2, 4, 5)]),
        ("bnc,cd->bnd", [(2, 3, 4), (4, 5)]),
        ("ij->ji", [(3, 4)]),
        ("bij->bi", [(2, 3, 4)]),
        ("i,j->ij", [(3,), (4,)]),
    ]:
        letters = equation.replace(",", "_").replace("->", "_to_")
        case(f"einsum_{letters}", "Einsum", 12, lambda s=shapes: [f(*x) for x in s], equation=equation)


def normalisations():
    def bn(name, opset, shape, typed=False, **attributes):
        c = shape[1]
        case(f"batch_norm_{name}", "BatchNormalization", opset, lambda: [
            f(*shape), C(f(c, low=0.5, high=1.5), typed), C(f(c)), C(f(c)), C(f(c, low=0.1, high=2.0), typed)], **attributes)

    bn("4d_opset7", 7, (2, 3, 4, 4))
    bn("4d_opset9", 9, (2, 3, 4, 4), True, epsilon=1e-3)
    bn("2d_opset14", 14, (3, 5), momentum=0.5)
    bn("3d_opset15", 15, (2, 3, 4), epsilon=0.1, training_mode=0)

    def ln(name, opset, shape, axis, bias=True, **attributes):
        tail = shape[axis:]
        case(f"layer_norm_{name}", "LayerNormalization", opset, lambda: [
            f(*shape), C(f(*tail)), *([C(f(*tail))] if bias else [])], axis=axis, **attributes)

    ln("last_axis", 17, (2, 3, 8), -1)
    ln("last_axis_epsilon", 17, (2, 3, 8), -1, epsilon=0.01)
    ln("axis1", 17, (2, 3, 4), 1)
    ln("axis2_of_4d", 22, (1, 2, 3, 4), 2)
    ln("no_bias", 17, (3, 6), -1, bias=False)

    case("lrn_default", "LRN", 7, lambda: [f(1, 5, 3, 3)], size=3)
    case("lrn_attributes", "LRN", 13, lambda: [f(2, 6, 2, 2, low=-9, high=9)], size=5, alpha=0.01, beta=0.5, bias=2.0)
    case("lrn_even_size", "LRN", 13, lambda: [f(1, 6, 2, 2, low=-9, high=9)], size=4, alpha=0.1)


def activations():
    wide = lambda: f(2, 3, 4, low=-6, high=6)
    unary = [
        ("Relu", 6, 7), ("Relu", 14, 14), ("Sigmoid", 13, 13), ("Tanh", 13, 13), ("Erf", 9, 9), ("Erf", 13, 13),
        ("HardSwish", 14, 14), ("HardSigmoid", 6, 9), ("LeakyRelu", 6, 9), ("LeakyRelu", 16, 16), ("Exp", 13, 13),
        ("Abs", 13, 13), ("Neg", 13, 13), ("Floor", 13, 13), ("Ceil", 13, 13), ("Round", 11, 11), ("Elu", 6, 9), ("Softplus", 1, 9),
    ]
    for op, _, opset in unary:
        case(f"{op.lower()}_opset{opset}", op, opset, lambda: [wide()])
    case("round_ties", "Round", 11, lambda: [f32(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5)])
    case("leakyrelu_alpha", "LeakyRelu", 13, lambda: [wide()], alpha=0.2)
    case("hardsigmoid_attributes", "HardSigmoid", 13, lambda: [wide()], alpha=0.16666667, beta=0.5)
    for op in ("Log", "Sqrt", "Reciprocal"):
        case(f"{op.lower()}_positive", op, 13, lambda: [f(2, 5, low=0.1, high=9)])
    case("reciprocal_negative", "Reciprocal", 13, lambda: [f(2, 5, low=-3, high=-0.2)])
    case("neg_int64", "Neg", 13, lambda: [i64(3, -4, 0)], out_type=TensorProto.INT64)
    case("abs_int64", "Abs", 13, lambda: [i64(3, -4, 0)], out_type=TensorProto.INT64)
    case("gelu_default", "Gelu", 20, lambda: [wide()])
    case("gelu_none", "Gelu", 20, lambda: [wide()], approximate="none")
    case("gelu_tanh", "Gelu", 20, lambda: [wide()], approximate="tanh")
    case("sigmoid_extremes", "Sigmoid", 13, lambda: [f32(-100, -20, -0.0, 0, 20, 100)])
    case("tanh_extremes", "Tanh", 13, lambda: [f32(-100, -9, -1e-4, 0, 1e-4, 9, 100)])
    case("erf_extremes", "Erf", 13, lambda: [f32(-10, -3.5, -1e-3, 0, 1e-3, 0.5, 3.5, 10)])

    case("prelu_channel", "PRelu", 9, lambda: [wide(), C(f(3, 1))])
    case("prelu_channel_4d", "PRelu", 16, lambda: [f(2, 3, 2, 2), C(f(3, 1, 1), True)])
    case("prelu_scalar", "PRelu", 13, lambda: [wide(), C(f(1))])
    case("prelu_full", "PRelu", 13, lambda: [f(2, 3), C(f(2, 3))])

    case("clip_opset6_attributes", "Clip", 7, lambda: [wide()], min=-1.0, max=2.5)
    case("clip_opset6_min_only", "Clip", 9, lambda: [wide()], min=0.0)
    case("clip_opset6_defaults", "Clip", 9, lambda: [wide()])
    case("clip_relu6", "Clip", 11, lambda: [wide(), C(scalar(0)), C(scalar(6))])
    case("clip_min_only", "Clip", 12, lambda: [wide(), C(scalar(-1))])
    case("clip_max_only", "Clip", 13, lambda: [wide(), None, C(scalar(1), True)])
    case("clip_no_bounds", "Clip", 13, lambda: [wide()])
    case("clip_fed_bounds", "Clip", 13, lambda: [wide(), scalar(-0.5), scalar(0.5)])
    case("clip_int64", "Clip", 12, lambda: [i64(-5, 0, 7), C(scalar(-1, np.int64)), C(scalar(3, np.int64))], out_type=TensorProto.INT64)

    for op in ("Softmax", "LogSoftmax"):
        low = op.lower()
        case(f"{low}_opset11_default", op, 11, lambda: [wide()])
        case(f"{low}_opset9_axis2", op, 9, lambda: [wide()], axis=2)
        case(f"{low}_opset11_axis0", op, 11, lambda: [wide()], axis=0)
        case(f"{low}_opset13_default", op, 13, lambda: [wide()])
        case(f"{low}_opset13_axis1", op, 13, lambda: [wide()], axis=1)
        case(f"{low}_opset13_axis_negative", op, 13, lambda: [f(2, 3, 2, 2)], axis=-3)
    case("softmax_large_values", "Softmax", 13, lambda: [f32(1000, 999, -1000).reshape(1, 3)])


def elementwise():
    a, b = (2, 3, 4), (3, 1)
    for op in ("Add", "Sub", "Mul", "Div"):
        low = op.lower()
        case(f"{low}_same_shape", op, 7, lambda: [f(*a), f(*a, low=0.5, high=3)])
        case(f"{low}_channel_constant", op, 13, lambda: [f(*a), C(f(*b, low=0.5, high=3))])
        case(f"{low}_constant_left", op, 14, lambda: [C(scalar(1.5)), f(*a, low=0.5, high=3)])
        case(f"{low}_both_broadcast", op, 13, lambda: [f(2, 1, 4), f(3, 1, low=0.5, high=3)])
        case(f"{low}_int64", op, 13, lambda: [i64(-7, 7, 9, 4), C(i64(2, 2, -4, 5))], out_type=TensorProto.INT64)
    case("add_scalar_shapes", "Add", 13, lambda: [scalar(1.25), scalar(2.5)])
    case("pow_square", "Pow", 7, lambda: [f(2, 3), C(scalar(2))])
    case("pow_half", "Pow", 13, lambda: [f(2, 3, low=0.1, high=4), C(scalar(0.5))])
    case("pow_broadcast", "Pow", 12, lambda: [f(2, 3, low=0.5, high=3), f(3)])
    case("pow_negative_base_cube", "Pow", 13, lambda: [f(5, low=-3, high=-0.5), C(scalar(3))])
    case("pow_int_exponent", "Pow", 13, lambda: [f(2, 3), C(scalar(3, np.int64))])

    case("min_two", "Min", 8, lambda: [f(2, 3), f(2, 3)])
    case("min_broadcast", "Min", 13, lambda: [f(2, 3), C(f(3)), f(2, 1)])
    case("max_two_broadcast", "Max", 8, lambda: [f(2, 3), C(f())])
    case("max_three", "Max", 13, lambda: [f(2, 3), f(2, 3), f(2, 3)])
    case("max_one", "Max", 13, lambda: [f(2, 3)])
    case("sum_one", "Sum", 8, lambda: [f(2, 3)])
    case("sum_three_broadcast", "Sum", 13, lambda: [f(2, 3), f(1, 3), f(2, 1)])
    case("mean_two", "Mean", 8, lambda: [f(2, 3), f(2, 3)])
    case("mean_three_broadcast", "Mean", 13, lambda: [f(2, 3), f(3), C(f(2, 1))])

    boolean = TensorProto.BOOL
    case("equal_int64", "Equal", 11, lambda: [i64(1, 2, 3, -1), C(i64(1, 0, 3, -1))], out_type=boolean)
    case("equal_float_broadcast", "Equal", 13, lambda: [f32(1, 2, 3).reshape(3, 1), f32(1, 3)], out_type=boolean)
    case("greater_float", "Greater", 9, lambda: [f(2, 3), C(scalar(0))], out_type=boolean)
    case("greater_int64", "Greater", 13, lambda: [i64(1, 2, 3), C(i64(2))], out_type=boolean)
    case("less_float", "Less", 13, lambda: [f(2, 3), f(3)], out_type=boolean)
    case("less_int64", "Less", 9, lambda: [i64(1, 2, 3), C(scalar(2, np.int64))], out_type=boolean)
    case("greater_or_equal", "GreaterOrEqual", 12, lambda: [f32(1, 2, 3), f32(2)], out_type=boolean)
    case("less_or_equal", "LessOrEqual", 16, lambda: [f32(1, 2, 3), f32(2)], out_type=boolean)
    mask = lambda *v: np.array(v, bool)
    case("not_bool", "Not", 7, lambda: [mask(True, False, True)], out_type=boolean)
    case("and_broadcast", "And", 7, lambda: [mask(True, False).reshape(2, 1), mask(True, False, True)], out_type=boolean)
    case("or_bool", "Or", 7, lambda: [mask(True, False, False), mask(False, False, True)], out_type=boolean)
    case("where_same_shape", "Where", 9, lambda: [mask(True, False, True), f(3), f(3)])
    case("where_broadcast", "Where", 16, lambda: [mask(True, False).reshape(2, 1), f(2, 3), C(scalar(-9))])
    case("where_int64", "Where", 9, lambda: [mask(True, False, True), i64(1, 2, 3), C(i64(-1))], out_type=TensorProto.INT64)


def pools():
    def pool(op, name, opset, shape=(1, 2, 6, 7), **attributes):
        case(f"{op.lower()}_{name}", op, opset, lambda: [f(*shape)], **attributes)

    for op in ("MaxPool", "AveragePool"):
        pool(op, "2x2", 8, kernel_shape=[2, 2], strides=[2, 2])
        pool(op, "3x3_pads", 11, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        pool(op, "default_stride", 11, kernel_shape=[3, 2])
        pool(op, "asymmetric_pads", 11, kernel_shape=[3, 3], strides=[2, 1], pads=[0, 1, 2, 0])
        pool(op, "ceil", 11, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        pool(op, "ceil_pads", 11, (1, 2, 7, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
        pool(op, "ceil_window_starts_in_padding", 19, (1, 1, 5, 5), kernel_shape=[2, 2], strides=[5, 5], pads=[0, 0, 1, 1], ceil_mode=1)
        pool(op, "same_upper", 11, (1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        pool(op, "same_lower", 11, (1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")
        pool(op, "valid", 11, (1, 2, 5, 6), kernel_shape=[3, 3], strides=[2, 2], auto_pad="VALID")
        pool(op, "1d", 11, (2, 3, 9), kernel_shape=[3], strides=[2], pads=[1, 1])
        pool(op, "5x5_stride1", 13 if op == "MaxPool" else 11, (1, 1, 6, 6), kernel_shape=[5, 5], pads=[2, 2, 2, 2])
    pool("MaxPool", "dilations", 10, (1, 2, 8, 8), kernel_shape=[3, 2], dilations=[2, 3], strides=[1, 2])
    pool("MaxPool", "dilations_pads", 12, (1, 1, 7, 7), kernel_shape=[3, 3], dilations=[2, 2], pads=[2, 2, 2, 2])
    case("maxpool_all_negative", "MaxPool", 12, lambda: [f(1, 1, 4, 4, low=-9, high=-1)], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    pool("AveragePool", "count_include_pad", 11, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    pool("AveragePool", "count_include_pad_asymmetric", 11, kernel_shape=[3, 3], pads=[0, 1, 2, 0], count_include_pad=1)
    pool("AveragePool", "count_include_pad_ceil", 19, (1, 1, 6, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1)
    pool("AveragePool", "dilations", 19, (1, 1, 7, 7), kernel_shape=[2, 2], dilations=[2, 2])
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        pool(op, "4d", 7, (2, 3, 4, 5))
        pool(op, "3d", 13, (2, 3, 5))


def reductions():
    x = lambda: f(2, 3, 4)
    for op in ("ReduceMean", "ReduceSum", "ReduceMax"):
        low = op.lower()
        new = 13 if op == "ReduceSum" else 18
        case(f"{low}_attr_axes", op, 11, lambda: [x()], axes=[1], keepdims=1)
        case(f"{low}_attr_axes_drop", op, 9, lambda: [x()], axes=[0, 2], keepdims=0)
        case(f"{low}_attr_negative", op, 11, lambda: [x()], axes=[-1], keepdims=0)
        case(f"{low}_attr_all", op, 11, lambda: [x()])
        case(f"{low}_input_axes", op, new, lambda: [x(), C(i64(1, 2))], keepdims=1)
        case(f"{low}_input_axes_drop", op, new, lambda: [x(), C(i64(-1))], keepdims=0)
        case(f"{low}_input_all", op, new, lambda: [x()], keepdims=0)
        case(f"{low}_input_noop", op, new, lambda: [x(), C(np.zeros(0, np.int64))], noop_with_empty_axes=1)
        case(f"{low}_input_empty_all", op, new, lambda: [x(), C(np.zeros(0, np.int64))], keepdims=1)
    case("reducemean_spatial", "ReduceMean", 13, lambda: [f(2, 3, 4, 4)], axes=[2, 3], keepdims=0)
    case("reducemin_attr_axes", "ReduceMin", 13, lambda: [x()], axes=[1])
    case("reduceprod_int64_shape", "ReduceProd", 13, lambda: [i64(2, 3, 4)], axes=[0], keepdims=0, out_type=TensorProto.INT64)


def joins_and_parts():
    long = TensorProto.INT64
    case("concat_axis1", "Concat", 7, lambda: [f(2, 1, 3), f(2, 2, 3), C(f(2, 3, 3))], axis=1)
    case("concat_axis_negative", "Concat", 13, lambda: [f(2, 3), f(2, 2)], axis=-1)
    case("concat_axis0", "Concat", 11, lambda: [f(1, 3), f(2, 3)], axis=0)
    case("concat_one", "Concat", 13, lambda: [f(2, 3)], axis=0)
    case("concat_int64", "Concat", 13, lambda: [i64(1, 2), C(i64(-1))], axis=0, out_type=long)

    case("split_attr", "Split", 11, lambda: [f(2, 6)], n_out=3, axis=1, split=[1, 2, 3])
    case("split_attr_equal", "Split", 11, lambda: [f(4, 2)], n_out=2)
    case("split_attr_negative_axis", "Split", 11, lambda: [f(2, 3, 4)], n_out=2, axis=-1)
    case("split_input", "Split", 13, lambda: [f(2, 6), C(i64(2, 4))], n_out=2, axis=1)
    case("split_input_equal", "Split", 13, lambda: [f(2, 6)], n_out=3, axis=1)
    case("split_num_outputs", "Split", 18, lambda: [f(2, 6)], n_out=3, axis=1, num_outputs=3)
    case("split_num_outputs_uneven", "Split", 18, lambda: [f(7, 2)], n_out=3, num_outputs=3)

    case("slice_attr", "Slice", 9, lambda: [f(4, 5)], starts=[1, 0], ends=[3, -1])
    case("slice_attr_axes", "Slice", 7, lambda: [f(4, 5)], axes=[1], starts=[-3], ends=[I64_MAX])
    def cut(name, opset, shape, *parts):
        case(f"slice_{name}", "Slice", opset, lambda: [f(*shape), *[None if p is None else C(i64(*p)) for p in parts]])

    cut("input", 10, (4, 5), [1, 2], [4, 5])
    cut("input_axes", 11, (3, 4, 5), [1], [3], [1])
    cut("input_axes_negative", 13, (3, 4, 5), [1], [I64_MAX], [-1])
    cut("steps", 13, (6, 8), [0, 1], [I64_MAX, I64_MAX], [0, 1], [2, 3])
    cut("focus", 11, (1, 2, 4, 4), [1], [I64_MAX], [2], [2])
    cut("negative_step", 13, (5, 3), [-1], [I64_MIN], [0], [-1])
    cut("negative_step_part", 13, (8,), [6], [1], [0], [-2])
    cut("steps_without_axes", 13, (4, 4), [0, 0], [4, 4], None, [2, 1])
    cut("ends_out_of_range", 13, (4, 5), [-100, 3], [100, 100])
    cut("empty", 13, (4, 2), [3], [1], [0])
    case("slice_int32_indices", "Slice", 13, lambda: [f(4, 5), C(np.array([1], np.int32)), C(np.array([3], np.int32)), C(np.array([1], np.int32))])
    case("slice_int64_shape", "Slice", 13, lambda: [i64(2, 3, 4, 5), C(i64(2)), C(i64(4)), C(i64(0))], out_type=long)

    case("gather_axis0", "Gather", 7, lambda: [f(4, 3), C(i64(2, 0, 2))])
    case("gather_axis1_2d_indices", "Gather", 11, lambda: [f(2, 4, 2), C(i64(0, 3, 1, 1).reshape(2, 2))], axis=1)
    case("gather_negative_index", "Gather", 13, lambda: [f(4, 3), C(i64(-1, 1))], axis=0)
    case("gather_negative_axis", "Gather", 13, lambda: [f(2, 3, 4), C(i64(3))], axis=-1)
    case("gather_scalar_index", "Gather", 13, lambda: [f(2, 3, 4), C(scalar(0, np.int64))], axis=1)
    case("gather_scalar_of_shape", "Gather", 13, lambda: [i64(5, 6, 7), C(scalar(-2, np.int64))], out_type=long)
    case("gather_int32_indices", "Gather", 13, lambda: [f(4, 3), C(np.array([1, 3], np.int32))])
    case("gather_embedding_fed", "Gather", 13, lambda: [C(f(6, 4)), i64(5, 0, 2).reshape(1, 3)])


def shapes():
    long = TensorProto.INT64
    case("flatten_default", "Flatten", 9, lambda: [f(2, 3, 2, 2)])
    case("flatten_axis0", "Flatten", 11, lambda: [f(2, 3, 2)], axis=0)
    case("flatten_axis2", "Flatten", 13, lambda: [f(2, 3, 2, 2)], axis=2)
    case("flatten_axis_negative", "Flatten", 13, lambda: [f(2, 3, 4)], axis=-1)
    case("flatten_1d", "Flatten", 13, lambda: [f(4)])

    case("reshape_infer", "Reshape", 7, lambda: [f(2, 3, 4), C(i64(2, -1))])
    case("reshape_zero", "Reshape", 13, lambda: [f(2, 3, 4), C(i64(0, -1))])
    case("reshape_zero_middle", "Reshape", 13, lambda: [f(2, 3, 4), C(i64(-1, 0, 2), True)])
    case("reshape_allowzero", "Reshape", 14, lambda: [f(2, 3), C(i64(3, 2))], allowzero=1)
    case("reshape_to_scalar", "Reshape", 13, lambda: [f(1), C(np.zeros(0, np.int64))])

    case("transpose_default", "Transpose", 7, lambda: [f(2, 3, 4)])
    case("transpose_nchw_nhwc", "Transpose", 13, lambda: [f(1, 2, 3, 4)], perm=[0, 2, 3, 1])
    case("transpose_heads", "Transpose", 13, lambda: [f(2, 3, 2, 4)], perm=[0, 2, 1, 3])
    case("transpose_int64", "Transpose", 13, lambda: [i64(1, 2, 3, 4, 5, 6).reshape(2, 3)], perm=[1, 0], out_type=long)

    case("squeeze_attr", "Squeeze", 11, lambda: [f(1, 3, 1, 2)], axes=[2])
    case("squeeze_attr_all", "Squeeze", 9, lambda: [f(1, 3, 1, 2)])
    case("squeeze_attr_negative", "Squeeze", 11, lambda: [f(2, 3, 1)], axes=[-1])
    case("squeeze_input", "Squeeze", 13, lambda: [f(1, 3, 1, 2), C(i64(0, 2))])
    case("squeeze_input_all", "Squeeze", 13, lambda: [f(1, 3, 1)])
    case("unsqueeze_attr", "Unsqueeze", 11, lambda: [f(2, 3)], axes=[0, 3])
    case("unsqueeze_attr_negative", "Unsqueeze", 11, lambda: [f(2, 3)], axes=[-1])
    case("unsqueeze_input", "Unsqueeze", 13, lambda: [f(2, 3), C(i64(1))])
    case("unsqueeze_input_unsorted", "Unsqueeze", 21, lambda: [f(2, 3), C(i64(3, 0))])
    case("unsqueeze_scalar", "Unsqueeze", 13, lambda: [scalar(7, np.int64), C(i64(0))], out_type=long)

    case("expand_channels", "Expand", 8, lambda: [f(3, 1), C(i64(2, 3, 4))])
    case("expand_both_ways", "Expand", 13, lambda: [f(2, 1, 3), C(i64(4, 1))])
    case("tile_2d", "Tile", 7, lambda: [f(2, 3), C(i64(2, 1))])
    case("tile_3d", "Tile", 13, lambda: [f(1, 2, 2), C(i64(2, 2, 3))])

    case("shape_all", "Shape", 7, lambda: [f(2, 3, 4)], out_type=long)
    case("shape_start", "Shape", 15, lambda: [f(2, 3, 4)], start=1, out_type=long)
    case("shape_start_end", "Shape", 15, lambda: [f(2, 3, 4, 2)], start=1, end=-1, out_type=long)
    case("shape_negative_start", "Shape", 19, lambda: [f(2, 3, 4)], start=-2, out_type=long)
    case("size", "Size", 13, lambda: [f(2, 3, 4)], out_type=long)
    case("constant_of_shape_default", "ConstantOfShape", 9, lambda: [C(i64(2, 3))])
    value = helper.make_tensor("value", long, [1], [5])
    case("constant_of_shape_int64", "ConstantOfShape", 9, lambda: [i64(4)], value=value, out_type=long)
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [-0.5])
    case("constant_of_shape_float", "ConstantOfShape", 20, lambda: [i64(2, 2)], value=value)
    case("range_int64", "Range", 11, lambda: [C(scalar(2, np.int64)), scalar(11, np.int64), C(scalar(3, np.int64))], out_type=long)
    case("range_negative_step", "Range", 11, lambda: [scalar(5, np.int64), C(scalar(-1, np.int64)), C(scalar(-2, np.int64))], out_type=long)
    case("range_float", "Range", 11, lambda: [scalar(0.5), C(scalar(2)), C(scalar(0.25))])
    case("identity", "Identity", 13, lambda: [f(2, 3)])
    case("dropout_opset7", "Dropout", 7, lambda: [f(2, 3)], ratio=0.3)
    case("dropout_opset10", "Dropout", 10, lambda: [f(2, 3)])
    case("dropout_opset12", "Dropout", 12, lambda: [f(2, 3), C(scalar(0.4))])
    case("dropout_opset13_training_off", "Dropout", 13, lambda: [f(2, 3), C(scalar(0.4)), C(scalar(False, bool))])

    case("cast_float_to_int64", "Cast", 9, lambda: [f32(-2.7, -0.5, 0.5, 1.5, 2.7)], to=long, out_type=long)
    case("cast_int64_to_float", "Cast", 13, lambda: [i64(-3, 0, 16777217)], to=TensorProto.FLOAT)
    case("cast_float_to_bool", "Cast", 13, lambda: [f32(-1, 0, -0.0, 0.2)], to=TensorProto.BOOL, out_type=TensorProto.BOOL)
    case("cast_bool_to_float", "Cast", 13, lambda: [np.array([True, False])], to=TensorProto.FLOAT)
    case("cast_float_to_int32", "Cast", 13, lambda: [f32(-2.7, 2.7)], to=TensorProto.INT32, out_type=TensorProto.INT32)
    case("cast_float_to_float", "Cast", 19, lambda: [f(3)], to=TensorProto.FLOAT)


def pads_and_resizes():
    for mode in ("constant", "reflect", "edge"):
        case(f"pad_attr_{mode}", "Pad", 9, lambda: [f(1, 2, 4, 5)], mode=mode, pads=[0, 0, 1, 2, 0, 0, 2, 1])
        case(f"pad_input_{mode}", "Pad", 11, lambda: [f(1, 2, 4, 5), C(i64(0, 0, 2, 1, 0, 0, 1, 3))], mode=mode)
        case(f"pad_axes_{mode}", "Pad", 18, lambda: [f(2, 4, 4), C(i64(1, 2)), None, C(i64(-1))], mode=mode)
    case("pad_attr_value", "Pad", 7, lambda: [f(2, 3)], pads=[1, 0, 0, 2], value=1.5)
    case("pad_input_value", "Pad", 13, lambda: [f(2, 3), C(i64(1, 0, 0, 2)), C(scalar(-2))])
    case("pad_channels", "Pad", 13, lambda: [f(1, 2, 2, 2), C(i64(0, 1, 0, 0, 0, 1, 0, 0)), C(scalar(0))], mode="constant")
    case("pad_negative", "Pad", 13, lambda: [f(4, 4), C(i64(-1, 1, 0, -2))])
    case("pad_value_and_axes", "Pad", 18, lambda: [f(2, 3, 3), C(i64(1, 0, 0, 2)), C(scalar(0.5)), C(i64(1, 2))])
    case("pad_wrap", "Pad", 19, lambda: [f(3, 4), C(i64(1, 2, 1, 0))], mode="wrap")

    none = lambda: C(np.zeros(0, np.float32))

    def resize(name, opset, shape, scales=None, sizes=None, **attributes):
        def make_args():
            if opset == 10:
                return [f(*shape), C(f32(*scales))]
            roi = none() if opset == 11 else None
            if sizes is None:
                return [f(*shape), roi, C(f32(*scales))]
            return [f(*shape), roi, none() if opset == 11 else None, C(i64(*sizes))]

        case(f"resize_{name}", "Resize", opset, make_args, **attributes)

    small = (1, 2, 3, 4)
    resize("opset10_nearest", 10, small, [1, 1, 2, 2], mode="nearest")
    resize("opset10_nearest_fraction", 10, small, [1, 1, 1.5, 2.5], mode="nearest")
    resize("opset10_nearest_down", 10, (1, 1, 6, 6), [1, 1, 0.5, 0.5], mode="nearest")
    resize("opset10_linear", 10, small, [1, 1, 2, 2], mode="linear")
    for rounding in ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil"):
        resize(f"nearest_asymmetric_{rounding}", 11, small, [1, 1, 2, 1.5], mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode=rounding)
        resize(f"nearest_half_pixel_{rounding}", 13, small, [1, 1, 2, 1.5], mode="nearest",
               coordinate_transformation_mode="half_pixel", nearest_mode=rounding)
    resize("nearest_default", 11, small, [1, 1, 2, 2])
    resize("nearest_default_down", 13, (1, 1, 6, 8), [1, 1, 0.5, 0.25])
    resize("nearest_sizes", 11, small, sizes=[1, 2, 6, 8], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    resize("nearest_sizes_opset13", 13, small, sizes=[1, 2, 5, 6], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    resize("nearest_align_corners", 11, small, [1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="align_corners")
    for transform in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        resize(f"linear_{transform}", 11, small, [1, 1, 2, 2], mode="linear", coordinate_transformation_mode=transform)
        resize(f"linear_{transform}_sizes", 13, small, sizes=[1, 2, 5, 7], mode="linear", coordinate_transformation_mode=transform)
        # A length that is no integer means different things to different runtimes under align_corners.
        down = 0.5 if transform == "align_corners" else 0.7
        resize(f"linear_{transform}_down", 18, (1, 1, 6, 6), [1, 1, 0.5, down], mode="linear", coordinate_transformation_mode=transform)
    resize("linear_to_one", 13, small, sizes=[1, 2, 1, 1], mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    resize("linear_align_corners_to_one", 13, small, sizes=[1, 2, 1, 1], mode="linear", coordinate_transformation_mode="align_corners")
    resize("opset18_nearest", 18, small, [1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    resize("opset18_axes_scales", 18, small, [2, 2], mode="nearest", axes=[2, 3], coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    resize("opset19_axes_sizes", 19, small, sizes=[6, 6], mode="linear", axes=[2, 3], coordinate_transformation_mode="half_pixel")
    resize("opset18_not_larger", 18, small, sizes=[6, 6], mode="nearest", axes=[2, 3], keep_aspect_ratio_policy="not_larger")
    resize("1d_linear", 13, (1, 2, 5), [1, 1, 2], mode="linear")

    case("upsample_opset9_nearest", "Upsample", 9, lambda: [f(1, 2, 3, 3), C(f32(1, 1, 2, 2))], mode="nearest")
    case("upsample_opset9_nearest_fraction", "Upsample", 9, lambda: [f(1, 1, 3, 4), C(f32(1, 1, 1.5, 2.5))], mode="nearest")
    case("upsample_opset9_linear", "Upsample", 9, lambda: [f(1, 2, 3, 3), C(f32(1, 1, 2, 3))], mode="linear")
    case("upsample_opset7_nearest", "Upsample", 7, lambda: [f(1, 2, 3, 3)], mode="nearest", scales=[1.0, 1.0, 2.0, 3.0])


def quantized():
    ties = lambda: f32(-9, -0.75, -0.25, 0, 0.25, 0.75, 1.25, 1.75, 400)
    case("quantize_linear_u8_ties", "QuantizeLinear", 13, lambda: [ties(), C(scalar(0.5)), C(scalar(3, np.uint8))], out_type=TensorProto.UINT8)
    case("quantize_linear_i8_channel", "QuantizeLinear", 13, lambda: [
        f(2, 3, 2), C(f32(0.02, 0.1, 0.5)), C(np.zeros(3, np.int8))], axis=1, out_type=TensorProto.INT8)
    case("dequantize_linear_i8_channel", "DequantizeLinear", 13, lambda: [
        C(rng.integers(-127, 128, (3, 2, 2)).astype(np.int8)), C(f32(0.02, 0.1, 0.5)), C(np.zeros(3, np.int8))], axis=0)
    case("dequantize_linear_u8", "DequantizeLinear", 10, lambda: [np.array([0, 3, 200, 255], np.uint8), C(scalar(0.25)), C(scalar(3, np.uint8))])
    case("dequantize_linear_i32_bias", "DequantizeLinear", 13, lambda: [C(np.array([-70000, 0, 70000], np.int32)), C(scalar(0.001))])


def storage():
    """How tensors are stored: typed fields, half and double precision, external data, Constant nodes."""
    node = helper.make_node
    x = f(2, 4)
    for name, dtype in [("f16", np.float16), ("bf16", ml_dtypes.bfloat16), ("f64", np.float64)]:
        for typed in (False, True):
            weight = C(np.asarray(f(4), dtype), typed)
            graph_case(
                f"initializer_{name}_{'typed' if typed else 'raw'}", "Cast", 13,
                [node("Cast", ["w"], ["w32"], name="cast", to=TensorProto.FLOAT), node("Add", ["x", "w32"], ["y"], name="add")],
                {"x": x}, {"w": weight})
    graph_case("initializer_float_data", "Add", 7, [node("Add", ["x", "w"], ["y"], name="add")], {"x": x}, {"w": C(f(4), True)})
    graph_case("initializer_int64_data", "Reshape", 13, [node("Reshape", ["x", "s"], ["y"], name="reshape")], {"x": x}, {"s": C(i64(4, 2), True)})
    graph_case("initializer_int32_cast", "Cast", 13,
               [node("Cast", ["w"], ["w32"], name="cast", to=TensorProto.FLOAT), node("Mul", ["x", "w32"], ["y"], name="mul")],
               {"x": x}, {"w": C(np.array([1, -2, 3, 4], np.int32), True)})
    graph_case("external_data", "Conv", 13, [
        node("Conv", ["x", "w", "b"], ["h"], name="conv", pads=[1, 1, 1, 1]), node("Relu", ["h"], ["y"], name="relu")],
        {"x": f(1, 2, 5, 5)}, {"w": C(f(3, 2, 3, 3)), "b": C(f(3))}, external=True)
    graph_case("unnamed_nodes", "Gemm", 13, [
        node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["h2"]), node("MatMul", ["h2", "v"], ["y"])],
        {"x": x}, {"w": C(f(4, 3)), "b": C(f(3)), "v": C(f(3, 2))})
    float_tensor = numpy_helper.from_array(f(4), "value")
    graph_case("constant_tensor", "Constant", 13, [
        node("Constant", [], ["k"], name="constant", value=float_tensor), node("Add", ["x", "k"], ["y"], name="add")], {"x": x})
    graph_case("constant_value_float", "Constant", 13, [
        node("Constant", [], ["k"], name="constant", value_float=2.5), node("Mul", ["x", "k"], ["y"], name="mul")], {"x": x})
    graph_case("constant_value_floats", "Constant", 13, [
        node("Constant", [], ["k"], name="constant", value_floats=[1.0, 2.0, -1.0, 0.5]), node("Mul", ["x", "k"], ["y"], name="mul")], {"x": x})
    graph_case("constant_value_ints", "Constant", 13, [
        node("Constant", [], ["k"], name="constant", value_ints=[4, 2]), node("Reshape", ["x", "k"], ["y"], name="reshape")], {"x": x})
    graph_case("constant_value_int", "Constant", 13, [
        node("Constant", [], ["k"], name="constant", value_int=1), node("Gather", ["x", "k"], ["y"], name="gather")], {"x": x})


def pairs():
    """Short graphs as exporters write them."""
    node = helper.make_node
    image, weight, bias = f(1, 2, 5, 5), f(4, 2, 3, 3), f(4)
    bn = {"scale": C(f(4, low=0.5, high=1.5)), "shift": C(f(4)), "mean": C(f(4)), "var": C(f(4, low=0.1, high=2))}
    conv = lambda inputs: node("Conv", inputs, ["h"], name="conv", pads=[1, 1, 1, 1])
    norm = node("BatchNormalization", ["h", *bn], ["n"], name="bn", epsilon=1e-3)
    relu = node("Relu", ["n"], ["y"], name="relu")
    graph_case("pair_conv_bn_relu", "BatchNormalization", 13, [conv(["x", "w"]), norm, relu], {"x": image}, {"w": C(weight), **bn})
    graph_case("pair_conv_bias_bn_relu", "BatchNormalization", 9, [conv(["x", "w", "b"]), norm, relu], {"x": image}, {"w": C(weight), "b": C(bias), **bn})
    graph_case("pair_depthwise_bn", "BatchNormalization", 13, [
        node("Conv", ["x", "w"], ["h"], name="conv", group=4, pads=[1, 1, 1, 1]), norm, relu], {"x": f(1, 4, 5, 5)}, {"w": C(f(4, 1, 3, 3)), **bn})
    graph_case("pair_conv_transpose_bn", "BatchNormalization", 13, [
        node("ConvTranspose", ["x", "w"], ["h"], name="up", strides=[2, 2]), norm, relu], {"x": f(1, 2, 3, 3)}, {"w": C(f(2, 4, 2, 2)), **bn})
    graph_case("pair_conv_read_twice_bn", "BatchNormalization", 13, [
        conv(["x", "w"]), norm, node("Add", ["n", "h"], ["y"], name="add")], {"x": image}, {"w": C(weight), **bn})
    graph_case("pair_bn_conv_preactivation", "BatchNormalization", 13, [
        node("BatchNormalization", ["x", *bn], ["n"], name="bn"), node("Relu", ["n"], ["r"], name="relu"),
        node("Conv", ["r", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])], {"x": f(1, 4, 5, 5)}, {"w": C(f(2, 4, 3, 3)), **bn})
    graph_case("pair_gemm_bn", "BatchNormalization", 13, [
        node("Gemm", ["x", "w"], ["h"], name="fc", transB=1), node("BatchNormalization", ["h", *bn], ["y"], name="bn")],
        {"x": f(3, 5)}, {"w": C(f(4, 5)), **bn})
    graph_case("pair_matmul_add", "MatMul", 13, [
        node("MatMul", ["x", "w"], ["h"], name="matmul"), node("Add", ["b", "h"], ["y"], name="add")],
        {"x": f(2, 3, 4)}, {"w": C(f(4, 5)), "b": C(f(5))})
    graph_case("pair_silu", "Mul", 13, [
        node("Sigmoid", ["x"], ["s"], name="sigmoid"), node("Mul", ["x", "s"], ["y"], name="mul")], {"x": f(2, 5, low=-6, high=6)})
    graph_case("pair_flatten_by_shape", "Reshape", 13, [
        node("Shape", ["x"], ["s"], name="shape"), node("Gather", ["s", "zero"], ["n"], name="gather", axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"], name="unsqueeze"), node("Concat", ["n1", "minus"], ["target"], name="concat", axis=0),
        node("Reshape", ["x", "target"], ["y"], name="reshape")],
        {"x": f(2, 3, 2, 2)}, {"zero": C(scalar(0, np.int64)), "axes": C(i64(0)), "minus": C(i64(-1))})
    graph_case("pair_shared_weight", "MatMul", 13, [
        node("MatMul", ["x", "w"], ["h"], name="first"), node("Relu", ["h"], ["r"], name="relu"), node("MatMul", ["r", "w"], ["y"], name="second")],
        {"x": f(3, 4)}, {"w": C(f(4, 4))})
    graph_case("pair_two_outputs", "Relu", 13, [
        node("Gemm", ["x", "w"], ["h"], name="fc", transB=1), node("Relu", ["h"], ["y"], name="relu")],
        {"x": f(3, 4)}, {"w": C(f(5, 4))}, {"y": TensorProto.FLOAT, "h": TensorProto.FLOAT})
    graph_case("pair_two_inputs", "Add", 13, [
        node("Conv", ["x", "w"], ["h"], name="conv"), node("Add", ["h", "skip"], ["y"], name="add")],
        {"x": f(1, 2, 4, 4), "skip": f(1, 3, 4, 4)}, {"w": C(f(3, 2, 1, 1))})
    graph_case("pair_erf_gelu", "Erf", 13, [
        node("Div", ["x", "root2"], ["d"], name="div"), node("Erf", ["d"], ["e"], name="erf"), node("Add", ["e", "one"], ["p"], name="add"),
        node("Mul", ["x", "p"], ["m"], name="mul"), node("Mul", ["m", "half"], ["y"], name="mul_half")],
        {"x": f(2, 5, low=-4, high=4)}, {"root2": C(scalar(np.sqrt(2))), "one": C(scalar(1)), "half": C(scalar(0.5))})


def main():
    global rng
    OPS.mkdir(exist_ok=True)
    for old in [*OPS.glob("*.onnx"), *OPS.glob("*.bin")]:
        old.unlink()
    for family in (convolutions, products, normalisations, activations, elementwise, pools, reductions, joins_and_parts,
                   shapes, pads_and_resizes, quantized, storage, pairs):
        rng = np.random.default_rng(zlib.crc32(family.__name__.encode()))
        family()
    names = [c["name"] for c in cases]
    assert len(set(names)) == len(names), "two cases share a name"
    path = HERE / "ops.json"
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    path.write_text(f'{{"onnxruntime":"{ort.__version__}","cases":[\n{lines}\n]}}\n')
    models = sum(p.stat().st_size for p in OPS.iterdir())
    print(f"{len(cases)} cases of {len({c['op'] for c in cases})} operators, json {path.stat().st_size} bytes, models {models} bytes")
    for name, why in refused:
        print("refused:", name, "|", why)


if __name__ == "__main__":
    main()
