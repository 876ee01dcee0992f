"""What a step asks of a tensor besides its values: how many neurons, how many axes, on which device, how it lies.

A kernel sees one neuron, and is made once for all shapes, so that it cannot follow a step that does one thing for a few
neurons and another for many. Trials on some shapes do not find such a step out, for nobody knows where it changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["ShapeReadError", "Sizes"]

_ANSWERED = {Tensor.is_floating_point, Tensor.is_complex, torch.is_floating_point, torch.is_complex}
_ANSWERED |= {Tensor.requires_grad.__get__}  # type: ignore[attr-defined]
"""Questions that a kernel is made for one answer of, or that the trials ask in both ways."""

_NEVER = {Tensor.__len__, Tensor.untyped_storage, Tensor.device.__get__, Tensor.layout.__get__}  # type: ignore[attr-defined]
"""What no kernel can follow: it is traced on a CPU, on dense memory."""

_OF_A_SHAPE = {Tensor.view, Tensor.reshape, Tensor.expand, Tensor.repeat, Tensor.new_zeros, Tensor.new_ones}
_OF_A_SHAPE |= {torch.zeros, torch.ones}
"""What takes a shape as numbers; for anything else a number is a value."""


class ShapeReadError(ValueError):
    """A step decides by a shape, a device or a layout, or computes with it."""


def _refuse(*_: object, **__: object) -> NoReturn:
    raise ShapeReadError(
        "depends on a shape, a device or a layout: it compares one, branches on one, or computes with one (`x.shape`, "
        "`x.numel()`, `len(x)`, `x.ndim`, `x.device` and the like)"
    )


_KEPT = {"__new__", "__repr__", "__hash__", "__getattribute__", "__index__", "__doc__", "__sizeof__", "__getnewargs__"}
_TWO = ("add", "sub", "mul", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
_COMPUTED = {f"__{name}__" for name in (*_TWO, *(f"r{name}" for name in _TWO), "neg", "pos", "abs", "invert")}


class _Size(int):
    """A number that tells of a shape: it may be handed on, and what is computed of it tells of a shape as well."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return int.__eq__(self, other) if type(other) is _Size else _refuse()

    def __ne__(self, other: object) -> bool:
        return not self == other


def _arithmetic(name: str) -> Callable[..., _Size]:
    compute = getattr(int, name)

    def computed(*numbers: object) -> _Size:
        out = compute(*numbers)
        return _Size(out) if type(out) is int else _refuse()

    return computed


for _name in (*vars(int), "__str__", "__format__"):
    if _name in _COMPUTED:
        setattr(_Size, _name, _arithmetic(_name))
    elif _name not in _KEPT and _name not in vars(_Size):
        setattr(_Size, _name, _refuse if callable(getattr(int, _name)) else property(_refuse))


class _Shape(tuple[_Size, ...]):
    """A shape, or strides."""

    def numel(self) -> _Size:
        """How many values there are."""
        return _Size(math.prod(map(int.__index__, self)))


class Sizes(TorchFunctionMode):
    """Finds out a step that depends on a shape: ShapeReadError where it does so.

    >>> with Sizes():
    ...     torch.zeros(torch.ones(3).shape)
    tensor([0., 0., 0.])
    >>> with Sizes():
    ...     bool(torch.ones(3).numel() > 2)
    Traceback (most recent call last):
    ...
    spikescope.dynamics.graphs.sizes.ShapeReadError: depends on a shape, a device or a layout: ...
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        told = any(type(argument) is _Size for argument in (*args, *kwargs.values()))
        if func in _NEVER or (told and func not in _OF_A_SHAPE):
            _refuse()
        out = func(*args, **kwargs)
        if type(out) is int:
            return _Size(out)
        if isinstance(out, tuple) and all(type(each) is int for each in out):
            return _Shape(map(_Size, out))
        if type(out) is bool and func not in _ANSWERED:
            _refuse()
        return out
