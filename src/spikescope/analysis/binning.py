"""Spikes counted in bins of time, some bins at a time, whatever the blocks that they come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from ..errors import check_whole
from .source import Array, Chunk, Spikes, Steps, chunks

__all__ = ["Bins", "binned"]

ROOM = 1 << 22
"""Counts that are held at a time, unless one bin of all trains has more."""


class Bins(NamedTuple):
    """Counts of spikes in whole bins, int64 `[bins, samples, size]`."""

    run: int
    first: int  # the first bin, in its run
    sample: int  # the first sample, in all runs one after the other
    counts: Array
    shape: torch.Size


def binned(owner: str, spikes: Spikes, width: int, steps: Steps = "neighbours") -> Iterator[Bins]:
    """Whole bins of `width` steps from the start of each run, some at a time; none for what a run does not fill.

    A bin that chunks share comes with the last of them. Of each chunk there is at least an entry without bins.

    - `steps`: as in `chunks`, of bins of one step; wider ones hold neighbours.
    """
    width = check_whole(owner, "the steps of a bin or window", width)
    rest: dict[int, Array] = {}  # of the bin that is open, by the first sample of the chunk
    run, base, samples = -1, 0, 0
    for chunk in chunks(owner, spikes, steps if width == 1 else "neighbours"):
        if chunk.run != run:
            run, rest, base, samples = chunk.run, {}, base + samples, 0
        samples = max(samples, chunk.first + chunk.samples)
        sample = base + chunk.first
        yield Bins(run, chunk.start // width, sample, _none(chunk), chunk.neuron_shape)
        for first, counts in _parts(chunk, width):
            if chunk.first in rest:
                counts[0] += rest.pop(chunk.first)
            open_ = (first + len(counts)) * width > chunk.start + chunk.steps
            if open_:
                rest[chunk.first] = counts[-1].copy()
            yield Bins(run, first, sample, counts[: len(counts) - open_], chunk.neuron_shape)


def _none(chunk: Chunk) -> Array:
    return np.zeros((0, chunk.samples, chunk.size), dtype=np.int64)


def _parts(chunk: Chunk, width: int) -> Iterator[tuple[int, Array]]:
    """The counts of all bins that a chunk touches, of the last perhaps in part, with the first bin of each piece."""
    trains = chunk.samples * chunk.size
    begin, end = chunk.start // width, -(-(chunk.start + chunk.steps) // width)
    train, step = chunk.places
    bins = step // width - begin
    small = np.int16 if end - begin < 1 << 15 else np.int64  # short numbers are sorted in time linear in their number
    order = np.argsort(bins.astype(small), kind="stable")
    bins, train = bins[order], train[order] - chunk.first * chunk.size
    at_once = max(1, ROOM // max(1, trains))
    for first in range(0, end - begin, at_once):
        number = min(at_once, end - begin - first)
        low, high = np.searchsorted(bins, (first, first + number))
        at = (bins[low:high] - first) * trains + train[low:high]
        counts = np.bincount(at, minlength=number * trains)
        yield begin + first, counts.reshape(number, chunk.samples, chunk.size)
