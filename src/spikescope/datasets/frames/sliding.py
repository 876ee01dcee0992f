r"""Frames of a stream of events while it comes: the last $w$ of time, again every $d$ of it.

With the ends $e_k = t_0 + k d$, $k = 1, 2, \dots$, frame $k$ counts the events with $e_k - w \le t < e_k$. It is due as
soon as time has come to $e_k$, which an event tells, or the clock of whoever listens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..events import Array, check_inside, columns
from ..faults import EventsError, OptionError
from .counting import count_frames
from .integrate import check_count, check_positive, comparable, in_order

__all__ = ["SlidingWindows"]

_FAR = 1 << 62  # times beyond it have no room for a window in 64 bits
MOST = 1 << 30
"""Bytes of frames that one call may give: an hour of silence is more likely an error in the times."""


class SlidingWindows:
    """Makes frames of events as they come, in parts of any size; the same frames, however they are parted.

    - `H`, `W`: of the sensor. `window`, `step`: in the unit of the times; None for `step` is the window itself.
    - `start`: $t_0$; None takes the time of the first event.

    It holds the events of the last window alone.

    >>> windows = SlidingWindows(1, 2, window=10, step=5, start=0)
    >>> events = {"t": np.array([1, 6, 7]), "x": np.array([0, 1, 1]), "y": np.zeros(3, int), "p": np.ones(3, int)}
    >>> frames, ends = windows.push(events)
    >>> frames[:, 1, 0].tolist(), ends.tolist()
    ([[1.0, 0.0]], [5])
    >>> frames, ends = windows.advance(20)  # no events came until then
    >>> frames[:, 1, 0].tolist(), ends.tolist()
    ([[1.0, 2.0], [0.0, 2.0], [0.0, 0.0]], [10, 15, 20])
    """

    def __init__(self, H: int, W: int, window: float, step: float | None = None, start: float | None = None) -> None:
        step = window if step is None else step
        check_positive("window", window)
        check_positive("step", step)
        self.H, self.W = check_count("H", H), check_count("W", W)
        if start is not None:
            _check_finite("start", start)
        self.window, self.step, self.start = window, step, start
        self.reset()

    def reset(self) -> None:
        """Begin anew, with no events, and at `start` again."""
        self._zero: Any = self.start
        self._given = 0
        self._now: Any = None
        self._held: list[Array] = []

    def push(self, events: Any) -> tuple[Array, Array]:
        """Take events, in order of time and after those before; the frames `[K, 2, H, W]` that are due, and their ends.

        EventsError leaves everything as it was.
        """
        t, *others = columns(events)
        if not t.size:
            return self._due(self._now)
        if t.dtype.kind == "f" and not np.isfinite(t).all():
            raise EventsError("The times of events must be finite, but some are inf or nan.")
        first, last = t[0].item(), t[-1].item()  # numbers of Python, which do not overflow
        if not in_order(t):
            raise EventsError("The events are not in order of time. A stream comes in that order; sort a file first.")
        if not -_FAR < first <= last < _FAR:
            raise EventsError(f"The times of events go from {first} to {last}, but must be within 2**62 of 0.")
        t = comparable(t)
        self._check(first)
        for name, values, size in (("x", others[0], self.W), ("y", others[1], self.H)):
            check_inside(name, values, size)
        zero = first if self._zero is None else self._zero
        if first < zero:
            raise EventsError(f"An event of the time {first} comes before the start, {zero}.")
        self._check_number(zero, last)
        held = self._held or [values[:0] for values in (t, *others)]
        self._held = [np.concatenate(pair) for pair in zip(held, (t, *others), strict=True)]
        self._zero = zero
        return self._due(last)

    def advance(self, now: float) -> tuple[Array, Array]:
        """Let time pass without events until `now`; what is due, as `push` gives it."""
        _check_finite("now", now)
        self._check(now)
        if self._zero is not None:
            self._check_number(self._zero, now)
        return self._due(now)

    def _due(self, now: Any) -> tuple[Array, Array]:
        self._now = now
        about = 0 if now is None or self._zero is None else int((now - self._zero) // self.step) + 1
        ends = (self._zero or 0) + self.step * np.arange(self._given + 1, max(about, self._given) + 1)
        ends = ends[ends <= now] if len(ends) else ends  # of fractions the quotient may be one off, the ends decide
        count = len(ends)
        if not count:
            return np.zeros((0, 2, self.H, self.W)), np.zeros(0, np.int64)
        self._given += count
        if not self._held:
            return np.zeros((count, 2, self.H, self.W)), ends
        t, x, y, p = self._held
        left, right = np.searchsorted(t, ends - self.window), np.searchsorted(t, ends)
        frames = count_frames(x, y, p, self.H, self.W, left, right)
        first = int(np.searchsorted(t, ends[-1] + self.step - self.window))
        self._held = [values[first:].copy() for values in self._held]
        return frames, ends

    def _check(self, now: Any) -> None:
        if self._now is not None and not now >= self._now:
            raise EventsError(f"Time goes back, from {self._now} to {now}. Call reset() for another stream.")

    def _check_number(self, zero: Any, now: Any) -> None:
        count = (now - zero) // self.step - self._given
        if count * 2 * self.H * self.W * 8 > MOST:
            raise EventsError(
                f"{now - zero} of time since the start are {count:.0f} frames at once. Call reset() where a stream "
                "begins anew, or look for a jump in the times."
            )


def _check_finite(name: str, time: Any) -> None:
    """Refuse anything but a number that is a time."""
    number = isinstance(time, (int, float, np.integer, np.floating)) and not isinstance(time, bool)
    if not number or not -_FAR < time < _FAR:
        raise OptionError(f"{name} must be a time, a number within 2**62 of 0, but got {time!r}.")
