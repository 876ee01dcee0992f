"""SEW-ResNet: residual networks whose shortcut joins after the neuron, spike by spike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import check_choice
from ..neuron import IFNode
from .blocks import NeuronMaker, make_neuron, refuse_pretrained
from .blocks import conv1x1 as conv1x1
from .blocks import conv3x3 as conv3x3
from .resnet import ARCHITECTURES, WEIGHT_FILES, BasicPath, BottleneckPath, Norm, Path, ResNet, variant

__all__ = [
    "SEWResNet",
    "sew_resnet18",
    "sew_resnet34",
    "sew_resnet50",
    "sew_resnet101",
    "sew_resnet152",
    "sew_resnext50_32x4d",
    "sew_resnext101_32x8d",
    "sew_wide_resnet50_2",
    "sew_wide_resnet101_2",
]  # fmt: skip

JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ADD": lambda path, identity: path + identity,
    "AND": lambda path, identity: path * identity,
    "IAND": lambda path, identity: (1.0 - path) * identity,
}
"""How the spikes of the path and those of the shortcut become one."""


def sew_function(x: Tensor, y: Tensor, cnf: str) -> Tensor:
    """The identity `x` and the path `y` of a block, element by element: `x + y`, `x * y`, or `x * (1 - y)`.

    >>> sew_function(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), "IAND")
    tensor([1., 0.])
    """
    check_choice("sew_function", "cnf", cnf, JOINS)
    return JOINS[cnf](y, x)


class _Joined(Path):
    """What makes a block of a path: a neuron for a shortcut with weights, and the function that joins the two."""

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, groups: int = 1,
        base_width: int = 64, dilation: int = 1, norm_layer: Norm | None = None, cnf: str = "ADD",
        spiking_neuron: NeuronMaker | None = IFNode, **kwargs: Any,
    ) -> None:  # fmt: skip
        check_choice(type(self).__name__, "cnf", cnf, JOINS)
        super().__init__(
            inplanes, planes, stride, downsample, groups, base_width, dilation, norm_layer, spiking_neuron, **kwargs
        )
        if downsample is not None:
            self.downsample_sn = make_neuron(spiking_neuron or IFNode, kwargs)
        self.cnf = cnf

    def forward(self, x: Tensor) -> Tensor:
        """One step or one sequence."""
        path = self.last_neuron(self.before_last_neuron(x))
        identity = x if self.downsample is None else self.downsample_sn(self.downsample(x))
        return sew_function(identity, path, self.cnf)

    def extra_repr(self) -> str:
        return f"cnf={self.cnf}"


class BasicBlock(_Joined, BasicPath):
    r"""Two convolutions, whose spikes join those of the shortcut: $y = g(\text{SN}(F(x)),\ x)$."""


class Bottleneck(_Joined, BottleneckPath):
    r"""Three convolutions, whose spikes join those of the shortcut: $y = g(\text{SN}(F(x)),\ x)$."""


class SEWResNet(ResNet):
    r"""A residual network whose blocks join spikes element by element: $y = g(\text{SN}(F(x)),\ x)$.

    - `cnf`: g of the spikes A of the path and S of the shortcut, `'ADD'` for A + S (whole numbers, no longer spikes),
      `'AND'` for A * S, `'IAND'` for (1 - A) * S. With `zero_init_residual=True` and no spikes on the path, `'ADD'` and
      `'IAND'` begin as identities at any depth.

    For the other arguments see `models.resnet.ResNet`.

    Fang et al., *Deep residual learning in spiking neural networks* (NeurIPS 2021).

    >>> net = SEWResNet(BasicBlock, (1, 1, 1, 1), num_classes=10, cnf="ADD", spiking_neuron=spikescope.neuron.IFNode)
    >>> net(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        block: type[Path],
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        replace_stride_with_dilation: Sequence[bool] | None = None,
        norm_layer: Norm | None = None,
        cnf: str = "ADD",
        spiking_neuron: NeuronMaker | None = IFNode,
        **kwargs: Any,
    ) -> None:
        check_choice(type(self).__name__, "cnf", cnf, JOINS)
        super().__init__(
            block, layers, num_classes, zero_init_residual, groups, width_per_group, replace_stride_with_dilation,
            norm_layer, spiking_neuron, cnf=cnf, **kwargs,
        )  # fmt: skip

    def _of_neuron(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {name: held for name, held in kwargs.items() if name != "cnf"}


def _variant(arch: str) -> Any:
    kind, layers, fixed = ARCHITECTURES[arch]
    block: Any = {"basic": BasicBlock, "bottleneck": Bottleneck}[kind]

    def build(
        pretrained: bool = False,
        progress: bool = True,
        cnf: str = "ADD",
        spiking_neuron: NeuronMaker = IFNode,
        **kwargs: Any,
    ) -> SEWResNet:
        refuse_pretrained(pretrained, f"sew_{arch}", arch, WEIGHT_FILES[arch])
        return SEWResNet(block, layers, cnf=cnf, spiking_neuron=spiking_neuron, **kwargs | fixed)

    return variant(build, SEWResNet, "sew", arch)


sew_resnet18 = _variant("resnet18")
sew_resnet34 = _variant("resnet34")
sew_resnet50 = _variant("resnet50")
sew_resnet101 = _variant("resnet101")
sew_resnet152 = _variant("resnet152")
sew_resnext50_32x4d = _variant("resnext50_32x4d")
sew_resnext101_32x8d = _variant("resnext101_32x8d")
sew_wide_resnet50_2 = _variant("wide_resnet50_2")
sew_wide_resnet101_2 = _variant("wide_resnet101_2")
