"""Quantizes the float model with NNCF, and leaves in float what a Quantscope plan leaves in float.

    python NAME.requantize.py MODEL.onnx INPUTS.npy OUT.xml

INPUTS.npy holds preprocessed calibration samples [N, ...]. Needs openvino and nncf. NNCF chooses its own
grids of 8 bits; the model with quantizers beside this script has those of the plan.
"""

import sys

import nncf
import numpy as np
import openvino

# Names of nodes in the ONNX file, which the reader keeps as friendly names.
FLOAT_LAYERS = []


def main():
    model_path, inputs_path, out = sys.argv[1:4]
    model = openvino.Core().read_model(model_path)
    names = {node.get_friendly_name() for node in model.get_ops()}
    known = [name for name in FLOAT_LAYERS if name in names]
    if len(known) < len(FLOAT_LAYERS):
        print("not in the model:", ", ".join(sorted(set(FLOAT_LAYERS) - names)))
    samples = nncf.Dataset([sample[None] for sample in np.load(inputs_path)])
    quantized = nncf.quantize(model, samples, ignored_scope=nncf.IgnoredScope(names=known))
    openvino.save_model(quantized, out)


main()
