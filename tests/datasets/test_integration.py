"""Events to frames: against the definitions written as loops, and against what SpikingJelly 0.0.0.0.14 computes.

`reference.json` has dtype, shape and hash of its frames and parsed events, for the recordings of `recordings.py`.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recordings import aedat31, atis_bin, cifar_aedat, recording, structured, td_dat

from spikescope import datasets
from spikescope.datasets import formats
from spikescope.datasets.frames import counting
from spikescope.datasets.frames.integrate import duration_bounds, segments

pytestmark = pytest.mark.usefixtures("ways")

REFERENCE = json.loads((Path(__file__).parent / "reference.json").read_text())
SETTINGS = [(500, 128, 128, np.int64), (37, 34, 34, np.uint32), (1000, 180, 240, np.int64), (3, 4, 5, np.int64)]


def described(values):
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
    return [values.dtype.str, list(values.shape), digest]


@pytest.mark.parametrize("case", sorted(name for name in REFERENCE if name[0].isdigit()))
def test_frames_are_those_of_the_reference_bit_for_bit(case):
    seed, how, size = case.split()
    number, H, W, dtype = SETTINGS[int(seed)]
    events = recording(number, H, W, int(seed), dtype=dtype)
    if how == "duration":
        frames = datasets.integrate_events_by_fixed_duration(events, int(size), H, W)
    else:
        frames = datasets.integrate_events_by_fixed_frames_number(events, how, int(size), H, W)
    if REFERENCE[case] == "IndexError":  # an interval without events, where the reference stops
        assert len(frames) == int(size)
        assert frames.sum() == number
        assert (frames.sum((1, 2, 3)) == 0).any()
    else:
        assert described(frames) == REFERENCE[case]


@pytest.mark.parametrize("case", sorted(name for name in REFERENCE if name.startswith("shd")))
def test_frames_of_a_cochlea_are_those_of_the_reference_bit_for_bit(case):
    _, dtype, how, size = case.split()
    events = {"t": (np.arange(400) * 1.37 / 400).astype(dtype), "x": recording(400, 1, 700, seed=6)["x"]}
    if how == "duration":
        frames = datasets.integrate_spikes(events, 700, duration=float(size))
    else:
        frames = datasets.integrate_spikes(events, 700, int(size), how)
    assert described(frames) == REFERENCE[case]


@pytest.mark.parametrize(
    ("name", "content", "load"),
    [
        ("aedat31", aedat31(recording(700, seed=9, last=2**33)), datasets.load_aedat_v3),
        ("atis", atis_bin(recording(700, 34, 34, seed=9, last=2**23)), datasets.load_ATIS_bin),
        ("cifar", cifar_aedat(recording(700, seed=9)), datasets.CIFAR10DVS.load_origin_data),
        ("dat", td_dat(recording(700, 240, 304, seed=9)), formats.load_td_dat),
    ],
)
def test_parsed_events_are_those_of_the_reference_with_their_types(name, content, load, tmp_path):
    (tmp_path / "file").write_bytes(content)
    held = load(tmp_path / "file")
    assert {column: described(values) for column, values in held.items()} == REFERENCE[name]


def frames_by_loop(events, bounds, H, W):
    frames = np.zeros((len(bounds), 2, H, W))
    for frame, (left, right) in zip(frames, bounds, strict=True):
        for n in range(left, right):
            frame[int(events["p"][n] != 0), events["y"][n], events["x"][n]] += 1
    return frames


samples = st.integers(
    1, 60
).flatmap(
    lambda n: st.tuples(
        *(
            st.lists(st.integers(0, most), min_size=n, max_size=n).map(np.array)
            for most in (200, 4, 2, 1)  # t, x, y, p
        )
    ).map(lambda held: dict(zip("txyp", (np.sort(held[0]), *held[1:]), strict=True)))
)


@given(samples, st.integers(1, 9))
def test_frames_by_number_are_as_defined(events, M):
    N = len(events["t"])
    d = N // M
    bounds = [(d * j, d * (j + 1) if j < M - 1 else N) for j in range(M)]
    frames = datasets.integrate_events_by_fixed_frames_number(events, "number", M, 3, 5)
    assert np.array_equal(frames, frames_by_loop(events, bounds, 3, 5))


@given(samples, st.integers(1, 9))
def test_frames_by_time_are_as_defined(events, M):
    t = events["t"]
    D = (t[-1] - t[0]) // M
    frames = datasets.integrate_events_by_fixed_frames_number(events, "time", M, 3, 5)
    wanted = np.zeros_like(frames)
    for j in range(M):
        inside = (t >= t[0] + D * j) & ((t < t[0] + D * (j + 1)) | (j == M - 1))
        part = {name: values[inside] for name, values in events.items()}
        wanted[j] = frames_by_loop(part, [(0, inside.sum())], 3, 5)[0]
    assert np.array_equal(frames, wanted)


@given(samples, st.integers(1, 50))
def test_frames_by_duration_are_as_defined(events, d):
    t, bounds, left = events["t"], [], 0
    while left < len(t):
        right = left
        while right < len(t) and t[right] - t[left] <= d:
            right += 1
        bounds.append((left, right))
        left = right
    frames = datasets.integrate_events_by_fixed_duration(events, d, 3, 5)
    assert np.array_equal(frames, frames_by_loop(events, bounds, 3, 5))


@given(
    st.lists(st.floats(0, 3, width=16, allow_subnormal=False), min_size=1, max_size=40), st.floats(0.0625, 2, width=16)
)
def test_durations_in_floating_point_compare_the_difference_as_it_rounds(times, d):
    t, bounds = np.sort(np.array(times, np.float16)), [0]
    while bounds[-1] < len(t):
        right = bounds[-1] + 1
        while right < len(t) and not t[right] - t[bounds[-1]] > d:
            right += 1
        bounds.append(right)
    assert duration_bounds(t, d).tolist() == bounds


@pytest.mark.parametrize("how", ["number", "time"])
def test_more_events_than_are_counted_at_once(how):
    events = recording(150_000, 8, 8)
    frames = datasets.integrate_events_by_fixed_frames_number(events, how, 2, 8, 8)
    assert frames.sum() == 150_000
    half = events["t"] < events["t"][0] + (events["t"][-1] - events["t"][0]) // 2
    first = half if how == "time" else np.arange(150_000) < 75_000
    assert frames[0, 1, 3, 2] == ((events["p"] == 1) & (events["y"] == 3) & (events["x"] == 2) & first).sum()


def test_a_segment_to_a_frame_has_its_last_event_too():
    events = recording(100, 8, 8)
    x, y, p = events["x"], events["y"], events["p"]
    assert datasets.integrate_events_segment_to_frame(x, y, p, 8, 8).sum() == 100
    assert datasets.integrate_events_segment_to_frame(x, y, p, 8, 8, 20, 50).sum() == 30


def test_every_kind_of_events_gives_the_same_frames(tmp_path):
    events = recording(300, 12, 16)
    np.savez(tmp_path / "held.npz", **events)
    kinds = [
        events,
        structured(events),
        {name: torch.from_numpy(values) for name, values in events.items()},
        {name: values.astype(">u4") for name, values in events.items()},
        {name: values.astype(np.float64) for name, values in events.items()},
        {name: np.repeat(values, 2)[::2] for name, values in events.items()},
    ]
    with np.load(tmp_path / "held.npz") as opened:
        frames = [
            datasets.integrate_events_by_fixed_frames_number(held, "time", 4, 12, 16) for held in [*kinds, opened]
        ]
    for other in frames[1:]:
        assert np.array_equal(frames[0], other)


def test_small_types_do_not_overflow():
    events = {"t": np.arange(4), "x": np.full(4, 100, np.int8), "y": np.full(4, 120, np.uint8), "p": np.ones(4, bool)}
    frames = datasets.integrate_events_by_fixed_frames_number(events, "number", 1, 128, 128)
    assert frames[0, 1, 120, 100] == 4


def test_unsorted_events_are_told_of_and_taken_as_the_reference_takes_them():
    events = {"t": np.array([0, 50, 20, 90, 60, 100]), "x": np.arange(6), "y": np.zeros(6, int), "p": np.ones(6, int)}
    with pytest.warns(datasets.UnsortedWarning, match="not in order of time: split by time"):
        found = datasets.cal_fixed_frames_number_segment_index(events["t"], "time", 2)
    assert [side.tolist() for side in found] == [[0, 1], [3, 6]]  # 20 lies between: both frames have it
    with pytest.warns(datasets.UnsortedWarning, match="order of the file"):
        frames = datasets.integrate_events_by_fixed_duration(events, 55, 1, 6)
    assert frames.sum((1, 2, 3)).tolist() == [3, 3]
    datasets.integrate_events_by_fixed_frames_number(events, "number", 2, 1, 6)  # where the order does not matter


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_unsigned_times_that_go_back_do_not_wrap_around(dtype):
    t = np.array([10, 5, 12], dtype)
    with pytest.warns(datasets.UnsortedWarning):
        assert duration_bounds(t, 3).tolist() == [0, 3]


GOOD = {"t": np.arange(3), "x": np.arange(3), "y": np.arange(3), "p": np.ones(3, int)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": np.array([0, 1, 9])}, "Event 2 has x = 9, which is not on the sensor: x must be from 0 to 3. 1 of 3"),
        ({"y": np.array([0, -1, 2])}, "Event 1 has y = -1"),
        ({"y": np.array([0, 1, 3], np.uint8)}, "Event 2 has y = 3"),
        ({"x": np.array([0, 1, 0.5])}, "must hold whole numbers"),
        ({"x": np.array([0, 1, np.nan])}, "must hold whole numbers"),
        ({"x": np.array([-1.0, 1, 2])}, "Event 0 has x = -1.0"),
        ({"x": np.arange(2)}, "equally long, but their lengths are t 3, x 2, y 3, p 3"),
        ({"p": np.ones((3, 1))}, "one axis, but got the shape (3, 1)"),
        ({"t": np.array(["a", "b", "c"])}, "an array of numbers"),
        ({"t": np.array([0, 1, np.inf])}, "must be finite"),
    ],
)
def test_events_that_do_not_fit_are_refused_in_words(change, said):
    import re

    with pytest.raises(datasets.EventsError, match=re.escape(said)):
        datasets.integrate_events_by_fixed_frames_number(GOOD | change, "time", 2, 3, 4)


@pytest.mark.parametrize("how", [("number", 2, None), ("time", 2, None), (None, None, 5)])
def test_no_events_are_refused_in_words(how):
    split_by, number, duration = how
    empty = {name: values[:0] for name, values in GOOD.items()}
    with pytest.raises(datasets.EventsError, match="at least one event"):
        segments(empty, split_by, number, duration)


def test_events_without_their_columns_are_refused_in_words():
    with pytest.raises(datasets.EventsError, match="'p' is not in dict with 't', 'x', 'y'"):
        datasets.integrate_events_by_fixed_duration({name: GOOD[name] for name in "txy"}, 5, 3, 4)
    with pytest.raises(datasets.EventsError, match="an array of dtype int64"):
        datasets.integrate_events_by_fixed_duration(np.zeros((3, 4), np.int64), 5, 3, 4)
    with pytest.raises(datasets.EventsError, match="in NoneType"):
        datasets.integrate_events_by_fixed_duration(None, 5, 3, 4)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4", None])
def test_numbers_of_frames_and_durations_must_be_above_0(value):
    with pytest.raises(datasets.OptionError, match="frames_number must be a whole number above 0"):
        datasets.integrate_events_by_fixed_frames_number(GOOD, "number", value, 3, 4)
    if value != 1.5:
        with pytest.raises(datasets.OptionError, match="duration must be a number above 0"):
            datasets.integrate_events_by_fixed_duration(GOOD, value, 3, 4)


def test_another_way_of_splitting_is_refused():
    with pytest.raises(datasets.OptionError, match="'number' or 'time', but got 'rate'"):
        datasets.integrate_events_by_fixed_frames_number(GOOD, "rate", 2, 3, 4)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, bool])
def test_every_polarity_but_0_is_on_and_small_types_of_it_do_not_overflow(dtype):
    p = np.array([0, 1, 100, 1]).astype(dtype)
    frames = datasets.integrate_events_segment_to_frame(np.arange(4), np.full(4, 199), p, 200, 4)
    assert frames[:, 199].tolist() == [[1, 0, 0, 0], [0, 1, 1, 1]]
    p = np.array([0, 1, -1 if np.dtype(dtype).kind in "if" else 1, 1]).astype(dtype)
    assert datasets.integrate_events_segment_to_frame(np.arange(4), np.full(4, 199), p, 200, 4)[1].sum() == 3
    p = np.array([0, 1, 1, 0]).astype(dtype)
    assert datasets.integrate_events_segment_to_frame(np.arange(4), np.full(4, 199), p, 200, 4)[1, 199].sum() == 2


TYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "f2", "b1", ">i2", ">u8", ">f4"]


def columns_of(data, number, low, fraction):
    """x, y and p of types and strides of all kinds; below 0 and beyond the sensor too, where `low` is below 0."""
    for most in (3, 2, 1):
        dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
        least = low if dtype.kind in "if" else 0
        beyond = 1 if dtype.kind == "b" else most - min(0, low)
        values = np.array(data.draw(st.lists(st.integers(least, beyond), min_size=number, max_size=number)), dtype)
        if dtype.kind == "f":
            values += fraction
        packed = np.zeros(number, [("before", "u1"), ("values", dtype)])  # neither contiguous nor aligned
        packed["values"] = values
        yield data.draw(st.sampled_from([values, packed["values"], values[::-1].copy()[::-1]]))


@given(st.data(), st.integers(0, 40), st.sampled_from([(0, 0), (-1, 0), (0, 0.5)]))
def test_the_loop_and_numpy_count_and_refuse_alike(data, number, faults):
    x, y, p = columns_of(data, number, *faults)
    bounds = np.sort(data.draw(st.lists(st.integers(0, number), min_size=3, max_size=3)))
    left, right = data.draw(st.sampled_from([(bounds[:-1], bounds[1:]), (np.array([0]), np.array([number]))]))
    asked = (x, y, p, 3, 4, left, right)
    told = []
    for count in (counting.count_by_numpy, counting.count_by_loop):
        try:
            told.append(count(*asked))
        except datasets.EventsError as error:
            told.append(str(error))
    wanted, found = told
    if found is None:  # the words are NumPy's
        assert isinstance(wanted, str) or np.dtype("f2") in (x.dtype, y.dtype, p.dtype) or counting._kernel() is None
    elif isinstance(wanted, str):
        assert found == wanted
    else:
        assert found.dtype == wanted.dtype == np.float64
        assert np.array_equal(found, wanted)


def test_one_event_and_none_in_a_frame():
    one = {"t": np.array([7]), "x": np.array([2]), "y": np.array([1]), "p": np.array([0])}
    for frames in (
        datasets.integrate_events_by_fixed_frames_number(one, "number", 3, 2, 4),
        datasets.integrate_events_by_fixed_frames_number(one, "time", 3, 2, 4),
    ):
        assert frames.sum((1, 2, 3)).tolist() == [0, 0, 1]
        assert frames[2, 0, 1, 2] == 1
    assert datasets.integrate_events_by_fixed_duration(one, 5, 2, 4)[0, 0, 1, 2] == 1
