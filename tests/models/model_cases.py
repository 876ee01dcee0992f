"""The networks that the tests build, and numbers for their weights with which every result is exact everywhere."""

import hashlib
import math
from contextlib import suppress

import torch
from torch import nn

from spikescope.models.table import VARIANTS

PERIOD = 65_537  # a prime, so that no two rows of a weight are equal

LARGE = 12_000_000  # parameters; beyond them `make models` alone builds the network

SMALL = {  # options that make a network quick without another structure
    **{name: {"base_channels": 8} for name in ("ms_resnet18", "ms_resnet34", "ms_resnet104")},
    "max_resnet18": {"base_channels": 16, "stage_channels": (16, 32, 64)},
    **{name: {"base_channels": 8} for name in VARIANTS if name.startswith("att_ms_resnet")},
    "masnn_dvs128_gesture": {"T": 2, "reduction_t": 2, "channels": (8, 8, 16), "fc_hidden": 16},
    **{name: {"depths": (1, 1, 1), "embed_dims": 64} for name in VARIANTS if name.startswith("maxformer")},
    **{name: {"channels": 8} for name, row in VARIANTS.items() if row.family == "parametric_lif_net"},
    **{
        name: {"depths": 1}
        for name, row in VARIANTS.items()
        if row.family in ("spikformer", "spike_driven_transformer")
    },
    **{name: {"depths": (1, 1, 1)} for name in VARIANTS if name.startswith("qkformer") and "dvs" not in name},
    "qkformer_2_256_dvs": {},
}
FIXED_SIZE = {"parametric_lif_net"}  # families whose linear layer follows a flattened map

REFERENCE = {  # what the outputs of the reference are kept of: a network or two of each family
    "sew_resnet18": {"num_classes": 10, "neuron": "LIFNode", "cnf": "ADD"},
    "sew_resnet50": {"num_classes": 10, "neuron": "IFNode", "cnf": "ADD"},
    "spiking_resnet18": {"num_classes": 10, "neuron": "LIFNode", "v_threshold": 0.25},
    "spiking_resnext50_32x4d": {"num_classes": 10, "neuron": "IFNode"},
    "ms_resnet18": {"num_classes": 10, "base_channels": 16},
    "max_resnet18": {"num_classes": 10},
    "att_ms_resnet18": {"num_classes": 10, "base_channels": 16},
    "masnn_dvs128_gesture": {"T": 6, "v_threshold": 0.1},
    "MNISTNet": {"channels": 8, "neuron": "IFNode", "v_threshold": 0.25},
    "NMNISTNet": {"channels": 8, "neuron": "IFNode", "v_threshold": 0.25},
    "CIFAR10Net": {"channels": 8, "neuron": "IFNode", "v_threshold": 0.25},
    "CIFAR10DVSNet": {"channels": 8, "neuron": "IFNode", "v_threshold": 0.25},
    "DVSGestureNet": {"channels": 8, "neuron": "LIFNode", "v_threshold": 0.125},
    "spikformer_ti": {"num_classes": 10},
    "spikformer_cifar10": {},
    "qkformer_10_384": {"num_classes": 10},
    "maxformer_10_384": {"num_classes": 10},
    "maxformer_cifar": {"num_classes": 10},
    "sdt_8_384": {"num_classes": 10},
}

IN_DOUBLE = {"masnn"}
"""Families whose gates are sigmoids, exact in no precision: their outputs are kept, and compared, in float64."""

TOLERANCE = 1e-12  # of the outputs in float64: what sums of some thousand products round to, in another order


def size_of(variant):
    """The size of the images that a test shows a network: that of its data set, or 32."""
    _, height, width = variant.image
    return (height, width) if variant.family in FIXED_SIZE else (32, 32)


def input_of(name, given):
    """Two steps of two images, or of as many steps as the network has."""
    return frames((given.get("T", 2), 2, VARIANTS[name].image[0], *size_of(VARIANTS[name])))


def numbers(shape, key, spread):
    """Whole numbers from `-spread` to `spread` that look random and are the same on every machine."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little")
    mixed = (torch.arange(PERIOD, dtype=torch.int64) + seed) * 2654435761 % 2**32
    mixed = (mixed ^ (mixed >> 15)) * 2246822519 % 2**32
    period = ((mixed ^ (mixed >> 13)) % (2 * spread + 1) - spread).float()
    size = math.prod(shape)
    return period.repeat(-(-size // PERIOD))[:size].view(shape)


def exact(net):
    """Give a network weights that are small multiples of powers of two, and norms that change nothing else.

    Then sums are exact in every order, so that results do not depend on the machine.
    """
    for key, module in net.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                module.weight.fill_(2.0)
                module.bias.copy_(numbers(module.bias.shape, key, 4) / 4)
                module.running_mean.zero_()
                module.running_var.fill_(1 - module.eps)
            assert torch.all((module.running_var + module.eps).rsqrt() == 1)
        elif isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.copy_(numbers(module.weight.shape, key, 4) / 2 ** round(math.log2(2 * fan_in**0.5)))
                if module.bias is not None:
                    module.bias.copy_(numbers(module.bias.shape, key + "b", 2) / 8)
    return net.eval()


def frames(shape):
    """An input of eighths."""
    return numbers(shape, "input", 8) / 8 + 0.5


def structure(net):
    """How many entries a state has, and a fingerprint of their names and shapes."""
    lines = sorted(f"{key} {list(held.shape)}" for key, held in net.state_dict().items())
    return {"entries": len(lines), "fingerprint": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]}


def beginnings(net):
    """The first numbers of the first and the last weights."""
    weights = [held for key, held in sorted(net.state_dict().items()) if key.endswith("weight") and held.ndim > 1]
    return [held.flatten()[:3].tolist() for held in (weights[0], weights[-1])]


def norms(net):
    """The weights that the norms begin with, each once."""
    kinds = nn.modules.batchnorm._BatchNorm
    held = [module.weight.flatten() for module in net.modules() if isinstance(module, kinds)]
    return sorted(set(torch.cat(held).tolist())) if held else []


def without_large_layers(net):
    """A network on the device meta, on the CPU with fresh weights, and with large linear layers made narrow."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Linear) and max(module.weight.shape) >= 4096:
            parent = net.get_submodule(name.rpartition(".")[0])
            wide_in, wide_out = module.in_features == 4096, module.out_features == 4096
            narrow = type(module)(16 if wide_in else module.in_features, 16 if wide_out else module.out_features)
            parent[int(name.rpartition(".")[2])] = narrow
    meta = [held for held in net.parameters() if held.is_meta]
    assert meta
    net.to_empty(device="cpu")
    for module in net.modules():
        with suppress(AttributeError):
            module.reset_parameters()
        with suppress(AttributeError):
            nn.init.ones_(module.gain)
    return net
