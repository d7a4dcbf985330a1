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
from torch import nn

PT2E_LAYERS = []
WEIGHT_ONLY_LAYERS = {}
LEFT_FLOAT = {}


def float_network():
    """The network of the script beside this one, with the weights of the plan in PyTorch's own modules."""
    path = Path(__file__).name.removesuffix(".requantize.py") + ".py"
    spec = importlib.util.spec_from_file_location("network", Path(__file__).with_name(path))
    kinds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kinds)
    network = kinds.load()
    layers = [(name, one) for name, one in network.named_modules() if isinstance(one, kinds.Layer)]
    for name, layer in layers:
        layer.input = nn.Identity()
        made = own_module(layer, kinds)
        if made is not None:
            parent, _, last = name.rpartition(".")
            network.get_submodule(parent).register_module(last, made)
    return network


def own_module(layer, kinds):
    """A layer as torch.nn.Conv2d, torch.nn.Linear and the like; None where it is neither."""
    weight = layer.weight.value if isinstance(layer.weight, kinds.Weight) else layer.weight.float()
    bias = None if layer.bias is None else layer.bias.flatten()
    settings = layer.attributes
    if isinstance(layer, kinds.Conv):
        kind = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[weight.dim()]
        channels = weight.shape[1] * settings.get("groups", 1)
        made = kind(channels, weight.shape[0], tuple(weight.shape[2:]), bias=bias is not None, **settings)
    else:
        plain = isinstance(layer, kinds.Gemm) and settings["alpha"] == settings["beta"] == 1.0
        if isinstance(layer, kinds.MatMul) or plain and not settings["trans_b"]:
            weight = weight.T
        elif not isinstance(layer, kinds.Linear) and not plain:
            return None
        if weight.dim() != 2 or plain and settings["trans_a"]:
            return None
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight.data = weight.contiguous()
    if bias is not None:
        made.bias.data = bias
    return made.eval()


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
