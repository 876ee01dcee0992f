"""Recordings on disk: what streaming adds to a training step.

The step without and with a recording of the packed spikes of every layer are timed in turns, and now the one begins and
now the other, in many blocks. Each begins when segments have gone out already and ends with as many on their way, as in
the middle of a long training; the median of the ratios is reported with their quartiles and how far it may be off.
Beside it, what the threads of recording take by their own clocks: where all cores are at work, a thread that writes
makes others wait for more than it takes itself. What the heap of the C library makes of it shows in the rows of `kept`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from spikescope import monitor

from ..harness import Options, Row, added, thread_seconds
from .training import _nets, _training

__all__ = ["rows"]

BEFORE = 24
"""Steps of a training that is recorded before a block of them is timed."""


def rows(options: Options) -> Iterator[Row]:
    """What it adds by the wall, and by the clocks of threads."""
    channels, count = (8, 6) if options.quick else (32, 48)
    net = _nets(channels)["ours"]
    image, target = torch.rand(32, 1, 28, 28), torch.randint(10, (32,))
    step = _training(net, image, target)
    found: list[Watched] = []
    ratios = []
    with tempfile.TemporaryDirectory() as place:
        for number in range(2 if options.quick else 30):
            step()
            without = _seconds(step, count) if number % 2 else 0.0
            found.append(_watched(net, step, count, Path(place) / f"{number}.spk"))
            step()
            ratios.append(found[-1].seconds / (without or _seconds(step, count)))
    case = f"conv SNN C={channels}, T=4, batch 32"
    share, note = added(ratios)
    note += f", {statistics.median(each.nbytes for each in found) / 1e3:.0f} kB a step"
    yield Row("streaming", case, "packed spikes of every layer to disk", "% of the step", share, note=note)
    inside = 100 * statistics.median(each.inside / each.seconds for each in found)
    beside = 100 * statistics.median(each.beside / each.seconds for each in found)
    note = f"{inside:.2f} % in the thread of the training, {beside:.2f} % of a processor in its own"
    yield Row("streaming", case, "of it, by the clocks of threads", "% of the step", inside + beside, note=note)


class Watched(NamedTuple):
    """Of a block of steps that are recorded: its seconds, those of them in the thread of the training, the seconds of a
    processor in other threads, and the bytes of a step."""

    seconds: float
    inside: float
    beside: float
    nbytes: float


def _watched(net: nn.Module, step: Callable[[], Any], count: int, path: Path) -> Watched:
    """A block of steps in the middle of a recording."""
    with monitor.record(net, "spike", to=path) as stream:
        _seconds(step, BEFORE)
        own, clocks = stream.milliseconds, thread_seconds()
        seconds = _seconds(step, count)
        inside = (stream.milliseconds - own) / 1e3
        beside = sum(at - clocks.get(ident, 0.0) for ident, at in thread_seconds().items())
    size = sum(held.stat().st_size for held in stream.path.iterdir())
    return Watched(seconds, inside, beside, size / (count + BEFORE))


def _seconds(step: Callable[[], Any], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - begin
