"""Runs a model file on inputs in .npy files and writes every output as .npy.

Called by `quantscope export --verify` with a JSON file:
{"runtime": "onnxruntime" | "openvino" | "litert" | "torch", "input", "folder", "script",
 "inputs_channels_last", "outputs_channels_last": [bool…],
 "runs": [{"name", "model", "level": "plain" | "kept" | "optimized", "inputs": [file…], "outputs": [name…], "optimized_model"}…]}
Writes NAME-BATCH-OUTPUT.npy for each run and prints one line of JSON.
"""

import json
import sys

import numpy as np


def onnxruntime_runner(job, work):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    disabled = []
    if work["level"] == "plain":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Sums are added up in an order that depends on the number of threads.
        options.intra_op_num_threads = 1
    if work["level"] == "kept":
        # MatMulNBits would quantize its input to 8 bits, and this optimizer float weights.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        # Pairs of products would be cut to 16 bits on processors without VNNI.
        options.add_session_config_entry("session.x64quantprecision", "1")
        disabled = ["WeightBiasQuantization"]
    if work["optimized_model"]:
        options.optimized_model_filepath = work["optimized_model"]
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(
        work["model"], options, providers=providers, disabled_optimizers=disabled
    )
    return lambda array: session.run(work["outputs"], {job["input"]: array})


def openvino_runner(job, work):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    if work["level"] == "plain":
        # Quantize, dequantize and compute in float, as the graph says.
        settings["LP_TRANSFORMS_MODE"] = "NO"
    if work["level"] != "optimized":
        # Products of 8-bit weights and float inputs would quantize the inputs while they run.
        settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "0"
    compiled = core.compile_model(core.read_model(work["model"]), "CPU", settings)
    if work["level"] != "plain":
        job["layers"][work["name"]] = list(openvino_layers(compiled))
    request = compiled.create_infer_request()

    def run(array):
        request.infer({job["input"]: array})
        return [request.get_tensor(name).data.copy() for name in work["outputs"]]

    return run


def openvino_layers(compiled):
    """Operators that multiply by a weight, with the type that each is computed in."""
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        operator, precision = (str(facts[name].value) for name in ("layerType", "runtimePrecision"))
        if operator in ("Convolution", "Deconvolution", "FullyConnected", "MatMul"):
            yield {"operator": operator, "precision": precision.lower()}


def stored(array, detail):
    """Floats as the tensor stores them."""
    scale, zero_point = detail["quantization"]
    if detail["dtype"] == np.float32:
        return array.astype(np.float32)
    limits = np.iinfo(detail["dtype"])
    codes = np.round(array / np.float32(scale)) + zero_point
    return np.clip(codes, limits.min, limits.max).astype(detail["dtype"])


def floats(array, detail):
    """Numbers that the tensor stands for."""
    scale, zero_point = detail["quantization"]
    if detail["dtype"] == np.float32:
        return array
    return (array.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def litert_runner(job, work):
    from ai_edge_litert import interpreter as litert

    kinds = litert.OpResolverType
    kind = kinds.BUILTIN_REF if work["level"] == "plain" else kinds.AUTO
    model = litert.Interpreter(
        model_path=work["model"], experimental_op_resolver_type=kind, num_threads=2
    )
    inputs = model.get_input_details()
    [source] = [one for one in inputs if one["name"] == job["input"]]
    named = {one["name"]: one for one in model.get_output_details()}
    outputs = [named[name] for name in work["outputs"]]
    takes_batches = source["shape_signature"][0] == -1
    model.allocate_tensors()

    def infer(array):
        if tuple(array.shape) != tuple(model.get_input_details()[0]["shape"]):
            model.resize_tensor_input(source["index"], array.shape)
            model.allocate_tensors()
        model.set_tensor(source["index"], stored(array, source))
        model.invoke()
        return [floats(model.get_tensor(one["index"]), one) for one in outputs]

    def run(array):
        if job["inputs_channels_last"] and array.ndim == 4:
            array = array.transpose(0, 2, 3, 1)
        size = len(array) if takes_batches else source["shape"][0]
        parts = [infer(array[at : at + size]) for at in range(0, len(array), size)]
        found = [np.concatenate(arrays) for arrays in zip(*parts)]
        last = job["outputs_channels_last"]
        return [one.transpose(0, 3, 1, 2) if is_last else one for one, is_last in zip(found, last)]

    return run


def torch_runner(job, work):
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("exported", job["script"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load(work["model"])

    def run(array):
        with torch.no_grad():
            outputs = network(torch.from_numpy(array))
        outputs = [outputs] if torch.is_tensor(outputs) else outputs
        return [output.numpy() for output in outputs]

    return run


def version(runtime):
    if runtime == "litert":
        from importlib import metadata

        return metadata.version("ai-edge-litert")
    if runtime == "torch":
        import torch

        return torch.__version__
    if runtime == "openvino":
        import openvino

        return openvino.__version__
    import onnxruntime

    return onnxruntime.__version__


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    runners = {"openvino": openvino_runner, "torch": torch_runner, "litert": litert_runner}
    make = runners.get(job["runtime"], onnxruntime_runner)
    job["layers"] = {}
    for work in job["runs"]:
        run = make(job, work)
        for batch, path in enumerate(work["inputs"]):
            outputs = run(np.load(path))
            for index, output in enumerate(outputs):
                name = f"{job['folder']}/{work['name']}-{batch}-{index}.npy"
                np.save(name, np.ascontiguousarray(output, dtype=np.float32))
    print(json.dumps({"version": version(job["runtime"]), "layers": job["layers"]}))


main()
