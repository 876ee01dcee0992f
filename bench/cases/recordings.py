"""Recordings on disk: what streaming adds to memory, and what opening and cutting cost.

Memory is measured in a process of its own. Opening and cutting read a recording of 2 GB, whose files the system may
hold in memory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikescope.recording import Moment, Writer, open_recording
from spikescope.spikes import PackedSpikes

from ..harness import Options, Row, subprocess_json

__all__ = ["rows"]

LAYERS, STEPS, SAMPLES, NEURONS = 8, 16, 32, 8192
"""Of the recording that is opened: a run of a layer takes half a MB."""


def write(folder: Path, runs: int, values: PackedSpikes | None = None) -> Writer:
    """A recording of so many runs of each layer."""
    values = _values() if values is None else values
    writer = Writer(folder, {"dt": 1e-3, "layers": {}})
    for run in range(runs):
        for layer in range(LAYERS):
            held = PackedSpikes(values.bits.clone(), values.shape)
            writer.keep("spike", held, Moment(f"layer{layer}", 0, run, 0, STEPS, SAMPLES))
    writer.close()
    return writer


def _values() -> PackedSpikes:
    return PackedSpikes.from_dense((torch.rand(STEPS, SAMPLES, NEURONS) < 0.1).float())


def _reading(options: Options) -> Iterator[Row]:
    runs = options.size(512, 16)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run.spk"
        begin = time.perf_counter()
        total = write(folder, runs).nbytes
        written = total / 1e6 / (time.perf_counter() - begin)
        case = f"a recording of {total / 1e9:.2f} GB in {len(list(folder.iterdir()))} files"
        yield Row("recordings", case, "writing", "MB/s", written)
        begin = time.perf_counter()
        rec = open_recording(folder)
        yield Row("recordings", case, "opening", "ms", (time.perf_counter() - begin) * 1e3)
        signals = [layer["spike"] for layer in rec.values()]
        middle = runs // 2
        cuts: dict[str, Callable[[], list[Tensor]]] = {
            "1 % of the runs": lambda: [
                s.read(run) for s in signals for run in range(middle, middle + max(1, runs // 100))
            ],
            "1 % of the neurons": lambda: [
                s.read(run, neuron=slice(4000, 4000 + NEURONS // 100)) for s in signals for run in range(runs)
            ],
        }
        for what, read in cuts.items():
            begin = time.perf_counter()
            share = _bytes_read(read) / total
            note = f"{time.perf_counter() - begin:.2f} s"
            yield Row("recordings", case, what, "% of the bytes read", share * 100, note=note)


def _bytes_read(read: Callable[[], Any]) -> int:
    """What the process reads from files meanwhile, by the count of the system."""

    def counted() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("rchar")))

    before = counted()
    here = counted() - before  # what counting reads
    before = counted()
    read()
    return counted() - before - here


def _memory(options: Options) -> Iterator[Row]:
    runs = options.size(512, 32)
    grown, total = subprocess_json("bench.cases.recordings", str(runs))
    yield Row("recordings", f"{total / 1e9:.2f} GB go out", "peak memory grows by", "MB", grown / 2**20)


def rows(options: Options) -> Iterator[Row]:
    """Memory, writing, opening, cutting."""
    yield from _memory(options)
    yield from _reading(options)


def _resident(what: str) -> int:
    """Bytes in memory, `VmRSS` now or `VmHWM` at most since it was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what))) << 10


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch) / "first.spk", 1)  # what is imported and compiled is there
        values = _values()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        start = _resident("VmRSS")
        done = write(Path(scratch) / "run.spk", int(sys.argv[1]), values)
        print(json.dumps([_resident("VmHWM") - start, done.nbytes]))
