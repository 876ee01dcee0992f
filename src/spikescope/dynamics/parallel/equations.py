"""The slope of a surrogate as a flat graph, from the one definition that it has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...internals import vector_jacobian
from ..graphs.firing import firing
from ..graphs.trace import Body, UnsupportedOperationError, split

__all__ = ["Slope", "refusal", "slope"]


class Slope(NamedTuple):
    """What the slope of a surrogate depends on: all but its numbers."""

    form: str
    kinds: str  # an 'n' for each of its numbers

    @property
    def name(self) -> str:
        """What it is called where it cannot be traced."""
        return self.form

    def gradient(self, inputs: list[Tensor], values: list[Any]) -> tuple[Tensor, ...]:
        """The gradient of the sums, from them and that of the spikes."""
        h = inputs[0].detach().requires_grad_()
        with torch.enable_grad():
            y = firing(self.form, iter(values))(h)
        return vector_jacobian([y], [h], [inputs[1]])


@cache
def slope(of: Slope, real: torch.dtype) -> Body:
    """Its graph for sums of the dtype `real`, made once a process."""
    with ThreadPoolExecutor(1) as thread:  # a caller may be without autograd, or under modes of PyTorch
        return thread.submit(split, of, of.gradient, ["h", "gy"], real, "c", 0).result()


@cache
def refusal(of: Slope, real: torch.dtype) -> str | None:
    """Why there is no kernel with this slope; None if there is one."""
    try:
        slope(of, real)
    except UnsupportedOperationError as error:
        return str(error)
    return None
