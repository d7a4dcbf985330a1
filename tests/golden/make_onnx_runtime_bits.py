"""Outputs of single operators in ONNX Runtime, to be met bit for bit by the kernels that follow it.

Run:  pip install onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
      python tests/golden/make_onnx_runtime_bits.py

Writes tests/golden/onnx_runtime_bits.json: for every case its numbers, with one thread and without graph
optimisations. Softmax has other last bits on processors with AVX-512, so that the script refuses these.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent


def numbers(count, step, unit):
    """Numbers that are spread, short in binary, and not sorted."""
    return np.array([((i * step) % 257 - 128) * unit for i in range(count)], np.float32)


def run(op, attributes, inputs):
    names = list(inputs)
    node = helper.make_node(op, names, ["y"], **attributes)
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in [*names, "y"]]
    graph = helper.make_graph([node], "case", infos[:-1], infos[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, inputs)[0]


def case(op, attributes, **inputs):
    y = run(op, attributes, inputs)
    flat = {name: [float(v) for v in array.ravel()] for name, array in inputs.items()}
    return {"op": op, "rows": int(y.shape[0]), **flat, "y": [float(v) for v in y.ravel()]}


def normalized(length, bias):
    inputs = {
        "x": numbers(3 * length, 41, 1 / 32).reshape(3, length),
        "scale": 1 + numbers(length, 7, 1 / 512),
    }
    if bias:
        inputs["bias"] = numbers(length, 11, 1 / 256)
    return case("LayerNormalization", {"axis": -1, "epsilon": 2.0**-17}, **inputs)


def product(rows, depth, columns, transposed, bias):
    shape = (columns, depth) if transposed else (depth, columns)
    third = np.float32(1 / 3)
    inputs = {
        "a": (numbers(rows * depth, 41, 1 / 32) * third).reshape(rows, depth),
        "b": (numbers(depth * columns, 29, 1 / 32) * third).reshape(shape),
    }
    if bias:
        inputs["c"] = numbers(columns, 11, 1 / 32) * third
    return {**case("Gemm", {"transB": int(transposed)}, **inputs), "transposed": transposed}


def main():
    if "avx512f" in Path("/proc/cpuinfo").read_text():
        raise SystemExit("run this on a processor without AVX-512")
    cases = [
        case("Softmax", {"axis": -1}, x=numbers(51, 41, 1 / 32).reshape(3, 17)),
        case("Softmax", {"axis": -1}, x=numbers(6, 41, 1).reshape(2, 3)),
        case("Erf", {}, x=numbers(100, 41, 1 / 28).reshape(1, 100)),
    ]
    cases += [normalized(length, bias) for length in (5, 8, 14, 19, 64) for bias in (True, False)]
    cases += [
        product(rows, 11, columns, transposed, bias)
        for rows, columns in ((1, 7), (7, 1), (1, 1), (3, 5))
        for transposed in (True, False)
        for bias in (True, False)
    ]
    rows = ",\n".join(json.dumps(one) for one in cases)
    text = f'{{"onnxruntime": "{onnxruntime.__version__}", "cases": [\n{rows}\n]}}'
    (HERE / "onnx_runtime_bits.json").write_text(text + "\n", encoding="utf-8")


main()
