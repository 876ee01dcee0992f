"""Frames, binary numbers and voxel grids by tonic's names, against their definitions written as loops."""

import numpy as np
import pytest
from recordings import recording, structured

from spikescope import datasets
from spikescope.datasets import to_x_rep

EVENTS = recording(200, 6, 5, last=1000)
SIZE = (5, 6, 2)


def frames_by_loop(events, bounds, size):
    W, H, P = size
    frames = np.zeros((len(bounds), P, H, W))
    for frame, (start, end) in zip(frames, bounds, strict=True):
        for n in range(start, end):
            frame[int(events["p"][n]) if P == 2 else 0, events["y"][n], events["x"][n]] += 1
    return frames


def inside(t, start, window):
    found = [n for n, at in enumerate(t.tolist()) if start <= at < start + window]
    return (found[0], found[-1] + 1) if found else (0, 0)


T = EVENTS["t"]
WAYS = {
    "count": ({"event_count": 60}, [(0, 60), (60, 120), (120, 180)]),
    "count, whole": ({"event_count": 60, "include_incomplete": True}, [(0, 60), (60, 120), (120, 180), (180, 200)]),
    "count, overlapping": ({"event_count": 80, "overlap": 40}, [(0, 80), (40, 120), (80, 160), (120, 200)]),
    "more than there are": ({"event_count": 500}, [(0, 200)]),
    "event bins": ({"n_event_bins": 3}, [(0, 66), (66, 132), (132, 198)]),
    "time bins": (
        {"n_time_bins": 4},
        [inside(T, T[0] + j * ((T[-1] - T[0]) // 4), (T[-1] - T[0]) // 4) for j in range(4)],
    ),
    "time bins, overlapping": (
        {"n_time_bins": 4, "overlap": 0.5},
        [inside(T, T[0] + j * 0.75 * ((T[-1] - T[0]) // 4), 1.5 * ((T[-1] - T[0]) // 4)) for j in range(4)],
    ),
    "window": ({"time_window": 300}, [inside(T, T[0] + 300 * j, 300) for j in range(int(T[-1] - T[0]) // 300)]),
    "window, whole": (
        {"time_window": 300, "overlap": 100, "include_incomplete": True},
        [inside(T, T[0] + 200 * j, 300) for j in range(-(-(int(T[-1] - T[0]) - 300) // 200) + 1)],
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [SIZE, (5, 6, 1)])
def test_frames_are_as_defined(way, size):
    options, bounds = WAYS[way]
    held = structured(EVENTS)
    before = held.copy()
    frames = to_x_rep.ToFrame(size, **options)(held)
    assert np.array_equal(frames, frames_by_loop(EVENTS, bounds, size))
    assert frames.dtype == np.int16
    assert np.array_equal(held, before)
    assert np.array_equal(frames, to_x_rep.to_frame_numpy(EVENTS, size, **options))


CUTS = {
    "window": {"time_window": 100},
    "window beyond the recording": {"time_window": 5000},
    "window beyond the recording, whole": {"time_window": 5000, "include_incomplete": True},
    "time bins": {"n_time_bins": 3},
}


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.int32, np.float64])
@pytest.mark.parametrize("cut", CUTS)
def test_the_type_of_the_times_changes_nothing(cut, dtype):
    other = {**EVENTS, "t": EVENTS["t"].astype(dtype)}
    frames = to_x_rep.to_frame_numpy(EVENTS, SIZE, **CUTS[cut])
    assert np.array_equal(to_x_rep.to_frame_numpy(other, SIZE, **CUTS[cut]), frames)
    assert np.array_equal(to_x_rep.to_voxel_grid_numpy(other, SIZE, 4), to_x_rep.to_voxel_grid_numpy(EVENTS, SIZE, 4))


def test_sizes_are_found_counts_do_not_overflow_and_lines_have_no_height():
    assert to_x_rep.ToFrame(None, event_count=200)(EVENTS).shape == (1, 2, 6, 5)
    many = {"t": np.arange(40_000), "x": np.zeros(40_000, int), "y": np.zeros(40_000, int), "p": np.zeros(40_000, int)}
    assert to_x_rep.ToImage((1, 1, 2))(many)[0, 0, 0] == 40_000
    line = {name: many[name] for name in "txp"}
    assert to_x_rep.ToFrame((3, 1, 2), n_time_bins=4)(line).shape == (4, 2, 3)


def test_slices_are_of_the_kind_that_was_given():
    for events in (EVENTS, structured(EVENTS)):
        parts = to_x_rep.slice_events_by_count(events, 90)
        assert [len(part["t"]) for part in parts] == [90, 90]
        assert type(parts[0]) is type(events)
        assert len(to_x_rep.slice_events_by_time_bins(events, 3)) == 3
    assert to_x_rep.SliceByTimeBins(2).slice(EVENTS, 7)[1] == 7


def test_binary_numbers_are_as_defined():
    counts = to_x_rep.ToFrame(SIZE, n_time_bins=6)(EVENTS)
    held = to_x_rep.Compose([to_x_rep.ToBinaRep(n_frames=2, n_bits=3)])(counts)
    fired = counts > 0
    for n in range(2):
        wanted = (4 * fired[3 * n] + 2 * fired[3 * n + 1] + fired[3 * n + 2]) / 7
        assert np.allclose(held[n], wanted, rtol=1e-7)
    assert held.dtype == np.float32
    with pytest.raises(datasets.OptionError, match=r"need frames \[16, P, H, W\], but got the shape \[6, 2, 6, 5\]"):
        to_x_rep.ToBinaRep(2, 8)(counts)


@pytest.mark.parametrize("dtype", [np.int64, bool, np.int8])
def test_voxel_grids_are_as_defined(dtype):
    events = EVENTS | {"p": EVENTS["p"].astype(dtype) * 2 - 1 if dtype is np.int8 else EVENTS["p"].astype(dtype)}
    held = to_x_rep.ToVoxelGrid(SIZE, 4)(events)
    wanted = np.zeros((4, 1, 6, 5))
    for t, x, y, p in zip(*(EVENTS[name].tolist() for name in "txyp"), strict=True):
        place = 4 * (t - T[0]) / (T[-1] - T[0])
        for at in (int(place), int(place) + 1):
            if at < 4:
                wanted[at, 0, y, x] += (1 if p else -1) * (1 - abs(place - at))
    np.testing.assert_allclose(held, wanted, rtol=1e-12, atol=1e-12)
    one = {name: values[:1] for name, values in events.items()}
    assert np.abs(to_x_rep.ToVoxelGrid(SIZE, 4)(one)).sum() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "exactly one of"),
        ({"event_count": 3, "n_time_bins": 2}, "exactly one of"),
        ({"event_count": 3, "overlap": 3}, "overlap must be from 0 to below event_count, 3"),
        ({"n_time_bins": 3, "overlap": 1}, "overlap must be from 0 to below 1"),
        ({"time_window": 3, "overlap": 3}, "below time_window, 3"),
        ({"n_time_bins": 0}, "bin_count must be a whole number above 0"),
        ({"n_time_bins": 2, "sensor_size": (5, 6, 3)}, "must be \\(W, H, P\\) with 1 or 2"),
        ({"n_time_bins": 2, "sensor_size": (4, 6, 2)}, "x = 4, which is not on the sensor"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(options, said):
    with pytest.raises((datasets.OptionError, datasets.EventsError), match=said):
        to_x_rep.to_frame_numpy(EVENTS, **({"sensor_size": SIZE} | options))


@pytest.mark.parametrize("cut", [to_x_rep.ToFrame(SIZE, n_time_bins=2), to_x_rep.ToVoxelGrid(SIZE, 2)])
def test_events_out_of_order_are_not_cut_by_time(cut):
    with pytest.raises(datasets.EventsError, match="not in order of time"):
        cut({name: values[::-1] for name, values in EVENTS.items()})


def test_no_events_are_empty_frames():
    none = {name: values[:0] for name, values in EVENTS.items()}
    assert to_x_rep.ToFrame(SIZE, n_time_bins=3)(none).shape == (3, 2, 6, 5)
    assert to_x_rep.ToFrame(SIZE, n_event_bins=3)(none).sum() == 0
    assert to_x_rep.ToVoxelGrid(SIZE, 3)(none).sum() == 0
