"""Float outputs of trained networks by ONNX Runtime, for the differential test of the engine.

Run:  pip install onnxruntime==1.32.0 numpy==2.4.6 pillow==13.0.0
      python tests/golden/make_float_outputs.py [DATA_DIR]        (default: ../shared/data beside the project)

Writes tests/golden/float_outputs.json. Neither models nor data are stored, only summaries of what goes in and out:

synthetic   x[i] = f32(((i * 2654435761) mod 2^32) / 2^32 * scale + offset), i = flat index over the whole [N, ...] input,
            computed in f64 and rounded once to f32. `scale` and `offset` put x into the range the network was trained on.
real        the first files of the dataset, sorted by path, decoded to RGB or grey and normalised in f32 as
            (v / 255 - mean) / std (three f32 operations per value). Only lossless files of the network's own size.

A tensor is summarised by its shape, its sum and L2 norm (in f64), and the values at flat indices
`floor(k * len / count)`, k = 0 .. count - 1, with count = min(len, limit); f32 values are printed so that they round-trip.
Recommended tolerance: |a - b| <= 1e-4 * max(1, max|b|) for every value, 1e-4 relative for the norm.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

HERE = Path(__file__).resolve().parent
DATA = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[2] / "shared" / "data"
OUTPUT_LIMIT = 400
INPUT_LIMIT = 8

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
UNIT = ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])

# model, synthetic shape, scale, offset, real samples (glob, count, mode, mean, std) or None
MODELS = [
    ("resnet20-cifar10", [2, 3, 32, 32], 4.5, -2.1, ("cifar10/test/*/*.png", 4, "RGB", *IMAGENET)),
    ("mobilenetv1-025-imagenet", [2, 3, 224, 224], 4.5, -2.1, None),
    ("yolox-nano-coco", [1, 3, 416, 416], 255.0, 0.0, None),
    ("wnet-drive", [1, 3, 512, 512], 1.0, 0.0, ("drive/images/*.png", 1, "RGB", *UNIT)),
    ("vit-mnist", [2, 1, 28, 28], 3.2, -0.42, ("mnist/test/*/*.png", 4, "L", [0.1307], [0.3081])),
    ("dscnn-kws", [2, 1, 49, 10], 40.0, -25.0, ("kws/inputs.npy", 4, "npy", None, None)),
]


def synthetic(shape, scale, offset):
    """Returns the multiplicative-hash input of the module documentation."""
    i = np.arange(np.prod(shape), dtype=np.uint64)
    u = (i * np.uint64(2654435761) % np.uint64(2**32)).astype(np.float64) / 2.0**32
    return (u * scale + offset).astype(np.float32).reshape(shape)


def real(pattern, count, mode, mean, std):
    """Returns the first `count` samples as [N, C, H, W] and their paths relative to the data folder."""
    if mode == "npy":
        return np.load(DATA / pattern)[:count].astype(np.float32), [f"{pattern}[{k}]" for k in range(count)]
    # Paths are compared part by part ("a/z.png" before "ab/a.png"), not as one string.
    files = sorted(DATA.glob(pattern), key=lambda p: p.relative_to(DATA).parts)[:count]
    pixels = np.stack([np.asarray(Image.open(f).convert(mode), np.float32) for f in files])
    pixels = pixels.reshape(*pixels.shape[:3], -1)
    x = (pixels / np.float32(255) - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), [f.relative_to(DATA).as_posix() for f in files]


def summary(x, limit):
    """Shape, sum, L2 norm and evenly spaced values of a tensor."""
    flat = x.reshape(-1)
    wide = flat.astype(np.float64)
    count = min(flat.size, limit)
    values = [float(str(flat[k * flat.size // count])) for k in range(count)]
    return {"shape": list(x.shape), "sum": wide.sum(), "l2": np.sqrt((wide**2).sum()), "values": values}


def run_case(session, x, about):
    """Runs one batch and returns its record."""
    wide = x.astype(np.float64)
    names = [o.name for o in session.get_outputs()]
    outputs = session.run(names, {session.get_inputs()[0].name: x})
    record = {"mean": wide.mean(), "std": wide.std(), **summary(x, INPUT_LIMIT)}
    return {
        **about,
        "input": record,
        "outputs": [{"name": n, **summary(y, OUTPUT_LIMIT)} for n, y in zip(names, outputs)],
    }


def main():
    records = []
    for name, shape, scale, offset, source in MODELS:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(DATA / "models" / f"{name}.onnx", options)
        about = {"kind": "synthetic", "formula": "((i*2654435761) mod 2^32)/2^32*scale+offset", "scale": scale, "offset": offset}
        cases = [run_case(session, synthetic(shape, scale, offset), about)]
        if source:
            x, files = real(*source)
            mode, mean, std = source[2:]
            text = "as stored" if mode == "npy" else f"{mode}, (v / 255 - mean) / std"
            about = {"kind": "real", "files": files, "preprocessing": text, "mean": mean, "std": std}
            cases.append(run_case(session, x, about))
        records.append({"model": f"models/{name}.onnx", "input_name": session.get_inputs()[0].name, "cases": cases})
        print(name, [[round(o["l2"], 4) for o in c["outputs"]] for c in cases])
    path = HERE / "float_outputs.json"
    path.write_text(json.dumps({"onnxruntime": ort.__version__, "models": records}, separators=(",", ":")).replace('{"model"', '\n{"model"') + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
