"""Spiking VGG: convolutions of 3x3 in a row, with or without norms, and three linear layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from .. import layer
from ..errors import check_choice, check_whole
from ..neuron import IFNode
from .blocks import NeuronMaker, check_sizes, make_neuron, named, refuse_pretrained
from .resnet import Norm

__all__ = [
    "SpikingVGG",
    "spiking_vgg11",
    "spiking_vgg11_bn",
    "spiking_vgg13",
    "spiking_vgg13_bn",
    "spiking_vgg16",
    "spiking_vgg16_bn",
    "spiking_vgg19",
    "spiking_vgg19_bn",
]

_WIDTHS = (64, 128, 256, 512, 512)
_REPEATS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2,) * 5, "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def _configuration(repeats: Sequence[int]) -> tuple[int | str, ...]:
    made: list[int | str] = []
    for width, times in zip(_WIDTHS, repeats, strict=True):
        made += [*[width] * times, "M"]
    return tuple(made)


CONFIGURATIONS = {name: _configuration(repeats) for name, repeats in _REPEATS.items()}
"""To each depth the channels of its convolutions, with an M where a pool halves the size."""

FILES = {
    "vgg11": "vgg11-8a719046.pth",
    "vgg13": "vgg13-19584684.pth",
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "vgg11_bn": "vgg11_bn-6002323d.pth",
    "vgg13_bn": "vgg13_bn-abd245e5.pth",
    "vgg16_bn": "vgg16_bn-6c64b313.pth",
    "vgg19_bn": "vgg19_bn-c79401a0.pth",
}


def check_configuration(owner: str, cfg: Any, pools: Iterable[str]) -> tuple[int | str, ...]:
    """The entries of `cfg`; refuses what is neither channels of a convolution nor one of the `pools`."""
    entries = tuple(cfg) if isinstance(cfg, Iterable) and not isinstance(cfg, str) else ()
    if not entries:
        raise ValueError(f"{owner}: cfg must be several channels and pools, as (64, 'M', 512), but got {cfg!r}.")
    for held in entries:
        if isinstance(held, str):
            check_choice(owner, "each of cfg", held, pools)
        else:
            check_whole(owner, "each of cfg", held)
    return entries


class SpikingVGG(nn.Module):
    """Convolutions of 3x3, each with its neuron, and three linear layers with dropout: images to scores.

    - `cfg`: the channels of the convolutions, and `'M'` for a pool. `batch_norm`: whether a norm follows each of them;
      `norm_layer`: a function of the number of channels that makes it.
    - `init_weights`: draw the weights as the paper's code does; else they stay as PyTorch draws them.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments.

    Simonyan and Zisserman, *Very deep convolutional networks for large-scale image recognition* (ICLR 2015).

    >>> with torch.device("meta"):  # 90 million weights
    ...     net = SpikingVGG((64, "M", 512, "M"), batch_norm=True, num_classes=10)
    >>> [type(held).__name__ for held in net.features[:4]]
    ['Conv2d', 'BatchNorm2d', 'IFNode', 'MaxPool2d']
    """

    def __init__(
        self,
        cfg: Sequence[int | str],
        batch_norm: bool = False,
        norm_layer: Norm | None = None,
        num_classes: int = 1000,
        init_weights: bool = True,
        spiking_neuron: NeuronMaker | None = IFNode,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, num_classes=num_classes)
        cfg = check_configuration(type(self).__name__, cfg, ("M",))
        spiking_neuron = spiking_neuron or IFNode
        norm = (norm_layer or layer.BatchNorm2d) if batch_norm else None
        self.features = self.make_layers(cfg, norm, spiking_neuron, kwargs)
        self.avgpool = layer.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            layer.Linear(512 * 7 * 7, 4096),
            make_neuron(spiking_neuron, kwargs),
            layer.Dropout(),
            layer.Linear(4096, 4096),
            make_neuron(spiking_neuron, kwargs),
            layer.Dropout(),
            layer.Linear(4096, num_classes),
        )
        if init_weights:
            initialise(self)

    @staticmethod
    def make_layers(
        cfg: Sequence[int | str], norm: Norm | None, spiking_neuron: NeuronMaker, options: dict[str, Any]
    ) -> nn.Sequential:
        """The convolutions with their norms, neurons and pools."""
        layers: list[nn.Module] = []
        channels = 3
        for held in cfg:
            if isinstance(held, str):
                layers.append(layer.MaxPool2d(2, 2))
                continue
            layers.append(layer.Conv2d(channels, held, 3, padding=1))
            if norm is not None:
                layers.append(norm(held))
            layers.append(make_neuron(spiking_neuron, options))
            channels = held
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of one step `[N, 3, H, W]`, or of each step of a sequence."""
        return self.classifier(self.avgpool(self.features(x)).flatten(-3))


def initialise(net: nn.Module) -> None:
    """Draw the weights of a VGG: convolutions by their fan-out, linear layers with a deviation of 0.01, biases 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _plain(arch: str) -> Any:
    name = f"spiking_{arch}"

    def build(
        pretrained: bool = False, progress: bool = True, spiking_neuron: NeuronMaker = IFNode, **kwargs: Any
    ) -> SpikingVGG:
        refuse_pretrained(pretrained, name, arch, FILES[arch])
        return SpikingVGG(CONFIGURATIONS[arch], spiking_neuron=spiking_neuron, **kwargs)

    return named(build, name, __name__, f"A `SpikingVGG` of {arch[3:]} layers with weights, without norms.")


def _normed(arch: str) -> Any:
    name = f"spiking_{arch}_bn"

    def build(
        pretrained: bool = False,
        progress: bool = True,
        norm_layer: Norm | None = None,
        spiking_neuron: NeuronMaker = IFNode,
        **kwargs: Any,
    ) -> SpikingVGG:
        refuse_pretrained(pretrained, name, f"{arch}_bn", FILES[f"{arch}_bn"])
        return SpikingVGG(CONFIGURATIONS[arch], True, norm_layer, spiking_neuron=spiking_neuron, **kwargs)

    return named(build, name, __name__, f"A `SpikingVGG` of {arch[3:]} layers with weights, and norms.")


spiking_vgg11, spiking_vgg11_bn = _plain("vgg11"), _normed("vgg11")
spiking_vgg13, spiking_vgg13_bn = _plain("vgg13"), _normed("vgg13")
spiking_vgg16, spiking_vgg16_bn = _plain("vgg16"), _normed("vgg16")
spiking_vgg19, spiking_vgg19_bn = _plain("vgg19"), _normed("vgg19")
