"""Small ONNX models that must be refused, or opened with a warning, with a message that names the place.

Run:  pip install onnx==1.23.2 numpy==2.4.6
      python tests/golden/make_bad_models.py

unsupported_op.onnx   a convolution, then `Hardmax`, which the engine does not have
nan_weight.onnx       a convolution with two weights that are not numbers
huge_weight.onnx      an initializer that declares more elements than any file holds
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent / "bad"


def model(nodes, initializers):
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weight(values):
    return numpy_helper.from_array(values.astype(np.float32), "w")


def main():
    HERE.mkdir(exist_ok=True)
    good = np.random.default_rng(0).normal(size=(4, 3, 3, 3))
    conv = helper.make_node("Conv", ["x", "w"], ["c"], name="conv")
    hardmax = helper.make_node("Hardmax", ["c"], ["y"], name="the_hardmax", axis=1)
    onnx.save(model([conv, hardmax], [weight(good)]), HERE / "unsupported_op.onnx")

    only = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    broken = good.copy()
    broken[0, 0, 0, 0], broken[3, 2, 1, 0] = np.nan, np.inf
    onnx.save(model([only], [weight(broken)]), HERE / "nan_weight.onnx")

    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 31, 1 << 31, 3, 3], raw_data=b"1234")
    onnx.save(model([only], [huge]), HERE / "huge_weight.onnx")


if __name__ == "__main__":
    main()
