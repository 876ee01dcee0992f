"""The flight recorder: what it adds to a training step, what it holds, and how long it takes to write 100 MB.

The step without and with the recorder are timed in turns, neighbours against each other; the median of the ratios is
reported, and beside it the time that the recorder took note of itself, which no other load of the machine changes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from spikescope import monitor
from spikescope.recording import Moment, open_recording
from spikescope.spikes import PackedSpikes

from ..harness import Options, Row, seconds
from .training import _nets, _training

__all__ = ["rows"]

SIZE = 100_000_000
"""Bytes that are written."""


def _overhead(options: Options) -> Iterator[Row]:
    channels = 8 if options.quick else 32
    net = _nets(channels)["ours"]
    step = _training(net, torch.rand(32, 1, 28, 28), torch.randint(10, (32,)))
    case = f"conv SNN C={channels}, T=4, batch 32"
    for signals in (("spike",), ("spike", "h", "grad_output")):
        ratios, own, held = [], [], 0
        with tempfile.TemporaryDirectory() as place:
            for _ in range(3 if options.quick else 60):
                step()
                without = seconds(step, 2)
                with monitor.flight_recorder(net, to=place, signals=signals, report=False) as recorder:
                    step()
                    before = recorder.milliseconds
                    watched = seconds(step, 2)
                    own.append((recorder.milliseconds - before) / 2e3)
                    held = max(held, recorder.ring.nbytes // 3)
                ratios.append(watched / without)
        note = f"{statistics.median(own) * 1e3:.2f} ms in its own code, {held / 1e3:.0f} kB a step"
        added = (statistics.median(ratios) - 1) * 100
        yield Row("flight", case, f"keeping {', '.join(signals)}", "% of the step", added, note=note)


def _writing(options: Options) -> Iterator[Row]:
    """A ring of 100 MB, half of it spikes and half of it numbers, on its way to disk."""
    size = options.size(SIZE, SIZE // 100)
    net = _nets(8)["ours"]
    name = next(name for name, held in net.named_modules() if type(held).__name__ == "LIFNode")
    with tempfile.TemporaryDirectory() as place:
        recorder = monitor.flight_recorder(net, to=Path(place) / "flight", budget="unlimited", report=False)
        ring, part = recorder.ring, size // 40
        for number in range(20):
            spikes = PackedSpikes(torch.randint(256, (4, part // 4), dtype=torch.uint8), torch.Size((4, 1, part * 2)))
            ring.keep("spike", spikes, Moment(name, number, number, 0, 4, 1))
            ring.keep("grad_output", torch.randn(4, 1, part // 16), Moment(name, number, number, 0, 4, 1))
            if number < 19:
                ring.begin()
        begin = time.perf_counter()
        path = recorder.dump()
        taken = time.perf_counter() - begin
        recorder.close()
        assert path is not None
        found = open_recording(path)
        whole = len(found[name]["spike"].runs) == len(found[name]["grad_output"].runs) == 20
    words = "read again" if whole else "not whole"
    yield Row("flight", f"{ring.nbytes / 1e6:.0f} MB", "writing it", "s", taken if whole else None, agreement=words)


def rows(options: Options) -> Iterator[Row]:
    """What it adds, and what writing takes."""
    yield from _overhead(options)
    yield from _writing(options)
