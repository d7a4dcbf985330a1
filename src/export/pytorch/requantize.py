"""Quantizes the network again with PyTorch's own quantizers, as far as they can follow the plan.

PT2E with the x86 quantizer gives the layers in PT2E_LAYERS 8-bit kernels; torchao stores the linear layers in
WEIGHT_ONLY_LAYERS as 8-bit weights; those in LEFT_FLOAT stay in float, for the reason beside each. Ranges of
inputs are those of PyTorch's observers, not the plan's, so that the accuracy can differ a little. Module
names are those of the script beside this one; for a checkpoint they are the checkpoint's own, so that the functions
take your model too. Needs torch and torchao, and numpy where it is run by itself.

python SCRIPT calibration.npy
"""

import argparse
import importlib.util
from pathlib import Path

import torch

PT2E_LAYERS = []
WEIGHT_ONLY_LAYERS = {}
LEFT_FLOAT = {}


def float_network():
    """The network of the script beside this one, with the weights of the plan and float inputs."""
    path = Path(__file__).name.removesuffix(".requantize.py") + ".py"
    spec = importlib.util.spec_from_file_location("network", Path(__file__).with_name(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load()
    for layer in network.modules():
        if isinstance(layer, module.Layer):
            layer.input = torch.nn.Identity()
            if isinstance(layer.weight, module.Weight):
                value = layer.weight.value
                del layer.weight
                layer.register_buffer("weight", value)
    return network


def pt2e(network, example, calibration):
    """A copy of a network whose PT2E_LAYERS are quantized; `calibration` is a list of batches."""
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = x86.X86InductorQuantizer()
    for name in PT2E_LAYERS:
        quantizer.set_module_name_qconfig(name, x86.get_default_x86_inductor_quantization_config())
    batch = torch.export.Dim("batch", min=1, max=4096)
    exported = torch.export.export(network, (example,), dynamic_shapes=({0: batch},)).module()
    prepared = prepare_pt2e(exported, quantizer)
    for inputs in calibration:
        prepared(inputs)
    return convert_pt2e(prepared)


def weight_only(network):
    """Quantizes the torch.nn.Linear modules in WEIGHT_ONLY_LAYERS where they are."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(network, Int8WeightOnlyConfig(), lambda module, name: name in WEIGHT_ONLY_LAYERS)
    return network


def main():
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("calibration", help="preprocessed float32 inputs in an .npy file")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    inputs = torch.from_numpy(np.load(options.calibration).astype(np.float32))
    batches = list(inputs.split(options.batch))
    network = float_network()
    with torch.no_grad():
        quantized = pt2e(network, batches[0], batches)
        before, after = network(batches[0]), quantized(batches[0])
    before, after = (one if torch.is_tensor(one) else one[0] for one in (before, after))
    agree = float((before.argmax(1) == after.argmax(1)).float().mean())
    print(f"{len(PT2E_LAYERS)} layers on integers, {len(LEFT_FLOAT)} left in float")
    print(f"the same class as with float inputs: {100 * agree:.1f} % of the first batch")


if __name__ == "__main__":
    main()
