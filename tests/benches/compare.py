"""The same work in Quantscope and in other tools, in turn, in one sitting; prints a Markdown table.

Run:  cargo build --release
      python3 tests/benches/compare.py                         (every row; about 15 minutes on two cores)
      python3 tests/benches/compare.py --rows float,plan       (some rows)
      python3 tests/benches/compare.py --rows aimet --aimet    (with AIMET itself: installs aimet-onnx, some gigabytes)

Makes a virtual environment in target/ with pinned packages on the first run and continues inside it. Takes the release
binary as it is. Models and data are those of ../shared/data beside the project, or of --data.

How it is measured: samples are decoded and preprocessed once, here, and both sides are given the same arrays, so that
nobody decodes inside a figure. Each round runs ours, then theirs; a figure is the best over all rounds, with the median
in brackets. ONNX Runtime runs with `--threads` intra-op threads, one inter-op thread and all optimisations on. What a
figure includes is said beside the row below.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["onnxruntime==1.32.0", "onnx==1.23.2", "numpy==2.4.6", "pillow==13.0.0"]
AIMET = ["aimet-onnx==2.42.0"]
TORCH = ["torch==2.15.0", "onnx2torch==1.5.15"]
WIDTHS = [8, 6, 4, 3, 2]
ROWS = ["float", "plan", "overhead", "sensitivity", "aimet", "local", "reevaluation"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder with models/ and data")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"rows, separated by commas: {', '.join(ROWS)}")
    parser.add_argument("--models", default="", help="only models whose name contains one of these words, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="how often ours and theirs take turns (sweeps: at most 3)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "quantscope")
    parser.add_argument("--venv", type=Path, default=ROOT / "target" / "compare-venv")
    parser.add_argument("--aimet", action="store_true", help="measure AIMET itself in the row aimet")
    parser.add_argument("--torch", action="store_true", help="also run the sensitivity loop in PyTorch")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    options.rows = options.rows.split(",")
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"unknown rows {unknown}; there are {ROWS}")
    if not (options.data / "models").is_dir():
        parser.error(f"no folder models/ in {options.data}; give the folder of models and data with --data")
    if not options.binary.is_file():
        parser.error(f"{options.binary} is missing; build it first: cargo build --release")
    return options


def enter_environment(options):
    """Continues in the virtual environment, after making it where it lacks a package."""
    python = options.venv / "bin" / "python"
    if Path(sys.prefix).resolve() == options.venv.resolve():
        return
    wanted = PACKAGES + (AIMET if options.aimet else []) + (TORCH if options.torch else [])
    if not python.exists():
        venv.create(options.venv, with_pip=True)
    installed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout.lower()
    if any(package not in installed for package in wanted):
        print(f"installing {', '.join(wanted)} into {options.venv}", file=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True, stdout=sys.stderr)
    os.execv(python, [python, *sys.argv])


# ---------------------------------------------------------------- samples


class Network:
    """A model with its samples as arrays, in memory and as `inputs.npy` for the binary."""

    def __init__(self, options, name, folder):
        import numpy as np

        self.name = name
        self.path = options.data / "models" / f"{name}.onnx"
        self.samples, self.labels, calibration = load_samples(options.data, name)
        self.calibration = calibration
        self.folder = folder / name
        for part, inputs, labels in [("eval", self.samples, self.labels), ("calib", calibration, None)]:
            target = self.folder / part
            target.mkdir(parents=True)
            np.save(target / "inputs.npy", inputs)
            if labels is not None:
                np.save(target / "labels.npy", labels.astype("<i8"))

    def limited(self, count):
        """The first `count` samples as a folder of their own, with the whole calibration beside it."""
        import numpy as np

        target = self.folder / f"first-{count}"
        if not target.exists():
            target.mkdir()
            np.save(target / "inputs.npy", self.samples[:count])
            if self.labels is not None:
                np.save(target / "labels.npy", self.labels[:count].astype("<i8"))
        return target


def load_samples(data, name):
    """Samples, labels (or None) and calibration samples of a model."""
    import numpy as np

    if name == "resnet20-cifar10":
        samples, labels = class_folders(data / "cifar10" / "test", 200)
        calibration, _ = class_folders(data / "cifar10" / "calib", 25)
        return samples, labels, calibration
    if name == "mobilenetv1-025-imagenet":
        lines = (data / "imagenet500" / "labels.csv").read_text().splitlines()[1:301]
        rows = [line.split(",") for line in lines]
        x = np.stack([imagenet(data / "imagenet500" / row[0]) for row in rows])
        y = np.array([int(row[1]) for row in rows])
        return x[100:], y[100:], x[:100]
    if name == "wnet-drive":
        files = sorted((data / "drive" / "images").iterdir())
        x = np.stack([drive(file) for file in files])
        return x[8:], None, x[:8]
    if name == "yolox-nano-coco":
        files = sorted((data / "coco128").rglob("*.jpg"))[:48]
        x = np.stack([letterbox(file) for file in files])
        return x[16:], None, x[:16]
    raise ValueError(name)


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def normalised(pixels):
    import numpy as np

    x = (np.asarray(pixels, "f4") / np.float32(255) - np.array(MEAN, "f4")) / np.array(STD, "f4")
    return np.ascontiguousarray(x.transpose(2, 0, 1))


def class_folders(folder, per_class):
    """Samples class by class in turn, so that every prefix holds all classes."""
    import numpy as np
    from PIL import Image

    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [sorted(path.iterdir())[:per_class] for path in classes]
    pairs = [(files[c][k], c) for k in range(per_class) for c in range(len(classes)) if k < len(files[c])]
    x = np.stack([normalised(Image.open(file).convert("RGB")) for file, _ in pairs])
    return x, np.array([c for _, c in pairs])


def imagenet(file):
    from PIL import Image

    picture = Image.open(file).convert("RGB")
    width, height = picture.size
    scale = 256 / min(width, height)
    if scale != 1:
        picture = picture.resize((round(width * scale), round(height * scale)), Image.BILINEAR)
    width, height = picture.size
    left, top = (width - 224) // 2, (height - 224) // 2
    return normalised(picture.crop((left, top, left + 224, top + 224)))


def drive(file):
    import numpy as np
    from PIL import Image

    picture = Image.open(file).convert("RGB").resize((512, 512))
    return np.ascontiguousarray(np.asarray(picture, "f4").transpose(2, 0, 1) / np.float32(255))


def letterbox(file):
    import numpy as np
    from PIL import Image

    picture = Image.open(file).convert("RGB")
    scale = 416 / max(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.BILINEAR)
    canvas = np.full((416, 416, 3), 114, "f4")
    pixels = np.asarray(picture, "f4")
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1))


# ---------------------------------------------------------------- ours


def quantscope(options, *words):
    """The JSON document that a command of the binary prints."""
    command = [options.binary, *map(str, words), "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout)


def bench(options, network, count, measure, *more):
    words = ["bench", network.path, "--data", network.limited(count), "--calib", network.folder / "calib"]
    return quantscope(options, *words, "--limit", count, "--threads", options.threads, "--measure", measure, *more)


# ---------------------------------------------------------------- theirs


def session(options, model):
    """An ONNX Runtime session of a model or of a file, with all optimisations on."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


