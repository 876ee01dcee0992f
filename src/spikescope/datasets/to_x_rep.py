"""Representations of events by the names and arguments of tonic: frames, images, binary numbers, voxel grids.

They take structured arrays, dicts and open .npz files, and leave them as they are. The size of a sensor is
`(W, H, P)`, P being how many polarities are told apart, 1 or 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .events import Array, column, columns, has_column
from .faults import EventsError, OptionError
from .frames.counting import count_frames
from .frames.integrate import check_count, check_positive, comparable, in_order
from .transform import Compose

__all__ = [
    "Compose",
    "SliceByEventCount",
    "SliceByTimeBins",
    "ToBinaRep",
    "ToFrame",
    "ToImage",
    "ToVoxelGrid",
    "bina_rep",
    "slice_events_by_count",
    "slice_events_by_time_bins",
    "to_bina_rep_numpy",
    "to_frame_numpy",
    "to_voxel_grid_numpy",
]

Size = tuple[int, int, int]
Bounds = list[tuple[int, int]]
"""First event and end of each slice."""


def _times(events: Any) -> Array:
    t = column(events, "t")
    if not in_order(t):
        raise EventsError("The events are not in order of time, by which they are to be cut. Sort them first.")
    return comparable(t)


class _Slices:
    """What cuts events: `get_slice_metadata` says where."""

    def slice(self, data: Any, targets: Any) -> tuple[list[Any], Any]:
        """The parts of events, and the targets as they are."""
        return self.slice_with_metadata(data, targets, self.get_slice_metadata(data, targets))

    def get_slice_metadata(self, data: Any, targets: Any) -> Bounds:
        """First event and end of each part."""
        raise NotImplementedError

    @staticmethod
    def slice_with_metadata(data: Any, targets: Any, metadata: Bounds) -> tuple[list[Any], Any]:
        """The parts of events that are given by first event and end, and the targets as they are."""
        if isinstance(data, np.ndarray):
            return [data[start:end] for start, end in metadata], targets
        held = {name: column(data, name) for name in data}
        return [{name: values[start:end] for name, values in held.items()} for start, end in metadata], targets


@dataclass(frozen=True)
class SliceByTimeBins(_Slices):
    r"""A number of slices of equal time: slice $j$ has $t_0 + s j \le t < t_0 + s j + w$.

    $w = \lfloor (t_{N-1} - t_0) / M \rfloor (1 + o)$ and $s = w (1 - o)$, $o$ being the overlap, a share of a slice.

    >>> SliceByTimeBins(2).get_slice_metadata({"t": np.array([0, 1, 5, 9, 10])}, None)
    [(0, 2), (2, 4)]
    """

    bin_count: int
    overlap: float = 0

    def get_slice_metadata(self, data: Any, targets: Any) -> Bounds:
        """First event and end of each slice."""
        t, number = _times(data), check_count("bin_count", self.bin_count)
        if not 0 <= self.overlap < 1:
            raise OptionError(f"overlap must be from 0 to below 1, a share of a slice, but got {self.overlap!r}.")
        if not len(t):
            return [(0, 0)] * number
        window = (t[-1] - t[0]) // number * (1 + self.overlap)
        return _windows(t, np.arange(number) * (window * (1 - self.overlap)) + t[0], window)


@dataclass(frozen=True)
class SliceByEventCount(_Slices):
    """Slices of so many events, which share `overlap` events with the one before.

    >>> SliceByEventCount(2, include_incomplete=True).get_slice_metadata({"t": np.arange(5)}, None)
    [(0, 2), (2, 4), (4, 5)]
    """

    event_count: int
    overlap: float = 0
    include_incomplete: bool = False

    def get_slice_metadata(self, data: Any, targets: Any) -> Bounds:
        """First event and end of each slice."""
        number, each = len(column(data, "t")), check_count("event_count", self.event_count)
        if not (0 <= self.overlap < each and self.overlap == int(self.overlap)):
            raise OptionError(
                f"overlap must be from 0 to below event_count, {each}, in whole events, but got {self.overlap!r}."
            )
        starts = _starts(number, min(each, number), each - int(self.overlap), self.include_incomplete)
        return [(start, min(start + each, number)) for start in starts.tolist()]


def _starts(whole: Any, window: Any, stride: Any, include_incomplete: bool) -> Array:
    """Where windows begin that lie in a whole; the last one may reach beyond it."""
    round_off = np.ceil if include_incomplete else np.floor
    return np.arange(max(0, int(round_off((whole - window) / stride)) + 1)) * stride


def _windows(t: Array, starts: Array, window: Any) -> Bounds:
    left, right = np.searchsorted(t, starts), np.searchsorted(t, starts + window)
    return list(zip(left.tolist(), right.tolist(), strict=True))


def slice_events_by_time_bins(events: Any, bin_count: int, overlap: float = 0.0) -> list[Any]:
    """The slices of `SliceByTimeBins`."""
    return SliceByTimeBins(bin_count, overlap).slice(events, None)[0]


def slice_events_by_count(
    events: Any, event_count: int, overlap: int = 0, include_incomplete: bool = False
) -> list[Any]:
    """The slices of `SliceByEventCount`."""
    return SliceByEventCount(event_count, overlap, include_incomplete).slice(events, None)[0]


def to_frame_numpy(
    events: Any,
    sensor_size: Size | None,
    time_window: float | None = None,
    event_count: int | None = None,
    n_time_bins: int | None = None,
    n_event_bins: int | None = None,
    overlap: float = 0.0,
    include_incomplete: bool = False,
) -> Array:
    """Frames `[T, P, H, W]` of counts, by one of four ways of cutting; int16 where the counts fit.

    - `time_window`: slices of this time; `event_count`: of so many events; `n_time_bins`: so many, of equal time;
      `n_event_bins`: so many, of equally many events.
    - `overlap`: of slices, in time, in events, or as a share of a slice; `include_incomplete`: the last slice may be
      shorter.
    - `sensor_size`: None for that of the largest coordinates of the sample.

    >>> events = {"t": np.array([0, 1, 5]), "x": np.array([0, 1, 1]), "y": np.zeros(3, int), "p": np.ones(3, int)}
    >>> to_frame_numpy(events, (2, 1, 2), event_count=2, include_incomplete=True)[:, 1, 0].tolist()
    [[1, 1], [0, 1]]
    """
    t, x, p = columns(events, "txp")
    y = column(events, "y") if has_column(events, "y") else None
    ways = [way is not None for way in (time_window, event_count, n_time_bins, n_event_bins)]
    if sum(ways) != 1:
        raise OptionError("Give exactly one of time_window, event_count, n_time_bins and n_event_bins.")
    if event_count is not None:
        bounds = SliceByEventCount(event_count, overlap, include_incomplete).get_slice_metadata(events, None)
    elif n_time_bins is not None:
        bounds = SliceByTimeBins(n_time_bins, overlap).get_slice_metadata(events, None)
    elif n_event_bins is not None:
        each = len(t) // check_count("n_event_bins", n_event_bins)
        if not 0 <= overlap < math.inf:
            raise OptionError(f"overlap must be a share of a slice, from 0 on, but got {overlap!r}.")
        window = int(each * (1 + overlap))
        bounds = [(start, min(start + window, len(t))) for start in (int(j * each) for j in range(n_event_bins))]
    else:
        check_positive("time_window", time_window)
        assert time_window is not None
        t = _times(events)
        if not 0 <= overlap < time_window:
            raise OptionError(f"overlap must be from 0 to below time_window, {time_window}, but got {overlap!r}.")
        span = t[-1] - t[0] if len(t) else 0
        starts = _starts(span, time_window, time_window - overlap, include_incomplete)
        bounds = _windows(t, starts + (t[0] if len(t) else 0), time_window)
    W, H, P = _size(x, y, p, sensor_size)
    left, right = np.array(bounds, np.int64).reshape(-1, 2).T
    frames = count_frames(
        x, np.zeros_like(x) if y is None else y, p if P == 2 else np.zeros(len(p), bool), H, W, left, right
    )[:, :P]
    frames = frames.astype(np.int16 if frames.max(initial=0) < 1 << 15 else np.int64)
    return frames if y is not None else frames[:, :, 0]


def _size(x: Array, y: Array | None, p: Array, given: Size | None) -> Size:
    if given is None:
        height = 1 if y is None else int(y.max(initial=0)) + 1
        given = int(x.max(initial=0)) + 1, height, max(1, len(np.unique(p)))
    if len(given) != 3 or given[2] not in (1, 2):
        raise OptionError(f"sensor_size must be (W, H, P) with 1 or 2 polarities, but got {given!r}.")
    return given


@dataclass(frozen=True)
class ToFrame:
    """`to_frame_numpy` as a transform."""

    sensor_size: Size | None
    time_window: float | None = None
    event_count: int | None = None
    n_time_bins: int | None = None
    n_event_bins: int | None = None
    overlap: float = 0
    include_incomplete: bool = False

    def __call__(self, events: Any) -> Array:
        return to_frame_numpy(events, **vars(self))


@dataclass(frozen=True)
class ToImage:
    """All events in one frame `[P, H, W]`."""

    sensor_size: Size

    def __call__(self, events: Any) -> Array:
        return to_frame_numpy(events, self.sensor_size, n_event_bins=1)[0]


def bina_rep(frames: Array) -> Array:
    r"""One frame of B frames of 0 and 1, read as a number in binary, the first one the highest bit: $[0, 1]$.

    >>> bina_rep(np.array([1.0, 0.0]).reshape(2, 1, 1, 1)).item() == 2 / 3
    True

    Paper: S. Barchid et al., Bina-Rep event frames: a simple and effective representation for event-based cameras,
    ICIP 2022.
    """
    bits = 2.0 ** np.arange(len(frames) - 1, -1, -1)
    return np.tensordot(bits, frames, 1) / (2 ** len(frames) - 1)


def to_bina_rep_numpy(event_frames: Array, n_frames: int = 1, n_bits: int = 8) -> Array:
    """Frames `[n_frames, P, H, W]` of numbers in binary from `[n_frames * n_bits, P, H, W]` counts, as float32."""
    T, B = check_count("n_frames", n_frames), check_count("n_bits", n_bits)
    if B < 2 or event_frames.ndim != 4 or len(event_frames) != T * B:
        raise OptionError(
            f"ToBinaRep: {T} numbers of {B} bits (2 or more) need frames [{T * B}, P, H, W], but got the shape "
            f"{list(event_frames.shape)}."
        )
    fired = (event_frames > 0).reshape(T, B, *event_frames.shape[1:])
    return np.stack([bina_rep(part) for part in fired]).astype(np.float32)


@dataclass(frozen=True)
class ToBinaRep:
    """`to_bina_rep_numpy` as a transform."""

    n_frames: int = 1
    n_bits: int = 8

    def __call__(self, event_frames: Array) -> Array:
        return to_bina_rep_numpy(event_frames, self.n_frames, self.n_bits)


def to_voxel_grid_numpy(events: Any, sensor_size: Size, n_time_bins: int = 10) -> Array:
    r"""A voxel grid `[M, 1, H, W]`: each event adds its polarity, 1 or -1, shared out between the two bins around it.

    With $\tau = M (t - t_0) / (t_{N-1} - t_0)$ bin $\lfloor \tau \rfloor$ gets $1 - (\tau - \lfloor \tau \rfloor)$ of
    it, and the next one the rest; what would be beyond the last bin is left out.

    Paper: A. Zhu et al., Unsupervised event-based learning of optical flow, depth, and egomotion, CVPR 2019.
    """
    _, x, y, p = columns(events)
    t = _times(events)
    M, (W, H, _) = check_count("n_time_bins", n_time_bins), sensor_size
    count_frames(x, y, p, H, W, np.zeros(1, np.int64), np.zeros(1, np.int64))  # which refuses what is not on the sensor
    span = float(t[-1]) - float(t[0]) if len(t) else 0.0
    place = (M * (t.astype(float) - t[0]) / span) if span else np.zeros(len(t))
    first = place.astype(np.int64)
    sign, share = np.where(p > 0, 1.0, -1.0), place - first
    grid = np.zeros(M * H * W)
    for bins, weights in ((first, sign * (1 - share)), (first + 1, sign * share)):
        inside = bins < M
        at = (bins[inside] * H + y[inside].astype(np.int64)) * W + x[inside].astype(np.int64)
        grid += np.bincount(at, weights[inside], M * H * W)
    return grid.reshape(M, 1, H, W)


@dataclass(frozen=True)
class ToVoxelGrid:
    """`to_voxel_grid_numpy` as a transform."""

    sensor_size: Size
    n_time_bins: int

    def __call__(self, events: Any) -> Array:
        return to_voxel_grid_numpy(events, self.sensor_size, self.n_time_bins)
