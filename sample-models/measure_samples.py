"""Measures the bundled networks under post-training quantization, by ONNX Runtime alone.

Run:  pip install onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 pillow==13.0.0
      python sample-models/measure_samples.py

Prints the table of README.md and writes tests/golden/sample_models.json. Arithmetic in f32, rounding half to even:

    weights      per output channel, symmetric: scale = max|w| / (2^(b-1) - 1), codes in [-(2^(b-1) - 1), 2^(b-1) - 1]
    activations  the input of every Conv and Gemm, per tensor: range = min and max over signs/calib, widened to hold 0,
                 scale = (max - min) / (2^b - 1), zero_point = clip(round(-min / scale), 0, 2^b - 1)
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from PIL import Image

HERE = Path(__file__).resolve().parent
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
SETTINGS = [(8, 8), (8, None), (6, None), (5, None), (4, None), (3, None), (6, 6), (4, 8), (4, 4)]  # (weight bits, activation bits)


def load(split):
    """Pictures as the networks see them [N, 3, 32, 32], and labels (index of the class folder in sorted order)."""
    xs, ys = [], []
    for label, folder in enumerate(sorted((HERE / "signs" / split).iterdir())):
        for file in sorted(folder.glob("*.png")):
            xs.append((np.asarray(Image.open(file).convert("RGB"), np.float32) / np.float32(255) - MEAN) / STD)
            ys.append(label)
    return np.ascontiguousarray(np.stack(xs).transpose(0, 3, 1, 2)), np.array(ys)


def run(model, x):
    """All outputs, in batches of 64."""
    session = ort.InferenceSession(model.SerializeToString())
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: x[k : k + 64]}) for k in range(0, len(x), 64)]
    return [np.concatenate(p) for p in zip(*parts)]


def copy_of(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def quantizable(model):
    """Conv and Gemm nodes whose weight is stored."""
    stored = {t.name for t in model.graph.initializer}
    return [n for n in model.graph.node if n.op_type in ("Conv", "Gemm") and n.input[1] in stored]


def activation_ranges(model, x):
    """Minimum and maximum of every quantized input, widened to hold zero."""
    probe = copy_of(model)
    image = model.graph.input[0].name
    names = sorted({n.input[0] for n in quantizable(model)} - {image})
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    tensors = dict(zip(names, run(probe, x)), **{image: x})
    return {n: (min(np.float32(0), v.min()), max(np.float32(0), v.max())) for n, v in tensors.items()}


def quantized_weight(w, bits):
    """Round to nearest, one scale for each output channel."""
    rows = w.reshape(len(w), -1)
    top = np.float32(2 ** (bits - 1) - 1)
    scale = np.abs(rows).max(1, keepdims=True) / top
    scale[scale == 0] = 1
    return (np.clip(np.rint(rows / scale), -top, top) * scale).reshape(w.shape)


def quantized(model, ranges, weight_bits, activation_bits):
    """A copy with quantized weights and, if asked, quantize-dequantize chains before its layers."""
    copy = copy_of(model)
    weights = {n.input[1] for n in quantizable(model)}
    for tensor in copy.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(quantized_weight(numpy_helper.to_array(tensor), weight_bits), tensor.name))
    if activation_bits is None:
        return copy
    chains = {}
    for name, (low, high) in ranges.items():
        top = np.float32(2**activation_bits - 1)
        scale = (high - low) / top if high > low else np.float32(1)
        zero = np.clip(np.rint(-low / scale), 0, top)
        for part, value in (("scale", scale), ("zero", zero), ("low", 0), ("high", top)):
            copy.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{name}/{part}"))
        steps = [("Div", "scale"), ("Round", None), ("Add", "zero"), ("Clip", "low"), ("Sub", "zero"), ("Mul", "scale")]
        chain, last = [], name
        for op, part in steps:
            inputs = [last] + ([f"{name}/{part}"] if part else []) + ([f"{name}/high"] if op == "Clip" else [])
            last = f"{name}/{op}"
            chain.append(helper.make_node(op, inputs, [last]))
        chains[name] = (chain, last)
    nodes = []
    for node in copy.graph.node:
        if node.op_type in ("Conv", "Gemm") and node.input[0] in chains:
            chain, last = chains[node.input[0]]
            nodes += chain
            chain.clear()  # A second reader of this tensor shares the chain.
            node.input[0] = last
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def label_of(weight_bits, activation_bits):
    return f"W{weight_bits}" + ("" if activation_bits is None else f"A{activation_bits}")


def main():
    x, y = load("eval")
    calibration, _ = load("calib")
    record = {"onnxruntime": ort.__version__, "samples": len(x), "calibration_samples": len(calibration), "models": []}
    table = {}
    for file in sorted(HERE.glob("*.onnx")):
        model = onnx.load(file)
        ranges = activation_ranges(model, calibration)
        reference = run(model, x)[0]
        results = {}
        table[file.stem] = {"float": float((reference.argmax(1) == y).mean())}
        for bits in SETTINGS:
            logits = run(quantized(model, ranges, *bits), x)[0]
            signal, noise = (np.square(v.astype(np.float64)).sum() for v in (reference, reference - logits))
            results[label_of(*bits)] = {
                "top1": float((logits.argmax(1) == y).mean()),
                "agreement": float((logits.argmax(1) == reference.argmax(1)).mean()),
                "sqnr_db": float(10 * np.log10(signal / noise)),
            }
            table[file.stem][label_of(*bits)] = results[label_of(*bits)]["top1"]
        record["models"].append({
            "file": file.name,
            "float_top1": table[file.stem]["float"],
            "ranges": {n: [float(str(v)) for v in r] for n, r in sorted(ranges.items())},
            "quantized": results,
        })
    columns = ["float", *(label_of(*b) for b in SETTINGS)]
    print("| network | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(f"{100 * row[c]:.1f}" for c in columns) + " |")
    path = HERE.parent / "tests" / "golden" / "sample_models.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
