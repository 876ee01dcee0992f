"""What the state of a neuron shows after its calls."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor, nn

from ....form import at_path
from ....recording.records import Moment
from ...choose.kinds import potential_of, state_of
from ...choose.signals import threshold_name
from .nonfinite import Place, first_bad
from .watcher import Rule, Watcher, earliest, least, most

__all__ = ["State"]

_ONE_STEP = Moment("", 0, 0, 0, 1, None)


class State(Watcher):
    """What the state of a neuron shows after its calls; in compiled code, which writes it last, after the one before.

    Spikes tell nothing of it: a potential that is NaN, or far below rest, is as silent as one that lacks input.
    Distances from rest are in units of the distance of the threshold.
    """

    joins: ClassVar[dict[str, Rule | None]] = {"_broken": earliest, "top": most, "bottom": least}
    stays = frozenset({"neuron", "_step", "_calls"})

    def __init__(self, neuron: nn.Module) -> None:
        self.neuron: Any = neuron
        self._broken: tuple[int, Place] | None = None  # the call, and where it was not finite after it
        self._calls = 0
        self.top, self.bottom = -math.inf, math.inf  # the largest and the least distance of a potential from rest
        self._step = 0

    def look(self, step: int, out: Any = None) -> None:
        """A call is over, and gave `out`."""
        self._step = step
        self._calls += 1
        if self.broken is None:
            bad = first_bad([held.detach() for held in state_of(self.neuron, out)], _ONE_STEP)
            self._broken = None if bad is None else (self._calls, bad._replace(step=step))
        v = potential_of(self.neuron, out)
        if self.broken is None and v is not None:
            above = (v.detach() - self.rest) / self.scale
            least, most = above.aminmax()
            self.top, self.bottom = max(self.top, most.item()), min(self.bottom, least.item())

    def settle(self) -> None:
        """Somebody reads: the last call of compiled code has written its state by now."""
        self.look(self._step)

    @property
    def broken(self) -> Place | None:
        """Where it was not finite, with the step after which that was seen."""
        return None if self._broken is None else self._broken[1]

    @property
    def rest(self) -> float:
        """The potential after a reset, 0 with a soft one."""
        return _number(getattr(self.neuron, "v_reset", None))

    @property
    def scale(self) -> float:
        """The distance of the threshold from rest."""
        return abs(_number(self._threshold(), 1.0) - self.rest) or 1.0

    def _threshold(self) -> Any:
        name = threshold_name(self.neuron)
        return None if name is None else at_path(self.neuron, name)

    @property
    def reach(self) -> float:
        """The largest distance of a potential from rest."""
        return max(self.top, -self.bottom, 0.0)


def _number(value: Any, missing: float = 0.0) -> float:
    """A field as one number: of many the mean of those that are finite."""
    if value is None:
        return missing
    if isinstance(value, Tensor):
        held = value.detach().double()
        return _number(held[held.isfinite()].mean().item(), missing)
    found = float(value)
    return found if math.isfinite(found) else missing
