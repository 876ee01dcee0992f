"""Small networks of the papers, as their code makes them and as this library does, with numbers that are exact."""

import math
import re

import torch
from model_cases import numbers

from spikescope import models, neuron

PLIF = {"channels": 8, "spiking_neuron": neuron.ParametricLIFNode, "init_tau": 2.0}

CASES = {  # to each layout what makes the network here, and the shape of an input of the published code
    "Spikformer, CIFAR": (
        lambda: models.Spikformer(patch_size=4, embed_dims=32, num_heads=4, depths=1, num_classes=4),
        (2, 3, 16, 16),
    ),
    "Spikformer, CIFAR10-DVS": (
        lambda: models.Spikformer(in_channels=2, embed_dims=32, num_heads=4, depths=1, num_classes=4),
        (2, 4, 2, 128, 128),
    ),
    "Spikformer, ImageNet": (
        lambda: models.Spikformer(embed_dims=32, num_heads=4, depths=1, num_classes=4),
        (2, 3, 32, 32),
    ),
    "QKFormer, CIFAR": (
        lambda: models.qkformer_4_384(embed_dims=32, num_classes=4),
        (1, 3, 16, 16),
    ),
    "QKFormer, CIFAR10-DVS": (
        lambda: models.qkformer_2_256_dvs(embed_dims=32, num_classes=4),
        (1, 4, 2, 32, 32),
    ),
    "QKFormer, ImageNet": (
        lambda: models.qkformer_10_384(embed_dims=32, num_heads=(4, 4, 4), depths=(1, 2, 1), num_classes=4),
        (1, 3, 32, 32),
    ),
    "Spike-driven Transformer": (
        lambda: models.SpikeDrivenTransformer(embed_dims=32, depths=1, num_classes=4),
        (2, 3, 32, 32),
    ),
    "Spike-driven Transformer, events": (
        lambda: models.sdt_2_256_dvs(embed_dims=32, depths=1, num_classes=4),
        (2, 4, 2, 16, 16),
    ),
    "SEW-ResNet": (lambda: models.sew_resnet18(num_classes=4), (1, 3, 32, 32)),
    "SEW-ResNet, bottlenecks": (
        lambda: models.SEWResNet(models.sew_resnet.Bottleneck, (1, 1, 1, 1), num_classes=4, cnf="IAND"),
        (1, 3, 32, 32),
    ),
    "Spiking ResNet": (lambda: models.spiking_resnet18(num_classes=4), (1, 3, 32, 32)),
    "MS-ResNet": (lambda: models.ms_resnet18(num_classes=4), (1, 3, 32, 32)),
    "MS-ResNet, deep": (lambda: models.MSResNet(layers=(1, 1, 1, 1), deep=True, num_classes=4), (1, 3, 32, 32)),
    "PLIF net, N-MNIST": (lambda: models.NMNISTNet(**PLIF, hidden=128), (2, 4, 2, 34, 34)),
    "PLIF net, CIFAR10-DVS": (lambda: models.CIFAR10DVSNet(**PLIF, hidden=128), (2, 4, 2, 128, 128)),
    "PLIF net, DVS128 Gesture": (lambda: models.DVSGestureNet(**PLIF, hidden=32), (2, 4, 2, 128, 128)),
}


def exact_weights(shapes):
    """A state of these names and shapes whose numbers are small multiples of powers of two.

    A norm multiplies by a power of two, so that sums are exact in every order.
    """
    norms = {name.rpartition(".")[0] for name in shapes if name.endswith("running_var")}
    return {name: _exact(name, tuple(shape), name.rpartition(".")[0] in norms) for name, shape in shapes.items()}


def _exact(name, shape, of_norm):
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.tensor(0)
    if leaf == "running_var":
        return torch.full(shape, 1 - 1e-5)
    if leaf == "w":  # a time constant of 2
        return torch.zeros(shape)
    if leaf == "weight" and of_norm:
        return torch.full(shape, 16.0 if re.match(r"conv\.\d", name) else 4.0)  # the PLIF nets would be silent
    if leaf == "weight" and len(shape) > 1:
        loud = 8 if re.match(r"fc\.\d", name) else 1
        return loud * numbers(shape, name, 4) / 2 ** round(math.log2(2 * math.prod(shape[1:]) ** 0.5))
    # the code of MS-ResNet fires above the threshold alone, this library at it too: no potential may be equal to it
    return numbers(shape, name, 2) / 4 + (1 / 512 if name.endswith(".bn.bias") else 0)
