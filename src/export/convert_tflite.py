"""Converts a model to TFLite and quantizes it as a recipe of Quantscope says.

    python NAME.convert.py MODEL.onnx NAME.recipe.json SAMPLES.npy OUT.tflite [--float CONVERTED.tflite]

SAMPLES.npy are preprocessed inputs, one a row, for ranges of activations.
Needs ai-edge-quantizer and ai-edge-litert (pip). The conversion needs onnx2torch and litert-torch (pip;
formerly ai-edge-torch); with --float a model that another converter made, such as onnx2tf, is taken.

A converter names tensors in its own way. Layers are found by the kind of their operator and the shape
of their weight, in the order of the network.
"""

import argparse
import json
import re

import numpy as np

KINDS = {
    "CONV_2D": "CONV_2D",
    "DEPTHWISE_CONV_2D": "DEPTHWISE_CONV_2D",
    "TRANSPOSE_CONV": "CONV_2D_TRANSPOSE",
    "FULLY_CONNECTED": "FULLY_CONNECTED",
}


def converted(model, samples, path):
    import onnx2torch
    import torch

    try:
        import litert_torch as converter
    except ImportError:
        import ai_edge_torch as converter
    module = onnx2torch.convert(model).eval()
    converter.convert(module, (torch.from_numpy(samples[:1]),)).export(path)


def operators(path):
    """Kind, sorted weight shape, and scope of every operator with a weight, in order."""
    from ai_edge_litert import schema_py_generated as schema

    with open(path, "rb") as file:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read(), 0))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    graph = model.subgraphs[0]
    for one in graph.operators:
        code = model.operatorCodes[one.opcodeIndex]
        kind = KINDS.get(names[max(code.builtinCode, code.deprecatedBuiltinCode)])
        if kind:
            shape = sorted(int(n) for n in graph.tensors[one.inputs[1]].shape if n > 1)
            outputs = [graph.tensors[index].name.decode() for index in one.outputs]
            yield kind, shape, "".join(name + ";" for name in outputs)


def renamed(document, path):
    """The recipe with the names of the converted file."""
    free = list(operators(path))
    scopes = {}
    for layer in document["layers"]:
        shape = sorted(n for n in layer["weight_shape"] if n > 1)
        found = [one for one in free if one[:2] == (layer["operation"], shape)]
        if not found:
            raise SystemExit(f"{layer['name']}: no {layer['operation']} with weight {shape} is left in {path}")
        free.remove(found[0])
        scopes[layer["regex"]] = "^" + re.escape(found[0][2]) + "$"
    return [dict(rule, regex=scopes.get(rule["regex"], rule["regex"])) for rule in document["recipe"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("model", "recipe", "samples", "out"):
        parser.add_argument(name)
    parser.add_argument("--float", dest="float_model")
    options = parser.parse_args()
    from ai_edge_quantizer import quantizer

    samples = np.load(options.samples).astype(np.float32)
    path = options.float_model
    if path is None:
        path = options.out + ".float.tflite"
        converted(options.model, samples, path)
    with open(options.recipe, encoding="utf-8") as file:
        recipe = renamed(json.load(file), path)
    made = quantizer.Quantizer(path, recipe)
    ranges = None
    if made.need_calibration:
        from ai_edge_litert.interpreter import Interpreter

        float_model = Interpreter(model_path=path)
        [(key, signature)] = float_model.get_signature_list().items()
        [name] = signature["inputs"]
        shape = float_model.get_signature_runner(key).get_input_details()[name]["shape"]
        if samples.ndim == 4 and tuple(shape[1:]) != samples.shape[1:]:
            samples = samples.transpose(0, 2, 3, 1)
        ranges = made.calibrate({key: [{name: row[None]} for row in samples]})
    made.quantize(ranges).export_model(options.out, overwrite=True)


main()
