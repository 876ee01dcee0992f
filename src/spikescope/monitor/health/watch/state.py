"""What the state of a neuron shows after its calls."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ....form import tensors_of
from ....neuron import Neuron
from ....recording.records import Moment
from .nonfinite import Place, first_bad

__all__ = ["State"]

_ONE_STEP = Moment("", 0, 0, 0, 1, None)


class State:
    """What the state of a neuron shows after its calls; in compiled code, which writes it last, after the one before.

    Spikes tell nothing of it: a potential that is NaN, or far below rest, is as silent as one that lacks input.
    Distances from rest are in units of the distance of the threshold.
    """

    def __init__(self, neuron: Neuron) -> None:
        self.neuron: Any = neuron
        self.broken: Place | None = None  # where it was not finite, with the step after which it was seen
        self.top, self.bottom = -math.inf, math.inf  # the largest and the least distance of a potential from rest
        self._side, self._calls = 0.0, 0  # the sum of the mean distances from rest, with their sign

    def look(self, step: int) -> None:
        """A call is over."""
        if self.broken is None:
            bad = first_bad([held.detach() for held in tensors_of(self.neuron._memories)], _ONE_STEP)
            self.broken = bad if bad is None else bad._replace(step=step)
        v = self.neuron._memories.get("v")
        if self.broken is None and isinstance(v, Tensor) and v.numel() and v.is_floating_point():
            above = (v.detach() - self.rest) / self.scale
            least, most = above.aminmax()
            self.top, self.bottom = max(self.top, most.item()), min(self.bottom, least.item())
            self._side, self._calls = self._side + above.mean(dtype=torch.float64).item(), self._calls + 1

    @property
    def rest(self) -> float:
        """The potential after a reset, 0 with a soft one."""
        return _number(getattr(self.neuron, "v_reset", None))

    @property
    def scale(self) -> float:
        """The distance of the threshold from rest."""
        return abs(_number(getattr(self.neuron, "v_threshold", None), 1.0) - self.rest) or 1.0

    @property
    def reach(self) -> float:
        """The largest distance of a potential from rest."""
        return max(self.top, -self.bottom, 0.0)

    @property
    def mean(self) -> float:
        """The mean distance from rest, with its sign."""
        return self._side / self._calls if self._calls else 0.0

    @property
    def below(self) -> bool:
        """Whether the potentials lie well below rest, on the whole: what drives them there is input, not its lack."""
        return self.mean < -0.1


def _number(value: Any, missing: float = 0.0) -> float:
    """A field as one number: of many the mean."""
    if value is None:
        return missing
    found = value.detach().double().mean().item() if isinstance(value, Tensor) else float(value)
    return found if math.isfinite(found) else missing
