"""The cheapest segments for a budget: exact, by dynamic programming over the course of a forward pass.

At the part $p$ of the backward pass there is, with $k$ bytes kept of the parts before,

$$k + m_p + G_p + g\\,a_p$$

where $m_p$ is what the part keeps and what becomes of bits when they are unpacked, or all that a segment keeps while it
is computed again, and what it was given; $G_p$ the gradients of parameters that are there by then; and $a_p$ the
largest tensor, of which the backward pass of a layer needs a few, $g$, at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .measured import Course
from .segments import Stretch

__all__ = ["Choice", "Model", "Option", "again", "cheapest", "model", "smallest"]

_FRONT = 1024  # ways to come to a part that are followed, those that keep as much to a thousandth of the budget as one
_HALVINGS = 30


class Option(NamedTuple):
    """Some parts, as they are or as a segment: bytes that are kept of it, at work on it beside these, and seconds."""

    first: int
    last: int
    kept: int
    work: int
    largest: int
    learned: int
    seconds: float
    stretch: Stretch | None


class Choice(NamedTuple):
    """What was chosen, in the order of the parts."""

    options: tuple[Option, ...]

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The segments."""
        return tuple(option.stretch for option in self.options if option.stretch is not None)

    @property
    def seconds(self) -> float:
        """What is computed again."""
        return sum(option.seconds for option in self.options)

    @property
    def kept(self) -> int:
        """Bytes between the forward and the backward pass."""
        return sum(option.kept for option in self.options)

    def levels(self) -> list[tuple[int, int]]:
        """For each option the bytes at work on it, but for working memory; and its largest tensor."""
        found, kept = [], 0
        for option in self.options:
            found.append((kept + option.kept + option.work + option.learned, option.largest))
            kept += option.kept
        return found

    def peak(self, grow: float) -> float:
        """The most bytes of the step."""
        return max((level + grow * largest for level, largest in self.levels()), default=0.0)

    def grown(self, peak: float) -> float:
        """The number of largest tensors with which the most would be `peak`."""
        return max(0.0, min((peak - level) / largest for level, largest in self.levels() if largest))


@dataclass(frozen=True)
class Model:
    """The options by the part with which they begin; of each the first is to leave it as it is.

    Its parts are those of the course taken together between the `places` where a segment may begin or end.
    """

    options: tuple[tuple[Option, ...], ...]
    places: tuple[int, ...]

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self.options)

    @property
    def nothing(self) -> Choice:
        """No segment."""
        return Choice(tuple(options[0] for options in self.options))


def model(course: Course, lean: bool) -> Model:
    """What may be done with each part of a course."""
    parts = course.parts
    cuts = {place for call in course.stretches.values() for place in (call.first, call.last)}
    places = sorted({0, len(parts), *cuts})
    at = {place: i for i, place in enumerate(places)}
    later = [*np.cumsum([part.learned for part in reversed(parts)])[::-1].tolist(), 0]
    options: list[list[Option]] = []
    for first, last in pairwise(places):
        inside = parts[first:last]
        plain = sum(part.plain for part in inside)
        kept = sum(part.lean for part in inside) if lean else plain
        largest = max(part.largest for part in inside)
        options.append([Option(at[first], at[last], kept, plain - kept, largest, later[first], 0.0, None)])
    for stretch, call in course.stretches.items():
        inside = parts[call.first : call.last]
        work, largest = sum(part.plain for part in inside), max(part.largest for part in inside)
        cut = lean and any(call.first <= given < call.last <= taken for given, taken in course.ties)
        if work > call.given and not cut:
            places_in = at[call.first], at[call.last]
            seconds = sum(part.seconds for part in inside)
            options[places_in[0]].append(
                Option(*places_in, call.given, work, largest, later[call.first], seconds, stretch)
            )
    return Model(tuple(map(tuple, options)), tuple(places))


class _Front(NamedTuple):
    """Ways to come to a part, none of which keeps more and costs more than another: from which way, by which option."""

    kept: NDArray[np.float64]
    cost: NDArray[np.float64]
    before: NDArray[np.int64]
    option: NDArray[np.int64]


def _seconds(option: Option) -> float:
    return option.seconds


def again(option: Option) -> float:
    """Bytes that are computed again: of a network these are always the same, while its seconds are not."""
    return 0.0 if option.stretch is None else float(option.work)


def cheapest(of: Model, budget: float, grow: float, cost: Callable[[Option], float] = _seconds) -> Choice | None:
    """The options of the least cost while the step stays within `budget` bytes; None if there are none."""
    coming: list[list[_Front]] = [[] for _ in range(of.parts + 1)]
    fronts: list[_Front] = []
    start = np.zeros(1)
    coming[0].append(_Front(start, start, np.zeros(1, np.int64), np.zeros(1, np.int64)))
    for part in range(of.parts):
        front = _merged(coming[part], budget)
        fronts.append(front)
        for number, option in enumerate(of.options[part]):
            beside = option.kept + option.work + option.learned + grow * option.largest
            fits = np.flatnonzero(front.kept + beside <= budget)
            made = _Front(
                front.kept[fits] + option.kept,
                front.cost[fits] + cost(option),
                fits,
                np.full(len(fits), number + (part << 32)),
            )
            coming[option.last].append(made)
    last = _merged(coming[of.parts], budget)
    if not len(last.cost):
        return None
    return _retraced(of, [*fronts, last], int(last.cost.argmin()))


def _retraced(of: Model, fronts: Sequence[_Front], way: int) -> Choice:
    found, part = [], of.parts
    while part:
        front = fronts[part]
        code = int(front.option[way])
        way = int(front.before[way])
        part = code >> 32
        found.append(of.options[part][code & 0xFFFFFFFF])
    return Choice(tuple(reversed(found)))


def _merged(fronts: Sequence[_Front], budget: float) -> _Front:
    """The ways that are worth following."""
    if not fronts:
        none = np.zeros(0)
        return _Front(none, none, np.zeros(0, np.int64), np.zeros(0, np.int64))
    kept, cost, before, option = (np.concatenate(held) for held in zip(*fronts, strict=True))
    order = np.lexsort((kept, cost, np.floor(kept * (_FRONT / max(budget, 1)))))
    best = np.minimum.accumulate(cost[order])
    better = np.flatnonzero(np.concatenate(([True], best[1:] < best[:-1]))) if len(order) else order
    chosen = order[better]
    return _Front(kept[chosen], cost[chosen], before[chosen], option[chosen])


def smallest(of: Model, grow: float) -> Choice:
    """The options with the least peak, to a ten-thousandth of it, whatever the seconds: a floor is told to be kept."""
    low, high, best = 0.0, of.nothing.peak(grow), of.nothing
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = cheapest(of, middle, grow, again)
        if found is None:
            low = middle
        else:
            best, high = found, min(middle, found.peak(grow))
        if high - low <= 1e-4 * high:
            break
    return best
