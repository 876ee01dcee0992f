"""The table of variants, and how a network is made by its name."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, NamedTuple

from torch import nn

from ..errors import UnknownNameError, did_you_mean
from ..functional import set_step_mode
from .blocks import NeuronMaker

__all__ = ["VARIANTS", "Variant", "create", "list_models", "without_spikes"]


class Variant(NamedTuple):
    """A row of the table.

    - `family`: the module of this room that has the function.
    - `image`: `(C, H, W)` of what it is made for. `parameters`: how many it has with the arguments it has by itself.
    - `paper`: millions of parameters that its paper gives, or None.
    """

    family: str
    image: tuple[int, int, int]
    parameters: int
    paper: float | None = None

    def function(self, name: str) -> Callable[..., nn.Module]:
        """The function that makes the network."""
        made: Callable[..., nn.Module] = getattr(import_module(f"{__package__}.{self.family}"), name)
        return made


_IMAGENET, _CIFAR, _DVS = (3, 224, 224), (3, 32, 32), (2, 128, 128)

VARIANTS: dict[str, Variant] = {
    "sew_resnet18": Variant("sew_resnet", _IMAGENET, 11_689_512),
    "sew_resnet34": Variant("sew_resnet", _IMAGENET, 21_797_672, 21.79),
    "sew_resnet50": Variant("sew_resnet", _IMAGENET, 25_557_032),
    "sew_resnet101": Variant("sew_resnet", _IMAGENET, 44_549_160),
    "sew_resnet152": Variant("sew_resnet", _IMAGENET, 60_192_808, 60.19),
    "sew_resnext50_32x4d": Variant("sew_resnet", _IMAGENET, 25_028_904),
    "sew_resnext101_32x8d": Variant("sew_resnet", _IMAGENET, 88_791_336),
    "sew_wide_resnet50_2": Variant("sew_resnet", _IMAGENET, 68_883_240),
    "sew_wide_resnet101_2": Variant("sew_resnet", _IMAGENET, 126_886_696),
    "spiking_resnet18": Variant("spiking_resnet", _IMAGENET, 11_689_512),
    "spiking_resnet34": Variant("spiking_resnet", _IMAGENET, 21_797_672),
    "spiking_resnet50": Variant("spiking_resnet", _IMAGENET, 25_557_032),
    "spiking_resnet101": Variant("spiking_resnet", _IMAGENET, 44_549_160),
    "spiking_resnet152": Variant("spiking_resnet", _IMAGENET, 60_192_808),
    "spiking_resnext50_32x4d": Variant("spiking_resnet", _IMAGENET, 25_028_904),
    "spiking_resnext101_32x8d": Variant("spiking_resnet", _IMAGENET, 88_791_336),
    "spiking_wide_resnet50_2": Variant("spiking_resnet", _IMAGENET, 68_883_240),
    "spiking_wide_resnet101_2": Variant("spiking_resnet", _IMAGENET, 126_886_696),
    "ms_resnet18": Variant("ms_resnet", _IMAGENET, 11_693_736, 11.69),
    "ms_resnet34": Variant("ms_resnet", _IMAGENET, 21_801_896, 21.80),
    "ms_resnet104": Variant("ms_resnet", _IMAGENET, 77_284_264, 77.28),
    "max_resnet18": Variant("ms_resnet", _CIFAR, 12_502_090),
    "att_ms_resnet18": Variant("masnn", _IMAGENET, 11_867_960, 11.87),
    "att_ms_resnet34": Variant("masnn", _IMAGENET, 22_116_552, 22.12),
    "att_ms_resnet104": Variant("masnn", _IMAGENET, 78_369_598, 78.37),
    "masnn_dvs128_gesture": Variant("masnn", (2, 32, 32), 2_340_535),
    "spiking_vgg11": Variant("spiking_vgg", _IMAGENET, 132_863_336),
    "spiking_vgg11_bn": Variant("spiking_vgg", _IMAGENET, 132_868_840),
    "spiking_vgg13": Variant("spiking_vgg", _IMAGENET, 133_047_848),
    "spiking_vgg13_bn": Variant("spiking_vgg", _IMAGENET, 133_053_736),
    "spiking_vgg16": Variant("spiking_vgg", _IMAGENET, 138_357_544),
    "spiking_vgg16_bn": Variant("spiking_vgg", _IMAGENET, 138_365_992),
    "spiking_vgg19": Variant("spiking_vgg", _IMAGENET, 143_667_240),
    "spiking_vgg19_bn": Variant("spiking_vgg", _IMAGENET, 143_678_248),
    "ottt_spiking_vggws": Variant("spiking_vggws_ottt", _CIFAR, 9_736_232),
    "ottt_spiking_vgg11": Variant("spiking_vggws_ottt", _IMAGENET, 132_863_336),
    "ottt_spiking_vgg11_ws": Variant("spiking_vggws_ottt", _IMAGENET, 132_874_280),
    "ottt_spiking_vgg13": Variant("spiking_vggws_ottt", _IMAGENET, 133_047_848),
    "ottt_spiking_vgg13_ws": Variant("spiking_vggws_ottt", _IMAGENET, 133_058_984),
    "ottt_spiking_vgg16": Variant("spiking_vggws_ottt", _IMAGENET, 138_357_544),
    "ottt_spiking_vgg16_ws": Variant("spiking_vggws_ottt", _IMAGENET, 138_369_960),
    "ottt_spiking_vgg19": Variant("spiking_vggws_ottt", _IMAGENET, 143_667_240),
    "ottt_spiking_vgg19_ws": Variant("spiking_vggws_ottt", _IMAGENET, 143_680_936),
    "MNISTNet": Variant("parametric_lif_net", (1, 28, 28), 13_201_124),
    "FashionMNISTNet": Variant("parametric_lif_net", (1, 28, 28), 13_201_124),
    "NMNISTNet": Variant("parametric_lif_net", (2, 34, 34), 17_134_436),
    "CIFAR10Net": Variant("parametric_lif_net", _CIFAR, 36_720_484),
    "CIFAR10DVSNet": Variant("parametric_lif_net", _DVS, 4_691_812),
    "DVSGestureNet": Variant("parametric_lif_net", _DVS, 1_698_926),
    "spikformer_ti": Variant("spikformer", _IMAGENET, 4_400_392),
    "spikformer_s": Variant("spikformer", _IMAGENET, 13_244_824),
    "spikformer_8_384": Variant("spikformer", _IMAGENET, 16_797_592, 16.81),
    "spikformer_8_512": Variant("spikformer", _IMAGENET, 29_664_808, 29.68),
    "spikformer_8_768": Variant("spikformer", _IMAGENET, 66_301_768, 66.34),
    "spikformer_cifar10": Variant("spikformer", _CIFAR, 9_310_906, 9.32),
    "spikformer_4_256": Variant("spikformer", _CIFAR, 4_145_962, 4.15),
    "spikformer_cifar10dvs": Variant("spikformer", _DVS, 2_563_594, 2.57),
    "qkformer_10_384": Variant("qkformer", _IMAGENET, 16_472_584, 16.47),
    "qkformer_10_512": Variant("qkformer", _IMAGENET, 29_077_864, 29.08),
    "qkformer_10_768": Variant("qkformer", _IMAGENET, 64_960_552, 64.96),
    "qkformer_4_384": Variant("qkformer", _CIFAR, 6_707_146, 6.74),
    "qkformer_2_256_dvs": Variant("qkformer", _DVS, 1_999_866),
    "maxformer_10_384": Variant("maxformer", _IMAGENET, 16_236_616, 16.23),
    "maxformer_10_512": Variant("maxformer", _IMAGENET, 28_652_648, 28.65),
    "maxformer_10_768": Variant("maxformer", _IMAGENET, 63_990_952, 63.99),
    "maxformer_cifar": Variant("maxformer", _CIFAR, 6_602_932),
    "sdt_8_384": Variant("spike_driven_transformer", _IMAGENET, 16_816_744, 16.81),
    "sdt_6_512": Variant("spike_driven_transformer", _IMAGENET, 23_374_312, 23.37),
    "sdt_8_512": Variant("spike_driven_transformer", _IMAGENET, 29_690_344, 29.68),
    "sdt_10_512": Variant("spike_driven_transformer", _IMAGENET, 36_006_376, 36.01),
    "sdt_8_768": Variant("spike_driven_transformer", _IMAGENET, 66_340_072, 66.34),
    "sdt_2_512_cifar": Variant("spike_driven_transformer", _CIFAR, 10_234_378, 10.28),
    "sdt_2_256_dvs": Variant("spike_driven_transformer", (2, 64, 64), 2_567_146, 2.57),
}


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create` takes, with `*` and `?` in a pattern for any characters and any one.

    >>> list_models("sew_*18"), list_models("qkformer*512")
    (['sew_resnet18'], ['qkformer_10_512'])
    """
    return [name for name in VARIANTS if fnmatchcase(name, pattern)]


