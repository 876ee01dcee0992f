"""VGG trained online through time: weight standardisation in place of norms, neurons that hand on their trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .. import layer
from ..errors import check_number
from ..neuron import OTTTLIFNode
from .blocks import NeuronMaker, check_sizes, make_neuron, named
from .spiking_vgg import CONFIGURATIONS, check_configuration, initialise

__all__ = [
    "OTTTSpikingVGG",
    "ottt_spiking_vgg11",
    "ottt_spiking_vgg11_ws",
    "ottt_spiking_vgg13",
    "ottt_spiking_vgg13_ws",
    "ottt_spiking_vgg16",
    "ottt_spiking_vgg16_ws",
    "ottt_spiking_vgg19",
    "ottt_spiking_vgg19_ws",
    "ottt_spiking_vggws",
]

SMALL: tuple[int | str, ...] = (64, 128, "A", 256, 256, "A", 512, 512, "A", 512, 512)
GAIN = 2.74  # of spikes behind a standardised weight, so that the potentials of the next layer have a deviation of 1


class Scale(nn.Module):
    """A constant factor.

    >>> Scale(2.0)(torch.tensor([1.5]))
    tensor([3.])
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """The input times the factor."""
        return x * self.scale

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class OTTTSpikingVGG(nn.Module):
    """A VGG for `functional.ottt_online_training`, in single steps `[N, 3, H, W]`.

    - `cfg`: the channels of the convolutions, `'M'` for a pool of the largest and `'A'` of the average.
    - `weight_standardization`: standardise the weights, which replaces norms: these would mix time steps.
    - `light_classifier`: one linear layer behind a pool to `fc_hw` x `fc_hw`; else the three of VGG with dropout.
    - `drop_rate`: of a dropout behind each convolution.
    - `spiking_neuron`, `kwargs`: what makes the neurons, and from which arguments.

    Xiao et al., *Online training through time for spiking neural networks* (NeurIPS 2022).

    >>> net = OTTTSpikingVGG((8, "A", 512), num_classes=10)
    >>> net(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        cfg: Sequence[int | str],
        weight_standardization: bool = True,
        num_classes: int = 1000,
        init_weights: bool = True,
        spiking_neuron: NeuronMaker | None = OTTTLIFNode,
        light_classifier: bool = True,
        drop_rate: float = 0.0,
        fc_hw: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, num_classes=num_classes, fc_hw=fc_hw)
        check_number(type(self).__name__, "drop_rate", drop_rate, least=0.0, most=1.0)
        cfg = check_configuration(type(self).__name__, cfg, ("M", "A"))
        spiking_neuron = spiking_neuron or OTTTLIFNode
        self.fc_hw = fc_hw
        self.features = self.make_layers(cfg, weight_standardization, spiking_neuron, drop_rate, **kwargs)
        if light_classifier:
            parts = [layer.AdaptiveAvgPool2d((fc_hw, fc_hw)), layer.Flatten(1)]
            self.classifier = layer.OTTTSequential(*parts, layer.Linear(512 * fc_hw**2, num_classes))
        else:
            linear = layer.WSLinear if weight_standardization else layer.Linear
            parts = [layer.AdaptiveAvgPool2d((7, 7)), layer.Flatten(1)]
            for features in (512 * 7 * 7, 4096):
                parts += [linear(features, 4096), make_neuron(spiking_neuron, kwargs)]
                parts += [Scale(GAIN if weight_standardization else 1.0), layer.Dropout()]
            self.classifier = layer.OTTTSequential(*parts, layer.Linear(4096, num_classes))
        if init_weights:
            initialise(self)

    @staticmethod
    def make_layers(
        cfg: Sequence[int | str],
        weight_standardization: bool = True,
        neuron: NeuronMaker = OTTTLIFNode,
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> layer.OTTTSequential:
        """The convolutions with their neurons and pools."""
        layers: list[nn.Module] = []
        conv = layer.WSConv2d if weight_standardization else layer.Conv2d
        pools = {"M": layer.MaxPool2d, "A": layer.AvgPool2d}
        channels = 3
        for held in cfg:
            if isinstance(held, str):
                layers.append(pools[held](2, 2))
                continue
            layers += [conv(channels, held, 3, padding=1), make_neuron(neuron, kwargs)]
            if weight_standardization:
                layers.append(Scale(GAIN))
            if drop_rate > 0:
                layers.append(layer.Dropout(drop_rate))
            channels = held
        return layer.OTTTSequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of one step."""
        return self.classifier(self.features(x))


def _variant(depth: str, standardised: bool) -> Any:
    cfg = CONFIGURATIONS.get(f"vgg{depth}", SMALL)
    name = f"ottt_spiking_vgg{depth}{'_ws' if standardised and depth else ''}{'' if depth else 'ws'}"

    def build(spiking_neuron: NeuronMaker = OTTTLIFNode, **kwargs: Any) -> OTTTSpikingVGG:
        return OTTTSpikingVGG(
            cfg, standardised, spiking_neuron=spiking_neuron, **{"light_classifier": not depth, **kwargs}
        )

    weights = "standardised weights" if standardised else "plain weights"
    doc = f"An `OTTTSpikingVGG` of {depth or 9} layers with {weights}. Single steps only."
    return named(build, name, __name__, doc)


ottt_spiking_vggws = _variant("", True)
ottt_spiking_vgg11, ottt_spiking_vgg11_ws = _variant("11", False), _variant("11", True)
ottt_spiking_vgg13, ottt_spiking_vgg13_ws = _variant("13", False), _variant("13", True)
ottt_spiking_vgg16, ottt_spiking_vgg16_ws = _variant("16", False), _variant("16", True)
ottt_spiking_vgg19, ottt_spiking_vgg19_ws = _variant("19", False), _variant("19", True)
