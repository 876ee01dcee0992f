"""The spikes of each neuron, as a signal or a kernel tells them, added up over any number of runs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .cpp.adding import Adder, adder_of

__all__ = ["Counts", "Tally", "counts_of", "counts_told", "summing_dtype"]

EXACT_ROWS = 2**20
"""Steps times samples up to which float32 adds whole numbers, up to 16 spikes to the step, without rounding."""

LIMIT = torch.iinfo(torch.int32).max
"""Spikes of a neuron up to which four bytes hold them: half of what would have to be read and written at each run."""


class Counts(NamedTuple):
    """The spikes of each neuron, and how much they are of."""

    spikes: Tensor  # [*F], float64, whole
    seen: int  # steps times samples
    samples: int


def counts_of(x: Tensor) -> Counts:
    """Of a signal `[T, N, *F]`; exact."""
    rows = x.shape[0] * x.shape[1]
    return Counts(x.sum((0, 1), dtype=summing_dtype(x, rows)).double(), rows, x.shape[1])


def summing_dtype(x: Tensor, rows: int) -> torch.dtype | None:
    """In which dtype so many numbers of spikes add up exactly; None for the one that PyTorch takes."""
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return None
    return torch.float32 if rows <= EXACT_ROWS else torch.float64


def counts_told(count: Tensor, steps: int) -> Counts:
    """Of the tap `count`, `[N, *F]`, of a kernel that ran so many steps."""
    return Counts(_over_samples(count, steps).double(), steps * len(count), len(count))


def _over_samples(count: Tensor, steps: int) -> Tensor:
    """Summed up over the samples. On a CPU bytes add up forty times faster than anything wider, while they do not
    overflow; on a GPU one sum of any width is read as fast as the memory gives it, and several are as many launches.
    """
    if count.device.type != "cpu":
        return count.sum(0, dtype=torch.int32 if steps * len(count) <= LIMIT else torch.int64)
    if count.dtype is not torch.uint8:
        return count.sum(0, dtype=torch.int64)
    if len(count) * steps <= 255:
        return count.sum(0, dtype=torch.uint8)
    parts = count.split(max(1, 255 // steps))
    return torch.stack([part.sum(0, dtype=torch.uint8) for part in parts]).sum(0, dtype=torch.int64)


def _none(count: Tensor) -> Tensor:
    return torch.zeros(count.shape[1:], dtype=torch.int32, device=count.device)


class Tally:
    """Adds up the taps `count` of many runs, in place: the cheapest that a kernel can be listened to. It holds four
    bytes a neuron, however many reducers are fed by it.

    >>> tally = Tally()
    >>> for samples in (2, 0):  # the samples of a run count once
    ...     tally.add(torch.tensor([[1, 0], [2, 0]], dtype=torch.uint8), steps=4, samples=samples)
    >>> tally.counts
    Counts(spikes=tensor([6., 0.], dtype=torch.float64), seen=16, samples=2)
    """

    def __init__(self) -> None:
        self._spikes: Tensor | None = None
        self._seen = self.samples = 0
        self._adder: Adder | None = None  # of counts like those that came last

    @property
    def empty(self) -> bool:
        """Whether nothing was added."""
        return self._spikes is None

    def fits(self, count: Tensor) -> bool:
        """Whether the neurons are those that were counted so far."""
        return self._spikes is None or self._spikes.shape == count.shape[1:]

    def add(self, count: Tensor, steps: int, samples: int) -> None:
        """The counts `[N, *F]` of some steps of a run, and the samples that are new."""
        if self._spikes is None:  # in the order of the counts
            self._spikes = torch.zeros_like(count[0], dtype=torch.int32) if len(count) else _none(count)
        self._seen += steps * len(count)
        if self._seen > LIMIT:
            self._spikes, self._adder = self._spikes.long(), None
        if not self.adds_alike(count, steps):
            self._adder = adder_of(self._spikes, count, steps)
        if self._adder is None:
            self._spikes += _over_samples(count, steps)
        else:
            self._adder(count)
        self.samples += samples

    def adds_alike(self, count: Tensor, steps: int) -> bool:
        """Whether counts of so many steps lie in memory like those that came last, so that a kernel adds them."""
        return self._adder is not None and self._adder.fits(count, steps)

    def add_alike(self, count: Tensor) -> bool:
        """Add counts of known samples that lie like those that came last; or say that it is not done."""
        adder = self._adder
        if adder is None or self._seen + adder.seen > LIMIT:
            return False
        adder(count)
        self._seen += adder.seen
        return True

    @property
    def counts(self) -> Counts | None:
        """All that was added; None where nothing was."""
        return None if self._spikes is None else Counts(self._spikes.double(), self._seen, self.samples)

    @property
    def nbytes(self) -> int:
        return 0 if self._spikes is None else self._spikes.nbytes
