"""Which steps of a run each gradient is of: a backward pass comes from the last, and need not come by all of them."""

from __future__ import annotations

from collections import deque

__all__ = ["Walk", "Walks"]

_RUNS = 8  # back to which a backward pass may come
_KINDS = 64  # changes of the length of a call, back to which it may come

Calls = tuple[int, int, int]
"""Calls of as many steps each, one after the other: the number of the first, where it begins, the steps."""


UNSEEN = (
    "A gradient came of a call whose forward pass was not seen, or long ago: its step is not known. Record from before "
    "the forward pass on, and go backwards before many more runs."
)


class Walk:
    """A backward pass through the calls of a run.

    A tensor knows which call it is of. Those of a checkpoint that is computed again may not: they are taken to come one
    after the other. Nothing depends on what a backward pass does not come by: its gradient is zero.

    - `run`: its number. `begin`: that of its first call.
    - `steps`: of the run so far. `floor`: those before it were there when the last pass came.
    - `first`: where what has come of this one begins. `came`: whether anything has. `sure`: all of it knew its call.
    - `gap`: the steps between what came last and what came before it.
    """

    __slots__ = (
        "_ahead",
        "_before",
        "_last",
        "_number",
        "begin",
        "came",
        "first",
        "floor",
        "gap",
        "run",
        "steps",
        "sure",
    )

    def __init__(self) -> None:
        self.run = self.begin = self.steps = self.first = self.floor = 0
        self.came, self.sure, self.gap = False, True, range(0)
        self._ahead = 0  # the step before which the next gradient ends, if it does not know its call
        self._number = 0  # of the last call
        self._last: Calls | None = None
        self._before: deque[Calls] = deque(maxlen=_KINDS)  # those before, of other steps

    def go_on(self, number: int, steps: int, anew: bool) -> None:
        """The forward pass goes on by a call of this number, of so many steps; `anew`: another run begins with it."""
        if anew:
            self.steps, self._last = 0, None
            self._before.clear()
        if anew or not self.begin:
            self.begin = number
        if anew or self.came:
            self.came, self.sure, self.floor = False, True, self.steps
        last = self._last
        if last is None or last[2] != steps or last[1] + (number - last[0]) * steps != self.steps:
            if last is not None and last[0] != number:  # the same: nobody counts, as in a checkpoint
                self._before.append(last)
            self._last = number, self.steps, steps
        self._number = number
        self.steps += steps
        self.first = self._ahead = self.steps

    def has(self, number: int) -> bool:
        """Whether a call is one of this run, or of a later one."""
        return 0 < self.begin <= number

    def _start(self, number: int | None) -> int | None:
        """Where a call begins; None where that is not known."""
        held = self._last
        if number is None or held is None or number > self._number:
            return None
        if number < held[0]:
            held = next((each for each in reversed(self._before) if number >= each[0]), None)
            if held is None:
                return None
        first, start, steps = held
        return start + (number - first) * steps

    def come(self, number: int | None, steps: int) -> int | None:
        """Where a gradient of so many steps begins; None if they have theirs already, or were not seen before."""
        start = self._start(number)
        if start is None:
            if number is not None:
                return None
            self.sure = False
            start = self._ahead - steps
        stop = start + steps
        if start < 0 or stop > self.first:
            return None
        self.gap = range(stop, self.first)
        self.first = self._ahead = start
        self.came = True
        return start

    def again(self, number: int | None, steps: int) -> int:
        """The same of another backward pass through these steps."""
        self.first = self._ahead = max(self.steps, steps)
        start = self.come(number, steps)
        if start is None:
            raise ValueError(UNSEEN)
        return start

    def miss(self, number: int | None) -> range:
        """The steps of a call without a gradient, and of those behind it of which none has come either."""
        start = self._start(number)
        if start is None:
            if number is None and self._last is not None:
                self._ahead = max(0, self._ahead - self._last[2])
        elif self.floor <= start < self._ahead:
            self._ahead = start
        missed = range(self._ahead, self.first if self.came else 0)
        self.first -= len(missed)
        return missed

    def rest(self, bare: int) -> range:
        """The steps that a backward pass, of which no more comes, did not come by; the call `bare` had no graph."""
        if self.first <= self.floor or not (self.came and self.sure):
            return range(0)
        begun, start = self._start(bare), self._start(bare + 1)
        floor = self.floor if begun is None else self.steps if start is None else start
        return range(max(floor, self.floor), self.first)


class Walks:
    """The last runs of a module, to which backward passes may come; `last` is the one that goes on forwards."""

    def __init__(self) -> None:
        self._held = deque(Walk() for _ in range(_RUNS))
        self.last = self._held[-1]

    def begin(self, run: int) -> None:
        """Another run begins."""
        self._held.rotate(-1)
        self.last = self._held[-1]
        self.last.run = run

    def of(self, number: int) -> Walk:
        """The run of a call; a ValueError where it is of none of these."""
        found = next((held for held in reversed(self._held) if held.has(number)), None)
        if found is None:
            raise ValueError(UNSEEN)
        return found
