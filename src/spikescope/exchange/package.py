"""The optional package nir, its parameters and its arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import missing_extra

__all__: list[str] = []

Array = Any  # a NumPy array or a number


class Unrepresentable(ValueError):
    """Something that one side has and the other has not; its text says what, without the name of the node."""


def nir_package() -> Any:
    """The package nir, or an error that says how to install it."""
    try:
        import nir
    except ImportError as error:
        raise missing_extra("nir", "nir", "NIR graphs and files") from error
    return nir


def check_dt(owner: str, dt: Any) -> float:
    """Refuse a time step that is not a positive number of seconds."""
    if isinstance(dt, bool) or not isinstance(dt, (int, float, np.number)) or not 0 < float(dt) < math.inf:
        raise ValueError(f"{owner}: dt, the seconds that one step stands for, must be above 0, but got {dt!r}.")
    return float(dt)


def array_of(tensor: Tensor) -> Array:
    """A tensor as an array; bfloat16, which NumPy has not, as float32."""
    held = tensor.detach().cpu()
    return (held.float() if held.dtype == torch.bfloat16 else held).numpy().copy()


def tensor_of(array: Array) -> Tensor:
    """An array as a tensor of its own; whole numbers, which cannot be learned, as floating-point ones."""
    held = torch.from_numpy(np.array(array))
    return held if held.is_floating_point() else held.to(torch.get_default_dtype())


def wide(value: Any) -> Array:
    """A field as a float64 array or number, to calculate with."""
    if isinstance(value, Tensor) and value.ndim:
        return array_of(value).astype(np.float64)
    return float(value.item() if isinstance(value, Tensor) else value)


def filled(value: Array, shape: Sequence[int]) -> Array:
    """A parameter of a NIR node: one float32 for each neuron."""
    return np.broadcast_to(np.asarray(value, dtype=np.float32), tuple(shape)).copy()


def plain(array: Array) -> Array:
    """A number if all neurons have the same, and else the array, in float64.

    The number is the shortest decimal that stands for it in its precision, so that the float32 of 0.02 gives 0.02.
    """
    array = np.asarray(array)
    if array.size and (array == array.flat[0]).all():
        return float(str(array.flat[0]))
    return array.astype(np.float64)


def in_steps(seconds: Array, dt: float) -> Array:
    """A time in steps; a number to twelve digits, so that 0.0003 s are 3 steps of 0.0001 s."""
    steps = plain(seconds) / dt
    return steps if np.ndim(steps) else float(f"{steps:.12g}")


def without_rounding(gain: Array) -> Array:
    """A gain, and 1 where it differs from 1 by no more than the rounding of float32."""
    return np.where(np.abs(gain - 1) <= 2.0**-22, 1.0, gain)


def field(value: Array) -> Any:
    """What `plain` and calculations with it gave, as a field of a neuron: a number or a float32 tensor."""
    return torch.from_numpy(np.asarray(value, dtype=np.float32)) if np.ndim(value) else float(value)
