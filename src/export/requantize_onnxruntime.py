"""Quantizes the float model with ONNX Runtime's own quantizer, with the grids of a Quantscope plan.

    python NAME.requantize.py MODEL.onnx NAME.overrides.json INPUTS.npy OUT.onnx

INPUTS.npy holds a few preprocessed samples [N, ...]; ranges come from the overrides, so they only feed
the calibrator, which wants to run. Needs onnxruntime, onnx and numpy.
"""

import json
import sys

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class Samples(CalibrationDataReader):
    def __init__(self, name, array):
        self.batches = iter([{name: sample[None]} for sample in array])

    def get_next(self):
        return next(self.batches, None)


def main():
    model_path, overrides_path, inputs_path, out = sys.argv[1:5]
    with open(overrides_path, encoding="utf-8") as file:
        plan = json.load(file)
    graph = onnx.load(model_path).graph
    names = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    names |= {name for node in graph.node for name in node.output}
    overrides, unmatched = {}, []
    for tensor, entries in plan["tensor_quant_overrides"].items():
        if tensor not in names:
            unmatched.append(tensor)
            continue
        for entry in entries:
            kind = QuantType.from_string(entry["quant_type"])
            entry["quant_type"] = kind
            entry["scale"] = np.array(entry["scale"], dtype=np.float32)
            entry["zero_point"] = np.array(entry["zero_point"], dtype=onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type))
        overrides[tensor] = entries
    if unmatched:
        print("not in the model, and left to the quantizer:", ", ".join(unmatched))
    constants = {tensor.name for tensor in graph.initializer}
    name = next(value.name for value in graph.input if value.name not in constants)
    layers = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
    quantize_static(
        model_path,
        out,
        Samples(name, np.load(inputs_path)),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=layers,
        nodes_to_exclude=plan["nodes_to_exclude"],
        per_channel=True,
        extra_options={"TensorQuantOverrides": overrides},
    )


main()
