"""The layers of PyTorch that see one step at a time: one table, one factory."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar

from torch import Tensor, nn

from ..base import INPUT_NAMES, StepModule
from ..errors import check_rank, check_tensor
from ..neuron.fast.row import known_to_rows
from ..sockets import place_sockets
from .axes import FlattenOfAxes, UpsampleOfMode
from .fold import over_time
from .pooling import FastMaxPool2d

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
    PyTorch's; `step_mode` may also follow them by position, before `device` and `dtype`.

    Where PyTorch's takes one sample without the axis N, this does: `[*]` for one step, `[T, *]` for a sequence.
    """

    torch_class: ClassVar[type[nn.Module]]
    axes: ClassVar[tuple[str, ...]]
    one_sample: ClassVar[bool]
    example: ClassVar[tuple[Any, ...]]
    of_sequence: ClassVar[Callable[..., Any] | None]
    _input: ClassVar[str]  # what PyTorch calls it
    _ranks: ClassVar[tuple[int, int]]  # a step has more axes than the first, and no more than the second
    __signature__: ClassVar[Signature]

    def __init__(self, *args: Any, step_mode: str = "s", **kwargs: Any) -> None:
        args, step_mode = _with_step_mode(type(self), args, step_mode)
        super().__init__(*args, **kwargs)
        place_sockets(self)
        self.step_mode = step_mode

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """One step `[N, *]` or one sequence `[T, N, *]`, by `step_mode`."""
        if kwargs and not args:
            args, kwargs = _with_input_first(kwargs, self._input)
        x: Any = next(iter((*args, *kwargs.values())), None)
        least, most = self._ranks
        ndim, single = x.ndim if isinstance(x, Tensor) else 0, self._step_mode == "s"
        if not least < ndim - (not single) <= most:  # one sample without the axis N, or none at all
            check_axes(type(self).__name__, x, self.axes, self._step_mode, one_sample=self.one_sample)
        if single:
            return super().forward(*args, **kwargs)
        batched = not self.one_sample or ndim > least + 1
        return over_time(self, super().forward, args, kwargs, batched=batched, whole=self.of_sequence)

    def extra_repr(self) -> str:
        line = super().extra_repr()
        return line if isinstance(self, nn.Linear) else noted(line, self)


