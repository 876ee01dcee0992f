"""The functions of `spikescope.quantize` as classes with `apply`, by their names in both ages, and small helpers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ... import quantize

__all__ = [
    "CeilATGF",
    "ClampATGF",
    "FloorATGF",
    "KBitQuantizeATGF",
    "MultiLevelSpikeCountATGF",
    "RoundATGF",
    "StepQuantizeATGF",
    "ceil_atgf",
    "clamp_atgf",
    "clamp_backward",
    "floor_atgf",
    "k_bit_quantize_atgf",
    "k_bit_quantize_forward",
    "round_atgf",
    "step_quantize_atgf",
    "step_quantize_forward",
    "unpack_len1_tuple",
]


class Straight:
    """A function of `quantize`, called as `apply(x, ...)`."""

    of: ClassVar[Any]

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The value, whose gradient is that of the function."""
        return cls.of(*args)


def _class(name: str) -> type[Straight]:
    function = getattr(quantize, name)
    about = f"`quantize.{name}` as a class: `{name}_atgf.apply(x, ...)`."
    return type(f"{name}_atgf", (Straight,), {"of": staticmethod(function), "__doc__": about, "__module__": __name__})


ceil_atgf = _class("ceil")
clamp_atgf = _class("clamp")
floor_atgf = _class("floor")
k_bit_quantize_atgf = _class("k_bit_quantize")
round_atgf = _class("round")
step_quantize_atgf = _class("step_quantize")


CeilATGF, FloorATGF, RoundATGF = ceil_atgf, floor_atgf, round_atgf
ClampATGF, KBitQuantizeATGF, StepQuantizeATGF = clamp_atgf, k_bit_quantize_atgf, step_quantize_atgf


class MultiLevelSpikeCountATGF(Straight):
    """`quantize.multi_level_spike_count` as a class: `apply(x, max_spike_count, grad_min, grad_max)`."""

    @staticmethod
    def of(x: Tensor, max_spike_count: int, grad_min: float, grad_max: float) -> Tensor:
        return quantize.multi_level_spike_count(x, max_spike_count, (grad_min, grad_max))


k_bit_quantize_forward, step_quantize_forward = quantize.k_bit_quantize, quantize.step_quantize


def clamp_backward(grad_output: Tensor, x: Tensor, min_value: float, max_value: float) -> Tensor:
    """The gradient of `x` in `quantize.clamp`.

    >>> clamp_backward(torch.ones(3), torch.tensor([-1.0, 0.0, 0.5]), 0.0, 1.0)
    tensor([0., 1., 1.])
    """
    with torch.enable_grad():
        held = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(quantize.clamp(held, min_value, max_value), held, grad_output)
    return grad


def unpack_len1_tuple(x: Any) -> Any:
    """What a tuple of one holds; all else as it is.

    >>> unpack_len1_tuple((3,)), unpack_len1_tuple((3, 4)), unpack_len1_tuple(5)
    (3, (3, 4), 5)
    """
    return x[0] if isinstance(x, tuple) and len(x) == 1 else x
