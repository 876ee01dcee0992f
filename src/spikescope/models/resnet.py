"""What the residual networks share: two forms of a block, and the network around its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from .. import layer
from ..neuron import IFNode
from .blocks import Build, NeuronMaker, check_several, check_sizes, conv1x1, conv3x3, make_neuron, named

__all__ = ["ARCHITECTURES", "WEIGHT_FILES", "BasicPath", "BottleneckPath", "Path", "ResNet", "variant"]

Norm = Callable[[int], nn.Module]

ARCHITECTURES: dict[str, tuple[str, tuple[int, int, int, int], dict[str, int]]] = {
    "resnet18": ("basic", (2, 2, 2, 2), {}),
    "resnet34": ("basic", (3, 4, 6, 3), {}),
    "resnet50": ("bottleneck", (3, 4, 6, 3), {}),
    "resnet101": ("bottleneck", (3, 4, 23, 3), {}),
    "resnet152": ("bottleneck", (3, 8, 36, 3), {}),
    "resnext50_32x4d": ("bottleneck", (3, 4, 6, 3), {"groups": 32, "width_per_group": 4}),
    "resnext101_32x8d": ("bottleneck", (3, 4, 23, 3), {"groups": 32, "width_per_group": 8}),
    "wide_resnet50_2": ("bottleneck", (3, 4, 6, 3), {"width_per_group": 128}),
    "wide_resnet101_2": ("bottleneck", (3, 4, 23, 3), {"width_per_group": 128}),
}
"""To each architecture the kind of its blocks, how many each of the four stages has, and what else is fixed."""

WEIGHT_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "resnext50_32x4d": "resnext50_32x4d-7cdf4587.pth",
    "resnext101_32x8d": "resnext101_32x8d-8ba56ff5.pth",
    "wide_resnet50_2": "wide_resnet50_2-95faca4d.pth",
    "wide_resnet101_2": "wide_resnet101_2-32ee1156.pth",
}


def variant(build: Build, network: type[nn.Module], prefix: str, arch: str) -> Build:
    """A function that makes a `network` of an architecture, with the name and the words that belong to it."""
    kind, layers, _ = ARCHITECTURES[arch]
    words = f"""A `{network.__name__}` of {kind} blocks, {"-".join(map(str, layers))}, for images `[N, 3, H, W]`.

    `kwargs` are arguments of `{network.__name__}` and of the neurons.
    """
    return named(build, f"{prefix}_{arch}", network.__module__, words)


class Path(nn.Module):
    """The convolutions of a block, each with its norm and its neuron. Subclasses say how the shortcut joins."""

    expansion: ClassVar[int]

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, groups: int = 1,
        base_width: int = 64, dilation: int = 1, norm_layer: Norm | None = None,
        spiking_neuron: NeuronMaker | None = IFNode, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        norm = norm_layer or layer.BatchNorm2d
        convolutions = self.convolutions(inplanes, planes, stride, groups, base_width, dilation)
        for at, conv in enumerate(convolutions, 1):
            self.add_module(f"conv{at}", conv)
            self.add_module(f"bn{at}", norm(conv.out_channels))
            self.add_module(f"sn{at}", make_neuron(spiking_neuron or IFNode, kwargs))
        self.depth = len(convolutions)
        self.downsample, self.stride = downsample, stride

    def convolutions(
        self, inplanes: int, planes: int, stride: int, groups: int, base_width: int, dilation: int
    ) -> list[Any]:
        """The convolutions one after another."""
        raise NotImplementedError

    def shortcut(self, x: Tensor) -> Tensor:
        """The input, in the shape of the output."""
        return x if self.downsample is None else self.downsample(x)

    def before_last_neuron(self, x: Tensor) -> Tensor:
        """What the last neuron of the path gets, without the shortcut."""
        for at in range(1, self.depth + 1):
            x = self.get_submodule(f"bn{at}")(self.get_submodule(f"conv{at}")(x))
            if at < self.depth:
                x = self.get_submodule(f"sn{at}")(x)
        return x

    @property
    def last_norm(self) -> Any:
        """The norm before the last neuron."""
        return self.get_submodule(f"bn{self.depth}")

    @property
    def last_neuron(self) -> nn.Module:
        """The neuron that ends the path."""
        return self.get_submodule(f"sn{self.depth}")


class BasicPath(Path):
    """Two convolutions of 3x3."""

    expansion = 1

    def convolutions(
        self, inplanes: int, planes: int, stride: int, groups: int, base_width: int, dilation: int
    ) -> list[Any]:
        if groups != 1 or base_width != 64 or dilation != 1:
            raise ValueError(
                f"{type(self).__name__} has groups=1, base_width=64 and dilation=1, but got {groups}, {base_width} and "
                f"{dilation}. Take a network of Bottleneck blocks, from 50 layers on."
            )
        return [conv3x3(inplanes, planes, stride), conv3x3(planes, planes)]


class BottleneckPath(Path):
    """A convolution of 3x3 between two of 1x1; the second one takes the stride."""

    expansion = 4

    def convolutions(
        self, inplanes: int, planes: int, stride: int, groups: int, base_width: int, dilation: int
    ) -> list[Any]:
        width = int(planes * (base_width / 64)) * groups
        inner = conv3x3(width, width, stride, groups, dilation)
        return [conv1x1(inplanes, width), inner, conv1x1(width, planes * self.expansion)]


class ResNet(nn.Module):
    """A residual network of four stages: `[N, 3, H, W]`, or `[T, N, 3, H, W]` in `step_mode='m'`, to scores.

    - `block`: a class of blocks. `layers`: how many of them each stage has.
    - `zero_init_residual`: begin with blocks whose last norm gives zeros.
    - `groups`, `width_per_group`: of the inner convolution of a bottleneck. `replace_stride_with_dilation`: for each of
      the last three stages, whether it dilates in place of halving the size.
    - `norm_layer`: a function of the number of channels that makes the norm after a convolution.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments.
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
        spiking_neuron: NeuronMaker | None = IFNode,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_sizes(owner, num_classes=num_classes, groups=groups, width_per_group=width_per_group)
        layers = check_several(owner, "layers", layers)
        dilate = (False, *(replace_stride_with_dilation or (False, False, False)))
        if len(dilate) != 4 or len(layers) != 4:
            raise ValueError(
                f"{owner} has four stages: layers must be four numbers, and replace_stride_with_dilation "
                f"None or three of True and False, but got {layers!r} and {replace_stride_with_dilation!r}."
            )
        norm = norm_layer or layer.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = 64, 1, groups, width_per_group
        self.conv1, self.bn1 = layer.Conv2d(3, 64, 7, 2, 3, bias=False), norm(64)
        self.sn1 = make_neuron(spiking_neuron or IFNode, self._of_neuron(kwargs))
        self.maxpool = layer.MaxPool2d(3, 2, 1)
        for stage, (blocks, widened) in enumerate(zip(layers, dilate, strict=True)):
            stride = 1 if stage == 0 else 2
            made = self._stage(block, 64 << stage, blocks, stride, widened, norm, spiking_neuron, kwargs)
            self.add_module(f"layer{stage + 1}", made)
        self.avgpool = layer.AdaptiveAvgPool2d((1, 1))
        self.fc = layer.Linear(512 * block.expansion, num_classes)
        self._initialise(zero_init_residual)

    def _of_neuron(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Of the arguments for a block those for its neurons."""
        return kwargs

    def _stage(
        self,
        block: type[Path],
        planes: int,
        blocks: int,
        stride: int,
        widened: bool,
        norm: Norm,
        spiking_neuron: NeuronMaker | None,
        kwargs: dict[str, Any],
    ) -> nn.Sequential:
        first_dilation, out = self.dilation, planes * block.expansion
        if widened:
            self.dilation, stride = self.dilation * stride, 1
        downsample = None
        if stride != 1 or self.inplanes != out:
            downsample = nn.Sequential(conv1x1(self.inplanes, out, stride), norm(out))
        options = {"groups": self.groups, "base_width": self.base_width, "norm_layer": norm, **kwargs}
        options["spiking_neuron"] = spiking_neuron
        made = [block(self.inplanes, planes, stride, downsample, dilation=first_dilation, **options)]
        self.inplanes = out
        made += [block(out, planes, dilation=self.dilation, **options) for _ in range(1, blocks)]
        return nn.Sequential(*made)

    def _initialise(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)) and module.affine:
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, Path):
                    nn.init.zeros_(module.last_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of one step `[N, num_classes]`, or of each step of a sequence."""
        x = self.maxpool(self.sn1(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(-3))
