"""Reference numbers for sweeps and layer errors of a classifier, from ONNX Runtime alone.

All but one layer quantized, the error of each layer alone at its own output, and the error of each layer's output
when the whole plan is applied. The weights are quantized with numpy; activations are quantized by operators written
into the graph.

Run:  pip install onnx==1.23.2 onnxruntime==1.32.0 numpy pillow
      python make_sensitivity.py MODEL.onnx PICTURES_DIR OUT.json

PICTURES_DIR has one folder of PNGs a class, in the size of the network's input; it gives both the samples and the
activation ranges. Weights: symmetric, per output channel, restricted range, scale = max|w| / (2^(b-1) - 1).
Activations: asymmetric, per tensor, on the input of every Conv and Gemm, range = min and max over the pictures,
widened to contain 0. Divisions and roundings in f32, half to even.
"""

import argparse
import json
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], "f4")
STD = np.array([0.229, 0.224, 0.225], "f4")
SWEEP_BITS = [8, 4, 3]
PLANS = ["8/8", "4/8", "4/f32"]
LOCAL_BITS = [4, 3]
BATCH = 50


def load(root):
    pictures, labels = [], []
    for label, folder in enumerate(sorted(os.listdir(root))):
        for file in sorted(os.listdir(f"{root}/{folder}")):
            picture = np.asarray(Image.open(f"{root}/{folder}/{file}").convert("RGB"), "f4")
            pictures.append((picture / np.float32(255) - MEAN) / STD)
            labels.append(label)
    return np.stack(pictures).transpose(0, 3, 1, 2).copy(), np.array(labels)


def quantize_weight(weight, bits):
    rows = weight.reshape(weight.shape[0], -1)
    most = 2 ** (bits - 1) - 1
    scale = (np.abs(rows).max(1) / np.float32(most)).astype("f4")
    scale = np.where(scale == 0, np.float32(1), scale)[:, None]
    codes = np.clip(np.rint((rows / scale).astype("f4")), -most, most)
    return (codes * scale).astype("f4").reshape(weight.shape)


class Network:
    def __init__(self, path):
        self.base = onnx.load(path)
        constants = {t.name for t in self.base.graph.initializer}
        self.input = next(i.name for i in self.base.graph.input if i.name not in constants)
        self.layers = [
            (n.name, n.input[1], n.input[0], n.output[0])
            for n in self.base.graph.node
            if n.op_type in ("Conv", "Gemm") and n.input[1] in constants
        ]
        self.ranges = {}

    def session(self, weights, activations, shown=()):
        """`weights` and `activations` map layer names to bits; `shown` are values that become outputs."""
        model = onnx.ModelProto()
        model.CopyFrom(self.base)
        nodes = []
        for node in model.graph.node:
            if node.name in activations:
                nodes += self.quantizer(model, node, activations[node.name])
            nodes.append(node)
        nodes = list(nodes)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        bits_of = {weight: weights[name] for name, weight, _, _ in self.layers if name in weights}
        for tensor in model.graph.initializer:
            if tensor.name in bits_of:
                values = quantize_weight(numpy_helper.to_array(tensor), bits_of[tensor.name])
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        known = {output.name for output in model.graph.output}
        for name in shown:
            if name not in known:
                model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        if shown:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(model.SerializeToString(), options)

    def quantizer(self, model, node, bits):
        low, high = self.ranges[node.input[0]]
        most = np.float32(2**bits - 1)
        scale = np.float32(np.float32(high - low) / most) or np.float32(1)
        zero = np.float32(np.clip(np.rint(np.float32(-low) / scale), 0, most))
        prefix = f"fake_{node.name}"
        names = {}
        for key, value in (("scale", scale), ("zero", zero), ("low", np.float32(0)), ("high", most)):
            names[key] = f"{prefix}_{key}"
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, "f4"), names[key]))
        steps = [f"{prefix}_{i}" for i in range(6)]
        made = [
            helper.make_node("Div", [node.input[0], names["scale"]], [steps[0]]),
            helper.make_node("Round", [steps[0]], [steps[1]]),
            helper.make_node("Add", [steps[1], names["zero"]], [steps[2]]),
            helper.make_node("Clip", [steps[2], names["low"], names["high"]], [steps[3]]),
            helper.make_node("Sub", [steps[3], names["zero"]], [steps[4]]),
            helper.make_node("Mul", [steps[4], names["scale"]], [steps[5]]),
        ]
        node.input[0] = steps[5]
        return made

    def calibrate(self, pictures):
        names = sorted({layer[2] for layer in self.layers})
        shown = [name for name in names if name != self.input]
        session = self.session({}, {}, shown)
        found = {self.input: (float(pictures.min()), float(pictures.max()))}
        for start in range(0, len(pictures), BATCH):
            values = session.run(shown, {self.input: pictures[start : start + BATCH]})
            for name, value in zip(shown, values):
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = (min(low, float(value.min())), max(high, float(value.max())))
        self.ranges = {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in found.items()}

    def outputs(self, weights, pictures):
        session = self.session(weights, {})
        parts = [
            session.run(None, {self.input: pictures[start : start + BATCH]})[0]
            for start in range(0, len(pictures), BATCH)
        ]
        return np.concatenate(parts)