def _with_input_first(named: dict[str, Any], input: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with the input by its place, where it was given by any of its names."""
    for name in (input, *INPUT_NAMES):
        if name in named:
            return (named[name],), {other: held for other, held in named.items() if other != name}
    return (), named


def noted(line: str, module: StepModule) -> str:
    """The line that PyTorch prints for a layer, and `step_mode=m` where it is that.

    >>> Conv1d(1, 2, 3, step_mode="m"), Conv1d(1, 2, 3)
    (Conv1d(1, 2, kernel_size=(3,), stride=(1,), step_mode=m), Conv1d(1, 2, kernel_size=(3,), stride=(1,)))
    """
    return ", ".join(filter(None, (line, "step_mode=m" if module.step_mode == "m" else "")))


def _with_step_mode(made: type[Stateless], args: tuple[Any, ...], step_mode: str) -> tuple[tuple[Any, ...], str]:
    """The arguments by position without the step mode that may be among them, and the step mode."""
    names = list(made.__signature__.parameters)
    place = names.index("step_mode")
    if len(args) > place and args[place] in ("s", "m"):
        return (*args[:place], *args[place + 1 :]), args[place]
    for at, given in enumerate(args[: len(names)]):
        if isinstance(given, str) and given in ("s", "m"):
            raise TypeError(
                f"{made.__name__} got {given!r} as argument {at + 1}, which is {names[at]}. If it "
                f"is meant as the step mode, say step_mode={given!r}; by position that is argument {place + 1}."
            )
    return args, step_mode


def _least(axes: tuple[str, ...]) -> int:
    """The least number of axes of one step."""
    return sum(axis[0] not in "(*" for axis in axes)


def _most(axes: tuple[str, ...]) -> int:
    """The largest number of axes of one step, with an axis of time before them."""
    return _MOST_AXES - 1 if "*" in axes else len(axes)


def check_axes(owner: str, x: Any, axes: tuple[str, ...], step_mode: str, *, one_sample: bool = False) -> None:
    """Refuse an input that has not the axes of a layer: those of one step, and time before them with `'m'`.

    With `one_sample`, the axis N may be missing.
    """
    check_tensor(owner, "the input", x)
    time = () if step_mode == "s" else ("T",)
    forms = [(*time, *axes), *([(*time, *axes[1:])] if one_sample else [])]
    most = _MOST_AXES if "*" in axes else len(forms[0])
    wanted = " or ".join(f"[{', '.join(form)}]" for form in forms)
    check_rank(owner, x, tuple(range(_least(forms[-1]), most + 1)), wanted, step_mode)


def stateless(
    base: type[nn.Module],
    axes: str,
    *,
    one_sample: bool = False,
    example: tuple[Any, ...] = (),
    module: str = __name__,
    way: type | None = None,
) -> type[Any]:
    """The layer of this library for a module that treats every sample of a batch independently.

    - `axes`: the axes of one step, as `"N C H W"`; a `*` stands for any number of further axes, and one in
      parentheses may be missing.
    - `one_sample`: whether the module also takes one sample without the axis N.
    - `example`: constructor arguments that fit an input with C = F = 4 and no size below 4.
    - `module`: the module that defines it, where pickle will look for it.
    - `way`: a class of the module's kind that stands in its place: a `forward` of one step that is faster, `axes`
      that depend on an argument, or `of_sequence`, which takes a sequence without a fold.

    >>> Softmax = stateless(nn.Softmax, "N C", example=(-1,))
    >>> Softmax(-1, step_mode="m")(torch.zeros(5, 1, 2)).shape
    torch.Size([5, 1, 2])
    >>> del registry["Softmax"]
    """
    name = base.__name__.lstrip("_")
    made: type[Any] = type(
        name,
        (Stateless, base) if way is None else (Stateless, way, base),
        {
            "__doc__": _documentation(base, name, axes, example),
            "__module__": module,
            "__signature__": _signature(base),
            "torch_class": base,
            "axes": tuple(axes.split()),
            "one_sample": one_sample,
            "example": example,
            "of_sequence": getattr(way, "of_sequence", None),
            "_input": next(iter(list(signature(base.forward).parameters)[1:]), "input"),
            "_ranks": (_least(tuple(axes.split())) - 1, _most(tuple(axes.split()))),
        },
    )
    if module.startswith("spikescope."):
        registry[name] = made
    return made


def _signature(base: type[nn.Module]) -> Signature:
    """The signature of `base` with `step_mode` behind the arguments of PyTorch, before `device` and what is ours."""
    own = signature(base)
    step_mode = Parameter("step_mode", Parameter.POSITIONAL_OR_KEYWORD, default="s", annotation="str")
    parameters = list(own.parameters.values())
    place = next(
        (
            at
            for at, held in enumerate(parameters)
            if held.name in ("gain", "device")
            or held.kind not in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        ),
        len(parameters),
    )
    return own.replace(parameters=[*parameters[:place], step_mode, *parameters[place:]])


def _documentation(base: type[nn.Module], name: str, axes: str, example: tuple[Any, ...]) -> str:
    if not base.__module__.startswith("torch."):
        return base.__doc__ or ""
    step = axes.replace(" ", ", ")
    lines = [
        f"`torch.nn.{name}` on one step `[{step}]` or, with `step_mode='m'`, on a sequence `[T, {step}]`.",
        "",
        "The arguments are those of PyTorch's class and `step_mode`; the `state_dict` is the same. A sequence that",
        "repeats one frame (stride 0 in time) is computed once. An input with another number of axes is a",
        "`ShapeError`.",
    ]
    if "indices" not in signature(base.forward).parameters:  # the indices come from a pool
        given = ", ".join([*map(repr, example), "step_mode='m'"])
        sizes = ", ".join(str(_SIZES[axis]) for axis in ("T", *axes.split()) if axis[0] not in "(*")
        lines += ["", f">>> {name}({given})(torch.rand({sizes})).shape[:2]", "torch.Size([3, 2])"]
    return "\n".join(lines)


Linear = stateless(nn.Linear, "N * F", one_sample=True, example=(4, 3))
Conv1d = stateless(nn.Conv1d, "N C L", one_sample=True, example=(4, 3, 3))
Conv2d = stateless(nn.Conv2d, "N C H W", one_sample=True, example=(4, 3, 3))
Conv3d = stateless(nn.Conv3d, "N C D H W", one_sample=True, example=(4, 3, 3))
ConvTranspose1d = stateless(nn.ConvTranspose1d, "N C L", one_sample=True, example=(4, 3, 2, 2))
ConvTranspose2d = stateless(nn.ConvTranspose2d, "N C H W", one_sample=True, example=(4, 3, 2, 2))
ConvTranspose3d = stateless(nn.ConvTranspose3d, "N C D H W", one_sample=True, example=(4, 3, 2, 2))
MaxPool1d = stateless(nn.MaxPool1d, "N C L", one_sample=True, example=(2,))
MaxPool2d = stateless(nn.MaxPool2d, "N C H W", one_sample=True, example=(2,), way=FastMaxPool2d)
MaxPool3d = stateless(nn.MaxPool3d, "N C D H W", one_sample=True, example=(2,))
AvgPool1d = stateless(nn.AvgPool1d, "N C L", one_sample=True, example=(2,))
AvgPool2d = stateless(nn.AvgPool2d, "N C H W", one_sample=True, example=(2,))
AvgPool3d = stateless(nn.AvgPool3d, "N C D H W", one_sample=True, example=(2,))
AdaptiveAvgPool1d = stateless(nn.AdaptiveAvgPool1d, "N C L", one_sample=True, example=(2,))
AdaptiveAvgPool2d = stateless(nn.AdaptiveAvgPool2d, "N C H W", one_sample=True, example=(2,))
AdaptiveAvgPool3d = stateless(nn.AdaptiveAvgPool3d, "N C D H W", one_sample=True, example=(2,))
AdaptiveMaxPool1d = stateless(nn.AdaptiveMaxPool1d, "N C L", one_sample=True, example=(2,))
AdaptiveMaxPool2d = stateless(nn.AdaptiveMaxPool2d, "N C H W", one_sample=True, example=(2,))
AdaptiveMaxPool3d = stateless(nn.AdaptiveMaxPool3d, "N C D H W", one_sample=True, example=(2,))
MaxUnpool1d = stateless(nn.MaxUnpool1d, "N C L", one_sample=True, example=(2,))
MaxUnpool2d = stateless(nn.MaxUnpool2d, "N C H W", one_sample=True, example=(2,))
MaxUnpool3d = stateless(nn.MaxUnpool3d, "N C D H W", one_sample=True, example=(2,))
Upsample = stateless(nn.Upsample, "N C D (H) (W)", example=(None, 2), way=UpsampleOfMode)
Flatten = stateless(nn.Flatten, "N C *", example=(), way=FlattenOfAxes)
GroupNorm = stateless(nn.GroupNorm, "N C *", example=(2, 4))
LayerNorm = stateless(nn.LayerNorm, "N * F", one_sample=True, example=(4,))

known_to_rows(__name__, Linear)
