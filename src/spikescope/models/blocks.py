"""What the families share: how neurons are made, convolutions, the time axis of an image, and weights not loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from torch import Tensor, fx, nn

from .. import layer
from ..base import StepModule
from ..errors import MANY, ShapeError, check_choice, check_number, check_tensor, check_whole, dims
from ..functional import set_step_mode
from ..neuron import LIFNode

__all__ = [
    "MembraneMLP",
    "NeuronMaker",
    "SequenceModel",
    "check_several",
    "check_sizes",
    "conv1x1",
    "conv3x3",
    "hidden_of",
    "make_neuron",
    "named",
    "refuse_pretrained",
]

NeuronMaker = Callable[..., nn.Module]
"""A class of neurons, or a function that makes one from keywords."""

Build = TypeVar("Build", bound=Callable[..., nn.Module])


def check_sizes(owner: str, **given: Any) -> None:
    """Refuse anything but whole numbers of at least 1."""
    for name, value in given.items():
        check_whole(owner, name, value)


def check_several(owner: str, name: str, given: Any, least: int = 1) -> tuple[int, ...]:
    """Whole numbers of at least `least`, one or more of them.

    >>> check_several("Net", "depths", [1, 2])
    (1, 2)
    """
    numbers = tuple(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else ()
    if not numbers:
        raise ValueError(f"{owner}: {name} must be several whole numbers, as (1, 2), but got {given!r}.")
    return tuple(check_whole(owner, f"each of {name}", number, least) for number in numbers)


def hidden_of(owner: str, dim: int, mlp_ratio: Any) -> int:
    """How many channels an MLP over `dim` channels has inside.

    >>> hidden_of("Net", 64, 4.0)
    256
    """
    check_number(owner, "mlp_ratio", mlp_ratio, above=0.0, most=MANY)
    hidden = int(dim * mlp_ratio)
    if not hidden:
        raise ValueError(
            f"{owner}: mlp_ratio must leave an MLP of {dim} channels at least 1 inside, but got {mlp_ratio!r}. Take 1 "
            "or more."
        )
    return hidden


def make_neuron(
    maker: NeuronMaker | None, options: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> nn.Module:
    """A neuron by `maker` from its own copy of `options`; without a maker a LIF neuron, from `defaults` too.

    >>> make_neuron(None, {"tau": 3.0}, {"tau": 2.0, "detach_reset": True}).tau
    3.0
    """
    own: dict[str, Any] = deepcopy(dict(options))
    if maker is None:
        return LIFNode(**{**deepcopy(dict(defaults or {})), **own})
    if not callable(maker) or isinstance(maker, nn.Module):
        raise TypeError(
            "spiking_neuron must be a class of neurons or a function that makes one from keywords, such as "
            f"neuron.LIFNode or lambda **options: neuron.LIFNode(tau=3.0, **options), but got {maker!r}."
        )
    return maker(**own)


def conv3x3(in_planes: int, out_planes: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Module:
    """A 3x3 convolution without bias that keeps the size, or divides it by `stride`."""
    return layer.Conv2d(in_planes, out_planes, 3, stride, dilation, dilation, groups, bias=False)


def conv1x1(in_planes: int, out_planes: int, stride: int = 1) -> nn.Module:
    """A 1x1 convolution without bias."""
    return layer.Conv2d(in_planes, out_planes, 1, stride, bias=False)


class MembraneMLP(nn.Module):
    """Two linear layers over the channels of a map, each behind a neuron, with a shortcut of potentials."""

    def __init__(
        self, dim: int, hidden_dim: int, spiking_neuron: NeuronMaker | None, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.residual = dim == hidden_dim
        self.fc1, self.bn1 = layer.Conv2d(dim, hidden_dim, 1), layer.BatchNorm2d(hidden_dim)
        self.lif1 = make_neuron(spiking_neuron, options)
        self.fc2, self.bn2 = layer.Conv2d(hidden_dim, dim, 1), layer.BatchNorm2d(dim)
        self.lif2 = make_neuron(spiking_neuron, options)

    def forward(self, x: Tensor) -> Tensor:
        """`[*, C, H, W]`."""
        inner = self.bn1(self.fc1(self.lif1(x)))
        identity = x
        if self.residual:
            identity = inner = inner + x
        return self.bn2(self.fc2(self.lif2(inner))) + identity


class SequenceModel(StepModule, nn.Module):
    """Base of the models that make a sequence of an image themselves.

    - `step_mode='m'`: takes `[T, N, C, H, W]`, or images `[N, C, H, W]`, which it sees for `T` steps.
    - `step_mode='s'`: takes `[N, C, H, W]` as one step. The mean of the outputs over the steps is that of `'m'`.
    """

    def __init__(self, T: int, **sizes: Any) -> None:
        """Take the steps, and refuse any of the other `sizes` that is no whole number of at least 1."""
        super().__init__()
        self.T = check_whole(type(self).__name__, "T", T)
        check_sizes(type(self).__name__, **sizes)

    def finish(self, step_mode: str) -> None:
        """Set the step mode of all that has been built."""
        check_choice(type(self).__name__, "step_mode", step_mode, self.supported_step_mode())
        set_step_mode(self, step_mode)

    def frames(self, x: Tensor) -> Tensor:
        """The input as the layers take it. Images are repeated without a copy, so that layers compute them once."""
        held: Any = x
        if isinstance(held, fx.Proxy) and self.step_mode == "s":  # followed once without values, as ann2snn does
            return x
        owner = type(self).__name__
        check_tensor(owner, "the input", x)
        if self.step_mode == "m" and x.ndim == 4:
            return x.unsqueeze(0).expand(self.T, *x.shape)
        if x.ndim != (4 if self.step_mode == "s" else 5):
            wanted = "a step [N, C, H, W]" if self.step_mode == "s" else "[T, N, C, H, W], or images [N, C, H, W]"
            raise ShapeError(f"{owner} in step_mode={self.step_mode!r} takes {wanted}, but got {dims(x.shape)}.")
        return x

    def over_steps(self, x: Tensor) -> Tensor:
        """The mean over the steps of a sequence; one step stays as it is."""
        return x.mean(0) if self.step_mode == "m" else x


def named(build: Build, name: str, module: str, doc: str) -> Build:
    """A function under the name by which its module has it, so that repr, pickle and help know it."""
    build.__name__ = build.__qualname__ = name
    build.__module__ = module
    build.__doc__ = doc
    return build


def refuse_pretrained(pretrained: bool, name: str, arch: str, file: str) -> None:
    """Say where torchvision's weights of an architecture are and how to load them, since nothing is ever downloaded."""
    if pretrained:
        raise NotImplementedError(
            f"{name}(pretrained=True): nothing is downloaded here. The weights are {file}, trained on ImageNet, whose "
            f"address is torchvision.models.get_model_weights({arch!r}).IMAGENET1K_V1.url. Fetch the file, then: net = "
            f"{name}(...); net.load_state_dict(torch.load(path, weights_only=True)). They are those of a network of "
            "ReLUs, from which training with spikes starts."
        )
