"""Event data: parsing a recording, integrating it, and converting a whole data set, against SpikingJelly's functions.

By duration the two define a frame otherwise: theirs are intervals of a grid, ours begin with an event and hold what is
at most the duration later. The recording has an event at every step of that grid, where both are the same frames.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import struct
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from spikescope import datasets
from spikescope.datasets.folders.convert import run_jobs

from ..harness import Agreement, Options, Row, measure, versus

__all__ = ["rows"]

SIDE, GRID = 128, 1000
FRAMES = 16
EVENTS = int(os.environ.get("SPIKESCOPE_BENCH_EVENTS", "100000000"))  # of the whole conversion

Events = dict[str, np.ndarray]


def _rival() -> Any:
    """The functions of SpikingJelly's data sets, None where it is absent; they need nothing of torchvision itself."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.datasets.utils", "torchvision.transforms"):
        with contextlib.suppress(ImportError):
            __import__(name)
            continue
        module: Any = types.ModuleType(name)
        module.__path__, module.transforms, module.DatasetFolder = [], None, object
        sys.modules[name] = module
    try:
        package: Any = types.ModuleType("spikingjelly.datasets")  # its __init__ imports torchaudio
        import spikingjelly

        package.__path__ = [str(Path(spikingjelly.__path__[0]) / "datasets")]
        sys.modules["spikingjelly.datasets"] = package
        return importlib.import_module("spikingjelly.datasets.utils")
    except ImportError:
        return None


def _recording(number: int, seed: int = 0) -> Events:
    """Events in order of time, one at least at every step of the grid."""
    drawn = np.random.default_rng(seed)
    steps = max(2, number // 200)
    t = np.concatenate([np.arange(steps) * GRID, drawn.integers(0, (steps - 1) * GRID, number - steps)])
    x, y, p = drawn.integers(0, (SIDE, SIDE, 2), (number, 3)).T.copy()
    return {"t": np.sort(t), "x": x, "y": y, "p": p}


def _aedat(path: Path, events: Events, each: int = 4096) -> None:
    """Write AEDAT 3.1."""
    pairs = np.stack([events["x"] << 17 | events["y"] << 2 | events["p"] << 1 | 1, events["t"]], axis=1).astype("<u4")
    with open(path, "wb") as file:
        file.write(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n")
        for start in range(0, len(pairs), each):
            part = pairs[start : start + each]
            file.write(struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, len(part), len(part), len(part)) + part.tobytes())


def _same(ours: Any, theirs: Any) -> Agreement:
    """Whether arrays, or dicts of them, are equal bit for bit."""
    a, b = (list(held.values()) if isinstance(held, dict) else [held] for held in (ours, theirs))
    equal = all(u.dtype == v.dtype and np.array_equal(u, v) for u, v in zip(a, b, strict=True))
    return Agreement(equal, "equal" if equal else "differ")


def _contest(case: str, mine: Callable[[], Any], other: Callable[[], Any] | None, options: Options) -> list[Row]:
    contenders = {"ours": mine} | ({"spikingjelly": other} if other else {})
    found = {"spikingjelly": _same(mine(), other())} if other else {}
    return measure("events", case, "one recording", contenders, found, options)


def rows(options: Options) -> Iterator[Row]:
    """Single functions on one recording, then a whole conversion."""
    theirs, number = _rival(), options.size(1_000_000, 20_000)
    events = _recording(number)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "recording.aedat"
        _aedat(file, events)
        said = f"{number:.0e} events"

        def both(name: str) -> tuple[Any, Any]:
            return getattr(datasets, name), getattr(theirs, name, None)

        load, their_load = both("load_aedat_v3")
        yield from _contest(
            f"AEDAT 3.1, {said}", lambda: load(file), their_load and (lambda: their_load(file)), options
        )
        span = int(events["t"][-1]) // FRAMES // GRID * GRID
        cut, their_cut = both("integrate_events_by_fixed_duration")
        yield from _contest(
            f"AEDAT 3.1 to frames by duration, {said}",
            lambda: cut(load(file), span - 1, SIDE, SIDE),
            their_cut and (lambda: their_cut(their_load(file), span, SIDE, SIDE)),
            options,
        )
        yield from _contest(
            f"frames by duration, {said}",
            lambda: cut(events, span - 1, SIDE, SIDE),
            their_cut and (lambda: their_cut(events, span, SIDE, SIDE)),
            options,
        )
        frames, their_frames = both("integrate_events_by_fixed_frames_number")
        for how in ("number", "time"):
            yield from _contest(
                f"{FRAMES} frames by {how}, {said}",
                lambda how=how: frames(events, how, FRAMES, SIDE, SIDE),  # type: ignore[misc]
                their_frames and (lambda how=how: their_frames(events, how, FRAMES, SIDE, SIDE)),  # type: ignore[misc]
                options,
            )
    yield from _conversion(theirs, options)


def _conversion(theirs: Any, options: Options) -> Iterator[Row]:
    """Files of AEDAT 3.1 to files of events and on to files of frames, once each, for it takes long."""
    whole, each = options.size(EVENTS, 100_000), options.size(1_000_000, 20_000)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        files = [root / f"{n}.aedat" for n in range(max(2, whole // each))]
        for n, file in enumerate(files):
            _aedat(file, _recording(each, n))
        taken = {"ours": _timed(_convert_ours, files, root / "ours")}
        found = {}
        if theirs is not None:
            taken["spikingjelly"] = _timed(_convert_theirs, files, root / "theirs", theirs)
            found["spikingjelly"] = _same_files(root / "ours", root / "theirs")
    case = f"{len(files)} recordings of {each:.0e} events to {FRAMES} frames by number, with files"
    note = f"{len(os.sched_getaffinity(0))} cores, once each"
    yield from versus("events", case, "whole conversion", "s", taken, found, note)


def _timed(convert: Callable[..., None], files: list[Path], place: Path, *rest: Any) -> float:
    for folder in ("events", "frames"):
        (place / folder).mkdir(parents=True)
    start = time.perf_counter()
    convert(files, place, *rest)
    return time.perf_counter() - start


def _convert_ours(files: list[Path], place: Path) -> None:
    datasets.convert_files(datasets.load_aedat_v3, [(file, place / "events" / f"{file.stem}.npz") for file in files])
    integrate = datasets.integrate_events_file_to_frames_file_by_fixed_frames_number
    made = [place / "events" / f"{file.stem}.npz" for file in files]
    arguments = (place / "frames", "number", FRAMES, SIDE, SIDE)
    run_jobs([(integrate, (datasets.load_events, file, *arguments)) for file in made], "samples")


def _convert_theirs(files: list[Path], place: Path, theirs: Any) -> None:
    def save(file: Path) -> None:
        theirs.np_savez(place / "events" / f"{file.stem}.npz", **theirs.load_aedat_v3(file))

    def integrate(file: Path) -> None:
        theirs.integrate_events_file_to_frames_file_by_fixed_frames_number(
            np.load, str(place / "events" / f"{file.stem}.npz"), str(place / "frames"), "number", FRAMES, SIDE, SIDE
        )

    with ThreadPoolExecutor(16) as pool:  # its own number of threads
        list(pool.map(save, files))
        list(pool.map(integrate, files))


def _same_files(ours: Path, theirs: Path) -> Agreement:
    for file in sorted(ours.rglob("*.npz")):
        with np.load(file) as a, np.load(theirs / file.relative_to(ours)) as b:
            if not _same(dict(a), {name: b[name] for name in a.files}).same:
                return Agreement(False, f"{file.name} differs")
    return Agreement(True, "equal")
