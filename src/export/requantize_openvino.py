"""Quantizes the float model with NNCF, and leaves in float what a Quantscope plan leaves in float.

    python NAME.requantize.py MODEL.onnx INPUTS.npy OUT.xml

INPUTS.npy holds preprocessed calibration samples [N, ...]. Needs openvino and nncf. NNCF chooses its own
grids of 8 bits; the model with quantizers beside this script has those of the plan.
"""

import sys

import nncf
import numpy as np
import openvino

# Names of nodes in the ONNX file. The reader gives them to the last operator that a node becomes: with a
# bias that is the addition, and the product before it is named after it.
FLOAT_LAYERS = []


def main():
    model_path, inputs_path, out = sys.argv[1:4]
    model = openvino.Core().read_model(model_path)
    names = {node.get_friendly_name() for node in model.get_ops()}
    unknown = set(FLOAT_LAYERS) - names
    if unknown:
        sys.exit("not in the model: " + ", ".join(sorted(unknown)))
    parts = [part for name in FLOAT_LAYERS for part in (name, f"{name}/WithoutBiases")]
    known = [part for part in parts if part in names]
    samples = nncf.Dataset([sample[None] for sample in np.load(inputs_path)])
    quantized = nncf.quantize(model, samples, ignored_scope=nncf.IgnoredScope(names=known))
    openvino.save_model(quantized, out)


main()
