"""The networks of the clock-driven interface: `single_step_neuron` for steps, and `MultiStep...` for sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar

from torch import Tensor, nn

from ... import layer, models, neuron
from ...errors import ShapeError
from ...functional import set_step_mode
from ...models import parametric_lif_net, resnet, sew_resnet, spiking_resnet, spiking_vgg

_NORMS: dict[Any, Any] = {nn.BatchNorm2d: layer.BatchNorm2d, nn.SyncBatchNorm: layer.SyncBatchNorm}
_PARTS = {
    nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.MaxPool2d: "pool", nn.Linear: "fc",
    layer.Dropout: "dp", layer.Flatten: "flatten", layer.VotingLayer: "voting",
}  # fmt: skip


def _parameters(made: Callable[..., nn.Module], neurons: str, T: tuple[str, ...]) -> list[Parameter]:
    """The arguments of a function in the order of that age: what it had, T, cnf, the neurons."""
    own = {held.name: held.default for held in signature(made).parameters.values() if held.name != "kwargs"}
    last = ("cnf", "spiking_neuron")
    order = [*(name for name in own if name not in last), *T, *(name for name in own if name == "cnf"), neurons]
    defaults = own | {"T": None, neurons: neuron.IFNode}
    return [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=defaults[name]) for name in order]


def _given(owner: str, told: Signature, neurons: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names; `neurons` may be called `spiking_neuron`, as it is today."""
    try:
        given = told.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{owner}{told}: {error}.") from None
    given |= given.pop("kwargs", {})
    if "spiking_neuron" in given:
        if neurons in given:
            raise TypeError(f"{owner} got both {neurons} and spiking_neuron, which is the same. Leave one out.")
        given[neurons] = given.pop("spiking_neuron")
    return given