def log_softmax(logits):
    logits = logits.astype("f8")
    logits = logits - logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def decibel(signal, noise):
    return float(10 * np.log10(signal / noise))


def score(float_logits, logits, labels):
    reference, own = log_softmax(float_logits), log_softmax(logits)
    difference = float_logits.astype("f8") - logits
    return {
        "top1": float((logits.argmax(1) == labels).mean()),
        "loss": float(-own[np.arange(len(labels)), labels].mean()),
        "kl": float((np.exp(reference) * (reference - own)).sum(1).mean()),
        "sqnr_db": decibel((float_logits.astype("f8") ** 2).sum(), (difference**2).sum()),
    }


def layer_errors(network, pictures, weights, activations, shown):
    """Error of each shown value against float, in decibels."""
    reference = network.session({}, {}, shown)
    session = network.session(weights, activations, shown)
    sums = np.zeros((len(shown), 2))
    for start in range(0, len(pictures), BATCH):
        fed = {network.input: pictures[start : start + BATCH]}
        for row, (a, b) in enumerate(zip(reference.run(shown, fed), session.run(shown, fed))):
            a, b = a.astype("f8"), b.astype("f8")
            sums[row] += (a**2).sum(), ((a - b) ** 2).sum()
    return [decibel(signal, noise) for signal, noise in sums]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "pictures", "out"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    network = Network(arguments.model)
    pictures, labels = load(arguments.pictures)
    network.calibrate(pictures)
    names = [layer[0] for layer in network.layers]
    ends = [layer[3] for layer in network.layers]
    float_logits = network.outputs({}, pictures)
    result = {
        "model": os.path.basename(arguments.model),
        "samples": len(pictures),
        "float": {key: score(float_logits, float_logits + 0.0, labels)[key] for key in ("top1", "loss")},
        "all_but_one_weights": {},
        "cumulative_output_sqnr_db": {},
        "local_output_sqnr_db": {},
    }
    for name in names:
        result["all_but_one_weights"][name] = {
            bits: score(float_logits, network.outputs({n: bits for n in names if n != name}, pictures), labels)
            for bits in SWEEP_BITS
        }
        print(name, flush=True)
    for plan in PLANS:
        weight, activation = plan.split("/")
        activations = {} if activation == "f32" else {n: int(activation) for n in names}
        errors = layer_errors(network, pictures, {n: int(weight) for n in names}, activations, ends)
        result["cumulative_output_sqnr_db"][plan] = dict(zip(names, errors))
    for name, end in zip(names, ends):
        result["local_output_sqnr_db"][name] = {
            bits: layer_errors(network, pictures, {name: bits}, {}, [end])[0] for bits in LOCAL_BITS
        }
    with open(arguments.out, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    np.seterr(divide="ignore")
    main()
