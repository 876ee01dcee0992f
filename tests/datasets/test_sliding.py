"""Frames of a stream: those of its definition, however the events are parted."""

from __future__ import annotations

import numpy as np
import pytest

from spikescope import datasets
from spikescope.datasets import EventsError, OptionError, SlidingWindows

H, W = 3, 4


def events(count=200, span=1000, seed=0, dtype=np.int64):
    drawn = np.random.default_rng(seed)
    t = np.sort(drawn.integers(0, span, count)).astype(dtype)
    x, y, p = (drawn.integers(0, size, count) for size in (W, H, 2))
    return {"t": t, "x": x, "y": y, "p": p}


def by_definition(held, window, step, start):
    """Every frame whose end has come with the last event."""
    ends = []
    while start + step * (len(ends) + 1) <= held["t"][-1]:
        ends.append(start + step * (len(ends) + 1))
    frames = np.zeros((len(ends), 2, H, W))
    for frame, end in zip(frames, ends, strict=True):
        for t, x, y, p in zip(*(held[name] for name in "txyp"), strict=True):
            if end - window <= t < end:
                frame[p, y, x] += 1
    return frames, np.array(ends)


@pytest.mark.parametrize(("window", "step"), [(50, 50), (90, 30), (20, 70), (64, 7)])
@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.float64])
@pytest.mark.parametrize("start", [0, None])
def test_the_frames_are_those_of_the_definition(window, step, dtype, start):
    held = events(dtype=dtype)
    frames, ends = SlidingWindows(H, W, window, step, start).push(held)
    wanted, at = by_definition(held, window, step, int(held["t"][0]) if start is None else start)
    assert np.array_equal(frames, wanted)
    assert np.array_equal(ends, at)


@pytest.mark.parametrize("seed", range(5))
def test_parts_of_any_size_give_the_same(seed):
    held, drawn = events(seed=seed), np.random.default_rng(seed)
    whole = SlidingWindows(H, W, 90, 30).push(held)
    windows, found, at = SlidingWindows(H, W, 90, 30), [], 0
    while at < 200:
        to = at + int(drawn.integers(0, 40))
        found.append(windows.push({name: values[at:to] for name, values in held.items()}))
        assert len(windows._held[0] if windows._held else ()) <= 200
        at = to
    for part, wanted in zip(zip(*found, strict=True), whole, strict=True):
        assert np.array_equal(np.concatenate(part), wanted)
    assert windows._held[0][0] >= windows._zero + 30 * (windows._given + 1) - 90  # older events are let go
    windows.reset()
    assert np.array_equal(windows.push(held)[0], whole[0])


def test_windows_side_by_side_hold_every_event_once():
    held = events()
    windows = SlidingWindows(H, W, 100, start=0)
    frames = np.concatenate([windows.push(held)[0], windows.advance(1000)[0]])
    assert len(frames) == 10
    assert frames.sum() == 200
    assert np.array_equal(frames.sum(0), datasets.integrate_events_by_fixed_frames_number(held, "time", 1, H, W)[0])


def test_time_passes_without_events():
    windows = SlidingWindows(H, W, 100, 50)
    assert len(windows.advance(10_000)[0]) == 0  # nobody knows yet when it began
    windows.reset()
    empty = {name: np.zeros(0, np.int64) for name in "txyp"}
    assert len(windows.push(empty)[0]) == 0
    windows.push({"t": np.array([7]), "x": np.array([1]), "y": np.array([2]), "p": np.array([0])})
    frames, ends = windows.advance(160)
    assert ends.tolist() == [57, 107, 157]
    assert frames[:, 0, 2, 1].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"t": [5, 4]}, "not in order of time"),
        ({"t": [1, 2]}, "Time goes back, from 3 to 1"),
        ({"t": [4, 10**15]}, "frames at once"),
        ({"t": [4.0, np.nan]}, "must be finite"),
        ({"t": [4, 2**63 - 1]}, "must be within 2"),
        ({"t": np.array([2**64 - 9, 2**64 - 1], np.uint64)}, "must be within 2"),
        ({"t": [4, 5], "x": [0, W]}, "not on the sensor"),
        ({"t": [4, 5], "y": [-1, 0]}, "not on the sensor"),
    ],
)
def test_events_that_are_no_stream_are_refused_and_change_nothing(second, words):
    first = {"t": [0, 3], "x": [0, 1], "y": [0, 1], "p": [0, 1]}
    windows, other = SlidingWindows(H, W, 4, 2), SlidingWindows(H, W, 4, 2)
    for held in (windows, other):
        held.push({name: np.array(values) for name, values in first.items()})
    with pytest.raises(EventsError, match=words):
        windows.push({name: np.array(values) for name, values in {**first, **second}.items()})
    for got, want in zip(windows.advance(9), other.advance(9), strict=True):
        assert np.array_equal(got, want)


def test_a_stream_does_not_begin_before_its_start():
    windows = SlidingWindows(H, W, 4, start=10)
    with pytest.raises(EventsError, match="comes before the start, 10"):
        windows.push({name: np.array([1]) for name in "txyp"})


@pytest.mark.parametrize("sizes", [(0, 4, 5), (3, -1, 5), (3, 4, 0), (3, 4, float("nan")), (3, 4, 5, -1)])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(OptionError):
        SlidingWindows(*sizes)


@pytest.mark.parametrize("time", [float("nan"), float("inf"), 2**63, "3", True])
def test_times_that_are_none_are_refused_and_change_nothing(time):
    with pytest.raises(OptionError, match="start must be a time"):
        SlidingWindows(H, W, 4, start=time)
    windows = SlidingWindows(H, W, 4, start=0)
    with pytest.raises(OptionError, match="now must be a time"):
        windows.advance(time)
    assert windows.advance(9)[1].tolist() == [4, 8]


def test_a_frame_comes_as_soon_as_its_end_has():
    windows = datasets.SlidingWindows(1, 1, window=0.1, step=0.1)
    events = {name: np.array([0.0 if name == "t" else 0]) for name in "txyp"}
    ends = [
        float(end)
        for now in np.arange(11) * 0.1
        for end in (windows.push(events) if now == 0 else windows.advance(now))[1]
    ]
    assert ends == [0.1 * k for k in range(1, 11)]