class _OfSteps(nn.Module):
    """A network by the arguments of that age, in their order."""

    neurons: ClassVar[str] = "single_step_neuron"
    more: ClassVar[tuple[str, ...]] = ()
    told: ClassVar[Any] = None  # the signature of the networks, which subclasses of one's own share
    __signature__: ClassVar[Signature | None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        base: Any = next((held for held in cls.__bases__ if not issubclass(held, _OfSteps)), None)
        if cls.told is None and base is not None:
            parameters = _parameters(base, cls.neurons, cls.more)
            cls.told = cls.__signature__ = Signature([*parameters, Parameter("kwargs", Parameter.VAR_KEYWORD)])
        elif "__init__" in vars(cls):
            cls.__signature__ = None  # that of its own __init__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = _given(type(self).__name__, self.told, self.neurons, args, kwargs)
        norm, T = given.get("norm_layer"), given.pop("T", None)
        given["spiking_neuron"] = given.pop(self.neurons, neuron.IFNode)
        super().__init__(**{**given, "norm_layer": _NORMS.get(norm, norm)})
        if self.more:
            self.T = T


class _Sequences(_OfSteps):
    """A network of sequences `[T, N, *]`, which sees images `[N, *]` for `T` steps."""

    neurons = "multi_step_neuron"
    more = ("T",)
    T: int | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        """The scores of each step."""
        return super().forward(_for_steps(self, x, self.T))


def _for_steps(net: nn.Module, x: Tensor, T: int | None) -> Tensor:
    """The input as a sequence; images are repeated without a copy."""
    if x.ndim != 4:
        return x
    if T is None:
        raise ShapeError(f"{type(net).__name__} needs T to see an image [N, C, H, W] for so many steps, but T is None.")
    return x.unsqueeze(0).expand(T, *x.shape)


class SEWResNet(_OfSteps, sew_resnet.SEWResNet):
    """`models.SEWResNet` with `single_step_neuron`."""


class SpikingResNet(_OfSteps, spiking_resnet.SpikingResNet):
    """`models.SpikingResNet` with `single_step_neuron`."""


class SpikingVGG(_OfSteps, spiking_vgg.SpikingVGG):
    """`models.SpikingVGG` with `single_step_neuron`."""


class MultiStepSEWResNet(_Sequences, sew_resnet.SEWResNet):
    """`models.SEWResNet` for sequences, or for images that it sees for `T` steps."""


class MultiStepSpikingResNet(_Sequences, spiking_resnet.SpikingResNet):
    """`models.SpikingResNet` for sequences, or for images that it sees for `T` steps."""


class MultiStepSpikingVGG(_Sequences, spiking_vgg.SpikingVGG):
    """`models.SpikingVGG` for sequences, or for images that it sees for `T` steps."""


def _function(name: str, made: Callable[..., nn.Module], of: Callable[..., nn.Module], neurons: str, *T: str) -> Any:
    """The function of that age for what `made` makes, by `of`."""
    told = Signature([*_parameters(made, neurons, T), Parameter("kwargs", Parameter.VAR_KEYWORD)])

    def build(*args: Any, **kwargs: Any) -> nn.Module:
        given = _given(name, told, neurons, args, kwargs)
        if given.pop("pretrained", False):
            return made(pretrained=True)  # which says where weights are
        given.pop("progress", None)
        return of(**given)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"`models.{made.__name__}` by the arguments of the clock-driven interface."
    vars(build)["__signature__"] = told
    return build


def _residual(of: Any, home: Any, arch: str) -> Callable[..., nn.Module]:
    """What makes a residual network."""
    kind, layers, fixed = resnet.ARCHITECTURES[arch]
    block = {"basic": home.BasicBlock, "bottleneck": home.Bottleneck}[kind]
    return lambda **given: of(block, layers, **given | fixed)


def _vgg(of: Any, arch: str, normed: bool) -> Callable[..., nn.Module]:
    """What makes a VGG."""
    return lambda **given: of(spiking_vgg.CONFIGURATIONS[arch], normed, **given)


class _Net(nn.Module):
    """A network of the PLIF paper, under the names that its layers had."""

    made: ClassVar[type[nn.Module]]
    told: ClassVar[Signature]
    neurons: ClassVar[str] = "single_step_neuron"

    def __init__(self, channels: int | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        given = _given(type(self).__name__, self.told, self.neurons, (channels, *args), kwargs)
        sizes = {} if given.pop("channels") is None else {"channels": channels}
        neurons: Any = given.pop(self.neurons, neuron.IFNode)
        parts: Any = type(self).made(**sizes, spiking_neuron=neurons, **given).conv_fc
        count: Counter[str] = Counter()
        self._order: list[str] = []
        for part in parts:
            kind = next((name for cls, name in _PARTS.items() if isinstance(part, cls)), "sn")
            count["stage"] += kind in ("conv", "dp")
            self._order.append(kind if kind in ("voting", "flatten") else f"{kind}{count['stage']}")
            self.add_module(self._order[-1], part)

    def forward(self, x: Tensor) -> Tensor:
        """The firing rate of each class in one step."""
        for name in self._order:
            x = self.get_submodule(name)(x)
        return x


class _NetOfSequences(_Net):
    """The same for sequences, or for images that it sees for `T` steps."""

    neurons = "multi_step_neuron"

    def __init__(self, channels: int | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(channels, *args, **kwargs)
        set_step_mode(self, "m")

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        """The firing rate of each class in each step."""
        return super().forward(_for_steps(self, x, T))


def _functions() -> dict[str, Any]:
    """Every function, by its name."""
    made: dict[str, Any] = {}
    makers: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {}
    for arch in resnet.ARCHITECTURES:
        steps, sequences = _residual(SEWResNet, sew_resnet, arch), _residual(MultiStepSEWResNet, sew_resnet, arch)
        makers[f"sew_{arch}"] = steps, sequences
        steps, sequences = (_residual(of, spiking_resnet, arch) for of in (SpikingResNet, MultiStepSpikingResNet))
        makers[f"spiking_{arch}"] = steps, sequences
    for arch in spiking_vgg.CONFIGURATIONS:
        for ending, normed in (("", False), ("_bn", True)):
            makers[f"spiking_{arch}{ending}"] = _vgg(SpikingVGG, arch, normed), _vgg(MultiStepSpikingVGG, arch, normed)
    for name, (of_steps, of_sequences) in makers.items():
        function, multi = getattr(models, name), f"multi_step_{name}"
        made[name] = _function(name, function, of_steps, "single_step_neuron")
        made[multi] = _function(multi, function, of_sequences, "multi_step_neuron", "T")
    return made


def _nets() -> dict[str, Any]:
    """Every network of the PLIF paper, by its name."""
    made: dict[str, Any] = {}
    for name in parametric_lif_net.__all__:
        doc = f"`models.{name}` under the names and by the arguments of the clock-driven interface."
        of = getattr(parametric_lif_net, name)
        biased = type(name, (of,), {"conv_bias": name in ("CIFAR10DVSNet", "DVSGestureNet")})
        for called, kind in ((name, _Net), (f"MultiStep{name}", _NetOfSequences)):
            told = [held for held in _parameters(of, kind.neurons, ()) if held.name in ("channels", kind.neurons)]
            told.append(Parameter("kwargs", Parameter.VAR_KEYWORD))
            own: dict[str, Any] = dict.fromkeys(("told", "__signature__"), Signature(told))
            own |= {"made": biased, "__doc__": doc, "__module__": __name__}
            made[called] = type(called, (kind,), own)
    return made


NAMES: dict[str, Any] = {
    **_functions(),
    **_nets(),
    **{cls.__name__: cls for cls in (MultiStepSEWResNet, MultiStepSpikingResNet, MultiStepSpikingVGG)},
    **{cls.__name__: cls for cls in (SEWResNet, SpikingResNet, SpikingVGG)},
    "VotingLayer": layer.VotingLayer,
}
globals().update(NAMES)
__all__ = list(NAMES)
