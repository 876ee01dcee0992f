"""Spiking ResNet: the residual network of He et al. with a neuron in the place of every ReLU."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..neuron import IFNode
from .blocks import NeuronMaker, refuse_pretrained
from .blocks import conv1x1 as conv1x1
from .blocks import conv3x3 as conv3x3
from .resnet import ARCHITECTURES, WEIGHT_FILES, BasicPath, BottleneckPath, Path, ResNet, variant

__all__ = [
    "SpikingResNet",
    "spiking_resnet18",
    "spiking_resnet34",
    "spiking_resnet50",
    "spiking_resnet101",
    "spiking_resnet152",
    "spiking_resnext50_32x4d",
    "spiking_resnext101_32x8d",
    "spiking_wide_resnet50_2",
    "spiking_wide_resnet101_2",
]  # fmt: skip


class _Summed(Path):
    r"""What makes a block of a path: the shortcut joins before the last neuron, $y = \text{SN}(F(x) + x)$."""

    def forward(self, x: Tensor) -> Tensor:
        """One step or one sequence."""
        return self.last_neuron(self.before_last_neuron(x) + self.shortcut(x))


class BasicBlock(_Summed, BasicPath):
    r"""Two convolutions, and the shortcut joins before the last neuron: $y = \text{SN}(F(x) + x)$."""


class Bottleneck(_Summed, BottleneckPath):
    r"""Three convolutions, and the shortcut joins before the last neuron: $y = \text{SN}(F(x) + x)$."""


class SpikingResNet(ResNet):
    r"""A residual network whose activations are spikes: each block gives $\text{SN}(F(x) + x)$.

    A spike of the shortcut passes a block only if the neuron at its end lets it, which makes deep ones hard to train;
    `SEWResNet` and `MSResNet` were made for that. For the arguments see `models.resnet.ResNet`.

    He et al., *Deep residual learning for image recognition* (CVPR 2016).

    >>> net = SpikingResNet(BasicBlock, (1, 1, 1, 1), num_classes=10, tau=2.0, spiking_neuron=spikescope.neuron.LIFNode)
    >>> net(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """


def _variant(arch: str) -> Any:
    kind, layers, fixed = ARCHITECTURES[arch]
    block: Any = {"basic": BasicBlock, "bottleneck": Bottleneck}[kind]

    def build(
        pretrained: bool = False, progress: bool = True, spiking_neuron: NeuronMaker = IFNode, **kwargs: Any
    ) -> SpikingResNet:
        refuse_pretrained(pretrained, f"spiking_{arch}", arch, WEIGHT_FILES[arch])
        return SpikingResNet(block, layers, spiking_neuron=spiking_neuron, **kwargs | fixed)

    return variant(build, SpikingResNet, "spiking", arch)


spiking_resnet18 = _variant("resnet18")
spiking_resnet34 = _variant("resnet34")
spiking_resnet50 = _variant("resnet50")
spiking_resnet101 = _variant("resnet101")
spiking_resnet152 = _variant("resnet152")
spiking_resnext50_32x4d = _variant("resnext50_32x4d")
spiking_resnext101_32x8d = _variant("resnext101_32x8d")
spiking_wide_resnet50_2 = _variant("wide_resnet50_2")
spiking_wide_resnet101_2 = _variant("wide_resnet101_2")
