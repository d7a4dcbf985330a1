"""Runs a model file on inputs in .npy files and writes every output as .npy.

Called by `quantscope export --verify` with a JSON file:
{"runtime": "onnxruntime" | "openvino" | "torch", "inputs": [file…], "input", "outputs": [name…],
 "folder", "script", "runs": [{"name", "model", "optimize"}…]}
Writes NAME-BATCH-OUTPUT.npy for each run and prints one line of JSON.
"""

import json
import sys

import numpy as np


def onnxruntime_runner(job, work):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not work["optimize"]:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(work["model"], options, providers=["CPUExecutionProvider"])
    return lambda array: session.run(job["outputs"], {job["input"]: array})


def openvino_runner(job, work):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(work["model"]), "CPU", settings)
    request = compiled.create_infer_request()

    def run(array):
        request.infer({job["input"]: array})
        return [request.get_tensor(name).data.copy() for name in job["outputs"]]

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
    runners = {"openvino": openvino_runner, "torch": torch_runner}
    make = runners.get(job["runtime"], onnxruntime_runner)
    for work in job["runs"]:
        run = make(job, work)
        for batch, path in enumerate(job["inputs"]):
            outputs = run(np.load(path))
            for index, output in enumerate(outputs):
                name = f"{job['folder']}/{work['name']}-{batch}-{index}.npy"
                np.save(name, np.ascontiguousarray(output, dtype=np.float32))
    print(json.dumps({"version": version(job["runtime"])}))


main()
