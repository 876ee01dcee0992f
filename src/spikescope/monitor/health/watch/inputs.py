"""What a network is given."""

from __future__ import annotations

import math
from typing import Any

import torch

from ....form import tensors_of
from ....recording.records import Moment
from .nonfinite import Place, first_bad

__all__ = ["Inputs"]

_COMPARED = 8  # calls in which neighbours are compared


class Inputs:
    """The range of the first tensor that the network is given, and how alike neighbours in its first two axes are."""

    def __init__(self) -> None:
        self.bad: Place | None = None
        self.low, self.high = math.inf, -math.inf
        self.shapes: list[tuple[int, ...]] = []  # of the calls, each once
        self.calls = self._compared = 0
        self._sums = [0.0, 0.0, 0.0]  # count, sum, sum of squares
        self._steps = [0.0, 0.0]  # the mean differences of neighbours along the first and the second axis, summed up

    def look(self, value: Any) -> None:
        """The network was given a value."""
        held = next((held for held in tensors_of(value) if held.numel()), None)
        if held is None or held.layout != torch.strided or held.is_complex():
            return
        if self.bad is None and held.is_floating_point():
            steps = len(held) if held.ndim else 1
            self.bad = first_bad(held, Moment("", 0, 0, 0, steps, None))
        self.calls += 1
        if self.bad is not None:
            return
        x = held.float() if not held.is_floating_point() else held
        least, most = x.aminmax()
        self.low, self.high = min(self.low, least.item()), max(self.high, most.item())
        size = x.numel()
        for at, mean in enumerate((torch.ones((), device=x.device), x.mean(), x.square().mean())):
            self._sums[at] += mean.item() * size
        shape = tuple(held.shape)
        if shape not in self.shapes:
            self.shapes.append(shape)
        if self._compared < _COMPARED and x.ndim > 2 and min(shape[:2]) > 1:
            self._compared += 1
            self._steps[0] += x.diff(dim=0).abs().mean().item()
            self._steps[1] += x.diff(dim=1).abs().mean().item()

    @property
    def rms(self) -> float:
        """The root of the mean square."""
        return math.sqrt(self._sums[2] / self._sums[0]) if self._sums[0] else math.nan

    @property
    def mean(self) -> float:
        """The mean."""
        return self._sums[1] / self._sums[0] if self._sums[0] else math.nan

    @property
    def unlike(self) -> float:
        """How much neighbours along the second axis differ, in what those along the first do; NaN if not known."""
        return self._steps[1] / self._steps[0] if self._steps[0] else math.nan
