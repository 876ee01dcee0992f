"""What a network is given."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from ....form import tensors_of
from ....recording.records import Moment
from .nonfinite import Place, first_bad
from .watcher import Rule, Watcher, earliest, first, least, most, total

__all__ = ["Inputs"]

_COMPARED = 8  # calls in which neighbours are compared


class Inputs(Watcher):
    """The range of the first tensor that the network is given, and how alike neighbours in its first two axes are."""

    joins: ClassVar[dict[str, Rule | None]] = {
        "_bad": earliest,
        "low": least,
        "high": most,
        "shapes": first,
        "calls": most,
        "_compared": most,
        "_sums": total,
        "_steps": total,
    }

    def __init__(self) -> None:
        self._bad: tuple[int, Place] | None = None  # the call, and where it was not finite
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
            bad = first_bad(held, Moment("", 0, 0, 0, steps, None))
            self._bad = None if bad is None else (self.calls, bad)
        self.calls += 1
        if self.bad is not None:
            return
        x = held if held.dtype in (torch.float32, torch.float64) else held.float()  # half has no room for squares
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
    def bad(self) -> Place | None:
        """Where the first value was that is not finite."""
        return None if self._bad is None else self._bad[1]

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