def create(
    name: str,
    *,
    neuron: NeuronMaker | None = None,
    norm: Callable[[int], nn.Module] | None = None,
    step_mode: str | None = None,
    pretrained: bool = False,
    **options: Any,
) -> nn.Module:
    """A network by the name of its function; `list_models()` has the names.

    - `neuron`: a class of neurons, or a function that makes one from keywords; None takes that of the family.
    - `norm`: a function of the number of channels that makes the norms, where a family has that choice.
    - `step_mode`: `'s'` or `'m'` for all modules; None leaves it as the family makes it.
    - `options`: further arguments of the function, such as `num_classes=10` or `cnf="IAND"`, and of all neurons, such
      as `tau=2.0`.

    The first layer takes images of 3 channels, or of those in `VARIANTS[name].image`; sizes may differ from it where
    no linear layer follows a flattened map.

    >>> net = create("sew_resnet18", num_classes=10, neuron=spikescope.neuron.LIFNode, tau=3.0, step_mode="m")
    >>> net(torch.rand(2, 1, 3, 32, 32)).shape, net.sn1.tau
    (torch.Size([2, 1, 10]), 3.0)
    >>> create("sew_resnet_18")
    Traceback (most recent call last):
    spikescope.errors.UnknownNameError: There is no model 'sew_resnet_18'. Did you mean sew_resnet18 or ...
    """
    if name not in VARIANTS:
        hint = did_you_mean(str(name), VARIANTS)
        raise UnknownNameError(f"There is no model {name!r}.{hint} list_models() has the names.")
    if norm is not None and not callable(norm):
        raise TypeError(f"{name}: norm must be a function of the number of channels that makes one, but got {norm!r}.")
    build = VARIANTS[name].function(name)
    known = signature(build).parameters
    given = {"spiking_neuron": neuron, "norm_layer": norm, "pretrained": pretrained or None, **options}
    given = {key: held for key, held in given.items() if held is not None or key in options}
    if "pretrained" in given and "pretrained" not in known:
        raise NotImplementedError(f"{name}: there are no weights to load; leave pretrained=True out.")
    if "norm_layer" in given and "norm_layer" not in known and "resnet" not in VARIANTS[name].family:
        raise TypeError(f"{name} has no choice of norms; leave norm out, or replace the layers after it is made.")
    if "T" in given and "T" not in known and not _takes(neuron, "T"):
        raise TypeError(f"{name} has no T: it runs for as many steps as its input has.")
    net = build(**given)
    if step_mode is not None:
        set_step_mode(net, step_mode)
    return net


def _takes(function: Callable[..., Any] | None, name: str) -> bool:
    """Whether a function is there, and has this argument, or any that it is given."""
    known = {} if function is None or not callable(function) else signature(function).parameters
    return name in known or any(held.kind is Parameter.VAR_KEYWORD for held in known.values())


def without_spikes(**options: Any) -> nn.Module:
    """A ReLU in the place of a neuron, whose options it does not need: what makes a network its twin without spikes.

    The twin is trained as it is, on images, and becomes a network of spikes by `ann2snn.Converter`; networks with
    products of activations, as in attention, cannot.

    >>> create("CIFAR10Net", neuron=without_spikes, channels=8).conv_fc[2]
    ReLU()
    """
    return nn.ReLU()