def run_batches(runner, x, batch):
    """The first output for all samples."""
    import numpy as np

    name = runner.get_inputs()[0].name
    return np.concatenate([runner.run(None, {name: x[i : i + batch]})[0] for i in range(0, len(x), batch)])


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def forward_runs(runner, x, batch, repeats):
    run_batches(runner, x[:batch], batch)
    return [timed(lambda: run_batches(runner, x, batch)) for _ in range(repeats)]


def weighted_layers(model):
    """Conv, ConvTranspose, Gemm and MatMul with a constant weight: node, weight, channel axis."""
    constants = {tensor.name for tensor in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.input[1] not in constants:
            continue
        transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or node.op_type == "Gemm" and transposed else 1
        layers.append((node.name or node.output[0], node.input[1], node.input[0], axis))
    return layers


def fake_quantized(weight, bits, axis):
    """Symmetric, per output channel, codes within ±(2^(bits-1) - 1), as ours; two bits are ternary."""
    import numpy as np

    rows = np.moveaxis(weight, axis, 0)
    flat = rows.reshape(rows.shape[0], -1)
    limit = 2 ** (bits - 1) - 1
    scale = (np.abs(flat).max(1) / np.float32(limit)).astype("f4")
    scale = np.where(scale == 0, np.float32(1), scale)[:, None]
    codes = np.clip(np.rint((flat / scale).astype("f4")), -limit, limit)
    return np.ascontiguousarray(np.moveaxis((codes * scale).astype("f4").reshape(rows.shape), 0, axis))


def sqnr_db(reference, other):
    import numpy as np

    reference = reference.astype("f8")
    noise = ((reference - other) ** 2).sum()
    return float("inf") if noise == 0 else float(10 * np.log10((reference**2).sum() / noise))


def session_loop(options, network, count, batch):
    """Sensitivity by a session for every (layer, width): seconds, and {layer: {width: (top-1, SQNR)}}."""
    import onnx
    from onnx import numpy_helper

    x, y = network.samples[:count], network.labels[:count]
    started = time.perf_counter()
    model = onnx.load(network.path)
    reference = run_batches(session(options, model), x, batch)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    cells = {}
    for name, weight, _, axis in weighted_layers(model):
        tensor = initializers[weight]
        float_tensor = tensor.SerializeToString()
        values = numpy_helper.to_array(tensor)
        for bits in WIDTHS:
            tensor.CopyFrom(numpy_helper.from_array(fake_quantized(values, bits, axis), weight))
            logits = run_batches(session(options, model), x, batch)
            top1 = float((logits.argmax(1) == y).mean())
            cells.setdefault(name, {})[bits] = (top1, sqnr_db(reference, logits))
        tensor.ParseFromString(float_tensor)
    return time.perf_counter() - started, cells


def torch_loop(options, network, count, batch):
    """The same sweep on a PyTorch module made from the file: seconds."""
    import torch
    from onnx2torch import convert

    torch.set_num_threads(options.threads)
    module = convert(str(network.path)).eval()
    x = torch.from_numpy(network.samples[:count])

    def logits():
        with torch.inference_mode():
            return torch.cat([module(x[i : i + batch]) for i in range(0, count, batch)]).numpy()

    logits()
    started = time.perf_counter()
    reference = logits()
    for part in module.modules():
        if not isinstance(part, (torch.nn.Conv2d, torch.nn.Linear)):
            continue
        values = part.weight.detach().numpy().copy()
        for bits in WIDTHS:
            with torch.no_grad():
                part.weight.copy_(torch.from_numpy(fake_quantized(values, bits, 0)))
            result = logits()
            (result.argmax(1) == network.labels[:count]).mean()
            sqnr_db(reference, result)
        with torch.no_grad():
            part.weight.copy_(torch.from_numpy(values))
    return time.perf_counter() - started


def input_ranges(options, model, layers, calibration, batch):
    """Extremes of every layer's input over the calibration samples, widened to contain zero."""
    import onnx
    from onnx import helper

    graph_inputs = {value.name for value in model.graph.input}
    names = sorted({name for _, _, name, _ in layers} - graph_inputs)
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    tapped.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
    runner = session(options, tapped)
    feed = runner.get_inputs()[0].name
    extremes = {feed: (float(calibration.min()), float(calibration.max()))}
    for i in range(0, len(calibration), batch):
        for name, value in zip(names, runner.run(names, {feed: calibration[i : i + batch]})):
            low, high = extremes.get(name, (0.0, 0.0))
            extremes[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return {name: (min(low, 0.0), max(high, 0.0)) for name, (low, high) in extremes.items()}


def quantizer_loop(options, network, count, batch, ranges):
    """A session for every quantizer alone, as one QuantizeLinear-DequantizeLinear pair at 8 bits: seconds, number."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    x, y = network.samples[:count], network.labels[:count]
    started = time.perf_counter()
    base = onnx.load(network.path)
    layers = weighted_layers(base)
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in base.graph.initializer}

    def measure(node_name, slot, tensor, scale, zero_point, axis):
        model = onnx.ModelProto()
        model.CopyFrom(base)
        constants = [numpy_helper.from_array(scale, "pair_scale"), numpy_helper.from_array(zero_point, "pair_zero")]
        model.graph.initializer.extend(constants)
        about = {} if axis is None else {"axis": axis}
        pair = [
            helper.make_node("QuantizeLinear", [tensor, "pair_scale", "pair_zero"], ["pair_q"], "pair_q", **about),
            helper.make_node("DequantizeLinear", ["pair_q", "pair_scale", "pair_zero"], ["pair_x"], "pair_x", **about),
        ]
        nodes = list(model.graph.node)
        at = next(i for i, node in enumerate(nodes) if (node.name or node.output[0]) == node_name)
        nodes[at].input[slot] = "pair_x"
        del model.graph.node[:]
        model.graph.node.extend(nodes[:at] + pair + nodes[at:])
        logits = run_batches(session(options, model), x, batch)
        return float((logits.argmax(1) == y).mean())

    for name, weight, source, axis in layers:
        values = np.moveaxis(initializers[weight], axis, 0)
        scale = (np.abs(values.reshape(values.shape[0], -1)).max(1) / np.float32(127)).astype("f4")
        scale = np.where(scale == 0, np.float32(1), scale)
        measure(name, 1, weight, scale, np.zeros(len(scale), "i1"), axis)
        low, high = ranges[source]
        scale = np.float32((high - low) / 255) or np.float32(1)
        zero_point = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        measure(name, 0, source, np.array(scale, "f4"), np.array(zero_point), None)
    return time.perf_counter() - started, 2 * len(layers)


def aimet_loop(options, network, count, batch):
    """AIMET's own analysis at W8A8: seconds of the analysis alone (calibration before it), number of layers."""
    import onnx
    from aimet_onnx import QuantizationSimModel
    from aimet_onnx.quant_analyzer import analyze_per_layer_sensitivity

    x, y = network.samples[:count], network.labels[:count]
    settings = {"intra_op_num_threads": options.threads, "inter_op_num_threads": 1}
    sim = QuantizationSimModel(
        onnx.load(network.path), providers=["CPUExecutionProvider"], session_options_kwargs=settings
    )
    sim.compute_encodings(lambda runner: run_batches(runner, network.calibration, batch))
    accuracy = lambda runner: float((run_batches(runner, x, batch).argmax(1) == y).mean())
    started = time.perf_counter()
    scores = analyze_per_layer_sensitivity(sim, accuracy)
    return time.perf_counter() - started, len(scores)


def qdq_model(network, folder):
    """ONNX Runtime's own static quantization: QDQ, per channel, u8 inputs and s8 weights; the file."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    import onnx

    feed = onnx.load(network.path).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter(network.calibration[i : i + 50] for i in range(0, len(network.calibration), 50))

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {feed: batch}

    prepared, quantized = folder / f"{network.name}-prepared.onnx", folder / f"{network.name}-qdq.onnx"
    quant_pre_process(str(network.path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(quantized),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return quantized


# ---------------------------------------------------------------- the table


class Table:
    """Rows of the comparison; each is printed to standard error as it is known."""

    def __init__(self):
        self.lines = []
        self.notes = []

    def add(self, work, ours, theirs, ratio):
        line = f"| {work} | {ours} | {theirs} | {ratio} |"
        self.lines.append(line)
        print(line, file=sys.stderr, flush=True)

    def speeds(self, work, ours, theirs, samples):
        """A row of images per second, from seconds for `samples`; the ratio is ours over theirs."""
        show = lambda runs: f"{samples / min(runs):,.0f} ({samples / statistics.median(runs):,.0f}) img/s"
        self.add(work, show(ours), show(theirs), ratio_text(theirs, ours))

    def seconds(self, work, ours, theirs, their_tool):
        """A row of seconds; the ratio is theirs over ours, so that it is how many times faster ours is."""
        show = lambda runs: f"{min(runs):.2f} ({statistics.median(runs):.2f}) s"
        self.add(work, show(ours), f"{show(theirs)} {their_tool}", ratio_text(theirs, ours))

    def markdown(self, options):
        head = "| work | ours, best (median) | theirs, best (median) | ratio of the best (of the medians) |\n|---|---|---|---|"
        return "\n".join([head, *self.lines, "", machine(options), *self.notes])


def ratio_text(above, below):
    best = min(above) / min(below)
    median = statistics.median(above) / statistics.median(below)
    return f"**{best:.2f}** ({median:.2f})"


def machine(options):
    import numpy
    import onnxruntime

    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in cpu.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    known = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"]
    sets = [name for name in known if name in fields.get("flags", "").split()]
    version = subprocess.run([options.binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"{fields.get('model name', platform.processor() or platform.machine())}, family {fields.get('cpu family', '?')} "
        f"model {fields.get('model', '?')}, {os.cpu_count()} cores, {' '.join(sets)}; {options.threads} threads each; "
        f"{platform.system()}; {version}; ONNX Runtime {onnxruntime.__version__}, NumPy {numpy.__version__}, "
        f"Python {platform.python_version()}."
    )


def take_turns(rounds, ours, theirs):
    """Runs both in turn; all seconds of both."""
    a, b = [], []
    for _ in range(rounds):
        a += ours()
        b += theirs()
    return a, b


FORWARD = [
    # model, batch, samples of one run
    ("resnet20-cifar10", 100, 500),
    ("mobilenetv1-025-imagenet", 16, 96),
    ("wnet-drive", 1, 6),
    ("yolox-nano-coco", 1, 16),
]
CLASSIFIERS = FORWARD[:2]


def float_rows(options, table, networks, folder):
    """Forward passes of the float network over decoded samples; preparing is not timed on either side."""
    for name, batch, count in FORWARD:
        if not (network := networks.get(name)):
            continue
        runner = session(options, network.path)
        x = network.samples[:count]
        ours, theirs = take_turns(
            options.rounds,
            lambda: bench(options, network, count, "float", "--batch", batch, "--repeat", 2)["float"]["runs"],
            lambda: forward_runs(runner, x, batch, 2),
        )
        table.speeds(f"float forward, {name}, batch {batch}", ours, theirs, count)


def plan_rows(options, table, networks, folder):
    """Forward passes at W8A8; theirs is what `quantize_static` makes of the same file."""
    for name, batch, count in CLASSIFIERS:
        if not (network := networks.get(name)):
            continue
        runner = session(options, qdq_model(network, folder))
        x = network.samples[:count]
        ours, theirs = take_turns(
            options.rounds,
            lambda: bench(options, network, count, "plan", "--batch", batch, "--repeat", 2)["plan"]["runs"],
            lambda: forward_runs(runner, x, batch, 2),
        )
        table.speeds(f"W8A8 forward, {name}, batch {batch}, against QDQ", ours, theirs, count)


def overhead_rows(options, table, networks, folder):
    """A plan against our own float network, in turn within one process; the ratio is its cost, below is better."""
    for name, batch, count in FORWARD:
        if not (network := networks.get(name)):
            continue
        for weights, activations in [(8, 8), (4, 6), (3, 16)]:
            words = ["--batch", batch, "--repeat", 2, "--weights", weights, "--activations", activations]
            plan, floats = [], []
            for _ in range(options.rounds):
                document = bench(options, network, count, "float,plan", *words)
                plan += document["plan"]["runs"]
                floats += document["float"]["runs"]
            show = lambda runs: f"{count / min(runs):,.0f} ({count / statistics.median(runs):,.0f}) img/s"
            table.add(
                f"W{weights}A{activations} forward, {name}, batch {batch}, against own float",
                show(plan),
                f"{show(floats)} own float",
                f"costs {ratio_text(plan, floats)}×",
            )


def sensitivity_rows(options, table, networks, folder):
    """Only-one weight sensitivity: float reference, quantizing, packing, running, top-1 and SQNR, on both sides."""
    for (name, batch, _), count in zip(CLASSIFIERS, (500, 100)):
        if not (network := networks.get(name)):
            continue
        bits = ",".join(map(str, WIDTHS))
        cells = {}

        def theirs():
            seconds, found = session_loop(options, network, count, batch)
            cells.update(found)
            return [seconds]

        ours, others = take_turns(
            min(options.rounds, 3),
            lambda: bench(options, network, count, "sensitivity", "--bits", bits, "--repeat", 1)["sensitivity"]["runs"],
            theirs,
        )
        work = f"sensitivity of weights, {name}, {len(cells)} layers × {len(WIDTHS)} widths, {count} images"
        table.seconds(work, ours, others, "a loop over ONNX Runtime sessions")
        if options.torch:
            runs = [torch_loop(options, network, count, batch)]
            table.seconds(work, ours, runs, "a loop in PyTorch")
        table.notes.append(agreement(options, network, count, bits, cells))


def agreement(options, network, count, bits, cells):
    """How near the cells of both sides are, on the same samples."""
    document = quantscope(
        options, "sensitivity", network.path, "--data", network.limited(count), "--calib", network.folder / "calib",
        "--bits", bits, "--threads", options.threads,
    )
    top1, sqnr, compared = 0.0, 0.0, 0
    for layer in document["layers"]:
        for width, cell in layer["bits"].items():
            if layer["name"] not in cells:
                continue
            their_top1, their_sqnr = cells[layer["name"]][int(width)]
            top1 = max(top1, abs(cell["top1"] - their_top1))
            sqnr = max(sqnr, abs(float(cell["sqnr_db"]) - their_sqnr))
            compared += 1
    return (
        f"\nSame numbers: over {compared} cells of {network.name} the largest difference is "
        f"{100 * top1:.2f} points of top-1 and {sqnr:.3f} dB of output SQNR."
    )


def aimet_rows(options, table, networks, folder):
    """Every quantizer on its own at 8 bits; calibration is not timed on either side."""
    for (name, batch, _), count in zip(CLASSIFIERS, (500, 200)):
        if not (network := networks.get(name)):
            continue
        if options.aimet:
            tool = "AIMET-ONNX analyze_per_layer_sensitivity"
            other = lambda: aimet_loop(options, network, count, batch)
        else:
            import onnx

            tool = "a loop over ONNX Runtime sessions with one QDQ pair each"
            model = onnx.load(network.path)
            ranges = input_ranges(options, model, weighted_layers(model), network.calibration, 50)
            other = lambda: quantizer_loop(options, network, count, batch, ranges)
        numbers = {}

        def theirs():
            seconds, numbers["theirs"] = other()
            return [seconds]

        def ours():
            document = bench(options, network, count, "quantizers", "--repeat", 1)["quantizers"]
            numbers["ours"] = document["cells"]
            return document["runs"]

        first, second = take_turns(min(options.rounds, 3), ours, theirs)
        work = f"every quantizer alone at W8A8, {name}, {count} images, {numbers['ours']} quantizers"
        table.seconds(work, first, second, f"{tool}, {numbers['theirs']}")


def local_rows(options, table, networks, folder):
    """Output error of every layer alone at 8 widths, quantizing and packing included, against own float passes."""
    count = 256
    for name, _, _ in CLASSIFIERS:
        if not (network := networks.get(name)):
            continue
        ours, floats = [], []
        for _ in range(min(options.rounds, 3)):
            words = ["--bits", "8,7,6,5,4,3,2,1", "--repeat", 1]
            document = bench(options, network, count, "local-errors", *words)["local_errors"]
            ours += document["runs"]
            floats += document["float_runs"]
        show = lambda runs: f"{min(runs):.2f} ({statistics.median(runs):.2f}) s"
        table.add(
            f"local error of every layer at 8 widths, {name}, {count} images",
            show(ours),
            f"{show(floats)} own float pass",
            f"{ratio_text(ours, floats)} float passes",
        )


def reevaluation_rows(options, table, networks, folder):
    """The last third of the layers changed: evaluating again with what was kept, against a cold evaluation."""
    if "reevaluation" not in subprocess.run([options.binary, "bench", "--help"], capture_output=True, text=True).stdout:
        table.notes.append("\nRe-evaluation is not measured: this binary does not offer it.")
        return
    network = networks.get("resnet20-cifar10")
    if not network:
        return
    warm, cold = [], []
    for _ in range(min(options.rounds, 3)):
        document = bench(options, network, len(network.samples), "reevaluation", "--repeat", 1)["reevaluation"]
        warm += document["warm_runs"]
        cold += document["cold_runs"]
    show = lambda runs: f"{min(runs):.2f} ({statistics.median(runs):.2f}) s"
    work = f"last third of the layers changed, {network.name}, {len(network.samples)} images"
    table.add(work, show(warm), f"{show(cold)} own cold evaluation", f"{ratio_text(warm, cold)} of it")


def main():
    options = arguments()
    enter_environment(options)
    wanted = [word for word in options.models.split(",") if word]
    names = [name for name, _, _ in FORWARD if not wanted or any(word in name for word in wanted)]
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        networks = {name: Network(options, name, folder) for name in names}
        for row in ROWS:
            if row in options.rows:
                globals()[f"{row}_rows"](options, table, networks, folder)
    text = table.markdown(options)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
