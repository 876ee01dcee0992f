"""The triggers of the flight recorder: the signs that something has gone wrong, a class each."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from ...errors import check_choice

__all__ = ["OUTSIDE", "Function", "Step", "Trigger", "Watch", "registry", "watches"]


class Trigger(NamedTuple):
    """Why the last steps were written down, and where it was seen.

    - `step`: of training, counted from 0 since the recorder began. `layer`, `sample`, `time`: the module, the sample of
      the batch and the step since the reset, where these are known.
    """

    kind: str
    step: int
    words: str
    layer: str | None = None
    sample: int | None = None
    time: int | None = None


class Step(NamedTuple):
    """What is known of a step of training when it is over.

    - `number`: counted from 0. `loss`: where the recorder was told. `fired`: by layer, whether any neuron did.
    """

    number: int
    loss: float | None
    fired: Mapping[str, bool]


class Watch:
    """A sign that is looked for at the end of each step; `name` is what `on=` calls it."""

    name = ""

    def __init__(self, keep: int) -> None:
        self.keep = keep

    def look(self, step: Step) -> Trigger | None:
        """The trigger, where the sign is there."""
        raise NotImplementedError


class Silent(Watch):
    """A layer that fired has been silent for some steps in a row: in one step alone, a sparse one may be by chance."""

    name = "silent"
    PATIENCE = 3

    def __init__(self, keep: int) -> None:
        super().__init__(keep)
        self.since: dict[str, int] = {}  # of layers that have fired: the step in which they did last

    def look(self, step: Step) -> Trigger | None:
        patience = min(self.PATIENCE, max(1, self.keep - 1))
        gone = []
        for name, fired in step.fired.items():
            if fired:
                self.since[name] = step.number
            elif name in self.since and step.number - self.since[name] >= patience:
                gone.append((self.since.pop(name) + 1, name))
        if not gone:
            return None
        first = min(number for number, _ in gone)
        layers = [name for number, name in gone if number == first]
        more = f", as {len(layers) - 1} behind it" if len(layers) > 1 else ""
        return Trigger(self.name, first, f"{layers[0]!r} fired, and is silent since step {first}{more}", layers[0])


class LossJump(Watch):
    r"""A loss far above the last ones: $L > m + 10 \max(s, |m| / 10)$, with their median $m$ and its deviation $s$."""

    name = "loss jump"
    SEEN, FAR = 8, 10.0

    def __init__(self, keep: int) -> None:
        super().__init__(keep)
        self.last: deque[float] = deque(maxlen=max(keep, 20))

    def look(self, step: Step) -> Trigger | None:
        loss = step.loss
        if loss is None or not math.isfinite(loss):
            return None
        known = sorted(self.last)
        self.last.append(loss)
        if len(known) < self.SEEN:
            return None
        middle = statistics.median(known)
        if loss <= middle + self.FAR * abs(middle) / 10:  # as in nearly all steps
            return None
        spread = 1.4826 * statistics.median(abs(held - middle) for held in known)
        if loss <= middle + self.FAR * max(spread, abs(middle) / 10):
            return None
        return Trigger(self.name, step.number, f"the loss is {loss:.4g}, and was {middle:.4g}")


class Function(Watch):
    """A function of the user's, from a `Step` to what is to be said, or to whether something is to be."""

    def __init__(self, given: Callable[[Step], Any], keep: int) -> None:
        super().__init__(keep)
        self.given = given
        self.name = getattr(given, "__name__", type(given).__name__).strip("<>")

    def look(self, step: Step) -> Trigger | None:
        with torch.no_grad():
            said = self.given(step)
        words = said if isinstance(said, str) else f"{self.name} says so"
        return Trigger(self.name, step.number, words) if said else None


registry: dict[str, type[Watch]] = {held.name: held for held in (Silent, LossJump)}
OUTSIDE = ("nonfinite", "exception", "signal")
"""Signs that are not looked for at the end of a step alone."""


def watches(on: Any, keep: int) -> tuple[list[Watch], frozenset[str]]:
    """The watches of `on`, and which of `OUTSIDE` are in it; anything else is refused in words."""
    given = (on,) if isinstance(on, str) or callable(on) else tuple(on)
    made: list[Watch] = []
    outside = set()
    for one in given:
        if callable(one):
            made.append(Function(one, keep))
            continue
        check_choice("flight_recorder", "on", one, (*registry, *OUTSIDE))
        if one in registry:
            made.append(registry[one](keep))
        else:
            outside.add(one)
    return made, frozenset(outside)
