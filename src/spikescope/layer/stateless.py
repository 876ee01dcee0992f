"""The layers of PyTorch that see one step at a time: one table, one factory."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any, ClassVar

from torch import nn

from ..base import StepModule
from ..errors import check_rank, check_tensor
from ..sockets import place_sockets
from .fold import over_time

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Flatten",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "Stateless",
    "Upsample",
    "stateless",
]

registry: dict[str, type[Stateless]] = {}

_MOST_AXES = 64  # what PyTorch can hold
_SIZES = {"T": 3, "N": 2, "C": 4, "F": 4, "L": 6, "D": 4, "H": 6, "W": 7}  # of the examples


class Stateless(StepModule, nn.Module):
    """Base of the layers that `stateless` makes: a module of PyTorch with a step mode.

    `step_mode='s'` is PyTorch's own forward on `[N, *]`. `step_mode='m'` folds every tensor `[T, N, *]` that comes
    in to `[T*N, *]`, runs once, and unfolds every tensor that goes out. A sequence that repeats one frame (stride 0
    in time) is computed once and repeated again: see `fold.is_expanded`. Names, arguments and `state_dict` are
    PyTorch's.
    """

    torch_class: ClassVar[type[nn.Module]]
    axes: ClassVar[tuple[str, ...]]
    example: ClassVar[tuple[Any, ...]]

    def __init__(self, *args: Any, step_mode: str = "s", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        place_sockets(self)
        self.step_mode = step_mode

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """One step `[N, *]` or one sequence `[T, N, *]`, by `step_mode`."""
        check_axes(type(self).__name__, next(iter((*args, *kwargs.values())), None), self.axes, self._step_mode)
        if self._step_mode == "s":
            return super().forward(*args, **kwargs)
        return over_time(self, super().forward, args, kwargs)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, (super().extra_repr(), f"step_mode={self.step_mode!r}")))


def check_axes(owner: str, x: Any, axes: tuple[str, ...], step_mode: str) -> None:
    """Refuse an input that has not the axes of a layer: those of one step, and time before them with `'m'`."""
    check_tensor(owner, "the input", x)
    axes = axes if step_mode == "s" else ("T", *axes)
    least = sum(axis != "*" for axis in axes)
    most = _MOST_AXES if "*" in axes else least
    check_rank(owner, x, tuple(range(least, most + 1)), f"[{', '.join(axes)}]", step_mode)


def stateless(base: type[nn.Module], axes: str, *, example: tuple[Any, ...] = (), module: str = __name__) -> type[Any]:
    """The layer of this library for a module that treats every sample of a batch independently.

    - `axes`: the axes of one step, as `"N C H W"`; a `*` stands for any number of further axes.
    - `example`: constructor arguments that fit an input with C = F = 4 and no size below 4.
    - `module`: the module that defines it, where pickle will look for it.

    >>> Softmax = stateless(nn.Softmax, "N C", example=(-1,))
    >>> Softmax(-1, step_mode="m")(torch.zeros(5, 1, 2)).shape
    torch.Size([5, 1, 2])
    >>> del registry["Softmax"]
    """
    name = base.__name__.lstrip("_")
    made: type[Any] = type(
        name,
        (Stateless, base),
        {
            "__doc__": _documentation(base, name, axes, example),
            "__module__": module,
            "__signature__": _signature(base),
            "torch_class": base,
            "axes": tuple(axes.split()),
            "example": example,
        },
    )
    if module.startswith("spikescope."):
        registry[name] = made
    return made


def _signature(base: type[nn.Module]) -> Any:
    """The signature of `base` with the keyword `step_mode`, for help and inspect."""
    own = signature(base)
    step_mode = Parameter("step_mode", Parameter.KEYWORD_ONLY, default="s", annotation="str")
    parameters = list(own.parameters.values())
    end = len(parameters) - (bool(parameters) and parameters[-1].kind is Parameter.VAR_KEYWORD)
    return own.replace(parameters=[*parameters[:end], step_mode, *parameters[end:]])


def _documentation(base: type[nn.Module], name: str, axes: str, example: tuple[Any, ...]) -> str:
    if not base.__module__.startswith("torch."):
        return base.__doc__ or ""
    step = axes.replace(" ", ", ")
    lines = [
        f"`torch.nn.{name}` on one step `[{step}]` or, with `step_mode='m'`, on a sequence `[T, {step}]`.",
        "",
        "The arguments are those of PyTorch's class and the keyword `step_mode`; the `state_dict` is the same. A",
        "sequence that repeats one frame (stride 0 in time) is computed once. An input with another number of axes",
        "is a `ShapeError`.",
    ]
    if "indices" not in signature(base.forward).parameters:  # the indices come from a pool
        given = ", ".join([*map(repr, example), "step_mode='m'"])
        sizes = ", ".join(str(_SIZES[axis]) for axis in ("T", *axes.split()) if axis != "*")
        lines += ["", f">>> {name}({given})(torch.rand({sizes})).shape[:2]", "torch.Size([3, 2])"]
    return "\n".join(lines)


Linear = stateless(nn.Linear, "N * F", example=(4, 3))
Conv1d = stateless(nn.Conv1d, "N C L", example=(4, 3, 3))
Conv2d = stateless(nn.Conv2d, "N C H W", example=(4, 3, 3))
Conv3d = stateless(nn.Conv3d, "N C D H W", example=(4, 3, 3))
ConvTranspose1d = stateless(nn.ConvTranspose1d, "N C L", example=(4, 3, 2, 2))
ConvTranspose2d = stateless(nn.ConvTranspose2d, "N C H W", example=(4, 3, 2, 2))
ConvTranspose3d = stateless(nn.ConvTranspose3d, "N C D H W", example=(4, 3, 2, 2))
MaxPool1d = stateless(nn.MaxPool1d, "N C L", example=(2,))
MaxPool2d = stateless(nn.MaxPool2d, "N C H W", example=(2,))
MaxPool3d = stateless(nn.MaxPool3d, "N C D H W", example=(2,))
AvgPool1d = stateless(nn.AvgPool1d, "N C L", example=(2,))
AvgPool2d = stateless(nn.AvgPool2d, "N C H W", example=(2,))
AvgPool3d = stateless(nn.AvgPool3d, "N C D H W", example=(2,))
AdaptiveAvgPool1d = stateless(nn.AdaptiveAvgPool1d, "N C L", example=(2,))
AdaptiveAvgPool2d = stateless(nn.AdaptiveAvgPool2d, "N C H W", example=(2,))
AdaptiveAvgPool3d = stateless(nn.AdaptiveAvgPool3d, "N C D H W", example=(2,))
AdaptiveMaxPool1d = stateless(nn.AdaptiveMaxPool1d, "N C L", example=(2,))
AdaptiveMaxPool2d = stateless(nn.AdaptiveMaxPool2d, "N C H W", example=(2,))
AdaptiveMaxPool3d = stateless(nn.AdaptiveMaxPool3d, "N C D H W", example=(2,))
MaxUnpool1d = stateless(nn.MaxUnpool1d, "N C L", example=(2,))
MaxUnpool2d = stateless(nn.MaxUnpool2d, "N C H W", example=(2,))
MaxUnpool3d = stateless(nn.MaxUnpool3d, "N C D H W", example=(2,))
Upsample = stateless(nn.Upsample, "N C L *", example=(None, 2))
Flatten = stateless(nn.Flatten, "N C *", example=())
GroupNorm = stateless(nn.GroupNorm, "N C *", example=(2, 4))
LayerNorm = stateless(nn.LayerNorm, "N * F", example=(4,))
