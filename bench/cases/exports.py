"""Exports: two million spikes of 100,000 neurons to files of other programs, a minute or two of them all."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from spikescope.recording import in_memory
from spikescope.recording.export import registry

from ..harness import Options, Row

__all__ = ["rows"]

NEURONS, STEPS, RATE = 100_000, 200, 0.1
FORMATS = ("parquet", "pandas", "nwb", "zarr", "pynapple", "sonata")


def _recording(neurons: int, samples: int) -> Any:
    """Random spikes of one layer, packed; the steps of all samples together are the same."""
    steps = STEPS // samples
    drawn = torch.Generator().manual_seed(0)
    spikes = torch.rand(steps, samples, neurons, generator=drawn) < RATE
    return in_memory({"layer": {"spike": [spikes]}}, dt=1e-3), int(spikes.sum())


def rows(options: Options) -> Iterator[Row]:
    """Seconds of one export from packed spikes in memory to a whole file, the best of three, by sample and batch."""
    for samples in (1, 10):
        neurons = options.size(NEURONS, 1000)
        recording, spikes = _recording(neurons, samples)
        for name in FORMATS:
            missing = [held for held in registry[name].packages if importlib.util.find_spec(held) is None]
            case = f"{spikes:.1e} spikes of {neurons:,} neurons, {samples} trial{'s' * (samples > 1)}, to {name}"
            if missing:
                yield Row("exports", case, "one file", "s", None, note=f"{', '.join(missing)} is not installed")
                continue
            best = min(_seconds(recording, name) for _ in range(1 if options.quick else 3))
            yield Row("exports", case, "one file", "s", best)


def _seconds(recording: Any, name: str) -> float:
    suffix = ".pkl" if name == "pandas" else (registry[name].suffixes or ("",))[0]
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        registry[name].export(recording, Path(place) / f"run{suffix}", overwrite=False)
        return time.perf_counter() - start
