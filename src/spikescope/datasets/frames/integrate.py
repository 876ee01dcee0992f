r"""Events to frames: by number, by time, by duration.

A frame $F$ is $[2, H, W]$: $F_{c, y, x}$ counts the events at $(x, y)$ whose polarity is 0 for $c = 0$, and those of
any other polarity for $c = 1$. Sensors of one line (cochleas) have frames $[W]$. Counts are float64.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..events import Array, check_inside, column, columns
from ..faults import EventsError, OptionError, UnsortedWarning
from .counting import count_frames

__all__ = [
    "cal_fixed_frames_number_segment_index",
    "duration_bounds",
    "integrate_events_by_fixed_duration",
    "integrate_events_by_fixed_frames_number",
    "integrate_events_segment_to_frame",
    "integrate_units",
    "segments",
]


def cal_fixed_frames_number_segment_index(
    events_t: Array, split_by: str, frames_num: int, whole: bool = True
) -> tuple[Array, Array]:
    r"""First event and end `(j_l, j_r)` of each of $M$ frames.

    - by `'number'`: $d = \lfloor N / M \rfloor$ events each, the last frame takes what is left;
    - by `'time'`: frame $j$ takes $t_0 + D j \le t < t_0 + D (j + 1)$ with $D = \lfloor (t_{N-1} - t_0) / M \rfloor$
      (or without rounding if not `whole`), the last frame all from there on.

    An interval without events is an empty frame.

    >>> cal_fixed_frames_number_segment_index(np.array([0, 1, 2, 9]), "time", 3)
    (array([0, 3, 3]), array([3, 3, 4]))
    """
    t, frames = np.asarray(events_t), check_count("frames_number", frames_num)
    if split_by not in ("number", "time"):
        raise OptionError(f"split_by must be 'number' or 'time', but got {split_by!r}.")
    _check_some(t)
    if split_by == "number":
        left = np.arange(frames, dtype=np.int64) * (len(t) // frames)
        right = left + len(t) // frames
    else:
        t = comparable(t)
        step = (t[-1] - t[0]) // frames if whole else (t[-1] - t[0]) / frames
        starts = [step * j + t[0] for j in range(frames)]
        left, right = _between(t, np.array(starts), np.array([start + step for start in starts]))
    right[-1] = len(t)
    return left, right


def duration_bounds(events_t: Array, duration: float) -> Array:
    r"""The first events of all frames by duration, and the end: a frame takes $t \le t_{left} + d$ from its first on.

    >>> duration_bounds(np.array([0, 4, 5, 6, 20]), 5)
    array([0, 3, 4, 5])
    """
    t = comparable(np.asarray(events_t))
    _check_some(t)
    check_positive("duration", duration)
    bounds = [0]
    if not in_order(t):
        _warn_unsorted("taken in the order of the file, and a frame ends before the first event beyond its duration")
        while bounds[-1] < len(t):
            bounds.append(_first_beyond(t, bounds[-1], duration))
    while bounds[-1] < len(t):
        left = bounds[-1]
        found = int(np.searchsorted(t, t[left] + duration, side="right"))
        # in floating point, t - t[left] rounds otherwise than t[left] + d: what counts is the former
        while found < len(t) and t[found] - t[left] <= duration:
            found += 1
        while found > left + 1 and t[found - 1] - t[left] > duration:
            found -= 1
        bounds.append(max(found, left + 1))
    return np.array(bounds)


def _first_beyond(t: Array, left: int, duration: float) -> int:
    """The first event after `left` whose time is more than `duration` later, found in growing windows."""
    start, size = left + 1, 256
    while start < len(t):
        beyond = np.flatnonzero(t[start : start + size] - t[left] > duration)
        if beyond.size:
            return start + int(beyond[0])
        start, size = start + size, 2 * size
    return len(t)


def integrate_events_segment_to_frame(
    x: Array, y: Array, p: Array, H: int, W: int, j_l: int = 0, j_r: int | None = None
) -> Array:
    """The frame `[2, H, W]` of the events from `j_l` up to `j_r` (None: up to the last).

    >>> x, y, p = np.array([1, 1, 0]), np.array([0, 0, 1]), np.array([1, 1, 0])
    >>> integrate_events_segment_to_frame(x, y, p, 2, 2).tolist()
    [[[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]]]
    """
    part = slice(j_l, j_r)
    x, y, p = (np.asarray(values)[part] for values in (x, y, p))
    return count_frames(x, y, p, H, W, np.array([0]), np.array([len(x)]))[0]


def integrate_events_by_fixed_frames_number(events: Any, split_by: str, frames_num: int, H: int, W: int) -> Array:
    """Frames `[frames_num, 2, H, W]` of one sample, split by `'number'` of events or by `'time'`.

    >>> events = {"t": np.array([0, 1, 2, 3]), "x": np.arange(4), "y": np.zeros(4, int), "p": np.array([0, 1, 0, 1])}
    >>> integrate_events_by_fixed_frames_number(events, "number", 2, 1, 4).sum((1, 2)).tolist()
    [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    """
    t, x, y, p = columns(events)
    return count_frames(x, y, p, H, W, *cal_fixed_frames_number_segment_index(t, split_by, frames_num))


def integrate_events_by_fixed_duration(events: Any, duration: float, H: int, W: int) -> Array:
    """Frames `[T, 2, H, W]` of one sample, each of events that are at most `duration` later than its first.

    >>> events = {"t": np.array([0, 5, 6]), "x": np.zeros(3, int), "y": np.zeros(3, int), "p": np.ones(3, int)}
    >>> integrate_events_by_fixed_duration(events, 5, 1, 1).ravel().tolist()
    [0.0, 2.0, 0.0, 1.0]
    """
    t, x, y, p = columns(events)
    bounds = duration_bounds(t, duration)
    return count_frames(x, y, p, H, W, bounds[:-1], bounds[1:])


def integrate_units(x: Array, W: int, left: Array, right: Array) -> Array:
    """Frames `[T, W]` of a sensor of one line: the events of each unit from `left[j]` up to `right[j]`.

    >>> integrate_units(np.array([0, 2, 2]), 3, np.array([0, 1]), np.array([1, 3])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]
    """
    check_inside("x", x, W)
    counted = [np.bincount(x[a:b].astype(np.intp), minlength=W) for a, b in zip(left, right, strict=True)]
    return np.array(counted, np.float64).reshape(len(left), W)


def segments(events: Any, split_by: str | None, frames_number: int | None, duration: float | None) -> Array:
    """Pairs `[T, 2]` of first event and end of the frames by whichever of the three ways is asked for."""
    t = column(events, "t")
    if frames_number is not None:
        return np.stack(cal_fixed_frames_number_segment_index(t, str(split_by), frames_number), axis=1)
    if duration is None:
        raise OptionError("Give frames_number with split_by, or duration.")
    bounds = duration_bounds(t, duration)
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def in_order(t: Array) -> bool:
    """Whether times never go back."""
    return bool((t[1:] >= t[:-1]).all())


def check_count(name: str, value: Any) -> int:
    """A whole number above 0, or a refusal."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value <= 0:
        raise OptionError(f"{name} must be a whole number above 0, but got {value!r}.")
    return int(value)


def check_positive(name: str, value: Any) -> None:
    """Refuse anything but a number above 0."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise OptionError(f"{name} must be a number above 0, in the unit of the times, but got {value!r}.")


def comparable(t: Array) -> Array:
    """Times that can be subtracted: unsigned ones would wrap around below 0."""
    return t if t.dtype.kind == "f" else t.astype(np.int64, copy=False)


def _between(t: Array, starts: Array, ends: Array) -> tuple[Array, Array]:
    if in_order(t):
        return np.searchsorted(t, starts), np.searchsorted(t, ends)
    _warn_unsorted("split by time, a frame takes all from the first event in its interval to the last one")
    found = [np.flatnonzero((t >= start) & (t < end)) for start, end in zip(starts, ends, strict=True)]
    bounds = [(inside[0], inside[-1] + 1) if inside.size else (len(t), len(t)) for inside in found]
    left, right = np.array(bounds, np.int64).T.copy()
    return left, right


def _warn_unsorted(consequence: str) -> None:
    warnings.warn(
        f"The events are not in order of time: {consequence}. Sort them first, if the file is not meant so.",
        UnsortedWarning,
        stacklevel=4,
    )


def _check_some(t: Array) -> None:
    if t.ndim != 1 or not t.size:
        raise EventsError(
            f"There must be at least one event to make frames of, but the times have the shape {t.shape}."
        )
    if t.dtype.kind == "f" and not np.isfinite(t).all():
        raise EventsError("The times of events must be finite, but some are inf or nan.")
