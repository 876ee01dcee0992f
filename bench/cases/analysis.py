"""Statistics of trains, against Elephant, which takes an object a train: both from the spikes of a layer, all at once.

Elephant is timed on a part of the trains, since the whole would take minutes, and its time is what that part says; its
trains are made before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from spikescope import analysis
from spikescope.spikes import PackedSpikes

from ..harness import Agreement, Options, Row, versus

__all__ = ["rows"]

RATE = 0.05


def _elephant() -> Any:
    try:
        from elephant import statistics
    except ImportError:
        return None
    return statistics


def _least(call: Callable[[], Any], times: int) -> float:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return min(found)


def rows(options: Options) -> Iterator[Row]:
    """The coefficient of variation and the local variation of each train."""
    steps, trains, part = 1000, 10_000 if options.quick else 100_000, 500 if options.quick else 2000
    dense = torch.rand(steps, 1, trains, generator=torch.Generator().manual_seed(0)) < RATE
    spikes = PackedSpikes.from_dense(dense)
    intervals = [np.diff(np.flatnonzero(train)) for train in dense[:, 0, :part].T.numpy()]
    del dense
    statistics = _elephant()
    case = f"{trains:,} trains of {steps:,} steps, {100 * RATE:g} % spikes, packed"
    for name in ("cv", "lv"):
        ours: Any = getattr(analysis, name)
        values = {"ours": 1e3 * _least(partial(ours, spikes, per="train"), 3)}
        agreements, note = {}, ""
        if statistics is not None:
            theirs: Any = getattr(statistics, name)
            values["elephant"] = 1e3 * _least(partial(_each, theirs, intervals), 3) * trains / part
            found = ours(spikes, per="train").flatten()[:part]
            wanted = torch.tensor(_each(theirs, intervals), dtype=torch.float64)
            off = (found - wanted).abs().max().item()
            agreements["elephant"] = Agreement(off < 1e-12, f"within {off:.0e}")
            note = f"Elephant from intervals that are there, {part:,} trains timed"
        yield from versus("analysis", case, name, "ms", values, agreements, note)


def _each(function: Callable[[Any], Any], trains: list[Any]) -> list[float]:
    return [float(function(train)) for train in trains]
