"""Recordings on disk: what streaming adds to a training step and to memory, and what opening and cutting cost.

The step without and with a recording of the packed spikes of every layer are timed in turns, and now the one begins and
now the other, in many blocks. Each begins when segments have gone out already and ends with as many on their way, as in
the middle of a long training; the median of the ratios is reported with their quartiles and how far it may be off.
Beside it, what the threads of recording take by their own clocks: where all cores are at work, a thread that writes
makes others wait for more than it takes itself. Memory is measured in a process of its own. Opening and cutting read a
recording of 2 GB, whose files the system may hold in memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikescope import monitor
from spikescope.recording import Moment, Writer, open_recording
from spikescope.spikes import PackedSpikes

from ..harness import Options, Row, added, subprocess_json, thread_seconds
from .training import _nets, _training

__all__ = ["rows"]

LAYERS, STEPS, SAMPLES, NEURONS = 8, 16, 32, 8192
"""Of the recording that is opened: a run of a layer takes half a MB."""
BEFORE = 24
"""Steps of a training that is recorded before a block of them is timed."""


def _streaming(options: Options) -> Iterator[Row]:
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
    yield Row("recordings", case, "packed spikes of every layer to disk", "% of the step", share, note=note)
    inside = 100 * statistics.median(each.inside / each.seconds for each in found)
    beside = 100 * statistics.median(each.beside / each.seconds for each in found)
    note = f"{inside:.2f} % in the thread of the training, {beside:.2f} % of a processor in its own"
    yield Row("recordings", case, "of it, by the clocks of threads", "% of the step", inside + beside, note=note)


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
    """Overhead, memory, writing, opening, cutting."""
    yield from _streaming(options)
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
